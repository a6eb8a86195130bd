"""The API is what its description says, and nothing that the description allows breaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlencode

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ledger import codec
from node.api.openapi import document
from node.api.server import ApiLimits, application
from node.contracts import registry
from tests.end_to_end.nodes import NodeProcess
from tests.end_to_end.requests import ask, call, create, get, mint, post, signed, submit, transfer

_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

# An event stream has no end, so its answer cannot be compared; `test_api_streams` reads it.
_SCHEMA = schemathesis.openapi.from_dict(document(registry())).exclude(path="/v1/stream")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with something of everything, so that answers are not empty."""
    with NodeProcess.create(tmp_path_factory.mktemp("node"), settings={"node.workers": 1}) as started:
        submit(started, signed("roaster", create(), mint("alice", 10)).raw)
        submit(started, signed("alice", transfer("bob", 11)).raw, signed("alice", transfer("bob", 1)).raw)
        product = call("certificate.define_product", "04006381333931", "Beans", bytes(32))
        assert submit(started, signed("roaster", product).raw)[0]["receipt"]["ok"]
        yield started


def test_the_description_is_openapi(node: NodeProcess) -> None:
    answer = get(node, "/openapi.json")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/json")
    assert answer.json == document(registry())
    assert answer.json["openapi"].startswith("3.1.")
    validate(answer.json)


def test_every_route_is_described_and_every_described_route_is_there() -> None:
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in application(cast("Any", object()), ApiLimits()).router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    described = {(method, path) for path, item in document(registry())["paths"].items() for method in item}
    assert served == described


def test_every_parameter_of_a_path_is_described() -> None:
    for path, item in document(registry())["paths"].items():
        for operation in item.values():
            named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path


@_SCHEMA.parametrize()
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_the_node(case: Any, node: NodeProcess) -> None:
    case.call_and_validate(base_url=node.url, checks=_CHECKS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["beans", "troth1", "00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_VIEWS = [
    (name, method.name, [parameter.name for parameter in method.parameters])
    for name, contract in registry().contracts.items()
    for method in contract.methods.values()
    if method.is_view
]
_MAPS = [(name, each) for name, contract in registry().contracts.items() for each in contract.maps]


@settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_arguments_break_a_view(data: st.DataObject, node: NodeProcess) -> None:
    contract, view, names = data.draw(st.sampled_from(_VIEWS))
    arguments = {name: data.draw(_JSON) for name in names if data.draw(st.integers(0, 9))}
    answer = post(node, f"/v1/contracts/{contract}/views/{view}", arguments)
    assert answer.status in (200, 400, 409), (contract, view, arguments, answer)


@settings(max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_key_breaks_a_cell(data: st.DataObject, node: NodeProcess) -> None:
    contract, cell_map = data.draw(st.sampled_from(_MAPS))
    key = data.draw(st.lists(_JSON, max_size=3) | _JSON)
    query = urlencode({"key": json.dumps(key), "proof": "1"})
    answer = get(node, f"/v1/state/{contract}/{cell_map}?{query}")
    assert answer.status in (200, 400), (contract, cell_map, key, answer)


@settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.binary(max_size=300), flips=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), max_size=3))
def test_no_bytes_break_a_submission(raw: bytes, flips: list[tuple[int, int]], node: NodeProcess) -> None:
    bent = bytearray(signed("alice", transfer("bob", 1)).raw)
    for index, bits in flips:
        bent[index] ^= bits
    for body in (raw, codec.encode((raw, bytes(bent)))):
        answer = ask(node, "POST", "/v1/transactions", body, {"Content-Type": "application/octet-stream"})
        assert answer.status in (200, 202, 400), (body, answer)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/chain",
        "/v1/genesis",
        "/v1/blocks",
        "/v1/blocks?limit=1",
        "/v1/blocks/0",
        "/v1/blocks/1",
        "/v1/blocks/head",
        "/v1/contracts",
        "/v1/contracts/points",
        "/v1/state/points/totals?key=%5B%22beans%22%5D&proof=1",
        "/v1/state/points/totals?key=%5B%22beans%22%5D&proof=1&height=0",
        "/v1/state/points/totals?key=%5B%22tea%22%5D&proof=1",
        "/health/live",
        "/health/ready",
    ],
)
def test_a_good_answer_is_as_described(target: str, node: NodeProcess) -> None:
    _matches(node, target)


def test_a_transaction_is_as_described(node: NodeProcess) -> None:
    for made in (signed("alice", transfer("bob", 1)), signed("alice", transfer("bob", 99))):
        submit(node, made.raw)
        _matches(node, f"/v1/transactions/{made.id.hex()}?proof=1")


def _matches(node: NodeProcess, target: str) -> None:
    answer = get(node, target)
    assert answer.status == 200
    described = document(registry())
    path = target.partition("?")[0]
    for pattern, item in described["paths"].items():
        parts, given = pattern.split("/"), path.split("/")
        if len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True)):
            media = item["get"]["responses"]["200"]["content"]["application/json"]
            jsonschema.Draft202012Validator({**media["schema"], "components": described["components"]}).validate(
                answer.json
            )
            return
    raise AssertionError(f"{target} is not described")
