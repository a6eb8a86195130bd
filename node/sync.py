"""Block sync: how a node that has missed blocks gets them, and when it may say that it has caught up.

Rules kept here:
- nodes tell each other where their chains end: on connecting, and with each new block;
- blocks are asked for from one peer at a time, the one that says it has most; each is judged and its certificate
  checked by the consensus host before it is appended, so a peer can at most waste time;
- who claims a height and sends nothing is asked after all others, for fewer blocks and with more patience, and is not
  asked at all for a while; after `TRIES` in a row it is dropped. Who sends what does not follow is dropped at once;
- a height is believed when more than F peers claim it, so that an honest one does: what F of them invent can neither
  keep a node from catching up nor take it out of consensus (CVE-2025-24371 was such a lie);
- a node has caught up when as many others as, with itself, make a quorum say that they are no further than it is. A
  node of a chain of one needs nobody;
- a peer gets so many answers a second: who asks for more is not answered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from consensus.events import CaughtUp
from consensus.quorum import faulty
from node.chain import Chain, Head
from node.consensus_host import ConsensusHost, Missed
from node.network.meter import Bucket
from node.sync_messages import ANSWER_BYTES, BLOCKS_MAX, Blocks, Get, Status, decode, encode

PATIENCE_SECONDS = 5.0
"""How long a peer may take to answer before another is asked; twice as long after each failure in a row."""

TRIES = 3
"""After so many failures in a row a peer is dropped."""

ANSWERS_PER_SECOND = 10
ANSWERS_AT_ONCE = 20
"""Answers that a peer gets. An honest one asks for the next blocks when it has appended the last."""

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
    until: float


class _Failures(NamedTuple):
    times: int
    until: float
    """When the peer may be asked again."""


_NONE = _Failures(0, -math.inf)


class Sync:
    """One node's side of it. `needed` is how many other nodes make a quorum with this one, `least_height` what must be
    decided before this node may sign (see `node.service`); `clock` gives seconds and never goes back.

    `heights` is where each peer says that its chain ends.
    """

    def __init__(
        self,
        chain: Chain,
        host: ConsensusHost,
        link: Link,
        needed: int,
        least_height: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain = chain
        self._host = host
        self._link = link
        self.needed = needed
        self._least_height = least_height
        self._clock = clock
        self.heights: dict[bytes, int] = {}
        self._asked: _Asked | None = None
        self._failures: dict[bytes, _Failures] = {}
        self._answers: dict[bytes, Bucket] = {}
        self._caught_up = False
        self._lags_since: float | None = None

    @property
    def caught_up(self) -> bool:
        """Whether the node stands where a quorum of nodes stand, as far as they say."""
        return self._caught_up

    @property
    def lag(self) -> int:
        """How many blocks the node lacks, as far as it believes its peers."""
        claims = sorted(self.heights.values(), reverse=True)
        doubted = faulty(len(self.chain.validators))
        return max(claims[doubted] - self.chain.head.height, 0) if len(claims) > doubted else 0

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
            answers = self._answers.setdefault(peer, Bucket(ANSWERS_PER_SECOND, ANSWERS_AT_ONCE, self._clock()))
            answers.refill(self._clock())
            if answers.level >= 1:
                answers.take(1, self._clock())
                self._link.send_blocks(peer, encode(self._answer(message)))
        else:
            self._take(peer, message)

    def _answer(self, get: Get) -> Blocks:
        store = self.chain.store
        blocks, size = [], 0
        for height in range(get.first, min(get.first + get.most, self.chain.head.height + 1)):
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
            self._asked = asked._replace(until=math.inf)  # judging takes its time, and ends in `took`
            self._host.put(Missed(peer, blocks.first, blocks.blocks))

    def took(self, peer: bytes, count: int) -> None:
        """Hears how many of the blocks that were asked for could be appended."""
        asked = self._asked
        if asked is None or asked.peer != peer:
            return
        self._asked = None
        if count:
            self._failures.pop(peer, None)
        elif self.chain.head.height < asked.first:
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
        now = self._clock()
        if self._asked is not None and now > self._asked.until:
            self._fail(self._asked, now)
        head = self.chain.head.height
        ahead = [peer for peer, height in self.heights.items() if height > head and self._may_be_asked(peer, now)]
        if not ahead:
            self._lags_since = None
        elif self._lags_since is None:
            self._lags_since = now
        level = sum(height <= head for height in self.heights.values()) >= self.needed and not self.lag
        caught_up = self.lag < FAR_BEHIND if self._caught_up else level and head >= self._least_height
        if caught_up != self._caught_up:
            self._caught_up = caught_up
            self._host.put(CaughtUp(caught_up))
        if self._asked is None and self._lags_since is not None:
            far = any(self.heights[peer] > head + 1 for peer in ahead)
            if far or not self._caught_up or now >= self._lags_since + GRACE_SECONDS:
                self._ask(ahead, now)

    def _may_be_asked(self, peer: bytes, now: float) -> bool:
        return now >= self._failures.get(peer, _NONE).until

    def _fail(self, asked: _Asked, now: float) -> None:
        """A peer has not answered in time."""
        self._asked = None
        count = self._failures.get(asked.peer, _NONE).times + 1
        if count >= TRIES:
            self._failures.pop(asked.peer, None)
            claimed = self.heights.pop(asked.peer, 0)
            self._link.accuse(asked.peer, f"it claims height {claimed}, and has sent nothing {count} times")
        else:
            self._failures[asked.peer] = _Failures(count, now + PATIENCE_SECONDS * 2**count)

    def _ask(self, ahead: list[bytes], now: float) -> None:
        def order(peer: bytes) -> tuple[int, int, bytes]:
            return -self._failures.get(peer, _NONE).times, self.heights[peer], peer

        peer = max(ahead, key=order)
        first, count = self.chain.head.height + 1, self._failures.get(peer, _NONE).times
        # What was too slow may have been too much.
        message = encode(Get(first, max(BLOCKS_MAX >> 3 * count, 1)))
        if self._link.send_blocks(peer, message):
            self._asked = _Asked(peer, first, now + PATIENCE_SECONDS * 2**count)
        else:
            self.heights.pop(peer, None)

    def _status(self) -> Status:
        head = self.chain.head
        return Status(head.height, head.block_id)
