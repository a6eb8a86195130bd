"""Certificates: the unique cases of the token checklist as rows, then batches, history, marks, recalls and scans."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ledger.merkle import inclusion_proof, root
from loyalty_contracts.certificate import PATH_STEP_GAS
from loyalty_contracts.certificate_records import NO_HISTORY, Verdict, batch_leaf, history_link
from loyalty_contracts.gs1 import NEXT_STEPS, STEPS
from tests.harness import (
    FRIEND,
    GROCER,
    GROCER_TILL,
    HOLDER,
    NULL,
    ROASTER,
    ROASTER_ADMIN,
    ROASTER_AUDITOR,
    ROASTER_TILL,
    START_MS,
    STRANGER,
    THIRD,
    Chain,
    event,
    raises_fault,
)
from vm.executor import NO_ROLE
from vm.kinds import BAD_ARGUMENT

G = "09506000134352"
OTHER = "00614141999996"
S = "0001"
TERMS, DATA, MORE = b"t" * 32, b"d" * 32, b"m" * 32
FAR = START_MS + 10**9

NO_PRODUCT, PRODUCT_EXISTS, NOT_YOURS, NO_CERTIFICATE, EXISTS, NO_BATCH, BATCH_EXISTS, NOT_IN_BATCH = [
    f"E-CERT-{number:03}" for number in range(1, 9)
]
BORN_EXPIRED, NOT_ALLOWED, WRONG_HOLDER, REVOKED, RECALLED, BAD_ORDER, NO_PARTNER, MARKED_BEFORE, PAUSED = [
    f"E-CERT-{number:03}" for number in range(9, 18)
]


class Step(NamedTuple):
    """One call: who, method, all arguments."""

    actor: bytes
    method: str
    arguments: tuple[Any, ...]


class Case(NamedTuple):
    """After `given`, `when` is refused with `code` or takes effect; then owner, approved and balances are these.

    Every case begins with one certificate that HOLDER holds and that OPERATOR may move as HOLDER's operator.
    """

    name: str
    given: list[Step]
    when: Step
    code: str = ""
    owner: bytes | None = HOLDER
    approved: bytes | None = None
    balances: dict[bytes, int] = {}
    emits: tuple[Any, ...] | None = None


OPERATOR = THIRD


def does(actor: bytes, method: str, *arguments: Any) -> Step:
    return Step(actor, method, arguments)


def moves(actor: bytes, to: bytes, holder: bytes | None = None) -> Step:
    return does(actor, "transfer", G, S, to, holder)


APPROVED = [does(HOLDER, "approve", G, S, FRIEND)]
PAUSE = [does(ROASTER, "pause", G)]
MOVED = {HOLDER: 0, STRANGER: 1}
STAYED = {HOLDER: 1, STRANGER: 0}

CHECKLIST = [
    Case(
        "transfer_by_owner",
        [],
        moves(HOLDER, STRANGER),
        owner=STRANGER,
        balances=MOVED,
        emits=("Transferred", G, S, HOLDER, STRANGER),
    ),
    Case("transfer_by_owner_clears_approval", APPROVED, moves(HOLDER, STRANGER), owner=STRANGER, balances=MOVED),
    Case("transfer_by_approved", APPROVED, moves(FRIEND, STRANGER), owner=STRANGER, balances=MOVED),
    Case("transfer_by_operator", [], moves(OPERATOR, STRANGER), owner=STRANGER, balances=MOVED),
    Case("transfer_by_operator_clears_approval", APPROVED, moves(OPERATOR, STRANGER), owner=STRANGER, balances=MOVED),
    Case("transfer_to_self", APPROVED, moves(HOLDER, HOLDER), balances=STAYED),
    Case(
        "transfer_names_the_wrong_holder",
        APPROVED,
        moves(HOLDER, STRANGER, FRIEND),
        WRONG_HOLDER,
        approved=FRIEND,
        balances=STAYED,
    ),
    Case("transfer_names_the_right_holder", [], moves(HOLDER, STRANGER, HOLDER), owner=STRANGER, balances=MOVED),
    Case("transfer_by_stranger", [], moves(STRANGER, STRANGER), NOT_ALLOWED, balances=STAYED),
    Case("transfer_by_the_brand", [], moves(ROASTER, ROASTER), NOT_ALLOWED, balances=STAYED),
    Case("transfer_unknown_id", [], does(HOLDER, "transfer", G, "0002", STRANGER, None), NO_CERTIFICATE),
    Case("transfer_to_null", [], moves(HOLDER, NULL), BAD_ARGUMENT, balances=STAYED),
    Case(
        "transfer_by_former_approved",
        [*APPROVED, moves(HOLDER, STRANGER)],
        moves(FRIEND, FRIEND),
        NOT_ALLOWED,
        STRANGER,
    ),
    Case("transfer_by_former_holder", [moves(HOLDER, STRANGER)], moves(HOLDER, HOLDER), NOT_ALLOWED, STRANGER),
    Case(
        "transfer_by_operator_of_former_holder",
        [moves(HOLDER, STRANGER)],
        moves(OPERATOR, HOLDER),
        NOT_ALLOWED,
        STRANGER,
    ),
    Case(
        "approve",
        [],
        does(HOLDER, "approve", G, S, FRIEND),
        approved=FRIEND,
        emits=("Approved", G, S, FRIEND),
    ),
    Case("approve_replaces", APPROVED, does(HOLDER, "approve", G, S, STRANGER), approved=STRANGER),
    Case("approve_clears", APPROVED, does(HOLDER, "approve", G, S, None), emits=("Approved", G, S, None)),
    Case("approve_clears_what_was_clear", [], does(HOLDER, "approve", G, S, None), emits=("Approved", G, S, None)),
    Case("approve_null_address", [], does(HOLDER, "approve", G, S, NULL), BAD_ARGUMENT),
    Case("approve_by_stranger", [], does(STRANGER, "approve", G, S, STRANGER), NOT_ALLOWED),
    Case("approve_by_approved", APPROVED, does(FRIEND, "approve", G, S, STRANGER), NOT_ALLOWED, approved=FRIEND),
    Case("approve_by_operator", [], does(OPERATOR, "approve", G, S, FRIEND), approved=FRIEND),
    Case("approve_unknown_id", [], does(HOLDER, "approve", G, "0002", FRIEND), NO_CERTIFICATE),
    Case(
        "operator_set",
        [],
        does(HOLDER, "set_operator", FRIEND, True),
        emits=("OperatorSet", HOLDER, FRIEND, True),
    ),
    Case(
        "operator_set_again",
        [],
        does(HOLDER, "set_operator", OPERATOR, True),
        emits=("OperatorSet", HOLDER, OPERATOR, True),
    ),
    Case(
        "operator_unset",
        [],
        does(HOLDER, "set_operator", OPERATOR, False),
        emits=("OperatorSet", HOLDER, OPERATOR, False),
    ),
    Case(
        "operator_unset_cannot_move",
        [does(HOLDER, "set_operator", OPERATOR, False)],
        moves(OPERATOR, STRANGER),
        NOT_ALLOWED,
        balances=STAYED,
    ),
    Case("operator_null", [], does(HOLDER, "set_operator", NULL, True), BAD_ARGUMENT),
    Case("mint_existing_id", [], does(ROASTER, "issue", G, S, MORE, None, None), EXISTS),
    Case("mint_to_null", [], does(ROASTER, "issue", G, "0002", DATA, NULL, None), BAD_ARGUMENT),
    Case("burn_unknown", [], does(ROASTER, "revoke", G, "0002", ""), NO_CERTIFICATE),
    Case("pause_stops_transfer", PAUSE, moves(HOLDER, STRANGER), PAUSED, balances=STAYED),
    Case("pause_stops_mint", PAUSE, does(ROASTER, "issue", G, "0002", DATA, None, None), PAUSED),
    Case("pause_stops_batches", PAUSE, does(ROASTER, "issue_batch", G, "B1", DATA, 1, None), PAUSED),
    Case("pause_stops_burn", PAUSE, does(ROASTER, "revoke", G, S, ""), PAUSED),
    Case("unpaused_transfer", [*PAUSE, does(ROASTER, "unpause", G)], moves(HOLDER, STRANGER), owner=STRANGER),
]


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.call(ROASTER, "certificate.define_product", G, "Beans 250 g", TERMS)
    chain.call(ROASTER, "certificate.issue", G, S, DATA, HOLDER, None)
    chain.call(HOLDER, "certificate.set_operator", OPERATOR, True)
    return chain


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CHECKLIST])
def test_case(chain: Chain, case: Case) -> None:
    for actor, method, arguments in case.given:
        chain.call(actor, f"certificate.{method}", *arguments)
    actor, method, arguments = case.when
    if case.code:
        chain.refuse(case.code, actor, f"certificate.{method}", *arguments)
    else:
        receipt = chain.call(actor, f"certificate.{method}", *arguments)
        assert len(receipt.events) == 1
        if case.emits:
            assert receipt.events[0] == event("certificate", *case.emits)
    assert chain.view("certificate.owner_of", G, S) == case.owner
    assert chain.view("certificate.show", G, S).approved == case.approved
    for account, balance in case.balances.items():
        assert chain.view("certificate.balance_of", G, account) == balance
    assert chain.broken() == []


def test_owner_of_an_unknown_id(chain: Chain) -> None:
    with raises_fault(NO_CERTIFICATE):
        chain.view("certificate.owner_of", G, "0002")
    with raises_fault(NO_CERTIFICATE):
        chain.view("certificate.show", G, "0002")


def test_a_revoked_certificate_is_burnt(chain: Chain) -> None:
    chain.call(HOLDER, "certificate.approve", G, S, FRIEND)
    receipt = chain.call(ROASTER, "certificate.revoke", G, S, "stolen")
    assert receipt.events == (event("certificate", "Revoked", G, S, HOLDER, "stolen"),)
    with raises_fault(REVOKED):
        chain.view("certificate.owner_of", G, S)
    shown = chain.view("certificate.show", G, S)
    assert (shown.status, shown.holder, shown.approved) == ("revoked", None, None)
    assert chain.view("certificate.balance_of", G, HOLDER) == 0
    refused: list[tuple[str, Step]] = [
        (REVOKED, does(ROASTER, "revoke", G, S, "")),
        (REVOKED, moves(FRIEND, FRIEND)),
        (REVOKED, does(HOLDER, "approve", G, S, FRIEND)),
        (REVOKED, does(ROASTER, "recall", G, S, "")),
        (REVOKED, does(ROASTER, "end_recall", G, S, "")),
        (REVOKED, does(ROASTER, "record_event", G, S, "commissioning", MORE, "")),
        (REVOKED, does(HOLDER, "mark", G, S, "good")),
        (EXISTS, does(ROASTER, "issue", G, S, MORE, HOLDER, None)),
    ]
    for code, (actor, method, arguments) in refused:
        chain.refuse(code, actor, f"certificate.{method}", *arguments)
    assert chain.view("certificate.product_of", G)[5:] == (1, 1, 0)
    assert chain.broken() == []


def test_reads_while_paused(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.pause", G)
    assert chain.view("certificate.product_of", G).paused is True
    assert chain.view("certificate.owner_of", G, S) == HOLDER
    assert chain.view("certificate.verdict", G, S).word == "registered"
    assert chain.call(STRANGER, "certificate.scan", G, S, "").results[0][0] == "registered"
    chain.call(ROASTER, "certificate.recall", G, S, "")


def test_the_brand_gives_what_has_no_holder(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.issue", G, "0002", DATA, None, None)
    assert chain.view("certificate.owner_of", G, "0002") is None
    assert chain.view("certificate.may_move", G, "0002", ROASTER) is False
    chain.refuse(NOT_ALLOWED, HOLDER, "certificate.transfer", G, "0002", HOLDER, None)
    chain.refuse(NOT_ALLOWED, GROCER, "certificate.transfer", G, "0002", GROCER, None)
    chain.refuse(NOT_ALLOWED, ROASTER, "certificate.approve", G, "0002", FRIEND)
    receipt = chain.call(ROASTER, "certificate.transfer", G, "0002", FRIEND, None)
    assert receipt.events == (event("certificate", "Transferred", G, "0002", None, FRIEND),)
    assert chain.view("certificate.balance_of", G, FRIEND) == 1
    assert chain.broken() == []


def test_who_may_move(chain: Chain) -> None:
    chain.call(HOLDER, "certificate.approve", G, S, FRIEND)
    movers = {
        who for who in (HOLDER, FRIEND, OPERATOR, STRANGER, ROASTER) if chain.view("certificate.may_move", G, S, who)
    }
    assert movers == {HOLDER, FRIEND, OPERATOR}


@pytest.mark.parametrize(
    ("code", "actor", "method", "arguments"),
    [
        (NO_ROLE.code, HOLDER, "define_product", (OTHER, "Mug", TERMS)),
        (NO_ROLE.code, ROASTER_TILL, "issue", (G, "0002", DATA, None, None)),
        (PRODUCT_EXISTS, GROCER, "define_product", (G, "Beans", TERMS)),
        (BAD_ARGUMENT, ROASTER, "define_product", ("09506000134359", "Beans", TERMS)),
        (NOT_YOURS, GROCER, "issue", (G, "0002", DATA, None, None)),
        (NOT_YOURS, GROCER, "issue_batch", (G, "B1", DATA, 1, None)),
        (NOT_YOURS, GROCER, "set_partner", (G, "grocer", True)),
        (NOT_YOURS, GROCER, "pause", (G,)),
        (NOT_YOURS, GROCER, "unpause", (G,)),
        (NOT_YOURS, GROCER, "recall", (G, S, "")),
        (NOT_YOURS, GROCER, "end_recall", (G, S, "")),
        (NOT_YOURS, GROCER, "recall_batch", (G, "B1", "")),
        (NOT_YOURS, GROCER, "end_batch_recall", (G, "B1", "")),
        (NOT_YOURS, GROCER, "revoke", (G, S, "")),
        (NO_PRODUCT, ROASTER, "issue", (OTHER, S, DATA, None, None)),
        (NO_PRODUCT, ROASTER, "issue_batch", (OTHER, "B1", DATA, 1, None)),
        (NO_PRODUCT, HOLDER, "materialise", (OTHER, "B1", S, DATA, 0, ())),
        (NO_PRODUCT, ROASTER, "record_event", (OTHER, S, "commissioning", MORE, "")),
        (NO_PRODUCT, ROASTER, "revoke", (OTHER, S, "")),
        (NO_BATCH, HOLDER, "materialise", (G, "B1", S, DATA, 0, ())),
        (NO_BATCH, ROASTER, "recall_batch", (G, "B1", "")),
        (NO_CERTIFICATE, HOLDER, "mark", (G, "0002", "good")),
        (NO_CERTIFICATE, ROASTER, "record_event", (G, "0002", "commissioning", MORE, "")),
        (NO_CERTIFICATE, ROASTER, "recall", (G, "0002", "")),
        (BAD_ARGUMENT, ROASTER, "issue_batch", (G, "B1", DATA, 0, None)),
        (BAD_ARGUMENT, ROASTER, "issue", (G, "0002", DATA[:31], None, None)),
        (BAD_ARGUMENT, ROASTER, "issue", (G, "00 02", DATA, None, None)),
        (BAD_ARGUMENT, ROASTER, "record_event", (G, S, "teleporting", MORE, "")),
        (BAD_ARGUMENT, HOLDER, "mark", (G, S, "")),
        (BAD_ARGUMENT, HOLDER, "mark", (G, S, "x" * 141)),
    ],
)
def test_refusals(chain: Chain, code: str, actor: bytes, method: str, arguments: tuple[Any, ...]) -> None:
    chain.refuse(code, actor, f"certificate.{method}", *arguments)


@pytest.mark.parametrize("view", ["product_of", "balance_of", "is_partner", "batch_of"])
def test_views_of_an_unknown_product(chain: Chain, view: str) -> None:
    arguments = {"product_of": (), "balance_of": (HOLDER,), "is_partner": ("grocer",), "batch_of": ("B1",)}[view]
    with raises_fault(NO_BATCH if view == "batch_of" else NO_PRODUCT):
        chain.view(f"certificate.{view}", OTHER, *arguments)


# batches

SERIALS = [f"B-{number}" for number in range(5)]
LEAVES = [batch_leaf(G, serial, DATA) for serial in SERIALS]


@pytest.fixture
def batched(chain: Chain) -> Chain:
    receipt = chain.call(ROASTER, "certificate.issue_batch", G, "B1", root(LEAVES), len(LEAVES), FAR)
    assert receipt.events == (event("certificate", "BatchIssued", G, "B1", root(LEAVES), 5, FAR),)
    return chain


def materialise(chain: Chain, number: int, actor: bytes = STRANGER) -> Any:
    path = inclusion_proof(LEAVES, number)
    return chain.call(actor, "certificate.materialise", G, "B1", SERIALS[number], DATA, number, path)


def test_every_certificate_of_a_batch_can_be_brought_in_once(batched: Chain) -> None:
    for number, serial in enumerate(SERIALS):
        receipt = materialise(batched, number)
        assert receipt.events == (event("certificate", "Issued", G, serial, DATA, "B1", None, FAR),)
    shown = batched.view("certificate.show", G, "B-3")
    assert (shown.batch, shown.expires_ms, shown.holder) == ("B1", FAR, None)
    assert batched.view("certificate.batch_of", G, "B1").materialised == 5
    batched.refuse(EXISTS, HOLDER, "certificate.materialise", G, "B1", "B-0", DATA, 0, inclusion_proof(LEAVES, 0))
    assert batched.view("certificate.product_of", G)[5:] == (6, 0, 1)
    assert batched.broken() == []


def test_what_is_not_in_the_batch_stays_out(batched: Chain) -> None:
    path = inclusion_proof(LEAVES, 2)
    for serial, data, index, steps in [
        ("B-9", DATA, 2, path),
        ("B-2", MORE, 2, path),
        ("B-2", DATA, 3, path),
        ("B-2", DATA, 5, path),
        ("B-2", DATA, 2, path[:-1]),
        ("B-2", DATA, 2, (*path, DATA)),
        ("B-2", DATA, 2, path[::-1]),
        ("B-2", DATA, 2, ()),
    ]:
        batched.refuse(NOT_IN_BATCH, HOLDER, "certificate.materialise", G, "B1", serial, data, index, steps)
    batched.refuse(BAD_ARGUMENT, HOLDER, "certificate.materialise", G, "B1", "B-2", DATA, 2, (DATA[:31],))
    batched.refuse(BAD_ARGUMENT, HOLDER, "certificate.materialise", G, "B1", "B-2", DATA, 2, (DATA,) * 33)


def test_a_leaf_speaks_for_its_product_only(batched: Chain) -> None:
    batched.call(ROASTER, "certificate.define_product", OTHER, "Mug", TERMS)
    batched.call(ROASTER, "certificate.issue_batch", OTHER, "B1", root(LEAVES), len(LEAVES), None)
    path = inclusion_proof(LEAVES, 1)
    batched.refuse(NOT_IN_BATCH, HOLDER, "certificate.materialise", OTHER, "B1", "B-1", DATA, 1, path)


def test_a_batch_of_one_needs_no_path(chain: Chain) -> None:
    leaf = batch_leaf(G, "B-0", DATA)
    chain.call(ROASTER, "certificate.issue_batch", G, "B1", root([leaf]), 1, None)
    chain.call(STRANGER, "certificate.materialise", G, "B1", "B-0", DATA, 0, ())


def test_a_batch_id_is_used_once_per_product(batched: Chain) -> None:
    batched.refuse(BATCH_EXISTS, ROASTER, "certificate.issue_batch", G, "B1", DATA, 1, None)
    batched.call(ROASTER, "certificate.issue_batch", G, "b1", DATA, 1, None)


def test_a_longer_path_costs_more_gas(batched: Chain) -> None:
    short, long = materialise(batched, 4), materialise(batched, 0)
    difference = (3 - 1) * (PATH_STEP_GAS + 34)  # each hash of a path is 34 bytes of the transaction
    assert long.gas_used - short.gas_used == difference


def test_a_paused_product_admits_nothing_of_its_batches(batched: Chain) -> None:
    batched.call(ROASTER, "certificate.pause", G)
    path = inclusion_proof(LEAVES, 1)
    batched.refuse(PAUSED, HOLDER, "certificate.materialise", G, "B1", "B-1", DATA, 1, path)


# history and marks


def test_a_life_from_roastery_to_kitchen(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.set_partner", G, "grocer", True)
    head = NO_HISTORY
    life = [
        (ROASTER, "roaster", "commissioning", "roastery"),
        (ROASTER_TILL, "roaster", "packing", "roastery"),
        (ROASTER_TILL, "roaster", "shipping", "depot"),
        (GROCER_TILL, "grocer", "receiving", "shop 7"),
        (GROCER_TILL, "grocer", "stocking", "shop 7"),
        (GROCER, "grocer", "retail_selling", "shop 7"),
    ]
    for number, (actor, organisation, step, place) in enumerate(life, start=1):
        digest = bytes([number]) * 32
        receipt = chain.call(actor, "certificate.record_event", G, S, step, digest, place)
        head = history_link(head, G, S, step, digest, place, organisation, chain.time_ms)
        assert receipt.events == (event("certificate", "StepRecorded", G, S, step, digest, place, organisation, head),)
    receipt = chain.call(HOLDER, "certificate.mark", G, S, "Tasted of plums.")
    head = history_link(head, G, S, "mark", "Tasted of plums.", "", HOLDER, chain.time_ms)
    assert receipt.events == (event("certificate", "Marked", G, S, HOLDER, "Tasted of plums.", head),)
    shown = chain.view("certificate.show", G, S)
    assert (shown.stage, shown.steps, shown.marks, shown.head) == ("retail_selling", 6, 1, head)
    assert chain.broken() == []


@pytest.mark.parametrize("stage", NEXT_STEPS)
def test_only_legal_steps_follow(chain: Chain, stage: str) -> None:
    if stage:
        chain.overwrite("certificate", "history", (G, S), (stage, 1, 0, MORE))
    before = dict(chain.cells)
    for step in STEPS:
        chain.cells = dict(before)
        code = chain.try_call(ROASTER, "certificate.record_event", G, S, step, MORE, "").code
        assert code == ("" if step in NEXT_STEPS[stage] else BAD_ORDER), step


@pytest.mark.parametrize(
    "actor", [HOLDER, GROCER, GROCER_TILL, ROASTER_ADMIN, ROASTER_AUDITOR], ids=lambda actor: str(actor, "ascii")
)
def test_who_may_not_record_steps(chain: Chain, actor: bytes) -> None:
    chain.refuse(NO_PARTNER, actor, "certificate.record_event", G, S, "commissioning", MORE, "")


def test_a_partner_can_be_dropped(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.set_partner", G, "grocer", True)
    assert chain.view("certificate.is_partner", G, "grocer") is True
    chain.call(GROCER, "certificate.record_event", G, S, "commissioning", MORE, "")
    receipt = chain.call(ROASTER, "certificate.set_partner", G, "grocer", False)
    assert receipt.events == (event("certificate", "PartnerSet", G, "grocer", False),)
    assert chain.view("certificate.is_partner", G, "grocer") is False
    assert chain.view("certificate.is_partner", G, "roaster") is True
    chain.refuse(NO_PARTNER, GROCER, "certificate.record_event", G, S, "packing", MORE, "")


def test_steps_go_on_under_a_recall(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.recall", G, S, "")
    chain.call(ROASTER, "certificate.record_event", G, S, "commissioning", MORE, "")
    chain.call(ROASTER, "certificate.record_event", G, S, "destroying", MORE, "")


def test_one_mark_per_account_and_pack(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.issue", G, "0002", DATA, None, None)
    chain.call(HOLDER, "certificate.mark", G, S, "good")
    chain.refuse(MARKED_BEFORE, HOLDER, "certificate.mark", G, S, "very good")
    chain.call(FRIEND, "certificate.mark", G, S, "x" * 140)
    chain.call(HOLDER, "certificate.mark", G, "0002", "good")
    assert chain.view("certificate.show", G, S).marks == 2
    assert chain.view("certificate.show", G, S).stage == ""
    assert chain.broken() == []


# recalls, expiry and scans


def scan(chain: Chain, serial: str = S, gtin: str = G) -> Verdict:
    receipt = chain.call(STRANGER, "certificate.scan", gtin, serial, "phone")
    answer = Verdict(*receipt.results[0])
    assert receipt.events == (event("certificate", "Scanned", gtin, serial, answer.word, answer.scans, "phone"),)
    return answer


def test_first_scan_then_seen_before(chain: Chain) -> None:
    assert chain.view("certificate.verdict", G, S) == Verdict("registered", None, 0)
    first = scan(chain)
    assert first == Verdict("registered", chain.time_ms, 1)
    assert chain.view("certificate.verdict", G, S) == Verdict("seen_before", first.first_ms, 1)
    assert scan(chain) == Verdict("seen_before", first.first_ms, 2)
    assert scan(chain) == Verdict("seen_before", first.first_ms, 3)
    shown = chain.view("certificate.show", G, S)
    assert (shown.first_scan_ms, shown.scans) == (first.first_ms, 3)
    assert chain.broken() == []


@pytest.mark.parametrize(("gtin", "serial"), [(G, "0002"), (OTHER, S)])
def test_an_unknown_pack_leaves_no_trace_in_the_state(chain: Chain, gtin: str, serial: str) -> None:
    before = dict(chain.cells)
    assert scan(chain, serial, gtin) == Verdict("unknown", None, 0)
    assert chain.cells == before
    assert chain.view("certificate.verdict", gtin, serial) == Verdict("unknown", None, 0)


def test_expiry_is_exact(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.issue", G, "0002", DATA, None, FAR)
    chain.pass_until(FAR - 1)
    assert scan(chain, "0002").word == "registered"
    assert chain.time_ms == FAR - 1
    chain.pass_until(FAR)
    assert scan(chain, "0002").word == "expired"
    assert chain.time_ms == FAR
    assert chain.view("certificate.verdict", G, "0002").word == "expired"


def test_nothing_is_issued_expired(chain: Chain) -> None:
    next_ms = chain.time_ms + 1_000
    chain.refuse(BORN_EXPIRED, ROASTER, "certificate.issue", G, "0002", DATA, None, next_ms)
    next_ms = chain.time_ms + 1_000
    chain.refuse(BORN_EXPIRED, ROASTER, "certificate.issue_batch", G, "B1", DATA, 1, next_ms)
    next_ms = chain.time_ms + 1_000
    chain.call(ROASTER, "certificate.issue", G, "0002", DATA, None, next_ms + 1)


def test_recall_and_its_end(chain: Chain) -> None:
    receipt = chain.call(ROASTER, "certificate.recall", G, S, "too dark")
    assert receipt.events == (event("certificate", "Recalled", G, S, True, "too dark"),)
    assert scan(chain).word == "recalled"
    chain.refuse(RECALLED, HOLDER, "certificate.transfer", G, S, FRIEND, None)
    chain.refuse(RECALLED, HOLDER, "certificate.mark", G, S, "good")
    receipt = chain.call(ROASTER, "certificate.end_recall", G, S, "mistake")
    assert receipt.events == (event("certificate", "Recalled", G, S, False, "mistake"),)
    assert scan(chain).word == "seen_before"
    chain.call(HOLDER, "certificate.transfer", G, S, FRIEND, None)
    assert chain.broken() == []


def test_a_batch_recall_reaches_packs_before_and_after_they_are_brought_in(batched: Chain) -> None:
    materialise(batched, 0)
    receipt = batched.call(ROASTER, "certificate.recall_batch", G, "B1", "metal")
    assert receipt.events == (event("certificate", "BatchRecalled", G, "B1", True, "metal"),)
    materialise(batched, 1)
    assert [scan(batched, serial).word for serial in SERIALS[:3]] == ["recalled", "recalled", "unknown"]
    assert scan(batched).word == "registered"
    batched.refuse(RECALLED, ROASTER, "certificate.transfer", G, "B-0", HOLDER, None)
    batched.call(ROASTER, "certificate.recall", G, "B-1", "")
    batched.call(ROASTER, "certificate.end_batch_recall", G, "B1", "")
    assert [scan(batched, serial).word for serial in SERIALS[:2]] == ["seen_before", "recalled"]
    assert batched.broken() == []


def test_revoked_comes_before_recalled_before_expired(chain: Chain) -> None:
    chain.call(ROASTER, "certificate.issue", G, "0002", DATA, None, FAR)
    chain.pass_until(FAR)
    assert scan(chain, "0002").word == "expired"
    chain.call(ROASTER, "certificate.recall", G, "0002", "")
    assert scan(chain, "0002").word == "recalled"
    chain.call(ROASTER, "certificate.revoke", G, "0002", "")
    assert scan(chain, "0002").word == "revoked"
    assert scan(chain, "0002").scans == 4


@pytest.mark.parametrize(
    ("cell_map", "key", "value", "complaint"),
    [
        ("certificate", (G, S), None, "counted are (1, 0, 0), there are (0, 0, 0)"),
        ("certificate", (G, "0002"), (DATA, None, 1, None, "active", None, None), "there are (2, 0, 0)"),
        ("certificate", (G, S), (DATA, None, 1, None, "active", FRIEND, None), "that are not counted"),
        ("certificate", (G, S), (DATA, None, 1, None, "revoked", HOLDER, None), "is revoked and still held"),
        ("certificate", (G, S), (DATA, None, 1, None, "active", None, FRIEND), "an approved account and no holder"),
        ("certificate", (G, S), (DATA, "B9", 1, None, "active", HOLDER, None), "a batch 'B9' that does not exist"),
        ("certificate", (G, S), (DATA, None, 1, None, "lost", HOLDER, None), "must be one of active"),
        ("counts", (G,), None, "has certificates or batches and no counts"),
        ("product", (G,), None, "has certificates or batches and no record"),
        ("held", (G, HOLDER), 2, "holds 1 of product"),
        ("batch", (G, "B1"), (DATA, 1, 2, None, False, 1), "0 in the state, 2 of 1 counted"),
        ("history", (G, "0002"), ("packing", 1, 0, DATA), "has no certificate"),
        ("history", (G, S), ("packing", 0, 0, DATA), "at stage 'packing' after 0 steps"),
        ("history", (G, S), ("packing", 1, 1, DATA), "1 marks are counted"),
        ("history", (G, S), ("", 0, 0, DATA), "has an empty history"),
        ("marked", (G, S, HOLDER), 1, "has marks and no history"),
        ("scans", (G, "0002"), (1, 1), "have no certificate or no count"),
        ("scans", (G, S), (1, 0), "have no certificate or no count"),
    ],
)
def test_invariants_find(chain: Chain, cell_map: str, key: tuple[Any, ...], value: Any, complaint: str) -> None:
    assert chain.broken() == []
    chain.overwrite("certificate", cell_map, key, value)
    assert any(complaint in sentence for sentence in chain.broken()), chain.broken()
