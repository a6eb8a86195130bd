from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger.genesis import Parameters
from node import builder as module
from node.builder import SLICE, Built, build_block
from node.chain import Chain
from node.mempool import Limits, Mempool
from tests.chains import (
    START_MS,
    account,
    create,
    extend,
    mint,
    new_chain,
    propose,
    seal,
    signed,
    transfer,
)

_PARAMETERS = Parameters(block_interval_ms=10)
_NOW_MS = START_MS + 1_000


def _waiting(chain: Chain, *transactions: Any) -> Mempool:
    mempool = Mempool(Limits(), chain.store.has_transaction, lambda identifier, error: None)
    for each in transactions:
        mempool.add(each)
    return mempool


def _build(chain: Chain, mempool: Mempool, time_ms: int = _NOW_MS) -> Built:
    built = asyncio.run(build_block(chain, mempool, account("validator"), time_ms))
    assert built is not None
    return built


def _append(chain: Chain, mempool: Mempool, built: Built) -> int:
    chain.append(built.candidate, seal(built.candidate))
    mempool.remove([each.id for each in built.candidate.transactions])
    return len(built.candidate.transactions)


def test_a_block_of_what_waits_one_of_each_sender_in_turn() -> None:
    chain = new_chain(_PARAMETERS)
    made = [signed("roaster", create()), signed("roaster", mint("alice", 5)), signed("alice", transfer("bob", 2))]
    mempool = _waiting(chain, *made)
    built = _build(chain, mempool)
    candidate = built.candidate
    assert [each.id for each in candidate.transactions] == [made[0].id, made[2].id, made[1].id]
    assert [receipt.code for receipt in candidate.result.receipts] == ["", "E-POINTS-004", ""]  # alice had nothing yet
    header = candidate.block.header
    assert (header.height, header.proposer, header.time_ms) == (1, account("validator"), _NOW_MS)
    assert built.unfit == [] and len(mempool) == 3  # who appends it removes them
    assert built.execute_seconds >= 0 and built.tree_seconds >= 0


def test_another_node_accepts_what_is_built() -> None:
    chain, judge = new_chain(_PARAMETERS), new_chain(_PARAMETERS)
    for batch in ([signed("roaster", create())], [signed("roaster", mint("alice", 5))], []):
        built = _build(chain, _waiting(chain, *batch), chain.head.time_ms + 1_000)
        certificate = seal(built.candidate)
        chain.append(built.candidate, certificate)
        assert judge.append(judge.judge(built.candidate.block), certificate) == chain.head


@pytest.mark.parametrize("now", [START_MS - 5_000, START_MS, START_MS + 1])
def test_block_time_rises_whatever_the_clock_does(now: int) -> None:
    chain = new_chain(_PARAMETERS)
    times = []
    for _ in range(3):
        built = _build(chain, _waiting(chain), now)
        chain.append(built.candidate, seal(built.candidate))
        times.append(chain.head.time_ms)
    assert times == [START_MS + 1, START_MS + 2, START_MS + 3]


def test_what_can_never_stand_in_a_block_is_named() -> None:
    chain = new_chain(_PARAMETERS)
    included = signed("roaster", create())
    extend(chain, included)
    now = START_MS + 10_000
    late = signed("alice", transfer("bob", 1), valid_until_ms=now)
    early = signed("alice", transfer("bob", 1), valid_until_ms=now + 3 * 60 * 60 * 1000)
    greedy = signed("alice", transfer("bob", 1), gas_limit=1 << 40)
    good = signed("roaster", mint("alice", 5))
    built = _build(chain, _waiting(chain, included, late, early, greedy, good), now)
    assert [each.id for each in built.candidate.transactions] == [good.id]
    assert {identifier: error.code for identifier, error in built.unfit} == {
        included.id: "E-TX-006",
        late.id: "E-TX-004",
        early.id: "E-TX-005",
        greedy.id: "E-TX-011",
    }


def test_what_is_over_quota_waits_for_the_next_block() -> None:
    chain = new_chain(_PARAMETERS._replace(consumer_gas=10_000))
    mine = [signed("alice", transfer("bob", 1), nonce=number) for number in range(5)]
    mempool = _waiting(chain, *mine, signed("carol", transfer("bob", 1)))
    counts = []
    for _ in range(3):
        built = _build(chain, mempool)
        assert built.unfit == []
        counts.append(_append(chain, mempool, built))
    assert counts == [3, 2, 1]  # two of alice's a block; carol's comes between


def test_what_does_not_fit_waits_for_the_next_block() -> None:
    chain = new_chain(_PARAMETERS._replace(block_transactions=2))
    mempool = _waiting(chain, *[signed(f"sender-{number}", transfer("bob", 1)) for number in range(5)])
    assert [_append(chain, mempool, _build(chain, mempool)) for _ in range(4)] == [2, 2, 1, 0]


def test_administrators_have_a_lane_of_their_own_under_flood() -> None:
    limits = _PARAMETERS._replace(
        block_gas=200_000, reserved_gas=10_000, consumer_gas=190_000, organisation_gas=190_000
    )
    chain = new_chain(limits)
    flood = [signed(f"flood-{number}", transfer("bob", 1), gas_limit=19_000) for number in range(40)]
    rescue = signed("roaster", create())
    built = _build(chain, _waiting(chain, *flood, rescue))
    assert rescue.id in [each.id for each in built.candidate.transactions]
    assert len(built.candidate.transactions) == 11


def test_a_block_ends_where_executing_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowClock:
        seconds = 0.0

        def perf_counter(self) -> float:
            self.seconds += 1
            return self.seconds

    chain = new_chain(_PARAMETERS)
    mempool = _waiting(chain, *[signed(f"sender-{number}", transfer("bob", 1)) for number in range(3 * SLICE)])
    monkeypatch.setattr(module, "time", SlowClock())
    assert 0 < len(_build(chain, mempool).candidate.transactions) < SLICE


def test_what_is_built_while_the_chain_goes_on_is_given_up() -> None:
    async def test() -> None:
        chain = new_chain(_PARAMETERS)
        mempool = _waiting(chain, *[signed(f"sender-{number}", transfer("bob", 1)) for number in range(3 * SLICE)])
        building = asyncio.ensure_future(build_block(chain, mempool, account("validator"), _NOW_MS))
        await asyncio.sleep(0)
        other = propose(chain)
        chain.append(other, seal(other))
        assert await building is None

    asyncio.run(test())
