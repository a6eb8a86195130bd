from __future__ import annotations

import pytest

from node.network.bans import BAN_SECONDS_MAX, FORGIVEN_AFTER_SECONDS, Bans, Reason

NODE, OTHER = b"n" * 32, b"o" * 32


def test_words_are_distinct_and_every_ban_is_bounded() -> None:
    assert len({reason.word for reason in Reason}) == len(Reason)
    assert all(0 <= reason.ban_seconds <= BAN_SECONDS_MAX for reason in Reason)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.ban_seconds == 0])
def test_what_is_no_misbehaviour_bans_nobody(reason: Reason) -> None:
    bans = Bans()
    assert bans.add(NODE, reason, "", 0.0) is None
    assert bans.get(NODE, 0.0) is None


def test_a_ban_has_a_reason_and_an_end_and_is_one_node_s() -> None:
    bans = Bans()
    ban = bans.add(NODE, Reason.GARBAGE, "a frame of kind 99", 100.0)
    assert ban == (Reason.GARBAGE, "a frame of kind 99", 100.0, 160.0)
    assert bans.get(NODE, 159.9) == ban
    assert bans.get(NODE, 160.0) is None
    assert bans.get(OTHER, 100.0) is None


def test_each_offence_doubles_the_ban_up_to_an_hour() -> None:
    bans, now, lengths = Bans(), 0.0, []
    for _ in range(9):
        ban = bans.add(NODE, Reason.FLOOD, "", now)
        assert ban is not None
        lengths.append(ban.until - ban.since)
        now = ban.until
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_day_without_offence_is_forgiven() -> None:
    bans = Bans()
    bans.add(NODE, Reason.FLOOD, "", 0.0)
    second = bans.add(NODE, Reason.FLOOD, "", 60.0 + FORGIVEN_AFTER_SECONDS - 1)
    assert second is not None and second.until - second.since == 120
    third = bans.add(NODE, Reason.FLOOD, "", second.until + FORGIVEN_AFTER_SECONDS)
    assert third is not None and third.until - third.since == 60


def test_a_lesser_offence_never_shortens_a_ban() -> None:
    bans = Bans()
    lie = bans.add(NODE, Reason.LIE, "", 0.0)
    garbage = bans.add(NODE, Reason.GARBAGE, "", 1.0)
    assert lie is not None and garbage is not None
    assert garbage.until == lie.until


def test_nodes_that_are_registered_no_more_are_forgotten() -> None:
    bans = Bans()
    for node in (NODE, OTHER):
        bans.add(node, Reason.LIE, "", 0.0)
    bans.keep_only(frozenset([OTHER]))
    assert bans.get(NODE, 1.0) is None
    assert bans.get(OTHER, 1.0) is not None
    again = bans.add(NODE, Reason.LIE, "", 2.0)
    assert again is not None and again.until - again.since == Reason.LIE.ban_seconds
