"""The peers: all registered nodes, and one connection with each. This is what the rest of the node calls.

    peers = Peers(identity, network, handler, settings)
    peers.register(registered_nodes(...))   from the genesis document, and again whenever the chain changes them
    await peers.start(listen, advertise)
    peers.broadcast(Channel.CONSENSUS, message); peers.send(node, Channel.BLOCKS, message)
    await peers.stop()

Rules kept here:
- only registered nodes are peers; each has its own connection, queues, meter, record and ban, and nothing of one peer
  can push out anything of another's;
- one connection with each peer (`handshake.newer_wins`);
- a peer without a connection is dialled again and again, at intervals that grow to a few seconds and are never quite
  regular; a banned one is neither dialled nor let in until the ban's end;
- time, randomness and nonces come from outside, so a test can set them.

All of it lives on one event loop. The handler is called on it, and must not take long.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from random import random
from typing import NamedTuple, Protocol

from ledger.errors import Invalid, Refused, Unavailable, define
from ledger.genesis import Node
from ledger.node_address import Address, parse_address
from ledger.node_certificate import certificate_key
from node.log import logger
from node.network.bans import BAN_SECONDS_MAX, Ban, Bans, Reason
from node.network.certificates import tls_context
from node.network.connection import Connection
from node.network.frames import Channel, frame
from node.network.gate import Gate
from node.network.handshake import INSTANCE_BYTES, NONCE_BYTES, Established, Handshake, Network, newer_wins
from node.network.meter import Bucket
from node.network.node_key import NodeIdentity
from node.network.outbox import Room
from node.network.settings import Settings

NOT_REGISTERED = define("E-PEER-009", "this node is not registered", "have its node.crt registered by the consortium")
LISTENING_FAILED = define("E-PEER-010", "cannot listen for peers", "choose another network.host or network.port")
BAD_MESSAGE_SIZE = define("E-PEER-011", "a message longer than its channel takes", "split it into smaller messages")

_BACKLOG = 128


class RegisteredNode(NamedTuple):
    """A node that may be a peer: whose it is, its certificate (DER), where it may be found."""

    organisation: str
    certificate: bytes
    addresses: tuple[Address, ...] = ()


def registered_nodes(nodes: Iterable[Node]) -> list[RegisteredNode]:
    """The nodes of a genesis document. Raises Invalid (E-PEER-012) for an address that is none."""
    return [
        RegisteredNode(node.organisation, node.certificate, tuple([parse_address(each) for each in node.addresses]))
        for node in nodes
    ]


class Handler(Protocol):
    """What the node does with its peers. `peer` is a node id: the key of the peer's certificate, 32 bytes."""

    def connected(self, peer: bytes) -> None:
        """A peer is there: tell it what it may have missed. Called again when a connection was replaced."""

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        """A peer is gone."""

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        """Messages of a peer, in order; at least one. To raise Invalid or VerifyFailed is to drop and ban the peer."""


class PeerStatus(NamedTuple):
    """A peer as it is now, for metrics and `troth node status`. Counts are of the process, over all connections."""

    node: bytes
    organisation: str
    connected: bool
    dialled: bool
    remote: str
    connected_seconds: float
    rtt_ms: float | None
    version: int
    bytes_in: int
    bytes_out: int
    messages_in: Mapping[Channel, int]
    messages_out: Mapping[Channel, int]
    waiting: Mapping[Channel, Room]
    dropped: Mapping[Channel, int]
    buffered_bytes: int
    attempts_failed: int
    ban: Ban | None
    last_end: str


