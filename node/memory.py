"""The key-value interface in memory: for tests, for audit replay, for simulations. Nothing survives
`close`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from threading import Lock

from node.keyvalue import MAX_KEY_BYTES, KeyValue, bad_key, bounds


class MemoryStore(KeyValue):
    """Rows in a dict. Keys are sorted at the first scan after the set of keys has changed."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._order: list[bytes] | None = None
        self._lock = Lock()  # a scan in another thread sees all of a batch or nothing

    def get(self, key: bytes) -> bytes | None:
        self._usable()
        return self._rows.get(key)

    def has(self, key: bytes) -> bool:
        self._usable()
        return key in self._rows

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        low, high, high_included = bounds(prefix, start, reverse)
        with self._lock:
            self._usable()
            rows, order = self._rows, self._order
            if order is None:
                self._order = order = sorted(rows)
            first = bisect_left(order, low)
            after = len(order) if high is None else (bisect_right if high_included else bisect_left)(order, high)
            keys = order[first : max(first, after)]
            if reverse:
                keys.reverse()
            return iter([(key, rows[key]) for key in islice(keys, limit)])

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        self._usable()
        new = dict(puts)
        gone = set(deletes)
        for key, value in new.items():
            if type(key) is not bytes or type(value) is not bytes:
                raise TypeError("keys and values are bytes")
            if not 0 < len(key) <= MAX_KEY_BYTES:
                raise bad_key(key)
        with self._lock:
            rows = self._rows
            rows.update(new)
            for key in gone:
                rows.pop(key, None)
            self._order = None

    def close(self) -> None:
        self._rows = {}
        self._stopped = RuntimeError("the store is closed")

    def stats(self) -> dict[str, int | str]:
        self._usable()
        return {"kind": "memory", "engine": "dict", "rows": len(self._rows)}

    def disk_bytes(self) -> int:
        self._usable()
        return 0
