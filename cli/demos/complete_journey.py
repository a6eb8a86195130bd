"""`troth demo complete-journey`: a grocer's year on the ledger, checked against SQL and by an audit.

The way: Parquet files -> one signed transaction for each basket (the grocer issues) and for each redeemed coupon (the
household spends) -> a real node -> every household's balance and the programme's totals, read from the node,
compared with sums computed by SQL from the Parquet files alone -> an audit replay from the genesis.

Each transaction carries a reference made of the basket's or the coupon's own number, which the contract accepts once:
even a second run on the same chain could pay nobody twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cli.demos import complete_journey_data as data
from cli.demos.supervised_node import Kills, Place, SupervisedNodes, all_final, free_ports
from cli.dev_network import create_network
from cli.example_accounts import ORGANISATIONS
from cli.new_home import compose_genesis, dev_keys, write_home
from cli.transactions import ChainFacts, Outcome, build, chain_facts, check_outcome, refusal
from cli.values import now_ms
from ledger.address import address_of, to_text
from ledger.errors import VerifyFailed, define
from ledger.genesis import Genesis, parse_genesis
from ledger.keys import PrivateKey
from ledger.transaction import Call, SignedTransaction
from node.contracts import registry
from node.home import Home
from node.keystore import dev_key

if TYPE_CHECKING:
    from cli.session import Session
    from node.audit import Report

UNEQUAL = define(
    "E-DEMO-006", "the ledger and the SQL sums differ", "keep the home with --keep and look at the rows named"
)

PROGRAMME = "journey"
GROCER = ORGANISATIONS[0]
CHAIN_ID = "dev-complete-journey"


class Totals(NamedTuple):
    """The programme's issued and redeemed points."""

    issued: int
    redeemed: int


class Result(NamedTuple):
    """How the demonstration went. Times in seconds; rates are transactions of the programme a second."""

    summary: data.Summary
    totals: Totals
    households: int
    paid_redemptions: int
    transactions: int
    restarts: int
    validators: int
    height: int
    send_seconds: float
    audit: Report


def household_key(household: int) -> PrivateKey:
    """The public development key of a household: a real one would keep its own."""
    return dev_key(f"household-{household}")


def run(
    session: Session, home: Path, weeks: int | None, *, validators: int = 1, kills: int = 0, seed: int = 1
) -> Result:
    """Runs the demonstration in an empty folder. Raises VerifyFailed where ledger, SQL, audit or nodes disagree."""
    session.note("Reading the purchases ...")
    counts = data.summary(weeks)
    expected = data.expected(weeks)
    genesis, places = _homes(session, home, validators)
    session.note("Starting a node ..." if validators == 1 else f"Starting {validators} nodes ...")
    nodes = SupervisedNodes(places, genesis, Kills(kills, seed, counts.baskets))
    try:
        for place, pid in zip(places, nodes.pids, strict=True):
            session.note(f"A node runs: {place.url} (process {pid}).")
        began = time.perf_counter()
        paid, sent = _trade(session, nodes, weeks, counts, dev_key(GROCER.id))
        seconds = time.perf_counter() - began
        nodes.check_equal(nodes.settle())
        session.note("Comparing every balance with SQL ...")
        totals = _compare(nodes, expected)
        report = _audit(session, nodes, genesis)
    finally:
        nodes.close()
    households = len(expected.balances)
    return Result(counts, totals, households, paid, sent, nodes.restarts, validators, report.height, seconds, report)


def _homes(session: Session, home: Path, validators: int) -> tuple[Genesis, list[Place]]:
    """The genesis, and the homes of as many validators: `home` itself, or folders in it."""
    quiet = () if session.verbose else ("--set=log.level=error",)
    ports = free_ports(2 * validators)
    pairs = list(zip(ports[::2], ports[1::2], strict=True))
    if validators > 1:
        made = create_network(home, CHAIN_ID, now_ms(), ORGANISATIONS[:validators], pairs)
        genesis = parse_genesis(Home(home).genesis_file.read_text(encoding="utf-8"))
        return genesis, [Place(node.home, node.url, (*quiet, *node.settings)) for node in made]
    keys = {label: key.public for label, key in dev_keys((GROCER,)).items()}
    genesis = compose_genesis(CHAIN_ID, now_ms(), (GROCER,), keys)
    write_home(home, genesis, dev=True)
    [(port, network_port)] = pairs
    arguments = (f"--set=api.port={port}", f"--set=network.port={network_port}", *quiet)
    return genesis, [Place(home, f"http://127.0.0.1:{port}", arguments)]


