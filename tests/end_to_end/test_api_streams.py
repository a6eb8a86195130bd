"""Event streams without gaps, and connections that nobody can hold on to for ever."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from tests.end_to_end.nodes import NodeProcess
from tests.end_to_end.requests import call, create, get, mint, signed, submit

_PATIENCE = 30.0
"""Seconds after which a test fails that should have been answered or cut off long before."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with a programme of points; it cuts slow clients off after less than a second."""
    with NodeProcess.create(
        tmp_path_factory.mktemp("node"),
        settings={
            "node.workers": 1,
            "api.header_timeout_ms": 400,
            "api.body_timeout_ms": 400,
            "api.idle_timeout_ms": 600,
            "api.body_bytes": 1 << 20,
        },
    ) as started:
        submit(started, signed("roaster", create()).raw)
        yield started


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that bears five connections of one address, and lets them rest long, but not before their first head."""
    with NodeProcess.create(
        tmp_path_factory.mktemp("narrow"),
        settings={"node.workers": 1, "api.connections_per_address": 5, "api.header_timeout_ms": 400},
    ) as started:
        yield started


def _height(node: NodeProcess) -> int:
    height: int = get(node, "/v1/chain").json["height"]
    return height


# Events


class _Event(NamedTuple):
    height: int
    data: dict[str, Any]


class _Stream:
    """An open event stream."""

    def __init__(self, node: NodeProcess, query: str = "", last: int | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=_PATIENCE)
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._connection.request("GET", f"/v1/stream{query}", headers=headers)
        self.response = self._connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["Content-Type"].startswith("text/event-stream")
        assert self.response.readline() == b"retry: 1000\n" and self.response.readline() == b"\n"

    def next(self) -> _Event:
        fields: dict[str, str] = {}
        while line := self.response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        assert fields["event"] == "block"
        data = json.loads(fields["data"])
        assert data["height"] == int(fields["id"])
        return _Event(int(fields["id"]), data)

    def close(self) -> None:
        self._connection.close()


def test_a_stream_tells_of_each_block_as_it_becomes_final(node: NodeProcess) -> None:
    with closing(_Stream(node)) as stream:
        before = _height(node)
        made = signed("roaster", mint("alice", 5))
        submit(node, made.raw)
        event = stream.next()
        assert event.height == before + 1
        block = get(node, f"/v1/blocks/{event.height}").json
        assert (event.data["block_id"], event.data["time_ms"]) == (block["block_id"], block["header"]["time_ms"])
        [transaction] = event.data["transactions"]
        assert (transaction["id"], transaction["code"]) == (made.id.hex(), None)
        assert [each["name"] for each in transaction["events"]] == ["Minted"]


def test_a_stream_resumes_without_gap_or_repetition(node: NodeProcess) -> None:
    start = _height(node)
    seen: list[int] = []
    sent: list[str] = []
    told: list[str] = []
    for turn in range(4):  # each time a little is read, then the connection is lost while blocks go on
        with closing(_Stream(node, last=seen[-1] if seen else start)) as stream:
            for number in range(3):
                made = signed("roaster", mint("alice", 1))
                submit(node, made.raw)
                sent.append(made.id.hex())
                if number < 1 + turn % 2:
                    event = stream.next()
                    seen.append(event.height)
                    told += [each["id"] for each in event.data["transactions"]]
    with closing(_Stream(node, last=seen[-1])) as stream:
        while len(told) < len(sent):
            event = stream.next()
            seen.append(event.height)
            told += [each["id"] for each in event.data["transactions"]]
    assert told == sent
    assert seen == list(range(start + 1, seen[-1] + 1))


def test_a_stream_from_the_beginning_tells_everything(node: NodeProcess) -> None:
    top = _height(node)
    with closing(_Stream(node, "?after=0")) as stream:
        events = [stream.next() for _ in range(top)]
    assert [event.height for event in events] == list(range(1, top + 1))
    told = sum(len(event.data["transactions"]) for event in events)
    assert told == get(node, "/v1/chain").json["transactions"]


def test_a_stream_of_one_contract(node: NodeProcess) -> None:
    after = _height(node)
    product = call("certificate.define_product", "04006381333931", "Beans", bytes(32))
    submit(node, signed("roaster", mint("alice", 1)).raw)
    submit(node, signed("roaster", product).raw)
    with closing(_Stream(node, f"?contract=certificate&after={after}")) as stream:
        first, second = stream.next(), stream.next()
    assert (first.height, first.data["transactions"]) == (after + 1, [])
    assert [each["contract"] for each in second.data["transactions"][0]["events"]] == ["certificate"]


# Slow clients


def _connect(node: NodeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=_PATIENCE)


def _until_closed(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection. Fails where it does not."""
    received = b""
    try:
        while data := connection.recv(65_536):
            received += data
    except ConnectionResetError:
        pass
    return received


