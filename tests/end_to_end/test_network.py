"""The network between nodes on loopback: real sockets, real TLS, several nodes on one event loop, and rude guests."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import Invalid, Refused, Unavailable
from ledger.node_address import Address
from node.network.bans import Reason
from node.network.frames import HELLO, PING, PROOF, Channel, frame
from node.network.handshake import decode_hello
from tests.networks import (
    LOOPS,
    NETWORK,
    QUICK,
    Hand,
    Member,
    Run,
    TestNetwork,
    connected,
    loop_runner,
    node_key,
    until,
)

C, B, T = Channel.CONSENSUS, Channel.BLOCKS, Channel.TRANSACTIONS
MIB = 1 << 20


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on each event loop."""
    return loop_runner(request.param)


# Peace


def test_four_nodes_hold_one_connection_a_pair(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            members = await network.start("a", "b", "c", "d")
            await connected(*members)
            for channel in Channel:
                sent = {member.id: [f"{member.name} {number}".encode() for number in range(50)] for member in members}
                for member in members:
                    assert [member.peers.broadcast(channel, message) for message in sent[member.id]] == [3] * 50
                for member in members:
                    for other in members:
                        if other is not member:
                            await until(partial(_has, other, member, channel, 50), "all messages")
                            assert other.got(member, channel) == sent[member.id]
            for one in members:
                for other in members:
                    if one is not other:
                        assert one.status(other).dialled != other.status(one).dialled
                await until(partial(_all_answered, one), "answers to PING")

    run(main())


def _has(one: Member, other: Member, channel: Channel, count: int) -> bool:
    return len(one.got(other, channel)) >= count


def _all_answered(member: Member) -> bool:
    return all(status.rtt_ms is not None for status in member.peers.status())


def test_messages_of_any_size_arrive_whole_and_in_order(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            await connected(a, b)
            largest = QUICK.lengths[C].most
            sent = [bytes([size % 251]) * size for size in (1, 2, 65_535, 65_536, 65_537, 1_000_000, largest, 3)]
            for message in sent:
                assert a.peers.send(b.id, C, message)
            await until(lambda: len(b.got(a, C)) == len(sent), "all messages")
            assert b.got(a, C) == sent
            assert a.status(b).messages_out[C] == b.status(a).messages_in[C] == len(sent)
            for message in (b"", bytes(largest + 1)):
                with pytest.raises(Invalid) as caught:
                    a.peers.send(b.id, C, message)
                assert caught.value.code == "E-PEER-011"
            assert not a.peers.send(a.id, C, b"to myself")
            assert not a.peers.send(node_key("nobody").public, C, b"to nobody")

    run(main())


def test_a_late_consensus_message_overtakes_waiting_transactions(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).shake()
            await until(lambda: a.peers.connected, "the guest")
            for _ in range(7):
                a.peers.send(guest.identity.id, T, bytes(MIB))
                await asyncio.sleep(0)
            a.peers.send(guest.identity.id, B, b"block")
            a.peers.send(guest.identity.id, C, b"vote")
            kinds = [(await guest.next_frame())[0] for _ in range(9)]
            assert kinds.count(T) == 7
            assert kinds.index(C) < kinds.index(B) < 7
            guest.close()

    run(main())


def test_a_node_that_stops_says_so_and_is_found_again(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            await connected(a, b)
            await b.peers.stop()
            await until(lambda: a.peers.connected == (), "a sees the end")
            assert a.heard.ends == [(b.id, Reason.TOLD)]
            assert a.status(b).last_end.startswith("told: stopping")
            again = network.add("b")
            again.address = b.address
            again.peers.register(network.nodes())
            await again.start()
            await connected(a, again)
            assert a.heard.events == [("+", b.id), ("-", b.id), ("+", b.id)]

    run(main())


def test_nodes_meet_over_ipv6(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6 loopback: {error}")

    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            for name in ("a", "b"):
                network.add(name).address = Address("::1", 0)
            a, b = await network.start("a", "b")
            await connected(a, b)
            assert {a.status(b).remote, b.status(a).remote} == {"::1"}

    run(main())


def test_a_node_that_is_not_registered_itself_does_not_start(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            lonely = network.add("lonely")
            with pytest.raises(Refused) as caught:
                await lonely.start()
            assert caught.value.code == "E-PEER-009"

    run(main())


def test_a_port_in_use_is_said(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a")
            b = network.add("b")
            b.peers.register(network.nodes())
            b.address = a.address
            with pytest.raises(Unavailable) as caught:
                await b.start()
            assert caught.value.code == "E-PEER-010"

    run(main())


# Registration


def test_registrations_change_while_nodes_run(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            (c,) = await network.start("c")
            await connected(a, b, c)
            a.peers.register([a.registered(), b.registered()])
            await until(lambda: a.peers.connected == (b.id,), "c is dropped")
            assert (c.id, Reason.UNREGISTERED) in a.heard.ends
            guest = Hand(tmp_path, "c", a)
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                await guest.shake()
            a.peers.register(network.nodes())
            await connected(a, b, c)

    run(main())


def test_a_node_is_found_by_the_address_that_it_tells(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a = network.add("a")
            b = network.add("b")
            # Only b knows where the other is.
            a.peers.register(network.nodes())
            await a.start()
            b.peers.register([a.registered(), b.registered()])
            await b.start()
            await connected(a, b)
            assert not a.status(b).dialled
            network.clocks["b"].ahead += 1_000  # b takes the silence for the end of the connection
            await until(lambda: b.heard.ends != [], "the connection ends")
            await connected(a, b)

    run(main())


# Strangers and impostors


def test_a_stranger_s_certificate_is_refused(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                await Hand(tmp_path, "stranger", a).shake()
            await until(lambda: a.peers.strangers[2] == 1, "TLS has failed")
            await connected(a, b)
            assert all(status.ban is None for status in a.peers.status())

    run(main())


def test_a_server_that_is_no_registered_node_gets_nothing(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as outside, TestNetwork(tmp_path) as network:
            (impostor,) = await outside.start("impostor")
            a = network.add("a")
            b = network.add("b")
            b.address = impostor.address
            a.peers.register(network.nodes())
            await a.start()
            await until(lambda: "not a registered node" in a.status(b).last_end, "the refusal")
            assert a.peers.connected == ()
            network.members.pop("b")

    run(main())


def test_another_registered_node_in_the_place_of_one_is_not_taken_for_it(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (c,) = await network.start("c")
            a, b = network.add("a"), network.add("b")
            b.address = c.address
            network.register_all()
            await a.start()
            await until(lambda: a.status(b).last_end.startswith("other-node"), "the mistake is seen")
            await until(lambda: a.peers.connected == (c.id,), "c is found as itself")
            assert all(status.ban is None for member in (a, c) for status in member.peers.status())

    run(main())


@pytest.mark.parametrize(
    "other",
    [NETWORK._replace(genesis_id=b"h" * 32), NETWORK._replace(chain_id="other-chain")],
    ids=["genesis", "chain"],
)
def test_a_node_of_another_chain_is_dropped_with_the_reason(run: Run, tmp_path: Path, other: Any) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            network.add("b", network=other)
            a, b = await network.start("a", "b")
            await until(lambda: a.status(b).ban or b.status(a).ban, "one sees it")
            await until(lambda: all("wrong-chain" in m.peers.status()[0].last_end for m in (a, b)), "both know")
            for member in (a, b):
                ban = member.peers.status()[0].ban
                assert ban is None or ban.reason is Reason.WRONG_CHAIN
                assert member.peers.connected == () and member.heard.events == []

    run(main())


def test_a_replayed_handshake_is_refused(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).connect()
            handshake = guest.handshake()
            await guest.send(frame(HELLO, handshake.hello))
            proof = handshake.receive_hello((await guest.next_frame())[1])
            await guest.send(frame(PROOF, proof))
            await until(lambda: a.peers.connected == (guest.identity.id,), "the honest connection")
            guest.close()
            await until(lambda: a.peers.connected == (), "its end")

            replay = await Hand(tmp_path, "guest", a).connect()
            await replay.send(frame(HELLO, handshake.hello) + frame(PROOF, proof))
            word, text, _ = await replay.farewell()
            assert word == "wrong-identity" and "this very handshake" in text
            assert a.peers.bans.get(guest.identity.id, network.clocks["a"]()) is not None

    run(main())


def test_who_replays_another_s_handshake_harms_itself_alone(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b", by_hand=("thief",))
            await connected(a, b)
            of_b = Hand(tmp_path, "b", a).handshake().hello
            assert decode_hello(of_b).node == b.id
            thief = await Hand(tmp_path, "thief", a).connect()
            await thief.send(frame(HELLO, of_b))
            assert (await thief.farewell())[0] == "wrong-identity"
            assert a.peers.connected == (b.id,)
            bans = {status.node: status.ban for status in a.peers.status()}
            assert bans[thief.identity.id] is not None and bans[b.id] is None

    run(main())


# Garbage


async def raw(member: Member) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*member.address)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", bytes(1_000), os.urandom(4_096)], ids=["HTTP", "zeros", "noise"]
)
def test_garbage_before_tls_ends_the_connection(run: Run, tmp_path: Path, said: bytes) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            reader, writer = await raw(a)
            writer.write(said)
            async with asyncio.timeout(10):
                try:
                    while await reader.read(1_000):
                        pass
                except ConnectionError:
                    pass
            writer.close()
            await until(lambda: a.peers.strangers[0] == 0, "nothing is left of it")
            assert a.peers.strangers[2] >= 1
            await connected(a, b)

    run(main())


def test_silence_before_tls_ends_the_connection(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path, settings=QUICK._replace(handshake_seconds=0.3)) as network:
            (a,) = await network.start("a")
            reader, writer = await raw(a)
            async with asyncio.timeout(10):
                assert await reader.read(1) == b""
            writer.close()
            await until(lambda: a.peers.strangers[0] == 0, "nothing is left of it")

    run(main())


def test_many_silent_strangers_leave_room_for_others(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            crowd = []
            for _ in range(3 * QUICK.pending_per_address):
                opened = socket.socket()
                opened.bind(("127.0.0.2", 0))
                opened.setblocking(False)
                await asyncio.get_running_loop().sock_connect(opened, tuple(a.address))
                crowd.append(opened)
            await until(lambda: a.peers.strangers[1] >= 2 * QUICK.pending_per_address - 8, "most are turned away")
            assert a.peers.strangers[0] <= QUICK.pending_per_address
            guest = await Hand(tmp_path, "guest", a).shake()
            await until(lambda: a.peers.connected == (guest.identity.id,), "a registered node gets in")
            guest.close()
            for opened in crowd:
                opened.close()

    run(main())


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"\xff" * 100, "garbage"),
        (os.urandom(64) + b"\xff" * 64, "garbage or oversize"),
        (frame(C, b"too early"), "garbage"),
        (frame(HELLO, b"no hello"), "garbage"),
        (frame(PROOF, bytes(64)), "garbage"),
        (bytes([HELLO]) + b"\xff\xff\xff\xff", "oversize"),
    ],
    ids=["kind 255", "noise", "message", "bad hello", "proof first", "oversize"],
)
def test_garbage_instead_of_a_handshake_bans(run: Run, tmp_path: Path, said: bytes, word: str) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).connect()
            await guest.send(said)
            assert (await guest.farewell())[0] in word.split(" or ")
            ban = a.peers.status()[0].ban
            assert ban is not None and ban.reason.word in word

    run(main())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\x63garbage", Reason.GARBAGE),
        (frame(PING, b"short"), Reason.GARBAGE),
        (frame(HELLO, b"again"), Reason.GARBAGE),
        (frame(C, b""), Reason.GARBAGE),
        (bytes([C]) + (QUICK.lengths[C].most + 1).to_bytes(4, "big"), Reason.OVERSIZE),
        (bytes([T]) + b"\xff\xff\xff\xff" + bytes(100_000), Reason.OVERSIZE),
        (frame(T, b"refuse me"), Reason.INVALID),
    ],
    ids=["kind 99", "short ping", "second hello", "empty", "oversize", "4 GiB", "handler refuses"],
)
def test_garbage_after_the_handshake_bans_one_and_harms_no_other(
    run: Run, tmp_path: Path, said: bytes, reason: Reason
) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b", by_hand=("guest",))
            await connected(a, b)
            a.heard.refuse = b"refuse me"
            guest = await Hand(tmp_path, "guest", a).shake()
            await guest.send(frame(B, b"a good one") + said)
            assert (await guest.farewell())[0] == reason.word
            assert a.heard.ends == [(guest.identity.id, reason)]
            assert a.heard.messages == {(guest.identity.id, B): [b"a good one"]}
            ban = next(status.ban for status in a.peers.status() if status.node == guest.identity.id)
            assert ban is not None and ban.reason is reason
            assert a.peers.connected == (b.id,) and a.status(b).ban is None
            assert a.peers.broadcast(C, b"still here") == 1

    run(main())


def test_a_bye_that_is_none_is_garbage(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            (a,) = await network.start("a", by_hand=("guest",))
            guest = await Hand(tmp_path, "guest", a).shake()
            await guest.send(frame(3, b"\x93\x01\x02\x03"))
            await until(lambda: a.heard.ends, "the end")
            assert a.heard.ends == [(guest.identity.id, Reason.INVALID)]

    run(main())


# Bans


def test_a_banned_node_hears_why_and_how_long_and_is_let_in_again_after(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            await connected(a, b)
            a.peers.report(b.id, Reason.LIE, "height 9 without a block")
            await until(lambda: b.peers.connected == (), "b is dropped")
            assert a.heard.ends == [(b.id, Reason.BANNED)]
            assert b.status(a).last_end == "told: banned: lie: height 9 without a block"
            guest = await Hand(tmp_path, "b", a).connect()
            word, text, seconds = await guest.farewell()
            assert (word, text) == ("banned", "lie: height 9 without a block")
            assert 590 <= seconds <= 600
            network.clocks["a"].ahead += 595
            network.clocks["b"].ahead += 595
            assert a.status(b).ban is not None
            assert a.peers.connected == ()
            network.clocks["a"].ahead += 6
            network.clocks["b"].ahead += 6
            assert a.status(b).ban is None
            await connected(a, b)

    run(main())


def test_a_report_without_misbehaviour_drops_and_does_not_ban(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with TestNetwork(tmp_path) as network:
            a, b = await network.start("a", "b")
            await connected(a, b)
            a.peers.report(b.id, Reason.SILENT, "asked three times")
            assert a.status(b).ban is None
            await connected(a, b)

    run(main())
