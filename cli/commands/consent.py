"""`troth consent`: requests for the use of data, decisions and accesses. Made from the contract's declaration."""

from __future__ import annotations

from cli.contract_commands import Naming, contract_group
from node.contracts import registry

NAMING = Naming(
    commands={"record_access": "access"},
    drawn=frozenset({("request", "request")}),
)

consent = contract_group(registry(), "consent", NAMING)
