"""The real chain, executor, state tree and rows under the simulator's faults; `make simulate` plays more seeds."""

from __future__ import annotations

from random import Random

from tests.consensus_kit import address, committee
from tests.simulation.disk import Disk
from tests.simulation.ledger import Schedule, place_of
from tests.simulation.production import ProductionLedger
from tests.simulation.run import play


def test_seeds_on_the_real_chain() -> None:
    results = [play(seed, ledger="production") for seed in range(60)]
    assert [f"{result.fault} ({result.command})" for result in results if result.fault is not None] == []
    assert sum(result.rounds_max > 0 for result in results) > 10


def test_a_seed_replays_exactly_on_the_real_chain() -> None:
    assert play(7, ledger="production") == play(7, ledger="production")


def test_blocks_are_judged_by_the_real_rules() -> None:
    ledger = ProductionLedger(Disk(Random(1)), Schedule(committee()))
    block_id, block = ledger.build(address(0), 1_234_567)
    assert place_of(block) == (1, ledger.head_id)
    other = ProductionLedger(Disk(Random(2)), Schedule(committee()))
    assert other.judge(block_id, block, address(0))
    assert not other.judge(block_id, block, address(1))
    assert not other.judge(block_id, block[:-1] + bytes([block[-1] ^ 1]), address(0))
    assert not other.judge(bytes(32), block, None)
