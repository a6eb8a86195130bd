from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger import codec
from ledger.errors import Invalid
from node.gossip import MESSAGE_BYTES, Gossip, decode, messages
from node.network.settings import TRANSACTIONS_BYTES
from tests.chains import create, signed

_MADE = [signed("roaster", create(f"programme-{number}")) for number in range(5)]


def test_nothing_makes_no_message() -> None:
    assert messages([]) == []


def test_small_transactions_travel_together() -> None:
    raws = [each.raw for each in _MADE]
    [message] = messages(raws)
    assert message == codec.encode(tuple(raws)) and decode(message) == raws


def test_messages_have_a_good_size_and_keep_the_order() -> None:
    raws = [bytes([number]) * (MESSAGE_BYTES // 3 + 1) for number in range(7)]
    made = messages(raws)
    assert [len(decode(message)) for message in made] == [2, 2, 2, 1]
    assert [raw for message in made for raw in decode(message)] == raws
    assert max(map(len, made)) <= TRANSACTIONS_BYTES


def test_one_that_is_larger_than_a_message_should_be_travels_alone() -> None:
    raws = [b"a", bytes(MESSAGE_BYTES + 1), b"b"]
    assert [decode(message) for message in messages(raws)] == [[raw] for raw in raws]


@pytest.mark.parametrize("value", [(), 1, b"raw", None, (1,), (b"raw", "text"), ((b"raw",),), {"a": b"raw"}])
def test_what_is_no_gossip(value: Any) -> None:
    with pytest.raises(Invalid):
        decode(codec.encode(value))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91", b"\x91\xc4\x05raw"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode(data)


def test_too_long_a_message() -> None:
    with pytest.raises(Invalid):
        decode(codec.encode((bytes(TRANSACTIONS_BYTES),)))


def test_what_comes_within_a_moment_is_sent_at_once() -> None:
    async def test() -> None:
        sent: list[bytes] = []
        told = asyncio.Event()

        def broadcast(message: bytes) -> None:
            sent.append(message)
            told.set()

        gossip = Gossip(broadcast)
        gossip.add([])
        gossip.add(_MADE[:2])
        gossip.add(_MADE[2:4])
        assert sent == []
        async with asyncio.timeout(30):
            await told.wait()
        assert [decode(message) for message in sent] == [[each.raw for each in _MADE[:4]]]
        told.clear()
        gossip.add(_MADE[4:])
        async with asyncio.timeout(30):
            await told.wait()
        assert decode(sent[1]) == [_MADE[4].raw]

    asyncio.run(test())


def test_nothing_is_sent_after_the_end() -> None:
    async def test() -> None:
        sent: list[bytes] = []
        gossip = Gossip(sent.append)
        gossip.add(_MADE)
        timer = gossip._timer
        gossip.close()
        assert timer is not None and timer.cancelled() and sent == []

    asyncio.run(test())
