"""The house rules, as far as a program can check them: layout, purity, docstrings, documents, lock files."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.purity import findings

ROOT = Path(__file__).resolve().parents[2]
PURE = ("ledger", "consensus", "vm", "consortium", "loyalty_contracts")
PACKAGES = (*PURE, "node", "cli")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAX_LINES = 700
LOCKS = ("runtime", "dev", "demo-data")


def files(*folders: str, suffix: str = ".py") -> list[Path]:
    """The project's own files with that suffix below `folders`, sorted."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob(f"*{suffix}")
        if "node_modules" not in path.parts and "__pycache__" not in path.parts
    )


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Layout


def test_packages_are_named_once() -> None:
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert PYPROJECT["tool"]["importlinter"]["root_packages"] == list(PACKAGES)


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in files("tests")}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_unit_tests_mirror_the_source() -> None:
    units = ROOT / "tests" / "unit"
    assert sorted(path.name for path in units.iterdir() if path.is_dir() and path.name != "__pycache__") == sorted(
        PACKAGES
    )


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        name(path): path.read_text(encoding="utf-8").count("\n") for path in files(*PACKAGES, "tests", "scripts")
    }
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_nothing_is_left_for_later_in_a_comment() -> None:
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    sources = [
        *files(*PACKAGES, "tests", "scripts"),
        *files("docs", suffix=".md"),
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
    ]
    assert [name(path) for path in sources if mark.search(path.read_text(encoding="utf-8"))] == []


# Purity


@pytest.mark.parametrize("package", PURE)
def test_a_pure_package_does_nothing_that_may_differ_between_machines(package: str) -> None:
    found = [
        f"{name(path)}:{finding}" for path in files(package) for finding in findings(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os.path", "1: imports os.path"),
        ("def f():\n    from time import time", "2: imports time"),
        ("RATE = 0.5", "1: float literal 0.5"),
        ("half = total / 2", "1: divides with /, which gives a float"),
        ("total /= 2", "1: divides with /, which gives a float"),
        ("bucket = hash(key)", "1: calls hash()"),
        ("for x in {1, 2}: pass", "1: walks over a set, in no promised order"),
        ("for x in set(names): pass", "1: walks over a set, in no promised order"),
        ("all_of = [x for x in {y for y in names}]", "1: walks over a set, in no promised order"),
        ("pair = tuple(frozenset(names))", "1: walks over a set, in no promised order"),
        ("text = ','.join(set(names))", "1: walks over a set, in no promised order"),
        ("both = [*set(names)]", "1: walks over a set, in no promised order"),
        ("for x in set(a) - b: pass", "1: walks over a set, in no promised order"),
        ("def f(names: set[str]):\n    for x in names: pass", "2: walks over a set, in no promised order"),
        ("def f():\n    seen = set()\n    return list(seen)", "3: walks over a set, in no promised order"),
        ("SEEN = {1}\ndef f():\n    return [x for x in SEEN]", "3: walks over a set, in no promised order"),
        ("seen = {1}\nfirst = seen.pop()", "2: pops from a set, in no promised order"),
    ],
)
def test_the_purity_check_finds(source: str, found: str) -> None:
    assert findings(source) == [found]


@pytest.mark.parametrize(
    "source",
    [
        "import hashlib",
        "half = total // 2",
        "ordered = sorted({1, 2})",
        "known = any(x in names for x in {1, 2})",
        "for x in sorted(set(names)): pass",
        "SEEN = {1}\ndef f(SEEN: list[int]):\n    return [x for x in SEEN]",
        "found = key in {1, 2}",
        "rows = {1: 2}\nfor x in rows: pass",
    ],
)
def test_the_purity_check_lets_pass(source: str) -> None:
    assert findings(source) == []


# Docstrings


def undocumented_methods(path: Path) -> Iterator[str]:
    """`Class.method` of each public method in a module that has no docstring, neither of its own nor inherited."""
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))

    def visit(tree: ast.Module | ast.ClassDef, holder: object) -> Iterator[str]:
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                yield from visit(node, getattr(holder, node.name))
            elif isinstance(node, ast.FunctionDef) and isinstance(holder, type):
                public = not node.name.startswith("_")
                if public and not ast.get_docstring(node) and not inspect.getdoc(getattr(holder, node.name)):
                    yield f"{name(path)}: {holder.__qualname__}.{node.name}"

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), module)


@pytest.mark.parametrize("package", PURE)
def test_public_methods_are_documented(package: str) -> None:
    # ruff checks modules, classes and functions (D100, D101, D103, D104), but cannot see an inherited docstring.
    assert [method for path in files(package) for method in undocumented_methods(path)] == []


# Documents


def test_generated_documents_are_current() -> None:
    # In a process of its own: contracts that other tests define here would be in the register too.
    command = [sys.executable, str(ROOT / "scripts" / "generate_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        f"{name(path)}: {target}"
        for path in [*files("docs", suffix=".md"), *ROOT.glob("*.md")]
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert dead == []


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(path.name[:4] for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_readme_names_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    documents = "".join((ROOT / document).read_text(encoding="utf-8") for document in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"(?:`| {4})make ([a-z-]+)", documents))
    assert named - targets == set()
    assert {"demo", "test", "check"} <= named


# Scripts


SCRIPTS = [
    ".ci/run",
    *(name(path) for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and not path.suffix),
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_bash(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False).stderr == ""


# Lock files


def lock_text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, Version]:
    """The version of each package that a lock file names."""
    return {
        canonicalize_name(found["name"]): Version(found["version"])
        for found in re.finditer(r"^(?P<name>[\w.-]+)==(?P<version>[^ ]+)", lock_text(lock), re.MULTILINE)
    }


def asked_for(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for in the profile of a lock file."""
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    runtime = [*project["dependencies"], *extras["demo"], *extras["fast"], *groups["build"]]
    lines = {"runtime": runtime, "dev": [*runtime, *extras["dev"]], "demo-data": groups["demo-data"]}[lock]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_pyproject(lock: str) -> None:
    locked = pins(lock)
    wrong = []
    for asked in asked_for(lock):
        version = locked.get(canonicalize_name(asked.name))
        if version is None or version not in asked.specifier:
            wrong.append(str(asked))
    assert wrong == [], "run: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_nothing_that_pyproject_dropped(lock: str) -> None:
    direct = set()
    for block in re.split(r"\n(?=[a-z0-9])", lock_text(lock)):
        if "troth (pyproject.toml" in block:
            direct.add(canonicalize_name(block.partition("==")[0]))
    assert direct <= {canonicalize_name(asked.name) for asked in asked_for(lock)}, "run: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes_and_no_place(lock: str) -> None:
    text = lock_text(lock)
    blocks = re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\\n((?:    --hash=[^\n]*\n)+)", text, re.MULTILINE)
    assert len(blocks) == len(pins(lock)) > 0
    assert all(
        re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line.strip(" \\"))
        for block in blocks
        for line in block.split("\n")
        if line
    )
    assert [word for word in ("://", "index-url", "find-links", "@ file", "/opt/") if word in text] == []


def test_dev_lock_holds_the_runtime_lock() -> None:
    assert pins("runtime").items() <= pins("dev").items()


def test_build_group_covers_the_build_system() -> None:
    asked = {Requirement(line).name: Requirement(line).specifier for line in PYPROJECT["dependency-groups"]["build"]}
    for line in PYPROJECT["build-system"]["requires"]:
        assert asked[Requirement(line).name] == Requirement(line).specifier
