from __future__ import annotations

import pytest

from ledger.errors import Invalid
from node.network.frames import (
    BYE,
    HANDSHAKE_LENGTHS,
    HEAD_BYTES,
    HELLO,
    PING,
    PROOF,
    Channel,
    Frames,
    frame,
    open_lengths,
)

LENGTHS = open_lengths(consensus=1_000, blocks=500, transactions=100)


def read(frames: Frames, data: bytes) -> list[tuple[int, bytes]]:
    return list(frames.read(data))


def test_a_frame_is_kind_length_and_body() -> None:
    assert frame(Channel.BLOCKS, b"abc") == b"\x11\0\0\0\x03abc"


def test_frames_come_out_as_they_went_in() -> None:
    sent = [(PING, b"12345678"), (Channel.CONSENSUS, b"x" * 1_000), (Channel.TRANSACTIONS, b"y")]
    frames = Frames(LENGTHS)
    assert read(frames, b"".join([frame(*each) for each in sent])) == sent
    assert frames.held == 0


def test_an_unfinished_frame_is_held_until_it_is_whole() -> None:
    frames = Frames(LENGTHS)
    whole = frame(Channel.BLOCKS, b"z" * 300)
    for place in range(len(whole) - 1):
        assert read(frames, whole[place : place + 1]) == []
        assert frames.held == place + 1
    assert read(frames, whole[-1:] + whole[:2]) == [(Channel.BLOCKS, b"z" * 300)]
    assert frames.held == 2


@pytest.mark.parametrize(
    ("lengths", "kind", "length", "code"),
    [
        (LENGTHS, 0, 1, "E-PEER-002"),
        (LENGTHS, 19, 1, "E-PEER-002"),
        (LENGTHS, 255, 1, "E-PEER-002"),
        (LENGTHS, HELLO, 100, "E-PEER-002"),
        (LENGTHS, PING, 7, "E-PEER-002"),
        (LENGTHS, PING, 9, "E-PEER-003"),
        (LENGTHS, BYE, 513, "E-PEER-003"),
        (LENGTHS, Channel.CONSENSUS, 0, "E-PEER-002"),
        (LENGTHS, Channel.CONSENSUS, 1_001, "E-PEER-003"),
        (LENGTHS, Channel.BLOCKS, 501, "E-PEER-003"),
        (LENGTHS, Channel.TRANSACTIONS, 101, "E-PEER-003"),
        (LENGTHS, Channel.TRANSACTIONS, 2**32 - 1, "E-PEER-003"),
        (HANDSHAKE_LENGTHS, HELLO, 1_025, "E-PEER-003"),
        (HANDSHAKE_LENGTHS, PROOF, 63, "E-PEER-002"),
        (HANDSHAKE_LENGTHS, PROOF, 65, "E-PEER-003"),
        (HANDSHAKE_LENGTHS, PING, 8, "E-PEER-002"),
        (HANDSHAKE_LENGTHS, Channel.CONSENSUS, 1, "E-PEER-002"),
    ],
)
def test_a_head_out_of_bounds_is_refused_before_its_body(lengths: dict, kind: int, length: int, code: str) -> None:  # type: ignore[type-arg]
    head = bytes([kind]) + length.to_bytes(4, "big")
    frames = Frames(lengths)
    with pytest.raises(Invalid) as caught:
        read(frames, head)
    assert caught.value.code == code
    assert frames.held == 0

    dripped = Frames(lengths)
    assert read(dripped, head[:4]) == []
    with pytest.raises(Invalid) as caught:
        read(dripped, head[4:])
    assert caught.value.code == code


def test_lengths_change_between_two_frames_that_come_together() -> None:
    frames = Frames(HANDSHAKE_LENGTHS)
    got = []
    for kind, body in frames.read(frame(PROOF, bytes(64)) + frame(PING, bytes(8)) + frame(Channel.BLOCKS, b"b")[:-1]):
        got.append((kind, body))
        frames.lengths = LENGTHS
    assert got == [(PROOF, bytes(64)), (PING, bytes(8))]
    assert frames.held == HEAD_BYTES
