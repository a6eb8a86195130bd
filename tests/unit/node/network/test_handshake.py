from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger import codec
from ledger.errors import Invalid, Refused
from ledger.node_address import Address
from node.network.bans import Reason
from node.network.frames import HANDSHAKE_LENGTHS, HELLO, PROOF
from node.network.handshake import (
    REASONS,
    Bond,
    Established,
    Handshake,
    Hello,
    Network,
    decode_hello,
    newer_wins,
)
from tests.networks import NETWORK, certificate, node_key

ALICE, BOB, MALLORY = [node_key(name).public for name in ("alice", "bob", "mallory")]


def side(name: str, peer: str, *, dialled: bool, nonce: bytes = b"", network: Network = NETWORK) -> Handshake:
    return Handshake(
        network,
        node_key(name),
        own_certificate=certificate(name),
        peer_certificate=certificate(peer),
        dialled=dialled,
        instance=name.encode().ljust(16, b"."),
        nonce=nonce or name.encode().ljust(32, b"."),
        address=f"{name}.example:8701",
    )


def pair(**alice: Any) -> tuple[Handshake, Handshake]:
    return side("alice", "bob", dialled=True, **alice), side("bob", "alice", dialled=False)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises((Invalid, Refused)) as caught:
        call()
    assert caught.value.cause and caught.value.fix
    return caught.value.code


def test_two_nodes_of_one_network_prove_themselves() -> None:
    alice, bob = pair()
    of_alice, of_bob = alice.receive_hello(bob.hello), bob.receive_hello(alice.hello)
    assert bob.receive_proof(of_alice) == Established(ALICE, 1, b"alice...........", Address("alice.example", 8701))
    assert alice.receive_proof(of_bob) == Established(BOB, 1, b"bob.............", Address("bob.example", 8701))


def test_messages_fit_their_frames() -> None:
    longest = Hello(2**32, 2**32, "c" * 32, bytes(32), bytes(32), bytes(16), bytes(32), "h" * 253 + ":65535")
    assert len(codec.encode(longest)) <= HANDSHAKE_LENGTHS[HELLO].most
    alice, bob = pair()
    assert len(alice.receive_hello(bob.hello)) == HANDSHAKE_LENGTHS[PROOF].most


@pytest.mark.parametrize(
    ("network", "code"),
    [
        (NETWORK._replace(chain_id="other-chain"), "E-PEER-005"),
        (NETWORK._replace(genesis_id=b"h" * 32), "E-PEER-005"),
        (NETWORK._replace(lowest=2, highest=3), "E-PEER-006"),
    ],
)
def test_both_sides_refuse_another_network(network: Network, code: str) -> None:
    alice, bob = pair(network=network)
    assert code_of(lambda: alice.receive_hello(bob.hello)) == code
    assert code_of(lambda: bob.receive_hello(alice.hello)) == code


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"), [((1, 1), (1, 3), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((4, 4), (4, 4), 4)]
)
def test_the_highest_common_version_is_spoken(ours: tuple[int, int], theirs: tuple[int, int], spoken: int) -> None:
    alice = side("alice", "bob", dialled=True, network=NETWORK._replace(lowest=ours[0], highest=ours[1]))
    bob = side("bob", "alice", dialled=False, network=NETWORK._replace(lowest=theirs[0], highest=theirs[1]))
    of_alice, of_bob = alice.receive_hello(bob.hello), bob.receive_hello(alice.hello)
    assert alice.receive_proof(of_bob).version == bob.receive_proof(of_alice).version == spoken


def test_a_node_may_not_say_that_it_is_another_than_its_certificate() -> None:
    bob = side("bob", "mallory", dialled=False)
    assert code_of(lambda: bob.receive_hello(side("alice", "bob", dialled=True).hello)) == "E-PEER-007"


def test_our_own_key_at_the_other_end_is_refused() -> None:
    mirror = side("bob", "bob", dialled=True)
    assert code_of(lambda: mirror.receive_hello(mirror.hello)) == "E-PEER-007"


def test_a_proof_of_an_earlier_connection_proves_nothing() -> None:
    alice, bob = pair()
    recorded_hello, recorded_proof = alice.hello, alice.receive_hello(bob.hello)
    bob.receive_hello(recorded_hello)
    bob.receive_proof(recorded_proof)

    again = side("bob", "alice", dialled=False, nonce=b"another nonce".ljust(32, b"."))
    again.receive_hello(recorded_hello)
    assert code_of(lambda: again.receive_proof(recorded_proof)) == "E-PEER-007"


def test_our_own_proof_thrown_back_proves_nothing() -> None:
    alice, bob = pair()
    mine = alice.receive_hello(bob.hello)
    assert code_of(lambda: alice.receive_proof(mine)) == "E-PEER-007"


