from __future__ import annotations

from hashlib import sha256

import pytest

from ledger.errors import Fault
from ledger.ics23 import (
    EMPTY_CHILD,
    LEAF_OP,
    CommitmentProof,
    ExistenceProof,
    NonExistenceProof,
    verify_state_absence,
    verify_state_membership,
)
from ledger.state_proof import prove
from ledger.state_tree import NODE_MISSING, Slot, StateTree, root_hash
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, membership

CELLS = {f"key {number}".encode(): f"value {number}".encode() for number in range(300)}


def tree_of(cells: dict[bytes, bytes]) -> tuple[StateTree, Slot]:
    """A tree over `cells` whose rows lie in memory, and its root."""
    rows: dict[int, bytes] = {}
    tree = StateTree(rows.get)
    update = tree.update(None, cells.items(), 1)
    rows.update(update.rows)
    tree.adopt(update)
    return tree, update.root


def keys_at(*prefixes: str) -> list[bytes]:
    """For each prefix, a key whose hash begins with these hexadecimal digits."""
    keys = [str(number).encode() for number in range(200_000)]
    return [next(key for key in keys if sha256(key).hexdigest().startswith(prefix)) for prefix in prefixes]


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 300])
def test_proofs_are_those_of_the_plain_tree(size: int) -> None:
    cells = dict(list(CELLS.items())[:size])
    tree, root = tree_of(cells)
    reference = ReferenceTree(cells)
    assert root_hash(root) == reference.root
    for key, value in cells.items():
        proof = prove(tree, root, key)
        assert proof == membership(reference, key)
        verify_state_membership(reference.root, key, value, proof)
    for number in range(100):
        key = f"absent {number}".encode()
        proof = prove(tree, root, key)
        assert proof == absence(reference, key)
        verify_state_absence(reference.root, key, proof)


def test_in_an_empty_tree_the_proof_has_no_neighbour() -> None:
    tree, root = tree_of({})
    proof = prove(tree, root, b"key")
    assert proof == CommitmentProof(nonexist=NonExistenceProof(b"key"))
    verify_state_absence(EMPTY_CHILD, b"key", proof)


def test_a_single_leaf_is_the_root() -> None:
    low, middle, high = keys_at("1", "8", "e")
    tree, root = tree_of({middle: b"m"})
    alone = ExistenceProof(middle, b"m", LEAF_OP)
    assert prove(tree, root, middle) == CommitmentProof(exist=alone)
    assert prove(tree, root, low) == CommitmentProof(nonexist=NonExistenceProof(low, right=alone))
    assert prove(tree, root, high) == CommitmentProof(nonexist=NonExistenceProof(high, left=alone))


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [("0", "f", 1), ("4", "7", 3), ("a", "b", 4), ("a0", "a8", 5), ("ab0", "ab1", 12)],
)
def test_levels_where_a_leaf_is_alone_have_no_operation(one: str, other: str, length: int) -> None:
    """Of two leaves, what they share has an operation a level; what comes after has none, also within a node."""
    keys = keys_at(one, other)
    tree, root = tree_of(dict.fromkeys(keys, b"v"))
    for key in keys:
        exist = prove(tree, root, key).exist
        assert exist is not None
        assert len(exist.path) == length


def test_neighbours_lie_in_other_nodes() -> None:
    """The key's own path ends in an empty slot, at another leaf or at the edge; its neighbours lie deep elsewhere."""
    leaves = keys_at("2f", "2e1", "2e9", "40", "4f0", "4f8", "61")
    tree, root = tree_of(dict.fromkeys(leaves, b"v"))
    for asked, left, right in (
        ("3", "2f", "40"),  # an empty slot between two nodes
        ("5", "4f8", "61"),
        ("41", "40", "4f0"),  # an empty slot inside a node
        ("4f4", "4f0", "4f8"),
        ("2e5", "2e1", "2e9"),
        ("60", "4f8", "61"),  # another leaf's slot, below and above it
        ("6f", "61", None),
        ("1", None, "2e1"),  # the edges
        ("ff", "61", None),
    ):
        key = keys_at(asked)[0]
        absent = prove(tree, root, key).nonexist
        assert absent is not None
        found = [None if proof is None else sha256(proof.key).hexdigest() for proof in (absent.left, absent.right)]
        for digest, wanted in zip(found, (left, right), strict=True):
            assert (digest is None) == (wanted is None)
            assert digest is None or digest.startswith(str(wanted))
        verify_state_absence(root_hash(root), key, CommitmentProof(nonexist=absent))


def test_a_missing_node_is_a_fault() -> None:
    rows: dict[int, bytes] = {}
    update = StateTree(rows.get).update(None, CELLS.items(), 1)
    with pytest.raises(Fault) as caught:
        prove(StateTree(rows.get), update.root, b"key 1")
    assert caught.value.code == NODE_MISSING
