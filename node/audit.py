"""The audit: executes a chain again from its genesis, and trusts nothing but the genesis document.

    source (export file, a node's API, a stopped node's database)
        -> blocks decoded and signatures verified in worker processes, ahead of
        -> `Chain.judge`: every rule, every root, by the code that validators run
        -> a database of the audit's own
        -> at the end: every invariant of every contract over all cells, and the source's own state cell by cell

The first difference ends the replay: VerifyFailed names the block, what was stated and what was found.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import count, zip_longest
from pathlib import Path
from typing import NamedTuple, Protocol

from consensus.quorum import check_certificate
from ledger import codec
from ledger.block import Block, Certificate, certificate_of, decode_block
from ledger.errors import Fault, Invalid, TrothError, VerifyFailed, define
from ledger.genesis import Genesis
from ledger.state_tree import NODE_MISSING
from ledger.transaction import SignedTransaction, check_signatures, decode
from node.chain import Candidate, Chain
from node.contracts import registry
from node.keyvalue import CORRUPT, KeyValue
from node.ledger_store import LedgerStore
from node.verifier import Check, Workers
from vm.cells import check_invariants

BLOCK_FAILED = define("E-AUDIT-001", "a block does not hold", "trust nothing of this chain from that block on")
STATE_DIFFERS = define(
    "E-AUDIT-002", "the stored state is not the replayed one", "do not trust this node; sync it anew"
)
INVARIANT_BROKEN = define("E-AUDIT-003", "an invariant of a contract is broken", "report it: this is a defect of Troth")
BAD_EXPORT = define("E-AUDIT-004", "not an export of a chain", "make it with `troth audit export`")
GAP = define("E-AUDIT-005", "blocks are missing", "export the chain from height 1")

DAMAGE = (CORRUPT, NODE_MISSING)
"""Faults of a store that say the audited data is damaged, which is what an audit is there to find."""

FRAME_BYTES_MAX = 20 << 20
CHUNK = 512
"""Signatures sent to a worker at a time."""


class Sealed(NamedTuple):
    """A block as a source gives it: where it should stand, its bytes, its certificate, its receipts where known."""

    height: int
    block: bytes
    certificate: Certificate
    receipts: tuple[bytes, ...] | None = None


class Source(Protocol):
    """Where an audit gets a chain from."""

    name: str

    def blocks(self) -> Iterator[Sealed]:
        """Blocks from height 1 up, without gaps."""

    def head_height(self) -> int | None:
        """The height that the source states, where it states one."""

    def cells(self, height: int) -> Iterator[tuple[bytes, bytes]] | None:
        """The source's own state after a height in order of hashed keys, where it has one."""


class Report(NamedTuple):
    """What an audit found in order. Times in seconds."""

    source: str
    chain_id: str
    genesis_id: bytes
    height: int
    block_id: bytes
    state_root: bytes
    transactions: int
    failed_transactions: int
    signatures: int
    cells: int
    cells_compared: bool
    seconds: float


