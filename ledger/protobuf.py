"""The part of protobuf's wire format (proto3) that ICS-23 messages need, in one canonical form.

A message is a frozen dataclass whose `FIELDS` names its fields in the order of their numbers. Rules kept
here:
- integers are varints from 0 to 2^31-1; bytes and messages are length-delimited; repeated integers are
  packed;
- fields stand in ascending order, each once unless repeated; a field at its default is left out;
- unknown fields, other wire types (so no float), groups and unknown enum members are refused;
- `encode(decode(data)) == data`, or `data` is refused: one message has one encoding.

Other writers of proto3 (Go, JavaScript, Rust) produce this form for ICS-23's messages; a reader of proto3
takes it.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, TypeVar

from ledger.errors import Invalid, define

MALFORMED = define("E-PROTOBUF-001", "malformed protobuf message", "send the message as the ICS-23 schema describes it")
NOT_CANONICAL = define(
    "E-PROTOBUF-002",
    "not the canonical protobuf encoding",
    "write each field once, in order, in its shortest form, and leave out defaults",
)
TOO_LARGE = define("E-PROTOBUF-003", "protobuf message over a limit", "no proof that a node makes is this large")

MAX_INTEGER = 2**31 - 1
"""Largest integer of a field (int32; ICS-23 has no use for negative ones)."""

_VARINT = 0
_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class Integer:
    """A varint field; `enum` names its members where it is an enumeration."""

    number: int
    name: str
    enum: type[IntEnum] | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean field."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Bytes:
    """A bytes field."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Integers:
    """A repeated integer field, packed; at most `limit` items."""

    number: int
    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """A field that holds a message, or None."""

    number: int
    name: str
    message: type[Message]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A repeated message field; at most `limit` items."""

    number: int
    name: str
    message: type[Message]
    limit: int


Field = Integer | Flag | Bytes | Integers | Embedded | Repeated


class Message(Protocol):
    """A frozen dataclass with a `FIELDS` table; every field has a default."""

    FIELDS: ClassVar[tuple[Field, ...]]


M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The canonical bytes of a message."""
    parts: list[bytes] = []
    for field in message.FIELDS:
        value = getattr(message, field.name)
        match field:
            case Integer() | Flag():
                if value:
                    parts += (_tag(field, _VARINT), varint(int(value)))
            case Bytes():
                if value:
                    parts += (_tag(field, _DELIMITED), varint(len(value)), value)
            case Integers():
                if value:
                    packed = b"".join(map(varint, value))
                    parts += (_tag(field, _DELIMITED), varint(len(packed)), packed)
            case Embedded():
                if value is not None:
                    inner = encode(value)
                    parts += (_tag(field, _DELIMITED), varint(len(inner)), inner)
            case Repeated():
                for item in value:
                    inner = encode(item)
                    parts += (_tag(field, _DELIMITED), varint(len(inner)), inner)
    return b"".join(parts)


def decode(kind: type[M], data: bytes, *, max_bytes: int) -> M:
    """The message of type `kind` whose canonical encoding is `data`.

    Raises Invalid: E-PROTOBUF-003 over `max_bytes` or over a field's limit, E-PROTOBUF-001 truncated or
    foreign, E-PROTOBUF-002 another encoding than the canonical one.
    """
    if len(data) > max_bytes:
        raise Invalid(TOO_LARGE, f"{len(data)} bytes, at most {max_bytes} are taken")
    message = _decode(kind, data)
    if encode(message) != data:
        raise Invalid(NOT_CANONICAL, f"a {kind.__name__} is not in its canonical form")
    return message


def varint(number: int) -> bytes:
    """The shortest base-128 form of a non-negative integer, low digits first."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(field: Field, wire: int) -> bytes:
    return varint(field.number << 3 | wire)


def _decode(kind: type[M], data: bytes) -> M:
    fields = {field.number: field for field in kind.FIELDS}
    values: dict[str, Any] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field = fields.get(tag >> 3)
        if field is None:
            raise Invalid(MALFORMED, f"a {kind.__name__} has no field {tag >> 3}")
        where = f"{kind.__name__}.{field.name}"
        expected = _VARINT if isinstance(field, Integer | Flag) else _DELIMITED
        if tag & 7 != expected:
            raise Invalid(MALFORMED, f"{where} has wire type {tag & 7}, expected {expected}")
        if field.name in values and not isinstance(field, Repeated):
            raise Invalid(NOT_CANONICAL, f"{where} stands twice")
        number, at = _read_varint(data, at)
        if isinstance(field, Integer | Flag):
            values[field.name] = _scalar(field, number, where)
            continue
        if number > len(data) - at:
            raise Invalid(MALFORMED, f"{where} is cut off")
        content, at = data[at : at + number], at + number
        match field:
            case Bytes():
                values[field.name] = content
            case Integers():
                values[field.name] = _unpack(content, field, where)
            case Embedded():
                values[field.name] = _decode(field.message, content)
            case Repeated():
                items = values.get(field.name, ())
                if len(items) >= field.limit:
                    raise Invalid(TOO_LARGE, f"{where} has more than {field.limit} items")
                values[field.name] = (*items, _decode(field.message, content))
    return kind(**values)


def _scalar(field: Integer | Flag, number: int, where: str) -> int:
    if isinstance(field, Flag):
        if number > 1:
            raise Invalid(MALFORMED, f"{where} is {number}, expected 0 or 1")
        return bool(number)
    if field.enum is None:
        return number
    try:
        return field.enum(number)
    except ValueError:
        raise Invalid(MALFORMED, f"{where} is {number}, which is no {field.enum.__name__}") from None


def _unpack(content: bytes, field: Integers, where: str) -> tuple[int, ...]:
    items: list[int] = []
    at = 0
    while at < len(content):
        if len(items) >= field.limit:
            raise Invalid(TOO_LARGE, f"{where} has more than {field.limit} items")
        item, at = _read_varint(content, at)
        items.append(item)
    return tuple(items)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data):
            raise Invalid(MALFORMED, "an integer is cut off")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if number > MAX_INTEGER or shift > 28:
            raise Invalid(MALFORMED, f"an integer over {MAX_INTEGER}")
        if byte < 0x80:
            return number, at
        shift += 7
