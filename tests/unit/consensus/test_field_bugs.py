"""Bugs that others shipped, each under its name in their tracker; and what a restart may and may not do."""

from __future__ import annotations

import pytest

from consensus import events as out
from consensus.events import Settings
from consensus.guard import first_record
from consensus.messages import MAX_ROUND, RoundChange
from ledger.errors import Refused
from tests.consensus_kit import (
    CHAIN,
    HEIGHT,
    PARENT,
    A,
    B,
    Bench,
    block,
    certificate,
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


def test_besu_1734_importing_with_ones_own_unsent_commit() -> None:
    """A node's own COMMIT counts once it has been sent, and not when it is decided to send it."""
    bench = Bench(1, hold=["sign"])

    def answer() -> list[str]:
        asked = [each.statement for each in bench.outputs if isinstance(each, out.Sign)][-1]
        return bench.tell(out.Signed(signed(asked)))

    bench.get(proposal(), commit(0), commit(2))
    answer()
    assert bench.get(prepare(0), prepare(2)) == ["persist COMMIT 0 with A", "sign COMMIT 0 A"]
    assert bench.state == "COMMITTING 0"  # two COMMITs of others and our own unsent one are no quorum
    assert answer() == ["send COMMIT 0 A", "decide A 0"]


def test_quorum_1692_fork_after_a_restart_with_volatile_locks() -> None:
    """Prepared and committed before the restart: afterwards the lock is told, and no other block is voted for there."""
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    again = bench.restart()
    assert again.began == ["judge A", "sign COMMIT 0 A", "send COMMIT 0 A"]  # what may never have left
    assert again.get(proposal(0, "B")) == ["judge B of 0"]
    assert "PREPARE 0 B" not in " ".join(again.get(prepare(0, 0, B), prepare(2, 0, B), prepare(3, 0, B)))
    assert again.wait(1_100)[-1] == "send ROUND-CHANGE 1 prepared 0 A"


def test_a_restart_that_lost_what_was_prepared_is_refused() -> None:
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    with pytest.raises(Refused) as caught:
        bench.restart(prepared=None)
    assert caught.value.code == "E-GUARD-004"


def test_a_restart_after_a_prepare_votes_for_nothing_else_in_that_round() -> None:
    bench = Bench(1)
    bench.get(proposal())
    again = bench.restart()
    assert again.began == ["sign PREPARE 0 A", "send PREPARE 0 A"]
    assert again.get(proposal(0, "B")) == ["judge B of 0"]
    assert "B" not in " ".join(again.get(prepare(0, 0, B), prepare(2, 0, B))).replace("COMMIT", "")


def test_a_proposer_that_restarts_does_not_propose_another_block() -> None:
    bench = Bench(0, hold=["sign"])
    bench.work()
    assert bench.build() == ["persist PROPOSAL 0", "sign PROPOSAL 0 A"]
    again = bench.restart()
    assert again.work() == []  # the block is gone, and no other may be proposed in this round
    assert again.wait(1_000)[-1] == "send ROUND-CHANGE 1"


def test_a_restart_resumes_in_its_round_and_says_its_round_change_again() -> None:
    bench = Bench(2)
    bench.get(proposal(), prepare(0), prepare(1))
    bench.wait(1_000)
    bench.get(round_change(0, 1), round_change(3, 1))
    bench.wait(2_000)
    again = bench.restart()
    assert again.began[-1] == "send ROUND-CHANGE 2 prepared 0 A"
    assert again.state == "OPEN 2"
    (told,) = again.sent(RoundChange)
    assert isinstance(told, RoundChange)
    assert (told.prepares, told.block) == (prepares(0, A), block("A"))


@pytest.mark.parametrize("cut", ["persist", "sign"])
def test_a_crash_between_record_and_signature_is_made_good(cut: str) -> None:
    """The record is durable, the signature never left: the very same statement is signed after the restart."""
    bench = Bench(1, hold=["sign"])
    said = bench.get(proposal())
    assert said[-2:] == ["persist PREPARE 0", "sign PREPARE 0 A"]
    again = bench.restart(record=first_record(CHAIN)) if cut == "persist" else bench.restart()
    assert "send PREPARE 0 A" in again.began + again.get(proposal())


@pytest.mark.parametrize("number", [1630, 1669])
def test_quorum_stale_work_under_the_empty_block_period(number: int) -> None:
    """A block built for another height or round is never proposed; each build names its parent."""
    bench = Bench(0)
    assert bench.work() == ["build 0"]
    assert bench.outputs[-1] == out.Build(HEIGHT, 0, PARENT)
    if number == 1630:  # the head moved on meanwhile
        bench.get(decided("B"))
        bench.tell(out.NewHeight(HEIGHT + 4, B, bench.members))
        bench.height = HEIGHT + 4
        assert bench.tell(out.Built(HEIGHT, 0, A, block())) == []
        assert bench.work() == ["build 0"]
        assert bench.outputs[-1] == out.Build(HEIGHT + 4, 0, B)
        assert bench.tell(out.Built(HEIGHT, 0, A, block())) == []
    else:  # the round did
        bench.wait(1_000)
        assert bench.build(round_=0) == []
        assert bench.tell(out.Work(HEIGHT)) == []


def test_quorum_idle_chain_has_no_round_changes() -> None:
    bench = Bench(1)
    assert bench.wait(3_600_000) == []
    assert bench.state == "WAITING 0"


@pytest.mark.parametrize("number", [6613, 6732])
def test_besu_digest_mismatch_on_re_proposal(number: int) -> None:
    """The block id covers no round: what was prepared in round 0 is proposed in round 1, and in round 2 again."""
    bench = Bench(3)
    bench.get(proposal())
    bench.get(proposal(1, "A", (claim(0, 1, (0, A)), *claims(1, (1, 2))), prepares(0, A)))
    assert bench.get(prepare(0, 1), prepare(1, 1))[-1] == "send COMMIT 1 A"
    if number == 6732:
        again = proposal(2, "A", (claim(0, 2, (1, A)), *claims(2, (1, 2))), prepares(1, A))
        assert bench.get(again)[-1] == "send PREPARE 2 A"
    assert bench.get(commit(0, 1), commit(1, 1)) == ["decide A 1"]


def test_two_certificates_for_one_block_may_differ() -> None:
    assert certificate(round_=0) != certificate(round_=1, who=(1, 2, 3))
    one, other = Bench(1), Bench(1)
    one.get(decided(round_=0))
    other.get(decided(round_=1, who=(1, 2, 3)))
    assert [each.outputs[-1][1] for each in (one, other)] == [A, A]  # type: ignore[misc]


def test_besu_7642_rounds_of_4096_seconds_after_an_outage() -> None:
    """An outage does not drive the rounds up, no timeout passes the cap, and who returns is pulled along at once."""
    bench = Bench(1)
    bench.work()
    for _ in range(100):
        bench.wait(bench.engine.settings.timeout_cap_ms)
    assert bench.engine.round == 1
    bench.get(round_change(0, 40), round_change(2, 40))
    assert bench.state == "OPEN 40"
    assert bench.wait(8_000)[0] == "persist ROUND_CHANGE 41"
    returned = Bench(2)
    assert returned.get(round_change(0, 41), *bench.sent(RoundChange)[-1:])[-1] == "send ROUND-CHANGE 41"


def test_lost_database_and_kept_record_do_not_lose_the_lock() -> None:
    """Found by the simulator: what was prepared at a height still to come was dropped when a lower one began."""
    bench = Bench(1)
    bench.get(proposal(), prepare(0), prepare(2))
    again = Bench(1, record=bench.record, prepared=bench.prepared, height=HEIGHT - 1)
    assert again.tell(out.NewHeight(HEIGHT, PARENT, again.members)) == ["judge A", "sign COMMIT 0 A", "send COMMIT 0 A"]
    again.wait(100)
    assert again.wait(1_000)[-1] == "send ROUND-CHANGE 1 prepared 0 A"


def test_besu_2095_the_round_timer_starts_after_the_block_interval() -> None:
    bench = Bench(1, settings=Settings(block_interval_ms=5_000, timeout_ms=1_000))
    bench.tell(out.Work(HEIGHT))
    assert bench.wait(4_999) == []
    assert bench.state == "WAITING 0"
    assert bench.wait(1) == []
    assert bench.state == "OPEN 0"
    assert bench.wait(999) == []
    assert bench.wait(1)[-1] == "send ROUND-CHANGE 1"


@pytest.mark.parametrize("count", [2, 4])
def test_besu_8307_restarted_validators_never_resume(count: int) -> None:
    """Others are at round 12; validators come back with nothing but their caught-up chain, and take part at once."""
    bench = Bench(1, count=count, caught_up=False)
    ahead = [round_change(who, 12, height=HEIGHT) for who in ((0,) if count == 2 else (0, 2))]
    assert bench.get(*ahead) == []
    said = bench.tell(out.CaughtUp(True))
    assert said[-1] == "send ROUND-CHANGE 12"
    assert bench.state == "OPEN 12"


def test_quorum_1728_removing_a_validator_halts_the_chain() -> None:
    """The removed one follows without signing; the others agree by the quorum of who is left, in the new order."""
    three = committee(4)[:3]
    removed, stays = Bench(3), Bench(1)
    for bench in (removed, stays):
        bench.get(decided())
        bench.tell(out.NewHeight(HEIGHT + 1, A, three))
    assert stays.engine.committee.quorum == 2
    name = proposal(0, "B", who=(HEIGHT + 1) % 3, height=HEIGHT + 1)
    assert "send PREPARE 0 B" in stays.get(name)
    assert stays.get(prepare(2, 0, B, HEIGHT + 1))[-1] == "send COMMIT 0 B"
    assert stays.get(commit(0, 0, B, HEIGHT + 1)) == ["decide B 0"]
    assert stays.get(prepare(3, 0, B, HEIGHT + 1)) == []
    assert removed.get(name) == ["judge B of 2"]
    assert removed.get(commit(0, 0, B, HEIGHT + 1), commit(2, 0, B, HEIGHT + 1)) == ["decide B 0"]


def test_a_record_ahead_of_the_chain_signs_nothing_until_the_chain_has_caught_up() -> None:
    """The database was lost and the signing record was not: the heights between are only followed."""
    far = Bench(1)
    far.get(proposal())
    again = Bench(1, record=far.record, height=HEIGHT - 1)
    again.work()
    assert "send" not in " ".join(again.get(proposal(0, height=HEIGHT - 1)) + again.wait(60_000))


def test_rounds_jumped_to_are_within_bounds() -> None:
    bench = Bench(0)
    bench.get(round_change(1, MAX_ROUND), round_change(2, 3))
    assert bench.engine.round == 3
