"""From the product's messages to the oracle's."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.messages import Claim, Proposal, Vote
from ledger.block import Validator
from tests.oracle.qbft_predicates import Member, OracleProposal, SignedRoundChange, SignedVote


def members(validators: Sequence[Validator]) -> tuple[Member, ...]:
    return tuple([Member(validator.address, validator.power) for validator in validators])


def oracle_vote(vote: Vote) -> SignedVote:
    return SignedVote(vote.height, vote.round, vote.block_id, vote.validator)


def oracle_claim(claim: Claim) -> SignedRoundChange:
    return SignedRoundChange(claim.height, claim.round, claim.prepared_round, claim.prepared_id, claim.validator)


def oracle_proposal(proposal: Proposal) -> OracleProposal:
    return OracleProposal(
        oracle_vote(proposal.vote),
        tuple([oracle_claim(each) for each in proposal.claims]),
        tuple([oracle_vote(each) for each in proposal.prepares]),
    )
