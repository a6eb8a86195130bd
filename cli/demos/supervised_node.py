"""Nodes that a demonstration starts, and starts again whenever one ends unasked, as a service manager would.

What was sent and not answered is sent again, byte for byte: a transaction id is accepted once, so nothing is applied
twice, and what was final before a kill is still there after it. Of several nodes one at a time is killed, and the
next only when it is back; meanwhile the others go on.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from cli.client import NodeClient
from cli.node_process import NodeProcess
from cli.transactions import Outcome, submit
from ledger.errors import Fault, TrothError, Unavailable, VerifyFailed, define
from ledger.genesis import Genesis
from ledger.transaction import SignedTransaction

UNSTABLE = define("E-DEMO-005", "the node does not stay up", "see its messages with -v; run: troth doctor")
DIVERGED = define(
    "E-DEMO-007", "the nodes have different blocks", "keep the homes with --keep, and report it: a defect"
)

BATCH = 150
CONNECTIONS = 4
ATTEMPTS = 40
KILL_WITHIN_SECONDS = 0.15
"""A kill comes at a random moment of this span after a batch is sent."""
LEVEL_SECONDS = 60.0


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """A port of this machine that nothing listens on now."""
    return free_ports(1)[0]


class Kills(NamedTuple):
    """How often to kill (-9) a node while `transactions` are sent, at moments and of nodes drawn from `seed`."""

    times: int
    seed: int
    transactions: int


class Place(NamedTuple):
    """Where a node runs: its home, the address of its API, and the arguments that it is started with."""

    home: Path
    url: str
    arguments: tuple[str, ...]


class SupervisedNodes:
    """The nodes of a chain, each on a home of its own, and several connections to them in turns."""

    def __init__(self, places: Sequence[Place], genesis: Genesis, kills: Kills) -> None:
        self.places = tuple(places)
        self.restarts = 0
        self._genesis = genesis
        self._random = random.Random(kills.seed)
        self._kill_when_sent = sorted(self._random.randrange(kills.transactions) for _ in range(kills.times))
        self._sent = 0
        self._lock = threading.Lock()
        self._reviving = [threading.Lock() for _ in self.places]
        self._local = threading.local()
        self._turns = 0
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="troth-demo")
        self._timers: list[threading.Timer] = []
        self._closing = False
        self._nodes: list[NodeProcess] = []
        try:
            for index in range(len(self.places)):
                self._nodes.append(self._launch(index))
            for node in self._nodes:  # only together they get ready
                node.wait_ready()
        except BaseException:
            for node in self._nodes:
                node.close()
            raise

    @property
    def url(self) -> str:
        """Where the first node answers."""
        return self.places[0].url

    @property
    def pids(self) -> list[int]:
        """The process ids of the nodes as they run now."""
        return [node.pid for node in self._nodes]

    def _launch(self, index: int) -> NodeProcess:
        place = self.places[index]
        name = "the node" if len(self.places) == 1 else f"node {index + 1}"
        return NodeProcess(place.home, place.url, self._genesis.id().hex(), place.arguments, name=name)

    def _count(self, transactions: int) -> None:
        """Counts what is being sent; where a kill is due, it comes while the nodes have that in their hands."""
        with self._lock:
            self._sent += transactions
            while self._kill_when_sent and self._kill_when_sent[0] < self._sent:
                self._kill_when_sent.pop(0)
                victim = self._random.randrange(len(self.places))
                self._plan_kill(victim, self._random.uniform(0, KILL_WITHIN_SECONDS))

    def _plan_kill(self, victim: int, seconds: float) -> None:
        timer = threading.Timer(seconds, self._kill, (victim,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _kill(self, victim: int) -> None:
        with self._lock:
            if self._closing:
                return
            # An earlier kill is not noticed yet, or its node is not back: this one comes after it.
            if any(node.ended(within_seconds=0) for node in self._nodes):
                self._plan_kill(victim, KILL_WITHIN_SECONDS)
            else:
                self._nodes[victim].kill()

    def settle(self) -> int:
        """Waits for the kills that are planned, for all nodes to be back, and at one height at least. Returns it."""
        while self._timers:
            timer = self._timers.pop(0)
            while timer.is_alive():
                self._heights()  # which brings back a node that holds the next kill up
                timer.join(KILL_WITHIN_SECONDS)
        target = max(self._heights())
        deadline = time.monotonic() + LEVEL_SECONDS
        while min(self._heights()) < target:
            if time.monotonic() > deadline:
                raise Unavailable(UNSTABLE, f"not all nodes reach height {target} in {LEVEL_SECONDS:.0f} s")
            time.sleep(0.05)
        return target

    def check_equal(self, height: int) -> None:
        """Raises VerifyFailed (E-DEMO-007) where the nodes have different blocks at a height, and so before it."""
        blocks = {
            self._at(index, lambda client: client.get(f"/blocks/{height}"))["block_id"]
            for index in range(len(self.places))
        }
        if len(blocks) > 1:
            raise VerifyFailed(DIVERGED, f"at height {height} the nodes have the blocks {', '.join(sorted(blocks))}")

    def _heights(self) -> list[int]:
        return [int(self._at(index, lambda client: client.chain())["height"]) for index in range(len(self.places))]

    def close(self) -> None:
        """Ends the nodes and the connections."""
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        self._pool.shutdown(cancel_futures=True)
        for node in self._nodes:
            node.stop()
        for node in self._nodes:
            node.close()

    def call(self, ask: Any) -> Any:
        """What `ask(client)` returns, of the node of this thread; asked again after a restart of that node."""
        return self._at(self._own(), ask)

    def _at(self, index: int, ask: Any) -> Any:
        for _ in range(ATTEMPTS):
            node = self._nodes[index]
            try:
                return ask(self._client(index))
            except Unavailable:
                self._revive(index, node)
        raise Fault(UNSTABLE, f"the node at {self.places[index].url} went away {ATTEMPTS} times during one request")

    def _revive(self, index: int, seen: NodeProcess) -> None:
        with self._reviving[index]:
            if self._nodes[index] is not seen:
                return  # another thread has done it
            if self._closing:
                raise Unavailable(UNSTABLE, "the demonstration is ending")
            if seen.ended(within_seconds=1.0):
                node = self._launch(index)
                try:
                    node.wait_ready()
                except BaseException:
                    node.close()
                    raise
                with self._lock:
                    self.restarts += 1
                    self._nodes[index] = node

    def _own(self) -> int:
        """The index of the node that this thread speaks to: threads take them in turns."""
        index: int | None = getattr(self._local, "index", None)
        if index is None:
            with self._lock:
                index = self._local.index = self._turns % len(self.places)
                self._turns += 1
        return index

    def _client(self, index: int) -> NodeClient:
        clients: dict[int, NodeClient] | None = getattr(self._local, "clients", None)
        if clients is None:
            clients = self._local.clients = {}
        if index not in clients:
            clients[index] = NodeClient(self.places[index].url, timeout_seconds=60)
        return clients[index]

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
