"""Networks of several validators as real processes on free loopback ports, for tests of faults.

    with NetworkOfNodes.create(folder) as network:      four homes with one genesis, all started
        network.kill(3); network.start(3)               kill -9, and again on the same home
        network.pause(1); network.resume(1)             SIGSTOP, SIGCONT
        network.cut(2); network.heal(2)                 off the network, and on it again
        network.assert_equal()                          one head, and the same blocks everywhere

Nodes are numbered from 0. All keys are public development keys: node i has that of `validator-(i + 1)` and belongs to
the i-th of BRANDS. The genesis also names nodes of guests, which have no validator: a `Guest` is run in the test's own
process, to hear every vote or to misbehave.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from cli.client import NodeClient
from cli.new_home import Brand, Seat, compose_genesis, dev_keys, write_home
from consensus.messages import Decided, Kind, Message, decode, kind_of, signed_payload, statements
from ledger import codec
from ledger.block import Block, Certificate, certificate_of, decode_block
from ledger.errors import TrothError
from ledger.genesis import Genesis, Node, Parameters
from ledger.keys import PrivateKey
from ledger.transaction import SignedTransaction
from ledger.transaction import decode as decode_transaction
from node.home import Home
from node.keystore import dev_key
from node.network.bans import Reason
from node.network.frames import Channel
from node.network.handshake import Network
from node.network.node_key import NodeIdentity, create_node_key, load_node_key
from node.network.peers import Handler, Peers, registered_nodes
from node.network.settings import Settings, settings_for
from tests.end_to_end.nodes import CHAIN_ID, NodeProcess, free_port
from tests.end_to_end.requests import create, mint, signed

BRANDS = (
    Brand("roaster", "The Roaster"),
    Brand("grocer", "The Grocer"),
    Brand("bank", "The Bank"),
    Brand("airline", "The Airline"),
)
LIVELY = Parameters(block_interval_ms=100, heartbeat_ms=1_000)
"""An idle chain makes a block a second, so that a test sees that it lives."""

WAIT_SECONDS = 60.0
PAGE = 500
RAW_KEPT = 2_000
T = TypeVar("T")


class Sealed(NamedTuple):
    """A final block as a node has it: its canonical bytes, what they say, and its certificate there."""

    data: bytes
    block: Block
    certificate: Certificate


class NetworkOfNodes:
    """The processes. Ends only those that it started."""

    def __init__(self, folder: Path, genesis: Genesis, nodes: Sequence[NodeProcess]) -> None:
        self.folder = folder
        self.genesis = genesis
        self.nodes = list(nodes)
        self.paused: set[int] = set()

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        count: int = 4,
        parameters: Parameters = LIVELY,
        settings: Mapping[str, int | str] | None = None,
        hosts: Sequence[str] = (),
        prefixes: Sequence[Sequence[str]] = (),
        guests: int = 1,
    ) -> NetworkOfNodes:
        """Homes of `count` validators and one genesis; nothing is started. `settings` go into each config.toml.

        `hosts` are the nodes' addresses and `prefixes` what goes before their command lines, where they run in network
        namespaces of their own.
        """
        hosts = hosts or ["127.0.0.1"] * count
        prefixes = prefixes or [()] * count
        homes = [folder / f"node-{index}" for index in range(count)]
        ports = [(free_port(), free_port()) for _ in range(count)]
        identities = [create_node_key(Home.create(home)) for home in homes]
        seats = [
            Seat(brand.id, validator_key(index).public, identity.certificate, (f"{host}:{port}",))
            for index, (brand, identity, host, (_, port)) in enumerate(
                zip(BRANDS, identities, hosts, ports, strict=False)
            )
        ]
        brands = BRANDS[: max(count, 2)]
        public_keys = {label: key.public for label, key in dev_keys(brands).items()}
        began = time.time_ns() // 1_000_000
        genesis = compose_genesis(CHAIN_ID, began, brands, public_keys, parameters, seats)
        keys = [create_node_key(Home.create(folder / f"guest-{number}")) for number in range(guests)]
        visiting = [Node(BRANDS[0].id, key.certificate, ()) for key in keys]
        genesis = genesis._replace(nodes=tuple(sorted([*genesis.nodes, *visiting])))
        nodes = []
        for index, (home, host, prefix) in enumerate(zip(homes, hosts, prefixes, strict=True)):
            api, port = ports[index]
            own: dict[str, int | str] = {
                "api.host": host,
                "api.port": api,
                "network.host": host,
                "network.port": port,
                "node.workers": 1,
                "validator.key": f"dev:validator-{index + 1}",
                **(settings or {}),
            }
            write_home(home, genesis, dev=True, settings=own)
            nodes.append(NodeProcess(home, api, host=host, prefix=prefix))
        return cls(folder, genesis, nodes)

    def __enter__(self) -> NetworkOfNodes:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def all(self) -> tuple[int, ...]:
        """The numbers of all nodes."""
        return tuple(range(len(self.nodes)))

    def _among(self, indexes: Iterable[int]) -> list[int]:
        return list(indexes) or list(self.all)

    # Faults

    def start(self, *indexes: int) -> None:
        """Starts nodes (all of them unless told), together, and waits until their APIs answer."""
        self._each(lambda index: self.nodes[index].start(), self._among(indexes))

    def kill(self, *indexes: int) -> None:
        """kill -9 of nodes (all of them unless told) and their workers."""
        for index in self._among(indexes):
            self.nodes[index].kill()
            self.paused.discard(index)

    def stop(self, *indexes: int) -> None:
        """Asks nodes to end, and waits until they have ended well."""
        assert self._each(lambda index: self.nodes[index].stop(), self._among(indexes)) == [0] * len(
            self._among(indexes)
        )

    def pause(self, *indexes: int) -> None:
        """Stops the clock of nodes: SIGSTOP."""
        for index in indexes:
            self._signal(index, signal.SIGSTOP)
            self.paused.add(index)

    def resume(self, *indexes: int) -> None:
        """Lets paused nodes go on."""
        for index in indexes:
            self._signal(index, signal.SIGCONT)
            self.paused.discard(index)

    def cut(self, *indexes: int) -> None:
        """Has nodes end all connections with others and make none, until `heal`; waits until they have."""
        for index in indexes:
            self._signal(index, signal.SIGUSR1)
        for index in indexes:
            self.wait(partial(self._is_alone, index), f"node {index} is cut off")

    def _is_alone(self, index: int) -> bool:
        return not self.connected(index)

    def heal(self, *indexes: int) -> None:
        """Lets nodes connect again."""
        for index in indexes:
            self._signal(index, signal.SIGUSR2)

    def _signal(self, index: int, number: signal.Signals) -> None:
        os.kill(self.nodes[index].pid, number)

    def _each(self, act: Callable[[int], T], indexes: Sequence[int]) -> list[T]:
        if len(indexes) == 1:
            return [act(indexes[0])]
        with ThreadPoolExecutor(len(indexes)) as pool:
            futures: list[Future[T]] = [pool.submit(act, index) for index in indexes]
            return [future.result() for future in futures]

    # Looking

    def client(self, index: int, timeout_seconds: float = 10.0) -> NodeClient:
        """A client of a node's API."""
        return self.nodes[index].client(timeout_seconds)

    def describe(self, index: int) -> dict[str, Any]:
        """`GET /v1/node`."""
        with self.client(index) as client:
            return client.node()

    def connected(self, index: int) -> set[str]:
        """The ids of the nodes that a node is connected with, in hexadecimal."""
        return {peer["node"] for peer in self.describe(index)["peers"] if peer["connected"]}

    def peer(self, index: int, other: bytes) -> dict[str, Any]:
        """What a node says of one of its peers."""
        found: dict[str, Any] = next(peer for peer in self.describe(index)["peers"] if peer["node"] == other.hex())
        return found

    def identity(self, index: int) -> NodeIdentity:
        """The node key of a node."""
        return load_node_key(Home(self.nodes[index].home))

    def guest(self, number: int) -> NodeIdentity:
        """The node key of a guest."""
        return load_node_key(Home(self.folder / f"guest-{number}"))

    def head(self, index: int) -> tuple[int, str, str]:
        """Where a node stands: height, block id, state root."""
        with self.client(index) as client:
            chain = client.chain()
        return chain["height"], chain["block_id"], chain["state_root"]

    def height(self, index: int) -> int:
        """The height of a node."""
        return self.head(index)[0]

    def blocks(self, index: int) -> list[Sealed]:
        """All blocks of a node from height 1 up."""
        found: list[Sealed] = []
        with self.client(index, 30.0) as client:
            while True:
                body = client.get_bytes("/export", **{"from": len(found) + 1, "limit": PAGE})
                if not body:
                    return found
                while body:
                    size = int.from_bytes(body[:4], "big")
                    raw, certificate = codec.decode(body[4 : 4 + size], max_bytes=64 << 20)
                    found.append(Sealed(raw, decode_block(raw), certificate_of(certificate)))
                    body = body[4 + size :]

    # Waiting

    def wait(self, condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> float:
        """Waits until it holds and returns the seconds that took. Fails with the logs of all nodes."""
        began = time.monotonic()
        while True:
            try:
                if condition():
                    return time.monotonic() - began
                cause: object = ""
            except TrothError as error:
                cause = error
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not within {seconds:g} s: {what} {cause}\n{self.logs()}")
            time.sleep(0.05)

    def wait_progress(self, *indexes: int, blocks: int = 2, seconds: float = WAIT_SECONDS) -> float:
        """Waits until each of these nodes has so many more blocks; returns the seconds that took."""
        among = self._among(indexes)
        before = {index: self.height(index) for index in among}
        return self.wait(
            lambda: all(self.height(index) >= before[index] + blocks for index in among),
            f"nodes {among} make progress from {before}",
            seconds,
        )

    def wait_caught_up(self, *indexes: int, seconds: float = WAIT_SECONDS) -> float:
        """Waits until these nodes say that they have caught up, and have peers enough."""
        among = self._among(indexes)

        def ready(index: int) -> bool:
            found = self.describe(index)
            peers = sum(peer["connected"] for peer in found["peers"])
            return bool(found["caught_up"]) and peers >= len(self.nodes) * 2 // 3

        return self.wait(lambda: all(ready(index) for index in among), f"nodes {among} are ready", seconds)

    def assert_equal(self, *indexes: int, seconds: float = WAIT_SECONDS) -> int:
        """Waits until these nodes stand at one head; then all their blocks are the same. Returns the height.

        A block holds the root of the state after it, so equal blocks are equal states; the roots that the nodes
        answer with are compared too.
        """
        among = self._among(indexes)
        heads: list[tuple[int, str, str]] = []

        def one() -> bool:
            heads[:] = [self.head(index) for index in among]
            return len(set(heads)) == 1

        self.wait(one, f"nodes {among} stand at one head", seconds)
        chains = [self.blocks(index) for index in among]
        lowest = min(len(chain) for chain in chains)
        assert lowest >= heads[0][0]
        first = chains[0]
        for index, chain in zip(among, chains, strict=True):
            for height in range(lowest):
                assert chain[height].data == first[height].data, f"node {index} has another block {height + 1}"
                assert chain[height].certificate.block_id == chain[height].block.header.id()
        assert first[heads[0][0] - 1].block.header.state_root.hex() == heads[0][2]
        return lowest

    def assert_no_fork(self) -> None:
        """No two running nodes have different blocks at one height."""
        chains = [self.blocks(index) for index in self.all if self.nodes[index].running]
        for blocks in zip(*chains, strict=False):
            assert len({each.data for each in blocks}) == 1, f"a fork at height {blocks[0].block.header.height}"

    def logs(self, lines: int = 25) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- node {index}\n{node.log_tail(lines) if node.log.exists() else ''}"
            for index, node in enumerate(self.nodes)
        )


