from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ledger.errors import Fault, Invalid, TrothError, Unavailable
from ledger.genesis import Genesis, Parameters
from node.api.server import ApiLimits
from node.config import load_config
from node.home import Home
from node.keyvalue import CORRUPT, WRITE_FAILED
from node.mempool import Limits
from node.service import Node, Settings, settings_of
from node.verifier import Workers
from tests.chains import START_MS, create, genesis, mint, signed, signer_beside, soon_ms

_PARAMETERS = Parameters(block_interval_ms=10, heartbeat_ms=24 * 60 * 60 * 1000)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    found = Workers(1)
    yield found
    found.close()


@asynccontextmanager
async def _running(
    folder: Path, workers: Workers, *, agreed: Genesis | None = None, **settings: Any
) -> AsyncIterator[tuple[Node, aiohttp.ClientSession]]:
    node = Node(Settings(folder, port=0, **settings), agreed or genesis(_PARAMETERS), signer_beside(folder), workers)
    await node.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{node.api.port}") as session:
        try:
            yield node, session
        finally:
            if not node.stopping.is_set():
                await node.stop()


def _run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


async def _submit(session: aiohttp.ClientSession, *raws: bytes, wait: str = "?wait=final") -> tuple[int, Any]:
    body = {"transactions": [raw.hex() for raw in raws]}
    async with session.post(f"/v1/transactions{wait}", json=body) as response:
        return response.status, await response.json()


def _create(name: str = "beans") -> bytes:
    return signed("roaster", create(name), valid_until_ms=soon_ms()).raw


