"""The node, wired together. `Node.start` reads as the data's way:

HTTP -> submissions (decode, check) -> verifier (worker processes) -> mempool -> producer (vm, state tree)
     -> one atomic synced write -> those who wait, event streams, metrics
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger.errors import Fault, TrothError, Unavailable, define
from ledger.genesis import Genesis
from ledger.keys import PrivateKey
from node.api.server import ApiLimits, ApiServer
from node.chain import Chain, Head
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.log import configure, logger
from node.mempool import Limits, Mempool
from node.metrics import Metrics
from node.producer import Committed, Producer
from node.stores import open_store
from node.submission import Submissions
from node.verifier import Verifier, Workers

if TYPE_CHECKING:
    from node.config import Config
    from node.home import Home

STOPPING = define("E-NODE-003", "the node is stopping", "send it again when the node is back")
PORT_TAKEN = define("E-NODE-004", "the port is taken", "stop what listens there, or choose another port or --instance")
CLOCK_BEHIND = define("E-NODE-005", "the clock is behind the chain", "set the machine's clock (NTP), then start again")
PRODUCER_FAILED = define("E-NODE-006", "making a block failed", "report it with the node's log: this is a defect")

CLOCK_SLACK_MS = 60_000
"""How far the clock may be behind the last block before the node refuses to start."""

STALE_HEARTBEATS = 4
"""A head older than so many heartbeats makes the node not ready."""


class Settings(NamedTuple):
    """What the node needs to know beside genesis and key."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8700
    store_kind: str = "leveldb"
    keep_heights: int = 10_000
    workers: int = 1
    mempool: Limits = Limits()
    api: ApiLimits = ApiLimits()


