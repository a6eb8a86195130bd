from __future__ import annotations

import pytest

from consensus.evidence import (
    MAX_EVIDENCE_BYTES,
    DoubleSign,
    check_evidence,
    decode_evidence,
    double_sign,
    encode_evidence,
)
from consensus.messages import Kind, Vote
from ledger import codec
from ledger.errors import Invalid, VerifyFailed
from tests.consensus_kit import CHAIN, A, B, C, address, committee, verify, vote

KINDS = (Kind.PROPOSAL, Kind.PREPARE, Kind.COMMIT)
FOUR = committee(4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("round_", [0, 7])
def test_two_votes_for_two_blocks_prove_it(kind: Kind, round_: int) -> None:
    one, other = vote(kind, 2, round_, A), vote(kind, 2, round_, B)
    evidence = double_sign(one, other)
    assert evidence == double_sign(other, one)  # one offence, one encoding
    assert check_evidence(evidence, CHAIN, FOUR, verify) == FOUR[2]
    data = encode_evidence(evidence)
    assert len(data) <= MAX_EVIDENCE_BYTES
    assert decode_evidence(data) == evidence
    assert len(evidence.id()) == 32


INNOCENT: dict[str, tuple[Vote, Vote]] = {
    "the same vote": (vote(Kind.COMMIT, 2), vote(Kind.COMMIT, 2)),
    "another height": (vote(Kind.COMMIT, 2, 0, A, 4), vote(Kind.COMMIT, 2, 0, B, 5)),
    "the height before": (vote(Kind.COMMIT, 2, 0, A, 4), vote(Kind.COMMIT, 2, 0, B, 3)),
    "another round": (vote(Kind.PREPARE, 2, 0, A), vote(Kind.PREPARE, 2, 1, B)),
    "another kind": (vote(Kind.PREPARE, 2, 0, A), vote(Kind.COMMIT, 2, 0, B)),
    "another validator": (vote(Kind.PREPARE, 2, 0, A), vote(Kind.PREPARE, 3, 0, B)),
}


@pytest.mark.parametrize("votes", INNOCENT.values(), ids=INNOCENT)
def test_what_an_honest_validator_may_do_is_no_evidence(votes: tuple[Vote, Vote]) -> None:
    with pytest.raises(VerifyFailed) as caught:
        double_sign(*votes)
    assert caught.value.code == "E-EVIDENCE-002"
    with pytest.raises(VerifyFailed):
        check_evidence(DoubleSign(*votes), CHAIN, FOUR, verify)


def test_evidence_is_verified_whole() -> None:
    first, second = double_sign(vote(Kind.COMMIT, 2, 0, A), vote(Kind.COMMIT, 2, 0, B))
    bad = {
        "in the other order": DoubleSign(second, first),
        "a forged first": DoubleSign(first._replace(signature=bytes(64)), second),
        "a forged second": DoubleSign(first, second._replace(signature=first.signature)),
        "a block put in": DoubleSign(first, second._replace(block_id=max(C, bytes([255]) * 32))),
        "a stranger": DoubleSign(first._replace(validator=address(9)), second._replace(validator=address(9))),
        "another's name": DoubleSign(first._replace(validator=address(1)), second._replace(validator=address(1))),
    }
    for what, evidence in bad.items():
        with pytest.raises(VerifyFailed) as caught:
            check_evidence(evidence, CHAIN, FOUR, verify)
        assert caught.value.code == "E-EVIDENCE-002", what
    with pytest.raises(VerifyFailed):
        check_evidence(DoubleSign(first, second), "other-chain", FOUR, verify)
    with pytest.raises(VerifyFailed, match="no validator of height"):
        check_evidence(DoubleSign(first, second), CHAIN, FOUR[:2], verify)


@pytest.mark.parametrize(
    "value", [(), (1,), None, (tuple(vote(Kind.COMMIT, 2)), None), ((4, *vote(Kind.COMMIT, 2)[1:]),) * 2]
)
def test_malformed_evidence_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        decode_evidence(codec.encode(value))  # type: ignore[arg-type]
