"""Frames: how messages lie in the byte stream of a connection.

    kind (1 byte)  length of the body (4 bytes, big-endian)  body

A kind has a range of lengths, which depends on how far the connection has come. A frame outside it is refused as soon
as its five bytes of head are there, before room is made for a body. Kinds below 16 are the connection's own; the others
are channels, which carry the node's messages. Reading frames is pure: bytes in, frames out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from ledger.errors import Invalid, define

BAD_FRAME = define("E-PEER-002", "not a frame", "this peer speaks another protocol or is broken")
OVERSIZE_FRAME = define("E-PEER-003", "a frame is longer than its kind may be", "see docs/spec/network.md")

HELLO = 1
PROOF = 2
BYE = 3
PING = 4
PONG = 5

HEAD_BYTES = 5
PING_BYTES = 8


class Channel(IntEnum):
    """What a message is about. A lower number goes first where both wait."""

    CONSENSUS = 16
    BLOCKS = 17
    TRANSACTIONS = 18


class Lengths(NamedTuple):
    """The least and greatest length of a body, in bytes."""

    least: int
    most: int


HANDSHAKE_LENGTHS: Mapping[int, Lengths] = {HELLO: Lengths(1, 1024), PROOF: Lengths(64, 64), BYE: Lengths(1, 512)}
"""What a connection takes before the peer has proven itself."""


def open_lengths(consensus: int, blocks: int, transactions: int) -> dict[int, Lengths]:
    """What a connection takes afterwards: the longest message of each channel, in bytes."""
    return {
        BYE: HANDSHAKE_LENGTHS[BYE],
        PING: Lengths(PING_BYTES, PING_BYTES),
        PONG: Lengths(PING_BYTES, PING_BYTES),
        Channel.CONSENSUS: Lengths(1, consensus),
        Channel.BLOCKS: Lengths(1, blocks),
        Channel.TRANSACTIONS: Lengths(1, transactions),
    }


_head = struct.Struct(">BI")


def frame(kind: int, body: bytes) -> bytes:
    """The frame of a body."""
    return _head.pack(kind, len(body)) + body


class Frames:
    """Reads the frames of one connection. `lengths` may be replaced between two frames.

    It holds at most one unfinished frame, whose announced length was within bounds.
    """

    __slots__ = ("_held", "_wanted", "lengths")

    def __init__(self, lengths: Mapping[int, Lengths]) -> None:
        self.lengths = lengths
        self._held = bytearray()
        self._wanted = HEAD_BYTES

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._held)

    def read(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames (kind, body) that `data` completes. To be exhausted before the next call.

        Raises Invalid: E-PEER-002 for an unknown kind or too short a body, E-PEER-003 for too long a one. Nothing
        can be read afterwards, since no later byte has a meaning.
        """
        held = self._held
        if held:
            held += data
            if len(held) < self._wanted:
                return
            data = bytes(held)
            held.clear()
        position, end = 0, len(data)
        while end - position >= HEAD_BYTES:
            kind, length = _head.unpack_from(data, position)
            self._check(kind, length)
            stop = position + HEAD_BYTES + length
            if stop > end:
                break
            yield kind, data[position + HEAD_BYTES : stop]
            position = stop
        if position < end:
            held += data[position:]
            self._want(held)

    def _want(self, held: bytearray) -> None:
        """Sets how many bytes make the frame at hand complete: its head first, then all of it."""
        if len(held) < HEAD_BYTES:
            self._wanted = HEAD_BYTES
        else:
            kind, length = _head.unpack_from(held)
            self._check(kind, length)
            self._wanted = HEAD_BYTES + length

    def _check(self, kind: int, length: int) -> None:
        lengths = self.lengths.get(kind)
        if lengths is None:
            raise Invalid(BAD_FRAME, f"a frame of kind {kind}, which is unknown or not due")
        if length > lengths.most:
            raise Invalid(
                OVERSIZE_FRAME, f"a frame of kind {kind} with {length} bytes, at most {lengths.most} are taken"
            )
        if length < lengths.least:
            raise Invalid(BAD_FRAME, f"a frame of kind {kind} with {length} bytes, at least {lengths.least} are due")
