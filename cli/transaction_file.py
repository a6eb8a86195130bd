"""A transaction as a file, to be signed by several people or on a machine without a network.

    {
      "format": "troth transaction",
      "version": 1,
      "body": "<hexadecimal>",                      the canonical bytes that are signed
      "signatures": [{"actor": 0, "public_key": "<64 digits>", "signature": "<128 digits>"}],
      "reads": {...}                                what the body says, for people
    }

Rules kept here:
- only `body` and `signatures` count. `reads` is for a look at the file, and ignored when it is read: whoever signs is
  shown what the body says, never what the file says about it;
- signatures already given must verify, or the file is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ledger import codec
from ledger.address import address_of, to_text
from ledger.errors import Fault, Invalid, Refused, define
from ledger.hashes import transaction_hash
from ledger.keys import PrivateKey, verify
from ledger.transaction import (
    BAD_SIGNATURE,
    MAX_TRANSACTION_BYTES,
    OVER_SIGNED,
    UNSIGNED,
    Signature,
    SignedTransaction,
    Transaction,
    assemble,
    decode,
    decode_body,
    signing_message,
)
from vm.faults import show_value
from vm.registry import Registry

BAD_FILE = define("E-TXFILE-001", "not a transaction file", "make it with: troth tx build")
IO_FAILED = define("E-TXFILE-002", "a transaction file could not be read or written", "check the path and permissions")

FORMAT = "troth transaction"
VERSION = 1
FILE_BYTES_MAX = 8 * MAX_TRANSACTION_BYTES


class Draft(NamedTuple):
    """A transaction with the signatures it has so far."""

    transaction: Transaction
    body: bytes
    signatures: tuple[Signature, ...]

    @property
    def id(self) -> bytes:
        """The transaction's id, which no signature changes."""
        return transaction_hash(self.body)

    def missing(self) -> list[bytes]:
        """The actors who have not signed."""
        signed = {signature.actor for signature in self.signatures}
        return [actor for index, actor in enumerate(self.transaction.actors) if index not in signed]

    def check_actor(self, address: bytes) -> None:
        """Raises Refused (E-TX-008) where the account has nothing to sign here."""
        if address not in self.transaction.actors:
            raise Refused(OVER_SIGNED, f"{to_text(address)} is no actor of this transaction", fix="sign as an actor")

    def signed_by(self, key: PrivateKey) -> Draft:
        """The draft with the signature of one more key. Raises Refused (E-TX-008) for a key of no actor."""
        address = address_of(key.public)
        self.check_actor(address)
        actor = self.transaction.actors.index(address)
        made = Signature(actor, key.public, key.sign(signing_message(self.id)))
        others = [each for each in self.signatures if each[:2] != made[:2]]
        return self._replace(signatures=tuple(sorted([*others, made])))

    def complete(self) -> SignedTransaction:
        """The signed transaction. Raises Invalid (E-TX-007) where an actor has not signed."""
        missing = self.missing()
        if missing:
            names = ", ".join([to_text(actor) for actor in missing])
            raise Invalid(UNSIGNED, f"not signed by {names}", fix="have them sign it: troth tx sign FILE --as KEY")
        return decode(assemble(self.transaction, self.body, self.signatures).raw)


def draft_of(transaction: Transaction) -> Draft:
    """The draft of a transaction that nobody has signed."""
    return Draft(transaction, codec.encode(transaction), ())


def read_draft(path: Path) -> Draft:
    """The draft in a file: the JSON above, or the hexadecimal digits of a whole signed transaction.

    Raises Invalid (E-TXFILE-001, E-TX-...), Fault (E-TXFILE-002).
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Fault(IO_FAILED, f"{path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise Invalid(BAD_FILE, f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return parse_draft(data, str(path))


def parse_draft(data: bytes, name: str) -> Draft:
    """The draft of a file's bytes. Raises Invalid."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Invalid(BAD_FILE, f"{name} is not text") from None
    if not text.startswith("{"):
        signed = decode(_hex(text, name, "it"))
        found = Draft(signed.transaction, codec.encode(signed.transaction), signed.signatures)
    else:
        found = _from_json(text, name)
    for signature in found.signatures:
        if not verify(signature.public_key, signing_message(found.id), signature.signature):
            raise Invalid(BAD_SIGNATURE, f"{name}: the signature of key {signature.public_key.hex()} does not verify")
    return found