def validator_key(index: int) -> PrivateKey:
    """The public development key of a node's validator."""
    return dev_key(f"validator-{index + 1}")


class Load:
    """Sends transactions to nodes in turn, in a thread of its own, and writes down what was called final.

    Each mints to a member under a reference of its own. What has no known end is sent again, to the next node.
    """

    MEMBERS = ("member-0", "member-1", "member-2")

    def __init__(self, network: NetworkOfNodes, *indexes: int, batch: int = 10) -> None:
        self.final: dict[bytes, int] = {}
        """What was acknowledged: transaction id -> height."""
        self.sent = 0
        self._network = network
        self._indexes = network._among(indexes)
        self._batch = batch
        self._open: list[SignedTransaction] = []
        self._turn = 0
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(1, "load")
        self._working: Future[None] | None = None

    def fund(self) -> None:
        """Creates the programme."""
        self._open = [signed("roaster", create(), gas_limit=20_000)]
        self.finish()

    def __enter__(self) -> Load:
        self._stopping.clear()
        self._working = self._pool.submit(self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        assert self._working is not None
        if error is None:
            self._working.result(60)

    def _work(self) -> None:
        while not self._stopping.wait(0.05):
            while len(self._open) < self._batch:
                member = self.MEMBERS[self.sent % len(self.MEMBERS)]
                self._open.append(signed("roaster", mint(member, 1, f"load-{self.sent}"), gas_limit=1_000))
                self.sent += 1
            self._send()

    def _send(self) -> None:
        self._turn += 1
        node = self._network.nodes[self._indexes[self._turn % len(self._indexes)]]
        if not node.running:
            return
        batch, self._open = self._open, []
        try:
            with NodeClient(node.url, timeout_seconds=1.0) as client:
                results = client.submit([each.raw for each in batch], wait_seconds=2.0)
        except TrothError:
            self._open = batch
            return
        for made, result in zip(batch, results, strict=True):
            if result["status"] == "final":
                assert result["receipt"]["ok"], result
                self.final[made.id] = result["height"]
            elif result["status"] == "waiting":
                self._open.append(made)
            else:
                code = result["error"]["code"]
                assert code in ("E-TX-006", "E-NODE-003"), result  # in the chain already; the node is stopping
                if code == "E-NODE-003":
                    self._open.append(made)

    def finish(self, seconds: float = WAIT_SECONDS) -> None:
        """Sends what is open until all of it has ended."""

        def over() -> bool:
            if self._open:
                self._send()
            return not self._open

        self._network.wait(over, "all that was sent has ended", seconds)

    def wait_final(self, more: int = 20, seconds: float = WAIT_SECONDS) -> float:
        """Waits until so many more transactions were called final."""
        wanted = len(self.final) + more
        working = self._working
        assert working is not None
        return self._network.wait(
            lambda: working.done() or len(self.final) >= wanted, f"{more} more are final", seconds
        )

    def check(self, index: int) -> None:
        """Everything that was called final is in a node's chain, once, at the height that was told."""
        found: dict[bytes, int] = {}
        for height, sealed in enumerate(self._network.blocks(index), 1):
            for raw in sealed.block.transactions:
                identifier = decode_transaction(raw).id
                assert identifier not in found, f"a transaction twice, at {found[identifier]} and {height}"
                found[identifier] = height
        for identifier, height in self.final.items():
            assert found.get(identifier) == height, f"told final at {height}, and is at {found.get(identifier)}"


class Guest:
    """A node of the test's own process, with any registered node key: it speaks TLS and the handshake honestly, and
    then whatever the test has it say. Runs an event loop in a thread.
    """

    def __init__(
        self,
        network: NetworkOfNodes,
        identity: NodeIdentity,
        handler: Handler,
        *,
        chain: Network | None = None,
        settings: Settings | None = None,
    ) -> None:
        genesis = network.genesis
        self.identity = identity
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._made: Future[Peers] = Future()
        self._parts = (identity, chain or Network(genesis.chain_id, genesis.id()), handler)
        self._settings = settings or guest_settings(network)
        self._registered = registered_nodes(genesis.nodes)

    def __enter__(self) -> Guest:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(30)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self.peers.stop(), self._loop).result(30)
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    @property
    def peers(self) -> Peers:
        """Its network. To be called on its loop only: see `call`."""
        return self._made.result(0)

    async def _begin(self) -> None:
        peers = Peers(*self._parts, self._settings)
        peers.register(self._registered)
        await peers.start(None)
        self._made.set_result(peers)

    def call(self, act: Callable[[Peers], T]) -> T:
        """What `act` says of the peers, asked on the guest's loop."""

        async def ask() -> T:
            return act(self.peers)

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(30)

    def broadcast(self, channel: Channel, message: bytes) -> int:
        """Sends a message to all who are connected; returns to how many."""
        return self.call(lambda peers: peers.broadcast(channel, message))

    def connected(self) -> tuple[bytes, ...]:
        """Who is connected."""
        return self.call(lambda peers: peers.connected)


