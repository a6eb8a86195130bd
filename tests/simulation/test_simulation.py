"""Seeds of the simulator in the test suite; `python -m tests.simulation` searches further."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consensus.engine import Engine
from consensus.quorum import quorum
from consensus.tally import Committee
from tests.consensus_kit import committee
from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Result, play
from tests.simulation.world import BLOCKS_AFTER

ROOT = Path(__file__).resolve().parents[2]


def failures(results: list[Result]) -> list[str]:
    return [f"{result.fault} ({result.command})" for result in results if result.fault is not None]


def test_the_first_seeds() -> None:
    results = [play(seed) for seed in range(120)]
    assert failures(results) == []
    # The faults must have happened, or their absence would prove nothing.
    assert all(result.blocks >= BLOCKS_AFTER for result in results)
    assert sum(result.rounds_max > 0 for result in results) > 30
    assert sum(result.rounds_max > 2 for result in results) > 5
    assert sum(result.accused > 0 for result in results) > 10
    assert any(result.plan.twins for result in results)


@pytest.mark.long  # `make simulate` plays as many, and on the real chain too
def test_a_thousand_seeds() -> None:
    assert failures([play(seed) for seed in range(120, 1_120)]) == []


def test_a_seed_replays_exactly() -> None:
    for seed in (3, 25, 91):
        assert play(seed) == play(seed)


SAYS = {
    "c4-round-in-id": "NOT_THE_PREPARED_BLOCK",
    "c4-certificate-in-id": "no progress",
    "c5-any-proposal": "two blocks at height",
    "c5-prepared-ignored": "two blocks at height",
    "c5-lock-not-told": "does not say so",
    "c6-forgets": "signs twice",
    "c6-writes-late": "does not cover",
    "c7-own-commit": "which it never sent",
    "c7-talks-on": "after deciding it",
    "c8-timer-on-entering": "no progress",
    "quorum": "without a quorum",
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_broken_on_purpose_is_found(name: str) -> None:
    found: set[str] = set()
    for seed in range(600):
        fault = play(seed, name).fault
        if fault is not None:
            found.add(fault)
            if SAYS[name] in fault:
                return
    pytest.fail(f"{MUTATIONS[name].rule}: not found by 600 seeds, only {found}")


def test_nothing_stays_broken_after_a_mutation() -> None:
    before = Engine.__dict__.copy()
    play(0, "quorum")
    assert quorum(6) == Committee(committee(6)).quorum == 4
    assert Engine.__dict__ == before


def test_the_command_replays_a_seed_and_fails_with_it() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seeds"]
    good = subprocess.run([*command, "0..2"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (good.returncode, "3 seeds, 0 failed" in good.stdout) == (0, True)
    bad = [*command, "0", "--broken", "c7-talks-on"]
    broken = subprocess.run(bad, cwd=ROOT, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "again: python -m tests.simulation --seeds 0..0 --broken c7-talks-on" in broken.stdout
