from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from consensus import events
from consensus.engine import Engine
from consensus.guard import Record, Step, first_record
from consensus.messages import Decided, Kind, Message, Proposal, Vote, kind_of, signed_payload
from consensus.quorum import check_certificate
from ledger import codec
from ledger.block import Block, Certificate, Seal
from ledger.errors import Fault, Refused, VerifyFailed
from ledger.genesis import Parameters
from ledger.transaction import SignedTransaction, assemble
from node.builder import build_block
from node.chain import JUDGING_STEP, Candidate, Chain
from node.consensus_host import CLOCK_AHEAD_MS, WAITING_BYTES_MAX, WAITING_MAX, Missed, _BuiltBlock
from node.keyvalue import WRITE_FAILED
from tests.chains import START_MS, account, balance, create, key, mint, new_chain, propose, seal, signed, transfer
from tests.hosts import DAY_MS, NAMES, Desk, Hall, kinds, run

PEER = b"p" * 32


def _history(hall: Hall, count: int) -> list[tuple[bytes, Certificate]]:
    """Blocks of the hall's chain, made and sealed by all, none of which any host has."""
    chain = new_chain(agreed=hall.genesis)
    made = []
    for number in range(count):
        candidate = propose(chain, [signed("roaster", create(f"programme-{number}"))])
        certificate = seal(candidate, *NAMES[: len(hall.genesis.validators)])
        chain.append(candidate, certificate)
        made.append((candidate.block_bytes, certificate))
    return made


# Agreement


def test_one_validator_writes_before_it_signs_and_signs_before_it_sends() -> None:
    async def test() -> None:
        async with Hall(1) as hall:
            [desk] = hall.desks
            made = signed("roaster", create())
            hall.offer(made)
            await hall.height(1)
            assert desk.journal == [
                "sign PROPOSAL",
                "send PROPOSAL",
                "sign PREPARE",
                "send PREPARE",
                "write",  # what the COMMIT is prepared by
                "sign COMMIT",
                "send COMMIT",
                "write",  # the block
                "publish",
            ]
            assert desk.chain.judged == 0 and desk.verifier.checked == 0  # built here, verified at the mempool
            [done] = desk.published
            assert [each.transaction_id for each in done.receipts] == [made.id] and len(desk.mempool) == 0
            prepared = desk.chain.store.prepared()
            assert prepared is not None and (prepared.height, prepared.block_id) == (1, done.head.block_id)

    run(test)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_validators_agree_block_after_block(count: int) -> None:
    async def test() -> None:
        async with Hall(count) as hall:
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            hall.offer(signed("roaster", mint("alice", 5)))
            await hall.height(2)
            hall.offer(signed("alice", transfer("bob", 2)))
            await hall.height(3)
            for desk in hall.desks:
                assert (balance(desk.chain, "alice"), balance(desk.chain, "bob")) == (3, 2)
                assert desk.host.missed_rounds == 0 and desk.accused == []
                for height in (1, 2, 3):
                    certificate = desk.chain.store.certificate(height)
                    block = desk.chain.store.block(height)
                    check_certificate(certificate, hall.genesis.chain_id, block.header.id(), hall.genesis.validators)
                    assert block.header.proposer == account(hall.proposer(height))

    run(test)


def test_every_block_is_executed_once_and_every_signature_verified_once() -> None:
    async def test() -> None:
        async with Hall(4) as hall:
            first = signed("roaster", create())
            proposer = hall.desk(hall.proposer(1))
            proposer.mempool.add(first)  # nobody else has heard of it
            proposer.host.wake()
            await hall.height(1)
            for desk in hall.desks:
                other = desk is not proposer
                assert (desk.chain.judged, desk.verifier.checked) == (int(other), int(other)), desk.name
            hall.offer(signed("roaster", mint("alice", 1)))  # everybody has verified it
            await hall.height(2)
            assert sum(desk.chain.judged for desk in hall.desks) == 6
            assert sum(desk.verifier.checked for desk in hall.desks) == 3

    run(test)


