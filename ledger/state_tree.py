"""The state tree: a versioned, compact, binary sparse Merkle tree over hashed keys, stored sixteen ways.

    leaf    SHA-256(0x00 | SHA-256(key) | SHA-256(value))
    inner   SHA-256(0x01 | left | right), an empty side being 32 zero bytes

A key lies where the bits of SHA-256(key), the highest first, lead. A subtree of exactly one leaf *is* that leaf, so
the root depends on the set of cells alone, never on the order in which they came. This is the `smt` tree of ICS-23,
so verifiers that nobody here wrote check its proofs of existence and absence.

Stored are nodes of sixteen slots, each four binary levels: a quarter of the rows and reads, with the same hashes.
The levels between are folded from the slots, and only along the changed branches. docs/adr/0002 has the measurements.

Versions: nodes are immutable. An update writes new nodes for the changed paths and shares the rest, so every root
that is still kept can be read and proved. A node's number is (version << 24) + index within the update: rows are
written in ascending order, which suits a log-structured store. Values lie inside the nodes: one read gives both.

Pure: rows come from a `load` function and go out in `TreeUpdate`; this module writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

from ledger import codec
from ledger.errors import Fault, Invalid, define

ARITY = 16
EMPTY = bytes(32)
_EMPTY_LEFT = b"\1" + EMPTY
INDEX_BITS = 24

NODE_MISSING = define(
    "E-TREE-001", "a node of the state tree is missing", "run `troth node inspect`; restore or sync again"
)
TOO_MANY_NODES = define(
    "E-TREE-002", "an update of the state is too large", "start with fewer cells, or spread them over several blocks"
)

# A slot is empty (None), a leaf (hash, key, value) or a node (hash, number).
Leaf: TypeAlias = "tuple[bytes, bytes, bytes]"
Slot: TypeAlias = "Leaf | tuple[bytes, int] | None"
Slots: TypeAlias = "tuple[Any, ...]"
Steps: TypeAlias = "list[tuple[Slots, int]]"  # nodes from the root down, each with the branch taken
Fold: TypeAlias = "list[Any]"
Change: TypeAlias = "tuple[bytes, bytes, bytes | None, bytes]"  # (hashed key, key, value or None, leaf hash)


class TreeUpdate(NamedTuple):
    """What an update makes: the new root, rows to write (number, bytes), numbers that later roots no longer use."""

    root: Slot
    rows: list[tuple[int, bytes]]
    stale: list[int]
    nodes: dict[int, Slots]
    folds: dict[int, Fold]


def root_hash(root: Slot) -> bytes:
    """The state root of a root slot: 32 zero bytes for the empty tree."""
    return EMPTY if root is None else root[0]


def leaf_hash(key: bytes, value: bytes) -> bytes:
    """The hash of a cell's leaf."""
    return sha256(b"\0" + sha256(key).digest() + sha256(value).digest()).digest()


def join(left: Any, right: Any) -> Any:
    """What stands above two sides: None, the only leaf, or the hash of an inner node. Sides are slots or hashes."""
    if left is None:
        if right is None or (type(right) is tuple and len(right) == 3):
            return right
        return sha256(_EMPTY_LEFT + (right if type(right) is bytes else right[0])).digest()
    if type(left) is tuple:
        if right is None and len(left) == 3:
            return left
        left = left[0]
    if right is None:
        right = EMPTY
    elif type(right) is tuple:
        right = right[0]
    return sha256(b"\1" + left + right).digest()


def fold(slots: Sequence[Any]) -> Fold:
    """The four levels above sixteen slots: `fold[1]` stands for the node, `fold[i]` joins `fold[2i]`, `fold[2i+1]`."""
    levels = [None] * ARITY + list(slots)
    for index in range(ARITY - 1, 0, -1):
        levels[index] = join(levels[2 * index], levels[2 * index + 1])
    return levels


