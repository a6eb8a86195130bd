from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from ledger.errors import Invalid
from ledger.slip10 import COIN_TYPE, INDEX_MAX, account_path, derive, format_path, parse_path

_SEED = bytes(range(64))


def _code(function: Any, *arguments: object) -> str:
    with pytest.raises(Invalid) as caught:
        function(*arguments)
    return caught.value.code


def test_master_and_child_are_the_hashes_of_the_text() -> None:
    master = hmac.new(b"ed25519 seed", _SEED, hashlib.sha512).digest()
    assert derive(_SEED, ()) == (master[:32], master[32:])
    child = hmac.new(master[32:], b"\0" + master[:32] + bytes.fromhex("80001e3d"), hashlib.sha512).digest()
    assert derive(_SEED, (7741,)) == (child[:32], child[32:])


def test_derivation_goes_step_by_step() -> None:
    keys = {derive(_SEED, path) for path in ((), (0,), (0, 0), (0, 1), (1, 0), (1,), (0, 0, 0))}
    assert len(keys) == 7


def test_account_path() -> None:
    assert account_path(0) == (44, 7741, 0) == (44, COIN_TYPE, 0)
    assert format_path(account_path(5)) == "m/44'/7741'/5'"
    assert account_path(INDEX_MAX)[2] == 2**31 - 1
    for account in (-1, 2**31, True, 1.0, "1", None):
        assert _code(account_path, account) == "E-SLIP10-001"


@pytest.mark.parametrize("size", [0, 15, 65, 128])
def test_seed_sizes(size: int) -> None:
    assert _code(derive, bytes(size), ()) == "E-SLIP10-002"


@pytest.mark.parametrize("size", [16, 32, 64])
def test_seed_sizes_taken(size: int) -> None:
    assert len(derive(bytes(size), (0,))[0]) == 32


def test_seed_is_bytes() -> None:
    assert _code(derive, "0" * 32, ()) == "E-SLIP10-002"
    assert _code(derive, bytearray(32), ()) == "E-SLIP10-002"


@pytest.mark.parametrize("index", [-1, 2**31, 2**31 + 1, 2**32, True, 1.5])
def test_an_index_is_hardened_by_derive_alone(index: Any) -> None:
    """An index that carries the hardened bit already is refused, not hardened twice into another key."""
    assert _code(derive, _SEED, (index,)) == "E-SLIP10-001"


def test_depth_is_bounded() -> None:
    derive(_SEED, (0,) * 255)
    assert _code(derive, _SEED, (0,) * 256) == "E-SLIP10-001"


@pytest.mark.parametrize(
    ("text", "path"),
    [("m", ()), ("m/0'", (0,)), ("m/44'/7741'/0'", (44, 7741, 0)), ("m/2147483647'/10'", (2147483647, 10))],
)
def test_paths(text: str, path: tuple[int, ...]) -> None:
    assert parse_path(text) == path
    assert format_path(path) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "/",
        "m/",
        "m//0'",
        "m/0'/",
        "44'/0'",
        " m/0'",
        "m/0' ",
        "m/0",
        "m/44'/7741'/0",
        "m/0h",
        "m/0H",
        "m/0''",
        "m/'",
        "m/-1'",
        "m/+1'",
        "m/1_0'",
        "m/00'",
        "m/01'",
        "m/2147483648'",
        "m/4294967296'",
        "m/99999999999999999999'",
        "m/٣'",
        "m/²'",
        "m/0x1'",
        "m/1.0'",
        "m/0’",
        "m" + "/0'" * 100_000,
    ],
)
def test_bad_paths(text: str) -> None:
    assert _code(parse_path, text) == "E-SLIP10-001"


def test_a_bad_path_is_named_briefly() -> None:
    with pytest.raises(Invalid, match=r"0 in \"m/44'/0\" is not hardened"):
        parse_path("m/44'/0")
    with pytest.raises(Invalid) as caught:
        parse_path("m/" + "9" * 100_000)
    assert len(str(caught.value)) < 300


def test_the_longest_path_is_read() -> None:
    path = (INDEX_MAX,) * 255
    assert parse_path(format_path(path)) == path
