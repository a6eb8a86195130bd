"""Addresses: 20 bytes of the tagged hash of an account's first public key, shown as bech32m (BIP-350).

An account keeps its address when its keys rotate or become m-of-n. The text form has the prefix `troth`,
detects any four wrong characters, and is lower case; all upper case (as in a QR code) is read too, mixed
case is not.
"""

from __future__ import annotations

from ledger.errors import Invalid, define
from ledger.hashes import address_hash

ADDRESS_BYTES = 20
NULL_ADDRESS = bytes(ADDRESS_BYTES)
PREFIX = "troth"

BAD_ADDRESS = define("E-ADDRESS-001", "not a Troth address", "copy the whole address; it begins with troth1")

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
_BECH32M = 0x2BC830A3
_EXPANDED = [ord(c) >> 5 for c in PREFIX] + [0] + [ord(c) & 31 for c in PREFIX]
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_TEXT_LENGTH = len(PREFIX) + 1 + ADDRESS_BYTES * 8 // 5 + 6


def address_of(public_key: bytes) -> bytes:
    """The address of the account whose first public key this is."""
    return address_hash(public_key)[:ADDRESS_BYTES]


def to_text(address: bytes) -> str:
    """The bech32m text of a 20-byte address."""
    if type(address) is not bytes or len(address) != ADDRESS_BYTES:
        raise Invalid(BAD_ADDRESS, f"an address is {ADDRESS_BYTES} bytes")
    bits = int.from_bytes(address, "big")
    words = [bits >> shift & 31 for shift in range(ADDRESS_BYTES * 8 - 5, -1, -5)]
    checksum = _polymod(_EXPANDED + words + [0] * 6) ^ _BECH32M
    words += [checksum >> shift & 31 for shift in range(25, -1, -5)]
    return PREFIX + "1" + "".join(_ALPHABET[word] for word in words)


def from_text(text: str) -> bytes:
    """The 20 bytes of an address's text. Raises Invalid (E-ADDRESS-001) with what is wrong."""
    shown = text if len(text) <= 64 else text[:61] + "..."
    if not text.isascii():  # else the Kelvin sign would pass for a K: its lower case is k
        raise Invalid(BAD_ADDRESS, f"{shown!r} contains a character that no address does")
    lowered = text.lower()
    if text != lowered and text != text.upper():
        raise Invalid(BAD_ADDRESS, f"{shown!r} mixes upper and lower case")
    if not lowered.startswith(PREFIX + "1"):
        raise Invalid(BAD_ADDRESS, f"{shown!r} does not begin with {PREFIX}1")
    if len(lowered) != _TEXT_LENGTH:
        raise Invalid(BAD_ADDRESS, f"{shown!r} has {len(text)} characters, an address has {_TEXT_LENGTH}")
    try:
        words = [_VALUE[character] for character in lowered[len(PREFIX) + 1 :]]
    except KeyError as error:
        raise Invalid(BAD_ADDRESS, f"{shown!r} contains {error.args[0]!r}, which no address does") from None
    if _polymod(_EXPANDED + words) != _BECH32M:
        raise Invalid(BAD_ADDRESS, f"the checksum of {shown!r} does not fit: a character is wrong")
    bits = 0
    for word in words[:-6]:
        bits = bits << 5 | word
    return bits.to_bytes(ADDRESS_BYTES, "big")


def _polymod(words: list[int]) -> int:
    checksum = 1
    for word in words:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum
