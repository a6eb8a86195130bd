from __future__ import annotations

from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.block import Block, Certificate, Header, Seal, check_roots, decode_block, encode_block, header_of
from ledger.errors import Invalid, TrothError
from node.chain import Chain
from tests.chains import create, extend, mint, new_chain, propose, signed, transfer

_HASHES = st.binary(min_size=32, max_size=32)
_HEIGHTS = st.integers(0, 2**63)
_HEADERS = st.builds(
    Header,
    st.just(1),
    st.integers(0, 9),
    st.text("abc-", max_size=8),
    _HEIGHTS,
    st.integers(0, 2**53),
    _HASHES,
    st.binary(min_size=20, max_size=20),
    *[_HASHES] * 7,
)
_SEALS = st.dictionaries(st.binary(min_size=20, max_size=20), st.binary(min_size=64, max_size=64), max_size=5).map(
    lambda found: tuple([Seal(*each) for each in sorted(found.items())])
)
_CERTIFICATES = st.builds(Certificate, _HEIGHTS, st.integers(0, 100), _HASHES, _SEALS)
_BYTES = st.lists(st.binary(max_size=80), max_size=6).map(tuple)
_BLOCKS = st.builds(Block, _HEADERS, _BYTES, _BYTES, st.none() | _CERTIFICATES)


@settings(derandomize=True, deadline=None)
@given(_BLOCKS)
def test_round_trip(block: Block) -> None:
    assert decode_block(encode_block(block)) == block


@settings(derandomize=True, deadline=None)
@given(_HEADERS, _HEADERS)
def test_two_headers_have_two_ids(one: Header, other: Header) -> None:
    assert (one == other) == (one.id() == other.id())
    assert header_of(codec.decode(codec.encode(one))) == one


@lru_cache(maxsize=1)
def _judge() -> tuple[Chain, Block]:
    """A chain, and the block that comes next on it."""
    chain = new_chain()
    extend(chain, signed("roaster", create()), signed("roaster", mint("alice", 9)))
    return chain, propose(chain, [signed("alice", transfer("bob", 2)), signed("alice", transfer("carol", 20))]).block


def _is_next(raw: bytes) -> bool:
    chain, _ = _judge()
    try:
        chain.judge(decode_block(raw))
    except TrothError:
        return False
    return True


def test_truncated_and_extended_encodings_are_refused() -> None:
    _, block = _judge()
    raw = encode_block(block)
    assert _is_next(raw)
    for length in range(len(raw)):
        try:
            decode_block(raw[:length])
        except Invalid as error:
            assert error.code == "E-CODEC-001"
        else:
            raise AssertionError(f"the first {length} bytes were taken")
    assert not any(_is_next(raw + bytes([byte])) for byte in range(256))


def test_no_flipped_bit_leaves_a_block_that_is_the_same_or_valid() -> None:
    """Every byte of a block is covered: by its encoding, by the id through a root, or by a signature."""
    chain, block = _judge()
    raw = encode_block(block)
    for index in range(len(raw)):
        flipped = bytearray(raw)
        flipped[index] ^= 1 << index % 8
        try:
            found = decode_block(bytes(flipped))
            check_roots(found)
        except Invalid:
            continue
        # Only a header's own field is left: then it is another block, and valid only where the rules leave a choice.
        assert found.header.id() != block.header.id()
        if _is_next(bytes(flipped)):
            assert found.header._replace(time_ms=0) == block.header._replace(time_ms=0)
            assert found.header.time_ms > chain.head.time_ms
