"""The host of one engine in the simulation: it does what the outputs say, in their order, on a disk and a ledger.

It is the model of a production host: `Persist` before anything after it; signatures only by the guard's durable record;
blocks judged and built beside; one append at a time; block sync by certificate; nothing signed before a quorum's worth
of peers, itself included, is known to be no further than it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from consensus import events as out
from consensus.engine import Engine
from consensus.events import Input, Output, Settings
from consensus.guard import (
    Record,
    advance,
    check_not_rolled_back,
    decode_prepared,
    decode_record,
    encode_prepared,
    encode_record,
    first_record,
)
from consensus.messages import Decided, Message, signed_payload
from consensus.quorum import check_certificate
from consensus.tally import Committee
from ledger.errors import TrothError
from tests.consensus_kit import CHAIN, address, signed, verify
from tests.simulation.disk import CrashError, Disk
from tests.simulation.ledger import Ledger

if TYPE_CHECKING:
    from tests.simulation.world import World

SYNC_BLOCKS = 8


class Status(NamedTuple):
    """A peer says how high its chain is."""

    height: int


class Get(NamedTuple):
    """A peer asks for blocks from a height on."""

    height: int


class Blocks(NamedTuple):
    """Blocks with their certificates, ascending."""

    blocks: tuple[Decided, ...]


class Host:
    """A node. `honest` nodes are watched by the checks; a twin is not, though it runs the same code."""

    engine_class: type[Engine] = Engine

    def __init__(
        self,
        world: World,
        name: str,
        index: int,
        open_ledger: Callable[[Disk], Ledger],
        settings: Settings,
        *,
        honest: bool,
        clock: tuple[int, int],
    ) -> None:
        self.world, self.name, self.index, self.address = world, name, index, address(index)
        self.open_ledger, self.settings, self.honest = open_ledger, settings, honest
        self.clock_offset_ms, self.clock_permille = clock
        self.random = world.random
        self.disk = Disk(world.random)
        self.disk.write("record", encode_record(first_record(CHAIN)))
        self.disk.sync()
        self.up = False
        self.life = 0
        self.ledger: Ledger
        self.engine: Engine

    # Life and death

    def start(self) -> None:
        """Starts, or starts again, from what the disk holds."""
        self.up, self.life = True, self.life + 1
        self.queue: deque[Output] = deque()
        self.busy = False
        self.heard: dict[bytes, int] = {}
        self.asked_ms = -10_000
        self.tick_at: int | None = None
        self.ledger = self.open_ledger(self.disk)
        record = decode_record(self.disk.read("record"))
        kept = self.disk.read("prepared")
        self._check_record(record)
        if self.honest:
            self.world.checks.starts(self.address, self.ledger.height)
        prepared = decode_prepared(kept) if kept else None
        self.engine = self.engine_class(CHAIN, self.address, record, prepared, self.settings, verify)
        self._next_height()
        self._status()

    def _check_record(self, record: Record) -> None:
        """The chain may show that this record is an old one. (A twin's other half signs too.)"""
        if self.ledger.height and self.honest:
            _, certificate = self.ledger.decided(self.ledger.height)
            if any(seal.validator == self.address for seal in certificate.seals):
                check_not_rolled_back(record, certificate.height, certificate.round)

    def crash(self) -> None:
        """Stops here; what was not synced may be lost."""
        self.up, self.life = False, self.life + 1
        self.disk.crash()

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Runs an action later, if the node has not crashed in between. A crash inside of it is the node's."""
        life = self.life

        def guarded() -> None:
            if self.up and self.life == life:
                self._run(action)

        self.world.after(delay_ms, guarded)

    def _run(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CrashError:
            self.crash()
            self.world.crashed(self)

    # The engine

    def now_ms(self) -> int:
        """The node's own clock: off by an offset, and too fast or too slow."""
        return self.clock_offset_ms + self.world.now * self.clock_permille // 1_000

    def feed(self, event: Input, intact: bool = False) -> None:
        """Gives the engine an input and does what it says."""
        outputs = self.engine.handle(event, self.now_ms())
        if self.honest and isinstance(event, out.Received):
            for each in outputs:
                if isinstance(each, out.Refused):
                    self.world.checks.refuses(self.address, event.peer, each, intact)
        self.queue.extend(outputs)
        self._work()
        self._schedule_tick()

    def _schedule_tick(self) -> None:
        deadline = self.engine.deadline_ms
        if deadline is None:
            return
        at = -((self.clock_offset_ms - deadline) * 1_000 // self.clock_permille)  # rounded up
        at = max(at, self.world.now + 1)
        if self.tick_at is None or at < self.tick_at or self.tick_at <= self.world.now:
            self.tick_at = at
            self.after(at - self.world.now, self._tick)

    def _tick(self) -> None:
        self.tick_at = None
        self.feed(out.Tick())

    def _work(self) -> None:
        while self.queue and not self.busy and self.up:
            self._do(self.queue.popleft())

    def _blocking(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Something that everything behind it has to wait for."""
        self.busy = True

        def finish() -> None:
            self.busy = False
            action()
            self._work()

        self.after(delay_ms, finish)

    def _do(self, output: Output) -> None:
        world, random = self.world, self.random
        if isinstance(output, out.Persist):
            persist = output
            self._blocking(random.randint(0, 3), lambda: self._persist(persist))
        elif isinstance(output, out.Sign):
            asked = output
            self._blocking(random.randint(0, 1), lambda: self._sign(asked))
        elif isinstance(output, out.Broadcast):
            if self.honest:
                world.checks.sends(self.address, output.message)
            world.broadcast(self, output.message)
        elif isinstance(output, out.Send):
            world.send(self, output.peer, output.message)
        elif isinstance(output, out.Build):
            build = output
            self.after(random.randint(0, 20), lambda: self._build(build))
        elif isinstance(output, out.Judge):
            judge = output
            self.after(random.randint(0, 20), lambda: self._judge(judge))
        elif isinstance(output, out.Decide):
            decide = output
            if self.honest:
                world.checks.decides(self.address, decide, self.ledger.validators(decide.height))
            self._blocking(random.randint(0, 5), lambda: self._append(decide))
        elif isinstance(output, out.AnswerDecided):
            if output.height <= self.ledger.height:
                world.send(self, output.peer, self._decided(output.height))
        elif isinstance(output, out.Behind):
            self._ask_blocks(output.peer)
        elif isinstance(output, out.NeedBlock):
            self._ask_blocks(random.choice(output.holders))
        elif isinstance(output, out.Evidence) and self.honest:
            world.checks.accuses(output, self.ledger.validators(output.double_sign.first.height))

    def _persist(self, persist: out.Persist) -> None:
        if persist.prepared is not None:
            self.disk.write("prepared", encode_prepared(persist.prepared))
            self.disk.sync()
        self.disk.write("record", encode_record(persist.record))
        self.disk.sync()

    def _sign(self, asked: out.Sign) -> None:
        statement = asked.statement
        durable = self.disk.durable("record")
        record = decode_record(durable)
        if self.honest:
            self.world.checks.signs(self.address, statement, record.payload)
        advance(record, signed_payload(CHAIN, statement))
        self.feed(out.Signed(signed(statement)))

    def _build(self, build: out.Build) -> None:
        if (build.height, build.parent_id) == (self.ledger.height + 1, self.ledger.head_id):
            block_id, block = self.ledger.build(self.address, self.random.getrandbits(32))
            self.feed(out.Built(build.height, build.round, block_id, block))

    def _judge(self, judge: out.Judge) -> None:
        if judge.height == self.ledger.height + 1:
            valid = self.ledger.judge(judge.block_id, judge.block, judge.proposer)
            self.feed(out.Judged(judge.ticket, valid))

    # The chain

    def _append(self, decide: out.Decide) -> None:
        if decide.height == self.ledger.height + 1:
            self._commit(Decided(decide.certificate, decide.block))
            self._next_height()

    def _commit(self, decided: Decided) -> None:
        height, _, block_id, _ = decided.certificate
        parent = self.ledger.head_id
        self.ledger.append(block_id, decided.block, decided.certificate)
        if self.honest:
            validators = self.ledger.validators(height)
            self.world.checks.appends(self.address, height, decided.block, parent, decided.certificate, validators)

    def _next_height(self) -> None:
        height = self.ledger.height + 1
        members = [self.ledger.validators(each) for each in (height, height + 1)]
        self.feed(out.NewHeight(height, self.ledger.head_id, *members))
        self._check_caught_up()
        self.after(self.world.idle_ms(), lambda: self.feed(out.Work(height)))

    def _decided(self, height: int) -> Decided:
        block, certificate = self.ledger.decided(height)
        return Decided(certificate, block)

    # The network

    def receive(self, peer: bytes, payload: Message | Status | Get | Blocks, intact: bool) -> None:
        """Something has arrived."""
        self._run(lambda: self._receive(peer, payload, intact))

    def _receive(self, peer: bytes, payload: Message | Status | Get | Blocks, intact: bool) -> None:
        if isinstance(payload, Status):
            self.heard[peer] = payload.height
            self._check_caught_up()
            if payload.height > self.ledger.height:
                self._ask_blocks(peer)
        elif isinstance(payload, Get):
            until = min(self.ledger.height, payload.height + SYNC_BLOCKS - 1)
            if 1 <= payload.height <= until:
                blocks = [self._decided(each) for each in range(payload.height, until + 1)]
                self.world.send(self, peer, Blocks(tuple(blocks)))
        elif isinstance(payload, Blocks):
            self._take_blocks(payload.blocks)
        else:
            self.feed(out.Received(peer, payload), intact)

    def connected(self, peer: bytes) -> None:
        """The way to a peer is open again."""
        self._run(lambda: self.feed(out.Connected(peer)))

    def _status(self) -> None:
        self.world.broadcast(self, Status(self.ledger.height))
        self.after(500, self._status)

    def _check_caught_up(self) -> None:
        """Whether those known to be no further than this node are, with it, a quorum."""
        if self.engine.caught_up:
            return
        level = [peer for peer, height in self.heard.items() if height <= self.ledger.height]
        if Committee(self.ledger.validators(self.ledger.height + 1)).is_quorum([self.address, *level]):
            self.feed(out.CaughtUp(True))

    def _ask_blocks(self, peer: bytes) -> None:
        if self.world.now - self.asked_ms >= 100:
            self.asked_ms = self.world.now
            self.world.send(self, peer, Get(self.ledger.height + 1))

    def _take_blocks(self, blocks: tuple[Decided, ...]) -> None:
        """Block sync: each block by a certificate of its height's validators, then by its own validity."""
        if self.busy:
            return  # an append is under way; the peer will say again how high it is
        before = self.ledger.height
        for decided in blocks:
            certificate, block = decided
            if certificate.height != self.ledger.height + 1:
                continue
            members = self.ledger.validators(certificate.height)
            try:
                check_certificate(certificate, CHAIN, certificate.block_id, members, verify)
            except TrothError:
                break
            if not self.ledger.judge(certificate.block_id, block, None):
                break
            self._commit(decided)
        if self.ledger.height > before:
            self.queue.clear()  # all of it was about heights that are over
            self._next_height()
