"""The messages of consensus: PROPOSAL, PREPARE, COMMIT, ROUND-CHANGE, DECIDED.

    vote          [kind, height, round, block id, validator, signature]               PREPARE, COMMIT
    PROPOSAL      [1, [height, round, block id, validator, signature], block, claims, prepares]
    ROUND-CHANGE  [4, claim, prepares, block or nil]
    claim         [height, round, prepared round or nil, prepared id or nil, validator, signature]
    DECIDED       [5, certificate, block]

Rules kept here:
- everything signed carries chain id, kind, height, round and block id (CONSENSUS C3), behind a prefix per kind;
- a COMMIT's signature is the seal of the certificate: it signs `ledger.block.commit_message`;
- a claim, the signed part of a ROUND-CHANGE, says which block was prepared and in which round, or neither. The PREPAREs
  that prove it and the block itself travel beside it, outside of the signature, so no message ever holds a message
  that holds messages (CONSENSUS C5);
- size, kind and shape are judged before anything else; `statements` tells what there is to verify.

Source: EEA QBFT specification, `types.dfy` (UnsignedProposal, UnsignedPrepare, UnsignedCommit, UnsignedRoundChange).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from ledger import codec
from ledger.block import MAX_BLOCK_BYTES, Certificate, certificate_of, commit_message
from ledger.errors import Invalid, define

MALFORMED = define(
    "E-CONSENSUS-001", "malformed consensus message", "the peer runs other software, or is faulty; compare versions"
)

MAX_ROUND = 1_000_000
"""The highest round: at the longest timeout of ten seconds it is not reached in a hundred days."""

MAX_VALIDATORS = 128
"""The most statements of one kind that a message may carry."""

MAX_VOTE_BYTES = 256
MAX_MESSAGE_BYTES = MAX_BLOCK_BYTES + (128 << 10)

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> whether it verifies: `ledger.keys.verify`, or a host's look-up of it."""


class Kind(IntEnum):
    """The kind of a message, as it stands on the wire."""

    PROPOSAL = 1
    PREPARE = 2
    COMMIT = 3
    ROUND_CHANGE = 4
    DECIDED = 5


class Vote(NamedTuple):
    """What one validator says of a block: it proposes it, is prepared to commit it, or commits it.

    `validator` is a 20-byte address. A vote that is still to be signed has the signature b"".
    """

    kind: Kind
    height: int
    round: int
    block_id: bytes
    validator: bytes
    signature: bytes = b""


class Claim(NamedTuple):
    """The signed part of a ROUND-CHANGE: the wish to enter `round`, and what was prepared before, if anything was."""

    height: int
    round: int
    prepared_round: int | None
    prepared_id: bytes | None
    validator: bytes
    signature: bytes = b""


class Proposal(NamedTuple):
    """A vote to propose, the block's bytes, and what justifies it in a round above 0."""

    vote: Vote
    block: bytes
    claims: tuple[Claim, ...] = ()
    prepares: tuple[Vote, ...] = ()


class RoundChange(NamedTuple):
    """A claim, the PREPAREs that prove it and the block prepared; neither where nothing was prepared."""

    claim: Claim
    prepares: tuple[Vote, ...] = ()
    block: bytes | None = None


class Decided(NamedTuple):
    """A final block and its certificate, for those who missed its height."""

    certificate: Certificate
    block: bytes


Statement: TypeAlias = Vote | Claim
Message: TypeAlias = Vote | Proposal | RoundChange | Decided

_PREFIX = {
    Kind.PROPOSAL: (b"troth/sign/proposal\0", "proposal"),
    Kind.PREPARE: (b"troth/sign/prepare\0", "prepare"),
    Kind.COMMIT: (b"troth/sign/commit\0", "commit"),
    Kind.ROUND_CHANGE: (b"troth/sign/round-change\0", "round-change"),
}
_KIND_OF_PREFIX = {prefix: kind for kind, (prefix, _) in _PREFIX.items()}
_LIMITS = {
    Kind.PROPOSAL: MAX_MESSAGE_BYTES,
    Kind.PREPARE: MAX_VOTE_BYTES,
    Kind.COMMIT: MAX_VOTE_BYTES,
    Kind.ROUND_CHANGE: MAX_MESSAGE_BYTES,
    Kind.DECIDED: MAX_MESSAGE_BYTES,
}


