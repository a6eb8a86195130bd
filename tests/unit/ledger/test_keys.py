from __future__ import annotations

from itertools import pairwise

import pytest

from ledger.errors import Invalid
from ledger.keys import PrivateKey, check_public_key, verify, verify_many

# RFC 8032, 7.1, tests 1 to 3: seed, public key, message, signature.
_RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]

_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_P = 2**255 - 19
_KEY = PrivateKey(bytes(range(32)))


def _point(y: int, sign: int = 0) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


# The points of order 1, 2, 4 and 8, by y-coordinate ("Taming the many EdDSAs", table 1).
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = [_point(y, sign) for y in (0, 1, _P - 1, _ORDER_8, _P - _ORDER_8) for sign in (0, 1)]
_NOT_CANONICAL = [_point(y, sign) for y in (_P, _P + 1, 2**255 - 1, _P + 3) for sign in (0, 1)]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), _RFC_8032)
def test_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = PrivateKey(bytes.fromhex(seed))
    assert key.public.hex() == public
    assert key.seed().hex() == seed
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


def test_every_bit_of_key_message_and_signature_counts() -> None:
    parts = [_KEY.public, b"pay", _KEY.sign(b"pay")]
    assert verify(parts[0], parts[1], parts[2])
    for number, part in enumerate(parts):
        for bit in range(len(part) * 8):
            changed = bytearray(part)
            changed[bit // 8] ^= 1 << bit % 8
            forged = [*parts[:number], bytes(changed), *parts[number + 1 :]]
            assert not verify(forged[0], forged[1], forged[2])


def test_s_is_not_malleable() -> None:
    """S + L satisfies the same equation; RFC 8032 wants S < L, else anybody could make a second signature."""
    signature = _KEY.sign(b"pay")
    s = int.from_bytes(signature[32:], "little")
    multiples = 0
    while (s := s + _GROUP_ORDER) < 2**256:
        multiples += 1
        assert not verify(_KEY.public, b"pay", signature[:32] + s.to_bytes(32, "little"))
    assert multiples >= 15


def test_a_signature_glued_to_its_message_is_none() -> None:
    """PyNaCl would take signature + message as one: here lengths are exact, and the message is an argument."""
    message = b"pay"
    signature = _KEY.sign(message)
    assert not verify(_KEY.public, b"", signature + message)
    assert not verify(_KEY.public, message, signature + message)
    assert not verify(_KEY.public, signature + message, b"")
    assert not verify(_KEY.public, b"other", signature + message)
    assert not verify(_KEY.public, message[1:], signature + message[:1])


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 65, 128])
def test_wrong_lengths_are_false_not_errors(length: int) -> None:
    signature = _KEY.sign(b"pay")
    assert not verify(_KEY.public, b"pay", (signature * 2)[:length])
    assert not verify((_KEY.public * 4)[:length], b"pay", signature)


@pytest.mark.parametrize("public_key", _SMALL_ORDER + _NOT_CANONICAL, ids=bytes.hex)
def test_small_and_non_canonical_keys_sign_nothing(public_key: bytes) -> None:
    """With a key of small order, (R = -kA or identity, S = 0) would verify for many messages."""
    for r in _SMALL_ORDER:
        for message in (b"", b"pay", bytes(32)):
            assert not verify(public_key, message, r + bytes(32))
    with pytest.raises(Invalid) as caught:
        check_public_key(public_key)
    assert caught.value.code == "E-KEY-001"


@pytest.mark.parametrize(
    "public_key",
    [
        b"",
        bytes(31),
        bytes(33),
        _point(2),  # no x on the curve has this y
        bytes.fromhex("cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"),  # of mixed order
    ],
    ids=bytes.hex,
)
def test_other_keys_that_cannot_be_registered(public_key: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        check_public_key(public_key)
    assert caught.value.code == "E-KEY-001"


def test_honest_keys_can_be_registered() -> None:
    for number in range(32):
        check_public_key(PrivateKey(bytes([number]) * 32).public)


def test_a_key_of_another_type_is_refused() -> None:
    with pytest.raises(Invalid):
        check_public_key(bytearray(_KEY.public))  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        check_public_key(_KEY.public.hex())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), bytes(64), "0" * 32, bytearray(32), None])
def test_a_seed_is_32_bytes(seed: object) -> None:
    with pytest.raises(Invalid) as caught:
        PrivateKey(seed)  # type: ignore[arg-type]
    assert caught.value.code == "E-KEY-002"


def test_the_secret_is_never_shown() -> None:
    secret = _KEY.seed()
    for shown in (repr(_KEY), str(_KEY), f"{_KEY}", repr([_KEY])):
        assert _KEY.public.hex() in shown
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_keys_of_neighbouring_seeds_differ() -> None:
    publics = [PrivateKey(bytes([number]) * 32).public for number in range(8)]
    assert all(one != other for one, other in pairwise(publics))


def test_verify_many_answers_in_order() -> None:
    good = (_KEY.public, b"pay", _KEY.sign(b"pay"))
    bad = (_KEY.public, b"say", good[2])
    short = (_KEY.public[:5], b"pay", good[2])
    assert verify_many([good, bad, short, good]) == [True, False, False, True]
    assert verify_many([]) == []
