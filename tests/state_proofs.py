"""State proofs over a `ReferenceTree`, made with `ledger.ics23`, for the tests of every verifier."""

from __future__ import annotations

from ledger.ics23 import LEAF_OP, CommitmentProof, ExistenceProof, NonExistenceProof, inner_op
from tests.reference_tree import ReferenceTree


def existence(tree: ReferenceTree, key: bytes) -> ExistenceProof:
    """The proof of a key that is in the tree."""
    path = tuple(inner_op(sibling, branch) for sibling, branch in tree.path(key))
    return ExistenceProof(key, tree.entries[key], LEAF_OP, path)


def membership(tree: ReferenceTree, key: bytes) -> CommitmentProof:
    """The proof of a key that is in the tree, as it travels."""
    return CommitmentProof(exist=existence(tree, key))


def absence(tree: ReferenceTree, key: bytes) -> CommitmentProof:
    """The proof of a key that is not in the tree, as it travels."""
    left, right = tree.neighbours(key)
    return CommitmentProof(
        nonexist=NonExistenceProof(
            key,
            None if left is None else existence(tree, left),
            None if right is None else existence(tree, right),
        )
    )
