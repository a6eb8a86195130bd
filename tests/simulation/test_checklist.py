"""The QBFT checklist's TIMING, RECOVERY and perturbation cases, each by its name, on whole networks in virtual time.

Named as the checklist (external test data, `vectors/checklists/qbft_cases.md`) names them; the other cases are in
tests/unit/consensus/test_qbft_cases.py, and on real processes in tests/end_to_end/test_network_faults.py. Troth has no
write-ahead log beside its signing record and its database: their sync points are the log's writes.
"""

from __future__ import annotations

import pytest

from ledger.block import decode_block
from ledger.errors import VerifyFailed
from tests.consensus_kit import committee
from tests.simulation.disk import Disk
from tests.simulation.ledger import Schedule
from tests.simulation.production import ProductionLedger
from tests.simulation.run import LEDGERS
from tests.simulation.world import Plan, World

CALM = Plan(4, (1,) * 4, (), (), 0.0, 0.0, 0.0, 20, 0, 0, 0, False, False, False, 0, None)
PRODUCTION = LEDGERS["production"]


def sized(count: int, **changes: object) -> Plan:
    return CALM._replace(size=count, powers=(1,) * count, **changes)  # type: ignore[arg-type]


def run(plan: Plan, seed: int = 1) -> World:
    """Plays a plan on the real chain; raises where a promise is broken, progress included."""
    world = World(seed, PRODUCTION, plan=plan, faults_ms=6_000)
    world.run()
    return world


@pytest.mark.parametrize("count", [1, 4, 7, 10, 13])
def test_n_validators_agree(count: int) -> None:
    assert run(sized(count)).checks.chain


@pytest.mark.parametrize("delay_ms", [200, 500])
def test_jitter(delay_ms: int) -> None:
    assert run(sized(4, delay_ms=delay_ms)).checks.chain


@pytest.mark.parametrize("drop", [0.1, 0.3])
@pytest.mark.parametrize("count", [4, 7])
def test_drop(drop: float, count: int) -> None:
    assert run(sized(count, drop=drop)).checks.chain


def test_staggered_starts_and_late_leaders() -> None:
    for seed in range(10):  # each node starts at a moment of its own within the first second
        assert run(sized(4, delay_ms=100), seed).checks.chain


def test_fuzzing_peer() -> None:
    assert run(sized(4, mutate=0.1)).checks.chain


def _killed_at(sync: int, victim: int) -> World:
    """Four validators of whom one is killed at its `sync`-th sync point after the start, and started again."""
    world = World(sync, PRODUCTION, plan=CALM, faults_ms=6_000)
    node = world.honest[victim]
    world.after(1_100, lambda: setattr(node.disk, "crash_in", sync))
    world.run()
    return world


@pytest.mark.parametrize("sync", range(1, 25))
def test_kill_at_every_write_of_what_must_survive(sync: int) -> None:
    """1 is before a sync takes effect, 2 just after it, and so on: record, prepared block and chain in turn."""
    assert _killed_at(sync, sync % 4).checks.chain


def test_all_are_killed_at_once() -> None:
    assert run(sized(4, all_crash=True)).checks.chain


@pytest.mark.parametrize("kept", ["all", "some", "one", "none"])
def test_replay_of_the_blocks_that_are_left(kept: str) -> None:
    """A node whose chain lost its end catches up from the others; the batches that are left are whole."""
    world = World(3, PRODUCTION, plan=CALM, faults_ms=6_000)
    node = world.honest[2]

    def lose() -> None:
        height = node.ledger.height
        left = {"all": height, "some": height // 2, "one": 1, "none": 0}[kept]
        node.crash()
        for number in range(left + 2, height + 2):  # the first batch is genesis
            node.disk._durable.pop(f"batch {number}", None)
        world.after(300, node.start)

    # Record and prepared block are kept: without them the node would refuse to sign (tests/end_to_end).
    world.after(4_000, lose)
    world.run()
    assert world.checks.chain


def test_another_result_of_execution_stops_the_node() -> None:
    """The checklist's "app hash mismatch": what execution gives must be what the header states, or nothing is taken."""
    schedule = Schedule(committee())
    ours, theirs = (ProductionLedger(Disk(World(seed).random), schedule) for seed in (1, 2))
    block_id, block = theirs.build(committee()[0].address, 7_654_321)
    assert ours.judge(block_id, block, None)
    header = decode_block(block).header
    forged = decode_block(block)._replace(header=header._replace(state_root=bytes(32)))
    with pytest.raises(VerifyFailed) as caught:
        ours._chain.judge(forged)
    assert caught.value.code == "E-CHAIN-006"
    assert "state root" in caught.value.cause
