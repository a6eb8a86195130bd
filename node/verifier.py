"""Signature verification in worker processes: the dearest step of a transaction, beside the loop that orders them.

A worker is a process: a thread would have to win the interpreter's lock again after each signature, and beside a busy
loop it rarely does (docs/adr/0005 has the figures). It knows keys and nothing else. It ends when its parent does,
however that ends: it holds no end of the parent's pipe, so reading gives end-of-file.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable
from multiprocessing.connection import Connection
from typing import NamedTuple

from ledger import codec
from ledger.errors import Fault, define
from ledger.keys import verify_many

WORKER_DIED = define("E-NODE-001", "a verification worker died", "look for what killed it (memory?), then start again")

Check = tuple[bytes, bytes, bytes]
"""(public key, message, signature)"""

BATCH = 256
"""Signatures a worker takes at a time: about 15 ms of work."""


def _work(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the worker
    while True:
        try:
            checks = codec.decode_trusted(connection.recv_bytes())
            connection.send_bytes(bytes(verify_many(checks)))
        except (EOFError, OSError):
            return  # the parent is gone, or has closed its end


class _Job(NamedTuple):
    checks: list[Check]
    answer: asyncio.Future[bytes]


class Workers:
    """`count` verification processes. Start them before the process has threads; `close` ends them."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connections: list[Connection] = []
        self._processes = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), name=f"troth-verify-{number}", daemon=True)
            process.start()
            theirs.close()
            self.connections.append(ours)
            self._processes.append(process)

    def close(self) -> None:
        """Ends the workers and waits for them."""
        for connection in self.connections:
            connection.close()
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()

    def verify_stream(self, batches: Iterable[list[Check]]) -> Generator[list[bool], None, None]:
        """The verdicts of each batch, in order, with every worker kept busy two batches ahead. For replay.

        Close it where it is not read to its end: what is under way is then awaited, so the next one starts clean.
        """
        pending: deque[Connection] = deque()
        try:
            for turn, batch in enumerate(batches):
                if len(pending) >= 2 * len(self.connections):
                    yield self._receive(pending.popleft())
                connection = self.connections[turn % len(self.connections)]
                self._send(connection, batch)
                pending.append(connection)
            while pending:
                yield self._receive(pending.popleft())
        finally:
            with contextlib.suppress(Fault):  # a worker that died is said where it matters: at the next send
                for connection in pending:
                    self._receive(connection)

    @staticmethod
    def _send(connection: Connection, batch: list[Check]) -> None:
        try:
            connection.send_bytes(codec.encode_trusted(tuple(batch)))
        except OSError as error:
            raise Fault(WORKER_DIED, f"a verification worker closed its pipe: {error!r}") from error

    @staticmethod
    def _receive(connection: Connection) -> list[bool]:
        try:
            return [bool(byte) for byte in connection.recv_bytes()]
        except (EOFError, OSError) as error:
            raise Fault(WORKER_DIED, f"a verification worker closed its pipe: {error!r}") from error


class Verifier:
    """Verifies for the event loop: `await check(...)`. Checks are joined into batches while workers are busy."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._idle: list[Connection] = list(workers.connections)
        self._running: dict[int, tuple[Connection, list[_Job]]] = {}
        self._failed: Fault | None = None
        for connection in workers.connections:
            self._loop.add_reader(connection.fileno(), self._ready, connection)

    async def check(self, checks: list[Check]) -> bytes:
        """One byte for each check, 1 where the signature verifies. Raises Fault (E-NODE-001) if a worker died."""
        if len(checks) > BATCH:
            # A pipe takes about 200 KB without waiting, and this loop must not wait: larger jobs go in parts.
            parts = [self.check(checks[start : start + BATCH]) for start in range(0, len(checks), BATCH)]
            return b"".join(await asyncio.gather(*parts))
        if self._failed is not None:
            raise self._failed
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append(_Job(checks, answer))
        self._dispatch()
        return await answer

    def close(self) -> None:
        """Stops listening to the workers (which belong to who started them)."""
        for connection in self._workers.connections:
            self._loop.remove_reader(connection.fileno())
        self._fail("the node is stopping")

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            jobs, size = [], 0
            while self._waiting and size + len(self._waiting[0].checks) <= BATCH:
                job = self._waiting.popleft()
                if not job.answer.done():
                    jobs.append(job)
                    size += len(job.checks)
            if not jobs:
                return
            connection = self._idle.pop()
            checks = tuple([check for job in jobs for check in job.checks])
            try:
                connection.send_bytes(codec.encode_trusted(checks))
            except OSError as error:
                self._fail(repr(error), jobs)
                return
            self._running[connection.fileno()] = (connection, jobs)

    def _ready(self, connection: Connection) -> None:
        try:
            verdicts = connection.recv_bytes()
        except (EOFError, OSError) as error:
            self._loop.remove_reader(connection.fileno())
            self._fail(repr(error))
            return
        _, jobs = self._running.pop(connection.fileno())
        self._idle.append(connection)
        start = 0
        for job in jobs:
            end = start + len(job.checks)
            if not job.answer.done():
                job.answer.set_result(verdicts[start:end])
            start = end
        self._dispatch()

    def _fail(self, reason: str, jobs: list[_Job] | None = None) -> None:
        self._failed = Fault(WORKER_DIED, f"a verification worker closed its pipe: {reason}")
        running = [job for _, each in self._running.values() for job in each]
        for job in [*self._waiting, *running, *(jobs or [])]:
            if not job.answer.done():
                job.answer.set_exception(self._failed)
        self._waiting.clear()
        self._running.clear()
