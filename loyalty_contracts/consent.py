"""Consent: a brand asks a person for the use of data, the person decides, each access is recorded.

The record follows ISO/IEC TS 27560, purposes and states the W3C Data Privacy Vocabulary (DPV 2.0).

On chain there are fixed-size commitments, codes and times, and nothing about a person: the subject is an address of
its own for each controller (pairwise), a request's id is random, and every commitment is salted, so it can be neither
guessed nor linked. Data, notice and record lie off chain with their keepers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, NamedTuple

from ledger import codec
from ledger.hashes import HASH_BYTES, tagged
from vm.context import Context
from vm.contract import Cells, Map, NativeContract, fault, invariant, method, view
from vm.kinds import (
    Address,
    ArrayKind,
    BytesKind,
    ChoiceKind,
    Count,
    Flag,
    Hash,
    IntegerKind,
    OptionalKind,
    OrganisationId,
    TimeMs,
)

PURPOSES: dict[str, str] = {
    "account-management": "AccountManagement",
    "advertising": "Advertising",
    "commercial-research": "CommercialResearch",
    "customer-care": "CustomerCare",
    "customer-relationship": "CustomerRelationshipManagement",
    "delivery": "DeliveryOfGoods",
    "direct-marketing": "DirectMarketing",
    "fraud-prevention": "FraudPreventionAndDetection",
    "identity-verification": "IdentityVerification",
    "legal-compliance": "LegalCompliance",
    "marketing": "Marketing",
    "personalised-advertising": "PersonalisedAdvertising",
    "personalised-benefits": "PersonalisedBenefits",
    "product-recommendations": "ProvideProductRecommendations",
    "research": "ResearchAndDevelopment",
    "sell-data": "SellDataToThirdParties",
    "sell-insights": "SellInsightsFromData",
    "service-optimisation": "ServiceOptimisation",
    "service-personalisation": "ServicePersonalisation",
    "service-provision": "ServiceProvision",
    "social-media-marketing": "SocialMediaMarketing",
    "targeted-advertising": "TargetedAdvertising",
    "usage-analytics": "ServiceUsageAnalytics",
}
"""Purpose code -> its term in DPV, https://w3id.org/dpv#."""

REQUESTED, GIVEN, REFUSED, WITHDRAWN, REVOKED, EXPIRED = (
    "requested",
    "given",
    "refused",
    "withdrawn",
    "revoked",
    "expired",
)

TRANSITIONS: dict[tuple[str, str], str] = {
    (REQUESTED, "grant"): GIVEN,
    (REQUESTED, "refuse"): REFUSED,
    (REQUESTED, "revoke"): REVOKED,
    (GIVEN, "withdraw"): WITHDRAWN,
    (GIVEN, "revoke"): REVOKED,
}
"""(state, act) -> state after it; every other act is refused. `expired` is no stored state: it is what `requested`
and `given` are called from the expiry on, when granting and access are refused and withdrawing still is not."""

RequestId = Annotated[bytes, BytesKind(16, 16, "16 random bytes that name the request")]
Purpose = Annotated[str, ChoiceKind(*PURPOSES, what="a purpose, after the W3C Data Privacy Vocabulary")]
Purposes = Annotated[tuple[str, ...], ArrayKind(ChoiceKind(*PURPOSES), len(PURPOSES), shortest=1)]
State = Annotated[str, ChoiceKind(REQUESTED, GIVEN, REFUSED, WITHDRAWN, REVOKED)]
StateNow = Annotated[str, ChoiceKind(REQUESTED, GIVEN, REFUSED, WITHDRAWN, REVOKED, EXPIRED)]
Expiry = Annotated[int, IntegerKind(1, 2**53 - 1, "ms since 1970-01-01 UTC; from then on there is no consent")]
Commitment = Annotated[bytes, BytesKind(32, 32, "a salted SHA-256")]
OptionalHash = Annotated[bytes | None, OptionalKind(BytesKind(32, 32))]
OptionalTime = Annotated[int | None, OptionalKind(IntegerKind(1, 2**53 - 1, "ms since 1970-01-01 UTC"))]

NO_ACCESS = bytes(HASH_BYTES)
access_hash_of = tagged("access")


class RequestRecord(NamedTuple):
    """One request and what became of it. `access_head` links every access to all before it: see `access_link`."""

    controller: OrganisationId
    subject: Address
    purposes: Purposes
    notice_hash: Hash
    terms_hash: Hash
    data_commitment: Commitment
    expires_ms: Expiry
    state: State
    requested_ms: TimeMs
    decided_ms: OptionalTime
    ended_ms: OptionalTime
    record_commitment: OptionalHash
    accesses: Count
    last_access_ms: OptionalTime
    access_head: Hash


class Standing(NamedTuple):
    """Whether access is allowed now, in what state the consent is, and when it ends by itself."""

    allowed: Flag
    state: StateNow
    expires_ms: Expiry


