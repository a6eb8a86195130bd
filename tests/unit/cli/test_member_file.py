from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.member_file import FILE_BYTES_MAX, FoundingMember, member_json, parse_member, read_member
from ledger.address import address_of
from ledger.errors import Invalid, NotFound, TrothError, VerifyFailed
from ledger.keys import PrivateKey
from ledger.node_certificate import make_certificate
from node.keystore import dev_key


def member(organisation: str = "grocer", **changed: Any) -> tuple[FoundingMember, PrivateKey]:
    """A member with keys of its own, and its validator's key."""
    key = dev_key(f"{organisation}-validator")
    made = FoundingMember(
        "acme-1",
        organisation,
        f"The {organisation.title()}",
        address_of(dev_key(organisation).public),
        key.public,
        make_certificate(dev_key(f"{organisation}-node")),
        (f"{organisation}.example:8701", "[2001:db8::1]:8701"),
        1_795_334_669_114,
    )
    return made._replace(**changed), key


def text(**changed: Any) -> str:
    return member_json(*member(**changed))


def test_a_file_says_what_was_put_into_it() -> None:
    made, key = member()
    assert parse_member(member_json(made, key).encode(), "file") == made
    anywhere, _ = member(chain_id="")
    assert parse_member(text(chain_id="").encode(), "file") == anywhere


def test_nothing_secret_is_in_it() -> None:
    for name in ("grocer", "grocer-validator", "grocer-node"):
        assert dev_key(name).seed().hex() not in text()


def test_order_and_white_space_do_not_matter_and_every_value_does() -> None:
    made, _ = member()
    shuffled = json.dumps(dict(reversed(json.loads(text()).items())), indent=None)
    assert parse_member(shuffled.encode(), "file").number() == made.number()
    numbers = {made.number()}
    for changed in (
        {"chain_id": "acme-2"},
        {"organisation": "roaster"},
        {"name": "Another"},
        {"account": bytes(20)},
        {"validator": dev_key("x").public},
        {"certificate": make_certificate(dev_key("x"))},
        {"addresses": ("elsewhere.example:1",)},
        {"time_ms": 1},
    ):
        numbers.add(made._replace(**changed).number())
    assert len(numbers) == 9


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("chain_id",), "acme-2"),
        (("chain_id",), None),
        (("organisation", "id"), "roaster"),
        (("organisation", "name"), "The Thief"),
        (("account",), "troth1cptk8y2a994unaneelshql9czy7y5vded32thh"),
        (("validator",), dev_key("thief").public.hex()),
        (("node", "certificate"), make_certificate(dev_key("thief")).hex()),
        (("node", "addresses"), ["thief.example:8701"]),
        (("time_ms",), 1_795_334_669_115),
        (("signature",), "00" * 64),
    ],
)
def test_a_part_that_was_changed_on_the_way_is_found(place: tuple[str, ...], value: Any) -> None:
    document = json.loads(text())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    assert holder[place[-1]] != value
    holder[place[-1]] = value
    with pytest.raises(VerifyFailed) as caught:
        parse_member(json.dumps(document).encode(), "file")
    assert caught.value.code == "E-MEMBER-003"


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (("format",), "troth key", "E-MEMBER-001"),
        (("version",), 2, "E-MEMBER-001"),
        (("chain_id",), 7, "E-MEMBER-001"),
        (("organisation",), "grocer", "E-MEMBER-001"),
        (("organisation", "id"), "", "E-MEMBER-001"),
        (("organisation", "name"), "e\u0301", "E-MEMBER-001"),
        (("account",), "troth1x", "E-ADDRESS-001"),
        (("validator",), "AB" * 32, "E-MEMBER-001"),
        (("validator",), "ab" * 31, "E-MEMBER-001"),
        (("validator",), "00" * 32, "E-KEY-001"),
        (("node", "certificate"), "3082", "E-NODEKEY-001"),
        (("node", "certificate"), "", "E-MEMBER-001"),
        (("node", "addresses"), [], "E-MEMBER-001"),
        (("node", "addresses"), ["a:1"] * 9, "E-MEMBER-001"),
        (("node", "addresses"), [":8701"], "E-PEER-012"),
        (("node", "addresses"), [8701], "E-MEMBER-001"),
        (("time_ms",), 1.5, "E-MEMBER-001"),
        (("time_ms",), 0, "E-MEMBER-001"),
        (("signature",), "00", "E-MEMBER-001"),
        (("more",), 1, "E-MEMBER-001"),
    ],
)
def test_what_is_no_members_file_is_refused_by_name(place: tuple[str, ...], value: Any, code: str) -> None:
    document = json.loads(text())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(Invalid) as caught:
        parse_member(json.dumps(document).encode(), "m1.json")
    assert caught.value.code == code


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"{", b"[" * 10_000])
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        parse_member(data, "m1.json")
    assert caught.value.code == "E-MEMBER-001" and "m1.json" in caught.value.cause


def test_files_are_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "member.json"
    with pytest.raises(NotFound):
        read_member(path)
    path.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(Invalid) as caught:
        read_member(path)
    assert "larger" in caught.value.cause
    with pytest.raises(TrothError) as failed:
        read_member(tmp_path)
    assert failed.value.code == "E-MEMBER-002"
    path.write_text(text())
    assert read_member(path) == member()[0]
