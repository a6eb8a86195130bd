"""Proofs that a key is, or is not, in the state: made from the state tree, checked by `ledger.ics23`.

Rules kept here:
- existence: the siblings on the way from the key's leaf up to the root. The tree stores four levels a node, and
  `fold` gives those between. Where a subtree holds one leaf only, it is that leaf: such a level has no operation;
- absence: the leaves whose hashed keys come next below and next above that of the key, each with its proof of
  existence; one of them where the key lies beyond the tree's edge, none where the tree is empty.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ledger.ics23 import LEAF_OP, CommitmentProof, ExistenceProof, InnerOp, NonExistenceProof, inner_op
from ledger.state_tree import ARITY, EMPTY, Leaf, Slot, StateTree, Steps, fold


def prove(tree: StateTree, root: Slot, key: bytes) -> CommitmentProof:
    """The proof that `key` has its value under `root`, or that it has none.

    Raises Fault (E-TREE-001) where a node is not in the store.
    """
    path = sha256(key).digest()
    steps, end = tree.walk(root, path)
    left = right = None
    if end is not None:
        if end[1] == key:
            return CommitmentProof(exist=_existence(steps, end))
        if sha256(end[1]).digest() < path:
            left = _existence(steps, end)
        else:
            right = _existence(steps, end)
    left = left or _neighbour(tree, steps, -1)
    right = right or _neighbour(tree, steps, 1)
    return CommitmentProof(nonexist=NonExistenceProof(key, left, right))


def _neighbour(tree: StateTree, steps: Steps, direction: int) -> ExistenceProof | None:
    """The proof of the leaf next to where `steps` end, among lower hashes (-1) or higher ones (1)."""
    for depth in range(len(steps) - 1, -1, -1):
        slots, branch = steps[depth]
        beside = range(branch - 1, -1, -1) if direction < 0 else range(branch + 1, ARITY)
        for other in beside:
            if slots[other] is not None:
                return _existence(*_edge(tree, [*steps[:depth], (slots, other)], -direction))
    return None


def _edge(tree: StateTree, steps: Steps, direction: int) -> tuple[Steps, Leaf]:
    """The leaf with the lowest hash (-1) or the highest (1) below the last of `steps`, with the steps to it."""
    slots, branch = steps[-1]
    slot = slots[branch]
    while len(slot) == 2:
        slots = tree.node(slot[1])
        order = range(ARITY) if direction < 0 else range(ARITY - 1, -1, -1)
        branch = next(branch for branch in order if slots[branch] is not None)
        steps.append((slots, branch))
        slot = slots[branch]
    return steps, slot


def _existence(steps: Steps, leaf: Leaf) -> ExistenceProof:
    path: list[InnerOp] = []
    for slots, branch in reversed(steps):
        levels = fold(slots)
        index = ARITY + branch
        while index > 1:
            parent = index >> 1
            if levels[parent] is not leaf:  # else it stands for this leaf alone, which rises unchanged
                path.append(inner_op(_hash(levels[index ^ 1]), index & 1))
            index = parent
    return ExistenceProof(leaf[1], leaf[2], LEAF_OP, tuple(path))


def _hash(side: Any) -> bytes:
    """The hash of what `fold` holds: an empty side, a hash, or a slot, which begins with one."""
    if side is None:
        return EMPTY
    found: bytes = side if type(side) is bytes else side[0]
    return found
