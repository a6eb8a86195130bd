"""`troth tx`: transactions themselves: look one up, ask why, build, sign and send by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli.client import restated
from cli.groups import TrothGroup
from cli.options import dry_run_option, passphrase_file_option
from cli.session import Session, pass_session
from cli.signers import as_option, find_signer
from cli.transaction_file import Draft, draft_json, draft_of, read_draft, write_draft
from cli.transactions import (
    ChainFacts,
    Sending,
    build,
    chain_facts,
    connect,
    deliver,
    no_wait_option,
    node_option,
    receipt_text,
    timeout_option,
)
from cli.values import KindType, address_from_text, label_finder, now_ms, show, show_time
from ledger.errors import NotFound
from ledger.transaction import MAX_GAS, Call
from node.contracts import registry
from vm.kinds import Hash, kind_of

_ID = click.argument("id", type=KindType(kind_of(Hash)), metavar="ID")
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group(cls=TrothGroup)
def tx() -> None:
    """Show, explain, build, sign and send transactions."""


@tx.command("show")
@_ID
@node_option
@pass_session
def show_transaction(session: Session, id: bytes, node: str | None) -> None:
    """Show a transaction and what it did."""
    with connect(session, node) as client:
        found = client.transaction(id)
    session.result("transaction", found, lambda: transaction_text(found), next=_next(session, found))


def _next(session: Session, found: dict[str, Any]) -> str:
    word = "query transaction" if found["status"] == "final" else "tx why"
    return session.command(f"{word} {found['id']}{' --verify' if found['status'] == 'final' else ''}")


def transaction_text(found: dict[str, Any]) -> str:
    """A transaction of the API (or its proven equal) for people, with its receipt."""
    content = found["transaction"]
    lines = [f"Transaction {found['id']}"]
    if found["status"] == "final":
        lines.append(f"Final in block {found['height']}, at place {found['position'] + 1}")
    else:
        lines.append(f"Waits for a block, until {show_time(content['valid_until_ms'])} at the latest")
    lines.append(f"Signed by {', '.join(content['actors'])}")
    if content["memo"]:
        lines.append(f"Memo: {content['memo']}")
    lines += _calls_text(content["calls"], content["actors"])
    if found.get("receipt"):
        lines.append(receipt_text(registry(), found["receipt"]))
    return "\n".join(lines)


def _calls_text(calls: list[dict[str, Any]], actors: list[str]) -> list[str]:
    lines = []
    for number, call in enumerate(calls[:20], start=1):
        actor = call["actor"] if type(call["actor"]) is str else actors[call["actor"]]
        arguments = call["arguments"]
        named = arguments.items() if type(arguments) is dict else enumerate(arguments)
        lines.append(f"Call {number}: {call['contract']}.{call['method']} by {actor}")
        lines += [f"    {name}: {show(value, str(name))}" for name, value in named]
    if len(calls) > 20:
        lines.append(f"and {len(calls) - 20:,} more calls")
    return lines


@tx.command()
@_ID
@node_option
@pass_session
def why(session: Session, id: bytes, node: str | None) -> None:
    """Say what a transaction waits for, or why it had no effect."""
    identifier = id.hex()
    with connect(session, node) as client:
        chain = client.chain()
        try:
            found = client.transaction(id)
        except NotFound as error:
            window = chain_facts(chain).validity_window_ms // 60_000
            cause = (
                f"the node does not know {identifier}: it never arrived, was refused, or expired while it waited"
                f" (a transaction waits {window} minutes at most)"
            )
            fix = "send it again: troth tx send FILE; with the same file that does no harm"
            raise restated(error, cause, fix) from None
    told = _reason(found, chain)
    data = {"id": identifier, "status": found["status"], **told}
    receipt = found.get("receipt")
    if receipt is not None:
        data["receipt"] = receipt
    session.result("why", data, f"{told['answer']}\n{told['fix']}" if told["fix"] else told["answer"])


def _reason(found: dict[str, Any], chain: dict[str, Any]) -> dict[str, Any]:
    if found["status"] == "final":
        receipt = found["receipt"]
        if receipt["ok"]:
            return {"answer": f"It took effect in block {found['height']}.", "fix": None}
        call = found["transaction"]["calls"][receipt["failed_call"] or 0]
        where = f"call {(receipt['failed_call'] or 0) + 1}, {call['contract']}.{call['method']}"
        answer = f"It had no effect, final in block {found['height']}: {where}: {receipt['code']} {receipt['message']}."
        return {"answer": answer, "fix": f"What to do: {receipt['fix']}."}
    content = found["transaction"]
    left_s = (content["valid_until_ms"] - max(now_ms(), chain["time_ms"])) // 1000
    waiting = chain["mempool"]["transactions"]
    age_s = max(now_ms() - chain["time_ms"], 0) // 1000
    answer = (
        f"It waits for a block, among {waiting:,} transactions; the last block, {chain['height']}, is {age_s} s old."
        f" It can wait {max(left_s, 0)} s more."
    )
    interval_s = chain["parameters"]["block_interval_ms"] / 1000
    stale = age_s > 20 * interval_s + 5
    fix = "No block comes although transactions wait: see troth node status." if stale and waiting else None
    return {"answer": answer, "fix": fix}


@tx.command("build")
@click.option(
    "--call",
    "calls",
    multiple=True,
    required=True,
    metavar="CALL",
    help="CONTRACT.METHOD and a JSON object of its arguments, as in: points.transfer"
    ' \'{"programme": "beans", "to": "troth1...", "amount": 5}\'. Begin with N: for the call of the N-th actor.'
    " @FILE takes a JSON array of {actor, contract, method, arguments} from a file.",
)
@click.option(
    "--actor",
    "actors",
    multiple=True,
    required=True,
    metavar="ACCOUNT",
    help="Who acts and has to sign: an address, a key's label or dev:NAME. The first bears the quota.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@click.option("--memo", default="", metavar="TEXT", help="A public note in the transaction; no personal data.")
@click.option("--gas-limit", type=click.IntRange(1, MAX_GAS), metavar="N", help="Not the computed one.")
@click.option(
    "--valid-for", type=click.IntRange(1, 10_080), default=60, show_default=True, metavar="MINUTES", help="Until then."
)
@click.option(
    "--genesis", type=click.Path(path_type=Path, dir_okay=False), help="Build without a node, from this file."
)
@node_option
@pass_session
def build_file(
    session: Session,
    calls: tuple[str, ...],
    actors: tuple[str, ...],
    out: Path,
    memo: str,
    gas_limit: int | None,
    valid_for: int,
    genesis: Path | None,
    node: str | None,
) -> None:
    """Build a transaction of any calls and actors into a file, for `tx sign` and `tx send`."""
    addresses = [address_from_text(actor, label_finder(session)) for actor in actors]
    made = [call for text in calls for call in parse_calls(text, len(addresses))]
    if genesis is None:
        with connect(session, node) as client:
            facts = chain_facts(client.chain())
    else:
        facts = _facts_of_genesis(genesis)
    transaction = build(
        registry(), facts, addresses, made, memo=memo, gas_limit=gas_limit, valid_for_ms=valid_for * 60_000
    )
    draft = draft_of(transaction)
    write_draft(out, draft, registry(), replace=False)
    data = {"file": str(out), **draft_json(registry(), draft)}
    session.result(
        "draft", data, lambda: _draft_text(draft), next=session.command(f"tx sign {out} --as KEY, by each actor")
    )


def _facts_of_genesis(path: Path) -> ChainFacts:
    """What a machine without a network knows of a chain: its genesis, and its own clock."""
    from cli.trust import read_genesis

    genesis = read_genesis(path)
    return chain_facts({"chain_id": genesis.chain_id, "time_ms": now_ms(), "parameters": genesis.parameters._asdict()})


def parse_calls(text: str, actors: int) -> list[Call]:
    """The calls that `--call` says. Raises click.UsageError; Invalid (E-VM-...) where a call is wrong."""
    if text.startswith("@"):
        try:
            entries = json.loads(Path(text[1:]).read_bytes())
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{text[1:]}: {error}") from None
        if type(entries) is not list or any(type(entry) is not dict for entry in entries):
            raise click.UsageError(f"{text[1:]} is not a JSON array of objects")
        return [_call(entry, actors) for entry in entries]
    head, _, arguments = text.partition(" ")
    number, colon, name = head.rpartition(":")
    contract, dot, method = name.partition(".")
    if not dot or (colon and not number.isdecimal()):
        raise click.UsageError(f"{head!r} is not CONTRACT.METHOD, or N:CONTRACT.METHOD")
    try:
        given = json.loads(arguments or "{}")
    except ValueError as error:
        raise click.UsageError(f"the arguments of {name} are not JSON: {error}") from None
    return [
        _call(
            {"actor": int(number) - 1 if number else 0, "contract": contract, "method": method, "arguments": given},
            actors,
        )
    ]


def _call(entry: dict[str, Any], actors: int) -> Call:
    actor, contract, method = entry.get("actor", 0), entry.get("contract"), entry.get("method")
    given = entry.get("arguments", {})
    if type(actor) is not int or type(contract) is not str or type(method) is not str or type(given) is not dict:
        raise click.UsageError(
            "a call has contract, method, an object of arguments, and perhaps the number of its actor"
        )
    if not 0 <= actor < actors:
        raise click.UsageError(f"{contract}.{method} is a call of actor {actor + 1}, there are {actors}")
    found = registry().method(contract, method)
    return Call(actor, contract, method, registry().arguments_from_json(found, contract, given))


def _draft_text(draft: Draft) -> str:
    shown = draft_json(registry(), draft)
    lines = [
        f"Transaction {shown['id']}",
        f"For chain {shown['chain_id']}, valid until {show_time(shown['valid_until_ms'])}",
    ]
    if shown["memo"]:
        lines.append(f"Memo: {shown['memo']}")
    lines += _calls_text(shown["calls"], shown["actors"])
    signed = shown["signed"]
    lines += [f"{'Signed by' if actor in signed else 'Not signed by'} {actor}" for actor in shown["actors"]]
    return "\n".join(lines)


@tx.command()
@_FILE
@as_option
@passphrase_file_option
@pass_session
def sign(session: Session, file: Path, signer_name: str | None, passphrase_file: Path | None) -> None:
    """Sign a transaction file, having shown what it does. Needs no node."""
    draft = read_draft(file)
    session.note(_draft_text(draft))
    signer = find_signer(session, signer_name, passphrase_file)
    draft.check_actor(signer.address)
    session.confirm("Sign it?")
    signed = draft.signed_by(signer.key(draft.transaction.chain_id))
    write_draft(file, signed, registry(), replace=True)
    missing = len(signed.missing())
    data = {"file": str(file), **draft_json(registry(), signed)}
    step = f"tx sign {file} --as KEY, by {missing} more" if missing else f"tx send {file}"
    session.result("draft", data, f"Signed: {file}", next=session.command(step))


@tx.command()
@_FILE
@node_option
@dry_run_option
@no_wait_option
@timeout_option
@pass_session
def send(session: Session, file: Path, node: str | None, dry_run: bool, no_wait: bool, timeout: float) -> None:
    """Send a signed transaction file and wait until it is final. Sending it again does no harm."""
    signed = read_draft(file).complete()
    with connect(session, node) as client:
        deliver(session, client, registry(), signed, Sending(dry_run, not no_wait, timeout, "", None, 0))
