"""The processes of a development network: started together, watched, ended together.

Rules kept here:
- a node that ends is told to the person, and the others go on; `troth dev start NODE` starts it again here, so that
  Ctrl-C ends that one too;
- at the beginning as many nodes must get ready as make blocks, or there is no network;
- the first Ctrl-C asks every node to end and waits, the second kills them. A paused node is woken, to hear it;
- what runs is written to HOME/dev.json (`cli.dev_state`) at every change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.dev_network import DevNode
from cli.dev_state import (
    DevState,
    RunningNode,
    end_leftovers,
    process_of,
    read_state,
    remove_state,
    write_state,
)
from cli.node_process import NODE_ENDED, NOT_READY, READY_SECONDS, STOP_SECONDS, NodeProcess, how_it_ended, signals_to
from consensus.quorum import faulty
from ledger.errors import Fault, Unavailable

LOG_FILE = "node.log"
LOG_BYTES_MAX = 16 << 20
START_REQUEST = "start.request"
WATCH_SECONDS = 0.1
_TAIL_BYTES = 16 << 10


class DevSupervisor:
    """The running nodes of one development network; see `dev_supervisor`."""

    def __init__(
        self,
        home: Path,
        nodes: Sequence[DevNode],
        genesis_id: str,
        arguments: Sequence[str],
        note: Callable[[str], None],
    ) -> None:
        self._home, self._nodes, self._genesis_id, self._arguments = home, nodes, genesis_id, arguments
        self._note = note
        self.signals: Sequence[int] = ()
        self.processes: dict[str, NodeProcess] = {}
        self._log_began: dict[str, int] = {}

    def start(self) -> list[DevNode]:
        """Starts all nodes and waits until they are ready. Returns those that are.

        Raises Fault (E-CLI-009) where too few are left to make blocks, Unavailable (E-CLI-010), KeyboardInterrupt.
        """
        left = read_state(self._home)
        if left is not None:
            for name in end_leftovers(left, STOP_SECONDS):
                self._note(f"{name} had outlived an earlier `troth dev`: it was stopped.")
        for node in self._nodes:
            self._request(node).unlink(missing_ok=True)
            self._launch(node)
        ready: list[DevNode] = []
        failed: dict[str, str] = {}
        deadline = time.monotonic() + READY_SECONDS
        while len(ready) + len(failed) < len(self._nodes):
            for node in self._nodes:
                process = self.processes[node.name]
                if node in ready or node.name in failed:
                    continue
                if process.exit_code is not None:
                    failed[node.name] = self._said(node, f"{node.name} {how_it_ended(process.exit_code)}")
                    if len(failed) > faulty(len(self._nodes)):
                        raise Fault(NODE_ENDED, "; ".join(failed.values()), fix=f"see {LOG_FILE} in the nodes' homes")
                elif process.is_ready():
                    ready.append(node)
            if self.signals:
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                late = [node.name for node in self._nodes if node not in ready and node.name not in failed]
                cause = f"not ready after {READY_SECONDS:.0f} s: {', '.join(late)}"
                raise Unavailable(NOT_READY, cause, fix=f"see {LOG_FILE} in the nodes' homes")
            time.sleep(WATCH_SECONDS)
        self._look()  # tells of those that have ended
        return [node for node in self._nodes if node in ready]

    def watch(self) -> None:
        """Tells of nodes that end, and starts those that are asked for, until a signal comes; then waits for all."""
        while not self.signals:
            self._look()
            time.sleep(WATCH_SECONDS)

    def act(self, count: int) -> None:
        """Asks the nodes to end at the first signal, kills them at the second."""
        for process in list(self.processes.values()):
            if count == 1:
                process.stop()
                process.wake()
            else:
                process.kill()

    def close(self) -> None:
        """Ends all nodes and waits for them."""
        if not self.signals:
            self.act(1)
        for process in self.processes.values():
            process.close()
            if process.exit_code and len(self.signals) < 2:
                self._note(f"{process.name} {how_it_ended(process.exit_code)}; see {LOG_FILE} in its home.")
        remove_state(self._home)

    def _launch(self, node: DevNode) -> None:
        log = node.home / LOG_FILE
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        self._log_began[node.name] = log.stat().st_size if log.exists() else 0
        self.processes[node.name] = NodeProcess(
            node.home,
            node.url,
            self._genesis_id,
            [*self._arguments, *node.settings],
            name=node.name,
            signals=self.signals,
            log=log,
        )
        if self.signals:
            self.act(len(self.signals))
        self._write()

    def _look(self) -> None:
        changed = False
        for node in self._nodes:
            process = self.processes.get(node.name)
            if process is not None and process.exit_code is not None and not self.signals:
                del self.processes[node.name]
                process.kill()  # what is left of its workers
                changed = True
                ended = self._said(node, f"{node.name} {how_it_ended(process.exit_code)}")
                self._note(f"{ended}. {self._remaining()}; `troth dev start {node.name}` starts it again.")
            if node.name not in self.processes and self._request(node).exists():
                self._request(node).unlink(missing_ok=True)
                self._launch(node)
                self._note(f"{node.name} is started again (process {self.processes[node.name].pid}).")
        if changed:
            self._write()

    def _remaining(self) -> str:
        count, total = len(self.processes), len(self._nodes)
        if not count:
            return "No node runs any more"
        halted = total - count > faulty(total)
        return f"{count} of {total} go on" + (": too few to make blocks" if halted else "")

    def _said(self, node: DevNode, what: str) -> str:
        last = last_error(node.home / LOG_FILE, self._log_began[node.name])
        return f"{what} ({last})" if last else what

    def _write(self) -> None:
        running = [
            RunningNode(node.name, node.url, process_of(self.processes[node.name].pid))
            for node in self._nodes
            if node.name in self.processes
        ]
        write_state(self._home, DevState(process_of(os.getpid()), tuple(running)))

    @staticmethod
    def _request(node: DevNode) -> Path:
        return node.home / START_REQUEST


@contextmanager
def dev_supervisor(
    home: Path, nodes: Sequence[DevNode], genesis_id: str, arguments: Sequence[str], note: Callable[[str], None]
) -> Iterator[DevSupervisor]:
    """A supervisor of the nodes of HOME, none of which runs yet. On the way out all are ended.

    While inside, a signal stops them and a second one kills them, and neither raises KeyboardInterrupt here.
    """
    supervisor = DevSupervisor(home, nodes, genesis_id, arguments, note)
    with signals_to(supervisor.act) as came:
        supervisor.signals = came
        try:
            yield supervisor
        finally:
            supervisor.close()


def request_start(node: DevNode) -> None:
    """Asks the running `troth dev` to start a node."""
    (node.home / START_REQUEST).touch(mode=0o600)


def last_error(log: Path, began: int) -> str:
    """The last line of a log, from byte `began` on, where it is one of an error, `CODE cause; fix`; else nothing."""
    with log.open("rb") as file:
        file.seek(max(began, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return lines[-1] if lines and lines[-1].startswith("E-") else ""
