"""Server-sent events: one event a block, with the events of its transactions.

The event id is the height, so `Last-Event-ID` resumes without a gap. A stream reads blocks from the store at its own
pace, so a slow reader costs no memory.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from ledger.errors import Invalid, Unavailable
from node.api.render import event_json
from node.api.server import BAD_REQUEST, BUSY, LIMITS, node_of, query_integer

ROUTES = web.RouteTableDef()
SILENCE_SECONDS = 15


@ROUTES.get("/v1/stream")
async def stream(request: web.Request) -> web.StreamResponse:
    """Blocks as they become final, from the one after `Last-Event-ID` (or `after`), else from the next one.

    `contract` keeps only that contract's events.
    """
    node = node_of(request)
    ledger = node.chain
    wanted = request.query.get("contract")
    if wanted is not None:
        ledger.registry.contract(wanted)
    last = request.headers.get("Last-Event-ID")
    if last is not None and not (last.isascii() and last.isdigit() and len(last) <= 12):
        raise Invalid(BAD_REQUEST, "Last-Event-ID must be a height")
    height = int(last) if last is not None else query_integer(request, "after", ledger.head.height, 0, 1 << 40)
    if node.streams >= request.app[LIMITS].streams:
        raise Unavailable(BUSY, f"{node.streams} streams are open")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    node.streams += 1
    try:
        await response.write(b"retry: 1000\n\n")
        while not node.stopping.is_set():
            while height < ledger.head.height:
                height += 1
                await response.write(_event(node, height, wanted))
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await node.next_block()
            except TimeoutError:
                await response.write(b": alive\n\n")
    except ConnectionResetError:
        pass  # the reader is gone
    finally:
        node.streams -= 1
    return response


def _event(node: object, height: int, wanted: str | None) -> bytes:
    from node.service import Node

    assert isinstance(node, Node)
    ledger = node.chain
    header = ledger.header(height)
    transactions = []
    for receipt in ledger.store.receipts(height):
        events = [event_json(ledger.registry, event) for event in receipt.events if wanted in (None, event.contract)]
        if wanted is None or events:
            transactions.append({"id": receipt.transaction_id.hex(), "code": receipt.code or None, "events": events})
    data = {
        "height": height,
        "block_id": ledger.store.meta(height).block_id.hex(),
        "time_ms": header.time_ms,
        "transactions": transactions,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {height}\nevent: block\ndata: {text}\n\n".encode()
