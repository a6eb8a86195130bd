"""One suite for every implementation of the key-value interface."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ledger.errors import Fault, Invalid, Refused, TrothError
from node.keyvalue import CHECK_STEP_ROWS, MAX_KEY_BYTES, KeyValue, bounds, upper_end
from node.lmdb_store import LmdbStore
from node.memory import MemoryStore
from node.stores import KINDS, open_store

DISK_KINDS = ("leveldb", "lmdb")
PROJECT = Path(__file__).parents[3]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValue]:
    with closing(open_store(request.param, tmp_path)) as opened:
        yield opened


def rows(*keys: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, b"value of " + key) for key in keys]


def keys(found: Iterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [key for key, _ in found]


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    with pytest.raises(TrothError) as caught:
        yield
    assert caught.value.code == code
    for word in words:
        assert word in str(caught.value)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Makes the kernel refuse any write beyond `size` bytes of a file, for this process."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# reading and writing


def test_put_get_has_delete(store: KeyValue) -> None:
    store.write([(b"a", b"1"), (b"b", b""), (b"c", b"\0\xff")])
    assert [store.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"1", b"", b"\0\xff", None]
    assert [store.has(key) for key in (b"a", b"b", b"d")] == [True, True, False]
    store.write([(b"a", b"2")], [b"b", b"never there"])
    assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (b"2", None, b"\0\xff")


def test_the_last_put_of_a_key_holds_and_a_delete_follows_every_put(store: KeyValue) -> None:
    store.write([(b"a", b"1"), (b"b", b"1"), (b"a", b"2")], [b"b"])
    assert list(store.scan(b"")) == [(b"a", b"2")]


def test_a_write_takes_iterators_and_an_empty_one(store: KeyValue) -> None:
    store.write(iter(rows(b"x", b"y")), iter([b"x"]))
    store.write([])
    store.write([], [], sync=False)
    assert keys(store.scan(b"")) == [b"y"]


def test_values_of_a_megabyte_come_back(store: KeyValue) -> None:
    value = bytes(range(256)) * 4096
    store.write([(b"large", value)])
    assert store.get(b"large") == value
    assert list(store.scan(b"large")) == [(b"large", value)]


@pytest.mark.parametrize("bad", [b"", b"k" * (MAX_KEY_BYTES + 1)])
def test_keys_out_of_range_are_refused_and_nothing_is_written(store: KeyValue, bad: bytes) -> None:
    with refused("E-STORE-007", "empty" if not bad else "512 bytes"):
        store.write([(b"before", b""), (bad, b""), (b"after", b"")])
    assert list(store.scan(b"")) == []
    assert store.get(bad) is None
    assert not store.has(bad)
    store.write(rows(b"k" * MAX_KEY_BYTES), [bad])
    assert keys(store.scan(b"")) == [b"k" * MAX_KEY_BYTES]


@pytest.mark.parametrize("row", [("text", b""), (b"key", "text"), (b"key", None)])
def test_what_is_not_bytes_is_refused_and_nothing_is_written(store: KeyValue, row: tuple[bytes, bytes]) -> None:
    with pytest.raises(TypeError):
        store.write([(b"before", b""), row])
    assert list(store.scan(b"")) == []


# atomic batches


class Midway(Exception):
    pass


def failing(items: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    yield from items
    raise Midway


def failing_deletes() -> Iterator[bytes]:
    yield b"kept"
    raise Midway


def test_an_exception_while_the_batch_is_built_writes_nothing(store: KeyValue) -> None:
    store.write(rows(b"kept"))
    with pytest.raises(Midway):
        store.write(failing(rows(*(b"%04d" % number for number in range(3000)))))
    with pytest.raises(Midway):
        store.write(rows(b"new"), failing_deletes())
    assert list(store.scan(b"")) == rows(b"kept")
    store.write(rows(b"later"))
    assert keys(store.scan(b"")) == [b"kept", b"later"]


# scans

SOME = (b"a", b"a\0", b"a\0\0", b"a\xff", b"a\xff\xff", b"ab", b"b", b"\xfe\xff", b"\xff", b"\xff\xff", b"\xff\xffz")


@pytest.mark.parametrize("prefix", [b"", b"a", b"a\0", b"a\xff", b"a\xff\xff", b"c", b"\xff", b"\xff\xff", b"\xfe"])
@pytest.mark.parametrize("start", [None, b"", b"a", b"a\0", b"a\1", b"ab", b"b", b"zz", b"\xff\xff", b"\xff\xff\xff"])
def test_scan_ranges(store: KeyValue, prefix: bytes, start: bytes | None) -> None:
    store.write(rows(*reversed(SOME)))
    within = sorted(key for key in SOME if key.startswith(prefix))
    up = [key for key in within if start is None or key >= start]
    down = [key for key in reversed(within) if start is None or key <= start]
    assert list(store.scan(prefix, start=start)) == rows(*up)
    assert list(store.scan(prefix, start=start, reverse=True)) == rows(*down)
    for limit in (0, 1, 2, 100):
        assert keys(store.scan(prefix, start=start, limit=limit)) == up[:limit]
        assert keys(store.scan(prefix, start=start, reverse=True, limit=limit)) == down[:limit]


def test_a_scan_of_an_empty_store_is_empty(store: KeyValue) -> None:
    assert list(store.scan(b"")) == []
    assert list(store.scan(b"a", reverse=True)) == []


@pytest.mark.parametrize("count", [15, 16, 17, 47, 48, 49, 3000])
def test_long_scans_are_whole(store: KeyValue, count: int) -> None:
    expected = [b"%05d" % number for number in range(count)]
    store.write(rows(*expected))
    assert keys(store.scan(b"")) == expected
    assert keys(store.scan(b"", reverse=True)) == expected[::-1]
    assert keys(store.scan(b"", limit=count - 1)) == expected[:-1]
    assert keys(store.scan(b"", limit=count)) == expected


def test_a_scan_shows_the_moment_of_its_call(store: KeyValue) -> None:
    before = rows(*(b"%05d" % number for number in range(2000)))
    store.write(before)
    unstarted, started = store.scan(b""), store.scan(b"")
    assert next(started) == before[0]
    store.write([(key, b"changed") for key, _ in before[::2]] + rows(b"00000a", b"9"), [before[1][0], before[-1][0]])
    assert list(unstarted) == before
    assert list(started) == before[1:]
    assert len(list(store.scan(b""))) == 2000


def test_an_abandoned_scan_is_freed(store: KeyValue) -> None:
    store.write(rows(*(b"%05d" % number for number in range(600))))
    for _ in range(300):  # more than LMDB has reader slots (126)
        store.scan(b"")
        next(store.scan(b""))
    gc.collect()
    store.write(rows(b"x"))
    assert len(list(store.scan(b""))) == 601


def test_other_threads_read_while_one_writes(store: KeyValue) -> None:
    store.write([(b"left", b"0"), (b"right", b"0")])
    torn: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            values = [value for _, value in store.scan(b"")]
            if values[0] != values[1]:
                torn.append(values)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(100):
            value = b"%d" % number
            store.write([(b"left", value), (b"right", value)], sync=False)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert torn == []


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_closing_ends_an_open_scan(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    store.write(rows(*(b"%05d" % number for number in range(600))))
    started = store.scan(b"")
    next(started)
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(started)


def test_a_closed_store_says_so(store: KeyValue) -> None:
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.get(b"a"),
        lambda: store.has(b"a"),
        lambda: store.scan(b""),
        lambda: store.write([]),
        store.stats,
        store.disk_bytes,
        store.check,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            call()


# figures and checking


def test_check_reads_every_row_and_tells_progress(store: KeyValue) -> None:
    store.write((b"%06d" % number, b"") for number in range(CHECK_STEP_ROWS + 5))
    told: list[int] = []
    store.check(told.append)
    assert told == [CHECK_STEP_ROWS, CHECK_STEP_ROWS + 5]
    store.check()


def test_stats_name_the_kind(store: KeyValue, request: pytest.FixtureRequest) -> None:
    figures = store.stats()
    assert figures["kind"] == request.node.callspec.params["store"]
    assert {"kind", "engine"} < figures.keys()


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_disk_bytes_grow_with_the_rows(kind: str, tmp_path: Path) -> None:
    with closing(open_store(kind, tmp_path)) as store:
        before = store.disk_bytes()
        store.write((b"%d" % number, os.urandom(1000)) for number in range(1000))
        assert store.disk_bytes() >= before + 1_000_000


# opening


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_reopening_keeps_every_row(kind: str, tmp_path: Path) -> None:
    expected = rows(*(b"%05d" % number for number in range(1000)))
    for step in range(4):
        with closing(open_store(kind, tmp_path, create=step == 0)) as store:
            assert list(store.scan(b"")) == expected[: 250 * step]
            store.write(expected[250 * step : 250 * (step + 1)])
    with closing(open_store(kind, tmp_path)) as store:
        assert list(store.scan(b"")) == expected


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_second_process_is_refused_and_told_who_is_there(kind: str, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from ledger.errors import Fault
from node.stores import open_store
try:
    open_store({kind!r}, Path({str(tmp_path)!r}))
except Fault as fault:
    print(fault)
"""
    with closing(open_store(kind, tmp_path)) as store:
        with refused("E-STORE-001", str(os.getpid())):  # LevelDB's own lock would not survive this attempt
            open_store(kind, tmp_path)
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
        assert second.stdout.startswith("E-STORE-001 "), second.stderr
        assert f"(pid {os.getpid()})" in second.stdout
        store.write(rows(b"still mine"))
    second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    assert (second.returncode, second.stdout) == (0, "")


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_forked_child_does_not_hold_the_lock(kind: str, tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
from pathlib import Path
from node.stores import open_store
store = open_store({kind!r}, Path({str(tmp_path)!r}))
child = os.fork()
if child == 0:
    os.closerange(1, 3)
    signal.pause()
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT)
    child = int(parent.stdout)
    try:
        open_store(kind, tmp_path).close()
        os.kill(child, 0)
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_missing_directory_and_a_file_in_its_place(kind: str, tmp_path: Path) -> None:
    with refused("E-STORE-005", "does not exist"):
        open_store(kind, tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with refused("E-STORE-005", "not a directory"):
        open_store(kind, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with refused("E-STORE-005", "holds no database"):
        open_store(kind, tmp_path / "empty", create=False)
    open_store(kind, tmp_path / "empty").close()


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_directory_of_another_user(kind: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # permission bits do not bind root
            os.seteuid(65534)
        try:
            with refused("E-STORE-006", f"user {os.geteuid()}"):
                open_store(kind, directory)
        finally:
            os.seteuid(user)
            directory.chmod(0o755)


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_database_that_has_lost_its_main_file_is_damaged_and_not_empty(kind: str, tmp_path: Path) -> None:
    open_store(kind, tmp_path).close()
    (tmp_path / {"leveldb": "CURRENT", "lmdb": "data.mdb"}[kind]).unlink()
    with refused("E-STORE-002", "is gone"):
        open_store(kind, tmp_path)


@pytest.mark.parametrize(("made", "asked"), [("leveldb", "lmdb"), ("lmdb", "leveldb")])
@pytest.mark.parametrize("remembered", [True, False])
def test_another_kind_is_refused_in_words(made: str, asked: str, remembered: bool, tmp_path: Path) -> None:
    open_store(made, tmp_path).close()
    if not remembered:  # killed between making the database and writing KIND
        (tmp_path / "KIND").unlink()
    with pytest.raises(Refused) as caught:
        open_store(asked, tmp_path)
    assert caught.value.code == "E-STORE-009"
    assert f"holds a {made} database, and {asked} was asked for" in str(caught.value)
    open_store(made, tmp_path).close()
    assert (tmp_path / "KIND").read_text() == f"{made}\n"


@pytest.mark.parametrize(("asked", "meant"), [("levelDB", "leveldb"), ("lmbd", "lmdb"), ("mem", "memory")])
def test_an_unknown_kind_gets_a_suggestion(asked: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        open_store(asked, tmp_path)
    assert caught.value.fix == f"did you mean {meant}?"
    with refused("E-STORE-008", "choose leveldb, lmdb or memory"):
        open_store("x" * 20, tmp_path)


# failing writes


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_failed_write_stops_the_store_until_it_is_opened_again(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    first = [(b"%03d" % number, os.urandom(300)) for number in range(100)]
    store.write(first)
    scan = store.scan(b"")
    next(scan)
    with largest_file(50_000), pytest.raises(Fault) as caught:
        store.write([(b"%03d" % number, os.urandom(300)) for number in range(100, 400)])
    assert caught.value.code == "E-STORE-004"
    calls: list[Callable[[], object]] = [
        lambda: store.get(b"000"),
        lambda: store.has(b"000"),
        lambda: store.scan(b""),
        lambda: list(scan),
        lambda: store.write([]),
        store.stats,
        store.disk_bytes,
        store.check,
    ]
    for call in calls:
        with pytest.raises(Fault) as again:
            call()
        assert again.value is caught.value
    store.close()
    with closing(open_store(kind, tmp_path)) as reopened:
        found = list(reopened.scan(b""))
        assert found[:100] == first
        assert len(found) in (100, 400)


# what only one of them does


def test_lmdb_grows_its_map_under_open_scans(tmp_path: Path) -> None:
    with closing(LmdbStore(tmp_path, map_bytes=1 << 20)) as store:
        before = rows(*(b"%05d" % number for number in range(2000)))
        store.write(before)
        up, down = store.scan(b""), store.scan(b"", reverse=True)
        taken = [next(up) for _ in range(20)]
        store.write((b"x%05d" % number, bytes(1000)) for number in range(8000))
        assert int(store.stats()["map_bytes"]) >= 8 << 20
        assert taken + list(up) == before
        assert list(down) == before[::-1]
        assert len(list(store.scan(b""))) == 10_000
    with closing(LmdbStore(tmp_path, map_bytes=1 << 20)) as store:
        assert len(list(store.scan(b""))) == 10_000
        store.write([(b"y", bytes(2 << 20))])
        assert store.get(b"y") == bytes(2 << 20)


def test_the_memory_store_leaves_the_directory_alone(tmp_path: Path) -> None:
    store = open_store("memory", tmp_path / "nowhere")
    store.write(rows(b"a"))
    assert isinstance(store, MemoryStore)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"", None), (b"\xff", None), (b"\xff\xff", None), (b"a", b"b"), (b"a\xff\xff", b"b")]
)
def test_upper_end(prefix: bytes, end: bytes | None) -> None:
    assert upper_end(prefix) == end


def test_bounds_start_outside_the_prefix() -> None:
    assert bounds(b"b", b"a", False) == (b"b", b"c", False)
    assert bounds(b"b", b"z", True) == (b"b", b"c", False)
    assert bounds(b"b", b"bz", True) == (b"b", b"bz", True)
