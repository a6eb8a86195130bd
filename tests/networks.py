"""Networks of nodes for tests: keys and certificates that are the same in every run, members on loopback with real
TLS, connections that a test plays by hand, and a cable that it can cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import pytest

from ledger import codec
from ledger.errors import Invalid
from ledger.genesis import Parameters
from ledger.keys import PrivateKey
from ledger.node_address import Address
from ledger.node_certificate import make_certificate
from node.home import Home
from node.network.bans import Reason
from node.network.certificates import tls_context
from node.network.frames import BYE, HANDSHAKE_LENGTHS, HELLO, PING, PROOF, Channel, Frames, frame
from node.network.handshake import Handshake, Network
from node.network.node_key import NodeIdentity, load_node_key, write_node_key
from node.network.peers import Peers, PeerStatus, RegisteredNode
from node.network.settings import Settings, settings_for

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = ("asyncio", "uvloop")
NETWORK = Network("test-chain", b"g" * 32)
LOOPBACK = Address("127.0.0.1", 0)
WAIT_SECONDS = 20.0
QUICK = settings_for(Parameters())._replace(
    ping_seconds=0.1, tick_seconds=0.02, backoff_seconds=0.05, backoff_most_seconds=0.2, steady_seconds=0.2
)


def loop_runner(name: str) -> Run:
    """What runs a test on one of LOOPS: each event loop that a node may run on."""
    if name == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed (extra `fast`)")
    return uvloop.run  # type: ignore[no-any-return]


def node_key(name: str) -> PrivateKey:
    """The node key of a name."""
    return PrivateKey(sha256(b"test node/" + name.encode()).digest())


def certificate(name: str) -> bytes:
    """The certificate of a name."""
    return make_certificate(node_key(name))


def identity(folder: Path, name: str) -> NodeIdentity:
    """A node's identity with its files in a folder of their own below `folder`."""
    home = Home(folder / name)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home.path / "node.key").exists():
        write_node_key(home, node_key(name))
    return load_node_key(home)


class Clock:
    """Seconds that a test moves on by hand, on top of the machine's own."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Recorder:
    """A handler that remembers what it hears. `refuse` makes it raise for a message that contains it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.ends: list[tuple[bytes, Reason]] = []
        self.messages: dict[tuple[bytes, Channel], list[bytes]] = {}
        self.bytes = 0
        self.keep = True
        self.refuse: bytes | None = None

    def connected(self, peer: bytes) -> None:
        self.events.append(("+", peer))

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        self.events.append(("-", peer))
        self.ends.append((peer, reason))

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        if self.refuse is not None and self.refuse in messages:
            raise Invalid("E-CODEC-001", "the handler cannot decode it")
        self.bytes += sum(map(len, messages))
        if self.keep:
            self.messages.setdefault((peer, channel), []).extend(messages)


class Member:
    """A node of a test network: its peers and what it heard."""

    def __init__(self, folder: Path, name: str, settings: Settings, network: Network, clock: Clock) -> None:
        self.name = name
        self.identity = identity(folder, name)
        self.heard = Recorder()
        self.peers = Peers(self.identity, network, self.heard, settings, clock=clock)
        self.address = LOOPBACK

    @property
    def id(self) -> bytes:
        return self.identity.id

    async def start(self) -> None:
        await self.peers.start(self.address)
        assert self.peers.listening is not None
        self.address = self.peers.listening

    def registered(self) -> RegisteredNode:
        """As others register it: with its address once it listens."""
        known = () if self.address.port == 0 else (self.address,)
        return RegisteredNode(f"org-{self.name}", self.identity.certificate, known)

    def status(self, other: Member) -> PeerStatus:
        return next(status for status in self.peers.status() if status.node == other.id)

    def got(self, other: Member, channel: Channel) -> list[bytes]:
        return self.heard.messages.get((other.id, channel), [])


