from __future__ import annotations

from typing import Any

import pytest

from ledger import codec, merkle
from ledger.block import (
    NO_COMMIT_ROOT,
    Block,
    Certificate,
    Header,
    Seal,
    certificate_of,
    check_roots,
    commit_message,
    commit_root,
    decode_block,
    encode_block,
    header_of,
    validators_root,
)
from ledger.errors import Invalid
from ledger.hashes import block_hash, commit_hash
from tests.chains import account, create, extend, mint, new_chain, propose, seal, signed, validator


def _block() -> Block:
    """A real second block: with transactions and the certificate of the first."""
    chain = new_chain()
    extend(chain, signed("roaster", create()))
    return propose(chain, [signed("roaster", mint("alice", 5)), signed("roaster", mint("bob", 5))]).block


_BLOCK = _block()
_HEADER = _BLOCK.header
_CERTIFICATE = _BLOCK.last_commit
assert _CERTIFICATE is not None


def _malformed(read: Any, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        read(value)
    assert caught.value.code == "E-BLOCK-001"


def test_what_is_decoded_is_what_was_encoded() -> None:
    found = decode_block(encode_block(_BLOCK))
    assert found == _BLOCK
    assert type(found.header) is Header and type(found.last_commit) is Certificate
    assert all(type(each) is Seal for each in found.last_commit.seals)
    first = _BLOCK._replace(last_commit=None)
    assert decode_block(encode_block(first)) == first


def test_the_id_is_the_tagged_hash_of_the_header() -> None:
    assert _HEADER.id() == block_hash(codec.encode(tuple(_HEADER)))


def test_the_id_covers_every_field() -> None:
    for name, value in _HEADER._asdict().items():
        other: Any = value + 1 if isinstance(value, int) else value + "x" if isinstance(value, str) else None
        if other is None:
            other = bytes([value[0] ^ 1]) + value[1:]
        assert _HEADER._replace(**{name: other}).id() != _HEADER.id(), name


def test_the_id_covers_neither_round_nor_seals() -> None:
    chain = new_chain()
    candidate = propose(chain)
    first, later = seal(candidate), seal(candidate, round_=3)
    assert first != later
    assert first.block_id == later.block_id == candidate.block_id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, bad) for name in ("protocol_version", "height", "time_ms") for bad in (-1, None, "1", True)],
        *[("version", bad) for bad in (0, 2, True, "1")],
        *[("chain_id", bad) for bad in (None, b"test-chain", 7)],
        *[("proposer", bad) for bad in (None, bytes(19), bytes(21), "x" * 20)],
        *[
            (name, bad)
            for name in Header._fields
            if name.endswith("_root") or name == "parent_id"
            for bad in (None, bytes(31), bytes(33), "x" * 32)
        ],
    ],
)
def test_a_header_field_of_the_wrong_form_is_refused(name: str, value: Any) -> None:
    _malformed(header_of, tuple(_HEADER._replace(**{name: value})))
    _malformed(decode_block, codec.encode(_BLOCK._replace(header=_HEADER._replace(**{name: value}))))


