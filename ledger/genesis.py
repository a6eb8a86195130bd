"""The genesis document: what the members agreed on before the first block, and all that an auditor has to trust.

A JSON object of these parts: `chain` (id and time), `parameters`, `validators`, `organisations` with their first
accounts and roles, and `nodes`, the machines that may connect to each other (none on a chain of one node). Its id is
the tagged hash of its canonical encoding, so white space and key order in the file do not matter, and every value
does. Unknown keys are refused: a misspelt parameter must not silently become a default.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, NamedTuple

from ledger import codec
from ledger.address import NULL_ADDRESS, address_of, from_text, to_text
from ledger.block import Validator
from ledger.errors import Invalid, define
from ledger.hashes import genesis_hash
from ledger.keys import check_public_key
from ledger.node_address import parse_address
from ledger.node_certificate import certificate_key

GENESIS_VERSION = 1
ROLES = ("administrator", "auditor", "issuer", "transactor")

BAD_GENESIS = define(
    "E-GENESIS-001", "not a genesis document", "get the file again from the consortium; do not edit it"
)

_CHAIN_ID = re.compile(r"[a-z][a-z0-9-]{2,31}")
_ORGANISATION_ID = re.compile(r"[a-z][a-z0-9-]{1,31}")


class Parameters(NamedTuple):
    """Chain parameters. Times in ms, sizes in bytes; quotas and limits in gas per block."""

    block_interval_ms: int = 100
    heartbeat_ms: int = 30_000
    validity_window_ms: int = 2 * 60 * 60 * 1000
    block_bytes: int = 4 << 20
    block_gas: int = 2_000_000
    block_transactions: int = 5_000
    organisation_gas: int = 1_600_000
    consumer_gas: int = 40_000
    reserved_gas: int = 100_000


_RANGES: dict[str, tuple[int, int]] = {
    "block_interval_ms": (10, 60_000),
    "heartbeat_ms": (100, 24 * 60 * 60 * 1000),
    "validity_window_ms": (60_000, 7 * 24 * 60 * 60 * 1000),
    "block_bytes": (512 << 10, 12 << 20),
    "block_gas": (200_000, 1 << 40),
    "block_transactions": (1, 50_000),
    "organisation_gas": (10_000, 1 << 40),
    "consumer_gas": (1_000, 1 << 40),
    "reserved_gas": (1_000, 1 << 40),
}


class Member(NamedTuple):
    """A first account of an organisation and its roles, ascending."""

    address: bytes
    roles: tuple[str, ...]


class Organisation(NamedTuple):
    """An organisation of the consortium at genesis. `id` is short and lower case, `name` is for people."""

    id: str
    name: str
    members: tuple[Member, ...]


class Node(NamedTuple):
    """A node that may connect to the others: whose it is, its certificate (DER), where it listens (`host:port`)."""

    organisation: str
    certificate: bytes
    addresses: tuple[str, ...]


class Genesis(NamedTuple):
    """The agreed beginning of a chain."""

    version: int
    chain_id: str
    time_ms: int
    parameters: Parameters
    validators: tuple[Validator, ...]
    organisations: tuple[Organisation, ...]
    nodes: tuple[Node, ...] = ()

    def id(self) -> bytes:
        """32 bytes that name this genesis."""
        return genesis_hash(codec.encode(self))

    def to_json(self) -> str:
        """The document as JSON text, two-space indented."""
        document = {
            "version": self.version,
            "chain": {"id": self.chain_id, "time_ms": self.time_ms},
            "parameters": self.parameters._asdict(),
            "validators": [
                {"organisation": v.organisation, "public_key": v.public_key.hex(), "power": v.power}
                for v in self.validators
            ],
            "organisations": [
                {
                    "id": organisation.id,
                    "name": organisation.name,
                    "members": [
                        {"address": to_text(member.address), "roles": list(member.roles)}
                        for member in organisation.members
                    ],
                }
                for organisation in self.organisations
            ],
            "nodes": [
                {
                    "organisation": node.organisation,
                    "certificate": node.certificate.hex(),
                    "addresses": list(node.addresses),
                }
                for node in self.nodes
            ],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse_genesis(text: str) -> Genesis:
    """The genesis of its JSON text. Raises Invalid (E-GENESIS-001) naming the place and what is wrong there.

    A key or address that is none has its own code: E-KEY-001, E-ADDRESS-001.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_float=_no_float)
    except (ValueError, RecursionError) as error:
        raise Invalid(BAD_GENESIS, f"not JSON: {error}") from None
    top = _object(document, "the document", {"version", "chain", "parameters", "validators", "organisations", "nodes"})
    if _integer(top["version"], "version", 0, 1 << 31) != GENESIS_VERSION:
        raise _bad("version", f"{top['version']} is unknown; this software knows {GENESIS_VERSION}")
    chain = _object(top["chain"], "chain", {"id", "time_ms"})
    given = _object(top["parameters"], "parameters", set(_RANGES))
    parameters = Parameters(
        **{name: _integer(given[name], f"parameters.{name}", *_RANGES[name]) for name in Parameters._fields}
    )
    genesis = Genesis(
        GENESIS_VERSION,
        _text(chain["id"], "chain.id", _CHAIN_ID),
        _integer(chain["time_ms"], "chain.time_ms", 1, 2**53 - 1),
        parameters,
        tuple(sorted(_validator(v, f"validators[{i}]") for i, v in enumerate(_array(top["validators"], "validators")))),
        tuple(
            _organisation(o, f"organisations[{i}]") for i, o in enumerate(_array(top["organisations"], "organisations"))
        ),
        tuple([_node(n, f"nodes[{i}]") for i, n in enumerate(_array(top["nodes"], "nodes", least=0))]),
    )
    check_genesis(genesis)
    return genesis


