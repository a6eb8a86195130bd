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

from consensus.engine import Engine
from consensus.engine import Settings as EngineSettings
from consensus.guard import PreparedBlock, Record, check_not_rolled_back, check_prepared_kept, first_record
from consensus.quorum import quorum
from ledger.address import address_of, to_text
from ledger.errors import Fault, Invalid, Refused, TrothError, Unavailable, define
from ledger.genesis import Genesis
from ledger.keys import PrivateKey
from ledger.node_address import Address, parse_address
from node.api.server import ApiLimits, ApiServer
from node.chain import Chain, Head
from node.committed import Committed
from node.consensus_host import ConsensusHost
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.log import configure, logger
from node.mempool import Limits, Mempool
from node.metrics import Metrics
from node.network.handshake import Network
from node.network.node_key import NodeIdentity, load_node_key
from node.network.peers import Peers, RegisteredNode
from node.network.settings import settings_for
from node.peering import Peering
from node.producer import Producer
from node.signer import LocalSigner, Signer
from node.signing_record import RecordFile
from node.stores import open_store
from node.submission import Submissions
from node.sync import Sync
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

ALONE = define(
    "E-NODE-007", "the genesis names other nodes than this one", "give this node its node.key: alone it makes no blocks"
)

ROUND_TIMEOUT_MS = 2_000
"""How long the first round of a height may take; each further one twice as long, up to the cap."""

ROUND_TIMEOUT_CAP_MS = 8_000

OWN_SEALS_SOUGHT = 1_000
"""How many heights back the validator's own seal is looked for, to see whether its signing record was rolled back."""

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


class Membership(NamedTuple):
    """A node's place among others: who signs for it (None: it only follows), its key among nodes, where it listens."""

    signer: Signer | None
    identity: NodeIdentity
    listen: Address
    advertise: Address | None = None


class Node:
    """A running node. Made by `start`, ended by `stop`; `run` does both.

    Where the genesis names nodes, it agrees with them on blocks and needs `membership`; else it is a chain's only
    node, and `key` makes the blocks.
    """

    def __init__(
        self,
        settings: Settings,
        genesis: Genesis,
        key: PrivateKey | None,
        workers: Workers,
        membership: Membership | None = None,
    ) -> None:
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
            self.peering: Peering | None = None
            self.sync: Sync | None = None
            self.membership = membership
            self.producer: Producer | ConsensusHost
            if membership is not None:
                self.producer = self._join(membership)
            elif key is not None and not genesis.nodes:
                self.producer = Producer(
                    self.chain, self.mempool, key, self._committed, now_ms=self.now_ms, write=self._write
                )
            else:
                raise Invalid(ALONE, f"the genesis of {genesis.chain_id} names {len(genesis.nodes)} nodes")
            self.submissions.wake = self.producer.wake
        except BaseException:
            self._store.close()
            raise
        self.api = ApiServer(self, settings.host, settings.port, settings.api)
        self._producing: asyncio.Task[None] | None = None

    def _join(self, membership: Membership) -> ConsensusHost:
        """Engine, host, sync and peers of a chain with several nodes."""
        chain, genesis = self.chain, self.chain.genesis
        signer = membership.signer
        record = first_record(genesis.chain_id) if signer is None else signer.record()
        address = bytes(20) if signer is None else signer.address
        if signer is not None:
            _check_record(chain, record, address)
        prepared = chain.store.prepared()
        # An emptied database has lost what the last COMMIT was prepared by. That could only do harm at the record's
        # own height, so the node follows until the others have decided it, and signs from the next one on.
        lost = not _is_kept(record, prepared)
        engine = Engine(
            genesis.chain_id,
            address,
            record,
            prepared,
            EngineSettings(
                block_interval_ms=0,  # the host keeps it: see `ConsensusHost`
                timeout_ms=ROUND_TIMEOUT_MS,
                timeout_cap_ms=ROUND_TIMEOUT_CAP_MS,
            ),
            prepared_lost=lost,
        )
        self.peering = Peering(chain, self.submissions)
        host = ConsensusHost(
            chain,
            engine,
            signer,
            self.mempool,
            self.verifier,
            self.peering,
            self._committed,
            now_ms=self.now_ms,
            write=self._write,
        )
        self.sync = Sync(chain, host, self.peering, quorum(len(chain.validators)) - 1, record.height if lost else 0)
        peers = Peers(
            membership.identity,
            Network(genesis.chain_id, genesis.id()),
            self.peering,
            settings_for(genesis.parameters),
        )
        self._registered = [
            RegisteredNode(node.organisation, node.certificate, tuple([parse_address(each) for each in node.addresses]))
            for node in genesis.nodes
        ]
        peers.register(self._registered)
        self.peering.join(host, self.sync, peers)
        self.submissions.gossip = self.peering.tell
        return host

    def cut(self) -> None:
        """Ends all connections with peers and makes none until `heal`. For trying out faults on development chains."""
        if self.peering is not None and self.peering.peers is not None and self.membership is not None:
            own = self.membership.identity.certificate
            self.peering.peers.register([node for node in self._registered if node.certificate == own])
            self.log.warning("cut off from all peers, as told")

    def heal(self) -> None:
        """Takes `cut` back."""
        if self.peering is not None and self.peering.peers is not None:
            self.peering.peers.register(self._registered)
            self.log.warning("connecting with peers again, as told")

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
        if self.peering is not None and self.peering.peers is not None and self.membership is not None:
            await self.peering.peers.start(self.membership.listen, self.membership.advertise)
            self.peering.start()
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
        if self.peering is not None:
            await self.peering.stop()
        await self.api.stop()
        if self.membership is not None and self.membership.signer is not None:
            await self.membership.signer.close()
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
        peers, caught_up, signing = 0, True, True
        if self.peering is not None and self.peering.peers is not None and self.sync is not None:
            assert isinstance(self.producer, ConsensusHost)
            peers, caught_up = len(self.peering.peers.connected), self.sync.caught_up
            signing = self.producer.engine.may_sign
            if not caught_up:
                reasons.append("the node has not caught up with the others")
            elif peers < self.sync.needed:
                reasons.append(f"{peers} peers are connected, {self.sync.needed} are needed to agree on anything")
        return {
            "ready": not reasons,
            "reasons": reasons,
            "height": head.height,
            "block_age_ms": age_ms,
            "signing": signing,
            "peers": peers,
            "mempool": len(self.mempool),
        }

    def describe(self) -> dict[str, Any]:
        """The node among its peers: where it stands, and how each connection does."""
        height, chain = self.chain.head.height, self.chain
        described: dict[str, Any] = {
            "height": height,
            "round": 0,
            "phase": "ALONE",
            "validator": None,
            "caught_up": True,
            "missed_rounds": 0,
            "lag_heights": 0,
            "peers": [],
        }
        if self.peering is None or self.peering.peers is None or self.sync is None:
            described["validator"] = to_text(chain.validators[0].address)
            return described
        assert isinstance(self.producer, ConsensusHost)
        engine = self.producer.engine
        now = self.peering.peers.now()
        described |= {
            "round": engine.round,
            "phase": engine.phase.name,
            "validator": to_text(engine.address) if engine.address in engine.committee else None,
            "caught_up": self.sync.caught_up,
            "missed_rounds": self.producer.missed_rounds,
            "lag_heights": self.sync.lag,
            "peers": [
                {
                    "node": peer.node.hex(),
                    "organisation": peer.organisation,
                    "connected": peer.connected,
                    "height": self.sync.heights.get(peer.node),
                    "remote": peer.remote,
                    "rtt_us": None if peer.rtt_ms is None else round(peer.rtt_ms * 1000),
                    "ban": None
                    if peer.ban is None
                    else {"reason": peer.ban.reason.word, "seconds_left": max(round(peer.ban.until - now), 0)},
                    "last_end": peer.last_end,
                }
                for peer in self.peering.peers.status()
            ],
        }
        return described

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


