from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from ledger.errors import Fault
from node.leveldb_log import BLOCK_BYTES, crc32c, cut_torn_tail, find_fault, hidden_damage
from node.stores import open_store

BATCHES = 7
ROWS = 40


def value(batch: int, row: int) -> bytes:
    return bytes((batch * 31 + row * 7 + column * column) % 251 for column in range(300))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A database of equal batches whose log spans three blocks, and where each batch ends in that log."""
    directory = tmp_path_factory.mktemp("made")
    ends = []
    with closing(open_store("leveldb", directory)) as store:
        for batch in range(BATCHES):
            store.write((b"%d/%03d" % (batch, row), value(batch, row)) for row in range(ROWS))
            ends.append(log_of(directory).stat().st_size)
    assert ends[-1] > 2 * BLOCK_BYTES
    return directory, ends


def log_of(directory: Path) -> Path:
    (log,) = directory.glob("*.log")
    return log


def altered(made: Path, directory: Path, change: Callable[[bytes], bytes]) -> Path:
    shutil.copytree(made, directory)
    log = log_of(directory)
    log.write_bytes(change(log.read_bytes()))
    return directory


def flipped(at: int, bits: int) -> Callable[[bytes], bytes]:
    return lambda log: log[:at] + bytes([log[at] ^ bits]) + log[at + 1 :]


def whole_batches(directory: Path) -> int:
    """How many batches the database holds; none is there in part, and none after a missing one."""
    with closing(open_store("leveldb", directory)) as store:
        rows = list(store.scan(b""))
    count, rest = divmod(len(rows), ROWS)
    assert rest == 0
    assert rows == [(b"%d/%03d" % (batch, row), value(batch, row)) for batch in range(count) for row in range(ROWS)]
    return count


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_rfc_3720(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_a_whole_log_has_no_fault(made: tuple[Path, list[int]]) -> None:
    log = log_of(made[0])
    assert find_fault(log.read_bytes()) is None
    assert hidden_damage(log) is None


def test_nothing_is_cut_from_a_whole_or_merely_short_log(made: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory, ends = made
    whole = altered(directory, tmp_path / "whole", lambda log: log)
    short = altered(directory, tmp_path / "short", lambda log: log[: ends[-2] + 1000])
    assert cut_torn_tail(whole) == cut_torn_tail(short) == 0
    assert whole_batches(whole) == BATCHES
    assert whole_batches(short) == BATCHES - 1


@pytest.mark.parametrize(("into", "left"), [*product([0, 1, 6, 7, 8, 3000, 9000], [0x00, 0xA5]), (3000, 0x01)])
def test_a_tail_of_foreign_bytes_is_cut_to_the_last_whole_batch(
    made: tuple[Path, list[int]], tmp_path: Path, into: int, left: int
) -> None:
    directory, ends = made
    torn_at = ends[-2] + into
    torn = altered(
        directory, tmp_path / "torn", lambda log: log[:torn_at] + bytes([left]) * (len(log) + 3_000 - torn_at)
    )
    cut = cut_torn_tail(torn)
    if cut:
        assert log_of(torn).stat().st_size == ends[-2]
        assert (torn / f"{log_of(torn).name}.torn").stat().st_size == cut
    assert whole_batches(torn) == BATCHES - 1


def test_pages_of_one_batch_that_came_to_disk_out_of_order_are_a_torn_tail(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    directory.mkdir()
    with closing(open_store("leveldb", directory)) as store:
        store.write([(b"first", b"1")])
        end = log_of(directory).stat().st_size
        store.write([(b"second", bytes(range(256)) * 1000)])
    log = log_of(directory)
    data = log.read_bytes()
    log.write_bytes(data[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + data[2 * BLOCK_BYTES :])
    with pytest.raises(Fault) as caught:
        open_store("leveldb", directory)
    assert caught.value.code == "E-STORE-002"
    assert cut_torn_tail(directory) == len(data) - end
    with closing(open_store("leveldb", directory)) as store:
        assert list(store.scan(b"")) == [(b"first", b"1")]


def test_damage_before_the_last_batch_is_never_cut(made: tuple[Path, list[int]], tmp_path: Path) -> None:
    directory, ends = made
    for number, at in enumerate([4, 1000, ends[0] + 5, ends[1] - 1, ends[3] + 2000, ends[-2] - 1]):
        damaged = altered(directory, tmp_path / str(number), flipped(at, 0x10))
        before = log_of(damaged).read_bytes()
        with pytest.raises(Fault) as caught:
            cut_torn_tail(damaged)
        assert caught.value.code == "E-STORE-002"
        assert "whole record follows" in str(caught.value)
        assert log_of(damaged).read_bytes() == before


def test_every_flip_in_a_header_of_the_last_block_is_refused(made: tuple[Path, list[int]], tmp_path: Path) -> None:
    """A longer length there makes LevelDB take the rest of the log for a record cut short."""
    directory, ends = made
    last_block = 2 * BLOCK_BYTES
    headers = [last_block, *(end for end in ends[:-1] if end > last_block)]
    assert len(headers) == 2
    for header in headers:
        for bit in range(56):
            change = flipped(header + bit // 8, 1 << bit % 8)
            damaged = altered(directory, tmp_path / f"{header}.{bit}", change)
            with pytest.raises(Fault) as caught:
                open_store("leveldb", damaged)
            assert caught.value.code == "E-STORE-002"


def test_a_damaged_manifest_is_refused(made: tuple[Path, list[int]], tmp_path: Path) -> None:
    manifest = next(made[0].glob("MANIFEST-*")).name
    size = (made[0] / manifest).stat().st_size
    for bit in range(0, 8 * size, 3):
        damaged = tmp_path / str(bit)
        shutil.copytree(made[0], damaged)
        data = bytearray((damaged / manifest).read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        (damaged / manifest).write_bytes(data)
        with pytest.raises(Fault) as caught:
            open_store("leveldb", damaged)
        assert caught.value.code == "E-STORE-002"


def test_the_tail_of_a_running_node_is_left_alone(tmp_path: Path) -> None:
    with closing(open_store("leveldb", tmp_path)), pytest.raises(Fault) as caught:
        cut_torn_tail(tmp_path)
    assert caught.value.code == "E-STORE-001"
