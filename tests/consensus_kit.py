"""What tests of consensus are written with: committees, signed messages, and an engine with the smallest host.

Signatures here are a hash over the public key and the message. Nobody in these tests makes one in another's name, and
a hundred times as many cases fit into a second. What real signatures do is tested in test_messages and test_guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256, sha512
from typing import TypeVar

from consensus import events as out
from consensus.engine import Engine
from consensus.events import Input, Output, Settings
from consensus.guard import PreparedBlock, Record, Step, first_record
from consensus.messages import (
    Claim,
    Decided,
    Kind,
    Message,
    Proposal,
    RoundChange,
    Statement,
    Vote,
    main_statement,
    signed_payload,
)
from ledger.block import Certificate, Seal, Validator

CHAIN = "test-chain"
HEIGHT = 4
"""A height at which validator 0 of four proposes in round 0, 1 in round 1, and so on."""

PARENT = sha256(b"parent").digest()
S = TypeVar("S", bound=Vote | Claim)


def address(index: int) -> bytes:
    """The address of a validator by its place in the order."""
    return bytes([index + 1]) * 20


def public_key(index: int) -> bytes:
    """The public key of a validator by its place in the order."""
    return sha256(b"key" + address(index)).digest()


def committee(count: int = 4, powers: Sequence[int] = ()) -> tuple[Validator, ...]:
    """Validators 0 to `count` - 1, of power 1 unless told."""
    return tuple([Validator(address(i), public_key(i), powers[i] if powers else 1, "brand") for i in range(count)])


def signature(key: bytes, message: bytes) -> bytes:
    """The stand-in for a signature, 64 bytes."""
    return sha512(b"signature" + key + message).digest()


def verify(key: bytes, message: bytes, given: bytes) -> bool:
    """The stand-in for verification."""
    return signature(key, message) == given


def signed(statement: S, chain: str = CHAIN) -> S:
    """A statement with its author's signature."""
    payload = signed_payload(chain, statement)
    return statement._replace(signature=signature(sha256(b"key" + statement.validator).digest(), payload))  # type: ignore[return-value]


def block(name: str = "A") -> bytes:
    """The bytes of a block."""
    return b"block " + name.encode()


def block_id(content: bytes) -> bytes:
    """The id of a block's bytes."""
    return sha256(content).digest()


A, B, C = block_id(block("A")), block_id(block("B")), block_id(block("C"))
_NAMES = {A: "A", B: "B", C: "C"}


def vote(kind: Kind, who: int, round_: int = 0, of: bytes = A, height: int = HEIGHT) -> Vote:
    """A signed vote."""
    return signed(Vote(kind, height, round_, of, address(who)))


def prepare(who: int, round_: int = 0, of: bytes = A, height: int = HEIGHT) -> Vote:
    """A signed PREPARE."""
    return vote(Kind.PREPARE, who, round_, of, height)


def commit(who: int, round_: int = 0, of: bytes = A, height: int = HEIGHT) -> Vote:
    """A signed COMMIT."""
    return vote(Kind.COMMIT, who, round_, of, height)


def prepares(round_: int = 0, of: bytes = A, who: Iterable[int] = (0, 1, 2), height: int = HEIGHT) -> tuple[Vote, ...]:
    """Signed PREPAREs of several."""
    return tuple([prepare(each, round_, of, height) for each in who])


def claim(who: int, round_: int, prepared: tuple[int, bytes] | None = None, height: int = HEIGHT) -> Claim:
    """A signed claim."""
    prepared_round, prepared_id = prepared or (None, None)
    return signed(Claim(height, round_, prepared_round, prepared_id, address(who)))


def claims(round_: int, who: Iterable[int] = (0, 1, 2), height: int = HEIGHT) -> tuple[Claim, ...]:
    """Signed claims of several who have prepared nothing."""
    return tuple([claim(each, round_, None, height) for each in who])


def round_change(who: int, round_: int, prepared: tuple[int, str] | None = None, height: int = HEIGHT) -> RoundChange:
    """A ROUND-CHANGE; with `prepared` = (round, name of block) its proof and block are attached."""
    if prepared is None:
        return RoundChange(claim(who, round_, None, height))
    content = block(prepared[1])
    proof = prepares(prepared[0], block_id(content), height=height)
    return RoundChange(claim(who, round_, (prepared[0], block_id(content)), height), proof, content)


def proposal(
    round_: int = 0,
    name: str = "A",
    claims: tuple[Claim, ...] = (),
    prepares: tuple[Vote, ...] = (),
    *,
    who: int | None = None,
    height: int = HEIGHT,
    count: int = 4,
) -> Proposal:
    """A PROPOSAL of the one whose turn it is, unless told."""
    author = (height + round_) % count if who is None else who
    content = block(name)
    return Proposal(vote(Kind.PROPOSAL, author, round_, block_id(content), height), content, claims, prepares)


def certificate(of: bytes = A, round_: int = 0, who: Iterable[int] = (0, 1, 2), height: int = HEIGHT) -> Certificate:
    """A certificate sealed by several."""
    seals = [commit(each, round_, of, height) for each in who]
    return Certificate(height, round_, of, tuple([Seal(each.validator, each.signature) for each in seals]))


def decided(name: str = "A", round_: int = 0, who: Iterable[int] = (0, 1, 2), height: int = HEIGHT) -> Decided:
    """A DECIDED."""
    return Decided(certificate(block_id(block(name)), round_, who, height), block(name))