def _trade(
    session: Session, nodes: SupervisedNodes, weeks: int | None, counts: data.Summary, grocer: PrivateKey
) -> tuple[int, int]:
    """Sends every basket and redemption, day by day. Returns redemptions that paid something, and transactions sent."""
    facts = chain_facts(nodes.call(lambda client: client.chain()))
    create = _signed(facts, grocer, Call(0, "points", "create", (PROGRAMME, "The Grocer's Club", None, "points", 0)))
    _check(all_final(nodes.send([create])))
    balances: dict[int, int] = {}
    paid, sent = 0, 1
    owed: list[SignedTransaction] = []
    with session.progress("Baskets and coupons", counts.baskets + counts.redemptions) as progress:
        days = data.load_days(weeks)
        day = next(days, None)
        earned = _earn(facts, grocer, day, balances) if day is not None else []
        while day is not None or owed:
            futures = nodes.send([*owed, *earned])
            count = len(owed) + len(earned)
            # Signed while the node works: this day's redemptions, and the baskets of the next.
            owed = list(_redeem(facts, day, balances)) if day is not None else []
            paid += len(owed)
            skipped = len(day.redemptions) - len(owed) if day is not None else 0
            following = next(days, None) if day is not None else None
            earned = _earn(facts, grocer, following, balances) if following is not None else []
            _check(all_final(futures))
            sent += count
            progress.advance(count + skipped)
            if day is not None:
                progress.describe(f"Baskets and coupons, {day.date}")
            day = following
            facts = chain_facts(nodes.call(lambda client: client.chain()))
    return paid, sent


def _earn(facts: ChainFacts, grocer: PrivateKey, day: data.Day, balances: dict[int, int]) -> list[SignedTransaction]:
    signed = []
    for basket in day.baskets:
        household = basket.household_id
        balances[household] = balances.get(household, 0) + basket.points
        to = address_of(household_key(household).public)
        arguments = (PROGRAMME, to, basket.points, f"basket-{basket.basket_id}")
        signed.append(_signed(facts, grocer, Call(0, "points", "mint", arguments)))
    return signed


def _redeem(facts: ChainFacts, day: data.Day, balances: dict[int, int]) -> Iterator[SignedTransaction]:
    """The day's redemptions that pay something, each signed by its household. One that has nothing pays nothing."""
    for redemption in day.redemptions:
        household = redemption.household_id
        held = balances.get(household, 0)
        price = data.payment(held)
        if not price:
            continue
        balances[household] = held - price
        arguments = (PROGRAMME, price, f"campaign {redemption.campaign_id}", f"coupon-{redemption.ordinal}")
        yield _signed(facts, household_key(household), Call(0, "points", "spend", arguments))


def _signed(facts: ChainFacts, key: PrivateKey, call: Call) -> SignedTransaction:
    return build(registry(), facts, [address_of(key.public)], [call]).sign([key])


def _check(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.status == "refused" and outcome.error is not None:
            raise refusal(outcome.error)
        check_outcome(outcome)


def _compare(nodes: SupervisedNodes, expected: data.Expected) -> Totals:
    """Compares what the node says with what SQL says. Raises VerifyFailed (E-DEMO-006) naming the differences."""
    households = sorted(expected.balances)

    def balance(client: object, household: int) -> int:
        from cli.client import NodeClient

        assert isinstance(client, NodeClient)
        account = to_text(address_of(household_key(household).public))
        return int(client.view("points", "balance_of", {"programme": PROGRAMME, "account": account}))

    found = nodes.each(balance, households)
    wrong = [
        f"household {household}: {held} on the ledger, {expected.balances[household]} by SQL"
        for household, held in zip(households, found, strict=True)
        if held != expected.balances[household]
    ]
    shown = nodes.call(lambda client: client.view("points", "show", {"programme": PROGRAMME}))
    totals = Totals(int(shown["issued"]), int(shown["redeemed"]))
    if totals != Totals(expected.issued, expected.redeemed):
        wrong.append(f"totals: {totals} on the ledger, issued {expected.issued}, redeemed {expected.redeemed} by SQL")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise VerifyFailed(UNEQUAL, "; ".join(wrong[:5]) + more)
    return totals


def _audit(session: Session, nodes: SupervisedNodes, genesis: Genesis) -> Report:
    from cli.audit_sources import NodeSource
    from cli.client import NodeClient
    from cli.commands.audit import run_audit

    with NodeClient(nodes.url, timeout_seconds=120) as client:
        source = NodeSource(client)
        return run_audit(session, genesis, source, source.head_height())
