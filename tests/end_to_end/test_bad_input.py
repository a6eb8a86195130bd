"""What is wrong is refused with a stable code, its cause and a fix: at the API, and when a node is started."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import codec
from ledger.address import address_of
from ledger.genesis import Parameters
from ledger.transaction import Signature, SignedTransaction, Transaction, assemble, signing_message
from tests.chains import SMALL_ORDER_KEY
from tests.end_to_end.nodes import NodeProcess, key_of
from tests.end_to_end.requests import (
    Answer,
    address,
    ask,
    call,
    create,
    get,
    mint,
    now_ms,
    post,
    signed,
    submit,
    transfer,
    unsigned,
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with a programme of points, of which alice holds ten."""
    with NodeProcess.create(
        tmp_path_factory.mktemp("node"),
        settings={"api.body_bytes": 1 << 20, "api.batch_transactions": 50, "node.workers": 1},
    ) as started:
        assert submit(started, signed("roaster", create(), mint("alice", 10)).raw)[0]["receipt"]["ok"]
        yield started


def _resigned(transaction: Transaction, *signatures: Signature) -> bytes:
    return assemble(transaction, codec.encode(transaction), signatures).raw


def _signature(transaction: Transaction, name: str, actor: int = 0) -> Signature:
    made = assemble(transaction, codec.encode(transaction), ())
    return Signature(actor, key_of(name).public, key_of(name).sign(signing_message(made.id)))


def _alices() -> Transaction:
    return unsigned(["alice"], [transfer("bob", 1)])


def _not_canonical() -> bytes:
    return b"\xdc\x00\x02" + signed("alice", transfer("bob", 1)).raw[1:]


def _not_canonical_inside() -> bytes:
    transaction = _alices()
    body = codec.encode(transaction)
    return codec.encode((body[:1] + b"\xcc\x01" + body[2:], (_signature(transaction, "alice"),)))


def _decomposed() -> bytes:
    """A memo of U+0065 U+0301, which NFC writes as one character, by an encoder that does not look."""
    made = signed("alice", transfer("bob", 1), memo="xyz").raw
    assert made.count(b"\xa3xyz") == 1
    return made.replace(b"\xa3xyz", b"\xa3e\xcc\x81")


def _over_signed() -> bytes:
    transaction = _alices()
    return _resigned(transaction, _signature(transaction, "alice"), _signature(transaction, "bob", 1))


def _small_order() -> bytes:
    transaction = _alices()._replace(actors=(address_of(SMALL_ORDER_KEY),))
    return _resigned(transaction, Signature(0, SMALL_ORDER_KEY, (1).to_bytes(32, "little") + bytes(32)))


def _wrong_key() -> bytes:
    transaction = _alices()
    return _resigned(transaction, _signature(transaction, "bob"))


def _bad_signature() -> bytes:
    transaction = _alices()
    return _resigned(transaction, _signature(transaction, "alice")._replace(signature=bytes(64)))


def _changed_after_signing() -> bytes:
    transaction = _alices()
    return _resigned(transaction._replace(memo="more"), _signature(transaction, "alice"))


def _of(*calls: Any, by: str = "alice", **fields: Any) -> Callable[[], bytes]:
    return lambda: signed(by, *calls, **fields).raw


