"""A connection over a transport that only remembers what is done to it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ledger import codec
from ledger.errors import Invalid
from node.network.bans import Reason
from node.network.certificates import ALPN
from node.network.connection import Connection
from node.network.frames import BYE, HANDSHAKE_LENGTHS, HELLO, PING, PONG, PROOF, Channel, Frames, frame
from node.network.handshake import Established, Handshake
from tests.networks import NETWORK, QUICK, certificate, node_key

C, B, T = Channel.CONSENSUS, Channel.BLOCKS, Channel.TRANSACTIONS


class Tls:
    """What TLS says of the peer."""

    def getpeercert(self, binary_form: bool) -> bytes:
        assert binary_form
        return certificate("peer")

    def selected_alpn_protocol(self) -> str:
        return ALPN


class Wire(asyncio.Transport):
    """Remembers what was written and whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"ssl_object": Tls(), "peername": ("192.0.2.1", 5555)})
        self.frames = Frames({**HANDSHAKE_LENGTHS, **QUICK.lengths})
        self.sent: list[tuple[int, bytes]] = []
        self.state = "open"
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.extend(self.frames.read(bytes(data)))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == QUICK.write_bytes

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Keeper:
    """An owner that remembers. `refusal` is what `admit` answers; `on_message` what it does with a message."""

    def __init__(self) -> None:
        self.settings = QUICK
        self.time = 100.0
        self.refusal: tuple[Reason, str, int] | None = None
        self.opens: list[Established] = []
        self.batches: list[tuple[Channel, list[bytes]]] = []
        self.ends: list[tuple[Reason, str, int]] = []
        self.losses = 0
        self.on_message: Any = None

    def now(self) -> float:
        return self.time

    def admit(self, connection: Connection) -> tuple[Reason, str, int] | None:
        return self.refusal

    def shake(self, connection: Connection, shown: bytes) -> Handshake:
        return _handshake("own", "peer", shown, dialled=connection.dialled)

    def opened(self, connection: Connection, established: Established) -> None:
        self.opens.append(established)

    def received(self, connection: Connection, channel: Channel, messages: list[bytes]) -> None:
        self.batches.append((channel, messages))
        if self.on_message is not None:
            self.on_message(connection, messages)

    def ended(self, connection: Connection, reason: Reason, detail: str, seconds: int) -> None:
        self.ends.append((reason, detail, seconds))

    def lost(self, connection: Connection) -> None:
        self.losses += 1


def _handshake(name: str, peer: str, peer_certificate: bytes, *, dialled: bool) -> Handshake:
    return Handshake(
        NETWORK,
        node_key(name),
        own_certificate=certificate(name),
        peer_certificate=peer_certificate,
        dialled=dialled,
        instance=name.encode().ljust(16),
        nonce=name.encode().ljust(32),
        address="",
    )


async def opened(keeper: Keeper) -> tuple[Connection, Wire]:
    """A connection after an honest handshake, its frames forgotten."""
    connection, wire = Connection(keeper, dialled=None), Wire()
    connection.connection_made(wire)
    theirs = _handshake("peer", "own", certificate("own"), dialled=True)
    connection.data_received(frame(HELLO, theirs.hello))
    await asyncio.sleep(0)
    assert [kind for kind, _ in wire.sent] == [HELLO, PROOF]
    connection.data_received(frame(PROOF, theirs.receive_hello(wire.sent[0][1])))
    assert [established.node for established in keeper.opens] == [node_key("peer").public]
    wire.sent.clear()
    return connection, wire


def byes(wire: Wire) -> list[tuple[str, str, int]]:
    return [codec.decode(body) for kind, body in wire.sent if kind == BYE]


def test_messages_that_come_together_are_handed_on_by_channel_in_order() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, _ = await opened(keeper)
        stream = [
            frame(C, b"1"),
            frame(C, b"2"),
            frame(T, b"3"),
            frame(PING, b"12345678"),
            frame(T, b"4"),
            frame(C, b"5"),
        ]
        connection.data_received(b"".join(stream))
        assert keeper.batches == [(C, [b"1", b"2"]), (T, [b"3"]), (T, [b"4"]), (C, [b"5"])]
        assert connection.messages_in == {C: 3, B: 0, T: 2}

    asyncio.run(main())


