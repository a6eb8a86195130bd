"""`troth query`: what the ledger holds, and with `--verify` the proof of it, checked here.

With `--verify` the shown values are decoded from the proven bytes; without it they are the node's word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import click

from cli.client import NodeClient
from cli.contract_commands import height_option
from cli.groups import TrothGroup
from cli.session import Session, pass_session
from cli.transactions import connect, node_option, receipt_text
from cli.trust import trusted_genesis, verify_options
from cli.values import KindType, describe, label_finder, now_ms, show_fields, show_time, value_from_text
from cli.verification import ProvenCell, ProvenTransaction, verify_cell, verify_transaction
from ledger import codec
from ledger.errors import Invalid, NotFound, define
from node.contracts import registry
from vm.contract import Map
from vm.kinds import Hash, TupleKind, kind_of
from vm.overlay import cell_key

NO_MAP = define("E-QUERY-001", "the contract has no such map", "choose one of those it names")
ABSENT = define("E-QUERY-002", "the state holds nothing there", "check what was asked for")

_ID = click.argument("id", type=KindType(kind_of(Hash)), metavar="ID")


class _Asked(NamedTuple):
    """What every query is told beside its own arguments."""

    session: Session
    node: str | None
    height: int | None
    verify: bool
    genesis: Path | None


class _Named(NamedTuple):
    """A query for a cell of one map. `key` names the parts of its key, `absent` is its value where there is no cell."""

    contract: str
    map: str
    key: tuple[str, ...]
    help: str
    absent: Any = None


_NAMED: dict[str, _Named] = {
    "balance": _Named(
        "points",
        "account",
        ("programme", "account"),
        "The points of an account, 0 where it never had any.",
        {"balance": 0, "frozen": False},
    ),
    "allowance": _Named(
        "points", "allowance", ("programme", "owner", "spender"), "The points of OWNER that SPENDER may still use.", 0
    ),
    "programme": _Named("points", "programme", ("programme",), "A programme: who issues its points, and its limits."),
    "totals": _Named("points", "totals", ("programme",), "What a programme has issued, redeemed and burned."),
    "certificate": _Named(
        "certificate", "certificate", ("gtin", "serial"), "A certificate: its commitment, holder and status."
    ),
    "product": _Named("certificate", "product", ("gtin",), "A product: who stands behind it."),
    "consent": _Named("consent", "requests", ("request",), "A request for consent, and what became of it."),
    "member": _Named("organisations", "member", ("account",), "The organisation and the roles of an account."),
    "organisation": _Named("organisations", "organisation", ("organisation",), "An organisation of the consortium."),
}


@click.group(cls=TrothGroup)
def query() -> None:
    """Ask for state, transactions and receipts, and check the proof of the answer."""


def _options(function: Any) -> Any:
    return node_option(height_option(verify_options(function)))


def _named_command(name: str, named: _Named) -> click.Command:
    declared = _map(named.contract, named.map)
    kinds = declared.key.parts if isinstance(declared.key, TupleKind) else (declared.key,)

    def run(
        session: Session,
        /,
        node: str | None,
        height: int | None,
        verify: bool,
        genesis: Path | None,
        **parts: Any,
    ) -> None:
        values = tuple([parts[f"key_{each}"] for each in named.key])
        key = values if isinstance(declared.key, TupleKind) else values[0]
        _cell(_Asked(session, node, height, verify, genesis), named.contract, named.map, key, absent=named.absent)

    command = click.command(name, help=named.help)(_options(pass_session(run)))
    command.params[:0] = [
        click.Argument([f"key_{each}"], type=KindType(kind), metavar=each.upper())
        for each, kind in zip(named.key, kinds, strict=True)
    ]
    return command


@query.command()
@click.argument("contract")
@click.argument("map")
@click.argument("key", nargs=-1)
@node_option
@height_option
@verify_options
@pass_session
def state(
    session: Session,
    contract: str,
    map: str,
    key: tuple[str, ...],
    node: str | None,
    height: int | None,
    verify: bool,
    genesis: Path | None,
) -> None:
    """Any cell: CONTRACT, MAP and each part of its KEY, as in: points account beans troth1..."""
    declared = _map(contract, map)
    kinds = declared.key.parts if isinstance(declared.key, TupleKind) else (declared.key,)
    if len(key) != len(kinds):
        parts = "; ".join([describe(kind) for kind in kinds])
        raise click.UsageError(f"the key of {contract}.{map} has {len(kinds)} parts: {parts}")
    values = []
    for number, (kind, text) in enumerate(zip(kinds, key, strict=True), start=1):
        try:
            values.append(value_from_text(kind, text, label_finder(session)))
        except ValueError as error:
            raise click.UsageError(f"part {number} of the key, {text!r}, {error}") from None
    whole = tuple(values) if isinstance(declared.key, TupleKind) else values[0]
    _cell(_Asked(session, node, height, verify, genesis), contract, map, whole)


@query.command()
@_ID
@node_option
@verify_options
@pass_session
def transaction(session: Session, id: bytes, node: str | None, verify: bool, genesis: Path | None) -> None:
    """A transaction: who signed it, what it calls, and its receipt."""
    from cli.commands.tx import transaction_text

    found, proven, trusted = _transaction(_Asked(session, node, None, verify, genesis), id)
    data = {**{name: value for name, value in found.items() if name != "proof"}, **_proof_json(proven, trusted)}
    session.result("transaction", data, lambda: f"{transaction_text(found)}{_proof_text(proven, trusted)}")


@query.command()
@_ID
@node_option
@verify_options
@pass_session
def receipt(session: Session, id: bytes, node: str | None, verify: bool, genesis: Path | None) -> None:
    """What a transaction did."""
    found, proven, trusted = _transaction(_Asked(session, node, None, verify, genesis), id)
    if found["status"] != "final":
        raise NotFound(ABSENT, f"transaction {id.hex()} waits for a block", fix=f"ask: troth tx why {id.hex()}")
    data = {"id": found["id"], "height": found["height"], "receipt": found["receipt"], **_proof_json(proven, trusted)}
    text = f"Final in block {found['height']}\n{receipt_text(registry(), found['receipt'])}"
    session.result("receipt", data, f"{text}{_proof_text(proven, trusted)}")


@query.command()
@click.argument("which", default="head")
@node_option
@pass_session
def block(session: Session, which: str, node: str | None) -> None:
    """A block by height, id or the word head. Whole chains are checked by `troth audit replay`."""
    if not which.isalnum():
        raise click.UsageError(f"{which!r} is neither a height nor a block id")
    with connect(session, node) as client:
        found = client.get(f"/blocks/{which}")

    def text() -> str:
        header = found["header"]
        seals = (found["certificate"] or {"seals": []})["seals"]
        lines = [
            f"Block {found['height']}  {found['block_id']}",
            f"Time          {show_time(header['time_ms'])}",
            f"Proposer      {header['proposer']}",
            f"Seals         {len(seals)}",
            f"State root    {header['state_root']}",
            f"Transactions  {len(found['transactions'])}",
        ]
        return "\n".join([*lines, *[f"  {identifier}" for identifier in found["transactions"][:50]]])

    session.result("block", found, text)


@query.command()
@node_option
@pass_session
def chain(session: Session, node: str | None) -> None:
    """The chain: its id, head, validators and parameters."""
    with connect(session, node) as client:
        found = client.chain()

    def text() -> str:
        lines = [
            f"Chain {found['chain_id']}, genesis {found['genesis_id']}",
            f"Height        {found['height']}",
            f"Time          {show_time(found['time_ms'])}",
            f"Transactions  {found['transactions']}",
            f"State root    {found['state_root']}",
        ]
        rows = [(each["organisation"], each["power"], each["address"]) for each in found["validators"]]
        return "\n".join([*lines, "", session.table(("validator of", "power", "address"), rows)])

    session.result("chain", found, text)


# Asking and checking


def _map(contract: str, name: str) -> Map[Any, Any]:
    maps = registry().contract(contract).maps
    declared = maps.get(name)
    if declared is None:
        raise Invalid(NO_MAP, f"{contract} has no map {name!r}; it has: {', '.join(maps)}")
    return declared


def _cell(asked: _Asked, contract: str, map_name: str, key: Any, *, absent: Any = None) -> None:
    """Asks for one cell and shows it. Raises NotFound where it is absent and `absent` says no value for that."""
    declared = _map(contract, map_name)
    parts = declared.key.to_json(key)
    parts = parts if isinstance(declared.key, TupleKind) else [parts]
    trusted = trusted_genesis(asked.session, asked.genesis) if asked.verify else None
    with connect(asked.session, asked.node) as client:
        found = client.state(contract, map_name, parts, height=asked.height, proof=asked.verify)
        warn = None if trusted is None else _newer(client, found)
    proven: ProvenCell | None = None
    if trusted is not None:
        proven = verify_cell(registry(), trusted[0], cell_key((declared.prefix, key)), found)
        found = {
            "height": proven.header.height,
            "exists": proven.value is not None,
            "value": None if proven.value is None else declared.value.to_json(codec.decode(proven.value)),
        }
    value = found["value"] if found["exists"] else absent
    proof = _proof_json(proven, None if trusted is None else trusted[1])
    if value is None:
        said = "proven to be absent" if proven is not None else "says the node"
        where = f"{contract}.{map_name} {json.dumps(parts, ensure_ascii=False)}"
        raise NotFound(ABSENT, f"{where} is not in the state after block {found['height']}, {said}")
    data = {"height": found["height"], "exists": found["exists"], "value": value, **proof}
    text = f"{show_fields(value)}{_proof_text(proven, None if trusted is None else trusted[1])}"
    asked.session.result("state", data, text)
    if warn is not None:
        asked.session.note(warn)


def _newer(client: NodeClient, found: dict[str, Any]) -> str | None:
    """A note where the proven state is not the present one: a proof cannot tell that."""
    chain = client.chain()
    age_s = max(now_ms() - chain["time_ms"], 0) // 1000
    limit_s = 4 * chain["parameters"]["heartbeat_ms"] // 1000
    if age_s > limit_s:
        return f"The node's last block, {found['height']}, is {age_s} s old: it may have been cut off from newer ones."
    return None


def _transaction(asked: _Asked, identifier: bytes) -> tuple[dict[str, Any], ProvenTransaction | None, Path | None]:
    trusted = trusted_genesis(asked.session, asked.genesis) if asked.verify else None
    with connect(asked.session, asked.node) as client:
        found = client.transaction(identifier, proof=asked.verify)
    if trusted is None:
        return found, None, None
    from node.api.render import receipt_json, transaction_json

    proven = verify_transaction(registry(), trusted[0], identifier, found)
    shown = {
        "id": identifier.hex(),
        "status": "final",
        "height": proven.header.height,
        "position": proven.position,
        "time_ms": proven.header.time_ms,
        "receipt": receipt_json(registry(), proven.receipt, proven.signed),
        "transaction": transaction_json(registry(), proven.signed),
    }
    return shown, proven, trusted[1]


def _proof_json(proven: ProvenCell | ProvenTransaction | None, genesis: Path | None) -> dict[str, Any]:
    if proven is None:
        return {"verified": False}
    return {
        "verified": True,
        "block_id": proven.header.id().hex(),
        "block_time_ms": proven.header.time_ms,
        "genesis_file": str(genesis),
        "checks": list(proven.checks),
    }


def _proof_text(proven: ProvenCell | ProvenTransaction | None, genesis: Path | None) -> str:
    if proven is None:
        return ""
    header = proven.header
    lines = [
        "",
        f"Verified here, trusting only {genesis}:",
        *[f"- {check}" for check in proven.checks],
        f"True as of block {header.height}, {show_time(header.time_ms)}.",
    ]
    return "\n".join(["", *lines])


for _name, _named in _NAMED.items():
    query.add_command(_named_command(_name, _named))
