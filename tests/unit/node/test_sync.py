from __future__ import annotations

from typing import Any, cast

import pytest

from consensus.events import CaughtUp
from consensus.quorum import quorum
from ledger.errors import Invalid
from node.chain import Chain, Head
from node.consensus_host import ConsensusHost, Missed
from node.ledger_store import LedgerStore
from node.sync import (
    ANSWERS_AT_ONCE,
    ANSWERS_PER_SECOND,
    FAR_BEHIND,
    GRACE_SECONDS,
    PATIENCE_SECONDS,
    TRIES,
    Sync,
)
from node.sync_messages import ANSWER_BYTES, BLOCKS_MAX, Blocks, Get, Status, SyncMessage, decode, encode
from tests.chains import genesis, new_chain, propose, seal, validator
from tests.hosts import NAMES

A, B, C, D = [letter * 32 for letter in (b"a", b"b", b"c", b"d")]
_ID = b"\1" * 32


class _Node:
    """A node's sync on a chain of four validators in memory, at a height; remembers what it said to whom."""

    def __init__(self, height: int = 0, *, count: int = 4, least_height: int = 0) -> None:
        self.chain = new_chain(agreed=genesis(validators=[validator(name) for name in NAMES[:count]]))
        self.now = 100.0
        self.put_in: list[Any] = []
        self.sent: list[tuple[bytes, SyncMessage]] = []
        self.told: list[SyncMessage] = []
        self.accused: list[tuple[bytes, str]] = []
        self.gone: set[bytes] = set()
        self.sync = Sync(
            self.chain,
            cast("ConsensusHost", self),
            self,
            quorum(count) - 1,
            least_height,
            clock=lambda: self.now,
        )
        self.grow(height)

    def grow(self, count: int = 1) -> None:
        """So many blocks more, without telling."""
        for _ in range(count):
            _extend(self.chain)

    def put(self, event: Any) -> None:
        self.put_in.append(event)

    def send_blocks(self, peer: bytes, message: bytes) -> bool:
        if peer in self.gone:
            return False
        self.sent.append((peer, decode(message)))
        return True

    def broadcast_blocks(self, message: bytes) -> None:
        self.told.append(decode(message))

    def accuse(self, peer: bytes, cause: str) -> None:
        self.accused.append((peer, cause))

    def hear(self, peer: bytes, message: SyncMessage) -> None:
        """A message arrives."""
        self.sync.received(peer, encode(message))

    def claim(self, peer: bytes, height: int) -> None:
        """A peer says where its chain ends."""
        self.hear(peer, Status(height, _ID))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.sync.review()

    def asked(self) -> list[tuple[bytes, int, int]]:
        """Whom it has asked since the last time: peer, from where, how many."""
        found = [(peer, each.first, each.most) for peer, each in self.sent if isinstance(each, Get)]
        self.sent.clear()
        return found


def _extend(chain: Chain) -> Head:
    candidate = propose(chain)
    return chain.append(candidate, seal(candidate, *NAMES[: len(chain.validators)]))


def _blocks(node: _Node, first: int, count: int) -> Blocks:
    """Blocks from a height that a peer would send; they need not be right here."""
    other = new_chain(agreed=node.chain.genesis)
    while other.head.height < first + count - 1:
        _extend(other)
    store = other.store
    return Blocks(
        first, tuple([(store.block_bytes(height), store.certificate(height)) for height in range(first, first + count)])
    )


# Catching up


def test_a_chain_of_one_needs_nobody() -> None:
    node = _Node(count=1)
    node.sync.review()
    assert node.sync.caught_up and node.put_in == [CaughtUp(True)]


def test_a_node_has_caught_up_when_a_quorum_stands_where_it_stands() -> None:
    node = _Node(3)
    node.sync.review()
    node.claim(A, 3)
    assert not node.sync.caught_up
    node.claim(B, 3)
    assert node.sync.caught_up and node.put_in == [CaughtUp(True)]
    node.claim(C, 3)
    node.sync.review()
    assert node.put_in == [CaughtUp(True)]  # said once


def test_peers_that_are_behind_count_too() -> None:
    node = _Node(3)
    node.claim(A, 0)
    node.claim(B, 2)
    assert node.sync.caught_up


def test_a_node_that_lags_has_not_caught_up() -> None:
    node = _Node(3)
    node.claim(A, 4)
    node.claim(B, 4)
    assert not node.sync.caught_up and node.sync.lag == 1
    node.grow()
    node.sync.advanced(node.chain.head)
    assert node.sync.caught_up and node.sync.lag == 0


def test_what_must_be_decided_first_is_waited_for() -> None:
    node = _Node(3, least_height=4)
    node.claim(A, 3)
    node.claim(B, 3)
    assert not node.sync.caught_up
    node.grow()
    node.sync.advanced(node.chain.head)
    assert node.sync.caught_up


