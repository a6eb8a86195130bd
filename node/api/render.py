"""JSON forms of ledger objects. Bytes are lower-case hexadecimal, addresses bech32m, times ms since 1970-01-01 UTC."""

from __future__ import annotations

from typing import Any

from ledger import codec
from ledger.address import to_text
from ledger.block import Block, Certificate, Header
from ledger.errors import TrothError
from ledger.receipt import Event, Receipt
from ledger.transaction import SignedTransaction
from node.ledger_store import Meta
from node.submission import Outcome
from vm.contract import Method
from vm.faults import fault_text, show_value
from vm.kinds import Kind
from vm.registry import Registry

Json = dict[str, Any]


def error_json(error: TrothError) -> Json:
    """An error: code, title, cause and fix."""
    return {"code": error.code, "title": error.title, "cause": error.cause, "fix": error.fix}


def header_json(header: Header) -> Json:
    """A header, field by field."""
    return {
        name: to_text(value) if name == "proposer" else value.hex() if isinstance(value, bytes) else value
        for name, value in header._asdict().items()
    }


def certificate_json(certificate: Certificate | None) -> Json | None:
    """A certificate, or null for genesis, which has none."""
    if certificate is None:
        return None
    return {
        "height": certificate.height,
        "round": certificate.round,
        "block_id": certificate.block_id.hex(),
        "seals": [
            {"validator": to_text(seal.validator), "signature": seal.signature.hex()} for seal in certificate.seals
        ],
    }


def block_json(
    header: Header, block: Block | None, meta: Meta, certificate: Certificate | None, ids: list[str]
) -> Json:
    """A block: header, ids of its transactions, certificate."""
    return {
        "height": header.height,
        "block_id": meta.block_id.hex(),
        "header": header_json(header),
        "transactions": ids,
        "transactions_total": meta.transactions,
        "evidence": [item.hex() for item in block.evidence] if block is not None else [],
        "certificate": certificate_json(certificate),
    }


def event_json(registry: Registry, event: Event) -> Json:
    """An event with its fields by name."""
    contract = registry.contracts.get(event.contract)
    kind: Kind | None = contract.events.get(event.name) if contract is not None else None
    fields = kind.to_json(event.fields) if kind is not None else [show_value(field) for field in event.fields]
    return {"contract": event.contract, "name": event.name, "fields": fields}


def receipt_json(registry: Registry, receipt: Receipt, signed: SignedTransaction | None = None) -> Json:
    """A receipt; its results by the declared kinds where the transaction is given."""
    message = fix = None
    if not receipt.ok:
        message, fix = fault_text(receipt.code, receipt.detail)
    results: list[Any] = []
    for index, value in enumerate(receipt.results):
        found: Method | None = None
        if signed is not None:
            call = signed.transaction.calls[index]
            found = registry.contracts[call.contract].methods[call.method]
        if value is None or found is None or found.returns is None:
            results.append(None if value is None else show_value(value))
        else:
            results.append(found.returns.to_json(value))
    return {
        "ok": receipt.ok,
        "code": receipt.code or None,
        "message": message,
        "fix": fix,
        "failed_call": receipt.failed_call,
        "gas_used": receipt.gas_used,
        "events": [event_json(registry, event) for event in receipt.events],
        "results": results,
    }


def transaction_json(registry: Registry, signed: SignedTransaction) -> Json:
    """A transaction with its calls' arguments by name."""
    transaction = signed.transaction
    return {
        "id": signed.id.hex(),
        "chain_id": transaction.chain_id,
        "actors": [to_text(actor) for actor in transaction.actors],
        "nonce": transaction.nonce.hex(),
        "valid_until_ms": transaction.valid_until_ms,
        "gas_limit": transaction.gas_limit,
        "memo": transaction.memo,
        "calls": [_call_json(registry, call) for call in transaction.calls],
        "signatures": [
            {"actor": index, "public_key": key.hex(), "signature": signature.hex()}
            for index, key, signature in signed.signatures
        ],
        "bytes": len(signed.raw),
    }


def _call_json(registry: Registry, call: Any) -> Json:
    contract = registry.contracts.get(call.contract)
    found = contract.methods.get(call.method) if contract is not None else None
    arguments: Any
    if found is None or len(call.arguments) < len(found.parameters):
        arguments = [show_value(argument) for argument in call.arguments]
    else:
        arguments = {
            parameter.name: show_value(argument) if parameter.kind.check(argument) else parameter.kind.to_json(argument)
            for parameter, argument in zip(found.parameters, call.arguments, strict=False)
        }
        if len(call.arguments) > len(found.parameters):
            arguments["reference"] = call.arguments[-1]
    return {"actor": call.actor, "contract": call.contract, "method": call.method, "arguments": arguments}


def outcome_json(registry: Registry, outcome: Outcome, *, receipts: bool) -> Json:
    """What became of a submitted transaction."""
    identifier = outcome.id.hex() or None
    if outcome.error is not None:
        return {"id": identifier, "status": "refused", "error": error_json(outcome.error)}
    if outcome.receipt is None:
        return {"id": identifier, "status": "waiting"}
    answer: Json = {"id": identifier, "status": "final", "height": outcome.height}
    if receipts:
        answer["receipt"] = receipt_json(registry, outcome.receipt)
    else:
        answer["code"] = outcome.receipt.code or None
    return answer


def header_hex(header: Header) -> str:
    """The canonical bytes of a header."""
    return codec.encode(header).hex()
