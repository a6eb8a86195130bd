from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from consensus.guard import check_not_rolled_back, first_record
from consensus.messages import Kind, Vote, signed_payload
from ledger.address import address_of
from ledger.errors import Fault, Invalid, Refused
from ledger.keys import PrivateKey, verify
from node.signer import GuardedKey, LocalSigner
from node.signing_record import RecordFile, create, load
from tests.consensus_kit import CHAIN, A, B, address

KEY = PrivateKey(b"\x07" * 32)


def vote(kind: Kind, height: int, of: bytes = A, chain: str = CHAIN) -> bytes:
    return signed_payload(chain, Vote(kind, height, 0, of, address(1)))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 50 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "signing" / "record"
    create(made, CHAIN)
    return made


@pytest.fixture
def guarded(path: Path) -> Iterator[GuardedKey]:
    made = GuardedKey(KEY, RecordFile(path))
    yield made
    made.close()


def test_what_it_signs_verifies_and_is_on_the_disk(guarded: GuardedKey, path: Path) -> None:
    assert (guarded.public_key, guarded.address) == (KEY.public, address_of(KEY.public))
    for height in range(1, 20):
        payload = vote(Kind.COMMIT, height)
        assert verify(KEY.public, payload, guarded.sign(payload))
        assert load(path) == guarded.record()
        assert (load(path).height, load(path).payload) == (height, payload)


def test_the_same_again_is_signed_without_a_write(guarded: GuardedKey, path: Path) -> None:
    payload = vote(Kind.COMMIT, 4)
    first = guarded.sign(payload)
    inode = path.stat().st_ino
    assert guarded.sign(payload) == first
    assert path.stat().st_ino == inode  # a write would be another file


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (vote(Kind.COMMIT, 4, B), Refused),
        (vote(Kind.PREPARE, 4), Refused),
        (vote(Kind.COMMIT, 3), Refused),
        (vote(Kind.COMMIT, 5, chain="other-chain"), Refused),
        (b"troth/sign/transaction\0" + vote(Kind.COMMIT, 5).partition(b"\0")[2], Invalid),
        (b"", Invalid),
    ],
)
def test_a_regression_is_neither_signed_nor_written(
    guarded: GuardedKey, path: Path, payload: bytes, kind: type[Refused] | type[Invalid]
) -> None:
    guarded.sign(vote(Kind.COMMIT, 4))
    before = path.read_bytes()
    with pytest.raises(kind) as caught:
        guarded.sign(payload)
    if kind is Refused:
        assert caught.value.code == "E-GUARD-001"
    assert path.read_bytes() == before
    assert guarded.sign(vote(Kind.PREPARE, 5))  # a refusal harms nobody


def test_nothing_is_signed_that_could_not_be_written_nor_anything_after(guarded: GuardedKey, path: Path) -> None:
    done = vote(Kind.PREPARE, 4)
    guarded.sign(done)
    with full_disk(), pytest.raises(Fault):
        guarded.sign(vote(Kind.COMMIT, 4))
    for payload in (vote(Kind.COMMIT, 4), vote(Kind.COMMIT, 5), done):
        with pytest.raises(Fault) as caught:
            guarded.sign(payload)
        assert caught.value.code == "E-SIGNING-001"
    with pytest.raises(Fault):
        guarded.record()
    assert load(path).payload == done


def test_a_rolled_back_record_signs_nothing_once_the_chain_is_asked(path: Path) -> None:
    first = GuardedKey(KEY, RecordFile(path))
    first.sign(vote(Kind.COMMIT, 7))
    old = path.read_bytes()
    first.sign(vote(Kind.COMMIT, 8))
    first.close()
    path.write_bytes(old)
    again = GuardedKey(KEY, RecordFile(path))
    with pytest.raises(Refused) as caught:
        check_not_rolled_back(again.record(), 8, 0)
    assert caught.value.code == "E-GUARD-004"
    again.close()


def test_many_who_ask_at_once_are_served_in_their_order(path: Path) -> None:
    async def scenario() -> list[bytes | BaseException]:
        signer = LocalSigner(KEY, RecordFile(path))
        asked = [signer.sign(vote(Kind.COMMIT, height)) for height in (1, 2, 5, 4, 5, 6)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert signer.record().height == 6
        await signer.close()
        return answers

    answers = asyncio.run(scenario())
    assert [isinstance(answer, bytes) for answer in answers] == [True, True, True, False, True, True]
    assert isinstance(answers[3], Refused)


def test_who_gives_up_waiting_leaves_no_gap_in_the_order(path: Path) -> None:
    async def scenario() -> None:
        signer = LocalSigner(KEY, RecordFile(path))
        gone = asyncio.create_task(signer.sign(vote(Kind.COMMIT, 1)))
        await asyncio.sleep(0)
        gone.cancel()
        payload = vote(Kind.COMMIT, 2)
        assert verify(signer.public_key, payload, await signer.sign(payload))
        with suppress(asyncio.CancelledError):
            await gone
        with pytest.raises(Refused):
            await signer.sign(vote(Kind.COMMIT, 1, B))
        await signer.close()
        with pytest.raises(RuntimeError):
            await signer.sign(vote(Kind.COMMIT, 3))

    asyncio.run(scenario())
    assert load(path).height == 2


def test_the_record_is_free_for_another_once_it_is_closed(path: Path) -> None:
    async def scenario() -> None:
        signer = LocalSigner(KEY, RecordFile(path))
        assert signer.record() == first_record(CHAIN)
        with pytest.raises(Refused) as caught:
            RecordFile(path)
        assert caught.value.code == "E-SIGNING-002"
        await signer.close()
        RecordFile(path).close()

    asyncio.run(scenario())
    assert os.listdir(path.parent) == ["record"]
