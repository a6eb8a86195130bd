"""The key-value interface on LevelDB (plyvel), the embedded default.

What LevelDB does not do by itself is done here:
- opened with `paranoid_checks`: without it, damage in the log opens normally, with rows silently lost;
- read with `verify_checksums`: without it, damage in a table is served as data;
- batches are written by an explicit `write` of a finished batch, never by leaving a `with` block;
- an iterator used by two threads at once, or while the database is being closed, crashes the process: rows of
  a scan are therefore fetched in pieces under the lock that every read takes, and `close` takes it too;
- plyvel 1.5.1 finds nothing in reverse between `start` and `stop` where the only row is that of `start`: scans
  downward are given no `start`, and end here;
- its errors carry text only: see `_fault`.

A log whose last record was cut short (the process or the machine died while it was written) opens without
that record: it was never acknowledged. Any other fault of a log is refused; `node.leveldb_log` finds the one
that LevelDB overlooks, and tells a tail torn by a power cut from damage.

Opening sorts the log into a table, for which it needs as much free space as the log is long.

What cannot be seen here: a log file removed as a whole takes its rows with it in silence.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

import plyvel

from ledger.errors import Fault
from node.keyvalue import (
    CORRUPT,
    MAX_KEY_BYTES,
    READ_FAILED,
    WRITE_FAILED,
    KeyValue,
    bad_key,
    bounds,
    machine_fault,
)
from node.leveldb_log import hidden_damage
from node.store_directory import StoreDirectory

WRITE_BUFFER_BYTES = 32 << 20
"""Rows are kept in memory up to this, then sorted into a table: it bounds the log that opening must
replay."""

CACHE_BYTES = 64 << 20
"""Cache of uncompressed table blocks."""

TABLE_BYTES = 16 << 20
"""Size of one table file: at the default of 2 MiB a large chain has tens of thousands of files."""

BLOOM_BITS = 10
"""Bits per key of the filter: a lookup of an absent key then reads a block in about 1 % of cases."""

MAX_OPEN_FILES = 500
"""Table files held open: half of the usual limit of 1,024 descriptors, the rest is for connections."""

_FIRST_ROWS, _MOST_ROWS = 16, 512
_ERRNO_BY_TEXT = {
    os.strerror(number): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
}


class LevelStore(KeyValue):
    """A LevelDB database in `directory`, which must exist. Without `create`, a database must be in it.

    Raises Fault E-STORE-001 in use, E-STORE-002 damaged, E-STORE-003 disk full, E-STORE-005 nothing there,
    E-STORE-006 no permission; Refused E-STORE-009 where another kind of store is there.
    """

    def __init__(self, directory: Path, *, create: bool = True) -> None:
        self._directory = StoreDirectory(directory, "leveldb", create=create)
        self._reading = RLock()  # reentrant: the collector may close an abandoned scan inside a read
        self._writing = RLock()
        try:
            self._refuse_hidden_damage()
            self._db = plyvel.DB(
                str(directory),
                create_if_missing=self._directory.fresh,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                max_file_size=TABLE_BYTES,
                max_open_files=MAX_OPEN_FILES,
                lru_cache_size=CACHE_BYTES,
                bloom_filter_bits=BLOOM_BITS,
                compression="snappy",
            )
            self._directory.remember()
        except plyvel.Error as error:
            self._directory.release()
            raise self._fault(error, READ_FAILED) from error
        except OSError as error:
            self._directory.release()
            said = error.strerror or str(error)
            raise machine_fault(error.errno, directory, said, READ_FAILED) from error
        except BaseException:
            self._directory.release()
            raise

    def _refuse_hidden_damage(self) -> None:
        path = self._directory.path
        for log in [*path.glob("*.log"), *path.glob("MANIFEST-*")]:
            damaged = hidden_damage(log)
            if damaged is not None:
                raise Fault(CORRUPT, f"{log} is damaged at byte {damaged}: the length of a record is wrong")

    def get(self, key: bytes) -> bytes | None:
        with self._reading:
            self._usable()
            try:
                value: bytes | None = self._db.get(key, verify_checksums=True)
            except plyvel.Error as error:
                raise self._fault(error, READ_FAILED) from error
        return value

    def has(self, key: bytes) -> bool:
        return self.get(key) is not None

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high, high_included = bounds(prefix, start, reverse)
        if high is not None and high < low:
            high, high_included = low, False
        with self._reading:
            self._usable()
            try:
                rows = self._db.iterator(
                    start=None if reverse else low,
                    stop=high,
                    include_stop=high_included,
                    reverse=reverse,
                    verify_checksums=True,
                    fill_cache=False,
                )
            except plyvel.Error as error:
                raise self._fault(error, READ_FAILED) from error
        return self._fetch(rows, low, limit)

    def _fetch(self, rows: Any, low: bytes, limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        size = _FIRST_ROWS
        try:
            while limit is None or limit > 0:
                wanted = size if limit is None else min(size, limit)
                with self._reading:
                    self._usable()
                    try:
                        piece = list(islice(rows, wanted))
                    except plyvel.Error as error:
                        raise self._fault(error, READ_FAILED) from error
                if piece and piece[-1][0] < low:
                    yield from (row for row in piece if row[0] >= low)
                    return
                yield from piece
                if len(piece) < wanted:
                    return
                if limit is not None:
                    limit -= wanted
                size = min(2 * size, _MOST_ROWS)
        finally:
            with self._reading:
                rows.close()

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        with self._writing:
            self._usable()
            batch = self._db.write_batch(transaction=True, sync=sync)
            put, delete = batch.put, batch.delete
            for key, value in puts:
                if not 0 < len(key) <= MAX_KEY_BYTES:
                    raise bad_key(key)
                put(key, value)
            for key in deletes:
                delete(key)
            try:
                batch.write()
            except plyvel.Error as error:
                self._stopped = self._fault(error, WRITE_FAILED)
                raise self._stopped from error

    def close(self) -> None:
        with self._writing, self._reading:
            if not self._db.closed:
                self._db.close()
                self._directory.release()
                self._stopped = RuntimeError("the store is closed")

    def stats(self) -> dict[str, int | str]:
        with self._reading:
            self._usable()
            figures: dict[str, int | str] = {
                "kind": "leveldb",
                "engine": plyvel.__leveldb_version__,
                "memory_bytes": int(self._db.get_property(b"leveldb.approximate-memory-usage")),
            }
            for level in range(7):
                figures[f"files_level_{level}"] = int(self._db.get_property(b"leveldb.num-files-at-level%d" % level))
        return figures

    def disk_bytes(self) -> int:
        self._usable()
        return self._directory.disk_bytes()

    def _fault(self, error: plyvel.Error, otherwise: str) -> Fault:
        """LevelDB reports its errors as text: the class of the fault is read from it."""
        first = error.args[0] if error.args else ""
        said = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
        if isinstance(error, plyvel.CorruptionError) or said.startswith(("NotFound", "Invalid argument")):
            return Fault(CORRUPT, f"LevelDB in {self._directory.path} says: {said}")
        number = next((number for text, number in _ERRNO_BY_TEXT.items() if text in said), None)
        return machine_fault(number, self._directory.path, said, otherwise)