def check_genesis(genesis: Genesis) -> None:
    """Raises Invalid (E-GENESIS-001) where parts contradict each other or nobody could act."""
    ids = [organisation.id for organisation in genesis.organisations]
    _distinct(ids, "organisations: the id")
    _distinct([m.address for o in genesis.organisations for m in o.members], "organisations: the account")
    _distinct([v.address for v in genesis.validators], "validators: the key")
    for index, validator in enumerate(genesis.validators):
        if validator.organisation not in ids:
            raise _bad(
                f"validators[{index}].organisation",
                f"{validator.organisation!r} is no organisation of this document",
            )
    _distinct([n.certificate for n in genesis.nodes], "nodes: the certificate")
    for index, node in enumerate(genesis.nodes):
        if node.organisation not in ids:
            raise _bad(f"nodes[{index}].organisation", f"{node.organisation!r} is no organisation of this document")
    if not any("administrator" in m.roles for o in genesis.organisations for m in o.members):
        raise _bad("organisations", "no member is an administrator, so nobody could ever change anything")
    parameters = genesis.parameters
    if parameters.reserved_gas * 2 > parameters.block_gas:
        raise _bad("parameters.reserved_gas", "more than half of block_gas")


def _validator(value: Any, where: str) -> Validator:
    entry = _object(value, where, {"organisation", "public_key", "power"})
    key_text = entry["public_key"]
    if type(key_text) is not str or not re.fullmatch(r"[0-9a-f]{64}", key_text):
        raise _bad(f"{where}.public_key", "must be 64 lower-case hexadecimal digits")
    public_key = bytes.fromhex(key_text)
    check_public_key(public_key)
    organisation = _text(entry["organisation"], f"{where}.organisation", _ORGANISATION_ID)
    power = _integer(entry["power"], f"{where}.power", 1, 1 << 32)
    return Validator(address_of(public_key), public_key, power, organisation)


def _node(value: Any, where: str) -> Node:
    entry = _object(value, where, {"organisation", "certificate", "addresses"})
    text = entry["certificate"]
    if type(text) is not str or not re.fullmatch(r"([0-9a-f]{2}){1,2048}", text):
        raise _bad(f"{where}.certificate", "must be the lower-case hexadecimal digits of a node's certificate")
    certificate = bytes.fromhex(text)
    certificate_key(certificate)
    addresses = _array(entry["addresses"], f"{where}.addresses", least=0)
    for address in addresses:
        parse_address(_text(address, f"{where}.addresses", None), host_required=True)
    organisation = _text(entry["organisation"], f"{where}.organisation", _ORGANISATION_ID)
    return Node(organisation, certificate, tuple(addresses))


def _organisation(value: Any, where: str) -> Organisation:
    entry = _object(value, where, {"id", "name", "members"})
    name = _text(entry["name"], f"{where}.name", None)
    members = [_member(m, f"{where}.members[{i}]") for i, m in enumerate(_array(entry["members"], f"{where}.members"))]
    return Organisation(_text(entry["id"], f"{where}.id", _ORGANISATION_ID), name, tuple(members))


def _member(value: Any, where: str) -> Member:
    entry = _object(value, where, {"address", "roles"})
    if type(entry["address"]) is not str:
        raise _bad(f"{where}.address", "must be text")
    roles = _array(entry["roles"], f"{where}.roles")
    for role in roles:
        if role not in ROLES:
            raise _bad(
                f"{where}.roles",
                f"{role!r} is no role{_suggest(str(role), ROLES)}; roles: {', '.join(ROLES)}",
            )
    _distinct(roles, f"{where}.roles: the role")
    address = from_text(entry["address"])
    if address == NULL_ADDRESS:
        raise _bad(f"{where}.address", "must not be the null address, for which nobody can sign")
    return Member(address, tuple(sorted(roles)))


def _bad(where: str, what: str) -> Invalid:
    return Invalid(BAD_GENESIS, f"genesis, {where}: {what}")


def _object(value: Any, where: str, keys: set[str]) -> dict[str, Any]:
    if type(value) is not dict:
        raise _bad(where, "must be an object")
    for key in value:
        if key not in keys:
            raise _bad(where, f"unknown key {key!r}{_suggest(key, sorted(keys))}")
    for key in sorted(keys):
        if key not in value:
            raise _bad(where, f"the key {key!r} is missing")
    return value


def _array(value: Any, where: str, least: int = 1) -> list[Any]:
    if type(value) is not list or len(value) < least:
        raise _bad(where, f"must be an array{' with at least one entry' if least else ''}")
    return value


def _integer(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _bad(where, f"must be a whole number from {low} to {high}")
    return value


def _text(value: Any, where: str, pattern: re.Pattern[str] | None) -> str:
    if type(value) is not str or not 0 < len(value) <= 128 or codec.text_fault(value):
        raise _bad(where, "must be text of 1 to 128 characters in NFC")
    if pattern is not None and not pattern.fullmatch(value):
        raise _bad(where, f"{value!r} does not have the form {pattern.pattern}")
    return value


def _distinct(values: list[Any], where: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            shown = to_text(value) if type(value) is bytes else repr(value)
            raise _bad(where, f"{shown} is named twice")
        seen.add(value)


def _suggest(word: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return document


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is not a whole number")
