from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest

from ledger import codec, state_tree
from ledger.errors import Fault, Invalid
from ledger.state_tree import (
    ARITY,
    EMPTY,
    INDEX_BITS,
    NODE_MISSING,
    TOO_MANY_NODES,
    Node,
    Slot,
    StateTree,
    TreeUpdate,
    join,
    leaf_hash,
    root_hash,
)
from tests.reference_tree import ReferenceTree

CELLS = {f"key {number}".encode(): f"value {number}".encode() for number in range(500)}


def nowhere(number: int) -> bytes | None:
    """A store without rows."""
    return None


class Store:
    """A tree whose rows lie in memory, and which counts its loads."""

    def __init__(self, cache_nodes: int = 1000) -> None:
        self.rows: dict[int, bytes] = {}
        self.loads: list[int] = []
        self.tree = StateTree(self.load, cache_nodes=cache_nodes)

    def load(self, number: int) -> bytes | None:
        self.loads.append(number)
        return self.rows.get(number)

    def put(self, root: Slot, changes: dict[bytes, bytes | None], version: int) -> TreeUpdate:
        update = self.tree.update(root, changes.items(), version)
        self.rows.update(update.rows)
        self.tree.adopt(update)
        return update


def number_of(root: Slot) -> int:
    assert root is not None
    assert type(root[1]) is int
    return root[1]


# Hashes


def test_leaf_and_inner_hashes() -> None:
    """The formulas of the module's docstring, once more."""
    leaf = sha256(b"\0" + sha256(b"k").digest() + sha256(b"v").digest()).digest()
    assert leaf_hash(b"k", b"v") == leaf
    one, other, inner = (leaf, b"k", b"v"), (b"o" * 32, b"other", b"v"), (b"n" * 32, 7)
    assert join(None, None) is None
    assert join(one, None) is one
    assert join(None, one) is one
    assert join(one, other) == (sha256(b"\1" + leaf + b"o" * 32).digest(),)
    for side in (inner, (b"n" * 32,)):
        assert join(side, None) == (sha256(b"\1" + b"n" * 32 + bytes(32)).digest(),)
        assert join(None, side) == (sha256(b"\1" + bytes(32) + b"n" * 32).digest(),)
        assert join(side, one) == (sha256(b"\1" + b"n" * 32 + leaf).digest(),)


def test_folding_what_changed_is_folding_anew() -> None:
    random, tree = Random(1), StateTree(nowhere)

    def slot() -> Slot:
        kind, name = random.randrange(3), random.randbytes(32)
        return (None, (name, b"k" + name, b"v"), (name, random.randrange(99)))[kind]

    for _ in range(300):
        node: Node = [None] * ARITY
        node += [slot() if random.random() < 0.5 else None for _ in range(ARITY)]
        tree.fold(node)
        for index in range(1, ARITY):
            assert node[index] == join(node[2 * index], node[2 * index + 1])
        positions = sorted(random.sample(range(ARITY, 2 * ARITY), random.randint(1, ARITY)))
        for position in positions:
            node[position] = slot()
        anew: Node = [None] * ARITY + node[ARITY:]
        tree.fold(node, positions)
        tree.fold(anew)
        assert node == anew


def test_the_empty_tree() -> None:
    store = Store()
    assert root_hash(None) == EMPTY == bytes(32)
    assert store.tree.get(None, b"key") is None
    assert list(store.tree.items(None)) == []
    assert store.tree.update(None, [], 1) == TreeUpdate(None, [], [], {})
    assert store.put(None, {b"key": None}, 1).root is None


def test_a_tree_of_one_cell_is_its_leaf() -> None:
    store = Store()
    update = store.put(None, {b"key": b"value"}, 1)
    assert update.root == (leaf_hash(b"key", b"value"), b"key", b"value")
    assert update.rows == []
    assert store.tree.get(update.root, b"key") == b"value"
    assert store.tree.get(update.root, b"other") is None


def test_the_root_is_that_of_the_plain_tree() -> None:
    store = Store()
    root = store.put(None, dict(CELLS), 1).root
    assert root_hash(root) == ReferenceTree(CELLS).root
    assert dict(store.tree.items(root)) == CELLS
    assert [key for key, _ in store.tree.items(root)] == ReferenceTree(CELLS).keys
    for key, value in CELLS.items():
        assert store.tree.get(root, key) == value
    assert store.tree.get(root, b"absent") is None


@pytest.mark.determinism
def test_one_result_whatever_the_order() -> None:
    """Rows and numbers too, so that two nodes write the same store."""
    orders = [list(CELLS.items()) for _ in range(3)]
    for seed, order in enumerate(orders):
        Random(seed).shuffle(order)
    first, *others = [StateTree(nowhere).update(None, order, 3) for order in orders]
    assert all(other == first for other in others)
    assert root_hash(first.root).hex() == "92d48ed6884c0f268f0b31dea52a9169a78bfd07188faf08b95189b7cdfb4bc9"


