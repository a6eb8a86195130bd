"""The predicates of the EEA QBFT specification, written plainly from its text and without the product's code.

Sets of messages, quantifiers, no short cuts; names are the specification's (`node_auxiliary_functions.dfy`,
`node.dfy`). Signatures are left out: every message here is one that its author did sign. Power takes the place of
heads. A block's digest covers no round, so `replaceRoundInBlock` has nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Member(NamedTuple):
    """A validator: address and power. A list of them is in the order of their turns."""

    address: bytes
    power: int


class SignedRoundChange(NamedTuple):
    """UnsignedRoundChange and its author."""

    height: int
    round: int
    prepared_round: int | None
    prepared_value: bytes | None
    author: bytes


class SignedVote(NamedTuple):
    """UnsignedProposal, UnsignedPrepare or UnsignedCommit, and its author."""

    height: int
    round: int
    digest: bytes
    author: bytes


class OracleProposal(NamedTuple):
    """A Proposal: the signed part and its two justifications, as lists, so that repeats can be seen."""

    vote: SignedVote
    round_changes: tuple[SignedRoundChange, ...]
    prepares: tuple[SignedVote, ...]


def f(validators: Sequence[Member]) -> int:
    """The most power that may be faulty: the greatest F with 3F < W."""
    total = sum(member.power for member in validators)
    return max(bad for bad in range(total) if 3 * bad < total)


def quorum(validators: Sequence[Member]) -> int:
    """The least power of which any two have somebody honest in common."""
    total = sum(member.power for member in validators)
    return next(least for least in range(1, total + 1) if 2 * least - total > f(validators))


def power(authors: Iterable[bytes], validators: Sequence[Member]) -> int:
    """The power of a set of authors."""
    return sum(member.power for member in validators if member.address in set(authors))


def is_validator(author: bytes, validators: Sequence[Member]) -> bool:
    return any(member.address == author for member in validators)


def proposer(height: int, round_: int, validators: Sequence[Member]) -> bytes:
    """order[(height + round) mod n] (CONSENSUS C11)."""
    return validators[(height + round_) % len(validators)].address


def valid_round_change(m: SignedRoundChange, height: int, round_: int, validators: Sequence[Member]) -> bool:
    """validRoundChange"""
    if m.height != height or m.round != round_ or not is_validator(m.author, validators):
        return False
    if m.prepared_round is None and m.prepared_value is None:
        return True
    if m.prepared_round is not None and m.prepared_value is not None:
        return m.prepared_round < round_
    return False


def is_highest_prepared(m: SignedRoundChange, round_changes: Iterable[SignedRoundChange]) -> bool:
    """isHighestPrepared"""
    if m.prepared_round is None or m.prepared_value is None:
        return False
    return all(each.prepared_round is None or each.prepared_round <= m.prepared_round for each in round_changes)


def valid_signed_prepare(m: SignedVote, height: int, round_: int, digest: bytes, validators: Sequence[Member]) -> bool:
    """validSignedPrepareForHeightRoundAndDigest"""
    return (m.height, m.round, m.digest) == (height, round_, digest) and is_validator(m.author, validators)


def is_proposal_justification(p: OracleProposal, height: int, validators: Sequence[Member]) -> bool:
    """isProposalJustification, but for the validity of the block."""
    round_ = p.vote.round
    if round_ == 0:
        return True
    if power({m.author for m in p.round_changes}, validators) < quorum(validators):
        return False
    if not all(valid_round_change(m, height, round_, validators) for m in p.round_changes):
        return False
    if all(m.prepared_round is None and m.prepared_value is None for m in p.round_changes):
        return True
    if power({m.author for m in p.prepares}, validators) < quorum(validators):
        return False
    return any(
        is_highest_prepared(rcm, p.round_changes)
        and rcm.prepared_value == p.vote.digest
        and rcm.prepared_round is not None
        and all(
            valid_signed_prepare(pm, height, rcm.prepared_round, rcm.prepared_value, validators) for pm in p.prepares
        )
        for rcm in p.round_changes
    )


def is_valid_proposal(p: OracleProposal, height: int, validators: Sequence[Member]) -> bool:
    """isValidProposal, but for the validity of the block and the state of the receiver."""
    leader = proposer(height, p.vote.round, validators)
    return p.vote.height == height and p.vote.author == leader and is_proposal_justification(p, height, validators)


def is_plain(p: OracleProposal) -> bool:
    """What no honest proposer does, and Troth refuses although the specification lets it pass."""
    if p.vote.round == 0:
        return not p.round_changes and not p.prepares
    prepared = [m for m in p.round_changes if m.prepared_round is not None]
    highest = max((m.prepared_round for m in prepared if m.prepared_round is not None), default=None)
    return (
        len({m.author for m in p.round_changes}) == len(p.round_changes)
        and len({m.author for m in p.prepares}) == len(p.prepares)
        and len({m.prepared_value for m in prepared if m.prepared_round == highest}) <= 1
        and bool(prepared or not p.prepares)
    )


def quorum_of_votes(
    votes: Iterable[SignedVote], height: int, round_: int, digest: bytes, validators: Sequence[Member]
) -> bool:
    """Whether validPreparesForHeightRoundAndDigest, or the same of commits, is a quorum."""
    authors = {m.author for m in votes if valid_signed_prepare(m, height, round_, digest, validators)}
    return power(authors, validators) >= quorum(validators)


def valid_round_change_message(
    m: SignedRoundChange, prepares: Sequence[SignedVote], has_block: bool, height: int, validators: Sequence[Member]
) -> bool:
    """A RoundChange whose attachments prove what it says (createRoundChange, getRoundChangeJustification)."""
    if m.round == 0 or not valid_round_change(m, height, m.round, validators):
        return False
    if m.prepared_round is None or m.prepared_value is None:
        return not prepares and not has_block
    return (
        has_block
        and len({each.author for each in prepares}) == len(prepares)
        and all(valid_signed_prepare(each, height, m.prepared_round, m.prepared_value, validators) for each in prepares)
        and quorum_of_votes(prepares, height, m.prepared_round, m.prepared_value, validators)
    )


def rounds_by_f_plus_one(claims: Iterable[SignedRoundChange], current: int, validators: Sequence[Member]) -> int:
    """Where UponRoundChange's second case leads, taken again and again: to the smallest round of F+1 at higher ones."""
    while True:
        higher = [m for m in claims if m.round > current]
        if power({m.author for m in higher}, validators) <= f(validators):
            return current
        current = min(m.round for m in higher)
