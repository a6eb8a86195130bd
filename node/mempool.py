"""The mempool: transactions that are well-formed and signed, and wait for a block.

Rules kept here:
- it is bounded in transactions and bytes, in all and for each sender (the first actor); what is refused gets a reason;
- no sender can crowd out another: blocks take one transaction of each sender in turn;
- an id waits once, and what the chain includes is not taken again;
- what can no longer stand in a block (expired) is dropped, and whoever waits for it is told.

It judges no signature: only verified transactions are put in.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ledger.address import to_text
from ledger.errors import Refused, TrothError, Unavailable, define
from ledger.transaction import SignedTransaction
from vm.executor import DUPLICATE

POOL_FULL = define("E-TX-014", "the mempool is full", "send it again in a few seconds")
SENDER_FULL = define(
    "E-TX-015", "too many transactions of one sender wait", "wait until some are final, then send it again"
)
ALREADY_WAITING = define("E-TX-016", "the transaction waits already", "nothing to do: ask for it by its id")


class Limits(NamedTuple):
    """Bounds of the mempool: transactions and bytes, in all and for each sender."""

    transactions: int = 40_000
    bytes: int = 64 << 20
    sender_transactions: int = 20_000
    sender_bytes: int = 48 << 20


class _Sender:
    __slots__ = ("bytes", "queue")

    def __init__(self) -> None:
        self.queue: deque[SignedTransaction] = deque()
        self.bytes = 0


class Mempool:
    """See the module's rules. `is_known` tells whether the chain includes an id; `dropped` hears of what is dropped."""

    def __init__(
        self, limits: Limits, is_known: Callable[[bytes], bool], dropped: Callable[[bytes, TrothError], None]
    ) -> None:
        self.limits = limits
        self._is_known = is_known
        self._dropped = dropped
        self._by_id: dict[bytes, SignedTransaction] = {}
        self._by_raw: dict[bytes, SignedTransaction] = {}
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self._by_id

    def get(self, identifier: bytes) -> SignedTransaction | None:
        """The waiting transaction of that id, or None."""
        return self._by_id.get(identifier)

    def find(self, raw: bytes) -> SignedTransaction | None:
        """The waiting transaction of exactly these bytes, decoded and verified when it came; None where none waits."""
        return self._by_raw.get(raw)

    def check(self, signed: SignedTransaction) -> None:
        """Raises Refused or Unavailable where the transaction cannot wait here; to ask before verifying it."""
        self._check_room(signed)
        if self._is_known(signed.id):
            raise Refused(DUPLICATE, f"transaction {signed.id.hex()} is in the chain already")

    def _check_room(self, signed: SignedTransaction) -> None:
        if signed.id in self._by_id:
            raise Refused(ALREADY_WAITING, f"transaction {signed.id.hex()} waits for a block already")
        size = len(signed.raw)
        limits = self.limits
        if len(self._by_id) >= limits.transactions or self.bytes + size > limits.bytes:
            raise Unavailable(POOL_FULL, f"{len(self._by_id)} transactions of {self.bytes} bytes wait")
        sender = self._senders.get(signed.transaction.actors[0])
        if sender is not None and (
            len(sender.queue) >= limits.sender_transactions or sender.bytes + size > limits.sender_bytes
        ):
            who = to_text(signed.transaction.actors[0])
            raise Unavailable(SENDER_FULL, f"{len(sender.queue)} transactions of {who} wait")

    def add(self, signed: SignedTransaction) -> None:
        """Takes a transaction that was checked and verified. Raises as `check` does, where the room is gone by now.

        Should a block have included it meanwhile, the next block drops it.
        """
        self._check_room(signed)
        address = signed.transaction.actors[0]
        sender = self._senders.get(address)
        if sender is None:
            sender = self._senders[address] = _Sender()
        size = len(signed.raw)
        sender.queue.append(signed)
        sender.bytes += size
        self.bytes += size
        self._by_id[signed.id] = signed
        self._by_raw[signed.raw] = signed

    def candidates(self) -> Iterator[SignedTransaction]:
        """Waiting transactions for a block: one of each sender in turn, each sender's in order of arrival.

        Nothing is removed: call `remove` with what a block took. What arrives meanwhile waits for the next block.
        """
        turns = deque([iter(tuple(sender.queue)) for sender in self._senders.values()])
        while turns:
            turn = turns.popleft()
            signed = next(turn, None)
            if signed is not None:
                turns.append(turn)
                yield signed

    def remove(self, identifiers: Iterable[bytes]) -> None:
        """Forgets transactions that a block has taken. Senders that were served go behind those that were not."""
        gone = dict.fromkeys(identifiers)  # in the block's order, so that turns are kept among those served
        served: dict[bytes, None] = {}
        for identifier in gone:
            signed = self._by_id.pop(identifier, None)
            if signed is not None:
                del self._by_raw[signed.raw]
                served[signed.transaction.actors[0]] = None
        for address in served:
            sender = self._senders[address]
            kept = deque([signed for signed in sender.queue if signed.id not in gone])
            self.bytes -= sender.bytes
            if kept:
                sender.queue = kept
                sender.bytes = sum([len(signed.raw) for signed in kept])
                self.bytes += sender.bytes
                self._senders.move_to_end(address)
            else:
                del self._senders[address]

    def drop(self, identifier: bytes, reason: TrothError) -> None:
        """Gives a transaction up, and tells whoever waits for it why."""
        if identifier in self._by_id:
            self.remove((identifier,))
            self._dropped(identifier, reason)
