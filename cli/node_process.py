"""Nodes as processes of their own, started and ended by a command.

Rules kept here:
- it runs in a session of its own, so that Ctrl-C reaches the command alone, which then stops the node once and
  waits; a second Ctrl-C kills it;
- it never outlives the command in any orderly way: SIGTERM and SIGHUP to the command stop it too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

from cli.client import NodeClient
from cli.commands.node import fetch_readiness
from ledger.errors import Fault, Unavailable, define

NODE_ENDED = define("E-CLI-009", "the node ended", "see what it said above; look at its home with: troth doctor")
NOT_READY = define("E-CLI-010", "the node does not become ready", "see what it says with -v")

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NodeProcess:
    """A started node. `url` is where it answers, `signals` are those that came to the command since.

    With `log` the node writes to that file, and otherwise where the command itself does.
    """

    def __init__(
        self,
        home: Path,
        url: str,
        genesis_id: str,
        arguments: Sequence[str] = (),
        *,
        name: str = "the node",
        signals: Sequence[int] = (),
        log: Path | None = None,
    ) -> None:
        self.url = url
        self.name = name
        self.signals = signals
        self._genesis_id = genesis_id
        with nullcontext() if log is None else log.open("ab") as written:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, "-P", "-m", "cli", "--home", str(home), *arguments, "node", "start"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=written,
                start_new_session=True,
                env=_environment(),
            )
        self.pid = self._process.pid

    def is_ready(self) -> bool:
        """Whether it answers, and says that it is ready."""
        try:
            return bool(fetch_readiness(self.url, timeout_seconds=2.0)["ready"]) and self._is_ours()
        except Unavailable:
            return False

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Returns once it is ready.

        Raises Fault (E-CLI-009) where it ended, Unavailable (E-CLI-010), KeyboardInterrupt where a signal came.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self.signals:
                raise KeyboardInterrupt
            code = self._process.poll()
            if code is not None:
                raise Fault(NODE_ENDED, f"{self.name} {how_it_ended(code)} before it was ready")
            if self.is_ready():
                return
            if time.monotonic() > deadline:
                raise Unavailable(NOT_READY, f"{self.name} at {self.url} is not ready after {seconds:.0f} s")
            time.sleep(0.05)

    def _is_ours(self) -> bool:
        """Whether the node that answers is this one: where another has the port, this one is about to say so."""
        with NodeClient(self.url, timeout_seconds=2.0) as client:
            return bool(client.chain()["genesis_id"] == self._genesis_id)

    def wait(self) -> None:
        """Waits until it ends. Raises Fault (E-CLI-009) where it ended by itself or badly."""
        code = self._process.wait()
        if code != 0 and len(self.signals) < 2:
            raise Fault(NODE_ENDED, f"{self.name} {how_it_ended(code)}")
        if not self.signals:
            raise Fault(NODE_ENDED, f"{self.name} was stopped by another")

    @property
    def exit_code(self) -> int | None:
        """How it ended, as `subprocess` says it: negative for a signal; None while it runs."""
        return self._process.poll()

    def ended(self, within_seconds: float) -> bool:
        """Whether it has ended, or ends within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_seconds)
        return self._process.poll() is not None

    def stop(self) -> None:
        """Asks it to end; what it was doing is finished first."""
        if self._process.poll() is None:
            self._process.terminate()

    def wake(self) -> None:
        """Lets it and its workers go on where a signal had stopped them."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it and all its workers at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stops it, and kills it where it does not end in time."""
        if not self.signals:
            self.stop()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()


def how_it_ended(code: int) -> str:
    """An exit code of `subprocess` in words: `ended with exit code 1`, `was killed by SIGKILL`."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextmanager
def signals_to(act: Callable[[int], None]) -> Iterator[list[int]]:
    """While inside, SIGINT, SIGTERM and SIGHUP raise nothing: `act` gets how many have come. Gives those that have."""
    came: list[int] = []

    def heard(number: int, frame: FrameType | None) -> None:
        came.append(number)
        act(len(came))

    before = {number: signal.signal(number, heard) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def node_process(home: Path, url: str, genesis_id: str, arguments: Sequence[str] = ()) -> Iterator[NodeProcess]:
    """Runs `troth node start` on a home; `arguments` go before `node`. It is ended on the way out.

    `genesis_id` (hexadecimal) is that of the home's chain.

    While inside, a signal stops the node and a second one kills it, and neither raises KeyboardInterrupt here.
    """
    made: list[NodeProcess] = []

    def act(count: int) -> None:
        for process in made:
            if count == 1:
                process.stop()
            else:
                process.kill()

    with signals_to(act) as came:
        process = NodeProcess(home, url, genesis_id, arguments, signals=came)
        made.append(process)
        try:
            if came:  # before there was a node to stop
                act(len(came))
            yield process
        finally:
            process.close()


def _environment() -> dict[str, str]:
    """The environment of a child that must find this program wherever it was started from, installed or not."""
    root = Path(__file__).resolve().parent.parent
    if "site-packages" in root.parts:
        return dict(os.environ)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else str(root)}
