"""The client's errors, against a server of canned bytes: what a broken network or a foreign server may answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.client import NodeClient
from ledger.errors import Fault, Forbidden, Invalid, NotFound, Refused, TrothError, Unavailable, VerifyFailed


def http(status: int, body: bytes, kind: str = "application/json", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def problem(status: int, code: str = "E-ANY-001") -> bytes:
    content = {"title": "a title", "code": code, "cause": "the cause", "fix": "the fix", "status": status}
    return http(status, json.dumps(content).encode(), "application/problem+json")


@contextmanager
def server(*connections: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Accepts one connection for each list, answers its requests in turn, then closes it. Yields URL and requests."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answers in connections:
                connection, _ = listener.accept()
                with connection:
                    for answer in answers:
                        data = b""
                        while b"\r\n\r\n" not in data:
                            part = connection.recv(65536)
                            if not part:
                                return
                            data += part
                        seen.append(data)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        thread.join(10)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, Invalid),
        (403, Forbidden),
        (404, NotFound),
        (409, Refused),
        (413, Invalid),
        (422, VerifyFailed),
        (429, Unavailable),
        (500, Fault),
        (503, Unavailable),
    ],
)
def test_a_problem_becomes_the_error_it_describes(status: int, cls: type[TrothError]) -> None:
    with server([problem(status)]) as (url, _), NodeClient(url) as client, pytest.raises(cls) as caught:
        client.chain()
    error = caught.value
    assert (error.code, error.title, error.cause, error.fix) == ("E-ANY-001", "a title", "the cause", "the fix")
    assert str(error) == "E-ANY-001 the cause; the fix"


def test_an_error_that_is_no_problem_document_names_the_status() -> None:
    page = http(502, b"<html>", "text/html")
    with server([page]) as (url, _), NodeClient(url) as client, pytest.raises(Unavailable) as caught:
        client.get("/chain")
    assert caught.value.code == "E-CLIENT-004"
    assert "HTTP status 502" in caught.value.cause


@pytest.mark.parametrize("answer", [http(200, b"hello"), http(200, b"[1]"), http(200, b"{}")])
def test_an_answer_of_something_else_is_a_fault(answer: bytes) -> None:
    with server([answer]) as (url, _), NodeClient(url) as client, pytest.raises(Fault, match="E-CLIENT-002"):
        client.chain()


def test_bytes_must_come_as_bytes() -> None:
    json_instead = http(200, b"{}")
    with server([json_instead]) as (url, _), NodeClient(url) as client, pytest.raises(Fault, match="not application/o"):
        client.get_bytes("/export")


def test_nobody_listening_is_unavailable_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with NodeClient(f"127.0.0.1:{port}") as client, pytest.raises(Unavailable) as caught:
        client.chain()
    assert caught.value.code == "E-CLIENT-001"
    assert caught.value.exit_code == 6
    assert f"http://127.0.0.1:{port}" in caught.value.cause


def test_a_silent_node_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with NodeClient(url, timeout_seconds=0.1) as client, pytest.raises(Unavailable, match="did not answer in time"):
            client.chain()


def test_an_answer_cut_short_is_unavailable() -> None:
    cut = b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{"
    with server([cut]) as (url, _), NodeClient(url) as client, pytest.raises(Unavailable, match="E-CLIENT-001"):
        client.chain()


def test_one_connection_is_kept() -> None:
    good = http(200, b'{"chain_id": "dev"}')
    with server([good, good]) as (url, seen), NodeClient(url) as client:
        client.chain()
        client.chain()
    assert len(seen) == 2


def test_a_kept_connection_that_was_closed_is_opened_again() -> None:
    good = http(200, b'{"chain_id": "dev"}')
    with server([good], [good]) as (url, seen), NodeClient(url) as client:
        client.chain()
        assert client.chain() == {"chain_id": "dev"}
    assert len(seen) == 2


def test_query_arguments_are_encoded_and_none_is_left_out() -> None:
    with server([http(200, b"{}")]) as (url, seen), NodeClient(f"{url}/prefix/") as client:
        client.state("points", "account", ["beans", "a&b"])
    assert seen[0].startswith(b"GET /prefix/v1/state/points/account?key=%5B%22beans%22%2C+%22a%26b%22%5D HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://user@host", "http://host/?a=1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="E-CLIENT-003"):
        NodeClient(url)


def test_a_submission_needs_one_result_for_each_transaction() -> None:
    none = http(200, b'{"results": []}')
    with server([none]) as (url, _), NodeClient(url) as client, pytest.raises(Fault, match="one result for each"):
        client.submit([b"x"], wait_seconds=None)
