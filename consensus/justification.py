"""Why a proposal or a round change may be believed: every case is a rule with a name.

Pure functions of a message, the committee and the height. They judge everything but signatures, which the engine
verifies afterwards: membership, repeats and counts cost nothing, cryptography does (CONSENSUS C3).

Source: EEA QBFT specification, `node_auxiliary_functions.dfy`: `isProposalJustification` (A), `validRoundChange` (B),
`isHighestPrepared` (C), `validSignedPrepareForHeightRoundAndDigest` (D), and CONSENSUS C5. Stricter than the
specification where no honest node goes: attachments that prove nothing are refused, each sender may appear once, and
two blocks prepared in one highest round are refused, since one of the two claims is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from consensus.messages import Claim, Proposal, RoundChange, Vote
from consensus.tally import Committee


class Rule(Enum):
    """The rule that fired, with what it says. Those before `WRONG_HEIGHT` accept."""

    FIRST_ROUND = "round 0 needs no justification"
    NONE_PREPARED = "a quorum changes round and none of it has prepared a block: any valid block may be proposed"
    HIGHEST_PREPARED = "a quorum changes round, and this block was prepared in the highest round that they name"
    CLAIM_UNPREPARED = "its author has prepared nothing"
    CLAIM_PREPARED = "its author has prepared this block, as a quorum of PREPAREs shows"

    WRONG_HEIGHT = "a part of it is about another height"
    WRONG_PROPOSER = "its author is not the proposer of its round"
    NOT_A_VALIDATOR = "a part of it is signed by somebody who is no validator"
    REPEATED_SENDER = "somebody appears in it twice"
    NEEDLESS_JUSTIFICATION = "it carries a justification where none may be"
    CLAIM_OF_OTHER_ROUND = "a round change in it is for another round"
    TOO_FEW_CLAIMS = "the round changes in it are no quorum"
    HALF_PREPARED = "a round change names a prepared round without a block, or a block without its round"
    PREPARED_NOT_BEFORE = "a round change names a prepared round that is not before its own"
    NEEDLESS_PREPARES = "it carries PREPAREs though nothing was prepared"
    TWO_PREPARED_BLOCKS = "two blocks are said to be prepared in the highest round"
    NOT_THE_PREPARED_BLOCK = "its block is not the one prepared in the highest round"
    PREPARE_OF_OTHER_ROUND = "a PREPARE in it is of another round than was prepared"
    PREPARE_OF_OTHER_BLOCK = "a PREPARE in it is for another block than was prepared"
    TOO_FEW_PREPARES = "the PREPAREs in it are no quorum"
    ROUND_ZERO = "nobody changes to round 0"
    BLOCK_WITHOUT_CLAIM = "it carries a block though nothing was prepared"
    BLOCK_MISSING = "it does not carry the block that was prepared"


ACCEPTING = frozenset(
    {Rule.FIRST_ROUND, Rule.NONE_PREPARED, Rule.HIGHEST_PREPARED, Rule.CLAIM_UNPREPARED, Rule.CLAIM_PREPARED}
)


class Prepared(NamedTuple):
    """The highest prepared round and block of a set of claims."""

    round: int
    block_id: bytes


def judge_proposal(proposal: Proposal, height: int, committee: Committee) -> Rule:
    """The rule by which a PROPOSAL for `height` is justified or refused."""
    vote = proposal.vote
    if vote.height != height:
        return Rule.WRONG_HEIGHT
    if vote.validator != committee.proposer(height, vote.round):  # isValidProposal: author == roundLeader
        return Rule.WRONG_PROPOSER
    if vote.round == 0:  # A, first branch
        return Rule.NEEDLESS_JUSTIFICATION if proposal.claims or proposal.prepares else Rule.FIRST_ROUND
    refusal = _judge_claims(proposal.claims, height, vote.round, committee)
    if refusal is not None:
        return refusal
    prepared = highest_prepared(proposal.claims)
    if prepared is None:  # A, second branch: all claims are without a prepared round
        return Rule.NEEDLESS_PREPARES if proposal.prepares else Rule.NONE_PREPARED
    named = {claim.prepared_id for claim in proposal.claims if claim.prepared_round == prepared.round}
    if len(named) > 1:
        return Rule.TWO_PREPARED_BLOCKS
    if vote.block_id != prepared.block_id:  # A, third branch: preparedValue == digest(block), the round left out (C4)
        return Rule.NOT_THE_PREPARED_BLOCK
    return _judge_prepares(proposal.prepares, height, prepared, committee) or Rule.HIGHEST_PREPARED


def judge_round_change(message: RoundChange, height: int, committee: Committee) -> Rule:
    """The rule by which a ROUND-CHANGE for `height` is believed or refused."""
    claim = message.claim
    refusal = _judge_claim(claim, height, claim.round, committee)
    if refusal is not None:
        return refusal
    if claim.round == 0:
        return Rule.ROUND_ZERO
    if claim.prepared_round is None or claim.prepared_id is None:
        if message.block is not None:
            return Rule.BLOCK_WITHOUT_CLAIM
        return Rule.NEEDLESS_PREPARES if message.prepares else Rule.CLAIM_UNPREPARED
    if message.block is None:
        return Rule.BLOCK_MISSING
    prepared = Prepared(claim.prepared_round, claim.prepared_id)
    return _judge_prepares(message.prepares, height, prepared, committee) or Rule.CLAIM_PREPARED


def highest_prepared(claims: Sequence[Claim]) -> Prepared | None:
    """The block prepared in the highest round that the claims name (C), or None where none names one."""
    found = [
        Prepared(claim.prepared_round, claim.prepared_id)
        for claim in claims
        if claim.prepared_round is not None and claim.prepared_id is not None
    ]
    return max(found, key=lambda prepared: prepared.round, default=None)


def _judge_claims(claims: Sequence[Claim], height: int, round_: int, committee: Committee) -> Rule | None:
    for claim in claims:  # A: forall m in roundChanges :: validRoundChange(m, height, round, validators)
        refusal = _judge_claim(claim, height, round_, committee)
        if refusal is not None:
            return refusal
    senders = [claim.validator for claim in claims]
    if len(set(senders)) != len(senders):
        return Rule.REPEATED_SENDER
    return None if committee.is_quorum(senders) else Rule.TOO_FEW_CLAIMS  # A: |senders| >= quorum


def _judge_claim(claim: Claim, height: int, round_: int, committee: Committee) -> Rule | None:
    if claim.height != height:  # B
        return Rule.WRONG_HEIGHT
    if claim.round != round_:  # B
        return Rule.CLAIM_OF_OTHER_ROUND
    if claim.validator not in committee:  # B: author in validators
        return Rule.NOT_A_VALIDATOR
    if (claim.prepared_round is None) != (claim.prepared_id is None):  # B: both are present, or neither is
        return Rule.HALF_PREPARED
    if claim.prepared_round is not None and claim.prepared_round >= claim.round:  # B: preparedRound < round
        return Rule.PREPARED_NOT_BEFORE
    return None


def _judge_prepares(prepares: Sequence[Vote], height: int, prepared: Prepared, committee: Committee) -> Rule | None:
    for prepare in prepares:  # D
        if prepare.height != height:
            return Rule.WRONG_HEIGHT
        if prepare.round != prepared.round:
            return Rule.PREPARE_OF_OTHER_ROUND
        if prepare.block_id != prepared.block_id:
            return Rule.PREPARE_OF_OTHER_BLOCK
        if prepare.validator not in committee:
            return Rule.NOT_A_VALIDATOR
    senders = [prepare.validator for prepare in prepares]
    if len(set(senders)) != len(senders):
        return Rule.REPEATED_SENDER
    return None if committee.is_quorum(senders) else Rule.TOO_FEW_PREPARES
