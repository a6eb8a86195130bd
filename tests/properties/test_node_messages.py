"""Messages about blocks and gossip of transactions: what is encoded comes back, and nothing else breaks a decoder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger import codec
from ledger.block import Certificate, Seal
from ledger.errors import Invalid
from node import gossip, sync_messages
from node.sync_messages import BLOCKS_MAX, Blocks, Get, Status, SyncMessage

_HEIGHTS = st.integers(1, (1 << 40) - 1)
_IDS = st.binary(min_size=32, max_size=32)


@st.composite
def _certificates(draw: st.DrawFn) -> Certificate:
    validators = draw(st.lists(st.binary(min_size=20, max_size=20), max_size=4, unique=True))
    seals = [Seal(validator, draw(st.binary(min_size=64, max_size=64))) for validator in sorted(validators)]
    return Certificate(draw(_HEIGHTS), draw(st.integers(0, 1_000)), draw(_IDS), tuple(seals))


_MESSAGES: st.SearchStrategy[SyncMessage] = st.one_of(
    st.builds(Status, st.integers(0, (1 << 40) - 1), _IDS),
    st.builds(Get, _HEIGHTS, st.integers(1, BLOCKS_MAX)),
    st.builds(Blocks, _HEIGHTS, st.lists(st.tuples(st.binary(max_size=40), _certificates()), max_size=3).map(tuple)),
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.binary(max_size=40)
    | st.text("abc", max_size=8),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=12,
)


@given(_MESSAGES)
def test_messages_about_blocks_come_back(message: SyncMessage) -> None:
    data = sync_messages.encode(message)
    assert sync_messages.decode(data) == message
    assert type(sync_messages.decode(data)) is type(message)


@given(_MESSAGES, st.data())
def test_a_changed_message_is_refused_or_is_another(message: SyncMessage, data: st.DataObject) -> None:
    raw = bytearray(sync_messages.encode(message))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        found = sync_messages.decode(bytes(raw))
    except Invalid:
        return
    assert found != message and sync_messages.encode(found) == bytes(raw)  # one message, one form


@given(st.binary(max_size=200) | _VALUES.map(codec.encode))
def test_anything_else_is_refused_or_is_canonical(data: bytes) -> None:
    try:
        found = sync_messages.decode(data)
    except Invalid:
        return
    assert sync_messages.encode(found) == data


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_gossip_comes_back_in_order(raws: list[bytes]) -> None:
    assert [raw for message in gossip.messages(raws) for raw in gossip.decode(message)] == raws


@given(st.lists(st.integers(0, 3 * gossip.MESSAGE_BYTES // 2), max_size=6))
def test_gossip_has_a_bounded_size(sizes: list[int]) -> None:
    made = gossip.messages([bytes(size) for size in sizes])
    assert [len(raw) for message in made for raw in gossip.decode(message)] == sizes


@given(st.binary(max_size=200) | _VALUES.map(codec.encode))
def test_other_gossip_is_refused_or_is_canonical(data: bytes) -> None:
    try:
        found = gossip.decode(data)
    except Invalid:
        return
    assert codec.encode(tuple(found)) == data
