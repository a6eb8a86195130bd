"""The API's description, OpenAPI 3.1, with the schemas of all contracts.

Written beside the routes it describes; a test compares the two, and the API's tests validate answers against it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from vm.registry import Registry
from vm.schema import arguments_schema

Schema = dict[str, Any]

_HEX: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
_HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ADDRESS: Schema = {"type": "string", "pattern": "^troth1[02-9ac-hj-np-z]{38}$"}
_INTEGER: Schema = {"type": "integer", "minimum": 0}


def _object(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        **more,
    }


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_SCHEMAS: Schema = {
    "Problem": _object(
        {
            "type": {"type": "string"},
            "status": _INTEGER,
            "title": {"type": "string"},
            "detail": {"type": "string"},
            "code": {"type": "string", "pattern": "^E-[A-Z]+-[0-9]{3}$"},
            "cause": {"type": "string"},
            "fix": {"type": "string"},
        }
    ),
    "Error": _object({name: {"type": "string"} for name in ("code", "title", "cause", "fix")}),
    "Event": _object(
        {
            "contract": {"type": "string"},
            "name": {"type": "string"},
            "fields": {"type": ["object", "array"]},
        }
    ),
    "Receipt": _object(
        {
            "ok": {"type": "boolean"},
            "code": {"type": ["string", "null"]},
            "message": {"type": ["string", "null"]},
            "fix": {"type": ["string", "null"]},
            "failed_call": {"type": ["integer", "null"]},
            "gas_used": _INTEGER,
            "events": {"type": "array", "items": _ref("Event")},
            "results": {"type": "array"},
        }
    ),
    "Outcome": _object(
        {
            "id": _nullable(_HASH),
            "status": {"enum": ["waiting", "final", "refused"]},
            "height": _INTEGER,
            "code": {"type": ["string", "null"]},
            "receipt": _ref("Receipt"),
            "error": _ref("Error"),
        },
        ["id", "status"],
    ),
    "Outcomes": _object({"results": {"type": "array", "items": _ref("Outcome")}}),
    "Inclusion": _object({"index": _INTEGER, "size": _INTEGER, "path": {"type": "array", "items": _HASH}}),
    "Certificate": _object(
        {
            "height": _INTEGER,
            "round": _INTEGER,
            "block_id": _HASH,
            "seals": {"type": "array", "items": _object({"validator": _ADDRESS, "signature": _HEX})},
        }
    ),
    "Chain": _object(
        {
            "chain_id": {"type": "string"},
            "genesis_id": _HASH,
            "height": _INTEGER,
            "block_id": _HASH,
            "time_ms": _INTEGER,
            "state_root": _HASH,
            "transactions": _INTEGER,
            "oldest_state": _INTEGER,
            "protocol_version": _INTEGER,
            "validators": {
                "type": "array",
                "items": _object(
                    {
                        "address": _ADDRESS,
                        "public_key": _HASH,
                        "power": _INTEGER,
                        "organisation": {"type": "string"},
                    }
                ),
            },
            "parameters": {"type": "object", "additionalProperties": _INTEGER},
            "mempool": _object({"transactions": _INTEGER, "bytes": _INTEGER}),
        }
    ),
    "Node": _object(
        {
            "height": _INTEGER,
            "round": _INTEGER,
            "phase": {"type": "string"},
            "validator": _nullable(_ADDRESS),
            "caught_up": {"type": "boolean"},
            "missed_rounds": _INTEGER,
            "lag_heights": _INTEGER,
            "peers": {
                "type": "array",
                "items": _object(
                    {
                        "node": _HASH,
                        "organisation": {"type": "string"},
                        "connected": {"type": "boolean"},
                        "height": _nullable(_INTEGER),
                        "remote": {"type": "string"},
                        "rtt_us": _nullable(_INTEGER),
                        "ban": _nullable(_object({"reason": {"type": "string"}, "seconds_left": _INTEGER})),
                        "last_end": {"type": "string"},
                    }
                ),
            },
        }
    ),
    "BlockRow": _object(
        {
            "height": _INTEGER,
            "block_id": _HASH,
            "time_ms": _INTEGER,
            "proposer": _ADDRESS,
            "transactions": _INTEGER,
        }
    ),
    "BlockRows": _object(
        {"blocks": {"type": "array", "items": _ref("BlockRow")}, "next": {"type": ["integer", "null"]}}
    ),
    "Block": _object(
        {
            "height": _INTEGER,
            "block_id": _HASH,
            "header": {"type": "object"},
            "transactions": {"type": "array", "items": _HASH},
            "transactions_total": _INTEGER,
            "evidence": {"type": "array", "items": _HEX},
            "certificate": _nullable(_ref("Certificate")),
        }
    ),
    "Transaction": _object(
        {
            "id": _HASH,
            "chain_id": {"type": "string"},
            "actors": {"type": "array", "items": _ADDRESS},
            "nonce": _HEX,
            "valid_until_ms": _INTEGER,
            "gas_limit": _INTEGER,
            "memo": {"type": "string"},
            "calls": {
                "type": "array",
                "items": _object(
                    {
                        "actor": _INTEGER,
                        "contract": {"type": "string"},
                        "method": {"type": "string"},
                        "arguments": {"type": ["object", "array"]},
                    }
                ),
            },
            "signatures": {
                "type": "array",
                "items": _object({"actor": _INTEGER, "public_key": _HASH, "signature": _HEX}),
            },
            "bytes": _INTEGER,
        }
    ),
    "TransactionStatus": _object(
        {
            "id": _HASH,
            "status": {"enum": ["waiting", "final"]},
            "height": _INTEGER,
            "position": _INTEGER,
            "time_ms": _INTEGER,
            "receipt": _ref("Receipt"),
            "transaction": _ref("Transaction"),
            "proof": _object(
                {
                    "header": _HEX,
                    "certificate": _HEX,
                    "transaction": _ref("Inclusion"),
                    "transaction_bytes": _HEX,
                    "receipt": _ref("Inclusion"),
                    "receipt_bytes": _HEX,
                }
            ),
        },
        ["id", "status", "transaction"],
    ),
    "Simulation": _object({"id": _HASH, "receipt": _ref("Receipt")}),
    "Cell": _object(
        {
            "height": _INTEGER,
            "exists": {"type": "boolean"},
            "value": {},
            "key": _HEX,
            "value_bytes": _nullable(_HEX),
            "proof": _object({"commitment": _HEX, "header": _HEX, "certificate": _nullable(_HEX)}),
        },
        ["height", "exists", "value", "key", "value_bytes"],
    ),
    "ViewAnswer": _object({"height": _INTEGER, "value": {}}),
    "Contract": _object(
        {
            "name": {"type": "string"},
            "version": _INTEGER,
            "summary": {"type": "string"},
            "rules": {"type": "string"},
            "methods": {"type": "object"},
            "views": {"type": "object"},
            "events": {"type": "object"},
            "storage": {"type": "object"},
            "faults": {"type": "array", "items": {"type": "object"}},
        }
    ),
    "Contracts": _object(
        {
            "dialect": {"type": "string"},
            "contracts": {"type": "object", "additionalProperties": _ref("Contract")},
            "faults": {"type": "array", "items": {"type": "object"}},
        }
    ),
    "Readiness": _object(
        {
            "ready": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}},
            "height": _INTEGER,
            "block_age_ms": _INTEGER,
            "signing": {"type": "boolean"},
            "peers": _INTEGER,
            "mempool": _INTEGER,
        }
    ),
    "Liveness": _object({"status": {"const": "live"}}),
    "Genesis": {"type": "object"},
    "Document": {"type": "object"},
    "Submission": _object(
        {"transactions": {"type": "array", "items": _HEX, "minItems": 1}}, additionalProperties=False
    ),
    "SimulationRequest": _object({"transaction": _HEX}, additionalProperties=False),
}


def _query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _path(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _answer(name: str, text: str, media: str = "application/json") -> Schema:
    return {"description": text, "content": {media: {"schema": _ref(name)}}}


def _bytes_answer(text: str) -> Schema:
    return {"description": text, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}


def _problems(*statuses: int) -> Schema:
    words = {
        400: "The request is malformed",
        404: "Nothing of that name, id or height",
        405: "Not a method of this resource",
        409: "The rules or the present state refuse it",
        413: "The body is too large",
        422: "A proof or rule does not hold",
        503: "Cannot answer now",
    }
    return {str(status): _answer("Problem", words[status], "application/problem+json") for status in statuses}


_HEIGHT = {"type": "integer", "minimum": 0, "maximum": 1 << 40}
_AT = _query("height", _HEIGHT, "The height whose state is read; the head unless given")
_PROOF = _query("proof", {"enum": ["0", "1"]}, "1 adds what proves the answer to one who trusts only the genesis")
_BODY_TRANSACTIONS = {
    "required": True,
    "content": {
        "application/json": {"schema": _ref("Submission")},
        "application/octet-stream": {
            "schema": {"type": "string", "description": "the codec's array of byte strings (docs/spec/bytes.md)"}
        },
    },
}


def _paths(registry: Registry) -> Schema:
    paths: Schema = {
        "/v1/chain": {
            "get": {"summary": "Head, validators, parameters", "responses": {"200": _answer("Chain", "The chain")}}
        },
        "/v1/node": {
            "get": {"summary": "The node among its peers", "responses": {"200": _answer("Node", "Where it stands")}}
        },
        "/v1/genesis": {
            "get": {"summary": "The genesis document", "responses": {"200": _answer("Genesis", "The genesis document")}}
        },
        "/v1/blocks": {
            "get": {
                "summary": "Blocks, newest first",
                "parameters": [
                    _query("before", _HEIGHT, "Blocks below this height: the cursor `next` of the page before"),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Most blocks"),
                ],
                "responses": {"200": _answer("BlockRows", "A page of blocks"), **_problems(400)},
            }
        },
        "/v1/blocks/{which}": {
            "get": {
                "summary": "One block",
                "parameters": [
                    _path("which", {"type": "string", "description": "a height, a block id, or `head`"}),
                ],
                "responses": {
                    "200": {
                        "description": "The block; canonical bytes where octets are accepted",
                        "content": {
                            "application/json": {"schema": _ref("Block")},
                            "application/octet-stream": {"schema": {"type": "string"}},
                        },
                    },
                    **_problems(400, 404),
                },
            }
        },
        "/v1/export": {
            "get": {
                "summary": "Blocks and certificates for replay",
                "parameters": [
                    _query("from", {**_HEIGHT, "minimum": 1}, "The first height"),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}, "Most blocks"),
                ],
                "responses": {
                    "200": _bytes_answer("Frames: 4 bytes of length, then the codec's [block bytes, certificate]"),
                    **_problems(400),
                },
            }
        },
        "/v1/transactions": {
            "post": {
                "summary": "Submit signed transactions",
                "parameters": [
                    _query("wait", {"enum": ["final"]}, "Answer when all have ended"),
                    _query("timeout_ms", {"type": "integer", "minimum": 1, "maximum": 60_000}, "How long to wait"),
                    _query("receipts", {"enum": ["0", "1"]}, "0 leaves the receipts out"),
                ],
                "requestBody": _BODY_TRANSACTIONS,
                "responses": {
                    "200": _answer("Outcomes", "All have ended, each final or refused"),
                    "202": _answer("Outcomes", "Some wait for a block"),
                    **_problems(400, 413, 503),
                },
            }
        },
        "/v1/transactions/simulate": {
            "post": {
                "summary": "Try a signed transaction at the head; nothing changes",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("SimulationRequest")}},
                },
                "responses": {"200": _answer("Simulation", "What it would do"), **_problems(400, 409, 413, 503)},
            }
        },
        "/v1/transactions/{id}": {
            "get": {
                "summary": "What became of a transaction",
                "parameters": [_path("id", {"type": "string", "description": "a transaction id"}), _PROOF],
                "responses": {"200": _answer("TransactionStatus", "The transaction"), **_problems(400, 404)},
            }
        },
        "/v1/contracts": {
            "get": {"summary": "All contracts", "responses": {"200": _answer("Contracts", "Their schemas")}}
        },
        "/v1/contracts/{contract}": {
            "get": {
                "summary": "One contract",
                "parameters": [_path("contract", {"type": "string"})],
                "responses": {"200": _answer("Contract", "Its schema"), **_problems(400)},
            }
        },
        "/v1/contracts/{contract}/views/{view}": {
            "post": {
                "summary": "Ask a view",
                "parameters": [_path("contract", {"type": "string"}), _path("view", {"type": "string"}), _AT],
                "requestBody": {
                    "required": False,
                    "content": {"application/json": {"schema": {"anyOf": _view_bodies(registry)}}},
                },
                "responses": {"200": _answer("ViewAnswer", "Its value"), **_problems(400, 404, 409, 413, 503)},
            }
        },
        "/v1/state/{contract}/{map}": {
            "get": {
                "summary": "One cell of the state",
                "parameters": [
                    _path("contract", {"type": "string"}),
                    _path("map", {"type": "string"}),
                    _query("key", {"type": "string"}, "A JSON array of the key's parts"),
                    _AT,
                    _PROOF,
                ],
                "responses": {"200": _answer("Cell", "The cell"), **_problems(400, 404)},
            }
        },
        "/v1/cells": {
            "get": {
                "summary": "Every cell of the state, in order of hashed keys",
                "parameters": [_AT],
                "responses": {
                    "200": _bytes_answer("Frames: 4 bytes of length, then the codec's [key, value]"),
                    **_problems(400, 404),
                },
            }
        },
        "/v1/stream": {
            "get": {
                "summary": "Blocks as they become final (server-sent events; the id is the height)",
                "parameters": [
                    _query("after", _HEIGHT, "Begin with the block after this height"),
                    _query("contract", {"type": "string"}, "Only this contract's events"),
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "required": False,
                        "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
                    },
                ],
                "responses": {
                    "200": {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                    **_problems(400, 503),
                },
            }
        },
        "/health/live": {
            "get": {"summary": "Does the process answer", "responses": {"200": _answer("Liveness", "Yes")}}
        },
        "/health/ready": {
            "get": {
                "summary": "Does the node take transactions",
                "responses": {"200": _answer("Readiness", "Yes"), "503": _answer("Readiness", "No, with reasons")},
            }
        },
        "/metrics": {
            "get": {
                "summary": "Metrics for Prometheus",
                "responses": {
                    "200": {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
                },
            }
        },
        "/openapi.json": {
            "get": {"summary": "This description", "responses": {"200": _answer("Document", "OpenAPI 3.1")}}
        },
    }
    return paths


def _view_bodies(registry: Registry) -> list[Schema]:
    return [
        {**arguments_schema(found), "title": f"{name}.{found.name}"}
        for name, contract in registry.contracts.items()
        for found in contract.methods.values()
        if found.is_view
    ]


@lru_cache(maxsize=4)
def document(registry: Registry) -> Schema:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Troth node",
            "version": "1",
            "summary": "A consortium ledger for loyalty points, certificates and consent",
            "description": "Errors are RFC 9457 problems with a stable code, the cause and the fix: docs/errors.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(registry),
        "components": {"schemas": _SCHEMAS},
    }
