"""What people read of a receipt's code and detail."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.address import to_text
from ledger.errors import CODES
from node.contracts import registry
from tests.harness import FRIEND, HOLDER, ROASTER, Chain
from vm.contract import FAULT_MESSAGES, FaultCode
from vm.faults import fault_text, show_value


def test_a_declared_fault_is_a_sentence() -> None:
    text = fault_text("E-POINTS-004", (HOLDER, 5, 7))
    assert text.cause == f"the account {to_text(HOLDER)} holds 5 points, 7 are needed"
    assert text.fix == CODES["E-POINTS-004"].fix


@pytest.mark.parametrize(
    ("code", "detail", "cause"),
    [
        ("E-VM-002", (), "out of gas"),
        ("E-VM-006", ("receipt 4711", 12), "reference receipt 4711 was used in block 12"),
        ("E-VM-001", (), "an argument is wrong"),
        ("E-POINTS-004", (5,), "the account ... holds ... points, ... are needed: 5"),
        ("E-CODEC-004", ("a float",), "not a codec value: a float"),
        ("E-NEXT-001", (b"\1\2", None), "E-NEXT-001 0102 none"),
    ],
)
def test_causes(code: str, detail: tuple[Any, ...], cause: str) -> None:
    assert fault_text(code, detail).cause == cause


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (HOLDER, to_text(HOLDER)),
        (bytes(range(32)), bytes(range(32)).hex()),
        (b"", ""),
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        ("a {} b", "a {} b"),
        ((1, (HOLDER, "x")), f"1, {to_text(HOLDER)}, x"),
    ],
)
def test_values(value: Any, shown: str) -> None:
    assert show_value(value) == shown


def test_braces_in_a_detail_do_no_harm() -> None:
    assert fault_text("E-POINTS-001", ("{0.__class__}",)).cause == "there is no programme {0.__class__}"


def test_a_receipt_can_be_told() -> None:
    chain = Chain()
    chain.call(ROASTER, "points.create", "beans", "Beans", 5, "beans", 0)
    receipt = chain.refuse("E-POINTS-008", ROASTER, "points.mint", "beans", FRIEND, 6)
    assert fault_text(receipt.code, receipt.detail).cause == "0 points are outstanding, the cap is 5, 6 more do not fit"


def test_every_fault_has_a_message_and_a_fix() -> None:
    for contract in registry().contracts.values():
        faults = [each for each in vars(contract).values() if isinstance(each, FaultCode)]
        assert faults
        for each in faults:
            assert FAULT_MESSAGES[each.code] == each.message
            assert CODES[each.code].fix
