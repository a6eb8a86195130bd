"""A fixed chain: every method of every contract, failures, several hundred transactions. For tests of determinism.

Keys, nonces and times are fixed, so the bytes of every block follow from the code alone. `python -m
tests.scripted_chain` prints what the chain comes to, as JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from ledger import merkle
from ledger.genesis import Parameters
from ledger.state_tree import root_hash
from ledger.transaction import Call, SignedTransaction
from loyalty_contracts.certificate_records import batch_leaf
from node.chain import Chain
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from tests.chains import START_MS, account, call, create, genesis, key, mint, propose, seal, transfer, unsigned

PARAMETERS = Parameters(
    block_interval_ms=250,
    heartbeat_ms=30_000,
    validity_window_ms=7_200_000,
    block_bytes=4 << 20,
    block_gas=2_000_000,
    block_transactions=5_000,
    organisation_gas=1_600_000,
    consumer_gas=40_000,
    reserved_gas=100_000,
)
GTIN = "04006381333931"
FAR_MS = START_MS + 10_000_000_000
STRANGERS = 25


class Outcome(NamedTuple):
    """What the chain comes to. `receipts` is a hash over every receipts root, `codes` counts what receipts say."""

    height: int
    block_id: str
    state_root: str
    receipts: str
    transactions: int
    methods: list[str]
    codes: dict[str, int]


def _digest(*parts: object) -> bytes:
    return sha256(repr(parts).encode()).digest()


def _batch() -> list[bytes]:
    return [batch_leaf(GTIN, f"lot-{number}", _digest("lot", number)) for number in range(11)]


def _materialise(number: int) -> Call:
    path = merkle.inclusion_proof(_batch(), number)
    return call("certificate.materialise", GTIN, "lot", f"lot-{number}", _digest("lot", number), number, path)


def _request(number: int, subject: str, expires_ms: int = FAR_MS) -> Call:
    hashes = [_digest(what, number) for what in ("notice", "terms", "data")]
    purposes = ("advertising", "customer-care")
    return call("consent.request", _digest("request", number)[:16], account(subject), purposes, *hashes, expires_ms)


def _consent(method: str, number: int, *more: Any) -> Call:
    return call(f"consent.{method}", _digest("request", number)[:16], *more)


def _steps() -> Iterator[list[tuple[str | tuple[str, ...], list[Call]]]]:
    """The blocks: of each the transactions, of each the actors and the calls."""
    yield [
        ("roaster", [create(), call("points.create", "crumbs", "Brösel 🥐", 5_000, "crumb", 2)]),
        ("grocer", [call("points.create", "stamps", "Stamps", None, "stamp", 0)]),
        ("alice", [create("forbidden")]),
        ("grocer", [create()]),
    ]
    yield [("roaster", [mint(f"member-{number}", 100 + number * number)]) for number in range(60)]
    yield []
    yield [
        *[
            (f"member-{number}", [transfer(f"member-{(number * 7 + 1) % 60}", number * 5, f"order-{number}")])
            for number in range(60)
        ],
        *[(f"stranger-{number}", [transfer("member-0", 1)]) for number in range(STRANGERS)],
    ]
    yield [
        *[
            (f"member-{number}", [transfer("member-1", 1, f"order-{number}")]) for number in range(10)
        ],  # references used
        ("member-2", [call("points.approve", "beans", account("till"), 60)]),
        ("till", [call("points.spend_from", "beans", account("member-2"), 25, "coffee")]),
        ("till", [call("points.transfer_from", "beans", account("member-2"), account("bob"), 30)]),
        ("till", [call("points.burn_from", "beans", account("member-2"), 5)]),
        ("till", [call("points.burn_from", "beans", account("member-2"), 1)]),
        (("roaster", "member-3"), [mint("member-3", 50), call("points.spend", "beans", 40, "tea", actor=1)]),
        (("roaster", "member-4"), [mint("member-4", 50), call("points.spend", "beans", 10**9, "tea", actor=1)]),
        ("member-5", [call("points.burn", "beans", 3)]),
        ("roaster", [call("points.freeze", "beans", account("member-6"))]),
        ("member-6", [transfer("bob", 1)]),
        ("roaster", [call("points.unfreeze", "beans", account("member-6"))]),
        ("member-6", [transfer("bob", 1)]),
        ("roaster", [call("points.pause", "crumbs")]),
        ("roaster", [call("points.mint", "crumbs", account("bob"), 1)]),
        ("roaster", [call("points.unpause", "crumbs"), call("points.mint", "crumbs", account("bob"), 5_000)]),
        ("roaster", [call("points.mint", "crumbs", account("bob"), 1)]),
        ("roaster", [call("points.set_cap", "crumbs", None), call("points.mint", "crumbs", account("bob"), 2**62)]),
        ("roaster", [call("points.mint", "crumbs", account("bob"), 2**62)]),
        ("roaster", [call("points.set_cap", "crumbs", 7)]),
        ("alice", [call("points.burn", "beans", "five")]),
        ("alice", [call("points.burn", "nothing", 5)]),
        ("alice", [call("pints.burn", "beans", 5)]),
        ("alice", [call("points.brun", "beans", 5)]),
        ("alice", [transfer("bob", 0)] * 15),  # out of gas
    ]
    yield [
        ("roaster", [call("certificate.define_product", GTIN, "Beans, one pound", _digest("terms"))]),
        ("roaster", [call("certificate.set_partner", GTIN, "grocer", True)]),
        *[
            ("roaster", [call("certificate.issue", GTIN, f"s-{number}", _digest(number), None, None)])
            for number in range(20)
        ],
        ("roaster", [call("certificate.issue", GTIN, "s-3", _digest("again"), None, None)]),
        ("roaster", [call("certificate.issue", GTIN, "late", _digest("late"), account("alice"), START_MS + 20_000)]),
        ("roaster", [call("certificate.issue_batch", GTIN, "lot", merkle.root(_batch()), 11, FAR_MS)]),
        *[(f"stranger-{number}", [_materialise(number)]) for number in range(8)],
        ("alice", [call("certificate.materialise", GTIN, "lot", "lot-9", _digest("lot", 9), 8, ())]),
    ]
    yield [
        *[
            ("roaster", [call("certificate.transfer", GTIN, f"s-{number}", account("alice"), None)])
            for number in range(8)
        ],
        *[
            ("grocer" if number % 2 else "roaster", [_event(f"s-{number % 5}", step, number)])
            for number, step in enumerate(["commissioning"] * 5 + ["packing"] * 5 + ["shipping"] * 4 + ["storing"] * 3)
        ],
        ("alice", [call("certificate.approve", GTIN, "s-1", account("bob"))]),
        ("bob", [call("certificate.transfer", GTIN, "s-1", account("bob"), account("alice"))]),
        ("alice", [call("certificate.set_operator", account("carol"), True)]),
        ("carol", [call("certificate.transfer", GTIN, "s-2", account("carol"), None)]),
        ("dave", [call("certificate.transfer", GTIN, "s-4", account("dave"), None)]),
        ("alice", [call("certificate.mark", GTIN, "s-0", "voilà, ouvert")]),
        ("alice", [call("certificate.mark", GTIN, "s-0", "again")]),
        ("roaster", [call("certificate.recall", GTIN, "s-7", "stale")]),
        ("alice", [call("certificate.transfer", GTIN, "s-7", account("bob"), None)]),
        ("roaster", [call("certificate.end_recall", GTIN, "s-7", "")]),
        ("roaster", [call("certificate.recall_batch", GTIN, "lot", "")]),
        ("dave", [call("certificate.scan", GTIN, "lot-2", "")]),
        ("roaster", [call("certificate.end_batch_recall", GTIN, "lot", "")]),
        ("roaster", [call("certificate.revoke", GTIN, "s-9", "stolen")]),
        ("roaster", [call("certificate.pause", GTIN)]),
        ("roaster", [call("certificate.issue", GTIN, "paused", _digest(0), None, None)]),
        ("roaster", [call("certificate.unpause", GTIN)]),
        *[
            (f"stranger-{number}", [call("certificate.scan", GTIN, f"s-{number}", f"shop-{number % 3}")])
            for number in range(STRANGERS)
        ],
    ]
    yield [
        *[("grocer", [_request(number, f"member-{number}")]) for number in range(10)],
        ("roaster", [_request(3, "member-3")]),
        ("alice", [_request(11, "member-3")]),
        ("roaster", [_request(12, "alice", START_MS + 10_000)]),
        ("roaster", [_request(13, "alice", START_MS + 11_000)]),
    ]
    yield [
        *[(f"member-{number}", [_consent("grant", number, _digest("record", number))]) for number in range(7)],
        ("member-8", [_consent("refuse", 8)]),
        ("member-9", [_consent("grant", 8, _digest("record", 8))]),
        *[("grocer", [_consent("record_access", number, _digest(number), "advertising")]) for number in range(9)],
        ("grocer", [_consent("record_access", 1, _digest(1), "account-management")]),
        ("member-2", [_consent("withdraw", 2)]),
        ("grocer", [_consent("record_access", 2, _digest(2), "advertising")]),
        ("grocer", [_consent("revoke", 3)]),
        ("member-3", [_consent("withdraw", 3)]),
    ]
    for turn in range(6):
        yield [
            *[
                (f"member-{number}", [transfer(f"member-{(number * (turn + 3) + 1) % 60}", number * turn % 90)])
                for number in range(0, 60, 2)
            ],
            ("alice", [call("certificate.scan", GTIN, "late", "")]),  # expires meanwhile
            ("alice", [_consent("grant", 13, _digest("record", 13))]),
        ]
    yield []


def _event(serial: str, step: str, number: int) -> Call:
    return call("certificate.record_event", GTIN, serial, step, _digest("event", number), "Malmö")


def run(*, reopen: bool = False, keep_heights: int = 0) -> Outcome:
    """Makes the chain. With `reopen` each block is made by a chain that was opened anew on the store."""
    store = MemoryStore()
    chain = Chain(LedgerStore(store), registry(), genesis(PARAMETERS), keep_heights=keep_heights)
    codes: Counter[str] = Counter()
    methods: set[str] = set()
    receipts = sha256()
    nonce = 0
    for step in _steps():
        if reopen:
            chain = Chain(LedgerStore(store, cache_nodes=2), registry(), genesis(PARAMETERS), keep_heights=keep_heights)
        block: list[SignedTransaction] = []
        for actors, calls in step:
            nonce += 1
            names = (actors,) if isinstance(actors, str) else actors
            transaction = unsigned(names, calls, nonce=nonce, gas_limit=1_800, memo=f"number {nonce}")
            block.append(transaction.sign([key(name) for name in names]))
        candidate = propose(chain, block, time_ms=chain.head.time_ms + 1_000 + 7 * len(block))
        chain.append(candidate, seal(candidate))
        receipts.update(candidate.block.header.receipts_root)
        for made, receipt in zip(block, candidate.result.receipts, strict=True):
            codes[receipt.code] += 1
            if receipt.ok:
                methods.update(f"{each.contract}.{each.method}" for each in made.transaction.calls)
    head = chain.head
    return Outcome(
        head.height,
        head.block_id.hex(),
        root_hash(head.root).hex(),
        receipts.hexdigest(),
        head.transactions,
        sorted(methods),
        dict(sorted(codes.items())),
    )


def main() -> None:
    """Prints the outcome."""
    print(json.dumps(run()._asdict(), indent=2))


if __name__ == "__main__":
    main()
