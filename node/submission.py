"""The way of a submitted transaction: bytes, decode, checks, verification, mempool, and its end in a block.

One bad transaction of a batch is refused by itself, with its code, cause and fix. Whoever waits is told of the end
of each: final with its receipt, or refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ledger.address import to_text
from ledger.errors import Invalid, Refused, TrothError
from ledger.receipt import Receipt
from ledger.transaction import (
    BAD_SIGNATURE,
    SignedTransaction,
    check_chain,
    check_signatures,
    check_validity,
    decode,
)
from node.chain import Chain
from node.committed import Committed
from node.mempool import ALREADY_WAITING, Mempool
from node.verifier import Verifier
from vm import gas
from vm.executor import DUPLICATE, GAS_LIMIT, QUOTA


class Outcome(NamedTuple):
    """What became of a submitted transaction: its id (empty if unreadable); a receipt, an error or neither yet."""

    id: bytes
    height: int | None = None
    receipt: Receipt | None = None
    error: TrothError | None = None


class _Waiter:
    """One submission that waits for several transactions."""

    __slots__ = ("future", "left")

    def __init__(self, future: asyncio.Future[None], left: int) -> None:
        self.future = future
        self.left = left

    def one_done(self) -> None:
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class _Pending:
    """A transaction that somebody waits for."""

    __slots__ = ("outcome", "waiters")

    def __init__(self) -> None:
        self.waiters: list[_Waiter] = []
        self.outcome: Outcome | None = None


class Submissions:
    """Takes transactions in, and tells those who wait what became of them."""

    def __init__(self, chain: Chain, mempool: Mempool, verifier: Verifier) -> None:
        self.chain = chain
        self.mempool = mempool
        self.verifier = verifier
        self.wake: Callable[[], None] = lambda: None
        self.gossip: Callable[[list[SignedTransaction]], None] = lambda signed: None
        self.decode_seconds = 0.0
        self.refused = 0
        self.accepted = 0
        self._pending: dict[bytes, _Pending] = {}
        self._stopped: TrothError | None = None

    async def submit(
        self, raws: Sequence[bytes], wait_seconds: float | None = None, *, from_peer: bool = False
    ) -> list[Outcome]:
        """What became of each of `raws`, in order; with `wait_seconds`, after waiting so long for their end.

        What is let in is told to the peers, unless it comes from one.
        """
        outcomes: list[Outcome | None] = [None] * len(raws)
        admitted: list[tuple[int, SignedTransaction]] = []
        began = time.perf_counter()
        time_ms = self.chain.head.time_ms
        for position, raw in enumerate(raws):
            try:
                signed = decode(raw)
            except TrothError as error:
                outcomes[position] = Outcome(b"", error=error)
                continue
            try:
                self._check(signed, time_ms)
            except TrothError as error:
                outcomes[position] = _refusal(signed, error, wait_seconds is not None)
                continue
            admitted.append((position, signed))
        self.decode_seconds += time.perf_counter() - began
        if admitted:
            let_in = await self._verify(admitted, outcomes, wait_seconds is not None)
            if let_in and not from_peer:
                self.gossip(let_in)
        waiting: dict[bytes, _Pending] = {}
        if wait_seconds is not None:
            for outcome in outcomes:
                if outcome is not None and outcome.error is None and outcome.id in self.mempool:
                    waiting[outcome.id] = self._pending.setdefault(outcome.id, _Pending())
        self.wake()
        if self._stopped is not None:
            self.stop(self._stopped)
        elif waiting and wait_seconds is not None:
            await self._wait(waiting, wait_seconds)
        result: list[Outcome] = []
        for outcome in outcomes:
            assert outcome is not None  # every position was given an outcome above
            ended = waiting.get(outcome.id)
            if ended is not None and ended.outcome is not None:
                outcome = ended.outcome
            elif ended is None and outcome.error is None and wait_seconds is not None:
                outcome = self._met_its_end(outcome)
            result.append(outcome)
        self.refused += sum([outcome.error is not None for outcome in result])
        return result

    def _check(self, signed: SignedTransaction, time_ms: int) -> None:
        """The rules that need no signature: so that what cannot stand in any block is refused before it costs much."""
        transaction, chain = signed.transaction, self.chain
        parameters = chain.genesis.parameters
        check_chain(transaction, chain.genesis.chain_id)
        now = max(time_ms, int(time.time() * 1000))
        check_validity(transaction, now, parameters.validity_window_ms)
        for call in transaction.calls:
            chain.registry.validate_call(call)
        low, high = gas.intrinsic(len(signed.raw)), parameters.block_gas - parameters.reserved_gas
        if not low <= transaction.gas_limit <= high:
            raise Invalid(GAS_LIMIT, f"gas limit {transaction.gas_limit}; between {low} and {high} are taken")
        highest = max(parameters.consumer_gas, parameters.organisation_gas)
        if transaction.gas_limit > min(parameters.consumer_gas, parameters.organisation_gas):
            _, read = chain.read_head()
            member = chain.membership(read, transaction.actors[0])
            highest = parameters.consumer_gas if member is None else parameters.organisation_gas
        if transaction.gas_limit > highest:
            payer = to_text(transaction.actors[0])
            raise Refused(QUOTA, f"gas limit {transaction.gas_limit}; {payer} may use {highest} in a block", fix=_SPLIT)
        self.mempool.check(signed)

    async def _verify(
        self, admitted: list[tuple[int, SignedTransaction]], outcomes: list[Outcome | None], waits: bool
    ) -> list[SignedTransaction]:
        let_in: list[SignedTransaction] = []
        checks = [check for _, signed in admitted for check in signed.signature_checks()]
        head = self.chain.head
        verdicts = await self.verifier.check(checks)
        everything = b"\0" not in verdicts
        start = 0
        for position, signed in admitted:
            end = start + len(signed.signatures)
            try:
                if not everything and b"\0" in verdicts[start:end]:
                    check_signatures(signed)
                    raise Invalid(BAD_SIGNATURE, "a signature does not verify")
                if self.chain.head is not head:  # a block may have taken the same transaction, sent by another, since
                    self.mempool.check(signed)
                self.mempool.add(signed)
            except TrothError as error:
                met_its_end = waits and error.code == DUPLICATE
                outcomes[position] = Outcome(signed.id) if met_its_end else _refusal(signed, error, waits)
            else:
                self.accepted += 1
                let_in.append(signed)
                outcomes[position] = Outcome(signed.id)
            start = end
        return let_in

    def _met_its_end(self, outcome: Outcome) -> Outcome:
        """What became of one that waited when it was sent again, where a block took it before anyone could wait."""
        store = self.chain.store
        if not store.has_transaction(outcome.id):
            return outcome
        height, position = store.locate(outcome.id)
        return Outcome(outcome.id, height, store.receipts(height)[position])

    async def _wait(self, waiting: dict[bytes, _Pending], seconds: float) -> None:
        waiter = _Waiter(asyncio.get_running_loop().create_future(), len(waiting))
        for pending in waiting.values():
            pending.waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.future
        except TimeoutError:
            pass  # what has not ended is reported as waiting
        finally:
            for identifier, pending in waiting.items():
                if pending.outcome is None:
                    pending.waiters.remove(waiter)
                    if not pending.waiters:
                        self._pending.pop(identifier, None)

    def committed(self, block: Committed) -> None:
        """Tells those who wait for transactions of a block that they are final."""
        pending = self._pending
        if not pending:
            return
        height = block.head.height
        for receipt in block.receipts:
            if receipt.transaction_id in pending:
                self._end(Outcome(receipt.transaction_id, height, receipt))

    def dropped(self, identifier: bytes, error: TrothError) -> None:
        """Tells those who wait for a transaction that it was given up."""
        self._end(Outcome(identifier, error=error))

    def _end(self, outcome: Outcome) -> None:
        entry = self._pending.pop(outcome.id, None)
        if entry is not None:
            entry.outcome = outcome
            for waiter in entry.waiters:
                waiter.one_done()

    def stop(self, reason: TrothError, *, outcome_unknown: bool = False) -> None:
        """Tells everyone who waits, now or later, why they wait in vain.

        Where the outcome is unknown (a block's write failed, and may yet be found done), nobody is told that a
        transaction was refused: it is reported as waiting, to be asked for by its id once the node is back.
        """
        self._stopped = reason
        for identifier in list(self._pending):
            self._end(Outcome(identifier, error=None if outcome_unknown else reason))


def _refusal(signed: SignedTransaction, error: TrothError, waits: bool) -> Outcome:
    """What a refusal means to who sent it: one who waits for the end waits for a transaction that was sent before."""
    if waits and error.code == ALREADY_WAITING:
        return Outcome(signed.id)
    return Outcome(signed.id, error=error)


_SPLIT = "split it into smaller transactions, or lower the gas limit"