def test_far_behind_it_leaves_consensus_and_comes_back() -> None:
    node = _Node(1)
    node.claim(A, 1)
    node.claim(B, 1)
    node.claim(A, FAR_BEHIND)
    node.claim(B, FAR_BEHIND)
    assert node.sync.caught_up  # a lag of fewer is made up for on the way
    node.claim(A, 1 + FAR_BEHIND)
    node.claim(B, 1 + FAR_BEHIND)
    assert not node.sync.caught_up
    node.grow(FAR_BEHIND)
    node.sync.review()
    assert node.put_in == [CaughtUp(True), CaughtUp(False), CaughtUp(True)]


def test_peers_that_leave_do_not_take_it_out() -> None:
    node = _Node(1)
    for peer in (A, B, C):
        node.claim(peer, 1)
    for peer in (A, B, C):
        node.sync.disconnected(peer)
    assert node.sync.caught_up and node.sync.heights == {}


@pytest.mark.parametrize("height", [10**9, (1 << 40) - 1])
def test_one_liar_neither_keeps_a_node_out_nor_takes_it_out(height: int) -> None:
    node = _Node(3)
    node.claim(C, height)
    node.claim(A, 3)
    assert not node.sync.caught_up and node.sync.lag == 0  # nobody is believed alone, the liar neither
    node.claim(B, 3)
    assert node.sync.caught_up
    for _ in range(200):
        node.claim(C, height)
        node.wait(0.2)
        assert node.sync.caught_up
    assert node.put_in == [CaughtUp(True)]


def test_two_of_four_are_believed() -> None:
    node = _Node(3)
    node.claim(A, 3)
    node.claim(B, 3)
    node.claim(C, 50)
    node.claim(B, 40)
    assert node.sync.lag == 37 and not node.sync.caught_up


# Asking


def test_a_node_that_lags_asks_the_one_that_says_it_has_most() -> None:
    node = _Node(3)
    node.claim(A, 10)
    assert node.asked() == [(A, 4, BLOCKS_MAX)]
    node.claim(B, 20)
    assert node.asked() == []  # one at a time
    node.hear(A, _blocks(node, 4, 2))
    assert [(each.peer, each.first, len(each.blocks)) for each in node.put_in if isinstance(each, Missed)] == [
        (A, 4, 2)
    ]
    node.grow(2)
    node.sync.took(A, 2)
    assert node.asked() == [(B, 6, BLOCKS_MAX)]


def test_a_lag_of_one_block_is_left_to_consensus_for_a_moment() -> None:
    node = _Node(3)
    node.claim(A, 3)
    node.claim(B, 3)
    node.claim(A, 4)
    node.wait(GRACE_SECONDS / 2)
    assert node.asked() == []
    node.wait(GRACE_SECONDS)
    assert node.asked() == [(A, 4, BLOCKS_MAX)]


def test_a_lag_that_consensus_has_made_up_for_is_not_asked_for() -> None:
    node = _Node(3)
    node.claim(A, 3)
    node.claim(B, 3)
    for height in (4, 5, 6):
        node.claim(A, height)
        node.wait(GRACE_SECONDS * 0.7)
        node.grow()
        node.sync.advanced(node.chain.head)
    assert node.asked() == []


def test_consensus_that_hears_of_a_later_height_counts_as_a_claim() -> None:
    node = _Node(3)
    node.sync.behind(A, 9)
    assert node.sync.heights == {A: 8} and node.asked() == [(A, 4, BLOCKS_MAX)]
    node.sync.behind(A, 5)
    assert node.sync.heights == {A: 8}


def test_answers_that_were_not_asked_for_are_ignored() -> None:
    node = _Node(3)
    node.hear(A, _blocks(node, 4, 1))
    node.claim(A, 10)
    node.hear(B, _blocks(node, 4, 1))
    node.hear(A, _blocks(node, 5, 1))
    assert [each for each in node.put_in if isinstance(each, Missed)] == []


def test_judging_may_take_any_time() -> None:
    node = _Node(3)
    node.claim(A, 10)
    node.claim(B, 10)
    [(first, _, _)] = node.asked()
    node.hear(first, _blocks(node, 4, 2))
    node.wait(100 * PATIENCE_SECONDS)
    assert node.asked() == [] and node.accused == []
    node.grow(2)
    node.sync.took(first, 2)
    assert len(node.asked()) == 1


def test_who_is_gone_when_it_is_asked_is_asked_no_more() -> None:
    node = _Node(3)
    node.gone.add(A)
    node.claim(A, 10)
    assert node.asked() == [] and A not in node.sync.heights
    node.claim(B, 9)
    assert node.asked() == [(B, 4, BLOCKS_MAX)]
    node.sync.disconnected(B)
    node.claim(C, 9)
    assert node.asked() == [(C, 4, BLOCKS_MAX)]


# Liars and slow ones


