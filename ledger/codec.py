"""The canonical codec: one value, one encoding; one encoding, one value.

Values are None, booleans, integers of 64 bits (-2^63 to 2^64-1), bytes, text and arrays (tuples) of values.
No floats, maps or extension types. The wire form is msgpack in its shortest forms. msgpack itself is not
canonical (it takes long integers and long lengths), so decoding is: a limit on size, decode, refuse what is
not a value or nested too deep, then `encode(decoded) == input` or refuse.

Text is ASCII, or NFC over code points whose normalisation is the same in every Python: see `text_fault`.

No other module calls msgpack.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgpack

from ledger.errors import Invalid, define

Value: TypeAlias = "bool | int | bytes | str | tuple[Value, ...] | None"

MALFORMED = define("E-CODEC-001", "malformed bytes", "send the canonical msgpack described in docs/spec/bytes.md")
NOT_CANONICAL = define(
    "E-CODEC-002", "not the canonical encoding", "use the shortest form of every value: docs/spec/bytes.md"
)
TOO_LARGE = define("E-CODEC-003", "larger than the limit", "split it into smaller pieces")
NOT_A_VALUE = define("E-CODEC-004", "not a codec value", "use integers, bytes, text, booleans, null and arrays only")
BAD_TEXT = define(
    "E-CODEC-005", "text is not in normal form", "normalise the text to NFC and leave out control characters"
)

MAX_DEPTH = 16
"""Deepest nesting of arrays."""

MAX_BYTES = 64 << 20
"""Largest encoding that `decode` takes unless told otherwise, in bytes."""

_ARRAYS = (tuple, list)
_SCALARS = (int, bytes)
_UNICODE = unicodedata.ucd_3_2_0  # frozen in every CPython, so no Python version changes what is valid text


def _no_map(pairs: object) -> None:
    raise Invalid(MALFORMED, "a map where only arrays are allowed")


def _no_ext(code: int, data: object) -> None:
    raise Invalid(MALFORMED, f"an extension type ({code}) where only plain values are allowed")


_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def encode(value: Value) -> bytes:
    """The canonical bytes of a value. Lists and named tuples encode like tuples, enumerations as values.

    Raises Invalid: E-CODEC-004 for anything that is no value (a float, a map, a set, an integer beyond 64
    bits), E-CODEC-005 for text not in normal form, E-CODEC-001 nested too deep. `decode` takes the result.
    """
    _check((value,), MAX_DEPTH)
    try:
        data: bytes = _pack(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(NOT_A_VALUE, f"cannot encode: {error}") from error
    return data


def encode_trusted(value: Value) -> bytes:
    """`encode` without the look at every part: for hot paths whose parts were decoded or made by this program."""
    data: bytes = _pack(value)
    return data


def decode(data: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value whose canonical encoding is `data`; arrays come back as tuples.

    Raises Invalid: E-CODEC-003 over `max_bytes`, E-CODEC-001 truncated, trailing, foreign types or nested too
    deep, E-CODEC-002 not the shortest form, E-CODEC-004 a float, E-CODEC-005 text not in normal form.
    """
    if len(data) > max_bytes:
        raise Invalid(TOO_LARGE, f"{len(data)} bytes, at most {max_bytes} are taken")
    value = decode_trusted(data)
    _check((value,), MAX_DEPTH)
    if _pack(value) != data:
        raise Invalid(NOT_CANONICAL, "a value is not in its shortest form")
    return value


def decode_trusted(data: bytes) -> Any:
    """Decodes bytes that this node wrote itself (state cells, index rows): they need not be canonical."""
    try:
        return msgpack.unpackb(
            data,
            use_list=False,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_no_map,
            ext_hook=_no_ext,
            max_ext_len=0,
            max_map_len=0,
        )
    except Invalid:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise Invalid(MALFORMED, f"cannot decode: {detail}") from None


def _check(items: Iterable[object], depth: int) -> None:
    for item in items:
        kind = type(item)  # exact types first, the commonest before the rest: all of the chain passes here
        if kind is bytes or kind is int or item is None:
            continue
        if kind is str or isinstance(item, str):
            if not (item.isascii() and item.isprintable()):  # type: ignore[attr-defined]
                fault = text_fault(item)  # type: ignore[arg-type]
                if fault:
                    raise Invalid(BAD_TEXT, fault)
        elif kind is tuple or (isinstance(item, _ARRAYS) and not isinstance(item, msgpack.ExtType)):
            if depth == 0:
                raise Invalid(MALFORMED, f"arrays nested deeper than {MAX_DEPTH}")
            _check(item, depth - 1)  # type: ignore[arg-type]
        elif kind is not bool and not isinstance(item, _SCALARS):
            raise Invalid(NOT_A_VALUE, f"a {kind.__name__} is not a codec value")


def text_fault(text: str) -> str | None:
    """Why `text` is not valid codec text, or None.

    No control characters but tab and newline; beyond ASCII, code points assigned in Unicode 3.2 and in NFC
    there, or pictographs (U+1F000-U+1FAFF, which no normalisation ever touches). CPython ships the Unicode
    3.2 tables unchanged in every version; its current tables differ between versions, and a mark that a
    newer table reorders would make two nodes disagree about one transaction.
    """
    if text.isascii():
        if text.isprintable() or ("\x7f" not in text and all(c >= " " or c in "\t\n" for c in text)):
            return None
        return "a control character"
    for character in text:
        if character in "\t\n" or "\U0001f000" <= character <= "\U0001faff":
            continue
        category = _UNICODE.category(character)
        if category == "Cc":
            return f"a control character (U+{ord(character):04X})"
        if category in ("Cn", "Cs", "Co"):
            return f"a code point outside Unicode 3.2 (U+{ord(character):04X})"
    if _UNICODE.normalize("NFC", text) != text:
        return "text that is not in NFC"
    return None
