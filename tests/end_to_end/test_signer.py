"""A validator's signer as a process of its own: whatever is killed, and whenever, nothing is ever signed twice."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.guard import check_not_rolled_back
from ledger.errors import Fault, Refused, TrothError
from ledger.keys import verify
from node.home import Home
from node.signer_protocol import Hello, Report, Sign, Signature, Status, Welcome
from node.signing_record import load
from tests.consensus_kit import A, B
from tests.end_to_end.nodes import ROOT, command, environment
from tests.end_to_end.signers import CHAIN, KEY, NodeProcess, SignerProcess, Witness, signer_home
from tests.end_to_end.test_storage_faults import small_disk
from tests.signers import Raw, commit, raw

HELLO = Hello(1, CHAIN)
KILLS = 24

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: no call can be made to fail or be the last"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return signer_home(tmp_path)


def asking(height: int, of: bytes = A) -> Sign:
    return Sign(commit(height, of, chain=CHAIN))


def spin(chance: random.Random) -> None:
    """A moment, so that a kill falls anywhere between reading, writing, syncing, signing and answering."""
    for _ in range(chance.randrange(50_000)):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["first", "second"])
def test_whoever_is_killed_at_whatever_moment_nothing_is_signed_twice(home: Home, seed: str) -> None:
    chance = random.Random(seed)
    witness = Witness(home.path.with_name("witness"), home.signer_socket)
    signer = SignerProcess(home)
    node = NodeProcess(witness.path, f"{seed} 0")
    try:
        signer.ready()
        for number in range(KILLS):
            witness.wait_for(chance.randrange(1, 30))
            spin(chance)
            which = chance.choice(("signer", "node", "node", "both"))
            if which != "node":
                signer.kill()
            if which != "signer":
                node.kill()
                node = NodeProcess(witness.path, f"{seed} {number + 1}")
            if which != "node":
                signer = SignerProcess(home)
                signer.ready()
        witness.wait_for(30)
    finally:
        node.kill()
        signer.kill()
    witness.close()
    witness.check()
    assert len(witness.given) > KILLS and witness.refused > KILLS
    assert load(home.signing_record).position >= max(witness.positions())  # nothing left that it does not know of


@needs_strace
@pytest.mark.parametrize(
    ("call", "number", "recorded"),
    [
        ("fsync", 1, False),
        ("rename,renameat,renameat2", 1, False),
        ("fsync", 2, True),
        ("sendto,sendmsg", 2, True),  # the first one is the answer to HELLO
    ],
)
def test_killed_at_each_step_of_a_signature(home: Home, call: str, number: int, recorded: bool) -> None:
    left: list[bytes] = []

    def ask(node: Raw, of: bytes) -> None:
        answer = node.ask(asking(1, of))
        if isinstance(answer, Signature):
            assert verify(KEY.public, commit(1, of, chain=CHAIN), answer.signature)
            left.append(of)
        else:
            assert answer is None or answer.code == "E-GUARD-001"  # type: ignore[union-attr]

    inject = f"inject={call}:signal=SIGKILL:when={number}"
    with SignerProcess(home, "strace", "-f", "-qq", "-o", os.devnull, "-e", inject) as doomed:
        doomed.ready()
        with raw(home.signer_socket) as node:
            assert isinstance(node.ask(HELLO), Welcome)
            ask(node, A)
        assert doomed.ended() != 0
    assert left == [] or recorded
    with SignerProcess(home) as signer:
        signer.ready()
        with raw(home.signer_socket) as node:
            found = node.ask(HELLO)
            assert isinstance(found, Welcome) and (found.record.height == 1) is recorded
            ask(node, B)  # a node that has forgotten what it asked for
            ask(node, A)
    assert set(left) == ({A} if recorded else {B})


@needs_strace
@pytest.mark.parametrize(("call", "number"), [("fsync", 1), ("fsync", 2), ("rename,renameat,renameat2", 1)])
def test_a_disk_that_fails_lets_no_signature_out_and_ends_the_signer(home: Home, call: str, number: int) -> None:
    inject = f"inject={call}:error=EIO:when={number}"
    with SignerProcess(home, "strace", "-f", "-qq", "-o", os.devnull, "-e", inject) as signer:
        signer.ready()
        with raw(home.signer_socket) as node:
            node.ask(HELLO)
            answer = node.ask(asking(1))
            assert isinstance(answer, Fault) and answer.code == "E-SIGNING-001"
            # It says so once, and nothing that is asked after it is signed, were it the same.
            assert not isinstance(_quietly(node, asking(1)), Signature)
        assert signer.ended() == 1
    assert "E-SIGNING-001" in signer.log.read_text()
    with SignerProcess(home) as again:
        again.ready()
        with raw(home.signer_socket) as node:
            node.ask(HELLO)
            assert isinstance(node.ask(asking(1)), Signature)


def _quietly(node: Raw, request: Sign) -> object:
    try:
        return node.ask(request)
    except OSError:
        return None


@pytest.fixture
def full_disk() -> Iterator[Path]:
    with small_disk("1m") as place:
        yield place


def test_a_full_disk_lets_no_signature_out_until_there_is_space(full_disk: Path) -> None:
    home = signer_home(full_disk)
    with SignerProcess(home) as signer:
        signer.ready()
        with raw(home.signer_socket) as node:
            node.ask(HELLO)
            assert isinstance(node.ask(asking(1)), Signature)
            filler = full_disk / "filler"
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(512))
            answer = node.ask(asking(2))
            assert isinstance(answer, Fault) and "No space left" in answer.cause
        assert signer.ended() == 1
    assert load(home.signing_record).height == 1
    filler.unlink()
    with SignerProcess(home) as again:
        again.ready()
        with raw(home.signer_socket) as node:
            node.ask(HELLO)
            assert isinstance(node.ask(asking(2)), Signature)


def test_a_signer_without_its_record_does_not_start_and_with_an_old_one_is_found_out(home: Home) -> None:
    with SignerProcess(home) as signer:
        signer.ready()
        with raw(home.signer_socket) as node:
            node.ask(HELLO)
            node.ask(asking(7))
            old = home.signing_record.read_bytes()
            node.ask(asking(8))
        assert signer.stop() == 0
    home.signing_record.unlink()
    with SignerProcess(home) as signer:
        assert signer.ended() == 1
    said = signer.log.read_text()
    assert "E-GUARD-002" in said and "restore the newest record" in said
    home.signing_record.write_bytes(old)
    home.signing_record.chmod(0o600)
    with SignerProcess(home) as signer:
        signer.ready()
        with raw(home.signer_socket) as node:
            found = node.ask(HELLO)
    assert isinstance(found, Welcome)
    with pytest.raises(Refused) as caught:  # what a node asks whose chain holds this validator's COMMIT of height 8
        check_not_rolled_back(found.record, 8, 0)
    assert caught.value.code == "E-GUARD-004"


def test_one_signer_a_record_one_node_a_signer(home: Home) -> None:
    with SignerProcess(home) as signer:
        said = signer.ready()
        assert said["socket"] == str(home.signer_socket) and said["chain_id"] == CHAIN
        assert said["public_key"] == KEY.public.hex()
        with SignerProcess(home) as second:
            assert second.ended() == 1
        assert "E-SIGNING-002" in second.log.read_text()
        with raw(home.signer_socket) as node:
            assert isinstance(node.ask(HELLO), Welcome)
            with raw(home.signer_socket) as other:
                answer = other.ask(HELLO)
                assert isinstance(answer, TrothError) and answer.code == "E-SIGNER-002"
            with raw(home.signer_socket) as looking:
                assert isinstance(looking.ask(Status(1)), Report)
            shown = subprocess.run(
                command(home.path, ["signer", "status"]),
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                text=True,
                check=True,
            )
            assert "A node is connected." in shown.stdout
        assert signer.stop() == 0
    assert not home.signer_socket.exists()
