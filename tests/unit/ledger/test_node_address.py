from __future__ import annotations

import pytest

from ledger.errors import Invalid
from ledger.node_address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8701", Address("", 8701)),
        ("localhost:1", Address("localhost", 1)),
        ("node-1.example:8701", Address("node-1.example", 8701)),
        ("192.0.2.1:65535", Address("192.0.2.1", 65535)),
        ("[2001:db8::1]:8701", Address("2001:db8::1", 8701)),
        (f"{'.'.join(['a' * 63] * 3)}.{'b' * 61}:65535", Address(f"{'.'.join(['a' * 63] * 3)}.{'b' * 61}", 65535)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:08",
        "host:١",
        "2001:db8::1:80",
        "-h:1",
        "h-:1",
        "a..b:1",
        ".a:1",
        "a.:1",
        "h h:1",
        "[::1]",
        "[host]:1",
        "h:1 ",
        "h:1\n",
        "h" * 64 + ":1",
        "http://host:1",
        "x." * 150 + "x:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_address(text)
    assert caught.value.code == "E-PEER-012"


def test_a_host_may_be_required() -> None:
    assert parse_address("h:1", host_required=True) == Address("h", 1)
    with pytest.raises(Invalid):
        parse_address(":1", host_required=True)
