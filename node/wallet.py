"""Wallets: the words of BIP-39, and the keys that SLIP-0010 derives from them.

Rules kept here:
- new words carry 256 bits (24 words) or 128 bits (12 words) of the operating system's randomness;
- words from anywhere are taken in all five sizes of BIP-39 (12, 15, 18, 21, 24) and in the ten languages of
  its published test vectors; every word must stand in the list, whole, and the checksum must fit;
- words are compared in NFKD and lower case, whatever white space separates them;
- the seed is PBKDF2 of the words as BIP-39 writes them, so it does not depend on how they were typed, nor
  on the language where two lists share all the words;
- account n is the key at `ledger.slip10.account_path(n)`.

Source: BIP-39 ("Mnemonic code for generating deterministic keys"); word lists and PBKDF2 by the package
`mnemonic`. It is imported when first used: most commands need no words.
"""

from __future__ import annotations

import secrets
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ledger import slip10
from ledger.errors import Invalid, define
from ledger.keys import PrivateKey

if TYPE_CHECKING:
    from mnemonic import Mnemonic

LANGUAGES: Final = (
    "english",
    "chinese_simplified",
    "chinese_traditional",
    "czech",
    "french",
    "italian",
    "japanese",
    "korean",
    "portuguese",
    "spanish",
)
WORD_COUNTS: Final = (12, 15, 18, 21, 24)
NEW_WORD_COUNTS: Final = (12, 24)

BAD_COUNT = define("E-WALLET-001", "wrong number of words", "give all 24 words (or 12), in their order")
BAD_WORD = define("E-WALLET-002", "a word that is not in the list", "compare it with what was written down")
BAD_CHECKSUM = define(
    "E-WALLET-003",
    "the words do not belong together",
    "look for a wrong or exchanged word, and for the order",
)
BAD_LANGUAGE = define("E-WALLET-004", "unknown language of words", f"use one of {', '.join(LANGUAGES)}")
BAD_EXTENSION = define("E-WALLET-005", "not an extension of words", "use characters that a keyboard types")

_TEXT_MAX = 1024
"""Longest text taken for words, in characters: 24 words of the longest list have under 250."""


def new_words(count: int = 24, *, language: str = "english") -> str:
    """Fresh words, as BIP-39 writes them. Raises Invalid: E-WALLET-001 unless 12 or 24, E-WALLET-004."""
    if count not in NEW_WORD_COUNTS:
        raise Invalid(BAD_COUNT, f"{count} words asked for, new wallets have 24 or 12", fix="ask for 24 or 12")
    words: str = _lists(language).to_mnemonic(secrets.token_bytes(count // 3 * 4))
    return words


def languages_of(text: str) -> tuple[str, ...]:
    """The languages in which these words are valid: at least one, and two where lists share all the words.

    Raises Invalid as `normalise` does.
    """
    words = _split(text)
    indices = {language: _lookup(words, language) for language in LANGUAGES}
    whole = {language: found for language, found in indices.items() if None not in found}
    if not whole:
        closest = max(LANGUAGES, key=lambda language: len(words) - indices[language].count(None))
        raise _unknown_word(words, indices[closest], closest)
    fitting = tuple(language for language, found in whole.items() if _checksum_fits(found))
    if not fitting:
        raise _wrong_checksum(words, next(iter(whole)))
    return fitting


def normalise(text: str, *, language: str | None = None) -> str:
    """The words in NFKD, lower case and single spaces: what the seed is made of.

    Without a language, any whose list and checksum fit will do. Raises Invalid: E-WALLET-001 for their
    number, E-WALLET-002 with the first word that no list holds and its position, E-WALLET-003 for the
    checksum, E-WALLET-004 for the language.
    """
    words = _split(text)
    if language is None:
        languages_of(text)
    else:
        found = _lookup(words, language)
        if None in found:
            raise _unknown_word(words, found, language)
        if not _checksum_fits(found):
            raise _wrong_checksum(words, language)
    return " ".join(words)


def seed(text: str, *, extension: str = "", language: str | None = None) -> bytes:
    """The 64 bytes of BIP-39 for these words.

    `extension` is BIP-39's own passphrase, the "25th word": another one is another wallet, without any
    warning. It is not the passphrase of a key file. Raises Invalid as `normalise` does, and E-WALLET-005.
    """
    sentence = normalise(text, language=language)
    if any("\ud800" <= character <= "\udfff" for character in extension):
        raise Invalid(BAD_EXTENSION, "the extension is not valid Unicode")
    made: bytes = _lists("english").to_seed(sentence, extension)
    return made


def private_key(text: str, account: int = 0, *, extension: str = "", language: str | None = None) -> PrivateKey:
    """The key of one account of the wallet behind these words. Raises Invalid as `seed`, and E-SLIP10-001."""
    path = slip10.account_path(account)
    key, _ = slip10.derive(seed(text, extension=extension, language=language), path)
    return PrivateKey(key)


@cache
def _lists(language: str) -> Mnemonic:
    if language not in LANGUAGES:
        raise Invalid(BAD_LANGUAGE, f"no list of words in {language!r}")
    from mnemonic import Mnemonic

    return Mnemonic(language)


@cache
def _indices(language: str) -> dict[str, int]:
    from mnemonic import Mnemonic

    lists = _lists(language)
    return {Mnemonic.normalize_string(word): index for index, word in enumerate(lists.wordlist)}


def _split(text: str) -> list[str]:
    from mnemonic import Mnemonic

    if len(text) > _TEXT_MAX:
        raise Invalid(BAD_COUNT, f"a text of {len(text)} characters is not a wallet's words")
    words: list[str] = Mnemonic.normalize_string(text).lower().split()
    if len(words) not in WORD_COUNTS:
        raise Invalid(BAD_COUNT, f"{len(words)} words, BIP-39 has 12, 15, 18, 21 or 24")
    return words


def _lookup(words: list[str], language: str) -> list[int | None]:
    indices = _indices(language)
    return [indices.get(word) for word in words]


def _checksum_fits(indices: list[int | None]) -> bool:
    bits = 0
    for index in indices:
        bits = bits << 11 | (index or 0)
    checksum_bits = len(indices) // 3
    entropy = (bits >> checksum_bits).to_bytes(checksum_bits * 4, "big")
    return sha256(entropy).digest()[0] >> (8 - checksum_bits) == bits & ((1 << checksum_bits) - 1)


def _unknown_word(words: list[str], found: list[int | None], language: str) -> Invalid:
    place = found.index(None)
    word = words[place]
    near = get_close_matches(word, _indices(language), n=1)
    fix = f"did you mean {near[0]!r}? Compare it with what was written down" if near else None
    return Invalid(BAD_WORD, f"word {place + 1} of {len(words)}, {word!r}, is not in the {language} list", fix=fix)


def _wrong_checksum(words: list[str], language: str) -> Invalid:
    return Invalid(BAD_CHECKSUM, f"all {len(words)} words are in the {language} list, but their checksum is wrong")
