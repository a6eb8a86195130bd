"""A node that is killed at any moment loses nothing that it called final, and applies nothing twice."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import psutil
import pytest

from ledger import codec
from ledger.block import certificate_of, decode_block
from ledger.transaction import SignedTransaction, decode
from node.chain import Chain
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from tests.chains import PROGRAMME
from tests.end_to_end.nodes import NodeProcess
from tests.end_to_end.requests import address, create, get, mint, post, signed, submit, transfer
from vm.cells import check_invariants
from vm.executor import run_view

_HOLDERS = [f"holder-{number}" for number in range(8)]
_MEMBERS = [f"member-{number}" for number in range(5)]
_FUNDS = 1_000_000
_BATCH = 20
_LOST = (OSError, http.client.HTTPException)


class _Operation(NamedTuple):
    """What shall happen once: points minted to a member (no `sender`), or moved from a holder to a member."""

    reference: str
    sender: str | None
    to: str
    amount: int

    def signed(self) -> SignedTransaction:
        """A new transaction that does it. Its reference lets only one of them take effect."""
        if self.sender is None:
            return signed("roaster", mint(self.to, self.amount, self.reference), gas_limit=1_000)
        return signed(self.sender, transfer(self.to, self.amount, self.reference), gas_limit=1_000)


def _operation(number: int) -> _Operation:
    sender = None if number % 3 == 0 else _HOLDERS[number % len(_HOLDERS)]
    return _Operation(f"operation-{number}", sender, _MEMBERS[number % len(_MEMBERS)], 1 + number % 50)


class _Load:
    """Sends operations in batches and writes down what the node called final."""

    def __init__(self, node: NodeProcess, random: Random) -> None:
        self.node = node
        self.random = random
        self.begun = 0
        self.lost = 0
        self.done: dict[str, _Operation] = {}
        self.final: dict[bytes, tuple[int, Any]] = {}
        """What was acknowledged: transaction id -> height, receipt."""
        self.open: list[tuple[_Operation, SignedTransaction]] = []
        """Sent, and nothing is known of their end."""
        self._lock = threading.Lock()

    def batch(self) -> list[tuple[_Operation, SignedTransaction]]:
        """The next operations: first those of unknown end, as the same transaction or as a new one, at random."""
        with self._lock:
            batch, self.open = self.open[:_BATCH], self.open[_BATCH:]
            batch = [(each, made if self.random.random() < 0.5 else each.signed()) for each, made in batch]
            while len(batch) < _BATCH:
                operation = _operation(self.begun)
                self.begun += 1
                batch.append((operation, operation.signed()))
            return batch

    def send(self, batch: Sequence[tuple[_Operation, SignedTransaction]]) -> bool:
        """Sends a batch and waits for its end. False where the node was gone before it answered."""
        try:
            results = submit(self.node, *[made.raw for _, made in batch])
        except _LOST:
            with self._lock:
                self.open += batch
                self.lost += 1
            return False
        with self._lock:
            for (operation, made), result in zip(batch, results, strict=True):
                if result["status"] == "final":
                    receipt = result["receipt"]
                    assert receipt["ok"] or receipt["code"] == "E-VM-006", receipt
                    self.final[made.id] = (result["height"], receipt)
                    self.done[operation.reference] = operation
                elif result["status"] == "refused" and result["error"]["code"] == "E-TX-006":
                    self.done[operation.reference] = operation
                else:  # the node is stopping, or waited too long
                    assert result["status"] == "waiting" or result["error"]["code"] == "E-NODE-003", result
                    self.open.append((operation, made))
        return True

    def until_killed(self, seconds: float) -> None:
        """Sends from three sides until the node is killed, so many seconds after the first answer."""
        first = threading.Event()

        def work() -> None:
            while self.send(self.batch()):
                first.set()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        first.wait(30)
        threading.Event().wait(seconds)
        self.node.kill()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    def finish(self) -> None:
        """Sends what is still open until everything has ended."""
        while self.open:
            batch, self.open = self.open[:_BATCH], self.open[_BATCH:]
            assert self.send(batch)


def _replayed(node: NodeProcess) -> Chain:
    """The node's chain, judged block by block from the genesis document."""
    chain = Chain(LedgerStore(MemoryStore()), registry(), node.genesis)
    while True:
        body = get(node, f"/v1/export?from={chain.head.height + 1}").body
        if not body:
            return chain
        while body:
            size = int.from_bytes(body[:4], "big")
            raw, certificate = codec.decode(body[4 : 4 + size])
            chain.append(chain.judge(decode_block(raw)), certificate_of(certificate))
            body = body[4 + size :]


