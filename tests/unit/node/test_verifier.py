from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from ledger.errors import Fault
from node.verifier import BATCH, Check, Verifier, Workers
from tests.chains import key

_ROOT = Path(__file__).parents[3]


def _checks(count: int, *, bad: int | None = None) -> list[Check]:
    """Signatures of distinct messages; number `bad` does not verify."""
    made = []
    for number in range(count):
        message = b"message %d" % number
        made.append((key("alice").public, message, key("alice" if number != bad else "bob").sign(message)))
    return made


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    found = Workers(2)
    yield found
    found.close()


def _run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def test_each_signature_gets_its_own_verdict(workers: Workers) -> None:
    async def test() -> None:
        verifier = Verifier(workers)
        assert await verifier.check(_checks(5, bad=3)) == b"\1\1\1\0\1"
        assert await verifier.check([]) == b""
        verifier.close()

    _run(test())


def test_many_at_a_time_keep_apart(workers: Workers) -> None:
    async def test() -> None:
        verifier = Verifier(workers)
        sizes = [1, 3, BATCH, 7, 2 * BATCH + 1, 1, 20] * 3
        bad = [number % size for number, size in enumerate(sizes)]
        answers = await asyncio.gather(
            *[verifier.check(_checks(size, bad=which)) for size, which in zip(sizes, bad, strict=True)]
        )
        for size, which, verdicts in zip(sizes, bad, answers, strict=True):
            assert verdicts == bytes([index != which for index in range(size)])
        verifier.close()

    _run(test())


def test_malformed_keys_and_signatures_are_false_and_no_more(workers: Workers) -> None:
    async def test() -> None:
        verifier = Verifier(workers)
        public, message, signature = _checks(1)[0]
        assert await verifier.check(
            [
                (b"", message, signature),
                (public, message, b""),
                (bytes(32), message, bytes(64)),
                (public, b"", signature),
            ]
        ) == bytes(4)
        verifier.close()

    _run(test())


def test_who_gives_up_waiting_harms_nobody(workers: Workers) -> None:
    async def test() -> None:
        verifier = Verifier(workers)
        tasks = [asyncio.create_task(verifier.check(_checks(BATCH))) for _ in range(8)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in answers] == [asyncio.CancelledError, bytes] * 4
        assert await verifier.check(_checks(2, bad=0)) == b"\0\1"
        verifier.close()

    _run(test())


def test_a_stream_of_batches_in_order(workers: Workers) -> None:
    batches = [_checks(size, bad=size - 1) for size in (3, 1, 40, 2, 9, 5, 5, 5)]
    found = list(workers.verify_stream(iter(batches)))
    assert found == [[True] * (len(batch) - 1) + [False] for batch in batches]
    assert list(workers.verify_stream([])) == []


def test_a_killed_worker_is_a_clear_fault() -> None:
    own = Workers(1)
    [child] = [process for process in psutil.Process().children() if process.pid == _pids(own)[0]]

    async def test() -> None:
        verifier = Verifier(own)
        assert await verifier.check(_checks(1)) == b"\1"
        child.suspend()  # so that the check is surely under way when the worker dies
        waiting = asyncio.create_task(verifier.check(_checks(3)))
        queued = asyncio.create_task(verifier.check(_checks(3)))
        await asyncio.sleep(0)
        child.kill()
        for task in (waiting, queued):
            with pytest.raises(Fault) as caught:
                await task
            assert caught.value.code == "E-NODE-001"
        with pytest.raises(Fault) as caught:  # and it stays so: nothing is taken as verified
            await verifier.check(_checks(1))
        assert caught.value.code == "E-NODE-001"
        verifier.close()

    _run(test())
    own.close()


def test_a_killed_worker_ends_a_stream() -> None:
    own = Workers(1)
    os.kill(_pids(own)[0], signal.SIGKILL)
    psutil.Process(_pids(own)[0]).wait(30)
    with pytest.raises(Fault) as caught:
        list(own.verify_stream([_checks(3)] * 5))
    assert caught.value.code == "E-NODE-001"
    own.close()


def _pids(workers: Workers) -> list[int]:
    found = [process.pid for process in workers._processes]
    assert all(found)
    return [pid for pid in found if pid is not None]


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_closing_ends_the_workers() -> None:
    own = Workers(2)
    pids = _pids(own)
    own.close()
    assert all(_gone(pid) for pid in pids)


_PARENT = """
import sys, time
from node.verifier import Workers
if __name__ == "__main__":
    workers = Workers(2)
    list(workers.verify_stream([[(bytes(32), b"", bytes(64))]] * 4))
    print(*[process.pid for process in workers._processes], flush=True)
    time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(text) for text in parent.stdout.readline().split()]
    assert len(pids) == 2 and not any(_gone(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while not all(_gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        time.sleep(0.02)


def test_a_job_larger_than_a_pipe_takes_is_verified_whole(workers: Workers) -> None:
    """Found by a node that synced: one block's signatures in one job filled the pipe, and the node stopped."""
    checks = _checks(5_000, bad=4_321)

    async def test() -> None:
        verifier = Verifier(workers)
        try:
            verdicts = await asyncio.gather(
                verifier.check(checks), verifier.check(checks[:1]), verifier.check(checks[4_321:4_322])
            )
        finally:
            verifier.close()
        assert [len(each) for each in verdicts] == [5_000, 1, 1]
        assert verdicts[0].index(0) == 4_321 and verdicts[0].count(0) == 1
        assert (verdicts[1], verdicts[2]) == (b"\1", b"\0")

    uvloop.run(test())  # the loop that nodes run on: it makes a pipe that it watches non-blocking
