"""Proofs that a key is, or is not, in the state: made from the state tree, checked by `ledger.ics23`.

Rules kept here:
- existence: the siblings on the way from the key's leaf up to the root. The tree stores four levels a node, and
  its fold gives those between. Where a subtree holds one leaf only, it is that leaf: such a level has no operation;
- absence: the leaves whose hashed keys come next below and next above that of the key, each with its proof of
  existence; one of them where the key lies beyond the tree's edge, none where the tree is empty.
"""

from __future__ import annotations

from hashlib import sha256

from ledger.ics23 import LEAF_OP, CommitmentProof, ExistenceProof, InnerOp, NonExistenceProof, inner_op
from ledger.state_tree import ARITY, Leaf, Slot, StateTree, Steps, root_hash


def prove(tree: StateTree, root: Slot, key: bytes) -> CommitmentProof:
    """The proof that `key` has its value under `root`, or that it has none.

    Raises Fault (E-TREE-001) where a node is not in the store.
    """
    path = sha256(key).digest()
    steps, end = tree.walk(root, path)
    left = right = None
    if end is not None:
        if end[1] == key:
            return CommitmentProof(exist=_existence(tree, steps, end))
        if sha256(end[1]).digest() < path:
            left = _existence(tree, steps, end)
        else:
            right = _existence(tree, steps, end)
    left = left or _neighbour(tree, steps, -1)
    right = right or _neighbour(tree, steps, 1)
    return CommitmentProof(nonexist=NonExistenceProof(key, left, right))


def _neighbour(tree: StateTree, steps: Steps, direction: int) -> ExistenceProof | None:
    """The proof of the leaf next to where `steps` end, among lower hashes (-1) or higher ones (1)."""
    for depth in range(len(steps) - 1, -1, -1):
        node, position = steps[depth]
        end = ARITY - 1 if direction < 0 else 2 * ARITY
        for other in range(position + direction, end, direction):
            if node[other] is not None:
                return _edge(tree, [*steps[:depth], (node, other)], -direction)
    return None


def _edge(tree: StateTree, steps: Steps, direction: int) -> ExistenceProof:
    """The proof of the leaf with the lowest hash (-1) or the highest (1) below the last of `steps`."""
    positions = range(ARITY, 2 * ARITY)[::-direction]
    node, position = steps[-1]
    while len(node[position]) == 2:
        node = tree.node(node[position][1])
        position = next(position for position in positions if node[position] is not None)
        steps.append((node, position))
    return _existence(tree, steps, node[position])


def _existence(tree: StateTree, steps: Steps, leaf: Leaf) -> ExistenceProof:
    path: list[InnerOp] = []
    for node, position in reversed(steps):
        if node[1] is None:
            tree.fold(node)
        while position > 1:
            parent = position >> 1
            if node[parent] is not leaf:  # else it stands for this leaf alone, which rises unchanged
                path.append(inner_op(root_hash(node[position ^ 1]), position & 1))
            position = parent
    return ExistenceProof(leaf[1], leaf[2], LEAF_OP, tuple(path))
