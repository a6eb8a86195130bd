"""`troth bench`: what this machine can do, what Troth does on it, and the ratio of the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session

TREE_SIZES = {"10k": 10_000, "1m": 1_000_000}
ACCOUNTS = 100_000
TRANSFERS = 40_000
SINGLE = 6_000


@click.group(cls=TrothGroup, invoke_without_command=True)
@click.option(
    "--quick", is_flag=True, help="A tenth of the work, for a first look; the 1,000,000 accounts are left out."
)
@click.option("--work", type=click.Path(path_type=Path, exists=True), help="Folder for databases. Default: temporary.")
@click.pass_context
@pass_session
def bench(session: Session, ctx: click.Context, quick: bool, work: Path | None) -> None:
    """Measure throughput, latency and the limits of this machine. Takes about two minutes.

    Figures vary from run to run and machine to machine: compare ratios taken in one run. All data are made by the
    command, in a folder that it removes; it starts one node of its own on 127.0.0.1.
    """
    if ctx.invoked_subcommand is not None:
        return
    import tempfile

    from cli.benchmarks import execution, limits, node, replay, tree

    share = 10 if quick else 1
    with tempfile.TemporaryDirectory(prefix="troth-bench-", dir=work) as folder_name:
        folder = Path(folder_name)
        session.note("limits of this machine ...")
        found: dict[str, Any] = {"limits": limits.measure(folder)}
        session.note("execution without signatures ...")
        found["execution"] = execution.measure(20_000 // share)
        sizes = {name: size for name, size in TREE_SIZES.items() if not (quick and size > 100_000)}
        found["tree"] = {}
        for name, size in sizes.items():
            with session.progress(f"State tree of {size:,} accounts", size) as progress:
                figures = tree.measure(folder / name, size, progress.advance)
            found["tree"][f"us_per_key_{name}"] = figures["update_us_per_key"]
            found["tree"][name] = figures
        session.note("a node under load ...")
        figures, load = node.measure(
            folder / "node",
            ACCOUNTS // share,
            TRANSFERS // share,
            SINGLE // share,
            lambda text: session.note(f"  {text}"),
        )
        found["disk"] = {"bytes_per_transfer": figures.pop("disk_bytes_per_transfer")}
        found["memory"] = {"node_bytes": figures.pop("memory_bytes")}
        found["node"] = figures
        session.note("replay ...")
        found["replay"] = replay.measure(folder / "node", folder / "replay", load.genesis, figures["funded_height"])
    found["ratios"] = _ratios(found)
    session.result("bench", found, lambda: _text(session, found))


@bench.command()
@click.option("--validators", type=click.IntRange(1, 7), default=4, show_default=True, help="How many agree.")
@click.option("--seconds", type=click.IntRange(1, 600), default=20, show_default=True, help="How long the load lasts.")
@click.option("--batch", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Transfers in a request.")
@click.option("--connections", type=click.IntRange(1, 500), default=16, show_default=True, help="Requests at a time.")
@click.option("--work", type=click.Path(path_type=Path, exists=True), help="Folder for databases. Default: temporary.")
@pass_session
def network(session: Session, validators: int, seconds: int, batch: int, connections: int, work: Path | None) -> None:
    """Measure several validators on this machine: real processes that agree on every block over mutual TLS.

    All share this machine's cores, so the figure is a floor for validators on machines of their own.
    """
    import tempfile

    from cli.benchmarks import network as measured

    with tempfile.TemporaryDirectory(prefix="troth-bench-", dir=work) as folder:
        found = measured.measure(
            Path(folder) / "network", validators, seconds, batch, connections, lambda text: session.note(f"  {text}")
        )
    session.result("bench-network", {"network": found}, lambda: _network_text(session, found))


def _network_text(session: Session, found: dict[str, Any]) -> str:
    cpu = found["cpu_us_per_transfer"]
    rows = [
        (
            f"{found['validators']} validators, batches of {found['batch']}",
            f"{found['transfers_per_second']:,} transfers/s",
        ),
        ("  from posting to final, p50 / p95", f"{found['latency_ms_p50']} / {found['latency_ms_p95']} ms"),
        ("  one transfer on an idle network, p50", f"{found['idle_latency_ms_p50']} ms"),
        ("blocks, and rounds that were missed", f"{found['blocks']}, {found['missed_rounds']}"),
        ("processor time of a transfer, all nodes", f"{cpu['nodes']} us, and {cpu['workers']} us to verify"),
        ("memory of all nodes and workers", f"{found['memory_bytes'] / 1e6:,.0f} MB"),
    ]
    steps = ", ".join(f"{step} {us}" for step, us in found["steps_us"].items())
    return (
        session.table(("what", "figure"), rows)
        + f"\n\nWhere the time goes on the node that takes the load (us): {steps}"
    )


def _ratios(found: dict[str, Any]) -> dict[str, float]:
    limit = found["limits"]["verify_per_second_two_cores"]
    return {
        "node_to_verify_limit": round(found["node"]["transfers_per_second"] / limit, 3),
        "single_to_verify_limit": round(found["node"]["single_transfers_per_second"] / limit, 3),
        "replay_to_verify_limit": round(found["replay"]["transfers_per_second"] / limit, 3),
        "execution_to_verify_limit": round(found["execution"]["transfers_per_second"] / limit, 3),
    }


def _text(session: Session, found: dict[str, Any]) -> str:
    limits, node, ratios = found["limits"], found["node"], found["ratios"]
    rows: list[tuple[str, str, str]] = [
        ("Ed25519 verifications, one core", f"{limits['verify_per_second_one_core']:,} /s", ""),
        ("Ed25519 verifications, two cores", f"{limits['verify_per_second_two_cores']:,} /s", "the limit"),
        ("Ed25519 signatures", f"{limits['sign_per_second']:,} /s", ""),
        ("SHA-256 of 64 bytes", f"{limits['sha256_per_second']:,} /s", ""),
        ("synced writes of 4 KiB", f"{limits['synced_writes_per_second']:,} /s", ""),
        (
            "execution without signatures",
            f"{found['execution']['transfers_per_second']:,} transfers/s",
            _of(ratios["execution_to_verify_limit"]),
        ),
        (
            "one validator, batches of 200",
            f"{node['transfers_per_second']:,} transfers/s",
            _of(ratios["node_to_verify_limit"]),
        ),
        ("  from posting to final, p50 / p95", f"{node['latency_ms_p50']} / {node['latency_ms_p95']} ms", ""),
        (
            "one validator, posted one by one",
            f"{node['single_transfers_per_second']:,} transfers/s",
            _of(ratios["single_to_verify_limit"]),
        ),
        (
            "  from posting to final, p50 / p95",
            f"{node['single_latency_ms_p50']} / {node['single_latency_ms_p95']} ms",
            "",
        ),
        ("  the same on an idle node, p50", f"{node['idle_latency_ms_p50']} ms", ""),
        (
            "replay, all signatures verified",
            f"{found['replay']['transfers_per_second']:,} transfers/s",
            _of(ratios["replay_to_verify_limit"]),
        ),
    ]
    for name, size in TREE_SIZES.items():
        if name in found["tree"]:
            tree = found["tree"][name]
            rows.append(
                (
                    f"state tree, {size:,} accounts",
                    f"{tree['update_us_per_key']} us per changed key",
                    f"read {tree['read_us_per_key']}, store {tree['store_us_per_key']} us",
                )
            )
    rows += [
        (
            "memory of node and workers",
            f"{found['memory']['node_bytes'] / 1e6:,.0f} MB",
            f"{node['accounts']:,} accounts",
        ),
        ("disk", f"{found['disk']['bytes_per_transfer']:,} bytes a transfer", "states pruned, compacted"),
        ("start to ready", f"{node['start_ms']:,} ms", ""),
    ]
    steps = ", ".join(f"{step} {us}" for step, us in node["steps_us"].items())
    return session.table(("what", "figure", "note"), rows) + f"\n\nWhere a transfer's time goes (us): {steps}"


def _of(ratio: float) -> str:
    return f"{ratio:.2f} of the limit"