def _drip(connection: socket.socket, data: bytes) -> bool:
    """Sends byte by byte, as slowly as 50 ms each; whether it was cut off on the way."""
    connection.settimeout(0.05)
    try:
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            try:
                if not connection.recv(65_536):
                    return True
            except TimeoutError:
                continue
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_a_silent_client_is_cut_off(narrow: NodeProcess) -> None:
    with _connect(narrow) as connection:
        assert _until_closed(connection) == b""
    assert get(narrow, "/health/live").status == 200


def test_half_a_head_is_cut_off(narrow: NodeProcess) -> None:
    with _connect(narrow) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\nX-More: ")
        assert _until_closed(connection) == b""


def test_a_dripping_head_is_cut_off(narrow: NodeProcess) -> None:
    with _connect(narrow) as connection:
        assert _drip(connection, b"GET /health/live HTTP/1.1\r\nHost: node\r\nX-More: " + b"x" * 500)


def test_a_stalled_body_is_answered_and_cut_off(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\nhalf of it")
        received = _until_closed(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and json.loads(body)["code"] == "E-API-003"


def test_a_stalled_chunked_body_is_answered_and_cut_off(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(
            b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf "
        )
        received = _until_closed(connection)
    assert b"E-API-003" in received


def test_a_dripping_body_is_cut_off(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Length: 100000\r\n\r\n")
        assert _drip(connection, b"x" * 500)


def test_a_resting_connection_is_closed(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
        received = _until_closed(connection)
    assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(b'{"status":"live"}')


def test_a_dripping_second_head_is_cut_off(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert _drip(connection, b"GET /health/live HTTP/1.1\r\nHost: node\r\nX-More: " + b"x" * 500)


def test_a_slow_second_body_is_cut_off(node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\nhalf of it")
        assert b"E-API-003" in _until_closed(connection)


def test_an_endless_head_is_refused(node: NodeProcess) -> None:
    with _connect(node) as connection:
        try:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n")
            for number in range(20_000):
                connection.sendall(b"X-Header-%d: %s\r\n" % (number, b"x" * 100))
        except (ConnectionResetError, BrokenPipeError):
            pass
        else:
            assert _until_closed(connection)[:12] in (b"", b"HTTP/1.1 400")
    assert get(node, "/health/live").status == 200


@pytest.mark.parametrize(
    "request_bytes", [b"\x16\x03\x01\x02\x00\x01\x00", b"HELO node\r\n\r\n", b"\0" * 1_000, b"GET / HTTP/9.9\r\n\r\n"]
)
def test_garbage_is_refused(request_bytes: bytes, node: NodeProcess) -> None:
    with _connect(node) as connection:
        connection.sendall(request_bytes)
        assert _until_closed(connection)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400")
    assert get(node, "/health/live").status == 200


def test_many_slow_clients_hinder_nobody(node: NodeProcess) -> None:
    held = [_connect(node) for _ in range(40)]
    try:
        for index, connection in enumerate(held):
            connection.sendall(b"POST /v1/transactions HTTP/1.1\r\nHost: node\r\n"[: 5 + index])
        [result] = submit(node, signed("roaster", mint("alice", 1)).raw)
        assert result["receipt"]["ok"]
        assert [_until_closed(connection) for connection in held] == [b""] * 40
    finally:
        for connection in held:
            connection.close()


# Many connections


def _live(connection: socket.socket) -> bool:
    """Whether a request on this connection is answered."""
    try:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n")
        return connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    except (ConnectionResetError, BrokenPipeError):
        return False


def test_one_address_holds_so_many_connections(narrow: NodeProcess) -> None:
    held: list[socket.socket] = []
    try:
        while len(held) < 20:
            connection = _connect(narrow)
            held.append(connection)
            if not _live(connection):
                break
        assert len(held) == 6  # the sixth was cut off
        assert all(_live(connection) for connection in held[:5])
        held.pop(0).close()
        again = None
        while again is None:  # the node hears of the end a moment later
            candidate = _connect(narrow)
            if _live(candidate):
                again = candidate
            else:
                candidate.close()
        held.append(again)
    finally:
        for connection in held:
            connection.close()
