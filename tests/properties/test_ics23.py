"""Properties of state proofs over random trees."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Invalid, VerifyFailed
from ledger.ics23 import CommitmentProof, NonExistenceProof, verify_state_absence, verify_state_membership
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, existence, membership

keys = st.binary(min_size=1, max_size=4)
values = st.binary(min_size=1, max_size=6)
trees = st.builds(ReferenceTree, st.dictionaries(keys, values, min_size=1, max_size=40))


@given(trees, st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_there_is_proven_and_nothing_else(tree: ReferenceTree, draw: st.DataObject) -> None:
    key = draw.draw(st.sampled_from(tree.keys))
    proof = CommitmentProof.decode(membership(tree, key).encode())
    verify_state_membership(tree.root, key, tree.entries[key], proof)
    value = draw.draw(values.filter(lambda value: value != tree.entries[key]))
    assert not _holds(verify_state_membership, tree.root, key, value, proof)


@given(trees, st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_not_there_is_proven_absent(tree: ReferenceTree, draw: st.DataObject) -> None:
    key = draw.draw(keys.filter(lambda key: key not in tree.entries))
    proof = CommitmentProof.decode(absence(tree, key).encode())
    verify_state_absence(tree.root, key, proof)


@given(trees, st.data())
@settings(max_examples=100, deadline=None)
def test_no_pair_of_leaves_proves_a_present_key_absent(tree: ReferenceTree, draw: st.DataObject) -> None:
    """Whatever two (or one) leaves are shown as neighbours, a key of the tree is never absent."""
    key = draw.draw(st.sampled_from(tree.keys))
    shown = st.none() | st.sampled_from(tree.keys)
    left, right = draw.draw(shown), draw.draw(shown)
    proof = CommitmentProof(
        nonexist=NonExistenceProof(
            key,
            None if left is None else existence(tree, left),
            None if right is None else existence(tree, right),
        )
    )
    assert not _holds(verify_state_absence, tree.root, key, proof)


@given(trees, st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_goes_unnoticed(tree: ReferenceTree, exists: bool, draw: st.DataObject) -> None:
    """One bit of an encoded proof is flipped: it no longer decodes, or it no longer holds."""
    if exists:
        key = draw.draw(st.sampled_from(tree.keys))
        proof = membership(tree, key)
    else:
        key = draw.draw(keys.filter(lambda key: key not in tree.entries))
        proof = absence(tree, key)
    data = bytearray(proof.encode())
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    data[bit // 8] ^= 1 << bit % 8
    try:
        forged = CommitmentProof.decode(bytes(data))
    except Invalid:
        return
    if exists:
        assert not _holds(verify_state_membership, tree.root, key, tree.entries[key], forged)
    else:
        assert not _holds(verify_state_absence, tree.root, key, forged)


@given(st.binary(max_size=200))
def test_decoding_takes_canonical_proofs_only(data: bytes) -> None:
    try:
        proof = CommitmentProof.decode(data)
    except Invalid:
        return
    assert proof.encode() == data


def _holds(verify: object, *arguments: object) -> bool:
    assert callable(verify)
    try:
        verify(*arguments)
    except VerifyFailed:
        return False
    return True
