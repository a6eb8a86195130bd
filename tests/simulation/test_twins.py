"""Twins: two unmodified nodes with one key, and a partition for each round, walked through in order.

A twin equivocates without a line of attack being written: each half is honest to what it sees. Four validators and one
twin, seven and two. Source: Bano et al., "Twins: BFT Systems Made Robust", 2022.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.simulation.world import Plan, World

SLOT_MS = 450
"""About as long as round 0 may take, so that each partition meets a round of its own."""


def plan(size: int, twins: tuple[int, ...]) -> Plan:
    return Plan(size, (1,) * size, (), twins, 0.0, 0.0, 0.0, 15, 0, 0, 0, False, False, False, 0, None)


def partitions(names: list[str], numbers: tuple[int, ...]) -> list[list[set[str]]]:
    """For each number a split of the names in two, by its binary digits."""
    return [
        [{each for place, each in enumerate(names) if number >> place & 1 == side} for side in (0, 1)]
        for number in numbers
    ]


def run(size: int, twins: tuple[int, ...], numbers: tuple[int, ...], seed: int) -> World:
    world = World(seed, plan=plan(size, twins), faults_ms=SLOT_MS * (len(numbers) + 1))
    names = [node.name for node in world.nodes]
    for slot, sides in enumerate(partitions(names, numbers)):
        world.after(SLOT_MS * slot, lambda sides=sides: world.split(sides))  # type: ignore[misc]
    world.run()  # raises where a promise is broken
    return world


@pytest.mark.parametrize("twin", range(4))
def test_four_and_a_twin_through_two_rounds_of_every_partition(twin: int) -> None:
    accused = 0
    for numbers in product(range(0, 16, 2), range(1, 16, 2)):
        accused += bool(run(4, (twin,), numbers, seed=sum(numbers)).checks.accused)
    assert accused  # some of them make the twin equivocate, and it is caught


def test_seven_and_two_twins_through_many_partitions() -> None:
    accused = 0
    for number in range(60):
        numbers = tuple([(number * step * 37 + step) % 256 for step in range(1, 6)])
        accused += bool(run(7, (number % 7, (number + 3) % 7), numbers, seed=number).checks.accused)
    assert accused
