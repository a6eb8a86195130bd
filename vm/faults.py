"""What a receipt's code and detail say, in words.

A receipt holds a code and the values that belong to it, never a sentence: a sentence may be improved, a receipt is
hashed. The sentence is made here, from the message that was declared with the code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ledger.address import ADDRESS_BYTES, to_text
from ledger.errors import CODES
from vm.contract import FAULT_MESSAGES


class FaultText(NamedTuple):
    """What happened and what to do about it."""

    cause: str
    fix: str


def fault_text(code: str, detail: tuple[Any, ...]) -> FaultText:
    """The cause and the fix of a receipt's code. A code that this version does not know is shown as it is."""
    shown = [show_value(value) for value in detail]
    registered = CODES.get(code)
    if registered is None:
        return FaultText(" ".join([code, *shown]), "use a newer version of Troth, which knows this code")
    message = FAULT_MESSAGES.get(code)
    if message is not None and message.count("{}") == len(shown):
        return FaultText(message.format(*shown), registered.fix)
    return FaultText(": ".join([registered.title, *shown]), registered.fix)


def show_value(value: Any) -> str:
    """A codec value for people: addresses (20 bytes) as bech32m, other bytes as hexadecimal, null as `none`."""
    if type(value) is bytes:
        return to_text(value) if len(value) == ADDRESS_BYTES else value.hex()
    if value is None:
        return "none"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is tuple:
        return ", ".join([show_value(item) for item in value])
    return str(value)
