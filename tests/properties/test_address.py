"""Laws of address texts: they come back, and wrong characters are found (BIP-350 promises any four)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.address import ADDRESS_BYTES, PREFIX, from_text, to_text
from ledger.errors import Invalid

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_ADDRESSES = st.binary(min_size=ADDRESS_BYTES, max_size=ADDRESS_BYTES)
_DATA_AT = len(PREFIX) + 1
_LENGTH = 44


def _refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        from_text(text)
    assert caught.value.code == "E-ADDRESS-001"


@given(_ADDRESSES)
def test_an_address_comes_back(address: bytes) -> None:
    text = to_text(address)
    assert len(text) == _LENGTH
    assert text.startswith("troth1")
    assert set(text[_DATA_AT:]) <= set(_ALPHABET)
    assert from_text(text) == from_text(text.upper()) == address


@given(_ADDRESSES, st.sets(st.integers(_DATA_AT, _LENGTH - 1), min_size=1, max_size=4), st.data())
def test_up_to_four_wrong_characters_are_found(address: bytes, places: set[int], choice: st.DataObject) -> None:
    characters = list(to_text(address))
    for place in sorted(places):
        characters[place] = choice.draw(st.sampled_from(_ALPHABET.replace(characters[place], "")))
    _refused("".join(characters))
    _refused("".join(characters).upper())


@given(_ADDRESSES, st.integers(0, _LENGTH - 1), st.characters())
def test_one_character_of_any_kind_is_found(address: bytes, place: int, character: str) -> None:
    text = to_text(address)
    if text[place] != character:
        _refused(text[:place] + character + text[place + 1 :])


@given(_ADDRESSES, st.integers(_DATA_AT, _LENGTH - 2))
def test_exchanged_neighbours_are_found(address: bytes, place: int) -> None:
    text = to_text(address)
    exchanged = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    if exchanged != text:
        _refused(exchanged)


@given(_ADDRESSES, st.sets(st.integers(0, _LENGTH - 1), min_size=1))
def test_mixed_case_is_refused(address: bytes, places: set[int]) -> None:
    text = to_text(address)
    mixed = "".join(c.upper() if at in places else c for at, c in enumerate(text))
    if mixed in (text, text.upper()):
        assert from_text(mixed) == address
    else:
        _refused(mixed)


@given(st.text(max_size=60) | st.text("".join({*_ALPHABET, *"troth1"}), min_size=38, max_size=38).map("troth1".__add__))
def test_texts_are_refused_or_come_back(text: str) -> None:
    try:
        address = from_text(text)
    except Invalid:
        return
    assert to_text(address) == text.lower()
