"""`troth points batch` and `troth certificate batch`: many rows of a CSV file in few transactions."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from cli.batch import Plan, Runner, Summary, make_plan, operation_name
from cli.batch_file import Batch, Operation, read_batch
from cli.batch_journal import Journal, journal_path
from cli.client import NodeClient
from cli.options import dry_run_option, passphrase_file_option
from cli.session import Session, pass_session
from cli.signers import Signer, as_option, find_signer
from cli.transactions import connect, node_option
from cli.values import KindType
from ledger.address import to_text
from ledger.genesis import parse_genesis
from loyalty_contracts.gs1 import Gtin
from node.contracts import registry
from vm.kinds import Identifier, kind_of

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


def _options(function: Any) -> Any:
    for option in (dry_run_option, node_option, passphrase_file_option, as_option):
        function = option(function)
    return function


@click.command("batch")
@_FILE
@click.option("--programme", required=True, type=KindType(kind_of(Identifier)), help="Whose points.")
@click.option(
    "--operation", type=click.Choice(["mint", "transfer"]), default="mint", show_default=True, help="What to do."
)
@_options
@pass_session
def points_batch(session: Session, /, file: Path, programme: str, operation: str, **values: Any) -> None:
    """Gives points to many accounts, from a CSV file.

    The file has the columns account (an address) and amount, and may have reference (your own key for the row, never
    accepted twice) and memo (for yourself, not sent). It is checked whole first. Stopped at any moment, the same
    command goes on where it stopped, and nobody is paid twice: keep FILE.troth-journal beside the file until the end.
    """
    found = registry().method("points", operation)
    batch = read_batch(
        file, Operation("points", found, {"programme": programme}, {"to": ("account", "to", "member")}, ())
    )
    _run(session, file, batch, values, {"total_amount": sum(batch.column("amount"))})


@click.command("batch")
@_FILE
@click.option("--gtin", type=KindType(kind_of(Gtin)), help="The product of every row, instead of a column gtin.")
@_options
@pass_session
def certificate_batch(session: Session, /, file: Path, gtin: str | None, **values: Any) -> None:
    """Issues many certificates, from a CSV file.

    The file has the columns gtin, serial and commitment (64 hexadecimal digits: a salted SHA-256 of the certificate's
    data; also called data_hash), and may have holder (an address), expires (a date), reference and memo. It is checked
    whole first. Stopped at any moment, the same command goes on where it stopped: keep FILE.troth-journal beside the
    file until the end.
    """
    found = registry().method("certificate", "issue")
    fixed = {} if gtin is None else {"gtin": gtin}
    aliases = {"commitment": ("commitment", "data_hash"), "holder": ("holder", "account")}
    batch = read_batch(file, Operation("certificate", found, fixed, aliases, ("gtin", "serial")))
    _run(session, file, batch, values, {})


def _run(session: Session, file: Path, batch: Batch, values: dict[str, Any], totals: dict[str, int]) -> None:
    signer = find_signer(session, values["signer_name"], values["passphrase_file"])
    with closing(connect(session, values["node"])) as client:
        chain = client.chain()
        signer.check_chain(chain["chain_id"])
        genesis = parse_genesis(client.request("GET", "/genesis").body.decode())
        plan = make_plan(batch, genesis.parameters)
        facts = {
            "file_sha256": batch.digest.hex(),
            "genesis_id": genesis.id().hex(),
            "signer": to_text(signer.address),
            "operation": operation_name(batch),
            "calls": plan.calls,
        }
        if values["dry_run"]:
            _dry_run(session, client, signer, genesis.chain_id, file, plan, facts, totals)
            return
        key = signer.key(genesis.chain_id)
        with (
            Journal(journal_path(file), facts) as journal,
            session.progress(operation_name(batch), len(batch.calls)) as bar,
        ):
            runner = Runner(client, registry(), key, signer.address, plan, journal, advance=bar.advance)
            summary = runner.run()
    _tell(session, batch, summary, facts, totals)


def _dry_run(
    session: Session,
    client: NodeClient,
    signer: Signer,
    chain_id: str,
    file: Path,
    plan: Plan,
    facts: dict[str, Any],
    totals: dict[str, int],
) -> None:
    import tempfile

    key = signer.key(chain_id)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal", facts) as journal:
        runner = Runner(client, registry(), key, signer.address, plan, journal, advance=lambda rows: None)
        runner.check_first(0)
    data = {**facts, "rows": len(plan.batch.calls), **totals, "transactions": len(plan.spans), "sent": 0}
    lines = [
        f"{operation_name(plan.batch)} by {signer.name} ({facts['signer']})",
        f"Rows:          {len(plan.batch.calls):,}",
        *[f"{_title(name)} {value:,}" for name, value in totals.items()],
        f"Transactions:  {len(plan.spans):,} of up to {plan.calls} calls",
        "Nothing was sent.",
    ]
    session.result("batch", data, "\n".join(lines), next=f"the same command without --dry-run, for {file}")


def _tell(session: Session, batch: Batch, summary: Summary, facts: dict[str, Any], totals: dict[str, int]) -> None:
    data = {**facts, **totals, **summary._asdict()}
    before = f"; {summary.done_before:,} were done before" if summary.done_before else ""
    lines = [
        f"Done: {operation_name(batch)}",
        f"Rows:          {summary.rows:,}",
        *[f"{_title(name)} {value:,}" for name, value in totals.items()],
        f"Transactions:  {summary.transactions:,}, of which {summary.sent:,} were sent now{before}",
    ]
    if summary.height is not None:
        lines.append(f"Last block:    {summary.height:,}")
    fixed = batch.operation.fixed
    step = f"points show {fixed['programme']}" if "programme" in fixed else "certificate product GTIN"
    session.result("batch", data, "\n".join(lines), next=session.command(step))


def _title(name: str) -> str:
    return f"{name.replace('_', ' ').capitalize()}:".ljust(14)
