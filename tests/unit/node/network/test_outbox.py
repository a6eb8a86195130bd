from __future__ import annotations

import pytest

from node.network.frames import PING, Channel, Frames, frame, open_lengths
from node.network.outbox import CONTROL, Outbox, Room

ROOMS = {
    CONTROL: Room(2, 100),
    Channel.CONSENSUS: Room(3, 10_000),
    Channel.BLOCKS: Room(3, 10_000),
    Channel.TRANSACTIONS: Room(3, 300),
}
C, B, T = Channel.CONSENSUS, Channel.BLOCKS, Channel.TRANSACTIONS


def drain(outbox: Outbox, size: int = 1 << 20) -> list[bytes]:
    taken = []
    while piece := outbox.take(size):
        assert len(piece) <= size
        taken.append(bytes(piece))
    return taken


def test_an_empty_outbox_gives_nothing() -> None:
    outbox = Outbox(ROOMS)
    assert outbox.take(100) == b"" and outbox.bytes == 0 and not outbox.in_midst


def test_small_frames_are_joined_in_order_of_importance() -> None:
    outbox = Outbox(ROOMS)
    for kind, body in ((T, b"t1"), (B, b"b1"), (C, b"c1"), (CONTROL, b"p1"), (T, b"t2"), (C, b"c2")):
        assert outbox.put(kind, body)
    assert outbox.bytes == 12
    assert drain(outbox) == [b"p1c1c2b1t1t2"]
    assert outbox.bytes == 0


def test_a_frame_that_was_begun_is_finished_first() -> None:
    outbox = Outbox(ROOMS)
    outbox.put(B, b"b" * 250)
    assert outbox.take(100) == b"b" * 100
    assert outbox.in_midst and outbox.bytes == 150
    outbox.put(C, b"c")
    assert drain(outbox, 100) == [b"b" * 100, b"b" * 50, b"c"]
    assert not outbox.in_midst


def test_a_frame_that_does_not_fit_beside_others_waits_for_the_next_turn() -> None:
    outbox = Outbox(ROOMS)
    outbox.put(C, b"c" * 60)
    outbox.put(B, b"b" * 60)
    outbox.put(T, b"t" * 10)
    assert drain(outbox, 100) == [b"c" * 60, b"b" * 60 + b"t" * 10]


@pytest.mark.parametrize(
    ("sizes", "left", "dropped"),
    [
        ([10, 20, 30, 40], [20, 30, 40], 1),  # too many
        ([200, 90, 150], [90, 150], 1),  # too long together
        ([100, 100, 100, 250], [250], 3),
        ([100, 301], [], 2),  # longer than all the room there is
    ],
)
def test_a_full_queue_of_transactions_gives_up_its_oldest(sizes: list[int], left: list[int], dropped: int) -> None:
    outbox = Outbox(ROOMS)
    for size in sizes:
        assert outbox.put(T, bytes(size))
    assert outbox.waiting(T) == Room(len(left), sum(left))
    assert outbox.dropped(T) == dropped
    assert len(b"".join(drain(outbox))) == sum(left)


@pytest.mark.parametrize("kind", [CONTROL, Channel.CONSENSUS])
def test_a_full_queue_of_what_matters_says_so_and_drops_nothing(kind: int) -> None:
    outbox = Outbox(ROOMS)
    room = ROOMS[kind]
    for _ in range(room.messages):
        assert outbox.put(kind, b"m")
    assert not outbox.put(kind, b"m")
    assert outbox.waiting(kind) == Room(room.messages, room.messages)
    assert outbox.dropped(kind) == 0
    full = Outbox(ROOMS)
    assert full.put(kind, bytes(room.bytes))
    assert not full.put(kind, b"m")


def test_one_full_queue_takes_nothing_from_another() -> None:
    outbox = Outbox(ROOMS)
    outbox.put(C, b"c")
    for _ in range(50):
        outbox.put(T, b"t" * 100)
        outbox.put(B, b"b" * 5_000)
    assert outbox.waiting(C) == Room(1, 1)
    assert outbox.bytes <= sum(room.bytes for room in ROOMS.values())


def test_a_broadcast_is_held_once() -> None:
    shared = frame(C, bytes(1_000))
    outboxes = [Outbox(ROOMS) for _ in range(3)]
    for outbox in outboxes:
        outbox.put(C, shared)
    assert all(outbox.take(2_000) is shared for outbox in outboxes)


def test_what_is_taken_in_pieces_reads_as_frames_again() -> None:
    outbox = Outbox(ROOMS)
    sent = [(PING, b"12345678"), (int(C), b"c" * 999), (int(B), b"b" * 5_000), (int(T), b"t")]
    for kind, body in sent:
        outbox.put(CONTROL if kind == PING else kind, frame(kind, body))
    reader = Frames(open_lengths(10_000, 10_000, 10_000))
    assert [found for piece in drain(outbox, 64) for found in reader.read(piece)] == sent
