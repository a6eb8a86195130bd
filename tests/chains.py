"""A chain of one validator with real keys: its genesis, signed transactions, sealed blocks. For tests of the node.

Everything follows from names and numbers, so a test that runs twice makes the same bytes twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.address import address_of
from ledger.block import Certificate, Seal, Validator, commit_message
from ledger.genesis import Genesis, Member, Organisation, Parameters
from ledger.keys import PrivateKey
from ledger.transaction import Call, SignedTransaction, Transaction
from node import signing_record
from node.chain import Candidate, Chain, Head
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from node.signer import LocalSigner

CHAIN_ID = "test-chain"
START_MS = 1_700_000_000_000
HOUR_MS = 60 * 60 * 1000
PROGRAMME = "beans"

SMALL_ORDER_KEY = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A public key of order 8 ("Taming the many EdDSAs", table 1): it would accept signatures that nobody made."""


def key(name: str) -> PrivateKey:
    """The key of that name."""
    return PrivateKey(sha256(b"troth test key/" + name.encode()).digest())


def account(name: str) -> bytes:
    """The address of that name's key."""
    return address_of(key(name).public)


def validator(name: str = "validator", power: int = 1) -> Validator:
    """A validator of the roaster's."""
    return Validator(account(name), key(name).public, power, "roaster")


def genesis(
    parameters: Parameters | None = None, *, chain_id: str = CHAIN_ID, validators: Iterable[Validator] | None = None
) -> Genesis:
    """Two brands: `roaster` administers and issues, `till` is its transactor, `grocer` issues. Others are consumers."""
    return Genesis(
        1,
        chain_id,
        START_MS,
        parameters or Parameters(),
        tuple(sorted(validators if validators is not None else (validator(),))),
        (
            Organisation(
                "roaster",
                "Roaster",
                (
                    Member(account("roaster"), ("administrator", "issuer", "transactor")),
                    Member(account("till"), ("transactor",)),
                ),
            ),
            Organisation("grocer", "Grocer", (Member(account("grocer"), ("issuer", "transactor")),)),
        ),
    )


def unsigned(
    actors: Sequence[str],
    calls: Iterable[Call],
    *,
    nonce: int = 0,
    valid_until_ms: int = START_MS + HOUR_MS,
    gas_limit: int = 5_000,
    chain_id: str = CHAIN_ID,
    memo: str = "",
) -> Transaction:
    """A transaction by the named actors."""
    return Transaction(
        1,
        chain_id,
        tuple([account(name) for name in actors]),
        nonce.to_bytes(8, "big"),
        valid_until_ms,
        gas_limit,
        tuple(calls),
        memo,
    )


def signed(actors: str | Sequence[str], *calls: Call, **more: Any) -> SignedTransaction:
    """The same, signed by all of them."""
    names = (actors,) if isinstance(actors, str) else actors
    return unsigned(names, calls, **more).sign([key(name) for name in names])


def call(target: str, *arguments: Any, actor: int = 0) -> Call:
    """A call of `contract.method`."""
    contract, method = target.split(".")
    return Call(actor, contract, method, arguments)


def create(programme: str = PROGRAMME) -> Call:
    """Creates a programme of points."""
    return call("points.create", programme, programme.capitalize(), None, "points", 0)


def mint(to: str, amount: int, reference: str | None = None) -> Call:
    """Mints points of PROGRAMME."""
    more = () if reference is None else (reference,)
    return call("points.mint", PROGRAMME, account(to), amount, *more)


def transfer(to: str, amount: int, reference: str | None = None) -> Call:
    """Transfers points of PROGRAMME."""
    more = () if reference is None else (reference,)
    return call("points.transfer", PROGRAMME, account(to), amount, *more)


def signer_beside(folder: Path, name: str = "validator") -> LocalSigner:
    """A signer with a record in files of its own, `folder`-`name`, which is made at the first call."""
    path = folder.with_name(f"{folder.name}-{name}") / "record"
    if not path.exists():
        signing_record.create(path, CHAIN_ID)
    return LocalSigner(key(name), signing_record.RecordFile(path))


def new_chain(parameters: Parameters | None = None, *, keep_heights: int = 0, agreed: Genesis | None = None) -> Chain:
    """A new chain in memory."""
    return Chain(LedgerStore(MemoryStore()), registry(), agreed or genesis(parameters), keep_heights=keep_heights)


def seal(candidate: Candidate, *names: str, round_: int = 0) -> Certificate:
    """The certificate of a block by the named validators (the single one unless told)."""
    header = candidate.block.header
    message = commit_message(header.chain_id, header.height, round_, candidate.block_id)
    seals = sorted(Seal(account(name), key(name).sign(message)) for name in names or ("validator",))
    return Certificate(header.height, round_, candidate.block_id, tuple(seals))


def propose(chain: Chain, transactions: Sequence[SignedTransaction] = (), *, time_ms: int | None = None) -> Candidate:
    """The next block, one second after the last unless told. Every transaction must be admitted."""
    execution = chain.execution(chain.head.time_ms + 1_000 if time_ms is None else time_ms)
    for each in transactions:
        execution.admit(each)
        execution.apply(each)
    return chain.close(execution, transactions, account("validator"))


def extend(chain: Chain, *transactions: SignedTransaction, time_ms: int | None = None) -> Head:
    """Makes, seals and appends the next block."""
    candidate = propose(chain, transactions, time_ms=time_ms)
    return chain.append(candidate, seal(candidate))


def balance(chain: Chain, name: str, height: int | None = None) -> int:
    """The points of PROGRAMME that a name holds, by the contract's own view."""
    from vm.executor import run_view

    block, read = chain.read_head() if height is None else chain.read_at(height)
    held: int = run_view(chain.registry, block, read, "points", "balance_of", (PROGRAMME, account(name)))
    return held


def soon_ms() -> int:
    """A `valid_until` for a node that goes by the real clock."""
    return time.time_ns() // 1_000_000 + HOUR_MS
