"""State during a block: decoded cells over the parent's state, with an undo log.

A cell is addressed by (map prefix, key). Its value is read and decoded at most once per block, lives decoded and
immutable while the block runs, and is encoded and hashed once, at the end. Every write is logged with what it
replaced, so undoing a call or a transaction costs what it wrote.

Absence is a value of its own (`ABSENT`), never None: a cell may hold null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ledger import codec
from ledger.errors import Fault, Invalid, define

CELL_CORRUPT = define(
    "E-VM-009", "a state cell cannot be read", "stop the node and restore its home from a backup, or sync it anew"
)


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
_UNREAD: Final = object()

Cell = tuple[bytes, Any]
Read = Callable[[bytes], bytes | None]
"""Reads a cell of the parent state: cell key -> encoded value, or None where there is none."""


class Overlay:
    """The cells that a block has read or written, over `read`, the state after its parent."""

    __slots__ = ("_log", "_read", "_values")

    def __init__(self, read: Read) -> None:
        self._read = read
        self._values: dict[Cell, Any] = {}
        self._log: list[tuple[Cell, Any]] = []

    def get(self, cell: Cell, restore: Callable[[Any], Any] | None) -> Any:
        """The cell's value or ABSENT. `restore` makes the rich value of a decoded one.

        Raises Fault (E-VM-009) where the stored bytes are damaged.
        """
        value = self._values.get(cell, _UNREAD)
        if value is _UNREAD:
            data = self._read(cell_key(cell))
            if data is None:
                value = ABSENT
            else:
                try:
                    value = codec.decode_trusted(data)
                    if restore is not None:
                        value = restore(value)
                except (Invalid, TypeError, ValueError) as error:  # this node's own damage, never a receipt
                    raise Fault(CELL_CORRUPT, f"the cell {cell_key(cell).hex()} is damaged") from error
            self._values[cell] = value
        return value

    def put(self, cell: Cell, value: Any) -> None:
        """Sets the cell; ABSENT removes it."""
        values = self._values
        self._log.append((cell, values.get(cell, _UNREAD)))
        values[cell] = value

    def mark(self) -> int:
        """A point to which `undo` can return."""
        return len(self._log)

    def undo(self, mark: int) -> None:
        """Takes back every write since `mark`."""
        values, log = self._values, self._log
        while len(log) > mark:
            cell, value = log.pop()
            if value is _UNREAD:
                del values[cell]
            else:
                values[cell] = value

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """(cell key, encoded value or None for removed) of each cell written and not undone, in first-written order.

        The order is that of execution, which is the same on every node; the state tree does not depend on it.
        """
        values, encode = self._values, codec.encode
        written = dict.fromkeys([cell for cell, _ in self._log])
        result = []
        for cell in written:
            value = values[cell]
            result.append((cell_key(cell), None if value is ABSENT else encode(value)))
        return result


def cell_key(cell: Cell) -> bytes:
    """The bytes of a cell's key: the canonical encoding of [contract, map, key part, ...].

    The prefix already encodes the array's head, contract and map; a tuple key adds its parts, any other key itself.
    """
    prefix, key = cell
    encoded = codec.encode_trusted(key)  # its parts are checked arguments, or cells that were
    return prefix + encoded[1:] if type(key) is tuple else prefix + encoded


def map_prefix(contract: str, name: str, parts: int) -> bytes:
    """The head of the keys of one map: an array of `2 + parts`, the contract's name and the map's name."""
    return codec.encode((contract, name, *[None] * parts))[: -parts or None]
