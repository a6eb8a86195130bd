from __future__ import annotations

import pytest

from consensus.guard import (
    PreparedBlock,
    Record,
    Step,
    advance,
    check_not_rolled_back,
    check_prepared_kept,
    decode_prepared,
    decode_record,
    encode_prepared,
    encode_record,
    first_record,
)
from consensus.messages import Claim, Kind, Statement, Vote, parse_payload, signed_payload
from ledger.errors import Fault, Invalid, Refused
from tests.consensus_kit import CHAIN, A, B, address, block, prepares

FIRST = first_record(CHAIN)


def payload(statement: Statement, chain: str = CHAIN) -> bytes:
    return signed_payload(chain, statement)


def vote(kind: Kind, height: int, round_: int, of: bytes = A) -> bytes:
    return payload(Vote(kind, height, round_, of, address(1)))


def claim(height: int, round_: int, prepared: tuple[int, bytes] | None = None) -> bytes:
    prepared_round, prepared_id = prepared or (None, None)
    return payload(Claim(height, round_, prepared_round, prepared_id, address(1)))


def after(*payloads: bytes) -> Record:
    record = FIRST
    for each in payloads:
        record = advance(record, each)
    return record


RISING = [
    vote(Kind.PROPOSAL, 4, 0),
    vote(Kind.PREPARE, 4, 0),
    vote(Kind.COMMIT, 4, 0),
    claim(4, 1, (0, A)),
    vote(Kind.PROPOSAL, 4, 1),
    vote(Kind.PREPARE, 4, 1),
    claim(4, 9),
    vote(Kind.PREPARE, 4, 12),
    vote(Kind.COMMIT, 5, 0),
]


def test_positions_rise_through_steps_rounds_and_heights() -> None:
    record = FIRST
    for number, each in enumerate(RISING):
        following = advance(record, each)
        assert following.position > record.position
        assert following.payload == each
        for earlier in RISING[:number]:  # nothing that was passed may be signed any more, not even as it was
            with pytest.raises(Refused) as caught:
                advance(following, earlier)
            assert caught.value.code == "E-GUARD-001"
        record = following


@pytest.mark.parametrize("again", RISING)
def test_the_same_bytes_may_be_signed_again(again: bytes) -> None:
    record = after(again)
    assert advance(record, again) is record


@pytest.mark.parametrize(
    ("signed", "asked"),
    [
        (vote(Kind.PROPOSAL, 4, 0), vote(Kind.PROPOSAL, 4, 0, B)),
        (vote(Kind.PREPARE, 4, 0), vote(Kind.PREPARE, 4, 0, B)),
        (vote(Kind.COMMIT, 4, 0), vote(Kind.COMMIT, 4, 0, B)),
        (claim(4, 1), claim(4, 1, (0, A))),
        (vote(Kind.COMMIT, 4, 0), vote(Kind.PREPARE, 4, 0)),
        (vote(Kind.PREPARE, 4, 1), claim(4, 1)),
        (vote(Kind.PREPARE, 4, 1), vote(Kind.COMMIT, 4, 0)),
        (vote(Kind.PREPARE, 5, 0), vote(Kind.COMMIT, 4, 7)),
    ],
)
def test_anything_else_at_or_below_is_refused(signed: bytes, asked: bytes) -> None:
    with pytest.raises(Refused) as caught:
        advance(after(signed), asked)
    assert caught.value.code == "E-GUARD-001"


def test_a_key_of_one_chain_signs_for_no_other() -> None:
    with pytest.raises(Refused, match="other-chain"):
        advance(FIRST, payload(Vote(Kind.COMMIT, 4, 0, A, address(1)), "other-chain"))


@pytest.mark.parametrize("junk", [b"", b"troth/sign/commit\0", b"troth/sign/transfer\0\x90", RISING[0] + b"\0", b"\0"])
def test_bytes_that_are_no_statement_are_never_signed(junk: bytes) -> None:
    with pytest.raises(Invalid):
        advance(FIRST, junk)