def kind_of(message: Message | Statement) -> Kind:
    """The kind of a message; a claim's is that of the ROUND-CHANGE it belongs to."""
    if isinstance(message, Vote):
        return message.kind
    if isinstance(message, Proposal):
        return Kind.PROPOSAL
    return Kind.DECIDED if isinstance(message, Decided) else Kind.ROUND_CHANGE


def main_statement(message: Message) -> Statement | None:
    """What the author of a message signed; None for DECIDED, which is anyone's to send."""
    if isinstance(message, Proposal):
        return message.vote
    if isinstance(message, RoundChange):
        return message.claim
    return message if isinstance(message, Vote) else None


def height_of(message: Message) -> int:
    """The height that a message is about."""
    statement = main_statement(message)
    return message.certificate.height if isinstance(message, Decided) else statement.height  # type: ignore[union-attr]


def statements(message: Message) -> tuple[Statement, ...]:
    """Every signed statement in a message, its author's first. The seals of a DECIDED come as COMMITs."""
    if isinstance(message, Proposal):
        return (message.vote, *message.claims, *message.prepares)
    if isinstance(message, RoundChange):
        return (message.claim, *message.prepares)
    if isinstance(message, Decided):
        height, round_, block_id, seals = message.certificate
        return tuple([Vote(Kind.COMMIT, height, round_, block_id, *seal) for seal in seals])
    return (message,)


def signed_payload(chain_id: str, statement: Statement) -> bytes:
    """The bytes that a validator signs for a statement."""
    if isinstance(statement, Claim):
        prefix, name = _PREFIX[Kind.ROUND_CHANGE]
        height, round_, prepared_round, prepared_id = statement[:4]
        return prefix + codec.encode((chain_id, name, height, round_, prepared_round, prepared_id))
    if statement.kind is Kind.COMMIT:
        return commit_message(chain_id, statement.height, statement.round, statement.block_id)
    prefix, name = _PREFIX[statement.kind]
    return prefix + codec.encode((chain_id, name, statement.height, statement.round, statement.block_id))


def parse_payload(payload: bytes, validator: bytes) -> tuple[str, Statement]:
    """Chain id and unsigned statement of a `signed_payload`. Raises Invalid (E-CONSENSUS-001, E-CODEC-...)."""
    prefix, separator, rest = payload.partition(b"\0")
    kind = _KIND_OF_PREFIX.get(prefix + separator)
    if kind is None:
        raise Invalid(MALFORMED, "the bytes to be signed name no kind of message")
    fields = codec.decode(rest, max_bytes=MAX_VOTE_BYTES)
    count = 6 if kind is Kind.ROUND_CHANGE else 5
    if type(fields) is not tuple or len(fields) != count or type(fields[0]) is not str or fields[1] != _PREFIX[kind][1]:
        raise Invalid(MALFORMED, f"the bytes to be signed are not those of a {_PREFIX[kind][1]}")
    chain_id, _, *said = fields
    if kind is Kind.ROUND_CHANGE:
        return chain_id, _claim((*said, validator, b""), 0)
    return chain_id, _vote(kind, (*said, validator, b""), 0)


def signature_holds(chain_id: str, public_key: bytes, statement: Statement, verify: Verify) -> bool:
    """Whether a statement's signature is that of `public_key`."""
    return verify(public_key, signed_payload(chain_id, statement), statement.signature)


def encode(message: Message) -> bytes:
    """The canonical bytes of a message."""
    if isinstance(message, Proposal):
        return codec.encode((Kind.PROPOSAL, message.vote[1:], message.block, message.claims, _votes(message.prepares)))
    if isinstance(message, RoundChange):
        return codec.encode((Kind.ROUND_CHANGE, message.claim, _votes(message.prepares), message.block))
    if isinstance(message, Decided):
        return codec.encode((Kind.DECIDED, message.certificate, message.block))
    return codec.encode(message)


def decode(data: bytes) -> Message:
    """The message of its canonical bytes, well-formed but not judged. Raises Invalid: E-CONSENSUS-001, E-CODEC-..."""
    limit = _LIMITS.get(data[1]) if len(data) > 1 else None  # type: ignore[call-overload]
    if limit is None:
        raise Invalid(MALFORMED, "the bytes name no kind of message")
    fields = codec.decode(data, max_bytes=limit)
    if type(fields) is not tuple or not fields or fields[0] != data[1] or type(fields[0]) is not int:
        raise Invalid(MALFORMED, "a message is an array that begins with its kind")
    kind, rest = Kind(fields[0]), fields[1:]
    if kind is Kind.PROPOSAL:
        vote, block, claims, prepares = _parts(rest, 4, "a PROPOSAL is [1, vote, block, claims, prepares]")
        return Proposal(_vote(kind, vote), _block(block), _claims(claims), _prepares(prepares))
    if kind is Kind.ROUND_CHANGE:
        claim, prepares, block = _parts(rest, 3, "a ROUND-CHANGE is [4, claim, prepares, block]")
        return RoundChange(_claim(claim), _prepares(prepares), None if block is None else _block(block))
    if kind is Kind.DECIDED:
        certificate, block = _parts(rest, 2, "a DECIDED is [5, certificate, block]")
        return Decided(_certificate(certificate), _block(block))
    return _vote(kind, rest)


