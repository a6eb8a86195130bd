"""The journal of a batch: what survives a kill, and what it refuses."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from cli.batch_journal import Journal, journal_path
from ledger.errors import Fault, Refused

BATCH: dict[str, Any] = {"file_sha256": "ab", "genesis_id": "cd", "signer": "me", "operation": "mint", "calls": 500}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_path(tmp_path / "pay.csv")


def test_what_was_recorded_is_there_again(path: Path) -> None:
    with Journal(path, BATCH) as journal:
        assert journal.done == set()
        journal.record([1, 0], 7)
        journal.record([], None)
        journal.record([5], None)
        assert journal.done == {0, 1, 5}
    with Journal(path, BATCH) as journal:
        assert journal.done == {0, 1, 5}
    assert path.name == "pay.csv.troth-journal"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_kill_at_any_byte_leaves_a_journal_of_whole_lines(path: Path) -> None:
    with Journal(path, BATCH) as journal:
        journal.record([0], 1)
        journal.record([1], 2)
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = sum([end <= length for end in ends])
        with Journal(path, BATCH) as journal:
            assert journal.done == set(range(max(lines - 1, 0))), length
            journal.record([9], 3)
        with Journal(path, BATCH) as journal:
            assert 9 in journal.done


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file_sha256", "content of the file was changed"),
        ("genesis_id", "another chain"),
        ("signer", "another signer"),
        ("operation", "another operation"),
        ("calls", "another number of calls"),
    ],
)
def test_another_batch_is_refused(path: Path, name: str, reason: str) -> None:
    Journal(path, BATCH).__exit__()
    before = path.read_bytes()
    with pytest.raises(Refused, match=f"E-BATCH-004 .*{reason}"):
        Journal(path, {**BATCH, name: "other"})
    assert path.read_bytes() == before


def test_one_process_at_a_time(path: Path) -> None:
    with Journal(path, BATCH), pytest.raises(Refused, match=r"E-BATCH-005"):
        Journal(path, BATCH)
    with Journal(path, BATCH) as journal:
        assert journal.done == set()


@pytest.mark.parametrize("content", [b"account,amount\n", b"[]\n", b'{"format": "other"}\n', b"\xff\n"])
def test_what_is_no_journal_is_kept_and_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Fault, match=r"E-BATCH-006"):
        Journal(path, BATCH)
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"{}\n", b'{"done": 5}\n', b'{"done": ["a"]}\n', b"nonsense\n"])
def test_a_damaged_line_is_named(path: Path, line: bytes) -> None:
    Journal(path, BATCH).__exit__()
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(Fault, match=r"E-BATCH-006 .*line 2"):
        Journal(path, BATCH)


def test_a_folder_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"E-BATCH-003 .*No such file"):
        Journal(tmp_path / "none" / "x.troth-journal", BATCH)


def test_no_symbolic_link_is_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    path.symlink_to(target)
    with pytest.raises(Fault, match=r"E-BATCH-003"):
        Journal(path, BATCH)
    assert not target.exists()
