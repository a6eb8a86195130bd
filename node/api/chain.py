"""Routes about the chain: its head, genesis, blocks, and the export that an auditor replays."""

from __future__ import annotations

from aiohttp import web

from ledger import codec
from ledger.address import to_text
from ledger.errors import Invalid
from node.api.render import block_json
from node.api.server import BAD_REQUEST, answer, hex_bytes, node_of, query_integer

ROUTES = web.RouteTableDef()
EXPORT_BYTES = 16 << 20


@ROUTES.get("/v1/chain")
async def chain(request: web.Request) -> web.Response:
    """The chain's id, head, validators and parameters."""
    node = node_of(request)
    ledger = node.chain
    head = ledger.head
    return answer(
        {
            "chain_id": ledger.genesis.chain_id,
            "genesis_id": ledger.genesis.id().hex(),
            "height": head.height,
            "block_id": head.block_id.hex(),
            "time_ms": head.time_ms,
            "state_root": (head.root[0] if head.root else bytes(32)).hex(),
            "transactions": head.transactions,
            "oldest_state": ledger.store.oldest_state(),
            "protocol_version": ledger.genesis_header.protocol_version,
            "validators": [
                {
                    "address": to_text(validator.address),
                    "public_key": validator.public_key.hex(),
                    "power": validator.power,
                    "organisation": validator.organisation,
                }
                for validator in ledger.validators
            ],
            "parameters": ledger.genesis.parameters._asdict(),
            "mempool": {"transactions": len(node.mempool), "bytes": node.mempool.bytes},
        }
    )


@ROUTES.get("/v1/node")
async def node(request: web.Request) -> web.Response:
    """The node among its peers: height, round, lag, and how each connection does."""
    return answer(node_of(request).describe())


@ROUTES.get("/v1/genesis")
async def genesis(request: web.Request) -> web.Response:
    """The genesis document."""
    return web.Response(text=node_of(request).chain.genesis.to_json(), content_type="application/json")


@ROUTES.get("/v1/blocks")
async def blocks(request: web.Request) -> web.Response:
    """Blocks from a height downwards: those below `before`; `next` is the cursor of the next page."""
    ledger = node_of(request).chain
    before = query_integer(request, "before", ledger.head.height + 1, 0, 1 << 40)
    limit = query_integer(request, "limit", 20, 1, 100)
    first = min(before, ledger.head.height + 1) - 1
    rows = []
    for height in range(first, max(first - limit, -1), -1):
        header, meta = ledger.header(height), ledger.store.meta(height)
        earlier = ledger.store.meta(height - 1).transactions if height else 0
        rows.append(
            {
                "height": height,
                "block_id": meta.block_id.hex(),
                "time_ms": header.time_ms,
                "proposer": to_text(header.proposer),
                "transactions": meta.transactions - earlier,
            }
        )
    last = first - limit + 1
    return answer({"blocks": rows, "next": last if last > 0 else None})


@ROUTES.get("/v1/blocks/{which}")
async def block(request: web.Request) -> web.Response:
    """One block by height, id or `head`; as canonical bytes [block, certificate] where octets are accepted."""
    ledger = node_of(request).chain
    which = request.match_info["which"]
    if which == "head":
        height = ledger.head.height
    elif which.isascii() and which.isdigit() and len(which) <= 12:
        height = int(which)
    elif len(which) == 64:
        height = ledger.store.height_of_block(hex_bytes(which, "a block id", 32))
    else:
        raise Invalid(BAD_REQUEST, "a block is named by its height, its id (64 hexadecimal digits) or `head`")
    if height == 0:
        return answer(block_json(ledger.genesis_header, None, ledger.store.meta(0), None, []))
    if "application/octet-stream" in request.headers.get("Accept", ""):
        return web.Response(body=codec.encode((ledger.store.block_bytes(height), ledger.store.certificate(height))))
    content = ledger.store.block(height)
    ids = [receipt.transaction_id.hex() for receipt in ledger.store.receipts(height)]
    certificate = ledger.store.certificate(height)
    return answer(block_json(content.header, content, ledger.store.meta(height), certificate, ids))


@ROUTES.get("/v1/export")
async def export(request: web.Request) -> web.Response:
    """Blocks and their certificates, ascending from `from`: frames of a 4-byte length and [block bytes, certificate].

    At most `limit` blocks and about 16 MiB; ask again from the height after the last. Empty beyond the head.
    """
    ledger = node_of(request).chain
    first = query_integer(request, "from", 1, 1, 1 << 40)
    limit = query_integer(request, "limit", 1_000, 1, 10_000)
    frames, size = [], 0
    for height in range(first, min(first + limit, ledger.head.height + 1)):
        frame = codec.encode((ledger.store.block_bytes(height), ledger.store.certificate(height)))
        frames.append(len(frame).to_bytes(4, "big") + frame)
        size += len(frame)
        if size > EXPORT_BYTES:
            break
    return web.Response(body=b"".join(frames), content_type="application/octet-stream")
