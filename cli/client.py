"""The HTTP API as a small synchronous client: one kept-alive connection, the errors of the API as Troth's own.

Rules kept here:
- a node that cannot be reached, or answers too late, is Unavailable (exit code 6) with its address;
- a problem document (RFC 9457) becomes the error that it describes, with its code, cause and fix, in the class that
  its HTTP status stands for;
- a request is sent again once where a kept-alive connection turns out to have been closed. That is safe: a read
  changes nothing, and a transaction takes effect once, however often it arrives;
- an answer is read up to a bound, whatever the node claims.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from ledger import codec
from ledger.errors import (
    Fault,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TrothError,
    Unavailable,
    VerifyFailed,
    define,
)

UNREACHABLE = define("E-CLIENT-001", "the node cannot be reached", "start it: troth dev; or name another with --node")
BAD_ANSWER = define(
    "E-CLIENT-002", "the answer is not that of a Troth node", "check the address; the node may be of another version"
)
BAD_ADDRESS = define("E-CLIENT-003", "not the address of a node", "give one such as http://127.0.0.1:8700")
NODE_ERROR = define("E-CLIENT-004", "the node answered with an error", "see the node's log")
NOT_FINAL = define("E-CLIENT-005", "not final in time", "ask again: troth tx why ID; sending it again does no harm")

JSON, BYTES = "application/json", "application/octet-stream"
ANSWER_BYTES_MAX = 256 << 20

_CLASSES: dict[int, type[TrothError]] = {
    cls.http_status: cls for cls in (Invalid, Refused, Forbidden, NotFound, VerifyFailed, Unavailable, Fault)
}
_BUSY = (408, 425, 429, 502, 503, 504)
_CLOSED = (http.client.RemoteDisconnected, http.client.CannotSendRequest, ConnectionResetError, BrokenPipeError)


class Answer(NamedTuple):
    """An HTTP answer: status, content type without parameters, body."""

    status: int
    content_type: str
    body: bytes


class NodeClient:
    """One node's API. `url` is its address without `/v1`; `timeout_seconds` bounds each wait for the node.

    Raises Invalid (E-CLIENT-003) for an address that is none.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 15.0) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise Invalid(BAD_ADDRESS, f"{url!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise Invalid(BAD_ADDRESS, f"{url!r} is not http(s)://HOST:PORT")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.timeout_seconds = timeout_seconds
        self._secure = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname, port, parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; a later request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of `GET /v1{path}`. Query arguments that are None are left out. Raises TrothError."""
        return self._json(self.request("GET", path, query=query))

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """The bytes of `GET /v1{path}`, asked for as application/octet-stream. Raises TrothError."""
        answer = self.request("GET", path, query=query, accept=BYTES)
        if answer.content_type != BYTES:
            self._strange(f"{path} is {answer.content_type or 'of no type'}, not {BYTES}")
        return answer.body

    def post(self, path: str, body: Any, *, wait_seconds: float = 0.0, **query: Any) -> Any:
        """The JSON of `POST /v1{path}`; bytes are sent as they are, anything else as JSON.

        `wait_seconds` is how long the node may take longer than usual. Raises TrothError.
        """
        raw = body if type(body) is bytes else json.dumps(body).encode()
        kind = BYTES if type(body) is bytes else JSON
        return self._json(self.request("POST", path, query=query, body=raw, kind=kind, wait_seconds=wait_seconds))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: bytes | None = None,
        kind: str = JSON,
        accept: str = JSON,
        wait_seconds: float = 0.0,
    ) -> Answer:
        """A good answer (2xx). Raises TrothError: the one of a problem document, or E-CLIENT-001, -002."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._prefix}/v1{path}{'?' + urlencode(given) if given else ''}"
        headers = {"Accept": f"{accept}, application/problem+json"}
        if body is not None:
            headers["Content-Type"] = kind
        answer = self._exchange(method, target, body, headers, self.timeout_seconds + wait_seconds)
        if 200 <= answer.status < 300:
            return answer
        raise self._problem(answer, path)

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Answer:
        kept = self._connection is not None
        try:
            return self._once(method, target, body, headers, timeout)
        except _CLOSED as error:
            self.close()
            if not kept:
                self._unreachable(error)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self._unreachable(error)
        try:
            return self._once(method, target, body, headers, timeout)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self._unreachable(error)

    def _once(self, method: str, target: str, body: bytes | None, headers: dict[str, str], timeout: float) -> Answer:
        if self._connection is None:
            maker = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = maker(self._host, self._port, timeout=timeout)
        connection = self._connection
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX + 1)
        if len(data) > ANSWER_BYTES_MAX:
            self.close()
            self._strange(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        if response.length:  # http.client tells a cut answer only where no bound is given to `read`
            raise http.client.IncompleteRead(data, response.length)
        if response.will_close:
            self.close()
        return Answer(response.status, response.headers.get_content_type(), data)

    def _json(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            self._strange(f"{len(answer.body)} bytes of {answer.content_type}, which are not JSON")

    def _problem(self, answer: Answer, path: str) -> TrothError:
        try:
            problem = json.loads(answer.body)
        except (ValueError, RecursionError):
            problem = None
        cls = _CLASSES.get(answer.status)
        if cls is None:
            cls = Unavailable if answer.status in _BUSY else Invalid if answer.status < 500 else Fault
        if type(problem) is not dict or type(problem.get("code")) is not str:
            return cls(NODE_ERROR, f"{self.url} answered {path} with HTTP status {answer.status}")
        return described_error(cls, problem)

    def _strange(self, what: str) -> NoReturn:
        raise Fault(BAD_ANSWER, f"{self.url}: {what}")

    def _unreachable(self, error: Exception) -> NoReturn:
        if isinstance(error, TimeoutError | socket.timeout):
            raise Unavailable(UNREACHABLE, f"{self.url} did not answer in time", fix="try again later") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unavailable(UNREACHABLE, f"cannot reach the node at {self.url}: {reason}") from None

    # The parts of the API that several commands use

    def chain(self) -> dict[str, Any]:
        """`GET /v1/chain`: the head, the validators and the parameters."""
        found = self.get("/chain")
        if type(found) is not dict or "chain_id" not in found:
            self._strange("/chain is not the description of a chain")
        return found

    def node(self) -> dict[str, Any]:
        """`GET /v1/node`: the node's height, round, peers and lag."""
        found = self.get("/node")
        if type(found) is not dict or type(found.get("peers")) is not list:
            self._strange("/node is not the description of a node")
        return found

    def view(self, contract: str, view: str, arguments: dict[str, Any], *, height: int | None = None) -> Any:
        """What a view returns, in its JSON form. `arguments` are in theirs."""
        return self.post(f"/contracts/{contract}/views/{view}", arguments, height=height)["value"]

    def state(
        self, contract: str, cell_map: str, key: Sequence[Any], *, height: int | None = None, proof: bool = False
    ) -> dict[str, Any]:
        """One cell, `key` being its parts in their JSON form; with `proof`, what proves it."""
        found: dict[str, Any] = self.get(
            f"/state/{contract}/{cell_map}", key=json.dumps(list(key)), height=height, proof=1 if proof else None
        )
        return found

    def transaction(self, identifier: bytes, *, proof: bool = False) -> dict[str, Any]:
        """What the node knows of a transaction. Raises NotFound."""
        found: dict[str, Any] = self.get(f"/transactions/{quote(identifier.hex())}", proof=1 if proof else None)
        return found

    def submit(self, raws: Sequence[bytes], *, wait_seconds: float | None) -> list[dict[str, Any]]:
        """Sends signed transactions; with `wait_seconds`, waits so long for their end. One result each, in order."""
        found = self.post(
            "/transactions",
            codec.encode(tuple(raws)),
            wait_seconds=wait_seconds or 0.0,
            wait=None if wait_seconds is None else "final",
            timeout_ms=None if wait_seconds is None else int(wait_seconds * 1000),
        )
        results = found.get("results") if type(found) is dict else None
        if type(results) is not list or len(results) != len(raws):
            self._strange("not one result for each transaction")
        return results

    def simulate(self, raw: bytes) -> dict[str, Any]:
        """The receipt that a signed transaction would have now. Nothing changes."""
        receipt: dict[str, Any] = self.post("/transactions/simulate", {"transaction": raw.hex()})["receipt"]
        return receipt


def described_error(cls: type[TrothError], described: dict[str, Any]) -> TrothError:
    """An error that a node describes by code, title, cause and fix, whether this program knows the code or not."""
    cause = str(described.get("cause") or described.get("detail") or described.get("title") or "no cause was given")
    error = cls(NODE_ERROR, cause, fix=str(described.get("fix") or "see the node's log"))
    error.code = str(described["code"])
    error.title = str(described.get("title") or error.title)
    return restated(error)


def restated(error: TrothError, cause: str | None = None, fix: str | None = None) -> TrothError:
    """The same error, its cause or fix said in the words of the command that met it."""
    error.cause = error.cause if cause is None else cause
    error.fix = error.fix if fix is None else fix
    error.args = (f"{error.code} {error.cause}; {error.fix}",)
    return error
