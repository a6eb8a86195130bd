"""What the certificate contract stores and answers: its declared types, its records, its hashes.

The contract itself, with its rules, is `loyalty_contracts.certificate`.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from ledger import codec
from ledger.hashes import HASH_BYTES, tagged
from loyalty_contracts.gs1 import NEXT_STEPS
from vm.kinds import (
    ArrayKind,
    BytesKind,
    ChoiceKind,
    Count,
    Flag,
    Hash,
    IntegerKind,
    OptionalAddress,
    OptionalKind,
    OrganisationId,
    TextKind,
    TimeMs,
)

Title = Annotated[str, TextKind(128, shortest=1, what="a name for people")]
Commitment = Annotated[bytes, BytesKind(32, 32, "a salted SHA-256 of the certificate's data")]
EventHash = Annotated[bytes, BytesKind(32, 32, "SHA-256 of the event: its CBV event hash id")]
Place = Annotated[str, TextKind(64, what="where: a GLN, a site or a town; no personal data")]
Reason = Annotated[str, TextKind(140, what="why; no personal data")]
MarkText = Annotated[str, TextKind(140, shortest=1, what="what a consumer leaves in a pack's history")]
ScanContext = Annotated[str, TextKind(64, what="where or with what it was scanned, coarsely; no personal data")]
Size = Annotated[int, IntegerKind(1, 2**32 - 1, "how many certificates")]
Path = Annotated[tuple[bytes, ...], ArrayKind(BytesKind(HASH_BYTES, HASH_BYTES), 32)]
OptionalTime = Annotated[int | None, OptionalKind(IntegerKind(1, 2**53 - 1, "ms since 1970-01-01 UTC"))]
OptionalBatch = Annotated[str | None, OptionalKind(TextKind(20, shortest=1, what="the batch it came from, or null"))]
Status = Annotated[str, ChoiceKind("active", "recalled", "revoked")]
Stage = Annotated[str, ChoiceKind(*NEXT_STEPS, what="the last business step, empty before the first")]

REGISTERED, SEEN_BEFORE, UNKNOWN = "registered", "seen_before", "unknown"
EXPIRED, RECALLED, REVOKED = "expired", "recalled", "revoked"
Word = Annotated[str, ChoiceKind(REGISTERED, SEEN_BEFORE, RECALLED, REVOKED, EXPIRED, UNKNOWN)]

NO_HISTORY = bytes(HASH_BYTES)
history_hash = tagged("history")


class ProductRecord(NamedTuple):
    """A kind of product: who stands behind it and on what terms."""

    organisation: OrganisationId
    name: Title
    terms_hash: Hash
    paused: Flag
    created_ms: TimeMs


class Counts(NamedTuple):
    """How many certificates and batches a product has: in the state, revoked among those, and batches."""

    certificates: Count
    revoked: Count
    batches: Count


class BatchRecord(NamedTuple):
    """A batch: the root over its leaves, how many they are and how many were brought into the state."""

    root: Hash
    size: Size
    materialised: Count
    expires_ms: OptionalTime
    recalled: Flag
    created_ms: TimeMs


class CertificateRecord(NamedTuple):
    """One pack's certificate. `holder` is null while it is the brand's, `approved` while nobody else may move it."""

    commitment: Commitment
    batch: OptionalBatch
    issued_ms: TimeMs
    expires_ms: OptionalTime
    status: Status
    holder: OptionalAddress
    approved: OptionalAddress


class HistoryRecord(NamedTuple):
    """Where a pack's history stands. `head` links every entry to all before it: see `history_link`."""

    stage: Stage
    steps: Count
    marks: Count
    head: Hash


class ScanRecord(NamedTuple):
    """When a pack was first scanned, and how often."""

    first_ms: TimeMs
    times: Count


class Verdict(NamedTuple):
    """What a scan answers. `first_ms` is null before the first scan; `scans` are all so far, this one included."""

    word: Word
    first_ms: OptionalTime
    scans: Count


class Product(NamedTuple):
    """A product with its counts, as `product_of` returns it."""

    organisation: OrganisationId
    name: Title
    terms_hash: Hash
    paused: Flag
    created_ms: TimeMs
    certificates: Count
    revoked: Count
    batches: Count


class Certificate(NamedTuple):
    """A certificate with its history and scans, as `show` returns it."""

    commitment: Commitment
    batch: OptionalBatch
    issued_ms: TimeMs
    expires_ms: OptionalTime
    status: Status
    holder: OptionalAddress
    approved: OptionalAddress
    stage: Stage
    steps: Count
    marks: Count
    head: Hash
    first_scan_ms: OptionalTime
    scans: Count


NOTHING = Counts(0, 0, 0)
UNWRITTEN = HistoryRecord("", 0, 0, NO_HISTORY)
UNSCANNED = ScanRecord(0, 0)


def batch_leaf(gtin: str, serial: str, commitment: bytes) -> bytes:
    """The data of a certificate's leaf in its batch's RFC 6962 tree."""
    return codec.encode(("troth/certificate", gtin, serial, commitment))


def history_link(
    previous: bytes, gtin: str, serial: str, kind: str, content: bytes | str, place: str, by: str | bytes, time_ms: int
) -> bytes:
    """The head of a history after one more entry, for who follows it through the receipts.

    `previous` is 32 zero bytes before the first entry. A step has its event's hash for `content` and the
    organisation's id for `by`; a mark has `kind` "mark", its text, no place, and the account.
    """
    return history_hash(codec.encode((previous, gtin, serial, kind, content, place, by, time_ms)))
