"""Points: every fungible case of the token checklist as a row, then what loyalty adds."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from ledger import codec
from ledger.errors import Invalid
from loyalty_contracts.points import UNLIMITED, Points
from tests.harness import (
    FRIEND,
    GROCER,
    HOLDER,
    NULL,
    ROASTER,
    ROASTER_TILL,
    START_MS,
    STRANGER,
    THIRD,
    Chain,
    event,
    raises_fault,
)
from vm.executor import NO_ROLE
from vm.kinds import BAD_ARGUMENT, MAX_AMOUNT
from vm.registry import Registry

P = "beans"
UNKNOWN, EXISTS, NOT_YOURS, SHORT, OVER_ALLOWANCE, FROZEN, PAUSED, OVER_CAP, TOO_MANY, CAP_TOO_LOW = [
    f"E-POINTS-{number:03}" for number in range(1, 11)
]


class Step(NamedTuple):
    """One call: who, method, arguments after the programme."""

    actor: bytes
    method: str
    arguments: tuple[Any, ...]


class Case(NamedTuple):
    """After `given`, `when` is refused with `code` or takes effect; then balances, allowances and supply are these.

    Every case begins with a programme of which HOLDER has 100 points.
    """

    name: str
    given: list[Step]
    when: Step
    code: str = ""
    balances: dict[bytes, int] = {}
    supply: int = 100
    allowance: tuple[bytes, bytes, int] | None = None
    emits: tuple[Any, ...] | None = None


def does(actor: bytes, method: str, *arguments: Any) -> Step:
    return Step(actor, method, arguments)


UNTOUCHED = {HOLDER: 100, FRIEND: 0, THIRD: 0}
APPROVED_40 = [does(HOLDER, "approve", THIRD, 40)]
ALL_BUT_ONE = [does(ROASTER, "mint", FRIEND, MAX_AMOUNT - 101)]

PAUSE = [does(ROASTER, "pause")]
APPROVED_AND_PAUSE = APPROVED_40 + PAUSE
FREEZE = [does(ROASTER, "freeze", HOLDER)]
FREEZE_FRIEND = [does(ROASTER, "freeze", FRIEND)]
APPROVED_AND_FREEZE = APPROVED_40 + FREEZE

CHECKLIST = [
    Case(
        "supply_equals_sum_of_balances",
        [does(ROASTER, "mint", FRIEND, 7)],
        does(HOLDER, "transfer", FRIEND, 30),
        balances={HOLDER: 70, FRIEND: 37, STRANGER: 0},
        supply=107,
    ),
    Case(
        "transfer_exact_full_balance",
        [],
        does(HOLDER, "transfer", FRIEND, 100),
        balances={HOLDER: 0, FRIEND: 100},
        emits=("Transferred", P, HOLDER, FRIEND, 100),
    ),
    Case(
        "transfer_zero_amount",
        [],
        does(HOLDER, "transfer", FRIEND, 0),
        balances=UNTOUCHED,
        emits=("Transferred", P, HOLDER, FRIEND, 0),
    ),
    Case(
        "transfer_zero_amount_without_balance",
        [],
        does(STRANGER, "transfer", FRIEND, 0),
        balances=UNTOUCHED,
        emits=("Transferred", P, STRANGER, FRIEND, 0),
    ),
    Case("transfer_over_balance", [], does(HOLDER, "transfer", FRIEND, 101), SHORT, UNTOUCHED),
    Case("transfer_to_null", [], does(HOLDER, "transfer", NULL, 1), BAD_ARGUMENT, UNTOUCHED),
    Case("transfer_from_null", [], does(THIRD, "transfer_from", NULL, FRIEND, 0), BAD_ARGUMENT, UNTOUCHED),
    Case(
        "transfer_to_self_with_balance",
        [],
        does(HOLDER, "transfer", HOLDER, 60),
        balances=UNTOUCHED,
        emits=("Transferred", P, HOLDER, HOLDER, 60),
    ),
    Case("transfer_to_self_without_balance", [], does(HOLDER, "transfer", HOLDER, 101), SHORT, UNTOUCHED),
    Case(
        "delegated_transfer",
        APPROVED_40,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 15),
        balances={HOLDER: 85, FRIEND: 15, THIRD: 0},
        allowance=(HOLDER, THIRD, 25),
        emits=("Transferred", P, HOLDER, FRIEND, 15),
    ),
    Case(
        "delegated_transfer_of_the_whole_allowance",
        APPROVED_40,
        does(THIRD, "transfer_from", HOLDER, THIRD, 40),
        balances={HOLDER: 60, THIRD: 40},
        allowance=(HOLDER, THIRD, 0),
    ),
    Case(
        "delegated_transfer_short_balance",
        [does(HOLDER, "approve", THIRD, 200)],
        does(THIRD, "transfer_from", HOLDER, FRIEND, 150),
        SHORT,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 200),
    ),
    Case(
        "delegated_transfer_short_allowance",
        APPROVED_40,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 41),
        OVER_ALLOWANCE,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case(
        "delegated_transfer_short_allowance_and_balance",
        APPROVED_40,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 101),
        OVER_ALLOWANCE,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case(
        "delegated_transfer_without_allowance",
        [],
        does(THIRD, "transfer_from", HOLDER, FRIEND, 1),
        OVER_ALLOWANCE,
        UNTOUCHED,
    ),
    Case(
        "delegated_transfer_by_the_owner_needs_an_allowance_too",
        [],
        does(HOLDER, "transfer_from", HOLDER, FRIEND, 1),
        OVER_ALLOWANCE,
        UNTOUCHED,
    ),
    Case(
        "delegated_transfer_unlimited_allowance",
        [does(HOLDER, "approve", THIRD, UNLIMITED)],
        does(THIRD, "transfer_from", HOLDER, FRIEND, 15),
        balances={HOLDER: 85, FRIEND: 15},
        allowance=(HOLDER, THIRD, UNLIMITED),
    ),
    Case(
        "delegated_transfer_null_recipient",
        APPROVED_40,
        does(THIRD, "transfer_from", HOLDER, NULL, 1),
        BAD_ARGUMENT,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case(
        "approve_replaces",
        APPROVED_40,
        does(HOLDER, "approve", THIRD, 3),
        allowance=(HOLDER, THIRD, 3),
        emits=("Approved", P, HOLDER, THIRD, 3),
    ),
    Case(
        "approve_same_again_emits",
        APPROVED_40,
        does(HOLDER, "approve", THIRD, 40),
        allowance=(HOLDER, THIRD, 40),
        emits=("Approved", P, HOLDER, THIRD, 40),
    ),
    Case(
        "approve_nothing",
        APPROVED_40,
        does(HOLDER, "approve", THIRD, 0),
        allowance=(HOLDER, THIRD, 0),
        emits=("Approved", P, HOLDER, THIRD, 0),
    ),
    Case("approve_above_balance", [], does(HOLDER, "approve", THIRD, 101), allowance=(HOLDER, THIRD, 101)),
    Case("approve_null_spender", [], does(HOLDER, "approve", NULL, 1), BAD_ARGUMENT),
    Case(
        "mint",
        [],
        does(ROASTER, "mint", FRIEND, 5),
        balances={HOLDER: 100, FRIEND: 5},
        supply=105,
        emits=("Minted", P, FRIEND, 5),
    ),
    Case("mint_to_null", [], does(ROASTER, "mint", NULL, 5), BAD_ARGUMENT, UNTOUCHED),
    Case(
        "mint_up_to_the_largest_integer",
        ALL_BUT_ONE,
        does(ROASTER, "mint", THIRD, 1),
        balances={THIRD: 1},
        supply=MAX_AMOUNT,
    ),
    Case(
        "mint_past_the_largest_integer",
        ALL_BUT_ONE,
        does(ROASTER, "mint", THIRD, 2),
        TOO_MANY,
        {THIRD: 0},
        MAX_AMOUNT - 1,
    ),
    Case(
        "burn_part",
        [],
        does(HOLDER, "burn", 30),
        balances={HOLDER: 70},
        supply=70,
        emits=("Burned", P, HOLDER, 30),
    ),
    Case("burn_all", [], does(HOLDER, "burn", 100), balances={HOLDER: 0}, supply=0),
    Case("burn_above_balance", [], does(HOLDER, "burn", 101), SHORT, UNTOUCHED),
    Case(
        "burn_from",
        APPROVED_40,
        does(THIRD, "burn_from", HOLDER, 30),
        balances={HOLDER: 70},
        supply=70,
        allowance=(HOLDER, THIRD, 10),
        emits=("Burned", P, HOLDER, 30),
    ),
    Case(
        "burn_from_short_allowance",
        APPROVED_40,
        does(THIRD, "burn_from", HOLDER, 41),
        OVER_ALLOWANCE,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case(
        "burn_from_short_balance",
        [does(HOLDER, "approve", THIRD, 200)],
        does(THIRD, "burn_from", HOLDER, 101),
        SHORT,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 200),
    ),
    Case("burn_from_null_owner", [], does(THIRD, "burn_from", NULL, 0), BAD_ARGUMENT, UNTOUCHED),
    Case("cap_zero", [], does(ROASTER, "set_cap", 0), BAD_ARGUMENT),
    Case("cap_reached", [does(ROASTER, "set_cap", 110)], does(ROASTER, "mint", FRIEND, 10), supply=110),
    Case("cap_passed_by_one", [does(ROASTER, "set_cap", 110)], does(ROASTER, "mint", FRIEND, 11), OVER_CAP, UNTOUCHED),
    Case("cap_was_reached", [does(ROASTER, "set_cap", 100)], does(ROASTER, "mint", FRIEND, 1), OVER_CAP, UNTOUCHED),
    Case("paused_transfer", PAUSE, does(HOLDER, "transfer", FRIEND, 1), PAUSED, UNTOUCHED),
    Case(
        "paused_delegated_transfer",
        APPROVED_AND_PAUSE,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 1),
        PAUSED,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case("paused_mint", PAUSE, does(ROASTER, "mint", FRIEND, 1), PAUSED, UNTOUCHED),
    Case("paused_burn", PAUSE, does(HOLDER, "burn", 1), PAUSED, UNTOUCHED),
    Case("paused_burn_from", APPROVED_AND_PAUSE, does(THIRD, "burn_from", HOLDER, 1), PAUSED, UNTOUCHED),
    Case("paused_spend", PAUSE, does(HOLDER, "spend", 1, ""), PAUSED, UNTOUCHED),
    Case("paused_spend_from", APPROVED_AND_PAUSE, does(THIRD, "spend_from", HOLDER, 1, ""), PAUSED, UNTOUCHED),
]

RUNNING_AGAIN = [*APPROVED_40, does(ROASTER, "pause"), does(ROASTER, "unpause")]

LOYALTY = [
    Case("unpaused_transfer", RUNNING_AGAIN, does(HOLDER, "transfer", FRIEND, 1), balances={FRIEND: 1}),
    Case(
        "unpaused_delegated_transfer",
        RUNNING_AGAIN,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 1),
        balances={FRIEND: 1},
    ),
    Case("unpaused_mint", RUNNING_AGAIN, does(ROASTER, "mint", FRIEND, 1), supply=101),
    Case("unpaused_burn", RUNNING_AGAIN, does(HOLDER, "burn", 1), supply=99),
    Case("unpaused_spend", RUNNING_AGAIN, does(HOLDER, "spend", 1, ""), supply=99),
    Case("paused_approve_still_works", PAUSE, does(HOLDER, "approve", THIRD, 9), allowance=(HOLDER, THIRD, 9)),
    Case(
        "spend",
        [],
        does(HOLDER, "spend", 30, "a bag of beans"),
        balances={HOLDER: 70},
        supply=70,
        emits=("Redeemed", P, HOLDER, HOLDER, 30, "a bag of beans"),
    ),
    Case("spend_over_balance", [], does(HOLDER, "spend", 101, ""), SHORT, UNTOUCHED),
    Case(
        "spend_at_a_till",
        APPROVED_40,
        does(THIRD, "spend_from", HOLDER, 30, "till 4"),
        balances={HOLDER: 70},
        supply=70,
        allowance=(HOLDER, THIRD, 10),
        emits=("Redeemed", P, HOLDER, THIRD, 30, "till 4"),
    ),
    Case(
        "spend_at_a_till_short_allowance",
        APPROVED_40,
        does(THIRD, "spend_from", HOLDER, 41, ""),
        OVER_ALLOWANCE,
        UNTOUCHED,
    ),
    Case(
        "cap_counts_what_is_outstanding",
        [does(ROASTER, "set_cap", 100), does(HOLDER, "spend", 60, "")],
        does(ROASTER, "mint", FRIEND, 60),
        balances={HOLDER: 40, FRIEND: 60},
    ),
    Case("cap_below_outstanding", [], does(ROASTER, "set_cap", 99), CAP_TOO_LOW),
    Case("cap_at_outstanding", [], does(ROASTER, "set_cap", 100), emits=("CapSet", P, 100)),
    Case(
        "cap_taken_away",
        [does(ROASTER, "set_cap", 100), does(ROASTER, "set_cap", None)],
        does(ROASTER, "mint", FRIEND, 1),
        supply=101,
    ),
    Case("freeze", [], does(ROASTER, "freeze", HOLDER), balances=UNTOUCHED, emits=("Frozen", P, HOLDER)),
    Case("unfreeze", FREEZE, does(ROASTER, "unfreeze", HOLDER), balances=UNTOUCHED, emits=("Unfrozen", P, HOLDER)),
    Case("frozen_transfer", FREEZE, does(HOLDER, "transfer", FRIEND, 1), FROZEN, UNTOUCHED),
    Case("frozen_transfer_of_nothing", FREEZE, does(HOLDER, "transfer", FRIEND, 0), FROZEN, UNTOUCHED),
    Case("frozen_transfer_to_self", FREEZE, does(HOLDER, "transfer", HOLDER, 1), FROZEN, UNTOUCHED),
    Case(
        "frozen_delegated_transfer",
        APPROVED_AND_FREEZE,
        does(THIRD, "transfer_from", HOLDER, FRIEND, 1),
        FROZEN,
        UNTOUCHED,
        allowance=(HOLDER, THIRD, 40),
    ),
    Case("frozen_spend", FREEZE, does(HOLDER, "spend", 1, ""), FROZEN, UNTOUCHED),
    Case("frozen_spend_from", APPROVED_AND_FREEZE, does(THIRD, "spend_from", HOLDER, 1, ""), FROZEN, UNTOUCHED),
    Case("frozen_burn", FREEZE, does(HOLDER, "burn", 1), FROZEN, UNTOUCHED),
    Case("frozen_burn_from", APPROVED_AND_FREEZE, does(THIRD, "burn_from", HOLDER, 1), FROZEN, UNTOUCHED),
    Case("frozen_receives", FREEZE_FRIEND, does(HOLDER, "transfer", FRIEND, 9), balances={FRIEND: 9}),
    Case("frozen_is_minted_to", FREEZE_FRIEND, does(ROASTER, "mint", FRIEND, 9), balances={FRIEND: 9}, supply=109),
    Case(
        "frozen_stays_frozen_when_it_receives",
        [does(ROASTER, "freeze", FRIEND), does(HOLDER, "transfer", FRIEND, 9)],
        does(FRIEND, "transfer", THIRD, 1),
        FROZEN,
        {FRIEND: 9},
    ),
    Case(
        "unfrozen_transfers",
        [does(ROASTER, "freeze", HOLDER), does(ROASTER, "unfreeze", HOLDER)],
        does(HOLDER, "transfer", FRIEND, 100),
        balances={FRIEND: 100},
    ),
    Case(
        "frozen_spender_of_another_account",
        [*APPROVED_40, does(ROASTER, "freeze", THIRD)],
        does(THIRD, "transfer_from", HOLDER, FRIEND, 1),
        balances={FRIEND: 1},
    ),
    Case("mint_by_a_consumer", [], does(HOLDER, "mint", HOLDER, 1), NO_ROLE.code, UNTOUCHED),
    Case("mint_by_a_transactor", [], does(ROASTER_TILL, "mint", HOLDER, 1), NO_ROLE.code, UNTOUCHED),
    Case("mint_by_another_brand", [], does(GROCER, "mint", GROCER, 1), NOT_YOURS, UNTOUCHED),
    Case("freeze_by_another_brand", [], does(GROCER, "freeze", HOLDER), NOT_YOURS),
    Case("unfreeze_by_another_brand", [], does(GROCER, "unfreeze", HOLDER), NOT_YOURS),
    Case("pause_by_another_brand", [], does(GROCER, "pause"), NOT_YOURS),
    Case("unpause_by_another_brand", [], does(GROCER, "unpause"), NOT_YOURS),
    Case("set_cap_by_another_brand", [], does(GROCER, "set_cap", 1000), NOT_YOURS),
    Case("create_again", [], does(GROCER, "create", "Beans", None, "beans", 0), EXISTS),
]


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.call(ROASTER, "points.create", P, "Bean club", None, "beans", 0)
    chain.call(ROASTER, "points.mint", P, HOLDER, 100)
    return chain


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CHECKLIST + LOYALTY])
def test_case(chain: Chain, case: Case) -> None:
    for actor, method, arguments in case.given:
        chain.call(actor, f"points.{method}", P, *arguments)
    actor, method, arguments = case.when
    if case.code:
        chain.refuse(case.code, actor, f"points.{method}", P, *arguments)
    else:
        receipt = chain.call(actor, f"points.{method}", P, *arguments)
        assert len(receipt.events) == 1 and receipt.results == (None,)
        if case.emits:
            assert receipt.events[0] == event("points", *case.emits)
    for account, balance in case.balances.items():
        assert chain.view("points.balance_of", P, account) == balance
    shown = chain.view("points.show", P)
    assert shown.outstanding == shown.issued - shown.redeemed - shown.burned == case.supply
    if case.allowance:
        owner, spender, amount = case.allowance
        assert chain.view("points.allowance_of", P, owner, spender) == amount
    assert chain.broken() == []


@pytest.mark.parametrize("method", ["transfer", "mint", "approve"])
@pytest.mark.parametrize("amount", [-1, True, False, "1", None, b"\1", (1,), 2**63, 2**64 - 1], ids=repr)
def test_amounts_that_are_none(chain: Chain, method: str, amount: object) -> None:
    chain.refuse(BAD_ARGUMENT, ROASTER, f"points.{method}", P, FRIEND, amount)


@pytest.mark.parametrize("amount", [1.0, 0.5, float("nan"), 2**64, 2**256, -(2**63) - 1], ids=repr)
def test_amounts_that_no_transaction_can_carry(chain: Chain, amount: Any) -> None:
    with pytest.raises(Invalid) as caught:
        codec.encode(("points", "transfer", (P, FRIEND, amount)))
    assert caught.value.code == codec.NOT_A_VALUE


def test_a_float_in_foreign_bytes_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        codec.decode(bytes.fromhex("cb3ff0000000000000"))
    assert caught.value.code == codec.NOT_A_VALUE


@pytest.mark.parametrize(
    "amount", [-1, 1.0, True, "1.0", "", "+1", " 1", "1e3", "٣", None, [], 2**63, str(2**63), 2**256, str(2**256)]
)
def test_amounts_that_json_may_not_carry(amount: object) -> None:
    registry = Registry([Points], "points")
    with pytest.raises(Invalid) as caught:
        registry.arguments_from_json(Points.methods["burn"], "points", {"programme": P, "amount": amount})
    assert caught.value.code == BAD_ARGUMENT and "amount" in caught.value.cause


def test_one_receipt_id_earns_and_redeems_once(chain: Chain) -> None:
    chain.call(ROASTER, "points.mint", P, HOLDER, 10, "receipt 4711")
    used = chain.refuse("E-VM-006", ROASTER, "points.mint", P, HOLDER, 10, "receipt 4711")
    assert used.detail == ("receipt 4711", chain.height - 1)
    chain.call(HOLDER, "points.spend", P, 10, "", "receipt 4711")
    chain.refuse("E-VM-006", HOLDER, "points.spend", P, 10, "", "receipt 4711")
    assert chain.view("points.show", P).issued == 110
    assert chain.view("points.show", P).redeemed == 10


def test_a_refused_operation_leaves_its_reference_free(chain: Chain) -> None:
    chain.refuse(SHORT, HOLDER, "points.spend", P, 101, "", "receipt 4711")
    chain.call(HOLDER, "points.spend", P, 100, "", "receipt 4711")


def test_reads_while_paused(chain: Chain) -> None:
    chain.call(ROASTER, "points.pause", P)
    assert chain.view("points.show", P).paused is True
    assert chain.view("points.balance_of", P, HOLDER) == 100
    assert chain.view("points.allowance_of", P, HOLDER, THIRD) == 0
    assert chain.view("points.is_frozen", P, HOLDER) is False


def test_show(chain: Chain) -> None:
    chain.call(HOLDER, "points.spend", P, 30, "")
    chain.call(HOLDER, "points.burn", P, 5)
    shown = chain.view("points.show", P)
    assert shown._asdict() == {
        "organisation": "roaster",
        "name": "Bean club",
        "unit": "beans",
        "decimals": 0,
        "cap": None,
        "paused": False,
        "created_ms": START_MS + 1_000,
        "issued": 100,
        "redeemed": 30,
        "burned": 5,
        "outstanding": 65,
    }


def test_is_frozen(chain: Chain) -> None:
    chain.call(ROASTER, "points.freeze", P, HOLDER)
    assert chain.view("points.is_frozen", P, HOLDER) is True
    assert chain.view("points.is_frozen", P, FRIEND) is False


@pytest.mark.parametrize("cap", [0, -1, 2**63, True])
def test_create_refuses_the_cap(chain: Chain, cap: object) -> None:
    chain.refuse(BAD_ARGUMENT, ROASTER, "points.create", "other", "Other", cap, "points", 0)


def test_create_keeps_its_cap(chain: Chain) -> None:
    receipt = chain.call(ROASTER, "points.create", "other", "Other", 5, "points", 2)
    assert receipt.events == (event("points", "Created", "other", "roaster", 5),)
    chain.refuse(OVER_CAP, ROASTER, "points.mint", "other", HOLDER, 6)


@pytest.mark.parametrize("actor", [HOLDER, ROASTER_TILL], ids=["consumer", "transactor"])
def test_only_an_issuer_creates(chain: Chain, actor: bytes) -> None:
    chain.refuse(NO_ROLE.code, actor, "points.create", "other", "Other", None, "points", 0)


UNKNOWN_CALLS = [
    (ROASTER, "mint", (HOLDER, 1)),
    (HOLDER, "transfer", (FRIEND, 0)),
    (HOLDER, "approve", (FRIEND, 1)),
    (HOLDER, "transfer_from", (FRIEND, THIRD, 0)),
    (HOLDER, "spend", (0, "")),
    (HOLDER, "spend_from", (FRIEND, 0, "")),
    (HOLDER, "burn", (0,)),
    (HOLDER, "burn_from", (FRIEND, 0)),
    (ROASTER, "freeze", (HOLDER,)),
    (ROASTER, "unfreeze", (HOLDER,)),
    (ROASTER, "pause", ()),
    (ROASTER, "unpause", ()),
    (ROASTER, "set_cap", (None,)),
]


@pytest.mark.parametrize(("actor", "method", "arguments"), UNKNOWN_CALLS, ids=[call[1] for call in UNKNOWN_CALLS])
def test_unknown_programme(chain: Chain, actor: bytes, method: str, arguments: tuple[Any, ...]) -> None:
    chain.refuse(UNKNOWN, actor, f"points.{method}", "beams", *arguments)


def test_every_method_is_tried_on_an_unknown_programme() -> None:
    methods = {found.name for found in Points.methods.values() if not found.is_view}
    assert methods - {call[1] for call in UNKNOWN_CALLS} == {"create"}


@pytest.mark.parametrize(
    ("view", "arguments"),
    [("show", ()), ("balance_of", (HOLDER,)), ("allowance_of", (HOLDER, FRIEND)), ("is_frozen", (HOLDER,))],
)
def test_views_of_an_unknown_programme(chain: Chain, view: str, arguments: tuple[Any, ...]) -> None:
    with raises_fault(UNKNOWN):
        chain.view(f"points.{view}", "beams", *arguments)


def test_programmes_are_apart(chain: Chain) -> None:
    chain.call(GROCER, "points.create", "stamps", "Stamps", None, "stamps", 0)
    chain.call(GROCER, "points.mint", "stamps", FRIEND, 3)
    chain.call(HOLDER, "points.approve", P, FRIEND, 50)
    chain.refuse(OVER_ALLOWANCE, FRIEND, "points.transfer_from", "stamps", HOLDER, FRIEND, 1)
    chain.refuse(SHORT, HOLDER, "points.transfer", "stamps", FRIEND, 1)
    chain.call(ROASTER, "points.pause", P)
    chain.call(FRIEND, "points.transfer", "stamps", HOLDER, 3)
    assert chain.view("points.balance_of", P, HOLDER) == 100
    assert chain.view("points.balance_of", "stamps", HOLDER) == 3
    assert chain.broken() == []


@pytest.mark.parametrize(
    ("cell_map", "key", "value", "complaint"),
    [
        ("account", (P, HOLDER), (101, False), "balances add up to 101, outstanding are 100"),
        ("account", (P, THIRD), (1, False), "balances add up to 101, outstanding are 100"),
        ("account", (P, HOLDER), None, "balances add up to 0, outstanding are 100"),
        ("account", ("beams", THIRD), (1, False), "1 points are held of a programme 'beams'"),
        ("account", (P, HOLDER), (-1, False), "must be from 0"),
        ("totals", (P,), (100, 1, 0), "balances add up to 100, outstanding are 99"),
        ("totals", (P,), None, "has a record and no totals"),
        ("programme", (P,), None, "has totals and no record"),
        (
            "programme",
            (P,),
            ("roaster", "Beans", "beans", 0, 99, False, 1),
            "100 points are outstanding, the cap is 99",
        ),
        ("allowance", ("beams", HOLDER, THIRD), 1, "does not exist"),
        ("allowance", (P, HOLDER, THIRD), 2**63, "must be from 0"),
    ],
)
def test_invariants_find(chain: Chain, cell_map: str, key: tuple[Any, ...], value: Any, complaint: str) -> None:
    assert chain.broken() == []
    chain.overwrite("points", cell_map, key, value)
    assert any(complaint in sentence for sentence in chain.broken()), chain.broken()