class _Peer:
    """A registered node, and all that is held for it."""

    __slots__ = (
        "bytes_in", "bytes_out", "connection", "dialling", "dropped", "failures", "id", "last_end", "learned",
        "messages_in", "messages_out", "next_dial", "node", "openings",
        "shaking",
    )  # fmt: skip

    def __init__(self, identifier: bytes, node: RegisteredNode, next_dial: float, openings: Bucket) -> None:
        self.id = identifier
        self.node = node
        self.openings = openings
        self.learned: Address | None = None
        self.connection: Connection | None = None
        self.shaking: list[Connection] = []
        self.dialling: asyncio.Task[None] | None = None
        self.failures = 0
        self.next_dial = next_dial
        self.last_end = ""
        self.bytes_in = self.bytes_out = 0
        self.messages_in = dict.fromkeys(Channel, 0)
        self.messages_out = dict.fromkeys(Channel, 0)
        self.dropped = dict.fromkeys(Channel, 0)

    def address(self) -> Address | None:
        """Where to dial next: the registered addresses and the one that the peer told, in turns."""
        known = list(dict.fromkeys([*self.node.addresses, *([] if self.learned is None else [self.learned])]))
        return known[self.failures % len(known)] if known else None

    def settle(self, connection: Connection) -> None:
        """Adds the counts of a connection that is over."""
        self.bytes_in += connection.bytes_in
        self.bytes_out += connection.bytes_out
        for channel in Channel:
            self.messages_in[channel] += connection.messages_in[channel]
            self.messages_out[channel] += connection.messages_out[channel]
            self.dropped[channel] += connection.outbox.dropped(channel)


