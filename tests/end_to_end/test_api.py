"""What the API answers, and that its answers are proven by the genesis document alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consensus.quorum import check_certificate
from ledger import codec, merkle
from ledger.address import to_text
from ledger.block import Header, certificate_of, decode_block, header_of, validators_root
from ledger.errors import TrothError, VerifyFailed
from ledger.genesis import Genesis, parse_genesis
from ledger.ics23 import CommitmentProof, verify_state_absence, verify_state_membership
from ledger.receipt import decode_receipt
from ledger.transaction import check_signatures, decode
from node.chain import Chain
from node.contracts import registry
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from tests.end_to_end.nodes import NodeProcess
from tests.end_to_end.requests import address, ask, call, create, get, mint, post, signed, submit, transfer
from tests.ics23_js.verify import Case, verify_with_javascript


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with thirty members of a programme, some transfers that failed, and a few blocks."""
    with NodeProcess.create(tmp_path_factory.mktemp("node"), settings={"node.workers": 1}) as started:
        submit(started, signed("roaster", create()).raw)
        submit(started, *[signed("roaster", mint(f"member-{number}", number)).raw for number in range(30)])
        submit(started, *[signed(f"member-{number}", transfer("alice", 20)).raw for number in range(30)])
        yield started


def _height(node: NodeProcess) -> int:
    height: int = get(node, "/v1/chain").json["height"]
    return height


# Submitting


def test_waiting_for_the_end(node: NodeProcess) -> None:
    good, bad = signed("roaster", mint("alice", 1)), signed("nobody", transfer("alice", 1))
    before = _height(node)
    first, second = submit(node, good.raw, bad.raw)
    assert (first["id"], second["id"]) == (good.id.hex(), bad.id.hex())
    assert first["status"] == second["status"] == "final" and first["height"] > before
    assert first["receipt"]["ok"] and not second["receipt"]["ok"]
    [event] = first["receipt"]["events"]
    assert event == {
        "contract": "points",
        "name": "Minted",
        "fields": {"programme": "beans", "to": to_text(address("alice")), "amount": 1},
    }


def test_without_receipts(node: NodeProcess) -> None:
    good, bad = signed("roaster", mint("alice", 1)), signed("nobody", transfer("alice", 1))
    results = submit(node, good.raw, bad.raw, query="?wait=final&receipts=0")
    assert [each["code"] for each in results] == [None, "E-POINTS-004"]
    assert all("receipt" not in each for each in results)


def test_octets_are_taken_as_json_is(node: NodeProcess) -> None:
    made = signed("roaster", mint("alice", 1))
    answer = ask(
        node,
        "POST",
        "/v1/transactions?wait=final",
        codec.encode((made.raw,)),
        {"Content-Type": "application/octet-stream"},
    )
    assert answer.status == 200 and answer.json["results"][0]["receipt"]["ok"]


def test_without_waiting_it_can_be_asked_for_later(node: NodeProcess) -> None:
    made = signed("roaster", mint("alice", 1))
    answer = post(node, "/v1/transactions", {"transactions": [made.raw.hex()]})
    assert answer.status == 202 and answer.json == {"results": [{"id": made.id.hex(), "status": "waiting"}]}
    [again] = submit(node, made.raw)  # waits for the same one, or comes too late
    assert again["status"] == "final" or again["error"]["code"] == "E-TX-006"
    assert get(node, f"/v1/transactions/{made.id.hex()}").json["status"] == "final"


def test_simulating_tells_and_changes_nothing(node: NodeProcess) -> None:
    made = signed("roaster", mint("frank", 5))
    before = get(node, "/v1/chain").json["transactions"]
    answer = post(node, "/v1/transactions/simulate", {"transaction": made.raw.hex()})
    assert answer.status == 200 and answer.json["receipt"]["ok"]
    assert get(node, "/v1/chain").json["transactions"] == before
    assert get(node, f"/v1/transactions/{made.id.hex()}").status == 404
    [result] = submit(node, made.raw)
    assert result["receipt"] == answer.json["receipt"]


def test_results_are_shown_by_their_declared_kinds(node: NodeProcess) -> None:
    gtin = "04006381333931"
    submit(node, signed("roaster", call("certificate.define_product", gtin, "Beans", bytes(32))).raw)
    made = signed("alice", call("certificate.scan", gtin, "serial-1", "shop"))
    submit(node, made.raw)
    [result] = get(node, f"/v1/transactions/{made.id.hex()}").json["receipt"]["results"]
    assert result == {"word": "unknown", "first_ms": None, "scans": 0}


# Blocks


