"""Receipts: what a transaction did, as every node computes it.

    receipt  [transaction id, code, detail, failed call, gas used, events, results]
    event    [contract, name, fields]

`code` is empty where the transaction took effect, else the stable code of the fault that undid it; `detail` holds
the values that the code's message names, `failed call` the index of the call that failed. Results are the calls'
return values. A receipt never holds the text of a Python exception, which may differ between versions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger import codec


class Event(NamedTuple):
    """One event: the contract that emitted it, its name and its fields in order of declaration."""

    contract: str
    name: str
    fields: tuple[Any, ...]


class Receipt(NamedTuple):
    """The outcome of one transaction."""

    transaction_id: bytes
    code: str
    detail: tuple[Any, ...]
    failed_call: int | None
    gas_used: int
    events: tuple[Event, ...]
    results: tuple[Any, ...]

    @property
    def ok(self) -> bool:
        """True where the transaction took effect."""
        return not self.code


def decode_receipt(data: bytes) -> Receipt:
    """The receipt of its canonical encoding."""
    fields = codec.decode(data)
    identifier, code, detail, failed_call, gas_used, events, results = fields
    return Receipt(
        identifier, code, detail, failed_call, gas_used, tuple([Event(*event) for event in events]), results
    )
