"""`troth` as a real process: exit codes, streams, signals, a node that is started, found, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TROTH_") and name != "NO_COLOR"}
    return {**kept, "PYTHONPATH": str(ROOT), "TROTH_HOME": str(home), **more}


def troth(*arguments: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=home.parent,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def started(*arguments: str, home: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A process with its stdout and stderr, killed on the way out where the test left it running."""
    with subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=home.parent,
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            yield process, process.stdout, process.stderr
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def dev_result(stdout: IO[str]) -> dict[str, Any]:
    """What `troth dev --json` prints once the node is ready."""
    found: dict[str, Any] = json.loads(stdout.readline())
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--help",), 0, ""),
        (("config", "show"), 0, ""),
        (("config", "show", "api.prt"), 1, "E-CONFIG-001"),
        (("keys", "show", "missing"), 5, "E-KEYSTORE-003"),
        (("node", "start"), 5, "E-HOME-001"),
        (("doctr",), 2, "did you mean doctor?"),
        (("keys", "new"), 2, "Missing argument"),
        (("node", "status", "--node", "http://127.0.0.1:1"), 6, "E-CLIENT-001"),
    ],
)
def test_exit_codes_and_no_traceback(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = troth(*arguments, home=tmp_path / "home")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    if code:
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_nothing_is_coloured_into_a_pipe_or_with_no_color(tmp_path: Path) -> None:
    for more in ({}, {"NO_COLOR": "1"}):
        for arguments in (("config", "show", "--origin"), ("doctor",), ("config", "show", "api.prt")):
            done = troth(*arguments, home=tmp_path / "home", **more)
            assert "\x1b" not in done.stdout + done.stderr


def test_a_closed_pipe_is_no_accident(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cli", "config", "show"],
        cwd=tmp_path,
        env=environment(tmp_path / "home"),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr


def test_a_node_starts_is_found_and_ends_by_a_signal(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    made = troth("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", "--json", home=home)
    assert made.returncode == 0, made.stderr
    genesis_id = json.loads(made.stdout)["genesis_id"]
    at = {"TROTH_API_PORT": str(port)}
    with started("node", "start", home=home, TROTH_LOG_FORMAT="json", **at) as (process, _, stderr):
        first = json.loads(stderr.readline())
        assert (first["event"], first["port"]) == ("node started", port)

        status = troth("node", "status", "--json", home=home, **at)
        found = json.loads(status.stdout)
        assert (status.returncode, found["pid"], found["readiness"]["ready"]) == (0, process.pid, True)
        assert found["chain"]["genesis_id"] == genesis_id
        words = troth("node", "status", home=home, **at)
        assert f"The node at http://127.0.0.1:{port} (pid {process.pid}) is ready." in words.stdout

        again = troth("node", "start", home=home, **at)
        assert (again.returncode, again.stdout) == (1, "")
        assert f"E-HOME-006 a node (pid {process.pid}) runs in {home}" in again.stderr

        doctor = troth("doctor", "--json", home=home, **at)
        checks = {check["name"]: check["found"] for check in json.loads(doctor.stdout)["checks"]}
        assert "served by a node of this chain" in checks["port"]
        assert f"pid {process.pid}" in checks["database"]

        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert troth("node", "status", home=home, **at).returncode == 6


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert troth("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", home=home).returncode == 0
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = troth("node", "start", home=home, TROTH_API_PORT=str(listener.getsockname()[1]))
    assert done.returncode == 6
    assert "E-NODE-004" in done.stderr and "Traceback" not in done.stderr


def test_dev_runs_funds_stops_and_goes_on_where_it_was(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    at = {"TROTH_API_PORT": str(port)}
    with started("dev", "--validators=1", "--json", home=home, **at) as (process, stdout, _):
        first = dev_result(stdout)
        balances = {row["key"]: row["balances"] for row in first["accounts"]}
        assert balances["dev:alice"] == {"grocer": 1_000, "roaster": 20}
        assert sorted(first["new_programmes"]) == ["grocer", "roaster"]
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    with started("dev", "--validators=1", "--json", home=home, **at) as (process, stdout, _):
        second = dev_result(stdout)
        assert (second["chain_id"], second["new_programmes"]) == (first["chain_id"], [])
        assert second["accounts"] == first["accounts"]
        assert second["height"] >= first["height"]

        other = troth("dev", "--validators=1", "--json", home=tmp_path / "other", **at)
        assert other.returncode == 1
        said = other.stderr.splitlines()
        assert any("E-NODE-004" in line for line in said)
        assert json.loads(said[-1])["code"] == "E-CLI-009"

        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    reset = troth("dev", "reset", "--yes", home=home)
    assert reset.returncode == 0, reset.stderr


def asked_to_end(pid: int) -> bool:
    """Whether SIGTERM lies before a stopped process. (SIGSTOP may lie there too, for a moment.)"""
    pending = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Pnd:" in line]
    return any(int(mask, 16) & 1 << signal.SIGTERM - 1 for mask in pending)


def test_dev_interrupted_twice_leaves_no_process(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    with started("dev", "--validators=1", "--json", home=home, TROTH_API_PORT=str(port)) as (process, stdout, _):
        node = dev_result(stdout)["pid"]
        os.kill(node, signal.SIGSTOP)  # it hears no request to stop
        process.send_signal(signal.SIGINT)
        while not asked_to_end(node):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(node, 0)


def test_a_node_that_ends_by_itself_ends_dev_with_an_error(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    with started("dev", "--validators=1", "--json", home=home, TROTH_API_PORT=str(port)) as (process, stdout, stderr):
        os.kill(dev_result(stdout)["pid"], signal.SIGKILL)
        assert process.wait(SECONDS) == 1
        assert json.loads(stderr.read().splitlines()[-1])["code"] == "E-CLI-009"
