"""Plain HTTP requests to a node, as any client sends them, and transactions signed with its development keys."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ledger.address import address_of
from ledger.transaction import Call, SignedTransaction, Transaction
from tests.end_to_end.nodes import CHAIN_ID, NodeProcess, key_of

HOUR_MS = 60 * 60 * 1000
PROGRAMME = "beans"


class Answer(NamedTuple):
    """An answer: status, headers (names in lower case), body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


def ask(
    node: NodeProcess,
    method: str,
    target: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    seconds: float = 60,
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(node.host, node.port, timeout=seconds)
    try:
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def get(node: NodeProcess, target: str, **headers: str) -> Answer:
    """`GET target`."""
    return ask(node, "GET", target, headers=headers)


def post(node: NodeProcess, target: str, value: object) -> Answer:
    """`POST target` with a JSON body."""
    return ask(node, "POST", target, json.dumps(value).encode(), {"Content-Type": "application/json"})


def submit(node: NodeProcess, *raws: bytes, query: str = "?wait=final") -> list[dict[str, Any]]:
    """What became of each transaction; waits for their end unless `query` says otherwise.

    Raises ConnectionAbortedError where the node is stopping: like a lost connection, it says nothing of the end.
    """
    answer = post(node, f"/v1/transactions{query}", {"transactions": [raw.hex() for raw in raws]})
    if answer.status == 503 and answer.json["code"] == "E-NODE-003":
        raise ConnectionAbortedError(answer.json["cause"])
    assert answer.status in (200, 202), answer
    results: list[dict[str, Any]] = answer.json["results"]
    return results


def now_ms() -> int:
    """The clock."""
    return time.time_ns() // 1_000_000


def address(name: str) -> bytes:
    """The address of that name's development key."""
    return address_of(key_of(name).public)


def unsigned(actors: Sequence[str], calls: Sequence[Call], **fields: Any) -> Transaction:
    """A transaction by the named actors, valid for an hour. `fields` replace its own."""
    made = Transaction(
        1,
        CHAIN_ID,
        tuple([address(name) for name in actors]),
        secrets.token_bytes(8),
        now_ms() + HOUR_MS,
        5_000,
        tuple(calls),
        "",
    )
    return made._replace(**fields)


def signed(actors: str | Sequence[str], *calls: Call, **fields: Any) -> SignedTransaction:
    """The same, signed by all of them."""
    names = (actors,) if isinstance(actors, str) else tuple(actors)
    return unsigned(names, calls, **fields).sign([key_of(name) for name in names])


def call(target: str, *arguments: Any, actor: int = 0) -> Call:
    """A call of `contract.method`."""
    contract, method = target.split(".")
    return Call(actor, contract, method, arguments)


def create(programme: str = PROGRAMME) -> Call:
    """Creates a programme of points."""
    return call("points.create", programme, "Programme", None, "points", 0)


def mint(to: str, amount: int, *reference: str) -> Call:
    """Mints points of PROGRAMME."""
    return call("points.mint", PROGRAMME, address(to), amount, *reference)


def transfer(to: str, amount: int, *reference: str) -> Call:
    """Transfers points of PROGRAMME."""
    return call("points.transfer", PROGRAMME, address(to), amount, *reference)
