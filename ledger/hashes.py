"""SHA-256 with a domain tag per kind of object, so that no object of one kind can be taken for another.

An identifier is SHA-256("troth/" + kind + 0x00 + content): the zero byte ends the tag, and no tag contains one, so
a tag never runs into its content. Trees are not identifiers: they use the one-byte prefixes of RFC 6962 (2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

HASH_BYTES = 32


def tagged(kind: str) -> Callable[[bytes], bytes]:
    """The hash function of one kind of object: bytes -> 32 bytes. `kind` is ASCII without a zero byte."""
    prefix = b"troth/" + kind.encode("ascii") + b"\0"

    def digest(content: bytes) -> bytes:
        return sha256(prefix + content).digest()

    return digest


address_hash = tagged("address")
transaction_hash = tagged("transaction")
block_hash = tagged("block")
genesis_hash = tagged("genesis")
evidence_hash = tagged("evidence")
commit_hash = tagged("commit")
