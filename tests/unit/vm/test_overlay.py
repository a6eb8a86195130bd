"""State during a block: read once, undo exactly, encode once."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import codec
from ledger.errors import Fault
from vm.overlay import ABSENT, CELL_CORRUPT, Overlay, cell_key, map_prefix

ONE, TWO, THREE = [(map_prefix("toy", "counter", 1), key) for key in ("one", "two", "three")]


def stored(values: dict[Any, Any]) -> tuple[Overlay, list[bytes]]:
    """An overlay over some cells, and a list that grows by each key that it reads."""
    cells = {cell_key(cell): codec.encode(value) for cell, value in values.items()}
    reads: list[bytes] = []

    def read(key: bytes) -> bytes | None:
        reads.append(key)
        return cells.get(key)

    return Overlay(read), reads


def test_reads_each_cell_once() -> None:
    overlay, reads = stored({ONE: 1})
    assert [overlay.get(ONE, None) for _ in range(3)] == [1, 1, 1]
    assert [overlay.get(TWO, None) for _ in range(3)] == [ABSENT, ABSENT, ABSENT]
    assert reads == [cell_key(ONE), cell_key(TWO)]


def test_restores_what_it_reads_and_nothing_else() -> None:
    overlay, _ = stored({ONE: 1})
    assert overlay.get(ONE, lambda value: ("rich", value)) == ("rich", 1)
    overlay.put(TWO, 2)
    assert overlay.get(TWO, lambda value: ("rich", value)) == 2
    assert overlay.get(THREE, lambda value: ("rich", value)) is ABSENT


def test_null_is_a_value_and_absence_is_not() -> None:
    overlay, _ = stored({ONE: None})
    assert overlay.get(ONE, None) is None
    overlay.put(TWO, None)
    assert overlay.changes() == [(cell_key(TWO), codec.encode(None))]


def test_reading_changes_nothing() -> None:
    overlay, _ = stored({ONE: 1})
    overlay.get(ONE, None)
    overlay.get(TWO, None)
    assert overlay.changes() == []


def test_changes_are_the_last_values_in_order_of_first_writing() -> None:
    overlay, _ = stored({ONE: 1})
    overlay.put(TWO, 2)
    overlay.put(ONE, ABSENT)
    overlay.put(TWO, 22)
    assert overlay.changes() == [(cell_key(TWO), codec.encode(22)), (cell_key(ONE), None)]


def test_undo_goes_back_to_the_mark() -> None:
    overlay, reads = stored({ONE: 1})
    overlay.put(ONE, 10)
    mark = overlay.mark()
    overlay.put(ONE, 100)
    overlay.put(TWO, 2)
    overlay.put(ONE, ABSENT)
    overlay.put(ONE, 1000)
    overlay.undo(mark)
    assert overlay.get(ONE, None) == 10
    assert overlay.get(TWO, None) is ABSENT
    assert overlay.changes() == [(cell_key(ONE), codec.encode(10))]
    overlay.undo(0)
    assert overlay.get(ONE, None) == 1
    assert overlay.changes() == []
    assert reads == [cell_key(TWO), cell_key(ONE)]


def test_undo_of_nothing() -> None:
    overlay, _ = stored({})
    overlay.put(ONE, 1)
    overlay.undo(overlay.mark())
    assert overlay.get(ONE, None) == 1


@pytest.mark.parametrize(
    ("contract", "name", "key"),
    [
        ("toy", "counter", b"x" * 20),
        ("toy", "counter", ""),
        ("toy", "entry", ("a", b"b", 3)),
        ("t" * 32, "m" * 32, 2**63),
    ],
)
def test_a_cell_key_is_one_canonical_array(contract: str, name: str, key: Any) -> None:
    parts = key if isinstance(key, tuple) else (key,)
    expected = codec.encode((contract, name, *parts))
    assert cell_key((map_prefix(contract, name, len(parts)), key)) == expected
    assert codec.decode(expected) == (contract, name, *parts)


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x92\x01", codec.encode((1, 2, 3))])
def test_damaged_bytes_stop_the_node(damage: bytes) -> None:
    def pair(value: tuple[int, int]) -> tuple[int, int]:
        first, second = value
        return first, second

    overlay = Overlay(lambda key: damage)
    with pytest.raises(Fault) as caught:
        overlay.get(ONE, pair)
    assert caught.value.code == CELL_CORRUPT
    assert cell_key(ONE).hex() in caught.value.cause
