"""The checklist of QBFT cases, each under its own name: what others test, found in Besu, SSV, Charon and CometBFT.

Proposals and round changes are judged through the engine, so that a refusal is one the network would see.
"""

from __future__ import annotations

from itertools import product

import pytest

from consensus import events as out
from consensus.events import Settings
from consensus.messages import MAX_ROUND, Claim, Message, Proposal, RoundChange, decode, encode
from consensus.timeout import round_timeout_ms
from ledger.errors import TrothError
from tests.consensus_kit import (
    HEIGHT,
    A,
    B,
    Bench,
    address,
    block,
    claim,
    claims,
    commit,
    decided,
    prepare,
    prepares,
    proposal,
    round_change,
    signed,
)

HIGHEST = (claim(0, 3, (0, B)), claim(1, 3, (1, A)), claim(2, 3))
"""Claims for round 3: block B prepared in round 0, block A in round 1. So A must be proposed."""


# PROPOSAL, accepted


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(proposal(), id="round 0 with no justification"),
        pytest.param(proposal(2, "A", claims(2)), id="a later round with a quorum of empty round changes"),
        pytest.param(proposal(2, "A", claims(2, (0, 1, 2, 3))), id="more than a quorum of them"),
        pytest.param(proposal(3, "A", HIGHEST, prepares(1, A)), id="the block of the highest prepared round"),
        pytest.param(proposal(3, "A", HIGHEST, prepares(1, A, (1, 2, 3))), id="prepared by others than change round"),
        pytest.param(proposal(6, "A", claims(6)), id="a round that nobody proposed in before"),
    ],
)
def test_proposal_accepted(message: Proposal) -> None:
    bench = Bench(1 if message.vote.validator != address(1) else 0)
    said = bench.get(message)
    assert f"send PREPARE {message.vote.round} A" in said, said


def test_proposal_of_a_block_whose_own_round_differs() -> None:
    """The block says nothing of rounds: the one of round 0 is proposed again in round 1 as it is."""
    first, again = proposal(0, "A"), proposal(1, "A", (claim(0, 1, (0, A)), *claims(1, (1, 2))), prepares(0, A))
    assert first.block == again.block
    bench = Bench(2)
    bench.get(first)
    assert "send PREPARE 1 A" in bench.get(again)


# PROPOSAL, refused


def prepared_in(round_: int, of: bytes = A, at: int = 3) -> tuple[Claim, ...]:
    return (claim(0, at, (round_, of)), claim(1, at), claim(2, at))


