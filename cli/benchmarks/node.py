"""A real node under load: transfers over HTTP from this process, each its own signed transaction, final and durable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import aiohttp

from cli.benchmarks.workload import Workload, funding, transfers, workload
from cli.client import NodeClient
from cli.demos.supervised_node import free_port
from cli.new_home import write_home
from cli.node_process import NodeProcess
from ledger import codec
from ledger.errors import Fault, define
from ledger.transaction import SignedTransaction

LOAD_FAILED = define("E-BENCH-001", "the node did not take the load", "see the node's messages; run: troth doctor")

BATCH = 200
CONNECTIONS = 16
SINGLE_CONNECTIONS = 250
IDLE_SAMPLES = 15


class Loaded(NamedTuple):
    """How a load went: transfers a second, and how long each request took from posting to final, in ms."""

    per_second: float
    latencies_ms: list[float]


def measure(
    home: Path, accounts: int, count: int, single: int, note: Callable[[str], None]
) -> tuple[dict[str, Any], Workload]:
    """Throughput and latency in batches, one by one, and idle; memory, disk and steps. The home stays for replay."""
    load = workload(accounts, 2_000)
    port = free_port()
    write_home(home, load.genesis, dev=True)
    settings = [
        f"--set=api.port={port}",
        "--set=log.level=error",
        "--set=state.keep_heights=20",
        "--set=api.connections_per_address=1000",
    ]
    url = f"http://127.0.0.1:{port}"
    with _running(home, url, load, settings) as node:
        note(f"funding {accounts} accounts")
        create, *mints = batches(funding(load), 1)
        run_load(url, [create], 1)
        run_load(url, mints, 8)
    _compact(home)
    before = _disk(home)
    began = time.perf_counter()
    with _running(home, url, load, settings) as node:
        ready = time.perf_counter() - began
        funded = _height(url)
        note(f"signing {count + single} transfers")
        signed = transfers(load, count + single + IDLE_SAMPLES)
        note(f"sending {count} transfers in batches of {BATCH}")
        steps = steps_of(url)
        batched = run_load(url, batches(signed[:count], BATCH), CONNECTIONS)
        steps = {step: (seconds - steps.get(step, 0.0)) / count * 1e6 for step, seconds in steps_of(url).items()}
        memory = memory_of(node.pid)
        note(f"sending {single} transfers one by one")
        alone = run_load(url, batches(signed[count : count + single], 1), SINGLE_CONNECTIONS)
        note("sending to an idle node")
        idle = idle_latencies(url, signed[count + single :])
    _compact(home)
    transferred = count + single + IDLE_SAMPLES
    latencies = sorted(batched.latencies_ms)
    figures = {
        "accounts": accounts,
        "funded_height": funded,
        "transfers": transferred,
        "transfers_per_second": round(batched.per_second),
        "latency_ms_p50": round(median(latencies), 1),
        "latency_ms_p95": round(quantiles(latencies, n=20)[-1], 1),
        "single_transfers_per_second": round(alone.per_second),
        "single_latency_ms_p50": round(median(alone.latencies_ms), 1),
        "single_latency_ms_p95": round(quantiles(alone.latencies_ms, n=20)[-1], 1),
        "idle_latency_ms_p50": round(median(idle), 1),
        "start_ms": round(ready * 1000),
        "memory_bytes": memory,
        "steps_us": {step: round(us, 1) for step, us in steps.items()},
        "disk_bytes_per_transfer": round((_disk(home) - before) / transferred),
    }
    return figures, load


@contextmanager
def _running(home: Path, url: str, load: Workload, settings: list[str]) -> Iterator[NodeProcess]:
    node = NodeProcess(home, url, load.genesis.id().hex(), settings)
    try:
        node.wait_ready()
        yield node
    finally:
        node.close()


def _height(url: str) -> int:
    with NodeClient(url) as client:
        return int(client.chain()["height"])


def batches(signed: Sequence[SignedTransaction], size: int) -> list[bytes]:
    """Bodies of requests, each with so many transactions."""
    raws = [each.raw for each in signed]
    return [codec.encode(tuple(raws[start : start + size])) for start in range(0, len(raws), size)]


def run_load(url: str, bodies: list[bytes], connections: int, seconds: float | None = None) -> Loaded:
    """Posts bodies over several connections, each after the answer to the last, until all are sent or time is up."""
    return asyncio.run(_send(url, bodies, connections, seconds))


async def _send(url: str, bodies: list[bytes], connections: int, seconds: float | None) -> Loaded:
    target = f"{url}/v1/transactions?wait=final&receipts=0&timeout_ms=60000"
    headers = {"Content-Type": "application/octet-stream"}
    latencies: list[float] = []
    sent, started = 0, 0.0
    waiting: Iterator[bytes] = iter(bodies)

    async def connection(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        for body in waiting:
            began = time.perf_counter()
            if seconds is not None and began > started + seconds:
                return
            async with session.post(target, data=body, headers=headers) as response:
                answer = await response.json()
            latencies.append((time.perf_counter() - began) * 1000)
            if response.status != 200:
                raise Fault(LOAD_FAILED, f"HTTP status {response.status}: {str(answer)[:300]}")
            for row in answer["results"]:
                if row["status"] != "final" or row["code"]:
                    raise Fault(LOAD_FAILED, f"a transfer ended as {str(row)[:300]}")
            sent += len(answer["results"])

    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(connections, len(bodies))):
                group.create_task(connection(session))
        return Loaded(sent / (time.perf_counter() - started), latencies)


def idle_latencies(url: str, signed: Sequence[SignedTransaction]) -> list[float]:
    """How long each of these takes from posting to final, in ms, where nothing else is going on."""
    latencies = []
    with NodeClient(url) as client:
        for each in signed:
            time.sleep(0.3)  # the node is idle again: the last block is more than its interval ago
            began = time.perf_counter()
            client.submit([each.raw], wait_seconds=10)
            latencies.append((time.perf_counter() - began) * 1000)
    return latencies


def steps_of(url: str) -> dict[str, float]:
    """Seconds that the node has spent on each step since it started."""
    import urllib.request

    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:  # noqa: S310  our own loopback address
        text = answer.read().decode()
    return {
        sample.labels["step"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "troth_step_seconds_total"
    }


def memory_of(pid: int) -> int:
    """Resident bytes of the node and the processes it has started."""
    import psutil

    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def _disk(home: Path) -> int:
    return sum(file.stat().st_size for file in (home / "data").rglob("*") if file.is_file())


def _compact(home: Path) -> None:
    """Lets LevelDB finish what it would do by itself in time, so that disk is measured without what is dropped."""
    import plyvel

    database = plyvel.DB(str(home / "data" / "ledger"))
    database.compact_range()
    database.close()
