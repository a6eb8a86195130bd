"""Peers that send too much, read too little, or fall silent, on loopback; and cables that are cut and mended."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledger.node_address import Address
from node.network.bans import Reason
from node.network.frames import PING, PONG, Channel, frame
from node.network.meter import Rate
from node.network.outbox import Room
from tests.networks import (
    LOOPBACK,
    LOOPS,
    QUICK,
    WAIT_SECONDS,
    Hand,
    Proxy,
    Run,
    TestNetwork,
    connected,
    loop_runner,
    until,
)

C, B, T = Channel.CONSENSUS, Channel.BLOCKS, Channel.TRANSACTIONS
MIB = 1 << 20


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on each event loop."""
    return loop_runner(request.param)


# Too much and too slow


def test_a_flood_is_held_back_then_banned_and_memory_stays_bounded(run: Run, tmp_path: Path) -> None:
    rates = {**QUICK.rates, T: Rate(messages=10_000, bytes=4 * MIB, burst_seconds=1.0)}
    settings = QUICK._replace(rates=rates, flood_seconds=1.5)

    async def main() -> None:
        async with TestNetwork(tmp_path, settings=settings) as network:
            a, b = await network.start("a", "b", by_hand=("guest",))
            await connected(a, b)
            a.heard.keep = False
            guest = await Hand(tmp_path, "guest", a).shake()
            process, flood = psutil.Process(), frame(T, bytes(100_000)) * 10
            before, highest, buffered = process.memory_info().rss, 0, 0

            async def pour() -> None:
                while True:
                    await guest.send(flood)

            pouring = asyncio.create_task(pour())
            deadline = time.monotonic() + WAIT_SECONDS
            while not a.heard.ends:
                assert time.monotonic() < deadline, "the flood goes on"
                highest = max(highest, process.memory_info().rss)
                buffered = max(buffered, a.peers.buffered_bytes)
                a.peers.send(b.id, C, b"meanwhile")
                await asyncio.sleep(0.02)
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            assert a.heard.ends == [(guest.identity.id, Reason.FLOOD)]
            assert a.heard.bytes <= 4 * MIB * 5, "more was taken than the rate allows"
            assert buffered <= 2 * MIB
            assert highest - before <= 48 * MIB
            assert a.peers.connected == (b.id,)
            assert b.got(a, C)
            guest.close()

    run(main())


def test_a_flood_of_pings_is_held_back(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(flood_seconds=0.5)) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).shake()
            await guest.send(frame(PING, b"12345678"))
            assert await guest.next_frame() == (PONG, b"12345678")
            for _ in range(20):
                guest.writer.write(frame(PING, b"12345678") * 100)
            await until(lambda: a.heard.ends, "the end")
            assert a.heard.ends[0][1] in (Reason.FLOOD, Reason.SLOW_READER)
            assert a.peers.buffered_bytes <= MIB
            guest.close()

    run(main())


def test_a_slow_reader_costs_bounded_memory_and_loses_transactions_first(run: Run, tmp_path: Path) -> None:
    rooms = {**QUICK.rooms, T: Room(1_000, 2 * MIB), C: Room(100, 20 * MIB)}

    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(rooms=rooms)) as network:
            a, b = await network.start("a", "b", by_hand=("guest",))
            await connected(a, b)
            guest = await Hand(tmp_path, "guest", a).shake()
            await until(lambda: len(a.peers.connected) == 2, "both")

            def status() -> Any:
                return next(each for each in a.peers.status() if each.node == guest.identity.id)

            for number in range(400):
                a.peers.send(guest.identity.id, T, number.to_bytes(2, "big") * 50_000)
                a.peers.send(b.id, T, number.to_bytes(2, "big") * 5)
                if number % 10 == 0:
                    await asyncio.sleep(0)
                assert status().waiting[T].bytes <= 2 * MIB
            assert status().connected and status().dropped[T] > 0
            assert status().buffered_bytes <= 2 * MIB + 64 * 1024 + 4 * QUICK.write_bytes
            for _ in range(500):
                a.peers.send(guest.identity.id, C, bytes(1_000))
            assert a.heard.ends == [(guest.identity.id, Reason.SLOW_READER)]
            assert status().ban is None
            await until(lambda: len(b.got(a, T)) == 400, "the other peer has everything")
            assert a.status(b).dropped[T] == 0
            guest.close()

    run(main())


def test_a_peer_that_takes_nothing_for_long_is_dropped(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(stalled_seconds=0.5)) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).shake()
            a.peers.send(guest.identity.id, B, bytes(QUICK.lengths[B].most))
            chatter = asyncio.create_task(_chatter(guest))
            await until(lambda: a.heard.ends, "the end")
            assert a.heard.ends == [(guest.identity.id, Reason.SLOW_READER)]
            chatter.cancel()
            await asyncio.gather(chatter, return_exceptions=True)
            guest.close()

    run(main())


async def _chatter(guest: Hand) -> None:
    while True:
        await guest.send(frame(T, b"alive"))
        await asyncio.sleep(0.05)


