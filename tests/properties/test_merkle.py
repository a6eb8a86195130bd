"""Properties of the RFC 6962 tree, against a definition that follows the RFC's recursion word by word."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.merkle import InclusionProof, leaf_hash, prove, root, verify_inclusion

leaves = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


def merkle_tree_hash(data: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\0" + data[0]).digest()
    split = 1
    while split * 2 < len(data):
        split *= 2
    return sha256(b"\1" + merkle_tree_hash(data[:split]) + merkle_tree_hash(data[split:])).digest()


def audit_path(index: int, data: list[bytes]) -> tuple[bytes, ...]:
    """PATH of RFC 6962, 2.1.1."""
    if len(data) == 1:
        return ()
    split = 1
    while split * 2 < len(data):
        split *= 2
    if index < split:
        return (*audit_path(index, data[:split]), merkle_tree_hash(data[split:]))
    return (*audit_path(index - split, data[split:]), merkle_tree_hash(data[:split]))


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_root_is_the_definition(data: list[bytes]) -> None:
    assert root(data) == merkle_tree_hash(data)


@given(leaves, st.data())
def test_proof_is_the_definition_and_verifies(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    proof = prove(data, index)
    assert proof == InclusionProof(index, len(data), audit_path(index, data))
    assert proof.verify(data[index], root(data))
    assert InclusionProof.from_value(proof.to_value()) == proof


@given(leaves, st.data())
def test_no_altered_proof_verifies(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    proof = prove(data, index)
    parts = [leaf_hash(data[index]), root(data), *proof.path]
    which = draw.draw(st.integers(0, len(parts) - 1))
    bit = draw.draw(st.integers(0, 255))
    flipped = bytearray(parts[which])
    flipped[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(flipped)
    assert not verify_inclusion(parts[0], index, len(data), parts[2:], parts[1])


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70, unique=True), st.data())
def test_a_proof_verifies_at_its_own_index_only(data: list[bytes], draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.integers(-2, 2 * len(data)))
    assume(other != index)
    proof = prove(data, index)
    assert not verify_inclusion(leaf_hash(data[index]), other, len(data), proof.path, root(data))


@given(
    st.binary(max_size=40),
    st.integers(-(2**70), 2**70),
    st.integers(-(2**70), 2**70),
    st.lists(st.binary(max_size=40), max_size=80),
    st.binary(max_size=40),
)
def test_verification_never_raises(leaf: bytes, index: int, size: int, path: list[bytes], claimed_root: bytes) -> None:
    accepted = verify_inclusion(leaf, index, size, path, claimed_root)
    assert not accepted or (leaf == claimed_root and not path)