REFUSED_PROPOSALS: list[tuple[str, Proposal, str]] = [
    ("round 0 carrying prepares", proposal(0, prepares=prepares()), "NEEDLESS_JUSTIFICATION"),
    ("round 0 carrying round changes", proposal(0, claims=claims(0)), "NEEDLESS_JUSTIFICATION"),
    ("no round changes", proposal(3), "TOO_FEW_CLAIMS"),
    ("too few round changes", proposal(3, claims=claims(3, (0, 1))), "TOO_FEW_CLAIMS"),
    ("round change by a non-validator", proposal(3, claims=claims(3, (0, 1, 7))), "NOT_A_VALIDATOR"),
    ("duplicate round change authors", proposal(3, claims=claims(3, (0, 1, 1))), "REPEATED_SENDER"),
    ("a quorum and a duplicate", proposal(3, claims=claims(3, (0, 1, 2, 2))), "REPEATED_SENDER"),
    ("round change for another round", proposal(3, claims=(*claims(3, (0, 1)), claim(2, 2))), "CLAIM_OF_OTHER_ROUND"),
    (
        "round change for another height",
        proposal(3, claims=(*claims(3, (0, 1)), claim(2, 3, None, HEIGHT + 1))),
        "WRONG_HEIGHT",
    ),
    ("prepared hash differs from the block", proposal(3, "B", prepared_in(1), prepares(1)), "NOT_THE_PREPARED_BLOCK"),
    ("prepares though nothing is prepared", proposal(3, claims=claims(3), prepares=prepares(1)), "NEEDLESS_PREPARES"),
    ("prepare by a non-validator", proposal(3, "A", prepared_in(1), prepares(1, A, (0, 1, 7))), "NOT_A_VALIDATOR"),
    ("duplicate prepare authors", proposal(3, "A", prepared_in(1), prepares(1, A, (0, 1, 1))), "REPEATED_SENDER"),
    ("too few prepares", proposal(3, "A", prepared_in(1), prepares(1, A, (0, 1))), "TOO_FEW_PREPARES"),
    ("no prepares", proposal(3, "A", prepared_in(1)), "TOO_FEW_PREPARES"),
    ("prepares of another round", proposal(3, "A", prepared_in(1), prepares(0)), "PREPARE_OF_OTHER_ROUND"),
    ("prepares of another block", proposal(3, "A", prepared_in(1), prepares(1, B)), "PREPARE_OF_OTHER_BLOCK"),
    (
        "prepares of another height",
        proposal(3, "A", prepared_in(1), prepares(1, A, height=HEIGHT - 1)),
        "WRONG_HEIGHT",
    ),
    (
        "two blocks prepared in one round",
        proposal(3, "A", (claim(0, 3, (1, A)), claim(1, 3, (1, B)), claim(2, 3)), prepares(1)),
        "TWO_PREPARED_BLOCKS",
    ),
    ("not the highest prepared block", proposal(3, "B", HIGHEST, prepares(0, B)), "NOT_THE_PREPARED_BLOCK"),
    ("prepared in the round it is for", proposal(3, "A", prepared_in(3), prepares(3)), "PREPARED_NOT_BEFORE"),
    ("prepared in a later round", proposal(3, "A", prepared_in(4), prepares(4)), "PREPARED_NOT_BEFORE"),
    ("wrong proposer", proposal(0, who=2), "WRONG_PROPOSER"),
    ("a proposer who is no validator", proposal(0, who=7), "WRONG_PROPOSER"),
    ("the proposer of another round", proposal(3, claims=claims(3), who=0), "WRONG_PROPOSER"),
]


@pytest.mark.parametrize(
    ("message", "reason"), [row[1:] for row in REFUSED_PROPOSALS], ids=[r[0] for r in REFUSED_PROPOSALS]
)
def test_proposal_refused(message: Proposal, reason: str) -> None:
    bench = Bench(1)
    assert bench.get(message) == [f"refused {reason}"]
    assert bench.state == "WAITING 0"


def test_proposal_refused_half_prepared() -> None:
    """Prepared round without a block, and the other way round. The codec refuses them; so does the rule."""
    for half in (claim(0, 3, (1, A))._replace(prepared_round=None), claim(0, 3, (1, A))._replace(prepared_id=None)):
        assert Bench(1).get(proposal(3, "A", (half, *claims(3, (1, 2))))) == ["refused HALF_PREPARED"]
        assert Bench(1).get(RoundChange(half)) == ["refused HALF_PREPARED"]


@pytest.mark.parametrize("part", ["its own", "a round change's", "a prepare's"])
def test_proposal_refused_with_a_wrong_signature(part: str) -> None:
    good = proposal(3, "A", HIGHEST, prepares(1, A))
    bad = {
        "its own": good._replace(vote=good.vote._replace(signature=bytes(64))),
        "a round change's": good._replace(claims=(*good.claims[:2], good.claims[2]._replace(signature=bytes(64)))),
        "a prepare's": good._replace(prepares=(good.prepares[0]._replace(signature=bytes(64)), *good.prepares[1:])),
    }
    assert Bench(1).get(bad[part]) == ["refused BAD_SIGNATURE"]


def test_proposal_with_an_invalid_block() -> None:
    assert Bench(1, invalid=["A"]).get(proposal()) == ["judge A of 0", "refused INVALID_BLOCK"]


def test_proposal_of_a_past_round_or_height_is_ignored() -> None:
    bench = Bench(1)
    bench.get(proposal(2, "A", claims(2)))
    assert bench.get(proposal(0), proposal(1, "A", claims(1))) == []
    assert bench.get(proposal(0, who=3, height=HEIGHT - 1)) == []


