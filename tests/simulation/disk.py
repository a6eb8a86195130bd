"""A disk that loses what was not synced.

Files are replaced whole, as a node replaces them (write beside, sync, rename). Between a write and its sync a crash may
keep either the old or the new content: the random source decides, file by file.
"""

from __future__ import annotations

from random import Random


class CrashError(Exception):
    """The machine stops here."""


class Disk:
    """`crash_in` counts sync points: at 1 the next sync crashes before it takes effect, at 2 right after it has."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._durable: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}
        self.crash_in = 0
        self.syncs = 0

    def write(self, name: str, data: bytes) -> None:
        """Replaces a file, not yet durably."""
        self._written[name] = data

    def read(self, name: str) -> bytes | None:
        """What a running node sees."""
        return self._written.get(name, self._durable.get(name))

    def durable(self, name: str) -> bytes | None:
        """What would surely be there after a crash."""
        return self._durable.get(name)

    def sync(self) -> None:
        """Makes every write durable. Raises CrashError where the scenario asks for it."""
        self.syncs += 1
        if self._crash_now():
            raise CrashError
        self._durable.update(self._written)
        self._written.clear()
        if self._crash_now():
            raise CrashError

    def _crash_now(self) -> bool:
        if self.crash_in == 0:
            return False
        self.crash_in -= 1
        return self.crash_in == 0

    def crash(self) -> None:
        """Power is lost: each file that was written but not synced is there, or is not."""
        self.crash_in = 0
        for name, data in sorted(self._written.items()):
            if self._random.random() < 0.5:
                self._durable[name] = data
        self._written.clear()
