"""The signing guard: a validator says at most one thing at each height, round and step, also across crashes.

    record    [1, chain id, height, round, step, payload, checksum]
    prepared  [1, [height, round, block id], prepares, block, checksum]

Rules kept here:
- positions (height, round, step) only rise; the very same bytes may be signed again, nothing else at or below the
  last position may (CONSENSUS C6). Steps of a round are ROUND-CHANGE, PROPOSAL, PREPARE, COMMIT, in this order;
- the record is durable before the signature leaves; what a COMMIT was prepared by is durable before the record;
- a missing record is an error and never the beginning: `first_record` is called once, where the key is made;
- a record older than what the chain shows of this validator's own signatures was rolled back, and nothing is signed.

The guard is pure: whoever holds the key, the node or a signer process of its own, keeps the record and asks `advance`.
Source: CometBFT's last sign state and Diem's safety rules, where the record is also written before the vote is made.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from consensus.messages import Claim, Kind, Statement, Vote, parse_payload
from ledger import codec
from ledger.block import MAX_BLOCK_BYTES
from ledger.errors import Fault, Invalid, Refused, define
from ledger.hashes import tagged

REGRESSION = define(
    "E-GUARD-001",
    "this would be a second signature for one step",
    "nothing was signed; if it happens again, another process signs with this key: stop one of them",
)
MISSING = define(
    "E-GUARD-002",
    "the signing record is missing",
    "restore the newest record; if it is lost, rotate the validator's key: a guess could sign twice",
)
DAMAGED = define(
    "E-GUARD-003",
    "the signing record is damaged",
    "restore the newest record; if it is lost, rotate the validator's key: a guess could sign twice",
)
ROLLED_BACK = define(
    "E-GUARD-004",
    "the signing record is older than the signatures of this validator",
    "restore the newest record; if it is lost, rotate the validator's key: an old one would sign twice",
)

VERSION = 1
MAX_RECORD_BYTES = 1024
MAX_PREPARED_BYTES = MAX_BLOCK_BYTES + (64 << 10)

_record_hash = tagged("signing-record")
_prepared_hash = tagged("prepared")
_NOBODY = bytes(20)


class Step(IntEnum):
    """What was signed last in a round. Within one round they follow each other in this order."""

    NOTHING = 0
    ROUND_CHANGE = 1
    PROPOSAL = 2
    PREPARE = 3
    COMMIT = 4


_STEPS = {
    Kind.ROUND_CHANGE: Step.ROUND_CHANGE,
    Kind.PROPOSAL: Step.PROPOSAL,
    Kind.PREPARE: Step.PREPARE,
    Kind.COMMIT: Step.COMMIT,
}


class Record(NamedTuple):
    """The last thing a validator signed: its position and the bytes signed."""

    chain_id: str
    height: int
    round: int
    step: Step
    payload: bytes

    @property
    def position(self) -> tuple[int, int, int]:
        """(height, round, step): what only ever rises."""
        return self.height, self.round, self.step


class PreparedBlock(NamedTuple):
    """The block a validator is prepared to commit, with the quorum of PREPAREs that made it so."""

    height: int
    round: int
    block_id: bytes
    prepares: tuple[Vote, ...]
    block: bytes


def first_record(chain_id: str) -> Record:
    """The record of a key that has never signed on this chain. For the making of a key only."""
    return Record(chain_id, 0, 0, Step.NOTHING, b"")


def step_of(statement: Statement) -> Step:
    """The step at which a statement stands."""
    return Step.ROUND_CHANGE if isinstance(statement, Claim) else _STEPS[statement.kind]


def position_of(statement: Statement) -> tuple[int, int, int]:
    """(height, round, step) of a statement."""
    return statement.height, statement.round, step_of(statement)


def allows(record: Record, statement: Statement, payload: bytes) -> bool:
    """Whether a statement, whose signed bytes are `payload`, may be signed after `record`."""
    position = position_of(statement)
    return position > record.position or (position == record.position and payload == record.payload)


def advance(record: Record, payload: bytes) -> Record:
    """The record to make durable before `payload` is signed; the same one where it was signed before.

    Raises Refused (E-GUARD-001) for any regression, and Invalid for bytes that are no statement of consensus, so that
    a signer signs nothing else.
    """
    chain_id, statement = parse_payload(payload, _NOBODY)
    if chain_id != record.chain_id:
        raise Refused(REGRESSION, f"the record is of chain {record.chain_id!r}, not of {chain_id!r}")
    if not allows(record, statement, payload):
        raise Refused(
            REGRESSION,
            f"asked for {_show(position_of(statement))} after {_show(record.position)} was signed",
        )
    if payload == record.payload:
        return record
    return Record(chain_id, *position_of(statement)[:2], step_of(statement), payload)


def check_not_rolled_back(record: Record, height: int, round_: int) -> None:
    """Raises Refused (E-GUARD-004) if the record is older than this validator's COMMIT at (height, round).

    The caller knows of that COMMIT from a certificate in its chain that holds the validator's own seal.
    """
    if record.position < (height, round_, Step.COMMIT):
        raise Refused(
            ROLLED_BACK,
            f"it ends at {_show(record.position)}, and the chain holds this validator's COMMIT of height {height}",
        )


def check_prepared_kept(record: Record, prepared: PreparedBlock | None) -> None:
    """Raises Refused (E-GUARD-004) if the record says that a COMMIT was signed whose prepared block is lost."""
    signed = None if record.step is Step.NOTHING else parse_payload(record.payload, _NOBODY)[1]
    if isinstance(signed, Claim):
        round_, block_id = signed.prepared_round, signed.prepared_id
    elif signed is not None and signed.kind is Kind.COMMIT:
        round_, block_id = signed.round, signed.block_id
    else:
        return
    if round_ is None:
        return
    kept = prepared if prepared is not None and prepared.height == record.height else None
    # What was prepared may be newer than the record: it is written first.
    if kept is None or kept.round < round_ or (kept.round == round_ and kept.block_id != block_id):
        raise Refused(ROLLED_BACK, f"{_show(record.position)} was signed, and the block prepared for it is missing")


def encode_record(record: Record) -> bytes:
    """The canonical bytes of a record, with a checksum."""
    return _seal((VERSION, *record), _record_hash)


def decode_record(data: bytes | None) -> Record:
    """The record of its bytes. Raises Fault: E-GUARD-002 where there are none, E-GUARD-003 where they are damaged."""
    if not data:
        raise Fault(MISSING, "there is no signing record, or an empty one")
    _, chain_id, height, round_, step, payload = _open(data, _record_hash, 6, MAX_RECORD_BYTES)
    try:
        record = Record(chain_id, height, round_, Step(step), payload)
        if record != first_record(chain_id):
            signed_for, statement = parse_payload(payload, _NOBODY)
            if (signed_for, position_of(statement)) != (chain_id, record.position):
                raise Fault(DAMAGED, "the bytes signed are not those of the position")
    except (Invalid, ValueError) as error:
        raise Fault(DAMAGED, f"the signing record does not hold together: {error}") from error
    return record


def encode_prepared(prepared: PreparedBlock) -> bytes:
    """The canonical bytes of a prepared block, with a checksum."""
    votes = tuple([vote[4:] for vote in prepared.prepares])  # height, round and id are those of the block
    return _seal((VERSION, prepared[:3], votes, prepared.block), _prepared_hash)


def decode_prepared(data: bytes) -> PreparedBlock:
    """The prepared block of its bytes. Raises Fault (E-GUARD-003)."""
    _, (height, round_, block_id), votes, block = _open(data, _prepared_hash, 4, MAX_PREPARED_BYTES)
    prepares = tuple([Vote(Kind.PREPARE, height, round_, block_id, *vote) for vote in votes])
    return PreparedBlock(height, round_, block_id, prepares, block)


def _seal(fields: tuple[Any, ...], digest: Any) -> bytes:
    return codec.encode((*fields, digest(codec.encode(fields))))


def _open(data: bytes, digest: Any, count: int, max_bytes: int) -> tuple[Any, ...]:
    try:
        fields = codec.decode(data, max_bytes=max_bytes)
    except Invalid as error:
        raise Fault(DAMAGED, f"it cannot be decoded: {error}") from error
    if type(fields) is not tuple or len(fields) != count + 1 or fields[-1] != digest(codec.encode(fields[:-1])):
        raise Fault(DAMAGED, "its checksum does not match")
    if fields[0] != VERSION:
        raise Fault(DAMAGED, f"its version is {fields[0]}; this software knows {VERSION}")
    return fields[:-1]


def _show(position: tuple[int, int, int]) -> str:
    height, round_, step = position
    return f"{Step(step).name.replace('_', '-')} of height {height} round {round_}"
