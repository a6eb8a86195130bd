from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from consensus import events
from consensus.messages import Kind, Vote
from consensus.messages import encode as encode_consensus
from ledger import codec
from ledger.errors import Fault, Invalid
from ledger.transaction import SignedTransaction, assemble
from node.consensus_host import ConsensusHost
from node.gossip import TOLD_AT_ONCE, messages
from node.gossip import decode as decode_gossip
from node.mempool import Limits, Mempool
from node.network.bans import Reason
from node.network.frames import Channel
from node.network.peers import Peers
from node.peering import GOSSIP_AT_ONCE, Peering
from node.submission import Submissions
from node.sync import Sync
from node.sync_messages import Get, Status
from node.sync_messages import decode as decode_sync
from node.sync_messages import encode as encode_sync
from node.verifier import WORKER_DIED, Verifier
from tests.chains import create, new_chain, signed, soon_ms
from tests.hosts import CountingVerifier, run

A, B = b"a" * 32, b"b" * 32
_VOTE = Vote(Kind.COMMIT, 1, 0, b"\1" * 32, b"\2" * 20, bytes(64))


class _GatedVerifier(CountingVerifier):
    """Verifies when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Fault | None = None

    async def check(self, checks: list[tuple[bytes, bytes, bytes]]) -> bytes:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().check(checks)


class _Node:
    """Peering between a chain, a mempool and a sync that are real, and a host and connections that only remember."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.chain = new_chain()
        self.verifier = _GatedVerifier()
        self.mempool = Mempool(limits or Limits(), self.chain.store.has_transaction, lambda identifier, error: None)
        self.submissions = Submissions(self.chain, self.mempool, cast("Verifier", self.verifier))
        self.peering = Peering(self.chain, self.submissions)
        self.host_inputs: list[Any] = []
        self.sent: list[tuple[bytes | None, Channel, bytes]] = []
        self.reported: list[tuple[bytes, Reason, str]] = []
        self.held: list[tuple[str, bytes]] = []
        self.connected: tuple[bytes, ...] = (A, B)
        self.sync = Sync(self.chain, cast("ConsensusHost", self), self.peering, 1)
        self.peering.join(cast("ConsensusHost", self), self.sync, cast("Peers", self))

    # ConsensusHost

    def put(self, event: Any) -> None:
        self.host_inputs.append(event)

    def received(self, peer: bytes, message: Any, size: int) -> None:
        self.host_inputs.append((peer, message, size))

    # Peers

    def send(self, peer: bytes, channel: Channel, message: bytes) -> bool:
        self.sent.append((peer, channel, message))
        return True

    def broadcast(self, channel: Channel, message: bytes) -> int:
        self.sent.append((None, channel, message))
        return len(self.connected)

    def report(self, peer: bytes, reason: Reason, detail: str) -> None:
        self.reported.append((peer, reason, detail))

    def hold(self, peer: bytes) -> None:
        self.held.append(("hold", peer))

    def release(self, peer: bytes) -> None:
        self.held.append(("release", peer))

    async def stop(self) -> None:
        self.held.append(("stop", b""))

    async def settle(self) -> None:
        """Lets all verification end."""
        while self.peering._tasks:
            await asyncio.gather(*self.peering._tasks, return_exceptions=True)


def _made(number: int = 0) -> SignedTransaction:
    return signed("roaster", create(f"programme-{number}"), valid_until_ms=soon_ms())


def _forged() -> SignedTransaction:
    made = _made()
    [right] = made.signatures
    return assemble(made.transaction, codec.encode(made.transaction), (right._replace(signature=bytes(64)),))


def test_a_peer_that_connects_is_told_what_it_may_have_missed() -> None:
    async def test() -> None:
        node = _Node()
        waiting = [_made(number) for number in range(3)]
        for each in waiting:
            node.mempool.add(each)
        node.peering.connected(A)
        (first, channel, status), (second, gossip, transactions) = node.sent
        assert first == second == A and (channel, gossip) == (Channel.BLOCKS, Channel.TRANSACTIONS)
        assert decode_sync(status) == Status(0, node.chain.head.block_id)
        assert decode_gossip(transactions) == [each.raw for each in waiting]
        assert events.Connected(A) in node.host_inputs  # the host sends its latest votes then

    run(test)


def test_it_is_told_of_so_many_transactions_and_not_more() -> None:
    async def test() -> None:
        node = _Node(Limits(sender_transactions=2 * TOLD_AT_ONCE))
        one = _made()
        for number in range(TOLD_AT_ONCE + 10):
            identifier = number.to_bytes(32, "big")
            node.mempool.add(one._replace(id=identifier, raw=identifier))
        node.peering.connected(A)
        told = [raw for _, channel, each in node.sent if channel is Channel.TRANSACTIONS for raw in decode_gossip(each)]
        assert len(told) == TOLD_AT_ONCE

    run(test)


def test_each_channel_goes_its_way() -> None:
    async def test() -> None:
        node = _Node()
        vote, status = encode_consensus(_VOTE), encode_sync(Status(0, b"\1" * 32))
        [gossip] = messages([_made().raw])
        node.peering.received(A, Channel.CONSENSUS, [vote, vote])
        node.peering.received(A, Channel.BLOCKS, [status, encode_sync(Get(1, 5))])
        node.peering.received(A, Channel.TRANSACTIONS, [gossip])
        await node.settle()
        assert node.host_inputs.count((A, _VOTE, len(vote))) == 2
        assert node.sync.heights == {A: 0}
        assert len(node.mempool) == 1 and node.reported == []
        node.peering.disconnected(A, Reason.LOST)
        assert node.sync.heights == {}

    run(test)