class Audit:
    """One audit over an own, empty store. `progress` hears of each block that holds: its height and transactions."""

    def __init__(
        self,
        genesis: Genesis,
        store: KeyValue,
        workers: Workers,
        *,
        progress: Callable[[int, int], None] = lambda height, transactions: None,
    ) -> None:
        self.genesis = genesis
        self.chain = Chain(LedgerStore(store, sync=False), registry(), genesis, keep_heights=1)
        self.workers = workers
        self._progress = progress
        self._failed = 0
        self._signatures = 0

    def run(self, source: Source) -> Report:
        """Replays the chain. Raises VerifyFailed at the first difference, Fault where the source is unreadable."""
        began = time.perf_counter()
        with contextlib.closing(self._verified(source.blocks())) as verified:
            for sealed, block, transactions in verified:
                with _naming(sealed.height):
                    self._replay(sealed, block, transactions)
                self._progress(sealed.height, len(transactions))
        stated = source.head_height()
        if stated is not None and stated > self.chain.head.height:
            raise VerifyFailed(
                GAP, f"the source states height {stated}, but gives no block {self.chain.head.height + 1}"
            )
        cells, compared = self._compare(source)
        head = self.chain.head
        return Report(
            source.name,
            self.genesis.chain_id,
            self.genesis.id(),
            head.height,
            head.block_id,
            head.root[0] if head.root else bytes(32),
            head.transactions,
            self._failed,
            self._signatures,
            cells,
            compared,
            time.perf_counter() - began,
        )

    def _replay(self, sealed: Sealed, block: Block, transactions: list[SignedTransaction]) -> None:
        candidate = self.chain.judge(block, transactions=transactions, verified=True)
        certificate = sealed.certificate
        if certificate.height != sealed.height:
            raise VerifyFailed(BLOCK_FAILED, f"its certificate is for height {certificate.height}")
        check_certificate(certificate, self.genesis.chain_id, candidate.block_id, self.chain.validators)
        _check_receipts(sealed, candidate)
        self.chain.append(candidate, certificate)
        self._failed += sum([not receipt.ok for receipt in candidate.result.receipts])

    def _verified(
        self, blocks: Iterable[Sealed]
    ) -> Generator[tuple[Sealed, Block, list[SignedTransaction]], None, None]:
        """Blocks whose signatures all verify, with their transactions; decoded ahead while workers verify."""
        waiting: deque[tuple[Sealed, Block, list[SignedTransaction], int]] = deque()

        def batches() -> Iterator[list[Check]]:
            for sealed in blocks:
                with _naming(sealed.height):
                    block = decode_block(sealed.block)
                    if block.header.height != sealed.height:
                        raise VerifyFailed(BLOCK_FAILED, f"its header says height {block.header.height}")
                    transactions = [decode(raw) for raw in block.transactions]
                checks = [check for signed in transactions for check in signed.signature_checks()]
                chunks = [checks[start : start + CHUNK] for start in range(0, len(checks), CHUNK)] or [[]]
                waiting.append((sealed, block, transactions, len(chunks)))
                self._signatures += len(checks)
                yield from chunks

        verdicts: list[bool] = []
        chunks_here = 0
        with contextlib.closing(self.workers.verify_stream(batches())) as stream:
            for verdict in stream:
                verdicts += verdict
                chunks_here += 1
                sealed, block, transactions, chunks = waiting[0]
                if chunks_here < chunks:
                    continue
                waiting.popleft()
                if not all(verdicts):
                    _name_bad_signature(sealed, transactions)
                verdicts, chunks_here = [], 0
                yield sealed, block, transactions

    def _compare(self, source: Source) -> tuple[int, bool]:
        """Checks the invariants, and the source's own cells against the replayed ones; counts the cells."""
        head = self.chain.head
        ours = list(self.chain.store.cells(head.height))
        broken = check_invariants(self.chain.registry, ours)
        if broken:
            raise VerifyFailed(INVARIANT_BROKEN, "; ".join(broken[:5]))
        theirs = source.cells(head.height)
        if theirs is None:
            return len(ours), False
        try:
            for mine, their in zip_longest(ours, theirs):
                if mine != their:
                    raise VerifyFailed(STATE_DIFFERS, f"after block {head.height}: {_difference(mine, their)}")
        except (Invalid, Fault) as error:
            if isinstance(error, Fault) and error.code not in DAMAGE:
                raise
            raise VerifyFailed(STATE_DIFFERS, f"after block {head.height}: {error.cause} ({error.code})") from error
        return len(ours), True


@contextlib.contextmanager
def _naming(height: int) -> Iterator[None]:
    """Makes every refusal in here name its block."""
    try:
        yield
    except TrothError as error:
        if isinstance(error, Fault) and error.code not in DAMAGE:
            raise
        where = f"block {height}"
        cause = error.cause if error.cause.startswith(where) else f"{where}: {error.cause}"
        raise VerifyFailed(BLOCK_FAILED, f"{cause} ({error.code})") from error


def _check_receipts(sealed: Sealed, candidate: Candidate) -> None:
    if sealed.receipts is None:
        return
    computed = candidate.result.encoded_receipts
    for index, (stored, found) in enumerate(zip_longest(sealed.receipts, computed)):
        if stored != found:
            raise VerifyFailed(BLOCK_FAILED, f"the stored receipt {index} is not what execution gives")