@pytest.mark.parametrize("other", ["A", "B"])
def test_second_proposal_in_one_round(other: str) -> None:
    bench = Bench(1)
    bench.get(proposal())
    before = bench.state
    assert bench.get(proposal(0, other)) == ([] if other == "A" else ["evidence PROPOSAL 0 by 0"])
    assert bench.state == before


def test_proposal_after_prepare_and_after_decision_is_ignored() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    assert bench.get(proposal()) == []
    bench.get(commit(0), commit(2))
    assert bench.state == "DECIDED 0"
    assert bench.get(proposal(), proposal(0, "B"), proposal(1, "B", claims(1))) == []


def test_a_second_proposal_by_somebody_else_is_no_evidence() -> None:
    """Found by the simulator: it was taken for a double signature, and the engine stopped."""
    bench = Bench(1)
    bench.get(proposal())
    assert bench.get(proposal(0, "B", who=2), proposal(0, "B", who=7)) == ["refused WRONG_PROPOSER"] * 2
    assert bench.state == "PREPARING 0"


# PREPARE and COMMIT


@pytest.mark.parametrize("make", [prepare, commit], ids=["PREPARE", "COMMIT"])
def test_votes_that_do_not_count(make: type) -> None:
    for wrong in (make(3, 1), make(3, 0, B)):  # another round, another block
        bench = Bench(1)
        bench.get(proposal(), make(0), wrong)
        assert bench.state == "PREPARING 0"
    bench = Bench(1)
    bench.get(proposal(), make(0))
    assert bench.get(make(7)) == ["refused NOT_A_VALIDATOR"]
    assert bench.get(make(2)._replace(signature=bytes(64))) == ["refused BAD_SIGNATURE"]
    assert bench.get(make(0), make(0)) == []  # a duplicate does not count twice
    assert bench.get(make(2, 0, A, HEIGHT - 1)) == []
    assert bench.state == "PREPARING 0"


def test_a_bad_vote_does_not_take_the_place_of_the_good_one() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2)._replace(signature=bytes(64)))
    assert "send COMMIT 0 A" in bench.get(prepare(2))


def test_votes_without_a_proposal_prepare_nothing_but_count_once_it_comes() -> None:
    bench = Bench(1)
    assert bench.get(prepare(0), prepare(2), prepare(3)) == []
    assert bench.state == "WAITING 0"
    said = bench.get(proposal())
    assert said.index("send PREPARE 0 A") < said.index("send COMMIT 0 A")


def test_a_commit_quorum_before_the_prepare_quorum_decides() -> None:
    bench = Bench(1)
    bench.get(proposal())
    assert bench.get(commit(0), commit(2), commit(3)) == ["decide A 0"]


def test_after_the_decision_prepares_and_commits_change_nothing() -> None:
    bench = Bench(1)
    bench.get(proposal(), commit(0), commit(2), commit(3))
    assert bench.get(prepare(0), prepare(2), prepare(3), commit(1), commit(0, 1), commit(2, 1), commit(3, 1)) == []


def test_a_quorum_fires_once() -> None:
    bench = Bench(1)
    bench.get(proposal(), *prepares(who=(0, 2, 3)), prepare(0), prepare(3))
    assert [each for each in bench.outputs if isinstance(each, out.Persist) and each.prepared] != []
    assert len([each for each in bench.outputs if isinstance(each, out.Persist) and each.prepared]) == 1


# ROUND-CHANGE


