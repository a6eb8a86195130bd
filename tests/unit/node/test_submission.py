from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ledger import codec
from ledger.address import address_of
from ledger.errors import Unavailable
from ledger.genesis import Parameters
from ledger.transaction import Signature, SignedTransaction, assemble
from node.builder import build_block
from node.committed import Committed, Steps
from node.mempool import Limits, Mempool
from node.service import STOPPING
from node.submission import Outcome, Submissions
from node.verifier import Check, Verifier, Workers
from tests.chains import (
    SMALL_ORDER_KEY,
    account,
    call,
    create,
    mint,
    new_chain,
    seal,
    soon_ms,
    transfer,
    unsigned,
)
from tests.chains import signed as signed_then

_QUIET = Parameters(block_interval_ms=10, heartbeat_ms=24 * 60 * 60 * 1000)


def signed(actors: str | list[str], *calls: Any, **more: Any) -> SignedTransaction:
    """Signed, and valid by the real clock."""
    return signed_then(actors, *calls, **{"valid_until_ms": soon_ms(), **more})


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    found = Workers(1)
    yield found
    found.close()


class _Taking:
    """Submissions to a chain in memory, with real workers. Blocks are made by `block`."""

    def __init__(self, workers: Workers, parameters: Parameters, limits: Limits) -> None:
        self.chain = new_chain(parameters)
        self.mempool = Mempool(limits, self.chain.store.has_transaction, self._dropped)
        self.verifier = Verifier(workers)
        self.submissions = Submissions(self.chain, self.mempool, self.verifier)
        self.now_ms: Callable[[], int] = lambda: soon_ms() - 60 * 60 * 1000
        self.submit = self.submissions.submit

    def _dropped(self, identifier: bytes, error: Any) -> None:
        self.submissions.dropped(identifier, error)

    async def block(self) -> int:
        built = await build_block(self.chain, self.mempool, account("validator"), self.now_ms())
        assert built is not None
        candidate = built.candidate
        head = self.chain.append(candidate, seal(candidate))
        self.mempool.remove([signed.id for signed in candidate.transactions])
        for identifier, reason in built.unfit:
            self.mempool.drop(identifier, reason)
        self.submissions.committed(Committed(head, candidate, candidate.result.receipts, Steps(0, 0, 0)))
        return len(candidate.result.receipts)

    async def until_waiting(self, count: int) -> None:
        while len(self.mempool) < count:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def _taking(
    workers: Workers, parameters: Parameters = _QUIET, limits: Limits | None = None
) -> AsyncIterator[_Taking]:
    taking = _Taking(workers, parameters, limits or Limits())
    try:
        yield taking
    finally:
        taking.verifier.close()


def _run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def _code(outcome: Outcome) -> str:
    return "" if outcome.error is None else outcome.error.code


