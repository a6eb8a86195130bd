"""Properties of the state tree over random batches of puts and removals, against the plain tree of the cells left."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Invalid, VerifyFailed
from ledger.ics23 import CommitmentProof, verify_state_absence, verify_state_membership
from ledger.state_proof import prove
from ledger.state_tree import Slot, StateTree, TreeUpdate, root_hash
from tests.reference_tree import ReferenceTree

Batch = dict[bytes, bytes | None]
keys = st.integers(0, 120).map(lambda number: b"%d" % number)  # few, so that batches meet and remove each other's keys
values = st.binary(min_size=1, max_size=3)
batches = st.lists(st.dictionaries(keys, st.none() | values, max_size=60), min_size=1, max_size=6)
cells = st.dictionaries(keys, values, max_size=60)


def nowhere(number: int) -> bytes | None:
    """A store without rows."""
    return None


class History:
    """Every version of one tree, with the cells that it should hold."""

    def __init__(self, batches: list[Batch], cache_nodes: int = 1000) -> None:
        self.rows: dict[int, bytes] = {}
        self.tree = StateTree(self.rows.get, cache_nodes=cache_nodes)
        self.roots: list[Slot] = [None]
        self.cells: list[dict[bytes, bytes]] = [{}]
        self.updates: list[TreeUpdate] = []
        for version, batch in enumerate(batches, 1):
            update = self.tree.update(self.roots[-1], batch.items(), version)
            assert not set(dict(update.rows)) & set(self.rows)
            self.rows.update(update.rows)
            self.tree.adopt(update)
            self.updates.append(update)
            self.roots.append(update.root)
            after = {**self.cells[-1], **batch}
            self.cells.append({key: value for key, value in after.items() if value is not None})


def reachable(tree: StateTree, root: Slot) -> Iterator[int]:
    """The numbers of the nodes under a root."""
    if root is not None and len(root) == 2:
        yield root[1]
        for slot in tree.node(root[1]):
            yield from reachable(tree, slot)


@given(batches)
@settings(max_examples=150, deadline=None)
def test_every_version_has_the_root_and_cells_of_the_plain_tree(batches: list[Batch]) -> None:
    history = History(batches)
    for tree in (history.tree, StateTree(history.rows.get)):
        for root, cells in zip(history.roots, history.cells, strict=True):
            reference = ReferenceTree(cells)
            assert root_hash(root) == reference.root
            assert list(tree.items(root)) == [(key, cells[key]) for key in reference.keys]
            for number in range(121):
                assert tree.get(root, b"%d" % number) == cells.get(b"%d" % number)


@given(batches)
@settings(max_examples=100, deadline=None)
def test_stale_numbers_are_what_the_new_root_no_longer_reaches(batches: list[Batch]) -> None:
    history = History(batches)
    kept: set[int] = set()
    for update, root in zip(history.updates, history.roots[1:], strict=True):
        now = set(reachable(history.tree, root))
        written = {number for number, _ in update.rows}
        assert len(update.stale) == len(set(update.stale))
        assert set(update.stale) == kept - now
        assert written == now - kept
        kept = now


@given(batches)
@settings(max_examples=60, deadline=None)
def test_pruning_what_is_stale_leaves_the_last_version_whole(batches: list[Batch]) -> None:
    history = History(batches)
    for update in history.updates:
        for number in update.stale:
            del history.rows[number]
    fresh = StateTree(history.rows.get)
    assert dict(fresh.items(history.roots[-1])) == history.cells[-1]
    assert set(history.rows) == set(reachable(fresh, history.roots[-1]))


@given(batches)
@settings(max_examples=60, deadline=None)
def test_the_cache_changes_nothing(batches: list[Batch]) -> None:
    large, small = History(batches), History(batches, cache_nodes=2)
    assert small.roots == large.roots
    assert small.rows == large.rows
    for one, other in zip(small.updates, large.updates, strict=True):
        assert one.stale == other.stale


@given(cells, st.randoms(use_true_random=False), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_the_root_depends_on_the_cells_alone(cells: dict[bytes, bytes], random: object, pieces: int) -> None:
    """In whatever order and batches they came, and whatever came and went between."""
    order = list(cells.items())
    random.shuffle(order)  # type: ignore[attr-defined]
    whole = StateTree(nowhere).update(None, order, 1)
    assert whole == StateTree(nowhere).update(None, cells.items(), 1)
    passing: Batch = {b"passing %d" % number: b"x" for number in range(pieces)}
    batches: list[Batch] = [passing]
    batches += [dict(order[at::pieces]) for at in range(pieces)]
    batches.append(dict.fromkeys(passing))
    assert root_hash(History(batches).roots[-1]) == root_hash(whole.root)


@given(batches)
@settings(max_examples=40, deadline=None)
def test_every_key_of_every_version_is_proven_there_or_not_there(batches: list[Batch]) -> None:
    history = History(batches)
    for root, cells in zip(history.roots, history.cells, strict=True):
        for key in {*cells, *(b"%d" % number for number in range(0, 130, 7))}:
            proof = CommitmentProof.decode(prove(history.tree, root, key).encode())
            if key in cells:
                verify_state_membership(root_hash(root), key, cells[key], proof)
            else:
                verify_state_absence(root_hash(root), key, proof)


@given(st.dictionaries(keys, values, min_size=1, max_size=60), keys, st.data())
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_goes_unnoticed(cells: dict[bytes, bytes], key: bytes, draw: st.DataObject) -> None:
    """One bit of an encoded proof is flipped: it no longer decodes, or it no longer holds."""
    history = History([dict(cells)])
    root = history.roots[-1]
    data = bytearray(prove(history.tree, root, key).encode())
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    data[bit // 8] ^= 1 << bit % 8
    try:
        forged = CommitmentProof.decode(bytes(data))
        if key in cells:
            verify_state_membership(root_hash(root), key, cells[key], forged)
        else:
            verify_state_absence(root_hash(root), key, forged)
    except (Invalid, VerifyFailed):
        return
    raise AssertionError(f"bit {bit} does not matter")
