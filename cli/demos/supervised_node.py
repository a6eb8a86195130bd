"""A node that a demonstration starts, and starts again whenever it ends unasked, as a service manager would.

What was sent and not answered is sent again, byte for byte: a transaction id is accepted once, so nothing is applied
twice, and what was final before a kill is still there after it.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from cli.client import NodeClient
from cli.node_process import NodeProcess
from cli.transactions import Outcome, submit
from ledger.errors import Fault, TrothError, Unavailable, define
from ledger.genesis import Genesis
from ledger.transaction import SignedTransaction

UNSTABLE = define("E-DEMO-005", "the node does not stay up", "see its messages with -v; run: troth doctor")

BATCH = 150
CONNECTIONS = 4
ATTEMPTS = 40
KILL_WITHIN_SECONDS = 0.15
"""A kill comes at a random moment of this span after a batch is sent."""


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Kills(NamedTuple):
    """How often to kill (-9) the node while `transactions` are sent, at moments drawn from `seed`."""

    times: int
    seed: int
    transactions: int


class SupervisedNode:
    """A node on a home of its own, and several connections to it."""

    def __init__(self, home: Path, genesis: Genesis, port: int, arguments: Sequence[str], kills: Kills) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.restarts = 0
        self._home, self._genesis = home, genesis
        self._arguments = [f"--set=api.port={port}", *arguments]
        self._random = random.Random(kills.seed)
        self._kill_when_sent = sorted(self._random.randrange(kills.transactions) for _ in range(kills.times))
        self._sent = 0
        self._lock = threading.Lock()
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="troth-demo")
        self._timers: list[threading.Timer] = []
        self._closing = False
        self._node = self._start()

    @property
    def pid(self) -> int:
        """The process id of the node as it runs now."""
        return self._node.pid

    def _start(self) -> NodeProcess:
        node = NodeProcess(self._home, self.url, self._genesis.id().hex(), self._arguments)
        try:
            node.wait_ready()
        except BaseException:
            node.close()
            raise
        return node

    def _count(self, transactions: int) -> None:
        """Counts what is being sent; where a kill is due, it comes while the node has that in its hands."""
        with self._lock:
            self._sent += transactions
            while self._kill_when_sent and self._kill_when_sent[0] < self._sent:
                self._kill_when_sent.pop(0)
                self._plan_kill(self._random.uniform(0, KILL_WITHIN_SECONDS))

    def _plan_kill(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _kill(self) -> None:
        with self._lock:
            if self._closing:
                return
            if self._node.ended(within_seconds=0):  # an earlier kill is not noticed yet: this one comes after it
                self._plan_kill(KILL_WITHIN_SECONDS)
            else:
                self._node.kill()

    def settle(self) -> None:
        """Waits for the kills that are planned, and for the node to be back after them."""
        while self._timers:
            self._timers.pop(0).join()
            self.call(lambda client: client.chain())

    def close(self) -> None:
        """Ends the node and the connections."""
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        self._pool.shutdown(cancel_futures=True)
        self._node.close()

    def call(self, ask: Any) -> Any:
        """What `ask(client)` returns; asked again after a restart where the node went away meanwhile."""
        for _ in range(ATTEMPTS):
            node = self._node
            try:
                return ask(self._client())
            except Unavailable:
                self._revive(node)
        raise Fault(UNSTABLE, f"the node at {self.url} went away {ATTEMPTS} times during one request")

    def _revive(self, seen: NodeProcess) -> None:
        with self._lock:
            if self._node is not seen:
                return  # another thread has done it
            if self._closing:
                raise Unavailable(UNSTABLE, "the demonstration is ending")
            if seen.ended(within_seconds=1.0):
                self.restarts += 1
                self._node = self._start()

    def _client(self) -> NodeClient:
        client: NodeClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = NodeClient(self.url, timeout_seconds=60)
        return client

    def send(self, signed: Sequence[SignedTransaction]) -> list[Future[list[Outcome]]]:
        """Sends transactions over several connections; each future gives the outcomes of one batch, all final."""
        batches = [signed[start : start + BATCH] for start in range(0, len(signed), BATCH)]
        return [self._pool.submit(self._send_batch, batch) for batch in batches]

    def _send_batch(self, batch: Sequence[SignedTransaction]) -> list[Outcome]:
        self._count(len(batch))
        outcomes: list[Outcome] = self.call(lambda client: submit(client, batch))
        for outcome in outcomes:
            if outcome.status == "waiting":
                raise Unavailable(UNSTABLE, f"transaction {outcome.id} is not final in time")
        return outcomes

    def each(self, ask: Any, items: Sequence[Any]) -> list[Any]:
        """`ask(client, item)` for each item, over several connections, in order."""
        return list(self._pool.map(lambda item: self.call(lambda client: ask(client, item)), items))


def all_final(futures: Sequence[Future[list[Outcome]]]) -> list[Outcome]:
    """The outcomes of sent batches. Raises the first error."""
    outcomes: list[Outcome] = []
    failed: TrothError | None = None
    for future in futures:
        try:
            outcomes += future.result()
        except TrothError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return outcomes
