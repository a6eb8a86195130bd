"""How the ledger lies in a key-value store: one block is one atomic synced batch.

    key                          value
    g                            canonical genesis
    h                            height of the head
    b <height>                   block
    c <height>                   certificate of that block
    r <height>                   receipts, an array of encoded receipts
    m <height>                   [block id, root slot, transactions so far]
    i <block id>                 height
    x <transaction id>           [height, position in the block]
    n <node number>              node of the state tree
    s <height>                   numbers of the nodes that this height made stale
    p                            lowest height whose state is kept
    q                            block that this validator is prepared to commit (consensus.guard)
    v <evidence id>              evidence of a validator that signed twice (consensus.evidence)

Heights and node numbers are 8 bytes, big-endian, so rows of one kind are written in ascending order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from consensus.evidence import DoubleSign, encode_evidence
from consensus.guard import PreparedBlock, decode_prepared, encode_prepared
from ledger import codec
from ledger.block import Block, Certificate, certificate_of, decode_block
from ledger.errors import Fault, NotFound, define
from ledger.genesis import Genesis
from ledger.receipt import Receipt, decode_receipt
from ledger.state_tree import Slot, StateTree, TreeUpdate
from node.keyvalue import CORRUPT, KeyValue

NO_BLOCK = define("E-CHAIN-001", "no such block", "ask for a height from 0 to the head: GET /v1/chain")
NO_TRANSACTION = define(
    "E-CHAIN-002",
    "no such transaction",
    "check the id; a transaction that is not yet final is at /v1/transactions/{id}",
)
PRUNED = define(
    "E-CHAIN-003",
    "the state of that height is pruned",
    "ask a later height, or an archive node (state.keep_heights = 0)",
)

PRUNE_HEIGHTS_A_BLOCK = 10

_GENESIS, _HEAD, _OLDEST, _PREPARED = b"g", b"h", b"p", b"q"


class Meta(NamedTuple):
    """What is kept beside a block: its id, the root slot of the state after it, the count of transactions so far."""

    block_id: bytes
    root: Slot
    transactions: int


class Location(NamedTuple):
    """Where a transaction lies."""

    height: int
    position: int


def _height(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


class LedgerStore:
    """Typed reads of the ledger's rows, and the batch that appends a block.

    `sync` is off for stores that are thrown away (an audit's); a node's batches are always synced.
    """

    def __init__(self, store: KeyValue, *, cache_nodes: int = 40_000, sync: bool = True) -> None:
        self.store = store
        self._sync = sync
        get = store.get
        self.tree = StateTree(lambda number: get(b"n" + number.to_bytes(8, "big")), cache_nodes=cache_nodes)

    def genesis_bytes(self) -> bytes | None:
        """The canonical genesis this store was begun with, or None where it is empty."""
        return self.store.get(_GENESIS)

    def head_height(self) -> int:
        """The height of the last block. Raises Fault (E-STORE-002) where the row is missing."""
        return int(self._row(_HEAD))

    def oldest_state(self) -> int:
        """The lowest height whose state can be read."""
        data = self.store.get(_OLDEST)
        return 0 if data is None else int(codec.decode_trusted(data))

    def block_bytes(self, height: int) -> bytes:
        """The canonical bytes of the block at a height from 1 up. Raises NotFound (E-CHAIN-001)."""
        data = self.store.get(_height(b"b", height)) if 0 <= height < 1 << 40 else None
        if data is None:
            raise NotFound(NO_BLOCK, f"this node has no block at height {height}")
        return data

    def block(self, height: int) -> Block:
        """The block at a height."""
        return decode_block(self.block_bytes(height))

    def certificate(self, height: int) -> Certificate:
        """The certificate of the block at a height."""
        return certificate_of(self._row(_height(b"c", height)))

    def receipt_bytes(self, height: int) -> tuple[bytes, ...]:
        """The encoded receipts of a block."""
        rows: tuple[bytes, ...] = self._row(_height(b"r", height))
        return rows

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """The receipts of a block."""
        return tuple([decode_receipt(data) for data in self.receipt_bytes(height)])

    def meta(self, height: int) -> Meta:
        """What is kept beside the block at a height from 0 up. Raises NotFound (E-CHAIN-001)."""
        data = self.store.get(_height(b"m", height)) if 0 <= height < 1 << 40 else None
        if data is None:
            raise NotFound(NO_BLOCK, f"this node has no block at height {height}")
        return Meta(*codec.decode_trusted(data))

    def height_of_block(self, block_id: bytes) -> int:
        """The height of a block id. Raises NotFound (E-CHAIN-001)."""
        data = self.store.get(b"i" + block_id)
        if data is None:
            raise NotFound(NO_BLOCK, f"this node has no block {block_id.hex()}")
        return int(codec.decode_trusted(data))

    def has_transaction(self, transaction_id: bytes) -> bool:
        """True where the chain includes the transaction."""
        return self.store.get(b"x" + transaction_id) is not None

    def locate(self, transaction_id: bytes) -> Location:
        """Where a transaction lies. Raises NotFound (E-CHAIN-002)."""
        data = self.store.get(b"x" + transaction_id)
        if data is None:
            raise NotFound(NO_TRANSACTION, f"no block includes transaction {transaction_id.hex()}")
        return Location(*codec.decode_trusted(data))

    def root_at(self, height: int) -> Slot:
        """The root slot of the state after a height. Raises NotFound (E-CHAIN-001, E-CHAIN-003)."""
        meta = self.meta(height)
        oldest = self.oldest_state()
        if height < oldest:
            raise NotFound(PRUNED, f"this node keeps the state of heights {oldest} and up, not {height}")
        return meta.root

    @contextmanager
    def state_at(self, height: int) -> Iterator[Slot]:
        """The root slot of the state after a height, to be read inside. Raises NotFound like `root_at`.

        Another thread may append, and so prune, meanwhile: a height that goes while it is read is not found either.
        """
        root = self.root_at(height)
        try:
            yield root
        except Fault:
            self.root_at(height)
            raise

    def begin(self, genesis: Genesis, block_id: bytes, update: TreeUpdate) -> None:
        """Writes the state at height 0 and the genesis it came from."""
        puts = [
            (_GENESIS, codec.encode(genesis)),
            (_HEAD, codec.encode(0)),
            (_height(b"m", 0), codec.encode(Meta(block_id, update.root, 0))),
            (b"i" + block_id, codec.encode(0)),
        ]
        puts += [(b"n" + number.to_bytes(8, "big"), row) for number, row in update.rows]
        self.store.write(puts)
        self.tree.adopt(update)

    def append(
        self,
        block: Block,
        block_bytes: bytes,
        meta: Meta,
        certificate: Certificate,
        transaction_ids: list[bytes],
        receipts: tuple[bytes, ...],
        update: TreeUpdate,
        prune: int | None,
    ) -> None:
        """Appends a block with everything that belongs to it, and drops the state before `prune`, in one batch.

        Raises Fault where the store could not: the outcome is then unknown, and the node must stop and start again.
        """
        height = block.header.height
        encode = codec.encode_trusted
        puts = [
            (_HEAD, encode(height)),
            (_height(b"b", height), block_bytes),
            (_height(b"c", height), encode(certificate)),
            (_height(b"r", height), encode(receipts)),
            (_height(b"m", height), encode(meta)),
            (b"i" + meta.block_id, encode(height)),
            (_height(b"s", height), encode(tuple(update.stale))),
        ]
        puts += [(b"x" + identifier, encode((height, index))) for index, identifier in enumerate(transaction_ids)]
        puts += [(b"n" + number.to_bytes(8, "big"), row) for number, row in update.rows]
        deletes: list[bytes] = []
        if prune is not None and prune > 0:
            oldest = self.oldest_state()
            # One height a block is the rule; a few more where the setting was lowered, so that it catches up.
            upto = min(prune, oldest + PRUNE_HEIGHTS_A_BLOCK)
            for stale_height in range(oldest + 1, upto + 1):
                stale = self.store.get(_height(b"s", stale_height))
                if stale is not None:
                    deletes += [b"n" + number.to_bytes(8, "big") for number in codec.decode_trusted(stale)]
                    deletes.append(_height(b"s", stale_height))
            if upto > oldest:
                puts.append((_OLDEST, encode(upto)))
        self.store.write(puts, deletes, sync=self._sync)
        self.tree.adopt(update)

    def keep_prepared(self, prepared: PreparedBlock) -> None:
        """Makes durable what this validator is prepared to commit; there is one at a time."""
        self.store.write([(_PREPARED, encode_prepared(prepared))])

    def prepared(self) -> PreparedBlock | None:
        """What this validator was last prepared to commit. Raises Fault (E-GUARD-003) where it is damaged."""
        data = self.store.get(_PREPARED)
        return None if data is None else decode_prepared(data)

    def keep_evidence(self, evidence: DoubleSign) -> None:
        """Keeps evidence of double signing."""
        self.store.write([(b"v" + evidence.id(), encode_evidence(evidence))])

    def evidence(self) -> Iterator[bytes]:
        """The encoded evidence that was collected."""
        return (data for _, data in self.store.scan(b"v"))

    def cells(self, height: int) -> Iterator[tuple[bytes, bytes]]:
        """Every (cell key, encoded value) of the state after a height. Raises NotFound, later too: see `state_at`."""
        self.root_at(height)
        return self._cells(height)

    def _cells(self, height: int) -> Iterator[tuple[bytes, bytes]]:
        with self.state_at(height) as root:
            yield from self.tree.items(root)

    def _row(self, key: bytes) -> Any:
        data = self.store.get(key)
        if data is None:
            raise Fault(CORRUPT, f"the row {key.hex()} is missing")
        return codec.decode_trusted(data)
