from __future__ import annotations

from itertools import combinations

import pytest

from consensus.quorum import check_certificate, faulty, proposer, quorum
from ledger.block import Certificate, Seal, commit_message
from ledger.errors import VerifyFailed
from tests.chains import CHAIN_ID, key, validator

_SEVEN = sorted([validator(f"validator-{number}") for number in range(7)])
_NAMES = {validator(f"validator-{number}").address: f"validator-{number}" for number in range(7)}
_BLOCK_ID = bytes(range(32))


def _certificate(
    count: int, *, height: int = 9, round_: int = 0, signed_id: bytes = _BLOCK_ID, chain_id: str = CHAIN_ID
) -> Certificate:
    """Sealed by the first `count` of the seven."""
    message = commit_message(chain_id, height, round_, signed_id)
    seals = [Seal(each.address, key(_NAMES[each.address]).sign(message)) for each in _SEVEN[:count]]
    return Certificate(height, round_, signed_id, tuple(seals))


def _refused(certificate: Certificate, *, chain_id: str = CHAIN_ID, block_id: bytes = _BLOCK_ID) -> str:
    with pytest.raises(VerifyFailed) as caught:
        check_certificate(certificate, chain_id, block_id, _SEVEN)
    assert caught.value.code == "E-CERTIFICATE-001"
    return caught.value.cause


@pytest.mark.parametrize("total", range(1, 26))
def test_quorums_of_every_power_are_safe_and_can_be_reached(total: int) -> None:
    least, bad = quorum(total), faulty(total)
    assert 3 * bad < total <= 3 * bad + 3  # the most that three times over stays below the whole
    assert 2 * least - total > bad  # two quorums share more than may be faulty: they cannot decide differently
    assert least <= total - bad  # those that are not faulty decide alone: it goes on
    assert 2 * (least - 1) - total <= bad  # and no smaller quorum would do


@pytest.mark.parametrize("total", range(1, 10))
def test_two_quorums_share_an_honest_validator_whichever_they_are(total: int) -> None:
    quorums = [set(chosen) for chosen in combinations(range(total), quorum(total))]
    assert min(len(one & other) for one in quorums for other in quorums) > faulty(total)


def test_the_table_of_small_sets() -> None:
    assert [quorum(total) for total in (1, 2, 3, 4, 5, 6, 7, 10)] == [1, 2, 2, 3, 4, 4, 5, 7]
    assert [faulty(total) for total in (1, 2, 3, 4, 5, 6, 7, 10)] == [0, 0, 0, 1, 1, 1, 2, 3]


def test_every_validator_proposes_in_turn() -> None:
    assert [proposer(_SEVEN, 3, round_) for round_ in range(7)] == [*_SEVEN[3:], *_SEVEN[:3]]
    assert proposer(_SEVEN, 4, 0) == proposer(_SEVEN, 3, 1)


@pytest.mark.parametrize("count", [5, 6, 7])
def test_a_quorum_makes_a_block_final(count: int) -> None:
    check_certificate(_certificate(count), CHAIN_ID, _BLOCK_ID, _SEVEN)
    check_certificate(_certificate(count, round_=4), CHAIN_ID, _BLOCK_ID, _SEVEN)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_less_than_a_quorum_does_not(count: int) -> None:
    assert f"power {count} has sealed height 9, 5 are needed" in _refused(_certificate(count))


def test_power_counts_and_not_heads() -> None:
    weights = [each._replace(power=10 if index == 0 else 1) for index, each in enumerate(_SEVEN)]
    check_certificate(_certificate(2), CHAIN_ID, _BLOCK_ID, weights)  # 11 of 16
    with pytest.raises(VerifyFailed):
        check_certificate(_certificate(1), CHAIN_ID, _BLOCK_ID, weights)
    heavy = [each._replace(power=10 if index == 6 else 1) for index, each in enumerate(_SEVEN)]
    with pytest.raises(VerifyFailed):
        check_certificate(_certificate(6), CHAIN_ID, _BLOCK_ID, heavy)


def test_only_validators_seal() -> None:
    good = _certificate(7)
    message = commit_message(CHAIN_ID, 9, 0, _BLOCK_ID)
    stranger = Seal(validator("stranger").address, key("stranger").sign(message))
    with_stranger = good._replace(seals=tuple(sorted([*good.seals, stranger])))
    assert "is no validator of height 9" in _refused(with_stranger)


def test_a_seal_counts_once() -> None:
    good = _certificate(5)
    assert "do not ascend" in _refused(good._replace(seals=(good.seals[0],) * 5))
    assert "do not ascend" in _refused(good._replace(seals=(*good.seals[:4], good.seals[3])))
    assert "do not ascend" in _refused(good._replace(seals=good.seals[::-1]))


def test_membership_is_judged_before_any_signature() -> None:
    # A certificate of strangers must cost no verification: their seals do not even verify.
    strangers = [Seal(validator(f"stranger-{number}").address, bytes(64)) for number in range(7)]
    assert "is no validator" in _refused(Certificate(9, 0, _BLOCK_ID, tuple(sorted(strangers))))


def test_a_certificate_names_its_block() -> None:
    other = bytes(32)
    assert "it names block" in _refused(_certificate(7, signed_id=other))
    assert "it names block" in _refused(_certificate(7), block_id=other)


@pytest.mark.parametrize(
    "certificate",
    [
        _certificate(7, signed_id=bytes(32))._replace(block_id=_BLOCK_ID),
        _certificate(7, height=8)._replace(height=9),
        _certificate(7, round_=1)._replace(round=0),
        _certificate(7, chain_id="other-chain"),
    ],
    ids=["another block", "another height", "another round", "another chain"],
)
def test_a_seal_of_something_else_is_none(certificate: Certificate) -> None:
    assert "does not verify" in _refused(certificate)


@pytest.mark.parametrize("index", range(5))
def test_one_forged_seal_spoils_a_certificate(index: int) -> None:
    good = _certificate(7)
    seals = list(good.seals)
    seals[index] = seals[index]._replace(signature=seals[(index + 1) % 7].signature)
    cause = _refused(good._replace(seals=tuple(seals)))
    assert f"the seal of {seals[index].validator.hex()} does not verify" == cause
