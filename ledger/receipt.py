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
from ledger.errors import Invalid, define

MALFORMED = define("E-RECEIPT-001", "malformed receipt", "do not trust this copy; fetch it from another node")


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
    """The receipt of its canonical encoding. Raises Invalid (E-RECEIPT-001, E-CODEC-...)."""
    fields = codec.decode(data)
    if type(fields) is not tuple or len(fields) != 7:
        raise Invalid(MALFORMED, "a receipt has 7 fields")
    identifier, code, detail, failed_call, gas_used, events, results = fields
    if type(identifier) is not bytes or len(identifier) != 32 or type(code) is not str:
        raise Invalid(MALFORMED, "a receipt names a transaction by 32 bytes, and its code is text")
    if type(detail) is not tuple or type(results) is not tuple or type(events) is not tuple:
        raise Invalid(MALFORMED, "detail, events and results are arrays")
    if type(gas_used) is not int or gas_used < 0 or (failed_call is not None and type(failed_call) is not int):
        raise Invalid(MALFORMED, "gas and the failed call are numbers")
    return Receipt(identifier, code, detail, failed_call, gas_used, tuple([_event(event) for event in events]), results)


def _event(fields: Any) -> Event:
    if type(fields) is not tuple or len(fields) != 3:
        raise Invalid(MALFORMED, "an event is [contract, name, fields]")
    if type(fields[0]) is not str or type(fields[1]) is not str or type(fields[2]) is not tuple:
        raise Invalid(MALFORMED, "an event names its contract and itself by text, and its fields are an array")
    return Event(*fields)
