from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from consensus.quorum import check_certificate
from ledger.errors import Fault, Invalid, TrothError
from ledger.genesis import Parameters
from node import builder as module
from node.builder import SLICE
from node.chain import Chain, Head
from node.committed import Committed
from node.keyvalue import WRITE_FAILED
from node.mempool import Limits, Mempool
from node.producer import Producer
from tests.chains import (
    START_MS,
    account,
    balance,
    create,
    extend,
    genesis,
    key,
    mint,
    new_chain,
    signed,
    transfer,
    validator,
)

_DAY_MS = 24 * 60 * 60 * 1000
_QUIET = Parameters(block_interval_ms=10, heartbeat_ms=_DAY_MS)


async def _at_once(append: Callable[[], Head]) -> Head:
    return append()


class _Making:
    """A producer on a chain in memory, with a clock of its own; remembers what it published and gave up."""

    def __init__(
        self,
        parameters: Parameters = _QUIET,
        *,
        chain: Chain | None = None,
        write: Callable[[Callable[[], Head]], Awaitable[Head]] = _at_once,
    ) -> None:
        self.chain = chain or new_chain(parameters)
        self.now = START_MS + 1_000
        self.published: list[Committed] = []
        self.given_up: dict[bytes, str] = {}
        self.told = asyncio.Event()
        self.mempool = Mempool(Limits(), self.chain.store.has_transaction, self._dropped)
        self.producer = Producer(
            self.chain, self.mempool, key("validator"), self._publish, now_ms=lambda: self.now, write=write
        )

    def _dropped(self, identifier: bytes, error: TrothError) -> None:
        self.given_up[identifier] = error.code

    def _publish(self, committed: Committed) -> None:
        assert self.chain.head == committed.head  # durable and in place before anyone is told
        self.published.append(committed)
        self.told.set()

    def add(self, *transactions: Any) -> None:
        for each in transactions:
            self.mempool.add(each)
        self.producer.wake()

    async def next_block(self) -> Committed:
        self.told.clear()
        await self.told.wait()
        return self.published[-1]


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_a_block_of_what_waits() -> None:
    async def test() -> None:
        making = _Making()
        made = [signed("roaster", create()), signed("roaster", mint("alice", 5)), signed("alice", transfer("bob", 2))]
        making.add(*made)
        done = await making.producer.make_block()
        assert [receipt.transaction_id for receipt in done.receipts] == [made[0].id, made[2].id, made[1].id]
        assert [receipt.code for receipt in done.receipts] == ["", "E-POINTS-004", ""]  # turns: alice had nothing yet
        assert len(making.mempool) == 0 and making.chain.head == done.head and done.head.height == 1
        assert done.candidate.block.header.proposer == account("validator")
        assert done.candidate.block.header.time_ms == making.now
        certificate = done.head.certificate
        assert certificate is not None and certificate.height == 1
        check_certificate(certificate, making.chain.genesis.chain_id, done.head.block_id, making.chain.validators)
        assert making.published == [done]
        assert balance(making.chain, "alice") == 5

    _run(test)


def test_another_node_accepts_what_is_produced() -> None:
    async def test() -> None:
        making, judge = _Making(), new_chain(_QUIET)
        for batch in ([signed("roaster", create())], [signed("roaster", mint("alice", 5))], []):
            making.add(*batch)
            done = await making.producer.make_block()
            assert done.head.certificate is not None
            assert judge.append(judge.judge(done.candidate.block), done.head.certificate) == done.head

    _run(test)


@pytest.mark.parametrize("now", [START_MS - 5_000, START_MS, START_MS + 1])
def test_block_time_rises_whatever_the_clock_does(now: int) -> None:
    async def test() -> None:
        making = _Making()
        making.now = now
        times = [(await making.producer.make_block()).head.time_ms for _ in range(3)]
        assert times == [START_MS + 1, START_MS + 2, START_MS + 3]

    _run(test)


def test_what_can_never_stand_in_a_block_is_given_up_and_told() -> None:
    async def test() -> None:
        making = _Making()
        included = signed("roaster", create())
        extend(making.chain, included)
        making.now = START_MS + 10_000
        late = signed("alice", transfer("bob", 1), valid_until_ms=making.now)
        early = signed("alice", transfer("bob", 1), valid_until_ms=making.now + 3 * 60 * 60 * 1000)
        greedy = signed("alice", transfer("bob", 1), gas_limit=1 << 40)
        making.add(included, late, early, greedy, signed("roaster", mint("alice", 5)))
        done = await making.producer.make_block()
        assert len(done.receipts) == 1
        assert making.given_up == {
            included.id: "E-TX-006",
            late.id: "E-TX-004",
            early.id: "E-TX-005",
            greedy.id: "E-TX-011",
        }
        assert len(making.mempool) == 0

    _run(test)


def test_what_is_over_quota_waits_for_the_next_block() -> None:
    async def test() -> None:
        making = _Making(_QUIET._replace(consumer_gas=10_000))
        mine = [signed("alice", transfer("bob", 1), nonce=number) for number in range(5)]
        making.add(*mine, signed("carol", transfer("bob", 1)))
        counts = [len((await making.producer.make_block()).receipts) for _ in range(3)]
        assert counts == [3, 2, 1]  # two of alice's a block; carol's comes between
        assert making.given_up == {}

    _run(test)


