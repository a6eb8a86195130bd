"""Why a connection ends, and who must stay away for how long.

Every end has a reason out of one list. Some reasons are misbehaviour: they ban the peer for the time the list says,
twice as long with every offence that comes within a day of the last, up to an hour. A ban always ends. It is the
node's (its key's), never an address's: others may live at the same one. Bans are kept in memory, at most one for each
registered node.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

BAN_SECONDS_MAX = 3600
FORGIVEN_AFTER_SECONDS = 24 * 60 * 60


class Reason(Enum):
    """Why a connection ends: its word on the wire and in figures, and the seconds of a first ban (0: none)."""

    STOPPING = "stopping", 0
    LOST = "lost", 0
    TOLD = "told", 0
    DUPLICATE = "duplicate", 0
    UNREGISTERED = "unregistered", 0
    OTHER_NODE = "other-node", 0
    BANNED = "banned", 0
    HANDSHAKE_TIMEOUT = "handshake-timeout", 0
    SILENT = "silent", 0
    STALLED = "stalled", 0
    SLOW_READER = "slow-reader", 0
    GARBAGE = "garbage", 60
    OVERSIZE = "oversize", 60
    WRONG_CHAIN = "wrong-chain", 60
    WRONG_VERSION = "wrong-version", 60
    WRONG_IDENTITY = "wrong-identity", 600
    FLOOD = "flood", 60
    INVALID = "invalid", 60
    LIE = "lie", 600

    @property
    def word(self) -> str:
        """Its word."""
        return self.value[0]

    @property
    def ban_seconds(self) -> int:
        """Seconds of the ban for a first offence."""
        return self.value[1]


class Ban(NamedTuple):
    """A node that must stay away. Times in seconds of the clock that the caller uses."""

    reason: Reason
    detail: str
    since: float
    until: float


class Bans:
    """The bans of all nodes, by node id."""

    def __init__(self) -> None:
        self._bans: dict[bytes, Ban] = {}
        self._count: dict[bytes, int] = {}

    def add(self, node: bytes, reason: Reason, detail: str, now: float) -> Ban | None:
        """Notes an offence. Returns the ban, or None where the reason is no offence.

        An offence while banned lengthens the ban and never shortens it.
        """
        if reason.ban_seconds == 0:
            return None
        last = self._bans.get(node)
        if last is not None and now - last.until >= FORGIVEN_AFTER_SECONDS:
            self._count.pop(node, None)
        count = self._count.get(node, 0)
        self._count[node] = min(count + 1, 16)
        until = now + min(reason.ban_seconds << count, BAN_SECONDS_MAX)
        if last is not None:
            until = max(until, last.until)
        ban = self._bans[node] = Ban(reason, detail, now, until)
        return ban

    def get(self, node: bytes, now: float) -> Ban | None:
        """The ban that holds for a node now."""
        ban = self._bans.get(node)
        return ban if ban is not None and now < ban.until else None

    def keep_only(self, nodes: frozenset[bytes]) -> None:
        """Forgets all others: nodes that are not registered any more."""
        self._bans = {node: ban for node, ban in self._bans.items() if node in nodes}
        self._count = {node: count for node, count in self._count.items() if node in nodes}