class Bench:
    """An engine with a host that persists, signs and judges at once. What it says and does is told in short words.

    `hold` names the outputs that the host does not act on by itself: "sign", "judge".
    """

    def __init__(
        self,
        who: int = 1,
        *,
        count: int = 4,
        powers: Sequence[int] = (),
        record: Record | None = None,
        prepared: PreparedBlock | None = None,
        settings: Settings | None = None,
        caught_up: bool = True,
        height: int = HEIGHT,
        hold: Iterable[str] = (),
        invalid: Iterable[str] = (),
    ) -> None:
        self.who, self.now_ms, self.height = who, 0, height
        self.members = committee(count, powers)
        self.record, self.prepared = record or first_record(CHAIN), prepared
        self.hold = set(hold)
        self.invalid = {block(name) for name in invalid}
        self.outputs: list[Output] = []
        self.fired: list[str] = []
        self.engine = Engine(CHAIN, address(who), self.record, prepared, settings or Settings(), verify)
        self.began = self.tell(out.NewHeight(height, PARENT, self.members, self.members))
        if caught_up:
            self.began += self.tell(out.CaughtUp(True))

    def tell(self, event: Input, after_ms: int = 0) -> list[str]:
        """What follows from an input, with what follows from the host's answers."""
        self.now_ms += after_ms
        pending: list[Input] = [event]
        said: list[str] = []
        while pending:
            outputs = self.engine.handle(pending.pop(0), self.now_ms)
            self.outputs += outputs
            self.fired += [each.name for each in self.engine.fired]
            said += [say(each) for each in outputs]
            pending += [answer for each in outputs if (answer := self._answer(each)) is not None]
        return said

    def _answer(self, output: Output) -> Input | None:
        if isinstance(output, out.Persist):
            self.record, self.prepared = output.record, output.prepared or self.prepared
        elif isinstance(output, out.Sign) and "sign" not in self.hold:
            return out.Signed(signed(output.statement))
        elif isinstance(output, out.Judge) and "judge" not in self.hold:
            return out.Judged(output.ticket, self.valid(output))
        return None

    def valid(self, asked: out.Judge) -> bool:
        """The host's verdict: the bytes are those of the id, and the block is not among the invalid."""
        return block_id(asked.block) == asked.block_id and asked.block not in self.invalid

    def get(self, *messages: Message, peer: int = 9) -> list[str]:
        """What follows when a peer sends these, one after the other."""
        return [each for message in messages for each in self.tell(out.Received(address(peer), message))]

    def wait(self, after_ms: int) -> list[str]:
        """What follows when time passes."""
        return self.tell(out.Tick(), after_ms)

    def work(self) -> list[str]:
        """A block is wanted, and the block interval passes."""
        return self.tell(out.Work(self.height)) + self.wait(self.engine.settings.block_interval_ms)

    def build(self, name: str = "A", round_: int = 0) -> list[str]:
        """The host has built a block."""
        return self.tell(out.Built(self.height, round_, block_id(block(name)), block(name)))

    def restart(self, **changes: object) -> Bench:
        """The node again, from what was persisted."""
        kept = {"record": self.record, "prepared": self.prepared, "height": self.height, "count": len(self.members)}
        return Bench(self.who, **{**kept, **changes})  # type: ignore[arg-type]

    @property
    def state(self) -> str:
        """Phase and round, as in "OPEN 0"."""
        return f"{self.engine.phase.name} {self.engine.round}"

    def sent(self, kind: type) -> list[Message]:
        """The messages of a type that were broadcast."""
        return [
            each.message for each in self.outputs if isinstance(each, out.Broadcast) and isinstance(each.message, kind)
        ]


def show(statement: Statement | None) -> str:
    """A statement in short words: kind, round, block."""
    if isinstance(statement, Claim):
        prepared = (
            ""
            if statement.prepared_id is None
            else f" prepared {statement.prepared_round} {name(statement.prepared_id)}"
        )
        return f"ROUND-CHANGE {statement.round}{prepared}"
    return "" if statement is None else f"{statement.kind.name} {statement.round} {name(statement.block_id)}"


def name(of: bytes) -> str:
    """The name of a block by its id."""
    return _NAMES.get(of, of.hex()[:6])


def say(output: Output) -> str:
    """An output in short words. Signing is left out: what is signed is persisted before and sent afterwards."""
    if isinstance(output, out.Persist):
        with_block = "" if output.prepared is None else f" with {name(output.prepared.block_id)}"
        return f"persist {Step(output.record.step).name} {output.record.round}{with_block}"
    if isinstance(output, out.Sign):
        return f"sign {show(output.statement)}"
    if isinstance(output, out.Broadcast):
        return f"send {show(main_statement(output.message))}"
    if isinstance(output, out.Send):
        return f"send {show(main_statement(output.message))} to {output.peer[0] - 1}"
    if isinstance(output, out.Relay):
        return f"relay {show(main_statement(output.message))}"
    if isinstance(output, out.Build):
        return f"build {output.round}"
    if isinstance(output, out.Judge):
        return f"judge {name(output.block_id)}" + (f" of {output.proposer[0] - 1}" if output.proposer else "")
    if isinstance(output, out.Decide):
        return f"decide {name(output.block_id)} {output.certificate.round}"
    if isinstance(output, out.AnswerDecided):
        return f"answer {output.peer[0] - 1} with {output.height}"
    if isinstance(output, out.Behind):
        return f"behind {output.height}"
    if isinstance(output, out.NeedBlock):
        return f"need {name(output.block_id)}"
    if isinstance(output, out.Evidence):
        first = output.double_sign.first
        return f"evidence {first.kind.name} {first.round} by {first.validator[0] - 1}"
    return f"refused {output.reason}"
