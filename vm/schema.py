"""JSON Schema (2020-12) of contracts, made from their declarations: what the API, the CLI and the forms work with.

Nothing here is written by hand for one contract. The order is that of the declarations, so the same software gives
the same document.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any

from ledger.errors import CODES
from vm.context import CONTRACT_BROKEN, OUT_OF_GAS
from vm.contract import FAULT_MESSAGES, FaultCode, Method, NativeContract
from vm.executor import NO_ROLE, REFERENCE_USED
from vm.kinds import BAD_ARGUMENT, REQUIRED, RecordKind, Reference, Schema, kind_of
from vm.registry import UNKNOWN_CONTRACT, UNKNOWN_METHOD, Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"

CALL_FAULTS = (
    BAD_ARGUMENT,
    OUT_OF_GAS,
    CONTRACT_BROKEN,
    UNKNOWN_CONTRACT,
    UNKNOWN_METHOD,
    REFERENCE_USED.code,
    NO_ROLE.code,
)
"""What any call of any contract may end with."""

_REFERENCE = kind_of(Reference)


def contract_schema(contract: type[NativeContract]) -> dict[str, Any]:
    """Everything declared of a contract: methods, views, events, storage, faults; JSON-serialisable.

    `arguments` is the schema of the JSON object of named arguments, `fields` that of an event's; `returns` is null
    where a method returns nothing; `role` is the role its caller needs in some organisation, or null.
    """
    summary, _, rules = cleandoc(contract.__doc__ or "").partition("\n")
    methods = [found for found in contract.methods.values() if not found.is_view]
    views = [found for found in contract.methods.values() if found.is_view]
    return {
        "name": contract.name,
        "version": contract.version,
        "summary": summary,
        "rules": rules.strip(),
        "methods": {found.name: _method(found) for found in methods},
        "views": {found.name: _view(found) for found in views},
        "events": {name: _event(kind) for name, kind in contract.events.items()},
        "storage": {
            name: {"key": declared.key.schema(), "value": declared.value.schema()}
            for name, declared in contract.maps.items()
        },
        "faults": [_fault(each.code) for each in vars(contract).values() if isinstance(each, FaultCode)],
    }


def registry_schema(registry: Registry) -> dict[str, Any]:
    """The schemas of all contracts by name, and the faults that any call may end with."""
    return {
        "dialect": DIALECT,
        "contracts": {name: contract_schema(contract) for name, contract in registry.contracts.items()},
        "faults": [_fault(code) for code in CALL_FAULTS],
    }


def arguments_schema(found: Method) -> Schema:
    """The schema of a method's or view's JSON object of named arguments. A method also takes a `reference`."""
    properties: dict[str, Schema] = {}
    required = []
    for name, kind, default in found.parameters:
        properties[name] = dict(kind.schema())
        if default is REQUIRED:
            required.append(name)
        else:
            properties[name]["default"] = kind.to_json(default)
    if not found.is_view:
        properties["reference"] = {"anyOf": [_REFERENCE.schema(), {"type": "null"}], "default": None}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _method(found: Method) -> dict[str, Any]:
    return {"gas": found.gas, "role": found.role or None, **_view(found)}


def _view(found: Method) -> dict[str, Any]:
    return {
        "summary": found.summary,
        "arguments": arguments_schema(found),
        "returns": None if found.returns is None else found.returns.schema(),
    }


def _event(kind: RecordKind) -> dict[str, Any]:
    return {"summary": " ".join((kind.record.__doc__ or "").split()), "fields": kind.schema()}


def _fault(code: str) -> dict[str, Any]:
    registered = CODES[code]
    return {"code": code, "message": FAULT_MESSAGES.get(code, registered.title), "fix": registered.fix}