def test_many_small_updates_make_the_root_of_one() -> None:
    store = Store()
    root: Slot = None
    for version, (key, value) in enumerate(CELLS.items(), 1):
        root = store.put(root, {key: value}, version).root
    assert root_hash(root) == ReferenceTree(CELLS).root
    for version, key in enumerate(list(CELLS)[:-1], len(CELLS) + 1):
        root = store.put(root, {key: None}, version).root
    last = list(CELLS)[-1]
    assert root == (leaf_hash(last, CELLS[last]), last, CELLS[last])


# Rows


def test_rows_are_numbered_in_the_order_of_writing() -> None:
    store = Store()
    for version in (0, 5):
        update = store.tree.update(None, CELLS.items(), version)
        numbers = [number for number, _ in update.rows]
        assert numbers == list(range(version << INDEX_BITS, (version << INDEX_BITS) + len(numbers)))
        assert number_of(update.root) == numbers[-1]  # children first, the root last


def test_a_row_is_sixteen_slots_with_values_inside() -> None:
    store = Store()
    update = store.put(None, dict(CELLS), 1)
    found: dict[bytes, bytes] = {}
    for number, row in update.rows:
        slots = codec.decode(row)
        assert len(slots) == ARITY
        assert store.tree.node(number) == update.nodes[number]
        assert list(slots) == store.tree.node(number)[ARITY:]
        found.update({slot[1]: slot[2] for slot in slots if slot is not None and len(slot) == 3})
    assert found == CELLS


def test_an_update_writes_the_changed_path_and_names_what_it_replaces() -> None:
    store = Store()
    first = store.put(None, dict(CELLS), 1)
    steps, _ = store.tree.walk(first.root, sha256(b"key 7").digest())
    second = store.put(first.root, {b"key 7": b"new"}, 2)
    assert len(second.rows) == len(second.stale) == len(steps)
    assert number_of(first.root) in second.stale
    assert store.tree.get(second.root, b"key 7") == b"new"
    assert store.tree.get(first.root, b"key 7") == b"value 7"


@pytest.mark.parametrize(
    "changes",
    [
        {b"key 7": b"value 7"},
        {b"absent": None},
        {b"key 7": b"value 7", b"key 8": b"value 8", b"absent": None},
        {f"absent {number}".encode(): None for number in range(200)},
        {},
    ],
)
def test_a_change_that_changes_nothing_writes_nothing(changes: dict[bytes, bytes | None]) -> None:
    store = Store()
    root = store.put(None, dict(CELLS), 1).root
    assert store.put(root, changes, 2) == TreeUpdate(root, [], [], {})


def test_an_update_not_adopted_leaves_no_trace() -> None:
    """A proposal that comes to nothing is followed by another of the same version."""
    store = Store()
    root = store.put(None, dict(CELLS), 1).root
    dropped = store.tree.update(root, [(b"key 7", b"dropped")], 2)
    kept = store.put(root, {b"key 7": b"kept", b"key 9": None}, 2)
    assert number_of(dropped.root) in dict(kept.rows)
    assert store.tree.get(kept.root, b"key 7") == b"kept"
    expected = {key: value for key, value in {**CELLS, b"key 7": b"kept"}.items() if key != b"key 9"}
    assert root_hash(kept.root) == ReferenceTree(expected).root


def test_adopted_nodes_are_read_from_the_cache() -> None:
    store = Store()
    root = store.put(None, dict(CELLS), 1).root
    assert dict(store.tree.items(root)) == CELLS
    assert store.loads == []
    assert dict(StateTree(store.load).items(root)) == CELLS
    assert sorted(store.loads) == sorted(store.rows)


def test_the_cache_is_bounded() -> None:
    store = Store(cache_nodes=10)
    root = store.put(None, dict(CELLS), 1).root
    for key, value in CELLS.items():
        assert store.tree.get(root, key) == value
        assert len(store.tree._young) + len(store.tree._old) <= 10


def test_a_missing_node_is_a_fault_that_names_it() -> None:
    store = Store()
    root = store.put(None, dict(CELLS), 3).root
    number = number_of(root)
    index = number - (3 << INDEX_BITS)
    lost = StateTree(nowhere)
    for call in (
        lambda: lost.node(number),
        lambda: lost.get(root, b"key 1"),
        lambda: lost.update(root, [(b"key 1", b"x")], 4),
        lambda: lost.walk(root, bytes(32)),
        lambda: list(lost.items(root)),
    ):
        with pytest.raises(Fault, match=f"node {index} of version 3 is not in the store") as caught:
            call()
        assert caught.value.code == NODE_MISSING == "E-TREE-001"


def test_numbers_of_one_version_never_run_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_tree, "INDEX_BITS", 4)
    few = dict(list(CELLS.items())[:20])
    assert len(Store().put(None, dict(few), 1).rows) <= 16
    with pytest.raises(Invalid) as caught:
        Store().put(None, dict(CELLS), 1)
    assert caught.value.code == TOO_MANY_NODES