_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "E-CODEC-001"),
    "junk": (lambda: b"\xc1\xff", "E-CODEC-001"),
    "a map": (lambda: b"\x81\x01\x02", "E-CODEC-001"),
    "a float": (lambda: b"\xcb" + bytes(8), "E-CODEC-004"),
    "a value that is none": (lambda: codec.encode(7), "E-TX-001"),
    "nested too deep": (lambda: b"\x91" * 40 + b"\x90", "E-CODEC-001"),
    "oversized": (_of(call("points.burn", bytes(300_000))), "E-TX-002"),
    "too many calls": (_of(*[call("points.burn", "beans", 1)] * 1_001), "E-TX-002"),
    "not canonical": (_not_canonical, "E-CODEC-002"),
    "not canonical inside": (_not_canonical_inside, "E-CODEC-002"),
    "truncated": (lambda: signed("alice", transfer("bob", 1)).raw[:-1], "E-CODEC-001"),
    "extended": (lambda: signed("alice", transfer("bob", 1)).raw + b"\0", "E-CODEC-001"),
    "text not in normal form": (_decomposed, "E-CODEC-005"),
    "wrong chain": (_of(transfer("bob", 1), chain_id="other-chain"), "E-TX-003"),
    "expired": (lambda: signed("alice", transfer("bob", 1), valid_until_ms=now_ms() - 1).raw, "E-TX-004"),
    "too far ahead": (
        lambda: signed("alice", transfer("bob", 1), valid_until_ms=now_ms() + 3 * 3_600_000).raw,
        "E-TX-005",
    ),
    "unsigned": (lambda: _resigned(_alices()), "E-TX-007"),
    "over-signed": (_over_signed, "E-TX-008"),
    "bad signature": (_bad_signature, "E-TX-009"),
    "changed after signing": (_changed_after_signing, "E-TX-009"),
    "wrong key": (_wrong_key, "E-TX-010"),
    "small-order key": (_small_order, "E-KEY-001"),
    "too little gas": (_of(transfer("bob", 1), gas_limit=150), "E-TX-011"),
    "more gas than a block": (_of(transfer("bob", 1), gas_limit=1 << 40), "E-TX-011"),
    "over the quota": (_of(transfer("bob", 1), gas_limit=100_000), "E-TX-012"),
    "unknown contract": (_of(call("pionts.transfer", "beans", bytes(range(20)), 1)), "E-VM-004"),
    "unknown method": (_of(call("points.transfr", "beans", bytes(range(20)), 1)), "E-VM-005"),
    "wrong argument type": (_of(call("points.transfer", "beans", bytes(range(20)), "1")), "E-VM-001"),
    "wrong argument count": (_of(call("points.transfer", "beans")), "E-VM-001"),
    "argument below its range": (_of(call("points.transfer", "beans", bytes(range(20)), -1)), "E-VM-001"),
    "argument above its range": (_of(call("points.transfer", "beans", bytes(range(20)), 1 << 63)), "E-VM-001"),
    "a short address": (_of(call("points.transfer", "beans", bytes(19), 1)), "E-VM-001"),
    "the null address": (_of(call("points.transfer", "beans", bytes(20), 1)), "E-VM-001"),
}


@pytest.mark.parametrize(("make", "code"), _REFUSED.values(), ids=_REFUSED)
def test_a_transaction_that_can_stand_in_no_block(make: Callable[[], bytes], code: str, node: NodeProcess) -> None:
    [result] = submit(node, make())
    assert result["status"] == "refused"
    error = result["error"]
    assert error["code"] == code
    assert error["title"] and error["cause"] and error["fix"]


def test_a_near_name_is_suggested(node: NodeProcess) -> None:
    [result] = submit(node, signed("alice", call("points.transfr", "beans", address("bob"), 1)).raw)
    assert "did you mean 'transfer'?" in result["error"]["cause"]


_FAILED: dict[str, tuple[Callable[[], bytes], str, list[str]]] = {
    "over-spend": (_of(transfer("bob", 11)), "E-POINTS-004", ["10 points", "11 are needed"]),
    "unknown account": (_of(transfer("bob", 1), by="nobody"), "E-POINTS-004", ["0 points"]),
    "unknown programme": (_of(call("points.burn", "tea", 1)), "E-POINTS-001", ["tea"]),
    "no role": (_of(mint("alice", 1)), "E-VM-007", ["issuer", "points.mint"]),
    "another brand's programme": (_of(mint("alice", 1), by="grocer"), "E-POINTS-003", ["beans", "roaster"]),
    "over gas": (_of(*[transfer("bob", 0)] * 20, gas_limit=1_600), "E-VM-002", []),
    "the last call fails": (_of(transfer("bob", 1), transfer("bob", 10)), "E-POINTS-004", ["9 points"]),
}


