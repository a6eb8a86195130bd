"""Cells from outside: typed, in order, complete; and what an audit is told about a state that is wrong."""

from __future__ import annotations

import pytest

from consortium.organisations import Organisations
from ledger import codec
from tests.harness import HOLDER, Chain
from tests.unit.vm.toy import Entry, Toy
from vm.cells import CellScan, check_invariants
from vm.registry import Registry

REGISTRY = Registry([Toy, Organisations], "organisations")
COUNTER = codec.encode(("toy", "counter", HOLDER))


@pytest.fixture
def chain() -> Chain:
    chain = Chain(REGISTRY)
    for account in (b"b" * 20, HOLDER, b"a" * 20):
        chain.call(account, "toy.add", account, 3)
        chain.call(account, "toy.note", "x")
    chain.call(HOLDER, "toy.note", "longer", "reference 1")
    return chain


def test_one_map_in_order_with_its_rich_values(chain: Chain) -> None:
    scan = CellScan(iter(chain.cells.items()))
    assert list(scan.of(Toy.maps["counter"])) == [(b"a" * 20, 3), (b"b" * 20, 3), (HOLDER, 3)]
    entries = list(scan.of(Toy.maps["entry"]))
    assert [key for key, _ in entries] == [(b"a" * 20, "x"), (b"b" * 20, "x"), (HOLDER, "x"), (HOLDER, "longer")]
    assert all(type(value) is Entry and value.last == key[0] for key, value in entries)
    assert list(scan.of(Toy.maps["references"])) == [((HOLDER, "reference 1"), chain.height)]
    assert list(scan.of(Toy.maps["sum"])) == []


def test_a_sound_state(chain: Chain) -> None:
    assert check_invariants(REGISTRY, chain.cells.items()) == []


def test_a_broken_invariant_is_named(chain: Chain) -> None:
    chain.cells[COUNTER] = codec.encode(10)
    assert chain.broken() == [f"toy.small: {HOLDER.hex()} counts 10"]


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        (COUNTER, codec.encode(-1), "toy.counter: the value of cell"),
        (COUNTER, codec.encode((1,)), "must be a whole number"),
        (COUNTER, b"\xc1", "cannot decode"),
        (COUNTER, b"\xcc\x03", "not in its shortest form"),
        (codec.encode(("toy", "counter", b"short")), codec.encode(1), "the key of cell"),
        (codec.encode(("toy", "counter", HOLDER, 1)), codec.encode(1), "has 2 parts"),
        (codec.encode(("toy", "counter")), codec.encode(1), "has 0 parts"),
        (codec.encode(("toy", "entry", HOLDER)), codec.encode((1, None)), "must be an array of 2 entries"),
        (codec.encode(("toy", "gone", HOLDER)), codec.encode(1), "belongs to no map of any contract"),
        (codec.encode(("gone", "counter", HOLDER)), codec.encode(1), "belongs to no map of any contract"),
        (codec.encode("toy"), codec.encode(1), "belongs to no map of any contract"),
        (codec.encode(()), codec.encode(1), "belongs to no map of any contract"),
        (codec.encode(((1,), 2, 3)), codec.encode(1), "belongs to no map of any contract"),
        (b"", codec.encode(1), "cannot decode"),
    ],
)
def test_cells_that_no_contract_wrote(chain: Chain, key: bytes, value: bytes, complaint: str) -> None:
    chain.cells[key] = value
    broken = chain.broken()
    assert len(broken) == 1
    assert complaint in broken[0]
    assert key.hex() in broken[0]


def test_a_cell_given_twice() -> None:
    pair = (COUNTER, codec.encode(1))
    assert check_invariants(REGISTRY, [pair, pair]) == [f"the cell {COUNTER.hex()} is given twice"]
