"""The block builder: takes waiting transactions, executes them, and makes the next block of what may stand in it.

A block ends at the chain's limits, or when executing it has taken half a block interval and at least `LEAST_MS`, so
that a full block never outlives its round.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from ledger.errors import Invalid, Refused, TrothError
from ledger.transaction import SignedTransaction
from node.chain import Candidate, Chain
from node.mempool import Mempool
from vm.executor import BLOCK_FULL, QUOTA

LEAST_MS = 150
"""A block may take this long to execute, in ms, even where half its interval is less."""

SLICE = 64
"""Transactions executed before the event loop gets a turn."""


class Built(NamedTuple):
    """An executed block, what was found that no block may take, and the seconds that executing and hashing took."""

    candidate: Candidate
    unfit: list[tuple[bytes, TrothError]]
    execute_seconds: float
    tree_seconds: float


async def build_block(chain: Chain, mempool: Mempool, proposer: bytes, time_ms: int) -> Built | None:
    """The next block by `proposer` of what waits now, at block time `time_ms` or just after its parent's.

    None where the chain went on meanwhile: what was built then is of no use.
    """
    head = chain.head
    began = time.perf_counter()
    elsewhere = 0.0
    execution = chain.execution(max(time_ms, chain.head.time_ms + 1))
    budget = max(chain.genesis.parameters.block_interval_ms / 2, LEAST_MS) / 1000
    taken: list[SignedTransaction] = []
    unfit: list[tuple[bytes, TrothError]] = []
    refused_in_row = 0
    for number, signed in enumerate(mempool.candidates()):
        if number % SLICE == SLICE - 1:
            if time.perf_counter() - began > budget:
                break
            left = time.perf_counter()
            await asyncio.sleep(0)
            elsewhere += time.perf_counter() - left
            if chain.head is not head:
                return None
        try:
            execution.admit(signed)
        except (Refused, Invalid) as error:
            if error.code == BLOCK_FULL:
                refused_in_row += 1
                if refused_in_row >= SLICE:
                    break
            elif error.code != QUOTA:
                unfit.append((signed.id, error))
            continue
        refused_in_row = 0
        execution.apply(signed)
        taken.append(signed)
    executed = time.perf_counter()
    candidate = chain.close(execution, taken, proposer)
    return Built(candidate, unfit, executed - began - elsewhere, time.perf_counter() - executed)
