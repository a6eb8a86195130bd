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
from typing import Any

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
KILL_AFTER_SECONDS = (0.05, 1.2)
"""A kill comes at a random moment of this span after the node was last ready."""


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SupervisedNode:
    """A node on a home of its own; killed (-9) `kills` times, at random moments drawn from `seed`."""

    def __init__(
        self, home: Path, genesis: Genesis, port: int, arguments: Sequence[str], kills: int, seed: int
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.restarts = 0
        self._home, self._genesis = home, genesis
        self._arguments = [f"--set=api.port={port}", *arguments]
        self._kills_left = kills
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="troth-demo")
        self._timer: threading.Timer | None = None
        self._closing = False
        self._node = self._start()

    @property
    def pid(self) -> int:
        """The process id of the node as it runs now."""
        return self._node.pid

    @property
    def kills_left(self) -> int:
        """Kills that are still to come."""
        return self._kills_left

    def _start(self) -> NodeProcess:
        node = NodeProcess(self._home, self.url, self._genesis.id().hex(), self._arguments)
        try:
            node.wait_ready()
        except BaseException:
            node.close()
            raise
        if self._kills_left and not self._closing:
            self._timer = threading.Timer(self._random.uniform(*KILL_AFTER_SECONDS), self._kill, (node,))
            self._timer.daemon = True
            self._timer.start()
        return node

    def _kill(self, node: NodeProcess) -> None:
        self._kills_left -= 1
        node.kill()

    def spare(self) -> None:
        """Plans no more kills: for what must be read at one moment."""
        self._kills_left = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self.call(lambda client: client.chain())

    def close(self) -> None:
        """Ends the node and the connections."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
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
