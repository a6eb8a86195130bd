"""`troth bench` as a person runs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.nodes import troth


@pytest.mark.slow
def test_the_benchmark_gives_its_stable_keys() -> None:
    code, out, err = troth("bench", "--quick", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["schema"] == "troth/bench/1"
    for path in (
        "limits.verify_per_second_one_core",
        "limits.verify_per_second_two_cores",
        "limits.sha256_per_second",
        "limits.synced_writes_per_second",
        "execution.transfers_per_second",
        "node.transfers_per_second",
        "node.latency_ms_p50",
        "node.latency_ms_p95",
        "node.single_transfers_per_second",
        "replay.transfers_per_second",
        "tree.us_per_key_10k",
        "memory.node_bytes",
        "disk.bytes_per_transfer",
        "ratios.node_to_verify_limit",
    ):
        value: Any = found
        for part in path.split("."):
            value = value[part]
        assert value > 0, path


@pytest.mark.slow
def test_the_benchmark_of_a_network_gives_its_stable_keys() -> None:
    code, out, err = troth("bench", "network", "--seconds", "2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["schema"] == "troth/bench-network/1"
    network = found["network"]
    assert network["validators"] == 4
    for name in ("transfers_per_second", "latency_ms_p50", "latency_ms_p95", "idle_latency_ms_p50", "blocks"):
        assert network[name] > 0, name
    assert set(network["cpu_us_per_transfer"]) == {"nodes", "workers"}
