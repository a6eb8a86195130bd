"""Ed25519 against three sets of external vectors, through the project's own wrapper.

- Wycheproof (C2SP): 151 signatures, valid and forged in every way its authors know;
- ed25519-speccheck (Chalkias, Garillot, Nikolaenko): 15 signatures on which libraries disagree. Its README counts the
  cases from 0; libsodium accepts number 6 (S reduced, cofactorless, over a key of mixed order) and no other;
- vc-di-eddsa (W3C): a key pair, and the signature it made of a hashed credential under `eddsa-jcs-2022`. Ed25519 is
  deterministic, so the same key must give the same 64 bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from ledger.errors import Invalid
from ledger.keys import PrivateKey, check_public_key, verify
from tests.vectors.files import vector_json, vector_path

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DATA_INTEGRITY = ("vc-di-eddsa", "TestVectors")


def test_wycheproof() -> None:
    document = vector_json("wycheproof", "testvectors_v1", "ed25519_test.json")
    answers = {"valid": 0, "invalid": 0}
    for group in document["testGroups"]:
        public_key = bytes.fromhex(group["publicKey"]["pk"])
        check_public_key(public_key)
        for case in group["tests"]:
            held = verify(public_key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert held == (case["result"] == "valid"), case
            answers[case["result"]] += 1
    assert answers == {"valid": 88, "invalid": 63}
    assert sum(answers.values()) == document["numberOfTests"] == 151


def _speccheck() -> list[tuple[bytes, bytes, bytes]]:
    cases: list[dict[str, str]] = vector_json("ed25519-speccheck", "cases.json")
    names = ("pub_key", "message", "signature")
    return [
        (bytes.fromhex(case[names[0]]), bytes.fromhex(case[names[1]]), bytes.fromhex(case[names[2]])) for case in cases
    ]


def test_speccheck_accepts_case_6_only() -> None:
    cases = _speccheck()
    assert len(cases) == 15
    assert [number for number, case in enumerate(cases) if verify(*case)] == [6]


def test_speccheck_keys_that_could_be_registered() -> None:
    """The odd key of case 6 is refused at registration, so no account can ever sign in the disputed way."""
    registrable = []
    for number, (public_key, _, _) in enumerate(_speccheck()):
        try:
            check_public_key(public_key)
        except Invalid as error:
            assert error.code == "E-KEY-001"
        else:
            registrable.append(number)
    assert registrable == [9, 10]  # an ordinary key under two signatures whose S is not reduced


def test_data_integrity_signature() -> None:
    pair = vector_json(*_DATA_INTEGRITY, "keyPair.json")
    multicodec_public, multicodec_private = bytes.fromhex("ed01"), bytes.fromhex("8026")
    public_key = _multibase(pair["publicKeyMultibase"]).removeprefix(multicodec_public)
    key = PrivateKey(_multibase(pair["privateKeyMultibase"]).removeprefix(multicodec_private))
    assert key.public == public_key
    check_public_key(public_key)

    proof, document = _signed_text("proofCanonJCS.txt"), _signed_text("canonDocJCS.txt")
    message = sha256(proof).digest() + sha256(document).digest()
    assert message.hex() == _signed_text("combinedHashJCS.txt").decode()
    signature = bytes.fromhex(_signed_text("sigHexJCS.txt").decode())
    assert signature == _multibase(_signed_text("sigBTC58JCS.txt").decode())
    assert verify(public_key, message, signature)
    assert key.sign(message) == signature
    assert not verify(public_key, sha256(document).digest() + sha256(proof).digest(), signature)


def test_data_integrity_published_proof() -> None:
    """The proof value inside the published credential is that signature."""
    published: dict[str, Any] = vector_json(*_DATA_INTEGRITY, "eddsa-jcs-2022", "signedJCS.json")
    assert published["proof"]["proofValue"] == _signed_text("sigBTC58JCS.txt").decode()


def _signed_text(name: str) -> bytes:
    return vector_path(*_DATA_INTEGRITY, "eddsa-jcs-2022", name).read_bytes().strip()


def _multibase(text: str) -> bytes:
    if not text.startswith("z"):
        pytest.fail(f"{text} is not base58 (multibase z)")
    number = 0
    for character in text[1:]:
        number = number * 58 + _BASE58.index(character)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
