"""Nodes as real processes on free loopback ports, for tests.

    with NodeProcess.create(folder) as node:        a new home with a development chain, started and ready
        node.kill(); node.start()                   kill -9, then again on the same home and port
        node.troth("points", "show", "beans")       the command line, on that home

The chain is a development chain of one validator. Its accounts have public keys (`node.keystore.dev_key`): `roaster`
is the first brand and its administrator, `grocer` the second; every other name is a consumer's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from cli.client import NodeClient
from cli.new_home import Brand, compose_genesis, dev_keys, write_home
from ledger.address import address_of, to_text
from ledger.errors import TrothError
from ledger.genesis import Genesis, Parameters, parse_genesis
from ledger.keys import PrivateKey
from node.keystore import dev_key

CHAIN_ID = "dev-test"
BRANDS = (Brand("roaster", "The Roaster"), Brand("grocer", "The Grocer"))
ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Ran(NamedTuple):
    """A command that has ended: exit code, what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its result; for commands run with --json."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> dict[str, Any]:
        """Its error; for commands run with --json."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])
        return found


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def key_of(name: str) -> PrivateKey:
    """The public development key of that name."""
    return dev_key(name)


def address_text(name: str) -> str:
    """The address of the development account of that name."""
    return to_text(address_of(dev_key(name).public))


def troth(*arguments: str, timeout: int = 170) -> tuple[int, str, str]:
    """Runs a command that needs no home here: exit code, what it wrote, what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class NodeProcess:
    """One home and the node that runs in it. Ends only the process that it started.

    `host` is where its API answers. `prefix` goes before its command line, to run it in another network namespace;
    `extra` are variables of its environment.
    """

    def __init__(
        self,
        home: Path,
        port: int,
        settings: Mapping[str, int | str] | None = None,
        *,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.port = port
        self.host = host
        self.prefix = tuple(prefix)
        self.extra = dict(extra or {})
        self.url = f"http://{host}:{port}"
        self.settings = dict(settings or {})
        self.log = home.with_name(home.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        time_ms: int | None = None,
        parameters: Parameters | None = None,
        settings: Mapping[str, int | str] | None = None,
    ) -> NodeProcess:
        """A node of a new development chain, its home in `folder`; not started. `settings` go into config.toml."""
        began = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        public_keys = {label: key.public for label, key in dev_keys(BRANDS).items()}
        genesis = compose_genesis(CHAIN_ID, began, BRANDS, public_keys, parameters)
        port = free_port()
        home = folder / "home"
        write_home(home, genesis, dev=True, settings={"api.port": port, **(settings or {})})
        return cls(home, port)

    def __enter__(self) -> NodeProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def genesis(self) -> Genesis:
        """The genesis document of the home."""
        return parse_genesis((self.home / "genesis.json").read_text(encoding="utf-8"))

    @property
    def running(self) -> bool:
        """Whether it was started, and neither stopped nor killed; it may have ended by itself."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        assert self._process is not None, "the node is not running"
        return self._process.pid

    def start(self) -> None:
        """Starts the node and waits until it is ready. Fails with its log where it does not get ready."""
        assert self._process is None, "the node is running already"
        flags = [f"--set={name}={value}" for name, value in self.settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *command(self.home, [*flags, "node", "start"])],
                cwd=ROOT,
                env={**environment(), **self.extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        with NodeClient(self.url, timeout_seconds=5) as client:
            while time.monotonic() < deadline:
                assert self._process.poll() is None, f"the node ended:\n{self.log_tail()}"
                try:
                    client.chain()
                except TrothError:
                    time.sleep(0.05)
                    continue
                return
        raise AssertionError(f"the node is not ready after {START_SECONDS} s:\n{self.log_tail()}")

    def stop(self) -> int:
        """Asks the node to end (SIGTERM), waits, and returns its exit code; kills it where it does not end."""
        process = self._process
        if process is None:
            return 0
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the node does not end:\n{self.log_tail()}") from None
        self._process = None
        self._end_workers(process.pid)
        return process.returncode

    def ended(self) -> int:
        """Waits until the node has ended by itself, and returns its exit code."""
        process = self._process
        assert process is not None, "the node is not running"
        process.wait(STOP_SECONDS)
        self._process = None
        self._end_workers(process.pid)
        return process.returncode

    def kill(self) -> None:
        """kill -9: the node and its workers, at once."""
        process = self._process
        if process is None:
            return
        self._process = None
        self._end_workers(process.pid)
        process.kill()
        process.wait()

    @staticmethod
    def _end_workers(pid: int) -> None:
        """Ends what is left of the session that the node was started in, and leads."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the node has written."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def client(self, timeout_seconds: float = 30.0) -> NodeClient:
        """A client of the node."""
        return NodeClient(self.url, timeout_seconds=timeout_seconds)

    def troth(self, *arguments: str, cwd: Path | None = None, extra: Mapping[str, str] | None = None) -> Ran:
        """Runs a command on this home as a process and waits for its end. It has no terminal."""
        ended = subprocess.run(
            command(self.home, arguments),
            cwd=cwd or ROOT,
            env={**environment(), **(extra or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    def troth_json(self, *arguments: str) -> dict[str, Any]:
        """The result of a command that must succeed."""
        ran = self.troth("--json", *arguments)
        assert ran.code == 0, f"troth {' '.join(arguments)} ended with {ran.code}: {ran.err}"
        return ran.json

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a command on this home and does not wait. The caller ends it."""
        return subprocess.Popen(
            command(self.home, arguments),
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def command(home: Path, arguments: Sequence[str]) -> list[str]:
    """The command line of `troth` on a home, run from this checkout."""
    return [sys.executable, "-m", "cli", "--home", str(home), *arguments]


def environment() -> dict[str, str]:
    """This process's environment without settings of Troth, and with this checkout importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TROTH_")}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
