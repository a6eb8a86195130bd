"""What a person may type for each declared kind, and how values are shown."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli.values import address_from_text, describe, is_time, parse_time, show, show_fields, show_time, value_from_text
from ledger.address import address_of, to_text
from ledger.errors import Invalid
from loyalty_contracts.certificate_records import Commitment, OptionalTime
from loyalty_contracts.certificate_records import Path as MerklePath
from loyalty_contracts.consent import Purpose
from node.keystore import dev_key
from vm.kinds import Address, Amount, Flag, Hash, OptionalAddress, ShortText, TimeMs, kind_of

NOW = 1_700_000_000_000
ALICE = address_of(dev_key("alice").public)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000000", NOW),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01", 1_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.250Z", 250),
        ("+10m", NOW + 600_000),
        ("+2h", NOW + 7_200_000),
        ("+30d", NOW + 30 * 86_400_000),
    ],
)
def test_times_are_dates_spans_or_ms(text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "+30", "+3y", "2030-13-01", "-5", "+1234567d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a date"):
        parse_time(text, NOW)


def test_a_shown_time_reads_back() -> None:
    assert show_time(NOW) == "2023-11-14 22:13:20 UTC"
    assert show_time(NOW + 7) == "2023-11-14 22:13:20.007 UTC"
    assert parse_time(show_time(NOW).removesuffix(" UTC"), 0) == NOW


def test_a_time_beyond_the_calendar_is_shown_in_ms() -> None:
    assert show_time(2**60) == f"{2**60} ms"


@pytest.mark.parametrize(
    ("hint", "text", "expected"),
    [
        (Address, to_text(ALICE), ALICE),
        (Address, "dev:alice", ALICE),
        (OptionalAddress, "none", None),
        (Amount, "12", 12),
        (Flag, "yes", True),
        (Flag, "No", False),
        (TimeMs, "1970-01-02", 86_400_000),
        (OptionalTime, "1970-01-02", 86_400_000),
        (Hash, "AB" * 32, b"\xab" * 32),
        (Purpose, "marketing", "marketing"),
        (ShortText, "=1+1", "=1+1"),
        (MerklePath, f"{'00' * 32},{'11' * 32}", (bytes(32), b"\x11" * 32)),
    ],
)
def test_text_becomes_the_value_of_its_kind(hint: Any, text: str, expected: Any) -> None:
    assert value_from_text(kind_of(hint), text) == expected


@pytest.mark.parametrize(
    ("hint", "text", "reason"),
    [
        (Address, "troth1qqqq", "has 10 characters"),
        (Address, "alice", "does not begin with troth1"),
        (Address, "dev:NOT A LABEL", "is not a key label"),
        (Amount, "1.5", "whole number"),
        (Amount, "-1", "must be from 0"),
        (Amount, str(2**63), "must be from 0"),
        (Amount, "1e3", "whole number"),
        (Flag, "maybe", "yes or no"),
        (Hash, "zz", "hexadecimal"),
        (Hash, "ab", "must have 32 to 32 bytes"),
        (Purpose, "anything", "must be one of"),
        (ShortText, "x" * 65, "0 to 64 characters"),
        (ShortText, "a\x07", "control character"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(hint: Any, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        value_from_text(kind_of(hint), text)


def test_a_label_is_looked_up_and_an_address_is_not() -> None:
    asked: list[str] = []

    def find(label: str) -> str:
        asked.append(label)
        return to_text(ALICE)

    assert address_from_text("mine", find) == ALICE
    assert address_from_text(to_text(ALICE), find) == ALICE
    assert address_from_text(to_text(ALICE).upper(), find) == ALICE
    assert asked == ["mine"]


def test_a_wrong_address_is_never_taken_for_a_label() -> None:
    with pytest.raises(Invalid, match="E-ADDRESS-001"):
        address_from_text(to_text(ALICE)[:-1] + "b", lambda label: to_text(ALICE))


def test_a_hash_may_be_that_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "terms.txt"
    file.write_bytes(b"terms")
    assert value_from_text(kind_of(Hash), f"@{file}") == sha256(b"terms").digest()
    with pytest.raises(ValueError, match="No such file"):
        value_from_text(kind_of(Hash), f"@{file}.missing")


def test_a_salted_commitment_is_never_the_bare_hash_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "data.txt"
    file.write_bytes(b"yes")
    with pytest.raises(ValueError, match="salted"):
        value_from_text(kind_of(Commitment), f"@{file}")
    assert "@FILE" not in describe(kind_of(Commitment))
    assert "@FILE" in describe(kind_of(Hash))


def test_only_times_are_times() -> None:
    assert is_time(kind_of(TimeMs))
    assert is_time(kind_of(OptionalTime))
    assert not is_time(kind_of(Amount))


def test_values_are_shown_for_people() -> None:
    assert show(None) == "none"
    assert show(True) == "yes"
    assert show(NOW, "created_ms") == "2023-11-14 22:13:20 UTC"
    assert show(NOW, "amount") == str(NOW)
    assert show(["a", "b"]) == "a, b"
    assert show_fields({"issued": 5, "created_ms": NOW}) == "issued   5\ncreated  2023-11-14 22:13:20 UTC"
    assert show_fields(5) == "5"
