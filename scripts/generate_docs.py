"""Writes the documents that are generated from the source: `make docs`.

With `--check` it writes nothing, and its exit code is 1 if a document in `docs/` is not what the source says now.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ledger", "consensus", "vm", "consortium", "loyalty_contracts", "node", "cli")

ERRORS_HEADING = """\
# Error codes

Generated from the register in `ledger/errors.py` by `make docs`; not written by hand.

Every refusal carries one of these codes, at the command line and in the API alike. A code is never given a second
meaning. The message that comes with it says what was found, and may offer a closer fix than the one given here.
"""

CONTRACTS_HEADING = """\
# Contracts

Generated from the contracts' declarations by `make docs`; not written by hand. A node gives the same as JSON Schema at
`GET /v1/contracts`.

A **method** is called by a transaction and may change the state; a **view** reads it and needs no signature. A method's
caller is the actor who makes the call. Where a role is named, the caller needs it in some organisation, and the method
says in which. Gas is what the call itself costs; a transaction costs 100 besides, and 1 for each of its bytes.

Every method takes one more argument, `reference`: text of 1 to 64 characters, the caller's own name for the operation.
A contract accepts each reference of a caller once (`E-VM-006`), so sending an operation anew cannot do it twice.

Values are given as they stand in JSON; [bytes](spec/bytes.md) says how they are encoded. Integers may also be given as
a string of digits, since not every JSON reader keeps all 64 bits of a number.
"""


def import_everything() -> None:
    """Imports each module of the project, since a module registers its error codes when it is imported."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table."""
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    return lines + [f"| {' | '.join(map(cell, row))} |" for row in rows]


def error_codes() -> str:
    """docs/errors.md: a table for each area, an area being the middle of a code (`E-AREA-NNN`)."""
    import_everything()
    from ledger.errors import CODES

    def area(code: str) -> str:
        return code.removeprefix("E-").rpartition("-")[0]

    lines = [ERRORS_HEADING]
    for name, codes in groupby(sorted(CODES, key=lambda code: (area(code), code)), key=area):
        rows = [(code, CODES[code].title, CODES[code].fix) for code in codes]
        lines += [f"## {name}\n", *table(("code", "what happened", "what to do"), rows), ""]
    return "\n".join(lines)


# Contracts


def contracts() -> str:
    """docs/contracts.md: every contract of the node's registry, from its declarations alone."""
    from node.contracts import registry
    from vm.schema import registry_schema

    active = registry()
    schema = registry_schema(active)
    summaries = [(f"[{name}](#{name})", each["summary"]) for name, each in schema["contracts"].items()]
    lines = [CONTRACTS_HEADING, *table(("contract", "what it is"), summaries), ""]
    for name, each in schema["contracts"].items():
        invariants = {label: holds.__doc__ or "" for label, holds in active.contracts[name].invariants.items()}
        lines += _contract(each, invariants)
    lines += ["## Faults of any call\n", *table(("code", "what happened", "what to do"), _faults(schema["faults"])), ""]
    return "\n".join(lines)


def _contract(contract: dict[str, Any], invariants: dict[str, str]) -> Iterator[str]:
    records: dict[str, dict[str, Any]] = {}
    yield f"## {contract['name']}\n"
    yield f"{contract['summary']} Version {contract['version']}.\n"
    yield f"{contract['rules']}\n"
    if contract["methods"]:
        yield "### Methods\n"
    for name, method in contract["methods"].items():
        role = f", role `{method['role']}`" if method["role"] else ""
        yield from _callable(name, method, f"Gas {method['gas']}{role}. ", records)
    yield "### Views\n"
    for name, view in contract["views"].items():
        yield from _callable(name, view, "", records)
    yield "### Storage\n"
    maps = [
        (f"`{name}`", _takes(each["key"], records), _takes(each["value"], records))
        for name, each in contract["storage"].items()
    ]
    yield from [*table(("map", "key", "value"), maps), ""]
    if contract["events"]:
        yield "### Events\n"
        events = [
            (f"`{name}`", ", ".join(f"`{field}`" for field in event["fields"]["properties"]), event["summary"])
            for name, event in contract["events"].items()
        ]
        yield from [*table(("event", "fields", "when"), events), ""]
    if records:
        yield "### Records\n"
        for title in records:  # a record may name others, which are then added behind it
            fields = [(f"`{name}`", _takes(kind, records)) for name, kind in records[title]["properties"].items()]
            yield from [f"**{title}**\n", *table(("field", "holds"), fields), ""]
    if invariants:
        yield "### Invariants\n"
        yield from [f"- `{label}`: {' '.join(text.split())}" for label, text in invariants.items()]
        yield ""
    if contract["faults"]:
        yield "### Faults\n"
        yield from [*table(("code", "what happened", "what to do"), _faults(contract["faults"])), ""]