class TestNetwork:
    """Members that are registered with each other. `async with` stops all that still run."""

    __test__ = False

    def __init__(self, folder: Path, *, settings: Settings = QUICK, network: Network = NETWORK) -> None:
        self.folder, self.settings, self.network = folder, settings, network
        self.members: dict[str, Member] = {}
        self.clocks: dict[str, Clock] = {}
        self.strangers: list[str] = []

    async def __aenter__(self) -> TestNetwork:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():
            await member.peers.stop()

    def nodes(self) -> list[RegisteredNode]:
        """All members, and the registered nodes that are played by hand."""
        by_hand = [RegisteredNode("org-hand", certificate(name)) for name in self.strangers]
        return [member.registered() for member in self.members.values()] + by_hand

    def add(self, name: str, *, settings: Settings | None = None, network: Network | None = None) -> Member:
        """A member that does not run yet."""
        clock = self.clocks.setdefault(name, Clock())
        member = Member(self.folder, name, settings or self.settings, network or self.network, clock)
        self.members[name] = member
        return member

    async def start(self, *names: str, by_hand: tuple[str, ...] = ()) -> list[Member]:
        """Starts members of these names, registered with each other and with nodes that the test plays by hand."""
        self.strangers.extend(by_hand)
        made = [self.members.get(name) or self.add(name) for name in names]
        for member in made:
            member.peers.register(self.nodes())
            await member.start()
        self.register_all()
        return made

    def register_all(self) -> None:
        """Tells all members of each other as they are now."""
        for member in self.members.values():
            member.peers.register(self.nodes())


class Hand:
    """A connection with a member, played by hand: real TLS with the key of a name, and any bytes after it."""

    def __init__(self, folder: Path, name: str, peer: Member, network: Network = NETWORK) -> None:
        self.identity = identity(folder, name)
        self.peer, self.network = peer, network
        self.frames = Frames({**HANDSHAKE_LENGTHS, **QUICK.lengths})
        self.waiting: list[tuple[int, bytes]] = []

    async def connect(self) -> Hand:
        """TCP, with little room for what is not read, and TLS."""
        context = tls_context(self.identity, [self.peer.identity.certificate], server=False)
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, self.peer.address)
        self.reader, self.writer = await asyncio.open_connection(
            sock=opened, ssl=context, server_hostname="", limit=1 << 16
        )
        return self

    def handshake(self, nonce: bytes = b"n" * 32, instance: bytes = b"i" * 16) -> Handshake:
        """The handshake that an honest node would make."""
        return Handshake(
            self.network,
            self.identity.key,
            own_certificate=self.identity.certificate,
            peer_certificate=self.peer.identity.certificate,
            dialled=True,
            instance=instance,
            nonce=nonce,
            address="",
        )

    async def shake(self, **given: bytes) -> Hand:
        """An honest handshake to its end."""
        await self.connect()
        handshake = self.handshake(**given)
        await self.send(frame(HELLO, handshake.hello))
        await self.send(frame(PROOF, handshake.receive_hello((await self.next_frame())[1])))
        handshake.receive_proof((await self.next_frame())[1])
        return self

    async def send(self, data: bytes) -> None:
        """Any bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def next_frame(self) -> tuple[int, bytes]:
        """The next frame of the member, PING aside. Raises EOFError where it ends the connection."""
        while True:
            while self.waiting:
                kind, body = self.waiting.pop(0)
                if kind != PING:
                    return kind, body
            async with asyncio.timeout(WAIT_SECONDS):
                data = await self.reader.read(1 << 16)
            if not data:
                raise EOFError
            self.waiting.extend(self.frames.read(data))

    async def farewell(self) -> tuple[str, str, int]:
        """Reads on to the BYE: its word, text and seconds; all empty where the connection ends without."""
        try:
            while True:
                kind, body = await self.next_frame()
                if kind == BYE:
                    word, text, seconds = codec.decode(body)
                    return word, text, seconds
        except (EOFError, ConnectionError, ssl.SSLError):
            return "", "", 0

    def close(self) -> None:
        """Cuts the connection."""
        self.writer.transport.abort()


class Proxy:
    """Passes bytes between a member and whoever connects, until `cut`: then it swallows them, as a dead cable does."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.cut = False
        self.bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> Address:
        """Where it listens."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK.host, 0)
        return Address(LOOPBACK.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self.target)
        self._writers += [writer, there_writer]
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.ensure_future(self._pass(source, sink))
            self._tasks.add(task)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                self.bytes += len(data)
                if not self.cut:
                    sink.write(data)
                    await sink.drain()
        if not self.cut:
            sink.close()


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Waits until a condition holds. Fails after a time that no healthy machine needs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        await asyncio.sleep(0.005)


async def connected(*members: Member) -> None:
    """Waits until all of these are connected with each other."""
    for member in members:
        wanted = {other.id for other in members if other is not member}
        while not wanted <= set(member.peers.connected):
            await until(partial(_changed, member, member.peers.connected), f"{member.name} connected")


def _changed(member: Member, seen: tuple[bytes, ...]) -> bool:
    return member.peers.connected != seen
