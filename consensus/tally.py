"""Who has said what, counted by power and by distinct sender.

Rules kept here:
- a validator counts once, however often it speaks, and the first of its votes for a round is the one that counts;
- one validator can never push out what another said: each has a bounded space of its own (CONSENSUS C10);
- power, not heads, makes a quorum (CONSENSUS C2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from consensus.messages import Claim, RoundChange, Vote
from consensus.quorum import faulty, proposer, quorum
from ledger.block import Validator

ROUNDS_KEPT = 16
"""Rounds of one height for which the votes of one validator are kept: its highest ones."""


class Committee:
    """The validators of one height: who belongs, how much power they have, and whose turn it is."""

    def __init__(self, validators: Sequence[Validator]) -> None:
        self.validators = tuple(validators)
        self.by_address = {validator.address: validator for validator in self.validators}
        total = sum(validator.power for validator in self.validators)
        self.quorum = quorum(total)
        self.faulty = faulty(total)

    def __contains__(self, address: object) -> bool:
        return address in self.by_address

    def public_key(self, address: bytes) -> bytes:
        """The key of a member. Raises KeyError."""
        return self.by_address[address].public_key

    def power(self, addresses: Iterable[bytes]) -> int:
        """The power of the distinct members among `addresses`; strangers have none."""
        return sum(self.by_address[address].power for address in dict.fromkeys(addresses) if address in self.by_address)

    def is_quorum(self, addresses: Iterable[bytes]) -> bool:
        """Whether the distinct members among `addresses` are a quorum."""
        return self.power(addresses) >= self.quorum

    def proposer(self, height: int, round_: int) -> bytes:
        """The address of the one who proposes in that round (CONSENSUS C11)."""
        return proposer(self.validators, height, round_).address


class Place(NamedTuple):
    """A round and a block id that votes agree on."""

    round: int
    block_id: bytes


class VoteTally:
    """The PREPAREs or the COMMITs of one height."""

    def __init__(self) -> None:
        self._votes: dict[bytes, dict[int, Vote]] = {}

    def find(self, validator: bytes, round_: int) -> Vote | None:
        """The vote of that validator that counts in that round."""
        return self._votes.get(validator, {}).get(round_)

    def add(self, vote: Vote) -> None:
        """Counts a verified vote, unless its author has one in that round already."""
        rounds = self._votes.setdefault(vote.validator, {})
        rounds.setdefault(vote.round, vote)
        if len(rounds) > ROUNDS_KEPT:
            del rounds[min(rounds)]

    def at(self, place: Place) -> list[Vote]:
        """The votes for one block in one round, by ascending validator."""
        found = [rounds.get(place.round) for _, rounds in sorted(self._votes.items())]
        return [vote for vote in found if vote is not None and vote.block_id == place.block_id]

    def quorums(self, committee: Committee) -> list[Place]:
        """Where there is a quorum, by ascending round."""
        places = {Place(vote.round, vote.block_id): None for rounds in self._votes.values() for vote in rounds.values()}
        return [place for place in sorted(places) if committee.is_quorum(vote.validator for vote in self.at(place))]

    def forget_below(self, round_: int) -> None:
        """Drops the votes of earlier rounds."""
        for validator, rounds in self._votes.items():
            self._votes[validator] = {key: vote for key, vote in rounds.items() if key >= round_}


class ClaimTally:
    """The ROUND-CHANGEs of one height: of each validator the one for its highest round, the first it sent for it.

    One is enough: who has gone on to a higher round takes no part in the lower one any more.
    """

    def __init__(self) -> None:
        self._latest: dict[bytes, RoundChange] = {}

    def find(self, validator: bytes) -> Claim | None:
        """The claim of that validator that counts."""
        found = self._latest.get(validator)
        return None if found is None else found.claim

    def add(self, message: RoundChange) -> None:
        """Counts a verified ROUND-CHANGE if its round is higher than that of its author's last."""
        previous = self.find(message.claim.validator)
        if previous is None or previous.round < message.claim.round:
            self._latest[message.claim.validator] = message

    def drop(self, validator: bytes) -> None:
        """Forgets a ROUND-CHANGE that turned out to be false."""
        self._latest.pop(validator, None)

    def at(self, round_: int) -> list[RoundChange]:
        """The ROUND-CHANGEs for exactly that round, by ascending validator."""
        return [message for _, message in sorted(self._latest.items()) if message.claim.round == round_]

    def have_reached(self, round_: int) -> list[bytes]:
        """The validators who have changed to that round or a higher one."""
        return [who for who, each in self._latest.items() if each.claim.round >= round_]

    def jump_target(self, committee: Committee, round_: int) -> int | None:
        """The round to jump to from `round_`, or None: where senders of more than F power are at higher rounds.

        The rule is to jump to the smallest of their rounds, again and again while it holds. This is where that ends:
        the highest round that more than F power has reached, so that somebody honest is there.
        """
        higher = sorted({each.claim.round for each in self._latest.values() if each.claim.round > round_}, reverse=True)
        for target in higher:
            if committee.power(self.have_reached(target)) > committee.faulty:
                return target
        return None
