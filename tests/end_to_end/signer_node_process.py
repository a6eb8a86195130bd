"""A node of nothing but its hunger for signatures, as a process: tests start and kill it.

    python -m tests.end_to_end.signer_node_process SOCKET CHAIN SEED

It asks for one payload after the other, mostly at rising positions, and has no memory of what it was given before it
was started: where the record stands it asks for other blocks too, as a faulty node would.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from consensus.guard import Record
from consensus.messages import Claim, Kind, Statement, Vote, signed_payload
from ledger.errors import Refused, Unavailable
from node.signer_client import RemoteSigner

VALIDATOR = bytes(20)
VOTES = (Kind.PROPOSAL, Kind.PREPARE, Kind.COMMIT)


def statement_after(record: Record, chance: random.Random) -> Statement:
    """A statement near a record: above it, at it with another block, or below it."""
    height = max(1, record.height + chance.choice((-1, 0, 0, 0, 1, 1)))
    round_ = max(0, record.round + chance.choice((-1, 0, 0, 1))) if height == record.height else chance.randrange(3)
    if chance.randrange(4) == 0:
        return Claim(height, round_, None, None, VALIDATOR)
    return Vote(chance.choice(VOTES), height, round_, chance.randbytes(32), VALIDATOR)


async def ask_forever(path: Path, chain_id: str, chance: random.Random) -> None:
    """Asks until it is killed."""
    signer = None
    while True:
        try:
            if signer is None:
                signer = await RemoteSigner.open(path, chain_id)
            await signer.sign(signed_payload(chain_id, statement_after(signer.record(), chance)))
        except Unavailable:
            await asyncio.sleep(0.01)
        except Refused as refusal:
            if refusal.code != "E-GUARD-001":
                raise


if __name__ == "__main__":
    asyncio.run(ask_forever(Path(sys.argv[1]), sys.argv[2], random.Random(sys.argv[3])))
