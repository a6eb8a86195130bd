"""The journal of a batch: which of its transactions are done, in a file beside the CSV (`FILE.csv.troth-journal`).

    {"format": "troth batch journal", "version": 1, "batch": {...}}     what the batch is; never changes
    {"done": [0, 1], "height": 12}                                      transactions that are final, by number

Rules kept here:
- lines are only ever added, and synced before anything is built on them;
- a last line without its end was being written when the process died: it is dropped;
- one process at a time (flock), and one batch for ever: another file content, operation, signer or chain is refused.

The journal makes resuming quick. It is not what keeps anyone from being paid twice: that is the reference that each
transaction carries and the chain remembers.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ledger.errors import Fault, Refused, define

JOURNAL_FAULT = define("E-BATCH-003", "the batch journal cannot be read or written", "check the disk and permissions")
OTHER_BATCH = define(
    "E-BATCH-004",
    "the batch journal is of another batch",
    "put the old file back to resume its batch; give new rows a file of their own",
)
BATCH_RUNS = define("E-BATCH-005", "another process works on this batch", "wait until it has ended")
BAD_JOURNAL = define(
    "E-BATCH-006",
    "not a batch journal",
    "move it away: references on the chain still keep the same signer from paying the same file twice",
)

FORMAT = "troth batch journal"
VERSION = 1
SUFFIX = ".troth-journal"

_MEANING = {
    "file_sha256": "the content of the file was changed since its batch was begun",
    "genesis_id": "its batch was begun on another chain",
    "signer": "its batch was begun by another signer",
    "operation": "its batch was begun with another operation",
    "calls": "its batch was begun with another number of calls in a transaction",
}


def journal_path(file: Path) -> Path:
    """Where the journal of a batch file lies."""
    return file.with_name(file.name + SUFFIX)


class Journal:
    """An open, locked journal. `done` are the numbers of the transactions that are final."""

    def __init__(self, path: Path, batch: Mapping[str, Any]) -> None:
        """Opens the journal of `batch`, or begins it. Raises Refused (E-BATCH-004, -005) and Fault (-003, -006)."""
        self.path = path
        self.done: set[int] = set()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                self._lock()
                self._begin(dict(batch))
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise _fault(path, error) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def record(self, done: Iterable[int], height: int | None) -> None:
        """Notes that these transactions are final, durably. Raises Fault (E-BATCH-003)."""
        numbers = sorted(done)
        if not numbers:
            return
        try:
            self._append({"done": numbers, "height": height})
        except OSError as error:
            raise _fault(self.path, error) from error
        self.done.update(numbers)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(BATCH_RUNS, f"{self.path} is locked") from None

    def _begin(self, batch: dict[str, Any]) -> None:
        data = self._read()
        whole = data.rpartition(b"\n")[0]
        kept = len(whole) + 1 if whole else 0
        if kept < len(data):
            os.ftruncate(self._file, kept)
        lines = whole.splitlines()
        if not lines:
            self._append({"format": FORMAT, "version": VERSION, "batch": batch})
            _sync_folder(self.path.parent)
            return
        self._check(self._parse(lines[0], 1), batch)
        for number, line in enumerate(lines[1:], start=2):
            entry = self._parse(line, number).get("done")
            if type(entry) is not list or any(type(each) is not int for each in entry):
                raise Fault(BAD_JOURNAL, f"{self.path}, line {number}: it says nothing of transactions")
            self.done.update(entry)

    def _check(self, head: dict[str, Any], batch: dict[str, Any]) -> None:
        found = head.get("batch")
        if head.get("format") != FORMAT or head.get("version") != VERSION or type(found) is not dict:
            raise Fault(BAD_JOURNAL, f"{self.path} is no journal of version {VERSION}")
        for name, value in batch.items():
            if found.get(name) != value:
                meaning = _MEANING.get(name, f"its batch has another {name}")
                raise Refused(OTHER_BATCH, f"{self.path}: {meaning}")

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if type(value) is not dict:
            raise Fault(BAD_JOURNAL, f"{self.path}, line {number} is not a JSON object")
        return value

    def _append(self, entry: Mapping[str, Any]) -> None:
        left = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)

    def _read(self) -> bytes:
        data = b""
        while part := os.pread(self._file, 16 << 20, len(data)):
            data += part
        return data


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(path: Path, error: OSError) -> Fault:
    return Fault(JOURNAL_FAULT, f"{path}: {error.strerror or error}")