@pytest.mark.parametrize(("make", "code", "said"), _FAILED.values(), ids=_FAILED)
def test_a_transaction_that_the_contracts_refuse(
    make: Callable[[], bytes], code: str, said: list[str], node: NodeProcess
) -> None:
    [result] = submit(node, make())
    assert result["status"] == "final"  # with a receipt, since execution alone could tell
    receipt = result["receipt"]
    assert not receipt["ok"] and receipt["code"] == code and receipt["fix"]
    assert all(word in receipt["message"] for word in said)
    assert receipt["events"] == [] and receipt["results"] == []
    held = post(node, "/v1/contracts/points/views/balance_of", {"programme": "beans", "account": _text("alice")})
    assert held.json["value"] == 10


def _text(name: str) -> str:
    from ledger.address import to_text

    return to_text(address(name))


def test_a_duplicate_of_what_is_final(node: NodeProcess) -> None:
    made = signed("roaster", mint("carol", 3)).raw
    [first] = submit(node, made)
    assert first["receipt"]["ok"]
    [again] = submit(node, made)
    assert again["status"] == "refused" and again["error"]["code"] == "E-TX-006" and again["id"] == first["id"]
    held = post(node, "/v1/contracts/points/views/balance_of", {"programme": "beans", "account": _text("carol")})
    assert held.json["value"] == 3


def test_a_reference_that_was_used(node: NodeProcess) -> None:
    assert submit(node, signed("roaster", mint("dave", 3, "order-7")).raw)[0]["receipt"]["ok"]
    [again] = submit(node, signed("roaster", mint("dave", 3, "order-7")).raw)
    assert again["receipt"]["code"] == "E-VM-006" and "order-7" in again["receipt"]["message"]
    held = post(node, "/v1/contracts/points/views/balance_of", {"programme": "beans", "account": _text("dave")})
    assert held.json["value"] == 3


def test_of_a_batch_the_good_are_taken(node: NodeProcess) -> None:
    good = [signed("roaster", mint("erin", 1)).raw for _ in range(3)]
    results = submit(node, good[0], b"junk", good[1], _bad_signature(), good[2])
    assert [each["status"] for each in results] == ["final", "refused", "final", "refused", "final"]


def test_simulating_refuses_the_same(node: NodeProcess) -> None:
    for name in (
        "not canonical",
        "truncated",
        "wrong chain",
        "expired",
        "unsigned",
        "small-order key",
        "over the quota",
    ):
        make, code = _REFUSED[name]
        answer = post(node, "/v1/transactions/simulate", {"transaction": make().hex()})
        assert _problem(answer, 400, 409) == code, name


# The request itself


def _problem(answer: Answer, *statuses: int) -> str:
    """The code of a problem document (RFC 9457) that is complete."""
    assert answer.status in statuses, answer
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    found = answer.json
    assert found["status"] == answer.status and found["type"].endswith(found["code"])
    assert found["title"] and found["detail"] and found["cause"] and found["fix"]
    code: str = found["code"]
    return code


_BODIES: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "application/json", "E-API-001"),
    "not JSON": (b"{", "application/json", "E-API-001"),
    "not an object": (b"[]", "application/json", "E-API-001"),
    "deep JSON": (b"[" * 100_000, "application/json", "E-API-001"),
    "not UTF-8": (b'{"transactions": ["\xff"]}', "application/json", "E-API-001"),
    "a float": (b'{"transactions": [1.5]}', "application/json", "E-API-001"),
    "a huge number": (b'{"transactions": [' + b"9" * 10_000 + b"]}", "application/json", "E-API-001"),
    "no transactions": (b'{"transactions": []}', "application/json", "E-API-001"),
    "not hexadecimal": (b'{"transactions": ["zz"]}', "application/json", "E-API-001"),
    "hexadecimal with spaces": (b'{"transactions": ["00 00"]}', "application/json", "E-API-001"),
    "not text": (b'{"transactions": [7]}', "application/json", "E-API-001"),
    "too many": (json.dumps({"transactions": ["00"] * 51}).encode(), "application/json", "E-API-001"),
    "octets that are no array": (codec.encode(7), "application/octet-stream", "E-API-001"),
    "octets of text": (codec.encode(("text",)), "application/octet-stream", "E-API-001"),
    "octets not canonical": (b"\xdc\x00\x01\xc4\x00", "application/octet-stream", "E-CODEC-002"),
    "octets truncated": (b"\x92\xc4\x00", "application/octet-stream", "E-CODEC-001"),
    "no octets": (b"", "application/octet-stream", "E-CODEC-001"),
    "too many octets": (codec.encode((b"",) * 51), "application/octet-stream", "E-API-001"),
}


