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

from collections.abc import Callable, Iterable, Iterator
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

# A node in memory: its slots at 16 to 31 and, once folded, what stands above them: at i what joins 2i and 2i+1, a leaf
# or (hash,), so that 1 stands for the node itself. Before folding these are None, and 0 always is.
Node: TypeAlias = "list[Any]"
Steps: TypeAlias = "list[tuple[Node, int]]"  # nodes from the root down, each with the position of the slot taken
Change: TypeAlias = "tuple[bytes, bytes, bytes | None, bytes]"  # (hashed key, key, value or None, leaf hash)

_UNFOLDED: Node = [None] * ARITY
# (what is joined, left side, right side), the lowest first: of a whole node, and above each position.
_JOINS = [(index, 2 * index, 2 * index + 1) for index in range(ARITY - 1, 0, -1)]
_JOINS_ABOVE = [[join for join in _JOINS if join[0] in (at >> 1, at >> 2, at >> 3, at >> 4)] for at in range(2 * ARITY)]
_FEW = 5  # of more changed slots, the joins above are most of the node's


class TreeUpdate(NamedTuple):
    """What an update makes: the new root, rows to write (number, bytes), numbers that later roots no longer use."""

    root: Slot
    rows: list[tuple[int, bytes]]
    stale: list[int]
    nodes: dict[int, Node]


def root_hash(root: Slot) -> bytes:
    """The state root of a root slot, and the hash of any slot or join: 32 zero bytes where there is nothing."""
    return EMPTY if root is None else root[0]


def leaf_hash(key: bytes, value: bytes) -> bytes:
    """The hash of a cell's leaf."""
    return sha256(b"\0" + sha256(key).digest() + sha256(value).digest()).digest()


def join(left: Any, right: Any) -> Any:
    """What stands above two sides: None, the only leaf, or (hash,) of an inner node."""
    if left is None:
        if right is None or len(right) == 3:
            return right
        return (sha256(_EMPTY_LEFT + right[0]).digest(),)
    if right is None:
        if len(left) == 3:
            return left
        return (sha256(b"\1" + left[0] + EMPTY).digest(),)
    return (sha256(b"\1" + left[0] + right[0]).digest(),)


def split(items: list[Change], depth: int) -> list[tuple[int, list[Change]]]:
    """Sorted changes by the position of the slot that each takes in a node at `depth`."""
    byte, shift = depth >> 1, 0 if depth & 1 else 4
    if len(items) == 1:
        return [(ARITY + (items[0][0][byte] >> shift & 15), items)]
    parts: list[list[Change]] = [[] for _ in range(ARITY)]
    for item in items:
        parts[item[0][byte] >> shift & 15].append(item)
    return [(position, part) for position, part in enumerate(parts, ARITY) if part]


