from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from ledger.genesis import Parameters
from node.network.gate import ADDRESSES_MAX, Gate, group
from node.network.settings import settings_for

SETTINGS = settings_for(Parameters())


class _Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def gate(clock: _Clock) -> Gate:
    def never() -> ssl.SSLContext:
        raise AssertionError("no connection comes in these tests")

    return Gate(socket.socket(), asyncio.Protocol, never, SETTINGS, clock)


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_an_address_counts_as(address: str, counts_as: str) -> None:
    assert group(address) == counts_as


def test_one_address_may_come_at_its_rate_and_leaves_others_theirs() -> None:
    clock = _Clock()
    guarded = gate(clock)
    burst = int(2 * SETTINGS.arrivals_per_second)
    assert [guarded.admit("192.0.2.1") for _ in range(burst + 3)] == [True] * burst + [False] * 3
    assert guarded.turned_away == 3
    assert guarded.admit("192.0.2.2")
    clock.seconds = 1.0
    again = int(SETTINGS.arrivals_per_second)
    assert [guarded.admit("192.0.2.1") for _ in range(again + 1)] == [True] * again + [False]


def test_the_record_of_addresses_is_bounded_and_forgets_the_rested() -> None:
    clock = _Clock()
    guarded = gate(clock)
    for number in range(3 * ADDRESSES_MAX):
        guarded.admit(f"address-{number}")
    assert guarded.addresses <= ADDRESSES_MAX + 1
    clock.seconds = 60.0
    assert guarded.admit("somebody new")
    assert guarded.addresses == 1