def test_every_validator_persists_before_it_signs_a_commit() -> None:
    async def test() -> None:
        async with Hall(4) as hall:
            for number in range(3):
                hall.offer(signed("roaster", create(f"programme-{number}")))
                await hall.height(number + 1)
        for desk in hall.desks:
            at = [place for place, what in enumerate(desk.journal) if what == "sign COMMIT"]
            assert at and all(desk.journal[place - 1] == "write" for place in at)
            for what in ("PROPOSAL", "PREPARE", "COMMIT"):
                assert desk.journal.count(f"send {what}") <= desk.journal.count(f"sign {what}")

    run(test)


def test_the_absent_proposers_round_is_missed() -> None:
    async def test() -> None:
        probe = Hall(4)
        async with Hall(4, timeout_ms=100, absent=[probe.proposer(1)]) as hall:
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            assert {desk.host.missed_rounds for desk in hall.desks} == {1}
            [proposer] = {desk.chain.store.block(1).header.proposer for desk in hall.desks}
            assert proposer == account(hall.proposer(1, 1))

    run(test)


def test_a_prepared_block_is_proposed_again_and_not_executed_again() -> None:
    async def test() -> None:
        async with Hall(4, timeout_ms=100) as hall:
            hall.lost = lambda sender, receiver, message: (
                isinstance(message, Vote) and (message.kind is Kind.COMMIT and message.round == 0)
            )
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            assert {desk.host.missed_rounds for desk in hall.desks} == {1}
            for desk in hall.desks:
                block = desk.chain.store.block(1)
                assert block.header.proposer == account(hall.proposer(1))  # it stays the first one's block
                assert desk.chain.judged == (desk.name != hall.proposer(1))

    run(test)


def test_two_of_four_decide_nothing() -> None:
    async def test() -> None:
        async with Hall(4, timeout_ms=50, absent=NAMES[:2]) as hall:
            hall.offer(signed("roaster", create()))
            for desk in hall.desks:
                await hall.until(lambda desk=desk: kinds(desk.sent).count(Kind.ROUND_CHANGE) >= 3)  # type: ignore[misc]
            assert [desk.chain.head.height for desk in hall.desks] == [0, 0]

    run(test)


def test_a_follower_takes_what_the_validators_decide_and_signs_nothing() -> None:
    async def test() -> None:
        hall = Hall(4)
        follower = Desk(hall, "follower", signs=False)
        hall.desks.append(follower)
        async with hall:
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            assert follower.sent == [] and "publish" in follower.journal

    run(test)


def test_nothing_is_signed_before_the_node_has_caught_up() -> None:
    async def test() -> None:
        hall = Hall(4)
        late = hall.desks.pop()
        async with hall:
            hall.desks.append(late)
            hall.begin(late, caught_up=False)
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            assert not [each for each in late.journal if each.startswith(("sign", "send"))]
            late.host.put(events.CaughtUp(True))
            hall.offer(signed("roaster", create("second")))
            await hall.height(2)
            await hall.until(lambda: "send COMMIT" in late.journal)

    run(test)


# A proposer that lies


def _proposal(hall: Hall, transactions: Sequence[SignedTransaction], **header: Any) -> Proposal:
    """What the proposer of height 1 may send: a block that holds these, signed as it should be."""
    name = hall.proposer(1)
    chain = new_chain(agreed=hall.genesis)
    execution = chain.execution(START_MS + 5_000)
    for each in transactions:
        execution.admit(each)
        execution.apply(each)
    block = chain.close(execution, transactions, account(name)).block
    block = block._replace(header=block.header._replace(**header))
    vote = Vote(Kind.PROPOSAL, 1, 0, block.header.id(), account(name))
    vote = vote._replace(signature=key(name).sign(signed_payload(hall.genesis.chain_id, vote)))
    return Proposal(vote, codec.encode(block))


def _forged() -> SignedTransaction:
    made = signed("roaster", create())
    [right] = made.signatures
    return assemble(made.transaction, codec.encode(made.transaction), (right._replace(signature=bytes(64)),))


