"""Watches one engine and says where what it does is not what the specification allows, or leaves undone what it asks.

Knows only the messages that reached the engine, what its host said of blocks, and what it sent itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus import events as out
from consensus.events import Input, Output
from consensus.messages import Claim, Decided, Kind, Message, Proposal, RoundChange, Vote
from consensus.transitions import Phase
from ledger.block import Validator
from tests.consensus_kit import Bench
from tests.oracle import qbft_predicates as oracle
from tests.oracle.translate import members, oracle_claim, oracle_proposal, oracle_vote


class Watch:
    """The specification's view of one node at one height."""

    def __init__(self, validators: Sequence[Validator], height: int) -> None:
        self.height = height
        self.validators = members(validators)
        self.bench: Bench
        self.proposals: list[Proposal] = []
        self.prepares: list[oracle.SignedVote] = []
        self.commits: list[oracle.SignedVote] = []
        self.claims: dict[bytes, oracle.SignedRoundChange] = {}
        self.valid: set[bytes] = set()
        self.signed: dict[tuple[int, int, str], object] = {}
        self.prepared: tuple[int | None, bytes | None] = (None, None)
        self.ever_prepares: list[oracle.SignedVote] = []
        self.ever_commits: list[oracle.SignedVote] = []
        self.ever_valid: set[bytes] = set()
        self.prepared_before: set[int] = set()
        self.decided: bytes | None = None
        self.justly_decided: set[bytes] = set()
        self.faults: list[str] = []

    # What reaches the node

    def received(self, message: Message) -> None:
        """A message that the node was given, and whose signatures are right."""
        if self.decided is not None:
            return
        if isinstance(message, Proposal):
            self.proposals.append(message)
        elif isinstance(message, RoundChange):
            self._claim(message)
        elif isinstance(message, Decided):
            height, round_, block_id, seals = message.certificate
            votes = [oracle.SignedVote(height, round_, block_id, seal.validator) for seal in seals]
            if oracle.quorum_of_votes(votes, self.height, round_, block_id, self.validators):
                self.justly_decided.add(block_id)
        else:
            self._vote(message)

    def restarted(self) -> None:
        """The node has lost what it did not persist. What was ever said still justifies what it says again."""
        self.prepared_before |= {round_ for _, round_, kind in self.signed if kind == "PREPARE"}
        for forgotten in (self.claims, self.prepares, self.commits, self.valid):
            forgotten.clear()

    def _vote(self, vote: Vote) -> None:
        prepare = vote.kind is Kind.PREPARE
        plain = oracle_vote(vote)
        (self.ever_prepares if prepare else self.ever_commits).append(plain)
        heap = self.prepares if prepare else self.commits
        first = [
            each for each in heap if (each.author, each.round, each.height) == (plain.author, plain.round, plain.height)
        ]
        if not first:
            heap.append(plain)

    def _claim(self, message: RoundChange) -> None:
        plain = oracle_claim(message.claim)
        proof = [oracle_vote(each) for each in message.prepares]
        right = oracle.valid_round_change_message(plain, proof, message.block is not None, self.height, self.validators)
        previous = self.claims.get(plain.author)
        if right and (previous is None or previous.round < plain.round):
            self.claims[plain.author] = plain

    # What the node does

    def did(self, event: Input, outputs: tuple[Output, ...]) -> None:
        """One call of the engine and what came of it."""
        if isinstance(event, out.Received):
            self.received(event.message)
        for each in outputs:
            if isinstance(each, out.Broadcast):
                self._sent(each.message)
            elif isinstance(each, out.Decide):
                self._decided(each)

    def verdict(self, asked: out.Judge, valid: bool) -> None:
        """What the host said of a block."""
        if valid:
            self.valid.add(asked.block_id)
            self.ever_valid.add(asked.block_id)

    def _once(self, round_: int, kind: str, what: object) -> None:
        if self.signed.setdefault((self.height, round_, kind), what) != what:
            self.faults.append(f"two different {kind} in round {round_}")
        if self.decided is not None:
            self.faults.append(f"{kind} after the decision")

    def _sent(self, message: Message) -> None:
        if isinstance(message, Proposal):
            self._once(message.vote.round, "PROPOSAL", message.vote.block_id)
            plain = oracle_proposal(message)
            if not oracle.is_valid_proposal(plain, self.height, self.validators) or not oracle.is_plain(plain):
                self.faults.append(f"sent an unjustified PROPOSAL in round {message.vote.round}")
            self.proposals.append(message)
            self.valid.add(message.vote.block_id)
            self.ever_valid.add(message.vote.block_id)
        elif isinstance(message, RoundChange):
            self._sent_claim(message)
        elif isinstance(message, Vote):
            self._once(message.round, message.kind.name, message.block_id)
            if message.kind is Kind.PREPARE:
                self._sent_prepare(message)
            else:
                self._sent_commit(message)
            self._vote(message)

    def _sent_claim(self, message: RoundChange) -> None:
        claim: Claim = message.claim
        said = (claim.prepared_round, claim.prepared_id)
        repeated = (self.height, claim.round, "ROUND-CHANGE") in self.signed
        self._once(claim.round, "ROUND-CHANGE", said)
        if said != self.prepared and not repeated:
            self.faults.append(f"ROUND-CHANGE to {claim.round} says {said}, prepared was {self.prepared}")
        before = len(self.faults)
        self._claim(message)
        if len(self.faults) == before and self.claims.get(claim.validator) != oracle_claim(claim):
            self.faults.append(f"ROUND-CHANGE to {claim.round} does not prove what it says")

    def _sent_prepare(self, vote: Vote) -> None:
        justified = any(
            proposal.vote.round == vote.round
            and proposal.vote.block_id == vote.block_id
            and oracle.is_valid_proposal(oracle_proposal(proposal), self.height, self.validators)
            for proposal in self.proposals
        )
        if not justified:
            self.faults.append(f"PREPARE in round {vote.round} without a justified PROPOSAL")
        if vote.block_id not in self.ever_valid:
            self.faults.append(f"PREPARE in round {vote.round} of a block that is not valid")

    def _sent_commit(self, vote: Vote) -> None:
        if not oracle.quorum_of_votes(self.ever_prepares, self.height, vote.round, vote.block_id, self.validators):
            self.faults.append(f"COMMIT in round {vote.round} without a quorum of PREPAREs")
        self.prepared = (vote.round, vote.block_id)

    def _decided(self, decide: out.Decide) -> None:
        block_id, round_ = decide.block_id, decide.certificate.round
        seals = [oracle.SignedVote(self.height, round_, block_id, each.validator) for each in decide.certificate.seals]
        if not oracle.quorum_of_votes(seals, self.height, round_, block_id, self.validators):
            self.faults.append("decided with a certificate that is no quorum")
        counted = oracle.quorum_of_votes(self.ever_commits, self.height, round_, block_id, self.validators)
        if not counted and block_id not in self.justly_decided:
            self.faults.append("decided without a quorum of COMMITs that were sent")
        if block_id not in self.ever_valid:
            self.faults.append("decided a block that is not valid")
        if self.decided not in (None, block_id):
            self.faults.append("decided twice")
        self.decided = block_id

    # What must have been done

    def settled(self) -> None:
        """Called when the host has answered everything: no step that the specification asks for may be left."""
        if self.decided is not None:
            return
        for round_, block_id in {(each.round, each.digest) for each in self.commits}:
            quorum = oracle.quorum_of_votes(self.commits, self.height, round_, block_id, self.validators)
            if quorum and block_id in self.valid:
                self.faults.append(f"a quorum of COMMITs of round {round_} did not decide")
        if not self.bench.engine.may_sign:
            return
        current = self.bench.engine.round
        led_to = oracle.rounds_by_f_plus_one(self.claims.values(), current, self.validators)
        if led_to != current:
            self.faults.append(f"more than F are at higher rounds, and it stays in round {current}")
        mine = self.signed.get((self.height, current, "PREPARE"))
        committed = (self.height, current, "COMMIT") in self.signed
        if current in self.prepared_before:
            return  # its proposer may have shown it another block since
        if not isinstance(mine, bytes) or committed or self.bench.engine.phase is not Phase.PREPARING:
            return
        if oracle.quorum_of_votes(self.prepares, self.height, current, mine, self.validators):
            self.faults.append(f"a quorum of PREPAREs in round {current} was not committed")
