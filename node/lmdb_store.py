"""The key-value interface on LMDB, the second implementation.

What LMDB does not do by itself is done here:
- it keeps no checksums: each value is followed by CRC-32 of key and value (4 bytes, big-endian), checked by
  every read. Damage in LMDB's own page headers is beyond this; the roots of blocks and state show what then
  goes missing;
- its map has a fixed size: a batch that finds it full doubles it and is written again from its beginning. The
  map may only change while nothing reads, so open scans first take the rest of their rows into memory. The
  first size is address space and no disk space, and generous: growing is rare;
- it would let several processes in: see `node.store_directory`.

Every write is synced: unsynced writes to LMDB may break the whole database in a power cut, so `sync=False` is
taken as leave to be faster, of which no use is made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import TypeAlias, cast
from weakref import WeakSet
from zlib import crc32

import lmdb

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
from node.store_directory import StoreDirectory

MAP_BYTES = 16 << 30
"""Address space of a new map. Only what is used takes memory or disk."""

_CRC_BYTES = 4
_LEAST_FREE_BYTES = 64 << 10
_FIRST_ROWS, _MOST_ROWS = 16, 512
_ERRNO_BY_TEXT = {
    os.strerror(number): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
}
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
    lmdb.IncompatibleError,
)


Rows: TypeAlias = Iterator[tuple[bytes, bytes]]


class LmdbStore(KeyValue):
    """An LMDB database in `directory`, which must exist. Without `create`, a database must be in it.

    Raises Fault E-STORE-001 in use, E-STORE-002 damaged, E-STORE-003 disk full, E-STORE-005 nothing there,
    E-STORE-006 no permission; Refused E-STORE-009 where another kind of store is there.
    """

    def __init__(self, directory: Path, *, create: bool = True, map_bytes: int = MAP_BYTES) -> None:
        self._directory = StoreDirectory(directory, "lmdb", create=create)
        self._reading = RLock()  # reentrant: the collector may close an abandoned scan inside a read
        self._writing = RLock()
        self._scans: WeakSet[_Scan] = WeakSet()
        try:
            used = directory / "data.mdb"
            self._env = lmdb.open(
                str(directory),
                map_size=max(map_bytes, used.stat().st_size if used.exists() else 0),
                max_spare_txns=4,
                mode=0o600,
            )
            self._directory.remember()
        except lmdb.Error as error:
            self._directory.release()
            raise self._fault(error, READ_FAILED) from error
        except BaseException:
            self._directory.release()
            raise

    def get(self, key: bytes) -> bytes | None:
        if not key:
            return None
        with self._reading:
            self._usable()
            try:
                with self._env.begin() as transaction:
                    stored: bytes | None = transaction.get(key)
            except lmdb.Error as error:
                raise self._fault(error, READ_FAILED) from error
        return None if stored is None else self._checked(key, stored)

    def has(self, key: bytes) -> bool:
        return self.get(key) is not None

    def _checked(self, key: bytes, stored: bytes) -> bytes:
        value = stored[:-_CRC_BYTES]
        if crc32(value, crc32(key)).to_bytes(_CRC_BYTES, "big") != stored[-_CRC_BYTES:]:
            raise Fault(CORRUPT, f"the row of key {key.hex()} in {self._directory.path} does not match its checksum")
        return value

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high, high_included = bounds(prefix, start, reverse)
        with self._reading:
            self._usable()
            try:
                rows = _Scan(self._env, low, high, high_included, reverse, limit)
            except lmdb.Error as error:
                raise self._fault(error, READ_FAILED) from error
            self._scans.add(rows)
        return self._fetch(rows)

    def _fetch(self, rows: _Scan) -> Iterator[tuple[bytes, bytes]]:
        size = _FIRST_ROWS
        try:
            while True:
                with self._reading:
                    self._usable()
                    try:
                        piece = rows.take(size)
                    except lmdb.Error as error:
                        raise self._fault(error, READ_FAILED) from error
                for key, stored in piece:
                    yield key, self._checked(key, stored)
                if len(piece) < size:
                    return
                size = min(2 * size, _MOST_ROWS)
        finally:
            with self._reading:
                rows.close()

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        with self._writing:
            self._usable()
            rows = []
            for key, value in puts:
                if not 0 < len(key) <= MAX_KEY_BYTES:
                    raise bad_key(key)
                rows.append((key, value + crc32(value, crc32(key)).to_bytes(_CRC_BYTES, "big")))
            gone = [key for key in deletes if key]
            try:
                while not self._commit(rows, gone):
                    self._grow()
            except lmdb.Error as error:
                self._stopped = self._fault(error, WRITE_FAILED)
                raise self._stopped from error

    def _commit(self, rows: list[tuple[bytes, bytes]], gone: list[bytes]) -> bool:
        """True once written; False, with nothing written, where the map is full."""
        try:
            with self._env.begin(write=True) as transaction:
                with transaction.cursor() as cursor:
                    cursor.putmulti(rows)
                for key in gone:
                    transaction.delete(key)
        except lmdb.MapFullError:
            return False
        return True

    def _grow(self) -> None:
        with self._reading:
            for scan in list(self._scans):
                scan.detach()
            self._env.set_mapsize(2 * self._env.info()["map_size"])

    def close(self) -> None:
        with self._writing, self._reading:
            if isinstance(self._stopped, RuntimeError):
                return
            for scan in list(self._scans):
                scan.close()
            self._env.close()
            self._directory.release()
            self._stopped = RuntimeError("the store is closed")

    def stats(self) -> dict[str, int | str]:
        with self._reading:
            self._usable()
            tree, environment = self._env.stat(), self._env.info()
            return {
                "kind": "lmdb",
                "engine": ".".join(map(str, lmdb.version())),
                "rows": tree["entries"],
                "depth": tree["depth"],
                "map_bytes": environment["map_size"],
                "used_bytes": (environment["last_pgno"] + 1) * tree["psize"],
            }

    def disk_bytes(self) -> int:
        self._usable()
        return self._directory.disk_bytes()

    def _fault(self, error: lmdb.Error, otherwise: str) -> Fault:
        """py-lmdb gives classes to LMDB's own errors, and text to the system's."""
        said = str(error)
        if isinstance(error, _DAMAGE):
            return Fault(CORRUPT, f"LMDB in {self._directory.path} says: {said}")
        number = next((number for text, number in _ERRNO_BY_TEXT.items() if text in said), None)
        if number == errno.EIO and self._disk_is_full():  # LMDB calls a write that was cut short an I/O error
            number = errno.ENOSPC
        return machine_fault(number, self._directory.path, said, otherwise)

    def _disk_is_full(self) -> bool:
        space = os.statvfs(self._directory.path)
        return space.f_bavail * space.f_frsize < _LEAST_FREE_BYTES


class _Scan:
    """The rows of one scan, out of a read transaction that lives until they are taken or detached.

    Every method is called under the store's reading lock.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        low: bytes,
        high: bytes | None,
        high_included: bool,
        reverse: bool,
        limit: int | None,
    ) -> None:
        self._transaction = environment.begin()
        cursor = self._transaction.cursor()
        self._rows: Rows = islice(_down(cursor, low, high, high_included) if reverse else _up(cursor, low, high), limit)

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` rows, or fewer at the end."""
        return list(islice(self._rows, count))

    def detach(self) -> None:
        """Takes the rest into memory and ends the transaction."""
        self._rows = iter(list(self._rows))
        self._transaction.abort()

    def close(self) -> None:
        self._rows = iter(())
        self._transaction.abort()


def _up(cursor: lmdb.Cursor, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    found = cursor.set_range(low) if low else cursor.first()
    if found:
        for row in cast(Rows, cursor.iternext()):
            if high is not None and row[0] >= high:
                return
            yield row


def _down(cursor: lmdb.Cursor, low: bytes, high: bytes | None, high_included: bool) -> Iterator[tuple[bytes, bytes]]:
    if high is None:
        found = cursor.last()
    elif not high:  # nothing sorts below the empty key
        found = False
    elif cursor.set_range(high):
        found = cursor.prev() if not (high_included and cursor.key() == high) else True
    else:
        found = cursor.last()
    if found:
        for row in cast(Rows, cursor.iterprev()):
            if row[0] < low:
                return
            yield row