def access_link(previous: bytes, request: bytes, access_hash: bytes, purpose: str, time_ms: int) -> bytes:
    """The head of a request's accesses after one more. `previous` is 32 zero bytes before the first."""
    return access_hash_of(codec.encode((previous, request, access_hash, purpose, time_ms)))


class Consent(NativeContract, name="consent", version=1):
    """Consent to the use of a person's data, and every use of it.

    - Only the subject grants, refuses or withdraws; only the controller's issuers and transactors request and revoke.
    - An access is recorded only while consent is given and before its expiry, for a purpose that was asked for.
    - What has ended does not begin again: a new consent is a new request.
    - Withdrawing is possible as long as consent was given and not ended, expired or not, and costs nothing.
    - Nothing on chain is about a person: commitments, codes and times only.
    """

    # storage
    requests: Map[RequestId, RequestRecord] = Map()

    # events
    class Requested(NamedTuple):
        """A controller asks a subject for consent."""

        request: RequestId
        controller: OrganisationId
        subject: Address
        purposes: Purposes
        expires_ms: Expiry

    class Given(NamedTuple):
        """The subject consents."""

        request: RequestId
        subject: Address
        record_commitment: Commitment

    class Refused(NamedTuple):
        """The subject does not consent."""

        request: RequestId
        subject: Address

    class Withdrawn(NamedTuple):
        """The subject takes consent back."""

        request: RequestId
        subject: Address

    class Revoked(NamedTuple):
        """The controller gives the request or the consent up."""

        request: RequestId
        controller: OrganisationId

    class Accessed(NamedTuple):
        """The controller used the data. `head` is that of the request's accesses after it."""

        request: RequestId
        controller: OrganisationId
        access_hash: Commitment
        purpose: Purpose
        head: Hash

    # errors
    unknown = fault("E-CONSENT-001", "there is no request {}", "check its id, or make the request first")
    exists = fault("E-CONSENT-002", "the request {} exists already", "draw another random id")
    not_controller = fault(
        "E-CONSENT-003",
        "{} may not act for the controller",
        "sign with an issuer's or transactor's account of the organisation that asks",
    )
    not_subject = fault("E-CONSENT-004", "{} is not the subject of request {}", "the subject signs, nobody else can")
    bad_order = fault(
        "E-CONSENT-005", "cannot {}: the request {} is {}", "make a new request where consent is still wanted"
    )
    expired = fault("E-CONSENT-006", "the request {} expired at {}", "make a new request")
    born_expired = fault("E-CONSENT-007", "the expiry {} is not after block time {}", "choose a later expiry")
    unsorted = fault("E-CONSENT-008", "the purposes are not distinct and ascending", "give each purpose once, in order")
    no_access = fault("E-CONSENT-009", "no access: the request {} is {}", "leave the data alone; ask again")
    other_purpose = fault(
        "E-CONSENT-010", "the request {} does not cover the purpose {}", "make a request for that purpose"
    )

    # methods
    @method(gas=120)
    def request(
        self,
        ctx: Context,
        request: RequestId,
        subject: Address,
        purposes: Purposes,
        notice_hash: Hash,
        terms_hash: Hash,
        data_commitment: Commitment,
        expires_ms: Expiry,
    ) -> None:
        """Asks a subject for consent, as an issuer or transactor of the organisation that will use the data."""
        controller = self._organisation(ctx)
        if request in self.requests:
            raise self.exists(request)
        if any(first >= second for first, second in pairwise(purposes)):
            raise self.unsorted()
        if expires_ms <= ctx.time_ms:
            raise self.born_expired(expires_ms, ctx.time_ms)
        self.requests[request] = RequestRecord(
            controller,
            subject,
            purposes,
            notice_hash,
            terms_hash,
            data_commitment,
            expires_ms,
            REQUESTED,
            ctx.time_ms,
            None,
            None,
            None,
            0,
            None,
            NO_ACCESS,
        )
        ctx.emit(self.Requested(request, controller, subject, purposes, expires_ms))

    @method(gas=80)
    def grant(self, ctx: Context, request: RequestId, record_commitment: Commitment) -> None:
        """Consents, as the subject; commits to the consent record that both sides keep."""
        record = self._as_subject(ctx, request)
        state = self._after(request, record, "grant")
        if record.expires_ms <= ctx.time_ms:
            raise self.expired(request, record.expires_ms)
        self.requests[request] = record._replace(
            state=state, decided_ms=ctx.time_ms, record_commitment=record_commitment
        )
        ctx.emit(self.Given(request, ctx.actor, record_commitment))

    @method(gas=80)
    def refuse(self, ctx: Context, request: RequestId) -> None:
        """Does not consent, as the subject."""
        record = self._as_subject(ctx, request)
        state = self._after(request, record, "refuse")
        self.requests[request] = record._replace(state=state, decided_ms=ctx.time_ms, ended_ms=ctx.time_ms)
        ctx.emit(self.Refused(request, ctx.actor))

    @method(gas=80)
    def withdraw(self, ctx: Context, request: RequestId) -> None:
        """Takes consent back, as the subject. What was earned by it stays earned."""
        record = self._as_subject(ctx, request)
        state = self._after(request, record, "withdraw")
        self.requests[request] = record._replace(state=state, ended_ms=ctx.time_ms)
        ctx.emit(self.Withdrawn(request, ctx.actor))

    @method(gas=80)
    def revoke(self, ctx: Context, request: RequestId) -> None:
        """Gives a request or a consent up, as the controller."""
        record = self._as_controller(ctx, request)
        state = self._after(request, record, "revoke")
        self.requests[request] = record._replace(state=state, ended_ms=ctx.time_ms)
        ctx.emit(self.Revoked(request, record.controller))

    @method(gas=100)
    def record_access(self, ctx: Context, request: RequestId, access_hash: Commitment, purpose: Purpose) -> None:
        """Records one use of the data, as the controller: a salted hash of what was used, and what for."""
        record = self._as_controller(ctx, request)
        now = state_now(record, ctx.time_ms)
        if now != GIVEN:
            raise self.no_access(request, now)
        if purpose not in record.purposes:
            raise self.other_purpose(request, purpose)
        head = access_link(record.access_head, request, access_hash, purpose, ctx.time_ms)
        self.requests[request] = record._replace(
            accesses=record.accesses + 1, last_access_ms=ctx.time_ms, access_head=head
        )
        ctx.emit(self.Accessed(request, record.controller, access_hash, purpose, head))

    # views
    @view
    def show(self, ctx: Context, request: RequestId) -> RequestRecord:
        """A request as it was last written; `may_access` tells whether it has expired since."""
        return self._known(request)

    @view
    def may_access(self, ctx: Context, request: RequestId, purpose: Purpose) -> Standing:
        """Whether the controller may use the data now for a purpose. Ask before each use, then record it."""
        record = self._known(request)
        now = state_now(record, ctx.time_ms)
        return Standing(now == GIVEN and purpose in record.purposes, now, record.expires_ms)

    # invariants
    @invariant
    def sound(self, cells: Cells) -> Iterator[str]:
        """Decisions, ends and accesses fit the state, and no access lies outside given consent."""
        for request, record in cells.of(self.requests):
            for broken in _flaws(record):
                yield f"request {request.hex()} {broken}"

    # inside
    def _known(self, request: bytes) -> RequestRecord:
        record = self.requests.get(request)
        if record is None:
            raise self.unknown(request)
        return record

    def _organisation(self, ctx: Context) -> str:
        member = ctx.membership_of(ctx.actor)
        if member is None or ("issuer" not in member.roles and "transactor" not in member.roles):
            raise self.not_controller(ctx.actor)
        return member.organisation

    def _as_controller(self, ctx: Context, request: bytes) -> RequestRecord:
        record = self._known(request)
        if self._organisation(ctx) != record.controller:
            raise self.not_controller(ctx.actor)
        return record

    def _as_subject(self, ctx: Context, request: bytes) -> RequestRecord:
        record = self._known(request)
        if ctx.actor != record.subject:
            raise self.not_subject(ctx.actor, request)
        return record

    def _after(self, request: bytes, record: RequestRecord, act: str) -> str:
        state = TRANSITIONS.get((record.state, act))
        if state is None:
            raise self.bad_order(act, request, record.state)
        return state


