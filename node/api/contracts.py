"""Routes about contracts: what they are, what their views say, what their cells hold, with proof."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import Any

from aiohttp import web

from ledger import codec
from ledger.errors import Invalid, NotFound, Refused, define
from ledger.state_proof import prove
from node.api.render import header_hex
from node.api.server import BAD_REQUEST, answer, node_of, query_flag, query_integer, read_json
from node.ledger_store import NO_BLOCK
from vm.context import ContractFault
from vm.executor import run_view
from vm.faults import fault_text
from vm.kinds import TupleKind
from vm.overlay import cell_key, map_prefix
from vm.schema import contract_schema, registry_schema

ROUTES = web.RouteTableDef()

CELLS_A_WRITE = 500

UNKNOWN_MAP = define("E-API-007", "the contract has no such map", "see its storage: GET /v1/contracts")


def _height(request: web.Request) -> int:
    head = node_of(request).chain.head.height
    height = query_integer(request, "height", head, 0, 1 << 40)
    if height > head:
        raise NotFound(NO_BLOCK, f"height {height} is above the head, {head}")
    return height


@ROUTES.get("/v1/contracts")
async def contracts(request: web.Request) -> web.Response:
    """Every contract: methods, views, events, storage and faults, as JSON Schema."""
    return answer(registry_schema(node_of(request).chain.registry))


@ROUTES.get("/v1/contracts/{contract}")
async def contract(request: web.Request) -> web.Response:
    """One contract."""
    return answer(contract_schema(node_of(request).chain.registry.contract(request.match_info["contract"])))


@ROUTES.post("/v1/contracts/{contract}/views/{view}")
async def view(request: web.Request) -> web.Response:
    """What a view returns at a height (the head unless given). The body is an object of named arguments."""
    ledger = node_of(request).chain
    name, view_name = request.match_info["contract"], request.match_info["view"]
    found = ledger.registry.method(name, view_name, is_view=True)
    arguments = ledger.registry.arguments_from_json(found, name, await read_json(request))
    height = _height(request)
    block, read = ledger.read_head() if height == ledger.head.height else ledger.read_at(height)
    try:
        value = run_view(ledger.registry, block, read, name, view_name, arguments)
    except ContractFault as fault:
        cause, fix = fault_text(fault.code, fault.detail)
        raise Refused(fault.code, cause, fix=fix) from None
    shown = value if found.returns is None else found.returns.to_json(value)
    return answer({"height": block.height, "value": shown})


@ROUTES.get("/v1/state/{contract}/{map}")
async def state(request: web.Request) -> web.Response:
    """One cell: `key` is a JSON array of the key's parts. With `proof=1`, an ICS-23 proof and what it is proved under.

    The proof is of existence or absence in the state after `height`; `header` carries that state's root, and
    `certificate` makes the header final (null at height 0, whose header follows from the genesis document).
    """
    ledger = node_of(request).chain
    name, map_name = request.match_info["contract"], request.match_info["map"]
    declared = ledger.registry.contract(name).maps.get(map_name)
    if declared is None:
        raise NotFound(UNKNOWN_MAP, f"{name} has no map {map_name!r}")
    key = _cell_key(request.query.get("key", "[]"), name, map_name, declared.key)
    height = _height(request)
    tree = ledger.store.tree
    with ledger.store.state_at(height) as root:
        data = tree.get(root, key)
        proof = prove(tree, root, key) if query_flag(request, "proof") else None
    found: dict[str, Any] = {
        "height": height,
        "exists": data is not None,
        "value": None if data is None else declared.value.to_json(codec.decode_trusted(data)),
        "key": key.hex(),
        "value_bytes": None if data is None else data.hex(),
    }
    if proof is not None:
        found["proof"] = {
            "commitment": proof.encode().hex(),
            "header": header_hex(ledger.header(height)),
            "certificate": codec.encode(ledger.store.certificate(height)).hex() if height else None,
        }
    return answer(found)


@ROUTES.get("/v1/cells")
async def cells(request: web.Request) -> web.StreamResponse:
    """Every cell of the state after a height, in order of hashed keys: frames of a 4-byte length and [key, value]."""
    store = node_of(request).chain.store
    rows = store.cells(_height(request))
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        while page := list(islice(rows, CELLS_A_WRITE)):
            frames = [codec.encode(cell) for cell in page]
            await response.write(b"".join([len(frame).to_bytes(4, "big") + frame for frame in frames]))
            await asyncio.sleep(0)
    except NotFound:  # pruned by now: broken off, so that nobody takes these cells for all
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def _cell_key(text: str, contract_name: str, map_name: str, kind: Any) -> bytes:
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        parts = None
    if type(parts) is not list:
        raise Invalid(BAD_REQUEST, "key must be a JSON array of the key's parts")
    count = len(kind.parts) if isinstance(kind, TupleKind) else 1
    if len(parts) != count:
        raise Invalid(BAD_REQUEST, f"the key of {contract_name}.{map_name} has {count} parts, {len(parts)} were given")
    try:
        key = kind.from_json(parts if isinstance(kind, TupleKind) else parts[0])
    except ValueError as error:
        raise Invalid(BAD_REQUEST, f"the key of {contract_name}.{map_name}: {error}") from None
    problem = kind.check(key)
    if problem:
        raise Invalid(BAD_REQUEST, f"the key of {contract_name}.{map_name} {problem}")
    return cell_key((map_prefix(contract_name, map_name, count), key))