REFUSED_ROUND_CHANGES: list[tuple[str, RoundChange, str]] = [
    ("round zero", round_change(2, 0), "ROUND_ZERO"),
    ("prepared round not before the target", round_change(2, 2, (2, "A")), "PREPARED_NOT_BEFORE"),
    ("prepared round after the target", round_change(2, 2, (3, "A")), "PREPARED_NOT_BEFORE"),
    ("too few prepares", round_change(2, 2, (0, "A"))._replace(prepares=prepares(0, A, (0, 1))), "TOO_FEW_PREPARES"),
    (
        "duplicate prepares",
        round_change(2, 2, (0, "A"))._replace(prepares=prepares(0, A, (0, 1, 1))),
        "REPEATED_SENDER",
    ),
    (
        "prepare by a non-validator",
        round_change(2, 2, (0, "A"))._replace(prepares=prepares(0, A, (0, 1, 7))),
        "NOT_A_VALIDATOR",
    ),
    (
        "prepares of another height",
        round_change(2, 2, (0, "A"))._replace(prepares=prepares(0, A, height=HEIGHT + 1)),
        "WRONG_HEIGHT",
    ),
    (
        "prepares of another round",
        round_change(2, 3, (1, "A"))._replace(prepares=prepares(0, A)),
        "PREPARE_OF_OTHER_ROUND",
    ),
    ("hash mismatch", round_change(2, 2, (0, "A"))._replace(prepares=prepares(0, B)), "PREPARE_OF_OTHER_BLOCK"),
    ("block without metadata", round_change(2, 2)._replace(block=block()), "BLOCK_WITHOUT_CLAIM"),
    ("prepares without metadata", round_change(2, 2)._replace(prepares=prepares()), "NEEDLESS_PREPARES"),
    ("metadata without a block", round_change(2, 2, (0, "A"))._replace(block=None), "BLOCK_MISSING"),
    ("unknown signer", round_change(7, 2), "NOT_A_VALIDATOR"),
    ("zero signer", RoundChange(signed(Claim(HEIGHT, 2, None, None, bytes(20)))), "NOT_A_VALIDATOR"),
]


@pytest.mark.parametrize(
    ("message", "reason"), [row[1:] for row in REFUSED_ROUND_CHANGES], ids=[row[0] for row in REFUSED_ROUND_CHANGES]
)
def test_round_change_refused(message: RoundChange, reason: str) -> None:
    bench = Bench(1)
    assert bench.get(message) == [f"refused {reason}"]
    assert bench.get(round_change(3, 2)) == []  # it did not count: one other is not more than F
    assert bench.state == "WAITING 0"


def test_round_change_above_the_highest_round_is_no_message() -> None:
    with pytest.raises(TrothError, match="rounds from 0 to"):
        decode(encode(round_change(2, MAX_ROUND + 1)))


def test_round_change_of_a_past_round_is_ignored() -> None:
    bench = Bench(1)
    bench.get(proposal(3, "A", claims(3)))
    assert bench.get(round_change(0, 2), round_change(2, 2), round_change(3, 1)) == []
    assert bench.state == "PREPARING 3"


def test_duplicates_make_neither_f_plus_one_nor_a_quorum() -> None:
    bench = Bench(1)
    for round_ in (1, 1, 2, 3):
        assert bench.get(round_change(0, round_)) == []
    assert bench.state == "WAITING 0"
    bench.get(round_change(2, 1))  # now two: jump to round 1, which is ours
    assert bench.state == "OPEN 1"
    assert bench.get(round_change(2, 1), round_change(2, 1)) == []


@pytest.mark.parametrize("prepared", [None, (0, "A")])
def test_f_plus_one_speed_up_prepared_or_not(prepared: tuple[int, str] | None) -> None:
    bench = Bench(0)
    bench.get(round_change(1, 2, prepared))
    assert bench.get(round_change(2, 2, prepared))[-1] == "send ROUND-CHANGE 2"


def test_a_repeated_round_change_does_not_overwrite_the_first() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(1_000)
    bench.get(round_change(0, 1, (0, "A")), round_change(0, 1))  # says it was not prepared after all
    said = bench.get(round_change(2, 1))
    assert "send PROPOSAL 1 A" in said


def test_an_expiry_after_the_decision_sends_nothing() -> None:
    bench = Bench(1)
    bench.work()
    bench.get(proposal(), commit(0), commit(2), commit(3))
    assert bench.wait(10_000) == []
    assert bench.engine.deadline_ms is None


def test_an_expiry_of_a_round_that_is_over_changes_nothing() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(900)
    bench.get(proposal(3, "A", claims(3)))
    assert bench.wait(100) == []  # the deadline of round 0 would be now
    assert bench.state == "PREPARING 3"


