"""The file of the signing record: what a validator signed last, in `HOME/signing/record` (`consensus.guard.Record`).

Rules kept here:
- it is made once, where the validator's key is made (`create`), and no record is ever replaced by a first one;
- a missing or damaged record is a Fault (E-GUARD-002, E-GUARD-003), and never the beginning;
- a new record is durable before `store` returns: written beside the old one, synced, renamed over it, and the folder
  synced. A crash at any point leaves the old record or the new one, whole;
- once a write, rename or sync has failed, nobody knows which of the two is on the disk: the file says so to everyone
  who asks from then on, and its process must stop. (A second fsync would report success for data that is lost.)
- one process at a time, by an exclusive flock on the folder, which dies with the process.

Source: CometBFT's FilePV, and "Can Applications Recover from fsync Failures?" (Rebello and others, USENIX ATC 2020).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from consensus.guard import MAX_RECORD_BYTES, MISSING, Record, decode_record, encode_record, first_record
from ledger.errors import Fault, Refused, define

WRITE_FAILED = define(
    "E-SIGNING-001",
    "the signing record could not be written",
    "check the disk, then start again: the record on the disk, be it the old or the new one, is safe to go on from",
)
IN_USE = define(
    "E-SIGNING-002",
    "another process uses the signing record",
    "stop the other one: two that sign with one key would sign twice",
)
EXISTS = define(
    "E-SIGNING-003",
    "the signing record exists",
    "keep it with its key; for another chain use another home",
)
OPEN_MODE = define(
    "E-SIGNING-004", "others may reach the signing record", "run: chmod 700 on its folder, 600 on the record"
)
READ_FAILED = define("E-SIGNING-005", "the signing record could not be read", "check the disk and permissions")

_OTHERS = 0o077


def create(path: Path, chain_id: str) -> None:
    """The first record of a key that was just made, durable. For no other use: a key that has signed has a record.

    Makes the folder where it is missing. A first record of that chain, which an interrupted run left, stays. Raises
    Refused: E-SIGNING-003 where there is any other record, E-SIGNING-004 where others may enter the folder. Raises
    Fault: E-SIGNING-001, and as `load` does for a record that is there.
    """
    draft = f".{path.name}.{secrets.token_hex(8)}.draft"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        folder = _open_folder(path.parent)
        try:
            try:
                _write_synced(draft, encode_record(first_record(chain_id)), folder)
                os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)  # a rename would replace what is there
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft, dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)
        _sync_folder(path.parent.parent)
    except FileExistsError:
        if load(path) != first_record(chain_id):
            raise Refused(EXISTS, f"{path} exists, and is not the first of {chain_id}") from None
    except OSError as error:
        raise _write_fault(path, error) from error


def load(path: Path) -> Record:
    """The record in a file, for looking at: to sign, open a `RecordFile`.

    Raises Fault: E-GUARD-002 where it is missing or empty, E-GUARD-003 where it is damaged, E-SIGNING-005. Raises
    Refused (E-SIGNING-004) where others may write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            data = os.read(descriptor, MAX_RECORD_BYTES + 1) if stat.S_ISREG(mode) else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Fault(MISSING, f"{path} is missing") from None
    except OSError as error:
        raise Fault(READ_FAILED, f"{path}: {error.strerror or error}") from error
    _check_mode(path, mode)
    try:
        return decode_record(data)
    except Fault as error:
        raise Fault(error.code, f"{path}: {error.cause}") from error


class RecordFile:
    """The record of this process alone: what is on the disk, and the way to replace it.

    Raises Refused: E-SIGNING-002 where another process has it, E-SIGNING-004; and Fault: see `load`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._failed: Fault | None = None
        self._folder: int | None = None
        try:
            folder = _open_folder(path.parent)
        except FileNotFoundError:
            raise Fault(MISSING, f"{path} is missing") from None
        except OSError as error:
            raise Fault(READ_FAILED, f"{path.parent}: {error.strerror or error}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._record = load(path)
        except BlockingIOError:
            os.close(folder)
            raise Refused(IN_USE, f"another process has {path.parent} locked") from None
        except BaseException:
            os.close(folder)
            raise
        self._folder = folder

    @property
    def record(self) -> Record:
        """The record on the disk. Raises the Fault of a `store` that failed: what is there now is not known."""
        if self._failed is not None:
            raise self._failed
        return self._record

    def store(self, record: Record) -> None:
        """Makes a record durable before it returns. Raises Fault (E-SIGNING-001), then and ever after."""
        if self._failed is not None:
            raise self._failed
        if self._folder is None:
            raise Fault(WRITE_FAILED, f"{self.path} was closed")
        # Only the holder of the lock writes here, so one name will do, and a draft that a crash left is written over.
        draft = f".{self.path.name}.draft"
        try:
            _write_synced(draft, encode_record(record), self._folder)
            os.rename(draft, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError as error:
            self._fail(error)
        self._record = record

    def _fail(self, error: OSError) -> NoReturn:
        self._failed = _write_fault(self.path, error)
        raise self._failed from error

    def close(self) -> None:
        """Gives the record free for another process. Nothing can be stored afterwards."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_folder(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_mode(folder, os.fstat(descriptor).st_mode)
    except Refused:
        os.close(descriptor)
        raise
    return descriptor


def _check_mode(path: Path, mode: int) -> None:
    if mode & _OTHERS:
        right = 700 if stat.S_ISDIR(mode) else 600
        raise Refused(
            OPEN_MODE,
            f"{path} has mode {stat.S_IMODE(mode):04o}: others may reach it",
            fix=f"run: chmod {right} {path}",
        )


def _write_synced(name: str, data: bytes, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_fault(path: Path, error: OSError) -> Fault:
    return Fault(WRITE_FAILED, f"{path}: {error.strerror or error}; it is not known which record is on the disk")