class Node:
    """A running node of a chain with one validator. Made by `start`, ended by `stop`; `run` does both."""

    def __init__(self, settings: Settings, genesis: Genesis, key: PrivateKey, workers: Workers) -> None:
        self.log = logger()
        self.settings = settings
        self.metrics = Metrics()
        self.stopping = asyncio.Event()
        self.streams = 0
        self.fault: TrothError | None = None
        self._block = asyncio.Event()
        self._workers = workers
        self._store = open_store(settings.store_kind, settings.data)
        try:
            self.chain = Chain(LedgerStore(self._store), registry(), genesis, keep_heights=settings.keep_heights)
            self._check_clock()
            self.verifier = Verifier(workers)
            self.mempool = Mempool(settings.mempool, self.chain.store.has_transaction, self._dropped)
            self.submissions = Submissions(self.chain, self.mempool, self.verifier)
            self.producer = Producer(
                self.chain, self.mempool, key, self._committed, now_ms=self.now_ms, write=self._write
            )
            self.submissions.producer = self.producer
        except BaseException:
            self._store.close()
            raise
        self.api = ApiServer(self, settings.host, settings.port, settings.api)
        self._producing: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """The clock, in ms since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    async def start(self) -> None:
        """Listens and makes blocks. Raises Unavailable (E-NODE-004) where the port is taken."""
        try:
            await self.api.start()
        except OSError as error:
            where = f"{self.settings.host}:{self.settings.port}"
            raise Unavailable(PORT_TAKEN, f"cannot listen on {where}: {error.strerror}") from None
        self._producing = asyncio.create_task(self.producer.run())
        self._producing.add_done_callback(self._producer_ended)
        head = self.chain.head
        self.metrics.height.set(head.height)
        self.log.info("node started", chain=self.chain.genesis.chain_id, height=head.height, port=self.api.port)

    async def stop(self) -> None:
        """Finishes the block in the making, answers what is open, closes the store."""
        self.stopping.set()
        self._block.set()
        self.producer.stop()
        if self._producing is not None:
            await asyncio.wait([self._producing])
        reason = Unavailable(STOPPING, "the node stops before a block could take the transaction")
        self.submissions.stop(reason, outcome_unknown=self.fault is not None)
        await self.api.stop()
        self.verifier.close()
        self._store.close()
        self.log.info("node stopped", height=self.chain.head.height)

    async def next_block(self) -> None:
        """Returns once another block is final, or the node is stopping."""
        await self._block.wait()

    def ready_to_write(self) -> None:
        """Raises Unavailable (E-NODE-003) where no more transactions are taken."""
        if self.stopping.is_set():
            raise Unavailable(STOPPING, "no more transactions are taken")

    def failed(self, error: TrothError) -> None:
        """Stops the node for a fault of the machine: going on could lose or serve what is not so."""
        if isinstance(error, Fault) and self.fault is None:
            self.fault = error
            self.log.error("the node must stop", code=error.code, cause=error.cause, fix=error.fix)
            self.stopping.set()

    def readiness(self) -> dict[str, Any]:
        """Whether the node takes transactions and its head is fresh, with the figures behind it."""
        head = self.chain.head
        age_ms = max(self.now_ms() - head.time_ms, 0)
        fresh = age_ms < STALE_HEARTBEATS * self.chain.genesis.parameters.heartbeat_ms or head.height == 0
        reasons = []
        if self.stopping.is_set():
            reasons.append("the node is stopping")
        if not fresh:
            reasons.append(f"the last block is {age_ms // 1000} s old")
        if len(self.mempool) >= self.settings.mempool.transactions:
            reasons.append("the mempool is full")
        return {
            "ready": not reasons,
            "reasons": reasons,
            "height": head.height,
            "block_age_ms": age_ms,
            "signing": True,
            "peers": 0,
            "mempool": len(self.mempool),
        }

    def refresh_metrics(self) -> None:
        """Brings the figures up to date that are not counted as they happen."""
        metrics = self.metrics
        metrics.mempool_transactions.set(len(self.mempool))
        metrics.mempool_bytes.set(self.mempool.bytes)
        metrics.streams.set(self.streams)
        metrics.submissions(self.submissions.accepted, self.submissions.refused)

    def _check_clock(self) -> None:
        behind = self.chain.head.time_ms - self.now_ms()
        if behind > CLOCK_SLACK_MS:
            raise Fault(CLOCK_BEHIND, f"the last block is {behind // 1000} s ahead of this machine's clock")

    async def _write(self, append: Callable[[], Head]) -> Head:
        return await asyncio.to_thread(append)

    def _committed(self, committed: Committed) -> None:
        self.metrics.block(committed)
        self.submissions.committed(committed)
        self._block.set()
        self._block.clear()

    def _dropped(self, identifier: bytes, error: TrothError) -> None:
        self.submissions.dropped(identifier, error)

    def _producer_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        if isinstance(error, TrothError):
            self.failed(error if isinstance(error, Fault) else Fault(error.code, error.cause, fix=error.fix))
        else:
            self.log.error("the producer failed", exc_info=error)
            self.failed(Fault(PRODUCER_FAILED, f"{type(error).__name__} while a block was made"))
        self.stopping.set()


def settings_of(config: Config, home: Home) -> Settings:
    """The node's settings from the configuration of its home."""
    api, pool = config.api, config.mempool
    return Settings(
        data=home.ledger,
        host=api.host,
        port=api.port,
        store_kind=config.store.kind,
        keep_heights=config.state.keep_heights,
        workers=config.verify_workers,
        mempool=Limits(pool.transactions, pool.bytes, pool.sender_transactions, pool.sender_bytes),
        api=ApiLimits(
            body_bytes=api.body_bytes,
            batch=api.batch_transactions,
            connections=api.connections,
            connections_per_address=api.connections_per_address,
            head_seconds=api.header_timeout_ms / 1000,
            body_seconds=api.body_timeout_ms / 1000,
            keepalive_seconds=api.idle_timeout_ms / 1000,
        ),
    )


def run(
    config: Config, genesis: Genesis, key: PrivateKey, home: Home, *, started: Callable[[Node], None] | None = None
) -> None:
    """Runs a node until SIGINT or SIGTERM (twice: at once). `started` hears of it once it listens.

    Raises what stopped the node, where it was not a signal.
    """
    configure(config.log.level, config.log.format)
    settings = settings_of(config, home)
    # The workers come first: what is forked or spawned later would inherit open databases and sockets.
    workers = Workers(settings.workers)
    try:
        _loop_runner()(_serve(settings, genesis, key, workers, started))
    finally:
        workers.close()


def _loop_runner() -> Callable[[Any], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _serve(
    settings: Settings, genesis: Genesis, key: PrivateKey, workers: Workers, started: Callable[[Node], None] | None
) -> None:
    node = Node(settings, genesis, key, workers)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, node, number)
    # A state of many small tuples makes full collections dear; none of it is cyclic.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        await node.start()
        if started is not None:
            started(node)
        await node.stopping.wait()
    finally:
        await node.stop()
    if node.fault is not None:
        raise node.fault


def _stop(node: Node, number: int) -> None:
    if node.stopping.is_set():
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    node.stopping.set()