def test_what_does_not_fit_waits_for_the_next_block() -> None:
    async def test() -> None:
        making = _Making(_QUIET._replace(block_transactions=2))
        making.add(*[signed(f"sender-{number}", transfer("bob", 1)) for number in range(5)])
        counts = [len((await making.producer.make_block()).receipts) for _ in range(4)]
        assert counts == [2, 2, 1, 0]
        assert making.given_up == {}

    _run(test)


def test_administrators_have_a_lane_of_their_own_under_flood() -> None:
    async def test() -> None:
        making = _Making(
            _QUIET._replace(block_gas=200_000, reserved_gas=10_000, consumer_gas=190_000, organisation_gas=190_000)
        )
        making.add(*[signed(f"flood-{number}", transfer("bob", 1), gas_limit=19_000) for number in range(40)])
        rescue = signed("roaster", create())
        making.add(rescue)
        done = await making.producer.make_block()
        assert rescue.id in [receipt.transaction_id for receipt in done.receipts]
        assert len(done.receipts) == 11

    _run(test)


def test_a_block_ends_where_executing_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowClock:
        seconds = 0.0

        def perf_counter(self) -> float:
            self.seconds += 1
            return self.seconds

    async def test() -> None:
        making = _Making()
        making.add(*[signed(f"sender-{number}", transfer("bob", 1)) for number in range(3 * SLICE)])
        monkeypatch.setattr(module, "time", SlowClock())
        done = await making.producer.make_block()
        assert 0 < len(done.receipts) < SLICE
        assert len(making.mempool) == 3 * SLICE - len(done.receipts)

    _run(test)


def test_a_quiet_chain_makes_no_blocks() -> None:
    async def test() -> None:
        making = _Making()
        running = asyncio.create_task(making.producer.run())
        for number in range(3):
            making.add(signed("roaster", create(f"programme-{number}")))
            assert len((await making.next_block()).receipts) == 1
            making.producer.wake()  # for nothing
        making.producer.stop()
        await running
        assert [len(each.receipts) for each in making.published] == [1, 1, 1]

    _run(test)


def test_a_quiet_chain_has_a_heartbeat() -> None:
    async def test() -> None:
        making = _Making(Parameters(block_interval_ms=10, heartbeat_ms=100))
        running = asyncio.create_task(making.producer.run())
        for _ in range(3):
            assert (await making.next_block()).receipts == ()
        making.producer.stop()
        await running

    _run(test)


def test_a_chain_that_stood_still_shows_at_once_that_it_lives() -> None:
    async def test() -> None:
        chain = new_chain(_QUIET)
        extend(chain)
        making = _Making(chain=chain)
        making.now = chain.head.time_ms + _DAY_MS
        running = asyncio.create_task(making.producer.run())
        assert (await making.next_block()).head.height == 2
        making.producer.stop()
        await running

    _run(test)


def test_stopping_finishes_the_block_in_the_making() -> None:
    async def test() -> None:
        writing, allowed = asyncio.Event(), asyncio.Event()

        async def slowly(append: Callable[[], Head]) -> Head:
            writing.set()
            await allowed.wait()
            return append()

        making = _Making(write=slowly)
        running = asyncio.create_task(making.producer.run())
        making.add(signed("roaster", create()))
        await writing.wait()
        making.producer.stop()
        assert making.chain.head.height == 0 and making.published == []
        allowed.set()
        await running
        assert making.chain.head.height == 1 and len(making.published) == 1

    _run(test)


def test_stopping_waits_for_no_interval() -> None:
    async def test() -> None:
        making = _Making(_QUIET._replace(block_interval_ms=60_000))
        running = asyncio.create_task(making.producer.run())
        making.add(signed("roaster", create()))
        await making.next_block()
        making.add(signed("roaster", create("second")))
        await asyncio.sleep(0)
        making.producer.stop()
        await running
        assert len(making.published) == 1

    _run(test)


def test_a_store_that_fails_ends_the_producer() -> None:
    async def test() -> None:
        async def fails(append: Callable[[], Head]) -> Head:
            raise Fault(WRITE_FAILED, "the disk is gone")

        making = _Making(write=fails)
        making.add(signed("roaster", create()))
        with pytest.raises(Fault):
            await making.producer.run()
        assert making.chain.head.height == 0 and making.published == []
        assert len(making.mempool) == 1  # nothing was promised, nothing is forgotten

    _run(test)


def test_only_the_chains_single_validator_produces() -> None:
    chain = new_chain()
    mempool = Mempool(Limits(), chain.store.has_transaction, lambda identifier, error: None)
    pair = new_chain(agreed=genesis(validators=[validator(), validator("second")]))
    for where, name in ((chain, "roaster"), (pair, "validator")):
        with pytest.raises(Invalid) as caught:
            Producer(where, mempool, key(name), lambda committed: None, now_ms=lambda: 0, write=_at_once)
        assert caught.value.code == "E-NODE-002"
