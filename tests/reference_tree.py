"""A binary sparse Merkle tree in its plainest form, to compare with: no code of Troth, nothing clever, nothing fast.

An empty subtree is 32 zero bytes, a single leaf SHA-256(0x00 | SHA-256(key) | SHA-256(value)), any other is
SHA-256(0x01 | left | right). The side at depth d is bit d of SHA-256(key), the highest bit first.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

EMPTY = b"\0" * 32


class ReferenceTree:
    """The tree over `entries` (key -> value)."""

    def __init__(self, entries: Mapping[bytes, bytes]) -> None:
        self.entries = dict(entries)
        self.keys = sorted(entries, key=lambda key: sha256(key).digest())
        self._hashes: dict[tuple[int, bytes, int], bytes] = {}
        self.root = self._node(self.keys, 0)

    @staticmethod
    def bit(key: bytes, depth: int) -> int:
        """The branch (0 left, 1 right) that `key` takes at a depth."""
        return int.from_bytes(sha256(key).digest(), "big") >> (255 - depth) & 1

    def path(self, key: bytes) -> list[tuple[bytes, int]]:
        """(sibling, branch taken) of each node from the leaf of `key`, a key of the tree, up to the root."""
        steps = []
        keys, depth = self.keys, 0
        while len(keys) > 1:
            branch = self.bit(key, depth)
            sides = self._sides(keys, depth)
            steps.append((self._node(sides[1 - branch], depth + 1), branch))
            keys, depth = sides[branch], depth + 1
        return steps[::-1]

    def neighbours(self, key: bytes) -> tuple[bytes | None, bytes | None]:
        """The keys whose hashes come next below and above that of `key`, which is not in the tree."""
        place = sha256(key).digest()
        left = [other for other in self.keys if sha256(other).digest() < place]
        right = [other for other in self.keys if sha256(other).digest() > place]
        return (left[-1] if left else None, right[0] if right else None)

    def _node(self, keys: list[bytes], depth: int) -> bytes:
        if not keys:
            return EMPTY
        if len(keys) == 1:
            key = keys[0]
            return sha256(b"\0" + sha256(key).digest() + sha256(self.entries[key]).digest()).digest()
        name = (depth, keys[0], len(keys))
        if name not in self._hashes:
            left, right = self._sides(keys, depth)
            self._hashes[name] = sha256(b"\1" + self._node(left, depth + 1) + self._node(right, depth + 1)).digest()
        return self._hashes[name]

    def _sides(self, keys: list[bytes], depth: int) -> tuple[list[bytes], list[bytes]]:
        left = [key for key in keys if not self.bit(key, depth)]
        return left, keys[len(left) :]  # keys are sorted by their hashes
