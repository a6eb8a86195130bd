from __future__ import annotations

import pytest

from ledger.genesis import Parameters
from node.network.frames import HEAD_BYTES, Channel
from node.network.outbox import CONTROL
from node.network.settings import settings_for


@pytest.mark.parametrize("block_bytes", [512 << 10, 4 << 20, 12 << 20])
def test_whatever_a_chain_allows_fits_frames_queues_and_rates(block_bytes: int) -> None:
    settings = settings_for(Parameters(block_bytes=block_bytes))
    assert settings.lengths[Channel.CONSENSUS].most > block_bytes
    assert settings.lengths[Channel.BLOCKS].most > block_bytes
    for channel in Channel:
        longest = settings.lengths[channel].most + HEAD_BYTES
        assert longest <= settings.rooms[channel].bytes
        rate = settings.rates[channel]
        assert longest < rate.bytes * rate.burst_seconds / 2, "one frame must not look like a flood"
    assert CONTROL in settings.rooms and CONTROL in settings.rates


def test_times_leave_room_for_each_other() -> None:
    settings = settings_for(Parameters())
    assert settings.tick_seconds < settings.ping_seconds < settings.silent_seconds / 2
    assert settings.backoff_seconds < settings.backoff_most_seconds < settings.silent_seconds
    assert settings.handshakes_per_node * 2 <= settings.pending_per_address < settings.pending
