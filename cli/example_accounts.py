"""The example brands and consumers of a development chain, and what they hold at its beginning.

All keys are public development keys: `dev:grocer` signs for the grocer wherever a command takes `--as`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cli.client import NodeClient
from cli.new_home import Brand
from cli.transactions import build, chain_facts, check_outcome, submit
from ledger.address import address_of, to_text
from ledger.transaction import Call
from node.contracts import registry
from node.keystore import dev_key


class Programme(NamedTuple):
    """A brand's programme of points: its id, name, unit, and what each consumer gets at the beginning."""

    id: str
    name: str
    unit: str
    grants: tuple[tuple[str, int], ...]


ORGANISATIONS = (
    Brand("grocer", "The Grocer"),
    Brand("roaster", "The Roaster"),
    Brand("bank", "The Bank"),
    Brand("airline", "The Airline"),
    Brand("hotel", "The Hotel"),
    Brand("pharmacy", "The Pharmacy"),
    Brand("cinema", "The Cinema"),
)
"""The organisations of development networks, in the order in which they take seats."""

BRANDS = ORGANISATIONS[:2]
"""Those that have a programme, and are on every development chain."""

CONSUMERS = ("alice", "bob", "carol")
PROGRAMMES = {
    "grocer": Programme("grocer", "Grocer Points", "points", (("alice", 1_000), ("bob", 500), ("carol", 100))),
    "roaster": Programme("roaster", "Roaster Beans", "beans", (("alice", 20), ("bob", 8))),
}


def address(name: str) -> bytes:
    """The address of the development key of that name."""
    return address_of(dev_key(name).public)


def fund(client: NodeClient) -> list[str]:
    """Creates the programmes that are not there yet and mints what the consumers get. Returns the new programmes' ids.

    A programme and its grants are one transaction, so a run that is cut short leaves all of it or nothing. Raises
    TrothError.
    """
    contracts = registry()
    points = contracts.contract("points").methods
    made = []
    for brand, programme in PROGRAMMES.items():
        if client.state("points", "programme", [programme.id])["exists"]:
            continue
        create = {"programme": programme.id, "name": programme.name, "unit": programme.unit}
        calls = [Call(0, "points", "create", contracts.arguments_from_json(points["create"], "points", create))]
        for consumer, amount in programme.grants:
            calls.append(Call(0, "points", "mint", (programme.id, address(consumer), amount)))
        key = dev_key(brand)
        transaction = build(contracts, chain_facts(client.chain()), [address_of(key.public)], calls)
        check_outcome(submit(client, [transaction.sign([key])])[0])
        made.append(programme.id)
    return made


def accounts(client: NodeClient, organisations: Sequence[Brand] = BRANDS) -> list[dict[str, Any]]:
    """Each example account: `key` as `--as` takes it, `address`, `what` it is, and its `balances` by programme."""
    rows = []
    for brand in organisations:
        what = f"issuer of {brand.name}"
        rows.append({"key": f"dev:{brand.id}", "address": to_text(address(brand.id)), "what": what, "balances": {}})
    for consumer in CONSUMERS:
        text = to_text(address(consumer))
        balances = {
            programme.id: client.view("points", "balance_of", {"programme": programme.id, "account": text})
            for programme in PROGRAMMES.values()
        }
        rows.append({"key": f"dev:{consumer}", "address": text, "what": "consumer", "balances": balances})
    return rows
