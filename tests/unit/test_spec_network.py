"""The examples of docs/spec/network.md, made again from the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger import codec
from ledger.node_certificate import certificate_key
from node.network.bans import Reason
from node.network.frames import BYE, HELLO, PING, PONG, PROOF, Channel, frame
from node.network.handshake import Handshake, Network
from tests.networks import certificate, node_key
from tests.spec_examples import line_bytes

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "spec" / "network.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
FENCES = dict(re.findall(r"^```hex ([^\n]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
NETWORK = Network("dev-example", bytes(range(32)))


def _side(name: str, peer: str, address: str) -> Handshake:
    return Handshake(
        NETWORK,
        node_key(name),
        own_certificate=certificate(name),
        peer_certificate=certificate(peer),
        dialled=name == "alice",
        instance=(b"\xa1" if name == "alice" else b"\xb0") * 16,
        nonce=(b"\xa2" if name == "alice" else b"\xb1") * 32,
        address=address,
    )


def _made() -> dict[str, bytes]:
    alice, bob = _side("alice", "bob", "node.alice.example:8701"), _side("bob", "alice", ":8711")
    of_alice, of_bob = alice.receive_hello(bob.hello), bob.receive_hello(alice.hello)
    assert bob.receive_proof(of_alice).node == node_key("alice").public
    return {
        "certificate of alice": certificate("alice"),
        "HELLO of alice": frame(HELLO, alice.hello),
        "HELLO of bob": frame(HELLO, bob.hello),
        "PROOF of alice": frame(PROOF, of_alice),
        "PROOF of bob": frame(PROOF, of_bob),
        "PING": frame(PING, (1).to_bytes(8, "big")),
        "PONG": frame(PONG, (1).to_bytes(8, "big")),
        "BYE": frame(BYE, codec.encode(("banned", "flood: more than its rate for 10 s", 45))),
        "message": frame(Channel.TRANSACTIONS, b"\x90"),
    }


MADE = _made()


def test_the_document_has_these_examples() -> None:
    assert set(FENCES) == set(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_an_example_is_what_the_source_makes(name: str) -> None:
    shown = b"".join([line_bytes(line) for line in FENCES[name].splitlines()])
    assert shown.hex() == MADE[name].hex()


def test_the_certificate_reads_back() -> None:
    assert certificate_key(MADE["certificate of alice"]) == node_key("alice").public


def test_every_reason_and_its_ban_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|[^|\n]*\| ([^|\n]+) \|$", TEXT, re.MULTILINE))
    local = {Reason.LOST, Reason.TOLD}
    expected = {
        reason.word: f"{reason.ban_seconds} s" if reason.ban_seconds else "-"
        for reason in Reason
        if reason not in local
    }
    assert {word: ban.strip() for word, ban in rows.items()} == expected
