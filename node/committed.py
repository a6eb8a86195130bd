"""A block that has become final: what everyone who waits for blocks is told."""

from __future__ import annotations

from typing import NamedTuple

from ledger.receipt import Receipt
from node.chain import Candidate, Head


class Steps(NamedTuple):
    """Where the time of a block went, in seconds: without what else was done meanwhile, but for `write`.

    execute: admitting and executing transactions, decoding those that were not known yet. tree: encoding receipts and
    cells, the state tree, roots. write: from asking for the append until it was durable. consensus: the engine.
    """

    execute: float
    tree: float
    write: float
    consensus: float = 0.0


class Committed(NamedTuple):
    """A block that has become final, with what it did."""

    head: Head
    candidate: Candidate
    receipts: tuple[Receipt, ...]
    steps: Steps
