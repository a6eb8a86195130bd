"""How a node does in the network, in words: from what `GET /v1/node` answers.

{"height", "round", "phase", "validator", "caught_up", "missed_rounds", "lag_heights",
 "peers": [{"node", "organisation", "connected", "height", "remote", "rtt_us", "ban", "last_end"}]}
"""

from __future__ import annotations

from typing import Any

PHASES = {
    "WAITING": "waiting for something to decide",
    "OPEN": "waiting for a proposal",
    "JUDGING": "judging a proposal",
    "PREPARING": "counting who accepts the proposal",
    "COMMITTING": "counting who commits to the block",
    "DECIDED": "appending the block",
}
"""What a node does in each phase of `consensus.transitions.Phase`, in fewer words."""


def words(info: dict[str, Any]) -> list[str]:
    """What a person wants to know of a node, a sentence a line; then a line for each peer."""
    peers = info["peers"]
    if info["phase"] == "ALONE":
        return ["It is the chain's only node, and makes its blocks alone."]
    lines = [lag(info)]
    if info["validator"]:
        missed = count(info["missed_rounds"], "round")
        phase = PHASES[info["phase"]]
        lines.append(f"As a validator it is in round {info['round']} of height {info['height'] + 1}, {phase}.")
        lines.append(f"Since it started, {missed} ended without a block.")
    else:
        lines.append("It is no validator: it follows, and signs nothing.")
    if not peers:
        return [*lines, "It has no peers: it was cut off, for a trial."]
    there = sum(1 for peer in peers if peer["connected"])
    lines.append(f"{there} of {count(len(peers), 'peer')} connected:")
    return [*lines, *(f"  {_peer(peer)}" for peer in peers)]


def lag(info: dict[str, Any]) -> str:
    """Whether a node is where the others are."""
    behind = info["lag_heights"]
    if behind > 0:
        return f"It is {count(behind, 'block')} behind its peers, and catching up."
    if not info["caught_up"]:
        return "It does not know yet whether it has all blocks: it asks its peers before it signs."
    return "It has all blocks that it knows of."


def _peer(peer: dict[str, Any]) -> str:
    name = f"{peer['organisation']} {peer['node'][:8]}"
    ended = f"; last: {peer['last_end']}" if peer["last_end"] else ""
    if peer["connected"]:
        height = "" if peer["height"] is None else f", at height {peer['height']}"
        rtt = "" if peer["rtt_us"] is None else f", {peer['rtt_us'] / 1000:.1f} ms away"
        return f"{name}: connected with {peer['remote']}{height}{rtt}"
    ban = peer["ban"]
    if ban is not None:
        return f"{name}: banned for {count(ban['seconds_left'], 'second')} more, {ban['reason']}{ended}"
    return f"{name}: not connected{ended}"


def count(number: int, what: str) -> str:
    """A number of things: `1 block`, `2 blocks`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
