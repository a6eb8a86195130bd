"""Consent: the whole table of states and acts, the boundary of expiry, who may do what, and what is on chain."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import codec
from loyalty_contracts.consent import (
    EXPIRED,
    GIVEN,
    NO_ACCESS,
    PURPOSES,
    REFUSED,
    REQUESTED,
    REVOKED,
    TRANSITIONS,
    WITHDRAWN,
    Consent,
    Standing,
    access_link,
)
from tests.harness import (
    GROCER,
    HOLDER,
    NULL,
    ROASTER,
    ROASTER_ADMIN,
    ROASTER_AUDITOR,
    ROASTER_TILL,
    START_MS,
    STRANGER,
    Chain,
    event,
    raises_fault,
)
from vm.kinds import BAD_ARGUMENT

R, OTHER = b"r" * 16, b"o" * 16
NOTICE, TERMS, DATA, RECORD, ACCESS = b"n" * 32, b"t" * 32, b"d" * 32, b"c" * 32, b"a" * 32
FAR = START_MS + 10**9
ASKED = ("direct-marketing", "research")

(
    UNKNOWN,
    EXISTS,
    NOT_CONTROLLER,
    NOT_SUBJECT,
    BAD_ORDER,
    TOO_LATE,
    BORN_EXPIRED,
    UNSORTED,
    NO_ACCESS_NOW,
    OTHER_PURPOSE,
) = [f"E-CONSENT-{number:03}" for number in range(1, 11)]

ACTS: dict[str, tuple[bytes, tuple[Any, ...]]] = {
    "grant": (HOLDER, (R, RECORD)),
    "refuse": (HOLDER, (R,)),
    "withdraw": (HOLDER, (R,)),
    "revoke": (ROASTER, (R,)),
}

REACHED: dict[str, tuple[str, ...]] = {
    REQUESTED: (),
    GIVEN: ("grant",),
    REFUSED: ("refuse",),
    WITHDRAWN: ("grant", "withdraw"),
    REVOKED: ("grant", "revoke"),
}

EMITTED: dict[str, tuple[Any, ...]] = {
    "grant": ("Given", R, HOLDER, RECORD),
    "refuse": ("Refused", R, HOLDER),
    "withdraw": ("Withdrawn", R, HOLDER),
    "revoke": ("Revoked", R, "roaster"),
}


def act(chain: Chain, name: str) -> Any:
    actor, arguments = ACTS[name]
    return chain.call(actor, f"consent.{name}", *arguments)


def ask(request: bytes = R, purposes: tuple[str, ...] = ASKED, expires_ms: int = FAR) -> tuple[Any, ...]:
    return (request, HOLDER, purposes, NOTICE, TERMS, DATA, expires_ms)


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    receipt = chain.call(ROASTER, "consent.request", *ask())
    assert receipt.events == (event("consent", "Requested", R, "roaster", HOLDER, ASKED, FAR),)
    return chain


@pytest.mark.parametrize("state", REACHED)
@pytest.mark.parametrize("name", ACTS)
def test_state_table(chain: Chain, state: str, name: str) -> None:
    for earlier in REACHED[state]:
        act(chain, earlier)
    assert chain.view("consent.show", R).state == state
    after = TRANSITIONS.get((state, name))
    if after is None:
        actor, arguments = ACTS[name]
        receipt = chain.refuse(BAD_ORDER, actor, f"consent.{name}", *arguments)
        assert receipt.detail == (name, R, state)
    else:
        assert act(chain, name).events == (event("consent", *EMITTED[name]),)
        assert chain.view("consent.show", R).state == after
    assert chain.broken() == []


def test_the_table_is_the_one_that_was_agreed() -> None:
    assert TRANSITIONS == {
        (REQUESTED, "grant"): GIVEN,
        (REQUESTED, "refuse"): REFUSED,
        (REQUESTED, "revoke"): REVOKED,
        (GIVEN, "withdraw"): WITHDRAWN,
        (GIVEN, "revoke"): REVOKED,
    }


@pytest.mark.parametrize("state", REACHED)
def test_access_in_each_state(chain: Chain, state: str) -> None:
    for earlier in REACHED[state]:
        act(chain, earlier)
    standing = chain.view("consent.may_access", R, "research")
    assert standing == Standing(state == GIVEN, state, FAR)
    if state == GIVEN:
        chain.call(ROASTER, "consent.record_access", R, ACCESS, "research")
    else:
        receipt = chain.refuse(NO_ACCESS_NOW, ROASTER, "consent.record_access", R, ACCESS, "research")
        assert receipt.detail == (R, state)
    assert chain.broken() == []


def test_accesses_are_linked_and_counted(chain: Chain) -> None:
    act(chain, "grant")
    head = NO_ACCESS
    for number, (actor, purpose) in enumerate([(ROASTER, "research"), (ROASTER_TILL, "direct-marketing")], start=1):
        digest = bytes([number]) * 32
        receipt = chain.call(actor, "consent.record_access", R, digest, purpose)
        head = access_link(head, R, digest, purpose, chain.time_ms)
        assert receipt.events == (event("consent", "Accessed", R, "roaster", digest, purpose, head),)
    shown = chain.view("consent.show", R)
    assert (shown.accesses, shown.last_access_ms, shown.access_head) == (2, chain.time_ms, head)
    act(chain, "withdraw")
    shown = chain.view("consent.show", R)
    assert (shown.accesses, shown.ended_ms) == (2, chain.time_ms)
    assert chain.broken() == []


def test_expiry_is_exact(chain: Chain) -> None:
    act(chain, "grant")
    chain.pass_until(FAR - 1)
    chain.call(ROASTER, "consent.record_access", R, ACCESS, "research")
    assert chain.time_ms == FAR - 1
    assert chain.view("consent.may_access", R, "research") == Standing(True, GIVEN, FAR)
    chain.pass_until(FAR)
    receipt = chain.refuse(NO_ACCESS_NOW, ROASTER, "consent.record_access", R, ACCESS, "research")
    assert chain.time_ms == FAR
    assert receipt.detail == (R, EXPIRED)
    assert chain.view("consent.may_access", R, "research") == Standing(False, EXPIRED, FAR)
    act(chain, "withdraw")
    assert chain.view("consent.may_access", R, "research") == Standing(False, WITHDRAWN, FAR)
    assert chain.broken() == []


def test_an_expired_request_cannot_be_granted_but_can_be_refused(chain: Chain) -> None:
    chain.pass_until(FAR)
    chain.refuse(TOO_LATE, HOLDER, "consent.grant", R, RECORD)
    assert chain.view("consent.may_access", R, "research") == Standing(False, EXPIRED, FAR)
    act(chain, "refuse")
    assert chain.broken() == []


def test_a_request_can_be_granted_until_just_before_its_expiry(chain: Chain) -> None:
    chain.pass_until(FAR - 1)
    act(chain, "grant")
    assert chain.broken() == []


def test_nothing_is_requested_expired(chain: Chain) -> None:
    chain.refuse(BORN_EXPIRED, ROASTER, "consent.request", *ask(OTHER, expires_ms=chain.time_ms + 1_000))
    chain.call(ROASTER, "consent.request", *ask(OTHER, expires_ms=chain.time_ms + 1_001))


@pytest.mark.parametrize("actor", [ROASTER, GROCER, STRANGER], ids=lambda actor: str(actor, "ascii"))
@pytest.mark.parametrize("name", ["grant", "refuse", "withdraw"])
def test_only_the_subject_decides(chain: Chain, actor: bytes, name: str) -> None:
    if name == "withdraw":
        act(chain, "grant")
    chain.refuse(NOT_SUBJECT, actor, f"consent.{name}", *ACTS[name][1])


@pytest.mark.parametrize(
    "actor",
    [HOLDER, STRANGER, GROCER, ROASTER_ADMIN, ROASTER_AUDITOR],
    ids=lambda actor: str(actor, "ascii"),
)
def test_only_the_controller_revokes_and_accesses(chain: Chain, actor: bytes) -> None:
    act(chain, "grant")
    chain.refuse(NOT_CONTROLLER, actor, "consent.record_access", R, ACCESS, "research")
    chain.refuse(NOT_CONTROLLER, actor, "consent.revoke", R)


@pytest.mark.parametrize("actor", [HOLDER, ROASTER_ADMIN, ROASTER_AUDITOR], ids=lambda actor: str(actor, "ascii"))
def test_who_may_not_request(chain: Chain, actor: bytes) -> None:
    chain.refuse(NOT_CONTROLLER, actor, "consent.request", *ask(OTHER))


def test_a_transactor_may_request(chain: Chain) -> None:
    chain.call(ROASTER_TILL, "consent.request", *ask(OTHER))
    assert chain.view("consent.show", OTHER).controller == "roaster"


def test_a_request_id_is_used_once(chain: Chain) -> None:
    chain.refuse(EXISTS, GROCER, "consent.request", *ask())
    act(chain, "refuse")
    chain.refuse(EXISTS, ROASTER, "consent.request", *ask())


def test_access_for_another_purpose(chain: Chain) -> None:
    act(chain, "grant")
    receipt = chain.refuse(OTHER_PURPOSE, ROASTER, "consent.record_access", R, ACCESS, "sell-data")
    assert receipt.detail == (R, "sell-data")
    assert chain.view("consent.may_access", R, "sell-data") == Standing(False, GIVEN, FAR)


@pytest.mark.parametrize("purposes", [("research", "direct-marketing"), ("research", "research")])
def test_purposes_ascend(chain: Chain, purposes: tuple[str, ...]) -> None:
    chain.refuse(UNSORTED, ROASTER, "consent.request", *ask(OTHER, purposes))


@pytest.mark.parametrize("purposes", [(), ("spying",), ("Research",), (1,), (*sorted(PURPOSES), "research")])
def test_purposes_are_declared(chain: Chain, purposes: tuple[Any, ...]) -> None:
    chain.refuse(BAD_ARGUMENT, ROASTER, "consent.request", *ask(OTHER, purposes))


def test_all_purposes_at_once(chain: Chain) -> None:
    chain.call(ROASTER, "consent.request", *ask(OTHER, tuple(sorted(PURPOSES))))
    assert chain.broken() == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"r" * 15),
        (0, "r" * 16),
        (1, NULL),
        (3, b"n" * 31),
        (4, b"t" * 33),
        (5, "secret"),
        (6, 0),
        (6, 2**53),
        (6, True),
    ],
)
def test_arguments_of_the_wrong_form(chain: Chain, place: int, value: Any) -> None:
    arguments = list(ask(OTHER))
    arguments[place] = value
    chain.refuse(BAD_ARGUMENT, ROASTER, "consent.request", *arguments)


@pytest.mark.parametrize(
    ("actor", "method", "arguments"),
    [
        (HOLDER, "grant", (OTHER, RECORD)),
        (HOLDER, "refuse", (OTHER,)),
        (HOLDER, "withdraw", (OTHER,)),
        (ROASTER, "revoke", (OTHER,)),
        (ROASTER, "record_access", (OTHER, ACCESS, "research")),
    ],
)
def test_unknown_request(chain: Chain, actor: bytes, method: str, arguments: tuple[Any, ...]) -> None:
    chain.refuse(UNKNOWN, actor, f"consent.{method}", *arguments)


def test_views_of_an_unknown_request(chain: Chain) -> None:
    with raises_fault(UNKNOWN):
        chain.view("consent.show", OTHER)
    with raises_fault(UNKNOWN):
        chain.view("consent.may_access", OTHER, "research")


def test_only_sizes_codes_and_times_are_on_chain(chain: Chain) -> None:
    """No argument can carry free text or bytes of a free length, so none can carry a person's data."""
    for found in Consent.methods.values():
        for parameter in found.parameters:
            for candidate in ("a name", b"a name", b"", "", ("a name",)):
                assert parameter.kind.check(candidate) is not None, (found.name, parameter.name)
    act(chain, "grant")
    chain.call(ROASTER, "consent.record_access", R, ACCESS, "research")
    record = codec.decode(chain.cells[codec.encode(("consent", "requests", R))])
    words = {part for part in record if type(part) is str} | set(record[2])
    assert words <= {"roaster", GIVEN} | set(PURPOSES)
    assert {len(part) for part in record if type(part) is bytes} <= {20, 32}


