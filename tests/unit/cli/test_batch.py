"""How a batch is divided into transactions, and their references. Sending is tested on a real node."""

from __future__ import annotations

from collections import Counter

import pytest

from cli.batch import CALLS, Plan, make_plan, operation_name
from cli.batch_file import Operation, parse_batch
from ledger.address import to_text
from ledger.errors import Invalid
from ledger.genesis import Parameters
from ledger.transaction import MAX_TRANSACTION_BYTES, decode
from node.contracts import registry
from node.keystore import dev_key
from tests.harness import HOLDER, ROASTER, Chain
from vm import gas


def plan_of(
    rows: int, *, method: str = "mint", programme: str = "beans", amount: int = 5, parameters: Parameters | None = None
) -> Plan:
    operation = Operation("points", registry().method("points", method), {"programme": programme}, {}, ())
    lines = "".join([f"{to_text(HOLDER)},{amount}\n" for _ in range(rows)])
    batch = parse_batch(f"to,amount\n{lines}".encode(), operation, "pay.csv")
    return make_plan(batch, parameters or Parameters())


def test_every_row_is_in_one_transaction() -> None:
    plan = plan_of(1_234)
    assert plan.calls == 500
    assert plan.spans == ((0, 500), (500, 1000), (1000, 1234))
    assert [len(plan.calls_of(number)) for number in range(3)] == [500, 500, 234]


def test_the_first_call_carries_the_reference_and_no_other_does() -> None:
    plan = plan_of(3)
    first, *others = plan.calls_of(0)
    assert first.arguments == (*plan.batch.calls[0].arguments, plan.references[0])
    assert others == list(plan.batch.calls[1:])
    for call in (first, *others):
        registry().validate_call(call)


def test_references_differ_by_all_that_a_batch_is() -> None:
    plans = [
        plan_of(1_000),
        plan_of(1_001),
        plan_of(1_000, amount=6),
        plan_of(1_000, programme="other"),
        plan_of(1_000, method="transfer"),
    ]
    references = [reference for plan in plans for reference in plan.references]
    assert max(Counter(references).values()) == 1
    assert plan_of(1_000).references == plans[0].references


@pytest.mark.parametrize("method", ["mint", "transfer"])
@pytest.mark.parametrize("parameters", [Parameters(), Parameters(organisation_gas=10_000, consumer_gas=5_000)])
def test_each_transaction_fits_the_quota_and_the_limits(method: str, parameters: Parameters) -> None:
    plan = plan_of(600, method=method, parameters=parameters)
    quota = parameters.organisation_gas if method == "mint" else parameters.consumer_gas
    assert plan.calls in CALLS
    chain = Chain()
    for number in range(len(plan.spans)):
        signed = chain.transaction([ROASTER], plan.calls_of(number)).transaction.sign([])
        assert gas.intrinsic(len(signed.raw)) + 60 * len(plan.calls_of(number)) <= quota
        assert len(signed.raw) <= MAX_TRANSACTION_BYTES


def test_a_consumers_quota_is_kept_whoever_transfers() -> None:
    assert plan_of(600, method="transfer").calls < plan_of(600, method="mint").calls


def test_a_chain_without_room_for_a_row_is_named() -> None:
    with pytest.raises(Invalid, match="E-BATCH-008"):
        plan_of(1, parameters=Parameters(organisation_gas=1_000))


def test_the_operation_names_its_fixed_arguments() -> None:
    assert operation_name(plan_of(1).batch) == "points.mint programme=beans"


def test_a_planned_transaction_executes_once() -> None:
    chain = Chain()
    chain.call(ROASTER, "points.create", "beans", "Beans", None, "points", 0)
    plan = plan_of(100)
    assert chain.execute(chain.transaction([ROASTER], plan.calls_of(0), 200_000)).ok
    again = chain.execute(chain.transaction([ROASTER], plan.calls_of(0), 200_000))
    assert (again.code, again.failed_call) == ("E-VM-006", 0)
    assert chain.view("points.balance_of", "beans", HOLDER) == 500


def test_a_signed_transaction_of_a_plan_decodes() -> None:
    chain = Chain()
    key = dev_key("alice")
    from ledger.address import address_of

    signed = chain.transaction([address_of(key.public)], plan_of(500).calls_of(0)).transaction.sign([key])
    assert decode(signed.raw) == signed
