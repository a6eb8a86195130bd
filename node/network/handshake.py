"""The handshake: what two nodes prove to each other before they talk. Pure: messages in, messages out.

TLS has shown already that the peer holds the key of one registered certificate. The handshake shows the rest:

    both sides, at once     HELLO   versions, chain id, genesis id, node id, instance, nonce, listening address
    after the other's       PROOF   signature by the node's key over both HELLOs, both certificates and its own side

Rules kept here:
- chain id and genesis id must be ours, and the versions must overlap: the highest common one is spoken;
- the node id must be the key of the certificate that TLS saw, and not our own;
- a PROOF covers both nonces, so one of an earlier connection proves nothing in this one; it covers the signer's side
  (it dialled, or it accepted), so one cannot be thrown back at who made it; and both certificates, so it cannot be
  carried over from a connection to somebody else.

The instance is a random number of the running process: a peer that comes back with another one has been restarted,
and any older connection with it is dead, whatever TCP says.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from ledger import codec
from ledger.errors import Invalid, Refused, TrothError, define
from ledger.keys import PrivateKey, verify
from ledger.node_address import Address, parse_address
from ledger.node_certificate import certificate_key
from node.network.bans import Reason
from node.network.frames import HANDSHAKE_LENGTHS, HELLO

BAD_HELLO = define("E-PEER-004", "not a HELLO", "this peer speaks another protocol or is broken")
WRONG_CHAIN = define("E-PEER-005", "the peer is of another chain", "compare genesis.json with the other member's")
WRONG_VERSION = define("E-PEER-006", "the peer speaks no common protocol version", "upgrade the older of the two nodes")
WRONG_IDENTITY = define("E-PEER-007", "the peer is not the node that it says it is", "ask the other member")
OUT_OF_TURN = define("E-PEER-008", "a handshake message out of turn", "this peer speaks another protocol or is broken")

PROTOCOL_LOWEST = 1
PROTOCOL_HIGHEST = 1
NONCE_BYTES = 32
INSTANCE_BYTES = 16

_PROOF_PREFIX = b"troth/sign/node-handshake\0"


class Network(NamedTuple):
    """Which network this is: the chain and its genesis."""

    chain_id: str
    genesis_id: bytes
    lowest: int = PROTOCOL_LOWEST
    highest: int = PROTOCOL_HIGHEST


class Hello(NamedTuple):
    """What a node says of itself first. `address` is where it listens, or empty where it does not."""

    lowest: int
    highest: int
    chain_id: str
    genesis_id: bytes
    node: bytes
    instance: bytes
    nonce: bytes
    address: str


class Established(NamedTuple):
    """What a finished handshake has shown."""

    node: bytes
    version: int
    instance: bytes
    address: Address | None


def decode_hello(raw: bytes) -> Hello:
    """A HELLO of its bytes. Raises Invalid (E-PEER-004)."""
    try:
        value = codec.decode(raw, max_bytes=HANDSHAKE_LENGTHS[HELLO].most)
    except TrothError as error:
        raise Invalid(BAD_HELLO, error.cause) from None
    # A later version may say more. What it says first stays as it is, or nobody could tell it its version is unknown.
    if type(value) is not tuple or len(value) < len(Hello._fields):
        raise Invalid(BAD_HELLO, "a HELLO is an array of eight or more")
    hello = Hello(*value[: len(Hello._fields)])
    if not (type(hello.lowest) is int and type(hello.highest) is int and 0 < hello.lowest <= hello.highest):
        raise Invalid(BAD_HELLO, "the versions of a HELLO are two positive numbers, ascending")
    if type(hello.chain_id) is not str or type(hello.address) is not str:
        raise Invalid(BAD_HELLO, "chain id and address of a HELLO are text")
    lengths = (("genesis_id", 32), ("node", 32), ("instance", INSTANCE_BYTES), ("nonce", NONCE_BYTES))
    for name, length in lengths:
        part = getattr(hello, name)
        if type(part) is not bytes or len(part) != length:
            raise Invalid(BAD_HELLO, f"{name} of a HELLO is {length} bytes")
    if hello.address:
        try:
            parse_address(hello.address)
        except Invalid as error:
            raise Invalid(BAD_HELLO, error.cause) from None
    return hello


class Handshake:
    """One side of one handshake: send `hello`, feed `receive_hello`, send what it gives, feed `receive_proof`."""

    def __init__(
        self,
        network: Network,
        key: PrivateKey,
        *,
        own_certificate: bytes,
        peer_certificate: bytes,
        dialled: bool,
        instance: bytes,
        nonce: bytes,
        address: str,
    ) -> None:
        """`dialled`: whether this side opened the connection. `nonce` must be random and used once."""
        self._network, self._key, self._dialled = network, key, dialled
        self._own_certificate, self._peer_certificate = own_certificate, peer_certificate
        self.peer = certificate_key(peer_certificate)
        hello = Hello(
            network.lowest, network.highest, network.chain_id, network.genesis_id, key.public, instance, nonce, address
        )
        self.hello = codec.encode(hello)
        self._theirs: tuple[bytes, Hello] | None = None

    def receive_hello(self, raw: bytes) -> bytes:
        """Checks the peer's HELLO and returns our PROOF.

        Raises Invalid (E-PEER-004, E-PEER-008) and Refused (E-PEER-005 to E-PEER-007).
        """
        if self._theirs is not None:
            raise Invalid(OUT_OF_TURN, "a second HELLO")
        theirs = decode_hello(raw)
        network = self._network
        if theirs.chain_id != network.chain_id:
            raise Refused(WRONG_CHAIN, f"the peer is of chain {theirs.chain_id!r:.80}, we are of {network.chain_id!r}")
        if theirs.genesis_id != network.genesis_id:
            raise Refused(
                WRONG_CHAIN, f"the peer has genesis {theirs.genesis_id.hex()}, we have {network.genesis_id.hex()}"
            )
        if theirs.highest < network.lowest or network.highest < theirs.lowest:
            spoken = f"the peer speaks versions {theirs.lowest} to {theirs.highest}"
            raise Refused(WRONG_VERSION, f"{spoken}, we speak {network.lowest} to {network.highest}")
        if theirs.node != self.peer:
            raise Refused(WRONG_IDENTITY, f"the peer says it is {theirs.node.hex()}, its certificate {self.peer.hex()}")
        if theirs.node == self._key.public:
            raise Refused(WRONG_IDENTITY, "the peer has our own key", fix="give each node a key of its own")
        self._theirs = (raw, theirs)
        return self._key.sign(self._message(by_dialler=self._dialled))

    def receive_proof(self, signature: bytes) -> Established:
        """Checks the peer's PROOF. Raises Invalid (E-PEER-008) and Refused (E-PEER-007)."""
        if self._theirs is None:
            raise Invalid(OUT_OF_TURN, "a PROOF before the HELLO")
        _, theirs = self._theirs
        if not verify(self.peer, self._message(by_dialler=not self._dialled), signature):
            raise Refused(WRONG_IDENTITY, "the peer's PROOF is not a signature of this very handshake")
        address = parse_address(theirs.address) if theirs.address else None
        return Established(theirs.node, min(self._network.highest, theirs.highest), theirs.instance, address)

    def _message(self, *, by_dialler: bool) -> bytes:
        assert self._theirs is not None
        ours = (self.hello, sha256(self._own_certificate).digest())
        theirs = (self._theirs[0], sha256(self._peer_certificate).digest())
        dialler, acceptor = (ours, theirs) if self._dialled else (theirs, ours)
        return _PROOF_PREFIX + codec.encode(("dialler" if by_dialler else "acceptor", *dialler, *acceptor))


REASONS = {
    BAD_HELLO: Reason.GARBAGE,
    OUT_OF_TURN: Reason.GARBAGE,
    WRONG_CHAIN: Reason.WRONG_CHAIN,
    WRONG_VERSION: Reason.WRONG_VERSION,
    WRONG_IDENTITY: Reason.WRONG_IDENTITY,
}
"""The reason for which a connection ends, by the code of the error that a handshake raises."""


class Bond(NamedTuple):
    """What decides between two connections with one peer: did this side dial it, and with which instance is it."""

    dialled: bool
    instance: bytes


def newer_wins(own: bytes, peer: bytes, older: Bond, newer: Bond) -> bool:
    """Whether a new connection with a peer replaces the one there is. Both sides come to the same answer.

    A restarted peer's does, and a second one from the same side, which has lost its first. Where both have dialled at
    once, the connection of the smaller node id stays.
    """
    if older.instance != newer.instance or older.dialled == newer.dialled:
        return True
    return newer.dialled == (own < peer)
