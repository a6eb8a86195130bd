"""Every store behaves like a dict that is sorted when scanned, over any sequence of calls and reopenings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from node.keyvalue import KeyValue
from node.lmdb_store import LmdbStore
from node.stores import KINDS, open_store

# Few different bytes, so that keys collide, nest as prefixes and touch the ends of the order.
near = st.lists(st.sampled_from([0x00, 0x01, 0x61, 0xFE, 0xFF]), max_size=4).map(bytes)
keys = st.one_of(near.filter(bool), st.binary(min_size=1, max_size=511))
values = st.binary(max_size=40) | st.just(bytes(5000))
batches = st.tuples(st.lists(st.tuples(keys, values), max_size=30), st.lists(keys, max_size=5))

SMALL_MAP_BYTES = 64 << 10


class Midway(Exception):
    pass


class Machine(RuleBasedStateMachine):
    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.model: dict[bytes, bytes] = {}
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []
        self.store = self.opened()

    def opened(self) -> KeyValue:
        if self.kind == "lmdb":  # a small map, so that it grows under way
            return LmdbStore(self.directory, map_bytes=SMALL_MAP_BYTES)
        return open_store(self.kind, self.directory)

    def expected(
        self, prefix: bytes, start: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        rows = sorted((row for row in self.model.items() if row[0].startswith(prefix)), reverse=reverse)
        if start is not None:
            rows = [row for row in rows if (row[0] <= start if reverse else row[0] >= start)]
        return rows[:limit]

    @rule(batch=batches, sync=st.booleans())
    def write(self, batch: tuple[list[tuple[bytes, bytes]], list[bytes]], sync: bool) -> None:
        puts, deletes = batch
        self.store.write(puts, deletes, sync=sync)
        self.model.update(puts)
        for key in deletes:
            self.model.pop(key, None)

    @rule(batch=batches)
    def fail_to_write(self, batch: tuple[list[tuple[bytes, bytes]], list[bytes]]) -> None:
        def puts() -> Iterator[tuple[bytes, bytes]]:
            yield from batch[0]
            raise Midway

        with pytest.raises(Midway):
            self.store.write(puts(), batch[1])

    @rule(
        prefix=near,
        start=st.none() | near,
        reverse=st.booleans(),
        limit=st.none() | st.integers(0, 40),
        kept=st.booleans(),
    )
    def scan(self, prefix: bytes, start: bytes | None, reverse: bool, limit: int | None, kept: bool) -> None:
        expected = self.expected(prefix, start, reverse, limit)
        scan = self.store.scan(prefix, start=start, reverse=reverse, limit=limit)
        if kept:
            self.scans.append((scan, expected))
        else:
            assert list(scan) == expected

    @precondition(lambda self: self.scans)
    @rule()
    def end_a_scan(self) -> None:
        scan, expected = self.scans.pop(0)
        assert list(scan) == expected

    @precondition(lambda self: self.kind != "memory")
    @rule()
    def reopen(self) -> None:
        self.scans.clear()
        self.store.close()
        self.store = self.opened()

    @rule(key=keys)
    def get_any(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.get(key)
        assert self.store.has(key) == (key in self.model)

    @invariant()
    def same_rows(self) -> None:
        assert list(self.store.scan(b"")) == sorted(self.model.items())
        assert all(self.store.get(key) == value for key, value in self.model.items())

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


class LevelMachine(Machine):
    kind = "leveldb"


class LmdbMachine(Machine):
    kind = "lmdb"


MACHINES = {"memory": Machine, "leveldb": LevelMachine, "lmdb": LmdbMachine}


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_a_sorted_dict(kind: str) -> None:
    run_state_machine_as_test(
        MACHINES[kind],
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
