from __future__ import annotations

from typing import Any

import pytest

from cli.node_status import PHASES, count, lag, words
from consensus.transitions import Phase

PEER = {
    "node": "ab" * 32,
    "organisation": "bank",
    "connected": True,
    "height": 17,
    "remote": "192.0.2.1",
    "rtt_us": 1_250,
    "ban": None,
    "last_end": "",
}


def info(**changed: Any) -> dict[str, Any]:
    return {
        "height": 17,
        "round": 2,
        "phase": "OPEN",
        "validator": "troth1abc",
        "caught_up": True,
        "missed_rounds": 1,
        "lag_heights": 0,
        "peers": [PEER],
        **changed,
    }


def test_every_phase_has_words() -> None:
    assert set(PHASES) == {phase.name for phase in Phase}


def test_a_validator_among_its_peers() -> None:
    assert words(info()) == [
        "It has all blocks that it knows of.",
        "As a validator it is in round 2 of height 18, waiting for a proposal.",
        "Since it started, 1 round ended without a block.",
        "1 of 1 peer connected:",
        "  bank abababab: connected with 192.0.2.1, at height 17, 1.2 ms away",
    ]


def test_a_node_that_is_alone_follows_or_was_cut_off() -> None:
    assert words(info(phase="ALONE", peers=[])) == ["It is the chain's only node, and makes its blocks alone."]
    assert words(info(validator=None))[1] == "It is no validator: it follows, and signs nothing."
    assert words(info(peers=[]))[-1] == "It has no peers: it was cut off, for a trial."


@pytest.mark.parametrize(
    ("behind", "caught_up", "said"),
    [
        (1, True, "It is 1 block behind its peers, and catching up."),
        (3_400, False, "It is 3,400 blocks behind its peers, and catching up."),
        (0, False, "It does not know yet whether it has all blocks: it asks its peers before it signs."),
    ],
)
def test_lag_in_words(behind: int, caught_up: bool, said: str) -> None:
    assert lag(info(lag_heights=behind, caught_up=caught_up)) == said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"height": None, "rtt_us": None}, "connected with 192.0.2.1"),
        ({"connected": False}, "not connected"),
        ({"connected": False, "last_end": "no answer"}, "not connected; last: no answer"),
        (
            {"connected": False, "ban": {"reason": "garbage", "seconds_left": 60}, "last_end": "garbage: x"},
            "banned for 60 seconds more, garbage; last: garbage: x",
        ),
    ],
)
def test_a_peer_in_words(changed: dict[str, Any], said: str) -> None:
    assert words(info(peers=[{**PEER, **changed}]))[-1] == f"  bank abababab: {said}"


def test_counting() -> None:
    assert [count(number, "block") for number in (0, 1, 2_000)] == ["0 blocks", "1 block", "2,000 blocks"]