def test_the_chain_describes_itself(node: NodeProcess) -> None:
    found = get(node, "/v1/chain").json
    genesis = node.genesis
    assert found["chain_id"] == genesis.chain_id and found["genesis_id"] == genesis.id().hex()
    assert found["validators"][0]["public_key"] == genesis.validators[0].public_key.hex()
    assert found["parameters"] == genesis.parameters._asdict()
    assert parse_genesis(get(node, "/v1/genesis").body.decode()) == genesis


def test_pages_of_blocks_hold_each_block_once(node: NodeProcess) -> None:
    top = _height(node)
    seen: list[int] = []
    target = f"/v1/blocks?limit=3&before={top + 1}"
    while target:
        page = get(node, target).json
        assert len(page["blocks"]) <= 3
        seen += [row["height"] for row in page["blocks"]]
        target = "" if page["next"] is None else f"/v1/blocks?limit=3&before={page['next']}"
    assert seen == list(range(top, -1, -1))
    counts = [row["transactions"] for row in get(node, "/v1/blocks?limit=100").json["blocks"]]
    assert sum(counts) == get(node, "/v1/chain").json["transactions"]


def test_a_block_has_one_answer_by_height_and_by_id(node: NodeProcess) -> None:
    by_height = get(node, "/v1/blocks/2").json
    assert get(node, f"/v1/blocks/{by_height['block_id']}").json == by_height
    octets = get(node, "/v1/blocks/2", Accept="application/octet-stream, application/problem+json")
    raw, certificate = codec.decode(octets.body)
    block = decode_block(raw)
    assert block.header.id().hex() == by_height["block_id"] == certificate_of(certificate).block_id.hex()
    assert [decode(each).id.hex() for each in block.transactions] == by_height["transactions"]
    assert get(node, "/v1/blocks/0").json["certificate"] is None


def _frames(body: bytes) -> Iterator[Any]:
    while body:
        size = int.from_bytes(body[:4], "big")
        yield codec.decode(body[4 : 4 + size])
        body = body[4 + size :]


def test_an_export_replays_to_the_same_state(node: NodeProcess) -> None:
    chain = Chain(LedgerStore(MemoryStore()), registry(), node.genesis)
    while True:
        frames = list(_frames(get(node, f"/v1/export?from={chain.head.height + 1}&limit=2").body))
        assert len(frames) <= 2
        if not frames:
            break
        for raw, fields in frames:
            candidate = chain.judge(decode_block(raw))
            certificate = certificate_of(fields)
            check_certificate(certificate, chain.genesis.chain_id, candidate.block_id, chain.validators)
            chain.append(candidate, certificate)
    height = chain.head.height
    cells = list(_frames(get(node, f"/v1/cells?height={height}").body))
    assert [tuple(cell) for cell in cells] == list(chain.store.cells(height))
    assert get(node, f"/v1/blocks/{height}").json["header"]["state_root"] == chain.header(height).state_root.hex()


# Views and cells


def _view(node: NodeProcess, name: str, height: int | None = None) -> Any:
    target = "/v1/contracts/points/views/balance_of" + ("" if height is None else f"?height={height}")
    return post(node, target, {"programme": "beans", "account": to_text(address(name))}).json["value"]