# FUTURE


def test_future_messages_are_bounded_for_each_author() -> None:
    bench = Bench(1, settings=Settings(future_messages_max=3))
    bench.get(*[prepare(0, round_, A, HEIGHT + 1) for round_ in range(50)], prepare(2, 0, A, HEIGHT + 1))
    assert len(bench.engine._future) == 4  # three of the first author's, one of the second's


def test_future_bytes_are_bounded_for_each_author() -> None:
    bench = Bench(1, settings=Settings(future_bytes_max=2_000))
    bench.get(proposal(0, "x" * 3_000, height=HEIGHT + 1), prepare(1, 0, A, HEIGHT + 1))
    assert len(bench.engine._future) == 1


def test_a_future_round_is_not_acted_on_until_it_is_active() -> None:
    bench = Bench(2)
    assert bench.get(prepare(0, 1), prepare(1, 1), prepare(3, 1)) == []
    said = bench.get(proposal(1, "A", claims(1)))
    assert "send COMMIT 1 A" in said


def test_no_vote_is_cast_in_an_earlier_round_once_a_new_one_has_begun() -> None:
    bench = Bench(1)
    bench.get(proposal())
    bench.wait(1_000)
    assert bench.get(prepare(0), prepare(2), prepare(3)) == []
    assert bench.engine.prepared is None


# DECIDE


def test_two_and_two_never_decide() -> None:
    by_block = Bench(1)
    by_block.get(proposal(), commit(0), commit(2, 0, B), commit(3, 0, B))
    by_round = Bench(1)
    by_round.get(proposal(), commit(0), commit(2, 1), commit(3, 1))
    assert (by_block.state, by_round.state) == ("PREPARING 0", "PREPARING 0")


def test_equivocation_alone_never_makes_a_quorum() -> None:
    bench = Bench(1)
    for who, of in product((0, 2), (A, B)):
        bench.get(prepare(who, 0, of), commit(who, 0, of))
    assert bench.state == "WAITING 0"
    bench = Bench(1)
    bench.get(proposal(), commit(0), commit(2, 0, B), commit(2, 0, A), commit(3, 0, B), commit(3, 0, A))
    assert bench.state == "PREPARING 0"


BAD_DECISIONS: list[tuple[str, Message]] = [
    ("under-justified", decided(who=(0, 1))),
    ("seal of a non-validator", decided(who=(0, 1, 7))),
    ("seals not ascending", decided(who=(1, 0, 2))),
    ("one seal twice", decided(who=(0, 1, 1))),
    ("round mismatched", (lambda d: d._replace(certificate=d.certificate._replace(round=1)))(decided())),
    ("value mismatched", (lambda d: d._replace(certificate=d.certificate._replace(block_id=B)))(decided())),
]


@pytest.mark.parametrize("message", [row[1] for row in BAD_DECISIONS], ids=[row[0] for row in BAD_DECISIONS])
def test_decided_refused(message: Message) -> None:
    bench = Bench(1)
    assert bench.get(message) == ["refused BAD_CERTIFICATE"]
    assert bench.get(decided()) == ["judge A", "decide A 0"]


def test_spam_of_one_validator_does_not_evict_what_others_said() -> None:
    bench = Bench(1)
    bench.get(proposal(), commit(0), prepare(0))
    for round_ in range(100):
        bench.get(commit(3, round_, B), prepare(3, round_, B), round_change(3, round_ + 1))
    assert bench.state == "PREPARING 0"
    assert "send COMMIT 0 A" in bench.get(prepare(2))
    assert bench.get(commit(2)) == ["decide A 0"]


# GOSSIP (where relaying is set)


def test_gossip_once_and_not_to_sender_or_author() -> None:
    bench = Bench(1, settings=Settings(relay=True))
    said = bench.get(proposal(), proposal(), prepare(0), prepare(0), round_change(2, 1), round_change(2, 1))
    assert [each for each in said if each.startswith("relay")] == [
        "relay PROPOSAL 0 A",
        "relay PREPARE 0 A",
        "relay ROUND-CHANGE 1",
    ]
    relayed = [each for each in bench.outputs if isinstance(each, out.Relay)]
    assert [each.except_for for each in relayed] == [(address(9), address(who)) for who in (0, 0, 2)]


