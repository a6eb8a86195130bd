"""Execution alone: transfers through the executor over an in-memory state, without signatures, tree or storage."""

from __future__ import annotations

import time
from typing import Any

from cli.benchmarks.workload import funding, transfers, workload
from node.contracts import registry
from vm.context import BlockInfo
from vm.executor import BlockExecution, execute_genesis

BLOCK = 2_000


def measure(count: int = 20_000) -> dict[str, Any]:
    """Transfers executed a second, and microseconds each: admission, execution, and encoding the changed cells."""
    load = workload(10_000, 1_000)
    contracts = registry()
    cells: dict[bytes, bytes] = {}
    time_ms = load.genesis.time_ms
    parameters = load.genesis.parameters._replace(block_gas=1 << 40, organisation_gas=1 << 40, consumer_gas=1 << 40)

    def apply(changes: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in changes:
            if value is None:
                cells.pop(key, None)
            else:
                cells[key] = value

    apply(execute_genesis(contracts, load.genesis))
    seconds = {"admit": 0.0, "apply": 0.0, "finish": 0.0}
    funded, measured = funding(load), transfers(load, count)
    blocks = [funded] + [measured[start : start + BLOCK] for start in range(0, count, BLOCK)]
    for height, block in enumerate(blocks, 1):
        execution = BlockExecution(
            contracts,
            parameters,
            BlockInfo(load.genesis.chain_id, height, time_ms + height),
            cells.get,
            lambda identifier: False,
        )
        t0 = time.perf_counter()
        for signed in block:
            execution.admit(signed)
        t1 = time.perf_counter()
        receipts = [execution.apply(signed) for signed in block]
        t2 = time.perf_counter()
        result = execution.finish()
        t3 = time.perf_counter()
        assert all(receipt.ok for receipt in receipts)
        apply(result.changes)
        if height > 1:
            for step, passed in (("admit", t1 - t0), ("apply", t2 - t1), ("finish", t3 - t2)):
                seconds[step] += passed
    return {
        "transfers_per_second": round(count / sum(seconds.values())),
        **{f"{step}_us": round(passed / count * 1e6, 1) for step, passed in seconds.items()},
    }
