"""The chain and the transfers that the benchmarks use."""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from cli.new_home import Brand, compose_genesis, dev_keys
from ledger.address import address_of
from ledger.genesis import Genesis
from ledger.keys import PrivateKey
from ledger.transaction import TRANSACTION_VERSION, Call, SignedTransaction, Transaction
from node.keystore import dev_key

PROGRAMME = "bench"
BRAND = Brand("grocer", "The Grocer")
CHAIN_ID = "dev-bench"
TRANSFER_GAS = 600
MINT_GAS = 200
MINTS_A_TRANSACTION = 500
VALID_FOR_MS = 90 * 60 * 1000


class Workload(NamedTuple):
    """A genesis, the brand's key, accounts that hold points, and the keys of those among them that send."""

    genesis: Genesis
    brand: PrivateKey
    senders: list[PrivateKey]
    accounts: list[bytes]


def workload(accounts: int, senders: int) -> Workload:
    """A fresh chain with so many accounts, of which the first `senders` have keys here."""
    keys = dev_keys((BRAND,))
    genesis = compose_genesis(
        CHAIN_ID, int(time.time() * 1000), (BRAND,), {label: key.public for label, key in keys.items()}
    )
    return Workload(genesis, keys[BRAND.id], *sending_accounts(accounts, senders))


def sending_accounts(accounts: int, senders: int) -> tuple[list[PrivateKey], list[bytes]]:
    """Keys of the accounts that send, and the addresses of all, theirs first."""
    sending = [dev_key(f"bench-{number}") for number in range(senders)]
    others = [secrets.token_bytes(20) for _ in range(accounts - senders)]
    return sending, [address_of(key.public) for key in sending] + others


def _transaction(key: PrivateKey, calls: tuple[Call, ...], gas_limit: int, until_ms: int) -> SignedTransaction:
    return Transaction(
        TRANSACTION_VERSION,
        CHAIN_ID,
        (address_of(key.public),),
        secrets.token_bytes(8),
        until_ms,
        gas_limit,
        calls,
        "",
    ).sign([key])


def funding(load: Workload) -> list[SignedTransaction]:
    """The programme, and points for every account."""
    until = int(time.time() * 1000) + VALID_FOR_MS
    create = Call(0, "points", "create", (PROGRAMME, "Benchmark", None, "points", 0))
    signed = [_transaction(load.brand, (create,), 2_000, until)]
    for start in range(0, len(load.accounts), MINTS_A_TRANSACTION):
        accounts = load.accounts[start : start + MINTS_A_TRANSACTION]
        calls = tuple([Call(0, "points", "mint", (PROGRAMME, account, 1_000_000)) for account in accounts])
        signed.append(_transaction(load.brand, calls, 1_000 + MINT_GAS * len(calls), until))
    return signed


def transfers(load: Workload, count: int) -> list[SignedTransaction]:
    """So many transfers of one point, each its own signed transaction, between accounts spread over all."""
    until = int(time.time() * 1000) + VALID_FOR_MS
    senders, accounts = load.senders, load.accounts
    return [
        _transaction(
            senders[number % len(senders)],
            (Call(0, "points", "transfer", (PROGRAMME, accounts[number * 7919 % len(accounts)], 1)),),
            TRANSFER_GAS,
            until,
        )
        for number in range(count)
    ]
