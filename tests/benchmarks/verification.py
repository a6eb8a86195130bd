"""What docs/adr/0005 rests on: Ed25519 verification in threads and in worker processes, alone and beside other work.

    python -m tests.benchmarks.verification

The workers are the node's own (`node.verifier.Workers`), so their figures include encoding, pipe and decoding. The
other work is Python that never waits, as the event loop's is when blocks are full: decoding transactions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread

from ledger.address import address_of
from ledger.keys import PrivateKey, verify_many
from ledger.transaction import Call, Transaction, decode
from node.verifier import BATCH, Check, Workers

BATCHES = 24
ROUNDS = 5
SECONDS = 2.0
Verify = Callable[[list[list[Check]]], object]


def alone(verify: Verify, batches: list[list[Check]]) -> float:
    """Median microseconds a signature over the rounds, the first of which only warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        verify(batches)
        times.append((time.perf_counter() - began) / (len(batches) * BATCH) * 1e6)
    return median(times[1:])


def beside(verify: Verify | None, batch: list[Check], raw: bytes) -> tuple[float, float]:
    """Signatures a second in a second thread, and transactions that this thread decodes a second meanwhile."""
    stop, verified = Event(), [0]

    def run() -> None:
        while verify is not None and not stop.is_set():
            verify([batch])
            verified[0] += BATCH

    thread = Thread(target=run)
    thread.start()
    began, decoded = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        for _ in range(100):
            decode(raw)
        decoded += 100
    seconds, found = time.perf_counter() - began, verified[0]
    stop.set()
    thread.join()
    return found / seconds, decoded / seconds


@contextmanager
def workers(count: int) -> Iterator[Verify]:
    """The node's workers as a function."""
    started = Workers(count)
    try:
        yield lambda batches: list(started.verify_stream(batches))
    finally:
        started.close()


def in_this_thread(batches: list[list[Check]]) -> list[list[bool]]:
    """Verification where it is called."""
    return [verify_many(batch) for batch in batches]


def main() -> None:
    """Prints a line for each way."""
    key = PrivateKey(bytes(32))
    address = address_of(key.public)
    call = Call(0, "points", "transfer", ("grocer", address, 1))
    signed = Transaction(1, "dev-example", (address,), bytes(8), 1, 1_000, (call,), "").sign([key])
    batch = signed.signature_checks() * BATCH
    batches = [batch] * BATCHES
    print(f"alone: microseconds a signature, median of {ROUNDS} rounds of {BATCHES * BATCH}")
    print(f"  one thread     {alone(in_this_thread, batches):6.1f}")
    with ThreadPoolExecutor(2) as pool:
        print(f"  two threads    {alone(lambda all_: list(pool.map(verify_many, all_)), batches):6.1f}")
    for count, name in ((1, "one worker "), (2, "two workers")):
        with workers(count) as verify:
            print(f"  {name}    {alone(verify, batches):6.1f}")
    print("beside a thread that decodes transactions: signatures and transactions a second")
    print(f"  nothing to verify                           {beside(None, batch, signed.raw)[1]:8.0f}")
    usual = sys.getswitchinterval()
    for interval in (usual, usual / 5, usual / 50):
        sys.setswitchinterval(interval)
        figures = beside(in_this_thread, batch, signed.raw)
        print("  in a thread, switched every {:4.1f} ms {:8.0f} {:8.0f}".format(interval * 1000, *figures))
    sys.setswitchinterval(usual)
    with workers(1) as verify:
        print("  in a worker                        {:8.0f} {:8.0f}".format(*beside(verify, batch, signed.raw)))


if __name__ == "__main__":
    main()
