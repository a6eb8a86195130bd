from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import pytest

from ledger import protobuf
from ledger.errors import Invalid
from ledger.protobuf import MALFORMED, MAX_INTEGER, NOT_CANONICAL, TOO_LARGE


class Colour(IntEnum):
    NONE = 0
    RED = 1


@dataclass(frozen=True, slots=True)
class Part:
    text: bytes = b""

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (protobuf.Bytes(1, "text"),)


@dataclass(frozen=True, slots=True)
class Whole:
    number: int = 0
    colour: Colour = Colour.NONE
    flag: bool = False
    text: bytes = b""
    numbers: tuple[int, ...] = ()
    part: Part | None = None
    parts: tuple[Part, ...] = ()

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Integer(1, "number"),
        protobuf.Integer(2, "colour", Colour),
        protobuf.Flag(3, "flag"),
        protobuf.Bytes(4, "text"),
        protobuf.Integers(5, "numbers", 3),
        protobuf.Embedded(6, "part", Part),
        protobuf.Repeated(20, "parts", Part, 2),
    )


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        (Whole(), ""),
        (Whole(number=150), "089601"),
        (Whole(number=MAX_INTEGER), "08ffffffff07"),
        (Whole(colour=Colour.RED, flag=True), "10011801"),
        (Whole(text=b"testing"), "220774657374696e67"),
        (Whole(numbers=(3, 270, 0)), "2a04038e0200"),
        (Whole(part=Part()), "3200"),
        (Whole(part=Part(b"a")), "32030a0161"),
        (Whole(parts=(Part(), Part(b"a"))), "a20100a201030a0161"),
    ],
)
def test_one_message_one_encoding(message: Whole, encoded: str) -> None:
    assert protobuf.encode(message).hex() == encoded
    assert protobuf.decode(Whole, bytes.fromhex(encoded), max_bytes=100) == message


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        ("08", MALFORMED),  # a tag without its value
        ("0896", MALFORMED),  # a cut-off varint
        ("2202ff", MALFORMED),  # bytes cut off
        ("32020a01", MALFORMED),  # a message cut off inside
        ("32030a0261", MALFORMED),  # an inner length beyond its message
        ("2a0180", MALFORMED),  # a packed integer cut off
        ("3a00", MALFORMED),  # an unknown field
        ("00", MALFORMED),  # field 0
        ("0d00000000", MALFORMED),  # 32-bit wire type: a float
        ("090000000000000000", MALFORMED),  # 64-bit wire type: a double
        ("0b0c", MALFORMED),  # a group
        ("0a00", MALFORMED),  # an integer as bytes
        ("2001", MALFORMED),  # bytes as an integer
        ("2801", MALFORMED),  # a repeated integer that is not packed
        ("1002", MALFORMED),  # an unknown enum member
        ("1802", MALFORMED),  # a boolean of 2
        ("088080808008", MALFORMED),  # 2^31
        ("08ffffffffffffffffff01", MALFORMED),  # -1
        ("08808080808000", MALFORMED),  # an endless varint
        ("0800", NOT_CANONICAL),  # a default written out
        ("1000", NOT_CANONICAL),
        ("1800", NOT_CANONICAL),
        ("2200", NOT_CANONICAL),
        ("2a00", NOT_CANONICAL),
        ("089601089601", NOT_CANONICAL),  # twice
        ("32003200", NOT_CANONICAL),
        ("18010801", NOT_CANONICAL),  # out of order
        ("088100", NOT_CANONICAL),  # a long 1
        ("880001", NOT_CANONICAL),  # a long tag
        ("2a028100", NOT_CANONICAL),  # a long 1, packed
        ("32020a00", NOT_CANONICAL),  # a default inside
        ("a20100a20100a20100", TOO_LARGE),  # three where two are allowed
        ("2a0401010101", TOO_LARGE),
        ("2265" + "00" * 101, TOO_LARGE),
    ],
)
def test_any_other_encoding_is_refused(encoded: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        protobuf.decode(Whole, bytes.fromhex(encoded), max_bytes=100)
    assert caught.value.code == code
