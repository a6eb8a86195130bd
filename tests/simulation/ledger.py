"""What a node of the simulation does with blocks: an interface, and its simplest implementation.

The interface is what the engine's outputs need of a chain: build, judge, append, look up. Here a block is opaque: a few
fields and a flag that says whether it is valid. The production chain, executor and store fit in the same place.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from consensus.messages import MAX_ROUND
from ledger import codec
from ledger.block import Certificate, Validator, certificate_of, decode_block
from ledger.errors import Invalid
from tests.simulation.disk import Disk

GENESIS_ID = sha256(b"genesis").digest()


class Ledger(Protocol):
    """A node's chain. Everything that was appended survives a crash; nothing else has to."""

    @property
    def height(self) -> int:
        """The height of the last block, 0 at the beginning."""

    @property
    def head_id(self) -> bytes:
        """The id of the last block."""

    def build(self, proposer: bytes, nonce: int) -> tuple[bytes, bytes]:
        """The id and bytes of a new block on the head."""

    def judge(self, block_id: bytes, block: bytes, proposer: bytes | None) -> bool:
        """Whether the bytes are a valid next block with that id, by that proposer if one is given."""

    def append(self, block_id: bytes, block: bytes, certificate: Certificate) -> None:
        """Makes a judged block the head, durably. Raises CrashError at a sync point of a crash."""

    def decided(self, height: int) -> tuple[bytes, Certificate]:
        """The bytes and certificate of a block from height 1 up."""

    def validators(self, height: int) -> tuple[Validator, ...]:
        """The validators of a height, in their order; for any height up to two above the head."""


class Schedule:
    """The validators of each height: a set, and others from some heights on."""

    def __init__(self, first: tuple[Validator, ...], changes: dict[int, tuple[Validator, ...]] | None = None) -> None:
        self._changes = {0: first, **(changes or {})}

    def at(self, height: int) -> tuple[Validator, ...]:
        """The validators of a height."""
        return self._changes[max(start for start in self._changes if start <= height)]


def block_id_of(block: bytes) -> bytes:
    """The id covers the block alone: no round, no certificate (C4)."""
    return sha256(b"block" + block).digest()


def make_block(height: int, parent_id: bytes, proposer: bytes, nonce: int, valid: bool = True) -> bytes:
    """The bytes of an opaque block."""
    return codec.encode((height, parent_id, proposer, nonce, valid))


def parse_block(block: bytes) -> tuple[int, bytes, bytes, int, bool] | None:
    """The fields of an opaque block, or None where it is none."""
    try:
        fields = codec.decode(block)
    except Invalid:
        return None
    kinds = (int, bytes, bytes, int, bool)
    if type(fields) is not tuple or len(fields) != 5:
        return None
    matching = all(type(field) is kind for field, kind in zip(fields, kinds, strict=True))
    return fields if matching else None


def place_of(block: bytes) -> tuple[int, bytes] | None:
    """Height and parent id of a valid block, opaque or real; None where it is none. (Real ones were judged before.)"""
    fields = parse_block(block)
    if fields is not None:
        return fields[:2] if fields[4] else None
    try:
        header = decode_block(block).header
    except Invalid:
        return None
    return header.height, header.parent_id


class OpaqueLedger:
    """A chain of opaque blocks on a disk."""

    def __init__(self, disk: Disk, schedule: Schedule) -> None:
        self._disk = disk
        self._schedule = schedule
        self._blocks: list[tuple[bytes, bytes, Certificate]] = []
        while (row := disk.read(f"block {len(self._blocks) + 1}")) is not None:
            block, certificate = codec.decode(row)
            self._blocks.append((block_id_of(block), block, certificate_of(certificate)))

    @property
    def height(self) -> int:
        """The height of the last block, 0 at the beginning."""
        return len(self._blocks)

    @property
    def head_id(self) -> bytes:
        """The id of the last block."""
        return self._blocks[-1][0] if self._blocks else GENESIS_ID

    def build(self, proposer: bytes, nonce: int) -> tuple[bytes, bytes]:
        """The id and bytes of a new block on the head."""
        block = make_block(self.height + 1, self.head_id, proposer, nonce)
        return block_id_of(block), block

    def judge(self, block_id: bytes, block: bytes, proposer: bytes | None) -> bool:
        """Whether the bytes are a valid next block with that id, by that proposer if one is given."""
        fields = parse_block(block)
        if fields is None or block_id_of(block) != block_id:
            return False
        height, parent_id, author, _, valid = fields
        follows = (height, parent_id) == (self.height + 1, self.head_id)
        return follows and valid and proposer in (None, author)

    def append(self, block_id: bytes, block: bytes, certificate: Certificate) -> None:
        """Makes a judged block the head, durably. Raises CrashError at a sync point of a crash."""
        if block_id_of(block) != block_id or certificate.round > MAX_ROUND:
            raise AssertionError("the host appends only what was judged")
        self._disk.write(f"block {self.height + 1}", codec.encode((block, certificate)))
        self._disk.sync()
        self._blocks.append((block_id, block, certificate))

    def decided(self, height: int) -> tuple[bytes, Certificate]:
        """The bytes and certificate of a block from height 1 up."""
        return self._blocks[height - 1][1:]

    def validators(self, height: int) -> tuple[Validator, ...]:
        """The validators of a height."""
        return self._schedule.at(height)
