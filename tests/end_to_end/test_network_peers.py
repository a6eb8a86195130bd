"""Hostile peers with registered node keys against three of four real validators: each is dropped with a reason, or can
do no harm; the honest three go on, and their memory stays bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from consensus.messages import Claim, Decided, Kind, Proposal, RoundChange, Vote, encode, signed_payload
from ledger import codec
from ledger.address import address_of
from ledger.block import Certificate, Seal
from ledger.transaction import assemble
from node.gossip import messages as gossip_messages
from node.network.bans import Reason
from node.network.frames import Channel, open_lengths
from node.network.handshake import Network
from node.network.outbox import Room
from node.network.peers import Peers
from node.network.settings import Settings
from node.sync_messages import Blocks, Get, Status
from node.sync_messages import decode as decode_sync
from node.sync_messages import encode as encode_sync
from tests.end_to_end.networks import Ears, Guest, NetworkOfNodes, guest_settings, validator_key
from tests.end_to_end.requests import mint, signed

pytestmark = pytest.mark.slow

HONEST = (0, 1, 2)
MIB = 1 << 20
RSS_BYTES_MAX = 200 * MIB
"""How much more memory an honest node may take under a flood. It takes about a hundred when it is idle."""

_numbers = iter(range(1, 40))


class _Hostile(Ears):
    """Hears what honest nodes say, and answers as a test has it."""

    def __init__(self, network: NetworkOfNodes) -> None:
        super().__init__(network.genesis.chain_id)
        self.answer: Callable[[Get], bytes] | None = None
        self.guest: Guest | None = None

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        super().received(peer, channel, messages)
        if channel is Channel.BLOCKS and self.answer is not None and self.guest is not None:
            for message in messages:
                asked = decode_sync(message)
                if isinstance(asked, Get):
                    self.guest.peers.send(peer, Channel.BLOCKS, self.answer(asked))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkOfNodes]:
    """Three of four validators, and node keys for many guests."""
    made = NetworkOfNodes.create(tmp_path_factory.mktemp("network"), guests=40)
    try:
        made.start(*HONEST)
        made.wait_caught_up(*HONEST)
        made.wait_progress(*HONEST)
        yield made
    finally:
        made.kill()


def _visit(
    network: NetworkOfNodes, *, chain: Network | None = None, settings: Settings | None = None
) -> tuple[Guest, _Hostile]:
    """A guest with a key that nobody has met."""
    hostile = _Hostile(network)
    guest = Guest(network, network.guest(next(_numbers)), hostile, chain=chain, settings=settings)
    hostile.guest = guest
    return guest, hostile


def _meet(network: NetworkOfNodes, guest: Guest) -> None:
    """Waits until the guest is connected with all three."""
    ids = {network.identity(index).id for index in HONEST}
    network.wait(lambda: ids <= set(guest.connected()), "the guest is connected")


def _dropped(network: NetworkOfNodes, guest: Guest, reason: Reason, *words: str) -> None:
    """Waits until all three have banned the guest for a reason, and make blocks without it."""
    _banned_for(network, guest, reason, *words)
    _goes_on(network)


def _banned_for(network: NetworkOfNodes, guest: Guest, reason: Reason, *words: str) -> None:

    def banned(index: int) -> bool:
        found = network.peer(index, guest.identity.id)
        return found["ban"] is not None and not found["connected"]

    network.wait(lambda: all(banned(index) for index in HONEST), "the guest is banned", 30)
    for index in HONEST:
        found = network.peer(index, guest.identity.id)
        assert found["ban"]["reason"] == reason.word and found["ban"]["seconds_left"] > 0
        said = network.nodes[index].log_tail(400)
        for word in words:
            assert word in said, (word, said)


def _goes_on(network: NetworkOfNodes) -> None:
    network.wait_progress(*HONEST, blocks=1)
    assert all(network.describe(index)["caught_up"] for index in HONEST)
    network.assert_equal(*HONEST)


_ID = b"\x11" * 32
_SIGNER = address_of(validator_key(3).public)
_GARBAGE = b"\xc1\xff\x00garbage"


_UNREADABLE = {
    "consensus-garbage": (Channel.CONSENSUS, _GARBAGE),
    "blocks-garbage": (Channel.BLOCKS, _GARBAGE),
    "transactions-garbage": (Channel.TRANSACTIONS, _GARBAGE),
    "unknown-kind": (Channel.CONSENSUS, codec.encode((9, 1, 0, _ID, _SIGNER, bytes(64)))),
    "short-signature": (Channel.CONSENSUS, codec.encode((3, 1, 0, _ID, _SIGNER, bytes(63)))),
    "negative-height": (Channel.BLOCKS, codec.encode((1, -1, _ID))),
    "asks-for-too-many": (Channel.BLOCKS, codec.encode((2, 1, 100_000))),
    "half-a-certificate": (Channel.BLOCKS, codec.encode((3, 1, ((b"block", (1, 0, _ID)),)))),
    "empty-gossip": (Channel.TRANSACTIONS, codec.encode(())),
    "gossip-of-numbers": (Channel.TRANSACTIONS, codec.encode((1,))),
}


def test_what_cannot_be_read(network: NetworkOfNodes) -> None:
    with ExitStack() as visits:
        for channel, message in _UNREADABLE.values():
            guest, _ = _visit(network)
            visits.enter_context(guest)
            _meet(network, guest)
            guest.broadcast(channel, message)
            _banned_for(network, guest, Reason.INVALID)
        _goes_on(network)


def test_an_oversize_message(network: NetworkOfNodes) -> None:
    settings = guest_settings(network)
    settings = settings._replace(lengths=open_lengths(64 * MIB, 64 * MIB, 64 * MIB))
    guest, _ = _visit(network, settings=settings)
    with guest:
        _meet(network, guest)
        guest.broadcast(Channel.TRANSACTIONS, bytes(2 * MIB))
        _dropped(network, guest, Reason.OVERSIZE)


@pytest.mark.parametrize("what", ["chain", "genesis"])
def test_who_speaks_for_another_chain(network: NetworkOfNodes, what: str) -> None:
    own = Network(network.genesis.chain_id, network.genesis.id())
    other = own._replace(chain_id="dev-other") if what == "chain" else own._replace(genesis_id=bytes(32))
    guest, _ = _visit(network, chain=other)
    with guest:
        _dropped(network, guest, Reason.WRONG_CHAIN)


def _vote(network: NetworkOfNodes, kind: Kind, height: int, round_: int = 0, *, forged: bool = False) -> Vote:
    vote = Vote(kind, height, round_, _ID, _SIGNER)
    signature = validator_key(3).sign(signed_payload(network.genesis.chain_id, vote))
    return vote._replace(signature=bytes(64) if forged else signature)


@pytest.mark.parametrize("kind", [Kind.PREPARE, Kind.COMMIT])
def test_a_forged_vote(network: NetworkOfNodes, kind: Kind) -> None:
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        height = max(network.height(index) for index in HONEST)
        for above in (1, 2, 3):  # the height changes meanwhile; votes for those to come are verified too
            guest.broadcast(Channel.CONSENSUS, encode(_vote(network, kind, height + above, forged=True)))
        _dropped(network, guest, Reason.INVALID, "does not verify")


def test_a_decision_that_nobody_made(network: NetworkOfNodes) -> None:
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        stopped = threading.Event()

        def insist() -> None:  # until it hits the height at which the node is
            while not stopped.wait(0.1):
                seal = Seal(_SIGNER, bytes(64))
                height = network.height(0) + 1
                guest.broadcast(Channel.CONSENSUS, encode(Decided(Certificate(height, 0, _ID, (seal,)), b"no block")))

        thread = threading.Thread(target=insist)
        thread.start()
        try:
            _dropped(network, guest, Reason.INVALID, "power 1 has sealed")
        finally:
            stopped.set()
            thread.join()


def test_a_forged_transaction(network: NetworkOfNodes) -> None:
    made = signed("roaster", mint("member-0", 1))
    [right] = made.signatures
    forged = assemble(made.transaction, codec.encode(made.transaction), (right._replace(signature=bytes(64)),)).raw
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        [message] = gossip_messages([forged])
        guest.broadcast(Channel.TRANSACTIONS, message)
        _dropped(network, guest, Reason.INVALID, "gossip")


def test_a_height_of_a_billion_and_nothing_to_show(network: NetworkOfNodes) -> None:
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        before = time.monotonic()
        while time.monotonic() - before < 7:  # longer than a node waits for an answer
            guest.broadcast(Channel.BLOCKS, encode_sync(Status(10**9, _ID)))
            assert all(network.describe(index)["caught_up"] for index in HONEST)
            threading.Event().wait(0.2)
        assert all(network.describe(index)["lag_heights"] <= 1 for index in HONEST)
        _goes_on(network)


def _nothing(get: Get) -> bytes:
    return encode_sync(Blocks(get.first, ()))


def _invented(get: Get) -> bytes:
    certificate = Certificate(get.first, 0, _ID, (Seal(_SIGNER, bytes(64)),))
    return encode_sync(Blocks(get.first, ((b"no block", certificate),)))


@pytest.mark.parametrize(
    ("answer", "words"),
    [(_nothing, "has none that follow"), (_invented, "power 1 has sealed")],
)
def test_a_false_height_with_false_blocks(network: NetworkOfNodes, answer: Callable[[Get], bytes], words: str) -> None:
    guest, hostile = _visit(network)
    hostile.answer = answer
    with guest:
        _meet(network, guest)
        guest.broadcast(Channel.BLOCKS, encode_sync(Status(10**9, _ID)))
        _dropped(network, guest, Reason.INVALID, words)


def test_old_blocks_for_new_ones(network: NetworkOfNodes) -> None:
    first = network.blocks(0)[0]
    guest, hostile = _visit(network)
    hostile.answer = lambda get: encode_sync(Blocks(get.first, ((first.data, first.certificate),)))
    with guest:
        _meet(network, guest)
        guest.broadcast(Channel.BLOCKS, encode_sync(Status(10**9, _ID)))
        _dropped(network, guest, Reason.INVALID, "its certificate is of height 1")


def test_old_messages_again_and_again(network: NetworkOfNodes) -> None:
    guest, hostile = _visit(network)
    with guest:
        _meet(network, guest)
        network.wait_progress(*HONEST, blocks=4)
        heard = list(hostile.raw)
        assert len(heard) > 20
        before = _memory(network)
        for _ in range(20):
            for message in heard:
                guest.broadcast(Channel.CONSENSUS, message)
            threading.Event().wait(0.1)
        _goes_on(network)
        _bounded(network, before)


def _memory(network: NetworkOfNodes) -> list[int]:
    return [psutil.Process(network.nodes[index].pid).memory_info().rss for index in HONEST]


def _bounded(network: NetworkOfNodes, before: list[int]) -> None:
    grown = [now - then for now, then in zip(_memory(network), before, strict=True)]
    assert max(grown) < RSS_BYTES_MAX, [round(each / MIB) for each in grown]


def _flooding(network: NetworkOfNodes) -> Settings:
    """Bounds of a guest that are no bounds to what it sends."""
    settings = guest_settings(network)
    return settings._replace(rooms={kind: Room(1_000_000, 1 << 30) for kind in settings.rooms})


def _pour(guest: Guest, channel: Channel, message: bytes, each_second: int, done: Callable[[], bool]) -> None:
    """Sends one message to all, so many times a second, until done; a minute at most."""
    until = time.monotonic() + 60

    def burst(peers: Peers) -> None:
        for _ in range(each_second // 10):
            peers.broadcast(channel, message)

    while not done() and time.monotonic() < until:
        guest.call(burst)
        threading.Event().wait(0.1)


def _banned(network: NetworkOfNodes, guest: Guest) -> bool:
    return all(network.peer(index, guest.identity.id)["ban"] is not None for index in HONEST)


@pytest.mark.parametrize("what", ["votes", "questions"])
def test_a_flood(network: NetworkOfNodes, what: str) -> None:
    if what == "votes":
        channel, message, rate = Channel.CONSENSUS, encode(_vote(network, Kind.COMMIT, network.height(0) + 3)), 9_000
    else:
        channel, message, rate = Channel.BLOCKS, encode_sync(Get(1, 200)), 2_500
    guest, _ = _visit(network, settings=_flooding(network))
    before = _memory(network)
    with guest:
        _meet(network, guest)
        _pour(guest, channel, message, rate, lambda: _banned(network, guest))
        _bounded(network, before)
        _dropped(network, guest, Reason.FLOOD)


def test_a_flood_of_useless_transactions(network: NetworkOfNodes) -> None:
    """They are rightly signed, and expired: an honest node could send some. They cost time, and stop nothing."""
    raws = [signed("roaster", mint("member-0", 1), valid_until_ms=1).raw for _ in range(20)]
    [message] = gossip_messages(raws)
    guest, _ = _visit(network, settings=_flooding(network))
    before, heights = _memory(network), [network.height(index) for index in HONEST]
    began = time.monotonic()
    with guest:
        _meet(network, guest)
        _pour(guest, Channel.TRANSACTIONS, message, 2_000, lambda: time.monotonic() - began > 10)
        assert all(network.height(index) >= height + 2 for index, height in zip(HONEST, heights, strict=True))
        _bounded(network, before)
        _goes_on(network)


def test_transactions_of_another_chain(network: NetworkOfNodes) -> None:
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        [message] = gossip_messages([signed("roaster", mint("member-0", 1), chain_id="dev-other").raw])
        guest.broadcast(Channel.TRANSACTIONS, message)
        _dropped(network, guest, Reason.INVALID, "gossip")


def test_large_messages_of_a_real_validator(network: NetworkOfNodes) -> None:
    """Who has a validator's key can sign as much as it likes: what is held of it is bounded, and harms nobody."""
    guest, _ = _visit(network, settings=_flooding(network))
    before = _memory(network)
    with guest:
        _meet(network, guest)
        block = bytes(3 * MIB)
        for turn in range(12):
            height = network.height(0) + 1 + turn % 4
            vote = _vote(network, Kind.PROPOSAL, height, turn)
            guest.broadcast(Channel.CONSENSUS, encode(Proposal(vote, block)))
            threading.Event().wait(0.1)
        _goes_on(network)
        _bounded(network, before)


def test_a_validator_that_signs_whatever_it_likes(network: NetworkOfNodes) -> None:
    """Votes for blocks that nobody proposed, and round changes far ahead, rightly signed: no harm, and no progress."""
    guest, _ = _visit(network)
    with guest:
        _meet(network, guest)
        chain_id = network.genesis.chain_id
        before = max(network.height(index) for index in HONEST)
        while max(network.height(index) for index in HONEST) < before + 4:
            height = network.height(0) + 1
            claim = Claim(height, 900_000, None, None, _SIGNER)
            claim = claim._replace(signature=validator_key(3).sign(signed_payload(chain_id, claim)))
            guest.broadcast(Channel.CONSENSUS, encode(RoundChange(claim)))
            for kind in (Kind.PREPARE, Kind.COMMIT):
                guest.broadcast(Channel.CONSENSUS, encode(_vote(network, kind, height)))
            threading.Event().wait(0.1)
        assert all(network.describe(index)["round"] < 10 for index in HONEST)
        _goes_on(network)
