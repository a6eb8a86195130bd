from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consensus.guard import (
    Record,
    Step,
    advance,
    check_not_rolled_back,
    encode_record,
    first_record,
)
from consensus.messages import Claim, Kind, Vote, signed_payload
from ledger.errors import Fault, Refused, TrothError
from node.signing_record import RecordFile, create, load
from tests.consensus_kit import CHAIN, A, address

ROOT = Path(__file__).resolve().parents[3]


def after(height: int, kind: Kind = Kind.COMMIT) -> Record:
    """The record of a validator that signed this last."""
    return advance(first_record(CHAIN), signed_payload(CHAIN, Vote(kind, height, 0, A, address(1))))


def code_of(action: Callable[[], object], kind: type[TrothError]) -> str:
    with pytest.raises(kind) as caught:
        action()
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record that was just made."""
    made = tmp_path / "signing" / "record"
    create(made, CHAIN)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Making


def test_a_new_record_has_signed_nothing_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "signing" / "record"
    before = os.umask(0)
    try:
        create(path, CHAIN)
        with RecordFile(path) as file:
            file.store(after(1))
    finally:
        os.umask(before)
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["record"]


def test_a_record_that_has_signed_is_never_made_anew(path: Path) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
    assert code_of(lambda: create(path, CHAIN), Refused) == "E-SIGNING-003"
    assert load(path) == after(7)


def test_a_record_of_another_chain_is_never_made_over(path: Path) -> None:
    assert code_of(lambda: create(path, "other-chain"), Refused) == "E-SIGNING-003"
    assert load(path) == first_record(CHAIN)


def test_a_first_record_that_an_interrupted_run_left_stays(path: Path) -> None:
    create(path, CHAIN)
    assert load(path) == first_record(CHAIN)
    assert [each.name for each in path.parent.iterdir()] == ["record"]


def test_a_damaged_record_is_never_made_anew(path: Path) -> None:
    path.write_bytes(b"")
    assert code_of(lambda: create(path, CHAIN), Fault) == "E-GUARD-002"


# Reading


def test_what_was_stored_is_there_for_the_next(path: Path) -> None:
    claim = advance(after(8), signed_payload(CHAIN, Claim(8, 3, 2, A, address(1))))
    for record in (after(7), after(8), claim):
        with RecordFile(path) as file:
            file.store(record)
            assert file.record == record
        with RecordFile(path) as file:
            assert file.record == record


def test_a_missing_record_is_a_fault_and_never_the_beginning(path: Path) -> None:
    path.unlink()
    for action in (lambda: load(path), lambda: RecordFile(path)):
        with pytest.raises(Fault) as caught:
            action()
        assert caught.value.code == "E-GUARD-002"
        assert str(path) in caught.value.cause and "restore the newest record" in caught.value.fix
    shutil.rmtree(path.parent)
    assert code_of(lambda: RecordFile(path), Fault) == "E-GUARD-002"
    assert not path.parent.exists()


def test_a_draft_that_was_never_renamed_is_no_record(path: Path) -> None:
    path.rename(path.with_name(".record.draft"))
    assert code_of(lambda: RecordFile(path), Fault) == "E-GUARD-002"


def test_damage_to_any_byte_is_noticed(path: Path) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flipped in (1, 0x80, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
            assert code_of(lambda: RecordFile(path), Fault) == "E-GUARD-003"
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        assert code_of(lambda: load(path), Fault) == "E-GUARD-003"
    for more in (b"\0", whole, bytes(2000)):
        path.write_bytes(whole + more)
        assert code_of(lambda: load(path), Fault) == "E-GUARD-003"
    path.write_bytes(whole)
    assert load(path) == after(7)


def test_an_older_record_is_seen_by_what_the_chain_holds(path: Path) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
        old = path.read_bytes()
        file.store(after(8))
    path.write_bytes(old)
    with RecordFile(path) as file:
        check_not_rolled_back(file.record, 7, 0)
        with pytest.raises(Refused) as caught:
            check_not_rolled_back(file.record, 8, 0)
    assert caught.value.code == "E-GUARD-004"


@pytest.mark.parametrize("which", ["folder", "record"])
def test_a_record_that_others_may_reach_is_refused(path: Path, which: str) -> None:
    place = path if which == "record" else path.parent
    place.chmod(mode(place) | 0o020)
    with pytest.raises(Refused) as caught:
        RecordFile(path)
    assert caught.value.code == "E-SIGNING-004"
    assert caught.value.fix == f"run: chmod {'600' if which == 'record' else '700'} {place}"


def test_no_link_and_no_pipe_is_followed(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert code_of(lambda: load(path), Fault) == "E-SIGNING-005"
    path.unlink()
    os.mkfifo(path, 0o600)
    assert code_of(lambda: load(path), Fault) == "E-GUARD-002"


# One process at a time

HOLD = """
import sys
from pathlib import Path
from node.signing_record import RecordFile
with RecordFile(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_use_one_record_and_the_lock_dies_with_its_process(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert code_of(lambda: RecordFile(path), Refused) == "E-SIGNING-002"
        assert load(path) == first_record(CHAIN)  # looking is free
        holder.kill()
    with RecordFile(path) as file:
        assert code_of(lambda: RecordFile(path), Refused) == "E-SIGNING-002"
        file.store(after(1))


def test_what_was_closed_stores_nothing(path: Path) -> None:
    file = RecordFile(path)
    file.close()
    file.close()
    assert code_of(lambda: file.store(after(1)), Fault) == "E-SIGNING-001"
    assert load(path) == first_record(CHAIN)


# A disk that fails


def test_a_write_that_fails_is_a_fault_now_and_ever_after(path: Path) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
        try:
            assert code_of(lambda: file.store(after(8)), Fault) == "E-SIGNING-001"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert code_of(lambda: file.store(after(8)), Fault) == "E-SIGNING-001"
        assert code_of(lambda: file.record, Fault) == "E-SIGNING-001"
    assert load(path) == after(7)
    with RecordFile(path) as file:  # the half draft is no obstacle
        file.store(after(8))
    assert load(path) == after(8)


def test_a_folder_that_was_exchanged_under_a_running_process_is_a_fault(path: Path) -> None:
    with RecordFile(path) as file:
        shutil.copytree(path.parent, path.parent.with_name("backup"))
        shutil.rmtree(path.parent)
        path.parent.with_name("backup").rename(path.parent)
        assert code_of(lambda: file.store(after(1)), Fault) == "E-SIGNING-001"
    assert load(path) == first_record(CHAIN)


# A crash at every step

STORE = """
import sys
from pathlib import Path
from node.signing_record import RecordFile
from tests.unit.node.test_signing_record import after
with RecordFile(Path(sys.argv[1])) as file:
    file.store(after(8))
print("stored", flush=True)
"""


needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: calls can neither be counted nor made to fail"
)


@needs_strace
def test_a_store_makes_these_calls_in_this_order_and_no_others(path: Path) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
    log = path.parent.with_name("calls")
    command = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=write,fsync,fdatasync,rename,renameat,renameat2"]
    done = subprocess.run(
        [*command, sys.executable, "-c", STORE, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "stored\n"
    calls = [
        line.split(None, 1)[1] for line in log.read_text().splitlines() if str(path.parent) in line or "stored" in line
    ]
    assert [call.partition("(")[0].removesuffix("at2").removesuffix("at") for call in calls] == [
        "write",
        "fsync",
        "rename",
        "fsync",
        "write",
    ]
    assert ".record.draft" in calls[0] and ".record.draft" in calls[1]
    assert f"<{path.parent}>" in calls[3]  # the folder itself
    assert "stored" in calls[4]
    assert encode_record(after(8)) == path.read_bytes()


@needs_strace
@pytest.mark.parametrize(
    ("calls", "number", "left"),
    [
        ("fsync", 1, (7,)),
        ("rename,renameat,renameat2", 1, (7,)),
        ("fsync", 2, (7, 8)),
    ],
)
@pytest.mark.parametrize("fault", ["signal=SIGKILL", "error=EIO"])
def test_a_crash_or_failure_at_each_call_leaves_a_whole_record(
    path: Path, calls: str, number: int, left: tuple[int, ...], fault: str
) -> None:
    with RecordFile(path) as file:
        file.store(after(7))
    command = ["strace", "-f", "-o", os.devnull, "-e", f"inject={calls}:{fault}:when={number}"]
    done = subprocess.run([*command, sys.executable, "-c", STORE, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "stored" not in done.stdout
    if fault.startswith("error"):
        assert "E-SIGNING-001" in done.stderr
    with RecordFile(path) as file:
        assert file.record.height in left and file.record.step is Step.COMMIT
        file.store(after(9))
    assert load(path) == after(9)
