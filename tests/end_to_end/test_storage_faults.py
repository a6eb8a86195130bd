"""What a killed process, a cut power line, a full disk, a failing disk and a flipped bit do to a store.

Every batch here has a number, and its rows can be computed from it. Promise: a batch that was acknowledged is
there whole; one that was not is there whole or not at all.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.errors import Fault
from node.keyvalue import KeyValue
from node.stores import open_store

DISK_KINDS = ("leveldb", "lmdb")
PROJECT = Path(__file__).parents[2]
ROWS = 30

WRITER = """
import sys
from pathlib import Path
from node.stores import open_store
from tests.end_to_end.test_storage_faults import batch
store = open_store(sys.argv[1], Path(sys.argv[2]))
number = int(sys.argv[3])
while True:
    store.write(batch(number))
    print(number, flush=True)
    number += 1
"""


def batch(number: int) -> list[tuple[bytes, bytes]]:
    """The rows of a batch: 30 of about 350 bytes that do not compress, and one that every batch
    overwrites."""
    rows = [
        (
            b"%08d/%02d" % (number, row),
            b"".join(sha256(b"%d %d %d" % (number, row, part)).digest() for part in range(11)),
        )
        for row in range(ROWS)
    ]
    return [*rows, (b"head", b"%d" % number)]


def whole_batches(store: KeyValue) -> int:
    """How many batches the store holds, checked against what they must be: no gap, none in part, the head is
    right."""
    rows = list(store.scan(b""))
    count = len(rows) // ROWS
    expected = [row for number in range(count) for row in batch(number)[:-1]]
    if count:
        expected.append((b"head", b"%d" % (count - 1)))
    assert rows == expected
    return count


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of its own, of `size`. Needs root, unless TROTH_NO_MOUNT says that there is none here."""
    if os.environ.get("TROTH_NO_MOUNT"):
        pytest.skip("TROTH_NO_MOUNT is set: no file system may be mounted, so a full disk is not tested")
    place = Path(tempfile.mkdtemp(prefix="troth-disk-"))
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True
        )
        if mounted.returncode:
            why = mounted.stderr.strip()
            pytest.fail(f"cannot mount a small disk ({why}); run as root or set TROTH_NO_MOUNT=1")
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    finally:
        place.rmdir()


# killed processes


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_no_half_batch(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    acknowledged = -1
    for _ in range(10):
        with closing(open_store(kind, tmp_path)) as store:
            count = whole_batches(store)
        assert count >= acknowledged + 1
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(tmp_path), str(count)],
            stdout=subprocess.PIPE,
            cwd=PROJECT,
        )
        with writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                acknowledged = int(writer.stdout.readline())
            # A moment more, so that the kill falls anywhere in the cycle of building, writing and syncing.
            for _ in range(chance.randrange(20_000)):
                pass
            writer.kill()
            for line in writer.stdout.read().split():
                acknowledged = int(line)
    with closing(open_store(kind, tmp_path)) as store:
        assert whole_batches(store) in (acknowledged + 1, acknowledged + 2)
        store.check()


# torn tails and flipped bits


