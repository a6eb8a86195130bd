from __future__ import annotations

from hashlib import sha256

import pytest

from ledger import codec
from ledger.errors import Invalid
from ledger.merkle import (
    BAD_INDEX,
    BAD_PROOF,
    EMPTY_ROOT,
    MAX_SIZE,
    InclusionProof,
    inclusion_proof,
    leaf_hash,
    prove,
    root,
    verify_inclusion,
)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


A, B, C, D, E, F, G = LEAVES = [bytes([letter]) for letter in b"abcdefg"]
HASHES = [sha256(b"\0" + data).digest() for data in LEAVES]
AB = node(HASHES[0], HASHES[1])
CD = node(HASHES[2], HASHES[3])
EF = node(HASHES[4], HASHES[5])


def test_no_leaves_hash_to_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, HASHES[0]),
        (2, AB),
        (3, node(AB, HASHES[2])),
        (4, node(AB, CD)),
        (5, node(node(AB, CD), HASHES[4])),
        (6, node(node(AB, CD), EF)),
        (7, node(node(AB, CD), node(EF, HASHES[6]))),
    ],
)
def test_root_splits_at_the_largest_power_of_two(size: int, expected: bytes) -> None:
    assert root(LEAVES[:size]) == expected


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, (HASHES[1], CD, node(EF, HASHES[6]))),
        (3, (HASHES[2], AB, node(EF, HASHES[6]))),
        (4, (HASHES[5], HASHES[6], node(AB, CD))),
        (6, (EF, node(AB, CD))),
    ],
)
def test_inclusion_paths_of_seven_leaves(index: int, path: tuple[bytes, ...]) -> None:
    assert inclusion_proof(LEAVES, index) == path


def test_a_single_leaf_needs_no_path() -> None:
    assert prove([A], 0) == InclusionProof(0, 1, ())
    assert prove([A], 0).verify(A, leaf_hash(A))


@pytest.mark.parametrize(("leaves", "index"), [([], 0), ([A], 1), ([A], -1), (LEAVES, 7)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(leaves: list[bytes], index: int) -> None:
    with pytest.raises(Invalid) as caught:
        inclusion_proof(leaves, index)
    assert caught.value.code == BAD_INDEX


def test_the_proof_binds_the_index() -> None:
    tree = root(LEAVES)
    for index, data in enumerate(LEAVES):
        path = inclusion_proof(LEAVES, index)
        accepted = [other for other in range(7) if verify_inclusion(leaf_hash(data), other, 7, path, tree)]
        assert accepted == [index]


def test_steps_beyond_the_root_are_refused() -> None:
    """A tree of two, given out as a tree of one whose path goes on."""
    assert root([A, B]) == AB
    assert not verify_inclusion(HASHES[1], 0, 1, (HASHES[0],), AB)
    assert not verify_inclusion(HASHES[0], 0, 1, (HASHES[1],), AB)
    assert verify_inclusion(HASHES[1], 1, 2, (HASHES[0],), AB)


def test_equal_leaves_are_told_apart_by_their_index() -> None:
    leaves = [A, A, A, A, A]
    for index in range(5):
        path = inclusion_proof(leaves, index)
        accepted = [other for other in range(5) if verify_inclusion(leaf_hash(A), other, 5, path, root(leaves))]
        # Equal subtrees have equal siblings: only positions of another shape can be told apart, and are.
        assert index in accepted
        assert (4 in accepted) == (index == 4)


def test_a_node_does_not_pass_for_a_leaf() -> None:
    tree = root([A, B, C, D])
    assert not InclusionProof(0, 2, (CD,)).verify(HASHES[0] + HASHES[1], tree)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 6, 8, 14, MAX_SIZE, 2**70, -7])
def test_a_path_of_the_wrong_length_for_the_size_is_refused(size: int) -> None:
    assert not verify_inclusion(HASHES[6], 6, size, inclusion_proof(LEAVES, 6), root(LEAVES))


@pytest.mark.parametrize("index", [-1, 7, 2**64])
def test_an_index_outside_the_tree_is_refused(index: int) -> None:
    assert not verify_inclusion(HASHES[6], index, 7, inclusion_proof(LEAVES, 6), root(LEAVES))


@pytest.mark.parametrize("bad", [b"", b"x", HASHES[0] + b"\0", HASHES[0][:-1]])
def test_entries_that_are_no_hashes_are_refused_without_an_error(bad: bytes) -> None:
    path = inclusion_proof(LEAVES, 6)
    tree = root(LEAVES)
    assert verify_inclusion(HASHES[6], 6, 7, path, tree)
    assert not verify_inclusion(bad, 6, 7, path, tree)
    assert not verify_inclusion(HASHES[6], 6, 7, path, bad)
    assert not verify_inclusion(HASHES[6], 6, 7, (bad, path[1]), tree)
    assert not verify_inclusion(HASHES[6], 6, 7, (*path, bad), tree)


def test_an_endless_path_is_refused() -> None:
    assert not verify_inclusion(HASHES[0], 0, MAX_SIZE, (HASHES[0],) * 10_000, root(LEAVES))


def test_five_thousand_leaves() -> None:
    leaves = [index.to_bytes(4, "big") for index in range(5000)]
    tree = root(leaves)
    for index in (0, 1, 2499, 4095, 4096, 4998, 4999):
        proof = prove(leaves, index)
        assert len(proof.path) <= 13
        assert proof.verify(leaves[index], tree)
        assert not proof.verify(leaves[index - 1], tree)


def test_a_proof_is_a_codec_value() -> None:
    proof = prove(LEAVES, 5)
    assert InclusionProof.from_value(codec.decode(codec.encode(proof.to_value()))) == proof


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        (0, 1),
        (0, 1, (), 0),
        [0, 1, ()],
        (True, 2, ()),
        (0, True, ()),
        ("0", 1, ()),
        (1, 1, ()),
        (-1, 1, ()),
        (0, MAX_SIZE + 1, ()),
        (0, 1, b""),
        (0, 1, [HASHES[0]]),
        (0, 2, (b"short",)),
        (0, 2, ("a" * 32,)),
        (0, 2, (HASHES[0],) * 64),
    ],
)
def test_what_is_no_proof_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        InclusionProof.from_value(value)
    assert caught.value.code == BAD_PROOF
