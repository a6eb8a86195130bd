"""`troth demo`: scenarios on real input, from start to audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session

if TYPE_CHECKING:
    from cli.demos.complete_journey import Result

DEFAULT_WEEKS = 10
DEFAULT_VALIDATORS = 1


@click.group(cls=TrothGroup)
def demo() -> None:
    """Run a scenario on a node of its own, and check its outcome independently."""


@demo.command("complete-journey")
@click.option("--weeks", type=click.IntRange(1, 53), help=f"The first so many weeks of 2017. Default: {DEFAULT_WEEKS}.")
@click.option("--all", "everything", is_flag=True, help="The whole year: 155,848 baskets.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the node's home in this new folder, to look at.")
@click.option(
    "--validators",
    type=click.Choice(("1", "4", "7")),
    default=str(DEFAULT_VALIDATORS),
    show_default=True,
    help="How many validators, each a process of its own.",
)
@click.option("--kills", type=click.IntRange(0, 1000), default=0, help="Kill a node (-9) so often on the way.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the moments of the kills.")
@pass_session
def complete_journey(
    session: Session, weeks: int | None, everything: bool, keep: Path | None, validators: str, kills: int, seed: int
) -> None:
    """A grocer's points programme: households earn by basket and redeem by coupon, as signed transactions.

    At the end every balance is compared with SQL over the purchases alone, and the chain is audited from genesis.
    Exit code 3 if anything differs. The data set is "The Complete Journey" (docs/demo-complete-journey.md).
    """
    import tempfile

    from cli.demos.complete_journey import run
    from ledger.errors import Invalid
    from node.config import BAD_VALUE
    from node.home import HOME_EXISTS

    if everything and weeks is not None:
        raise Invalid(BAD_VALUE, "--all and --weeks were both given", fix="give one of them")
    if keep is not None and keep.exists():
        raise Invalid(HOME_EXISTS, f"{keep} exists", fix="name a new folder")
    count = None if everything else weeks or DEFAULT_WEEKS
    with tempfile.TemporaryDirectory(prefix="troth-demo-") as folder:
        home = keep or Path(folder) / "home"
        result = run(session, home, count, validators=int(validators), kills=kills, seed=seed)
    kept = keep if keep is None or result.validators == 1 else keep / "node-1"
    follow = f"troth audit replay --data {kept}" if kept is not None else "troth dev"
    session.result("demo-complete-journey", _json(result), lambda: _text(result), next=follow)


def _json(result: Result) -> dict[str, object]:
    from cli.commands.audit import report_json

    return {
        "equal": True,
        "weeks": result.summary.weeks,
        "baskets": result.summary.baskets,
        "redemptions": result.summary.redemptions,
        "redemptions_paid": result.paid_redemptions,
        "households": result.households,
        "issued": result.totals.issued,
        "redeemed": result.totals.redeemed,
        "transactions": result.transactions,
        "send_ms": int(result.send_seconds * 1000),
        "restarts": result.restarts,
        "validators": result.validators,
        "audit": report_json(result.audit),
    }


def _text(result: Result) -> str:
    counts, totals, audit = result.summary, result.totals, result.audit
    outstanding = totals.issued - totals.redeemed
    rate = result.transactions / result.send_seconds
    lines = [
        "",
        f"The grocer's club, {counts.days} days of 2017",
        f"  {result.households:,} households brought {counts.baskets:,} baskets worth {counts.cents / 100:,.2f}.",
        f"  They earned {totals.issued:,} points, and redeemed {totals.redeemed:,} for {counts.redemptions:,} coupons.",
        f"  {outstanding:,} points are outstanding: what the grocer still owes its members.",
        f"  {result.transactions:,} signed transactions became final in {result.height:,} blocks,"
        f" {rate:,.0f} a second.",
    ]
    if result.restarts:
        killed = "The node was" if result.validators == 1 else "Nodes were"
        lines.append(f"  {killed} killed and started again {result.restarts} times on the way.")
    lines += [
        "",
        *_nodes(result.validators),
        f"Equal:  the balances of all {result.households:,} households, and the totals issued and redeemed,"
        " are those of SQL over the purchases, to the point.",
        f"Audit:  {audit.transactions:,} transactions executed again from genesis, {audit.signatures:,} signatures and"
        f" every root verified, {audit.cells:,} cells of state compared: all in order.",
    ]
    return "\n".join(lines)


def _nodes(validators: int) -> list[str]:
    if validators == 1:
        return []
    return [f"Agreed: {validators} validators have the same blocks; what was final on one was final on all."]
