"""What a founding member hands to the others: the public parts of its home, in a file (`troth genesis member`).

    {
      "format": "troth member",
      "version": 1,
      "chain_id": "acme-1",                     the chain it is for, or null: for any
      "organisation": {"id": "grocer", "name": "The Grocer"},
      "account": "troth1...",                   of the organisation's first administrator
      "validator": "<64 hex digits>",           public key
      "node": {"certificate": "<hex>", "addresses": ["grocer.example:8701"]},
      "time_ms": 1795334669114,                 when it was made
      "signature": "<128 hex digits>"           by the validator's key, over all of the above
    }

Rules kept here:
- nothing secret is in it: it may go through any hands. Whoever changes a part on the way must replace the validator's
  key too, and then the member does not find its keys in the genesis document;
- the number of a file names its content: members read it to each other to know that each has the others' true file;
- what is signed is the tagged hash of the canonical encoding, so white space and order do not matter.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from ledger import codec
from ledger.address import from_text, to_text
from ledger.errors import Fault, Invalid, NotFound, VerifyFailed, define
from ledger.hashes import tagged
from ledger.keys import PrivateKey, check_public_key, verify
from ledger.node_address import parse_address
from ledger.node_certificate import certificate_key

BAD_MEMBER = define("E-MEMBER-001", "not a member's file", "have the member make it again: troth genesis member")
NO_FILE = define("E-MEMBER-002", "a member's file cannot be read", "name the file that `troth genesis member` wrote")
BAD_SIGNATURE = define(
    "E-MEMBER-003", "a member's file was changed after it was signed", "get it again from the member, another way"
)

FORMAT = "troth member"
VERSION = 1
FILE_BYTES_MAX = 64 << 10
ADDRESSES_MAX = 8

_member_hash = tagged("member")


class FoundingMember(NamedTuple):
    """A member's public parts. `chain_id` is empty where the file is for any chain."""

    chain_id: str
    organisation: str
    name: str
    account: bytes
    validator: bytes
    certificate: bytes
    addresses: tuple[str, ...]
    time_ms: int

    def number(self) -> bytes:
        """32 bytes that name this content."""
        return _member_hash(codec.encode((VERSION, *self)))


def member_json(member: FoundingMember, key: PrivateKey) -> str:
    """The file's text, signed with the validator's key."""
    assert key.public == member.validator
    document = {
        "format": FORMAT,
        "version": VERSION,
        "chain_id": member.chain_id or None,
        "organisation": {"id": member.organisation, "name": member.name},
        "account": to_text(member.account),
        "validator": member.validator.hex(),
        "node": {"certificate": member.certificate.hex(), "addresses": list(member.addresses)},
        "time_ms": member.time_ms,
        "signature": key.sign(member.number()).hex(),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_member(path: Path) -> FoundingMember:
    """The member of a file. Raises NotFound and Fault (E-MEMBER-002), and what `parse_member` raises."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(NO_FILE, f"{path} is missing") from None
    except OSError as error:
        raise Fault(NO_FILE, f"{path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise Invalid(BAD_MEMBER, f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return parse_member(data, str(path))


def parse_member(data: bytes, name: str) -> FoundingMember:
    """The member of a file's bytes; `name` is the file's, for messages.

    Raises Invalid (E-MEMBER-001, and the codes of keys, addresses and certificates), VerifyFailed (E-MEMBER-003).
    """
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Invalid(BAD_MEMBER, f"{name} is not JSON: {error}") from None
    keys = {"format", "version", "chain_id", "organisation", "account", "validator", "node", "time_ms", "signature"}
    top = _object(document, name, "the file", keys)
    if (top["format"], top["version"]) != (FORMAT, VERSION):
        raise Invalid(BAD_MEMBER, f"{name} is no {FORMAT} file of version {VERSION}")
    organisation = _object(top["organisation"], name, "organisation", {"id", "name"})
    node = _object(top["node"], name, "node", {"certificate", "addresses"})
    addresses = node["addresses"]
    if type(addresses) is not list or not 0 < len(addresses) <= ADDRESSES_MAX:
        raise Invalid(BAD_MEMBER, f"{name}: node.addresses must be an array of 1 to {ADDRESSES_MAX}")
    for address in addresses:
        parse_address(_text(address, name, "node.addresses"), host_required=True)
    if type(top["time_ms"]) is not int or not 0 < top["time_ms"] < 1 << 53:
        raise Invalid(BAD_MEMBER, f"{name}: time_ms must be a time in milliseconds")
    member = FoundingMember(
        "" if top["chain_id"] is None else _text(top["chain_id"], name, "chain_id"),
        _text(organisation["id"], name, "organisation.id"),
        _text(organisation["name"], name, "organisation.name"),
        from_text(_text(top["account"], name, "account")),
        _hex(top["validator"], name, "validator", 32),
        _hex(node["certificate"], name, "node.certificate", None),
        tuple(addresses),
        top["time_ms"],
    )
    check_public_key(member.validator)
    certificate_key(member.certificate)
    if not verify(member.validator, member.number(), _hex(top["signature"], name, "signature", 64)):
        raise VerifyFailed(BAD_SIGNATURE, f"{name}: the signature is not its validator's")
    return member


def _object(value: Any, name: str, where: str, keys: set[str]) -> dict[str, Any]:
    if type(value) is not dict or set(value) != keys:
        raise Invalid(BAD_MEMBER, f"{name}: {where} must be an object of {', '.join(sorted(keys))}")
    return value


def _text(value: Any, name: str, where: str) -> str:
    if type(value) is not str or not 0 < len(value) <= 300 or codec.text_fault(value):
        raise Invalid(BAD_MEMBER, f"{name}: {where} must be text of 1 to 300 characters in NFC")
    return value


def _hex(value: Any, name: str, where: str, length: int | None) -> bytes:
    if type(value) is not str or not re.fullmatch(r"([0-9a-f]{2}){1,2048}", value):
        raise Invalid(BAD_MEMBER, f"{name}: {where} must be lower-case hexadecimal digits")
    if length is not None and len(value) != 2 * length:
        raise Invalid(BAD_MEMBER, f"{name}: {where} must be {2 * length} hexadecimal digits")
    return bytes.fromhex(value)
