from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from consensus.guard import Record, first_record
from ledger.address import address_of
from ledger.errors import Fault, Invalid, Refused, TrothError, Unavailable
from ledger.keys import PrivateKey, verify
from node.signer import Signer
from node.signer_client import Patience, RemoteSigner, ask_status
from node.signer_protocol import Answer, Signature, Welcome, encode_answer
from node.signer_server import SignerServer
from tests.consensus_kit import CHAIN, B
from tests.signers import KEY, OTHER_KEY, claim, commit, guarded_key, signing_home

BRIEF = Patience(answer_seconds=30.0, whole_seconds=0.3, pause_seconds=0.01, pause_most_seconds=0.05)
PATIENT = Patience(answer_seconds=30.0, whole_seconds=30.0, pause_seconds=0.001, pause_most_seconds=0.01)


class Place:
    """A folder with a record, where a signer can be started and stopped."""

    def __init__(self, folder: Path) -> None:
        self.record = signing_home(folder)
        self.socket = self.record.with_name("socket")
        self._server: SignerServer | None = None

    async def start(self, key: PrivateKey = KEY) -> None:
        self._server = SignerServer(guarded_key(self.record, key), self.socket)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def open(self, patience: Patience = PATIENT, chain: str = CHAIN) -> RemoteSigner:
        return await RemoteSigner.open(self.socket, chain, patience)


def run(folder: Path, scenario: Callable[[Place], Awaitable[None]]) -> Place:
    """Runs a scenario at a place whose signer has been started."""
    place = Place(folder)

    async def bounded() -> None:
        await place.start()
        try:
            async with asyncio.timeout(60):
                await scenario(place)
        finally:
            await place.stop()

    asyncio.run(bounded())
    return place


async def refused(awaited: Awaitable[object], kind: type[TrothError], code: str) -> TrothError:
    with pytest.raises(kind) as caught:
        await awaited
    assert caught.value.code == code
    return caught.value


