"""Block sync: how a node that has missed blocks gets them, and when it may say that it has caught up.

Rules kept here:
- nodes tell each other where their chains end: on connecting, and with each new block;
- blocks are asked for from one peer at a time, the one that says it has most; each is judged and its certificate
  checked by the consensus host before it is appended, so a peer can at most waste time;
- who claims a height and sends nothing, or nothing that follows, is not believed any more; a lie drops it;
- a node has caught up when it has heard from as many others as, with itself, make a quorum, and none that it believes
  is ahead. A node of a chain of one needs nobody.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from consensus.events import CaughtUp
from node.chain import Chain, Head
from node.consensus_host import ConsensusHost, Missed
from node.sync_messages import ANSWER_BYTES, BLOCKS_MAX, Blocks, Get, Status, decode, encode

PATIENCE_SECONDS = 5.0
"""How long a peer may take to answer before another is asked."""

GRACE_SECONDS = 0.4
"""How long a lag of one block is left to consensus, which mostly decides that block itself in a moment."""

FAR_BEHIND = 20
"""A lag of so many blocks takes the node out of consensus until it has caught up again."""


class Link(Protocol):
    """What sync needs of the peers."""

    def send_blocks(self, peer: bytes, message: bytes) -> bool:
        """Sends one peer a message about blocks."""

    def broadcast_blocks(self, message: bytes) -> None:
        """Sends all peers one."""

    def accuse(self, peer: bytes, cause: str) -> None:
        """Drops a peer for a lie."""


class _Asked(NamedTuple):
    peer: bytes
    first: int
    at: float


class Sync:
    """One node's side of it. `needed` is how many other nodes must be heard from, `least_height` what must be
    decided before this node may sign (see `node.service`).

    `heights` is where each peer says that its chain ends.
    """

    def __init__(self, chain: Chain, host: ConsensusHost, link: Link, needed: int, least_height: int = 0) -> None:
        self.chain = chain
        self._host = host
        self._link = link
        self.needed = needed
        self._least_height = least_height
        self.heights: dict[bytes, int] = {}
        self._asked: _Asked | None = None
        self._caught_up = False
        self._lags_since: float | None = None

    @property
    def caught_up(self) -> bool:
        """Whether the node stands where a quorum of nodes stand, as far as they say."""
        return self._caught_up

    @property
    def lag(self) -> int:
        """How many blocks the node lacks, as far as its peers say."""
        return max(max(self.heights.values(), default=0) - self.chain.head.height, 0)

    def connected(self, peer: bytes) -> None:
        """Tells a new peer where this chain ends."""
        self._link.send_blocks(peer, encode(self._status()))

    def disconnected(self, peer: bytes) -> None:
        """Forgets what a peer said."""
        self.heights.pop(peer, None)
        if self._asked is not None and self._asked.peer == peer:
            self._asked = None
        self.review()

    def received(self, peer: bytes, data: bytes) -> None:
        """Takes a message about blocks. Raises Invalid where it is none."""
        message = decode(data)
        if isinstance(message, Status):
            self.heights[peer] = message.height
            self.review()
        elif isinstance(message, Get):
            self._link.send_blocks(peer, encode(self._answer(message)))
        else:
            self._take(peer, message)

    def _answer(self, get: Get) -> Blocks:
        store = self.chain.store
        blocks, size = [], 0
        for height in range(max(get.first, 1), min(get.first + get.most, self.chain.head.height + 1)):
            data = store.block_bytes(height)
            blocks.append((data, store.certificate(height)))
            size += len(data)
            if size > ANSWER_BYTES - (1 << 20):
                break
        return Blocks(get.first, tuple(blocks))

    def _take(self, peer: bytes, blocks: Blocks) -> None:
        asked = self._asked
        if asked is None or (asked.peer, asked.first) != (peer, blocks.first):
            return
        if not blocks.blocks:
            self.took(peer, 0)
        else:
            self._asked = asked._replace(at=time.monotonic() + PATIENCE_SECONDS)  # judging takes its time
            self._host.put(Missed(peer, blocks.first, blocks.blocks))

    def took(self, peer: bytes, count: int) -> None:
        """Hears how many of the blocks that were asked for could be appended."""
        asked = self._asked
        if asked is None or asked.peer != peer:
            return
        self._asked = None
        if count == 0 and self.chain.head.height < asked.first:
            self.heights.pop(peer, None)
            self._link.accuse(peer, f"it claims blocks from height {asked.first} on, and has none that follow")
        self.review()

    def behind(self, peer: bytes, height: int) -> None:
        """Hears from consensus that a peer works on `height`, so it has the block before."""
        self.heights[peer] = max(self.heights.get(peer, 0), height - 1)
        self.review()

    def advanced(self, head: Head) -> None:
        """Tells the others of a new head."""
        self._link.broadcast_blocks(encode(self._status()))
        self.review()

    def review(self) -> None:
        """Asks for what is missing, and says whether the node has caught up. To be called a few times a second too."""
        now = time.monotonic()
        if self._asked is not None and now > self._asked.at + PATIENCE_SECONDS:
            self.heights.pop(self._asked.peer, None)  # it may say so again, and be asked again
            self._asked = None
        lag = self.lag
        if not lag:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = now
        heard = len(self.heights) >= self.needed and self.chain.head.height >= self._least_height
        caught_up = lag < FAR_BEHIND if self._caught_up else heard and not lag
        if caught_up != self._caught_up:
            self._caught_up = caught_up
            self._host.put(CaughtUp(caught_up))
        if self._asked is None and self._lags_since is not None:
            patient = self._caught_up and lag == 1 and now < self._lags_since + GRACE_SECONDS
            if not patient:
                self._ask(now)

    def _ask(self, now: float) -> None:
        peer = max(self.heights, key=lambda each: (self.heights[each], each))
        first = self.chain.head.height + 1
        self._asked = _Asked(peer, first, now)
        if not self._link.send_blocks(peer, encode(Get(first, BLOCKS_MAX))):
            self.heights.pop(peer, None)
            self._asked = None

    def _status(self) -> Status:
        head = self.chain.head
        return Status(head.height, head.block_id)
