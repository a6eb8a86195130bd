"""What docs/adr/0006 rests on: messages between two nodes over TLS on loopback, in four ways.

    python -m tests.benchmarks.network_frames

Each way sends so many messages one way and waits for the last. Both ends live in one process, so a figure is what
sender and receiver cost together. "joined" writes 32 small messages at once, as happens in one turn of the loop of a
busy node. "connections" are the node's own (`node.network.connection`), with queues, rates and batches. The last part
measures what a handshake costs, and making TLS contexts when registrations change.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import aiohttp
import uvloop
from aiohttp import web

from node.network.certificates import tls_context
from node.network.frames import Channel, Frames, frame
from node.network.meter import Rate
from tests.networks import QUICK, TestNetwork, certificate, connected, identity

ROUNDS = 5
SIZES = ((300, 20_000), (60_000, 1_000))
JOINED = 32
TURN = 64
PATIENCE_SECONDS = 0.001
HOST = "127.0.0.1"
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Way = Callable[[Path, Contexts, int, int], Awaitable[float]]


class _Receiver(asyncio.Protocol):
    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self._frames, self._left, self._done = Frames(QUICK.lengths), count, done

    def data_received(self, data: bytes) -> None:
        for _ in self._frames.read(data):
            self._left -= 1
        if self._left == 0:
            self._done.set_result(None)


class _Sender(asyncio.Protocol):
    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()

    def pause_writing(self) -> None:
        self.ready.clear()

    def resume_writing(self) -> None:
        self.ready.set()


async def _protocol(contexts: Contexts, size: int, count: int, joined: int) -> float:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    server = await loop.create_server(lambda: _Receiver(count, done), HOST, 0, ssl=contexts[0])
    port = server.sockets[0].getsockname()[1]
    transport, sender = await loop.create_connection(_Sender, HOST, port, ssl=contexts[1], server_hostname="")
    one = frame(Channel.CONSENSUS, bytes(size))
    several = one * joined
    began = time.perf_counter()
    for number in range(0, count, joined):
        transport.write(several if number + joined <= count else one * (count - number))
        await sender.ready.wait()
        if number % TURN == 0:
            await asyncio.sleep(0)
    await done
    seconds = time.perf_counter() - began
    transport.close()
    server.close()
    return seconds


async def protocol(folder: Path, contexts: Contexts, size: int, count: int) -> float:
    """Frames on a protocol, each written by itself."""
    return await _protocol(contexts, size, count, 1)


async def protocol_joined(folder: Path, contexts: Contexts, size: int, count: int) -> float:
    """Frames on a protocol, small ones written together."""
    return await _protocol(contexts, size, count, JOINED if size < 2_000 else 1)


async def streams(folder: Path, contexts: Contexts, size: int, count: int) -> float:
    """Frames on asyncio's streams."""
    done = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(count):
            head = await reader.readexactly(5)
            await reader.readexactly(int.from_bytes(head[1:], "big"))
        done.set_result(None)

    server = await asyncio.start_server(serve, HOST, 0, ssl=contexts[0])
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection(HOST, port, ssl=contexts[1], server_hostname="")
    one = frame(Channel.CONSENSUS, bytes(size))
    began = time.perf_counter()
    for number in range(count):
        writer.write(one)
        await writer.drain()
        if number % TURN == 0:
            await asyncio.sleep(0)
    await done
    seconds = time.perf_counter() - began
    writer.close()
    server.close()
    return seconds


async def websockets(folder: Path, contexts: Contexts, size: int, count: int) -> float:
    """WebSockets of aiohttp, uncompressed."""
    done = asyncio.get_running_loop().create_future()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, max_msg_size=16 << 20)
        await response.prepare(request)
        left = count
        async for _ in response:
            left -= 1
            if left == 0:
                done.set_result(None)
                break
        return response

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=contexts[0]).start()
    message = bytes(size)
    url = f"wss://{HOST}:{runner.addresses[0][1]}/"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=contexts[1], compress=0, max_msg_size=16 << 20) as socket,
    ):
        began = time.perf_counter()
        for number in range(count):
            await socket.send_bytes(message)
            if number % TURN == 0:
                await asyncio.sleep(0)
        await done
        seconds = time.perf_counter() - began
    await runner.cleanup()
    return seconds


async def connections(folder: Path, contexts: Contexts, size: int, count: int) -> float:
    """The node's connections, through `Peers.send`."""
    unbounded = dict.fromkeys([0, *Channel], Rate(10**9, 10**12))
    settings = QUICK._replace(rates=unbounded, tick_seconds=0.2)
    async with TestNetwork(folder, settings=settings) as network:
        a, b = await network.start("a", "b")
        await connected(a, b)
        b.heard.keep = False
        message, wanted = bytes(size), size * count
        began = time.perf_counter()
        for number in range(count):
            a.peers.send(b.id, Channel.CONSENSUS, message)
            if number % TURN == 0:
                await asyncio.sleep(0)
                while a.peers.buffered_bytes > 1 << 20:
                    await asyncio.sleep(PATIENCE_SECONDS)
        while b.heard.bytes < wanted:
            await asyncio.sleep(PATIENCE_SECONDS)
        return time.perf_counter() - began


WAYS: dict[str, Way] = {
    "protocol": protocol,
    "protocol, joined": protocol_joined,
    "streams": streams,
    "aiohttp WebSockets": websockets,
    "connections": connections,
}


async def measure(loop: str, folder: Path, contexts: Contexts) -> None:
    """Prints microseconds a message: medians over rounds in which the ways take turns."""
    for size, count in SIZES:
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                times[name].append(await way(folder, contexts, size, count) / count * 1e6)
        for name, found in times.items():
            print(f"{loop:8} {size:6} bytes  {name:18} {median(found):7.2f} µs")


def handshakes(contexts: Contexts, count: int = 200) -> float:
    """Milliseconds of both sides of a TLS handshake, in memory."""
    began = time.perf_counter()
    for _ in range(count):
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = [contexts[1].wrap_bio(back, there), contexts[0].wrap_bio(there, back, server_side=True)]
        while sides:
            for side in list(sides):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                sides.remove(side)
    return (time.perf_counter() - began) / count * 1e3


def main() -> None:
    """Measures and prints."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        anchors = [certificate("a"), certificate("b")]
        contexts = (
            tls_context(identity(folder, "a"), anchors, server=True),
            tls_context(identity(folder, "b"), anchors, server=False),
        )
        asyncio.run(measure("asyncio", folder, contexts))
        uvloop.run(measure("uvloop", folder, contexts))
        print(f"TLS handshake, both sides {handshakes(contexts):.2f} ms")
        for count in (25, 200):
            many = [certificate(str(number)) for number in range(count)]
            began = time.perf_counter()
            tls_context(identity(folder, "a"), many, server=True)
            print(f"TLS context of {count} certificates {(time.perf_counter() - began) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
