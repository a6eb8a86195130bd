from __future__ import annotations

import pytest

from consensus.future import FutureMessages
from consensus.tally import ROUNDS_KEPT, ClaimTally, Committee, Place, VoteTally
from consensus.timeout import round_timeout_ms
from tests.consensus_kit import A, B, address, commit, committee, prepare, proposal, round_change

FOUR = Committee(committee(4))


def test_a_committee_counts_distinct_members_by_power() -> None:
    weighted = Committee(committee(4, [1, 5, 1, 1]))
    assert (weighted.quorum, weighted.faulty) == (6, 2)
    assert weighted.power([address(1), address(1), address(9)]) == 5
    assert weighted.is_quorum([address(1), address(0)])
    assert not weighted.is_quorum([address(1), address(1)])
    assert address(3) in weighted and address(4) not in weighted
    assert [FOUR.proposer(4, round_) for round_ in range(5)] == [address(each) for each in (0, 1, 2, 3, 0)]


def test_the_first_vote_in_a_round_counts() -> None:
    tally = VoteTally()
    for vote in (commit(0), commit(0, 0, B), commit(1), commit(2, 1), commit(2)):
        tally.add(vote)
    assert tally.at(Place(0, A)) == [commit(0), commit(1), commit(2)]
    assert tally.at(Place(0, B)) == []
    assert tally.quorums(FOUR) == [Place(0, A)]
    assert tally.find(address(0), 0) == commit(0)
    assert tally.find(address(9), 0) is None


def test_each_validators_votes_are_bounded_and_its_own() -> None:
    tally = VoteTally()
    tally.add(commit(1, 0))
    for round_ in range(100):
        tally.add(commit(0, round_))
    assert tally.find(address(0), 99 - ROUNDS_KEPT) is None
    assert tally.find(address(0), 100 - ROUNDS_KEPT) == commit(0, 100 - ROUNDS_KEPT)
    assert tally.find(address(1), 0) == commit(1, 0)
    tally.forget_below(95)
    assert tally.find(address(0), 94) is None
    assert tally.find(address(0), 95) is not None


def test_round_changes_keep_the_first_of_the_highest_round() -> None:
    tally = ClaimTally()
    tally.add(round_change(0, 3, (0, "A")))
    tally.add(round_change(0, 3))
    tally.add(round_change(0, 2))
    assert tally.at(3) == [round_change(0, 3, (0, "A"))]
    tally.add(round_change(0, 4))
    assert (tally.at(3), tally.at(4)) == ([], [round_change(0, 4)])
    tally.drop(address(0))
    assert tally.find(address(0)) is None


@pytest.mark.parametrize(
    ("rounds", "current", "target"),
    [
        ([], 0, None),
        ([5], 0, None),
        ([5, 9], 0, 5),
        ([5, 9, 7], 0, 7),
        ([1, 1, 1], 1, None),
        ([1, 2], 1, None),
        ([2, 2], 1, 2),
        ([1, 2, 9], 0, 2),
    ],
)
def test_the_jump_ends_where_more_than_f_have_been(rounds: list[int], current: int, target: int | None) -> None:
    tally = ClaimTally()
    for who, round_ in enumerate(rounds):
        tally.add(round_change(who, round_))
    assert tally.jump_target(FOUR, current) == target
    stepwise = current
    while True:  # the rule, one jump after the other: to the smallest of F+1 or more higher rounds
        higher = [round_ for round_ in rounds if round_ > stepwise]
        if len(higher) <= FOUR.faulty:
            break
        stepwise = min(higher)
    assert (target or current) == stepwise


def test_timeouts_are_integers_that_never_grow_past_the_cap() -> None:
    found = [round_timeout_ms(round_, 3, 1_000) for round_ in range(2_000)]
    assert found[:10] == [3, 6, 12, 24, 48, 96, 192, 384, 768, 1_000]
    assert set(found[10:]) == {1_000}
    assert all(type(each) is int for each in found)


def test_held_messages_come_back_in_order_and_past_heights_are_dropped() -> None:
    held = FutureMessages(messages_max=3, bytes_max=10_000)
    first, second = prepare(0, 0, A, 9), prepare(1, 0, A, 9)
    for peer, height, message in ((7, 9, first), (7, 9, first), (8, 9, second), (8, 8, prepare(0, 0, A, 8))):
        held.hold(message.validator, address(peer), height, message)
    assert len(held) == 3
    assert held.take(9) == [(address(7), first), (address(8), second)]
    assert len(held) == 0
    large = proposal(0, "x" * 20_000)
    held.hold(large.vote.validator, address(7), 4, large)
    assert len(held) == 0
    assert not held.has_room(large.vote.validator, large)
    assert held.has_room(address(1), prepare(1))
