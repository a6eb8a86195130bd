"""Declared types: what each accepts, how it reads and writes JSON, and that its schema says the same."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from ledger.address import to_text
from vm.kinds import (
    MAX_AMOUNT,
    Address,
    AddressKind,
    Amount,
    AnyAddress,
    ArrayKind,
    BytesKind,
    ChoiceKind,
    Count,
    Flag,
    Hash,
    Identifier,
    IntegerKind,
    Kind,
    LongText,
    OptionalAddress,
    OptionalKind,
    OrganisationId,
    Reference,
    ShortText,
    TextKind,
    kind_of,
)

ONE = bytes(19) + b"\1"
NULL = bytes(20)


class Pair(NamedTuple):
    """Two values, one of which is rich."""

    who: Address
    number: Amount


class Nested(NamedTuple):
    """A record within a record."""

    pair: Pair
    on: Flag


PAIR = kind_of(Pair)
NESTED = kind_of(Nested)
PAIRS = ArrayKind(PAIR, 2)
TWO = kind_of(tuple[Address, Identifier])

ACCEPTED: list[tuple[Kind, Any, Any]] = [
    (kind_of(Address), ONE, to_text(ONE)),
    (kind_of(AnyAddress), NULL, to_text(NULL)),
    (kind_of(OptionalAddress), None, None),
    (kind_of(OptionalAddress), ONE, to_text(ONE)),
    (kind_of(Amount), 0, 0),
    (kind_of(Amount), MAX_AMOUNT, MAX_AMOUNT),
    (IntegerKind(-3, 3), -3, -3),
    (kind_of(Flag), True, True),
    (kind_of(Flag), False, False),
    (kind_of(ShortText), "", ""),
    (kind_of(ShortText), "x" * 64, "x" * 64),
    (kind_of(LongText), "a\tb\nü", "a\tb\nü"),
    (kind_of(Identifier), "beans-2.x_y", "beans-2.x_y"),
    (kind_of(OrganisationId), "a1", "a1"),
    (kind_of(Reference), "receipt 1", "receipt 1"),
    (ChoiceKind("in", "out"), "out", "out"),
    (kind_of(Hash), b"\xab" * 32, "ab" * 32),
    (BytesKind(0, 4), b"", ""),
    (ArrayKind(IntegerKind(0, 9), 3), (), []),
    (ArrayKind(IntegerKind(0, 9), 3), (1, 2, 3), [1, 2, 3]),
    (TWO, (ONE, "beans"), [to_text(ONE), "beans"]),
    (PAIR, Pair(ONE, 5), {"who": to_text(ONE), "number": 5}),
    (NESTED, Nested(Pair(ONE, 5), True), {"pair": {"who": to_text(ONE), "number": 5}, "on": True}),
    (PAIRS, (Pair(ONE, 5),), [{"who": to_text(ONE), "number": 5}]),
]


@pytest.mark.parametrize(("kind", "value", "json"), ACCEPTED)
def test_accepted_both_ways(kind: Kind, value: Any, json: Any) -> None:
    assert kind.check(value) is None
    assert kind.to_json(value) == json
    assert kind.from_json(json) == value
    Draft202012Validator(kind.schema()).validate(json)


@pytest.mark.parametrize(("kind", "value", "json"), ACCEPTED)
def test_restore_gives_back_the_rich_value(kind: Kind, value: Any, json: Any) -> None:
    def plain(item: Any) -> Any:
        return tuple([plain(part) for part in item]) if isinstance(item, tuple) else item

    restored = kind.restore(plain(value))
    assert restored == value
    assert type(restored) is type(value)


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (kind_of(Address), NULL, "must not be the null address"),
        (kind_of(Address), ONE[1:], "must be an address of 20 bytes"),
        (kind_of(Address), to_text(ONE), "must be an address of 20 bytes"),
        (kind_of(Address), None, "must be an address of 20 bytes"),
        (kind_of(OptionalAddress), NULL, "must not be the null address"),
        (kind_of(Amount), -1, "must be from 0 to 9223372036854775807"),
        (kind_of(Amount), 2**63, "must be from 0 to 9223372036854775807"),
        (kind_of(Amount), True, "must be a whole number"),
        (kind_of(Amount), 1.0, "must be a whole number"),
        (kind_of(Amount), "1", "must be a whole number"),
        (kind_of(Flag), 1, "must be true or false"),
        (kind_of(Flag), None, "must be true or false"),
        (kind_of(ShortText), "x" * 65, "must have 0 to 64 characters"),
        (kind_of(ShortText), b"x", "must be text"),
        (kind_of(Identifier), "Beans", "must have the form"),
        (kind_of(Identifier), "beans\n", "must have the form"),
        (kind_of(Identifier), "", "must have 1 to 32 characters"),
        (kind_of(OrganisationId), "1a", "must have the form"),
        (kind_of(Reference), "", "must have 1 to 64 characters"),
        (ChoiceKind("in", "out"), "on", "must be one of in, out"),
        (ChoiceKind("in", "out"), 1, "must be one of in, out"),
        (kind_of(Hash), bytes(31), "must have 32 to 32 bytes"),
        (kind_of(Hash), "00" * 32, "must be bytes"),
        (ArrayKind(IntegerKind(0, 9), 3), (1, 2, 3, 4), "must have 0 to 3 entries"),
        (ArrayKind(IntegerKind(0, 9), 3, shortest=1), (), "must have 1 to 3 entries"),
        (ArrayKind(IntegerKind(0, 9), 3), (1, 10), "entry 1 must be from 0 to 9"),
        (ArrayKind(IntegerKind(0, 9), 3), [1], "must be an array"),
        (TWO, (ONE,), "must be an array of 2 entries"),
        (TWO, (ONE, "Beans"), "entry 1 must have the form"),
        (PAIR, (ONE, -1), "number must be from 0"),
        (PAIR, (ONE, 1, 1), "must be an array of 2 fields"),
        (NESTED, ((ONE, -1), True), "pair number must be from 0"),
    ],
)
def test_refused_values(kind: Kind, value: Any, why: str) -> None:
    assert str(kind.check(value)).startswith(why)


@pytest.mark.parametrize(
    ("kind", "json"),
    [
        (kind_of(Address), "troth1nothing"),
        (kind_of(Address), ONE.hex()),
        (kind_of(Address), None),
        (kind_of(Amount), 1.0),
        (kind_of(Amount), True),
        (kind_of(Amount), "1.0"),
        (kind_of(Amount), ""),
        (kind_of(Amount), "9" * 21),
        (kind_of(Flag), "true"),
        (kind_of(ShortText), 5),
        (kind_of(ShortText), "bell\a"),
        (kind_of(ShortText), "e\u0301"),
        (ChoiceKind("in", "out"), None),
        (kind_of(Hash), "AB" * 32),
        (kind_of(Hash), "abc"),
        (kind_of(Hash), None),
        (ArrayKind(IntegerKind(0, 9), 3), 1),
        (ArrayKind(IntegerKind(0, 9), 3), ["x"]),
        (TWO, [to_text(ONE)]),
        (PAIR, {"who": to_text(ONE)}),
        (PAIR, {"who": to_text(ONE), "number": 1, "more": 1}),
        (PAIR, {"who": to_text(ONE), "number": "x"}),
        (PAIR, [to_text(ONE), 1]),
    ],
)
def test_refused_json(kind: Kind, json: Any) -> None:
    with pytest.raises(ValueError, match=r"must|address|begin"):
        kind.from_json(json)


NUMBERS: list[Any] = [0, 1, -1, 10, 2**63 - 1, 2**63, 1.5]
TEXTS: list[Any] = ["", "in", "out", "beans", "Beans", "00" * 32, "0" * 63, "x" * 65, to_text(ONE), to_text(ONE)[:-1]]
ARRAYS: list[Any] = [[], [1], [1, 2, 3, 4], [to_text(ONE), "beans"]]
OBJECTS: list[Any] = [{}, {"who": to_text(ONE), "number": 1}, {"who": 1, "number": 1}]
SAMPLES = [None, True, False, *NUMBERS, *TEXTS, *ARRAYS, *OBJECTS]


@pytest.mark.parametrize("kind", [entry[0] for entry in ACCEPTED])
def test_the_schema_agrees_with_the_check(kind: Kind) -> None:
    """Whoever follows the schema is never refused for form, and the other way round."""
    Draft202012Validator.check_schema(kind.schema())
    validator = Draft202012Validator(kind.schema())
    for sample in SAMPLES:
        try:
            accepted = kind.check(kind.from_json(sample)) is None
        except ValueError:
            accepted = False
        assert accepted == validator.is_valid(sample), sample


def test_digits_as_text_are_read_exactly() -> None:
    assert kind_of(Amount).from_json("9223372036854775807") == MAX_AMOUNT
    assert IntegerKind(-3, 3).from_json("-3") == -3


@pytest.mark.parametrize(
    "hint", [int, str, bytes, Any, list[int], tuple[int, ...], Annotated[int, "no kind"], int | None]
)
def test_what_declares_no_kind(hint: Any) -> None:
    with pytest.raises(TypeError):
        kind_of(hint)


def test_an_endless_tuple_is_told_how_to_be_bounded() -> None:
    with pytest.raises(TypeError, match="needs a bound"):
        kind_of(tuple[Count, ...])


def test_optional_kinds_restore_records() -> None:
    assert OptionalKind(PAIR).restore((ONE, 1)) == Pair(ONE, 1)
    assert OptionalKind(PAIR).restore(None) is None


def test_patterns_match_ascii_only() -> None:
    assert TextKind(4, pattern=r"\d+").check("٣") is not None


def test_the_null_address_is_taken_where_declared() -> None:
    assert AddressKind(null=True).check(NULL) is None