def state_now(record: RequestRecord, time_ms: int) -> str:
    """The state of a request at a time: `expired` from its expiry on, unless it had ended otherwise."""
    if record.state in (REQUESTED, GIVEN) and record.expires_ms <= time_ms:
        return EXPIRED
    return record.state


def _flaws(record: RequestRecord) -> Iterator[str]:
    was_given = record.record_commitment is not None
    if list(record.purposes) != sorted(set(record.purposes)):
        yield "has purposes that are not distinct and ascending"
    if record.state in (GIVEN, WITHDRAWN) and not was_given:
        yield f"is {record.state} without a consent record"
    if record.state in (REQUESTED, REFUSED) and was_given:
        yield f"is {record.state} with a consent record"
    if (record.decided_ms is None) != (not was_given and record.state != REFUSED):
        yield f"is {record.state} and its decision time says otherwise"
    if (record.ended_ms is None) != (record.state in (REQUESTED, GIVEN)):
        yield f"is {record.state} and its end time says otherwise"
    if was_given and (record.decided_ms or 0) >= record.expires_ms:
        yield "was given after its expiry"
    last = record.last_access_ms
    if (last is None) != (record.accesses == 0) or (last is None) != (record.access_head == NO_ACCESS):
        yield f"counts {record.accesses} accesses and its last says otherwise"
    if last is not None:
        end = record.expires_ms if record.ended_ms is None else record.ended_ms
        if not was_given or last < (record.decided_ms or 0) or last >= record.expires_ms or last > end:
            yield "was accessed outside given consent"