def test_what_is_sent_in_one_turn_is_written_at_once_in_order_of_importance() -> None:
    async def main() -> None:
        connection, wire = await opened(Keeper())
        for channel, body in ((T, b"t"), (B, b"b"), (C, b"c")):
            assert connection.send(channel, frame(channel, body))
        assert wire.sent == []
        await asyncio.sleep(0)
        assert wire.sent == [(C, b"c"), (B, b"b"), (T, b"t")]

    asyncio.run(main())


def test_nothing_is_sent_before_the_handshake() -> None:
    async def main() -> None:
        connection, wire = Connection(Keeper(), dialled=None), Wire()
        connection.connection_made(wire)
        assert not connection.send(C, frame(C, b"early"))
        await asyncio.sleep(0)
        assert [kind for kind, _ in wire.sent] == [HELLO]

    asyncio.run(main())


def test_a_peer_that_takes_nothing_is_written_nothing() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.pause_writing()
        for number in range(3):
            connection.send(T, frame(T, bytes([number])))
        await asyncio.sleep(0)
        assert wire.sent == [] and connection.buffered > 0
        connection.resume_writing()
        assert wire.sent == [(T, b"\0"), (T, b"\1"), (T, b"\2")]
        connection.pause_writing()
        keeper.time += QUICK.stalled_seconds
        connection.received_at = keeper.time
        connection.check(keeper.time)
        assert keeper.ends[0][0] is Reason.SLOW_READER and wire.state == "aborted"

    asyncio.run(main())


def test_nothing_counts_after_the_end() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.end(Reason.STOPPING, "the node stops")
        assert byes(wire) == [("stopping", "the node stops", 0)] and wire.state == "closed"
        for _ in range(100):
            connection.data_received(frame(C, b"late") + b"\xff" * 1_000)
            connection.data_received(b"\x10\0\1\0\0" + bytes(1_000))
        connection.end(Reason.GARBAGE, "a second reason")
        connection.check(keeper.time + 1_000)
        assert not connection.send(C, frame(C, b"late"))
        connection.connection_lost(None)
        assert keeper.batches == [] and connection.buffered == 0
        assert keeper.ends == [(Reason.STOPPING, "the node stops", 0)] and keeper.losses == 1

    asyncio.run(main())


def test_the_owner_may_end_it_while_it_hears_a_message() -> None:
    async def main() -> None:
        keeper = Keeper()
        keeper.on_message = lambda connection, messages: connection.end(Reason.LIE, "a wrong height")
        connection, wire = await opened(keeper)
        bye = frame(BYE, codec.encode(("stopping", "", 0)))
        connection.data_received(frame(C, b"lie") + frame(PING, b"12345678") + frame(C, b"more") + bye)
        await asyncio.sleep(0)
        assert keeper.batches == [(C, [b"lie"])]
        assert [reason for reason, _, _ in keeper.ends] == [Reason.LIE]
        assert byes(wire) == [("lie", "a wrong height", 0)]
        assert all(kind != PONG for kind, _ in wire.sent)

    asyncio.run(main())


def test_a_defect_of_the_handler_is_no_misbehaviour_of_the_peer() -> None:
    async def main() -> None:
        keeper = Keeper()

        def fail(connection: Connection, messages: list[bytes]) -> None:
            raise KeyError("a defect")

        keeper.on_message = fail
        connection, _ = await opened(keeper)
        with pytest.raises(KeyError):  # asyncio reports it and cuts the connection
            connection.data_received(frame(C, b"x"))
        assert keeper.ends == []

    asyncio.run(main())


def test_what_the_handler_cannot_decode_ends_it() -> None:
    async def main() -> None:
        keeper = Keeper()

        def refuse(connection: Connection, messages: list[bytes]) -> None:
            raise Invalid(codec.MALFORMED, "cannot decode")

        keeper.on_message = refuse
        connection, wire = await opened(keeper)
        connection.data_received(frame(C, b"x"))
        assert keeper.ends == [(Reason.INVALID, "cannot decode", 0)]
        assert byes(wire) == [("invalid", "cannot decode", 0)]

    asyncio.run(main())


