"""Certificates of authenticity: one per pack, by GTIN and serial, with its history, marks, scans and owner.

Behaves as ERC-721 does wherever ERC-721 says anything, with GTIN and serial for its token id. What it leaves open:

- a certificate is issued singly, or as one leaf of a batch of which the chain holds the Merkle root (RFC 6962);
  anyone who has a leaf and its path may bring it into the state, for the path proves it. See `batch_leaf`;
- a certificate without a holder is the brand's: its issuers give it to the first holder;
- revoking is final and ends ownership; a serial is never issued twice, revoked or not. A recall can be ended;
- who owns what is a count here and a list in the node's index: no method walks over certificates.

A scan says *registered*, not *genuine*: a printed code can be copied, and only what a copy lacks (a scratched secret,
a tag's counter) could tell. Texts are public for ever: no personal data belongs in a place, a reason or a mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ledger.merkle import leaf_hash, verify_inclusion
from loyalty_contracts.certificate_records import (
    EXPIRED,
    NO_HISTORY,
    NOTHING,
    RECALLED,
    REGISTERED,
    REVOKED,
    SEEN_BEFORE,
    UNKNOWN,
    UNSCANNED,
    UNWRITTEN,
    BatchRecord,
    Certificate,
    CertificateRecord,
    Commitment,
    Counts,
    EventHash,
    HistoryRecord,
    MarkText,
    OptionalBatch,
    OptionalTime,
    Path,
    Place,
    Product,
    ProductRecord,
    Reason,
    ScanContext,
    ScanRecord,
    Size,
    Title,
    Verdict,
    Word,
    batch_leaf,
    history_link,
)
from loyalty_contracts.gs1 import NEXT_STEPS, BatchId, Gtin, Serial, Step
from vm.context import Context
from vm.contract import Cells, Map, NativeContract, fault, invariant, method, view
from vm.kinds import (
    Address,
    Count,
    Flag,
    Hash,
    OptionalAddress,
    OrganisationId,
    TimeMs,
)

PATH_STEP_GAS = 15
"""One SHA-256 of two hashes and its turn of the loop."""


class Certificates(NativeContract, name="certificate", version=1):
    """Certificates of authenticity and the life of each pack.

    - GTIN and serial together are unique for ever; every certificate's product exists.
    - Only issuers of the organisation that defined a product issue, recall and revoke its certificates.
    - Only the holder, one whom the holder approved, or an operator of the holder's moves a certificate.
    - A history only grows; its steps follow the table of legal orders, by the brand or a partner that it named.
    - A certificate expires at the first block whose time reaches its expiry.
    - While a product is paused nothing of it is issued, moved or revoked; steps, scans and recalls go on.
    """

    # storage
    product: Map[Gtin, ProductRecord] = Map()
    counts: Map[Gtin, Counts] = Map(default=NOTHING)
    partner: Map[tuple[Gtin, OrganisationId], Flag] = Map(default=False)
    batch: Map[tuple[Gtin, BatchId], BatchRecord] = Map()
    certificate: Map[tuple[Gtin, Serial], CertificateRecord] = Map()
    history: Map[tuple[Gtin, Serial], HistoryRecord] = Map(default=UNWRITTEN)
    scans: Map[tuple[Gtin, Serial], ScanRecord] = Map(default=UNSCANNED)
    marked: Map[tuple[Gtin, Serial, Address], TimeMs] = Map()
    held: Map[tuple[Gtin, Address], Count] = Map(default=0)
    operator: Map[tuple[Address, Address], Flag] = Map(default=False)

    # events
    class ProductDefined(NamedTuple):
        """A product was defined."""

        gtin: Gtin
        organisation: OrganisationId
        name: Title
        terms_hash: Hash

    class PartnerSet(NamedTuple):
        """An organisation may now record steps of a product, or no longer."""

        gtin: Gtin
        organisation: OrganisationId
        allowed: Flag

    class ProductPaused(NamedTuple):
        """A product stands still, or runs again."""

        gtin: Gtin
        paused: Flag

    class Issued(NamedTuple):
        """A certificate came into the state."""

        gtin: Gtin
        serial: Serial
        commitment: Commitment
        batch: OptionalBatch
        holder: OptionalAddress
        expires_ms: OptionalTime

    class BatchIssued(NamedTuple):
        """A batch was issued as a Merkle root."""

        gtin: Gtin
        batch: BatchId
        root: Hash
        size: Size
        expires_ms: OptionalTime

    class StepRecorded(NamedTuple):
        """A step of a pack's life. `head` is its history's after it."""

        gtin: Gtin
        serial: Serial
        step: Step
        event_hash: EventHash
        place: Place
        organisation: OrganisationId
        head: Hash

    class Marked(NamedTuple):
        """A consumer left a mark in a pack's history. `head` is its history's after it."""

        gtin: Gtin
        serial: Serial
        account: Address
        text: MarkText
        head: Hash

    class Scanned(NamedTuple):
        """A pack was scanned."""

        gtin: Gtin
        serial: Serial
        word: Word
        scans: Count
        context: ScanContext

    class Transferred(NamedTuple):
        """A certificate moved. `sender` is null where the brand gave it."""

        gtin: Gtin
        serial: Serial
        sender: OptionalAddress
        to: Address

    class Approved(NamedTuple):
        """One account may now move a certificate; null where nobody may any more."""

        gtin: Gtin
        serial: Serial
        approved: OptionalAddress

    class OperatorSet(NamedTuple):
        """An account may now move all certificates of an owner, or no longer."""

        owner: Address
        operator: Address
        allowed: Flag

    class Recalled(NamedTuple):
        """A certificate was recalled, or its recall ended."""

        gtin: Gtin
        serial: Serial
        recalled: Flag
        reason: Reason

    class BatchRecalled(NamedTuple):
        """A whole batch was recalled, or its recall ended."""

        gtin: Gtin
        batch: BatchId
        recalled: Flag
        reason: Reason

    class Revoked(NamedTuple):
        """A certificate was revoked for ever. `holder` is who had it until then."""

        gtin: Gtin
        serial: Serial
        holder: OptionalAddress
        reason: Reason

    # errors
    no_product = fault("E-CERT-001", "there is no product {}", "check the GTIN, or define the product first")
    product_exists = fault("E-CERT-002", "the product {} is defined already", "use it, or another GTIN")
    not_yours = fault(
        "E-CERT-003", "the product {} belongs to {}", "sign with an issuer's account of that organisation"
    )
    no_certificate = fault(
        "E-CERT-004",
        "there is no certificate {} {}",
        "check GTIN and serial; one of a batch must be brought into the state first",
    )
    exists = fault("E-CERT-005", "the certificate {} {} exists already", "choose another serial")
    no_batch = fault("E-CERT-006", "there is no batch {} of product {}", "check the batch, or issue it first")
    batch_exists = fault("E-CERT-007", "the batch {} of product {} exists already", "choose another batch id")
    not_in_batch = fault(
        "E-CERT-008",
        "no path from certificate {} {} to the root of batch {}",
        "check serial, commitment, index and path against the brand's batch file",
    )
    born_expired = fault("E-CERT-009", "the expiry {} is not after block time {}", "choose a later expiry")
    not_allowed = fault(
        "E-CERT-010",
        "{} may not do this to certificate {} {}",
        "let the holder sign, or an account or operator whom the holder approved",
    )
    wrong_holder = fault("E-CERT-011", "the certificate {} {} is not held by {}", "look up its holder")
    revoked = fault("E-CERT-012", "the certificate {} {} is revoked", "nothing to do: revoking is final")
    recalled = fault("E-CERT-013", "the certificate {} {} is recalled", "follow the recall, or ask the brand to end it")
    bad_order = fault(
        "E-CERT-014", "the step {} cannot follow {}", "record the steps between, or check the pack's history"
    )
    no_partner = fault(
        "E-CERT-015",
        "{} may not record steps of product {}",
        "sign with an issuer or transactor of the brand, or of a partner that the brand has named",
    )
    marked_before = fault("E-CERT-016", "{} has marked certificate {} {} before", "one mark per pack is all")
    paused = fault("E-CERT-017", "the product {} is paused", "wait until its issuer resumes it")

    # methods
    @method(gas=120, role="issuer")
    def define_product(self, ctx: Context, gtin: Gtin, name: Title, terms_hash: Hash) -> None:
        """Defines a product that belongs to the caller's organisation."""
        if gtin in self.product:
            raise self.product_exists(gtin)
        member = ctx.membership_of(ctx.actor)
        assert member is not None  # the kit has checked the role
        self.product[gtin] = ProductRecord(member.organisation, name, terms_hash, False, ctx.time_ms)
        ctx.emit(self.ProductDefined(gtin, member.organisation, name, terms_hash))

    @method(gas=60, role="issuer")
    def set_partner(self, ctx: Context, gtin: Gtin, organisation: OrganisationId, allowed: Flag) -> None:
        """Lets another organisation (a carrier, a shop) record steps of a product, or no longer."""
        self._owned(ctx, gtin)
        self.partner[gtin, organisation] = allowed
        ctx.emit(self.PartnerSet(gtin, organisation, allowed))

    @method(gas=60, role="issuer")
    def pause(self, ctx: Context, gtin: Gtin) -> None:
        """Stops issuing, moving and revoking certificates of a product."""
        self.product[gtin] = self._owned(ctx, gtin)._replace(paused=True)
        ctx.emit(self.ProductPaused(gtin, True))

    @method(gas=60, role="issuer")
    def unpause(self, ctx: Context, gtin: Gtin) -> None:
        """Lets a paused product run again."""
        self.product[gtin] = self._owned(ctx, gtin)._replace(paused=False)
        ctx.emit(self.ProductPaused(gtin, False))

    @method(gas=100, role="issuer")
    def issue(
        self,
        ctx: Context,
        gtin: Gtin,
        serial: Serial,
        commitment: Commitment,
        holder: OptionalAddress = None,
        expires_ms: OptionalTime = None,
    ) -> None:
        """Issues one certificate, to a holder or to the brand itself."""
        if self._owned(ctx, gtin).paused:
            raise self.paused(gtin)
        self._check_expiry(ctx, expires_ms)
        self._enter(ctx, gtin, serial, commitment, None, holder, expires_ms)

    @method(gas=100, role="issuer")
    def issue_batch(
        self,
        ctx: Context,
        gtin: Gtin,
        batch: BatchId,
        root: Hash,
        size: Size,
        expires_ms: OptionalTime = None,
    ) -> None:
        """Issues a batch by the RFC 6962 root over the leaves of its certificates."""
        if self._owned(ctx, gtin).paused:
            raise self.paused(gtin)
        self._check_expiry(ctx, expires_ms)
        if (gtin, batch) in self.batch:
            raise self.batch_exists(batch, gtin)
        self.batch[gtin, batch] = BatchRecord(root, size, 0, expires_ms, False, ctx.time_ms)
        counts = self.counts[gtin]
        self.counts[gtin] = counts._replace(batches=counts.batches + 1)
        ctx.emit(self.BatchIssued(gtin, batch, root, size, expires_ms))

    @method(gas=150)
    def materialise(
        self,
        ctx: Context,
        gtin: Gtin,
        batch: BatchId,
        serial: Serial,
        commitment: Commitment,
        index: Count,
        path: Path,
    ) -> None:
        """Brings a certificate of a batch into the state, by its place in the batch's tree. Anyone may."""
        if self._known(gtin).paused:
            raise self.paused(gtin)
        record = self._batch(gtin, batch)
        ctx.charge(PATH_STEP_GAS * len(path))
        leaf = leaf_hash(batch_leaf(gtin, serial, commitment))
        if not verify_inclusion(leaf, index, record.size, path, record.root):
            raise self.not_in_batch(gtin, serial, batch)
        self._enter(ctx, gtin, serial, commitment, batch, None, record.expires_ms)
        self.batch[gtin, batch] = record._replace(materialised=record.materialised + 1)

    @method(gas=90)
    def record_event(
        self,
        ctx: Context,
        gtin: Gtin,
        serial: Serial,
        step: Step,
        event_hash: EventHash,
        place: Place = "",
    ) -> None:
        """Adds a step of a pack's life to its history; the brand or a partner does."""
        product = self._known(gtin)
        organisation = self._recorder(ctx, gtin, product.organisation)
        self._unrevoked(gtin, serial)
        history = self.history[gtin, serial]
        if step not in NEXT_STEPS[history.stage]:
            raise self.bad_order(step, history.stage or "the beginning")
        head = history_link(history.head, gtin, serial, step, event_hash, place, organisation, ctx.time_ms)
        self.history[gtin, serial] = HistoryRecord(step, history.steps + 1, history.marks, head)
        ctx.emit(self.StepRecorded(gtin, serial, step, event_hash, place, organisation, head))

    @method(gas=90)
    def mark(self, ctx: Context, gtin: Gtin, serial: Serial, text: MarkText) -> None:
        """Leaves the caller's mark in a pack's history, once per account and pack."""
        self._in_force(gtin, serial)
        key = (gtin, serial, ctx.actor)
        if key in self.marked:
            raise self.marked_before(ctx.actor, gtin, serial)
        self.marked[key] = ctx.time_ms
        history = self.history[gtin, serial]
        head = history_link(history.head, gtin, serial, "mark", text, "", ctx.actor, ctx.time_ms)
        self.history[gtin, serial] = HistoryRecord(history.stage, history.steps, history.marks + 1, head)
        ctx.emit(self.Marked(gtin, serial, ctx.actor, text, head))

    @method(gas=80)
    def scan(self, ctx: Context, gtin: Gtin, serial: Serial, context: ScanContext = "") -> Verdict:
        """Records that a pack was scanned and answers with the verdict; an unknown pack leaves no trace in the state.

        The answer of an unknown one is in the receipt all the same: many of them in one place tell of forgeries.
        """
        record = self.certificate.get((gtin, serial))
        if record is None:
            answer = Verdict(UNKNOWN, None, 0)
        else:
            first, times = self.scans[gtin, serial]
            if not times:
                first = ctx.time_ms
            self.scans[gtin, serial] = ScanRecord(first, times + 1)
            answer = Verdict(self._word(ctx, gtin, record, times > 0), first, times + 1)
        ctx.emit(self.Scanned(gtin, serial, answer.word, answer.scans, context))
        return answer

    @method(gas=80)
    def transfer(self, ctx: Context, gtin: Gtin, serial: Serial, to: Address, holder: OptionalAddress = None) -> None:
        """Moves a certificate to another holder. Where `holder` is given, it is refused unless that one holds it."""
        if self._known(gtin).paused:
            raise self.paused(gtin)
        record = self._in_force(gtin, serial)
        if holder is not None and holder != record.holder:
            raise self.wrong_holder(gtin, serial, holder)
        if ctx.actor != record.approved:
            self._controlled(ctx, gtin, serial, record)
        self._count(gtin, record.holder, -1)
        self._count(gtin, to, 1)
        self.certificate[gtin, serial] = record._replace(holder=to, approved=None)
        ctx.emit(self.Transferred(gtin, serial, record.holder, to))

    @method(gas=60)
    def approve(self, ctx: Context, gtin: Gtin, serial: Serial, approved: OptionalAddress) -> None:
        """Lets one account move a certificate, instead of whoever might before; null lets nobody."""
        record = self._unrevoked(gtin, serial)
        if record.holder is None:
            raise self.not_allowed(ctx.actor, gtin, serial)
        self._controlled(ctx, gtin, serial, record)
        self.certificate[gtin, serial] = record._replace(approved=approved)
        ctx.emit(self.Approved(gtin, serial, approved))

    @method(gas=40)
    def set_operator(self, ctx: Context, operator: Address, allowed: Flag) -> None:
        """Lets an account move all of the caller's certificates, or no longer."""
        self.operator[ctx.actor, operator] = allowed
        ctx.emit(self.OperatorSet(ctx.actor, operator, allowed))

    @method(gas=60, role="issuer")
    def recall(self, ctx: Context, gtin: Gtin, serial: Serial, reason: Reason = "") -> None:
        """Recalls one pack."""
        self._set_recall(ctx, gtin, serial, True, reason)

    @method(gas=60, role="issuer")
    def end_recall(self, ctx: Context, gtin: Gtin, serial: Serial, reason: Reason = "") -> None:
        """Ends the recall of one pack."""
        self._set_recall(ctx, gtin, serial, False, reason)

    @method(gas=60, role="issuer")
    def recall_batch(self, ctx: Context, gtin: Gtin, batch: BatchId, reason: Reason = "") -> None:
        """Recalls a whole batch, whether its certificates are in the state or not."""
        self._set_batch_recall(ctx, gtin, batch, True, reason)

    @method(gas=60, role="issuer")
    def end_batch_recall(self, ctx: Context, gtin: Gtin, batch: BatchId, reason: Reason = "") -> None:
        """Ends the recall of a batch; packs that were recalled singly stay recalled."""
        self._set_batch_recall(ctx, gtin, batch, False, reason)

    @method(gas=80, role="issuer")
    def revoke(self, ctx: Context, gtin: Gtin, serial: Serial, reason: Reason = "") -> None:
        """Revokes a certificate for ever: nobody holds it any more and its serial is not issued again."""
        if self._owned(ctx, gtin).paused:
            raise self.paused(gtin)
        record = self._unrevoked(gtin, serial)
        self._count(gtin, record.holder, -1)
        self.certificate[gtin, serial] = record._replace(status=REVOKED, holder=None, approved=None)
        counts = self.counts[gtin]
        self.counts[gtin] = counts._replace(revoked=counts.revoked + 1)
        ctx.emit(self.Revoked(gtin, serial, record.holder, reason))

    # views
    @view
    def show(self, ctx: Context, gtin: Gtin, serial: Serial) -> Certificate:
        """A certificate with its history and scans."""
        record = self._certificate(gtin, serial)
        scans = self.scans[gtin, serial]
        return Certificate(*record, *self.history[gtin, serial], scans.first_ms if scans.times else None, scans.times)

    @view
    def product_of(self, ctx: Context, gtin: Gtin) -> Product:
        """A product and its counts."""
        return Product(*self._known(gtin), *self.counts[gtin])

    @view
    def batch_of(self, ctx: Context, gtin: Gtin, batch: BatchId) -> BatchRecord:
        """A batch: its root, size and how many of its certificates are in the state."""
        return self._batch(gtin, batch)

    @view
    def verdict(self, ctx: Context, gtin: Gtin, serial: Serial) -> Verdict:
        """What the next scan would answer, without recording one."""
        record = self.certificate.get((gtin, serial))
        if record is None:
            return Verdict(UNKNOWN, None, 0)
        first, times = self.scans[gtin, serial]
        return Verdict(self._word(ctx, gtin, record, times > 0), first if times else None, times)

    @view
    def owner_of(self, ctx: Context, gtin: Gtin, serial: Serial) -> OptionalAddress:
        """Who holds a certificate, null where it is the brand's. A revoked one is held by nobody: an error."""
        return self._unrevoked(gtin, serial).holder

    @view
    def balance_of(self, ctx: Context, gtin: Gtin, account: Address) -> Count:
        """How many certificates of a product an account holds."""
        self._known(gtin)
        return self.held[gtin, account]

    @view
    def may_move(self, ctx: Context, gtin: Gtin, serial: Serial, account: Address) -> Flag:
        """True where the account is the holder, the approved one or an operator of the holder."""
        record = self._unrevoked(gtin, serial)
        holder = record.holder
        return holder is not None and (account in (holder, record.approved) or self.operator[holder, account])

    @view
    def is_partner(self, ctx: Context, gtin: Gtin, organisation: OrganisationId) -> Flag:
        """True where the organisation may record steps of a product."""
        return organisation == self._known(gtin).organisation or self.partner[gtin, organisation]

    # invariants
    @invariant
    def counted(self, cells: Cells) -> Iterator[str]:
        """Each product's counts, each batch's and each holder's are those of the certificates in the state."""
        products = {gtin for gtin, _ in cells.of(self.product)}
        batches = dict(cells.of(self.batch))
        found: dict[str, list[int]] = {}
        materialised: dict[tuple[str, str], int] = {}
        held: dict[tuple[str, bytes], int] = {}
        for (gtin, serial), record in cells.of(self.certificate):
            tally = found.setdefault(gtin, [0, 0, 0])
            tally[0] += 1
            if record.status == REVOKED:
                tally[1] += 1
                if record.holder is not None or record.approved is not None:
                    yield f"certificate {gtin} {serial} is revoked and still held or approved"
            if record.approved is not None and record.holder is None:
                yield f"certificate {gtin} {serial} has an approved account and no holder"
            if record.holder is not None:
                held[gtin, record.holder] = held.get((gtin, record.holder), 0) + 1
            if record.batch is not None:
                materialised[gtin, record.batch] = materialised.get((gtin, record.batch), 0) + 1
        for (gtin, batch), lot in batches.items():
            found.setdefault(gtin, [0, 0, 0])[2] += 1
            count = materialised.pop((gtin, batch), 0)
            if count != lot.materialised or count > lot.size:
                yield f"batch {gtin} {batch}: {count} in the state, {lot.materialised} of {lot.size} counted"
        for gtin, batch in materialised:
            yield f"certificates of product {gtin} name a batch {batch!r} that does not exist"
        for gtin in found:
            if gtin not in products:
                yield f"product {gtin} has certificates or batches and no record"
        for gtin, counts in cells.of(self.counts):
            tally = found.pop(gtin, [0, 0, 0])
            if counts != tuple(tally):
                yield f"product {gtin}: counted are {tuple(counts)}, there are {tuple(tally)}"
        for gtin in found:
            yield f"product {gtin} has certificates or batches and no counts"
        for (gtin, account), number in cells.of(self.held):
            actual = held.pop((gtin, account), 0)
            if actual != number:
                yield f"{account.hex()} holds {actual} of product {gtin}, {number} are counted"
        for gtin, account in held:
            yield f"{account.hex()} holds certificates of product {gtin} that are not counted"

    @invariant
    def histories_belong(self, cells: Cells) -> Iterator[str]:
        """Histories, marks and scans are of certificates that exist, and count what was written."""
        known = {key for key, _ in cells.of(self.certificate)}
        marks: dict[tuple[str, str], int] = {}
        for (gtin, serial, _), _time in cells.of(self.marked):
            marks[gtin, serial] = marks.get((gtin, serial), 0) + 1
        for key, history in cells.of(self.history):
            name = " ".join(key)
            if key not in known:
                yield f"the history of certificate {name} has no certificate"
            if history.marks != marks.pop(key, 0):
                yield f"certificate {name}: {history.marks} marks are counted, others are recorded"
            if (history.steps == 0) != (history.stage == ""):
                yield f"certificate {name} is at stage {history.stage!r} after {history.steps} steps"
            if history.steps + history.marks == 0 or history.head == NO_HISTORY:
                yield f"certificate {name} has an empty history"
        for key in marks:
            yield f"certificate {' '.join(key)} has marks and no history"
        for key, scans in cells.of(self.scans):
            if key not in known or not scans.times:
                yield f"the scans of certificate {' '.join(key)} have no certificate or no count"

    # inside
    def _known(self, gtin: str) -> ProductRecord:
        record = self.product.get(gtin)
        if record is None:
            raise self.no_product(gtin)
        return record

    def _owned(self, ctx: Context, gtin: str) -> ProductRecord:
        record = self._known(gtin)
        if not ctx.has_role("issuer", record.organisation):
            raise self.not_yours(gtin, record.organisation)
        return record

    def _batch(self, gtin: str, batch: str) -> BatchRecord:
        record = self.batch.get((gtin, batch))
        if record is None:
            raise self.no_batch(batch, gtin)
        return record

    def _certificate(self, gtin: str, serial: str) -> CertificateRecord:
        record = self.certificate.get((gtin, serial))
        if record is None:
            raise self.no_certificate(gtin, serial)
        return record

    def _unrevoked(self, gtin: str, serial: str) -> CertificateRecord:
        record = self._certificate(gtin, serial)
        if record.status == REVOKED:
            raise self.revoked(gtin, serial)
        return record

    def _in_force(self, gtin: str, serial: str) -> CertificateRecord:
        record = self._unrevoked(gtin, serial)
        if self._is_recalled(gtin, record):
            raise self.recalled(gtin, serial)
        return record

    def _is_recalled(self, gtin: str, record: CertificateRecord) -> bool:
        if record.status == RECALLED:
            return True
        return record.batch is not None and self._batch(gtin, record.batch).recalled

    def _check_expiry(self, ctx: Context, expires_ms: int | None) -> None:
        if expires_ms is not None and expires_ms <= ctx.time_ms:
            raise self.born_expired(expires_ms, ctx.time_ms)

    def _enter(
        self,
        ctx: Context,
        gtin: str,
        serial: str,
        commitment: bytes,
        batch: str | None,
        holder: bytes | None,
        expires_ms: int | None,
    ) -> None:
        if (gtin, serial) in self.certificate:
            raise self.exists(gtin, serial)
        self.certificate[gtin, serial] = CertificateRecord(
            commitment, batch, ctx.time_ms, expires_ms, "active", holder, None
        )
        counts = self.counts[gtin]
        self.counts[gtin] = counts._replace(certificates=counts.certificates + 1)
        self._count(gtin, holder, 1)
        ctx.emit(self.Issued(gtin, serial, commitment, batch, holder, expires_ms))

    def _count(self, gtin: str, holder: bytes | None, change: int) -> None:
        if holder is not None:
            self.held[gtin, holder] += change

    def _recorder(self, ctx: Context, gtin: str, owner: str) -> str:
        member = ctx.membership_of(ctx.actor)
        if (
            member is None
            or ("issuer" not in member.roles and "transactor" not in member.roles)
            or (member.organisation != owner and not self.partner[gtin, member.organisation])
        ):
            raise self.no_partner(ctx.actor, gtin)
        return member.organisation

    def _controlled(self, ctx: Context, gtin: str, serial: str, record: CertificateRecord) -> None:
        holder = record.holder
        if holder is None:
            allowed = ctx.has_role("issuer", self._known(gtin).organisation)
        else:
            allowed = ctx.actor == holder or self.operator[holder, ctx.actor]
        if not allowed:
            raise self.not_allowed(ctx.actor, gtin, serial)

    def _set_recall(self, ctx: Context, gtin: str, serial: str, recalled: bool, reason: str) -> None:
        self._owned(ctx, gtin)
        record = self._unrevoked(gtin, serial)
        self.certificate[gtin, serial] = record._replace(status=RECALLED if recalled else "active")
        ctx.emit(self.Recalled(gtin, serial, recalled, reason))

    def _set_batch_recall(self, ctx: Context, gtin: str, batch: str, recalled: bool, reason: str) -> None:
        self._owned(ctx, gtin)
        self.batch[gtin, batch] = self._batch(gtin, batch)._replace(recalled=recalled)
        ctx.emit(self.BatchRecalled(gtin, batch, recalled, reason))

    def _word(self, ctx: Context, gtin: str, record: CertificateRecord, seen: bool) -> str:
        if record.status == REVOKED:
            return REVOKED
        if self._is_recalled(gtin, record):
            return RECALLED
        if record.expires_ms is not None and record.expires_ms <= ctx.time_ms:
            return EXPIRED
        return SEEN_BEFORE if seen else REGISTERED
