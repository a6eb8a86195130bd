"""The phases of a height and the transitions between them, as a table.

The engine takes no step that is not here, and the diagram in docs/spec/consensus.md is drawn from it. Sources name the
predicates of the EEA QBFT specification (`node.dfy`) and the rules C1 to C12 of docs/spec/consensus.md.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """Where a height stands. The text is what the documents say of it."""

    WAITING = "no round has begun: the block interval runs, or nobody wants a block"
    OPEN = "a round has begun and has no proposal yet"
    JUDGING = "a justified proposal has come and the host judges its block"
    PREPARING = "the proposal is accepted, PREPAREs are counted"
    COMMITTING = "the block is prepared, COMMITs are counted"
    DECIDED = "the block is final; the host appends it"


UNDECIDED = (Phase.WAITING, Phase.OPEN, Phase.JUDGING, Phase.PREPARING, Phase.COMMITTING)
IN_ROUND = UNDECIDED[1:]


class Transition(NamedTuple):
    """A named step from some phases to one: when it is taken, what is done, and where the rule comes from."""

    name: str
    before: tuple[Phase, ...]
    after: Phase
    when: str
    does: str
    source: str


BEGIN = Transition(
    "begin",
    tuple(Phase),
    Phase.WAITING,
    "the host stands on the parent",
    "replays messages held for this height",
    "C12",
)
RESUME = Transition(
    "resume",
    (Phase.WAITING,),
    Phase.OPEN,
    "the signing record is of this height and a round above 0",
    "goes on in that round; says again what was signed last",
    "C6",
)
OPEN = Transition(
    "open",
    (Phase.WAITING,),
    Phase.OPEN,
    "the block interval is over and a block is wanted",
    "starts the timer of round 0; its proposer builds",
    "UponBlockTimeout, C8",
)
TAKE_PROPOSAL = Transition(
    "take proposal",
    UNDECIDED,
    Phase.JUDGING,
    "a justified PROPOSAL for this round, or for a higher one, which is then entered",
    "asks the host to judge the block",
    "UponProposal, C5",
)
REFUSE_BLOCK = Transition(
    "refuse block", (Phase.JUDGING,), Phase.OPEN, "the block is not valid", "waits for the round to end", "UponProposal"
)
ACCEPT = Transition(
    "accept", (Phase.OPEN, Phase.JUDGING), Phase.PREPARING, "the block is valid, or our own", "PREPARE", "UponProposal"
)
PREPARED = Transition(
    "prepared",
    (Phase.PREPARING,),
    Phase.COMMITTING,
    "a quorum of PREPAREs for the accepted block in this round",
    "keeps the PREPAREs and the block durably; COMMIT",
    "UponPrepare, C6",
)
TIME_OUT = Transition(
    "time out", IN_ROUND, Phase.OPEN, "the round's deadline has passed", "ROUND-CHANGE to the next", "UponRoundTimeout"
)
JUMP = Transition(
    "jump",
    UNDECIDED,
    Phase.OPEN,
    "more than F power is at higher rounds",
    "ROUND-CHANGE to the smallest of their rounds, while this holds",
    "UponRoundChange, C8",
)
DECIDE = Transition(
    "decide",
    UNDECIDED,
    Phase.DECIDED,
    "a quorum of COMMITs, of any one round, for a valid block; or a DECIDED that holds them",
    "gives block and certificate to the host",
    "UponCommit, UponNewBlock, C7",
)

TRANSITIONS = (BEGIN, RESUME, OPEN, TAKE_PROPOSAL, REFUSE_BLOCK, ACCEPT, PREPARED, TIME_OUT, JUMP, DECIDE)
