from __future__ import annotations

import sys
import tracemalloc
import unicodedata
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import msgpack
import pytest

from ledger import codec
from ledger.codec import MAX_DEPTH, decode, decode_trusted, encode, text_fault
from ledger.errors import Invalid


def _refused(function: Any, *arguments: object, **named: object) -> str:
    with pytest.raises(Invalid) as caught:
        function(*arguments, **named)
    return caught.value.code


def _nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth - 1):
        value = (value,)
    return value


_VALUES = [
    (None, "c0"),
    (False, "c2"),
    (True, "c3"),
    (0, "00"),
    (127, "7f"),
    (128, "cc80"),
    (255, "ccff"),
    (256, "cd0100"),
    (65535, "cdffff"),
    (65536, "ce00010000"),
    (2**32 - 1, "ceffffffff"),
    (2**32, "cf0000000100000000"),
    (2**64 - 1, "cfffffffffffffffff"),
    (-1, "ff"),
    (-32, "e0"),
    (-33, "d0df"),
    (-128, "d080"),
    (-129, "d1ff7f"),
    (-32768, "d18000"),
    (-32769, "d2ffff7fff"),
    (-(2**31), "d280000000"),
    (-(2**31) - 1, "d3ffffffff7fffffff"),
    (-(2**63), "d38000000000000000"),
    (b"", "c400"),
    (b"a" * 255, "c4ff" + "61" * 255),
    (b"a" * 256, "c50100" + "61" * 256),
    (b"a" * 65536, "c600010000" + "61" * 65536),
    ("", "a0"),
    ("a" * 31, "bf" + "61" * 31),
    ("a" * 32, "d920" + "61" * 32),
    ("a" * 256, "da0100" + "61" * 256),
    ("a" * 65536, "db00010000" + "61" * 65536),
    ("tab\tand\nline", "ac" + b"tab\tand\nline".hex()),
    ("é\tü\n", "a6c3a909c3bc0a"),
    ("日本", "a6e697a5e69cac"),
    ("😀", "a4f09f9880"),
    ((), "90"),
    ((0,) * 15, "9f" + "00" * 15),
    ((0,) * 16, "dc0010" + "00" * 16),
    ((0,) * 65536, "dd00010000" + "00" * 65536),
    ((None, (True, (b"", ("",)))), "92c092c392c40091a0"),
]


@pytest.mark.parametrize(("value", "text"), _VALUES, ids=[text[:18] for _, text in _VALUES])
def test_one_value_one_encoding(value: codec.Value, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode(value) == data
    for reader in (decode, decode_trusted):
        found = reader(data)
        assert found == value
        assert type(found) is type(value)


def test_what_encodes_like_its_base() -> None:
    class Colour(IntEnum):
        RED = 3

    class Name(StrEnum):
        RED = "red"

    class Pair(NamedTuple):
        left: int
        right: str

    assert encode([1, [2, "a"]]) == encode((1, (2, "a")))  # type: ignore[arg-type]
    assert encode(Pair(1, "a")) == encode((1, "a"))
    assert encode(Colour.RED) == encode(3)
    assert encode(Name.RED) == encode("red")


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {},
        {"a": 1},
        set(),
        frozenset(),
        object(),
        int,
        1j,
        bytearray(b"a"),
        memoryview(b"a"),
        range(3),
        2**64,
        -(2**63) - 1,
        msgpack.ExtType(1, b"a"),
        msgpack.Timestamp(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_value_has_no_encoding(value: Any) -> None:
    assert _refused(encode, value) == "E-CODEC-004"
    assert _refused(encode, (1, ("a", [b"b", value]))) == "E-CODEC-004"


@pytest.mark.parametrize("text", ["\x00", "a\x7f", "é\x00", "e\u0301", "\ud800", "\ue000", "\u0378"])
def test_text_that_decode_would_refuse_has_no_encoding(text: str) -> None:
    assert _refused(encode, text) == "E-CODEC-005"
    assert _refused(encode, ((text,),)) == "E-CODEC-005"


def test_depth() -> None:
    assert decode(encode(_nested(MAX_DEPTH))) == _nested(MAX_DEPTH)
    assert _refused(encode, _nested(MAX_DEPTH + 1)) == "E-CODEC-001"
    deeper = b"\x91" * MAX_DEPTH + b"\x90"
    assert _refused(decode, deeper) == "E-CODEC-001"
    assert decode(deeper[1:]) == _nested(MAX_DEPTH)
    for depth in (500, 511, 512, 1023, 1024, 1025, 100_000):
        assert _refused(decode, b"\x91" * depth + b"\xc0") == "E-CODEC-001"
    ring: list[Any] = []
    ring.append(ring)
    assert _refused(encode, ring) == "E-CODEC-001"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "E-CODEC-001"),  # nothing
        ("c1", "E-CODEC-001"),  # never used by msgpack
        ("0000", "E-CODEC-001"),  # two values
        ("c000", "E-CODEC-001"),
        ("92c0", "E-CODEC-001"),  # truncated
        ("c403aabb", "E-CODEC-001"),
        ("a3e6", "E-CODEC-001"),
        ("cd01", "E-CODEC-001"),
        ("ddffffffff", "E-CODEC-001"),  # lengths that are not there
        ("dbffffffff", "E-CODEC-001"),
        ("c6ffffffff", "E-CODEC-001"),
        ("80", "E-CODEC-001"),  # maps
        ("81c0c0", "E-CODEC-001"),
        ("82a16101a16102", "E-CODEC-001"),
        ("9180", "E-CODEC-001"),
        ("de0000", "E-CODEC-001"),
        ("df00000000", "E-CODEC-001"),
        ("dfffffffff", "E-CODEC-001"),
        ("d40100", "E-CODEC-001"),  # extensions
        ("c70001", "E-CODEC-001"),
        ("c7ffff", "E-CODEC-001"),
        ("d6ff00000000", "E-CODEC-001"),  # a timestamp
        ("a1ff", "E-CODEC-001"),  # not UTF-8
        ("a2c080", "E-CODEC-001"),  # an overlong zero
        ("a3eda080", "E-CODEC-001"),  # half a surrogate pair
        ("a4f4908080", "E-CODEC-001"),  # beyond Unicode
        ("cc7f", "E-CODEC-002"),  # longer than needed
        ("cd00ff", "E-CODEC-002"),
        ("ce0000ffff", "E-CODEC-002"),
        ("cf00000000ffffffff", "E-CODEC-002"),
        ("d000", "E-CODEC-002"),
        ("d001", "E-CODEC-002"),
        ("d0ff", "E-CODEC-002"),
        ("d1ff80", "E-CODEC-002"),
        ("d2ffff8000", "E-CODEC-002"),
        ("d3ffffffff80000000", "E-CODEC-002"),
        ("d30000000000000000", "E-CODEC-002"),
        ("d37fffffffffffffff", "E-CODEC-002"),
        ("c50001aa", "E-CODEC-002"),
        ("c600000001aa", "E-CODEC-002"),
        ("d90161", "E-CODEC-002"),
        ("da000161", "E-CODEC-002"),
        ("db0000000161", "E-CODEC-002"),
        ("dc000100", "E-CODEC-002"),
        ("dd0000000100", "E-CODEC-002"),
        ("9291c0dc0000", "E-CODEC-002"),  # at the end of a canonical beginning
        ("ca00000000", "E-CODEC-004"),  # floats
        ("cb0000000000000000", "E-CODEC-004"),
        ("cb7ff8000000000000", "E-CODEC-004"),
        ("91cb3ff0000000000000", "E-CODEC-004"),
        ("a100", "E-CODEC-005"),  # text
        ("a17f", "E-CODEC-005"),
        ("a365cc81", "E-CODEC-005"),
    ],
)
def test_refused_bytes(text: str, code: str) -> None:
    assert _refused(decode, bytes.fromhex(text)) == code