def test_the_whole_way_and_again_after_a_restart(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (node, session):
            status, answer = await _submit(session, _create())
            assert status == 200 and answer["results"][0]["receipt"]["ok"]
            head = node.chain.head
        async with _running(tmp_path, workers) as (node, session):
            assert node.chain.head == head
            raw = signed("roaster", mint("alice", 5), valid_until_ms=soon_ms()).raw
            status, answer = await _submit(session, raw)
            assert answer["results"][0]["height"] == head.height + 1

    _run(test())


def test_a_taken_port_is_said_in_words(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            node = Node(Settings(tmp_path, port=port), genesis(_PARAMETERS), signer_beside(tmp_path), workers)
            with pytest.raises(Unavailable) as caught:
                await node.start()
            assert caught.value.code == "E-NODE-004" and f"127.0.0.1:{port}" in caught.value.cause
            await node.stop()

    _run(test())


def test_a_key_that_is_no_validators_is_refused_and_frees_the_store(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        with pytest.raises(Invalid) as caught:
            Node(Settings(tmp_path, port=0), genesis(_PARAMETERS), signer_beside(tmp_path, "alice"), workers)
        assert caught.value.code == "E-NODE-002"
        async with _running(tmp_path, workers) as (node, _):
            assert node.chain.head.height == 0

    _run(test())


def test_a_second_node_on_one_database_is_refused(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers):
            with pytest.raises(TrothError) as caught:
                Node(Settings(tmp_path, port=0), genesis(_PARAMETERS), signer_beside(tmp_path / "other"), workers)
            assert caught.value.code == "E-STORE-001"

    _run(test())


def test_another_genesis_is_refused(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers):
            pass
        with pytest.raises(Fault) as caught:
            Node(Settings(tmp_path, port=0), genesis(), signer_beside(tmp_path), workers)
        assert caught.value.code == "E-CHAIN-004"

    _run(test())


def test_a_clock_behind_the_chain_is_refused(tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (_, session):
            await _submit(session, _create())
        monkeypatch.setattr(Node, "now_ms", lambda node: START_MS)
        with pytest.raises(Fault) as caught:
            Node(Settings(tmp_path, port=0), genesis(_PARAMETERS), signer_beside(tmp_path), workers)
        assert caught.value.code == "E-NODE-005"

    _run(test())


def test_a_store_that_fails_stops_the_node(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (node, session):

            def fail(*_: object, **__: object) -> None:
                raise Fault(WRITE_FAILED, "the disk is gone")

            node._store.write = fail  # type: ignore[method-assign]
            waiting = asyncio.create_task(_submit(session, _create()))
            await node.stopping.wait()
            assert node.fault is not None and node.fault.code == "E-STORE-004"
            assert node.chain.head.height == 0
            await node.stop()
            status, answer = await waiting
            # Whether the block is there is only known once the store is opened again: nobody is told it was refused.
        assert status == 202 and answer["results"][0]["status"] == "waiting"

    _run(test())


def test_a_defect_of_the_producer_stops_the_node(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (node, session):

            def fail(*_: object) -> Any:
                raise ZeroDivisionError

            node.chain.execution = fail  # type: ignore[assignment,method-assign]
            waiting = asyncio.create_task(_submit(session, _create()))
            await node.stopping.wait()
            assert node.fault is not None and node.fault.code == "E-NODE-006"
            await node.stop()
            await waiting

    _run(test())


def test_damage_found_while_reading_stops_the_node(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (node, session):

            def fail(key: bytes) -> Any:
                raise Fault(CORRUPT, "a block does not match its checksum")

            node.chain.store.store.get = fail  # type: ignore[method-assign]
            async with session.get("/v1/blocks/0") as response:
                assert response.status == 500
                assert (await response.json())["code"] == "E-STORE-002"
            assert node.stopping.is_set() and node.fault is not None
            await node.stop()

    _run(test())


def test_an_unexpected_error_tells_nothing_and_goes_on(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers) as (node, session):
            node.chain.store.meta = None  # type: ignore[assignment,method-assign]
            async with session.get("/v1/blocks/0") as response:
                assert response.status == 500 and response.content_type == "application/problem+json"
                text = await response.text()
            assert json.loads(text)["code"] == "E-API-005"
            assert "NoneType" not in text and "Traceback" not in text
            assert not node.stopping.is_set()
            async with session.get("/health/live") as response:
                assert response.status == 200

    _run(test())


def test_a_stopping_node_answers_who_waits_and_takes_no_more(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        slow = genesis(_PARAMETERS._replace(block_interval_ms=60_000))
        async with _running(tmp_path, workers, agreed=slow) as (node, session):
            await _submit(session, _create())
            waiting = asyncio.create_task(_submit(session, _create("later")))
            while not len(node.mempool):
                await asyncio.sleep(0.005)
            async with session.get("/v1/stream?after=0") as stream:
                assert (await stream.content.readline()) == b"retry: 1000\n"
                node.stopping.set()
                status, answer = await _submit(session, _create("last"))
                assert status == 503 and answer["code"] == "E-NODE-003"
                stopping = asyncio.create_task(node.stop())
                await stream.read()  # the stream ends by itself
            status, answer = await waiting
            assert answer["results"][0]["error"]["code"] == "E-NODE-003"
            await stopping
        async with _running(tmp_path, workers, agreed=slow) as (node, _):
            assert node.chain.head.transactions == 1

    _run(test())


def test_readiness(tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        quick = genesis(_PARAMETERS._replace(block_interval_ms=60_000, heartbeat_ms=120_000))
        async with _running(tmp_path, workers, agreed=quick, mempool=Limits(transactions=1)) as (node, session):
            assert node.readiness()["ready"]
            await _submit(session, _create())
            state = node.readiness()
            assert state["ready"] and state["height"] == 1 and state["reasons"] == []
            await _submit(session, _create("second"), wait="")
            assert node.readiness()["reasons"] == ["the mempool is full"]
            async with session.get("/health/ready") as response:
                assert response.status == 503 and (await response.json())["mempool"] == 1
            later = node.chain.head.time_ms + 8 * 60_000
            monkeypatch.setattr(Node, "now_ms", lambda node: later)
            assert "the last block is 480 s old" in node.readiness()["reasons"][0]
            node.stopping.set()
            assert node.readiness()["reasons"][0] == "the node is stopping"
            await node.stop()

    _run(test())


def test_so_many_streams_and_no_more(tmp_path: Path, workers: Workers) -> None:
    async def test() -> None:
        async with _running(tmp_path, workers, api=ApiLimits(streams=2)) as (node, session):
            first, second = [await session.get("/v1/stream") for _ in range(2)]
            async with session.get("/v1/stream") as third:
                assert third.status == 503 and third.headers["Retry-After"]
                assert (await third.json())["code"] == "E-API-006"
            first.close()
            while node.streams == 2:  # it hears of the end when it next writes
                await _submit(session, _create(f"programme-{secrets.token_hex(4)}"))
            async with session.get("/v1/stream") as fourth:
                assert fourth.status == 200
            second.close()

    _run(test())


def test_so_many_connections_and_no_more(tmp_path: Path, workers: Workers) -> None:
    async def live(port: int) -> asyncio.StreamWriter | None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
            if (await reader.read(1 << 16)).startswith(b"HTTP/1.1 200 "):
                return writer
        except ConnectionResetError:
            pass
        writer.close()
        return None

    async def test() -> None:
        async with _running(tmp_path, workers, api=ApiLimits(connections=3)) as (node, _):
            held = [await live(node.api.port) for _ in range(5)]
            assert [each is not None for each in held] == [True] * 3 + [False] * 2
            assert held[0] is not None
            held[0].close()
            while (again := await live(node.api.port)) is None:
                pass
            for writer in (*held, again):
                if writer is not None:
                    writer.close()

    _run(test())


def test_settings_are_those_of_the_home(tmp_path: Path) -> None:
    config = load_config(
        tmp_path,
        settings={
            "api.port": "4321",
            "api.host": "127.0.0.2",
            "api.body_bytes": "2000",
            "api.batch_transactions": "3",
            "api.connections": "7",
            "api.connections_per_address": "5",
            "api.header_timeout_ms": "1500",
            "api.body_timeout_ms": "2500",
            "api.idle_timeout_ms": "3500",
            "store.kind": "lmdb",
            "state.keep_heights": "12",
            "node.workers": "2",
            "mempool.transactions": "11",
            "mempool.bytes": "2000000",
            "mempool.sender_transactions": "9",
            "mempool.sender_bytes": "1500000",
        },
        environment={},
    )
    found = settings_of(config, Home(tmp_path))
    assert found[:7] == (
        tmp_path / "data" / "ledger",
        "127.0.0.2",
        4321,
        "lmdb",
        12,
        2,
        Limits(11, 2_000_000, 9, 1_500_000),
    )
    assert found.api[:7] == (2000, 3, 7, 5, 1.5, 2.5, 3.5)
