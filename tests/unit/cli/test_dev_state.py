from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.dev_state import (
    STATE_FILE,
    DevState,
    Process,
    RunningNode,
    end_leftovers,
    process_of,
    read_state,
    remove_state,
    started,
    write_state,
)
from ledger.errors import Fault

WAIT_SECONDS = 30
WAITS = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, has begun, and waits."""
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_process_is_known_by_its_id_and_its_beginning(child: subprocess.Popen[bytes]) -> None:
    known = process_of(child.pid)
    assert known.alive() and not known.paused()
    assert started(child.pid) == started(child.pid) != started(os.getpid())
    child.kill()
    child.wait(WAIT_SECONDS)
    assert not known.alive() and not known.paused()
    assert started(child.pid) == ""


def test_a_dead_process_that_nobody_has_waited_for_is_dead(child: subprocess.Popen[bytes]) -> None:
    known = process_of(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
    assert not known.alive()
    assert process_of(child.pid).alive() is False


@pytest.mark.parametrize("began", ["", "another moment"])
def test_a_process_that_began_at_another_moment_is_foreign_and_never_signalled(
    child: subprocess.Popen[bytes], began: str
) -> None:
    foreign = Process(child.pid, began)
    assert not foreign.alive()
    assert foreign.send(signal.SIGKILL) is False
    assert foreign.send(signal.SIGKILL, group=True) is False
    state = DevState(process_of(os.getpid()), (RunningNode("node-1", "", foreign),))
    assert state.running("node-1") is None
    assert end_leftovers(state, 0.0) == []
    assert child.poll() is None


def test_a_signal_reaches_the_group_that_a_process_leads(child: subprocess.Popen[bytes]) -> None:
    known = process_of(child.pid)
    assert known.send(signal.SIGSTOP, group=True)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert known.paused() and known.alive()
    assert known.send(signal.SIGCONT, group=True)
    assert known.send(signal.SIGTERM)
    assert child.wait(WAIT_SECONDS) == -signal.SIGTERM


def test_a_group_that_a_process_does_not_lead_is_not_signalled() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process_of(process.pid).send(signal.SIGKILL, group=True)  # this test is in that group
        assert process.wait(WAIT_SECONDS) == -signal.SIGKILL


def test_nodes_that_outlived_their_supervisor_are_ended_though_paused(child: subprocess.Popen[bytes]) -> None:
    known = process_of(child.pid)
    known.send(signal.SIGSTOP, group=True)
    state = DevState(Process(1, "gone"), (RunningNode("node-2", "", known),))
    assert end_leftovers(state, WAIT_SECONDS) == ["node-2"]
    assert not known.alive()


def test_the_state_is_read_as_it_was_written_and_replaced_whole(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    supervisor = process_of(os.getpid())
    first = DevState(supervisor, (RunningNode("node-1", "http://127.0.0.1:8700", Process(17, "then")),))
    for state in (first, DevState(supervisor, ())):
        write_state(tmp_path, state)
        assert read_state(tmp_path) == state
        assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
        assert (tmp_path / STATE_FILE).stat().st_mode & 0o777 == 0o600
    remove_state(tmp_path)
    remove_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"supervisor": {"pid": "1", "started": ""}, "nodes": []}',
        '{"supervisor": {"pid": 1, "started": ""}, "nodes": [{"name": "node-1"}]}',
    ],
)
def test_a_damaged_state_is_a_fault_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(Fault) as caught:
        read_state(tmp_path)
    assert caught.value.code == "E-DEV-003" and str(tmp_path / STATE_FILE) in caught.value.cause