def refold(levels: Fold, slots: Sequence[Any], branches: Sequence[int]) -> Fold:
    """`fold(slots)`, given the fold of slots that differ from these in `branches` only."""
    levels = levels[:ARITY] + list(slots)
    parents: Iterable[int] = dict.fromkeys([(ARITY + branch) >> 1 for branch in branches])
    for _ in range(4):
        for index in parents:
            levels[index] = join(levels[2 * index], levels[2 * index + 1])
        parents = dict.fromkeys([index >> 1 for index in parents])
    return levels


class StateTree:
    """Reads and updates trees whose nodes `load` finds by number. Keeps up to `cache_nodes` decoded nodes.

    Nodes are immutable, so one cache serves every version. Not for use by several threads.
    """

    def __init__(self, load: Callable[[int], bytes | None], *, cache_nodes: int = 60_000) -> None:
        self._load = load
        self._folds: dict[int, Fold] = {}
        self._young: dict[int, Slots] = {}
        self._old: dict[int, Slots] = {}
        self._generation = max(cache_nodes // 2, 1)

    def node(self, number: int) -> Slots:
        """The sixteen slots of a node. Raises Fault (E-TREE-001) where the store has lost it or pruned it."""
        slots = self._young.get(number)
        if slots is not None:
            return slots
        slots = self._old.get(number)
        if slots is None:
            data = self._load(number)
            if data is None:
                version, index = number >> INDEX_BITS, number & ((1 << INDEX_BITS) - 1)
                raise Fault(NODE_MISSING, f"node {index} of version {version} is not in the store")
            slots = codec.decode_trusted(data)
        self._keep(number, slots)
        return slots

    def _keep(self, number: int, slots: Slots) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[number] = slots

    def get(self, root: Slot, key: bytes) -> bytes | None:
        """The value of a key under `root`, or None."""
        slot: Any = root
        path = sha256(key).digest()
        depth = 0
        node, young = self.node, self._young
        while slot is not None and len(slot) == 2:
            slots = young.get(slot[1]) or node(slot[1])
            byte = path[depth >> 1]
            slot = slots[byte & 15 if depth & 1 else byte >> 4]
            depth += 1
        if slot is None or slot[1] != key:
            return None
        value: bytes = slot[2]
        return value

    def update(self, root: Slot, changes: Iterable[tuple[bytes, bytes | None]], version: int) -> TreeUpdate:
        """The tree after setting each (key, value), None removing the key. A key may come once.

        `version` must be higher than that of any node under `root`. Call `adopt` once the rows are stored.
        """
        items: list[Change] = []
        for key, value in changes:
            path = sha256(key).digest()
            leaf = EMPTY if value is None else sha256(b"\0" + path + sha256(value).digest()).digest()
            items.append((path, key, value, leaf))
        items.sort()
        update = TreeUpdate(None, [], [], {}, {})
        if not items:
            return update._replace(root=root)
        new = self._update(root, items, 0, version << INDEX_BITS, update)
        if len(update.rows) > 1 << INDEX_BITS:  # their numbers would run into the next version's
            raise Invalid(TOO_MANY_NODES, f"{len(update.rows)} nodes, at most {1 << INDEX_BITS} fit one version")
        return update._replace(root=new)

    def adopt(self, update: TreeUpdate) -> None:
        """Takes a stored update's nodes into the cache."""
        young, folds = self._young, self._folds
        for number in update.stale:
            young.pop(number, None)
            folds.pop(number, None)
        if len(folds) > self._generation:
            folds.clear()  # they can be had again from the slots
        folds.update(update.folds)
        for number, slots in update.nodes.items():
            self._keep(number, slots)

    def _update(self, slot: Any, items: list[Change], depth: int, base: int, update: TreeUpdate) -> Any:
        if slot is None or len(slot) == 3:
            return self._grow(slot, items, depth, base, update)
        old = self._young.get(slot[1]) or self.node(slot[1])
        slots = list(old)
        byte, low = depth >> 1, depth & 1
        depth += 1
        count = len(items)
        if count == 1:
            digit = items[0][0][byte]
            branch = digit & 15 if low else digit >> 4
            slots[branch] = self._update(slots[branch], items, depth, base, update)
            branches = [branch]
        else:
            branches = []
            start = 0
            while start < count:
                digit = items[start][0][byte]
                branch = digit & 15 if low else digit >> 4
                end = start + 1
                while end < count:
                    digit = items[end][0][byte]
                    if (digit & 15 if low else digit >> 4) != branch:
                        break
                    end += 1
                slots[branch] = self._update(slots[branch], items[start:end], depth, base, update)
                branches.append(branch)
                start = end
        new = tuple(slots)
        if new == old:
            return slot
        update.stale.append(slot[1])
        # Only a removal can leave fewer than two filled slots, and only where the last change made a leaf or nothing.
        last = slots[branch]
        if last is None or len(last) == 3:
            return self._close(new, base, update)
        known = self._folds.get(slot[1])
        levels = fold(new) if known is None or len(branches) > 6 else refold(known, new, branches)
        return self._write(new, levels, base, update)

    def _grow(self, slot: Any, items: list[Change], depth: int, base: int, update: TreeUpdate) -> Any:
        """What replaces an empty slot or a leaf when `items` come to lie there."""
        if slot is not None:
            key = slot[1]
            if len(items) == 1 and items[0][1] == key:
                _, _, value, leaf = items[0]
                if value is None:
                    return None
                return slot if leaf == slot[0] else (leaf, key, value)
            if all(item[1] != key for item in items):
                items = sorted([*items, (sha256(key).digest(), key, slot[2], slot[0])])
        leaves = [item for item in items if item[2] is not None]
        return self._build(leaves, depth, base, update)

    def _build(self, leaves: list[Change], depth: int, base: int, update: TreeUpdate) -> Any:
        if len(leaves) <= 1:
            return (leaves[0][3], leaves[0][1], leaves[0][2]) if leaves else None
        byte, low = depth >> 1, depth & 1
        groups: list[list[Change]] = [[] for _ in range(ARITY)]
        for leaf in leaves:
            digit = leaf[0][byte]
            groups[digit & 15 if low else digit >> 4].append(leaf)
        slots = tuple([self._build(group, depth + 1, base, update) if group else None for group in groups])
        return self._close(slots, base, update)

    def _close(self, slots: Slots, base: int, update: TreeUpdate) -> Any:
        """The slot that stands for these sixteen: nothing, the only leaf, or a new node."""
        filled = [slot for slot in slots if slot is not None]
        if len(filled) <= 1 and (not filled or len(filled[0]) == 3):
            return filled[0] if filled else None
        return self._write(slots, fold(slots), base, update)

    @staticmethod
    def _write(slots: Slots, levels: Fold, base: int, update: TreeUpdate) -> Any:
        """A new node of these sixteen slots."""
        number = base + len(update.rows)
        update.rows.append((number, codec.encode_trusted(slots)))
        update.nodes[number] = slots
        update.folds[number] = levels
        return (levels[1], number)

    def items(self, root: Slot) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) under `root`, in ascending order of hashed keys."""
        stack: list[Any] = [root]
        while stack:
            slot = stack.pop()
            if slot is None:
                continue
            if len(slot) == 3:
                yield slot[1], slot[2]
            else:
                stack.extend(reversed(self.node(slot[1])))

    def walk(self, root: Slot, path: bytes) -> tuple[Steps, Leaf | None]:
        """The nodes on a hashed key's path from the root, and the leaf where it ends, which may be another key's."""
        steps: Steps = []
        slot: Any = root
        while slot is not None and len(slot) == 2:
            slots = self.node(slot[1])
            byte = path[len(steps) >> 1]
            branch = byte & 15 if len(steps) & 1 else byte >> 4
            steps.append((slots, branch))
            slot = slots[branch]
        return steps, slot
