"""Consensus hosts in one process: real engines, chains in memory, and a post between them that a test can interrupt.

    async with Hall(4) as hall:             four validators, running and caught up
        hall.offer(signed(...))             puts a transaction into everybody's mempool
        await hall.height(1)                waits until all of them have the block

Hosts run on the real event loop, and nothing else is real: no disk, no sockets, no processes. `journal` of each host
says in which order it wrote, signed, sent and published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, cast

from consensus import events
from consensus.engine import Engine
from consensus.events import Settings as EngineSettings
from consensus.evidence import DoubleSign
from consensus.guard import Record, advance, first_record
from consensus.messages import Kind, Message, decode, encode, kind_of, parse_payload
from ledger.block import Block
from ledger.errors import TrothError
from ledger.genesis import Genesis, Parameters
from ledger.keys import verify
from ledger.transaction import SignedTransaction
from node.chain import Candidate, Chain, Head
from node.committed import Committed
from node.consensus_host import ConsensusHost
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from node.mempool import Limits, Mempool
from node.verifier import Verifier
from tests.chains import START_MS, account, genesis, key, validator

DAY_MS = 24 * 60 * 60 * 1000
QUIET = Parameters(block_interval_ms=10, heartbeat_ms=DAY_MS)
NAMES = ("validator", "second", "third", "fourth")
WAIT_SECONDS = 30.0


class CountingChain(Chain):
    """A chain that counts the blocks that it executes to judge them."""

    judged = 0

    def judging(
        self, block: Block, *, transactions: Sequence[SignedTransaction] | None = None, verified: bool = False
    ) -> Generator[None, None, Candidate]:
        self.judged += 1
        return super().judging(block, transactions=transactions, verified=verified)


class CountingVerifier:
    """Verifies at once, and counts."""

    def __init__(self) -> None:
        self.checked = 0

    async def check(self, checks: list[tuple[bytes, bytes, bytes]]) -> bytes:
        self.checked += len(checks)
        return bytes([verify(*each) for each in checks])


class MemorySigner:
    """A validator's key with its record in memory, behind the real guard."""

    def __init__(self, name: str, record: Record, journal: list[str]) -> None:
        self._key = key(name)
        self._record = record
        self._journal = journal
        self.address = account(name)
        self.public_key = self._key.public
        self.refusal: TrothError | None = None

    def record(self) -> Record:
        return self._record

    async def sign(self, payload: bytes) -> bytes:
        if self.refusal is not None:
            raise self.refusal
        self._record = advance(self._record, payload)
        _, statement = parse_payload(payload, self.address)
        self._journal.append(f"sign {kind_of(statement).name}")
        await asyncio.sleep(0)
        return self._key.sign(payload)

    async def close(self) -> None:
        """Nothing to close."""


class Desk:
    """One node: chain, mempool, engine, host, and its side of the post (`node.consensus_host.Network`)."""

    def __init__(self, hall: Hall, name: str, *, signs: bool = True, record: Record | None = None) -> None:
        self.hall = hall
        self.name = name
        self.id = account(name).ljust(32, b"\0")
        self.journal: list[str] = []
        self.accused: list[tuple[bytes, str]] = []
        self.ahead: list[tuple[bytes, int]] = []
        self.taken: list[tuple[bytes, int]] = []
        self.published: list[Committed] = []
        self.given_up: dict[bytes, str] = {}
        self.now_ms = START_MS + 10_000
        self.sent: list[Message] = []
        self.chain = CountingChain(LedgerStore(MemoryStore()), registry(), hall.genesis)
        self.mempool = Mempool(Limits(), self.chain.store.has_transaction, self._dropped)
        self.verifier = CountingVerifier()
        record = record or first_record(hall.genesis.chain_id)
        self.signer = MemorySigner(name, record, self.journal) if signs else None
        self.clock: Callable[[], int] = lambda: self.now_ms
        self.write: Callable[[Callable[[], Any]], Any] = lambda act: act()
        self.host = self._host(record)

    def _host(self, record: Record) -> ConsensusHost:
        engine = Engine(
            self.hall.genesis.chain_id,
            account(self.name) if self.signer else bytes(20),
            record,
            None,
            EngineSettings(block_interval_ms=0, timeout_ms=self.hall.timeout_ms, timeout_cap_ms=1_000, repeat_ms=200),
        )
        return ConsensusHost(
            self.chain,
            engine,
            self.signer,
            self.mempool,
            cast("Verifier", self.verifier),
            self,
            self._publish,
            now_ms=lambda: self.clock(),
            write=self._write,
        )

    async def _write(self, act: Callable[[], Any]) -> Any:
        self.journal.append("write")
        result = self.write(act)
        return await result if asyncio.iscoroutine(result) else result

    def _publish(self, committed: Committed) -> None:
        assert self.chain.head == committed.head  # durable and in place before anyone is told
        self.journal.append("publish")
        self.published.append(committed)
        self.hall.changed()

    def _dropped(self, identifier: bytes, error: TrothError) -> None:
        self.given_up[identifier] = error.code

    # node.consensus_host.Network

    def broadcast(self, message: Message) -> None:
        self.journal.append(f"send {kind_of(message).name}")
        self.sent.append(message)
        for desk in self.hall.desks:
            if desk is not self:
                self.hall.deliver(self, desk, message)
        self.hall.changed()

    def send(self, peer: bytes, message: Message) -> None:
        self.sent.append(message)
        for desk in self.hall.desks:
            if desk.id == peer:
                self.hall.deliver(self, desk, message)
        self.hall.changed()

    def accuse(self, peer: bytes, cause: str) -> None:
        self.accused.append((peer, cause))
        self.hall.changed()

    def behind(self, peer: bytes, height: int) -> None:
        self.ahead.append((peer, height))

    def took(self, peer: bytes, count: int) -> None:
        self.taken.append((peer, count))
        self.hall.changed()

    def advanced(self, head: Head) -> None:
        assert head == self.chain.head

    def evidence(self, double_sign: DoubleSign) -> None:
        self.chain.store.keep_evidence(double_sign)
        self.hall.changed()


