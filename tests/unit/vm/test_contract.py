"""The kit: what a class declares, and what it refuses to be declared."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ledger import codec
from tests.unit.vm.toy import Entry, Toy
from vm.context import BlockInfo, Context, ContractFault
from vm.contract import FaultCode, Map, NativeContract, method, view
from vm.kinds import REQUIRED, Address, BooleanKind, Count, RecordKind, ShortText, TupleKind
from vm.overlay import Overlay

A = b"a" * 20


def toy(cells: dict[bytes, bytes] | None = None) -> tuple[Toy, Overlay]:
    overlay = Overlay((cells or {}).get)
    return Toy(overlay), overlay


def test_methods_are_read_from_the_class() -> None:
    assert list(Toy.methods) == ["add", "reset", "note", "spin", "fail", "total", "now"]
    reset = Toy.methods["reset"]
    assert (reset.gas, reset.role, reset.is_view, reset.returns) == (10, "issuer", False, None)
    assert reset.summary == "Removes a counter."
    assert [(p.name, p.default) for p in reset.parameters] == [("account", REQUIRED), ("really", True)]
    assert isinstance(reset.parameters[1].kind, BooleanKind)
    total = Toy.methods["total"]
    assert total.is_view and total.returns is not None and total.gas == 0


def test_events_invariants_and_maps_are_read_from_the_class() -> None:
    assert list(Toy.events) == ["Added"] and isinstance(Toy.events["Added"], RecordKind)
    assert list(Toy.invariants) == ["small"]
    assert list(Toy.maps) == ["counter", "entry", "sum", "references"]
    assert isinstance(Toy.maps["entry"].key, TupleKind)
    assert (Toy.name, Toy.version) == ("toy", 3)


def test_a_missing_key_gives_the_default_or_an_error() -> None:
    contract, _ = toy()
    assert contract.counter[A] == 0
    assert contract.counter.get(A) is None
    assert A not in contract.counter
    with pytest.raises(KeyError):
        contract.sum["x"]


def test_cells_are_set_read_and_removed() -> None:
    contract, overlay = toy()
    contract.counter[A] = 0
    assert A in contract.counter
    assert contract.counter.get(A) == 0
    del contract.counter[A]
    assert A not in contract.counter
    assert overlay.changes() == [(codec.encode(("toy", "counter", A)), None)]


def test_records_come_back_as_their_class() -> None:
    contract, _ = toy({codec.encode(("toy", "entry", A, "x")): codec.encode((4, A))})
    found = contract.entry[A, "x"]
    assert found == Entry(4, A) and type(found) is Entry


def test_two_blocks_do_not_share_state() -> None:
    first, _ = toy()
    second, _ = toy()
    first.counter[A] = 5
    assert second.counter[A] == 0


def test_a_prefix_belongs_to_one_map() -> None:
    prefixes = [declared.prefix for declared in Toy.maps.values()]
    for prefix in prefixes:
        assert [other.startswith(prefix) for other in prefixes].count(True) == 1


def test_a_method_without_a_docstring_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a docstring"):

        class Silent(NativeContract, name="silent", version=1):
            @method(gas=1)
            def act(self, ctx: Context) -> None:
                pass


def test_a_parameter_of_no_declared_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not a declared type"):

        class Loose(NativeContract, name="loose", version=1):
            @view
            def act(self, ctx: Context, number: int) -> None:
                """Takes anything."""


def test_a_map_of_no_declared_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not a declared type"):

        class Loose(NativeContract, name="loose", version=1):
            cells: Map[str, int] = Map()


def test_events_carry_contract_and_name() -> None:
    class Nobody:
        def membership(self, account: bytes) -> None:
            return None

    class Made(NamedTuple):
        who: Address
        label: ShortText
        number: Count

    ctx = Context(BlockInfo("c", 1, 2), Nobody(), b"", (A,), 10)
    ctx.contract = "toy"
    ctx.emit(Made(A, "x", 1))
    assert ctx.events == [("toy", "Made", (A, "x", 1))]
    assert type(ctx.events[0].fields) is tuple
    assert (ctx.height, ctx.time_ms) == (1, 2)
    assert not ctx.has_role("issuer", "roaster")
    ctx.charge(10)
    with pytest.raises(ContractFault) as caught:
        ctx.charge(1)
    assert caught.value.code == "E-VM-002"


def test_a_fault_code_makes_faults() -> None:
    raised = FaultCode("E-TOY-002", "{} of {}")(1, A)
    assert isinstance(raised, ContractFault)
    assert (raised.code, raised.detail) == ("E-TOY-002", (1, A))