@pytest.mark.parametrize(
    ("transactions", "header"),
    [
        pytest.param((_forged(),), {}, id="a forged transaction"),
        pytest.param((), {"state_root": b"\1" * 32}, id="another state root"),
        pytest.param((), {"proposer": account("roaster")}, id="a proposer that is none"),
        pytest.param((), {"time_ms": START_MS + 10_001 + CLOCK_AHEAD_MS}, id="a time ahead of everybody"),
        pytest.param((), {"time_ms": START_MS}, id="a time before its parent"),
        pytest.param((), {"parent_id": b"\1" * 32}, id="another parent"),
        pytest.param((), {"height": 2}, id="another height"),
    ],
)
def test_an_invalid_block_costs_its_round(transactions: tuple[SignedTransaction, ...], header: dict[str, Any]) -> None:
    async def test() -> None:
        probe = Hall(4)
        name = probe.proposer(1)
        async with Hall(4, timeout_ms=100, absent=[name]) as hall:
            lie = _proposal(hall, transactions, **header)
            for desk in hall.desks:
                desk.host.received(account(name).ljust(32, b"\0"), lie, 1_000)
            hall.offer(signed("roaster", create("honest")))
            await hall.height(1)
            assert {desk.chain.head.block_id for desk in hall.desks} != {lie.vote.block_id}
            for desk in hall.desks:
                assert desk.host.missed_rounds == 1
                assert Kind.PREPARE not in [
                    each.kind for each in desk.sent if isinstance(each, Vote) and each.block_id == lie.vote.block_id
                ]
                assert desk.accused == []  # a wrong clock is not banned

    run(test)


def test_the_same_block_without_a_lie_is_taken() -> None:
    async def test() -> None:
        name = Hall(4).proposer(1)
        async with Hall(4, absent=[name]) as hall:
            right = _proposal(hall, (signed("roaster", create()),))
            for desk in hall.desks:
                desk.host.received(account(name).ljust(32, b"\0"), right, 1_000)
            await hall.height(1)
            assert {desk.chain.head.block_id for desk in hall.desks} == {right.vote.block_id}

    run(test)


def test_a_forged_vote_is_accused_and_an_honest_one_is_not() -> None:
    async def test() -> None:
        async with Hall(4) as hall:
            desk = hall.desks[0]
            vote = Vote(Kind.COMMIT, 1, 0, b"\1" * 32, account(NAMES[3]), bytes(64))
            desk.host.received(PEER, vote, 200)
            await hall.until(lambda: desk.accused)
            assert desk.accused == [(PEER, "COMMIT: a signature in it does not verify")]

    run(test)


def test_a_double_vote_becomes_evidence() -> None:
    async def test() -> None:
        async with Hall(4) as hall:
            desk, name = hall.desks[0], NAMES[3]
            for block_id in (b"\1" * 32, b"\2" * 32):
                vote = Vote(Kind.PREPARE, 1, 0, block_id, account(name))
                vote = vote._replace(signature=key(name).sign(signed_payload(hall.genesis.chain_id, vote)))
                desk.host.received(PEER, vote, 200)
            await hall.until(lambda: list(desk.chain.store.evidence()))
            assert len(list(desk.chain.store.evidence())) == 1

    run(test)


# Clocks


def test_a_clock_that_is_ahead_costs_its_own_rounds_only() -> None:
    async def test() -> None:
        async with Hall(4, timeout_ms=100) as hall:
            wrong = hall.desk(hall.proposer(1))
            wrong.now_ms += 60 * 60 * 1000
            hall.offer(signed("roaster", create()))
            await hall.height(1)
            times = {desk.chain.head.time_ms for desk in hall.desks}
            assert times == {START_MS + 10_000}
            assert wrong.chain.store.block(1).header.proposer != account(wrong.name)
            assert all(desk.accused == [] for desk in hall.desks)

    run(test)


# Heartbeats, quiet, stopping


def test_a_quiet_chain_makes_no_blocks_and_a_heartbeat_makes_empty_ones() -> None:
    async def test() -> None:
        async with Hall(1) as hall:
            [desk] = hall.desks
            for number in range(3):
                hall.offer(signed("roaster", create(f"programme-{number}")))
                await hall.height(number + 1)
                desk.host.wake()  # for nothing
            assert [len(each.receipts) for each in desk.published] == [1, 1, 1]
        async with Hall(1, parameters=Parameters(block_interval_ms=10, heartbeat_ms=100)) as hall:
            await hall.height(3)
            assert [each.receipts for each in hall.desks[0].published][:3] == [(), (), ()]

    run(test)