class Hall:
    """The hosts of one chain. `async with` runs those that are `present` and ends them; what ended one is raised."""

    def __init__(
        self,
        count: int = 4,
        *,
        parameters: Parameters = QUIET,
        timeout_ms: int = 10_000,
        absent: Iterable[str] = (),
        agreed: Genesis | None = None,
    ) -> None:
        self.timeout_ms = timeout_ms
        self.genesis = agreed or genesis(parameters, validators=[validator(name) for name in NAMES[:count]])
        self.desks = [Desk(self, name) for name in NAMES[:count] if name not in set(absent)]
        self.lost: Callable[[Desk, Desk, Message], bool] = lambda sender, receiver, message: False
        self.runs: dict[str, asyncio.Task[None]] = {}
        self._change = asyncio.Event()

    async def __aenter__(self) -> Hall:
        for desk in self.desks:
            self.begin(desk)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for desk in self.desks:
            desk.host.stop()
        ended = await asyncio.gather(*self.runs.values(), return_exceptions=True)
        if error is None:
            for each in ended:
                if each is not None:
                    raise each

    def begin(self, desk: Desk, *, caught_up: bool = True) -> asyncio.Task[None]:
        """Runs a host."""
        if caught_up:
            desk.host.put(events.CaughtUp(True))
        self.runs[desk.name] = task = asyncio.get_running_loop().create_task(desk.host.run())
        return task

    def desk(self, name: str) -> Desk:
        """The one of that name."""
        return next(desk for desk in self.desks if desk.name == name)

    def proposer(self, height: int, round_: int = 0) -> str:
        """Whose turn it is."""
        validators = self.genesis.validators
        address = validators[(height + round_) % len(validators)].address
        return next(name for name in NAMES if account(name) == address)

    def deliver(self, sender: Desk, receiver: Desk, message: Message) -> None:
        """Brings a message, as bytes, unless the post loses it."""
        if not self.lost(sender, receiver, message):
            data = encode(message)
            receiver.host.received(sender.id, decode(data), len(data))

    def offer(self, *transactions: SignedTransaction) -> None:
        """Puts transactions into everybody's mempool."""
        for desk in self.desks:
            for each in transactions:
                desk.mempool.add(each)
            desk.host.wake()

    def changed(self) -> None:
        """Something has happened that a test may wait for."""
        self._change.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits until it holds. A host that ends meanwhile raises what ended it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                for run in self.runs.values():
                    if run.done():
                        run.result()
                self._change.clear()
                waiting = asyncio.ensure_future(self._change.wait())
                await asyncio.wait([waiting, *self.runs.values()], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()

    async def height(self, height: int) -> None:
        """Waits until all have that block, and checks that it is the same."""
        await self.until(lambda: all(desk.chain.head.height >= height for desk in self.desks))
        assert len({desk.chain.store.block_bytes(height) for desk in self.desks}) == 1


def run(test: Callable[[], Any]) -> None:
    """Runs an asynchronous test, for a bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(2 * WAIT_SECONDS):
            await test()

    asyncio.run(bounded())


def kinds(messages: Iterable[Message]) -> list[Kind]:
    """The kinds of messages."""
    return [kind_of(message) for message in messages]
