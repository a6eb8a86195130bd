from __future__ import annotations

import hashlib
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from ledger import slip10
from ledger.errors import Invalid
from node import wallet

_PROJECT = Path(__file__).resolve().parents[3]

# Published by BIP-39 for the entropy 7f7f...
_WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
_FRENCH = "abaisser abaisser abaisser abaisser abaisser abaisser abaisser abaisser abaisser abaisser abaisser abeille"


def _refused(text: str, language: str | None = None) -> Invalid:
    with pytest.raises(Invalid) as caught:
        wallet.normalise(text, language=language)
    with pytest.raises(Invalid) as again:
        wallet.private_key(text, language=language)
    assert str(again.value) == str(caught.value)
    return caught.value


@pytest.mark.parametrize("language", wallet.LANGUAGES)
@pytest.mark.parametrize("count", [12, 24])
def test_new_words_are_good_words(count: int, language: str) -> None:
    words = wallet.new_words(count, language=language)
    assert len(words.split()) == count
    assert language in wallet.languages_of(words)
    assert wallet.private_key(words).public == wallet.private_key(words, language=language).public


def test_new_wallets_have_24_words_and_differ() -> None:
    made = {wallet.new_words() for _ in range(8)}
    assert len(made) == 8
    assert {len(words.split()) for words in made} == {24}


@pytest.mark.parametrize("count", [0, 1, 11, 13, 15, 18, 21, 25, 48])
def test_new_wallets_have_no_other_size(count: int) -> None:
    with pytest.raises(Invalid) as caught:
        wallet.new_words(count)
    assert caught.value.code == "E-WALLET-001"


def test_seed_and_key_follow_the_definitions() -> None:
    seed = hashlib.pbkdf2_hmac("sha512", _WORDS.encode(), b"mnemonic", 2048)
    assert wallet.seed(_WORDS) == seed
    for account in (0, 1, 7):
        key, _ = slip10.derive(seed, (44, 7741, account))
        assert wallet.private_key(_WORDS, account).seed() == key


def test_accounts_and_extensions_are_different_keys() -> None:
    keys = {wallet.private_key(_WORDS, account).public for account in range(4)}
    keys |= {wallet.private_key(_WORDS, extension=extension).public for extension in ("a", "A", " ")}
    assert len(keys) == 7
    assert wallet.private_key(_WORDS, extension="").public in keys


def test_extension_is_taken_in_nfkd() -> None:
    composed, decomposed = "pässword", unicodedata.normalize("NFD", "pässword")
    assert composed != decomposed
    assert wallet.seed(_WORDS, extension=composed) == wallet.seed(_WORDS, extension=decomposed)
    with pytest.raises(Invalid) as caught:
        wallet.seed(_WORDS, extension="\udcff")
    assert caught.value.code == "E-WALLET-005"


@pytest.mark.parametrize("account", [-1, 2**31, True])
def test_account_out_of_range(account: int) -> None:
    with pytest.raises(Invalid) as caught:
        wallet.private_key(_WORDS, account)
    assert caught.value.code == "E-SLIP10-001"


@pytest.mark.parametrize(
    "typed",
    [
        _WORDS.upper(),
        f"  {_WORDS}\n",
        _WORDS.replace(" ", "\n"),
        _WORDS.replace(" ", "\u3000"),
        _WORDS.replace(" ", "\t  "),
        _WORDS.title(),
    ],
)
def test_how_words_were_typed_does_not_matter(typed: str) -> None:
    assert wallet.normalise(typed) == _WORDS
    assert wallet.seed(typed) == wallet.seed(_WORDS)


def test_accents_composed_or_not() -> None:
    words = "académie " * 11
    last = next(w for w in wallet._indices("french") if wallet._checksum_fits(_found(words + w)))
    text = words + last
    assert wallet.languages_of(unicodedata.normalize("NFC", text)) == ("french",)
    assert wallet.seed(unicodedata.normalize("NFC", text)) == wallet.seed(unicodedata.normalize("NFD", text))


def _found(text: str) -> list[int | None]:
    return wallet._lookup(wallet._split(text), "french")


@pytest.mark.parametrize("position", [1, 5, 12])
def test_names_the_first_wrong_word_and_its_position(position: int) -> None:
    words = _WORDS.split()
    words[position - 1] = "yelow"
    words[11] = "xxxx" if position != 12 else "yelow"
    error = _refused(" ".join(words))
    assert error.code == "E-WALLET-002"
    assert f"word {position} of 12, 'yelow', is not in the english list" in error.cause
    assert "did you mean 'yellow'?" in error.fix


def test_abbreviations_are_not_guessed() -> None:
    error = _refused(_WORDS.replace("legal", "lega"))
    assert (error.code, "word 1 of 12, 'lega'" in error.cause) == ("E-WALLET-002", True)


def test_a_wrong_word_without_likeness() -> None:
    error = _refused(_WORDS.replace("wave", "0123"))
    assert "word 5 of 12, '0123'" in error.cause
    assert error.fix == "compare it with what was written down"


def test_the_nearest_language_is_named() -> None:
    error = _refused(_FRENCH.replace("abeille", "abeillle"))
    assert "word 12 of 12, 'abeillle', is not in the french list" in error.cause
    assert "'abeille'" in error.fix


def test_a_given_language_is_the_only_one() -> None:
    assert wallet.normalise(_WORDS, language="english") == _WORDS
    error = _refused(_WORDS, "french")
    assert "word 1 of 12, 'legal', is not in the french list" in error.cause
    for language in ("klingon", "../english", ""):
        assert _refused(_WORDS, language).code == "E-WALLET-004"
        with pytest.raises(Invalid) as caught:
            wallet.new_words(language=language)
        assert caught.value.code == "E-WALLET-004"


@pytest.mark.parametrize("language", [None, "english"])
def test_checksum(language: str | None) -> None:
    words = _WORDS.split()
    exchanged = [words[1], words[0], *words[2:]]
    assert _refused(" ".join(exchanged), language).code == "E-WALLET-003"
    assert _refused(" ".join([*words[:-1], "zoo"]), language).code == "E-WALLET-003"
    assert _refused("abandon " * 12, language).code == "E-WALLET-003"


@pytest.mark.parametrize("count", [0, 1, 11, 13, 14, 23, 25, 48])
def test_number_of_words(count: int) -> None:
    error = _refused("abandon " * count)
    assert error.code == "E-WALLET-001"
    assert f"{count} words" in error.cause


def test_a_flood_of_words_is_refused_unread() -> None:
    error = _refused("abandon " * 100_000)
    assert error.code == "E-WALLET-001"
    assert len(str(error)) < 200


def test_the_words_are_imported_late() -> None:
    """`troth --help` must not pay for lists of words."""
    program = "import sys, node.wallet, node.keystore; print({'mnemonic', 'argon2', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=_PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