def test_a_chain_that_stood_still_shows_at_once_that_it_lives() -> None:
    async def test() -> None:
        hall = Hall(1)
        [desk] = hall.desks
        candidate = propose(desk.chain)
        desk.chain.append(candidate, seal(candidate))
        desk.now_ms = desk.chain.head.time_ms + DAY_MS
        async with hall:
            await hall.height(2)

    run(test)


def test_stopping_finishes_the_write_that_was_begun() -> None:
    async def test() -> None:
        writing, allowed = asyncio.Event(), asyncio.Event()

        async def slowly(act: Callable[[], Any]) -> Any:
            writing.set()
            await allowed.wait()
            return act()

        hall = Hall(1)
        [desk] = hall.desks
        async with hall:
            desk.write = slowly
            hall.offer(signed("roaster", create()))
            await writing.wait()
            desk.host.stop()
            assert desk.chain.head.height == 0 and desk.published == []
            allowed.set()
            await hall.runs[desk.name]
            assert desk.chain.head.height == 1 and len(desk.published) == 1

    run(test)


def test_the_round_ends_however_often_the_host_is_woken() -> None:
    async def test() -> None:
        hall = Hall(4, timeout_ms=50, absent=NAMES[1:])
        [desk] = hall.desks
        async with hall:
            hall.offer(signed("roaster", create()))
            await hall.until(lambda: Kind.ROUND_CHANGE in kinds(desk.sent))
        deadline = desk.host.engine.deadline_ms
        assert deadline is not None
        while time.monotonic_ns() // 1_000_000 < deadline:
            await asyncio.sleep(0.005)
        asyncio.get_running_loop().call_soon(desk.host.wake)
        assert await desk.host._next() == events.Tick()

    run(test)


# Faults


def test_a_store_that_fails_ends_the_host() -> None:
    async def test() -> None:
        def fails(act: Callable[[], Any]) -> Any:
            raise Fault(WRITE_FAILED, "the disk is gone")

        hall = Hall(1)
        [desk] = hall.desks
        desk.write = fails
        with pytest.raises(Fault) as caught:
            async with hall:
                hall.offer(signed("roaster", create()))
                await hall.height(1)
        assert caught.value.code == WRITE_FAILED
        assert desk.chain.head.height == 0 and desk.published == []
        assert "sign COMMIT" not in desk.journal  # what it was prepared by is not on the disk
        assert len(desk.mempool) == 1  # nothing was promised, nothing is forgotten

    run(test)


def test_a_guard_that_refuses_ends_the_host() -> None:
    async def test() -> None:
        hall = Hall(1)
        [desk] = hall.desks
        assert desk.signer is not None
        desk.signer.refusal = Refused("E-GUARD-001", "another process has signed")
        with pytest.raises(Refused):
            async with hall:
                hall.offer(signed("roaster", create()))
                await hall.height(1)
        assert desk.sent == [] and desk.chain.head.height == 0

    run(test)


def test_a_fault_while_judging_ends_the_host_at_once() -> None:
    class Broken(Chain):
        def judging(
            self, block: Block, *, transactions: Sequence[SignedTransaction] | None = None, verified: bool = False
        ) -> Generator[None, None, Candidate]:
            raise Fault(WRITE_FAILED, "the disk is gone")

    async def test() -> None:
        name = Hall(4).proposer(1)
        hall = Hall(4, absent=[name])
        desk = hall.desks[0]
        desk.chain.__class__ = Broken  # type: ignore[assignment]
        with pytest.raises(Fault):
            async with hall:
                desk.host.received(PEER, _proposal(hall, ()), 1_000)
                await hall.until(lambda: False)

    run(test)