@pytest.fixture(scope="module")
def leveldb(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A LevelDB of four batches in the log and four in a table; and where in the log the batches end."""
    directory = tmp_path_factory.mktemp("leveldb")
    with closing(open_store("leveldb", directory)) as store:
        for number in range(4):
            store.write(batch(number))
    ends = []
    with closing(open_store("leveldb", directory)) as store:  # opening sorts the log into a table
        for number in range(4, 8):
            store.write(batch(number))
            ends.append(only(directory, "*.log").stat().st_size)
    return directory, ends


def only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


def test_a_log_cut_anywhere_opens_with_every_batch_that_is_whole(
    leveldb: tuple[Path, list[int]], tmp_path: Path
) -> None:
    made, ends = leveldb
    whole = only(made, "*.log").read_bytes()
    edges = {edge + shift for edge in [0, *ends, 32768] for shift in range(-9, 10)}
    for cut in sorted({*range(0, len(whole), 389), *edges}):
        if not 0 <= cut <= len(whole):
            continue
        copy = tmp_path / str(cut)
        shutil.copytree(made, copy)
        only(copy, "*.log").write_bytes(whole[:cut])
        with closing(open_store("leveldb", copy)) as store:
            assert whole_batches(store) == 4 + sum(end <= cut for end in ends)
        shutil.rmtree(copy)


@pytest.mark.parametrize("pattern", ["*.log", "*.ldb"])
def test_a_flipped_bit_is_refused_or_found_and_never_served(
    pattern: str, leveldb: tuple[Path, list[int]], tmp_path: Path
) -> None:
    made = leveldb[0]
    chance = random.Random(pattern)
    whole = only(made, pattern).read_bytes()
    genuine = {key: value for number in range(8) for key, value in batch(number)}
    silent = 0
    for _ in range(120):
        copy = tmp_path / "copy"
        shutil.copytree(made, copy)
        damaged = bytearray(whole)
        bit = chance.randrange(8 * len(whole))
        damaged[bit // 8] ^= 1 << bit % 8
        only(copy, pattern).write_bytes(damaged)
        try:
            with closing(open_store("leveldb", copy)) as store:
                for key, value in genuine.items():
                    try:
                        assert store.get(key) == value
                    except Fault as fault:
                        assert fault.code == "E-STORE-002"
                try:
                    store.check()
                except Fault as fault:
                    assert fault.code == "E-STORE-002"
                else:  # the bit was in a filter or in unused bytes: every row must be there and right
                    assert whole_batches(store) == 8
                    silent += 1
        except Fault as fault:
            assert fault.code == "E-STORE-002"
        shutil.rmtree(copy)
    assert silent <= (0 if pattern == "*.log" else 12)


def test_a_flipped_bit_in_a_row_of_lmdb_is_found(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    with closing(open_store("lmdb", made)) as store:
        for number in range(4):
            store.write(batch(number))
    whole = (made / "data.mdb").read_bytes()
    chance = random.Random("lmdb")
    for turn in range(60):
        copy = tmp_path / str(turn)
        shutil.copytree(made, copy)
        key, value = chance.choice(batch(chance.randrange(4))[:-1])
        # A page may be there several times, as LMDB copies on write: every copy is damaged alike.
        bit = chance.randrange(8 * len(value))
        wrong = bytearray(value)
        wrong[bit // 8] ^= 1 << bit % 8
        assert value in whole
        (copy / "data.mdb").write_bytes(whole.replace(value, bytes(wrong)))
        with closing(open_store("lmdb", copy)) as store:
            for read in (lambda key=key, store=store: store.get(key), store.check):
                with pytest.raises(Fault) as caught:
                    read()
                assert caught.value.code == "E-STORE-002"
                assert key.hex() in str(caught.value)


# full and failing disks


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost(kind: str) -> None:
    with small_disk("8m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(5 << 20))
        home = disk / "db"
        home.mkdir()
        store = open_store(kind, home)
        acknowledged = 0
        with pytest.raises(Fault) as caught:
            while True:
                store.write(batch(acknowledged))
                acknowledged += 1
        assert caught.value.code == "E-STORE-003"
        assert acknowledged > 50
        with pytest.raises(Fault) as again:
            store.write(batch(acknowledged))
        assert again.value is caught.value
        store.close()

        try:  # LevelDB needs space to open; LMDB does not. Neither may lose anything by trying.
            open_store(kind, home).close()
        except Fault as fault:
            assert fault.code == "E-STORE-003"

        ballast.unlink()
        with closing(open_store(kind, home)) as store:
            count = whole_batches(store)
            assert count in (acknowledged, acknowledged + 1)
            store.write(batch(count))
        with closing(open_store(kind, home)) as store:
            assert whole_batches(store) == count + 1
            store.check()


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_disk_without_room_for_an_empty_database(kind: str) -> None:
    with small_disk("64k") as disk:
        home = disk / "db"
        home.mkdir()
        with open(disk / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass
        with pytest.raises(Fault) as caught:
            open_store(kind, home)
        assert caught.value.code == "E-STORE-003"
        (disk / "ballast").unlink()
        with closing(open_store(kind, home)) as store:
            assert whole_batches(store) == 0


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_read_only_file_system_is_said(kind: str) -> None:
    with small_disk("1m") as disk:
        with closing(open_store(kind, disk)) as store:
            store.write(batch(0))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(Fault) as caught:
            open_store(kind, disk)
        assert caught.value.code == "E-STORE-006"
        assert "Read-only" in str(caught.value)


FAILING_SYNC = """
import sys
from pathlib import Path
from ledger.errors import Fault
from node.stores import open_store
from tests.end_to_end.test_storage_faults import batch
store = open_store(sys.argv[1], Path(sys.argv[2]))
number = int(sys.argv[3])
try:
    while True:
        store.write(batch(number))
        print(number, flush=True)
        number += 1
except Fault as fault:
    print(fault.code)
    try:
        store.get(b"head")
    except Fault as again:
        print(again is fault)
"""


@pytest.mark.parametrize("kind", DISK_KINDS)
def test_a_failed_sync_stops_the_store(kind: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: a failing fdatasync cannot be injected")
    with closing(open_store(kind, tmp_path)) as store:
        store.write(batch(0))
    inject = "inject=fdatasync:error=EIO:when=9+"
    injected = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject]
    traced = subprocess.run(
        [*injected, sys.executable, "-c", FAILING_SYNC, kind, str(tmp_path), "1"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    *acknowledged, code, same = traced.stdout.split()
    assert (code, same) == ("E-STORE-004", "True"), traced.stderr
    assert acknowledged == [str(number + 1) for number in range(len(acknowledged))] != []
    assert len(acknowledged) <= 8  # no more than there were syncs that succeeded: none is acknowledged without one
    with closing(open_store(kind, tmp_path)) as store:
        assert whole_batches(store) in (len(acknowledged) + 1, len(acknowledged) + 2)