@pytest.mark.parametrize("answered", [True, False])
def test_who_has_nothing_that_follows_is_accused(answered: bool) -> None:
    node = _Node(3)
    node.claim(A, 10)
    if answered:
        node.hear(A, _blocks(node, 4, 1))
        node.sync.took(A, 0)  # the host found that it does not follow
    else:
        node.hear(A, Blocks(4, ()))
    [(peer, cause)] = node.accused
    assert peer == A and "none that follow" in cause and A not in node.sync.heights


def test_blocks_that_consensus_had_decided_meanwhile_are_no_lie() -> None:
    node = _Node(3)
    node.claim(A, 4)
    node.hear(A, _blocks(node, 4, 1))
    node.grow()
    node.sync.took(A, 0)
    assert node.accused == []


def test_after_silence_others_are_asked_first() -> None:
    node = _Node(3)
    node.claim(A, 10**9)
    node.claim(B, 10)
    assert node.asked() == [(A, 4, BLOCKS_MAX)]
    node.wait(PATIENCE_SECONDS + 0.1)
    assert node.asked() == [(B, 4, BLOCKS_MAX)]
    for _ in range(3):  # while B answers, nobody else is asked, whatever A says
        node.claim(A, 10**9)
        first = node.chain.head.height + 1
        node.hear(B, _blocks(node, first, 1))
        node.now += 3 * PATIENCE_SECONDS  # A might be asked again, if there were nobody better
        node.grow()
        node.sync.took(B, 1)
        assert node.asked() == [(B, first + 1, BLOCKS_MAX)]


def test_who_is_silent_again_and_again_is_accused() -> None:
    node = _Node(3)
    asked: list[tuple[bytes, int, int]] = []
    began = node.now
    while not node.accused:
        node.claim(A, 10**9)
        node.wait(0.2)
        asked += node.asked()
        assert node.now < began + 200
    assert [count for _, _, count in asked] == [BLOCKS_MAX, BLOCKS_MAX >> 3, BLOCKS_MAX >> 6]
    assert len(asked) == TRIES
    assert node.accused == [(A, f"it claims height 1000000000, and has sent nothing {TRIES} times")]


def test_a_slow_one_gets_more_time_and_is_forgiven() -> None:
    node = _Node(3)
    node.claim(A, 10)
    node.wait(PATIENCE_SECONDS + 0.1)
    assert node.asked() == [(A, 4, BLOCKS_MAX)]
    node.hear(A, _blocks(node, 4, 1))
    assert node.put_in == []  # too late: it was not waited for any more
    node.wait(2 * PATIENCE_SECONDS)
    [(_, first, count)] = node.asked()
    node.wait(1.5 * PATIENCE_SECONDS)
    node.hear(A, _blocks(node, first, 2))
    node.grow(2)
    node.sync.took(A, 2)
    assert count < BLOCKS_MAX and node.asked() == [(A, 6, BLOCKS_MAX)] and node.accused == []


# Telling and answering


def test_where_the_chain_ends_is_told_on_connecting_and_with_each_block() -> None:
    node = _Node(3)
    head = node.chain.head
    node.sync.connected(A)
    assert node.sent == [(A, Status(3, head.block_id))]
    node.grow()
    node.sync.advanced(node.chain.head)
    assert node.told == [Status(4, node.chain.head.block_id)]


@pytest.mark.parametrize(
    ("first", "most", "heights"),
    [(1, 200, [1, 2, 3]), (2, 1, [2]), (3, 5, [3]), (4, 5, []), ((1 << 40) - 1, 200, [])],
)
def test_answers(first: int, most: int, heights: list[int]) -> None:
    node = _Node(3)
    node.hear(A, Get(first, most))
    [(peer, answer)] = node.sent
    store = node.chain.store
    blocks = tuple([(store.block_bytes(height), store.certificate(height)) for height in heights])
    assert peer == A and answer == Blocks(first, blocks)


class _LargeBlocks(LedgerStore):
    def block_bytes(self, height: int) -> bytes:
        return bytes(1 << 20)


def test_an_answer_of_large_blocks_ends_early() -> None:
    node = _Node(10)
    node.chain.store = _LargeBlocks(node.chain.store.store)
    node.hear(A, Get(1, 200))
    [(_, answer)] = node.sent
    assert isinstance(answer, Blocks) and len(answer.blocks) == ANSWER_BYTES >> 20


def test_one_peer_gets_so_many_answers_and_not_more() -> None:
    node = _Node(1)
    for _ in range(5 * ANSWERS_AT_ONCE):
        node.hear(A, Get(1, 1))
    assert len(node.sent) == ANSWERS_AT_ONCE
    node.hear(B, Get(1, 1))
    assert node.sent[-1][0] == B
    node.now += 1
    for _ in range(5 * ANSWERS_AT_ONCE):
        node.hear(A, Get(1, 1))
    assert len(node.sent) == ANSWERS_AT_ONCE + 1 + ANSWERS_PER_SECOND


def test_what_is_no_message_is_refused() -> None:
    node = _Node(1)
    with pytest.raises(Invalid):
        node.sync.received(A, b"\xc1")
    assert node.sync.heights == {}