@pytest.mark.parametrize(("body", "kind", "code"), _BODIES.values(), ids=_BODIES)
def test_a_body_of_the_wrong_form(body: bytes, kind: str, code: str, node: NodeProcess) -> None:
    assert _problem(ask(node, "POST", "/v1/transactions", body, {"Content-Type": kind}), 400) == code


def test_a_body_too_large(node: NodeProcess) -> None:
    large = b" " * ((1 << 20) + 1)
    assert _problem(ask(node, "POST", "/v1/transactions", large), 413) == "E-API-004"
    chunked = ask(node, "POST", "/v1/transactions", iter([large[:500_000]] * 3))  # its length is not said before
    assert _problem(chunked, 413) == "E-API-004"


_TARGETS: dict[str, tuple[str, int, str]] = {
    "no such route": ("/v1/nothing", 404, "E-API-002"),
    "a height that is no number": ("/v1/blocks/first", 400, "E-API-001"),
    "a height above the head": ("/v1/blocks/999999", 404, "E-CHAIN-001"),
    "a height beyond all": ("/v1/blocks/" + "9" * 30, 400, "E-API-001"),
    "an unknown block id": ("/v1/blocks/" + "0" * 64, 404, "E-CHAIN-001"),
    "an unknown transaction": ("/v1/transactions/" + "0" * 64, 404, "E-CHAIN-002"),
    "an id that is none": ("/v1/transactions/00", 400, "E-API-001"),
    "a flag that is none": ("/v1/transactions/" + "0" * 64 + "?proof=yes", 404, "E-CHAIN-002"),
    "a limit above the most": ("/v1/blocks?limit=101", 400, "E-API-001"),
    "a limit below the least": ("/v1/blocks?limit=0", 400, "E-API-001"),
    "a negative cursor": ("/v1/blocks?before=-1", 400, "E-API-001"),
    "an export from 0": ("/v1/export?from=0", 400, "E-API-001"),
    "an unknown contract": ("/v1/contracts/pints", 400, "E-VM-004"),
    "an unknown map": ("/v1/state/points/acount", 404, "E-API-007"),
    "a key of too few parts": ('/v1/state/points/account?key=["beans"]', 400, "E-API-001"),
    "a key that is no array": ("/v1/state/points/account?key=beans", 400, "E-API-001"),
    "a deep key": ("/v1/state/points/account?key=" + "[" * 2_000, 400, "E-API-001"),
    "a wrong part": ('/v1/state/points/account?key=["beans","troth1"]', 400, "E-API-001"),
    "a state above the head": ('/v1/state/points/totals?key=["beans"]&height=999999', 404, "E-CHAIN-001"),
    "cells above the head": ("/v1/cells?height=999999", 404, "E-CHAIN-001"),
    "events of an unknown contract": ("/v1/stream?contract=pints", 400, "E-VM-004"),
    "events after no height": ("/v1/stream?after=x", 400, "E-API-001"),
}


@pytest.mark.parametrize(("target", "status", "code"), _TARGETS.values(), ids=_TARGETS)
def test_a_target_of_the_wrong_form(target: str, status: int, code: str, node: NodeProcess) -> None:
    assert _problem(get(node, target.replace('"', "%22").replace("[", "%5B").replace("]", "%5D")), status) == code


