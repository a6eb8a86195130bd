from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consensus.guard import first_record
from ledger.address import address_of
from ledger.errors import Fault, Forbidden, Invalid, Refused, TrothError, Unavailable
from ledger.keys import verify
from node.signer_protocol import Answer, Hello, Report, Sign, Signature, Status, Welcome, decode_answer, encode_request
from node.signer_server import CONNECTIONS_MAX, Patience, SignerServer
from node.signing_record import RecordFile
from tests.consensus_kit import CHAIN, B
from tests.signers import KEY, Raw, commit, guarded_key, raw, signing_home

QUICK = Patience(0.2, 0.2, 5.0)
HELLO = Hello(1, CHAIN)


@asynccontextmanager
async def served(folder: Path, patience: Patience | None = None) -> AsyncIterator[SignerServer]:
    """A signer in this process, its socket beside its record."""
    server = SignerServer(guarded_key(signing_home(folder)), folder / "signing" / "socket", patience)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def talk(
    folder: Path, script: Callable[[Path], object], patience: Patience | None = None
) -> tuple[object, TrothError | None]:
    """What a script of blocking calls on the socket returns, and the fault that stopped the signer."""

    async def scenario() -> tuple[object, TrothError | None]:
        async with served(folder, patience) as server, asyncio.timeout(60):
            return await asyncio.to_thread(script, server.path), server.fault

    return asyncio.run(scenario())


def refusal(answer: Answer | None, kind: type[TrothError], code: str) -> None:
    assert isinstance(answer, kind), answer
    assert answer.code == code


def test_hello_then_signatures(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        with raw(path) as node:
            assert node.ask(HELLO) == Welcome(address_of(KEY.public), KEY.public, first_record(CHAIN))
            for height in (1, 2, 2, 9):
                answer = node.ask(Sign(commit(height)))
                assert isinstance(answer, Signature)
                assert verify(KEY.public, commit(height), answer.signature)
            refusal(node.ask(Sign(commit(9, B))), Refused, "E-GUARD-001")
            refusal(node.ask(Sign(b"a transaction")), Invalid, "E-CONSENSUS-001")
            assert isinstance(node.ask(Sign(commit(10))), Signature)
        with raw(path) as node:
            answer = node.ask(HELLO)
            assert isinstance(answer, Welcome) and answer.record.payload == commit(10)

    assert talk(tmp_path, script) == (None, None)


def test_socket_and_folder_are_the_owners_alone_and_the_socket_goes_with_the_signer(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    before = os.umask(0)
    try:
        talk(tmp_path, script)
    finally:
        os.umask(before)
    assert os.listdir(tmp_path / "signing") == ["record"]
    RecordFile(tmp_path / "signing" / "record").close()  # and so does the lock


@pytest.mark.parametrize(
    ("hello", "kind", "code"),
    [
        (Hello(1, "other-chain"), Refused, "E-SIGNER-003"),
        (Hello(2, CHAIN), Refused, "E-SIGNER-006"),
        (Status(2), Refused, "E-SIGNER-006"),
        (Sign(commit(1)), Invalid, "E-SIGNER-005"),
    ],
)
def test_a_first_request_that_will_not_do_is_answered_and_ends_it(
    tmp_path: Path, hello: Hello | Status | Sign, kind: type[TrothError], code: str
) -> None:
    def script(path: Path) -> None:
        with raw(path) as node:
            refusal(node.ask(hello), kind, code)
            assert node.answer() is None
        with raw(path) as node:
            assert isinstance(node.ask(HELLO), Welcome)

    assert talk(tmp_path, script) == (None, None)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\3\x91\x09\x00",
        encode_request(HELLO) * 2,
        encode_request(HELLO) + encode_request(Status(1)),
    ],
)
def test_garbage_ends_the_connection_with_the_reason_and_harms_nobody(tmp_path: Path, garbage: bytes) -> None:
    def script(path: Path) -> None:
        with raw(path) as stranger:
            stranger.socket.sendall(garbage)
            answer = stranger.answer()
            if isinstance(answer, Welcome):
                answer = stranger.answer()
            refusal(answer, Invalid, "E-SIGNER-005")
            assert stranger.answer() is None
        with raw(path) as node:
            assert isinstance(node.ask(HELLO), Welcome)
            assert isinstance(node.ask(Sign(commit(1))), Signature)

    assert talk(tmp_path, script) == (None, None)