def _cell(node: NodeProcess, name: str, *, proof: bool = True, height: int | None = None) -> dict[str, Any]:
    query: dict[str, Any] = {"key": json.dumps(["beans", to_text(address(name))])}
    if proof:
        query["proof"] = 1
    if height is not None:
        query["height"] = height
    answer = get(node, f"/v1/state/points/account?{urlencode(query)}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


def test_a_past_height_keeps_its_answers(node: NodeProcess) -> None:
    height = _height(node)
    before = _view(node, "grace"), _cell(node, "grace", height=height)
    submit(node, signed("roaster", mint("grace", 7)).raw)
    assert (_view(node, "grace", height), _cell(node, "grace", height=height)) == before
    assert (_view(node, "grace"), before[0]) == (7, 0)
    assert _cell(node, "grace")["value"] == {"balance": 7, "frozen": False}


# Proofs. What is trusted: the genesis document.


def _final_header(genesis: Genesis, proof: dict[str, Any]) -> Header:
    header = header_of(codec.decode(bytes.fromhex(proof["header"])))
    certificate = certificate_of(codec.decode(bytes.fromhex(proof["certificate"])))
    if header.validators_root != validators_root(genesis.validators) or certificate.height != header.height:
        raise VerifyFailed("E-CERTIFICATE-001", "another set of validators, or of another height")
    check_certificate(certificate, genesis.chain_id, header.id(), genesis.validators)
    return header


def _prove_cell(genesis: Genesis, key: bytes, answer: dict[str, Any]) -> Header:
    """Raises TrothError unless the answer proves what it says of the cell `key`."""
    header = _final_header(genesis, answer["proof"])
    commitment = CommitmentProof.decode(bytes.fromhex(answer["proof"]["commitment"]))
    if answer["exists"]:
        verify_state_membership(header.state_root, key, bytes.fromhex(answer["value_bytes"]), commitment)
    else:
        verify_state_absence(header.state_root, key, commitment)
    return header


def _key(name: str) -> bytes:
    return codec.encode(("points", "account", "beans", address(name)))


def _bent(text: str, place: int) -> str:
    """Hexadecimal digits with one bit changed."""
    data = bytearray.fromhex(text)
    data[place % len(data)] ^= 1
    return data.hex()


def test_every_cell_is_proven_by_the_genesis_alone(node: NodeProcess) -> None:
    for number in range(30):
        answer = _cell(node, f"member-{number}")
        assert answer["exists"] and answer["key"] == _key(f"member-{number}").hex()
        header = _prove_cell(node.genesis, _key(f"member-{number}"), answer)
        assert header.height == answer["height"]
        assert codec.decode(bytes.fromhex(answer["value_bytes"])) == (answer["value"]["balance"], False)
        assert answer["value"]["balance"] == (number if number < 20 else number - 20)


def test_absence_is_proven_too(node: NodeProcess) -> None:
    for number in range(20):
        answer = _cell(node, f"stranger-{number}")
        assert not answer["exists"] and answer["value"] is None and answer["value_bytes"] is None
        _prove_cell(node.genesis, _key(f"stranger-{number}"), answer)


def test_a_proof_says_nothing_else(node: NodeProcess) -> None:
    exists, absent = _cell(node, "member-3"), _cell(node, "stranger-3")
    key = _key("member-3")
    lies = [
        (_key("member-4"), exists),
        (key, {**exists, "value_bytes": codec.encode((4, False)).hex()}),
        (key, {**exists, "exists": False}),
        (key, {**absent, "exists": True, "value_bytes": exists["value_bytes"]}),
        (_key("member-3"), absent),
    ]
    for wrong, answer in lies:
        with pytest.raises(TrothError):
            _prove_cell(node.genesis, wrong, answer)
    for part in ("header", "certificate", "commitment"):
        for place in range(0, len(exists["proof"][part]) // 2, 7):
            proof = {**exists["proof"], part: _bent(exists["proof"][part], place)}
            with pytest.raises(TrothError):
                _prove_cell(node.genesis, key, {**exists, "proof": proof})


def test_the_state_of_height_0_follows_from_the_genesis_document(node: NodeProcess) -> None:
    query = urlencode({"key": json.dumps([to_text(address("roaster"))]), "height": 0, "proof": 1})
    answer = get(node, f"/v1/state/organisations/member?{query}").json
    assert answer["proof"]["certificate"] is None
    header = header_of(codec.decode(bytes.fromhex(answer["proof"]["header"])))
    assert header == Chain(LedgerStore(MemoryStore()), registry(), node.genesis).genesis_header
    verify_state_membership(
        header.state_root,
        bytes.fromhex(answer["key"]),
        bytes.fromhex(answer["value_bytes"]),
        CommitmentProof.decode(bytes.fromhex(answer["proof"]["commitment"])),
    )


def _forgeries(proof: bytes, number: int) -> list[bytes]:
    """Proofs with a step changed, left out or repeated; which one depends on `number`."""
    exist = CommitmentProof.decode(proof).exist
    assert exist is not None and len(exist.path) > 3
    at = number % len(exist.path)
    step, path = exist.path[at], list(exist.path)
    if len(step.prefix) > 1:
        bent = replace(step, prefix=bytes.fromhex(_bent(step.prefix.hex(), -1)))
    else:
        bent = replace(step, suffix=bytes.fromhex(_bent(step.suffix.hex(), number)))
    paths = [[*path[:at], bent, *path[at + 1 :]], [*path[:at], *path[at + 1 :]], [*path[:at], step, *path[at:]]]
    return [CommitmentProof(exist=replace(exist, path=tuple(each))).encode() for each in paths]


def test_javascript_that_nobody_here_wrote_accepts_the_proofs_and_refuses_forged_ones(node: NodeProcess) -> None:
    good, forged = [], []
    for number in range(30):
        answer = _cell(node, f"member-{number}")
        root = _final_header(node.genesis, answer["proof"]).state_root
        case = Case(
            root,
            bytes.fromhex(answer["key"]),
            bytes.fromhex(answer["value_bytes"]),
            bytes.fromhex(answer["proof"]["commitment"]),
        )
        good.append(case)
        forged += [
            case._replace(value=codec.encode((number + 1, False))),
            case._replace(key=_key(f"member-{number + 1}")),
            case._replace(root=bytes.fromhex(_bent(root.hex(), number))),
            *[case._replace(proof=forgery) for forgery in _forgeries(case.proof, number)],
        ]
    forged.append(good[0]._replace(proof=bytes.fromhex(_cell(node, "stranger-1")["proof"]["commitment"])))
    assert verify_with_javascript([*good, *forged]) == [True] * len(good) + [False] * len(forged)


def _prove_transaction(genesis: Genesis, identifier: bytes, answer: dict[str, Any]) -> None:
    """Raises TrothError or fails unless the answer proves the transaction and its receipt."""
    proof = answer["proof"]
    header = _final_header(genesis, proof)
    signed_ = decode(bytes.fromhex(proof["transaction_bytes"]))
    check_signatures(signed_)
    assert signed_.id == identifier and signed_.transaction.chain_id == genesis.chain_id
    places = []
    for name, root in (("transaction", header.transactions_root), ("receipt", header.receipts_root)):
        given = proof[name]
        path = tuple([bytes.fromhex(step) for step in given["path"]])
        place = merkle.InclusionProof.from_value((given["index"], given["size"], path))
        assert place.verify(bytes.fromhex(proof[f"{name}_bytes"]), root), name
        places.append((place.index, place.size))
    assert places[0] == places[1]
    assert decode_receipt(bytes.fromhex(proof["receipt_bytes"])).transaction_id == identifier


def test_every_transaction_of_a_block_is_proven_by_the_genesis_alone(node: NodeProcess) -> None:
    rows = get(node, "/v1/blocks?limit=100").json["blocks"]
    largest = max(rows, key=lambda row: row["transactions"])
    identifiers = get(node, f"/v1/blocks/{largest['height']}").json["transactions"]
    assert len(identifiers) > 3
    for index, identifier in enumerate(identifiers):
        answer = get(node, f"/v1/transactions/{identifier}?proof=1").json
        assert (answer["height"], answer["position"]) == (largest["height"], index)
        _prove_transaction(node.genesis, bytes.fromhex(identifier), answer)


def test_a_proof_of_a_transaction_says_nothing_else(node: NodeProcess) -> None:
    rows = get(node, "/v1/blocks?limit=100").json["blocks"]
    largest = max(rows, key=lambda row: row["transactions"])
    first, second = get(node, f"/v1/blocks/{largest['height']}").json["transactions"][:2]
    one, other = (get(node, f"/v1/transactions/{each}?proof=1").json for each in (first, second))
    identifier = bytes.fromhex(first)
    _prove_transaction(node.genesis, identifier, one)
    mixed = [
        {"receipt": other["proof"]["receipt"], "receipt_bytes": other["proof"]["receipt_bytes"]},
        {"receipt_bytes": other["proof"]["receipt_bytes"]},
        {"transaction": other["proof"]["transaction"]},
        {"transaction": {**one["proof"]["transaction"], "index": one["proof"]["transaction"]["index"] + 1}},
        {"transaction": {**one["proof"]["transaction"], "size": 2 * one["proof"]["transaction"]["size"] + 1}},
        *[
            {part: _bent(one["proof"][part], 40)}
            for part in ("header", "certificate", "transaction_bytes", "receipt_bytes")
        ],
    ]
    for change in mixed:
        with pytest.raises((TrothError, AssertionError)):
            _prove_transaction(node.genesis, identifier, {**one, "proof": {**one["proof"], **change}})
    with pytest.raises((TrothError, AssertionError)):
        _prove_transaction(node.genesis, bytes.fromhex(second), one)


# Health and metrics


def test_health(node: NodeProcess) -> None:
    assert get(node, "/health/live").json == {"status": "live"}
    ready = get(node, "/health/ready")
    assert ready.status == 200
    assert ready.json["ready"] and ready.json["reasons"] == [] and ready.json["signing"]
    assert ready.json["height"] == _height(node) and ready.json["block_age_ms"] >= 0


def _metrics(node: NodeProcess) -> dict[str, float]:
    answer = get(node, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found[f"{sample.name}{sorted(sample.labels.values())}"] = sample.value
    return found


def test_metrics_count_what_happens(node: NodeProcess) -> None:
    before = _metrics(node)
    submit(node, signed("roaster", mint("alice", 1)).raw, signed("nobody", transfer("alice", 1)).raw, b"junk")
    after = _metrics(node)
    assert after["troth_height[]"] == _height(node)

    def rise(name: str) -> float:
        return after[name] - before[name]

    assert rise("troth_transactions_total['ok']") == 1 and rise("troth_transactions_total['failed']") == 1
    assert rise("troth_submitted_total['accepted']") == 2 and rise("troth_submitted_total['refused']") == 1
    assert rise("troth_block_transactions_sum[]") == 2 and rise("troth_gas_total[]") > 200
    assert rise("troth_http_requests_total['200']") >= 2
    assert after["troth_mempool_transactions[]"] == 0
