"""The engine by tables: what is told, what follows, where it stands then. Four validators; 0 proposes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from consensus import events as out
from consensus.events import Settings
from consensus.messages import MAX_ROUND, Message, Proposal
from consensus.transitions import TRANSITIONS, Phase
from tests.consensus_kit import (
    HEIGHT,
    PARENT,
    A,
    B,
    Bench,
    address,
    block,
    claim,
    claims,
    commit,
    committee,
    decided,
    prepare,
    prepares,
    proposal,
    round_change,
    signed,
)


class Row(NamedTuple):
    """One step: what it is, what is told, what follows, and the state after it."""

    what: str
    tell: Callable[[Bench], list[str]]
    says: list[str]
    state: str


def run(bench: Bench, rows: list[Row]) -> None:
    for row in rows:
        assert row.tell(bench) == row.says, row.what
        assert bench.state == row.state, row.what


def test_a_block_in_round_0_as_a_voter() -> None:
    run(
        Bench(1),
        [
            Row(
                "a proposal is judged, then prepared",
                lambda b: b.get(proposal()),
                ["judge A of 0", "persist PREPARE 0", "sign PREPARE 0 A", "send PREPARE 0 A"],
                "PREPARING 0",
            ),
            Row("two of four are no quorum", lambda b: b.get(prepare(0)), [], "PREPARING 0"),
            Row(
                "three are: what was prepared is durable before the COMMIT leaves",
                lambda b: b.get(prepare(2)),
                ["persist COMMIT 0 with A", "sign COMMIT 0 A", "send COMMIT 0 A"],
                "COMMITTING 0",
            ),
            Row("the fourth PREPARE changes nothing", lambda b: b.get(prepare(3)), [], "COMMITTING 0"),
            Row("two COMMITs", lambda b: b.get(commit(0)), [], "COMMITTING 0"),
            Row("three COMMITs", lambda b: b.get(commit(3)), ["decide A 0"], "DECIDED 0"),
            Row("the fourth comes late", lambda b: b.get(commit(2)), [], "DECIDED 0"),
            Row("nothing is said any more", lambda b: b.wait(60_000), [], "DECIDED 0"),
        ],
    )


def test_a_block_in_round_0_as_its_proposer() -> None:
    run(
        Bench(0),
        [
            Row("nothing is built until somebody wants a block", lambda b: b.wait(5_000), [], "WAITING 0"),
            Row("a block is wanted and the interval is over", lambda b: b.work(), ["build 0"], "OPEN 0"),
            Row(
                "our own block needs no judge",
                lambda b: b.build(),
                [
                    "persist PROPOSAL 0",
                    "sign PROPOSAL 0 A",
                    "send PROPOSAL 0 A",
                    "persist PREPARE 0",
                    "sign PREPARE 0 A",
                    "send PREPARE 0 A",
                ],
                "PREPARING 0",
            ),
            Row(
                "prepared",
                lambda b: b.get(prepare(1), prepare(2)),
                ["persist COMMIT 0 with A", "sign COMMIT 0 A", "send COMMIT 0 A"],
                "COMMITTING 0",
            ),
            Row("decided", lambda b: b.get(commit(1), commit(2)), ["decide A 0"], "DECIDED 0"),
        ],
    )


def test_one_validator_is_the_smallest_case() -> None:
    bench = Bench(0, count=1, height=1)
    assert bench.work() == ["build 0"]
    said = bench.build()
    assert [each for each in said if not each.startswith("sign")] == [
        "persist PROPOSAL 0",
        "send PROPOSAL 0 A",
        "persist PREPARE 0",
        "send PREPARE 0 A",
        "persist COMMIT 0 with A",
        "send COMMIT 0 A",
        "decide A 0",
    ]
    assert bench.tell(out.NewHeight(2, A, bench.members)) == []
    bench.height = 2
    assert bench.work() == ["build 0"]
    assert bench.build("B")[-1] == "decide B 0"


def test_a_round_times_out_and_the_next_proposer_proposes() -> None:
    bench = Bench(1)
    bench.work()
    run(
        bench,
        [
            Row("before the deadline", lambda b: b.wait(999), [], "OPEN 0"),
            Row(
                "at the deadline",
                lambda b: b.wait(1),
                ["persist ROUND_CHANGE 1", "sign ROUND-CHANGE 1", "send ROUND-CHANGE 1"],
                "OPEN 1",
            ),
            Row("two of four", lambda b: b.get(round_change(0, 1)), [], "OPEN 1"),
            Row("a quorum: we propose in round 1", lambda b: b.get(round_change(3, 1)), ["build 1"], "OPEN 1"),
            Row("a late fourth does not build again", lambda b: b.get(round_change(2, 1)), [], "OPEN 1"),
        ],
    )
    assert "send PROPOSAL 1 B" in bench.build("B", round_=1)
    (sent,) = bench.sent(Proposal)
    assert isinstance(sent, Proposal)
    assert sorted(each.validator for each in sent.claims) == [address(0), address(1), address(3)]
    assert sent.prepares == ()


def test_what_was_prepared_is_proposed_again_unchanged() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    run(
        bench,
        [
            Row(
                "the round change names what was prepared",
                lambda b: b.wait(1_000),
                ["persist ROUND_CHANGE 1", "sign ROUND-CHANGE 1 prepared 0 A", "send ROUND-CHANGE 1 prepared 0 A"],
                "OPEN 1",
            ),
            Row(
                "one unprepared round change makes the quorum with another",
                lambda b: [*b.get(round_change(0, 1)), *b.get(round_change(3, 1))],
                [
                    "persist PROPOSAL 1",
                    "sign PROPOSAL 1 A",
                    "send PROPOSAL 1 A",
                    "persist PREPARE 1",
                    "sign PREPARE 1 A",
                    "send PREPARE 1 A",
                ],
                "PREPARING 1",
            ),
        ],
    )
    (sent,) = bench.sent(Proposal)
    assert isinstance(sent, Proposal)
    assert (sent.block, sent.prepares) == (block("A"), prepares(0, A))


def test_a_proposer_has_the_block_of_a_round_change_judged() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(1_000)
    said = bench.get(round_change(0, 1, (0, "A")), round_change(3, 1))
    assert said[0] == "judge A"  # by whomever it was proposed first
    assert "send PROPOSAL 1 A" in said


def test_a_false_block_in_a_round_change_costs_its_author_the_place_in_the_quorum() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(1_000)
    forged = round_change(0, 1, (0, "A"))._replace(block=block("C"))
    assert bench.get(forged, round_change(3, 1)) == ["judge A", "refused INVALID_BLOCK"]
    assert bench.state == "OPEN 1"
    assert "send PROPOSAL 1 A" in bench.get(round_change(2, 1, (0, "A")))


def test_a_proposal_for_a_higher_round_is_followed_without_a_round_change() -> None:
    bench = Bench(0)
    assert bench.get(proposal(2, "A", claims(2, (1, 2, 3)))) == [
        "judge A of 2",
        "persist PREPARE 2",
        "sign PREPARE 2 A",
        "send PREPARE 2 A",
    ]
    assert bench.state == "PREPARING 2"


def test_jump_needs_more_than_f_and_goes_to_the_smallest_of_them() -> None:
    bench = Bench(0)
    run(
        bench,
        [
            Row("one of four may be lying", lambda b: b.get(round_change(1, 7)), [], "WAITING 0"),
            Row("twice is still one", lambda b: b.get(round_change(1, 7), round_change(1, 8)), [], "WAITING 0"),
            Row(
                "a second: to the smaller of their rounds",
                lambda b: b.get(round_change(2, 5)),
                ["persist ROUND_CHANGE 5", "sign ROUND-CHANGE 5", "send ROUND-CHANGE 5"],
                "OPEN 5",
            ),
            Row(
                "a third above",
                lambda b: b.get(round_change(3, 9)),
                ["persist ROUND_CHANGE 8", "sign ROUND-CHANGE 8", "send ROUND-CHANGE 8"],
                "OPEN 8",
            ),
        ],
    )


def test_the_timer_of_a_later_round_starts_once_a_quorum_is_there() -> None:
    """Alone, a node stays one round ahead of the others for as long as it takes. Source: docs/adr/0007."""
    bench = Bench(1)
    bench.work()
    bench.wait(1_000)
    assert bench.wait(3_600_000)[-1:] == ["send ROUND-CHANGE 1"]  # only said again
    assert bench.get(round_change(0, 1)) == []
    assert bench.wait(10_000)[-1] == "send ROUND-CHANGE 1"
    bench.get(round_change(2, 7))  # further on, and so in this round too
    assert bench.state == "OPEN 1"
    bench.wait(1_999)
    assert bench.state == "OPEN 1"
    assert bench.wait(1)[0] == "persist ROUND_CHANGE 2"


def test_a_justified_proposal_starts_the_timer_of_its_round() -> None:
    bench = Bench(0)
    bench.get(proposal(2, "A", claims(2, (1, 2, 3))))
    assert bench.wait(3_999)[-1] == "send PREPARE 2 A"
    assert bench.wait(1)[-1] == "send ROUND-CHANGE 3"


def test_power_counts_when_jumping_and_deciding() -> None:
    heavy = Bench(0, count=4, powers=[1, 5, 1, 1])  # 8 in all: F is 2, a quorum is 6
    assert heavy.get(round_change(2, 3), round_change(3, 3)) == []
    assert heavy.state == "WAITING 0"
    assert "send ROUND-CHANGE 4" in heavy.get(round_change(1, 4))  # alone more than F
    bench = Bench(2, count=4, powers=[1, 5, 1, 1])
    bench.get(proposal(), commit(0), commit(3))
    assert bench.state == "PREPARING 0"
    assert bench.get(commit(1))[-1] == "decide A 0"


@pytest.mark.parametrize("round_", [0, 1, 5])
def test_a_commit_quorum_of_any_round_decides(round_: int) -> None:
    bench = Bench(1)
    bench.get(proposal())
    bench.wait(1_000)
    bench.get(round_change(0, 1), round_change(3, 1))
    bench.wait(2_000)
    assert bench.state == "OPEN 2"
    assert bench.get(commit(0, round_), commit(2, round_), commit(3, round_)) == [f"decide A {round_}"]


def test_commits_of_two_rounds_or_blocks_do_not_add_up() -> None:
    bench = Bench(1)
    bench.get(proposal())
    assert bench.get(commit(0, 0), commit(2, 1), commit(3, 2), commit(0, 1, B)) == []
    assert bench.state == "PREPARING 0"


def test_commits_for_a_block_that_never_came_ask_for_it_once() -> None:
    bench = Bench(1)
    assert bench.get(commit(0), commit(2)) == []
    assert bench.get(commit(3)) == ["need A"]
    assert bench.outputs[-1] == out.NeedBlock(HEIGHT, A, (address(0), address(2), address(3)))
    assert bench.wait(10) == []
    assert bench.get(proposal())[:2] == ["judge A of 0", "persist PREPARE 0"]
    assert bench.state == "DECIDED 0"


def test_the_block_of_a_past_round_is_taken_once_it_is_committed() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(1_000)
    assert bench.get(proposal()) == []  # round 0 is over
    bench.get(commit(0), commit(2), commit(3))
    assert bench.get(proposal()) == ["judge A", "decide A 0"]


def test_decided_is_believed_from_anybody_if_its_seals_are_right() -> None:
    bench = Bench(1)
    assert bench.get(decided()) == ["judge A", "decide A 0"]
    assert bench.get(decided("B", who=(0, 1, 2))) == []  # decided is decided
    known = Bench(1)
    known.get(proposal())
    assert known.get(decided(round_=3)) == ["decide A 3"]  # judged before


def test_decided_with_other_bytes_is_refused_and_the_right_bytes_are_still_welcome() -> None:
    bench = Bench(1)
    assert bench.get(decided()._replace(block=block("C"))) == ["judge A", "refused INVALID_BLOCK"]
    assert bench.get(decided()) == ["judge A", "decide A 0"]


def test_an_invalid_block_is_not_prepared() -> None:
    bench = Bench(1, invalid=["A"])
    assert bench.get(proposal()) == ["judge A of 0", "refused INVALID_BLOCK"]
    assert bench.state == "OPEN 0"
    assert bench.get(proposal()) == []  # not judged again
    assert bench.get(prepare(0), prepare(2), prepare(3)) == []
    assert bench.wait(1_000)[-1] == "send ROUND-CHANGE 1"


def test_bytes_exchanged_on_the_way_do_not_lock_out_the_real_block() -> None:
    bench = Bench(1)
    assert bench.get(proposal()._replace(block=block("C"))) == ["judge A of 0", "refused INVALID_BLOCK"]
    assert "send PREPARE 0 A" in bench.get(proposal())


def test_a_verdict_that_comes_late_does_not_prepare_but_may_decide() -> None:
    bench = Bench(1, hold=["judge"])
    assert bench.get(proposal()) == ["judge A of 0"]
    assert bench.wait(1_000)[-1] == "send ROUND-CHANGE 1"
    assert bench.tell(out.Judged(1, True)) == []
    assert bench.get(commit(0), commit(2), commit(3)) == ["decide A 0"]
    assert bench.tell(out.Judged(1, True)) == []
    assert bench.tell(out.Judged(99, True)) == []


def test_a_signature_that_comes_late_is_not_used() -> None:
    bench = Bench(1, hold=["sign"])
    bench.get(proposal())
    assert bench.engine.phase is Phase.PREPARING
    (asked,) = [each.statement for each in bench.outputs if isinstance(each, out.Sign)]
    bench.wait(1_000)
    assert bench.tell(out.Signed(signed(asked))) == []
    assert bench.tell(out.Signed(signed(claim(1, 9)._replace(signature=b"")))) == []  # never asked for


def test_the_own_messages_are_repeated_and_told_to_who_connects() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    assert bench.tell(out.Connected(address(3))) == ["send PREPARE 0 A to 3", "send COMMIT 0 A to 3"]
    assert bench.engine.deadline_ms == 1_000
    quick = Bench(1, settings=Settings(repeat_ms=200))
    quick.get(proposal())
    assert quick.wait(199) == []
    assert quick.wait(1) == ["send PREPARE 0 A"]
    assert quick.wait(399) == []  # each time later, up to the longest timeout
    assert quick.wait(1) == ["send PREPARE 0 A"]
    quick.get(decided())
    assert quick.tell(out.Connected(address(3))) == []
    assert quick.engine.deadline_ms is None


def test_a_commit_is_repeated_in_later_rounds_too() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    bench.wait(1_000)
    assert bench.tell(out.Connected(address(3))) == ["send COMMIT 0 A to 3", "send ROUND-CHANGE 1 prepared 0 A to 3"]


def test_past_heights_are_answered_with_their_decision_at_a_bounded_rate() -> None:
    bench = Bench(1)
    assert bench.get(prepare(2, height=HEIGHT - 1)) == []  # a little late, as any PREPARE may be
    assert bench.get(round_change(2, 1, height=HEIGHT - 1)) == [f"answer 9 with {HEIGHT - 1}"]
    assert bench.get(round_change(2, 1, height=HEIGHT - 1)) == []
    assert bench.get(round_change(2, 1, height=HEIGHT - 1), peer=8) == [f"answer 8 with {HEIGHT - 1}"]
    bench.wait(250)
    assert bench.get(prepare(2, height=HEIGHT - 2)) == [f"answer 9 with {HEIGHT - 2}"]
    bench.wait(1_000)
    assert bench.get(prepare(2, height=HEIGHT - 1)) == [f"answer 9 with {HEIGHT - 1}"]  # said again: it is stuck
    assert bench.get(decided(height=HEIGHT - 1), peer=7) == []


def test_future_heights_are_held_and_replayed() -> None:
    bench = Bench(1)
    early: list[Message] = [
        proposal(0, "B", height=HEIGHT + 1, who=1),
        prepare(0, 0, B, HEIGHT + 1),
        prepare(2, 0, B, HEIGHT + 1),
    ]
    assert bench.get(prepare(0, 0, B, HEIGHT + 1), prepare(2, 0, B, HEIGHT + 1)) == [f"behind {HEIGHT + 1}"] * 2
    assert bench.get(*early) == [f"behind {HEIGHT + 1}"]
    bench.get(decided())
    said = bench.tell(out.NewHeight(HEIGHT + 1, A, bench.members))
    assert said[0] == "judge B of 1"
    assert bench.state == "COMMITTING 0"


def test_a_node_far_behind_says_so() -> None:
    bench = Bench(1)
    assert bench.get(prepare(0, height=HEIGHT + 9)) == [f"behind {HEIGHT + 9}"]
    assert bench.get(prepare(0, height=HEIGHT + 9)) == []
    assert bench.get(decided(height=HEIGHT + 2)) == [f"behind {HEIGHT + 2}"]
    assert bench.get(prepare(0, height=HEIGHT + 9)._replace(height=HEIGHT + 10)) == ["refused BAD_SIGNATURE"]


def test_two_votes_in_one_round_are_evidence_once() -> None:
    bench = Bench(1)
    assert bench.get(prepare(0), prepare(0, 0, B)) == ["evidence PREPARE 0 by 0"]
    assert bench.get(prepare(0, 0, B)) == []
    assert bench.get(commit(0), commit(0, 1, B)) == []  # two rounds: allowed
    assert bench.get(commit(0, 0, B)) == ["evidence COMMIT 0 by 0"]
    assert bench.get(proposal(0, "A"))[0] == "judge A of 0"
    assert bench.get(proposal(0, "B")) == ["evidence PROPOSAL 0 by 0"]
    forged = commit(2, 0, B)._replace(signature=bytes(64))
    assert bench.get(commit(2), forged) == ["refused BAD_SIGNATURE"]


def test_membership_and_repeats_are_judged_before_any_signature() -> None:
    bench = Bench(1)
    asked: list[bytes] = []

    def counting(key: bytes, message: bytes, signature: bytes) -> bool:
        asked.append(key)
        return True

    bench.engine._verify = counting
    bench.get(prepare(7), round_change(7, 1), proposal(0, who=7), proposal(0, who=1), decided(who=(0, 1, 7)))
    bench.get(proposal(1, "A", claims(1, (0, 1))), proposal(1, "A", claims(1, (0, 0, 1))))
    assert asked == []
    bench.get(prepare(0))
    bench.get(prepare(0), prepare(0))
    assert len(asked) == 1


def test_nothing_is_signed_before_the_host_has_caught_up() -> None:
    bench = Bench(1, caught_up=False)
    bench.work()
    assert bench.get(proposal()) == ["judge A of 0"]
    assert bench.get(prepare(0), prepare(2), prepare(3)) == []
    assert bench.get(round_change(2, 3), round_change(3, 3)) == []
    assert bench.wait(60_000) == []
    assert bench.engine.deadline_ms is None
    assert "send PREPARE" not in " ".join(bench.began)
    said = bench.tell(out.CaughtUp(True))
    assert said[-1] == "send ROUND-CHANGE 3"  # it learned meanwhile where the others are
    following = Bench(1, caught_up=False)
    following.get(proposal())
    assert following.get(commit(0), commit(2), commit(3)) == ["decide A 0"]  # following needs no signature


def test_a_node_that_is_no_validator_follows() -> None:
    bench = Bench(6)
    bench.work()
    assert bench.get(proposal(), prepare(0), prepare(1), prepare(2)) == ["judge A of 0"]
    assert bench.get(commit(0), commit(2), commit(3)) == ["decide A 0"]


def test_messages_are_relayed_once_where_that_is_set() -> None:
    bench = Bench(1, settings=Settings(relay=True))
    assert bench.get(prepare(0)) == ["relay PREPARE 0 A"]
    assert bench.outputs[-1] == out.Relay(prepare(0), (address(9), address(0)))
    assert bench.get(prepare(0)) == []


def test_the_last_round_ends_never() -> None:
    bench = Bench(0)
    bench.get(round_change(1, MAX_ROUND), round_change(2, MAX_ROUND))
    assert bench.state == f"OPEN {MAX_ROUND}"
    assert bench.wait(100_000) == [f"send ROUND-CHANGE {MAX_ROUND}"]


def test_heights_only_rise() -> None:
    bench = Bench(1)
    with pytest.raises(ValueError, match="does not follow"):
        bench.tell(out.NewHeight(HEIGHT, PARENT, bench.members))


def test_a_sync_may_pass_by_any_phase() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    assert bench.tell(out.NewHeight(HEIGHT + 5, B, committee())) == []
    assert bench.state == "WAITING 0"
    assert bench.engine.prepared is None


def test_no_phase_is_a_dead_end() -> None:
    names = [each.name for each in TRANSITIONS]
    assert len(set(names)) == len(names)
    for phase in Phase:
        assert any(phase in each.before for each in TRANSITIONS)
        assert any(phase is each.after for each in TRANSITIONS)


def test_every_transition_by_name() -> None:
    one = Bench(1)
    one.work()
    one.get(proposal()._replace(block=block("C")))
    one.wait(1_000)
    one.get(round_change(2, 5), round_change(3, 5))
    again = one.restart()
    again.get(proposal(6, "A", claims(6)), prepare(0, 6), prepare(2, 6), commit(0, 6), commit(2, 6))
    assert one.fired == ["begin", "open", "take proposal", "refuse block", "time out", "jump"]
    assert again.fired == ["begin", "resume", "take proposal", "accept", "prepared", "decide"]
    assert {*one.fired, *again.fired} == {each.name for each in TRANSITIONS}


def test_a_step_outside_of_the_table_is_a_fault_of_ours() -> None:
    bench = Bench(1)
    with pytest.raises(AssertionError, match="prepared is not possible in phase WAITING"):
        bench.engine._go(next(each for each in TRANSITIONS if each.name == "prepared"))
