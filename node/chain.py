"""The chain: executes, judges and appends one block at a time. Everyone's blocks go through here: this node's own,
a peer's, an auditor's.

Rules of block validity kept here:
- the header continues the head: version, protocol version, chain id, height + 1, parent id, later time;
- the proposer is a validator, the validators' roots are those of the set;
- the last commit is a certificate of the parent by the parent's validators (none for the first block);
- the roots of transactions and evidence are those of the content; receipts and state roots are those of execution;
- every transaction is well-formed, signed, and admitted in its place (`vm.executor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from consensus.quorum import check_certificate
from ledger import codec, merkle
from ledger.block import (
    BLOCK_VERSION,
    NO_COMMIT_ROOT,
    Block,
    Certificate,
    Header,
    Validator,
    check_roots,
    commit_root,
    encode_block,
    validators_root,
)
from ledger.errors import Fault, TrothError, VerifyFailed, define
from ledger.genesis import Genesis
from ledger.keys import verify as verify_signature
from ledger.state_tree import Slot, TreeUpdate, root_hash
from ledger.transaction import SignedTransaction, check_signatures, decode
from node.ledger_store import LedgerStore, Meta
from vm.context import Authority, BlockInfo, Membership
from vm.executor import BlockExecution, BlockResult, execute_genesis
from vm.overlay import Overlay, Read
from vm.registry import Registry

PROTOCOL_VERSION = 1

JUDGING_STEP = 64
"""Transactions that `judging` executes at a time."""

OTHER_GENESIS = define(
    "E-CHAIN-004",
    "the database belongs to another chain",
    "use a home of its own for each chain, or the right genesis.json",
)
INVALID_BLOCK = define("E-CHAIN-005", "the block breaks a rule", "do not trust where it came from")
DIVERGED = define("E-CHAIN-006", "execution gives another result than the header states", "compare versions; report it")


class Head(NamedTuple):
    """The last block: its height, id, time in ms, root slot of the state after it, transactions so far, certificate."""

    height: int
    block_id: bytes
    time_ms: int
    root: Slot
    transactions: int
    certificate: Certificate | None


class Candidate(NamedTuple):
    """An executed block that is not yet appended."""

    block: Block
    block_id: bytes
    block_bytes: bytes
    transactions: Sequence[SignedTransaction]
    result: BlockResult
    update: TreeUpdate


class Chain:
    """One chain in one store. `keep_heights` is how many past states can be read (0: all of them).

    `close_seconds` is the time that `close` has taken so far. `verify` judges the seals of certificates.

    Not for use by several threads, except that `append` may run in another while this one reads and executes: what
    they share are caches of immutable nodes.
    """

    def __init__(
        self,
        store: LedgerStore,
        registry: Registry,
        genesis: Genesis,
        *,
        keep_heights: int = 0,
        verify: Callable[[bytes, bytes, bytes], bool] = verify_signature,
    ) -> None:
        self.store = store
        self.registry = registry
        self.genesis = genesis
        self.validators: tuple[Validator, ...] = genesis.validators
        self.validators_root = validators_root(self.validators)
        self.keep_heights = keep_heights
        self.close_seconds = 0.0
        self._verify = verify
        self.genesis_header = self._begin()
        self.head = self._load_head()

    def _begin(self) -> Header:
        stored = self.store.genesis_bytes()
        if stored is None:
            cells = execute_genesis(self.registry, self.genesis)
            update = self.store.tree.update(None, cells, 0)
            header = self._genesis_header(root_hash(update.root))
            self.store.begin(self.genesis, header.id(), update)
            return header
        if stored != codec.encode(self.genesis):
            raise Fault(
                OTHER_GENESIS, f"the database was begun with another genesis than {self.genesis.chain_id!r} given here"
            )
        meta = self.store.meta(0)
        return self._genesis_header(root_hash(meta.root))

    def _genesis_header(self, state_root: bytes) -> Header:
        """Height 0: it has no proposer and no transactions, and its parent is the genesis document."""
        empty = merkle.root(())
        return Header(
            BLOCK_VERSION,
            PROTOCOL_VERSION,
            self.genesis.chain_id,
            0,
            self.genesis.time_ms,
            self.genesis.id(),
            bytes(20),
            empty,
            empty,
            state_root,
            self.validators_root,
            self.validators_root,
            empty,
            NO_COMMIT_ROOT,
        )

    def _load_head(self) -> Head:
        height = self.store.head_height()
        meta = self.store.meta(height)
        header = self.header(height)
        return Head(
            height,
            meta.block_id,
            header.time_ms,
            meta.root,
            meta.transactions,
            self.store.certificate(height) if height else None,
        )

    def header(self, height: int) -> Header:
        """The header at a height from 0 up. Raises NotFound (E-CHAIN-001)."""
        return self.store.block(height).header if height else self.genesis_header

    def read_at(self, height: int) -> tuple[BlockInfo, Read]:
        """The block and a reader of the state after it, for views. Raises NotFound where unknown or pruned."""
        header = self.header(height)
        store = self.store
        store.root_at(height)

        def read(key: bytes) -> bytes | None:
            with store.state_at(height) as root:
                return store.tree.get(root, key)

        return BlockInfo(header.chain_id, height, header.time_ms), read

    def read_head(self) -> tuple[BlockInfo, Read]:
        """The head and a reader of its state, for views; cheaper than `read_at`."""
        head, tree = self.head, self.store.tree
        return BlockInfo(self.genesis.chain_id, head.height, head.time_ms), lambda key: tree.get(head.root, key)

    def membership(self, read: Read, account: bytes) -> Membership | None:
        """Organisation and roles of an account in the state that `read` reads, or None for a consumer."""
        authority: Authority = self.registry.contracts[self.registry.authority](Overlay(read))  # type: ignore[assignment]
        return authority.membership(account)

    def execution(self, time_ms: int) -> BlockExecution:
        """Begins the execution of the next block, at block time `time_ms`."""
        head, tree = self.head, self.store.tree
        return BlockExecution(
            self.registry,
            self.genesis.parameters,
            BlockInfo(self.genesis.chain_id, head.height + 1, time_ms),
            lambda key: tree.get(head.root, key),
            self.store.has_transaction,
        )

    def close(
        self,
        execution: BlockExecution,
        transactions: Sequence[SignedTransaction],
        proposer: bytes,
        *,
        last_commit: Certificate | None = None,
    ) -> Candidate:
        """The block of an execution and what was applied in it. It carries the head's certificate unless told."""
        began = time.perf_counter()
        head = self.head
        last_commit = head.certificate if last_commit is None else last_commit
        result = execution.finish()
        update = self.store.tree.update(head.root, result.changes, head.height + 1)
        raw = tuple([signed.raw for signed in transactions])
        header = Header(
            BLOCK_VERSION,
            PROTOCOL_VERSION,
            self.genesis.chain_id,
            head.height + 1,
            execution.block.time_ms,
            head.block_id,
            proposer,
            merkle.root(raw),
            result.receipts_root,
            root_hash(update.root),
            self.validators_root,
            self.validators_root,
            merkle.root(()),
            commit_root(last_commit),
        )
        block = Block(header, raw, (), last_commit)
        candidate = Candidate(block, header.id(), encode_block(block), transactions, result, update)
        self.close_seconds += time.perf_counter() - began
        return candidate

    def judge(
        self, block: Block, *, transactions: Sequence[SignedTransaction] | None = None, verified: bool = False
    ) -> Candidate:
        """Executes a block that somebody proposes as the next one. Raises VerifyFailed with the rule it breaks.

        `transactions` are its transactions where they are decoded already; `verified` says that their signatures
        were checked.
        """
        steps = self.judging(block, transactions=transactions, verified=verified)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                candidate: Candidate = done.value
                return candidate

    def judging(
        self, block: Block, *, transactions: Sequence[SignedTransaction] | None = None, verified: bool = False
    ) -> Generator[None, None, Candidate]:
        """`judge` in steps of a few milliseconds, for who has other things to do meanwhile.

        The head must still be the same at the end for the result to be of use.
        """
        header, head = block.header, self.head
        where = f"block {header.height}"
        for name, stated, expected in (
            ("protocol version", header.protocol_version, PROTOCOL_VERSION),
            ("chain id", header.chain_id, self.genesis.chain_id),
            ("height", header.height, head.height + 1),
            ("parent id", header.parent_id, head.block_id),
            ("validators root", header.validators_root, self.validators_root),
            ("next validators root", header.next_validators_root, self.validators_root),
        ):
            if stated != expected:
                raise VerifyFailed(INVALID_BLOCK, f"{where}: the {name} is {_show(stated)}, not {_show(expected)}")
        if header.time_ms <= head.time_ms:
            raise VerifyFailed(
                INVALID_BLOCK, f"{where}: its time {header.time_ms} ms is not after its parent's, {head.time_ms} ms"
            )
        if all(validator.address != header.proposer for validator in self.validators):
            raise VerifyFailed(INVALID_BLOCK, f"{where}: its proposer {header.proposer.hex()} is no validator")
        if block.evidence:
            raise VerifyFailed(INVALID_BLOCK, f"{where}: it carries evidence, which this version does not know")
        try:
            check_roots(block)
            self._check_last_commit(block)
            if transactions is None:
                transactions = [decode(raw) for raw in block.transactions]
            execution = self.execution(header.time_ms)
            for index, signed in enumerate(transactions):
                try:
                    if not verified:
                        check_signatures(signed)
                    execution.admit(signed)
                except TrothError as error:
                    raise VerifyFailed(
                        INVALID_BLOCK, f"{where}: transaction {index} may not stand in it: {error.code} {error.cause}"
                    ) from error
                execution.apply(signed)
                if index % JUDGING_STEP == JUDGING_STEP - 1:
                    yield
        except VerifyFailed:
            raise
        except TrothError as error:
            if isinstance(error, Fault):
                raise
            raise VerifyFailed(INVALID_BLOCK, f"{where}: {error.code} {error.cause}") from error
        candidate = self.close(execution, transactions, header.proposer, last_commit=block.last_commit)
        ours = candidate.block.header
        for name, stated, computed in (
            ("receipts root", header.receipts_root, ours.receipts_root),
            ("state root", header.state_root, ours.state_root),
        ):
            if stated != computed:
                raise VerifyFailed(
                    DIVERGED, f"{where}: the {name} is {computed.hex()}, the header states {stated.hex()}"
                )
        if candidate.block_id != header.id():
            raise VerifyFailed(DIVERGED, f"{where}: execution gives block {candidate.block_id.hex()}")
        return candidate

    def _check_last_commit(self, block: Block) -> None:
        head, commit = self.head, block.last_commit
        if head.height == 0:
            if commit is not None:
                raise VerifyFailed(INVALID_BLOCK, "block 1: it carries a certificate of genesis, which has none")
            return
        if commit is None or commit.height != head.height:
            raise VerifyFailed(INVALID_BLOCK, f"block {block.header.height}: it carries no certificate of its parent")
        if commit != head.certificate:  # another quorum's seals for the same parent are as good
            check_certificate(commit, self.genesis.chain_id, head.block_id, self.validators, self._verify)

    def append(self, candidate: Candidate, certificate: Certificate) -> Head:
        """Appends an executed block that `certificate` makes final, in one atomic synced batch; returns the new head.

        The caller has checked the certificate. Raises Fault where the store could not: stop the node then.
        """
        header = candidate.block.header
        height = header.height
        total = self.head.transactions + len(candidate.transactions)
        prune = height - self.keep_heights if self.keep_heights else None
        self.store.append(
            candidate.block,
            candidate.block_bytes,
            Meta(candidate.block_id, candidate.update.root, total),
            certificate,
            [signed.id for signed in candidate.transactions],
            candidate.result.encoded_receipts,
            candidate.update,
            prune,
        )
        self.head = Head(height, candidate.block_id, header.time_ms, candidate.update.root, total, certificate)
        return self.head


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