def test_what_waits_of_one_peer_is_bounded_and_of_another_is_not_pushed_out() -> None:
    async def test() -> None:
        hall = Hall(4)
        host = hall.desks[0].host
        vote = Vote(Kind.PREPARE, 1, 0, b"\1" * 32, account(NAMES[1]), bytes(64))
        for _ in range(WAITING_MAX + 10):
            host.received(b"a" * 32, vote, 100)
        assert len(host._inputs) == WAITING_MAX
        for _ in range(3):
            host.received(b"b" * 32, vote, WAITING_BYTES_MAX // 2)
        assert len(host._inputs) == WAITING_MAX + 2

    run(test)


# Builds and judgements that come too late


def test_a_block_built_for_a_past_head_is_not_used() -> None:
    async def test() -> None:
        async with Hall(1) as hall:
            [desk] = hall.desks
            stale = await build_block(desk.chain, desk.mempool, account(desk.name), desk.now_ms)
            assert stale is not None
            hall.offer(signed("roaster", create()))
            await hall.height(1)

            def clock() -> int:  # is asked when the next block is begun: the old one is then the first to be there
                desk.host.put(_BuiltBlock(1, 0, stale))
                desk.host.put(_BuiltBlock(2, 0, stale))
                desk.host.put(_BuiltBlock(2, 0, None))
                return desk.now_ms

            desk.clock = clock
            hall.offer(signed("roaster", create("second")))
            await hall.height(2)
            assert [len(each.receipts) for each in desk.published] == [1, 1]

    run(test)


def test_a_judgement_ends_when_the_chain_goes_on_meanwhile() -> None:
    async def test() -> None:
        hall = Hall(1)
        [desk] = hall.desks
        chain = new_chain(agreed=hall.genesis)
        many = [signed(f"sender-{number}", transfer("bob", 1)) for number in range(3 * JUDGING_STEP)]
        block = propose(chain, many)
        judging = asyncio.ensure_future(desk.host.judge_block(block.block_id, block.block_bytes, None))
        while desk.chain.judged == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        other = propose(desk.chain)
        desk.chain.append(other, seal(other))
        with pytest.raises(VerifyFailed, match="the chain went on"):
            await judging

    run(test)


# Blocks that others decided


def test_missed_blocks_are_judged_and_appended() -> None:
    async def test() -> None:
        hall = Hall(4, absent=NAMES)
        history = _history(hall, 3)
        desk = Desk(hall, "follower", signs=False)
        hall.desks.append(desk)
        async with hall:
            desk.host.put(Missed(PEER, 1, tuple(history[:2])))
            await hall.until(lambda: desk.taken)
            desk.host.put(Missed(PEER, 2, tuple(history[1:])))  # one of them is here already
            await hall.until(lambda: len(desk.taken) == 2)
            assert desk.taken == [(PEER, 2), (PEER, 1)] and desk.accused == []
            assert [desk.chain.store.block_bytes(height) for height in (1, 2, 3)] == [data for data, _ in history]
            assert desk.chain.judged == 3 and desk.host.engine.height == 4

    run(test)


def _other_certificate(history: list[tuple[bytes, Certificate]]) -> tuple[bytes, Certificate]:
    return history[0][0], history[1][1]


def _too_few_seals(history: list[tuple[bytes, Certificate]]) -> tuple[bytes, Certificate]:
    data, certificate = history[0]
    return data, certificate._replace(seals=certificate.seals[:2])


def _false_seal(history: list[tuple[bytes, Certificate]]) -> tuple[bytes, Certificate]:
    data, certificate = history[0]
    first, *others = certificate.seals
    return data, certificate._replace(seals=(Seal(first.validator, bytes(64)), *others))


def _changed_block(history: list[tuple[bytes, Certificate]]) -> tuple[bytes, Certificate]:
    data, certificate = history[0]
    return data[:-1] + bytes([data[-1] ^ 1]), certificate


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_other_certificate, "its certificate is of height 2"),
        (_too_few_seals, "3 are needed"),
        (_false_seal, "does not verify"),
        (_changed_block, ""),
    ],
)
def test_a_lie_about_a_missed_block_is_accused_and_changes_nothing(
    lie: Callable[[list[tuple[bytes, Certificate]]], tuple[bytes, Certificate]], words: str
) -> None:
    async def test() -> None:
        hall = Hall(4, absent=NAMES)
        history = _history(hall, 2)
        desk = Desk(hall, "follower", signs=False)
        hall.desks.append(desk)
        async with hall:
            desk.host.put(Missed(PEER, 1, (lie(history), history[1])))
            await hall.until(lambda: desk.taken)
            [(peer, cause)] = desk.accused
            assert peer == PEER and cause.startswith("block 1: ") and words in cause
            assert desk.taken == [(PEER, 0)] and desk.chain.head.height == 0
            desk.host.put(Missed(b"q" * 32, 1, tuple(history)))  # the truth still fits
            await hall.until(lambda: len(desk.taken) == 2)
            assert desk.chain.head.height == 2

    run(test)


