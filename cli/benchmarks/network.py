"""Several validators under load: real processes on this machine, mutual TLS between them, load over HTTP on one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from cli.benchmarks.node import batches, idle_latencies, memory_of, run_load, steps_of
from cli.benchmarks.workload import BRAND, CHAIN_ID, Workload, funding, sending_accounts, transfers
from cli.client import NodeClient
from cli.demos.supervised_node import free_port
from cli.dev_network import DevNode, create_network
from cli.new_home import Brand, dev_keys
from cli.node_process import NodeProcess

OTHERS = ("bank", "airline", "roaster", "pharmacy", "cinema", "hotel")
TRANSFERS_A_SECOND = 3_500
"""Signed ahead for each second of load: more than any machine of two cores takes."""

ACCOUNTS = 10_000
IDLE_SAMPLES = 15


def measure(
    folder: Path, validators: int, seconds: int, batch: int, connections: int, note: Callable[[str], None]
) -> dict[str, Any]:
    """Throughput and latency under load and idle, processor time, memory, and where the time goes."""
    brands = [BRAND, *(Brand(name, name.capitalize()) for name in OTHERS[: validators - 1])]
    ports = [(free_port(), free_port()) for _ in range(validators)]
    nodes = create_network(folder, CHAIN_ID, int(time.time() * 1000), brands, ports)
    load = Workload(_genesis(folder), dev_keys((BRAND,))[BRAND.id], *sending_accounts(ACCOUNTS, 2_000))
    with _running(nodes, load) as processes:
        url = nodes[0].url
        note(f"funding {ACCOUNTS} accounts")
        create, *mints = batches(funding(load), 1)
        run_load(url, [create], 1)
        run_load(url, mints, 8)
        count = seconds * TRANSFERS_A_SECOND
        note(f"signing {count} transfers")
        signed = transfers(load, count + IDLE_SAMPLES)
        note(f"sending for {seconds} s in batches of {batch}")
        before, cpu_before, first = steps_of(url), _cpu(processes), _height(url)
        own_before = _cpu(processes[:1])
        loaded = run_load(url, batches(signed[:count], batch), connections, seconds)
        done = max(round(loaded.per_second * seconds), 1)
        cpu = {name: round((spent - cpu_before[name]) / done * 1e6, 1) for name, spent in _cpu(processes).items()}
        steps = {step: round((spent - before.get(step, 0.0)) / done * 1e6, 1) for step, spent in steps_of(url).items()}
        own = {name: (spent - own_before[name]) / done * 1e6 for name, spent in _cpu(processes[:1]).items()}
        counted = sum([us for step, us in steps.items() if step != "write"])
        steps |= {"verify": round(own["workers"], 1), "http_gossip_write": round(max(own["nodes"] - counted, 0), 1)}
        memory = sum(memory_of(process.pid) for process in processes)
        last = _height(url)
        note("sending to an idle network")
        idle = idle_latencies(url, signed[count:])
        with NodeClient(url) as client:
            missed = client.get("/node")["missed_rounds"]
    latencies = sorted(loaded.latencies_ms)
    return {
        "validators": validators,
        "seconds": seconds,
        "batch": batch,
        "connections": connections,
        "transfers": done,
        "transfers_per_second": round(loaded.per_second),
        "latency_ms_p50": round(median(latencies), 1),
        "latency_ms_p95": round(quantiles(latencies, n=20)[-1], 1),
        "idle_latency_ms_p50": round(median(idle), 1),
        "blocks": last - first,
        "missed_rounds": missed,
        "cpu_us_per_transfer": cpu,
        "memory_bytes": memory,
        "steps_us": steps,
    }


def _genesis(folder: Path) -> Any:
    from cli.commands.node import load_genesis
    from node.home import Home

    return load_genesis(Home.open(folder))


@contextmanager
def _running(nodes: list[DevNode], load: Workload) -> Iterator[list[NodeProcess]]:
    with ExitStack() as stack:
        processes = []
        for node in nodes:
            settings = [
                *node.settings,
                "--set=log.level=error",
                "--set=state.keep_heights=20",
                "--set=api.connections_per_address=1000",
                "--set=node.workers=1",
            ]
            process = NodeProcess(node.home, node.url, load.genesis.id().hex(), settings)
            stack.callback(process.close)
            processes.append(process)
        for process in processes:
            process.wait_ready()
        yield processes


def _height(url: str) -> int:
    with NodeClient(url) as client:
        return int(client.chain()["height"])


def _cpu(processes: list[NodeProcess]) -> dict[str, float]:
    """Seconds of processor time so far: of the nodes themselves, and of the processes that verify for them."""
    import psutil

    nodes = workers = 0.0
    for each in processes:
        process = psutil.Process(each.pid)
        own = process.cpu_times()
        nodes += own.user + own.system
        for child in process.children(recursive=True):
            times = child.cpu_times()
            workers += times.user + times.system
    return {"nodes": nodes, "workers": workers}
