"""A block that has become final: what everyone who waits for blocks is told."""

from __future__ import annotations

from typing import NamedTuple

from ledger.receipt import Receipt
from node.chain import Candidate, Head


class Steps(NamedTuple):
    """Where the time of a block went, in seconds."""

    execute: float
    tree: float
    write: float


class Committed(NamedTuple):
    """A block that has become final, with what it did."""

    head: Head
    candidate: Candidate
    receipts: tuple[Receipt, ...]
    steps: Steps