def _callable(name: str, declared: dict[str, Any], terms: str, records: dict[str, Any]) -> Iterator[str]:
    arguments = {key: kind for key, kind in declared["arguments"]["properties"].items() if key != "reference"}
    yield f"#### `{name}({', '.join(arguments)})`\n"
    returns = declared["returns"]
    answer = "" if returns is None else f" Returns {_takes(returns, records)}."
    yield f"{declared['summary']} {terms}".rstrip() + f"{answer}\n"
    if arguments:
        rows = []
        for key, kind in arguments.items():
            default = f"; default `{_shown(kind['default'])}`" if "default" in kind else ""
            rows.append((f"`{key}`", _takes(kind, records) + default))
        yield from [*table(("argument", "takes"), rows), ""]


def _faults(faults: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    return [(fault["code"], fault["message"].replace("{}", "…"), fault["fix"]) for fault in faults]


def _shown(value: Any) -> str:
    return {None: "null", True: "true", False: "false", "": '""'}.get(value, str(value))


def _takes(schema: dict[str, Any], records: dict[str, Any]) -> str:
    """What a value is, in words. Records are collected in `records` and linked by their name."""
    said = schema.get("description", "")
    if "anyOf" in schema:
        inner = next(each for each in schema["anyOf"] if each != {"type": "null"})
        return f"{_takes(inner, records).removesuffix(', or null')}, or null"
    if "enum" in schema:
        words = ", ".join(f"`{_shown(word)}`" for word in schema["enum"])
        return f"one of {words}" + (f" ({said})" if said else "")
    if schema["type"] == "object":
        records.setdefault(schema["title"], schema)
        return f"**{schema['title']}**"
    if schema["type"] == "array":
        if "prefixItems" in schema:
            return f"[{'; '.join(_takes(each, records) for each in schema['prefixItems'])}]"
        return f"array of {schema['minItems']} to {schema['maxItems']}, each {_takes(schema['items'], records)}"
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "integer":
        return f"integer, {_number(schema['minimum'])} to {_number(schema['maximum'])}" + (f": {said}" if said else "")
    return _text(schema, said)


def _text(schema: dict[str, Any], said: str) -> str:
    pattern = schema.get("pattern", "")
    if pattern.startswith("^troth1"):
        return "address"
    count = re.fullmatch(r"\^\(\[0-9a-f\]\{2\}\)\{(\d+),(\d+)\}\$", pattern)
    if count:
        low, high = count.groups()
        size = f"{low} bytes" if low == high else f"{low} to {high} bytes"
        return f"hexadecimal, {size}" + (f": {said}" if said not in ("", size) else "")
    low, high = schema["minLength"], schema["maxLength"]
    length = f"{low} characters" if low == high else f"{low} to {high} characters"
    form = f" of the form `{pattern.removeprefix('^').removesuffix('$')}`" if pattern else ""
    return f"text, {length}{form}" + (f": {said}" if said else "")


def _number(value: int) -> str:
    """A bound of an integer: large ones as a power of two."""
    for power in (32, 53, 63, 64):
        if value == 2**power - 1:
            return f"2^{power}-1"
    return str(value)


# Commands and settings


def commands() -> str:
    """docs/cli.md: every command with its arguments and options."""
    from cli.reference import cli_markdown

    return cli_markdown()


def configuration() -> str:
    """docs/configuration.md: every setting."""
    from cli.reference import configuration_markdown

    return configuration_markdown()


# The tree of the source

TREE_WIDTH = 118
TREE_COLUMN = 30
TREE_BEGIN, TREE_END = "<!-- tree: begin -->\n", "<!-- tree: end -->\n"


def architecture() -> str:
    """docs/architecture.md: written by hand, but for its tree, in which each module says what it is."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(TREE_BEGIN)
    _, _, after = rest.partition(TREE_END)
    return f"{before}{TREE_BEGIN}\n{chr(10).join(_tree())}\n\n{TREE_END}{after}"


def _tree() -> Iterator[str]:
    for package in reversed(PACKAGES):
        folders = sorted({path.parent for path in (ROOT / package).rglob("*.py")})
        for folder in folders:
            depth = len(folder.relative_to(ROOT).parts) - 1
            yield from _branch(f"{'  ' * depth}{folder.name}/", folder / "__init__.py")
            for path in sorted(folder.glob("*.py")):
                if path.name != "__init__.py":
                    yield from _branch(f"{'  ' * (depth + 1)}{path.name}", path)


def _branch(name: str, path: Path) -> list[str]:
    """A name, and beside it the first sentence of the module's docstring."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    sentence = re.split(r"(?<=\.)\s", " ".join(paragraph.split()))[0]
    indent = " " * (4 + TREE_COLUMN)
    wrapped = textwrap.wrap(sentence, TREE_WIDTH - len(indent))
    first, *more = wrapped or [""]
    return [f"    {name.ljust(TREE_COLUMN)}{first}", *(f"{indent}{line}" for line in more)]


DOCUMENTS: dict[str, Callable[[], str]] = {
    "docs/architecture.md": architecture,
    "docs/cli.md": commands,
    "docs/configuration.md": configuration,
    "docs/contracts.md": contracts,
    "docs/errors.md": error_codes,
}


def main(arguments: list[str]) -> int:
    """Writes or, with `--check`, compares every document; returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: generate_docs.py [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, render in DOCUMENTS.items():
        path, text = ROOT / name, render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments:
            stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if stale:
        print(f"not what the source says now: {', '.join(stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