def test_it_signs_like_a_local_one(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer: Signer = await place.open()
        assert (signer.address, signer.public_key) == (address_of(KEY.public), KEY.public)
        assert signer.record() == first_record(CHAIN)
        for asked in (commit(1), commit(1), claim(2, 3), commit(2, round_=3)):
            assert verify(KEY.public, asked, await signer.sign(asked))
            assert signer.record().payload == asked
        await refused(signer.sign(commit(2, B, 3)), Refused, "E-GUARD-001")
        await refused(signer.sign(commit(3, chain="other-chain")), Refused, "E-GUARD-001")
        await refused(signer.sign(b"a transaction"), Invalid, "E-CONSENSUS-001")
        await refused(signer.sign(bytes(5000)), Invalid, "E-SIGNER-005")
        assert await signer.sign(commit(3))
        await signer.close()

    run(tmp_path, scenario)


def test_many_who_ask_at_once_are_served_in_their_order(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open()
        asked = [signer.sign(commit(height)) for height in (1, 2, 5, 4, 5, 6)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [bytes, bytes, bytes, Refused, bytes, bytes]
        await signer.close()

    run(tmp_path, scenario)


def test_a_signer_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open()
        await signer.sign(commit(1))
        await place.stop()
        waiting = asyncio.create_task(signer.sign(commit(2)))
        await asyncio.sleep(0)
        await place.start()
        assert verify(KEY.public, commit(2), await waiting)
        assert signer.record().height == 2
        await signer.close()

    run(tmp_path, scenario)


def test_a_signer_that_is_away_is_waited_for_once_and_then_tried_once_a_request(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open(BRIEF)
        await place.stop()
        error = await refused(signer.sign(commit(1)), Unavailable, "E-SIGNER-001")
        assert str(place.socket) in error.cause and "troth signer start" in error.fix
        attempts = 0

        async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            writer.close()

        deaf = await asyncio.start_unix_server(counting, place.socket)
        for number in range(1, 4):
            await refused(signer.sign(commit(1)), Unavailable, "E-SIGNER-001")
            assert attempts == number
        deaf.close()
        await place.start()
        assert await signer.sign(commit(1))  # and whole patience from here on
        await signer.close()

    run(tmp_path, scenario)


def test_no_signer_at_all_is_said_in_words(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.stop()
        for awaited in (place.open(BRIEF), ask_status(place.socket, BRIEF)):
            error = await refused(awaited, Unavailable, "E-SIGNER-001")
            assert "No such file" in error.cause

    run(tmp_path, scenario)


def test_a_second_node_waits_for_the_first_to_go(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        first = await place.open()
        await refused(place.open(BRIEF), Unavailable, "E-SIGNER-002")
        waiting = asyncio.create_task(place.open())
        await asyncio.sleep(0)
        assert await first.sign(commit(1))
        await first.close()
        second = await waiting
        assert second.record().height == 1
        await second.close()

    run(tmp_path, scenario)


def test_a_signer_of_another_chain_is_refused_at_once(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await refused(place.open(chain="other-chain"), Refused, "E-SIGNER-003")

    run(tmp_path, scenario)


def test_a_signer_whose_record_was_rolled_back_is_asked_nothing_more(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open()
        await signer.sign(commit(1))
        old = place.record.read_bytes()
        await signer.sign(commit(2))
        await place.stop()
        place.record.write_bytes(old)
        await place.start()
        for _ in range(2):
            await refused(signer.sign(commit(3)), Refused, "E-GUARD-004")
        assert (await ask_status(place.socket)).record.height == 1

    run(tmp_path, scenario)


def test_a_signer_with_another_key_is_asked_nothing_more(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open()
        await place.stop()
        await place.start(OTHER_KEY)
        await refused(signer.sign(commit(1)), Fault, "E-SIGNER-007")
        assert (await ask_status(place.socket)).record.height == 0

    run(tmp_path, scenario)


def test_a_request_that_was_given_up_never_answers_another(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        signer = await place.open()
        for height in range(1, 40):
            gone = asyncio.create_task(signer.sign(commit(height)))
            for _ in range(height % 8):
                await asyncio.sleep(0)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            assert verify(KEY.public, commit(height), await signer.sign(commit(height)))
        await signer.close()

    run(tmp_path, scenario)


def test_status(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        assert not (await ask_status(place.socket)).busy
        signer = await place.open()
        await signer.sign(commit(5))
        found = await ask_status(place.socket)
        assert found.busy and found.record.height == 5 and found.public_key == KEY.public
        await signer.close()

    run(tmp_path, scenario)


# Signers that are none

WELCOME = Welcome(address_of(KEY.public), KEY.public, first_record(CHAIN))


def impostor(folder: Path, *answers: Answer | bytes, patience: Patience = PATIENT) -> tuple[TrothError, Record | None]:
    """What asking for COMMIT 1 ends with where the socket's other end just says `answers`, one for each request."""
    path = folder / "socket"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    for answer in answers:
                        if not connection.recv(4096):
                            break
                        connection.sendall(answer if isinstance(answer, bytes) else encode_answer(answer))
                    else:
                        connection.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    held: list[RemoteSigner] = []

    async def scenario() -> None:
        async with asyncio.timeout(60):
            held.append(await RemoteSigner.open(path, CHAIN, patience))
            await held[0].sign(commit(1))

    try:
        with pytest.raises(TrothError) as caught:
            asyncio.run(scenario())
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(30)
    return caught.value, held[0].record() if held else None


def test_a_signature_of_another_key_or_of_other_bytes_is_not_handed_on(tmp_path: Path) -> None:
    for number, signature in enumerate((OTHER_KEY.sign(commit(1)), KEY.sign(commit(1, B)), bytes(64))):
        folder = tmp_path / str(number)
        folder.mkdir()
        error, record = impostor(folder, WELCOME, Signature(signature))
        assert (type(error), error.code) == (Fault, "E-SIGNER-007")
        assert record == first_record(CHAIN)


@pytest.mark.parametrize(
    ("answers", "kind", "code"),
    [
        ((Signature(bytes(64)),), Invalid, "E-SIGNER-005"),
        ((WELCOME._replace(address=bytes(20)),), Invalid, "E-SIGNER-005"),
        ((WELCOME._replace(record=first_record("other-chain")),), Refused, "E-SIGNER-003"),
        ((WELCOME, WELCOME), Fault, "E-SIGNER-007"),
        ((WELCOME, b"\0\0\0\3abc"), Invalid, "E-SIGNER-005"),
        ((WELCOME, b"\xff\xff\xff\xff"), Invalid, "E-SIGNER-005"),
        ((b"HTTP/1.1 400 Bad Request",), Invalid, "E-SIGNER-005"),
    ],
)
def test_nonsense_is_an_error_and_not_tried_again(
    tmp_path: Path, answers: tuple[Answer | bytes, ...], kind: type[TrothError], code: str
) -> None:
    error, _ = impostor(tmp_path, *answers)
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize("answers", [(b"",), (b"\0\0",), (WELCOME, b"\0\0\0\x44\x92")])
def test_an_answer_that_does_not_come_has_a_limit_of_time(tmp_path: Path, answers: tuple[Answer | bytes, ...]) -> None:
    error, _ = impostor(tmp_path, *answers, patience=BRIEF._replace(answer_seconds=0.3))
    assert (type(error), error.code) == (Unavailable, "E-SIGNER-001")
