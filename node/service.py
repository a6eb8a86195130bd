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
from consensus.events import Settings as EngineSettings
from consensus.guard import PreparedBlock, Record, check_not_rolled_back, check_prepared_kept, first_record
from consensus.quorum import quorum
from ledger.address import to_text
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
from node.network.peers import Peers, PeerStatus, registered_nodes
from node.network.settings import settings_for
from node.peering import Peering
from node.signer import LocalSigner, Signer
from node.signer_client import RemoteSigner
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
AGREEMENT_FAILED = define("E-NODE-006", "making a block failed", "report it with the node's log: this is a defect")

CLOCK_SLACK_MS = 60_000
"""How far the clock may be behind the last block before the node refuses to start."""

NOT_A_VALIDATOR = define("E-NODE-002", "the key is no validator's", "use the key that the genesis document names")
ALONE = define(
    "E-NODE-007", "the genesis names other nodes than this one", "give this node its node.key: alone it makes no blocks"
)

ROUND_TIMEOUT_MS = 2_000
"""How long the first round of a height may take; each further one twice as long, up to the cap."""

ROUND_TIMEOUT_CAP_MS = 8_000

OWN_SEALS_SOUGHT = 1_000
"""How many heights back the validator's own seal is looked for, to see whether its signing record was rolled back."""

DEV_CHAIN_PREFIX = "dev"
"""Chains whose id begins so are for development: only there do signals cut a node off and heal it."""

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


class Among(NamedTuple):
    """A node's place among others: its key among nodes, where it listens, where it says that it does."""

    identity: NodeIdentity
    listen: Address
    advertise: Address | None = None


class Node:
    """A running node. Made by `start`, ended by `stop`; `run` does both.

    `signer` signs for a validator; without one the node only follows. Where the genesis names nodes, the node meets
    them as `among` says; else it is its chain's only node, which must be the only validator: consensus with itself is
    the smallest case of the same engine.
    """

    def __init__(
        self,
        settings: Settings,
        genesis: Genesis,
        signer: Signer | None,
        workers: Workers,
        among: Among | None = None,
    ) -> None:
        _check_place(genesis, signer, among)
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
            self.peering = Peering(self.chain, self.submissions)
            self.signer = signer
            self.among = among
            self.host = self._make_host()
            self.sync = self._make_sync()
            self.submissions.gossip = self.peering.tell
            self.submissions.wake = self.host.wake
        except BaseException:
            self._store.close()
            raise
        self.api = ApiServer(self, settings.host, settings.port, settings.api)
        self._agreeing: asyncio.Task[None] | None = None

    def _make_host(self) -> ConsensusHost:
        """The engine as the record and the database left it, and its host."""
        chain, genesis = self.chain, self.chain.genesis
        record, address = first_record(genesis.chain_id), bytes(20)
        if self.signer is not None:
            record, address = self.signer.record(), self.signer.address
            _check_record(chain, record, address)
        prepared = chain.store.prepared()
        # An emptied database has lost what the last COMMIT was prepared by. That could only do harm at the record's
        # own height, so the node follows until the others have decided it, and signs from the next one on.
        self._follows_until = 0 if _is_kept(record, prepared) else record.height
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
            prepared_lost=bool(self._follows_until),
        )
        return ConsensusHost(
            chain,
            engine,
            self.signer,
            self.mempool,
            self.verifier,
            self.peering,
            self._committed,
            now_ms=self.now_ms,
            write=self._write,
        )

    def _make_sync(self) -> Sync:
        """Sync, and the peers where there are any."""
        chain, genesis = self.chain, self.chain.genesis
        sync = Sync(chain, self.host, self.peering, quorum(len(chain.validators)) - 1, self._follows_until)
        peers = None
        if self.among is not None:
            network = Network(genesis.chain_id, genesis.id())
            peers = Peers(self.among.identity, network, self.peering, settings_for(genesis.parameters))
            peers.register(registered_nodes(genesis.nodes))
        self.peering.join(self.host, sync, peers)
        return sync

    def cut(self) -> None:
        """Ends all connections with peers and makes none until `heal`. For trying out faults on development chains."""
        if self.peering.peers is not None and self.among is not None:
            own = self.among.identity.certificate
            self.peering.peers.register(
                [node for node in registered_nodes(self.chain.genesis.nodes) if node.certificate == own]
            )
            self.log.warning("cut off from all peers, as told")

    def heal(self) -> None:
        """Takes `cut` back."""
        if self.peering.peers is not None:
            self.peering.peers.register(registered_nodes(self.chain.genesis.nodes))
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
        if self.peering.peers is not None and self.among is not None:
            await self.peering.peers.start(self.among.listen, self.among.advertise)
        self.peering.start()
        self._agreeing = asyncio.create_task(self.host.run())
        self._agreeing.add_done_callback(self._host_ended)
        head = self.chain.head
        self.metrics.height.set(head.height)
        self.log.info("node started", chain=self.chain.genesis.chain_id, height=head.height, port=self.api.port)

    async def stop(self) -> None:
        """Finishes the block in the making, answers what is open, closes the store."""
        self.stopping.set()
        self._block.set()
        self.host.stop()
        if self._agreeing is not None:
            await asyncio.wait([self._agreeing])
        reason = Unavailable(STOPPING, "the node stops before a block could take the transaction")
        self.submissions.stop(reason, outcome_unknown=self.fault is not None)
        await self.peering.stop()
        await self.api.stop()
        if self.signer is not None:
            await self.signer.close()
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
        peers = 0 if self.peering.peers is None else len(self.peering.peers.connected)
        if not self.sync.caught_up:
            reasons.append("the node has not caught up with the others")
        elif peers < self.sync.needed:
            reasons.append(f"{peers} peers are connected, {self.sync.needed} are needed to agree on anything")
        return {
            "ready": not reasons,
            "reasons": reasons,
            "height": head.height,
            "block_age_ms": age_ms,
            "signing": self.host.engine.may_sign,
            "peers": peers,
            "mempool": len(self.mempool),
        }

    def describe(self) -> dict[str, Any]:
        """The node among its peers: where it stands, and how each connection does."""
        engine, peers = self.host.engine, self.peering.peers
        return {
            "height": self.chain.head.height,
            "round": engine.round,
            "phase": engine.phase.name,
            "validator": to_text(engine.address) if engine.address in engine.committee else None,
            "caught_up": self.sync.caught_up,
            "missed_rounds": self.host.missed_rounds,
            "lag_heights": self.sync.lag,
            "peers": [] if peers is None else [self._peer(peer, peers.now()) for peer in peers.status()],
        }

    def _peer(self, peer: PeerStatus, now: float) -> dict[str, Any]:
        left = None if peer.ban is None else max(round(peer.ban.until - now), 0)
        return {
            "node": peer.node.hex(),
            "organisation": peer.organisation,
            "connected": peer.connected,
            "height": self.sync.heights.get(peer.node),
            "remote": peer.remote,
            "rtt_us": None if peer.rtt_ms is None else round(peer.rtt_ms * 1000),
            "ban": None if peer.ban is None else {"reason": peer.ban.reason.word, "seconds_left": left},
            "last_end": peer.last_end,
        }

    def refresh_metrics(self) -> None:
        """Brings the figures up to date that are not counted as they happen."""
        metrics = self.metrics
        metrics.mempool_transactions.set(len(self.mempool))
        metrics.mempool_bytes.set(self.mempool.bytes)
        metrics.streams.set(self.streams)
        taken = self.submissions
        metrics.submissions(taken.accepted, taken.refused, taken.decode_seconds)

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

    def _host_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        if isinstance(error, TrothError):
            self.failed(error if isinstance(error, Fault) else Fault(error.code, error.cause, fix=error.fix))
        else:
            self.log.error("agreement failed", exc_info=error)
            self.failed(Fault(AGREEMENT_FAILED, f"{type(error).__name__} while a block was made"))
        self.stopping.set()