def test_no_beginning_of_an_encoding_is_one() -> None:
    data = encode((1, "troth", (b"abc", (None, -5)), 2**40, "é"))
    for length in range(len(data)):
        assert _refused(decode, data[:length]) == "E-CODEC-001"
    for extra in (b"\0", b"\xc0", data):
        assert _refused(decode, data + extra) == "E-CODEC-001"


def test_size_limit_comes_first() -> None:
    data = encode(b"a" * 98)
    assert decode(data, max_bytes=100) == b"a" * 98
    assert _refused(decode, data, max_bytes=99) == "E-CODEC-003"
    assert _refused(decode, b"\xc1" * 100, max_bytes=99) == "E-CODEC-003"


def test_trusted_bytes_need_not_be_canonical_but_well_formed() -> None:
    assert decode_trusted(bytes.fromhex("cc01")) == 1
    for text in ("", "80", "d40100", "92c0", "0000", "a1ff", "c1"):
        assert _refused(decode_trusted, bytes.fromhex(text)) == "E-CODEC-001"


def test_lengths_that_are_not_there_take_no_memory() -> None:
    """A thousand nested headers, each claiming as many items as the input has bytes: 1 GB in msgpack before 1.2.4."""
    size = 128 << 10
    bomb = (b"\xdd" + (size - 1).to_bytes(4, "big")) * 1000
    bomb += b"\xc0" * (size - len(bomb))
    tracemalloc.start()
    try:
        assert _refused(decode, bomb) == "E-CODEC-001"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20


@pytest.mark.parametrize(
    "text",
    ["", "plain ~", "a\tb\nc", "é\n日\t", "Ω", "한국", "עברית", "😀 👍🏽", "a\u200db", "\U00020000", "ﬁ"],
)
def test_good_text(text: str) -> None:
    assert text_fault(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\x00", "control"),
        ("a\rb", "control"),
        ("\x1b[31m", "control"),
        ("\x7f", "control"),
        ("é\x7f", "U+007F"),
        ("é\x01", "U+0001"),
        ("\x85", "control"),
        ("\x9b31m", "control"),
        ("e\u0301", "not in NFC"),
        ("\u212b", "not in NFC"),  # the Angstrom sign
        ("\u1100\u1161", "not in NFC"),  # Hangul in pieces
        ("a\u0323\u0301\u0307\u0323", "not in NFC"),  # marks out of order
        ("\ud800", "outside Unicode 3.2"),
        ("\ue000", "outside Unicode 3.2"),  # private use
        ("\u0378", "outside Unicode 3.2"),  # not assigned at all
        ("\u1e9e", "outside Unicode 3.2"),  # assigned later (5.1)
        ("\uffff", "outside Unicode 3.2"),
        ("\U0010ffff", "outside Unicode 3.2"),
    ],
)
def test_bad_text(text: str, said: str) -> None:
    fault = text_fault(text)
    assert fault is not None
    assert said in fault


def test_valid_characters_are_normal_in_the_newest_tables_too() -> None:
    """Every code point taken alone is NFC under this Python's own tables, whatever their version."""
    taken = [c for c in map(chr, range(sys.maxunicode + 1)) if text_fault(c) is None]
    assert len(taken) > 90_000
    assert all(unicodedata.normalize("NFC", character) == character for character in taken)