@pytest.mark.parametrize("channel", list(Channel))
def test_malformed_messages_are_raised_and_the_good_ones_before_them_count(channel: Channel) -> None:
    async def test() -> None:
        node = _Node()
        good = {
            Channel.CONSENSUS: encode_consensus(_VOTE),
            Channel.BLOCKS: encode_sync(Status(0, b"\1" * 32)),
            Channel.TRANSACTIONS: messages([_made().raw])[0],
        }[channel]
        with pytest.raises(Invalid):
            node.peering.received(A, channel, [good, b"\xc1"])
        await node.settle()
        assert any(type(each) is tuple for each in node.host_inputs) or node.sync.heights or len(node.mempool)

    run(test)


def test_gossip_of_a_peer_is_not_passed_on() -> None:
    async def test() -> None:
        node = _Node()
        told: list[list[SignedTransaction]] = []
        node.submissions.gossip = told.append
        [gossip] = messages([_made().raw])
        node.peering.received(A, Channel.TRANSACTIONS, [gossip])
        await node.settle()
        assert len(node.mempool) == 1 and told == []

    run(test)


@pytest.mark.parametrize(
    ("made", "accused"),
    [
        pytest.param(_forged, True, id="forged"),
        pytest.param(lambda: signed("roaster", create(), chain_id="other", valid_until_ms=soon_ms()), True, id="chain"),
        pytest.param(lambda: signed("roaster", create(), valid_until_ms=1), False, id="expired"),
        pytest.param(_made, False, id="good"),
    ],
)
def test_who_passes_on_what_no_honest_node_lets_in_is_accused(made: Any, accused: bool) -> None:
    async def test() -> None:
        node = _Node()
        [gossip] = messages([_made(9).raw, made().raw])
        node.peering.received(A, Channel.TRANSACTIONS, [gossip])
        await node.settle()
        assert [(peer, reason) for peer, reason, _ in node.reported] == [(A, Reason.INVALID)] * accused
        assert len(node.mempool) >= 1  # the good one of the same message is let in

    run(test)


def test_one_that_waits_already_is_no_offence() -> None:
    async def test() -> None:
        node = _Node()
        [gossip] = messages([_made().raw])
        for peer in (A, B):
            node.peering.received(peer, Channel.TRANSACTIONS, [gossip])
            await node.settle()
        assert node.reported == [] and len(node.mempool) == 1

    run(test)


def test_a_peer_with_too_much_under_verification_is_held() -> None:
    async def test() -> None:
        node = _Node()
        node.verifier.gate.clear()
        gossip = [messages([_made(number).raw])[0] for number in range(GOSSIP_AT_ONCE + 3)]
        node.peering.received(A, Channel.TRANSACTIONS, gossip[: GOSSIP_AT_ONCE - 1])
        assert node.held == []
        node.peering.received(A, Channel.TRANSACTIONS, gossip[GOSSIP_AT_ONCE - 1 : GOSSIP_AT_ONCE])
        assert node.held == [("hold", A)]
        node.peering.received(B, Channel.TRANSACTIONS, gossip[:1])  # the other is not held for it
        assert ("hold", B) not in node.held
        node.held.clear()
        node.peering.disconnected(A, Reason.LOST)
        node.peering.connected(A)  # a new connection is not held yet, and much of the old one is still under way
        node.peering.received(A, Channel.TRANSACTIONS, gossip[GOSSIP_AT_ONCE : GOSSIP_AT_ONCE + 1])
        assert node.held == [("hold", A)]
        node.verifier.gate.set()
        await node.settle()
        assert node.held == [("hold", A), ("release", A)]
        assert len(node.mempool) == GOSSIP_AT_ONCE + 1

    run(test)


def test_a_verifier_that_fails_is_said_elsewhere() -> None:
    async def test() -> None:
        node = _Node()
        node.verifier.fault = Fault(WORKER_DIED, "a worker has died")
        [gossip] = messages([_made().raw])
        node.peering.received(A, Channel.TRANSACTIONS, [gossip])
        await node.settle()
        assert node.reported == [] and len(node.mempool) == 0

    run(test)


def test_what_the_host_says_goes_to_the_peers() -> None:
    async def test() -> None:
        node = _Node()
        node.peering.broadcast(_VOTE)
        node.peering.send(B, _VOTE)
        node.peering.accuse(B, "it lies")
        vote = encode_consensus(_VOTE)
        assert node.sent == [(None, Channel.CONSENSUS, vote), (B, Channel.CONSENSUS, vote)]
        assert node.reported == [(B, Reason.INVALID, "it lies")]

    run(test)


def test_without_peers_nothing_is_sent() -> None:
    async def test() -> None:
        node = _Node()
        node.peering.join(cast("ConsensusHost", node), node.sync, None)
        node.peering.broadcast(_VOTE)
        node.peering.accuse(B, "it lies")
        node.peering.tell([_made()])
        assert not node.peering.send_blocks(A, b"status")
        assert node.sent == [] and node.reported == []
        node.peering.start()
        await node.peering.stop()

    run(test)


def test_stopping_ends_what_is_under_way() -> None:
    async def test() -> None:
        node = _Node()
        node.verifier.gate.clear()
        [gossip] = messages([_made().raw])
        node.peering.start()
        node.peering.received(A, Channel.TRANSACTIONS, [gossip])
        await node.peering.stop()
        assert ("stop", b"") in node.held and len(node.mempool) == 0

    run(test)
