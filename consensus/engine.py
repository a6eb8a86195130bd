"""The consensus engine: the whole of QBFT as one state machine. Inputs and the time go in, outputs come out.

Everything that changes the state of agreement is in this file. What a proposal needs to be believed is in
`consensus.justification`, what a validator may sign in `consensus.guard`.

Rules kept here (the numbers are those of docs/spec/consensus.md):
- C1 no clock, no randomness, no IO: `handle(input, now_ms)`; blocks are an id, bytes and a verdict of the host's;
- C3 shape, membership and repeats are judged before any signature is verified;
- C6 `Persist` comes before `Sign`, and what is signed comes back as an input before it is sent;
- C7 a quorum of COMMITs decides at any round; a validator's own counts only once it is sent; then the height is silent;
- C8 the round timer starts after the block interval, above round 0 once a quorum has reached the round; it is fixed
  and capped; F+1 at higher rounds pull this node along (docs/adr/0007);
- C9 the node's latest messages are repeated; whoever speaks of a past height is answered with its decision;
- C10 every store is bounded, each validator's space is its own;
- C12 nothing is signed before the host says that it has caught up.

The phases of a height and every transition between them stand in `consensus.transitions`; no other is possible. One
validator is the smallest case of the same machine.

Source: EEA QBFT specification, `node.dfy` (the Upon... predicates); Moniz, arXiv 2002.03613.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from consensus import events as out
from consensus.events import Input, Output, Settings
from consensus.evidence import double_sign
from consensus.future import FUTURE_HEIGHTS, FutureMessages
from consensus.guard import PreparedBlock, Record, advance, allows, check_prepared_kept, position_of
from consensus.justification import ACCEPTING, Rule, highest_prepared, judge_proposal, judge_round_change
from consensus.messages import (
    MAX_ROUND,
    Claim,
    Decided,
    Kind,
    Message,
    Proposal,
    RoundChange,
    Statement,
    Verify,
    Vote,
    height_of,
    kind_of,
    main_statement,
    parse_payload,
    signature_holds,
    signed_payload,
    statements,
)
from consensus.quorum import check_certificate
from consensus.tally import ClaimTally, Committee, Place, VoteTally
from consensus.timeout import round_timeout_ms
from consensus.transitions import (
    ACCEPT,
    BEGIN,
    DECIDE,
    IN_ROUND,
    JUMP,
    OPEN,
    PREPARED,
    REFUSE_BLOCK,
    RESUME,
    TAKE_PROPOSAL,
    TIME_OUT,
    Phase,
    Transition,
)
from ledger.block import Certificate, Seal
from ledger.errors import VerifyFailed
from ledger.keys import verify as verify_signature

BLOCKS_KEPT = 8
"""Blocks of one height that are remembered as valid. A proposer can add one in each round that is its turn."""


class _ForProposal(NamedTuple):
    vote: Vote


class _ForClaim(NamedTuple):
    validator: bytes


class _ForDecision(NamedTuple):
    certificate: Certificate


_Purpose: TypeAlias = "_ForProposal | _ForClaim | _ForDecision | None"


class _Judging(NamedTuple):
    peer: bytes
    block_id: bytes
    block: bytes
    purpose: _Purpose


class Engine:
    """Agreement of one validator, or of a node that only follows.

    - `record` and `prepared` are what was persisted last; `check_prepared_kept` is asked of them here.
    - `prepared_lost` takes a record whose prepared block is gone (an emptied database): the host must then not say
      `CaughtUp` before the record's height is decided, since only there could the loss do harm.
    - `verify` may be a look-up, so that hosts verify in workers: `messages.statements` says what there is to verify.
    - `phase`, `height`, `round` and `fired` (the transitions of the last call) may be read; nothing may be written.
    """

    def __init__(
        self,
        chain_id: str,
        address: bytes,
        record: Record,
        prepared: PreparedBlock | None = None,
        settings: Settings | None = None,
        verify: Verify = verify_signature,
        *,
        prepared_lost: bool = False,
    ) -> None:
        if not prepared_lost:
            check_prepared_kept(record, prepared)
        self.chain_id = chain_id
        self.address = address
        self.settings = settings or Settings()
        self.height = 0
        self.round = 0
        self.phase = Phase.DECIDED
        self.committee = Committee(())
        self.caught_up = False
        self.fired: list[Transition] = []
        self.prepared: PreparedBlock | None = None
        self._kept = prepared
        self._record = record
        self._verify = verify
        self._outputs: list[Output] = []
        self._now_ms = 0
        self._ticket = 0
        self._next_committee = Committee(())
        self._future = FutureMessages(self.settings.future_messages_max, self.settings.future_bytes_max)
        self._answered_ms: dict[bytes, int] = {}
        self._ahead: dict[bytes, int] = {}
        self._clear(b"")

    def _clear(self, parent_id: bytes) -> None:
        """The state of one height, at its beginning."""
        self._parent_id = parent_id
        self._work = False
        self._began_ms = self._now_ms
        self._round_ends_ms: int | None = None
        self._repeat_ms = self.settings.repeat_ms
        self._repeat_at_ms = self._now_ms + self._repeat_ms
        self._prepares = VoteTally()
        self._commits = VoteTally()
        self._claims = ClaimTally()
        self._proposals: dict[int, Vote] = {}
        self._accepted: Vote | None = None
        self._refused_block: bytes | None = None
        self._known: dict[bytes, bytes] = {}
        self._judging: dict[int, _Judging] = {}
        self._building: tuple[int, tuple[Claim, ...]] | None = None
        self._proposed_round = -1
        self._asked: dict[tuple[int, int, int], Message] = {}
        self._own: dict[Kind, Message] = {}
        self._accused: set[tuple[Kind, bytes]] = set()
        self._needed: set[bytes] = set()

    @property
    def deadline_ms(self) -> int | None:
        """When the engine wants a `Tick` at the latest, or None while only other inputs matter."""
        wanted = [self._repeat_at_ms] if self._own and self.phase is not Phase.DECIDED else []
        if self.may_sign and self.phase is Phase.WAITING and self._work:
            wanted.append(self._began_ms + self.settings.block_interval_ms)
        if self.may_sign and self.phase in IN_ROUND and self.round < MAX_ROUND and self._round_ends_ms is not None:
            wanted.append(self._round_ends_ms)
        return min(wanted, default=None)

    @property
    def may_sign(self) -> bool:
        """Whether this node takes part at this height: a validator that has caught up."""
        return self.caught_up and self.address in self.committee

    @property
    def record(self) -> Record:
        """The record that was last given out to be persisted."""
        return self._record

    def handle(self, event: Input, now_ms: int) -> tuple[Output, ...]:
        """What follows from one input at `now_ms`, in ms of a clock that never goes back."""
        self._now_ms = max(self._now_ms, now_ms)
        self._outputs, self.fired = [], []
        if isinstance(event, out.Received):
            self._receive(event.peer, event.message)
        elif isinstance(event, out.Signed):
            self._signed(event.statement)
        elif isinstance(event, out.Judged):
            self._judged(event)
        elif isinstance(event, out.Built):
            self._built(event)
        elif isinstance(event, out.NewHeight):
            self._begin(event)
        elif isinstance(event, out.Work):
            self._work = self._work or event.height == self.height
        elif isinstance(event, out.CaughtUp):
            self._set_caught_up(event.caught_up)
        elif isinstance(event, out.Connected):
            self._outputs += [out.Send(event.peer, message) for message in self._own_messages()]
        self._settle()
        if self._clock():
            self._settle()
        return tuple(self._outputs)

    # Heights

    def _begin(self, event: out.NewHeight) -> None:
        if event.height <= self.height:
            raise ValueError(f"height {event.height} does not follow {self.height}")
        self.height, self.round = event.height, 0
        self.committee = Committee(event.validators)
        self._next_committee = Committee(event.next_validators)
        self._clear(event.parent_id)
        self._go(BEGIN)
        # Where the chain was lost and the record was not, what was prepared may be of a height still to come.
        kept = self._kept
        self.prepared = kept if kept is not None and kept.height == self.height else None
        if self.prepared is not None:
            self._judge(self.address, self.prepared.block_id, self.prepared.block, None, None)
        if self._record.height == self.height:  # begun before a restart
            self._work = True
            if self._record.round > 0:
                self._go(RESUME)
                self._enter(self._record.round)
                self._start_timer()
        self._say_again()
        for peer, message in self._future.take(self.height):
            self._receive(peer, message)
            self._settle()

    def _set_caught_up(self, caught_up: bool) -> None:
        if caught_up and not self.caught_up:
            self.caught_up = True
            self._start_timer()
            self._say_again()
            if self.phase is Phase.PREPARING:
                self._prepare()
        self.caught_up = caught_up

    def _say_again(self) -> None:
        """After a restart, asks anew for the signature of the last statement: a crash may have kept it from leaving."""
        if self._record.height != self.height or not self.may_sign:
            return
        _, statement = parse_payload(self._record.payload, self.address)
        if isinstance(statement, Claim):
            prepared = self.prepared
            if statement.prepared_round is None:
                self._ask(RoundChange(statement))
            elif prepared is not None and prepared.round == statement.prepared_round:
                self._ask(RoundChange(statement, prepared.prepares, prepared.block))
        elif statement.kind is not Kind.PROPOSAL:  # its block is lost, and no other may be proposed
            self._ask(statement)

    # Rounds

    def _start_timer(self) -> None:
        timeout_ms = round_timeout_ms(self.round, self.settings.timeout_ms, self.settings.timeout_cap_ms)
        self._round_ends_ms = self._now_ms + timeout_ms

    def _go(self, transition: Transition) -> None:
        if self.phase not in transition.before:
            raise AssertionError(f"{transition.name} is not possible in phase {self.phase.name}")
        self.phase = transition.after
        self.fired.append(transition)

    def _enter(self, round_: int) -> None:
        """Begins a round, without its timer. COMMITs of all rounds are kept, since any of them may decide."""
        self.round = round_
        self._round_ends_ms = None
        self._accepted = None
        self._refused_block = None
        self._building = None
        self._asked = {}
        self._prepares.forget_below(round_)
        self._proposals = {key: vote for key, vote in self._proposals.items() if key >= round_}
        self._own = {kind: message for kind, message in self._own.items() if kind is Kind.COMMIT}

    def _change_round(self, round_: int) -> None:
        self._enter(round_)
        prepared = self.prepared
        if prepared is None:
            self._ask(RoundChange(Claim(self.height, round_, None, None, self.address)))
        else:
            claim = Claim(self.height, round_, prepared.round, prepared.block_id, self.address)
            self._ask(RoundChange(claim, prepared.prepares, prepared.block))

    def _clock(self) -> bool:
        """What time alone brings: the end of the round, the repetition of our own messages."""
        over = self._round_ends_ms is not None and self._now_ms >= self._round_ends_ms
        if over and self.may_sign and self.phase in IN_ROUND and self.round < MAX_ROUND:
            self._go(TIME_OUT)
            self._change_round(self.round + 1)
            return True
        if self._own and self.phase is not Phase.DECIDED and self._now_ms >= self._repeat_at_ms:
            # A block may be in them, and an outage may be long: each time a little later, up to the longest timeout.
            self._repeat_ms = min(2 * self._repeat_ms, max(self.settings.repeat_ms, self.settings.timeout_cap_ms))
            self._repeat_at_ms = self._now_ms + self._repeat_ms
            self._outputs += [out.Broadcast(message) for message in self._own_messages()]
        return False

    def _own_messages(self) -> list[Message]:
        return [] if self.phase is Phase.DECIDED else [message for _, message in sorted(self._own.items())]

    def _settle(self) -> None:
        """Takes every transition that the state allows, the most final first."""
        while self._try_decide() or self._try_jump() or self._try_open() or self._try_prepared() or self._try_propose():
            pass
        waiting = self.phase in IN_ROUND and self._round_ends_ms is None
        if waiting and self.committee.is_quorum(self._claims.have_reached(self.round)):
            self._start_timer()  # alone, nobody runs ahead: with capped timeouts they would never meet again

    def _try_decide(self) -> bool:
        if self.phase is Phase.DECIDED:
            return False
        for place in self._commits.quorums(self.committee):
            block = self._known.get(place.block_id)
            votes = self._commits.at(place)
            if block is not None:
                seals = tuple([Seal(vote.validator, vote.signature) for vote in votes])
                self._decide(block, Certificate(self.height, place.round, place.block_id, seals))
                return True
            if place.block_id not in self._needed and not self._is_judging(place.block_id):
                self._needed.add(place.block_id)
                holders = tuple([vote.validator for vote in votes])
                self._outputs.append(out.NeedBlock(self.height, place.block_id, holders))
        return False

    def _decide(self, block: bytes, certificate: Certificate) -> None:
        self._go(DECIDE)
        self._outputs.append(out.Decide(self.height, certificate.block_id, block, certificate))

    def _try_jump(self) -> bool:
        if not self.may_sign or self.phase is Phase.DECIDED:
            return False
        target = self._claims.jump_target(self.committee, self.round)
        if target is None:
            return False
        self._go(JUMP)
        self._change_round(target)
        return True

    def _try_open(self) -> bool:
        interval_over = self._now_ms >= self._began_ms + self.settings.block_interval_ms
        if self.phase is not Phase.WAITING or not self.may_sign or not self._work or not interval_over:
            return False
        self._go(OPEN)
        self._start_timer()
        return True

    # Proposing

    def _try_propose(self) -> bool:
        place = (self.height, self.round)
        if self.phase is not Phase.OPEN or not self.may_sign or self.committee.proposer(*place) != self.address:
            return False
        if self._proposed_round == self.round or self._building is not None or self._proposals.get(self.round):
            return False
        if self._record.position >= position_of(self._vote(Kind.PROPOSAL, b"")):
            return False  # something was proposed here before a restart
        changes = self._claims.at(self.round)
        claims = tuple([change.claim for change in changes])
        if self.round > 0 and not self.committee.is_quorum(claim.validator for claim in claims):
            return False
        prepared = highest_prepared(claims)
        if prepared is None:
            self._building = self.round, claims
            self._outputs.append(out.Build(self.height, self.round, self._parent_id))
            return False
        change = next(each for each in changes if each.claim.prepared_round == prepared.round)
        block = self._known.get(prepared.block_id)
        if block is not None:
            self._propose(self._proposal_again(prepared.block_id, block, claims, change.prepares))
        elif change.block is not None and not self._is_judging(prepared.block_id):
            author = change.claim.validator
            self._judge(author, prepared.block_id, change.block, None, _ForClaim(author))
        return False

    def _proposal_again(
        self, block_id: bytes, block: bytes, claims: tuple[Claim, ...], prepares: tuple[Vote, ...]
    ) -> Proposal:
        """The block prepared before, in this round: the very same block under the very same id (C4)."""
        return Proposal(self._vote(Kind.PROPOSAL, block_id), block, claims, prepares)

    def _built(self, event: out.Built) -> None:
        if self._building is None or (event.height, event.round) != (self.height, self._building[0]):
            return
        _, claims = self._building
        self._building = None
        if self.phase is Phase.OPEN:
            self._remember(event.block_id, event.block)
            self._propose(Proposal(self._vote(Kind.PROPOSAL, event.block_id), event.block, claims))

    def _propose(self, proposal: Proposal) -> None:
        self._proposed_round = self.round
        self._ask(proposal)

    def _vote(self, kind: Kind, block_id: bytes) -> Vote:
        return Vote(kind, self.height, self.round, block_id, self.address)

    # Blocks

    def _remember(self, block_id: bytes, block: bytes) -> None:
        self._known[block_id] = block
        kept = None if self.prepared is None else self.prepared.block_id
        if len(self._known) > BLOCKS_KEPT:
            del self._known[next(each for each in self._known if each not in (kept, block_id))]

    def _judge(self, peer: bytes, block_id: bytes, block: bytes, proposer: bytes | None, purpose: _Purpose) -> None:
        self._ticket += 1
        self._judging[self._ticket] = _Judging(peer, block_id, block, purpose)
        self._outputs.append(out.Judge(self._ticket, self.height, block_id, block, proposer))

    def _is_judging(self, block_id: bytes) -> bool:
        return any(each.block_id == block_id for each in self._judging.values())

    def _judged(self, event: out.Judged) -> None:
        judging = self._judging.pop(event.ticket, None)
        if judging is None or self.phase is Phase.DECIDED:
            return
        peer, block_id, block, purpose = judging
        current = (
            isinstance(purpose, _ForProposal)
            and self.phase is Phase.JUDGING
            and self._proposals.get(self.round) == purpose.vote
        )
        if event.valid:
            self._remember(block_id, block)
            if isinstance(purpose, _ForDecision):
                self._decide(block, purpose.certificate)
            elif current and isinstance(purpose, _ForProposal):
                self._accept(purpose.vote)
            return
        if current:
            self._refused_block = block
            self._go(REFUSE_BLOCK)
        if isinstance(purpose, _ForClaim):
            self._claims.drop(purpose.validator)
        kind = {_ForProposal: Kind.PROPOSAL, _ForClaim: Kind.ROUND_CHANGE}.get(type(purpose), Kind.DECIDED)
        self._refuse(peer, kind, "INVALID_BLOCK", f"its block {block_id.hex()} is not valid")

    # Signing

    def _allows(self, statement: Statement) -> bool:
        return allows(self._record, statement, signed_payload(self.chain_id, statement))

    def _ask(self, message: Message, prepared: PreparedBlock | None = None) -> None:
        """Has the author's statement of an unsigned message signed, if the guard will: record first, then signature."""
        statement = main_statement(message)
        if statement is None or not self.may_sign:
            return
        if not self._allows(statement):
            return
        record = advance(self._record, signed_payload(self.chain_id, statement))
        if record is not self._record or prepared is not None:
            self._record = record
            self._outputs.append(out.Persist(record, prepared))
        self._asked[position_of(statement)] = message
        self._outputs.append(out.Sign(statement))

    def _signed(self, statement: Statement) -> None:
        message = self._asked.pop(position_of(statement), None)
        if message is None or main_statement(message)[:-1] != statement[:-1]:  # type: ignore[index]
            return
        if (statement.height, statement.round) != (self.height, self.round) or self.phase is Phase.DECIDED:
            return  # too late to matter
        if isinstance(statement, Claim):
            message = message._replace(claim=statement)  # type: ignore[call-arg]
            self._claims.add(message)  # type: ignore[arg-type]
        elif isinstance(message, Proposal):
            message = message._replace(vote=statement)
        else:
            message = statement
            (self._prepares if statement.kind is Kind.PREPARE else self._commits).add(statement)
        self._own[kind_of(message)] = message
        self._repeat_ms = self.settings.repeat_ms
        self._repeat_at_ms = self._now_ms + self._repeat_ms
        self._outputs.append(out.Broadcast(message))
        if isinstance(message, Proposal) and self.phase is Phase.OPEN:
            self._proposals[self.round] = message.vote
            self._accept(message.vote)

    def _accept(self, vote: Vote) -> None:
        self._go(ACCEPT)
        self._accepted = vote
        self._prepare()

    def _prepare(self) -> None:
        if self._accepted is not None:
            self._ask(self._vote(Kind.PREPARE, self._accepted.block_id))

    def _try_prepared(self) -> bool:
        if self.phase is not Phase.PREPARING or self._accepted is None or not self.may_sign:
            return False
        block_id = self._accepted.block_id
        prepares = self._prepares.at(Place(self.round, block_id))
        if not self.committee.is_quorum(vote.validator for vote in prepares):
            return False
        commit = self._vote(Kind.COMMIT, block_id)
        if not self._allows(commit):
            return False  # another block was committed here before a restart: what was prepared then must stay
        self._go(PREPARED)
        self.prepared = PreparedBlock(self.height, self.round, block_id, tuple(prepares), self._known[block_id])
        self._ask(commit, self.prepared)
        return True

    # Messages

    def _receive(self, peer: bytes, message: Message) -> None:
        height = height_of(message)
        if height < self.height:
            self._answer(peer, message, height)
        elif height > self.height:
            self._hold(peer, message, height)
        elif self.phase is Phase.DECIDED:
            return
        elif isinstance(message, Proposal):
            self._on_proposal(peer, message)
        elif isinstance(message, RoundChange):
            self._on_round_change(peer, message)
        elif isinstance(message, Decided):
            self._on_decided(peer, message)
        else:
            self._on_vote(peer, message)

    def _on_proposal(self, peer: bytes, message: Proposal) -> None:
        vote = message.vote
        if vote.round < self.round:
            self._on_missed_block(peer, message)
            return
        if vote.validator != self.committee.proposer(self.height, vote.round):
            self._refuse(peer, Kind.PROPOSAL, Rule.WRONG_PROPOSER.name, Rule.WRONG_PROPOSER.value)
            return
        first = self._proposals.get(vote.round)
        if first is not None and first.block_id != vote.block_id:
            self._on_conflict(peer, first, vote)
            return
        taken = self.phase not in (Phase.WAITING, Phase.OPEN) or message.block == self._refused_block
        if first is not None and taken:
            return
        rule = self._judge_proposal(message)
        if rule not in ACCEPTING:
            self._refuse(peer, Kind.PROPOSAL, rule.name, rule.value)
            return
        if not self._all_verify(peer, message):
            return
        self._proposals[vote.round] = vote
        if vote.round > self.round:
            self._enter(vote.round)
        if self._round_ends_ms is None:  # its justification shows that a quorum is here
            self._start_timer()
        self._go(TAKE_PROPOSAL)
        self._relay(peer, message)
        fresh = rule is not Rule.HIGHEST_PREPARED
        if not fresh and vote.block_id in self._known:
            self._accept(vote)
        else:
            proposer = vote.validator if fresh else None
            self._judge(peer, vote.block_id, message.block, proposer, _ForProposal(vote))

    def _judge_proposal(self, message: Proposal) -> Rule:
        return judge_proposal(message, self.height, self.committee)

    def _on_missed_block(self, peer: bytes, message: Proposal) -> None:
        """A proposal of a past round: its block is wanted if a quorum has committed it."""
        block_id = message.vote.block_id
        wanted = block_id in self._needed and block_id not in self._known and not self._is_judging(block_id)
        if wanted and self.committee.proposer(self.height, message.vote.round) == message.vote.validator:
            self._judge(peer, block_id, message.block, None, None)

    def _on_vote(self, peer: bytes, vote: Vote) -> None:
        if vote.kind is Kind.PROPOSAL or vote.validator not in self.committee:
            self._refuse(peer, vote.kind, Rule.NOT_A_VALIDATOR.name, f"{vote.validator.hex()} may not send it")
            return
        if vote.kind is Kind.PREPARE and vote.round < self.round:
            return
        tally = self._prepares if vote.kind is Kind.PREPARE else self._commits
        first = tally.find(vote.validator, vote.round)
        if first is not None:
            self._on_conflict(peer, first, vote)
        elif self._all_verify(peer, vote):
            tally.add(vote)
            self._relay(peer, vote)

    def _on_conflict(self, peer: bytes, first: Vote, second: Vote) -> None:
        """The first vote stands. A second for another block is evidence, once in a height for each kind."""
        offence = (first.kind, first.validator)
        if first.block_id == second.block_id or offence in self._accused:
            return
        if self._verifies(second):
            self._accused.add(offence)
            self._outputs.append(out.Evidence(double_sign(first, second)))
        else:
            self._refuse(peer, second.kind, "BAD_SIGNATURE", "a signature in it does not verify")

    def _on_round_change(self, peer: bytes, message: RoundChange) -> None:
        claim = message.claim
        previous = self._claims.find(claim.validator)
        if claim.round < self.round or (previous is not None and claim.round <= previous.round):
            return
        rule = judge_round_change(message, self.height, self.committee)
        if rule not in ACCEPTING:
            self._refuse(peer, Kind.ROUND_CHANGE, rule.name, rule.value)
        elif self._all_verify(peer, message):
            ours = self.committee.proposer(self.height, claim.round) == self.address
            self._claims.add(message if ours else RoundChange(claim))  # only its proposer needs proofs and block
            self._relay(peer, message)

    def _on_decided(self, peer: bytes, message: Decided) -> None:
        certificate = message.certificate
        if any(isinstance(each.purpose, _ForDecision) for each in self._judging.values()):
            return
        try:
            check_certificate(certificate, self.chain_id, certificate.block_id, self.committee.validators, self._verify)
        except VerifyFailed as error:
            self._refuse(peer, Kind.DECIDED, "BAD_CERTIFICATE", error.cause)
            return
        block = self._known.get(certificate.block_id)
        if block is not None:
            self._decide(block, certificate)
        else:
            self._judge(peer, certificate.block_id, message.block, None, _ForDecision(certificate))

    # Heights that are not this one

    def _answer(self, peer: bytes, message: Message, height: int) -> None:
        """Who speaks of a past height missed its decision; who is merely late by a little did not."""
        statement = main_statement(message)
        if statement is None or height < 1:
            return
        late_ms = self._now_ms - self._began_ms
        stuck = isinstance(message, RoundChange) or height + 1 < self.height or late_ms >= self.settings.repeat_ms
        interval_ms = self.settings.answer_interval_ms
        self._answered_ms = {who: at for who, at in self._answered_ms.items() if self._now_ms - at < interval_ms}
        if stuck and peer not in self._answered_ms:
            self._answered_ms[peer] = self._now_ms
            self._outputs.append(out.AnswerDecided(peer, height))

    def _hold(self, peer: bytes, message: Message, height: int) -> None:
        statement = main_statement(message)
        if statement is None:
            self._outputs.append(out.Behind(peer, height))
            return
        author = statement.validator
        if author not in self.committee and author not in self._next_committee:
            self._refuse(peer, kind_of(message), Rule.NOT_A_VALIDATOR.name, f"{author.hex()} may not send it")
            return
        near = height <= self.height + FUTURE_HEIGHTS
        news = height > self._ahead.get(author, 0)
        if not (near and self._future.has_room(author, message)) and not news:
            return
        if not self._verifies(statement):
            self._refuse(peer, kind_of(message), "BAD_SIGNATURE", "a signature in it does not verify")
            return
        if near:
            self._future.hold(author, peer, height, message)
        if news and (height > self.height + 1 or self.phase is not Phase.DECIDED):
            self._ahead[author] = height
            self._outputs.append(out.Behind(peer, height))

    # Signatures

    def _verifies(self, statement: Statement) -> bool:
        committee = self.committee if statement.validator in self.committee else self._next_committee
        if statement.validator not in committee:
            return False
        return signature_holds(self.chain_id, committee.public_key(statement.validator), statement, self._verify)

    def _all_verify(self, peer: bytes, message: Message) -> bool:
        checked: Iterable[Statement] = statements(message)
        if all(self._verifies(statement) for statement in checked):
            return True
        self._refuse(peer, kind_of(message), "BAD_SIGNATURE", "a signature in it does not verify")
        return False

    def _relay(self, peer: bytes, message: Message) -> None:
        statement = main_statement(message)
        if self.settings.relay and statement is not None:
            self._outputs.append(out.Relay(message, (peer, statement.validator)))

    def _refuse(self, peer: bytes, kind: Kind, reason: str, cause: str) -> None:
        self._outputs.append(out.Refused(peer, kind, reason, cause))
