"""One seed, played from its beginning to its end."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.checks import ViolationError
from tests.simulation.mutations import MUTATIONS, applied
from tests.simulation.production import ProductionLedger
from tests.simulation.world import SOUND, Broken, Plan, World


class Result(NamedTuple):
    """What came of a seed: `fault` is the broken promise, or None; `accused` counts the validators caught."""

    seed: int
    plan: Plan
    fault: str | None
    blocks: int
    accused: int
    rounds_max: int
    command: str


LEDGERS: dict[str, Broken] = {
    "opaque": SOUND,
    "production": SOUND._replace(ledger=ProductionLedger, fixed_validators=True),
}
"""The chains that a sound network can be played with."""


def play(seed: int, broken: str | None = None, ledger: str = "opaque") -> Result:
    """Plays a seed, with a part broken on purpose if one is named, which is then the opaque ledger's."""
    command = f"python -m tests.simulation --seeds {seed}..{seed}" + (f" --broken {broken}" if broken else "")
    command += f" --ledger {ledger}" if ledger != "opaque" else ""
    fault: str | None = None
    mutation = MUTATIONS[broken] if broken else None
    with applied(mutation):
        world = World(seed, mutation.parts if mutation else LEDGERS[ledger])
        try:
            world.run()
        except ViolationError as error:
            fault = str(error)
    rounds = [world.honest[0].ledger.decided(height)[1].round for height in range(1, world.honest[0].ledger.height + 1)]
    return Result(
        seed, world.plan, fault, len(world.checks.chain), len(world.checks.accused), max(rounds, default=0), command
    )
