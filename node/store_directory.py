"""The directory of a database: who uses it, and what kind of store it holds.

Rules kept here:
- one process at a time, by an exclusive flock on the file OWNER, which also names the process id. The
  engines' own locks do not do: LMDB lets several processes in, and LevelDB's POSIX lock is lost as soon as
  the same process tries a second open (closing any descriptor of a file drops the process's POSIX locks on
  it);
- the lock dies with the process that took it: a forked child gives up its copy, so that a worker which
  outlives its killed parent does not keep the node from starting again;
- the file KIND is written once the database exists, and from then on a missing database is damage and never a
  reason to begin an empty one.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from ledger.errors import Fault, Refused
from node.keyvalue import CORRUPT, LOCKED, NO_DATABASE, OTHER_KIND, machine_fault

_OWNER = "OWNER"
_KIND = "KIND"
_PID_COLUMNS = 20
_MAIN_FILE = {"leveldb": "CURRENT", "lmdb": "data.mdb"}


class StoreDirectory:
    """A directory claimed by this process. `fresh` is True until `remember` is called for the first time
    ever.

    Raises, on making: Fault E-STORE-001 in use, E-STORE-002 the database's main file is gone, E-STORE-005 no
    such directory or, unless `create`, no database in it, E-STORE-006 no permission; Refused E-STORE-009
    another kind.
    """

    def __init__(self, path: Path, kind: str, *, create: bool) -> None:
        self.path = path
        self.kind = kind
        self._descriptor = -1
        try:
            self._lock()
        except OSError as error:
            raise self._fault(error) from error
        try:
            self.fresh = self._look(create)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise self._fault(error) from error
            raise

    def _lock(self) -> None:
        descriptor = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Of one length always, and over the old bytes: naming the owner takes no space on a full disk.
            os.pwrite(descriptor, b"%-*d\n" % (_PID_COLUMNS, os.getpid()), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, _PID_COLUMNS, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"another Troth process (pid {owner})" if owner.isdigit() else "another Troth process"
            raise Fault(LOCKED, f"{who} uses {self.path}; stop it first") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)

    def _look(self, create: bool) -> bool:
        remembered = self.path / _KIND
        fresh = not remembered.exists()
        found = remembered.read_text("ascii", "replace").strip() if not fresh else self._guess()
        if found is None:
            if not create:
                raise Fault(NO_DATABASE, f"{self.path} holds no database")
        elif found != self.kind:
            raise Refused(OTHER_KIND, f"{self.path} holds a {found} database, and {self.kind} was asked for")
        elif not (self.path / _MAIN_FILE[found]).exists():
            raise Fault(CORRUPT, f"{self.path} held a {found} database, but its file {_MAIN_FILE[found]} is gone")
        return fresh

    def _guess(self) -> str | None:
        """The kind of a database whose making was cut short before KIND was written."""
        return next((kind for kind, name in _MAIN_FILE.items() if (self.path / name).exists()), None)

    def remember(self) -> None:
        """Writes KIND durably, once the engine has made its database."""
        if not self.fresh:
            return
        temporary = self.path / f"{_KIND}.new"
        try:
            with temporary.open("wb") as file:
                file.write(self.kind.encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / _KIND)
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._fault(error) from error
        self.fresh = False

    def release(self) -> None:
        """Lets others in. OWNER stays: removing it would let two processes lock two files of one name."""
        _held.discard(self)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def disk_bytes(self) -> int:
        """Bytes of the blocks taken by the files here."""
        total = 0
        for entry in os.scandir(self.path):
            with suppress(FileNotFoundError):  # a compaction may remove a table between listing and looking
                total += entry.stat().st_blocks * 512
        return total

    def _fault(self, error: OSError) -> Fault:
        if isinstance(error, FileNotFoundError):
            return Fault(NO_DATABASE, f"{self.path} does not exist")
        if isinstance(error, NotADirectoryError):
            return Fault(NO_DATABASE, f"{self.path} is not a directory")
        return machine_fault(error.errno, self.path, error.strerror or str(error), NO_DATABASE)


_held: weakref.WeakSet[StoreDirectory] = weakref.WeakSet()


def _release_in_child() -> None:
    for directory in list(_held):
        directory.release()


os.register_at_fork(after_in_child=_release_in_child)
