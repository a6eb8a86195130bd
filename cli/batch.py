"""Sending a batch: many rows in few transactions, resumable after a kill, nobody paid twice.

Rules kept here:
- which rows go together in a transaction follows from the file, the operation and the genesis document alone;
- the first call of each transaction carries a reference: the hash of file content, operation and number of the
  transaction. The chain accepts a reference of one signer once and for ever, so sending a transaction again, after
  its first copy has expired too, cannot do anything twice: E-VM-006 means that it was done before;
- where the file brings a reference for each row, those take its place, and rows that are done are left out;
- a transaction is noted in the journal when it is final, and never before;
- where a row is refused, nothing more is sent, and the row is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from cli.batch_file import Batch
from cli.batch_journal import Journal
from cli.client import NOT_FINAL, NodeClient, restated
from cli.transactions import (
    SIGNATURE_BYTES_MAX,
    Outcome,
    build,
    chain_facts,
    refusal,
    submit,
)
from ledger import codec
from ledger.address import to_text
from ledger.errors import Invalid, TrothError, Unavailable, define
from ledger.transaction import MAX_TRANSACTION_BYTES, Call, SignedTransaction
from vm import gas

if TYPE_CHECKING:
    from ledger.genesis import Parameters
    from ledger.keys import PrivateKey
    from vm.registry import Registry

ROW_REFUSED = define("E-BATCH-007", "a row was refused", "see the cause; rows of final transactions are not undone")
NO_ROOM = define(
    "E-BATCH-008", "a single row does not fit a block of this chain", "the chain's gas parameters are too low for it"
)

CALLS = (500, 250, 100, 50, 25, 10, 5, 2, 1)
"""How many calls a transaction may have: the first that fits. Other numbers would change what a resumed batch does."""
GROUP = 8
WAIT_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
OVERHEAD_BYTES = 512
GAS_MARGIN = 2_000

_USED = "E-VM-006"
_EXPIRED = "E-TX-004"


class Plan(NamedTuple):
    """The transactions of a batch: `calls` in each but the last, the rows (from, to) and the reference of each."""

    batch: Batch
    calls: int
    spans: tuple[tuple[int, int], ...]
    references: tuple[str, ...]

    def calls_of(self, number: int) -> list[Call]:
        """The calls of one transaction, the first with the transaction's reference."""
        start, end = self.spans[number]
        calls = list(self.batch.calls[start:end])
        if not self.batch.has_references:
            calls[0] = calls[0]._replace(arguments=(*calls[0].arguments, self.references[number]))
        return calls


class Summary(NamedTuple):
    """How a batch ended: rows and transactions in all, done in this run, and done before it."""

    rows: int
    transactions: int
    sent: int
    done_before: int
    height: int | None


def operation_name(batch: Batch) -> str:
    """The operation in words: method and fixed arguments, as the journal and the summary name it."""
    operation = batch.operation
    kinds = {parameter.name: parameter.kind for parameter in operation.method.parameters}
    fixed = "".join([f" {name}={kinds[name].to_json(value)}" for name, value in operation.fixed.items()])
    return f"{operation.contract}.{operation.method.name}{fixed}"


def make_plan(batch: Batch, parameters: Parameters) -> Plan:
    """Divides a batch into transactions that fit the chain's blocks and quotas. Raises Invalid (E-BATCH-008).

    What no role is needed for must fit the quota of a consumer, whoever signs.
    """
    quota = parameters.organisation_gas if batch.operation.method.role else parameters.consumer_gas
    gas_max = min(quota, parameters.block_gas - parameters.reserved_gas)
    bytes_max = min(MAX_TRANSACTION_BYTES, parameters.block_bytes)
    sizes = [len(codec.encode(call)) for call in batch.calls]
    for count in CALLS:
        starts = range(0, len(sizes), count)
        totals = [sum(sizes[start : start + count]) + OVERHEAD_BYTES for start in starts]
        most = max(totals)
        if most <= bytes_max and _gas(batch, min(count, len(sizes)), most) <= gas_max:
            spans = tuple([(start, min(start + count, len(sizes))) for start in starts])
            return Plan(batch, count, spans, tuple([_reference(batch, number) for number in range(len(spans))]))
    raise Invalid(NO_ROOM, f"a row needs more than {gas_max} gas or {bytes_max} bytes")


