"""`troth certificate`: certificates of products, from the contract's declaration; `batch` issues from a CSV file."""

from __future__ import annotations

from cli.commands.batches import certificate_batch
from cli.contract_commands import Naming, contract_group
from node.contracts import registry

NAMING = Naming(
    commands={
        "define_product": "define",
        "record_event": "record",
        "set_partner": "partner",
        "set_operator": "operator",
        "product_of": "product",
        "batch_of": "show-batch",
        "owner_of": "owner",
        "balance_of": "balance",
    }
)

certificate = contract_group(registry(), "certificate", NAMING)
certificate.add_command(certificate_batch)