def test_without_waiting_it_waits_for_a_block(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = signed("roaster", create())
            assert await taking.submit([made.raw]) == [Outcome(made.id)]
            assert made.id in taking.mempool
            assert await taking.block() == 1
            assert taking.chain.store.has_transaction(made.id)

    _run(test())


def test_who_waits_is_told_of_each_end(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = [signed("roaster", create()), signed("alice", transfer("bob", 5)), signed("grocer", create("other"))]
            waiting = asyncio.create_task(taking.submit([each.raw for each in made], 30))
            await taking.until_waiting(3)
            await taking.block()
            outcomes = await waiting
            assert [each.id for each in outcomes] == [each.id for each in made]
            assert [each.height for each in outcomes] == [1, 1, 1]
            receipts = [each.receipt for each in outcomes]
            assert [receipt and receipt.code for receipt in receipts] == ["", "E-POINTS-004", ""]

    _run(test())


def test_a_batch_may_end_in_several_blocks(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers, _QUIET._replace(block_transactions=2)) as taking:
            made = [signed("roaster", create(f"programme-{number}")) for number in range(5)]
            waiting = asyncio.create_task(taking.submit([each.raw for each in made], 30))
            await taking.until_waiting(5)
            for _ in range(2):
                await taking.block()
                assert not waiting.done()
            await taking.block()
            assert [each.height for each in await waiting] == [1, 1, 2, 2, 3]

    _run(test())


def test_whoever_waits_too_long_is_told_that_it_waits(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = signed("roaster", create())
            assert await taking.submit([made.raw], 0.01) == [Outcome(made.id)]
            assert made.id in taking.mempool
            await taking.block()

    _run(test())


def test_one_that_a_block_takes_while_it_is_verified_again_is_told_as_final(workers: Workers) -> None:
    """Found under load: sent twice at once, the second was let in again after a block had taken the first."""

    async def test() -> None:
        async with _taking(workers) as taking:
            made = signed("roaster", create())
            first = asyncio.create_task(taking.submit([made.raw]))
            await taking.until_waiting(1)
            await first
            verified, check = asyncio.Event(), taking.verifier.check

            async def slowly(checks: list[Check]) -> bytes:
                verdicts = await check(checks)
                await verified.wait()
                return verdicts

            taking.mempool.remove([made.id])  # as if the second had been checked before the first was let in
            taking.verifier.check = slowly  # type: ignore[method-assign]
            second = asyncio.create_task(taking.submit([made.raw], 30))
            unheard = asyncio.create_task(taking.submit([made.raw]))
            await asyncio.sleep(0)
            taking.mempool.add(made)
            await taking.block()
            verified.set()
            [outcome] = await second
            assert outcome.height == 1 and outcome.receipt is not None and outcome.receipt.ok
            assert _code((await unheard)[0]) == "E-TX-006"
            assert len(taking.mempool) == 0

    _run(test())


def test_several_may_wait_for_one_transaction(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = signed("roaster", create())
            # At once, so that the second is checked while the first is being verified; and once more, later.
            waiting = [asyncio.create_task(taking.submit([made.raw], 30)) for _ in range(2)]
            await taking.until_waiting(1)
            waiting.append(asyncio.create_task(taking.submit([made.raw, made.raw], 30)))
            given_up = asyncio.create_task(taking.submit([made.raw], 30))
            await asyncio.sleep(0)
            [again] = await taking.submit([made.raw])
            assert _code(again) == "E-TX-016"
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            await taking.block()
            for each in waiting:
                for outcome in await each:
                    assert outcome.height == 1 and outcome.receipt is not None and outcome.receipt.ok
            [after] = await taking.submit([made.raw], 30)
            assert _code(after) == "E-TX-006"

    _run(test())


def test_one_that_becomes_final_while_the_rest_is_verified_is_told_as_final(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            first, second = signed("roaster", create()), signed("roaster", create("second"))
            await taking.submit([first.raw])
            check = taking.verifier.check

            async def slowly(checks: list[Check]) -> bytes:
                await taking.block()
                return await check(checks)

            monkeypatch.setattr(taking.verifier, "check", slowly)
            waiting = asyncio.create_task(taking.submit([first.raw, second.raw], 30))
            await taking.until_waiting(1)
            while first.id in taking.mempool or second.id not in taking.mempool:
                await asyncio.sleep(0.001)
            await taking.block()
            outcomes = await waiting
            assert [each.height for each in outcomes] == [1, 2]
            assert all(each.receipt is not None and each.receipt.ok for each in outcomes)

    _run(test())


def test_who_waits_for_what_expires_is_told(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = signed("roaster", create())
            waiting = asyncio.create_task(taking.submit([made.raw], 30))
            await taking.until_waiting(1)
            taking.now_ms = lambda: made.transaction.valid_until_ms
            assert await taking.block() == 0
            [outcome] = await waiting
            assert _code(outcome) == "E-TX-004"

    _run(test())


def test_who_waits_when_the_node_stops_is_told(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            waiting = asyncio.create_task(taking.submit([signed("roaster", create()).raw], 30))
            await taking.until_waiting(1)
            taking.submissions.stop(Unavailable(STOPPING, "the node stops"))
            assert _code((await waiting)[0]) == "E-NODE-003"
            [late] = await taking.submit([signed("roaster", create("later")).raw], 30)
            assert _code(late) == "E-NODE-003"

    _run(test())


def test_one_bad_transaction_spoils_no_other(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            good = [signed("roaster", create(f"programme-{number}")) for number in range(2)]
            forged = good[0].signatures[0]._replace(signature=bytes(64))
            bad = signed("roaster", create("third"))
            bad = assemble(bad.transaction, codec.encode(bad.transaction), (forged,))
            outcomes = await taking.submit([good[0].raw, b"junk", bad.raw, good[1].raw])
            assert [_code(each) for each in outcomes] == ["", "E-CODEC-001", "E-TX-009", ""]
            assert [each.id for each in outcomes] == [good[0].id, b"", bad.id, good[1].id]
            assert taking.submissions.accepted == 2 and taking.submissions.refused == 2
            assert await taking.block() == 2

    _run(test())


def _weak() -> SignedTransaction:
    transaction = unsigned(["alice"], [create()], valid_until_ms=soon_ms())
    transaction = transaction._replace(actors=(address_of(SMALL_ORDER_KEY),))
    forged = Signature(0, SMALL_ORDER_KEY, (1).to_bytes(32, "little") + bytes(32))
    return assemble(transaction, codec.encode(transaction), (forged,))


_REFUSED: dict[str, tuple[Callable[[], SignedTransaction], str]] = {
    "other chain": (lambda: signed("roaster", create(), chain_id="other-chain"), "E-TX-003"),
    "expired": (lambda: signed("roaster", create(), valid_until_ms=soon_ms() - 61 * 60 * 1000), "E-TX-004"),
    "too far ahead": (lambda: signed("roaster", create(), valid_until_ms=soon_ms() + 62 * 60 * 1000), "E-TX-005"),
    "unknown contract": (lambda: signed("roaster", call("pints.create", 1)), "E-VM-004"),
    "unknown method": (lambda: signed("roaster", call("points.creat", 1)), "E-VM-005"),
    "a view is no method": (lambda: signed("roaster", call("points.show", "beans")), "E-VM-005"),
    "wrong type": (lambda: signed("alice", call("points.burn", "beans", "5")), "E-VM-001"),
    "out of range": (lambda: signed("alice", call("points.burn", "beans", -1)), "E-VM-001"),
    "too many arguments": (lambda: signed("alice", call("points.burn", "beans", 1, "ref", 7)), "E-VM-001"),
    "too little gas": (lambda: signed("alice", transfer("bob", 1), gas_limit=200), "E-TX-011"),
    "more gas than a block": (lambda: signed("roaster", create(), gas_limit=1_900_001), "E-TX-011"),
    "over a consumer's quota": (lambda: signed("alice", transfer("bob", 1), gas_limit=40_001), "E-TX-012"),
    "over an organisation's quota": (lambda: signed("roaster", create(), gas_limit=1_600_001), "E-TX-012"),
    "small-order key": (_weak, "E-KEY-001"),
}


@pytest.mark.parametrize(("make", "code"), _REFUSED.values(), ids=_REFUSED)
def test_what_can_stand_in_no_block_is_refused_at_once(
    make: Callable[[], SignedTransaction], code: str, workers: Workers
) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            [outcome] = await taking.submit([make().raw], 30)
            assert _code(outcome) == code
            assert outcome.error is not None and outcome.error.cause and outcome.error.fix
            assert len(taking.mempool) == 0

    _run(test())


def test_the_second_call_is_checked_too(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            [outcome] = await taking.submit([signed("roaster", create(), call("points.mint", "beans", b"", 1)).raw])
            assert _code(outcome) == "E-VM-001"

    _run(test())


def test_the_bounds_of_gas_themselves_are_taken(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            made = [
                signed("alice", transfer("bob", 1), gas_limit=40_000),
                signed("roaster", create(), gas_limit=1_600_000),
            ]
            assert [_code(each) for each in await taking.submit([each.raw for each in made])] == ["", ""]
            assert await taking.block() == 2

    _run(test())


def test_a_full_mempool_refuses_and_recovers(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers, limits=Limits(transactions=2)) as taking:
            made = [signed("roaster", create(f"programme-{number}")) for number in range(3)]
            outcomes = await taking.submit([each.raw for each in made])
            assert [_code(each) for each in outcomes] == ["", "", "E-TX-014"]
            await taking.block()
            assert [_code(each) for each in await taking.submit([made[2].raw])] == [""]

    _run(test())


def test_a_multi_actor_transaction_needs_every_signature_verified(workers: Workers) -> None:
    async def test() -> None:
        async with _taking(workers) as taking:
            await taking.submit([signed("roaster", create(), mint("alice", 5)).raw])
            await taking.block()
            both = signed(["roaster", "alice"], mint("bob", 1), call("points.burn", "beans", 1, actor=1))
            for index in range(2):
                signatures = list(both.signatures)
                signatures[index] = signatures[index]._replace(signature=bytes(64))
                bad = assemble(both.transaction, codec.encode(both.transaction), tuple(signatures))
                assert [_code(each) for each in await taking.submit([bad.raw])] == ["E-TX-009"]
            assert [_code(each) for each in await taking.submit([both.raw])] == [""]

    _run(test())
