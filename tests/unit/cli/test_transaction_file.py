"""Transactions as files: several signers, and files that say something else than they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.transaction_file import Draft, draft_json, draft_of, parse_draft, read_draft, write_draft
from ledger.address import address_of, to_text
from ledger.errors import Fault, Invalid, Refused
from ledger.transaction import Call, Transaction, check_signatures, decode
from node.contracts import registry
from node.keystore import dev_key

ALICE, BOB, EVE = dev_key("alice"), dev_key("bob"), dev_key("eve")
ACTORS = (address_of(ALICE.public), address_of(BOB.public))
CALLS = (
    Call(0, "points", "transfer", ("beans", ACTORS[1], 5)),
    Call(1, "points", "transfer", ("milk", ACTORS[0], 7, "swap-1")),
)
DRAFT = draft_of(Transaction(1, "dev", ACTORS, b"12345678", 10**12, 5_000, CALLS, "a swap"))


def write(folder: Path, draft: Draft) -> Path:
    path = folder / "swap.json"
    write_draft(path, draft, registry(), replace=path.exists())
    return path


def test_two_people_sign_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, DRAFT)
    assert read_draft(path) == DRAFT
    write(tmp_path, read_draft(path).signed_by(BOB))
    assert read_draft(path).missing() == [ACTORS[0]]
    write(tmp_path, read_draft(path).signed_by(ALICE))
    signed = read_draft(path).complete()
    check_signatures(signed)
    assert decode(signed.raw).transaction == DRAFT.transaction
    assert [entry.name for entry in tmp_path.iterdir()] == ["swap.json"]


def test_signing_twice_changes_nothing() -> None:
    once = DRAFT.signed_by(ALICE)
    assert once.signed_by(ALICE) == once
    assert once.signed_by(BOB) == DRAFT.signed_by(BOB).signed_by(ALICE)


def test_who_does_not_act_cannot_sign() -> None:
    with pytest.raises(Refused, match="E-TX-008"):
        DRAFT.signed_by(EVE)


def test_what_lacks_a_signature_is_not_complete() -> None:
    with pytest.raises(Invalid, match=f"E-TX-007 not signed by {to_text(ACTORS[1])}"):
        DRAFT.signed_by(ALICE).complete()


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "swap.json"
    path.write_text("mine")
    with pytest.raises(Fault, match="E-TXFILE-002"):
        write_draft(path, DRAFT, registry(), replace=False)
    assert path.read_text() == "mine"


def test_what_a_file_says_of_itself_is_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, DRAFT)
    document = json.loads(path.read_text())
    assert document["reads"]["calls"][0]["arguments"]["amount"] == 5
    document["reads"]["calls"][0]["arguments"]["amount"] = 5_000_000
    path.write_text(json.dumps(document))
    assert read_draft(path) == DRAFT


def test_a_draft_reads_with_names_and_references() -> None:
    shown = draft_json(registry(), DRAFT.signed_by(BOB))
    assert shown["signed"] == [to_text(ACTORS[1])]
    assert shown["calls"][1] == {
        "actor": to_text(ACTORS[1]),
        "contract": "points",
        "method": "transfer",
        "arguments": {"programme": "milk", "to": to_text(ACTORS[0]), "amount": 7, "reference": "swap-1"},
    }


def test_an_unknown_method_is_shown_by_number() -> None:
    call = Call(0, "later", "do", (1, b"\x01", None))
    draft = draft_of(DRAFT.transaction._replace(calls=(call,)))
    assert draft_json(registry(), draft)["calls"][0]["arguments"] == {"0": "1", "1": "01", "2": "none"}


def test_the_hexadecimal_of_a_signed_transaction_is_a_file_too() -> None:
    signed = DRAFT.signed_by(ALICE).signed_by(BOB).complete()
    assert parse_draft(signed.raw.hex().encode() + b"\n", "it").complete() == signed


def document(**changes: Any) -> bytes:
    signed = DRAFT.signed_by(ALICE)
    whole = {
        "format": "troth transaction",
        "version": 1,
        "body": signed.body.hex(),
        "signatures": [
            {"actor": each.actor, "public_key": each.public_key.hex(), "signature": each.signature.hex()}
            for each in signed.signatures
        ],
    }
    return json.dumps({**whole, **changes}).encode()


def signature(**changes: Any) -> list[dict[str, Any]]:
    made: dict[str, Any] = json.loads(document())["signatures"][0]
    return [{**made, **changes}]


def test_the_file_that_the_refusals_change_is_good() -> None:
    assert parse_draft(document(), "it") == DRAFT.signed_by(ALICE)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E-CODEC-001"),
        (b"zz", "E-TXFILE-001"),
        (b"\xff", "E-TXFILE-001"),
        (b"{", "E-TXFILE-001"),
        (document(format="other"), "E-TXFILE-001"),
        (document(version=2), "E-TXFILE-001"),
        (document(body="00"), "E-TX-001"),
        (document(body=5), "E-TXFILE-001"),
        (document(body=DRAFT.body.hex() + "00"), "E-CODEC-001"),
        (document(signatures=None), "E-TXFILE-001"),
        (document(signatures=[5]), "E-TXFILE-001"),
        (document(signatures=signature(actor=2)), "E-TXFILE-001"),
        (document(signatures=signature(actor=1)), "E-TXFILE-001"),
        (document(signatures=signature(actor=True)), "E-TXFILE-001"),
        (document(signatures=signature(public_key=EVE.public.hex())), "E-TXFILE-001"),
        (document(signatures=signature(signature="00" * 64)), "E-TX-009"),
        (document(signatures=signature(signature="00")), "E-TX-009"),
    ],
)
def test_a_wrong_file_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_draft(data, "it")
    assert caught.value.code == code


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="E-TXFILE-002"):
        read_draft(tmp_path / "none.json")
