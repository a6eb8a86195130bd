"""The contracts of a chain by name, and calls that name none, the wrong one, or give the wrong arguments."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.organisations import Organisations
from ledger.address import to_text
from ledger.errors import Invalid
from ledger.transaction import Call
from node.contracts import registry as production_registry
from tests.unit.vm.toy import Toy
from vm.kinds import BAD_ARGUMENT
from vm.registry import UNKNOWN_CONTRACT, UNKNOWN_METHOD, Registry

A = b"a" * 20
REGISTRY = Registry([Toy, Organisations], "organisations")


def test_contracts_are_in_order_of_name() -> None:
    assert list(REGISTRY.contracts) == ["organisations", "toy"]
    assert list(production_registry().contracts) == ["certificate", "consent", "organisations", "points"]
    assert production_registry() is production_registry()


def test_two_contracts_of_one_name() -> None:
    with pytest.raises(ValueError, match="one name"):
        Registry([Toy, Toy], "toy")


@pytest.mark.parametrize(
    ("call", "code", "cause"),
    [
        (Call(0, "toi", "add", ()), UNKNOWN_CONTRACT, "there is no contract 'toi'; did you mean 'toy'?"),
        (Call(0, "zzz", "add", ()), UNKNOWN_CONTRACT, "there is no contract 'zzz'"),
        (Call(0, "toy", "ad", (A, 1)), UNKNOWN_METHOD, "toy has no method 'ad'; did you mean 'add'?"),
        (Call(0, "toy", "total", (A,)), UNKNOWN_METHOD, "toy has no method 'total'"),
        (Call(0, "toy", "__init__", (A,)), UNKNOWN_METHOD, "toy has no method '__init__'"),
        (Call(0, "toy", "small", ()), UNKNOWN_METHOD, "toy has no method 'small'"),
        (Call(0, "toy", "add", (A,)), BAD_ARGUMENT, "takes 2 arguments and an optional reference, 1 were given"),
        (Call(0, "toy", "add", (A, 1, "x", "y")), BAD_ARGUMENT, "4 were given"),
        (Call(0, "toy", "add", (A, 1, "")), BAD_ARGUMENT, "toy.add: the reference must have 1 to 64 characters"),
        (Call(0, "toy", "add", (A, 1, 5)), BAD_ARGUMENT, "toy.add: the reference must be text"),
        (Call(0, "toy", "add", (A, 1, None)), BAD_ARGUMENT, "toy.add: the reference must be text"),
        (Call(0, "toy", "add", (A, 10)), BAD_ARGUMENT, "toy.add: amount must be from 0 to 9"),
        (Call(0, "toy", "add", ("a", 1)), BAD_ARGUMENT, "toy.add: account must be an address"),
        (Call(0, "toy", "reset", (A,)), BAD_ARGUMENT, "takes 2 arguments"),
    ],
)
def test_wrong_calls(call: Call, code: str, cause: str) -> None:
    with pytest.raises(Invalid) as caught:
        REGISTRY.validate_call(call)
    assert caught.value.code == code
    assert cause in caught.value.cause


def test_right_calls() -> None:
    assert REGISTRY.validate_call(Call(0, "toy", "add", (A, 1))) == (Toy.methods["add"], None)
    assert REGISTRY.validate_call(Call(0, "toy", "add", (A, 1, "r-1"))) == (Toy.methods["add"], "r-1")


@pytest.mark.parametrize(
    ("method", "given", "arguments"),
    [
        ("add", {"account": to_text(A), "amount": 3}, (A, 3)),
        ("add", {"amount": "3", "account": to_text(A).upper()}, (A, 3)),
        ("add", {"account": to_text(A), "amount": 3, "reference": "r-1"}, (A, 3, "r-1")),
        ("add", {"account": to_text(A), "amount": 3, "reference": None}, (A, 3)),
        ("reset", {"account": to_text(A)}, (A, True)),
        ("reset", {"account": to_text(A), "really": False}, (A, False)),
    ],
)
def test_arguments_from_json(method: str, given: dict[str, Any], arguments: tuple[Any, ...]) -> None:
    found = REGISTRY.method("toy", method)
    assert REGISTRY.arguments_from_json(found, "toy", given) == arguments
    assert REGISTRY.validate_call(Call(0, "toy", method, arguments))[0] is found


@pytest.mark.parametrize(
    ("method", "given", "cause"),
    [
        ("add", {"account": to_text(A)}, "toy.add needs the argument 'amount'"),
        ("add", {"account": to_text(A), "amont": 1}, "toy.add has no argument 'amont'; did you mean 'amount'?"),
        ("add", {"account": "nobody", "amount": 1}, "toy.add: account 'nobody' does not begin with troth1"),
        ("add", {"account": to_text(A), "amount": 10}, "toy.add: amount must be from 0 to 9"),
        ("add", {"account": to_text(A), "amount": 1.5}, "toy.add: amount must be a whole number"),
        ("add", {"account": to_text(A), "amount": 1, "reference": ""}, "toy.add: the reference must have 1"),
        ("total", {"account": to_text(A), "reference": "r"}, "toy.total has no argument 'reference'"),
    ],
)
def test_wrong_json(method: str, given: dict[str, Any], cause: str) -> None:
    found = REGISTRY.method("toy", method, is_view=method == "total")
    with pytest.raises(Invalid) as caught:
        REGISTRY.arguments_from_json(found, "toy", given)
    assert caught.value.code == BAD_ARGUMENT
    assert cause in caught.value.cause


def test_views_are_found_as_views_only() -> None:
    assert REGISTRY.method("toy", "total", is_view=True).is_view
    with pytest.raises(Invalid) as caught:
        REGISTRY.method("toy", "add", is_view=True)
    assert caught.value.code == UNKNOWN_METHOD
