"""Blocks and the certificates that make them final.

    block        [header, transactions, evidence, last commit]
    header       the 14 fields of `Header`, in order
    certificate  [height, round, block id, seals], a seal being [validator address, signature]

Rules kept here:
- the block id is the tagged hash of the header; neither the round nor the certificate is in it, so two certificates
  for one block may differ (CONSENSUS: Besu and Quorum both had bugs where they were);
- the header commits to everything else by a root: transactions, receipts, state after the block, validators of this
  height and the next, evidence, and the certificate of the parent that the block carries;
- a seal signs chain id, kind, height, round and block id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ledger import codec, merkle
from ledger.errors import Invalid, define
from ledger.hashes import block_hash, commit_hash

BLOCK_VERSION = 1
MAX_BLOCK_BYTES = 16 << 20

MALFORMED = define("E-BLOCK-001", "malformed block", "fetch the block again, from another node if need be")
WRONG_ROOT = define(
    "E-BLOCK-002", "a root in the header does not match the content", "do not trust this copy of the block"
)

NO_COMMIT_ROOT = bytes(32)
_COMMIT_PREFIX = b"troth/sign/commit\0"


class Validator(NamedTuple):
    """One validator of a set: 20-byte address, 32-byte public key, voting power, organisation."""

    address: bytes
    public_key: bytes
    power: int
    organisation: str


class Seal(NamedTuple):
    """One validator's signature for a block."""

    validator: bytes
    signature: bytes


class Certificate(NamedTuple):
    """A quorum's seals for one block: proof that it is final. Seals ascend by validator address."""

    height: int
    round: int
    block_id: bytes
    seals: tuple[Seal, ...]


class Header(NamedTuple):
    """What a block id covers. Roots are 32 bytes; `time_ms` is ms since 1970-01-01 UTC and rises with each block."""

    version: int
    protocol_version: int
    chain_id: str
    height: int
    time_ms: int
    parent_id: bytes
    proposer: bytes
    transactions_root: bytes
    receipts_root: bytes
    state_root: bytes
    validators_root: bytes
    next_validators_root: bytes
    evidence_root: bytes
    last_commit_root: bytes

    def id(self) -> bytes:
        """The block id, 32 bytes."""
        return block_hash(codec.encode(self))


class Block(NamedTuple):
    """A block: transactions as the bytes they arrived in, evidence, and the certificate of its parent."""

    header: Header
    transactions: tuple[bytes, ...]
    evidence: tuple[bytes, ...]
    last_commit: Certificate | None


def commit_message(chain_id: str, height: int, round_: int, block_id: bytes) -> bytes:
    """What a validator signs to commit a block."""
    return _COMMIT_PREFIX + codec.encode((chain_id, "commit", height, round_, block_id))


def commit_root(certificate: Certificate | None) -> bytes:
    """The hash of a certificate that a header carries; zero where there is none (the first block)."""
    return NO_COMMIT_ROOT if certificate is None else commit_hash(codec.encode(certificate))


def validators_root(validators: Sequence[Validator]) -> bytes:
    """The RFC 6962 root over the encoded validators, in their order."""
    return merkle.root([codec.encode(validator) for validator in validators])


def encode_block(block: Block) -> bytes:
    """The canonical bytes of a block."""
    return codec.encode(block)


def decode_block(data: bytes) -> Block:
    """The block of its canonical bytes, well-formed but not judged. Raises Invalid (E-BLOCK-001, E-CODEC-...)."""
    fields = codec.decode(data, max_bytes=MAX_BLOCK_BYTES)
    if type(fields) is not tuple or len(fields) != 4:
        raise Invalid(MALFORMED, "a block is [header, transactions, evidence, last commit]")
    header, transactions, evidence, last_commit = fields
    if not _all_bytes(transactions) or not _all_bytes(evidence):
        raise Invalid(MALFORMED, "transactions and evidence are arrays of bytes")
    certificate = None if last_commit is None else certificate_of(last_commit)
    return Block(header_of(header), transactions, evidence, certificate)


def header_of(fields: Any) -> Header:
    """A header from its codec value. Raises Invalid (E-BLOCK-001)."""
    if type(fields) is not tuple or len(fields) != 14:
        raise Invalid(MALFORMED, "a header has 14 fields")
    header = Header(*fields)
    for number in (header.version, header.protocol_version, header.height, header.time_ms):
        if type(number) is not int or number < 0:
            raise Invalid(MALFORMED, "version, protocol version, height and time are integers from 0 up")
    if header.version != BLOCK_VERSION:
        raise Invalid(MALFORMED, f"block version {header.version}; this software knows {BLOCK_VERSION}")
    if type(header.chain_id) is not str or type(header.proposer) is not bytes or len(header.proposer) != 20:
        raise Invalid(MALFORMED, "the chain id is text, the proposer an address")
    for root in (header.parent_id, *header[7:]):
        if type(root) is not bytes or len(root) != 32:
            raise Invalid(MALFORMED, "the parent id and every root have 32 bytes")
    return header


def certificate_of(fields: Any) -> Certificate:
    """A certificate from its codec value, well-formed but not verified. Raises Invalid (E-BLOCK-001)."""
    if type(fields) is not tuple or len(fields) != 4 or type(fields[3]) is not tuple:
        raise Invalid(MALFORMED, "a certificate is [height, round, block id, seals]")
    height, round_, block_id, seals = fields
    if type(height) is not int or type(round_) is not int or height < 0 or round_ < 0:
        raise Invalid(MALFORMED, "height and round are integers from 0 up")
    if type(block_id) is not bytes or len(block_id) != 32:
        raise Invalid(MALFORMED, "a block id has 32 bytes")
    checked: list[Seal] = []
    for entry in seals:
        if type(entry) is not tuple or len(entry) != 2 or type(entry[0]) is not bytes or type(entry[1]) is not bytes:
            raise Invalid(MALFORMED, "a seal is [validator address, signature]")
        if len(entry[0]) != 20 or len(entry[1]) != 64:
            raise Invalid(MALFORMED, "a seal holds 20 bytes of address and 64 of signature")
        if checked and checked[-1].validator >= entry[0]:
            raise Invalid(MALFORMED, "seals must ascend by validator, without repeats")
        checked.append(Seal(*entry))
    return Certificate(height, round_, block_id, tuple(checked))


def check_roots(block: Block) -> None:
    """Raises Invalid (E-BLOCK-002) unless the header's roots are those of the block's own content.

    The receipts and state roots are not checked here: only execution can tell (`vm.executor`).
    """
    header = block.header
    for name, stated, found in (
        ("transactions", header.transactions_root, merkle.root(block.transactions)),
        ("evidence", header.evidence_root, merkle.root(block.evidence)),
        ("last commit", header.last_commit_root, commit_root(block.last_commit)),
    ):
        if stated != found:
            raise Invalid(
                WRONG_ROOT,
                f"block {header.height}: the {name} root is {found.hex()}, the header says {stated.hex()}",
            )


def _all_bytes(items: object) -> bool:
    return type(items) is tuple and all(type(item) is bytes for item in items)