def _from_json(text: str, name: str) -> Draft:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(BAD_FILE, f"{name} is not JSON: {error}") from None
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise Invalid(BAD_FILE, f"{name} is no transaction file of version {VERSION}")
    body = _hex(document.get("body"), name, "its body")
    transaction = decode_body(body)
    entries = document.get("signatures")
    if type(entries) is not list:
        raise Invalid(BAD_FILE, f"{name}: its signatures are missing")
    signatures = []
    for entry in entries:
        if type(entry) is not dict or type(entry.get("actor")) is not int:
            raise Invalid(BAD_FILE, f"{name}: a signature has actor, public_key and signature")
        key, signature = [_hex(entry.get(part), name, f"a {part}") for part in ("public_key", "signature")]
        if not 0 <= entry["actor"] < len(transaction.actors) or address_of(key) != transaction.actors[entry["actor"]]:
            raise Invalid(BAD_FILE, f"{name}: the key {key.hex()} does not belong to actor {entry['actor']}")
        signatures.append(Signature(entry["actor"], key, signature))
    return Draft(transaction, body, tuple(sorted(set(signatures))))


def write_draft(path: Path, draft: Draft, registry: Registry, *, replace: bool) -> None:
    """Writes a draft as JSON. Raises Fault (E-TXFILE-002); an existing file is kept unless `replace` is set."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "body": draft.body.hex(),
        "signatures": [
            {"actor": each.actor, "public_key": each.public_key.hex(), "signature": each.signature.hex()}
            for each in draft.signatures
        ],
        "reads": draft_json(registry, draft),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        if replace:
            aside = path.with_name(path.name + ".new")
            aside.write_text(text, encoding="utf-8")
            aside.replace(path)
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise Fault(IO_FAILED, f"{path}: {error.strerror}") from None


def draft_json(registry: Registry, draft: Draft) -> dict[str, Any]:
    """What a draft says, in the API's JSON forms."""
    transaction = draft.transaction
    return {
        "id": draft.id.hex(),
        "chain_id": transaction.chain_id,
        "actors": [to_text(actor) for actor in transaction.actors],
        "signed": [to_text(transaction.actors[each.actor]) for each in draft.signatures],
        "valid_until_ms": transaction.valid_until_ms,
        "gas_limit": transaction.gas_limit,
        "memo": transaction.memo,
        "calls": [
            {
                "actor": to_text(transaction.actors[call.actor]),
                "contract": call.contract,
                "method": call.method,
                "arguments": named_arguments(registry, call.contract, call.method, call.arguments),
            }
            for call in transaction.calls
        ],
    }


def named_arguments(registry: Registry, contract: str, method: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """A call's arguments by name in their JSON forms; by number where this program does not know the method."""
    declared = registry.contracts.get(contract)
    found = None if declared is None else declared.methods.get(method)
    shown: dict[str, Any] = {}
    for index, value in enumerate(arguments):
        if found is not None and index < len(found.parameters) and not found.parameters[index].kind.check(value):
            shown[found.parameters[index].name] = found.parameters[index].kind.to_json(value)
        elif found is not None and index == len(found.parameters):
            shown["reference"] = show_value(value)
        else:
            shown[str(index)] = show_value(value)
    return shown


def _hex(value: Any, name: str, what: str) -> bytes:
    if type(value) is str:
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise Invalid(BAD_FILE, f"{name}: {what} is not hexadecimal")
