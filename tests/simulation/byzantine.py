"""Validators that say whatever their own key can sign, whenever it may hurt.

They know everything that reaches them. They vote for several blocks and tell different peers different things, propose
two blocks or invalid ones, leave out of a justification what does not suit them, forge and cut proofs, claim rounds
near and far, serve false blocks and lie about their height. They cannot sign for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.messages import Claim, Decided, Kind, Message, Proposal, RoundChange, Vote, main_statement
from ledger.block import Certificate, Seal
from tests.consensus_kit import address, signed
from tests.simulation.host import Blocks, Get, Status
from tests.simulation.ledger import Schedule, block_id_of, make_block

if TYPE_CHECKING:
    from tests.simulation.world import World

STYLES = ("silent", "votes", "proposes", "forges", "everything")


class Byzantine:
    """One of them. `style` says what it likes to do."""

    honest = False

    def __init__(self, world: World, index: int, style: str, schedule: Schedule) -> None:
        self.world, self.name, self.index, self.address = world, f"byzantine {index}", index, address(index)
        self.style, self.schedule, self.random = style, schedule, world.random
        self.up = False
        self.voted_at = -10
        self.height = 1
        self.parents: dict[int, bytes] = {}
        self.rounds: dict[int, int] = {}
        self.blocks: dict[bytes, bytes] = {}
        self.ids: dict[int, list[bytes]] = {}
        self.prepares: dict[tuple[int, int, bytes], dict[bytes, Vote]] = {}
        self.claims: dict[tuple[int, int], dict[bytes, RoundChange]] = {}

    def start(self) -> None:
        """Begins to act."""
        self.up = True
        if self.style != "silent":
            self.world.after(self.random.randint(1, 200), self._act)

    def crash(self) -> None:
        """Byzantine nodes stay up."""

    def connected(self, peer: bytes) -> None:
        """Of no interest."""

    def receive(self, peer: bytes, payload: Message | Status | Get | Blocks, intact: bool) -> None:
        """Remembers everything."""
        if isinstance(payload, Get) and self.style == "everything":
            self.world.send(self, peer, Blocks((self._false_decision(payload.height),)))
        if not intact or isinstance(payload, Status | Get | Blocks | Decided):
            return
        statement = main_statement(payload)
        if statement is None:
            return
        height, round_ = statement.height, statement.round
        self.height = max(self.height, height)
        self.rounds[height] = max(self.rounds.get(height, 0), min(round_, 10_000))
        if isinstance(payload, Proposal):
            self._learn(height, payload.vote.block_id, payload.block)
        elif isinstance(payload, RoundChange):
            self.claims.setdefault((height, round_), {})[payload.claim.validator] = payload
            for prepare in payload.prepares:
                self._learn_prepare(prepare)
        elif payload.kind is Kind.PREPARE:
            self._learn_prepare(payload)
        ready = self.world.now - self.voted_at >= 10  # two of them would answer each other for ever
        if ready and self.style in ("votes", "everything") and self.random.random() < 0.5:
            self.voted_at = self.world.now
            self._vote(height, round_)

    def _learn(self, height: int, block_id: bytes, block: bytes) -> None:
        if block_id not in self.blocks:
            self.blocks[block_id] = block
            self.ids.setdefault(height, []).append(block_id)

    def _learn_prepare(self, prepare: Vote) -> None:
        place = (prepare.height, prepare.round, prepare.block_id)
        self.prepares.setdefault(place, {})[prepare.validator] = prepare

    # Attacks

    def _act(self) -> None:
        height = self.height
        if all(member.address != self.address for member in self.schedule.at(height)):
            return
        round_ = self.rounds.get(height, 0)
        moves = {"votes": ("vote",), "proposes": ("propose", "vote"), "forges": ("forge", "change", "propose")}
        move = self.random.choice(moves.get(self.style, ("vote", "propose", "forge", "change", "lie")))
        if move == "vote":
            self._vote(height, round_)
        elif move == "propose":
            self._propose(height, round_ + self.random.choice((0, 0, 1)))
        elif move == "forge":
            self._forge(height, round_ + 1)
        elif move == "change":
            self._change(height, round_ + self.random.choice((1, 1, 2, 50)))
        else:
            self._tell(Status(height + self.random.choice((0, 5, 1_000))))
            self._tell(self._false_decision(height))
        self.world.after(self.random.randint(20, 400), self._act)

    def _tell(self, payload: Message | Status) -> None:
        """To some of the others, so that they see different things."""
        for peer in self.world.addresses:
            if peer != self.address and self.random.random() < 0.6:
                self.world.send(self, peer, payload)

    def _vote(self, height: int, round_: int) -> None:
        for block_id in self.ids.get(height, ())[-3:]:
            for kind in (Kind.PREPARE, Kind.COMMIT):
                if self.random.random() < 0.6:
                    self._tell(signed(Vote(kind, height, round_, block_id, self.address)))

    def _new_block(self, height: int, valid: bool = True) -> tuple[bytes, bytes]:
        parent = self.world.head_before(height)
        block = make_block(height, parent, self.address, self.random.getrandbits(32), valid)
        self._learn(height, block_id_of(block), block)
        return block_id_of(block), block

    def _propose(self, height: int, round_: int) -> None:
        members = self.schedule.at(height)
        if members[(height + round_) % len(members)].address != self.address:
            return
        known = self.claims.get((height, round_), {})
        own = RoundChange(signed(Claim(height, round_, None, None, self.address)))
        changes = list({**known, self.address: own}.values())
        for _ in range(2):  # two proposals for one round, each to some
            if self.random.random() < 0.5:  # whoever was prepared does not suit
                changes = [each for each in changes if each.claim.prepared_round is None]
            claims = tuple([each.claim for each in changes]) if round_ else ()
            block_id, block = self._new_block(height, valid=self.random.random() < 0.8)
            prepares: tuple[Vote, ...] = ()
            if self.random.random() < 0.3 and self.ids.get(height):
                block_id = self.random.choice(self.ids[height])
                block = self.blocks[block_id]
                places = [place for place in self.prepares if place[0] == height and place[2] == block_id]
                prepares = tuple(self.prepares[self.random.choice(places)].values()) if places and round_ else ()
            vote = signed(Vote(Kind.PROPOSAL, height, round_, block_id, self.address))
            self._tell(Proposal(vote, block, claims, prepares))
            self._back(vote)
            if self.random.random() < 0.2:  # the right id with other bytes
                self._tell(Proposal(vote, make_block(height, block_id, self.address, 0), claims, prepares))

    def _back(self, vote: Vote) -> None:
        """Votes for its own proposal, to everybody: with F+1 honest ones it may come through."""
        for kind in (Kind.PREPARE, Kind.COMMIT):
            if self.random.random() < 0.7:
                self.world.broadcast(self, signed(vote._replace(kind=kind, signature=b"")))

    def _forge(self, height: int, round_: int) -> None:
        """Justifications that are no proof: cut, of other rounds, repeated, made up."""
        members = self.schedule.at(height)
        while members[(height + round_) % len(members)].address != self.address:
            round_ += 1  # the next round that is its turn
        block_id, block = self._new_block(height)
        known = [each.claim for (at, _), found in self.claims.items() if at == height for each in found.values()]
        own = signed(Claim(height, round_, max(round_ - 1, 0), block_id, self.address))
        self.random.shuffle(known)
        claims = (own, *known[: self.random.randint(0, 4)], *[own] * self.random.randint(0, 3))
        prepares = [signed(Vote(Kind.PREPARE, height, max(round_ - 1, 0), block_id, self.address))] * 3
        vote = signed(Vote(Kind.PROPOSAL, height, round_, block_id, self.address))
        self._tell(Proposal(vote, block, claims, tuple(prepares)))
        self._back(vote)
        self._tell(RoundChange(own, tuple(prepares), block))

    def _change(self, height: int, round_: int) -> None:
        """A round change with a true proof, with a true proof of something old, or with none."""
        proven = [(place, votes) for place, votes in self.prepares.items() if place[0] == height and place[1] < round_]
        if proven and self.random.random() < 0.6:
            (_, prepared_round, block_id), votes = self.random.choice(proven)
            block = self.blocks.get(block_id, b"unknown")
            if self.random.random() < 0.2:
                block = make_block(height, block_id, self.address, 0)
            claim = signed(Claim(height, round_, prepared_round, block_id, self.address))
            self._tell(RoundChange(claim, tuple(votes.values()), block))
        else:
            self._tell(RoundChange(signed(Claim(height, round_, None, None, self.address))))

    def _false_decision(self, height: int) -> Decided:
        block_id, block = self._new_block(max(height, 1))
        commits = [signed(Vote(Kind.COMMIT, max(height, 1), 0, block_id, self.address))]
        seals = tuple([Seal(each.validator, each.signature) for each in commits])
        return Decided(Certificate(max(height, 1), 0, block_id, seals), block)
