"""What a node does with its peers: votes to the consensus host, blocks to sync, transactions to the mempool, and back.

    Peers (connections) <-> Peering <-> ConsensusHost, Sync, Gossip

A chain whose genesis names no nodes has no peers: then nothing is sent and nothing comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from consensus.events import Connected
from consensus.evidence import DoubleSign
from consensus.messages import Message
from consensus.messages import decode as decode_consensus
from consensus.messages import encode as encode_consensus
from ledger.errors import Fault, TrothError
from ledger.transaction import BAD_SIGNATURE, WRONG_CHAIN, SignedTransaction
from node.chain import Chain, Head
from node.gossip import TOLD_AT_ONCE, Gossip, messages
from node.gossip import decode as decode_gossip
from node.log import logger
from node.network.bans import Reason
from node.network.frames import Channel
from node.sync import Sync

if TYPE_CHECKING:
    from node.consensus_host import ConsensusHost
    from node.network.peers import Peers
    from node.submission import Submissions

REVIEW_SECONDS = 0.2

GOSSIP_AT_ONCE = 8
"""Gossip messages of one peer that are being verified at a time; while there are more, nothing is read from it."""


class Peering:
    """Implements `node.network.peers.Handler`, `node.consensus_host.Network` and `node.sync.Link`."""

    def __init__(self, chain: Chain, submissions: Submissions) -> None:
        self.peers: Peers | None = None
        self.gossip = Gossip(lambda message: self._broadcast(Channel.TRANSACTIONS, message))
        self._chain = chain
        self._submissions = submissions
        self._host: ConsensusHost | None = None
        self._sync: Sync | None = None
        self._log = logger()
        self._verifying: dict[bytes, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reviewing: asyncio.Task[None] | None = None

    def join(self, host: ConsensusHost, sync: Sync, peers: Peers | None) -> None:
        """Names the others, which are made with this object in hand."""
        self._host, self._sync, self.peers = host, sync, peers

    def start(self) -> None:
        """Begins to review, now and then a few times a second, whether blocks are missing."""
        assert self._sync is not None
        self._sync.review()
        self._reviewing = asyncio.create_task(self._review())

    async def stop(self) -> None:
        """Ends all connections."""
        self.gossip.close()
        for task in [*self._tasks, *([self._reviewing] if self._reviewing else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.peers is not None:
            await self.peers.stop()

    async def _review(self) -> None:
        assert self._sync is not None
        while True:
            self._sync.review()
            await asyncio.sleep(REVIEW_SECONDS)

    # From the peers (node.network.peers.Handler)

    def connected(self, peer: bytes) -> None:
        """Tells a peer what it may have missed: the end of this chain, what waits here, the validator's votes."""
        assert self._sync is not None
        assert self._host is not None
        self._sync.connected(peer)
        waiting = []
        for number, signed in enumerate(self._submissions.mempool.candidates()):
            if number >= TOLD_AT_ONCE:
                break
            waiting.append(signed.raw)
        for message in messages(waiting):
            self._send(peer, Channel.TRANSACTIONS, message)
        self._host.put(Connected(peer))

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        """Forgets what the peer said."""
        assert self._sync is not None
        self._sync.disconnected(peer)

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        """Takes a peer's messages. Raises Invalid for malformed ones, which drops and bans the peer."""
        assert self._sync is not None
        assert self._host is not None
        for message in messages:
            if channel is Channel.CONSENSUS:
                self._host.received(peer, decode_consensus(message), len(message))
            elif channel is Channel.BLOCKS:
                self._sync.received(peer, message)
            else:
                self._take_gossip(peer, decode_gossip(message))

    def _take_gossip(self, peer: bytes, raws: list[bytes]) -> None:
        self._verifying[peer] = self._verifying.get(peer, 0) + 1
        if self._verifying[peer] >= GOSSIP_AT_ONCE and self.peers is not None:  # a new connection is never held yet
            self.peers.hold(peer)
        task = asyncio.create_task(self._verify_gossip(peer, raws))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _verify_gossip(self, peer: bytes, raws: list[bytes]) -> None:
        try:
            outcomes = await self._submissions.submit(raws, from_peer=True)
            forged = [outcome.error for outcome in outcomes if _is_forged(outcome.error)]
            if forged and forged[0] is not None:
                self.accuse(peer, f"gossip: {forged[0].cause}")
        except Fault as error:
            self._log.debug("gossip not verified", cause=error.cause)  # the node is stopping, and says why elsewhere
        finally:
            self._verifying[peer] -= 1
            if self._verifying[peer] == GOSSIP_AT_ONCE - 1 and self.peers is not None:
                self.peers.release(peer)

    # For the consensus host (node.consensus_host.Network)

    def broadcast(self, message: Message) -> None:
        """Sends a consensus message to all peers."""
        if self.peers is not None and self.peers.connected:
            self._broadcast(Channel.CONSENSUS, encode_consensus(message))

    def send(self, peer: bytes, message: Message) -> None:
        """Sends one to one peer."""
        self._send(peer, Channel.CONSENSUS, encode_consensus(message))

    def behind(self, peer: bytes, height: int) -> None:
        """Passes on that a peer is ahead."""
        if self._sync is not None:
            self._sync.behind(peer, height)

    def took(self, peer: bytes, count: int) -> None:
        """Passes on how many blocks of a peer could be appended."""
        if self._sync is not None:
            self._sync.took(peer, count)

    def advanced(self, head: Head) -> None:
        """Passes on that the chain has a new head."""
        if self._sync is not None:
            self._sync.advanced(head)

    def evidence(self, double_sign: DoubleSign) -> None:
        """Keeps evidence of double signing."""
        self._chain.store.keep_evidence(double_sign)

    def accuse(self, peer: bytes, cause: str) -> None:
        """Drops and bans a peer for what it sent. The node itself may be named, by its own messages: that is a bug."""
        self._log.warning("a peer is dropped", peer=peer.hex(), cause=cause)
        if self.peers is not None:
            self.peers.report(peer, Reason.INVALID, cause)

    # For sync (node.sync.Link) and gossip

    def send_blocks(self, peer: bytes, message: bytes) -> bool:
        """Sends one peer a message about blocks."""
        return self._send(peer, Channel.BLOCKS, message)

    def broadcast_blocks(self, message: bytes) -> None:
        """Sends all peers one."""
        self._broadcast(Channel.BLOCKS, message)

    def tell(self, signed: list[SignedTransaction]) -> None:
        """Tells the peers of transactions that this node has let in."""
        if self.peers is not None:
            self.gossip.add(signed)

    def _broadcast(self, channel: Channel, message: bytes) -> None:
        if self.peers is not None:
            self.peers.broadcast(channel, message)

    def _send(self, peer: bytes, channel: Channel, message: bytes) -> bool:
        return self.peers is not None and self.peers.send(peer, channel, message)


def _is_forged(error: TrothError | None) -> bool:
    """Whether no honest node would have let it in, to pass it on. What expired, or waits already, it may well have."""
    return error is not None and error.code in (BAD_SIGNATURE, WRONG_CHAIN)
