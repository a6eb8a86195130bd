from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.guard import Record, advance, encode_record, first_record
from consensus.messages import Kind, Vote, signed_payload
from ledger import codec
from ledger.errors import Fault, Forbidden, Invalid, NotFound, Refused, TrothError, Unavailable
from node.signer_protocol import (
    BUSY,
    MAX_FRAME_BYTES,
    MAX_PATH_BYTES,
    Answer,
    Hello,
    Peer,
    Report,
    Request,
    Sign,
    Signature,
    Status,
    Welcome,
    check_path,
    check_peer,
    check_version,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    peer_of,
    read_body,
)
from tests.consensus_kit import CHAIN, A, address

PAYLOAD = signed_payload(CHAIN, Vote(Kind.COMMIT, 4, 0, A, address(1)))
RECORD: Record = advance(first_record(CHAIN), PAYLOAD)
REQUESTS: list[Request] = [Hello(1, CHAIN), Sign(PAYLOAD), Sign(b""), Status(1)]
ANSWERS: list[Answer] = [
    Welcome(bytes(20), bytes(32), RECORD),
    Signature(bytes(64)),
    Report(bytes(20), bytes(32), first_record(CHAIN), True),
]


def body_of(frame: bytes) -> bytes:
    assert struct.unpack(">I", frame[:4])[0] == len(frame) - 4
    return frame[4:]


@pytest.mark.parametrize("request_", REQUESTS)
def test_requests_come_back_as_they_were(request_: Request) -> None:
    found = decode_request(body_of(encode_request(request_)))
    assert found == request_ and type(found) is type(request_)


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_come_back_as_they_were(answer: Answer) -> None:
    found = decode_answer(body_of(encode_answer(answer)))
    assert found == answer and type(found) is type(answer)


@pytest.mark.parametrize("kind", [Invalid, Refused, Forbidden, Unavailable, Fault])
def test_refusals_come_back_with_class_code_cause_and_fix(kind: type[TrothError]) -> None:
    found = decode_answer(body_of(encode_answer(kind(BUSY, "because", fix="do this"))))
    assert type(found) is kind
    assert (found.code, found.cause, found.fix) == (BUSY, "because", "do this")


def test_a_refusal_of_another_class_is_a_fault_and_its_text_is_cut_and_plain() -> None:
    cause = "a\nb\x07 \udc80 ä " + "x" * 5000
    found = decode_answer(body_of(encode_answer(NotFound(BUSY, cause))))
    assert type(found) is Fault
    assert found.cause.startswith("a b  \\udc80 \\xe4 xx") and len(found.cause) == 1024


def test_a_code_that_this_version_does_not_know_is_told_in_the_cause() -> None:
    found = decode_answer(codec.encode((4, "Refused", "E-LATER-001", "because", "do this")))
    assert isinstance(found, Refused)
    assert (found.code, found.cause, found.fix) == ("E-SIGNER-008", "E-LATER-001 because", "do this")


SHAPES: list[Any] = [
    (),
    1,
    "hello",
    (9,),
    (True, 1, CHAIN),
    (1,),
    (1, 1),
    (1, True, CHAIN),
    (1, 1, b"chain"),
    (1, 1, CHAIN, 1),
    (2,),
    (2, "text"),
    (2, PAYLOAD, 1),
    (3,),
    (3, None),
]


@pytest.mark.parametrize("fields", SHAPES)
def test_what_is_no_request_is_refused(fields: Any) -> None:
    with pytest.raises(Invalid) as caught:
        decode_request(codec.encode(fields))
    assert caught.value.code == "E-SIGNER-005"


