from __future__ import annotations

from hashlib import sha256

import pytest

from ledger.address import ADDRESS_BYTES, NULL_ADDRESS, address_of, from_text, to_text
from ledger.errors import Invalid

_ADDRESS = bytes(range(20))
_TEXT = "troth1qqqsyqcyq5rqwzqfpg9scrgwpugpzysny0k9jl"


def _bech32m(prefix: str, words: list[int], constant: int = 0x2BC830A3) -> str:
    """A second bech32m, after the text of BIP-173 and BIP-350, to make texts that `to_text` never would."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    checksum = 1
    for value in expanded + words + [0] * 6:
        top, checksum = checksum >> 25, (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    checksum ^= constant
    return prefix + "1" + "".join(alphabet[w] for w in words + [checksum >> 5 * (5 - i) & 31 for i in range(6)])


def _words(data: bytes) -> list[int]:
    bits = "".join(f"{byte:08b}" for byte in data)
    return [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]


def _refused(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        from_text(text)
    assert caught.value.code == "E-ADDRESS-001"
    return caught.value.cause


def test_second_implementation_agrees_with_bip_350() -> None:
    assert _bech32m("abcdef", list(range(31, -1, -1))) == "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx"
    assert _bech32m("a", []) == "a1lqfn3a"


def test_text_of_known_bytes() -> None:
    assert to_text(_ADDRESS) == _TEXT == _bech32m("troth", _words(_ADDRESS))
    assert from_text(_TEXT) == _ADDRESS


def test_upper_case_is_read_and_mixed_is_not() -> None:
    assert from_text(_TEXT.upper()) == _ADDRESS
    assert "mixes" in _refused(_TEXT[:-1] + _TEXT[-1].upper())
    assert "mixes" in _refused("Troth1" + _TEXT[6:])
    assert "mixes" in _refused("TROTH1" + _TEXT[6:])


def test_address_of_a_key_is_its_tagged_hash() -> None:
    assert address_of(bytes(32)) == sha256(b"troth/address\0" + bytes(32)).digest()[:20]
    assert len(address_of(bytes(32))) == ADDRESS_BYTES


def test_null_address() -> None:
    assert from_text(to_text(NULL_ADDRESS)) == bytes(20)


@pytest.mark.parametrize("address", [b"", bytes(19), bytes(21), bytes(32), bytearray(20), "0" * 20, None])
def test_only_20_bytes_have_a_text(address: object) -> None:
    with pytest.raises(Invalid) as caught:
        to_text(address)  # type: ignore[arg-type]
    assert caught.value.code == "E-ADDRESS-001"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin"),
        ("troth1", "has 6 characters"),
        ("troth", "does not begin"),
        (_TEXT[:-1], "has 43 characters"),
        (_TEXT + "q", "has 45 characters"),
        (" " + _TEXT, "does not begin"),
        (_TEXT + "\n", "has 45 characters"),
        (_TEXT[:-1] + "b", "contains 'b'"),
        (_TEXT[:-1] + "1", "contains '1'"),
        (_TEXT[:10] + "q" + _TEXT[11:], "checksum"),
        ("troth2" + _TEXT[6:], "does not begin"),
        ("broth1" + _TEXT[6:], "does not begin"),
        (_bech32m("froth", _words(_ADDRESS)), "does not begin"),
        (_bech32m("troth", _words(bytes(19))), "has 43 characters"),
        (_bech32m("troth", _words(bytes(21))), "has 46 characters"),
        (_bech32m("troth", _words(bytes(32))), "characters"),
        (_bech32m("troth", _words(_ADDRESS), constant=1), "checksum"),  # bech32, without the m
        ("x" * 10_000, "does not begin"),
    ],
)
def test_says_what_is_wrong(text: str, said: str) -> None:
    cause = _refused(text)
    assert said in cause
    assert len(cause) < 200


def test_the_kelvin_sign_is_no_k() -> None:
    """Its lower case is an ASCII k, so an address in upper case would be read with it: two texts, one address."""
    text = next(t for n in range(256) if "K" in (t := to_text(bytes([n]) * 20).upper())[6:])
    from_text(text)
    assert "no address" in _refused(text[:6] + text[6:].replace("K", "\u212a"))
