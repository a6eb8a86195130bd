"""What must hold in every run, whatever happens: watched at every signature, message and block of the honest nodes.

- agreement: one block at each height;
- validity: what is appended is valid, follows its parent, and has a certificate of a quorum (the oracle's quorum);
- no double signature by an honest node, across crashes too, and none that its durable record does not cover;
- a node's own seal stands in a certificate only after it was sent; a decided height is silent;
- lock: whoever has committed says so in every later round change;
- nobody honest is accused, and nothing that an honest node says is refused.

A broken rule raises Violation; progress is judged by the world once the network is good.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus import events as out
from consensus.evidence import check_evidence
from consensus.messages import Claim, Kind, Message, Statement, Vote, main_statement, signed_payload
from consensus.quorum import check_certificate
from ledger.block import Certificate, Validator
from ledger.errors import TrothError
from tests.consensus_kit import CHAIN, verify
from tests.oracle import qbft_predicates as oracle
from tests.oracle.translate import members
from tests.simulation.ledger import place_of


class ViolationError(Exception):
    """A promise was broken."""


class Checks:
    """Sees everything that honest nodes do. `honest` are their addresses."""

    def __init__(self, honest: Sequence[bytes]) -> None:
        self.honest = frozenset(honest)
        self.chain: dict[int, bytes] = {}
        self.accused: set[bytes] = set()
        self._said: dict[tuple[bytes, int, int, str], bytes] = {}
        self._sent_commits: set[tuple[bytes, int, int, bytes]] = set()
        self._locks: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self._decided: dict[bytes, int] = {}

    def signs(self, who: bytes, statement: Statement, durable: bytes | None) -> None:
        """An honest node signs; `durable` is the payload of its durable signing record."""
        payload = signed_payload(CHAIN, statement)
        if durable != payload:
            raise ViolationError(f"{who[0]} signs what its durable record does not cover: {statement}")
        kind = "ROUND-CHANGE" if isinstance(statement, Claim) else statement.kind.name
        key = (who, statement.height, statement.round, kind)
        if self._said.setdefault(key, payload) != payload:
            raise ViolationError(f"{who[0]} signs twice: {kind} of height {statement.height} round {statement.round}")
        self._lock(who, statement)

    def _lock(self, who: bytes, statement: Statement) -> None:
        lock = self._locks.get((who, statement.height))
        if isinstance(statement, Vote):
            if statement.kind is Kind.COMMIT and (lock is None or lock[0] < statement.round):
                self._locks[who, statement.height] = statement.round, statement.block_id
            return
        if lock is None or lock[0] >= statement.round:
            return
        # What was prepared may be newer than the COMMIT: it is written before the COMMIT is signed.
        told = -1 if statement.prepared_round is None else statement.prepared_round
        if told < lock[0] or (told == lock[0] and statement.prepared_id != lock[1]):
            raise ViolationError(
                f"{who[0]} committed in round {lock[0]} of height {statement.height} and does not say so"
            )

    def sends(self, who: bytes, message: Message) -> None:
        """An honest node broadcasts."""
        statement = main_statement(message)
        if statement is None:
            return
        if statement.height <= self._decided.get(who, 0):
            raise ViolationError(f"{who[0]} speaks of height {statement.height} after deciding it")
        if isinstance(statement, Vote) and statement.kind is Kind.COMMIT:
            self._sent_commits.add((who, statement.height, statement.round, statement.block_id))

    def starts(self, who: bytes, height: int) -> None:
        """An honest node starts, at the height of its chain: a decision that it did not append is forgotten."""
        self._decided[who] = height

    def decides(self, who: bytes, decide: out.Decide, validators: Sequence[Validator]) -> None:
        """An honest node's engine decides."""
        self._decided[who] = max(self._decided.get(who, 0), decide.height)
        certificate = decide.certificate
        sealed = any(seal.validator == who for seal in certificate.seals)
        if sealed and (who, decide.height, certificate.round, decide.block_id) not in self._sent_commits:
            raise ViolationError(f"{who[0]} decides height {decide.height} with its own COMMIT, which it never sent")
        self._certified(who, decide.height, decide.block_id, certificate, validators)

    def appends(
        self,
        who: bytes,
        height: int,
        block: bytes,
        parent_id: bytes,
        certificate: Certificate,
        validators: Sequence[Validator],
    ) -> None:
        """An honest node appends."""
        self._decided[who] = max(self._decided.get(who, 0), height)
        if place_of(block) != (height, parent_id):
            raise ViolationError(f"{who[0]} appends an invalid block at height {height}")
        self._certified(who, height, certificate.block_id, certificate, validators)
        if self.chain.setdefault(height, certificate.block_id) != certificate.block_id:
            raise ViolationError(f"two blocks at height {height}")

    def _certified(
        self, who: bytes, height: int, block_id: bytes, certificate: Certificate, validators: Sequence[Validator]
    ) -> None:
        plain = members(validators)
        votes = [oracle.SignedVote(height, certificate.round, block_id, seal.validator) for seal in certificate.seals]
        if not oracle.quorum_of_votes(votes, height, certificate.round, block_id, plain):
            raise ViolationError(f"{who[0]} decides height {height} without a quorum")
        try:
            check_certificate(certificate, CHAIN, block_id, validators, verify)
        except TrothError as error:
            raise ViolationError(f"{who[0]} decides height {height} by a bad certificate: {error}") from error

    def accuses(self, evidence: out.Evidence, validators: Sequence[Validator]) -> None:
        """An honest node has found evidence."""
        try:
            accused = check_evidence(evidence.double_sign, CHAIN, validators, verify)
        except TrothError as error:
            raise ViolationError(f"evidence that proves nothing: {error}") from error
        if accused.address in self.honest:
            raise ViolationError(f"{accused.address[0]} is honest and was accused")
        self.accused.add(accused.address)

    def refuses(self, who: bytes, author: bytes, refused: out.Refused, intact: bool) -> None:
        """An honest node refuses a message that `author` sent it, unchanged if `intact`."""
        if author in self.honest and intact and refused.reason != "NOT_A_VALIDATOR":
            raise ViolationError(
                f"{who[0]} refuses what the honest {author[0]} says: {refused.reason}, {refused.cause}"
            )
