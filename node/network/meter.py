"""How much one peer may send: messages and bytes a second for each channel, and for the connection's own frames.

Each rate is a bucket: it holds a burst, refills at the rate, and may be overdrawn by what has been read already. While
a bucket is overdrawn nothing more is read from the peer, so TCP holds it back, and this node's memory stays out of it.
An honest peer feels that after a long pause and is never the worse for it. A peer whose buckets have not once been half
full for a whole `flood_seconds` is flooding. Pure: the caller says what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Rate(NamedTuple):
    """Messages and bytes a second, and how many seconds' worth may come at once."""

    messages: int
    bytes: int
    burst_seconds: float = 4.0


class Bucket:
    """Holds at most `burst`, refills at `rate` a second; overdrawn where more is taken than there is."""

    __slots__ = ("_at", "_burst", "_rate", "level")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self.level = burst
        self._at = now

    def take(self, amount: int, now: float) -> None:
        """Takes so much, be it there or not."""
        self.refill(now)
        self.level -= amount

    def refill(self, now: float) -> None:
        """Adds what has flowed in until now."""
        if now > self._at:  # a clock that goes back gives nothing and takes nothing
            self.level = min(self._burst, self.level + (now - self._at) * self._rate)
        self._at = now

    @property
    def seconds_overdrawn(self) -> float:
        """Seconds until nothing is owed any more."""
        return max(0.0, -self.level / self._rate)

    @property
    def full(self) -> bool:
        """Whether all of the burst is there."""
        return self.level >= self._burst

    @property
    def calm(self) -> bool:
        """Whether at least half of the burst is there."""
        return self.level * 2 >= self._burst


class Meter:
    """The buckets of one peer, by kind. Kinds without a rate of their own share that of kind 0."""

    __slots__ = ("_buckets", "_flood_seconds", "_uneasy_since")

    def __init__(self, rates: Mapping[int, Rate], flood_seconds: float, now: float) -> None:
        self._flood_seconds = flood_seconds
        self._uneasy_since: float | None = None
        self._buckets = {
            kind: (
                Bucket(rate.messages, rate.messages * rate.burst_seconds, now),
                Bucket(rate.bytes, rate.bytes * rate.burst_seconds, now),
            )
            for kind, rate in rates.items()
        }

    def charge(self, kind: int, messages: int, size: int, now: float) -> float:
        """Charges what was read. Returns the seconds for which nothing more may be read, 0 for going on."""
        by_number, by_size = self._buckets.get(kind) or self._buckets[0]
        by_number.take(messages, now)
        by_size.take(size, now)
        if self._uneasy_since is None and not (by_number.calm and by_size.calm):
            self._uneasy_since = now
        return max(by_number.seconds_overdrawn, by_size.seconds_overdrawn)

    def flooding(self, now: float) -> bool:
        """Whether the peer has sent too much for too long."""
        if self._uneasy_since is None:
            return False
        calm = True
        for pair in self._buckets.values():
            for bucket in pair:
                bucket.refill(now)
                calm = calm and bucket.calm
        if calm:
            self._uneasy_since = None
            return False
        return now - self._uneasy_since >= self._flood_seconds
