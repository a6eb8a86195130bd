from __future__ import annotations

from node.network.frames import PING, Channel
from node.network.meter import Bucket, Meter, Rate

RATES = {0: Rate(10, 1_000, 2.0), Channel.CONSENSUS: Rate(100, 10_000, 2.0)}


def meter() -> Meter:
    return Meter(RATES, flood_seconds=5.0, now=0.0)


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=10, burst=20, now=0.0)
    bucket.take(20, 0.0)
    assert bucket.seconds_overdrawn == 0.0
    bucket.take(5, 0.0)
    assert bucket.seconds_overdrawn == 0.5
    bucket.refill(1.0)
    assert bucket.level == 5
    bucket.refill(100.0)
    assert bucket.level == 20 and bucket.full and bucket.calm


def test_a_clock_that_goes_back_changes_nothing() -> None:
    bucket = Bucket(rate=10, burst=20, now=50.0)
    bucket.take(10, 50.0)
    bucket.refill(40.0)
    assert bucket.level == 10
    bucket.refill(41.0)
    assert bucket.level == 20


def test_within_the_burst_nobody_waits() -> None:
    assert meter().charge(Channel.CONSENSUS, 200, 20_000, 0.0) == 0.0


def test_who_sends_too_many_messages_waits_until_none_is_owed() -> None:
    assert meter().charge(Channel.CONSENSUS, 250, 250, 0.0) == 0.5


def test_who_sends_too_many_bytes_waits_until_none_is_owed() -> None:
    assert meter().charge(Channel.CONSENSUS, 1, 25_000, 0.0) == 0.5


def test_kinds_without_a_rate_share_one() -> None:
    shared = meter()
    assert shared.charge(PING, 20, 160, 0.0) == 0.0
    assert shared.charge(77, 1, 8, 0.0) == 0.1
    assert shared.charge(Channel.CONSENSUS, 1, 1, 0.0) == 0.0


def test_a_burst_now_and_then_is_no_flood() -> None:
    honest = meter()
    for second in range(0, 100, 4):
        honest.charge(Channel.CONSENSUS, 200, 200, float(second))
        assert not honest.flooding(float(second))
        assert not honest.flooding(second + 3.0)


def test_the_full_rate_for_ever_is_no_flood() -> None:
    steady = meter()
    for tenth in range(1_000):
        assert steady.charge(Channel.CONSENSUS, 10, 1_000, tenth / 10) == 0.0
        assert not steady.flooding(tenth / 10)


def test_more_than_the_rate_for_so_long_is_a_flood() -> None:
    flooder, now = meter(), 0.0
    seen = []
    for _ in range(100):
        wait = flooder.charge(Channel.CONSENSUS, 150, 150, now)
        seen.append((now, flooder.flooding(now)))
        now += max(wait, 0.1)
    first = next(at for at, flooding in seen if flooding)
    assert 5.0 <= first <= 6.5