class Peers:
    """The registered nodes and the connections with them."""

    def __init__(
        self,
        identity: NodeIdentity,
        network: Network,
        handler: Handler,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`clock` gives seconds and never goes back; `uniform` numbers from 0 up to 1; `entropy` random bytes."""
        self.settings = settings
        self.bans = Bans()
        self.listening: Address | None = None
        self._identity, self._network, self._handler = identity, network, handler
        self.now, self._uniform, self._entropy = clock, uniform, entropy
        self._instance = entropy(INSTANCE_BYTES)
        self._advertised = ""
        self._own_is_registered = False
        self._peers: dict[bytes, _Peer] = {}
        self._connections: set[Connection] = set()
        self._server_context = tls_context(identity, (), server=True)
        self._client_context = tls_context(identity, (), server=False)
        self._gate: Gate | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._empty: asyncio.Event | None = None
        self._log = logger()

    # What the node calls

    def register(self, nodes: Iterable[RegisteredNode]) -> None:
        """Sets who may be a peer, this node included. Connections with nodes that are not named any more end.

        Raises Invalid (E-NODEKEY-001) for a certificate that is none; nothing has changed then.
        """
        named = {certificate_key(node.certificate): node for node in nodes}
        self._own_is_registered = named.pop(self._identity.id, None) is not None
        anchors = [node.certificate for node in named.values()]
        self._server_context = tls_context(self._identity, anchors, server=True)
        self._client_context = tls_context(self._identity, anchors, server=False)
        self.bans.keep_only(frozenset(named))
        now = self.now()
        for identifier in [known for known in self._peers if known not in named]:
            peer = self._peers[identifier]
            self._end_all(peer, Reason.UNREGISTERED, "the node is not registered any more")
            if peer.dialling is not None:
                peer.dialling.cancel()
            del self._peers[identifier]
        for identifier, node in sorted(named.items()):
            known = self._peers.get(identifier)
            if known is not None:
                known.node = node
            else:
                # Two nodes that start together would dial each other: the greater id waits a little for the smaller.
                delay = self.backoff(2) if identifier < self._identity.id else 0.0
                openings = Bucket(self.settings.openings_per_second, self.settings.openings_at_once, now)
                self._peers[identifier] = _Peer(identifier, node, now + delay, openings)

    async def start(self, listen: Address | None, advertise: Address | None = None) -> None:
        """Listens (where told to; port 0 takes any) and begins to dial. `advertise` is where peers shall dial back.

        Without `advertise` peers are told the port alone, and take the address that they see. Raises Refused
        (E-PEER-009) where this node is not registered itself, and Unavailable (E-PEER-010).
        """
        if not self._own_is_registered:
            raise Refused(NOT_REGISTERED, f"node {self._identity.id.hex()} is not among the registered nodes")
        if listen is not None:
            listener = _listen(listen)
            self.listening = Address(listen.host, listener.getsockname()[1])
            advertise = advertise or Address("", self.listening.port)
            self._gate = Gate(listener, self._arrived, lambda: self._server_context, self.settings, self.now)
            self._gate.open()
        self._advertised = "" if advertise is None else str(advertise)
        self._tick()

    async def stop(self) -> None:
        """Ends all connections, saying so, and listens no more."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        dialling = [peer.dialling for peer in self._peers.values() if peer.dialling is not None]
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for connection in list(self._connections):
            connection.end(Reason.STOPPING, "the node stops")
        if self._gate is not None:
            await self._gate.close()
        if self._connections:  # each is cut when its linger time is over, so this ends
            self._empty = asyncio.Event()
            await self._empty.wait()

    def send(self, peer: bytes, channel: Channel, message: bytes) -> bool:
        """Queues a message for one peer. False where it is not connected, or now is no more.

        Delivery is at most once and in order; what a dropped connection held is lost. Raises Invalid (E-PEER-011) for
        a message that is too long or empty.
        """
        framed = self._frame(channel, message)
        found = self._peers.get(peer)
        if found is None or found.connection is None:
            return False
        return found.connection.send(channel, framed)

    def broadcast(self, channel: Channel, message: bytes, *, but: frozenset[bytes] = frozenset()) -> int:
        """Queues a message for all connected peers but some; returns for how many. Raises Invalid (E-PEER-011)."""
        framed = self._frame(channel, message)
        count = 0
        for peer in list(self._peers.values()):
            if peer.connection is not None and peer.id not in but and peer.connection.send(channel, framed):
                count += 1
        return count

    def report(self, peer: bytes, reason: Reason, detail: str) -> None:
        """Drops a peer for what it has said, and bans it where the reason is misbehaviour."""
        found = self._peers.get(peer)
        if found is not None and not self._banish(found, reason, detail):
            self._end_all(found, reason, detail)

    def hold(self, peer: bytes) -> None:
        """Reads nothing more from a peer until `release`: for a handler that has too much of it to do."""
        found = self._peers.get(peer)
        if found is not None and found.connection is not None:
            found.connection.hold()

    def release(self, peer: bytes) -> None:
        """Reads from a peer again. A new connection is never held."""
        found = self._peers.get(peer)
        if found is not None and found.connection is not None:
            found.connection.release()

    @property
    def connected(self) -> tuple[bytes, ...]:
        """The ids of connected peers, ascending."""
        return tuple(sorted(peer.id for peer in self._peers.values() if peer.connection is not None))

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for all peers in queues and unfinished frames. Broadcast messages count once for each."""
        return sum(connection.buffered for connection in self._connections)

    @property
    def strangers(self) -> tuple[int, int, int]:
        """Connections still in TLS, turned away before it, and failed in it."""
        gate = self._gate
        return (0, 0, 0) if gate is None else (gate.pending, gate.turned_away, gate.failed)

    def status(self) -> list[PeerStatus]:
        """All registered peers, by id."""
        return [self._status(peer) for _, peer in sorted(self._peers.items())]

    # What connections ask and tell (connection.Owner)

    def shake(self, connection: Connection, certificate: bytes) -> Handshake:
        """A handshake with the holder of a certificate."""
        self._connections.add(connection)
        return Handshake(
            self._network,
            self._identity.key,
            own_certificate=self._identity.certificate,
            peer_certificate=certificate,
            dialled=connection.dialled,
            instance=self._instance,
            nonce=self._entropy(NONCE_BYTES),
            address=self._advertised,
        )

    def admit(self, connection: Connection) -> tuple[Reason, str, int] | None:
        """Why a connection of a proven key may not stay: reason, detail, seconds of ban."""
        peer = self._peers.get(connection.peer)
        if self._stopping:
            return Reason.STOPPING, "the node stops", 0
        if peer is None:
            return Reason.UNREGISTERED, "the node is not registered", 0
        ban = self.bans.get(peer.id, self.now())
        if ban is not None:
            return Reason.BANNED, f"{ban.reason.word}: {ban.detail}", math.ceil(ban.until - self.now())
        if len(peer.shaking) >= self.settings.handshakes_per_node:
            return Reason.DUPLICATE, f"{len(peer.shaking)} handshakes of this node are under way", 0
        peer.shaking.append(connection)
        return None

    def opened(self, connection: Connection, established: Established) -> None:
        """A handshake is done: this is the connection with the peer now, unless there is a better one."""
        peer = self._peers.get(connection.peer)
        if peer is None or connection not in peer.shaking:
            connection.end(Reason.UNREGISTERED, "the node is not registered any more")
            return
        peer.shaking.remove(connection)
        if established.address is not None:
            host, port = established.address
            peer.learned = Address(host or connection.remote, port)
        if not connection.dialled:
            peer.openings.take(1, self.now())
            if peer.openings.seconds_overdrawn > 0:
                connection.end(Reason.FLOOD, "one connection after the other")
                return
        older = peer.connection
        if older is not None:
            if not newer_wins(self._identity.id, peer.id, older.bond, connection.bond):
                connection.end(Reason.DUPLICATE, "another connection with this node stays")
                return
            older.end(Reason.DUPLICATE, "a newer connection with this node replaces it")
        peer.connection = connection
        self._log.info(
            "peer connected", peer=peer.id.hex(), organisation=peer.node.organisation, dialled=connection.dialled
        )
        self._handler.connected(peer.id)

    def received(self, connection: Connection, channel: Channel, messages: list[bytes]) -> None:
        """Messages came."""
        self._handler.received(connection.peer, channel, messages)

    def ended(self, connection: Connection, reason: Reason, detail: str, seconds: int) -> None:
        """A connection is over, though its socket may linger."""
        peer = self._peers.get(connection.expected or connection.peer)
        if peer is None:
            return
        peer.settle(connection)
        was_open = peer.connection is connection
        if was_open:
            peer.connection = None
        elif connection in peer.shaking:
            peer.shaking.remove(connection)
        self._banish(peer, reason, detail)
        now = self.now()
        if reason is Reason.DUPLICATE and peer.connection is not None:
            return
        if was_open and now - connection.began >= self.settings.steady_seconds:
            peer.failures = 0
            peer.next_dial = now + self.backoff(0)
        elif was_open or connection.dialled:
            self._failed(peer, f"{reason.word}: {detail}")
        peer.last_end = f"{reason.word}: {detail}"
        if seconds:
            peer.next_dial = max(peer.next_dial, now + min(seconds, BAN_SECONDS_MAX))
        if was_open:
            self._log.info("peer disconnected", peer=peer.id.hex(), reason=reason.word, detail=detail)
            self._handler.disconnected(peer.id, reason)

    def lost(self, connection: Connection) -> None:
        """The socket of a connection is closed."""
        self._connections.discard(connection)
        if self._empty is not None and not self._connections:
            self._empty.set()

    # Within

    def tick(self) -> None:
        """Does what is due: times of connections, dialling. Runs by itself every `tick_seconds`."""
        now = self.now()
        for connection in list(self._connections):
            connection.check(now)
        for peer in self._peers.values():
            if (
                peer.connection is None
                and peer.dialling is None
                and not peer.shaking
                and peer.next_dial <= now
                and self.bans.get(peer.id, now) is None
            ):
                address = peer.address()
                if address is not None:
                    peer.dialling = asyncio.get_running_loop().create_task(self._dial(peer, address))

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.settings.tick_seconds, self._tick)
        self.tick()

    def _arrived(self) -> Connection:
        return Connection(self, dialled=None)

    async def _dial(self, peer: _Peer, address: Address) -> None:
        settings = self.settings
        try:
            async with asyncio.timeout(settings.dial_seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, dialled=peer.id),
                    address.host,
                    address.port,
                    ssl=self._client_context,
                    server_hostname="",
                    ssl_handshake_timeout=settings.handshake_seconds,
                    ssl_shutdown_timeout=settings.linger_seconds,
                )
        except ssl.SSLCertVerificationError:
            self._failed(peer, f"what answers at {address} is not a registered node")
        except TimeoutError:
            self._failed(peer, f"no answer from {address} within {settings.dial_seconds:g} s")
        except (OSError, UnicodeError) as error:  # no name can be made of what is no name
            self._failed(peer, f"{address}: {getattr(error, 'strerror', None) or error}")
        finally:
            peer.dialling = None

    def _failed(self, peer: _Peer, why: str) -> None:
        peer.next_dial = self.now() + self.backoff(peer.failures)
        peer.failures += 1
        peer.last_end = why

    def backoff(self, failures: int) -> float:
        """Seconds until the next attempt after so many failures: doubling up to a bound, and random by a half."""
        settings = self.settings
        longest = min(settings.backoff_seconds * 2.0 ** min(failures, 32), settings.backoff_most_seconds)
        return longest * (0.5 + self._uniform() / 2)

    def _banish(self, peer: _Peer, reason: Reason, detail: str) -> bool:
        """Bans a peer, where the reason is misbehaviour, and ends what connections it has."""
        ban = self.bans.add(peer.id, reason, detail, self.now())
        if ban is None:
            return False
        seconds = math.ceil(ban.until - ban.since)
        self._log.warning("peer banned", peer=peer.id.hex(), reason=reason.word, detail=detail, seconds=seconds)
        self._end_all(peer, Reason.BANNED, f"{reason.word}: {detail}", seconds)
        return True

    def _end_all(self, peer: _Peer, reason: Reason, detail: str, seconds: int = 0) -> None:
        for connection in [*peer.shaking, *([] if peer.connection is None else [peer.connection])]:
            connection.end(reason, detail, seconds=seconds)

    def _frame(self, channel: Channel, message: bytes) -> bytes:
        lengths = self.settings.lengths[channel]
        if not lengths.least <= len(message) <= lengths.most:
            raise Invalid(BAD_MESSAGE_SIZE, f"{len(message)} bytes, {channel.name} takes 1 to {lengths.most}")
        return frame(channel, message)

    def _status(self, peer: _Peer) -> PeerStatus:
        now, connection = self.now(), peer.connection
        settled = (peer.messages_in, peer.messages_out, peer.dropped)
        if connection is None:
            current = tuple(dict.fromkeys(Channel, 0) for _ in settled)
        else:
            dropped = {channel: connection.outbox.dropped(channel) for channel in Channel}
            current = (connection.messages_in, connection.messages_out, dropped)
        messages_in, messages_out, dropped = (
            {channel: before[channel] + since[channel] for channel in Channel}
            for before, since in zip(settled, current, strict=True)
        )
        rtt = None if connection is None else connection.rtt_seconds
        established = None if connection is None else connection.established
        return PeerStatus(
            node=peer.id,
            organisation=peer.node.organisation,
            connected=connection is not None,
            dialled=connection is not None and connection.dialled,
            remote="" if connection is None else connection.remote,
            connected_seconds=0.0 if connection is None else now - connection.began,
            rtt_ms=None if rtt is None else rtt * 1000,
            version=0 if established is None else established.version,
            bytes_in=peer.bytes_in + (0 if connection is None else connection.bytes_in),
            bytes_out=peer.bytes_out + (0 if connection is None else connection.bytes_out),
            messages_in=messages_in,
            messages_out=messages_out,
            waiting={
                channel: Room(0, 0) if connection is None else connection.outbox.waiting(channel) for channel in Channel
            },
            dropped=dropped,
            buffered_bytes=0 if connection is None else connection.buffered,
            attempts_failed=peer.failures,
            ban=self.bans.get(peer.id, now),
            last_end=peer.last_end,
        )


def _listen(address: Address) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        found = socket.getaddrinfo(address.host or None, address.port, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Unavailable(LISTENING_FAILED, f"cannot listen on {address}: {error.strerror or error}") from None