_VIEWS: dict[str, tuple[str, object, int, str]] = {
    "unknown contract": ("pints/views/show", {}, 400, "E-VM-004"),
    "unknown view": ("points/views/shw", {}, 400, "E-VM-005"),
    "a method is no view": ("points/views/burn", {}, 400, "E-VM-005"),
    "an argument is missing": ("points/views/show", {}, 400, "E-VM-001"),
    "an unknown argument": ("points/views/show", {"programme": "beans", "colour": 1}, 400, "E-VM-001"),
    "an argument of the wrong type": ("points/views/show", {"programme": 7}, 400, "E-VM-001"),
    "an unknown programme": ("points/views/show", {"programme": "tea"}, 409, "E-POINTS-001"),
    "a height above the head": ("points/views/show?height=999999", {"programme": "beans"}, 404, "E-CHAIN-001"),
}


@pytest.mark.parametrize(("target", "body", "status", "code"), _VIEWS.values(), ids=_VIEWS)
def test_a_view_asked_wrongly(target: str, body: object, status: int, code: str, node: NodeProcess) -> None:
    assert _problem(post(node, f"/v1/contracts/{target}", body), status) == code


def test_another_method_than_the_route_has(node: NodeProcess) -> None:
    answer = ask(node, "DELETE", "/v1/chain")
    assert _problem(answer, 405) == "E-API-002"
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("last", ["-1", "x", "1" * 20, ""])
def test_a_last_event_id_that_is_no_height(last: str, node: NodeProcess) -> None:
    answer = get(node, "/v1/stream", **{"Last-Event-ID": last})
    assert _problem(answer, 400) == "E-API-001"


# What waits


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that makes a block a minute and lets few transactions wait; its first block is made."""
    with NodeProcess.create(
        tmp_path_factory.mktemp("slow"),
        parameters=Parameters(block_interval_ms=60_000, heartbeat_ms=120_000),
        settings={"mempool.transactions": 4, "mempool.sender_transactions": 2, "node.workers": 1},
    ) as started:
        assert submit(started, signed("roaster", create()).raw)[0]["status"] == "final"
        yield started


def test_what_waits_and_how_much_may(slow: NodeProcess) -> None:
    def code(made: SignedTransaction, query: str = "") -> str:
        [result] = submit(slow, made.raw, query=query)
        return str(result["error"]["code"]) if result["status"] == "refused" else str(result["status"])

    waits = signed("alice", transfer("bob", 1))
    assert code(waits) == "waiting"
    assert code(waits) == "E-TX-016"
    assert code(waits, "?wait=final&timeout_ms=50") == "waiting"
    assert get(slow, f"/v1/transactions/{waits.id.hex()}").json["status"] == "waiting"
    assert code(signed("alice", transfer("bob", 2))) == "waiting"
    assert code(signed("alice", transfer("bob", 3))) == "E-TX-015"
    assert code(signed("carol", transfer("bob", 1))) == "waiting"
    assert code(signed("carol", transfer("bob", 2))) == "waiting"
    assert code(signed("dave", transfer("bob", 1))) == "E-TX-014"
    assert get(slow, "/v1/chain").json["mempool"]["transactions"] == 4
    ready = get(slow, "/health/ready")
    assert ready.status == 503 and ready.json["reasons"] == ["the mempool is full"]


# Starting a node


def _start(home: Path, port: int, *flags: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the error of a node that cannot start."""
    ran = NodeProcess(home, port).troth("--json", f"--set=api.port={port}", *flags, "node", "start")
    return ran.code, ran.error


def test_a_second_process_on_one_home(node: NodeProcess) -> None:
    code, error = _start(node.home, node.port)
    assert (code, error["code"]) == (1, "E-HOME-006")
    assert str(node.pid) in error["cause"] and error["fix"]
    assert get(node, "/health/live").status == 200


@pytest.fixture
def home(tmp_path: Path) -> NodeProcess:
    """A new home whose node was never started."""
    return NodeProcess.create(tmp_path)


