"""The gate: connections that arrive, before anybody knows whose they are.

Rules kept here:
- a connection is counted against its address, and turned away where too many arrive or too many have not finished
  TLS, before TLS has got any memory or time for it. Turned away means closed without a word;
- TLS must be done within a time; then the connection is of a registered node, and the rules of `peers` hold;
- an address is never banned: registered nodes and others may share one. A node that cannot get in here is still
  reached, since nodes dial each other both ways;
- each connection gets the TLS context of its moment, so a change of registered nodes needs no new socket.

An IPv6 address counts as its /64, which one machine may hold whole.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable

from node.network.meter import Bucket
from node.network.settings import Settings

ADDRESSES_MAX = 1024
_OUT_OF_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BREATH_SECONDS = 0.5


class Gate:
    """Accepts connections on a listening socket and makes protocols by `made` once their TLS is done."""

    def __init__(
        self,
        listening: socket.socket,
        made: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        settings: Settings,
        now: Callable[[], float],
    ) -> None:
        self._socket, self._made, self._context, self._settings, self._now = listening, made, context, settings, now
        self._pending: dict[str, int] = {}
        self._buckets: dict[str, Bucket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self.turned_away = 0
        self.failed = 0

    @property
    def pending(self) -> int:
        """Connections in TLS handshake."""
        return len(self._tasks)

    @property
    def addresses(self) -> int:
        """Addresses whose arrivals are remembered."""
        return len(self._buckets)

    def open(self) -> None:
        """Begins to accept."""
        self._socket.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Accepts no more, and drops what is in TLS handshake."""
        tasks = [*self._tasks, *([] if self._accepting is None else [self._accepting])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    def admit(self, address: str) -> bool:
        """Whether one more connection from this address (see `group`) may try TLS; counts it."""
        settings, now = self._settings, self._now()
        bucket = self._buckets.get(address)
        if bucket is None:
            if len(self._buckets) >= ADDRESSES_MAX:
                self._forget_rested(now)
            if len(self._buckets) >= ADDRESSES_MAX:
                address = ""  # so many at once: the rest share one bucket
            rate = settings.arrivals_per_second
            bucket = self._buckets.setdefault(address, Bucket(rate, 2 * rate, now))
        bucket.refill(now)
        if (
            bucket.level < 1
            or len(self._tasks) >= settings.pending
            or self._pending.get(address, 0) >= settings.pending_per_address
        ):
            self.turned_away += 1
            return False
        bucket.take(1, now)
        return True

    def _forget_rested(self, now: float) -> None:
        for bucket in self._buckets.values():
            bucket.refill(now)
        self._buckets = {address: bucket for address, bucket in self._buckets.items() if not bucket.full}

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, remote = await loop.sock_accept(self._socket)
            except OSError as error:
                if error.errno in _OUT_OF_MEANS:
                    await asyncio.sleep(_BREATH_SECONDS)
                elif error.errno == errno.EBADF:
                    raise
                continue  # the peer gave up meanwhile
            address = group(str(remote[0]))
            if not self.admit(address):
                accepted.close()
                continue
            self._pending[address] = self._pending.get(address, 0) + 1
            task = loop.create_task(self._secure(accepted, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _secure(self, accepted: socket.socket, address: str) -> None:
        seconds = self._settings.handshake_seconds
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._made,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=self._settings.linger_seconds,
            )
        except OSError:
            self.failed += 1
        finally:
            left = self._pending[address] - 1
            if left:
                self._pending[address] = left
            else:
                del self._pending[address]


def group(address: str) -> str:
    """What an address counts as: itself, or the /64 of an IPv6 address; an IPv4 one within IPv6 counts as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
