"""Gas: what work costs, charged before it is done.

A transaction pays `TRANSACTION` and `BYTE` for each of its bytes, each call pays the gas that its method declares,
and a method that loops charges `ctx.charge` before each turn. There are no fees: gas only bounds work, per
transaction (its limit), per organisation or consumer account and block (the quota), and per block.

One unit is about a tenth of a microsecond of one core of the machine that docs/benchmarks.md describes.
"""

from __future__ import annotations

TRANSACTION = 100
BYTE = 1
VIEW_LIMIT = 10_000_000


def intrinsic(raw_bytes: int) -> int:
    """The gas that a transaction of so many bytes costs before its first call."""
    return TRANSACTION + BYTE * raw_bytes