RECORD_FIELDS = ("roaster", HOLDER, ASKED, NOTICE, TERMS, DATA, FAR)
T = START_MS + 1


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ((GIVEN, T, T, None, None, 0, None, NO_ACCESS), "is given without a consent record"),
        ((REQUESTED, T, T, None, RECORD, 0, None, NO_ACCESS), "is requested with a consent record"),
        ((GIVEN, T, None, None, RECORD, 0, None, NO_ACCESS), "its decision time says otherwise"),
        ((REQUESTED, T, None, T, None, 0, None, NO_ACCESS), "its end time says otherwise"),
        ((WITHDRAWN, T, T, None, RECORD, 0, None, NO_ACCESS), "its end time says otherwise"),
        ((GIVEN, T, FAR, None, RECORD, 0, None, NO_ACCESS), "was given after its expiry"),
        ((GIVEN, T, T, None, RECORD, 1, None, ACCESS), "counts 1 accesses"),
        ((GIVEN, T, T, None, RECORD, 1, T, NO_ACCESS), "counts 1 accesses"),
        ((GIVEN, T, T, None, RECORD, 1, T - 1, ACCESS), "accessed outside given consent"),
        ((GIVEN, T, T, None, RECORD, 1, FAR, ACCESS), "accessed outside given consent"),
        ((WITHDRAWN, T, T, T, RECORD, 1, T + 1, ACCESS), "accessed outside given consent"),
        ((REVOKED, T, None, T, None, 1, T, ACCESS), "accessed outside given consent"),
        (("pending", T, None, None, None, 0, None, NO_ACCESS), "must be one of requested"),
    ],
)
def test_invariants_find(chain: Chain, rest: tuple[Any, ...], complaint: str) -> None:
    assert chain.broken() == []
    chain.overwrite("consent", "requests", (R,), RECORD_FIELDS + rest)
    assert any(complaint in sentence for sentence in chain.broken()), chain.broken()


def test_invariants_find_purposes_out_of_order(chain: Chain) -> None:
    rest = (REQUESTED, T, None, None, None, 0, None, NO_ACCESS)
    fields = ("roaster", HOLDER, ("research", "advertising"), *RECORD_FIELDS[3:])
    chain.overwrite("consent", "requests", (R,), fields + rest)
    assert "not distinct and ascending" in chain.broken()[0]
