"""All cells of a state, looked at from outside: for invariants and audits.

Rules kept here:
- every cell belongs to a declared map, its key and its value are of the declared kinds and canonically encoded;
- every invariant of every contract holds.

Cells stay encoded until an invariant asks for them, so a scan costs little more memory than the bytes it was given.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from ledger import codec
from ledger.errors import Invalid
from vm.contract import Map
from vm.kinds import TupleKind
from vm.overlay import Overlay
from vm.registry import Registry

K = TypeVar("K")
V = TypeVar("V")


class CellScan:
    """The cells of (cell key, encoded value) pairs, each key given once. Implements `vm.contract.Cells`."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.pairs = sorted(pairs)

    def of(self, declared: Map[K, V]) -> Iterator[tuple[K, V]]:
        """Every (key, value) of one map, in ascending order of the encoded keys, as a method would read them."""
        key_kind, value_kind, prefix, pairs = declared.key, declared.value, declared.prefix, self.pairs
        several = isinstance(key_kind, TupleKind)
        for index in range(bisect_left(pairs, (prefix,)), len(pairs)):
            key, value = pairs[index]
            if not key.startswith(prefix):
                return
            parts = codec.decode_trusted(key)[2:]
            restored: Any = key_kind.restore(parts if several else parts[0])
            yield restored, value_kind.restore(codec.decode_trusted(value))


def check_invariants(registry: Registry, pairs: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """A sentence for each way in which a state is wrong, in a fixed order; none for a sound state.

    Where cells are not of their declared kinds, those sentences come alone: an invariant may only be asked about
    values that it can read.
    """
    scan = CellScan(pairs)
    broken = list(_malformed(registry, scan.pairs))
    if broken:
        return broken
    nothing = Overlay(lambda key: None)
    for name, contract in registry.contracts.items():
        instance = contract(nothing)
        for label, holds in contract.invariants.items():
            broken += [f"{name}.{label}: {sentence}" for sentence in holds(instance, scan)]
    return broken


def _malformed(registry: Registry, pairs: list[tuple[bytes, bytes]]) -> Iterator[str]:
    declared = {
        (name, map_name): each
        for name, contract in registry.contracts.items()
        for map_name, each in contract.maps.items()
    }
    before = None
    for key, value in pairs:
        if key == before:
            yield f"the cell {key.hex()} is given twice"
        before = key
        try:
            path, content = codec.decode(key), codec.decode(value)
        except Invalid as error:
            yield f"the cell {key.hex()}: {error.cause}"
            continue
        found = declared.get(path[:2]) if type(path) is tuple else None
        if found is None:
            yield f"the cell {key.hex()} belongs to no map of any contract"
            continue
        several = isinstance(found.key, TupleKind)
        if several or len(path) == 3:
            fault = found.key.check(path[2:] if several else path[2])
        else:
            fault = f"has {len(path) - 2} parts"
        if fault:
            yield f"{path[0]}.{found.name}: the key of cell {key.hex()} {fault}"
        fault = found.value.check(content)
        if fault:
            yield f"{path[0]}.{found.name}: the value of cell {key.hex()} {fault}"
