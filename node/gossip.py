"""Transactions between nodes: what one has let in, it tells the others, so that whoever proposes next has it.

    message   an array of transactions as byte strings

Validators are connected each with each, so nothing is passed on a second time. A node that has just connected is told
what waits here. Each receiver judges for itself; nobody's verification counts for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ledger import codec
from ledger.errors import Invalid, define
from ledger.transaction import SignedTransaction
from node.network.settings import TRANSACTIONS_BYTES

MALFORMED = define("E-GOSSIP-001", "malformed gossip of transactions", "the peer runs other software, or is faulty")

DELAY_SECONDS = 0.005
"""How long transactions wait for others to travel with."""

MESSAGE_BYTES = TRANSACTIONS_BYTES // 2
TOLD_AT_ONCE = 5_000
"""Most waiting transactions that a node is told of when it connects."""


class Gossip:
    """Collects transactions and sends them in messages of a good size. `broadcast` queues one message for all peers."""

    def __init__(self, broadcast: Callable[[bytes], object]) -> None:
        self._broadcast = broadcast
        self._waiting: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, signed: Sequence[SignedTransaction]) -> None:
        """Takes transactions that this node has let in from its own clients."""
        self._waiting += [each.raw for each in signed]
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self._flush)

    def close(self) -> None:
        """Sends nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _flush(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for message in messages(waiting):
            self._broadcast(message)


def messages(raws: Sequence[bytes]) -> list[bytes]:
    """Gossip messages that hold these transactions, each of about `MESSAGE_BYTES` at most."""
    result: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and size + len(raw) > MESSAGE_BYTES:
            result.append(codec.encode(tuple(batch)))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        result.append(codec.encode(tuple(batch)))
    return result


def decode(data: bytes) -> list[bytes]:
    """The transactions of a message, as bytes that are still to be judged. Raises Invalid (E-GOSSIP-001)."""
    value = codec.decode(data, max_bytes=TRANSACTIONS_BYTES)
    if type(value) is not tuple or not value or any(type(item) is not bytes for item in value):
        raise Invalid(MALFORMED, "gossip is an array of byte strings")
    return list(value)
