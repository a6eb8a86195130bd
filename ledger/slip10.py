"""Key derivation for Ed25519 by SLIP-0010: one seed, any number of keys, each found again from its path.

Rules kept here:
- Ed25519 derives hardened children only, so a path holds plain indices (0 to 2^31-1) and each is hardened;
- a seed is 16 to 64 bytes (SLIP-0010: 128 to 512 bits); BIP-39 makes 64;
- the account with index n of a Troth wallet is at m/44'/7741'/n'. 44' is the purpose of BIP-44. 7741' is
  Troth's own choice of coin type: it is not registered in SLIP-0044, so another wallet finds these accounts
  only where it is told the path.

Source: SLIP-0010 (satoshilabs/slips), sections "Master key generation" and "Child key derivation".
"""

from __future__ import annotations

import hashlib
import hmac

from ledger.errors import Invalid, define

PURPOSE = 44
COIN_TYPE = 7741
INDEX_MAX = 2**31 - 1
DEPTH_MAX = 255
"""Deepest path: the depth is one byte wherever extended keys are serialised (BIP-32)."""

BAD_PATH = define("E-SLIP10-001", "not a derivation path", "write it like m/44'/7741'/0'")
BAD_SEED = define("E-SLIP10-002", "not a wallet seed", "a seed is 16 to 64 bytes; make one from its words")

_HARDENED = 0x80000000
_MASTER = b"ed25519 seed"
_SEED_BYTES_MIN, _SEED_BYTES_MAX = 16, 64


def account_path(account: int) -> tuple[int, int, int]:
    """The path of a wallet's account by its index, from 0. Raises Invalid (E-SLIP10-001) beyond 2^31-1."""
    return PURPOSE, COIN_TYPE, _index(account)


def derive(seed: bytes, path: tuple[int, ...]) -> tuple[bytes, bytes]:
    """The Ed25519 seed (32 bytes) and the chain code (32 bytes) at `path`; the empty path is the master.

    Raises Invalid: E-SLIP10-002 for a seed of another size, E-SLIP10-001 for an index out of range.
    """
    if type(seed) is not bytes or not _SEED_BYTES_MIN <= len(seed) <= _SEED_BYTES_MAX:
        raise Invalid(BAD_SEED, f"a wallet seed must be {_SEED_BYTES_MIN} to {_SEED_BYTES_MAX} bytes")
    if len(path) > DEPTH_MAX:
        raise Invalid(BAD_PATH, f"the path has {len(path)} steps, at most {DEPTH_MAX} are taken")
    node = hmac.digest(_MASTER, seed, hashlib.sha512)
    for index in path:
        step = b"\0" + node[:32] + (_HARDENED | _index(index)).to_bytes(4, "big")
        node = hmac.digest(node[32:], step, hashlib.sha512)
    return node[:32], node[32:]


def parse_path(text: str) -> tuple[int, ...]:
    """The indices of a path like m/44'/7741'/0'. Raises Invalid (E-SLIP10-001), naming the wrong step."""
    first, *steps = text.split("/") if len(text) <= 12 * (DEPTH_MAX + 1) else ("",)
    if first != "m":
        raise Invalid(BAD_PATH, f"{_shown(text)} does not begin with m")
    return tuple(_parse_step(step, text) for step in steps)


def format_path(path: tuple[int, ...]) -> str:
    """The text of a path: the inverse of `parse_path`."""
    return "/".join(["m", *(f"{_index(index)}'" for index in path)])


def _parse_step(step: str, text: str) -> int:
    digits = step.removesuffix("'")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise Invalid(BAD_PATH, f"{_shown(step)} in {_shown(text)} is not a number and a '")
    if digits == step:
        raise Invalid(BAD_PATH, f"{step} in {_shown(text)} is not hardened; Ed25519 has hardened keys only: {step}'")
    if digits != str(int(digits)):
        raise Invalid(BAD_PATH, f"{step} in {_shown(text)} has leading zeros")
    return _index(int(digits))


def _index(index: int) -> int:
    if type(index) is not int or not 0 <= index <= INDEX_MAX:
        raise Invalid(BAD_PATH, f"index {index} is not a number from 0 to {INDEX_MAX}")
    return index


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:61] + "...")
