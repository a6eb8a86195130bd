"""A CSV file of many calls, read and judged whole before anything is sent.

The first row names the columns. Every further row is one call of one method: each parameter is a column or is fixed
for the whole file.

Rules kept here:
- UTF-8, with or without a byte order mark; comma or, where the header has no comma, semicolon; quotes as in RFC 4180;
- a cell is data: white space around it is dropped, nothing in it is ever evaluated, so `=1+1` is a wrong number;
- rows are counted as a spreadsheet counts them: the header is row 1, and an empty row counts and is left out;
- all errors are found, each with row and column; a file with one error is refused whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cli.values import is_time, now_ms, value_from_text
from ledger.errors import Fault, Invalid, define
from ledger.transaction import Call
from vm.contract import Method
from vm.kinds import REQUIRED, AddressKind, Kind, OptionalKind, Reference, kind_of

UNREADABLE = define("E-BATCH-001", "the batch file cannot be read", "check the path and its permissions")
BAD_FILE = define("E-BATCH-002", "the batch file is wrong", "correct the rows it names; nothing was sent")

FILE_BYTES_MAX = 256 << 20
ERRORS_SHOWN = 50
REFERENCE = "reference"
IGNORED = frozenset({"memo", "note"})
"""Columns for the reader's own notes: never sent."""

_REFERENCE_KIND = kind_of(Reference)


class Operation(NamedTuple):
    """What each row does: a method, the parameters that are the same in every row (codec values), further names that
    a parameter's column may have, and the parameters that must differ from row to row.
    """

    contract: str
    method: Method
    fixed: Mapping[str, Any]
    aliases: Mapping[str, Sequence[str]]
    unique: tuple[str, ...]


class Batch(NamedTuple):
    """A judged file: its SHA-256, the operation, a call for each row and the row's number in the file.

    `has_references` tells whether every row brings a reference of its own.
    """

    digest: bytes
    operation: Operation
    calls: tuple[Call, ...]
    rows: tuple[int, ...]
    has_references: bool

    def column(self, parameter: str) -> list[Any]:
        """The values of one parameter, in order of rows."""
        index = [each.name for each in self.operation.method.parameters].index(parameter)
        return [call.arguments[index] for call in self.calls]


class _Column(NamedTuple):
    parameter: str
    name: str
    position: int
    convert: Callable[[str], Any]


