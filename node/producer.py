"""The producer: makes the blocks of a chain with one validator.

A block is made when transactions wait and the block interval has passed, or when the heartbeat is due, so a quiet
chain still shows that it lives.

"Four validators" puts the QBFT engine in this place; a chain of one is then its smallest case.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from ledger.address import address_of
from ledger.block import Certificate, Seal, commit_message
from ledger.errors import Invalid, define
from ledger.keys import PrivateKey
from node.builder import build_block
from node.chain import Candidate, Chain, Head
from node.committed import Committed, Steps
from node.mempool import Mempool

NOT_A_VALIDATOR = define("E-NODE-002", "the key is no validator's", "use the key that the genesis document names")


class Producer:
    """Runs until cancelled. `publish` is told of each block after it is durable, before the next is begun."""

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        key: PrivateKey,
        publish: Callable[[Committed], None],
        *,
        now_ms: Callable[[], int],
        write: Callable[[Callable[[], Head]], Awaitable[Head]],
    ) -> None:
        self.chain = chain
        self.mempool = mempool
        self.key = key
        self.address = address_of(key.public)
        if all(validator.address != self.address for validator in chain.validators) or len(chain.validators) != 1:
            raise Invalid(
                NOT_A_VALIDATOR, f"key {key.public.hex()} is not the single validator of {chain.genesis.chain_id}"
            )
        self._publish = publish
        self._now_ms = now_ms
        self._write = write
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    def wake(self) -> None:
        """Tells the producer that transactions wait."""
        self._wake.set()

    def stop(self) -> None:
        """Ends `run` after the block that is being made."""
        self._stop.set()
        self._wake.set()

    async def run(self) -> None:
        """Makes blocks. Raises Fault where the store fails: the node must then stop."""
        parameters = self.chain.genesis.parameters
        interval, heartbeat = parameters.block_interval_ms / 1000, parameters.heartbeat_ms / 1000
        head = self.chain.head
        # A chain that stood still, its node being off, shows at once that it lives again.
        silence = (self._now_ms() - head.time_ms) / 1000 if head.height else 0
        last = time.monotonic() - max(silence, interval)
        while not self._stop.is_set():
            self._wake.clear()
            if not len(self.mempool):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(last + heartbeat - time.monotonic(), 0.001))
            pause = last + interval - time.monotonic()
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause)
            if self._stop.is_set() or (not len(self.mempool) and time.monotonic() < last + heartbeat):
                continue
            last = time.monotonic()
            await self.make_block()

    async def make_block(self) -> Committed:
        """Makes, seals, stores and publishes one block of what waits now."""
        chain = self.chain
        built = await build_block(chain, self.mempool, self.address, self._now_ms())
        assert built is not None  # nobody else appends
        candidate = built.candidate
        certificate = self._seal(candidate)
        closed = time.perf_counter()
        head = await self._write(lambda: chain.append(candidate, certificate))
        steps = Steps(built.execute_seconds, built.tree_seconds, time.perf_counter() - closed)
        self.mempool.remove([signed.id for signed in candidate.transactions])
        for identifier, reason in built.unfit:
            self.mempool.drop(identifier, reason)
        committed = Committed(head, candidate, candidate.result.receipts, steps)
        self._publish(committed)
        return committed

    def _seal(self, candidate: Candidate) -> Certificate:
        height = candidate.block.header.height
        message = commit_message(self.chain.genesis.chain_id, height, 0, candidate.block_id)
        return Certificate(height, 0, candidate.block_id, (Seal(self.address, self.key.sign(message)),))
