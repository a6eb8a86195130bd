"""The audit over a small chain: it passes as it is, and every changed byte of it is found, in the block it lies in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import codec
from ledger.errors import Fault, VerifyFailed
from ledger.state_tree import INDEX_BITS
from node.audit import Audit, Database, ExportFile, Report, Sealed, Source, read_frames
from node.chain import Chain
from node.keyvalue import KeyValue
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from node.verifier import Workers
from tests.chains import create, extend, genesis, mint, new_chain, signed, transfer

BLOCKS = 6


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    started = Workers(2)
    yield started
    started.close()


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Six blocks: a programme, mints, transfers of which one fails, and one block without transactions."""
    made = new_chain()
    extend(made, signed("roaster", create()))
    extend(made, signed("roaster", mint("alice", 100), nonce=1), signed("roaster", mint("bob", 50), nonce=2))
    extend(made)
    extend(made, signed("alice", transfer("bob", 30), nonce=3), signed("bob", transfer("alice", 1_000), nonce=4))
    extend(made, signed("bob", transfer("carol", 5), nonce=5))
    extend(made, signed(("alice", "bob"), transfer("carol", 1), nonce=6))
    return made


def audit(source: Source, workers: Workers) -> Report:
    return Audit(genesis(), MemoryStore(), workers).run(source)


def copy_of(chain: Chain) -> KeyValue:
    """The chain's rows in a store of their own, to be changed."""
    store = MemoryStore()
    store.write(list(chain.store.store.scan(b"")))
    return store


def export_of(chain: Chain) -> bytes:
    frames = []
    for height in range(1, chain.head.height + 1):
        frame = codec.encode((chain.store.block_bytes(height), chain.store.certificate(height)))
        frames.append(len(frame).to_bytes(4, "big") + frame)
    return b"".join(frames)


def row(prefix: bytes, height: int) -> bytes:
    return prefix + height.to_bytes(8, "big")


def flip(store: KeyValue, key: bytes, position: int) -> None:
    data = bytearray(store.get(key) or b"")
    data[position] ^= 1
    store.write([(key, bytes(data))])


def test_a_sound_chain_passes_from_a_database_and_from_a_file(chain: Chain, workers: Workers, tmp_path: Path) -> None:
    file = tmp_path / "chain"
    file.write_bytes(export_of(chain))
    from_database = audit(Database(copy_of(chain), "copy"), workers)
    from_file = audit(ExportFile(file), workers)
    assert from_database.height == from_file.height == BLOCKS
    assert from_database.block_id == from_file.block_id == chain.head.block_id
    assert (from_database.transactions, from_database.failed_transactions, from_database.signatures) == (7, 1, 8)
    assert (from_database.cells_compared, from_file.cells_compared) == (True, False)
    assert from_database.cells == from_file.cells == len(list(chain.store.cells(BLOCKS)))


@pytest.mark.parametrize("height", range(1, BLOCKS + 1))
def test_every_changed_byte_of_a_stored_block_is_found_there(chain: Chain, workers: Workers, height: int) -> None:
    size = len(chain.store.block_bytes(height))
    for position in range(size):
        store = copy_of(chain)
        flip(store, row(b"b", height), position)
        with pytest.raises(VerifyFailed, match=f"block {height}:"):
            audit(Database(store, "copy"), workers)


@pytest.mark.parametrize("prefix", [b"c", b"r"])
def test_every_changed_byte_of_a_certificate_or_receipt_is_found(chain: Chain, workers: Workers, prefix: bytes) -> None:
    key = row(prefix, 4)
    for position in range(len(chain.store.store.get(key) or b"")):
        store = copy_of(chain)
        flip(store, key, position)
        with pytest.raises(VerifyFailed, match="block 4:"):
            audit(Database(store, "copy"), workers)


