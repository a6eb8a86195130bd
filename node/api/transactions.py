"""Routes that take transactions in, try them, and tell what became of them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ledger import codec, merkle
from ledger.errors import Invalid
from ledger.transaction import check_signatures, decode
from node.api.render import header_hex, outcome_json, receipt_json, transaction_json
from node.api.server import (
    BAD_REQUEST,
    LIMITS,
    answer,
    hex_bytes,
    node_of,
    query_flag,
    query_integer,
    read_body,
    read_json,
)

ROUTES = web.RouteTableDef()


async def _raw_transactions(request: web.Request) -> list[bytes]:
    """The transactions of the body: an array of byte strings in the codec, or hexadecimal in JSON."""
    limit = request.app[LIMITS].batch
    if request.content_type == "application/octet-stream":
        value = codec.decode(await read_body(request))
        if type(value) is not tuple or any(type(item) is not bytes for item in value):
            raise Invalid(BAD_REQUEST, "the body must be an array of byte strings")
        raws = list(value)
    else:
        given = (await read_json(request)).get("transactions")
        if type(given) is not list or any(type(item) is not str for item in given):
            raise Invalid(BAD_REQUEST, 'the body must be {"transactions": ["hexadecimal digits", ...]}')
        raws = [hex_bytes(item, "a transaction") for item in given]
    if not 0 < len(raws) <= limit:
        raise Invalid(BAD_REQUEST, f"{len(raws)} transactions, from 1 to {limit} are taken at a time")
    return raws


@ROUTES.post("/v1/transactions")
async def submit(request: web.Request) -> web.Response:
    """Takes signed transactions. With `wait=final` it answers when all have ended, or after `timeout_ms`."""
    node = node_of(request)
    wait = request.query.get("wait")
    if wait not in (None, "final"):
        raise Invalid(BAD_REQUEST, "wait must be `final`, or left out")
    limits = request.app[LIMITS]
    timeout_ms = query_integer(request, "timeout_ms", 30_000, 1, int(limits.wait_seconds_max * 1000))
    receipts = query_flag(request, "receipts", True)
    raws = await _raw_transactions(request)
    node.ready_to_write()
    outcomes = await node.submissions.submit(raws, timeout_ms / 1000 if wait else None)
    registry = node.chain.registry
    rows = [outcome_json(registry, outcome, receipts=receipts) for outcome in outcomes]
    ended = all(row["status"] != "waiting" for row in rows)
    return answer({"results": rows}, status=200 if ended else 202)


@ROUTES.post("/v1/transactions/simulate")
async def simulate(request: web.Request) -> web.Response:
    """What a signed transaction would do if it were next, at the head's state and the present time. Changes nothing."""
    node = node_of(request)
    given = (await read_json(request)).get("transaction")
    if type(given) is not str:
        raise Invalid(BAD_REQUEST, 'the body must be {"transaction": "hexadecimal digits"}')
    signed = decode(hex_bytes(given, "a transaction"))
    check_signatures(signed)
    execution = node.chain.execution(max(node.now_ms(), node.chain.head.time_ms + 1))
    execution.admit(signed)
    receipt = execution.apply(signed)
    return answer({"id": signed.id.hex(), "receipt": receipt_json(node.chain.registry, receipt, signed)})


@ROUTES.get("/v1/transactions/{id}")
async def show(request: web.Request) -> web.Response:
    """What became of a transaction; with `proof=1` also what proves it to someone who trusts only the genesis."""
    node = node_of(request)
    identifier = hex_bytes(request.match_info["id"], "a transaction id", 32)
    registry, store = node.chain.registry, node.chain.store
    waiting = node.mempool.get(identifier)
    if waiting is not None:
        return answer({"id": identifier.hex(), "status": "waiting", "transaction": transaction_json(registry, waiting)})
    height, position = store.locate(identifier)
    content = store.block(height)
    encoded = store.receipt_bytes(height)
    signed = decode(content.transactions[position])
    receipt = store.receipts(height)[position]
    found: dict[str, Any] = {
        "id": identifier.hex(),
        "status": "final",
        "height": height,
        "position": position,
        "time_ms": content.header.time_ms,
        "receipt": receipt_json(registry, receipt, signed),
        "transaction": transaction_json(registry, signed),
    }
    if query_flag(request, "proof"):
        found["proof"] = {
            "header": header_hex(content.header),
            "certificate": codec.encode(store.certificate(height)).hex(),
            "transaction": _inclusion(content.transactions, position),
            "transaction_bytes": signed.raw.hex(),
            "receipt": _inclusion(encoded, position),
            "receipt_bytes": encoded[position].hex(),
        }
    return answer(found)


def _inclusion(leaves: tuple[bytes, ...], position: int) -> dict[str, Any]:
    proof = merkle.prove(leaves, position)
    return {"index": proof.index, "size": proof.size, "path": [node.hex() for node in proof.path]}
