"""The binary hash tree of RFC 6962, 2.1, over SHA-256: transactions and receipts of a block.

Rules kept here:
- a leaf hashes as SHA-256(0x00 | data), a node as SHA-256(0x01 | left | right): no leaf passes for a node;
- an odd node at the end of a level rises unchanged, which is the RFC's split at the largest power of two;
- the root of no leaves is SHA-256 of nothing;
- a proof is checked by RFC 9162, 2.1.3.2: its length must fit (index, size) exactly, so the index that it was
  made for is the only one under which it verifies.

The size of a tree is not in its root: whoever checks a proof takes root and size from one signed header.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import Invalid, define
from ledger.hashes import HASH_BYTES

BAD_INDEX = define("E-MERKLE-001", "no such leaf", "ask for an index from 0 to the number of leaves less one")
BAD_PROOF = define("E-MERKLE-002", "not an inclusion proof", "fetch the proof again from a node")

EMPTY_ROOT = sha256(b"").digest()

MAX_SIZE = 2**63 - 1
"""Largest number of leaves that a proof may claim."""

_MAX_PATH = MAX_SIZE.bit_length()


def leaf_hash(data: bytes) -> bytes:
    """The 32-byte hash of a leaf's data."""
    return sha256(b"\0" + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root over the leaves' data."""
    level: list[bytes] = []
    for level in _levels(leaves):  # noqa: B007 - the last level is the root
        pass
    return level[0] if level else EMPTY_ROOT


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes from a leaf up to the root. Raises Invalid (E-MERKLE-001) without such a leaf."""
    if not 0 <= index < len(leaves):
        raise Invalid(BAD_INDEX, f"leaf {index} of a tree of {len(leaves)}")
    path = []
    for level in _levels(leaves):
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return tuple(path)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """True where `proof` shows that a leaf is number `index` of the `size` leaves under `root`.

    `leaf` is the leaf's hash: `leaf_hash` of its data. Never raises on bytes and integers, of whatever size.

    Source: RFC 9162, 2.1.3.2; the names `first` and `last` stand for its fn and sn.
    """
    if not 0 <= index < size <= MAX_SIZE:
        return False
    if len(leaf) != HASH_BYTES or any(len(node) != HASH_BYTES for node in proof):
        return False
    first, last = index, size - 1
    node = leaf
    for sibling in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            node = sha256(b"\1" + sibling + node).digest()
            while first and not first & 1:
                first >>= 1
                last >>= 1
        else:
            node = sha256(b"\1" + node + sibling).digest()
        first >>= 1
        last >>= 1
    return last == 0 and node == root


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Where a leaf lies (`index` of `size`) and the sibling hashes from it up to the root (`path`)."""

    index: int
    size: int
    path: tuple[bytes, ...]

    def verify(self, data: bytes, root: bytes) -> bool:
        """True where a leaf with this data lies at `index` under `root`."""
        return verify_inclusion(leaf_hash(data), self.index, self.size, self.path, root)

    def to_value(self) -> tuple[int, int, tuple[bytes, ...]]:
        """The codec value (index, size, path)."""
        return (self.index, self.size, self.path)

    @classmethod
    def from_value(cls, value: object) -> InclusionProof:
        """The proof of a codec value. Raises Invalid (E-MERKLE-002) where it cannot be one."""
        if type(value) is not tuple or len(value) != 3:
            raise Invalid(BAD_PROOF, "a proof is an array of index, size and path")
        index, size, path = value
        if type(index) is not int or type(size) is not int or not 0 <= index < size <= MAX_SIZE:
            raise Invalid(BAD_PROOF, "the index must be an integer below the size")
        if type(path) is not tuple or len(path) > _MAX_PATH:
            raise Invalid(BAD_PROOF, f"the path must be an array of at most {_MAX_PATH} hashes")
        if any(type(node) is not bytes or len(node) != HASH_BYTES for node in path):
            raise Invalid(BAD_PROOF, f"each step of the path must be {HASH_BYTES} bytes")
        return cls(index, size, path)


def prove(leaves: Sequence[bytes], index: int) -> InclusionProof:
    """The proof that leaf `index` is under `root(leaves)`. Raises Invalid (E-MERKLE-001)."""
    return InclusionProof(index, len(leaves), inclusion_proof(leaves, index))


def _levels(leaves: Sequence[bytes]) -> Iterator[list[bytes]]:
    level = [sha256(b"\0" + data).digest() for data in leaves]
    while True:
        yield level
        if len(level) <= 1:
            return
        odd = level[-1:] if len(level) & 1 else []
        level = [
            sha256(b"\1" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)  # an odd last node is left over
        ] + odd
