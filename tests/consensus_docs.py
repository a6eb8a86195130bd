"""The parts of docs/spec/consensus.md that the source says: `python -m tests.consensus_docs` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from consensus.future import FUTURE_HEIGHTS
from consensus.justification import ACCEPTING, Rule
from consensus.messages import (
    MAX_MESSAGE_BYTES,
    MAX_ROUND,
    MAX_VALIDATORS,
    MAX_VOTE_BYTES,
    Claim,
    Kind,
    Statement,
    Vote,
    signed_payload,
)
from consensus.tally import ROUNDS_KEPT
from consensus.transitions import TRANSITIONS, Phase, Transition
from ledger.block import MAX_BLOCK_BYTES

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "spec" / "consensus.md"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _phases(phases: tuple[Phase, ...]) -> str:
    missing = [phase for phase in Phase if phase not in phases]
    if not missing:
        return "any"
    if len(missing) < 3:
        return "any but " + ", ".join(phase.name for phase in missing)
    return ", ".join(phase.name for phase in phases)


def _arrows(transition: Transition) -> list[str]:
    return [
        f"    {before.name} --> {transition.after.name}: {transition.name}"
        for before in transition.before
        if before is not Phase.DECIDED or transition.after is not Phase.DECIDED
    ]


def transitions() -> str:
    """Phases, transitions and the diagram."""
    phases = _table(("phase", "what it is"), [(phase.name, phase.value) for phase in Phase])
    rows = [
        (each.name, _phases(each.before), each.after.name, each.when, each.does, each.source) for each in TRANSITIONS
    ]
    steps = _table(("transition", "from", "to", "when", "what is done", "source"), rows)
    arrows = [arrow for each in TRANSITIONS if each.name != "begin" for arrow in _arrows(each)]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> WAITING: begin", *arrows, "```"])
    return f"{phases}\n\n{steps}\n\n{diagram}"


def rules() -> str:
    """The rules of justification."""
    rows = [(each.name, "accepts" if each in ACCEPTING else "refuses", each.value) for each in Rule]
    return _table(("rule", "", "what it says"), rows)


def limits() -> str:
    """Every limit of a message and of what is kept."""
    rows = [
        ("PREPARE, COMMIT", f"{MAX_VOTE_BYTES} bytes"),
        ("other messages", f"{MAX_MESSAGE_BYTES:,} bytes"),
        ("a block", f"1 to {MAX_BLOCK_BYTES:,} bytes"),
        ("round", f"0 to {MAX_ROUND:,}; nobody goes beyond"),
        ("claims, PREPAREs, seals in a message", f"{MAX_VALIDATORS} each"),
        ("rounds of a height whose votes are kept, for each validator", str(ROUNDS_KEPT)),
        ("heights for which early messages are held", str(FUTURE_HEIGHTS)),
    ]
    return _table(("of what", "limit"), rows)


def payloads() -> str:
    """The bytes signed, for a block id of 32 times 0xAB, at height 7 of the chain `dev-example`."""
    block_id = b"\xab" * 32
    said: list[tuple[str, Statement]] = [
        *[(kind.name, Vote(kind, 7, 2, block_id, b"")) for kind in (Kind.PROPOSAL, Kind.PREPARE, Kind.COMMIT)],
        ("ROUND-CHANGE, nothing prepared", Claim(7, 2, None, None, b"")),
        ("ROUND-CHANGE, prepared in round 1", Claim(7, 2, 1, block_id, b"")),
    ]
    lines = ["Height 7, round 2, chain `dev-example`, a block id of 32 bytes `ab`:\n", "```"]
    for name, statement in said:
        data = signed_payload("dev-example", statement).hex()
        lines += [name, *[f"    {data[start : start + 96]}" for start in range(0, len(data), 96)]]
    return "\n".join([*lines, "```"])


PARTS = {"limits": limits, "payloads": payloads, "rules": rules, "transitions": transitions}


def render(text: str) -> str:
    """The document with every generated part made anew."""
    for name, part in PARTS.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, b=begin, p=part, e=end: f"{b}\n{p()}\n\n{e}", text, flags=re.DOTALL)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"{DOCUMENT.name} has {count} places for {name}")
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