@pytest.mark.parametrize(
    "fields",
    [
        (1, bytes(20), bytes(32)),
        (1, bytes(19), bytes(32), encode_record(RECORD)),
        (1, bytes(20), bytes(33), encode_record(RECORD)),
        (1, bytes(20), bytes(32), bytes(1025)),
        (1, bytes(20), bytes(32), encode_record(RECORD), True),
        (3, bytes(20), bytes(32), encode_record(RECORD)),
        (3, bytes(20), bytes(32), encode_record(RECORD), 1),
        (2, bytes(63)),
        (4, "SystemExit", "E-SIGNER-001", "", ""),
        (4, "Fault", "E-SIGNER-001", ""),
        (5,),
    ],
)
def test_what_is_no_answer_is_refused(fields: Any) -> None:
    with pytest.raises(Invalid) as caught:
        decode_answer(codec.encode(fields))
    assert caught.value.code == "E-SIGNER-005"


@pytest.mark.parametrize("record", [b"", encode_record(RECORD)[:-1] + b"\0"])
def test_a_record_that_is_none_is_a_fault(record: bytes) -> None:
    with pytest.raises(Fault) as caught:
        decode_answer(codec.encode((1, bytes(20), bytes(32), record)))
    assert caught.value.code in ("E-GUARD-002", "E-GUARD-003")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for decode in (decode_request, decode_answer):
        try:
            decode(data)
        except Invalid as error:
            assert error.code == "E-SIGNER-005"
        except Fault as error:
            assert error.code in ("E-GUARD-002", "E-GUARD-003")


def test_no_frame_is_longer_than_the_limit() -> None:
    with pytest.raises(Invalid) as caught:
        encode_request(Sign(bytes(MAX_FRAME_BYTES)))
    assert caught.value.code == "E-SIGNER-005"
    assert len(encode_answer(Fault(BUSY, "c" * 9000, fix="f" * 9000))) <= MAX_FRAME_BYTES + 4


# Reading


def read(*chunks: bytes, end: bool = True, patience: float = 30.0) -> list[bytes | None]:
    async def scenario() -> list[bytes | None]:
        stream = asyncio.StreamReader()
        for chunk in chunks:
            stream.feed_data(chunk)
        if end:
            stream.feed_eof()
        found: list[bytes | None] = []
        while not found or found[-1] is not None:
            found.append(await read_body(stream, patience))
        return found

    return asyncio.run(scenario())


def test_frames_are_read_one_after_the_other_until_the_end() -> None:
    frames = b"".join(encode_request(request) for request in REQUESTS)
    assert [None if body is None else decode_request(body) for body in read(frames)] == [*REQUESTS, None]
    assert read(*[bytes([byte]) for byte in frames])[-1] is None


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_refused_before_its_body_comes(length: int) -> None:
    with pytest.raises(Invalid) as caught:
        read(struct.pack(">I", length), end=False)
    assert caught.value.code == "E-SIGNER-005"


@pytest.mark.parametrize("cut", [1, 3, 4, 10])
def test_a_frame_that_breaks_off_is_a_lost_connection(cut: int) -> None:
    with pytest.raises(ConnectionResetError):
        read(encode_request(Hello(1, CHAIN))[:cut])


@pytest.mark.parametrize("cut", [1, 4, 10])
def test_the_rest_of_a_frame_has_a_limit_of_time(cut: int) -> None:
    with pytest.raises(TimeoutError):
        read(encode_request(Hello(1, CHAIN))[:cut], end=False, patience=0.01)


# Who and where


def test_the_kernel_names_the_process_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert peer == Peer(os.getpid(), os.geteuid())
    check_peer(peer)
    with pytest.raises(Forbidden) as caught:
        check_peer(Peer(1, os.geteuid() + 1))
    assert caught.value.code == "E-SIGNER-004"


def test_one_version_is_spoken() -> None:
    check_version(1)
    for other in (0, 2, -1):
        with pytest.raises(Refused) as caught:
            check_version(other)
        assert caught.value.code == "E-SIGNER-006"


def test_the_longest_path_can_be_bound_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * (MAX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1))
    check_path(longest)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(longest))
    with pytest.raises(Invalid) as caught:
        check_path(longest.with_name(longest.name + "x"))
    assert caught.value.code == "E-SIGNER-009"
