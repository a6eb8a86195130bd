from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.errors import Invalid
from ledger.genesis import Node
from ledger.node_address import Address
from node.network.bans import Reason
from node.network.frames import Channel
from node.network.peers import Peers, RegisteredNode, registered_nodes
from tests.networks import NETWORK, QUICK, Recorder, certificate, identity, node_key


class _Hands:
    """A clock and random numbers that stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.number = 0.0


@pytest.fixture
def hands() -> _Hands:
    return _Hands()


@pytest.fixture
def peers(tmp_path: Path, hands: _Hands) -> Iterator[Peers]:
    made = Peers(
        identity(tmp_path, "own"),
        NETWORK,
        Recorder(),
        QUICK._replace(backoff_seconds=1.0, backoff_most_seconds=10.0),
        clock=lambda: hands.seconds,
        uniform=lambda: hands.number,
        entropy=bytes,
    )
    made.register([RegisteredNode("org-own", certificate("own")), _node("b"), _node("c")])
    yield made


def _node(name: str) -> RegisteredNode:
    return RegisteredNode(f"org-{name}", certificate(name), (Address("192.0.2.1", 8701),))


def test_registered_nodes_are_known_and_this_one_is_no_peer_of_itself(peers: Peers) -> None:
    assert {status.organisation for status in peers.status()} == {"org-b", "org-c"}
    assert [status.node for status in peers.status()] == sorted(node_key(name).public for name in ("b", "c"))
    assert peers.connected == () and peers.buffered_bytes == 0 and peers.strangers == (0, 0, 0)


def test_who_is_not_connected_is_sent_nothing(peers: Peers) -> None:
    assert peers.broadcast(Channel.CONSENSUS, b"x") == 0
    assert not peers.send(node_key("b").public, Channel.CONSENSUS, b"x")
    for message in (b"", bytes(QUICK.lengths[Channel.TRANSACTIONS].most + 1)):
        with pytest.raises(Invalid) as caught:
            peers.broadcast(Channel.TRANSACTIONS, message)
        assert caught.value.code == "E-PEER-011"


def test_a_bad_registration_changes_nothing(peers: Peers) -> None:
    before = peers.status()
    with pytest.raises(Invalid):
        peers.register([_node("d"), RegisteredNode("org-bad", b"no certificate")])
    assert peers.status() == before


def test_reports_ban_with_reason_and_end_and_unregistering_forgets(peers: Peers, hands: _Hands) -> None:
    b, c = node_key("b").public, node_key("c").public
    peers.report(b, Reason.LIE, "a height")
    peers.report(c, Reason.SILENT, "no answer")
    peers.report(node_key("stranger").public, Reason.LIE, "")
    bans = {status.node: status.ban for status in peers.status()}
    assert bans[c] is None
    assert bans[b] == (Reason.LIE, "a height", 50.0, 650.0)
    hands.seconds = 650.0
    assert all(status.ban is None for status in peers.status())
    peers.report(b, Reason.LIE, "again")
    peers.register([_node("c")])
    peers.register([_node("b"), _node("c")])
    assert all(status.ban is None for status in peers.status())


def test_a_banned_node_is_not_dialled(peers: Peers, hands: _Hands) -> None:
    async def main() -> int:
        hands.seconds += 100.0
        peers.report(node_key("b").public, Reason.LIE, "a height")
        peers.tick()
        dialling = len(asyncio.all_tasks()) - 1
        await peers.stop()
        return dialling

    assert asyncio.run(main()) == 1  # c alone


@pytest.mark.parametrize(
    ("failures", "number", "seconds"),
    [
        (0, 0.0, 0.5),
        (0, 1.0, 1.0),
        (1, 1.0, 2.0),
        (2, 0.5, 3.0),
        (3, 1.0, 8.0),
        (4, 1.0, 10.0),
        (4, 0.0, 5.0),
        (999, 1.0, 10.0),
    ],
)
def test_intervals_grow_to_a_bound_and_are_never_quite_regular(
    peers: Peers, hands: _Hands, failures: int, number: float, seconds: float
) -> None:
    hands.number = number
    assert peers.backoff(failures) == seconds


def test_the_nodes_of_a_genesis_document_become_registered_nodes() -> None:
    named = [
        Node("org-b", certificate("b"), ("node.example:8701", "[2001:db8::1]:9")),
        Node("org-c", certificate("c"), ()),
    ]
    assert registered_nodes(named) == [
        RegisteredNode("org-b", certificate("b"), (Address("node.example", 8701), Address("2001:db8::1", 9))),
        RegisteredNode("org-c", certificate("c")),
    ]
    with pytest.raises(Invalid) as caught:
        registered_nodes([Node("org-b", certificate("b"), ("nowhere",))])
    assert caught.value.code == "E-PEER-012"
