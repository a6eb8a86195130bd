"""Parts broken on purpose, to see that the simulator finds it: switches of the tests, never of the product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple
from unittest import mock

from consensus import events as out
from consensus.engine import Engine
from consensus.guard import PreparedBlock, Record, encode_record, first_record
from consensus.justification import Rule
from consensus.messages import Claim, Kind, Message, Proposal, RoundChange, Vote
from consensus.transitions import Phase
from ledger import codec
from tests.consensus_kit import CHAIN, signed
from tests.simulation.host import Host
from tests.simulation.ledger import OpaqueLedger
from tests.simulation.world import Broken


class Mutation(NamedTuple):
    """What is broken, in words; the parts exchanged; the names patched for the time of a run."""

    rule: str
    parts: Broken = Broken()
    patches: tuple[tuple[str, Callable[..., Any]], ...] = ()


# C4


class RoundInTheBlockId(Engine):
    """Besu 6613: the block proposed again gets an id that covers its new round."""

    def _proposal_again(
        self, block_id: bytes, block: bytes, claims: tuple[Claim, ...], prepares: tuple[Vote, ...]
    ) -> Proposal:
        other = sha256(block_id + bytes([self.round % 256])).digest()
        return Proposal(self._vote(Kind.PROPOSAL, other), block, claims, prepares)


class CertificateInTheBlockId(OpaqueLedger):
    """The id that the next block names as its parent covers the certificate, which differs from node to node."""

    @property
    def head_id(self) -> bytes:
        """The id of the last block with its certificate."""
        if not self.height:
            return super().head_id
        block, certificate = self.decided(self.height)
        return sha256(block + codec.encode(certificate)).digest()


# C5


class AnyProposal(Engine):
    """A proposal needs no justification."""

    def _judge_proposal(self, message: Proposal) -> Rule:
        right = message.vote.validator == self.committee.proposer(self.height, message.vote.round)
        return Rule.NONE_PREPARED if right else Rule.WRONG_PROPOSER


class PreparedIsNotTold(Engine):
    """A round change says nothing of what was prepared."""

    def _change_round(self, round_: int) -> None:
        self._enter(round_)
        self._ask(RoundChange(Claim(self.height, round_, None, None, self.address)))


# C6


class ForgetfulHost(Host):
    """Quorum 1692: record and lock are kept in memory only."""

    def start(self) -> None:
        """Starts as if for the first time."""
        self.disk.write("record", encode_record(first_record(CHAIN)))
        self.disk.write("prepared", b"")
        super().start()

    def _check_record(self, record: Record) -> None:
        """Not even what the chain shows is believed."""


class LateHost(Host):
    """Signs first and writes afterwards."""

    def _persist(self, persist: out.Persist) -> None:
        self.after(50, lambda: super(LateHost, self)._persist(persist))


# C7


class OwnCommitAtOnce(Engine):
    """Besu 1734: the own COMMIT counts before it is sent."""

    def _ask(self, message: Message, prepared: PreparedBlock | None = None) -> None:
        if isinstance(message, Vote) and message.kind is Kind.COMMIT:
            self._commits.add(signed(message))
            self._try_decide()
        super()._ask(message, prepared)


class TalksOn(Engine):
    """A decided height is not silent: the round goes on."""

    def _clock(self) -> bool:
        if self.phase is Phase.DECIDED and self._own:
            self._outputs += [out.Broadcast(message) for _, message in sorted(self._own.items())]
        return super()._clock()


class TimerOnEntering(Engine):
    """The timer of every round starts when the round is entered, as in the specification: docs/adr/0007."""

    def _enter(self, round_: int) -> None:
        super()._enter(round_)
        self._start_timer()


def nothing_prepared(claims: object) -> None:
    """What round changes say of prepared blocks is not looked at, neither in proposing nor in judging."""


def two_f_plus_one(total_power: int) -> int:
    """The quorum that is right only where n = 3F + 1."""
    return 2 * ((total_power - 1) // 3) + 1


MUTATIONS: dict[str, Mutation] = {
    "c4-round-in-id": Mutation("C4: the block id covers the round", Broken(engine=RoundInTheBlockId)),
    "c4-certificate-in-id": Mutation("C4: the block id covers the certificate", Broken(ledger=CertificateInTheBlockId)),
    "c5-any-proposal": Mutation("C5: proposals are not justified", Broken(engine=AnyProposal, size=4)),
    "c5-prepared-ignored": Mutation(
        "C5: what was prepared is proposed again by nobody, and asked for by nobody",
        patches=(
            ("consensus.engine.highest_prepared", nothing_prepared),
            ("consensus.justification.highest_prepared", nothing_prepared),
        ),
    ),
    "c5-lock-not-told": Mutation("C5: what was prepared is not told", Broken(engine=PreparedIsNotTold)),
    "c6-forgets": Mutation("C6: nothing is reloaded after a restart", Broken(host=ForgetfulHost)),
    "c6-writes-late": Mutation("C6: signed before it is durable", Broken(host=LateHost)),
    "c7-own-commit": Mutation("C7: the own COMMIT counts unsent", Broken(engine=OwnCommitAtOnce)),
    "c7-talks-on": Mutation("C7: a decided height is not silent", Broken(engine=TalksOn)),
    "c8-timer-on-entering": Mutation("C8: timers do not wait for a quorum", Broken(engine=TimerOnEntering, size=4)),
    "quorum": Mutation(
        "C2: a quorum of 2F + 1",
        Broken(size=6),
        (("consensus.quorum.quorum", two_f_plus_one), ("consensus.tally.quorum", two_f_plus_one)),
    ),
}


@contextmanager
def applied(mutation: Mutation | None) -> Iterator[None]:
    """Patches what a mutation patches, for as long as the context lasts."""
    patches = [mock.patch(name, broken) for name, broken in (mutation.patches if mutation else ())]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