def _name_bad_signature(sealed: Sealed, transactions: list[SignedTransaction]) -> None:
    for index, signed in enumerate(transactions):
        try:
            check_signatures(signed)
        except Invalid as error:
            raise VerifyFailed(
                BLOCK_FAILED, f"block {sealed.height}: transaction {index}: {error.cause} ({error.code})"
            ) from error
    raise VerifyFailed(BLOCK_FAILED, f"block {sealed.height}: a signature does not verify")


def _difference(mine: tuple[bytes, bytes] | None, their: tuple[bytes, bytes] | None) -> str:
    if mine is None and their is not None:
        return f"the source has a cell {_cell(their[0])} that replay does not give"
    if their is None and mine is not None:
        return f"the source lacks the cell {_cell(mine[0])}"
    assert mine is not None
    assert their is not None
    if mine[0] == their[0]:
        return f"the cell {_cell(mine[0])} is {their[1].hex()} in the source, {mine[1].hex()} by replay"
    return f"the source has the cell {_cell(their[0])} where replay gives {_cell(mine[0])}"


def _cell(key: bytes) -> str:
    try:
        contract, name, *parts = codec.decode(key)
        shown = ", ".join(part.hex() if isinstance(part, bytes) else repr(part) for part in parts)
        return f"{contract}.{name}[{shown}]"
    except (Invalid, ValueError, TypeError):
        return key.hex()


def split_frames(data: bytes) -> Iterator[bytes]:
    """The bodies of frames of a 4-byte big-endian length each. Raises Invalid (E-AUDIT-004) where one is cut short."""
    start = 0
    while start < len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        frame = data[start + 4 : start + 4 + length]
        if length > FRAME_BYTES_MAX or len(frame) != length:
            raise Invalid(BAD_EXPORT, "its frame is cut short")
        yield frame
        start += 4 + length


def read_frames(data: bytes, first: int) -> Iterator[Sealed]:
    """The blocks of export frames, from height `first` up. Raises VerifyFailed (E-AUDIT-001) naming a damaged one."""
    frames = split_frames(data)
    for height in count(first):
        with _naming(height):
            frame = next(frames, None)
            if frame is None:
                return
            sealed = _sealed(height, frame)
        yield sealed


def _sealed(height: int, frame: bytes) -> Sealed:
    value = codec.decode(frame, max_bytes=FRAME_BYTES_MAX)
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not bytes:
        raise Invalid(BAD_EXPORT, "its frame is not [block bytes, certificate]")
    return Sealed(height, value[0], certificate_of(value[1]))


class ExportFile:
    """An export in a file: frames from height 1 up, read one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def blocks(self) -> Iterator[Sealed]:
        """The blocks of the file. Raises Fault (E-AUDIT-004) where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                height = 1
                while head := file.read(4):
                    with _naming(height):
                        length = int.from_bytes(head, "big")
                        frame = file.read(length) if len(head) == 4 and length <= FRAME_BYTES_MAX else b""
                        if len(frame) != length or not frame:
                            raise Invalid(BAD_EXPORT, "its frame is cut short")
                        sealed = _sealed(height, frame)
                    yield sealed
                    height += 1
        except OSError as error:
            raise Fault(BAD_EXPORT, f"{self.path}: {error.strerror}") from error

    def head_height(self) -> int | None:
        """A file states no height: it ends where it ends."""
        return None

    def cells(self, height: int) -> Iterator[tuple[bytes, bytes]] | None:
        """A file has no state of its own."""
        return None


class Database:
    """The database of a node that is not running: blocks, receipts and the state as they are stored."""

    def __init__(self, store: KeyValue, name: str) -> None:
        self.name = name
        self._ledger = LedgerStore(store)

    def blocks(self) -> Iterator[Sealed]:
        """The stored blocks."""
        for height in range(1, self.head_height() + 1):
            with _naming(height):
                sealed = Sealed(
                    height,
                    self._ledger.block_bytes(height),
                    self._ledger.certificate(height),
                    self._ledger.receipt_bytes(height),
                )
            yield sealed

    def head_height(self) -> int:
        """The stored head."""
        return self._ledger.head_height()

    def cells(self, height: int) -> Iterator[tuple[bytes, bytes]] | None:
        """The stored state."""
        return self._ledger.cells(height)
