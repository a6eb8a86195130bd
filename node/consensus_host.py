"""The host of the consensus engine: does what the engine says, in order, and tells it what happens.

    peers, timer, mempool -> inputs -> engine (pure) -> outputs -> store, signer, peers, builder, judge

Rules kept here:
- one task feeds the engine and carries out its outputs, one after the other; building and judging blocks run beside it
  and come back as inputs, so a long block never holds up a vote;
- what a COMMIT was prepared by is durable before the signer is asked; the signer's record is durable before it signs
  (`node.signer`); only what is signed is sent;
- a decided block is appended in one synced batch, published, and then the next height begins;
- blocks that others decided come in through the same task (`missed`), judged like any other, by certificate;
- nothing is signed before the node has caught up with what a quorum of nodes say of themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeAlias

from consensus import events
from consensus.engine import Engine
from consensus.evidence import DoubleSign
from consensus.guard import PreparedBlock, check_not_rolled_back
from consensus.messages import Decided, Message, signed_payload
from consensus.quorum import check_certificate
from ledger.block import Certificate, decode_block
from ledger.errors import Fault, TrothError, Unavailable, VerifyFailed
from ledger.transaction import SignedTransaction, check_signatures, decode
from node.builder import Built, build_block
from node.chain import INVALID_BLOCK, Candidate, Chain, Head
from node.committed import Committed, Steps
from node.log import logger
from node.mempool import Mempool
from node.signer import Signer
from node.verifier import Verifier

CLOCK_AHEAD_MS = 15_000
"""A proposed block's time may be so far ahead of this node's clock: so a wrong clock cannot drag the chain along."""

WAITING_MAX = 4_000
WAITING_BYTES_MAX = 32 << 20
"""Messages of one peer that may wait; more are dropped, as a network may. The peer sends its latest again."""

PUNISHED = frozenset({"BAD_SIGNATURE", "BAD_CERTIFICATE"})
"""Refusals that no honest node earns. An invalid block is not among them: a wrong clock makes one, and a validator that
is banned for it could not vote for the blocks of others either."""


class Network(Protocol):
    """What the host needs of the peers."""

    def broadcast(self, message: Message) -> None:
        """Sends a consensus message to all peers."""

    def send(self, peer: bytes, message: Message) -> None:
        """Sends a consensus message to one."""

    def accuse(self, peer: bytes, cause: str) -> None:
        """Drops a peer for what it sent."""

    def behind(self, peer: bytes, height: int) -> None:
        """Hears that a peer speaks of a height that this node has not reached."""

    def took(self, peer: bytes, count: int) -> None:
        """Hears how many of the blocks that a peer sent could be appended."""

    def advanced(self, head: Head) -> None:
        """Hears that the chain has a new head."""

    def evidence(self, double_sign: DoubleSign) -> None:
        """Hears of a validator that has signed twice."""


class Missed(NamedTuple):
    """Final blocks that a peer has sent, from a height upwards."""

    peer: bytes
    first: int
    blocks: tuple[tuple[bytes, Certificate], ...]


class _Message(NamedTuple):
    peer: bytes
    message: Message
    size: int


class _BuiltBlock(NamedTuple):
    height: int
    round: int
    built: Built | None


class _JudgedBlock(NamedTuple):
    ticket: int
    candidate: Candidate | None


_Next: TypeAlias = "events.Input | Missed | _BuiltBlock | _JudgedBlock"
_Input: TypeAlias = "_Next | _Message"


class ConsensusHost:
    """Runs agreement for a node until stopped. `write` runs an append where it holds up nobody."""

    def __init__(
        self,
        chain: Chain,
        engine: Engine,
        signer: Signer | None,
        mempool: Mempool,
        verifier: Verifier,
        network: Network,
        publish: Callable[[Committed], None],
        *,
        now_ms: Callable[[], int],
        write: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self.chain = chain
        self.engine = engine
        self.missed_rounds = 0
        self._signer = signer
        self._mempool = mempool
        self._verifier = verifier
        self._network = network
        self._publish = publish
        self._now_ms = now_ms
        self._write = write
        self._log = logger()
        self._inputs: deque[_Input] = deque()
        self._waiting: dict[bytes, tuple[int, int]] = {}
        self._arrived = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._candidates: dict[bytes, Candidate] = {}
        self._unfit: dict[bytes, list[tuple[bytes, TrothError]]] = {}
        self._steps: dict[bytes, tuple[float, float]] = {}
        self._consensus_seconds = 0.0
        self._work_told = 0
        self._block_at = time.monotonic()
        self._opened_height, self._opened_at = 0, self._block_at - self._interval

    # What others tell the host

    def wake(self) -> None:
        """Tells the host that transactions wait."""
        self._arrived.set()

    def put(self, event: _Input) -> None:
        """Queues an input."""
        self._inputs.append(event)
        self._arrived.set()

    def received(self, peer: bytes, message: Message, size: int) -> None:
        """Queues a peer's message of so many bytes, unless too much of that peer waits already."""
        count, held = self._waiting.get(peer, (0, 0))
        if count < WAITING_MAX and held + size <= WAITING_BYTES_MAX:
            self._waiting[peer] = count + 1, held + size
            self.put(_Message(peer, message, size))

    def stop(self) -> None:
        """Ends `run` after the input that is being worked on."""
        self._stopping = True
        self._arrived.set()

    # The loop

    async def run(self) -> None:
        """Runs until stopped. Raises Fault where store or signer fail: the node must then stop."""
        head = self.chain.head
        if head.height:  # a chain that stood still shows at once that it lives again
            self._block_at -= max((self._now_ms() - head.time_ms) / 1000, 0.0)
        try:
            await self._perform(self._next_height())
            while not self._stopping:
                event = await self._next()
                if event is not None:
                    await self._handle(event)
        finally:
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _next(self) -> _Next | None:
        """The next input: what waits, or the want of a block, or a tick when the engine asked for one."""
        if self._failure is not None:
            raise self._failure  # of building or judging: it is the node's
        if self._inputs:
            event = self._inputs.popleft()
            if isinstance(event, _Message):
                count, held = self._waiting[event.peer]
                self._waiting[event.peer] = count - 1, held - event.size
                return events.Received(event.peer, event.message)
            return event
        if self._wants_block():
            self._work_told = self.engine.height
            self._opened()
            return events.Work(self.engine.height)
        deadline = self.engine.deadline_ms
        if deadline is not None and time.monotonic_ns() // 1_000_000 >= deadline:  # however often the host is woken
            return events.Tick()
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience()):
                await self._arrived.wait()
            return None
        return events.Tick()

    def _wants_block(self) -> bool:
        now = time.monotonic()
        if self._work_told == self.engine.height or now < self._opened_at + self._interval:
            return False
        return len(self._mempool) > 0 or now >= self._block_at + self._heartbeat

    def _opened(self) -> None:
        """Notes when agreement on the present height began: the block interval runs from there to the next height.

        So a block that takes longer than the interval is followed at once by the next. The engine's own interval is
        zero: it opens a height when it is told of work, or by another's proposal.
        """
        if self._opened_height != self.engine.height:
            self._opened_height, self._opened_at = self.engine.height, time.monotonic()

    @property
    def _interval(self) -> float:
        return self.chain.genesis.parameters.block_interval_ms / 1000

    @property
    def _heartbeat(self) -> float:
        return self.chain.genesis.parameters.heartbeat_ms / 1000

    def _patience(self) -> float:
        deadline = self.engine.deadline_ms
        until = time.monotonic() + 60
        if self._work_told != self.engine.height:
            until = self._opened_at + self._interval if len(self._mempool) else self._block_at + self._heartbeat
        if deadline is not None:
            until = min(until, deadline / 1000)
        return max(until - time.monotonic(), 0.001)

    async def _handle(self, event: _Next) -> None:
        if isinstance(event, Missed):
            await self._take_missed(event)
            return
        if isinstance(event, _BuiltBlock):
            built = event.built
            if built is None or built.candidate.block.header.parent_id != self.chain.head.block_id:
                return
            self._remember(built.candidate, built.execute_seconds, built.tree_seconds)
            self._unfit[built.candidate.block_id] = built.unfit
            candidate = built.candidate
            event = events.Built(event.height, event.round, candidate.block_id, candidate.block_bytes)
        elif isinstance(event, _JudgedBlock):
            judged = event.candidate
            if judged is not None and judged.block.header.parent_id == self.chain.head.block_id:
                self._candidates[judged.block_id] = judged
            event = events.Judged(event.ticket, event.candidate is not None)
        await self._perform(self._engine(event))

    def _engine(self, event: events.Input) -> tuple[events.Output, ...]:
        began = time.perf_counter()
        outputs = self.engine.handle(event, time.monotonic_ns() // 1_000_000)
        self._consensus_seconds += time.perf_counter() - began
        return outputs

    def _remember(self, candidate: Candidate, execute: float, tree: float) -> None:
        self._candidates[candidate.block_id] = candidate
        self._steps[candidate.block_id] = (execute, tree)

    async def _perform(self, outputs: tuple[events.Output, ...]) -> None:
        """Carries outputs out in order. What a signature or a decision leads to comes after what was there before."""
        todo = deque(outputs)
        while todo:
            output = todo.popleft()
            if isinstance(output, events.Persist):
                if output.prepared is not None:
                    await self._persist(output.prepared)
            elif isinstance(output, events.Sign):
                todo += await self._sign(output)
            elif isinstance(output, events.Broadcast | events.Relay):
                self._network.broadcast(output.message)
            elif isinstance(output, events.Send):
                self._network.send(output.peer, output.message)
            elif isinstance(output, events.Build):
                self._start(self._build(output))
            elif isinstance(output, events.Judge):
                self._opened()
                self._start(self._judge(output))
            elif isinstance(output, events.Decide):
                todo += await self._decide(output)
            else:
                self._note(output)

    def _note(self, output: events.Output) -> None:
        if isinstance(output, events.AnswerDecided):
            if 0 < output.height <= self.chain.head.height:
                store = self.chain.store
                decided = Decided(store.certificate(output.height), store.block_bytes(output.height))
                self._network.send(output.peer, decided)
        elif isinstance(output, events.Behind):
            self._network.behind(output.peer, output.height)
        elif isinstance(output, events.Evidence):
            self._log.warning("a validator has signed twice", validator=output.double_sign.first.validator.hex())
            self._network.evidence(output.double_sign)
        elif isinstance(output, events.Refused):
            self._log.debug("message refused", kind=output.kind.name, reason=output.reason, cause=output.cause)
            if output.reason in PUNISHED:
                self._network.accuse(output.peer, f"{output.kind.name}: {output.cause}")

    # Signing

    async def _persist(self, prepared: PreparedBlock) -> None:
        await self._write(lambda: self.chain.store.keep_prepared(prepared))

    async def _sign(self, output: events.Sign) -> tuple[events.Output, ...]:
        if self._signer is None:
            return ()
        statement = output.statement
        try:
            signature = await self._signer.sign(signed_payload(self.engine.chain_id, statement))
        except Unavailable as error:  # a signer of its own is away: this node misses a vote, and asks again later
            self._log.warning("the signer does not answer", code=error.code, cause=error.cause)
            return ()
        return self._engine(events.Signed(statement._replace(signature=signature)))

    # Blocks

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            self._arrived.set()

    async def _build(self, output: events.Build) -> None:
        built = None
        if self.chain.head.block_id == output.parent_id:
            built = await build_block(self.chain, self._mempool, self.engine.address, self._now_ms())
        self.put(_BuiltBlock(output.height, output.round, built))

    async def _judge(self, output: events.Judge) -> None:
        known, head = self._candidates.get(output.block_id), self.chain.head
        if known is None:
            try:
                known = await self.judge_block(output.block_id, output.block, output.proposer)
            except VerifyFailed as error:
                if self.chain.head is head:  # else its height was decided meanwhile, and nobody asks any more
                    self._log.warning("block refused", height=output.height, cause=error.cause)
        elif output.proposer is not None and known.block.header.proposer != output.proposer:
            known = None
        self.put(_JudgedBlock(output.ticket, known))

    async def judge_block(self, block_id: bytes, data: bytes, proposer: bytes | None) -> Candidate:
        """Executes the bytes of a block that may follow the head. Raises VerifyFailed with the rule they break.

        What waits in the mempool is not verified again.
        """
        head = self.chain.head
        began, elsewhere = time.perf_counter(), 0.0
        try:
            block = decode_block(data)
            header = block.header
            if header.id() != block_id:
                raise VerifyFailed(INVALID_BLOCK, "its id is another than the one it is proposed under")
            if proposer is not None and header.proposer != proposer:
                raise VerifyFailed(INVALID_BLOCK, "it names another proposer than the one whose turn it is")
            if proposer is not None and header.time_ms > self._now_ms() + CLOCK_AHEAD_MS:
                raise VerifyFailed(INVALID_BLOCK, f"its time {header.time_ms} ms is ahead of this node's clock")
            left = time.perf_counter()
            transactions = await self._decode(block.transactions)
            elsewhere += time.perf_counter() - left
        except Fault:
            raise
        except VerifyFailed:
            raise
        except TrothError as error:
            raise VerifyFailed(INVALID_BLOCK, f"{error.code} {error.cause}") from error
        steps = self.chain.judging(block, transactions=transactions, verified=True)
        closing = self.chain.close_seconds
        while True:
            if self.chain.head is not head:
                raise VerifyFailed(INVALID_BLOCK, "the chain went on while it was judged")
            try:
                next(steps)
            except StopIteration as done:
                candidate: Candidate = done.value
                tree = self.chain.close_seconds - closing
                self._steps[block_id] = (time.perf_counter() - began - elsewhere - tree, tree)
                return candidate
            left = time.perf_counter()
            await asyncio.sleep(0)
            elsewhere += time.perf_counter() - left

    async def _decode(self, raws: tuple[bytes, ...]) -> list[SignedTransaction]:
        """A block's transactions, all verified: by this node's workers, now or when they came to the mempool."""
        find = self._mempool.find
        result: list[SignedTransaction] = []
        new: list[SignedTransaction] = []
        for number, raw in enumerate(raws):
            signed = find(raw)
            if signed is None:
                signed = decode(raw)
                new.append(signed)
            result.append(signed)
            if number % 256 == 255:
                await asyncio.sleep(0)
        if new:
            verdicts = await self._verifier.check([check for signed in new for check in signed.signature_checks()])
            if b"\0" in verdicts:
                for signed in new:
                    check_signatures(signed)
        return result

    async def _decide(self, output: events.Decide) -> tuple[events.Output, ...]:
        candidate = self._candidates.get(output.block_id)
        if candidate is None:
            candidate = await self.judge_block(output.block_id, output.block, None)
        await self._append(candidate, output.certificate)
        return self._next_height()

    async def _append(self, candidate: Candidate, certificate: Certificate) -> None:
        if any(seal.validator == self.engine.address for seal in certificate.seals):
            # A database may be as old as a record that was rolled back, or gone: the others' certificates are not.
            check_not_rolled_back(self.engine.record, certificate.height, certificate.round)
        began = time.perf_counter()
        head = await self._write(lambda: self.chain.append(candidate, certificate))
        execute, tree = self._steps.get(candidate.block_id, (0.0, 0.0))
        self.missed_rounds += certificate.round
        self._mempool.remove([signed.id for signed in candidate.transactions])
        for identifier, reason in self._unfit.get(candidate.block_id, ()):
            self._mempool.drop(identifier, reason)
        for kept in (self._candidates, self._unfit, self._steps):
            kept.clear()
        self._block_at = time.monotonic()
        steps = Steps(execute, tree, time.perf_counter() - began, self._consensus_seconds)
        self._consensus_seconds = 0.0
        self._publish(Committed(head, candidate, candidate.result.receipts, steps))
        self._network.advanced(head)

    def _next_height(self) -> tuple[events.Output, ...]:
        head = self.chain.head
        return self._engine(events.NewHeight(head.height + 1, head.block_id, self.chain.validators))

    # Blocks that others decided

    async def _take_missed(self, missed: Missed) -> None:
        """Appends blocks that a peer has sent, as far as they follow the head. A lie drops the peer."""
        taken = 0
        for height, (data, certificate) in enumerate(missed.blocks, missed.first):
            if self._stopping:
                return
            if height != self.chain.head.height + 1:
                continue
            try:
                check_certificate(certificate, self.chain.genesis.chain_id, certificate.block_id, self.chain.validators)
                if certificate.height != height:
                    raise VerifyFailed(INVALID_BLOCK, f"its certificate is of height {certificate.height}")
                candidate = self._candidates.get(certificate.block_id)
                if candidate is None:
                    candidate = await self.judge_block(certificate.block_id, data, None)
            except VerifyFailed as error:
                self._network.accuse(missed.peer, f"block {height}: {error.cause}")
                break
            await self._append(candidate, certificate)
            taken += 1
        if taken:
            await self._perform(self._next_height())
        self._network.took(missed.peer, taken)