def _is_kept(record: Record, prepared: PreparedBlock | None) -> bool:
    try:
        check_prepared_kept(record, prepared)
    except Refused:
        return False
    return True


def _check_record(chain: Chain, record: Record, address: bytes) -> None:
    """Raises Refused (E-GUARD-004) where the chain holds a COMMIT of this validator that its record does not know."""
    for height in range(chain.head.height, max(chain.head.height - OWN_SEALS_SOUGHT, 0), -1):
        certificate = chain.store.certificate(height)
        if any(seal.validator == address for seal in certificate.seals):
            check_not_rolled_back(record, height, certificate.round)
            return


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
    membership = _membership(config, genesis, key, home) if genesis.nodes else None
    # The workers come first: what is forked or spawned later would inherit open databases and sockets.
    workers = Workers(settings.workers)
    try:
        _loop_runner()(_serve(settings, genesis, key, workers, started, membership))
    finally:
        workers.close()


def _loop_runner() -> Callable[[Any], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _membership(config: Config, genesis: Genesis, key: PrivateKey, home: Home) -> Membership:
    """Node key, signing record and addresses of a node among others."""
    network = config.network
    validates = any(validator.address == address_of(key.public) for validator in genesis.validators)
    return Membership(
        LocalSigner(key, RecordFile(home.signing_record)) if validates else None,
        load_node_key(home),
        Address(network.host, network.port),
        parse_address(network.advertise) if network.advertise else None,
    )


async def _serve(
    settings: Settings,
    genesis: Genesis,
    key: PrivateKey,
    workers: Workers,
    started: Callable[[Node], None] | None,
    membership: Membership | None = None,
) -> None:
    node = Node(settings, genesis, key, workers, membership)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, node, number)
    if membership is not None:
        loop.add_signal_handler(signal.SIGUSR1, node.cut)
        loop.add_signal_handler(signal.SIGUSR2, node.heal)
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