def read_batch(path: Path, operation: Operation) -> Batch:
    """The batch of a file. Raises Fault (E-BATCH-001); Invalid (E-BATCH-002) naming each wrong row and column."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Fault(UNREADABLE, f"{path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise Invalid(BAD_FILE, f"{path} is larger than {FILE_BYTES_MAX} bytes", fix="split it into several files")
    return parse_batch(data, operation, str(path))


def parse_batch(data: bytes, operation: Operation, name: str) -> Batch:
    """The batch of a file's bytes. Raises Invalid (E-BATCH-002)."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Invalid(BAD_FILE, f"{name}, line {line}: not UTF-8", fix="save it as CSV in UTF-8") from None
    if "\0" in text:
        raise Invalid(BAD_FILE, f"{name} contains a zero byte", fix="save it as CSV in UTF-8, not as a spreadsheet")
    header = text.partition("\n")[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        columns, has_references, faults = _columns([cell.strip().lower() for cell in names], operation)
        if faults:
            raise _refusal(name, faults, len(faults))
        return _rows(reader, len(names), columns, has_references, operation, hashlib.sha256(data).digest(), name)
    except csv.Error as error:
        raise Invalid(BAD_FILE, f"{name}, line {reader.line_num}: {error}") from None


def _columns(names: list[str], operation: Operation) -> tuple[list[_Column], bool, list[str]]:
    """The columns in order of the method's parameters, the reference's last, and what is wrong with the header."""
    faults = [f"row 1: the column {name!r} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    columns: list[_Column] = []
    taken = set(IGNORED)
    for parameter in operation.method.parameters:
        if parameter.name in operation.fixed:
            continue
        plain = parameter.name.removesuffix("_ms") if is_time(parameter.kind) else parameter.name
        known = [*operation.aliases.get(parameter.name, ()), plain, parameter.name]
        found = [name for name in names if name in known]
        taken.update(found)
        if len(found) > 1:
            faults.append(f"row 1: the columns {' and '.join(found)} mean the same")
        elif found:
            columns.append(
                _Column(parameter.name, found[0], names.index(found[0]), _converter(parameter.kind, parameter.default))
            )
        elif parameter.default is REQUIRED:
            faults.append(f"row 1: the column {known[0]!r} is missing")
    has_references = REFERENCE in names
    if has_references:
        taken.add(REFERENCE)
        columns.append(_Column(REFERENCE, REFERENCE, names.index(REFERENCE), _converter(_REFERENCE_KIND, REQUIRED)))
    unknown = [name for name in names if name not in taken]
    faults += [
        f"row 1: no column {name!r} is known here" if name else "row 1: a column without name" for name in unknown
    ]
    return columns, has_references, faults


def _converter(kind: Kind, default: Any) -> Callable[[str], Any]:
    """Turns a cell's text into a codec value; raises ValueError. Equal cells of addresses are judged once."""
    known: dict[str, Any] = {}
    cached = isinstance(kind.inner if isinstance(kind, OptionalKind) else kind, AddressKind)
    began = now_ms()

    def convert(text: str) -> Any:
        if not text and default is not REQUIRED:
            return default
        if not text:
            raise ValueError("is empty")
        if not cached:
            if is_time(kind) and text.startswith("+"):
                raise ValueError(f"{text!r} depends on the moment: write a date (now is {began})")
            return value_from_text(kind, text)
        value = known.get(text)
        if value is None:
            if not text.lower().startswith("troth1"):
                raise ValueError("is no address: it does not begin with troth1")
            value = known[text] = value_from_text(kind, text)
        return value

    return convert


def _rows(
    reader: Any,
    width: int,
    columns: list[_Column],
    has_references: bool,
    operation: Operation,
    digest: bytes,
    name: str,
) -> Batch:
    contract, method = operation.contract, operation.method
    faults: list[str] = []
    wrong = 0
    calls: list[Call] = []
    rows: list[int] = []
    seen: dict[tuple[Any, ...], int] = {}
    parameters = [each.name for each in method.parameters]
    defaults = {each.name: each.default for each in method.parameters} | dict(operation.fixed)
    keys = [operation.unique] if operation.unique else []
    if has_references:
        keys.append((REFERENCE,))

    def blame(sentence: str) -> None:
        nonlocal wrong
        wrong += 1
        if wrong <= ERRORS_SHOWN:
            faults.append(sentence)

    for row, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != width:
            blame(f"row {row}: {len(cells)} cells, the header has {width}")
            continue
        values = dict(defaults)
        before = wrong
        for column in columns:
            text = cells[column.position].strip()
            try:
                values[column.parameter] = column.convert(text)
            except ValueError as error:
                blame(f"row {row}, column {column.name}: {_with_cell(str(error), text)}")
        if wrong > before:
            continue
        for key in keys:
            mark = (*key, *[values[each] for each in key])
            first = seen.setdefault(mark, row)
            if first != row:
                blame(f"row {row}, column {key[-1]}: the same as in row {first}")
        arguments = tuple([values[each] for each in parameters])
        calls.append(Call(0, contract, method.name, (*arguments, values[REFERENCE]) if has_references else arguments))
        rows.append(row)
    if wrong:
        raise _refusal(name, faults, wrong)
    if not calls:
        raise Invalid(BAD_FILE, f"{name} has no rows below its header")
    return Batch(digest, operation, tuple(calls), tuple(rows), has_references)


def _with_cell(reason: str, text: str) -> str:
    shown = f"{text!r:.80}"
    return reason if not text or shown in reason else f"{reason} (it is {shown})"


def _refusal(name: str, faults: Sequence[str], count: int) -> Invalid:
    more = f"\n  and {count - len(faults)} more" if count > len(faults) else ""
    plural = "error" if count == 1 else "errors"
    listed = "".join([f"\n  {fault}" for fault in faults])
    return Invalid(BAD_FILE, f"{name} has {count} {plural}:{listed}{more}\n")