def test_every_changed_byte_of_the_stored_state_is_found(chain: Chain, workers: Workers) -> None:
    """Of the newest nodes: what older heights left behind is no part of the state after the head."""
    newest = row(b"n", BLOCKS << INDEX_BITS)
    rows = [key for key, _ in chain.store.store.scan(b"n", start=newest)]
    assert rows
    for key in rows:
        data = chain.store.store.get(key) or b""
        for position in range(0, len(data), 3):
            store = copy_of(chain)
            flip(store, key, position)
            fault = None
            try:
                audit(Database(store, "copy"), workers)
            except VerifyFailed as error:
                fault = error
            if fault is None:
                # The hash kept beside a leaf is for updates; the audit compares the cells themselves.
                changed = LedgerStore(store)
                assert list(changed.cells(BLOCKS)) == list(chain.store.cells(BLOCKS))
            else:
                assert f"after block {BLOCKS}" in fault.cause


def test_a_changed_balance_is_named(chain: Chain, workers: Workers) -> None:
    class Lying(Database):
        def cells(self, height: int) -> Iterator[tuple[bytes, bytes]]:
            for key, value in chain.store.cells(height):
                if b"account" in key and codec.decode(value)[0] == 69:
                    value = codec.encode((70, False))
                yield key, value

    with pytest.raises(VerifyFailed, match=r"points\.account\['beans', .*\] is 9246c2 in the source, 9245c2 by replay"):
        audit(Lying(copy_of(chain), "copy"), workers)


def test_missing_and_additional_cells_are_named(chain: Chain, workers: Workers) -> None:
    cells = list(chain.store.cells(BLOCKS))

    class Other(Database):
        def __init__(self, given: list[tuple[bytes, bytes]]) -> None:
            super().__init__(copy_of(chain), "copy")
            self._given = given

        def cells(self, height: int) -> Iterator[tuple[bytes, bytes]]:
            return iter(self._given)

    with pytest.raises(VerifyFailed, match="the source lacks the cell"):
        audit(Other(cells[:-1]), workers)
    with pytest.raises(VerifyFailed, match="the source has a cell ffff that replay does not give"):
        audit(Other([*cells, (b"\xff\xff", b"\xc0")]), workers)


def test_a_source_that_ends_early_is_found(chain: Chain, workers: Workers) -> None:
    class Short(Database):
        def blocks(self) -> Iterator[Sealed]:
            return (sealed for sealed in super().blocks() if sealed.height < BLOCKS)

    with pytest.raises(VerifyFailed, match=f"states height {BLOCKS}, but gives no block {BLOCKS}"):
        audit(Short(copy_of(chain), "copy"), workers)


def test_another_genesis_refuses_the_first_block(chain: Chain, workers: Workers) -> None:
    stranger = genesis(chain_id="other-chain")
    with pytest.raises(VerifyFailed, match="block 1: the chain id is 'test-chain', not 'other-chain'"):
        Audit(stranger, MemoryStore(), workers).run(Database(copy_of(chain), "copy"))


def test_a_file_cut_anywhere_is_refused_or_ends_at_a_block(chain: Chain, workers: Workers, tmp_path: Path) -> None:
    data = export_of(chain)
    ends, position = {0}, 0
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
        ends.add(position)
    for cut in range(0, len(data), 37):
        file = tmp_path / "cut"
        file.write_bytes(data[:cut])
        if cut in ends:
            assert audit(ExportFile(file), workers).height < BLOCKS
        else:
            with pytest.raises(VerifyFailed, match="cut short"):
                audit(ExportFile(file), workers)


def test_an_absurd_frame_length_is_refused_without_reading_it(tmp_path: Path, workers: Workers) -> None:
    with pytest.raises(VerifyFailed, match="cut short"):
        list(read_frames(b"\xff\xff\xff\xff" + bytes(100), 1))
    file = tmp_path / "bomb"
    file.write_bytes(b"\xff\xff\xff\xff" + bytes(100))
    with pytest.raises(VerifyFailed, match="cut short"):
        audit(ExportFile(file), workers)


def test_a_file_that_is_not_there_is_no_finding(tmp_path: Path, workers: Workers) -> None:
    with pytest.raises(Fault, match="No such file"):
        audit(ExportFile(tmp_path / "nothing"), workers)