def test_a_proof_for_another_connection_cannot_be_carried_over() -> None:
    # Mallory, registered too, stands between: it shows its own certificate to both and passes on what they say.
    to_mallory, from_mallory = side("alice", "mallory", dialled=True), side("bob", "mallory", dialled=False)
    assert code_of(lambda: from_mallory.receive_hello(to_mallory.hello)) == "E-PEER-007"
    # With a HELLO of its own it gets further, and then has Alice's signature only for its own certificate.
    mallory = side("mallory", "bob", dialled=True)
    from_mallory.receive_hello(mallory.hello)
    proof_of_alice = to_mallory.receive_hello(side("mallory", "alice", dialled=False).hello)
    assert code_of(lambda: from_mallory.receive_proof(proof_of_alice)) == "E-PEER-007"


@pytest.mark.parametrize("proof", [b"", bytes(64), bytes(63), bytes(65)])
def test_what_is_no_signature_is_refused(proof: bytes) -> None:
    alice, bob = pair()
    alice.receive_hello(bob.hello)
    assert code_of(lambda: alice.receive_proof(proof)) == "E-PEER-007"


def test_messages_out_of_turn_are_refused() -> None:
    alice, bob = pair()
    assert code_of(lambda: alice.receive_proof(bytes(64))) == "E-PEER-008"
    alice.receive_hello(bob.hello)
    assert code_of(lambda: alice.receive_hello(bob.hello)) == "E-PEER-008"


GOOD = Hello(1, 1, "test-chain", bytes(32), ALICE, bytes(16), bytes(32), ":8701")


def test_a_later_version_may_say_more() -> None:
    assert decode_hello(codec.encode((*GOOD, "more", (1, 2)))) == GOOD


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        tuple(GOOD[:-1]),
        GOOD._replace(lowest=0),
        GOOD._replace(lowest=2),
        GOOD._replace(lowest=True),
        GOOD._replace(highest="1"),  # type: ignore[arg-type]
        GOOD._replace(chain_id=b"test-chain"),  # type: ignore[arg-type]
        GOOD._replace(genesis_id=bytes(31)),
        GOOD._replace(node=bytes(33)),
        GOOD._replace(node="n" * 32),  # type: ignore[arg-type]
        GOOD._replace(instance=b""),
        GOOD._replace(nonce=bytes(16)),
        GOOD._replace(address=None),  # type: ignore[arg-type]
        GOOD._replace(address="nowhere"),
        GOOD._replace(address="h" * 254 + ":8701"),
    ],
)
def test_what_is_no_hello_is_refused(value: Any) -> None:
    assert code_of(lambda: decode_hello(codec.encode(value))) == "E-PEER-004"


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"GET / HTTP/1.1\r\n", codec.encode(GOOD)[:-1], bytes(2_000)])
def test_what_is_not_even_the_codec_s_is_refused(raw: bytes) -> None:
    assert code_of(lambda: decode_hello(raw)) == "E-PEER-004"


def test_every_refusal_of_a_handshake_has_a_reason_that_bans() -> None:
    codes = {f"E-PEER-{number:03}" for number in (4, 5, 6, 7, 8)}
    assert set(REASONS) == codes
    assert all(reason.ban_seconds > 0 for reason in REASONS.values())
    assert REASONS["E-PEER-007"] is Reason.WRONG_IDENTITY


SMALL, GREAT = b"\1" * 32, b"\2" * 32
ONE, TWO = b"1" * 16, b"2" * 16


@pytest.mark.parametrize(
    ("own", "peer", "older", "newer", "wins"),
    [
        (SMALL, GREAT, Bond(True, ONE), Bond(False, TWO), True),  # the peer was restarted
        (GREAT, SMALL, Bond(False, ONE), Bond(True, TWO), True),
        (SMALL, GREAT, Bond(True, ONE), Bond(True, ONE), True),  # dialled again: the first was lost
        (GREAT, SMALL, Bond(False, ONE), Bond(False, ONE), True),
        (SMALL, GREAT, Bond(True, ONE), Bond(False, ONE), False),  # both dialled at once
        (SMALL, GREAT, Bond(False, ONE), Bond(True, ONE), True),
        (GREAT, SMALL, Bond(True, ONE), Bond(False, ONE), True),
        (GREAT, SMALL, Bond(False, ONE), Bond(True, ONE), False),
    ],
)
def test_which_of_two_connections_stays(own: bytes, peer: bytes, older: Bond, newer: Bond, wins: bool) -> None:
    assert newer_wins(own, peer, older, newer) is wins


@pytest.mark.parametrize("first_dialled_by_small", [True, False])
def test_both_sides_keep_the_same_connection(first_dialled_by_small: bool) -> None:
    # Each side may see the two connections finished in either order.
    kept = set()
    for own, peer in ((SMALL, GREAT), (GREAT, SMALL)):
        for order in (True, False):
            first = first_dialled_by_small == order
            by_small = [first, not first]
            bonds = [Bond(small == (own == SMALL), ONE) for small in by_small]
            kept.add(by_small[newer_wins(own, peer, *bonds)])
    assert kept == {True}
