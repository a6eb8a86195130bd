"""`troth points`: programmes of loyalty points. Made from the contract's declaration; `batch` pays from a CSV file."""

from __future__ import annotations

from cli.commands.batches import points_batch
from cli.contract_commands import Naming, contract_group
from node.contracts import registry

NAMING = Naming(
    commands={
        "set_cap": "cap",
        "balance_of": "balance",
        "allowance_of": "allowance",
        "is_frozen": "frozen",
    }
)

points = contract_group(registry(), "points", NAMING)
points.add_command(points_batch)