def _check_place(genesis: Genesis, signer: Signer | None, among: Among | None) -> None:
    """Raises Invalid where the genesis gives this node nothing to do: E-NODE-002, E-NODE-007."""
    validates = signer is not None and any(each.address == signer.address for each in genesis.validators)
    if signer is not None and not validates:
        raise Invalid(NOT_A_VALIDATOR, f"key {signer.public_key.hex()} is no validator's of {genesis.chain_id}")
    if among is None and (genesis.nodes or not validates or len(genesis.validators) != 1):
        others = f"{len(genesis.validators)} validators and {len(genesis.nodes)} nodes"
        raise Invalid(ALONE, f"the genesis of {genesis.chain_id} names {others}")


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
    config: Config,
    genesis: Genesis,
    key: PrivateKey | None,
    home: Home,
    *,
    started: Callable[[Node], None] | None = None,
) -> None:
    """Runs a node until SIGINT or SIGTERM (twice: at once). `started` hears of it once it listens.

    `key` is the validator's, None where a signer of its own holds it or the node only follows. Raises what stopped the
    node, where it was not a signal.
    """
    configure(config.log.level, config.log.format)
    settings = settings_of(config, home)
    # The workers come first: what is forked or spawned later would inherit open databases and sockets.
    workers = Workers(settings.workers)
    try:
        _loop_runner()(_serve(settings, genesis, config, key, home, workers, started))
    finally:
        workers.close()


def _loop_runner() -> Callable[[Any], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _signer(config: Config, genesis: Genesis, key: PrivateKey | None, home: Home) -> Signer | None:
    """Who signs: the signer process that the settings name, else the key with the record of this home."""
    socket = config.signer_socket
    if socket is not None:
        return await RemoteSigner.open(socket, genesis.chain_id)
    return None if key is None else LocalSigner(key, RecordFile(home.signing_record))


def _among(config: Config, home: Home) -> Among:
    network = config.network
    advertise = parse_address(network.advertise) if network.advertise else None
    return Among(load_node_key(home), Address(network.host, network.port), advertise)


async def _serve(
    settings: Settings,
    genesis: Genesis,
    config: Config,
    key: PrivateKey | None,
    home: Home,
    workers: Workers,
    started: Callable[[Node], None] | None,
) -> None:
    signer = await _signer(config, genesis, key, home)
    try:
        node = Node(settings, genesis, signer, workers, _among(config, home) if genesis.nodes else None)
    except BaseException:
        if signer is not None:
            await signer.close()
        raise
    await serve(node, started)


async def serve(node: Node, started: Callable[[Node], None] | None = None) -> None:
    """Runs a node on this loop until a signal or a fault; raises the fault."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, node, number)
    if node.chain.genesis.chain_id.startswith(DEV_CHAIN_PREFIX):
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
