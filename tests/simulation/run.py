"""One seed, played from its beginning to its end."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.checks import ViolationError
from tests.simulation.mutations import MUTATIONS, applied
from tests.simulation.world import SOUND, Plan, World


class Result(NamedTuple):
    """What came of a seed: `fault` is the broken promise, or None; `accused` counts the validators caught."""

    seed: int
    plan: Plan
    fault: str | None
    blocks: int
    accused: int
    rounds_max: int
    command: str


def play(seed: int, broken: str | None = None) -> Result:
    """Plays a seed, with a part broken on purpose if one is named."""
    command = f"python -m tests.simulation --seeds {seed}..{seed}" + (f" --broken {broken}" if broken else "")
    fault: str | None = None
    mutation = MUTATIONS[broken] if broken else None
    with applied(mutation):
        world = World(seed, mutation.parts if mutation else SOUND)
        try:
            world.run()
        except ViolationError as error:
            fault = str(error)
    rounds = [world.honest[0].ledger.decided(height)[1].round for height in range(1, world.honest[0].ledger.height + 1)]
    return Result(
        seed, world.plan, fault, len(world.checks.chain), len(world.checks.accused), max(rounds, default=0), command
    )