def test_a_commit_may_not_pass_for_a_prepare() -> None:
    body = RISING[2].partition(b"\0")[2]
    with pytest.raises(Invalid, match="not those of a prepare"):
        advance(FIRST, b"troth/sign/prepare\0" + body)


def test_a_payload_says_what_was_signed() -> None:
    for each in RISING:
        chain, statement = parse_payload(each, address(1))
        assert (chain, payload(statement)) == (CHAIN, each)


# On disk


@pytest.mark.parametrize("record", [FIRST, *[after(each) for each in RISING]])
def test_records_survive_their_encoding(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("nothing", [None, b""])
def test_a_missing_record_is_an_error_and_never_the_beginning(nothing: bytes | None) -> None:
    with pytest.raises(Fault) as caught:
        decode_record(nothing)
    assert caught.value.code == "E-GUARD-002"
    assert "rotate" in caught.value.fix


def test_every_damaged_byte_and_every_torn_end_is_found() -> None:
    data = encode_record(after(RISING[0]))
    damaged = [data[:cut] for cut in range(1, len(data))]
    damaged += [data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :] for i in range(len(data)) for bit in range(8)]
    for each in damaged:
        with pytest.raises(Fault) as caught:
            decode_record(each)
        assert caught.value.code == "E-GUARD-003"


def test_a_record_whose_position_is_not_that_of_its_bytes_is_damaged() -> None:
    record = after(RISING[0])
    for wrong in (record._replace(height=9), record._replace(step=Step.COMMIT), record._replace(chain_id="other")):
        with pytest.raises(Fault) as caught:
            decode_record(encode_record(wrong))
        assert caught.value.code == "E-GUARD-003"


def prepared(round_: int = 0, of: bytes = A, height: int = 4) -> PreparedBlock:
    return PreparedBlock(height, round_, of, prepares(round_, of, height=height), block())


def test_prepared_blocks_survive_their_encoding_and_damage_is_found() -> None:
    data = encode_prepared(prepared())
    assert decode_prepared(data) == prepared()
    for cut in range(len(data)):
        with pytest.raises(Fault):
            decode_prepared(data[:cut])


# Lost and rolled back


def test_a_record_older_than_the_chain_was_rolled_back() -> None:
    record = after(vote(Kind.COMMIT, 7, 2))
    check_not_rolled_back(record, 7, 2)
    check_not_rolled_back(record, 7, 1)
    check_not_rolled_back(record, 6, 9)
    for height, round_ in ((7, 3), (8, 0)):
        with pytest.raises(Refused) as caught:
            check_not_rolled_back(record, height, round_)
        assert caught.value.code == "E-GUARD-004"
    with pytest.raises(Refused):
        check_not_rolled_back(after(vote(Kind.PREPARE, 7, 2)), 7, 2)


@pytest.mark.parametrize(
    ("record", "held", "good"),
    [
        (FIRST, None, True),
        (after(vote(Kind.PREPARE, 4, 1)), None, True),
        (after(claim(4, 1)), None, True),
        (after(vote(Kind.COMMIT, 4, 0)), prepared(0), True),
        (after(vote(Kind.COMMIT, 4, 0)), None, False),
        (after(vote(Kind.COMMIT, 4, 1)), prepared(0), False),
        (after(vote(Kind.COMMIT, 4, 0)), prepared(0, B), False),
        (after(vote(Kind.COMMIT, 4, 0)), prepared(0, height=3), False),
        (after(claim(4, 2, (0, A))), prepared(0), True),
        (after(claim(4, 2, (0, A))), prepared(2, B), True),  # written, and then the crash came before the record
        (after(claim(4, 2, (1, A))), prepared(0), False),
        (after(claim(4, 2, (0, A))), None, False),
    ],
)
def test_what_was_prepared_must_still_be_there(record: Record, held: PreparedBlock | None, good: bool) -> None:
    if good:
        check_prepared_kept(record, held)
        return
    with pytest.raises(Refused) as caught:
        check_prepared_kept(record, held)
    assert caught.value.code == "E-GUARD-004"