def _check(node: NodeProcess, load: _Load) -> None:
    """Everything that was called final is there as it was told, once, and the balances are what it adds up to."""
    chain = _replayed(node)
    seen: set[bytes] = set()
    applied: dict[str, int] = {}
    balances = dict.fromkeys((*_HOLDERS, *_MEMBERS), 0)
    names = {address(name): name for name in balances}
    issued = 0
    for height in range(1, chain.head.height + 1):
        transactions = [decode(raw) for raw in chain.store.block(height).transactions]
        for made, receipt in zip(transactions, chain.store.receipts(height), strict=True):
            assert made.id not in seen and receipt.transaction_id == made.id
            seen.add(made.id)
            if made.id in load.final:
                told_height, told = load.final[made.id]
                assert told_height == height
                assert (told["code"] or "", told["gas_used"]) == (receipt.code, receipt.gas_used)
            if not receipt.ok:
                continue
            for each in made.transaction.calls:
                if each.method == "create":
                    continue
                to, amount = each.arguments[1:3]
                balances[names[to]] += amount
                if each.method == "mint":
                    issued += amount
                else:
                    balances[names[made.transaction.actors[0]]] -= amount
                if len(each.arguments) == 4:
                    applied[each.arguments[3]] = applied.get(each.arguments[3], 0) + 1
    assert set(load.final) <= seen, "what was called final is gone"
    assert set(load.done) <= set(applied), "what was called final has had no effect"
    assert set(applied.values()) <= {1}, "an operation has taken effect twice"
    block, read = chain.read_head()
    for name, expected in balances.items():
        held = run_view(chain.registry, block, read, "points", "balance_of", (PROGRAMME, address(name)))
        assert held == expected, name
    totals = run_view(chain.registry, block, read, "points", "show", (PROGRAMME,))
    assert totals.issued == totals.outstanding == issued == sum(balances.values())
    assert check_invariants(chain.registry, chain.store.cells(chain.head.height)) == []
    assert get(node, f"/v1/blocks/{chain.head.height}").json["block_id"] == chain.head.block_id.hex()


def _begin(folder: Path, kind: str, seed: int) -> tuple[NodeProcess, _Load]:
    node = NodeProcess.create(folder, settings={"store.kind": kind, "node.workers": 1})
    node.start()
    funds = [mint(name, _FUNDS) for name in _HOLDERS]
    [result] = submit(node, signed("roaster", create(), *funds, gas_limit=20_000).raw)
    assert result["receipt"]["ok"]
    return node, _Load(node, Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("leveldb", 22), ("lmdb", 6)])
def test_kill_9_at_random_moments(kind: str, kills: int, tmp_path: Path) -> None:
    node, load = _begin(tmp_path, kind, seed=2)
    try:
        for turn in range(kills):
            load.until_killed(load.random.uniform(0.0, 0.5))
            node.start()
            assert get(node, "/v1/chain").json["height"] >= max(
                (height for height, _ in load.final.values()), default=1
            )
            if turn % 7 == 0:
                _check(node, load)
        load.finish()
        assert len(load.done) == load.begun >= 5 * kills  # every operation has ended, and not for want of load
        assert load.lost >= kills  # the kills came while answers were awaited
        _check(node, load)
    finally:
        node.kill()


@pytest.mark.slow
def test_a_graceful_stop_under_load_and_what_goes_on_after_it(tmp_path: Path) -> None:
    node, load = _begin(tmp_path, "leveldb", seed=3)
    try:
        for _ in range(3):
            stopped = threading.Event()

            def work(stopped: threading.Event = stopped) -> None:
                while not stopped.is_set() and load.send(load.batch()):
                    pass

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            threading.Event().wait(load.random.uniform(0.1, 0.4))
            assert node.stop() == 0
            stopped.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
            node.start()
        load.finish()
        _check(node, load)
        assert len(load.done) == load.begun
        before = get(node, "/v1/chain").json["height"]
        submit(node, signed("roaster", mint("member-0", 1)).raw)
        assert get(node, "/v1/chain").json["height"] > before
    finally:
        node.kill()


def test_an_idle_node_killed_and_started_stands_where_it_stood(tmp_path: Path) -> None:
    node, load = _begin(tmp_path, "leveldb", seed=4)
    try:
        before = get(node, "/v1/blocks/head").json
        node.kill()
        node.start()
        assert get(node, f"/v1/blocks/{before['height']}").json == before
        _check(node, load)
    finally:
        node.kill()


def _ended(node: NodeProcess) -> int:
    """The exit code of a node that ends by itself."""
    process = node._process
    assert process is not None
    return process.wait(30)


def test_ctrl_c_reaches_the_whole_group_and_ends_it_in_order(tmp_path: Path) -> None:
    node, _ = _begin(tmp_path, "leveldb", seed=5)
    try:
        workers = psutil.Process(node.pid).children(recursive=True)
        os.killpg(node.pid, signal.SIGINT)
        assert _ended(node) == 0
        assert psutil.wait_procs(workers, timeout=30)[1] == []
        assert "Traceback" not in node.log_tail() and "node stopped" in node.log_tail()
    finally:
        node.kill()
    node.start()
    assert node.stop() == 0


def test_a_node_whose_worker_was_killed_stops_and_says_why(tmp_path: Path) -> None:
    node, load = _begin(tmp_path, "leveldb", seed=6)
    try:
        for child in psutil.Process(node.pid).children():
            child.kill()
        answer = post(node, "/v1/transactions", {"transactions": [_operation(1).signed().raw.hex()]})
        assert answer.status == 500 and answer.json["code"] == "E-NODE-001"
        assert _ended(node) == 1
        assert "E-NODE-001" in node.log_tail() and "Traceback" not in node.log_tail()
        node.kill()
        node.start()
        _check(node, load)
    finally:
        node.kill()
