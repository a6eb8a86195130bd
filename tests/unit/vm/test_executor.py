"""Transactions and blocks: all or nothing, gas before work, who may still use a block, and what stops the node."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.organisations import Organisations
from ledger import codec, merkle
from ledger.errors import Fault, TrothError
from ledger.genesis import Parameters
from ledger.receipt import decode_receipt
from ledger.transaction import Call
from tests.harness import FRIEND, HOLDER, ROASTER, ROASTER_ADMIN, ROASTER_TILL, START_MS, Chain, event
from tests.unit.vm.toy import TOO_BIG, Toy
from vm import gas
from vm.context import BlockInfo, HostExhausted
from vm.executor import BlockExecution, run_view
from vm.kinds import BAD_ARGUMENT
from vm.overlay import CELL_CORRUPT
from vm.registry import Registry

REGISTRY = Registry([Toy, Organisations], "organisations")


@pytest.fixture
def chain() -> Chain:
    return Chain(REGISTRY)


def add(account: bytes, amount: int, actor: int = 0) -> Call:
    return Call(actor, "toy", "add", (account, amount))


# one transaction


def test_all_calls_take_effect(chain: Chain) -> None:
    signed = chain.transaction([HOLDER], [add(HOLDER, 1), add(FRIEND, 2), add(HOLDER, 3)])
    receipt = chain.execute(signed)
    assert receipt.transaction_id == signed.id
    assert (receipt.ok, receipt.code, receipt.detail, receipt.failed_call) == (True, "", (), None)
    assert receipt.results == (1, 2, 4)
    assert receipt.events == tuple(
        [event("toy", "Added", *fields) for fields in ((HOLDER, 1), (FRIEND, 2), (HOLDER, 3))]
    )
    assert receipt.gas_used == gas.intrinsic(len(signed.raw)) + 3 * 30
    assert (chain.view("toy.total", HOLDER), chain.view("toy.total", FRIEND)) == (4, 2)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_call_that_fails_undoes_all(chain: Chain, place: int) -> None:
    chain.call(HOLDER, "toy.add", FRIEND, 9)
    before = dict(chain.cells)
    calls = [add(HOLDER, 1), add(HOLDER, 2)]
    calls.insert(place, add(FRIEND, 1))
    receipt = chain.execute(chain.transaction([HOLDER], calls))
    assert (receipt.code, receipt.detail, receipt.failed_call) == (TOO_BIG, (FRIEND, 10), place)
    assert (receipt.events, receipt.results) == ((), ())
    assert chain.cells == before


def test_a_failed_transaction_leaves_the_others_of_its_block(chain: Chain) -> None:
    execution = chain.execution()
    for calls in ([add(HOLDER, 5)], [add(HOLDER, 1), add(HOLDER, 9)], [add(HOLDER, 2)]):
        signed = chain.transaction([HOLDER], calls, 1_000)
        execution.admit(signed)
        execution.apply(signed)
    assert [receipt.code for receipt in execution.receipts] == ["", TOO_BIG, ""]
    changes = dict(execution.finish().changes)
    assert changes == {codec.encode(("toy", "counter", HOLDER)): codec.encode(7)}


def test_each_call_has_its_own_actor(chain: Chain) -> None:
    calls = [Call(1, "toy", "note", ("x",)), Call(0, "toy", "note", ("x",))]
    assert chain.execute(chain.transaction([HOLDER, FRIEND], calls)).ok
    for actor in (HOLDER, FRIEND):
        assert codec.decode(chain.cells[codec.encode(("toy", "entry", actor, "x"))]) == (1, actor)


def test_a_role_is_that_of_the_acting_account(chain: Chain) -> None:
    receipt = chain.execute(chain.transaction([ROASTER, HOLDER], [Call(1, "toy", "reset", (HOLDER, True))]))
    assert (receipt.code, receipt.detail) == ("E-VM-007", ("issuer", "toy.reset"))
    assert chain.execute(chain.transaction([HOLDER, ROASTER], [Call(1, "toy", "reset", (HOLDER, True))])).ok
    chain.refuse("E-VM-007", ROASTER_TILL, "toy.reset", HOLDER, True)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (Call(0, "toi", "add", ()), "E-VM-004"),
        (Call(0, "toy", "total", (HOLDER,)), "E-VM-005"),
        (Call(0, "toy", "add", (HOLDER, 10)), BAD_ARGUMENT),
        (Call(0, "toy", "add", ()), BAD_ARGUMENT),
    ],
)
def test_a_malformed_call_is_a_receipt_without_a_sentence(chain: Chain, call: Call, code: str) -> None:
    receipt = chain.execute(chain.transaction([HOLDER], [add(HOLDER, 1), call]))
    assert (receipt.code, receipt.detail, receipt.failed_call) == (code, (), 1)
    assert chain.view("toy.total", HOLDER) == 0


def test_a_defect_is_a_receipt_without_the_exceptions_text(chain: Chain) -> None:
    receipt = chain.refuse("E-VM-003", HOLDER, "toy.fail", "defect")
    assert b"text that no receipt may hold" not in codec.encode(receipt)


def test_a_value_that_no_codec_takes_is_a_receipt(chain: Chain) -> None:
    chain.refuse("E-CODEC-004", HOLDER, "toy.fail", "float")


@pytest.mark.parametrize("how", ["memory", "recursion"])
def test_an_exhausted_host_is_never_a_receipt(chain: Chain, how: str) -> None:
    execution = chain.execution()
    with pytest.raises(HostExhausted) as caught:
        execution.apply(chain.transaction([HOLDER], [Call(0, "toy", "fail", (how,))]))
    assert caught.value.code == "E-VM-008"
    assert execution.receipts == []


def test_a_disk_that_fails_is_never_a_receipt(chain: Chain) -> None:
    def read(key: bytes) -> bytes | None:
        if key == codec.encode(("toy", "counter", HOLDER)):
            raise Fault(CELL_CORRUPT, "the sector is gone")
        return chain.cells.get(key)

    execution = BlockExecution(REGISTRY, Parameters(), chain.execution().block, read, lambda _: False)
    with pytest.raises(Fault) as caught:
        execution.apply(chain.transaction([HOLDER], [add(HOLDER, 1)]))
    assert caught.value.cause == "the sector is gone"
    assert execution.receipts == []


def test_a_damaged_cell_is_never_a_receipt(chain: Chain) -> None:
    chain.cells[codec.encode(("toy", "counter", HOLDER))] = b"\xc1"
    with pytest.raises(Fault) as caught:
        chain.execution().apply(chain.transaction([HOLDER], [add(HOLDER, 1)]))
    assert caught.value.code == CELL_CORRUPT


# references


def test_a_reference_is_used_once_per_actor(chain: Chain) -> None:
    chain.call(HOLDER, "toy.add", HOLDER, 1, "r-1")
    receipt = chain.refuse("E-VM-006", HOLDER, "toy.add", HOLDER, 1, "r-1")
    assert receipt.detail == ("r-1", 1)
    chain.refuse("E-VM-006", HOLDER, "toy.note", "x", "r-1")
    chain.call(FRIEND, "toy.add", HOLDER, 1, "r-1")
    chain.call(HOLDER, "toy.add", HOLDER, 1, "r-2")
    assert chain.view("toy.total", HOLDER) == 3


def test_a_reference_is_used_once_within_a_transaction(chain: Chain) -> None:
    calls = [Call(0, "toy", "add", (HOLDER, 1, "r-1"))] * 2
    receipt = chain.execute(chain.transaction([HOLDER], calls))
    assert (receipt.code, receipt.failed_call) == ("E-VM-006", 1)
    assert chain.view("toy.total", HOLDER) == 0


def test_a_failed_operation_frees_its_reference(chain: Chain) -> None:
    calls = [Call(0, "toy", "add", (HOLDER, 9, "r-1")), add(HOLDER, 9)]
    assert chain.execute(chain.transaction([HOLDER], calls)).code == TOO_BIG
    chain.call(HOLDER, "toy.add", HOLDER, 9, "r-1")


# gas


def test_out_of_gas_before_a_call(chain: Chain) -> None:
    calls = [add(HOLDER, 0)] * 8 + [add(HOLDER, 1)]
    exact = gas.intrinsic(len(chain.transaction([HOLDER], calls, 1_000).raw)) + 9 * 30
    receipt = chain.execute(chain.transaction([HOLDER], calls, exact))
    assert (receipt.code, receipt.gas_used) == ("", exact)
    receipt = chain.execute(chain.transaction([HOLDER], calls, exact - 1))
    assert (receipt.code, receipt.gas_used, receipt.failed_call) == ("E-VM-002", exact - 1, 8)
    assert chain.view("toy.total", HOLDER) == 1


def test_out_of_gas_within_a_call(chain: Chain) -> None:
    spin = [Call(0, "toy", "spin", (1_000,))]
    receipt = chain.execute(chain.transaction([HOLDER], spin, 10_000))
    assert (receipt.code, receipt.gas_used) == ("E-VM-002", 10_000)
    assert chain.execute(chain.transaction([ROASTER], spin, 110_000)).ok


# admission


def admission_code(execution: BlockExecution, signed: Any) -> str:
    try:
        execution.admit(signed)
    except TrothError as error:
        return error.code
    return ""


def test_validity(chain: Chain) -> None:
    execution = chain.execution()
    time_ms = execution.block.time_ms
    window = chain.parameters.validity_window_ms
    signed = chain.transaction([HOLDER], [add(HOLDER, 1)])
    for changes, code in [
        ({"chain_id": "other"}, "E-TX-003"),
        ({"valid_until_ms": time_ms}, "E-TX-004"),
        ({"valid_until_ms": time_ms + 1}, ""),
        ({"valid_until_ms": time_ms + window}, ""),
        ({"valid_until_ms": time_ms + window + 1}, "E-TX-005"),
        ({"gas_limit": gas.intrinsic(len(signed.raw)) - 1}, "E-TX-011"),
        ({"gas_limit": 2_000_001}, "E-TX-011"),
    ]:
        transaction = signed.transaction._replace(**changes)  # type: ignore[arg-type]
        assert admission_code(execution, signed._replace(transaction=transaction, id=repr(changes).encode())) == code


def test_duplicates(chain: Chain) -> None:
    signed = chain.transaction([HOLDER], [add(HOLDER, 1)])
    execution = chain.execution()
    assert admission_code(execution, signed) == ""
    assert admission_code(execution, signed) == "E-TX-006"
    later = BlockExecution(REGISTRY, Parameters(), execution.block, chain.cells.get, lambda known: known == signed.id)
    assert admission_code(later, signed) == "E-TX-006"
    assert admission_code(later, chain.transaction([HOLDER], [add(HOLDER, 1)])) == ""


def test_a_consumers_quota(chain: Chain) -> None:
    execution = chain.execution()
    quota = chain.parameters.consumer_gas
    assert admission_code(execution, chain.transaction([HOLDER], [add(HOLDER, 1)], quota - 5_000)) == ""
    assert admission_code(execution, chain.transaction([HOLDER], [add(HOLDER, 1)], 5_001)) == "E-TX-012"
    assert admission_code(execution, chain.transaction([HOLDER], [add(HOLDER, 1)], 5_000)) == ""
    assert admission_code(execution, chain.transaction([FRIEND], [add(HOLDER, 1)], quota)) == ""


def test_the_first_actor_bears_the_quota(chain: Chain) -> None:
    quota = chain.parameters.consumer_gas
    calls = [add(HOLDER, 1)]
    assert admission_code(chain.execution(), chain.transaction([ROASTER, HOLDER], calls, quota + 1)) == ""
    assert admission_code(chain.execution(), chain.transaction([HOLDER, ROASTER], calls, quota + 1)) == "E-TX-012"


def test_an_organisations_accounts_share_its_quota(chain: Chain) -> None:
    execution = chain.execution()
    quota = chain.parameters.organisation_gas
    assert admission_code(execution, chain.transaction([ROASTER], [add(HOLDER, 1)], quota - 1_000)) == ""
    assert admission_code(execution, chain.transaction([ROASTER_TILL], [add(HOLDER, 1)], 1_001)) == "E-TX-012"
    assert admission_code(execution, chain.transaction([ROASTER_TILL], [add(HOLDER, 1)], 1_000)) == ""


def test_a_reserved_lane_for_administrators() -> None:
    parameters = Parameters(block_gas=200_000, reserved_gas=50_000, organisation_gas=500_000)
    chain = Chain(REGISTRY, parameters)
    execution = chain.execution()
    assert admission_code(execution, chain.transaction([ROASTER], [add(HOLDER, 1)], 150_000)) == ""
    assert admission_code(execution, chain.transaction([ROASTER], [add(HOLDER, 1)], 1_000)) == "E-TX-013"
    assert admission_code(execution, chain.transaction([HOLDER], [add(HOLDER, 1)], 1_000)) == "E-TX-013"
    assert admission_code(execution, chain.transaction([ROASTER_ADMIN], [add(HOLDER, 1)], 50_000)) == ""
    assert admission_code(execution, chain.transaction([ROASTER_ADMIN], [add(HOLDER, 1)], 1_000)) == "E-TX-013"


def test_a_block_holds_so_many_transactions_and_bytes() -> None:
    chain = Chain(REGISTRY, Parameters(block_transactions=2))
    execution = chain.execution()
    for code in ("", "", "E-TX-013"):
        signed = chain.transaction([HOLDER], [add(HOLDER, 1)], 1_000)
        assert admission_code(execution, signed) == code
        if not code:
            execution.apply(signed)
    size = len(chain.transaction([HOLDER], [add(HOLDER, 1)]).raw)
    chain = Chain(REGISTRY, Parameters(block_bytes=2 * size))
    execution = chain.execution()
    codes = [admission_code(execution, chain.transaction([HOLDER], [add(HOLDER, 1)], 1_000)) for _ in range(3)]
    assert codes == ["", "", "E-TX-013"]


def test_what_is_refused_uses_nothing(chain: Chain) -> None:
    execution = chain.execution()
    signed = chain.transaction([HOLDER], [add(HOLDER, 1)], chain.parameters.consumer_gas)
    too_much = chain.transaction([HOLDER], [add(HOLDER, 1)], chain.parameters.consumer_gas + 1)
    assert [admission_code(execution, each) for each in (too_much, too_much, signed)] == ["E-TX-012", "E-TX-012", ""]


# blocks


def test_finish_gives_receipts_root_and_gas(chain: Chain) -> None:
    execution = chain.execution()
    for _ in range(3):
        execution.apply(chain.transaction([HOLDER], [add(HOLDER, 4)]))
    result = execution.finish()
    assert [receipt.code for receipt in result.receipts] == ["", "", TOO_BIG]
    assert tuple([decode_receipt(data) for data in result.encoded_receipts]) == result.receipts
    assert result.receipts_root == merkle.root(result.encoded_receipts)
    assert result.gas_used == sum(receipt.gas_used for receipt in result.receipts)


def test_an_empty_block(chain: Chain) -> None:
    result = chain.execution().finish()
    assert result == ((), (), [], 0, merkle.EMPTY_ROOT)


def test_the_same_block_twice_is_the_same(chain: Chain) -> None:
    transactions = [chain.transaction([HOLDER], [add(account, 3)], 1_000) for account in (HOLDER, FRIEND) * 3]
    results = []
    for _ in range(2):
        execution = chain.execution()
        for signed in transactions:
            execution.admit(signed)
            execution.apply(signed)
        results.append(execution.finish())
    assert results[0] == results[1]


# views


def test_views_see_the_block_they_are_given(chain: Chain) -> None:
    block = BlockInfo("test-chain", 5, START_MS + 77)
    assert run_view(REGISTRY, block, chain.cells.get, "toy", "now", ()) == START_MS + 77
    before = dict(chain.cells)
    assert chain.view("toy.total", HOLDER) == 0
    assert chain.cells == before
