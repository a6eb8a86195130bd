"""The bounds and times of the network, in one place. Sizes in bytes, times in seconds.

A connection costs this node at most: one unfinished frame, the rooms of its outbox, and TLS buffers of about half a
megabyte. There are as many connections as registered nodes, and a bounded number that is still to prove itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.genesis import Parameters
from node.network.frames import Channel, Lengths, open_lengths
from node.network.meter import Rate
from node.network.outbox import CONTROL, Room

PROPOSAL_OVERHEAD_BYTES = 4 << 20
"""What a consensus message may hold besides a block: justifications of a large validator set."""

TRANSACTIONS_BYTES = 1 << 20
"""The longest gossip message of transactions."""


class Settings(NamedTuple):
    """Bounds and times; see the fields. `lengths`, `rates` and `rooms` are by kind of frame."""

    lengths: Mapping[int, Lengths]
    rates: Mapping[int, Rate]
    rooms: Mapping[int, Room]
    handshake_seconds: float = 5.0
    """For TLS, and once more for HELLO and PROOF."""
    dial_seconds: float = 5.0
    """For name, TCP and TLS of a connection that this node opens."""
    ping_seconds: float = 2.0
    silent_seconds: float = 8.0
    """Without a byte from the peer."""
    frame_seconds: float = 60.0
    """For one frame, from its head to its last byte."""
    stalled_seconds: float = 20.0
    """Without the peer taking what is sent."""
    flood_seconds: float = 10.0
    linger_seconds: float = 1.0
    """For a last frame to leave before the connection is cut."""
    tick_seconds: float = 0.2
    backoff_seconds: float = 0.25
    backoff_most_seconds: float = 3.0
    steady_seconds: float = 5.0
    """A connection that lasted so long clears the record of failures."""
    write_bytes: int = 128 << 10
    """What TLS may hold of the outbox, which orders nothing any more."""
    handshakes_per_node: int = 4
    openings_per_second: float = 0.5
    """Finished handshakes of connections that one node opens; each makes this node tell it what it may have missed."""
    openings_at_once: int = 20
    pending: int = 64
    """Connections in TLS handshake, in all."""
    pending_per_address: int = 16
    arrivals_per_second: float = 20.0
    """New connections from one address, and twice as many at once."""


def settings_for(parameters: Parameters) -> Settings:
    """The settings of a chain with these parameters: a frame must hold its largest block."""
    consensus = blocks = parameters.block_bytes + PROPOSAL_OVERHEAD_BYTES
    return Settings(
        lengths=open_lengths(consensus, blocks, TRANSACTIONS_BYTES),
        rates={
            CONTROL: Rate(messages=50, bytes=50 * 1024),
            Channel.CONSENSUS: Rate(messages=4_000, bytes=4 * consensus),
            Channel.BLOCKS: Rate(messages=1_000, bytes=4 * blocks),
            Channel.TRANSACTIONS: Rate(messages=2_000, bytes=8 << 20),
        },
        rooms={
            CONTROL: Room(messages=64, bytes=64 * 1024),
            Channel.CONSENSUS: Room(messages=4_000, bytes=2 * consensus),
            Channel.BLOCKS: Room(messages=256, bytes=blocks + (4 << 20)),
            Channel.TRANSACTIONS: Room(messages=20_000, bytes=8 << 20),
        },
    )
