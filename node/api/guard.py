"""Bounds on connections, before any request is parsed.

aiohttp leaves silent and dripping connections open for ever. Here a connection must send a whole request head within
`head_seconds`, and one address, like all of them together, may hold so many connections at a time. Later requests on
one connection are under aiohttp's keep-alive timeout, and bodies under that of their handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class ConnectionGuard:
    """Makes guarded protocols around those of `inner`; counts connections by peer address."""

    def __init__(
        self, inner: Callable[[], asyncio.Protocol], *, in_all: int, per_address: int, head_seconds: float
    ) -> None:
        self.inner = inner
        self.in_all = in_all
        self.count = 0
        self.per_address = per_address
        self.head_seconds = head_seconds
        self.open: dict[str, int] = {}

    def __call__(self) -> asyncio.Protocol:
        return _Guarded(self)


class _Guarded(asyncio.Protocol):
    """Hands everything on to the inner protocol, unless the connection breaks a bound."""

    def __init__(self, guard: ConnectionGuard) -> None:
        self._guard = guard
        self._inner: asyncio.Protocol | None = None
        self._address = ""
        self._head = b""
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        guard = self._guard
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        count = guard.open.get(self._address, 0)
        if count >= guard.per_address or guard.count >= guard.in_all:
            self._address = ""
            transport.abort()
            return
        guard.open[self._address] = count + 1
        guard.count += 1
        self._deadline = asyncio.get_running_loop().call_later(guard.head_seconds, transport.abort)
        self._inner = guard.inner()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        if self._deadline is not None:
            self._head = self._head[-3:] + data
            if b"\r\n\r\n" in self._head:
                self._deadline.cancel()
                self._deadline, self._head = None, b""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._inner is None:
            return
        self._guard.count -= 1
        left = self._guard.open[self._address] - 1
        if left:
            self._guard.open[self._address] = left
        else:
            del self._guard.open[self._address]
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
