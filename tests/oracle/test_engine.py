"""The whole engine against the oracle: random and adversarial messages, time, restarts; judged after every step.

The other validators may say anything that their own keys can sign, including two things at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from consensus import engine as product
from consensus import events as out
from consensus import tally
from consensus.events import Input
from consensus.guard import PreparedBlock, Record
from consensus.justification import Rule
from consensus.messages import Claim, Kind, Message, Proposal, RoundChange, Vote
from consensus.transitions import TRANSITIONS, Phase
from ledger.block import Certificate, Seal
from tests.consensus_kit import (
    HEIGHT,
    Bench,
    address,
    block,
    block_id,
    claim,
    commit,
    committee,
    decided,
    prepare,
    proposal,
    round_change,
    signed,
)
from tests.oracle.watch import Watch

NAMES = ("A", "B")
OTHERS = (0, 2, 3)


class WatchedBench(Bench):
    """A bench whose every call the oracle sees."""

    def __init__(self, watch: Watch, record: Record | None = None, prepared: PreparedBlock | None = None) -> None:
        self.watch = watch
        watch.bench = self
        powers = [member.power for member in watch.validators]
        super().__init__(1, record=record, prepared=prepared, powers=powers)

    def tell(self, event: Input, after_ms: int = 0) -> list[str]:
        self.now_ms += after_ms
        pending: list[Input] = [event]
        while pending:
            event = pending.pop(0)
            outputs = self.engine.handle(event, self.now_ms)
            self.watch.did(event, outputs)
            self.fired += [each.name for each in self.engine.fired]
            for each in outputs:
                answer = self._answer(each)
                if answer is not None:
                    pending.append(answer)
                if isinstance(each, out.Judge):
                    self.watch.verdict(each, self.valid(each))
        self.watch.settled()
        return []


@st.composite
def messages(draw: DrawFn, bench: Bench) -> list[Message]:
    """One message, or the several that one step of the others takes. Rounds lie about where the engine is."""
    current = bench.engine.round
    round_ = max(0, current + draw(st.sampled_from([0, 0, 0, 0, -1, 1, 2])))
    name = draw(st.sampled_from("AAAB"))
    of = block_id(block(name))
    some = draw(st.sampled_from([(0, 2), (0, 3), (2, 3), (0, 2, 3), (0,), (3,)]))
    kind = draw(
        st.sampled_from(["proposal", "prepare", "commit", "change", "decided", "prepare", "proposal", "commit"])
    )
    if kind == "prepare":
        return [prepare(who, round_, of) for who in some]
    if kind == "commit":
        return [commit(who, round_, of) for who in some]
    if kind == "decided":
        return [decided(name, round_, draw(st.sampled_from([(0, 2, 3), (0, 2), (2, 3)])))]
    prepared_in = draw(st.integers(0, max(round_ - 1, 0)))
    prepared = (prepared_in, name) if round_ and draw(st.booleans()) else None
    if kind == "change":
        return [round_change(who, round_ or 1, prepared if who != 3 else None) for who in some]
    if round_ == 0:
        return [proposal(0, name)]
    proof = tuple([prepare(who, prepared_in, of) for who in OTHERS]) if prepared else ()
    pair = (prepared_in, of) if prepared else None
    said = tuple([claim(who, round_, pair if who == OTHERS[0] else None) for who in OTHERS])
    change = draw(st.integers(0, 7))
    if change == 0:
        said = said[:2]
    elif change == 1:
        proof = proof[:2]
    elif change == 2:
        proof = ()
    return [proposal(round_, draw(st.sampled_from([name] * 5 + ["B"])), said, proof)]


def play(data: st.DataObject, met: Counter[str], powers: Sequence[int] = (), steps: int = 25) -> list[str]:
    """Plays one run; returns what the oracle found."""
    watch = Watch(committee(4, powers), HEIGHT)
    bench = WatchedBench(watch)
    for _ in range(data.draw(st.integers(1, steps))):
        what = data.draw(st.sampled_from(["message"] * 8 + ["time", "work", "restart"]))
        if what == "message":
            for message in data.draw(messages(bench)):
                bench.tell(out.Received(address(9), message))
        elif what == "time":
            bench.tell(out.Tick(), data.draw(st.sampled_from([50, 1_000, 9_000])))
        elif what == "work":
            bench.work()
            bench.build(data.draw(st.sampled_from(NAMES)), bench.engine.round)
        elif watch.decided is None:
            watch.restarted()
            bench = WatchedBench(watch, bench.record, bench.prepared)
        met.update(bench.fired)
        bench.fired.clear()
        if watch.faults:
            break
    met["decided"] += watch.decided is not None
    return watch.faults


class FoundError(Exception):
    """The oracle has found a fault."""


def search(examples: int, *, shrink: bool = True, powers: Sequence[int] = ()) -> Counter[str]:
    """Plays runs and says what was met on the way. Raises FoundError at a fault."""
    met: Counter[str] = Counter()
    phases = [phase for phase in hypothesis.Phase if shrink or phase is hypothesis.Phase.generate]

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None, phases=phases)
    @given(st.data())
    def runs(data: st.DataObject) -> None:
        faults = play(data, met, powers)
        if faults:
            raise FoundError(faults[0])

    runs()
    return met


def test_the_engine_does_what_the_specification_allows_and_asks_for() -> None:
    met = search(250)
    assert met["decided"] > 10
    assert {each.name for each in TRANSITIONS} - {"refuse block"} <= set(met)


# Broken on purpose, the engine must be found out.


def any_block_may_follow(self: object, message: Proposal) -> Rule:
    return Rule.NONE_PREPARED if message.vote.round else Rule.FIRST_ROUND


def forgets_what_was_prepared(self: product.Engine, round_: int) -> None:
    self._enter(round_)
    self._ask(RoundChange(Claim(self.height, round_, None, None, self.address)))


def commits_of_the_current_round_only(self: product.Engine) -> bool:
    if self.phase is Phase.DECIDED:
        return False
    for place in self._commits.quorums(self.committee):
        block_ = self._known.get(place.block_id)
        if block_ is not None and place.round == self.round:
            votes = self._commits.at(place)
            seals = tuple([Seal(vote.validator, vote.signature) for vote in votes])
            self._decide(block_, Certificate(self.height, place.round, place.block_id, seals))
            return True
    return False


def counts_its_own_commit_at_once(self: product.Engine, message: Message, prepared: object = None) -> None:
    if isinstance(message, Vote) and message.kind is Kind.COMMIT:
        self._commits.add(signed(message))
        self._try_decide()
    original_ask(self, message, prepared)  # type: ignore[arg-type]


original_ask = product.Engine._ask


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("_judge_proposal", any_block_may_follow, "without a justified PROPOSAL"),
        ("_change_round", forgets_what_was_prepared, "prepared was"),
        ("_try_decide", commits_of_the_current_round_only, "did not decide"),
        ("_ask", counts_its_own_commit_at_once, "COMMITs that were sent"),
    ],
    ids=["C5: any proposal", "C5: lock not told", "C7: current round only", "C7: own unsent COMMIT"],
)
def test_an_engine_broken_on_purpose_is_found_out(
    name: str, broken: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product.Engine, name, broken)
    with pytest.raises(FoundError, match=says):
        search(600, shrink=False)


def test_a_quorum_of_two_f_plus_one_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    powers = (1, 1, 1, 3)  # W = 6: a quorum is 4, and 2F + 1 is 3
    search(100, powers=powers)
    monkeypatch.setattr(tally, "quorum", lambda total: 2 * ((total - 1) // 3) + 1)
    with pytest.raises(FoundError):
        search(600, shrink=False, powers=powers)
