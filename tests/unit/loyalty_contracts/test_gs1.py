"""GS1 identifiers: check digits, character set 82, and the order of a product's steps."""

from __future__ import annotations

import pytest

from loyalty_contracts.gs1 import NEXT_STEPS, STEPS, Gtin, Serial, check_digit
from vm.kinds import kind_of

GTIN = kind_of(Gtin)
SERIAL = kind_of(Serial)


@pytest.mark.parametrize("gtin", ["09506000134352", "00614141999996", "00012345600012", "00000000000000"])
def test_gtins_with_their_check_digit(gtin: str) -> None:
    assert GTIN.check(gtin) is None
    assert check_digit(gtin[:13]) == gtin[13]


def test_every_wrong_digit_is_found() -> None:
    gtin = "09506000134352"
    for place in range(14):
        for digit in "0123456789":
            changed = gtin[:place] + digit + gtin[place + 1 :]
            assert (GTIN.check(changed) is None) == (changed == gtin)


def test_the_right_check_digit_is_named() -> None:
    assert GTIN.check("09506000134359") == "must end with the check digit 2, not 9"


@pytest.mark.parametrize(
    "value",
    ["9506000134352", "095060001343520", "0950600013435a", "٠9506000134352", " 9506000134352", "", 9506000134352],
)
def test_what_is_no_gtin(value: object) -> None:
    assert GTIN.check(value) is not None


def test_serials_take_character_set_82() -> None:
    taken = {chr(code) for code in range(128) if SERIAL.check(chr(code)) is None}
    assert len(taken) == 82
    assert taken >= set("!\"%&'()*+,-./09:;<=>?AZ_az")
    assert not taken & set(" #$@[\\]^`{|}~")


@pytest.mark.parametrize("value", ["", "A" * 21, "é", "A B", "A\n", b"A", 7])
def test_what_is_no_serial(value: object) -> None:
    assert SERIAL.check(value) is not None


def test_every_step_can_be_reached_and_leads_to_known_steps() -> None:
    reached, frontier = {""}, [""]
    while frontier:
        for step in NEXT_STEPS[frontier.pop()]:
            if step not in reached:
                reached.add(step)
                frontier.append(step)
    assert reached == set(NEXT_STEPS)
    assert set(STEPS) == set(NEXT_STEPS) - {""}


def test_nothing_follows_destruction_and_nothing_is_commissioned_twice() -> None:
    assert NEXT_STEPS["destroying"] == ()
    assert [step for step, following in NEXT_STEPS.items() if "commissioning" in following] == [""]
