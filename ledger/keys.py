"""The one Ed25519 of Troth: RFC 8032 signatures by libsodium (PyNaCl), strict and cofactorless.

Ed25519 libraries disagree on edge cases (mixed-order points, non-canonical encodings), and a second
verifier with other rules would fork the chain. So every signature of the project is made and checked here,
and nowhere else.

Rules kept here:
- a public key is 32 bytes, canonical, on the curve and not of small order: `check_public_key`, called
  wherever a key is registered;
- a signature is 64 bytes with S below the group order, checked without the cofactor, as libsodium 1.0.18+
  does;
- the message is always an explicit argument. (PyNaCl's own `verify(signed, None)` accepts a signature glued
  to the message, which makes an attacker's bytes the message.)
"""

from __future__ import annotations

from nacl import bindings
from nacl.exceptions import CryptoError

from ledger.errors import Invalid, define

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

BAD_PUBLIC_KEY = define("E-KEY-001", "not an acceptable Ed25519 public key", "make the key with `troth keys new`")
BAD_SEED = define("E-KEY-002", "not an Ed25519 seed", "a seed is 32 bytes; make one with `troth keys new`")

_open = bindings.crypto_sign_open
_P = 2**255 - 19


class PrivateKey:
    """An Ed25519 private key. `public` is its public key. Its repr shows the public half only."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        if type(seed) is not bytes or len(seed) != SEED_BYTES:
            raise Invalid(BAD_SEED, "a seed must be 32 bytes")
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""
        signed: bytes = bindings.crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]

    def seed(self) -> bytes:
        """The 32 bytes to keep secret."""
        return bytes(self._secret[:SEED_BYTES])

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """True where `signature` is `public_key`'s over `message`. Never raises on bytes, of whatever length."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != PUBLIC_KEY_BYTES:
        return False
    try:
        _open(signature + message, public_key)
    except CryptoError:  # BadSignatureError is one
        return False
    return True


def verify_many(items: list[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """`verify` of each (public key, message, signature), in order."""
    return [verify(public_key, message, signature) for public_key, message, signature in items]


def check_public_key(public_key: bytes) -> None:
    """Raises Invalid (E-KEY-001) unless the key is canonical, on the curve and of the prime-order group.

    Source: RFC 8032, 5.1.3, and the small-order cases of "Taming the many EdDSAs" (Chalkias, Garillot,
    Nikolaenko).
    """
    if type(public_key) is not bytes or len(public_key) != PUBLIC_KEY_BYTES:
        raise Invalid(BAD_PUBLIC_KEY, "a public key must be 32 bytes")
    if int.from_bytes(public_key, "little") & (2**255 - 1) >= _P:
        raise Invalid(BAD_PUBLIC_KEY, f"public key {public_key.hex()} is not canonically encoded")
    if not bindings.crypto_core_ed25519_is_valid_point(public_key):
        raise Invalid(BAD_PUBLIC_KEY, f"public key {public_key.hex()} is off the curve or of small order")
