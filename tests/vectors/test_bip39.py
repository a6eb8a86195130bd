"""BIP-39's published vectors: 240 in ten languages, each of entropy, words, and the seed under "TREZOR"."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata

import pytest

from ledger import slip10
from node import wallet
from tests.vectors.files import vector_json

# Their lists share 1,275 words. Where the checksum fits in both, the seed is the same, as it is made of the words.
_CHINESE = {"chinese_simplified", "chinese_traditional"}


@pytest.mark.parametrize("language", wallet.LANGUAGES)
def test_seeds(language: str) -> None:
    vectors = vector_json("bip39", "vectors.json")[language]
    assert len(vectors) == 24
    for _, words, seed, xprv in vectors:
        found = wallet.seed(words, extension="TREZOR")
        assert found.hex() == seed
        assert found == wallet.seed(words, extension="TREZOR", language=language)
        assert _extended_key(found) == xprv


@pytest.mark.parametrize("language", wallet.LANGUAGES)
def test_language_is_detected(language: str) -> None:
    for _, words, _, _ in vector_json("bip39", "vectors.json")[language]:
        languages = wallet.languages_of(words)
        assert language in languages
        assert languages == (language,) or set(languages) == _CHINESE
        assert wallet.normalise(words) == unicodedata.normalize("NFKD", words)


@pytest.mark.parametrize("language", wallet.LANGUAGES)
def test_entropy_gives_the_words(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """New words of known randomness are the published ones (the sizes that new wallets have: 12 and 24)."""
    checked = 0
    for entropy, words, _, _ in vector_json("bip39", "vectors.json")[language]:
        randomness = bytes.fromhex(entropy)
        if len(randomness) in (16, 32):
            monkeypatch.setattr("secrets.token_bytes", {len(randomness): randomness}.__getitem__)
            assert wallet.new_words(len(randomness) * 3 // 4, language=language) == words
            checked += 1
    assert checked == 16


def test_every_language_of_the_vectors_is_known() -> None:
    vectors = vector_json("bip39", "vectors.json")
    assert set(vectors) == set(wallet.LANGUAGES)
    assert sum(map(len, vectors.values())) == 240


def test_account_keys_of_a_published_seed() -> None:
    """The last step, from a published seed to an account's key: SLIP-0010 at m/44'/7741'/n'."""
    _, words, seed, _ = vector_json("bip39", "vectors.json")["english"][0]
    for account in (0, 1, 2**31 - 1):
        key, _ = slip10.derive(bytes.fromhex(seed), (44, 7741, account))
        assert wallet.private_key(words, account, extension="TREZOR").seed() == key


def _extended_key(seed: bytes) -> str:
    """The BIP-32 master key in base58check: the fourth column, which ends the published computation."""
    node = hmac.digest(b"Bitcoin seed", seed, "sha512")
    payload = bytes.fromhex("0488ade4") + bytes(9) + node[32:] + b"\0" + node[:32]
    payload += hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    number, text = int.from_bytes(payload, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    return text