def test_blocks_that_do_not_follow_are_no_lie_and_no_progress() -> None:
    async def test() -> None:
        hall = Hall(4, absent=NAMES)
        history = _history(hall, 3)
        desk = Desk(hall, "follower", signs=False)
        hall.desks.append(desk)
        async with hall:
            desk.host.put(Missed(PEER, 2, tuple(history[1:])))
            await hall.until(lambda: desk.taken)
            assert desk.taken == [(PEER, 0)] and desk.accused == [] and desk.chain.head.height == 0

    run(test)


def test_an_own_seal_that_the_record_does_not_know_stops_the_node() -> None:
    async def test() -> None:
        hall = Hall(4, absent=NAMES[1:])
        history = _history(hall, 2)
        [desk] = hall.desks
        with pytest.raises(Refused) as caught:
            async with hall:
                desk.host.put(Missed(PEER, 1, tuple(history)))
                await hall.until(lambda: desk.taken)
        assert caught.value.code == "E-GUARD-004" and desk.chain.head.height == 0

    run(test)


def test_an_own_seal_that_the_record_knows_is_taken() -> None:
    async def test() -> None:
        hall = Hall(4, absent=NAMES)
        history = _history(hall, 2)
        payload = signed_payload(
            hall.genesis.chain_id, Vote(Kind.COMMIT, 2, 0, history[1][1].block_id, account(NAMES[0]))
        )
        record = Record(hall.genesis.chain_id, 2, 0, Step.COMMIT, payload)
        assert record != first_record(hall.genesis.chain_id)
        desk = _with_lost_prepared(hall, record)
        hall.desks.append(desk)
        async with hall:
            desk.host.put(Missed(PEER, 1, tuple(history)))
            await hall.until(lambda: desk.taken)
            assert desk.chain.head.height == 2

    run(test)


def _with_lost_prepared(hall: Hall, record: Record) -> Desk:
    """A validator whose database was emptied while its record was kept."""
    desk = Desk(hall, NAMES[0])
    desk.host.engine = Engine(
        hall.genesis.chain_id, account(NAMES[0]), record, None, desk.host.engine.settings, prepared_lost=True
    )
    return desk


def test_who_asks_about_a_past_height_is_told_its_decision() -> None:
    async def test() -> None:
        async with Hall(3) as hall:
            for number in range(2):
                hall.offer(signed("roaster", create(f"programme-{number}")))
                await hall.height(number + 1)
            desk, asking = hall.desks[0], hall.desks[1]
            name = asking.name
            vote = Vote(Kind.PREPARE, 1, 0, b"\1" * 32, account(name))
            vote = vote._replace(signature=key(name).sign(signed_payload(hall.genesis.chain_id, vote)))
            desk.host.received(asking.id, vote, 200)
            await hall.until(lambda: any(isinstance(each, Decided) for each in desk.sent))
            [decided] = [each for each in desk.sent if isinstance(each, Decided)]
            assert decided.certificate.height == 1 and decided.block == desk.chain.store.block_bytes(1)

    run(test)


def test_a_node_that_lost_all_votes_of_a_height_is_told_its_decision() -> None:
    async def test() -> None:
        async with Hall(4, timeout_ms=200) as hall:
            deaf = hall.desk(hall.proposer(3))
            hall.lost = lambda sender, receiver, message: receiver is deaf and _is_vote(message)
            hall.offer(signed("roaster", create()))
            await hall.until(lambda: all(desk.chain.head.height == 1 for desk in hall.desks if desk is not deaf))
            hall.lost = lambda sender, receiver, message: False
            await hall.height(1)

    run(test)


def _is_vote(message: Message) -> bool:
    return kind_of(message) in (Kind.PREPARE, Kind.COMMIT)