def encode_vote(vote: Vote) -> bytes:
    """The canonical bytes of a vote of any kind, as evidence carries it."""
    return codec.encode(vote)


def vote_of(fields: Any) -> Vote:
    """A vote of any kind from its codec value. Raises Invalid (E-CONSENSUS-001)."""
    if type(fields) is not tuple or len(fields) != 6 or type(fields[0]) is not int or fields[0] not in (1, 2, 3):
        raise Invalid(MALFORMED, "a vote is [kind, height, round, block id, validator, signature]")
    return _vote(Kind(fields[0]), fields[1:])


def _votes(votes: tuple[Vote, ...]) -> tuple[tuple[Any, ...], ...]:
    return tuple([vote[1:] for vote in votes])


def _parts(rest: tuple[Any, ...], count: int, shape: str) -> tuple[Any, ...]:
    if len(rest) != count:
        raise Invalid(MALFORMED, shape)
    return rest


def _block(value: Any) -> bytes:
    if type(value) is not bytes or not 0 < len(value) <= MAX_BLOCK_BYTES:
        raise Invalid(MALFORMED, f"a block is 1 to {MAX_BLOCK_BYTES} bytes")
    return value


def _certificate(value: Any) -> Certificate:
    certificate = certificate_of(value)
    if certificate.round > MAX_ROUND or len(certificate.seals) > MAX_VALIDATORS:
        raise Invalid(MALFORMED, f"rounds end at {MAX_ROUND}, seals at {MAX_VALIDATORS}")
    return certificate


def _many(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) > MAX_VALIDATORS:
        raise Invalid(MALFORMED, f"claims and prepares are arrays of at most {MAX_VALIDATORS}")
    return value


def _claims(value: Any) -> tuple[Claim, ...]:
    return tuple([_claim(each) for each in _many(value)])


def _prepares(value: Any) -> tuple[Vote, ...]:
    return tuple([_vote(Kind.PREPARE, each) for each in _many(value)])


def _vote(kind: Kind, fields: Any, signature_bytes: int = 64) -> Vote:
    if type(fields) is not tuple or len(fields) != 5:
        raise Invalid(MALFORMED, "a vote is [height, round, block id, validator, signature]")
    height, round_, block_id, validator, signature = fields
    _position(height, round_)
    _sized(block_id, 32, "block id")
    _signer(validator, signature, signature_bytes)
    return Vote(kind, height, round_, block_id, validator, signature)


def _claim(fields: Any, signature_bytes: int = 64) -> Claim:
    if type(fields) is not tuple or len(fields) != 6:
        raise Invalid(MALFORMED, "a claim is [height, round, prepared round, prepared id, validator, signature]")
    height, round_, prepared_round, prepared_id, validator, signature = fields
    _position(height, round_)
    if (prepared_round is None) != (prepared_id is None):
        raise Invalid(MALFORMED, "prepared round and prepared id are both given or both absent")
    if prepared_id is not None:
        _position(height, prepared_round)
        _sized(prepared_id, 32, "prepared id")
    _signer(validator, signature, signature_bytes)
    return Claim(height, round_, prepared_round, prepared_id, validator, signature)


def _position(height: Any, round_: Any) -> None:
    if type(height) is not int or type(round_) is not int or height < 1 or not 0 <= round_ <= MAX_ROUND:
        raise Invalid(MALFORMED, f"heights are integers from 1 up, rounds from 0 to {MAX_ROUND}")


def _sized(value: Any, size: int, name: str) -> None:
    if type(value) is not bytes or len(value) != size:
        raise Invalid(MALFORMED, f"a {name} has {size} bytes")


def _signer(validator: Any, signature: Any, signature_bytes: int) -> None:
    _sized(validator, 20, "validator address")
    _sized(signature, signature_bytes, "signature")