def guest_settings(network: NetworkOfNodes) -> Settings:
    """Bounds of the network as the nodes keep them, and little patience with connections that fail."""
    return settings_for(network.genesis.parameters)._replace(backoff_most_seconds=0.5)


class Ears:
    """A handler that keeps every statement of consensus that it hears, and finds double signatures among them."""

    def __init__(self, chain_id: str) -> None:
        self._chain_id = chain_id
        self.said: dict[tuple[Kind, int, int, bytes], set[bytes]] = {}
        self.raw: list[bytes] = []
        self.ends: list[tuple[bytes, Reason]] = []

    def connected(self, peer: bytes) -> None:
        """Nothing to say."""

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        """Kept."""
        self.ends.append((peer, reason))

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        """Keeps votes, and what was signed in them."""
        if channel is Channel.CONSENSUS:
            for message in messages:
                if len(self.raw) < RAW_KEPT:
                    self.raw.append(message)
                self.hear(decode(message))

    def hear(self, message: Message) -> None:
        """Notes what is signed in a message; every honest node's signatures are right and are not verified again."""
        for statement in statements(message):
            place = (kind_of(statement), statement.height, statement.round, statement.validator)
            self.said.setdefault(place, set()).add(signed_payload(self._chain_id, statement))

    def hear_chains(self, network: NetworkOfNodes) -> None:
        """Notes all seals in all certificates that the running nodes have: each is a COMMIT."""
        for index in network.all:
            for _, block, certificate in network.blocks(index):
                for each in (certificate, block.last_commit):
                    if each is not None:
                        self.hear(Decided(each, b""))

    def assert_no_double_signature(self) -> None:
        """Nobody has signed two different things at one height, round and step."""
        twice = {place: payloads for place, payloads in self.said.items() if len(payloads) > 1}
        assert not twice, f"double signatures: {twice}"


def observer(network: NetworkOfNodes, ears: Ears) -> Guest:
    """The observer of the network: it hears all votes, and says nothing."""
    return Guest(network, network.guest(0), ears)
