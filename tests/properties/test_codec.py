"""Laws of the codec: one value, one encoding; one encoding, one value."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from ledger import codec
from ledger.errors import Invalid

_TEXT = st.text().filter(lambda text: codec.text_fault(text) is None)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | _TEXT,
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=20,
)


def _same(one: Any, other: Any) -> bool:
    """Equal in type too, since True == 1."""
    if type(one) is not type(other):
        return False
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


@given(_VALUES)
def test_a_value_comes_back(value: codec.Value) -> None:
    data = codec.encode(value)
    assert _same(codec.decode(data), value)
    assert _same(codec.decode_trusted(data), value)


@given(st.binary(max_size=64))
def test_bytes_are_refused_or_come_back(data: bytes) -> None:
    try:
        value = codec.decode(data)
    except Invalid:
        return
    assert codec.encode(value) == data


@given(_VALUES, st.data())
def test_a_changed_byte_is_refused_or_another_value(value: codec.Value, choice: st.DataObject) -> None:
    data = bytearray(codec.encode(value))
    place = choice.draw(st.integers(0, len(data) - 1))
    data[place] ^= choice.draw(st.integers(1, 255))
    try:
        found = codec.decode(bytes(data))
    except Invalid:
        return
    assert not _same(found, value)
    assert codec.encode(found) == bytes(data)


@given(_VALUES, _VALUES)
def test_encodings_are_as_different_as_values(one: codec.Value, other: codec.Value) -> None:
    assert (codec.encode(one) == codec.encode(other)) == _same(one, other)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text() | st.floats(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_msgpack_is_refused_or_comes_back(anything: Any) -> None:
    try:
        data = msgpack.packb(anything)
    except UnicodeEncodeError:  # half of a surrogate pair: not even msgpack
        data = b""
    try:
        value = codec.decode(data)
    except Invalid:
        return
    assert codec.encode(value) == data


@given(st.text())
def test_encode_and_decode_agree_on_text(text: str) -> None:
    fault = codec.text_fault(text)
    try:
        data = codec.encode(text)
    except Invalid as error:
        assert fault is not None
        assert error.cause == fault
    else:
        assert fault is None
        assert codec.decode(data) == text