def _gas(batch: Batch, calls: int, raw_bytes: int) -> int:
    return gas.intrinsic(raw_bytes) + calls * batch.operation.method.gas + GAS_MARGIN


def _reference(batch: Batch, number: int) -> str:
    operation = batch.operation
    fixed = tuple(operation.fixed.items())
    content = codec.encode(("troth/batch/1", batch.digest, operation.contract, operation.method.name, fixed, number))
    return sha256(content).hexdigest()


class Runner:
    """Sends a planned batch with one key, noting in `journal` what is final. `advance` hears of finished rows."""

    def __init__(
        self,
        client: NodeClient,
        registry: Registry,
        key: PrivateKey,
        address: bytes,
        plan: Plan,
        journal: Journal,
        *,
        advance: Callable[[int], None],
        patience_seconds: float = PATIENCE_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self.client = client
        self.registry = registry
        self.key = key
        self.address = address
        self.plan = plan
        self.journal = journal
        self.advance = advance
        self.patience_seconds = patience_seconds
        self.wait_seconds = wait_seconds
        self._sent: dict[int, SignedTransaction] = {}
        self._calls: dict[int, list[int]] = {}
        self._done_here = 0
        self._height: int | None = None

    def run(self) -> Summary:
        """Sends what is not done. Raises the refusal of a row with its number, Unavailable where the node is away.

        Whatever it raises, the journal holds what was done, and the same run again goes on from there.
        """
        plan, done = self.plan, self.journal.done
        left = [number for number in range(len(plan.spans)) if number not in done]
        before = len(plan.spans) - len(left)
        self.advance(sum([end - start for number, (start, end) in enumerate(plan.spans) if number in done]))
        if left:
            self.check_first(left[0])
        for start in range(0, len(left), GROUP):
            self._finish(left[start : start + GROUP])
        rows = len(plan.batch.calls)
        return Summary(rows, len(plan.spans), self._done_here, before + len(left) - self._done_here, self._height)

    def check_first(self, number: int) -> None:
        """Simulates a transaction, so that what is wrong with all of them is said before any is sent."""
        receipt = self._patiently(lambda: self.client.simulate(self._signed(number).raw))
        if not receipt["ok"] and receipt["code"] != _USED:
            failure = self._blame(number, receipt)
            raise restated(failure, f"{failure.cause}; {self._progress()}")

    def _finish(self, numbers: list[int]) -> None:
        """Brings a group of transactions to their end, however often it takes."""
        deadline = time.monotonic() + self.patience_seconds
        pause = 0.2
        while numbers:
            outcomes = self._patiently(partial(self._submit, numbers))
            ended: dict[int, int | None] = {}
            waiting: list[int] = []
            failure: TrothError | None = None
            later: TrothError | None = None
            for number, outcome in zip(numbers, outcomes, strict=True):
                try:
                    if self._is_done(number, outcome):
                        ended[number] = outcome.height
                    else:
                        waiting.append(number)
                except Unavailable as error:
                    later = error
                    waiting.append(number)
                except TrothError as error:
                    failure = failure or error
            self._note(ended)
            if failure is not None:
                raise restated(failure, f"{failure.cause}; {self._progress()}")
            if ended:
                deadline, pause = time.monotonic() + self.patience_seconds, 0.2
            elif waiting and time.monotonic() > deadline:
                raise later or Unavailable(
                    NOT_FINAL, f"{len(waiting)} transactions still wait for a block", fix="run the same command again"
                )
            elif waiting:
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            numbers = waiting

    def _submit(self, numbers: Sequence[int]) -> list[Outcome]:
        return submit(self.client, [self._signed(number) for number in numbers], wait_seconds=self.wait_seconds)

    def _is_done(self, number: int, outcome: Outcome) -> bool:
        """True where a transaction is done; False where it must be sent or asked for again. Raises its refusal."""
        if outcome.status == "waiting":
            return False
        if outcome.error is not None:
            if outcome.error["code"] == _EXPIRED:
                del self._sent[number]
                return False
            raise self._refused(number, outcome.error)
        receipt = outcome.receipt or {}
        if receipt.get("ok"):
            self._done_here += 1
            self._height = max(self._height or 0, outcome.height or 0)
            return True
        if receipt.get("code") != _USED:
            raise self._blame(number, receipt)
        if not self.plan.batch.has_references:
            return True
        return not self._leave_out_done(number)

    def _leave_out_done(self, number: int) -> bool:
        """Leaves the rows whose own references were used out of a transaction. False where none remains."""
        batch = self.plan.batch
        left = []
        for row in self._rows(number):
            key = [to_text(self.address), batch.calls[row].arguments[-1]]
            if not self.client.state(batch.operation.contract, "references", key)["exists"]:
                left.append(row)
        self._calls[number] = left
        del self._sent[number]
        return bool(left)

    def _rows(self, number: int) -> list[int]:
        rows = self._calls.get(number)
        return list(range(*self.plan.spans[number])) if rows is None else rows

    def _signed(self, number: int) -> SignedTransaction:
        signed = self._sent.get(number)
        if signed is None:
            if number in self._calls:
                calls = [self.plan.batch.calls[row] for row in self._calls[number]]
            else:
                calls = self.plan.calls_of(number)
            size = sum([len(codec.encode(call)) for call in calls]) + OVERHEAD_BYTES + SIGNATURE_BYTES_MAX
            limit = _gas(self.plan.batch, len(calls), size)
            facts = chain_facts(self.client.chain())
            transaction = build(self.registry, facts, [self.address], calls, gas_limit=limit)
            signed = self._sent[number] = transaction.sign([self.key])
        return signed

    def _note(self, ended: Mapping[int, int | None]) -> None:
        if not ended:
            return
        heights = [height for height in ended.values() if height is not None]
        self.journal.record(ended, max(heights, default=None))
        for number in ended:
            start, end = self.plan.spans[number]
            self._sent.pop(number, None)
            self.advance(end - start)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Asks a node that may be starting again. Raises Unavailable when the patience has run out."""
        deadline = time.monotonic() + self.patience_seconds
        pause = 0.2
        while True:
            try:
                return ask()
            except Unavailable as error:
                if time.monotonic() + pause > deadline:
                    fix = "when the node is there again, run the same command: it goes on where it stopped"
                    raise restated(error, fix=fix) from None
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _refused(self, number: int, described: dict[str, Any]) -> TrothError:
        error = refusal(described)
        if not isinstance(error, Unavailable):
            first, last = self._row_numbers(number)
            restated(error, f"rows {first} to {last}: {error.cause}")
        return error

    def _blame(self, number: int, receipt: dict[str, Any]) -> TrothError:
        """The error of a failed receipt, with the row of the call that failed."""
        error = refusal(receipt)
        failed = receipt.get("failed_call")
        if failed is not None:
            row = self.plan.batch.rows[self._rows(number)[failed]]
            restated(error, f"row {row}: {error.cause}")
        return error

    def _row_numbers(self, number: int) -> tuple[int, int]:
        rows = self._rows(number)
        return self.plan.batch.rows[rows[0]], self.plan.batch.rows[rows[-1]]

    def _progress(self) -> str:
        done = self.journal.done
        if not done:
            return "nothing of this file has taken effect"
        paid = [self._row_numbers(number) for number in sorted(done)]
        joined: list[tuple[int, int]] = []
        for number, (first, last) in zip(sorted(done), paid, strict=True):
            if joined and number - 1 in done:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        spans = ", ".join([f"{first} to {last}" for first, last in joined])
        return f"rows {spans} have taken effect, the others have not"
