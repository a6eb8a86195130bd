"""The signer as a process of its own: it holds the key and the record, and answers on a Unix socket in its home.

    accept -> same user? -> HELLO: this chain, nobody else connected -> SIGN, SIGN, ... (`node.signer.GuardedKey`)
                         -> STATUS: report, end

Rules kept here:
- one node at a time: a second one is refused for as long as the first is connected, and told which process that is;
- a signature leaves after its record is durable. Whoever asked may be gone by then: asking for the same again is safe;
- whoever sends what the protocol does not know is disconnected with the reason; nobody waits for a slow one, since
  the rest of a frame that was begun, and the taking of an answer, have a limit of time;
- a fault of the disk is answered, and then the process ends: what is on the disk is no longer known;
- who may make the socket holds the record's lock, so a socket that lies there is a dead one's, and is removed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ledger.address import to_text
from ledger.errors import Fault, Forbidden, Invalid, Refused, TrothError, Unavailable, define
from node.log import logger
from node.signer import GuardedKey
from node.signer_protocol import (
    BAD_MESSAGE,
    BUSY,
    SOCKET_FAILED,
    WRONG_CHAIN,
    Answer,
    Hello,
    Peer,
    Report,
    Request,
    Sign,
    Signature,
    Status,
    Welcome,
    check_path,
    check_peer,
    check_version,
    decode_request,
    encode_answer,
    peer_of,
    read_body,
)

FAILED = define("E-SIGNER-011", "the signer failed", "report it with the signer's log: this is a defect")

CONNECTIONS_MAX = 8
"""Connections at a time: one node, one that wants its place, and some that look."""


class Patience(NamedTuple):
    """How long the signer waits: for a first request, for the rest of a frame, for an answer to be taken."""

    first_seconds: float = 5.0
    frame_seconds: float = 5.0
    answer_seconds: float = 5.0


class SignerServer:
    """Serves one key until stopped. `fault` is what stopped it, where it was not asked to."""

    def __init__(self, guarded: GuardedKey, socket_path: Path, patience: Patience | None = None) -> None:
        self.path = socket_path
        self.stopping = asyncio.Event()
        self.fault: TrothError | None = None
        self._guarded = guarded
        self._patience = patience or Patience()
        self._node: Peer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._log = logger()

    async def start(self) -> None:
        """Listens. Raises Invalid (E-SIGNER-009) for too long a path, Refused and Fault (E-SIGNER-010)."""
        self._server = await asyncio.start_unix_server(self._accept, sock=_bound(self.path))
        record = self._guarded.record()
        self._log.info("signer started", address=to_text(self._guarded.address), chain=record.chain_id)

    async def stop(self) -> None:
        """Ends all connections and removes the socket. The signature at hand was made, or is not begun."""
        self.stopping.set()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self.path.unlink(missing_ok=True)
        self._guarded.close()
        self._log.info("signer stopped")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX or self.stopping.is_set():
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("the signer failed", exc_info=error)
            self._stop_for(Fault(FAILED, f"{type(error).__name__} while a request was answered"))

    def _stop_for(self, fault: TrothError) -> None:
        self.fault = self.fault or fault
        self._log.error("the signer must stop", code=fault.code, cause=fault.cause, fix=fault.fix)
        self.stopping.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its end."""
        peer = peer_of(writer.get_extra_info("socket"))
        try:
            check_peer(peer)
            async with asyncio.timeout(self._patience.first_seconds):
                request = await self._next(reader)
            if isinstance(request, Status):
                check_version(request.version)
                await self._answer(writer, self._report())
            elif isinstance(request, Hello):
                await self._serve_node(peer, request, reader, writer)
            elif request is not None:
                raise Invalid(BAD_MESSAGE, "the first request must be HELLO or STATUS")
        except (Invalid, Refused, Forbidden, Unavailable) as error:
            self._log.warning("connection refused", pid=peer.pid, code=error.code, cause=error.cause)
            with suppress(ConnectionError, TimeoutError):
                await self._answer(writer, error)
        except Fault as fault:
            with suppress(ConnectionError, TimeoutError):
                await self._answer(writer, fault)
            self._stop_for(fault)
        except (ConnectionError, TimeoutError) as error:
            self._log.warning("connection lost", pid=peer.pid, cause=str(error) or "it was too slow")
        finally:
            writer.close()

    async def _serve_node(
        self, peer: Peer, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        check_version(hello.version)
        guarded = self._guarded
        record = guarded.record()
        if hello.chain_id != record.chain_id:
            raise Refused(WRONG_CHAIN, f"asked for {hello.chain_id}, and the record is of {record.chain_id}")
        if self._node is not None:
            raise Unavailable(BUSY, f"a node (pid {self._node.pid}) is connected")
        self._node = peer
        try:
            self._log.info("node connected", pid=peer.pid)
            await self._answer(writer, Welcome(guarded.address, guarded.public_key, record))
            while (request := await self._next(reader)) is not None:
                if not isinstance(request, Sign):
                    raise Invalid(BAD_MESSAGE, "after HELLO there is nothing but SIGN")
                await self._answer(writer, self._sign(request.payload))
        finally:
            self._node = None
            self._log.info("node gone", pid=peer.pid)

    def _sign(self, payload: bytes) -> Answer:
        """The signature, or why there is none. Raises Fault. It holds up the others: there is but one key."""
        try:
            return Signature(self._guarded.sign(payload))
        except (Invalid, Refused) as refusal:
            self._log.warning("not signed", code=refusal.code, cause=refusal.cause)
            return refusal

    def _report(self) -> Report:
        guarded = self._guarded
        return Report(guarded.address, guarded.public_key, guarded.record(), self._node is not None)

    async def _next(self, reader: asyncio.StreamReader) -> Request | None:
        body = await read_body(reader, self._patience.frame_seconds)
        return None if body is None else decode_request(body)

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        writer.write(encode_answer(answer))
        async with asyncio.timeout(self._patience.answer_seconds):
            await writer.drain()


def run_signer(guarded: GuardedKey, socket_path: Path, *, started: Callable[[], None] | None = None) -> None:
    """Serves until SIGINT or SIGTERM. `started` hears of it once it listens. Raises what stopped it otherwise."""
    asyncio.run(_run(guarded, socket_path, started))


async def _run(guarded: GuardedKey, socket_path: Path, started: Callable[[], None] | None) -> None:
    server = SignerServer(guarded, socket_path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stopping.set)
    try:
        await server.start()
        if started is not None:
            started()
        await server.stopping.wait()
    finally:
        await server.stop()
    if server.fault is not None:
        raise server.fault


def _bound(path: Path) -> socket.socket:
    """A socket at `path`, of mode 0600. Nobody can connect before it listens, by when it has its mode."""
    check_path(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(SOCKET_FAILED, f"{path} is there, and is no socket", fix="move it away")
        path.unlink(missing_ok=True)
        made.bind(os.fspath(path))
        path.chmod(0o600)
    except OSError as error:
        made.close()
        raise Fault(SOCKET_FAILED, f"{path}: {error.strerror or error}") from error
    except Refused:
        made.close()
        raise
    return made
