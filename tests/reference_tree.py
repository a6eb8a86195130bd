"""A sparse Merkle tree in its plainest form, to compare with: no code of Troth, nothing clever, nothing fast.

An empty subtree is 32 zero bytes, a single leaf SHA-256(0x00 | SHA-256(key) | SHA-256(value)), any
other is SHA-256(0x01 | its children). The branch at depth d is digit d of SHA-256(key) in base `arity`, high
digit first.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

EMPTY = b"\0" * 32


class ReferenceTree:
    """The tree over `entries` (key -> value), with 2, 4, 16 or 256 children a node."""

    def __init__(self, entries: Mapping[bytes, bytes], arity: int) -> None:
        self.arity = arity
        self.entries = dict(entries)
        self.keys = sorted(entries, key=lambda key: sha256(key).digest())
        self._hashes: dict[tuple[int, bytes, int], bytes] = {}
        self.root = self._node(self.keys, 0)

    def digit(self, key: bytes, depth: int) -> int:
        """The branch that `key` takes at a depth."""
        bits = {2: 1, 4: 2, 16: 4, 256: 8}[self.arity]
        path = int.from_bytes(sha256(key).digest(), "big")
        return (path >> 256 - bits * (depth + 1)) % self.arity

    def path(self, key: bytes) -> list[tuple[list[bytes], int]]:
        """(children, branch taken) of each node from the leaf of `key`, a key of the tree, up to the root."""
        steps = []
        keys, depth = self.keys, 0
        while len(keys) > 1:
            branch = self.digit(key, depth)
            steps.append((self._children(keys, depth), branch))
            keys, depth = [other for other in keys if self.digit(other, depth) == branch], depth + 1
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
            self._hashes[name] = sha256(b"\1" + b"".join(self._children(keys, depth))).digest()
        return self._hashes[name]

    def _children(self, keys: list[bytes], depth: int) -> list[bytes]:
        below: list[list[bytes]] = [[] for _ in range(self.arity)]
        for key in keys:
            below[self.digit(key, depth)].append(key)
        return [self._node(group, depth + 1) for group in below]