def test_a_frame_that_drips_is_cut_off(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(frame_seconds=0.5)) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).shake()
            await guest.send(bytes([B]) + MIB.to_bytes(4, "big"))
            with pytest.raises((ConnectionError, ssl.SSLError)):
                while True:
                    await guest.send(b"x")
                    await asyncio.sleep(0.02)
            await until(lambda: a.heard.ends, "the end")
            assert a.heard.ends == [(guest.identity.id, Reason.STALLED)]

    run(main())


def test_silence_after_tls_ends_the_connection(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(handshake_seconds=0.3)) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).connect()
            assert (await guest.farewell())[0] == "handshake-timeout"
            assert a.peers.status()[0].ban is None

    run(main())


def test_one_node_cannot_hold_many_handshakes(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            hands = [await Hand(tmp_path, "guest", a).connect() for _ in range(QUICK.handshakes_per_node)]
            for hand in hands:
                await hand.next_frame()
            assert (await (await Hand(tmp_path, "guest", a).connect()).farewell())[0] == "duplicate"
            for hand in hands:
                hand.close()

    run(main())


def test_one_connection_after_the_other_is_a_flood(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b", by_hand=("guest",))
            await connected(a, b)
            for _ in range(QUICK.openings_at_once):
                await Hand(tmp_path, "guest", a).shake()
            last = await Hand(tmp_path, "guest", a).shake()
            assert (await last.farewell())[:2] == ("flood", "one connection after the other")
            assert a.heard.events.count(("+", last.identity.id)) <= QUICK.openings_at_once
            assert a.status(b).connected and a.status(b).ban is None

    run(main())


def test_a_handler_that_has_too_much_to_do_holds_a_peer_back(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        settings = QUICK._replace(silent_seconds=0.5)
        async with TestNetwork(tmp_path, settings=settings) as network:
            a, b = await network.start("a", "b")
            await connected(a, b)
            a.peers.hold(b.id)
            for number in range(100):
                b.peers.send(a.id, B, number.to_bytes(2, "big") * 50_000)
            await asyncio.sleep(1.0)  # twice the silence that would end it
            assert len(a.got(b, B)) <= 10  # what was on its way
            assert a.heard.ends == []
            a.peers.release(b.id)
            await until(lambda: len(a.got(b, B)) == 100, "all of it")

    run(main())


# Cuts


def test_a_dead_cable_is_noticed_and_a_mended_one_used(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        settings = QUICK._replace(silent_seconds=0.6, dial_seconds=0.5, handshake_seconds=0.5)
        async with TestNetwork(tmp_path, settings=settings) as network:
            a, b = network.add("a"), network.add("b")
            network.register_all()
            await a.peers.start(None)
            await b.start()
            proxy = Proxy(b.address)
            b.address = await proxy.start()
            network.register_all()
            await connected(a, b)
            proxy.cut = True
            await until(lambda: not a.peers.connected and not b.peers.connected, "both notice")
            assert a.heard.ends == [(b.id, Reason.SILENT)]
            assert b.heard.ends == [(a.id, Reason.SILENT)]
            proxy.cut = False
            await connected(a, b)
            await a.peers.stop()
            await b.peers.stop()
            await proxy.stop()

    run(main())


def test_a_restarted_peer_replaces_its_half_open_connection_at_once(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            first = await Hand(tmp_path, "guest", a).shake(instance=b"1" * 16)
            await until(lambda: a.peers.connected == (first.identity.id,), "the first")
            second = await Hand(tmp_path, "guest", a).shake(instance=b"2" * 16)
            await until(lambda: len(a.heard.events) == 3, "the second")
            assert a.heard.ends == [(first.identity.id, Reason.DUPLICATE)]
            assert a.peers.connected == (second.identity.id,)
            assert (await first.farewell())[0] == "duplicate"
            a.peers.send(second.identity.id, C, b"hello again")
            assert await second.next_frame() == (C, b"hello again")
            second.close()

    run(main())


def test_a_peer_that_drops_us_at_once_is_not_dialled_in_a_hot_loop(run: Run, tmp_path: Path) -> None:
    arrivals = 0

    async def main() -> None:
        nonlocal arrivals
        async with TestNetwork(tmp_path, settings=QUICK._replace(backoff_most_seconds=60.0)) as network:
            a = network.add("a")
            network.strangers.append("rude")
            a.peers.register(network.nodes())
            await a.start()

            async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal arrivals
                arrivals += 1
                writer.close()

            server = await asyncio.start_server(drop, *LOOPBACK)
            port = server.sockets[0].getsockname()[1]
            nodes = [a.registered(), network.nodes()[-1]._replace(addresses=(Address("127.0.0.1", port),))]
            a.peers.register(nodes)
            await until(lambda: arrivals >= 4, "several attempts")
            assert a.peers.status()[0].attempts_failed >= 3
            seen = arrivals
            await asyncio.sleep(0.5)
            assert arrivals <= seen + 2
            server.close()

    run(main())
