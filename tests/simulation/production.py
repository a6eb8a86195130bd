"""The production chain in the simulation: real blocks of real transactions, executed by the real executor over the real
state tree, in the production's rows, on the simulation's disk.

Only signatures of votes and seals are the kit's stand-in; the transactions' are real. Each block holds transfers of
points between a few accounts, some of which fail for want of points, so that two nodes that executed anything
otherwise would have different roots. Changing sets of validators are the opaque ledger's: the product has none yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ledger import codec
from ledger.address import address_of
from ledger.block import Certificate, Validator, decode_block
from ledger.errors import Invalid, Refused, VerifyFailed
from ledger.genesis import Genesis, Member, Organisation, Parameters
from ledger.transaction import Call, SignedTransaction, Transaction
from node.chain import Candidate, Chain
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from tests.chains import START_MS, key
from tests.consensus_kit import CHAIN, verify
from tests.simulation.disk import Disk
from tests.simulation.ledger import Schedule
from vm.executor import DUPLICATE

PROGRAMME = "beans"
PEOPLE = tuple([f"person {number}" for number in range(6)])
TRANSFERS = 200
VALID_MS = 60 * 60 * 1000


class DiskStore(MemoryStore):
    """A key-value store whose batches are files of the simulation's disk: whole or not there, durable once synced."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk
        self._batches = 0
        while (row := disk.read(f"batch {self._batches + 1}")) is not None:
            puts, deletes = codec.decode_trusted(row)
            super().write(puts, deletes)
            self._batches += 1

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        """One batch: one file, synced before it is seen."""
        batch = tuple(puts), tuple(deletes)
        self._disk.write(f"batch {self._batches + 1}", codec.encode_trusted(batch))
        self._disk.sync()
        super().write(*batch)
        self._batches += 1


@cache
def genesis(validators: tuple[Validator, ...]) -> Genesis:
    """A chain of these validators with one brand."""
    brand = Member(address_of(key("brand").public), ("administrator", "issuer"))
    return Genesis(
        1, CHAIN, START_MS, Parameters(), tuple(sorted(validators)), (Organisation("brand", "Brand", (brand,)),)
    )


def _signed(who: str, number: int, *calls: Call) -> SignedTransaction:
    return Transaction(
        1, CHAIN, (address_of(key(who).public),), number.to_bytes(8, "big"), START_MS + VALID_MS, 20_000, calls, ""
    ).sign([key(who)])


@cache
def beginning() -> SignedTransaction:
    """The programme, and points for everyone."""
    create = Call(0, "points", "create", (PROGRAMME, "Beans", None, "points", 0))
    mints = [Call(0, "points", "mint", (PROGRAMME, address_of(key(name).public), 50)) for name in PEOPLE]
    return _signed("brand", 0, create, *mints)


@cache
def transfer(number: int) -> SignedTransaction:
    """One of the transfers that wait at every node. Which of them succeed depends on the order of all before."""
    sender, to = PEOPLE[number % len(PEOPLE)], PEOPLE[number * 7 % len(PEOPLE)]
    amount = number * 11 % 40
    return _signed(sender, number, Call(0, "points", "transfer", (PROGRAMME, address_of(key(to).public), amount)))


class ProductionLedger:
    """`node.chain.Chain` behind the simulation's interface."""

    def __init__(self, disk: Disk, schedule: Schedule) -> None:
        self._validators = schedule.at(1)
        agreed = genesis(self._validators)
        planned, disk.crash_in = disk.crash_in, 0  # a crash while genesis is written is one before the first start
        self._chain = Chain(LedgerStore(DiskStore(disk), cache_nodes=64), registry(), agreed, verify=verify)
        disk.crash_in = planned
        self._candidates: dict[bytes, Candidate] = {}

    @property
    def height(self) -> int:
        """The height of the last block, 0 at the beginning."""
        return self._chain.head.height

    @property
    def head_id(self) -> bytes:
        """The id of the last block."""
        return self._chain.head.block_id

    def build(self, proposer: bytes, nonce: int) -> tuple[bytes, bytes]:
        """A block of a few transactions that wait, drawn by `nonce`."""
        chain = self._chain
        execution = chain.execution(chain.head.time_ms + 1 + nonce % 500)
        drawn = [transfer(1 + (nonce // 7 + step * 13) % TRANSFERS) for step in range(nonce % 4)]
        taken = []
        for signed in [beginning(), *drawn]:
            try:
                execution.admit(signed)
            except Refused as error:
                assert error.code == DUPLICATE, error  # it stands in an earlier block, and is left out of this one
                continue
            execution.apply(signed)
            taken.append(signed)
        candidate = chain.close(execution, taken, proposer)
        self._candidates[candidate.block_id] = candidate
        return candidate.block_id, candidate.block_bytes

    def judge(self, block_id: bytes, block: bytes, proposer: bytes | None) -> bool:
        """By `Chain.judge`, signatures of transactions and all."""
        try:
            decoded = decode_block(block)
            if decoded.header.id() != block_id or proposer not in (None, decoded.header.proposer):
                return False
            self._candidates[block_id] = self._chain.judge(decoded)
        except (Invalid, VerifyFailed):
            return False
        return True

    def append(self, block_id: bytes, block: bytes, certificate: Certificate) -> None:
        """By `Chain.append`: one atomic synced batch. Raises CrashError at a sync point of a crash."""
        candidate = self._candidates.get(block_id)
        if candidate is None or candidate.block.header.parent_id != self.head_id:
            candidate = self._chain.judge(decode_block(block))
        assert candidate.block_id == block_id, "the host appends only what was judged"
        self._chain.append(candidate, certificate)
        self._candidates.clear()

    def decided(self, height: int) -> tuple[bytes, Certificate]:
        """The bytes and certificate of a block from height 1 up."""
        return self._chain.store.block_bytes(height), self._chain.store.certificate(height)

    def validators(self, height: int) -> tuple[Validator, ...]:
        """The validators of a height: always the same."""
        return self._chain.validators
