from __future__ import annotations

import pytest

from consensus.messages import (
    MAX_MESSAGE_BYTES,
    MAX_ROUND,
    MAX_VALIDATORS,
    MAX_VOTE_BYTES,
    Claim,
    Decided,
    Kind,
    Message,
    Proposal,
    RoundChange,
    Vote,
    decode,
    encode,
    height_of,
    kind_of,
    main_statement,
    signature_holds,
    signed_payload,
    statements,
)
from consensus.quorum import check_certificate
from ledger import codec
from ledger.block import MAX_BLOCK_BYTES, Certificate, Seal, commit_message
from ledger.errors import Invalid
from ledger.keys import verify
from tests import chains
from tests.consensus_kit import (
    CHAIN,
    HEIGHT,
    A,
    B,
    address,
    block,
    claims,
    commit,
    decided,
    prepare,
    prepares,
    proposal,
    round_change,
)

MESSAGES: dict[str, Message] = {
    "PREPARE": prepare(0, 3),
    "COMMIT": commit(2, MAX_ROUND),
    "PROPOSAL": proposal(),
    "PROPOSAL justified": proposal(2, "A", claims(2), prepares(1)),
    "ROUND-CHANGE": round_change(1, 3),
    "ROUND-CHANGE prepared": round_change(1, 3, (2, "A")),
    "DECIDED": decided(),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_is_its_bytes_and_back(message: Message) -> None:
    back = decode(encode(message))
    assert back == message
    assert type(back) is type(message)
    assert (height_of(back), kind_of(back)) == (HEIGHT, kind_of(message))
    assert [type(each) for each in statements(back)] == [type(each) for each in statements(message)]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_no_cut_and_no_changed_byte_crashes_the_decoder(message: Message) -> None:
    data = encode(message)
    for place in range(len(data)):
        for other in (data[:place], data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]):
            try:
                decode(other)
            except Invalid:
                continue


SAID = Vote(Kind.PREPARE, 4, 2, A, address(0))
PAYLOADS = [
    *[signed_payload(chain, SAID._replace(kind=kind)) for kind in list(Kind)[:3] for chain in (CHAIN, "other-chain")],
    signed_payload(CHAIN, SAID._replace(height=5)),
    signed_payload(CHAIN, SAID._replace(round=3)),
    signed_payload(CHAIN, SAID._replace(block_id=B)),
    signed_payload(CHAIN, Claim(4, 2, None, None, address(0))),
    signed_payload(CHAIN, Claim(4, 2, 1, A, address(0))),
    signed_payload(CHAIN, Claim(4, 2, 0, A, address(0))),
    signed_payload(CHAIN, Claim(4, 2, 1, B, address(0))),
    signed_payload("other-chain", Claim(4, 2, 1, B, address(0))),
]


def test_chain_kind_height_round_and_block_are_all_signed() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS)


def test_the_signature_of_a_commit_is_a_seal() -> None:
    names = [f"validator-{number}" for number in range(3)]
    said = [Vote(Kind.COMMIT, 9, 2, A, chains.account(name)) for name in names]
    signed = [
        each._replace(signature=chains.key(name).sign(signed_payload(CHAIN, each)))
        for name, each in zip(names, said, strict=True)
    ]
    assert signed_payload(CHAIN, said[0]) == commit_message(CHAIN, 9, 2, A)
    seals = tuple(sorted([Seal(each.validator, each.signature) for each in signed]))
    check_certificate(Certificate(9, 2, A, seals), CHAIN, A, [chains.validator(name) for name in names])
    for name, each in zip(names, signed, strict=True):
        assert signature_holds(CHAIN, chains.key(name).public, each, verify)
        assert not signature_holds(CHAIN, chains.key(name).public, each._replace(kind=Kind.PREPARE), verify)
        assert not signature_holds("other-chain", chains.key(name).public, each, verify)


def test_the_author_of_a_message() -> None:
    assert main_statement(decided()) is None
    assert [kind_of(each) for each in statements(decided())] == [Kind.COMMIT] * 3
    assert main_statement(round_change(1, 3)) == round_change(1, 3).claim
    assert main_statement(proposal()) == proposal().vote


VOTE = (4, 0, A, address(0), bytes(64))
CLAIM = (4, 1, None, None, address(0), bytes(64))
BAD: dict[str, object] = {
    "nothing": (),
    "no kind": (None, *VOTE),
    "kind 0": (0, *VOTE),
    "kind 6": (6, *VOTE),
    "a truth for a kind": (True, *VOTE),
    "a vote too short": (2, *VOTE[:4]),
    "a vote too long": (2, *VOTE, 0),
    "height 0": (2, 0, *VOTE[1:]),
    "a negative round": (2, 4, -1, *VOTE[2:]),
    "a round too high": (2, 4, MAX_ROUND + 1, *VOTE[2:]),
    "a truth for a round": (2, 4, True, *VOTE[2:]),
    "a short block id": (2, 4, 0, A[:31], *VOTE[3:]),
    "text for a block id": (2, 4, 0, "a" * 32, *VOTE[3:]),
    "a long address": (2, 4, 0, A, bytes(21), bytes(64)),
    "a short signature": (2, 4, 0, A, address(0), bytes(63)),
    "no signature": (2, 4, 0, A, address(0), b""),
    "a proposal without parts": (1, VOTE, block()),
    "a proposal without a block": (1, VOTE, b"", (), ()),
    "a proposal whose vote is none": (1, None, block(), (), ()),
    "a proposal whose claims are none": (1, VOTE, block(), None, ()),
    "a proposal with too many prepares": (1, VOTE, block(), (), (VOTE,) * (MAX_VALIDATORS + 1)),
    "a prepared round alone": (4, (4, 1, 0, None, *CLAIM[4:]), (), None),
    "a prepared id alone": (4, (4, 1, None, A, *CLAIM[4:]), (), None),
    "a claim too short": (4, CLAIM[:5], (), None),
    "a round change whose block is text": (4, CLAIM, (), "block"),
    "a certificate that is none": (5, (4, 0, A), block()),
    "a certificate of a round too high": (5, (4, MAX_ROUND + 1, A, ()), block()),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_malformed_messages_are_refused(value: object) -> None:
    with pytest.raises(Invalid):
        decode(codec.encode(value))  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc0", b"\x96", b"\x96\x02", b"garbage", b"\x96\xcc\x02"])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode(data)


def test_size_is_judged_before_anything_is_decoded() -> None:
    with pytest.raises(Invalid, match="at most 256 are taken"):
        decode(b"\x96\x02" + bytes(MAX_VOTE_BYTES))
    with pytest.raises(Invalid, match="are taken"):
        decode(b"\x95\x01" + bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(Invalid, match="a block is 1 to"):
        decode(encode(Proposal(proposal().vote, bytes(MAX_BLOCK_BYTES + 1))))


def test_the_largest_messages_fit() -> None:
    full = Proposal(proposal().vote, bytes(MAX_BLOCK_BYTES), claims(2, (0,)) * MAX_VALIDATORS, prepares() * 42)
    assert len(encode(full)) <= MAX_MESSAGE_BYTES
    assert decode(encode(full)) == full
    assert len(encode(commit(0, MAX_ROUND)._replace(height=2**64 - 1))) <= MAX_VOTE_BYTES
    assert isinstance(decode(encode(RoundChange(claims(1)[0], (), None))), RoundChange)
    assert isinstance(decode(encode(decided())), Decided)
