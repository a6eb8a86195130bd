from __future__ import annotations

from pathlib import Path

import pytest

from ledger import codec
from ledger.block import decode_block
from ledger.errors import Fault, NotFound
from node.chain import Chain
from node.contracts import registry
from node.ledger_store import PRUNE_HEIGHTS_A_BLOCK, LedgerStore, Location
from node.memory import MemoryStore
from node.stores import open_store
from tests.chains import (
    account,
    balance,
    create,
    extend,
    genesis,
    mint,
    new_chain,
    propose,
    seal,
    signed,
    transfer,
)

_CREATE = signed("roaster", create())
_MINT = signed("roaster", mint("alice", 5))
_PAY = signed("alice", transfer("bob", 2))


def _grown(keep_heights: int = 0) -> Chain:
    chain = new_chain(keep_heights=keep_heights)
    extend(chain, _CREATE)
    extend(chain, _MINT, _PAY)
    return chain


def test_everything_of_a_block_can_be_found() -> None:
    chain = _grown()
    store, head = chain.store, chain.head
    assert store.head_height() == 2
    assert store.genesis_bytes() == codec.encode(genesis())
    assert store.block(2) == decode_block(store.block_bytes(2))
    assert store.block(2).transactions == (_MINT.raw, _PAY.raw)
    assert store.certificate(2) == head.certificate
    assert [receipt.transaction_id for receipt in store.receipts(2)] == [_MINT.id, _PAY.id]
    assert store.meta(2) == (head.block_id, head.root, 3)
    assert [store.meta(height).transactions for height in range(3)] == [0, 1, 3]
    assert [store.height_of_block(store.meta(height).block_id) for height in range(3)] == [0, 1, 2]
    assert store.root_at(2) == head.root
    assert store.locate(_CREATE.id) == Location(1, 0) and store.locate(_PAY.id) == Location(2, 1)
    assert all(store.has_transaction(each.id) for each in (_CREATE, _MINT, _PAY))


def test_what_is_not_there_is_not_found() -> None:
    store = _grown().store
    unknown = bytes(32)
    assert not store.has_transaction(unknown)
    for find, code in (
        (lambda: store.block_bytes(3), "E-CHAIN-001"),
        (lambda: store.block_bytes(0), "E-CHAIN-001"),  # genesis is no block: its header is the chain's to make
        (lambda: store.block_bytes(-1), "E-CHAIN-001"),
        (lambda: store.block_bytes(1 << 64), "E-CHAIN-001"),
        (lambda: store.meta(3), "E-CHAIN-001"),
        (lambda: store.meta(-1), "E-CHAIN-001"),
        (lambda: store.meta(1 << 64), "E-CHAIN-001"),
        (lambda: store.root_at(3), "E-CHAIN-001"),
        (lambda: store.height_of_block(unknown), "E-CHAIN-001"),
        (lambda: store.locate(unknown), "E-CHAIN-002"),
    ):
        with pytest.raises(NotFound) as caught:
            find()
        assert caught.value.code == code


@pytest.mark.parametrize("row", [b"c", b"r"])
def test_a_missing_row_of_a_block_that_is_there_is_a_fault(row: bytes) -> None:
    store = _grown().store
    store.store.write([], [row + (2).to_bytes(8, "big")])
    with pytest.raises(Fault) as caught:
        _ = store.certificate(2) if row == b"c" else store.receipt_bytes(2)
    assert caught.value.code == "E-STORE-002"


def test_an_empty_store_has_no_head() -> None:
    store = LedgerStore(MemoryStore())
    assert store.genesis_bytes() is None
    with pytest.raises(Fault):
        store.head_height()


def test_rows_of_one_kind_ascend_with_the_height() -> None:
    chain = _grown()
    extend(chain)
    for prefix in (b"b", b"c", b"r", b"s"):
        keys = [key for key, _ in chain.store.store.scan(prefix)]
        assert keys == [prefix + height.to_bytes(8, "big") for height in (1, 2, 3)]
    numbers = [int.from_bytes(key[1:], "big") for key, _ in chain.store.store.scan(b"n")]
    assert max(numbers) >> 24 == 2  # the last height that changed a cell


def test_pruning_takes_few_heights_at_a_time() -> None:
    chain = _grown()
    for _ in range(30):
        extend(chain)
    store = chain.store
    assert store.oldest_state() == 0
    lowered = Chain(LedgerStore(store.store), registry(), genesis(), keep_heights=1)
    extend(lowered)
    assert store.oldest_state() == PRUNE_HEIGHTS_A_BLOCK
    extend(lowered)
    assert store.oldest_state() == 2 * PRUNE_HEIGHTS_A_BLOCK
    assert next(int.from_bytes(key[1:], "big") for key, _ in store.store.scan(b"s")) == store.oldest_state() + 1


def test_pruning_never_forgets_blocks_receipts_or_ids() -> None:
    chain = _grown(keep_heights=1)
    for _ in range(20):
        extend(chain)
    assert chain.store.oldest_state() == 21
    assert chain.store.locate(_PAY.id) == Location(2, 1)
    assert chain.store.receipts(2)[1].transaction_id == _PAY.id
    assert chain.store.certificate(1).height == 1


def test_the_cells_of_a_height() -> None:
    chain = _grown()
    before, after = (dict(chain.store.cells(height)) for height in (1, 2))
    changed = {cell for cell in after if before.get(cell) != after[cell]}
    assert changed == {
        codec.encode(("points", "totals", "beans")),
        codec.encode(("points", "account", "beans", account("alice"))),
        codec.encode(("points", "account", "beans", account("bob"))),
    }
    assert codec.decode(after[codec.encode(("points", "account", "beans", account("alice")))]) == (3, False)


def test_a_small_cache_changes_nothing() -> None:
    def grown(cache_nodes: int) -> Chain:
        chain = Chain(LedgerStore(MemoryStore(), cache_nodes=cache_nodes), registry(), genesis())
        extend(chain, _CREATE)
        for number in range(20):
            extend(chain, *[signed("roaster", mint(f"member-{number}-{each}", 1)) for each in range(5)])
        return chain

    small, large = grown(2), grown(40_000)
    assert small.head == large.head
    assert dict(small.store.store.scan(b"")) == dict(large.store.store.scan(b""))


@pytest.mark.parametrize("kind", ["leveldb", "lmdb"])
def test_a_ledger_is_the_same_in_every_store_and_after_opening_it_again(kind: str, tmp_path: Path) -> None:
    store = open_store(kind, tmp_path)
    chain = Chain(LedgerStore(store), registry(), genesis(), keep_heights=3)
    memory = new_chain(keep_heights=3)
    for each in (chain, memory):
        extend(each, _CREATE)
        for number in range(8):
            extend(each, signed("roaster", mint("alice", number), nonce=number))
    assert chain.head == memory.head
    store.close()
    opened = open_store(kind, tmp_path, create=False)
    try:
        again = Chain(LedgerStore(opened), registry(), genesis(), keep_heights=3)
        assert again.head == memory.head
        assert dict(opened.scan(b"")) == dict(memory.store.store.scan(b""))
        following = propose(again)
        again.append(following, seal(following))
        assert balance(again, "alice") == 28
    finally:
        opened.close()
