"""Evidence of double signing: two votes of one validator that an honest one never makes both.

    evidence  [vote, vote], each [kind, height, round, block id, validator, signature], the smaller block id first

Rules kept here:
- same kind (PROPOSAL, PREPARE or COMMIT), height, round and validator; different block ids (CONSENSUS D6);
- votes of two rounds or two heights prove nothing: changing one's mind there is allowed;
- one offence in one pair of blocks has one encoding, so it cannot be punished twice under two names.

How old evidence may be and what it costs are the chain's rules, not consensus's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from consensus.messages import Verify, Vote, signature_holds, vote_of
from ledger import codec
from ledger.block import Validator
from ledger.errors import Invalid, VerifyFailed, define
from ledger.hashes import evidence_hash
from ledger.keys import verify as verify_signature

MALFORMED = define(
    "E-EVIDENCE-001", "malformed evidence", "evidence is two votes of one validator for one height and round"
)
UNPROVEN = define("E-EVIDENCE-002", "the evidence proves no double signing", "do not send it again")

MAX_EVIDENCE_BYTES = 512


class DoubleSign(NamedTuple):
    """Two votes for two blocks, the one with the smaller block id first."""

    first: Vote
    second: Vote

    def id(self) -> bytes:
        """The evidence's id, 32 bytes."""
        return evidence_hash(encode_evidence(self))


def double_sign(one: Vote, other: Vote) -> DoubleSign:
    """The evidence that two votes make, whichever came first. Raises VerifyFailed (E-EVIDENCE-002) if they are none."""
    first, second = sorted((one, other), key=lambda vote: vote.block_id)
    evidence = DoubleSign(first, second)
    _check(evidence)
    return evidence


def check_evidence(
    evidence: DoubleSign, chain_id: str, validators: Sequence[Validator], verify: Verify = verify_signature
) -> Validator:
    """The validator who signed twice. Raises VerifyFailed (E-EVIDENCE-002) unless the evidence proves it.

    `validators` are those of the height in question.
    """
    _check(evidence)
    first, second = evidence
    accused = next((validator for validator in validators if validator.address == first.validator), None)
    if accused is None:
        raise VerifyFailed(UNPROVEN, f"{first.validator.hex()} is no validator of height {first.height}")
    for vote in (first, second):
        if not signature_holds(chain_id, accused.public_key, vote, verify):
            raise VerifyFailed(UNPROVEN, f"the signature for block {vote.block_id.hex()} does not verify")
    return accused


def encode_evidence(evidence: DoubleSign) -> bytes:
    """The canonical bytes of evidence, as a block carries it."""
    return codec.encode(evidence)


def decode_evidence(data: bytes) -> DoubleSign:
    """The evidence of its bytes, not yet verified. Raises Invalid: E-EVIDENCE-001, E-CONSENSUS-001, E-CODEC-..."""
    fields = codec.decode(data, max_bytes=MAX_EVIDENCE_BYTES)
    if type(fields) is not tuple or len(fields) != 2:
        raise Invalid(MALFORMED, "evidence is two votes")
    return DoubleSign(vote_of(fields[0]), vote_of(fields[1]))


def _check(evidence: DoubleSign) -> None:
    first, second = evidence
    for name in ("kind", "height", "round", "validator"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            raise VerifyFailed(UNPROVEN, f"the two votes are of different {name}: {one!r}, {other!r}")
    if first.block_id >= second.block_id:
        raise VerifyFailed(UNPROVEN, "the two votes are for one block, or not in the order of their block ids")
