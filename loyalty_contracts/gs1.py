"""The GS1 identifiers that certificates go by: GTIN, serial, batch, and the steps of a product's life.

- a GTIN is written with 14 digits (shorter ones are padded with zeros on the left); its last is the check digit of
  the GS1 General Specifications, 7.9: weights 3, 1, 3, ... from the left over the other 13;
- serial (AI 21) and batch (AI 10) have 1 to 20 characters of GS1's character set 82;
- the steps are business steps of the Core Business Vocabulary 2.0, by their own names.
"""

from __future__ import annotations

from typing import Annotated, Any

from vm.kinds import ChoiceKind, TextKind

GTIN_DIGITS = 14

CHARACTER_SET_82 = r"[!-\"%-?A-Z_a-z]{1,20}"


class GtinKind(TextKind):
    """A GTIN-14 with its check digit."""

    def __init__(self) -> None:
        super().__init__(
            GTIN_DIGITS, shortest=GTIN_DIGITS, pattern="[0-9]{14}", what="a GTIN of 14 digits, padded with zeros"
        )

    def check(self, value: Any) -> str | None:
        fault = super().check(value)
        if fault:
            return fault
        expected = check_digit(value[:-1])
        return None if value[-1] == expected else f"must end with the check digit {expected}, not {value[-1]}"


def check_digit(digits: str) -> str:
    """The check digit that completes the first 13 digits of a GTIN-14."""
    total = sum([int(digit) * (1 if index & 1 else 3) for index, digit in enumerate(digits)])
    return str(-total % 10)


Gtin = Annotated[str, GtinKind()]
Serial = Annotated[str, TextKind(20, shortest=1, pattern=CHARACTER_SET_82, what="a serial number (AI 21)")]
BatchId = Annotated[str, TextKind(20, shortest=1, pattern=CHARACTER_SET_82, what="a batch or lot (AI 10)")]

_HELD = ("decommissioning", "destroying", "inspecting", "repairing", "shipping", "storing")
_FOR_SALE = (*_HELD, "packing", "retail_selling", "stocking", "unpacking")

NEXT_STEPS: dict[str, tuple[str, ...]] = {
    "": ("commissioning",),
    "commissioning": _FOR_SALE,
    "packing": _FOR_SALE,
    "unpacking": _FOR_SALE,
    "storing": _FOR_SALE,
    "stocking": _FOR_SALE,
    "inspecting": _FOR_SALE,
    "repairing": _FOR_SALE,
    "shipping": ("destroying", "receiving", "void_shipping"),
    "void_shipping": _FOR_SALE,
    "receiving": _FOR_SALE,
    "retail_selling": ("decommissioning", "destroying", "inspecting", "receiving", "repairing", "shipping"),
    "decommissioning": ("destroying",),
    "destroying": (),
}
"""Which steps may follow which; "" is the beginning. What was shipped arrives, is lost, or was never shipped; what
was sold comes back only by shipping or receiving it; nothing follows destruction."""

STEPS = tuple(sorted(step for step in NEXT_STEPS if step))

Step = Annotated[str, ChoiceKind(*STEPS, what="a business step of the Core Business Vocabulary")]