@pytest.mark.parametrize("value", [None, 7, (), tuple(_HEADER)[:13], (*_HEADER, bytes(32))])
def test_what_is_no_header_is_refused(value: object) -> None:
    _malformed(header_of, value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        (),
        tuple(_BLOCK)[:3],
        (*_BLOCK, ()),
        _BLOCK._replace(transactions=None),  # type: ignore[arg-type]
        _BLOCK._replace(transactions=("text",)),  # type: ignore[arg-type]
        _BLOCK._replace(evidence=b""),  # type: ignore[arg-type]
        _BLOCK._replace(evidence=(1,)),  # type: ignore[arg-type]
        _BLOCK._replace(last_commit=()),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_block_is_refused(value: Any) -> None:
    _malformed(decode_block, codec.encode(value))


def test_a_block_has_one_encoding() -> None:
    raw = encode_block(_BLOCK)
    for bad in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(Invalid) as caught:
            decode_block(bad)
        assert caught.value.code == "E-CODEC-001"
    with pytest.raises(Invalid) as caught:
        decode_block(b"\xdc\x00\x04" + raw[1:])
    assert caught.value.code == "E-CODEC-002"


def test_a_block_is_bounded() -> None:
    huge = _BLOCK._replace(transactions=(bytes(16 << 20),))
    with pytest.raises(Invalid) as caught:
        decode_block(encode_block(huge))
    assert caught.value.code == "E-CODEC-003"


_SEALS = tuple([Seal(bytes([number]) * 20, bytes(64)) for number in (1, 2, 3)])
_OF_THREE = Certificate(7, 1, bytes(32), _SEALS)


def test_a_certificate_of_its_value() -> None:
    assert certificate_of(codec.decode(codec.encode(_OF_THREE))) == _OF_THREE
    assert certificate_of(tuple(_OF_THREE._replace(seals=()))).seals == ()  # whether it decides is `consensus.quorum`'s


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        tuple(_OF_THREE)[:3],
        (*_OF_THREE, 1),
        _OF_THREE._replace(height=-1),
        _OF_THREE._replace(height=True),
        _OF_THREE._replace(round=-1),
        _OF_THREE._replace(round=None),  # type: ignore[arg-type]
        _OF_THREE._replace(block_id=bytes(31)),
        _OF_THREE._replace(block_id=None),  # type: ignore[arg-type]
        _OF_THREE._replace(seals=None),  # type: ignore[arg-type]
        _OF_THREE._replace(seals=(7,)),  # type: ignore[arg-type]
        _OF_THREE._replace(seals=((bytes(20),),)),  # type: ignore[arg-type]
        _OF_THREE._replace(seals=(Seal(bytes(19), bytes(64)),)),
        _OF_THREE._replace(seals=(Seal(bytes(20), bytes(63)),)),
        _OF_THREE._replace(seals=(Seal("x" * 20, bytes(64)),)),  # type: ignore[arg-type]
        _OF_THREE._replace(seals=_SEALS[::-1]),
        _OF_THREE._replace(seals=(*_SEALS, _SEALS[-1])),
    ],
)
def test_what_is_no_certificate_is_refused(value: Any) -> None:
    _malformed(certificate_of, codec.decode(codec.encode(value)))


def test_what_a_seal_signs_names_chain_height_round_and_block() -> None:
    message = commit_message("test-chain", 7, 1, bytes(32))
    assert message == b"troth/sign/commit\0" + codec.encode(("test-chain", "commit", 7, 1, bytes(32)))
    others = [
        commit_message("test-chaim", 7, 1, bytes(32)),
        commit_message("test-chain", 8, 1, bytes(32)),
        commit_message("test-chain", 7, 2, bytes(32)),
        commit_message("test-chain", 7, 1, bytes(31) + b"\1"),
    ]
    assert message not in others and len(set(others)) == 4


def test_the_roots() -> None:
    assert commit_root(None) == NO_COMMIT_ROOT == bytes(32)
    assert commit_root(_OF_THREE) == commit_hash(codec.encode(_OF_THREE))
    both = [validator(), validator("second", 3)]
    assert validators_root(both) == merkle.root([codec.encode(each) for each in both])
    assert validators_root(both) != validators_root(both[::-1])


def test_the_headers_roots_are_those_of_the_content() -> None:
    check_roots(_BLOCK)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"transactions": _BLOCK.transactions[:1]}, "transactions"),
        ({"transactions": _BLOCK.transactions[::-1]}, "transactions"),
        ({"transactions": (*_BLOCK.transactions, _BLOCK.transactions[-1])}, "transactions"),
        ({"evidence": (b"proof",)}, "evidence"),
        ({"last_commit": None}, "last commit"),
        ({"last_commit": _CERTIFICATE._replace(round=1)}, "last commit"),
        ({"last_commit": _CERTIFICATE._replace(seals=(Seal(account("validator"), bytes(64)),))}, "last commit"),
    ],
)
def test_other_content_than_the_header_states_is_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_roots(_BLOCK._replace(**change))
    assert caught.value.code == "E-BLOCK-002"
    assert f"the {named} root" in caught.value.cause
