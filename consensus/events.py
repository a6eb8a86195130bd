"""What goes into the engine and what comes out of it: all that a host has to know.

Inputs tell the engine what happened; outputs tell the host what to do, in their order. The host finishes each output
before it begins the next, at least as far as this: nothing after a `Persist` happens before it is durable.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from consensus.evidence import DoubleSign
from consensus.guard import PreparedBlock, Record
from consensus.messages import Kind, Message, Statement
from ledger.block import Certificate, Validator


class Settings(NamedTuple):
    """How one node runs the protocol. Times in ms, measured on the caller's own monotonic clock.

    - `block_interval_ms`: from one height to the opening of the next one's first round, at the least;
    - `timeout_ms`, `timeout_cap_ms`: of round 0, and the longest of any round;
    - `repeat_ms`: until the node's messages are sent again, the first time;
    - `answer_interval_ms`: between two DECIDED answers to one peer;
    - `future_messages_max`, `future_bytes_max`: of each author, held for heights to come;
    - `relay`: pass on what others say, for networks in which not everybody is connected with everybody.
    """

    block_interval_ms: int = 100
    timeout_ms: int = 1_000
    timeout_cap_ms: int = 8_000
    repeat_ms: int = 1_000
    answer_interval_ms: int = 250
    future_messages_max: int = 64
    future_bytes_max: int = 32 << 20
    relay: bool = False


# Inputs


class NewHeight(NamedTuple):
    """The host stands on the committed block `parent_id` and asks for agreement on the next, `height`.

    `validators` are those of `height`, in their order. `next_validators` are those of the height after, where known;
    their early messages are then held too.
    """

    height: int
    parent_id: bytes
    validators: tuple[Validator, ...]
    next_validators: tuple[Validator, ...] = ()


class CaughtUp(NamedTuple):
    """Whether the host stands at the head of the chain. Until it says so, the engine follows but never signs."""

    caught_up: bool


class Work(NamedTuple):
    """A block is wanted at `height`: transactions wait, or the heartbeat of an idle chain is due."""

    height: int


class Tick(NamedTuple):
    """Time has passed. The engine says in `deadline_ms` when it wants the next one."""


class Received(NamedTuple):
    """`peer` sent a message. The peer is whoever is at the other end, not necessarily the author."""

    peer: bytes
    message: Message


class Connected(NamedTuple):
    """A connection to `peer` was made, or made again."""

    peer: bytes


class Built(NamedTuple):
    """The block that a `Build` asked for. A late answer does no harm: it is for a height and a round."""

    height: int
    round: int
    block_id: bytes
    block: bytes


class Judged(NamedTuple):
    """The answer to a `Judge`."""

    ticket: int
    valid: bool


class Signed(NamedTuple):
    """The statement of a `Sign`, now with its signature."""

    statement: Statement


Input: TypeAlias = NewHeight | CaughtUp | Work | Tick | Received | Connected | Built | Judged | Signed

# Outputs


class Persist(NamedTuple):
    """Make durable, `prepared` (where given) first, then `record`, before anything that follows.

    At the next start both are given to the engine. A crash between the two is harmless, in this order.
    """

    record: Record
    prepared: PreparedBlock | None


class Sign(NamedTuple):
    """Have the statement signed by the guard that holds the key, and answer with `Signed`.

    Answers come in the order of the questions. A guard that refuses means that another process signs with this key, or
    that the record is not what it was: stop.
    """

    statement: Statement


class Broadcast(NamedTuple):
    """Send a message to every peer."""

    message: Message


class Send(NamedTuple):
    """Send a message to one peer."""

    peer: bytes
    message: Message


class Relay(NamedTuple):
    """Pass on a message that was accepted for the first time, except to who sent or wrote it."""

    message: Message
    except_for: tuple[bytes, ...]


class Build(NamedTuple):
    """Build a block on `parent_id` now, empty if nothing waits, and answer with `Built`.

    Nothing built for another height, round or parent may be used.
    """

    height: int
    round: int
    parent_id: bytes


class Judge(NamedTuple):
    """Say with `Judged` whether the bytes are a block with that id that may follow the head.

    `proposer` is whom the header must name where the block is proposed for the first time; None where the block was
    prepared or decided before, so that any validator may stand there.
    """

    ticket: int
    height: int
    block_id: bytes
    block: bytes
    proposer: bytes | None


class Decide(NamedTuple):
    """The block is final. Append it with its certificate, then begin the next height."""

    height: int
    block_id: bytes
    block: bytes
    certificate: Certificate


class AnswerDecided(NamedTuple):
    """`peer` is still at a past height: send it that height's DECIDED from the chain."""

    peer: bytes
    height: int


class Behind(NamedTuple):
    """`peer` speaks of `height`, which is ahead: catch up, from it or another, if it is true."""

    peer: bytes
    height: int


class NeedBlock(NamedTuple):
    """A quorum has committed a block of this height that never came. Those validators have it."""

    height: int
    block_id: bytes
    holders: tuple[bytes, ...]


class Evidence(NamedTuple):
    """A validator signed twice."""

    double_sign: DoubleSign


class Refused(NamedTuple):
    """A message of `peer` breaks a rule. `reason` is stable; `cause` is for people."""

    peer: bytes
    kind: Kind
    reason: str
    cause: str


Output: TypeAlias = (
    Persist
    | Sign
    | Broadcast
    | Send
    | Relay
    | Build
    | Judge
    | Decide
    | AnswerDecided
    | Behind
    | NeedBlock
    | Evidence
    | Refused
)
