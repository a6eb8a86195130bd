"""What nodes say to each other about blocks: who is where, and the blocks that somebody missed.

    status  [1, height, block id]             where the sender's chain ends
    get     [2, from height, count]           asks for final blocks
    blocks  [3, from height, [[block bytes, certificate], ...]]

Rules kept here: shape and bounds; everything else is judged against the chain by who receives it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ledger import codec
from ledger.block import MAX_BLOCK_BYTES, Certificate, certificate_of
from ledger.errors import Invalid, define

MALFORMED = define("E-SYNC-001", "malformed message about blocks", "the peer runs other software, or is faulty")

BLOCKS_MAX = 200
"""Most blocks that one answer holds."""

ANSWER_BYTES = 4 << 20
"""An answer ends after the block that passes so many bytes."""

_HEIGHT_MAX = 1 << 40


class Status(NamedTuple):
    """Where the sender's chain ends."""

    height: int
    block_id: bytes


class Get(NamedTuple):
    """Asks for final blocks from a height upwards."""

    first: int
    most: int


class Blocks(NamedTuple):
    """Final blocks from a height upwards, each with its certificate. None where the sender has none there."""

    first: int
    blocks: tuple[tuple[bytes, Certificate], ...]


SyncMessage: TypeAlias = Status | Get | Blocks


def encode(message: SyncMessage) -> bytes:
    """The canonical bytes of a message."""
    kind = 1 if isinstance(message, Status) else 2 if isinstance(message, Get) else 3
    return codec.encode((kind, *message))


def decode(data: bytes) -> SyncMessage:
    """The message of its canonical bytes. Raises Invalid (E-SYNC-001, E-CODEC-..., E-BLOCK-001)."""
    fields = codec.decode(data, max_bytes=ANSWER_BYTES + MAX_BLOCK_BYTES + (1 << 20))
    if type(fields) is not tuple or len(fields) != 3 or type(fields[0]) is not int:
        raise Invalid(MALFORMED, "a message about blocks is [kind, ..., ...]")
    kind, height, content = fields
    if type(height) is not int or not (0 if kind == 1 else 1) <= height < _HEIGHT_MAX:
        raise Invalid(MALFORMED, "where a chain ends is an integer from 0 up, the height of a block one from 1 up")
    if kind == 1 and type(content) is bytes and len(content) == 32:
        return Status(height, content)
    if kind == 2 and type(content) is int and 0 < content <= BLOCKS_MAX:
        return Get(height, content)
    if kind == 3 and type(content) is tuple and len(content) <= BLOCKS_MAX:
        return Blocks(height, tuple([_sealed(each) for each in content]))
    raise Invalid(MALFORMED, f"kind {kind} with content of another form")


def _sealed(value: object) -> tuple[bytes, Certificate]:
    if type(value) is not tuple or len(value) != 2 or type(value[0]) is not bytes:
        raise Invalid(MALFORMED, "a block comes as [bytes, certificate]")
    return value[0], certificate_of(value[1])
