"""`troth audit`: execute a chain again from its genesis, and trust no node."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session
from ledger.errors import Fault, Invalid, Refused, VerifyFailed, define

if TYPE_CHECKING:
    from ledger.genesis import Genesis
    from node.audit import Report, Source

TWO_SOURCES = define("E-AUDIT-006", "more than one source", "give one of --url, --file and --data")
CANNOT_WRITE = define("E-AUDIT-007", "the export could not be written", "choose another place with --out")


@click.group(cls=TrothGroup)
def audit() -> None:
    """Re-execute and check a chain, trusting only its genesis document.

    Exit code 0: everything holds. 3: something differs; the block and the difference are named.
    """


@audit.command()
@click.option("--url", help="A running node. Default: the node of this home.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="A file made by `troth audit export`.")
@click.option("--data", type=click.Path(path_type=Path), help="The home of a node that is stopped.")
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path), help="Default: genesis.json of the home.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that verify. Default: one for each core.")
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder for the audit's own database. Default: temporary."
)
@pass_session
def replay(
    session: Session,
    url: str | None,
    file: Path | None,
    data: Path | None,
    genesis_file: Path | None,
    workers: int | None,
    work: Path | None,
) -> None:
    """Execute every transaction again, check every signature, root, rule and invariant, and compare the state."""
    if sum(source is not None for source in (url, file, data)) > 1:
        raise Invalid(TWO_SOURCES, "several of --url, --file and --data were given")
    genesis = _genesis(session, genesis_file, data)
    with ExitStack() as stack:
        source, total = _source(session, stack, url, file, data)
        report = run_audit(session, genesis, source, total, workers=workers, work=work)
    session.result("audit-replay", report_json(report), lambda: report_text(report))


@audit.command()
@click.option("--url", help="A running node. Default: the node of this home.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to make; it must not exist.")
@pass_session
def export(session: Session, url: str | None, out: Path) -> None:
    """Write all blocks and certificates of a running node to a file that can be replayed anywhere."""
    from cli.audit_sources import PAGE_BLOCKS
    from cli.client import NodeClient
    from node.audit import split_frames

    with NodeClient(url or session.config.api_url) as client:
        head = int(client.chain()["height"])
        height, size = 1, 0
        draft = out.with_name(out.name + ".part")
        try:
            if out.exists():
                raise Refused(CANNOT_WRITE, f"{out} exists")
            with draft.open("wb") as target, session.progress("Exporting blocks", head) as progress:
                while height <= head:
                    limit = min(PAGE_BLOCKS, head + 1 - height)
                    page = client.get_bytes("/export", **{"from": height, "limit": limit})
                    count = sum(1 for _ in split_frames(page))
                    if not count:
                        raise Fault(CANNOT_WRITE, f"the node gives no block {height}", fix="ask another node")
                    target.write(page)
                    height += count
                    size += len(page)
                    progress.advance(count)
                target.flush()
                os.fsync(target.fileno())
            draft.rename(out)
        except OSError as error:
            raise Fault(CANNOT_WRITE, f"{out}: {error.strerror}") from error
    session.result(
        "audit-export",
        {"file": str(out), "blocks": head, "bytes": size},
        f"{head} blocks, {size} bytes in {out}",
        next=f"troth audit replay --file {out}",
    )


def run_audit(
    session: Session,
    genesis: Genesis,
    source: Source,
    total: int | None,
    *,
    workers: int | None = None,
    work: Path | None = None,
) -> Report:
    """Replays `source` with a progress bar. Raises VerifyFailed at the first difference."""
    import gc
    import tempfile

    from node.audit import Audit
    from node.keyvalue import CORRUPT
    from node.stores import open_store
    from node.verifier import Workers

    started = Workers(workers or len(os.sched_getaffinity(0)))
    gc.set_threshold(100_000, 50, 100)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="troth-audit-", dir=work) as folder,
            session.progress("Replaying blocks", total) as progress,
        ):
            store = open_store("leveldb", Path(folder))
            try:
                return Audit(genesis, store, started, progress=lambda height, _: progress.advance(1)).run(source)
            except Fault as error:
                if error.code == CORRUPT:  # damage of what is audited is a finding, not an accident
                    raise VerifyFailed(error.code, error.cause) from error
                raise
            finally:
                store.close()
    finally:
        started.close()


def report_json(report: Report) -> dict[str, object]:
    """A report for `--json`."""
    return {
        "ok": True,
        **{k: v.hex() if isinstance(v, bytes) else v for k, v in report._asdict().items() if k != "seconds"},
        "seconds_ms": int(report.seconds * 1000),
    }


def report_text(report: Report) -> str:
    """A report for people."""
    rate = report.transactions / report.seconds if report.seconds else 0
    state = "compared with the source's, cell by cell" if report.cells_compared else "checked against the last header"
    return "\n".join(
        [
            f"The audit of {report.chain_id} found everything in order.",
            f"  source        {report.source}",
            f"  genesis       {report.genesis_id.hex()}",
            f"  head          block {report.height}, {report.block_id.hex()}",
            f"  state root    {report.state_root.hex()}",
            f"  transactions  {report.transactions} executed again; {report.failed_transactions} failed, as recorded",
            f"  signatures    {report.signatures} verified",
            f"  state         {report.cells} cells, {state}",
            "  invariants    all hold",
            f"  time          {report.seconds:.1f} s, {rate:.0f} transactions a second",
        ]
    )


def _genesis(session: Session, given: Path | None, data: Path | None) -> Genesis:
    from cli.commands.node import load_genesis
    from ledger.genesis import parse_genesis
    from node.home import Home

    if given is not None:
        return parse_genesis(Home(given.parent).read_text(given))
    return load_genesis(Home.open(data) if data is not None else session.open_home())


def _source(
    session: Session, stack: ExitStack, url: str | None, file: Path | None, data: Path | None
) -> tuple[Source, int | None]:
    from cli.audit_sources import NodeSource
    from cli.client import NodeClient
    from node.audit import Database, ExportFile
    from node.config import load_config
    from node.home import Home
    from node.keyvalue import CORRUPT
    from node.stores import open_store

    if file is not None:
        return ExportFile(file), None
    if data is not None:
        home = Home.open(data)
        try:
            store = open_store(load_config(data).store.kind, home.ledger, create=False)
        except Fault as error:
            if error.code == CORRUPT:
                raise VerifyFailed(error.code, error.cause) from error
            raise
        stack.callback(store.close)
        database = Database(store, str(home.ledger))
        return database, database.head_height()
    client = stack.enter_context(NodeClient(url or session.config.api_url, timeout_seconds=120))
    source = NodeSource(client)
    return source, source.head_height()
