"""What a list of forbidden imports cannot show about the pure packages, found in their syntax trees.

Rules, each of which names something whose result may differ between machines, runs or versions of Python:
- no import of a module that reaches the world or the interpreter, not even inside a function;
- no float: no literal, no `/`, no `float()`;
- no walk over a set, whose order depends on the hash seed and on how it was filled; `sorted(...)` of one is welcome;
- no `hash()` or `id()`, which change from run to run, and no `eval()`, `exec()`, `open()`, `input()` or `print()`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

FORBIDDEN_MODULES = frozenset({
    "aiohttp", "asyncio", "concurrent", "ctypes", "datetime", "gc", "glob", "http", "importlib", "io", "lmdb", "locale",
    "logging", "multiprocessing", "os", "pathlib", "platform", "plyvel", "random", "secrets", "select", "selectors",
    "shutil", "signal", "socket", "sqlite3", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading", "time",
    "urllib", "uuid", "weakref",
})  # fmt: skip
FORBIDDEN_CALLS = frozenset({
    "__import__", "breakpoint", "eval", "exec", "float", "hash", "id", "input", "open", "print",
})  # fmt: skip

# The result of these does not depend on the order in which they meet the members.
_ORDER_FREE = frozenset({"all", "any", "bool", "frozenset", "len", "max", "min", "set", "sorted", "sum"})
_WALKERS = frozenset({"dict", "enumerate", "filter", "iter", "list", "map", "next", "reversed", "tuple", "zip"})
_SET_METHODS = frozenset({"difference", "intersection", "symmetric_difference", "union"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def findings(source: str) -> list[str]:
    """What `source`, a module of a pure package, does against the rules: "line: sentence" each, in order of lines."""
    tree = ast.parse(source)
    found = [*_imports(tree), *_floats_and_calls(tree), *_set_walks(tree)]
    return [f"{line}: {sentence}" for line, sentence in sorted(found)]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for name in names:
            if name.partition(".")[0] in FORBIDDEN_MODULES:
                yield node.lineno, f"imports {name}"


def _floats_and_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"float literal {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "divides with /, which gives a float"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield node.lineno, f"calls {node.func.id}()"


def _set_walks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    module_names = _set_names(tree, frozenset())
    yield from _walks(tree, module_names)
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            yield from _walks(node, _set_names(node, module_names))


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `scope` that are not in a function of their own."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, _FUNCTIONS):
            yield from _own_nodes(child)


def _set_names(scope: ast.AST, outer: frozenset[str]) -> frozenset[str]:
    """The names that hold a set in `scope`: parameters and variables, by annotation or by what is assigned."""
    sets: set[str] = set()
    others: set[str] = set()
    if isinstance(scope, _FUNCTIONS):
        arguments = scope.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            (sets if _is_set_type(argument.annotation) else others).add(argument.arg)
    for node in _own_nodes(scope):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            (sets if _is_set_type(node.annotation) else others).add(node.target.id)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    (sets if _is_set(node.value, outer) else others).add(target.id)
    return (outer - others) | sets


def _is_set_type(annotation: ast.expr | None) -> bool:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return isinstance(annotation, ast.Name) and annotation.id in ("set", "frozenset", "Set", "AbstractSet")


def _is_set(node: ast.expr, names: frozenset[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.BinOp):
        return _is_set(node.left, names) or _is_set(node.right, names)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        return isinstance(node.func, ast.Attribute) and node.func.attr in _SET_METHODS
    return False


def _walks(scope: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    order_free: set[int] = set()
    for node in _own_nodes(scope):
        walked: list[ast.expr] = []
        if isinstance(node, ast.For):
            walked = [node.iter]
        elif isinstance(node, ast.Starred):
            walked = [node.value]
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.DictComp) and id(node) not in order_free:
            walked = [generator.iter for generator in node.generators]
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if called in _ORDER_FREE:
                order_free.update(id(argument) for argument in node.args)
            elif called in _WALKERS or method in ("extend", "join"):
                walked = node.args
            elif isinstance(node.func, ast.Attribute) and method == "pop" and _is_set(node.func.value, names):
                yield node.lineno, "pops from a set, in no promised order"
        for expression in walked:
            if _is_set(expression, names):
                yield expression.lineno, "walks over a set, in no promised order"
