"""The schemas of all contracts: valid JSON Schema, complete, true to what the contracts take and give, and stable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ledger.address import to_text
from ledger.errors import CODES
from node.contracts import registry
from tests.harness import FRIEND, HOLDER, ROASTER, Chain
from tests.unit.vm.toy import Toy
from vm.schema import DIALECT, arguments_schema, contract_schema, registry_schema

DOCUMENT = registry_schema(registry())
PARTS = [
    pytest.param(name, kind, part, id=f"{name}.{part}")
    for name, contract in DOCUMENT["contracts"].items()
    for kind in ("methods", "views", "events", "storage")
    for part in contract[kind]
]
PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("name", "kind", "part"), PARTS)
def test_every_part_is_json_schema(name: str, kind: str, part: str) -> None:
    described = DOCUMENT["contracts"][name][kind][part]
    if kind in ("methods", "views"):
        schemas = [described["arguments"]] + [described["returns"]] * (described["returns"] is not None)
        assert described["summary"]
    elif kind == "events":
        schemas = [described["fields"]]
        assert described["summary"]
    else:
        schemas = [described["key"], described["value"]]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def test_it_is_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["dialect"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]


def test_every_contract_method_and_fault_is_there() -> None:
    contracts = registry().contracts
    assert list(DOCUMENT["contracts"]) == list(contracts)
    for name, contract in contracts.items():
        described = DOCUMENT["contracts"][name]
        assert [*described["methods"], *described["views"]] == list(contract.methods)
        assert list(described["events"]) == list(contract.events)
        assert list(described["storage"]) == list(contract.maps)
        assert described["faults"]
        assert described["version"] == 1
    assert "E-VM-002" in [fault["code"] for fault in DOCUMENT["faults"]]


def test_a_contract_in_full() -> None:
    described = contract_schema(Toy)
    assert (described["name"], described["version"]) == ("toy", 3)
    assert (described["summary"], described["rules"]) == ("Counts.", "- A counter is never above 9.")
    assert described["methods"]["reset"] == {
        "gas": 10,
        "role": "issuer",
        "summary": "Removes a counter.",
        "arguments": {
            "type": "object",
            "properties": {
                "account": {
                    "type": "string",
                    "pattern": "^troth1[02-9ac-hj-np-z]{38}$",
                    "description": "a Troth address",
                },
                "really": {"type": "boolean", "default": True},
                "reference": {
                    "anyOf": [
                        {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 64,
                            "description": "the caller's own key for this operation; never accepted twice",
                        },
                        {"type": "null"},
                    ],
                    "default": None,
                },
            },
            "required": ["account"],
            "additionalProperties": False,
        },
        "returns": None,
    }
    assert described["methods"]["add"]["role"] is None
    assert described["methods"]["add"]["returns"] == {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
    assert "reference" not in described["views"]["total"]["arguments"]["properties"]
    assert described["events"]["Added"]["summary"] == "A counter rose."
    assert described["events"]["Added"]["fields"]["required"] == ["account", "amount"]


def test_faults_say_code_message_and_fix() -> None:
    faults = {fault["code"]: fault for fault in DOCUMENT["contracts"]["points"]["faults"]}
    assert faults["E-POINTS-004"] == {
        "code": "E-POINTS-004",
        "message": "the account {} holds {} points, {} are needed",
        "fix": CODES["E-POINTS-004"].fix,
    }


@pytest.mark.parametrize(
    ("given", "valid"),
    [
        ({"programme": "beans", "to": to_text(HOLDER), "amount": 5}, True),
        ({"programme": "beans", "to": to_text(HOLDER), "amount": 5, "reference": "r-1"}, True),
        ({"programme": "beans", "to": to_text(HOLDER), "amount": 5, "reference": None}, True),
        ({"programme": "beans", "to": to_text(HOLDER)}, False),
        ({"programme": "beans", "to": to_text(HOLDER), "amount": -5}, False),
        ({"programme": "Beans", "to": to_text(HOLDER), "amount": 5}, False),
        ({"programme": "beans", "to": "somebody", "amount": 5}, False),
        ({"programme": "beans", "to": to_text(HOLDER), "amount": 5, "from": to_text(FRIEND)}, False),
        ([], False),
    ],
)
def test_arguments_by_their_schema(given: Any, valid: bool) -> None:
    found = registry().method("points", "transfer")
    assert Draft202012Validator(arguments_schema(found)).is_valid(given) is valid


def test_what_contracts_give_fits_their_schema() -> None:
    chain = Chain()
    receipt = chain.call(ROASTER, "points.create", "beans", "Beans", 5, "beans", 0)
    points = registry().contract("points")
    name, fields = receipt.events[0].name, receipt.events[0].fields
    shown = points.events[name].to_json(fields)
    assert shown == {"programme": "beans", "organisation": "roaster", "cap": 5}
    Draft202012Validator(DOCUMENT["contracts"]["points"]["events"][name]["fields"]).validate(shown)
    returns = points.methods["show"].returns
    assert returns is not None
    answer = returns.to_json(chain.view("points.show", "beans"))
    Draft202012Validator(DOCUMENT["contracts"]["points"]["views"]["show"]["returns"]).validate(answer)
    assert answer["outstanding"] == 0


def test_the_document_is_the_same_under_every_hash_seed() -> None:
    program = (
        "import json; from node.contracts import registry; from vm.schema import registry_schema;"
        "print(json.dumps(registry_schema(registry())))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=PROJECT, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == DOCUMENT
        assert done.stdout.strip() == json.dumps(DOCUMENT)
