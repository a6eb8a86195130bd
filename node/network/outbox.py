"""What waits to be sent to one peer: a bounded queue for each channel, emptied in order of importance.

Rules kept here:
- the connection's own frames go first, then consensus, then blocks, then transactions; a frame that was begun is
  finished before another starts;
- a full queue of blocks or transactions gives up its oldest, and counts it;
- a consensus message is never given up in silence: where its queue is full the peer reads too slowly to be worth a
  connection, and `put` says so. It hears what it missed when it comes back.

Pure. Frames are shared between the outboxes of a broadcast, so what waits for many peers is held once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from node.network.frames import Channel

CONTROL = 0
"""The queue of the connection's own frames."""

_NEVER_DROPPED = (CONTROL, Channel.CONSENSUS)


class Room(NamedTuple):
    """The most that one queue holds."""

    messages: int
    bytes: int


class _Queue:
    __slots__ = ("bytes", "dropped", "frames", "room")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.frames: deque[bytes] = deque()
        self.bytes = 0
        self.dropped = 0


class Outbox:
    """The queues to one peer."""

    __slots__ = ("_begun", "_queues")

    def __init__(self, rooms: Mapping[int, Room]) -> None:
        self._queues = {kind: _Queue(rooms[kind]) for kind in sorted(rooms)}
        self._begun: memoryview | None = None

    def put(self, kind: int, frame: bytes) -> bool:
        """Queues a frame. False where that would break the bounds of a queue that drops nothing."""
        queue = self._queues[kind]
        room, frames = queue.room, queue.frames
        if len(frames) >= room.messages or queue.bytes + len(frame) > room.bytes:
            if kind in _NEVER_DROPPED:
                return False
            while frames and (len(frames) >= room.messages or queue.bytes + len(frame) > room.bytes):
                queue.bytes -= len(frames.popleft())
                queue.dropped += 1
            if queue.bytes + len(frame) > room.bytes:
                queue.dropped += 1
                return True
        frames.append(frame)
        queue.bytes += len(frame)
        return True

    def take(self, size: int) -> bytes | memoryview:
        """The next bytes to send, about `size` and never more; empty where nothing waits."""
        if self._begun is not None:
            piece, rest = self._begun[:size], self._begun[size:]
            self._begun = rest if len(rest) else None
            return piece
        taken: list[bytes] = []
        left = size
        for queue in self._queues.values():
            frames = queue.frames
            while frames:
                length = len(frames[0])
                if length > left:
                    if taken:
                        return b"".join(taken)
                    queue.bytes -= length
                    self._begun = memoryview(frames.popleft())
                    return self.take(size)
                queue.bytes -= length
                left -= length
                taken.append(frames.popleft())
        return taken[0] if len(taken) == 1 else b"".join(taken)

    @property
    def in_midst(self) -> bool:
        """Whether a frame was begun and is not finished: no other may come between."""
        return self._begun is not None

    @property
    def bytes(self) -> int:
        """Bytes that wait, in all."""
        waiting = sum([queue.bytes for queue in self._queues.values()])
        return waiting + (0 if self._begun is None else len(self._begun))

    def waiting(self, kind: int) -> Room:
        """How much waits in a queue: messages and bytes."""
        queue = self._queues[kind]
        return Room(len(queue.frames), queue.bytes)

    def dropped(self, kind: int) -> int:
        """How many messages a queue gave up."""
        return self._queues[kind].dropped