def test_a_bye_is_believed_and_answered_with_silence() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.data_received(frame(BYE, codec.encode(("banned", "flood: too much", 45))) + frame(C, b"more"))
        assert keeper.ends == [(Reason.TOLD, "banned: flood: too much", 45)]
        assert wire.sent == [] and wire.state == "closed" and keeper.batches == []

    asyncio.run(main())


def test_who_may_not_stay_hears_why() -> None:
    async def main() -> None:
        keeper = Keeper()
        keeper.refusal = (Reason.BANNED, "flood: too much", 45)
        connection, wire = Connection(keeper, dialled=None), Wire()
        connection.connection_made(wire)
        assert byes(wire) == [("banned", "flood: too much", 45)]
        assert keeper.ends == [(Reason.BANNED, "flood: too much", 0)]

    asyncio.run(main())


def test_another_node_than_the_dialled_one_is_left_alone() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = Connection(keeper, dialled=node_key("wanted").public), Wire()
        connection.connection_made(wire)
        assert keeper.ends[0][0] is Reason.OTHER_NODE
        assert [word for word, _, _ in byes(wire)] == ["other-node"]

    asyncio.run(main())


def test_pings_are_sent_and_answered_and_measure_the_way() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.data_received(frame(PING, b"abcdefgh"))
        keeper.time += 0.25  # more than the interval, and exact
        connection.check(keeper.time)
        await asyncio.sleep(0)
        assert wire.sent == [(PONG, b"abcdefgh"), (PING, (1).to_bytes(8, "big"))]
        connection.data_received(frame(PONG, (7).to_bytes(8, "big")))
        assert connection.rtt_seconds is None
        keeper.time += 0.25
        connection.data_received(frame(PONG, (1).to_bytes(8, "big")))
        assert connection.rtt_seconds == 0.25
        keeper.time += 0.25
        connection.data_received(frame(PONG, (1).to_bytes(8, "big")))
        assert cast("float | None", connection.rtt_seconds) == 0.25

    asyncio.run(main())


@pytest.mark.parametrize(
    ("seconds", "received", "reason"),
    [
        (QUICK.silent_seconds - 0.01, b"", None),
        (QUICK.silent_seconds, b"", Reason.SILENT),
        (QUICK.frame_seconds - 0.01, b"\x11\0\0\xff\xff", None),
        (QUICK.frame_seconds, b"\x11\0\0\xff\xff", Reason.STALLED),
    ],
)
def test_times_of_an_open_connection(seconds: float, received: bytes, reason: Reason | None) -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.data_received(received) if received else None
        until = keeper.time + seconds
        while keeper.time < until:
            keeper.time = min(keeper.time + 1.0, until)
            if received:
                connection.data_received(b"x")  # drips
            connection.check(keeper.time)
        assert [each for each, _, _ in keeper.ends] == ([] if reason is None else [reason])
        assert wire.state == ("open" if reason is None else "aborted")

    asyncio.run(main())


def test_while_it_is_held_silence_is_our_own() -> None:
    async def main() -> None:
        keeper = Keeper()
        connection, wire = await opened(keeper)
        connection.hold()
        assert not wire.reading
        keeper.time += 10 * QUICK.silent_seconds
        connection.check(keeper.time)
        assert keeper.ends == []
        connection.release()
        assert wire.reading

    asyncio.run(main())


def test_over_its_rate_nothing_is_read_for_a_while() -> None:
    async def main() -> None:
        connection, wire = await opened(Keeper())
        rate = QUICK.rates[C]
        count = int(rate.messages * rate.burst_seconds)
        connection.data_received(frame(C, b"m") * count)
        assert wire.reading
        connection.data_received(frame(C, b"m") * (rate.messages // 100))
        assert not wire.reading
        await asyncio.sleep(0.05)
        assert wire.reading

    asyncio.run(main())
