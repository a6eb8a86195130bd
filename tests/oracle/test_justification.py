"""`consensus.justification` and `consensus.quorum` against the oracle, on random and adversarial sets of messages."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from consensus import quorum as product
from consensus.justification import ACCEPTING, judge_proposal, judge_round_change
from consensus.messages import Claim, Kind, Proposal, RoundChange, Vote
from consensus.tally import Committee
from ledger.block import Validator
from tests.consensus_kit import HEIGHT, A, B, address, block, committee
from tests.oracle import qbft_predicates as oracle
from tests.oracle.translate import members, oracle_claim, oracle_proposal, oracle_vote

ROUND = 3
T = TypeVar("T")


def mostly(usual: T, *others: T) -> SearchStrategy[T]:
    """The usual value, and now and then another."""
    return st.integers(0, 11).flatmap(lambda n: st.just(usual) if n else st.sampled_from(others))


def claims(round_: int, prepared: tuple[int, bytes] | None) -> SearchStrategy[Claim]:
    heights, rounds = mostly(HEIGHT, HEIGHT + 1), mostly(round_, round_ + 1, max(round_ - 1, 0))
    values: SearchStrategy[tuple[int | None, bytes | None]] = st.sampled_from([(None, None), prepared or (None, None)])
    odd: SearchStrategy[tuple[int | None, bytes | None]] = st.tuples(
        st.sampled_from([None, 0, 1, 2, 3, 4]), st.sampled_from([None, A, B])
    )
    pairs = st.integers(0, 9).flatmap(lambda n: values if n else odd)
    return st.builds(
        lambda height, at, pair, who: Claim(height, at, pair[0], pair[1], address(who)),
        heights,
        rounds,
        pairs,
        st.integers(0, 7),
    )


def prepares(round_: int, of: bytes) -> SearchStrategy[Vote]:
    return st.builds(
        lambda height, at, digest, who: Vote(Kind.PREPARE, height, at, digest, address(who)),
        mostly(HEIGHT, HEIGHT - 1),
        mostly(round_, round_ + 1),
        mostly(of, A, B),
        st.integers(0, 7),
    )


@st.composite
def committees(draw: DrawFn) -> tuple[Validator, ...]:
    count = draw(st.integers(1, 7))
    return committee(count, draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))


@st.composite
def proposals(draw: DrawFn, validators: tuple[Validator, ...]) -> Proposal:
    """Most are nearly right: a random set, each part of which is a little wrong now and then."""
    round_ = draw(mostly(ROUND, 0, 1))
    prepared = draw(st.sampled_from([None, (0, A), (1, A), (2, A), (2, B)]))
    author = address((HEIGHT + round_) % len(validators))
    vote = Vote(
        Kind.PROPOSAL, draw(mostly(HEIGHT, HEIGHT + 1)), round_, draw(mostly(A, B)), draw(mostly(author, address(0)))
    )
    distinct = draw(st.booleans())
    key = (lambda each: each.validator) if distinct else (lambda each: (each.validator, each))
    said = draw(st.lists(claims(round_, prepared), max_size=8, unique_by=key)) if round_ or draw(st.booleans()) else []
    place = prepared or (0, A)
    proof = draw(st.lists(prepares(*place), max_size=8, unique_by=key)) if prepared or draw(st.booleans()) else []
    return Proposal(vote, block(), tuple(said), tuple(proof))


@st.composite
def nearly_right(draw: DrawFn, validators: tuple[Validator, ...]) -> Proposal:
    """A proposal that is right, then at most one thing about it changed."""
    everybody = range(len(validators))
    round_, prepared_in = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    prepared = prepared_in if prepared_in < round_ else None
    pair = (None, None) if prepared is None else (prepared, A)
    none = (None, None)
    said = []
    for who in everybody:
        prepared_round, prepared_id = pair if who == 0 or draw(st.booleans()) else none
        said.append(Claim(HEIGHT, round_, prepared_round, prepared_id, address(who)))
    proof = [] if prepared is None else [Vote(Kind.PREPARE, HEIGHT, prepared, A, address(who)) for who in everybody]
    for chosen in (said, proof):
        for _ in range(draw(st.integers(0, 2))):
            if chosen:
                chosen.pop(draw(st.integers(0, len(chosen) - 1)))
    change = draw(st.integers(0, 9))
    if said and change == 0:
        place = draw(st.integers(0, len(said) - 1))
        said[place] = draw(claims(round_, (prepared or 0, B)))
    if proof and change == 1:
        place = draw(st.integers(0, len(proof) - 1))
        proof[place] = draw(prepares(prepared or 0, A))
    if said and change == 2:
        said.append(draw(st.sampled_from(said)))
    if proof and change == 3:
        proof.append(draw(st.sampled_from(proof)))
    if said and prepared is not None and change == 5:
        place = draw(st.integers(0, len(said) - 1))
        said[place] = said[place]._replace(prepared_round=prepared, prepared_id=B)
    vote = Vote(Kind.PROPOSAL, HEIGHT, round_, B if change == 4 else A, address((HEIGHT + round_) % len(validators)))
    return Proposal(vote, block(), tuple(said), tuple(proof))


def test_proposals_are_judged_as_the_specification_says() -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=800, derandomize=True, deadline=None)
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        validators = data.draw(committees())
        proposal = data.draw(st.one_of(proposals(validators), nearly_right(validators)))
        rule = judge_proposal(proposal, HEIGHT, Committee(validators))
        plain, theirs = oracle_proposal(proposal), members(validators)
        met[rule.name] += 1
        assert (rule in ACCEPTING) == (oracle.is_valid_proposal(plain, HEIGHT, theirs) and oracle.is_plain(plain)), rule

    compare()
    # A comparison that never sees an acceptance, or only one kind of refusal, would be worth nothing.
    assert {"FIRST_ROUND", "NONE_PREPARED", "HIGHEST_PREPARED", "TOO_FEW_CLAIMS", "NOT_THE_PREPARED_BLOCK"} <= set(met)
    assert len(met) >= 10


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.data())
def test_round_changes_are_judged_as_the_specification_says(data: st.DataObject) -> None:
    validators = data.draw(committees())
    prepared = data.draw(st.sampled_from([None, (0, A), (2, A)]))
    claim = data.draw(claims(data.draw(mostly(ROUND, 0)), prepared))
    proof = data.draw(st.lists(prepares(*(prepared or (0, A))), max_size=8)) if data.draw(st.booleans()) else []
    held = data.draw(mostly(None if claim.prepared_id is None else block(), None, block()))
    message = RoundChange(claim, tuple(proof), held)
    right = oracle.valid_round_change_message(
        oracle_claim(claim), [oracle_vote(each) for each in proof], held is not None, HEIGHT, members(validators)
    )
    assert (judge_round_change(message, HEIGHT, Committee(validators)) in ACCEPTING) == right


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9))
def test_quorum_and_f_are_those_of_the_oracle(powers: list[int]) -> None:
    validators = committee(len(powers), powers)
    assert product.quorum(sum(powers)) == oracle.quorum(members(validators))
    assert product.faulty(sum(powers)) == oracle.f(members(validators))


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 9))
def test_turns_are_those_of_the_oracle(height: int, round_: int, count: int) -> None:
    validators = committee(count)
    assert product.proposer(validators, height, round_).address == oracle.proposer(height, round_, members(validators))