def test_gossip_of_unknown_validators_is_none_and_of_the_future_later() -> None:
    bench = Bench(1, settings=Settings(relay=True))
    assert bench.get(prepare(7)) == ["refused NOT_A_VALIDATOR"]
    assert bench.get(prepare(7, height=HEIGHT + 1)) == ["refused NOT_A_VALIDATOR"]
    assert not any(each.startswith("relay") for each in bench.get(prepare(0, 0, B, HEIGHT + 1)))
    bench.get(decided())
    assert "relay PREPARE 0 B" in bench.tell(out.NewHeight(HEIGHT + 1, A, bench.members))


# TIMING


def test_timeouts_by_the_formula_with_its_cap() -> None:
    assert [round_timeout_ms(round_, 1_000, 8_000) for round_ in (0, 1, 2, 3, 5, 15, 1_000_000)] == [
        1_000,
        2_000,
        4_000,
        8_000,
        8_000,
        8_000,
        8_000,
    ]
    assert [round_timeout_ms(round_, 700, 10_000) for round_ in (1, 2, 3, 5, 15)] == [
        1_400,
        2_800,
        5_600,
        10_000,
        10_000,
    ]
    assert round_timeout_ms(0, 9_000, 8_000) == 8_000


def test_a_leader_without_a_value_is_passed_by() -> None:
    bench = Bench(0)
    assert bench.work() == ["build 0"]
    assert bench.wait(1_000)[-1] == "send ROUND-CHANGE 1"
    assert bench.build(round_=0) == []  # too late
    assert "send PREPARE 1 B" in bench.get(proposal(1, "B", claims(1, (0, 2, 3))))


def test_a_very_late_leader_is_still_heard_within_its_round() -> None:
    bench = Bench(1)
    bench.work()
    bench.wait(999)
    assert "send PREPARE 0 A" in bench.get(proposal())
    assert bench.wait(1)[-1] == "send ROUND-CHANGE 1"  # the deadline is fixed: a late proposal does not move it


# LOCKING


def test_lock_then_relock_on_the_block_of_a_higher_round() -> None:
    bench = Bench(3)
    bench.get(proposal(), prepare(0), prepare(1))
    assert bench.engine.prepared is not None and bench.engine.prepared.block_id == A
    higher = (claim(0, 2, (1, B)), *claims(2, (1, 2)))
    assert "send PREPARE 2 B" in bench.get(proposal(2, "B", higher, prepares(1, B)))
    assert bench.get(prepare(0, 2, B), prepare(1, 2, B))[-1] == "send COMMIT 2 B"
    assert (bench.engine.prepared.round, bench.engine.prepared.block_id) == (2, B)


def test_a_lock_is_kept_while_another_block_is_only_proposed() -> None:
    """A justified proposal may pass a lock by, since its quorum did not have it; the lock is still told to others."""
    bench = Bench(3)
    bench.get(proposal(), prepare(0), prepare(1))
    bench.get(proposal(1, "B", claims(1, (0, 1, 2))))
    assert bench.wait(2_000)[-1] == "send ROUND-CHANGE 2 prepared 0 A"


def test_a_proposer_who_is_locked_proposes_its_block_even_if_no_other_knows_it() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    bench.wait(1_000)
    said = bench.get(round_change(2, 1), round_change(3, 1))
    assert "build 1" not in said
    assert "send PROPOSAL 1 A" in said


def test_no_invalid_vote_crashes_the_engine() -> None:
    bench = Bench(1)
    odd: list[Message] = [
        prepare(0, MAX_ROUND),
        commit(0, MAX_ROUND),
        prepare(0, 0, bytes(32)),
        round_change(0, MAX_ROUND),
    ]
    for message in odd:
        bench.get(message)
    assert bench.state == "WAITING 0"
    assert "send PREPARE 0 A" in bench.get(proposal())