class StateTree:
    """Reads and updates trees whose nodes `load` finds by number. Keeps up to `cache_nodes` decoded nodes.

    Nodes are immutable, so one cache serves every version. Not for use by several threads.
    """

    def __init__(self, load: Callable[[int], bytes | None], *, cache_nodes: int = 60_000) -> None:
        self._load = load
        self._young: dict[int, Node] = {}
        self._old: dict[int, Node] = {}
        self._generation = max(cache_nodes // 2, 1)

    def node(self, number: int) -> Node:
        """A node, not to be changed. Raises Fault (E-TREE-001) where the store has lost it or pruned it."""
        node = self._young.get(number)
        if node is not None:
            return node
        node = self._old.get(number)
        if node is None:
            data = self._load(number)
            if data is None:
                version, index = number >> INDEX_BITS, number & ((1 << INDEX_BITS) - 1)
                raise Fault(NODE_MISSING, f"node {index} of version {version} is not in the store")
            node = [*_UNFOLDED, *codec.decode_trusted(data)]
        self._keep(number, node)
        return node

    def _keep(self, number: int, node: Node) -> None:
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[number] = node

    def get(self, root: Slot, key: bytes) -> bytes | None:
        """The value of a key under `root`, or None."""
        slot: Any = root
        path = sha256(key).digest()
        depth = 0
        node, young = self.node, self._young
        while slot is not None and len(slot) == 2:
            byte = path[depth >> 1]
            slot = (young.get(slot[1]) or node(slot[1]))[ARITY + (byte & 15 if depth & 1 else byte >> 4)]
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
        update = TreeUpdate(None, [], [], {})
        if not items:
            return update._replace(root=root)
        new = self._update(root, items, 0, version << INDEX_BITS, update)
        if len(update.rows) > 1 << INDEX_BITS:  # their numbers would run into the next version's
            raise Invalid(TOO_MANY_NODES, f"{len(update.rows)} nodes, at most {1 << INDEX_BITS} fit one version")
        return update._replace(root=new)

    def adopt(self, update: TreeUpdate) -> None:
        """Takes a stored update's nodes into the cache."""
        for number in update.stale:
            self._young.pop(number, None)
        for number, node in update.nodes.items():
            self._keep(number, node)

    def _update(self, slot: Any, items: list[Change], depth: int, base: int, update: TreeUpdate) -> Any:
        if slot is None or len(slot) == 3:
            return self._grow(slot, items, depth, base, update)
        old = self._young.get(slot[1]) or self.node(slot[1])
        node = old.copy()
        changed = []
        shrunk = False
        for position, part in split(items, depth):
            before = old[position]
            after = self._update(before, part, depth + 1, base, update)
            if after is before or after == before:
                continue
            node[position] = after
            changed.append(position)
            if after is None or (len(after) == 3 and before is not None and len(before) == 2):
                shrunk = True
        if not changed:
            return slot
        update.stale.append(slot[1])
        if shrunk:  # otherwise at least two leaves are left, as there were before
            filled = [slot for slot in node[ARITY:] if slot is not None]
            if not filled:
                return None
            if len(filled) == 1 and len(filled[0]) == 3:
                return filled[0]
        self.fold(node, changed)
        return self._write(node, base, update)

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
        return self._build(leaves, depth, base, update) if leaves else None

    def _build(self, leaves: list[Change], depth: int, base: int, update: TreeUpdate) -> Any:
        """The slot of a new subtree of these leaves, one at least."""
        if len(leaves) == 1:
            return (leaves[0][3], leaves[0][1], leaves[0][2])
        node: Node = [None] * (2 * ARITY)
        for position, part in split(leaves, depth):
            node[position] = self._build(part, depth + 1, base, update)
        self.fold(node)
        return self._write(node, base, update)

    def fold(self, node: Node, changed: list[int] | None = None) -> None:
        """Fills in what stands above the slots of a node, or puts it right where only some positions have changed."""
        if changed is None or node[1] is None or len(changed) > _FEW:
            joins = _JOINS
        elif len(changed) == 1:
            joins = _JOINS_ABOVE[changed[0]]
        else:
            joins = sorted({join for position in changed for join in _JOINS_ABOVE[position]}, reverse=True)
        for index, left, right in joins:
            one, other = node[left], node[right]
            if one is not None and other is not None:
                node[index] = (sha256(b"\1" + one[0] + other[0]).digest(),)  # `join` without its call: most are these
            elif one is not other:
                node[index] = join(one, other)
            else:
                node[index] = None

    @staticmethod
    def _write(node: Node, base: int, update: TreeUpdate) -> Any:
        """The slot of a new folded node."""
        number = base + len(update.rows)
        update.rows.append((number, codec.encode_trusted(node[ARITY:])))  # type: ignore[arg-type]
        update.nodes[number] = node
        return (node[1][0], number)

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
                stack.extend(reversed(self.node(slot[1])[ARITY:]))

    def walk(self, root: Slot, path: bytes) -> tuple[Steps, Leaf | None]:
        """The nodes on a hashed key's path from the root, and the leaf where it ends, which may be another key's."""
        steps: Steps = []
        slot: Any = root
        while slot is not None and len(slot) == 2:
            node = self.node(slot[1])
            byte = path[len(steps) >> 1]
            position = ARITY + (byte & 15 if len(steps) & 1 else byte >> 4)
            steps.append((node, position))
            slot = node[position]
        return steps, slot
