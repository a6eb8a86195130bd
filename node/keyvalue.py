"""The key-value interface of the node: ordered rows of bytes, atomic synced batches, scans of one moment.

Rules every implementation keeps, and one test suite checks for all of them:
- keys are 1 to 511 bytes (LMDB's limit, held everywhere so that a chain never depends on the store below it)
  and sort bytewise; values are any bytes;
- `write` is all or nothing, also across a kill or a power cut; once it returns with `sync`, the batch
  survives both;
- a write that fails has an unknown outcome: it may reappear when the database is opened again. So the store
  then refuses every later call with that same Fault, reads included: the node exits, and recovers by opening
  it anew;
- a damaged row is never served: reading it raises Fault E-STORE-002;
- any thread may call. Reads wait for reads and writes for writes, but a read never waits for a sync;
- one process at a time.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ledger.errors import Fault, Invalid, define

MAX_KEY_BYTES = 511
"""Longest key, in bytes: LMDB's compiled-in limit."""

CHECK_STEP_ROWS = 10_000
"""`check` reports its progress each time it has read so many rows."""

LOCKED = define("E-STORE-001", "the database is in use", "stop the other process, or give this one a home of its own")
CORRUPT = define(
    "E-STORE-002",
    "the database is damaged",
    "keep a copy of the directory; restore a backup, or empty the directory and let the node sync again",
)
DISK_FULL = define(
    "E-STORE-003",
    "the disk is full",
    "free space on this file system, then start again: what was acknowledged is kept",
)
WRITE_FAILED = define(
    "E-STORE-004",
    "a write to the database failed and its outcome is unknown",
    "look at the disk and the system log, then start again: opening the database settles the outcome",
)
NO_DATABASE = define(
    "E-STORE-005",
    "there is no database here",
    "give the path of an initialised home; a lost mount looks so too",
)
NO_PERMISSION = define(
    "E-STORE-006", "the database may not be written", "make the directory and its files writable by this user"
)
BAD_KEY = define("E-STORE-007", "not a usable key", f"a key is 1 to {MAX_KEY_BYTES} bytes")
UNKNOWN_KIND = define("E-STORE-008", "no such kind of store", "choose leveldb, lmdb or memory")
OTHER_KIND = define(
    "E-STORE-009",
    "the database is of another kind",
    "set the kind it was made with, or use an empty directory",
)
READ_FAILED = define(
    "E-STORE-010", "reading the database failed", "look at the disk and the system log, then start again"
)


class KeyValue(ABC):
    """An open store. The module's docstring states what all of them promise."""

    _stopped: Exception | None = None

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""

    @abstractmethod
    def has(self, key: bytes) -> bool:
        """True where `key` has a row."""

    @abstractmethod
    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows whose key begins with `prefix`, in key order, as they are at the moment of this call.

        `start` is where the scan begins, in its own direction, and need not exist: keys >= start, or, where
        `reverse`, keys <= start. At most `limit` rows. One scan belongs to one thread at a time (a second
        thread inside it gets ValueError). An abandoned scan frees its snapshot when it is collected.
        """

    @abstractmethod
    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        """Applies the puts, then the deletes, as one atomic batch; durable on return where `sync`.

        Of several puts of one key the last holds; deleting what is absent does nothing. If an iterable
        raises, or a key or value is unusable (Invalid E-STORE-007, TypeError), nothing is written and the
        store stays usable. Raises Fault E-STORE-003 or E-STORE-004 when the write failed, and from then on.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees the database for others. Later calls raise RuntimeError; closing twice does nothing."""

    @abstractmethod
    def stats(self) -> dict[str, int | str]:
        """Figures of the engine for operators; the keys `kind` and `engine` are always there."""

    @abstractmethod
    def disk_bytes(self) -> int:
        """Bytes taken on disk by the store's files."""

    def check(self, progress: Callable[[int], None] | None = None) -> None:
        """Reads and verifies every row, telling `progress` how many are read. Raises Fault E-STORE-002."""
        count = 0
        for count, _ in enumerate(self.scan(b""), 1):
            if progress is not None and count % CHECK_STEP_ROWS == 0:
                progress(count)
        if progress is not None:
            progress(count)

    def _usable(self) -> None:
        """Raises what stopped the store, if anything did."""
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)


def bounds(prefix: bytes, start: bytes | None, reverse: bool) -> tuple[bytes, bytes | None, bool]:
    """The key range of a scan: lowest key, highest key or None for no upper end, and whether the highest is
    in it."""
    low, high, high_included = prefix, upper_end(prefix), False
    if start is not None:
        if not reverse:
            low = max(low, start)
        elif high is None or start < high:
            high, high_included = start, True
    return low, high, high_included


def upper_end(prefix: bytes) -> bytes | None:
    """The least key above every key that begins with `prefix`; None where there is none (empty, or all
    0xff)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def bad_key(key: bytes) -> Invalid:
    """The refusal of a key that is empty or too long."""
    return Invalid(BAD_KEY, "an empty key" if not key else f"a key of {len(key)} bytes, which begins {key[:16].hex()}")


def machine_fault(number: int | None, path: Path, said: str, otherwise: str) -> Fault:
    """The Fault for an operating-system error `number`, where `said` is its own text and `otherwise` the code
    of the rest."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return Fault(DISK_FULL, f"no space is left for {path}")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Fault(NO_PERMISSION, f"{path} may not be written by user {os.geteuid()} ({said})")
    return Fault(otherwise, f"{path}: {said}")