def test_a_second_process_on_one_database(node: NodeProcess, home: NodeProcess) -> None:
    shutil.copy(node.home / "genesis.json", home.home / "genesis.json")
    (home.home / "data" / "ledger").rmdir()
    (home.home / "data" / "ledger").symlink_to(node.home / "data" / "ledger")
    code, error = _start(home.home, home.port)
    assert (code, error["code"]) == (1, "E-STORE-001")
    assert error["cause"] and error["fix"]
    assert get(node, "/health/live").status == 200


def test_a_taken_port(node: NodeProcess, home: NodeProcess) -> None:
    code, error = _start(home.home, node.port)
    assert (code, error["code"]) == (6, "E-NODE-004")
    assert str(node.port) in error["cause"]


def test_a_missing_home(tmp_path: Path) -> None:
    code, error = _start(tmp_path / "nowhere", 1)
    assert (code, error["code"]) == (5, "E-HOME-001")


def test_a_missing_genesis(home: NodeProcess) -> None:
    (home.home / "genesis.json").unlink()
    code, error = _start(home.home, home.port)
    assert (code, error["code"]) == (5, "E-HOME-004")
    assert "genesis.json" in error["cause"]


def test_a_genesis_that_is_none(home: NodeProcess) -> None:
    (home.home / "genesis.json").write_text('{"version": 1}')
    code, error = _start(home.home, home.port)
    assert (code, error["code"]) == (1, "E-GENESIS-001")
    assert "missing" in error["cause"]


def test_a_changed_genesis(home: NodeProcess) -> None:
    with home:
        submit(home, signed("roaster", create()).raw)
    document = json.loads((home.home / "genesis.json").read_text())
    document["parameters"]["block_gas"] += 1
    (home.home / "genesis.json").write_text(json.dumps(document))
    code, error = _start(home.home, home.port)
    assert (code, error["code"]) == (1, "E-CHAIN-004")


def test_a_key_that_is_no_validators(home: NodeProcess) -> None:
    code, error = _start(home.home, home.port, "--set=validator.key=dev:alice")
    assert (code, error["code"]) == (1, "E-NODE-002")


def test_a_missing_key(home: NodeProcess) -> None:
    code, error = _start(home.home, home.port, "--set=validator.key=mine")
    assert code == 5 and error["code"].startswith("E-KEYSTORE-") and "mine" in error["cause"]


def test_a_damaged_database(home: NodeProcess) -> None:
    with home:
        submit(home, signed("roaster", create()).raw, *[signed("roaster", mint("alice", 1)).raw for _ in range(30)])
    [log] = (home.home / "data" / "ledger").glob("*.log")
    damaged = bytearray(log.read_bytes())
    assert len(damaged) > 5_000
    damaged[len(damaged) // 3] ^= 1
    log.write_bytes(damaged)
    code, error = _start(home.home, home.port)
    assert (code, error["code"]) == (1, "E-STORE-002")
    assert str(home.home) in error["cause"] and error["fix"]


@pytest.mark.parametrize("missing", ["CURRENT", "MANIFEST-*"])
def test_a_database_with_a_file_missing(missing: str, home: NodeProcess) -> None:
    with home:
        submit(home, signed("roaster", create()).raw)
    for file in (home.home / "data" / "ledger").glob(missing):
        file.unlink()
    code, error = _start(home.home, home.port)
    assert code == 1 and error["code"].startswith("E-STORE-") and error["cause"] and error["fix"]


def test_a_store_of_another_kind(home: NodeProcess) -> None:
    with home:
        pass
    code, error = _start(home.home, home.port, "--set=store.kind=lmdb")
    assert (code, error["code"]) == (1, "E-STORE-009")


def test_a_setting_that_is_none(home: NodeProcess) -> None:
    code, error = _start(home.home, home.port, "--set=api.prt=1")
    assert (code, error["code"]) == (1, "E-CONFIG-001")
    assert "did you mean api.port?" in error["cause"]
