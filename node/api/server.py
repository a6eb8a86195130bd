"""The HTTP server: routes, limits, problem details.

Every error is an RFC 9457 problem (`application/problem+json`) with the members code, title, cause and fix besides
the standard ones. A defect answers 500 without details and is logged with them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from ledger.errors import Fault, Invalid, TrothError, Unavailable, define
from node.api.guard import ConnectionGuard
from node.api.render import error_json

if TYPE_CHECKING:
    from node.service import Node

BAD_REQUEST = define("E-API-001", "the request is malformed", "see the API's description: GET /openapi.json")
NOT_FOUND = define("E-API-002", "no such resource", "see the API's description: GET /openapi.json")
TOO_SLOW = define("E-API-003", "the request body came too slowly", "send it in one go")
TOO_LARGE = define("E-API-004", "the request body is too large", "send fewer transactions at a time")
INTERNAL = define(
    "E-API-005", "the node failed to answer", "look at the node's log; report it if the log shows a traceback"
)
BUSY = define("E-API-006", "too many event streams", "close other streams, or ask again later")

LINGER_SECONDS = 1.0
"""How long the rest of a refused body is read before the connection ends, so that the answer is seen."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NODE: web.AppKey[Any] = web.AppKey("node")


class ApiLimits(NamedTuple):
    """Bounds of the API. Times in seconds, sizes in bytes."""

    body_bytes: int = 8 << 20
    batch: int = 1_000
    connections: int = 1_000
    connections_per_address: int = 256
    head_seconds: float = 10
    body_seconds: float = 20
    keepalive_seconds: float = 60
    streams: int = 200
    wait_seconds_max: float = 60


LIMITS = web.AppKey("limits", ApiLimits)


def node_of(request: web.Request) -> Node:
    """The node that a request is for."""
    node: Node = request.app[NODE]
    return node


def answer(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def problem(error: TrothError, status: int | None = None) -> web.Response:
    """An error as problem details."""
    status = error.http_status if status is None else status
    body = {
        "type": f"https://troth.invalid/errors/{error.code}",
        "status": status,
        "detail": f"{error.cause}; {error.fix}",
        **error_json(error),
    }
    headers = {"Retry-After": "1"} if status == 503 else None
    return web.Response(
        body=json.dumps(body, ensure_ascii=False).encode(),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


async def read_body(request: web.Request) -> bytes:
    """The request's body within the limits of size and time."""
    limits = request.app[LIMITS]
    if request.content_length is not None and request.content_length > limits.body_bytes:
        raise Invalid(TOO_LARGE, f"{request.content_length} bytes, at most {limits.body_bytes} are taken")
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await request.read()
    except TimeoutError:
        raise Unavailable(TOO_SLOW, f"the body was not complete after {limits.body_seconds:g} s") from None


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty object. Raises Invalid (E-API-001)."""
    body = await read_body(request)
    if not body:
        return {}
    try:
        value = json.loads(body, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise Invalid(BAD_REQUEST, f"the body is not JSON: {error}") from None
    if type(value) is not dict:
        raise Invalid(BAD_REQUEST, "the body must be a JSON object")
    return value


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is not a whole number")


def query_integer(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from the query, within bounds. Raises Invalid (E-API-001)."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15 or not low <= int(text) <= high:
        raise Invalid(BAD_REQUEST, f"{name} must be a whole number from {low} to {high}")
    return int(text)


def query_flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A flag from the query: 1 or 0. Raises Invalid (E-API-001)."""
    text = request.query.get(name)
    if text is None:
        return default
    if text not in ("0", "1"):
        raise Invalid(BAD_REQUEST, f"{name} must be 0 or 1")
    return text == "1"


def hex_bytes(text: str, what: str, count: int | None = None) -> bytes:
    """Bytes from hexadecimal digits. Raises Invalid (E-API-001)."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = None
    if data is None or len(text) != 2 * len(data) or (count is not None and len(data) != count):
        many = f"{2 * count} " if count is not None else ""
        raise Invalid(BAD_REQUEST, f"{what} must be {many}hexadecimal digits")
    return data


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns errors into problem details, and counts answers."""
    node = node_of(request)
    try:
        response = await handler(request)
    except TrothError as error:
        if isinstance(error, Fault):
            node.failed(error)
        response = problem(error, 413 if error.code == TOO_LARGE else None)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _http_problem(request, error)
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception:
        node.log.exception("request failed", path=request.path)
        response = problem(Fault(INTERNAL, "an unexpected error"))
    node.metrics.requests.labels(str(response.status)).inc()
    return response


def _http_problem(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 413:
        return problem(Invalid(TOO_LARGE, f"at most {request.app[LIMITS].body_bytes} bytes are taken"), 413)
    code = NOT_FOUND if error.status in (404, 405) else BAD_REQUEST
    answer_ = problem(Invalid(code, f"{request.method} {request.path}: {error.reason}"), error.status)
    if "Allow" in error.headers:
        answer_.headers["Allow"] = error.headers["Allow"]
    return answer_


def application(node: Node, limits: ApiLimits) -> web.Application:
    """The application with all routes."""
    from node.api import chain, contracts, health, stream, transactions

    app = web.Application(middlewares=[errors], client_max_size=limits.body_bytes)
    app[NODE] = node
    app[LIMITS] = limits
    for module in (chain, transactions, contracts, stream, health):
        app.add_routes(module.ROUTES)
    return app


class ApiServer:
    """The listening server. `port` is the real one, also where 0 was asked for."""

    def __init__(self, node: Node, host: str, port: int, limits: ApiLimits) -> None:
        self._runner = web.AppRunner(
            application(node, limits),
            access_log=None,
            keepalive_timeout=limits.keepalive_seconds,
            handler_cancellation=True,
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=2,
        )
        self._host, self.port, self._limits = host, port, limits
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken."""
        await self._runner.setup()
        inner = self._runner.server
        assert inner is not None
        guard = ConnectionGuard(
            inner,
            in_all=self._limits.connections,
            per_address=self._limits.connections_per_address,
            head_seconds=self._limits.head_seconds,
        )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(guard, self._host, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening, and gives open requests two seconds to end."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
