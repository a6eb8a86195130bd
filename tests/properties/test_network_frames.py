"""Frames of the network: however the stream is cut, the same frames come out; and garbage never does harm."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Invalid
from node.network.frames import BYE, HEAD_BYTES, PING, PONG, Channel, Frames, frame, open_lengths

LENGTHS = open_lengths(consensus=600, blocks=300, transactions=40)


def _bodies(kind: int) -> st.SearchStrategy[tuple[int, bytes]]:
    least, most = LENGTHS[kind]
    return st.tuples(st.just(kind), st.binary(min_size=least, max_size=most))


_frames = st.lists(st.sampled_from([BYE, PING, PONG, *Channel]).flatmap(_bodies), max_size=8)


def _cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(edges)]


@given(_frames, st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_split_of_the_stream_gives_the_same_frames(sent: list[tuple[int, bytes]], places: list[int]) -> None:
    reader = Frames(LENGTHS)
    stream = b"".join([frame(kind, body) for kind, body in sent])
    got = [found for piece in _cut(stream, places) for found in reader.read(piece)]
    assert got == sent
    assert reader.held == 0


@given(_frames, st.binary(max_size=200), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_garbage_is_refused_or_within_bounds_and_alike_in_any_split(
    sent: list[tuple[int, bytes]], garbage: bytes, places: list[int]
) -> None:
    stream = b"".join([frame(kind, body) for kind, body in sent]) + garbage
    outcomes = []
    for pieces in ([stream], _cut(stream, places), [bytes([byte]) for byte in stream]):
        reader, code = Frames(LENGTHS), ""
        got: list[tuple[int, bytes]] = []
        try:
            for piece in pieces:
                got.extend(reader.read(piece))
                assert reader.held < HEAD_BYTES + 600
        except Invalid as error:
            code = error.code
        outcomes.append((got, code))
        for kind, body in got:
            assert LENGTHS[kind].least <= len(body) <= LENGTHS[kind].most
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][0][: len(sent)] == sent


@given(st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_a_head_is_taken_exactly_within_bounds(kind: int, length: int) -> None:
    head = bytes([kind]) + length.to_bytes(4, "big")
    allowed = kind in LENGTHS and LENGTHS[kind].least <= length <= LENGTHS[kind].most
    try:
        list(Frames(LENGTHS).read(head))
    except Invalid:
        assert not allowed
    else:
        assert allowed
