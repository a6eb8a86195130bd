"""Signers as real processes, and a witness between node and signer that misses no signature.

    node process  <->  Witness (a socket of the test's own)  <->  `troth signer start`

What has left the signer is written down before the node gets it, and also where the node is dead by then.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cli.new_home import compose_genesis, dev_keys, write_home
from consensus.guard import position_of
from consensus.messages import parse_payload
from ledger.errors import TrothError
from ledger.keys import verify
from node.home import Home
from node.keystore import dev_key
from node.signer_protocol import Sign, Signature, decode_answer, decode_request
from tests.end_to_end.nodes import BRANDS, ROOT, command, environment

CHAIN = "dev-test"
KEY = dev_key("validator")
END_SECONDS = 60.0


class Given(NamedTuple):
    """A signature that has left the signer, and what was asked for."""

    payload: bytes
    signature: bytes


def signer_home(folder: Path) -> Home:
    """A new home with a development key and its first record."""
    public_keys = {label: key.public for label, key in dev_keys(BRANDS).items()}
    return write_home(folder / "home", compose_genesis(CHAIN, 1_700_000_000_000, BRANDS, public_keys), dev=True)


class SignerProcess:
    """`troth signer start` on a home; under `wrapper`, such as strace with its options, where one is given."""

    def __init__(self, home: Home, *wrapper: str) -> None:
        self.home = home
        self.log = home.path.with_name("signer.log")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, *command(home.path, ["--json", "signer", "start"])],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> dict[str, str]:
        """What it says once it listens."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the signer ended:\n{self.log.read_text(errors='replace')[-4000:]}"
        found: dict[str, str] = json.loads(line)
        return found

    def ended(self) -> int:
        """Waits for its end and returns its exit code."""
        code = self._process.wait(END_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.terminate()
        return self.ended()

    def kill(self) -> None:
        """kill -9, to it and to what wraps it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.ended()

    def __enter__(self) -> SignerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class NodeProcess:
    """`tests.end_to_end.signer_node_process` on a socket."""

    def __init__(self, path: Path, seed: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.signer_node_process", str(path), CHAIN, seed],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """kill -9. It must have been alive: it ends by itself only for an error."""
        assert self._process.poll() is None
        self._process.kill()
        self._process.wait()


class Witness:
    """Passes on what node and signer say to each other, and keeps every signature."""

    def __init__(self, path: Path, signer: Path) -> None:
        self.path = path
        self.given: list[Given] = []
        self.refused = 0
        self._signer = signer
        self._changed = threading.Condition()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def wait_for(self, more: int) -> None:
        """Returns once so many more signatures have been given."""
        with self._changed:
            enough = len(self.given) + more
            assert self._changed.wait_for(lambda: len(self.given) >= enough, END_SECONDS), "no signatures come"

    def close(self) -> None:
        """Waits until all that was under way has been written down. Node and signer are dead by now."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(END_SECONDS)
            assert not thread.is_alive()

    def check(self) -> None:
        """Every signature holds, and no two are of different bytes for one position."""
        said: dict[tuple[int, int, int], bytes] = {}
        for (payload, signature), position in zip(self.given, self.positions(), strict=True):
            assert verify(KEY.public, payload, signature)
            assert said.setdefault(position, payload) == payload, f"two signatures for {position}"

    def positions(self) -> list[tuple[int, int, int]]:
        """Height, round and step of each signature, in their order."""
        return [position_of(parse_payload(given.payload, bytes(20))[1]) for given in self.given]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                node, _ = self._listening.accept()
                signer = socket.socket(socket.AF_UNIX)
                try:
                    signer.connect(str(self._signer))
                except OSError:
                    node.close()
                    signer.close()
                    continue
                asked: list[bytes | None] = []
                for target in (self._pass_requests, self._pass_answers):
                    thread = threading.Thread(target=target, args=(node, signer, asked), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass_requests(self, node: socket.socket, signer: socket.socket, asked: list[bytes | None]) -> None:
        with suppress(OSError):
            while (body := _read(node)) is not None:
                request = decode_request(body)
                asked.append(request.payload if isinstance(request, Sign) else None)
                signer.sendall(struct.pack(">I", len(body)) + body)
        with suppress(OSError):
            signer.shutdown(socket.SHUT_WR)

    def _pass_answers(self, node: socket.socket, signer: socket.socket, asked: list[bytes | None]) -> None:
        alive = True
        while (body := _read(signer)) is not None:
            answer = decode_answer(body)
            payload = asked.pop(0)
            with self._changed:
                if isinstance(answer, Signature):
                    assert payload is not None
                    self.given.append(Given(payload, answer.signature))
                elif isinstance(answer, TrothError):
                    self.refused += 1
                self._changed.notify_all()
            if alive:
                try:
                    node.sendall(struct.pack(">I", len(body)) + body)
                except OSError:
                    alive = False
        with suppress(OSError):
            node.shutdown(socket.SHUT_RDWR)
        signer.close()


def _read(stream: socket.socket) -> bytes | None:
    """The body of the next frame; None at the end, also where that comes within a frame."""
    head = _exactly(stream, 4)
    return None if head is None else _exactly(stream, struct.unpack(">I", head)[0])


def _exactly(stream: socket.socket, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        try:
            more = stream.recv(size - len(found))
        except OSError:
            return None
        if not more:
            return None
        found += more
    return found
