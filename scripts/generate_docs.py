"""Writes the documents that are generated from the source: `make docs`.

With `--check` it writes nothing, and its exit code is 1 if a document in `docs/` is not what the source says now.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ledger", "consensus", "vm", "consortium", "loyalty_contracts", "node", "cli")

ERRORS_HEADING = """\
# Error codes

Generated from the register in `ledger/errors.py` by `make docs`; not written by hand.

Every refusal carries one of these codes, at the command line and in the API alike. A code is never given a second
meaning. The message that comes with it says what was found, and may offer a closer fix than the one given here.
"""


def import_everything() -> None:
    """Imports each module of the project, since a module registers its error codes when it is imported."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] != "__main__":
                import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def error_codes() -> str:
    """docs/errors.md: a table for each area, an area being the middle of a code (`E-AREA-NNN`)."""
    import_everything()
    from ledger.errors import CODES

    def area(code: str) -> str:
        return code.removeprefix("E-").rpartition("-")[0]

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ")

    lines = [ERRORS_HEADING]
    for name, codes in groupby(sorted(CODES, key=lambda code: (area(code), code)), key=area):
        lines += [f"## {name}\n", "| code | what happened | what to do |", "| --- | --- | --- |"]
        lines += [f"| {code} | {cell(CODES[code].title)} | {cell(CODES[code].fix)} |" for code in codes]
        lines.append("")
    return "\n".join(lines)


DOCUMENTS: dict[str, Callable[[], str]] = {"docs/errors.md": error_codes}


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