def test_a_second_node_is_refused_while_the_first_is_connected(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        with raw(path) as first:
            assert isinstance(first.ask(HELLO), Welcome)
            with raw(path) as second:
                answer = second.ask(HELLO)
                refusal(answer, Unavailable, "E-SIGNER-002")
                assert isinstance(answer, Unavailable) and str(os.getpid()) in answer.cause
                assert second.answer() is None
            assert isinstance(first.ask(Sign(commit(1))), Signature)
        answer = None
        for _ in range(1000):  # the end of the first may still be on its way
            with raw(path) as third:
                answer = third.ask(HELLO)
            if isinstance(answer, Welcome):
                break
        assert isinstance(answer, Welcome) and answer.record.height == 1

    assert talk(tmp_path, script) == (None, None)


def test_looking_takes_no_place_and_signs_nothing(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        with raw(path) as look:
            assert look.ask(Status(1)) == Report(address_of(KEY.public), KEY.public, first_record(CHAIN), False)
            assert look.answer() is None
        with raw(path) as node:
            node.ask(HELLO)
            node.ask(Sign(commit(3)))
            with raw(path) as look:
                found = look.ask(Status(1))
                assert isinstance(found, Report) and found.busy and found.record.height == 3

    assert talk(tmp_path, script) == (None, None)


@pytest.mark.parametrize("begun", [b"", b"\0", encode_request(HELLO)[:9]])
def test_who_is_silent_before_saying_who_it_is_is_cut_off(tmp_path: Path, begun: bytes) -> None:
    def script(path: Path) -> None:
        with raw(path) as silent:
            silent.socket.sendall(begun)
            assert silent.answer() is None

    assert talk(tmp_path, script, QUICK) == (None, None)


def test_a_node_may_rest_between_requests_but_not_within_one(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        with raw(path) as node, raw(path) as silent:
            assert isinstance(node.ask(HELLO), Welcome)
            assert silent.answer() is None  # so the node has rested for longer than a first request may take
            assert isinstance(node.ask(Sign(commit(1))), Signature)
            node.socket.sendall(encode_request(Sign(commit(2)))[:20])
            assert node.answer() is None

    assert talk(tmp_path, script, QUICK) == (None, None)


def test_connections_are_bounded(tmp_path: Path) -> None:
    def script(path: Path) -> None:
        held = [Raw(path) for _ in range(CONNECTIONS_MAX)]
        assert isinstance(held[0].ask(HELLO), Welcome)
        with raw(path) as more:
            assert more.answer() is None
        assert isinstance(held[0].ask(Sign(commit(1))), Signature)
        for each in held:
            each.socket.close()

    assert talk(tmp_path, script) == (None, None)


def test_a_fault_of_the_disk_is_told_and_stops_the_signer(tmp_path: Path) -> None:
    async def scenario() -> TrothError | None:
        async with served(tmp_path) as server, asyncio.timeout(60):

            def script() -> None:
                with raw(server.path) as node:
                    node.ask(HELLO)
                    shutil.rmtree(tmp_path / "signing")
                    refusal(node.ask(Sign(commit(1))), Fault, "E-SIGNING-001")
                    assert node.answer() is None

            await asyncio.to_thread(script)
            await server.stopping.wait()
            return server.fault

    fault = asyncio.run(scenario())
    assert fault is not None and fault.code == "E-SIGNING-001"


# The socket


async def _nothing(server: SignerServer) -> None:
    assert server.path.is_socket()


def _run(server: SignerServer, act: Callable[[SignerServer], Awaitable[None]] = _nothing) -> None:
    async def scenario() -> None:
        try:
            await server.start()
            await act(server)
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_the_socket_of_a_dead_signer_is_no_obstacle(tmp_path: Path) -> None:
    guarded = guarded_key(signing_home(tmp_path))
    path = tmp_path / "signing" / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    _run(SignerServer(guarded, path))
    assert not path.exists()


def test_nothing_but_a_socket_is_removed(tmp_path: Path) -> None:
    guarded = guarded_key(signing_home(tmp_path))
    path = tmp_path / "signing" / "socket"
    path.write_text("precious")
    with pytest.raises(Refused) as caught:
        _run(SignerServer(guarded, path))
    assert caught.value.code == "E-SIGNER-010"
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "kind", "code"), [("x" * 120, Invalid, "E-SIGNER-009"), ("a/b", Fault, "E-SIGNER-010")]
)
def test_a_socket_that_cannot_be_made_is_said_in_words(
    tmp_path: Path, name: str, kind: type[TrothError], code: str
) -> None:
    guarded = guarded_key(signing_home(tmp_path))
    with pytest.raises(kind) as caught:
        _run(SignerServer(guarded, tmp_path / name))
    assert caught.value.code == code


KNOCK = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
made = socket.socket(socket.AF_UNIX)
made.settimeout(30)
made.connect(sys.argv[1])
sys.stdout.buffer.write(made.recv(4096))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_where_the_modes_would_let_it_in() -> None:
    folder = Path(tempfile.mkdtemp(prefix="troth-"))  # a place that another user can reach, unlike tmp_path
    folder.chmod(0o755)

    def script(path: Path) -> bytes:
        path.parent.chmod(0o755)
        path.chmod(0o666)
        done = subprocess.run([sys.executable, "-I", "-c", KNOCK, str(path)], capture_output=True, check=True)
        return done.stdout

    try:
        answer, _ = talk(folder, script)
    finally:
        shutil.rmtree(folder)
    assert isinstance(answer, bytes)
    refusal(decode_answer(answer[4:]), Forbidden, "E-SIGNER-004")
