from __future__ import annotations

import json
from typing import Any

import pytest

from ledger import codec
from ledger.address import to_text
from ledger.block import Validator
from ledger.errors import Invalid
from ledger.genesis import Genesis, Parameters, parse_genesis
from ledger.hashes import genesis_hash
from tests.chains import SMALL_ORDER_KEY, account, genesis, key

_GENESIS = genesis()
_DOCUMENT = json.loads(_GENESIS.to_json())


def _document() -> dict[str, Any]:
    """A copy that a test may change."""
    found: dict[str, Any] = json.loads(_GENESIS.to_json())
    return found


def _refusal(document: object, code: str = "E-GENESIS-001") -> str:
    with pytest.raises(Invalid) as caught:
        parse_genesis(document if isinstance(document, str) else json.dumps(document))
    assert caught.value.code == code
    return caught.value.cause


def test_what_is_parsed_is_what_was_written() -> None:
    found = parse_genesis(_GENESIS.to_json())
    assert found == _GENESIS
    assert type(found) is Genesis and type(found.parameters) is Parameters
    assert all(type(each) is Validator for each in found.validators)


def test_the_id_is_the_tagged_hash_of_the_canonical_encoding() -> None:
    assert _GENESIS.id() == genesis_hash(codec.encode(_GENESIS))


def test_layout_does_not_matter() -> None:
    document = dict(reversed(_document().items()))
    document["parameters"] = dict(reversed(document["parameters"].items()))
    for member in document["organisations"][0]["members"]:
        member["roles"].reverse()
    assert parse_genesis(json.dumps(document, separators=(",", ":"))).id() == _GENESIS.id()


def test_the_order_of_validators_does_not_matter() -> None:
    document = _document()
    more = {"organisation": "grocer", "public_key": key("second").public.hex(), "power": 2}
    one, other = _document(), _document()
    one["validators"] = [*document["validators"], more]
    other["validators"] = [more, *document["validators"]]
    assert parse_genesis(json.dumps(one)) == parse_genesis(json.dumps(other))


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a number or text within a document."""
    found: list[tuple[Any, Any]] = []
    for place, item in value.items() if isinstance(value, dict) else enumerate(value):
        found += _leaves(item) if isinstance(item, dict | list) else [(value, place)]
    return found


def test_every_value_is_in_the_id() -> None:
    count = len(_leaves(_DOCUMENT))
    assert count > 20
    for index in range(count):
        document = _document()
        container, place = _leaves(document)[index]
        was = container[place]
        if isinstance(was, int):
            container[place] = was + 1
        elif was == to_text(account("till")) or len(was) == 64:
            container[place] = key("other").public.hex() if len(was) == 64 else to_text(account("other"))
        elif was.startswith("troth1"):
            container[place] = to_text(account("other"))
        elif was in ("issuer", "transactor", "administrator"):
            container[place] = "auditor"
        else:
            container[place] = was + "x"
        try:
            other = parse_genesis(json.dumps(document))
        except Invalid as error:
            assert error.code == "E-GENESIS-001"  # the change contradicts another part, and so was seen too
        else:
            assert other.id() != _GENESIS.id(), (was, container)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"version": 1.0}',
        '{"version": 1, "version": 1}',
        "NaN",
        "[" * 100_000,
        '{"version": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    _refusal(text)


def test_a_missing_key_is_named() -> None:
    for name in _DOCUMENT:
        document = _document()
        del document[name]
        assert f"the key {name!r} is missing" in _refusal(document)
    for name in Parameters._fields:
        document = _document()
        del document["parameters"][name]
        assert f"the key {name!r} is missing" in _refusal(document)


def test_an_unknown_key_is_named_and_a_near_one_suggested() -> None:
    document = _document()
    document["parameters"]["block_interval"] = 100
    cause = _refusal(document)
    assert "parameters" in cause and "'block_interval'" in cause and "did you mean 'block_interval_ms'?" in cause


@pytest.mark.parametrize("name", Parameters._fields)
def test_each_parameter_has_a_range(name: str) -> None:
    for bad in (-1, 0, 1 << 60, "250", 2.5, None, True):
        document = _document()
        document["parameters"][name] = bad
        cause = _refusal(document)
        assert isinstance(bad, float) or f"parameters.{name}" in cause


def _set(path: str, value: Any) -> dict[str, Any]:
    document: Any = _document()
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = document
    for part in way:
        place = place[part]
    place[last] = value
    return document  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", "1"),
        ("chain", []),
        ("chain.id", "Test"),
        ("chain.id", "ab"),
        ("chain.id", "a" * 33),
        ("chain.id", "1chain"),
        ("chain.id", 7),
        ("chain.time_ms", 0),
        ("chain.time_ms", 2**53),
        ("chain.time_ms", "1700000000000"),
        ("validators", []),
        ("validators", {}),
        ("validators.0", []),
        ("validators.0.public_key", "00"),
        ("validators.0.public_key", key("validator").public.hex().upper()),
        ("validators.0.public_key", 7),
        ("validators.0.power", 0),
        ("validators.0.power", 1 << 33),
        ("validators.0.organisation", "nobody"),
        ("organisations", []),
        ("organisations.0.id", "R"),
        ("organisations.0.id", "grocer"),
        ("organisations.0.name", ""),
        ("organisations.0.name", "x" * 129),
        ("organisations.0.name", "bell\u0007"),
        ("organisations.0.name", "e\u0301"),
        ("organisations.0.members", []),
        ("organisations.0.members.0.address", 7),
        ("organisations.0.members.0.roles", []),
        ("organisations.0.members.0.roles", ["owner"]),
        ("organisations.0.members.0.roles", ["issuer", "issuer"]),
        ("organisations.0.members.0.roles", [[]]),
        ("organisations.1.members.0.address", to_text(account("till"))),
        ("parameters.reserved_gas", 1_000_001),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(path: str, value: Any) -> None:
    cause = _refusal(_set(path, value))
    assert path.split(".")[0] in cause


def test_a_wrong_address_or_key_is_named_for_what_it_is() -> None:
    assert "checksum" in _refusal(
        _set("organisations.0.members.0.address", to_text(account("till"))[:-1] + "q"), "E-ADDRESS-001"
    )
    assert "small order" in _refusal(_set("validators.0.public_key", SMALL_ORDER_KEY.hex()), "E-KEY-001")


def test_a_misspelt_role_is_suggested() -> None:
    assert "did you mean 'issuer'?" in _refusal(_set("organisations.0.members.0.roles", ["isuer"]))


def test_the_null_account_is_no_member() -> None:
    assert "null" in _refusal(_set("organisations.0.members.0.address", to_text(bytes(20))))


def test_somebody_must_be_able_to_act() -> None:
    assert "no member is an administrator" in _refusal(_set("organisations.0.members.0.roles", ["issuer"]))


def test_one_key_is_one_validator() -> None:
    document = _document()
    document["validators"].append(document["validators"][0])
    assert "named twice" in _refusal(document)
