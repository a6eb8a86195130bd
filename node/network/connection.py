"""One connection with one peer, on top of TLS: handshake, frames in, frames out, signs of life.

Rules kept here:
- nothing is taken after a connection has ended, so nothing can pile up in one that is on its way out;
- every end has a reason, which goes to the peer as BYE where it can still be told, and to the owner always;
- messages are handed on in the order in which they came, those of one channel that came together at once;
- what is to be sent is joined and written once for each turn of the loop, and stays in the outbox, in order of
  importance, while the peer does not take it;
- reading pauses while the peer is over its rate, or the owner holds it.

No timers of its own but two short ones: the owner calls `check` every now and then.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from ledger import codec
from ledger.errors import Invalid, Refused, TrothError, VerifyFailed
from node.network.bans import Reason
from node.network.certificates import peer_certificate
from node.network.frames import (
    BYE,
    HANDSHAKE_LENGTHS,
    HELLO,
    OVERSIZE_FRAME,
    PING,
    PONG,
    PROOF,
    Channel,
    Frames,
    frame,
)
from node.network.handshake import REASONS, Bond, Established, Handshake
from node.network.meter import Meter
from node.network.outbox import CONTROL, Outbox
from node.network.settings import Settings

PIECE_BYTES = 64 << 10
DETAIL_CHARACTERS = 240

# Nobody listens at the other end, or nobody who should learn more.
_UNTOLD = frozenset({Reason.LOST, Reason.TOLD, Reason.SILENT, Reason.STALLED, Reason.SLOW_READER})


class Owner(Protocol):
    """What a connection asks of whoever made it, and tells it."""

    settings: Settings

    def now(self) -> float:
        """Seconds of a clock that never goes back."""

    def admit(self, connection: Connection) -> tuple[Reason, str, int] | None:
        """Why this peer, known by its certificate, may not stay: reason, detail, seconds of ban; or None."""

    def shake(self, connection: Connection, certificate: bytes) -> Handshake:
        """A new handshake with it."""

    def opened(self, connection: Connection, established: Established) -> None:
        """The handshake is done."""

    def received(self, connection: Connection, channel: Channel, messages: list[bytes]) -> None:
        """Messages came. Invalid or VerifyFailed raised here end the connection as misbehaviour."""

    def ended(self, connection: Connection, reason: Reason, detail: str, seconds: int) -> None:
        """It is over. `seconds`: how long the peer said that we shall stay away."""

    def lost(self, connection: Connection) -> None:
        """Its socket is closed; comes after `ended`."""


class Connection(asyncio.Protocol):
    """A connection, from TLS to its end. `peer` is the key of the peer's certificate, known once TLS is done."""

    def __init__(self, owner: Owner, *, dialled: bytes | None) -> None:
        """`dialled`: the node that this side wanted to reach; None where the peer came by itself."""
        self._owner = owner
        self._settings = owner.settings
        self.expected = dialled
        self.peer = b""
        self.remote = ""
        self.established: Established | None = None
        self.is_over = False
        self.began = self.received_at = owner.now()
        self.rtt_seconds: float | None = None
        self.bytes_in = self.bytes_out = 0
        self.messages_in = dict.fromkeys(Channel, 0)
        self.messages_out = dict.fromkeys(Channel, 0)
        self.outbox = Outbox(self._settings.rooms)
        self._transport: asyncio.Transport | None = None
        self._handshake: Handshake | None = None
        self._frames = Frames(HANDSHAKE_LENGTHS)
        self._meter = Meter(self._settings.rates, self._settings.flood_seconds, self.began)
        self._frame_since: float | None = None
        self._blocked_since: float | None = None
        self._flush_due = False
        self._pinged_at = self.began
        self._ping = 0
        self._pong_due = False
        self._held = False
        self._throttle: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None

    @property
    def dialled(self) -> bool:
        """Whether this side opened it."""
        return self.expected is not None

    @property
    def bond(self) -> Bond:
        """What decides between two connections with one peer. Only of an established one."""
        assert self.established is not None
        return Bond(self.dialled, self.established.instance)

    @property
    def buffered(self) -> int:
        """Bytes that this connection holds in queues: unfinished frame, outbox, TLS."""
        written = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._frames.held + self.outbox.bytes + written

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is done: the peer has a certificate of a registered node, though maybe not of the one expected."""
        self._transport = made = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        made.set_write_buffer_limits(high=self._settings.write_bytes)
        address = made.get_extra_info("peername")
        self.remote = str(address[0]) if address else ""
        self.began = self.received_at = self._pinged_at = self._owner.now()
        try:
            certificate = peer_certificate(made.get_extra_info("ssl_object"))
            handshake = self._owner.shake(self, certificate)
        except (Invalid, Refused) as error:
            self.end(Reason.UNREGISTERED, error.cause)
            return
        self.peer = handshake.peer
        if self.expected is not None and self.peer != self.expected:
            self.end(Reason.OTHER_NODE, f"node {self.peer.hex()} answers in the place of {self.expected.hex()}")
            return
        refusal = self._owner.admit(self)
        if refusal is not None:
            self.end(refusal[0], refusal[1], seconds=refusal[2])
            return
        self._handshake = handshake
        self._control(HELLO, handshake.hello)

    def data_received(self, data: bytes) -> None:
        """Reads frames and hands messages on."""
        if self.is_over:
            return
        now = self.received_at = self._owner.now()
        self.bytes_in += len(data)
        wait = 0.0
        channel: Channel | None = None
        batch: list[bytes] = []
        fault: TrothError | None = None
        frames = self._frames.read(data)
        try:
            while True:
                try:
                    kind, body = next(frames)
                except StopIteration:
                    break
                except Invalid as error:  # what came before it still counts
                    fault = error
                    break
                if kind != channel:
                    wait = max(wait, self._hand_on(channel, batch, now))
                    if self.is_over:  # by the owner's decision
                        return
                    channel, batch = None, []
                if kind >= Channel.CONSENSUS:
                    channel = Channel(kind) if channel is None else channel
                    batch.append(body)
                else:
                    wait = max(wait, self._meter.charge(CONTROL, 1, len(body), now))
                    self._own_frame(kind, body, now)
                if self.is_over:
                    return
            wait = max(wait, self._hand_on(channel, batch, now))
        except (Invalid, VerifyFailed) as error:
            fault = error
        if fault is not None:
            self._misbehaved(fault)
            return
        if self._frames.held == 0:
            self._frame_since = None
        elif self._frame_since is None:
            self._frame_since = now
        if wait > 0 and not self.is_over:
            self._pause_for(wait)

    def pause_writing(self) -> None:
        """The peer takes no more for now."""
        self._blocked_since = self._owner.now()

    def resume_writing(self) -> None:
        """It does again."""
        self._blocked_since = None
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, wanted or not."""
        for timer in (self._throttle, self._linger):
            if timer is not None:
                timer.cancel()
        if not self.is_over:
            self.is_over = True
            self._owner.ended(self, Reason.LOST, _why_lost(exc), 0)
        self._owner.lost(self)

    # For the owner

    def send(self, channel: Channel, framed: bytes) -> bool:
        """Queues a frame of a channel. False where the connection ends instead, as the peer reads too slowly."""
        if self.is_over or self.established is None:
            return False
        if not self.outbox.put(channel, framed):
            self.end(Reason.SLOW_READER, f"{self.outbox.waiting(channel).messages} messages wait and none is taken")
            return False
        self.messages_out[channel] += 1
        self._flush_soon()
        return True

    def end(self, reason: Reason, detail: str, *, seconds: int = 0) -> None:
        """Ends the connection for a reason. `seconds`: how long the peer shall stay away."""
        if self.is_over:
            return
        self.is_over = True
        transport = self._transport
        if transport is not None:
            if reason in _UNTOLD or self._blocked_since is not None or self.outbox.in_midst:
                transport.abort()
            else:
                text = detail.encode("ascii", "replace").decode("ascii")[:DETAIL_CHARACTERS]
                transport.write(frame(BYE, codec.encode((reason.word, text, seconds))))
                # Unread bytes would turn the close into a reset, which overtakes the BYE; they are read and ignored.
                transport.resume_reading()
                transport.close()
                loop = asyncio.get_running_loop()
                self._linger = loop.call_later(self._settings.linger_seconds, transport.abort)
        self._owner.ended(self, reason, detail, 0)

    def hold(self) -> None:
        """Reads nothing more until `release`."""
        self._held = True
        self._set_reading()

    def release(self) -> None:
        """Reads again."""
        self._held = False
        self._set_reading()

    def check(self, now: float) -> None:
        """Ends the connection where it has broken a time; sends a PING where one is due."""
        if self.is_over or self._transport is None:
            return
        times = self._settings
        if self.established is None:
            if now - self.began >= times.handshake_seconds:
                self.end(Reason.HANDSHAKE_TIMEOUT, f"no handshake within {times.handshake_seconds:g} s")
            return
        if self._blocked_since is not None and now - self._blocked_since >= times.stalled_seconds:
            self.end(Reason.SLOW_READER, f"nothing was taken for {times.stalled_seconds:g} s")
        elif self._meter.flooding(now):
            self.end(Reason.FLOOD, f"more than its rate for {times.flood_seconds:g} s")
        elif self._held or self._throttle is not None:
            self.received_at = now  # it is this side that does not read
            if self._frame_since is not None:
                self._frame_since = now
        elif now - self.received_at >= times.silent_seconds:
            self.end(Reason.SILENT, f"not a byte for {times.silent_seconds:g} s")
        elif self._frame_since is not None and now - self._frame_since >= times.frame_seconds:
            self.end(Reason.STALLED, f"one frame takes longer than {times.frame_seconds:g} s")
        if now - self._pinged_at >= times.ping_seconds and not self.is_over:
            self._pinged_at = now
            self._ping += 1
            self._pong_due = True
            self._control(PING, self._ping.to_bytes(8, "big"))

    # Within

    def _own_frame(self, kind: int, body: bytes, now: float) -> None:
        if kind == PING:
            self._control(PONG, body)
        elif kind == PONG:
            if self._pong_due and int.from_bytes(body, "big") == self._ping:
                self._pong_due = False
                self.rtt_seconds = now - self._pinged_at
        elif kind == BYE:
            word, detail, seconds = _read_bye(body)
            self.is_over = True
            assert self._transport is not None
            self._transport.close()
            self._linger = asyncio.get_running_loop().call_later(self._settings.linger_seconds, self._transport.abort)
            self._owner.ended(self, Reason.TOLD, f"{word}: {detail}", seconds)
        else:
            self._shake(kind, body)

    def _shake(self, kind: int, body: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
        try:
            if kind == HELLO:
                self._control(PROOF, handshake.receive_hello(body))
                return
            established = handshake.receive_proof(body)
        except Refused as error:
            self._misbehaved(error)
            return
        self._handshake = None
        self.established = established
        self._frames.lengths = self._settings.lengths
        self._owner.opened(self, established)

    def _hand_on(self, channel: Channel | None, batch: list[bytes], now: float) -> float:
        if channel is None:
            return 0.0
        self.messages_in[channel] += len(batch)
        wait = self._meter.charge(channel, len(batch), sum(map(len, batch)), now)
        self._owner.received(self, channel, batch)
        return wait

    def _misbehaved(self, error: TrothError) -> None:
        if self.is_over:
            return
        if error.code == OVERSIZE_FRAME:
            reason = Reason.OVERSIZE
        elif self.established is None or error.code.startswith("E-PEER-"):
            reason = REASONS.get(error.code, Reason.GARBAGE)
        else:
            reason = Reason.INVALID
        self.end(reason, error.cause)

    def _control(self, kind: int, body: bytes) -> None:
        if self.outbox.put(CONTROL, frame(kind, body)):
            self._flush_soon()
        else:
            self.end(Reason.SLOW_READER, "not even answers to PING are taken")

    def _flush_soon(self) -> None:
        if not self._flush_due and self._blocked_since is None:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is None:
            return
        while self._blocked_since is None and not self.is_over:
            piece = self.outbox.take(PIECE_BYTES)
            if not piece:
                return
            self.bytes_out += len(piece)
            transport.write(piece)

    def _pause_for(self, seconds: float) -> None:
        if self._throttle is not None:
            self._throttle.cancel()
        self._throttle = asyncio.get_running_loop().call_later(seconds, self._unthrottle)
        self._set_reading()

    def _unthrottle(self) -> None:
        self._throttle = None
        self._set_reading()

    def _set_reading(self) -> None:
        if self.is_over or self._transport is None:
            return
        if self._held or self._throttle is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _read_bye(body: bytes) -> tuple[str, str, int]:
    value = codec.decode(body)
    if not (type(value) is tuple and [type(part) for part in value] == [str, str, int] and value[2] >= 0):
        raise Invalid(codec.MALFORMED, "a BYE is a word, a text and a number of seconds")
    return value[0][:32], value[1][:DETAIL_CHARACTERS], value[2]


def _why_lost(error: Exception | None) -> str:
    if error is None:
        return "the peer closed the connection"
    text = str(error) or type(error).__name__
    if "UNKNOWN_CA" in text.upper().replace(" ", "_"):
        return "the peer does not know our certificate"
    return text[:DETAIL_CHARACTERS]
