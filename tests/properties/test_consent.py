"""Consent under any sequence of acts by anyone at any time: no access outside given consent, and no way back."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.harness import FRIEND, GROCER, HOLDER, ROASTER, ROASTER_TILL, Chain

REQUESTS = (b"1" * 16, b"2" * 16)
SUBJECTS = dict(zip(REQUESTS, (HOLDER, FRIEND), strict=True))
PURPOSES = ("direct-marketing", "research")
HASH = b"h" * 32
ENDED = ("refused", "withdrawn", "revoked")

requests = st.sampled_from(REQUESTS)
actors = st.sampled_from([HOLDER, FRIEND, ROASTER, ROASTER_TILL, GROCER])


class ConsentMachine(RuleBasedStateMachine):
    """Keeps for each request the state it must be in, and tries everything from every side."""

    @initialize(lasts=st.integers(5, 40))
    def begin(self, lasts: int) -> None:
        self.chain = Chain()
        self.state = dict.fromkeys(REQUESTS, "requested")
        self.accesses = dict.fromkeys(REQUESTS, 0)
        self.expires_ms = self.chain.time_ms + lasts * 1_000
        for request in REQUESTS:
            arguments = (request, SUBJECTS[request], PURPOSES, HASH, HASH, HASH, self.expires_ms)
            self.chain.call(ROASTER, "consent.request", *arguments)

    def try_it(self, allowed: bool, actor: bytes, method: str, *arguments: Any) -> bool:
        receipt = self.chain.try_call(actor, f"consent.{method}", *arguments)
        assert receipt.ok == allowed, (method, receipt)
        assert len(receipt.events) == allowed
        return allowed

    @property
    def is_over(self) -> bool:
        """Whether the next block has reached the expiry."""
        return self.chain.time_ms + 1_000 >= self.expires_ms

    @rule(actor=actors, request=requests)
    def grant(self, actor: bytes, request: bytes) -> None:
        allowed = actor == SUBJECTS[request] and self.state[request] == "requested" and not self.is_over
        if self.try_it(allowed, actor, "grant", request, HASH):
            self.state[request] = "given"

    @rule(actor=actors, request=requests)
    def refuse(self, actor: bytes, request: bytes) -> None:
        allowed = actor == SUBJECTS[request] and self.state[request] == "requested"
        if self.try_it(allowed, actor, "refuse", request):
            self.state[request] = "refused"

    @rule(actor=actors, request=requests)
    def withdraw(self, actor: bytes, request: bytes) -> None:
        allowed = actor == SUBJECTS[request] and self.state[request] == "given"
        if self.try_it(allowed, actor, "withdraw", request):
            self.state[request] = "withdrawn"

    @rule(actor=actors, request=requests)
    def revoke(self, actor: bytes, request: bytes) -> None:
        allowed = actor in (ROASTER, ROASTER_TILL) and self.state[request] in ("requested", "given")
        if self.try_it(allowed, actor, "revoke", request):
            self.state[request] = "revoked"

    @rule(actor=actors, request=requests, purpose=st.sampled_from([*PURPOSES, "sell-data"]))
    def access(self, actor: bytes, request: bytes, purpose: str) -> None:
        given = self.state[request] == "given" and not self.is_over
        allowed = actor in (ROASTER, ROASTER_TILL) and given and purpose in PURPOSES
        self.accesses[request] += self.try_it(allowed, actor, "record_access", request, HASH, purpose)

    @rule(request=requests)
    def request_again(self, request: bytes) -> None:
        self.try_it(False, ROASTER, "request", request, HOLDER, PURPOSES, HASH, HASH, HASH, self.expires_ms + 10**6)

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.chain.time_ms += seconds * 1_000

    @invariant()
    def as_expected(self) -> None:
        over = self.chain.time_ms >= self.expires_ms
        for request in REQUESTS:
            shown = self.chain.view("consent.show", request)
            assert (shown.state, shown.accesses) == (self.state[request], self.accesses[request])
            standing = self.chain.view("consent.may_access", request, "research")
            assert standing.allowed == (shown.state == "given" and not over)
            assert standing.state == (shown.state if shown.state in ENDED or not over else "expired")
        assert self.chain.broken() == []


TestConsent = ConsentMachine.TestCase
TestConsent.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
