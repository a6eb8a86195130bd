"""What runs of a development network now: HOME/dev.json, written by `troth dev` and read by its sub-commands.

    {"supervisor": {"pid", "started"}, "nodes": [{"name", "pid", "started", "url"}]}

Rules kept here:
- a process is its id together with the moment at which it started: an id that another process has got since is not
  ours, and nothing foreign is ever signalled;
- the file is replaced whole, and removed when the network has ended. One that lies there although `troth dev` is gone
  tells which nodes outlived it.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from ledger.errors import Fault, define

BAD_STATE = define("E-DEV-003", "the state of the development network cannot be read", "stop `troth dev`, delete it")

STATE_FILE = "dev.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Process(NamedTuple):
    """A process that ran when this was written: its id, and what tells the moment at which it started."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return bool(self.started) and started(self.pid) == self.started

    def paused(self) -> bool:
        """Whether it is stopped by a signal."""
        with suppress(psutil.Error):
            return self.alive() and str(psutil.Process(self.pid).status()) == psutil.STATUS_STOPPED
        return False

    def send(self, number: int, *, group: bool = False) -> bool:
        """Sends it a signal, or its whole process group where it leads one; False where it has ended."""
        if not self.alive():
            return False
        with suppress(ProcessLookupError):
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
            return True
        return False


class RunningNode(NamedTuple):
    """A node of the network that runs, or ran when this was written."""

    name: str
    url: str
    process: Process


class DevState(NamedTuple):
    """The supervising `troth dev` and the nodes that it has started."""

    supervisor: Process
    nodes: tuple[RunningNode, ...]

    def running(self, name: str) -> RunningNode | None:
        """The node of that name, if it still runs."""
        return next((node for node in self.nodes if node.name == name and node.process.alive()), None)


def started(pid: int) -> str:
    """What tells the moment at which a process started; empty where there is no such process, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else f"{_BOOT_ID.read_text().strip()}:{fields[19]}"
    except (FileNotFoundError, ProcessLookupError):
        if _BOOT_ID.exists():
            return ""
    try:  # a system without /proc
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.NoSuchProcess:
        return ""


def process_of(pid: int) -> Process:
    """A running process by its id."""
    return Process(pid, started(pid))


def read_state(home: Path) -> DevState | None:
    """The state of the network in HOME, None where there is none. Raises Fault (E-DEV-003)."""
    path = home / STATE_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        nodes = [RunningNode(str(node["name"]), str(node["url"]), _process(node)) for node in document["nodes"]]
        return DevState(_process(document["supervisor"]), tuple(nodes))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(BAD_STATE, f"{path}: {error}") from None


def write_state(home: Path, state: DevState) -> None:
    """Replaces the state of the network in HOME."""
    document = {
        "supervisor": state.supervisor._asdict(),
        "nodes": [{"name": node.name, "url": node.url, **node.process._asdict()} for node in state.nodes],
    }
    draft = home / f".{STATE_FILE}.{secrets.token_hex(8)}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    draft.replace(home / STATE_FILE)


def remove_state(home: Path) -> None:
    """Removes the state of a network that has ended."""
    (home / STATE_FILE).unlink(missing_ok=True)


def end_leftovers(state: DevState, seconds: float) -> list[str]:
    """Ends the nodes that outlived their `troth dev`: asked first, killed after so many seconds. Gives their names."""
    left = [node for node in state.nodes if node.process.alive()]
    for node in left:
        node.process.send(signal.SIGTERM)
        node.process.send(signal.SIGCONT, group=True)
    waiting = []
    for node in left:
        with suppress(psutil.NoSuchProcess):
            waiting.append(psutil.Process(node.process.pid))
    psutil.wait_procs(waiting, timeout=seconds)
    for node in left:
        node.process.send(signal.SIGKILL, group=True)
    return [node.name for node in left]


def _process(document: dict[str, object]) -> Process:
    pid = document["pid"]
    if type(pid) is not int:
        raise ValueError("a process id is a whole number")
    return Process(pid, str(document["started"]))
