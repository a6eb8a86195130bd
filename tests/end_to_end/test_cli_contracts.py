"""The commands of points, certificates and consent, and transactions by file, on a real node."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from node.keystore import Kdf, save
from node.wallet import new_words, private_key
from tests.end_to_end.nodes import NodeProcess, address_text

GTIN = "09506000134352"
PASSPHRASE = "correct horse"  # of a key that lives as long as the test


@pytest.fixture(scope="module")
def programme(node: NodeProcess) -> str:
    """A programme of the roaster's, in which alice holds 1,000 points."""
    node.troth_json("points", "create", "beans", "Beans", "--cap", "100000", "--as", "dev:roaster")
    node.troth_json("points", "mint", "beans", "dev:alice", "1000", "--as", "dev:roaster")
    return "beans"


def balance(node: NodeProcess, programme: str, name: str) -> int:
    value: int = node.troth_json("points", "balance", programme, f"dev:{name}")["value"]
    return value


def refused(node: NodeProcess, code: str, exit_code: int, *arguments: str) -> dict[str, Any]:
    ran = node.troth("--json", *arguments)
    assert (ran.code, ran.error["code"]) == (exit_code, code), ran.err
    assert ran.out == ""
    assert ran.error["cause"]
    assert ran.error["fix"]
    return ran.error


def test_points_change_hands(node: NodeProcess, programme: str) -> None:
    before = balance(node, programme, "alice")
    done = node.troth_json("points", "transfer", programme, "dev:bob", "40", "--as", "dev:alice", "--memo", "thanks")
    assert done["status"] == "final"
    assert done["receipt"]["events"][0]["fields"]["amount"] == 40
    node.troth_json("points", "approve", programme, "dev:till", "15", "--as", "dev:bob")
    node.troth_json("points", "transfer-from", programme, "dev:bob", "dev:carol", "10", "--as", "dev:till")
    node.troth_json("points", "spend", programme, "5", "--purpose", "coffee", "--as", "dev:bob")
    node.troth_json("points", "burn", programme, "1", "--as", "dev:bob")
    assert [balance(node, programme, name) for name in ("alice", "bob", "carol")] == [before - 40, 24, 10]
    allowed = node.troth_json("points", "allowance", programme, "dev:bob", "dev:till")
    assert allowed["value"] == 5


def test_an_issuer_governs_a_programme(node: NodeProcess, programme: str) -> None:
    for word, state in (("freeze", True), ("unfreeze", False)):
        node.troth_json("points", word, programme, "dev:dora", "--as", "dev:roaster")
        assert node.troth_json("points", "frozen", programme, "dev:dora")["value"] is state
    for word, state in (("pause", True), ("unpause", False)):
        node.troth_json("points", word, programme, "--as", "dev:roaster")
        assert node.troth_json("points", "show", programme)["value"]["paused"] is state
    node.troth_json("points", "cap", programme, "none", "--as", "dev:roaster")
    assert node.troth_json("points", "show", programme)["value"]["cap"] is None


def test_a_reference_works_once(node: NodeProcess, programme: str) -> None:
    mint = ("points", "mint", programme, "dev:erin", "7", "--as", "dev:roaster", "--reference", "order-1")
    node.troth_json(*mint)
    refused(node, "E-VM-006", 1, *mint)
    assert balance(node, programme, "erin") == 7


def test_a_dry_run_says_what_would_happen_and_does_nothing(node: NodeProcess, programme: str) -> None:
    height = node.client().chain()["height"]
    done = node.troth_json("points", "mint", programme, "dev:frank", "7", "--as", "dev:roaster", "--dry-run")
    assert (done["status"], done["receipt"]["ok"]) == ("simulated", True)
    refused(node, "E-VM-007", 4, "points", "mint", programme, "dev:frank", "7", "--as", "dev:alice", "--dry-run")
    assert balance(node, programme, "frank") == 0
    assert node.client().chain()["height"] == height


def test_each_refusal_has_its_code_and_exit_code(node: NodeProcess, programme: str) -> None:
    alice = ("--as", "dev:alice")
    refused(node, "E-VM-007", 4, "points", "mint", programme, "dev:alice", "1", *alice)
    refused(node, "E-POINTS-003", 4, "points", "mint", programme, "dev:alice", "1", "--as", "dev:grocer")
    refused(node, "E-POINTS-001", 1, "points", "transfer", "none", "dev:bob", "1", *alice)
    refused(node, "E-POINTS-004", 1, "points", "transfer", programme, "dev:bob", "999999", *alice)
    refused(node, "E-TX-011", 1, "points", "transfer", programme, "dev:bob", "1", *alice, "--gas-limit", "10")
    refused(node, "E-VM-002", 1, "points", "transfer", programme, "dev:bob", "1", *alice, "--gas-limit", "340")
    refused(node, "E-CLI-004", 2, "points", "transfer", programme, "dev:bob", "-1", *alice)
    refused(node, "E-CLI-004", 2, "points", "transfer", programme, "troth1qq", "1", *alice)
    refused(node, "E-KEYSTORE-003", 5, "points", "transfer", programme, "dev:bob", "1", "--as", "nobody")
    refused(node, "E-KEYSTORE-003", 5, "points", "transfer", programme, "dev:bob", "1")


def test_a_node_that_is_away_is_named(node: NodeProcess) -> None:
    error = refused(node, "E-CLIENT-001", 6, "points", "show", "beans", "--node", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in error["cause"]


def test_a_key_of_the_home_signs_with_its_passphrase(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    key = private_key(new_words(12), 0)
    save(node.home / "keys", "gina", key, PASSPHRASE, kdf=Kdf(1, 1024, 1))
    node.troth_json("points", "mint", programme, "gina", "9", "--as", "dev:roaster")
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(PASSPHRASE + "\n")
    bad.write_text("wrong\n")
    spend = ("points", "spend", programme, "4")  # the only key of the home signs where none is named
    refused(node, "E-KEYSTORE-007", 1, *spend, "--passphrase-file", str(bad))
    refused(node, "E-CLI-001", 1, *spend)
    node.troth_json(*spend, "--passphrase-file", str(good))
    assert node.troth_json("points", "balance", programme, "gina")["value"] == 5


def test_a_pack_has_a_certificate_and_a_history(node: NodeProcess, tmp_path: Path) -> None:
    terms = tmp_path / "terms.txt"
    terms.write_text("the terms")
    roaster = ("--as", "dev:roaster")
    node.troth_json("certificate", "define", GTIN, "Beans 500 g", f"@{terms}", *roaster)
    product = node.troth_json("certificate", "product", GTIN)["value"]
    assert product["terms_hash"] == sha256(b"the terms").hexdigest()
    node.troth_json("certificate", "issue", GTIN, "S1", "ab" * 32, "--expires", "+365d", *roaster)
    node.troth_json("certificate", "record", GTIN, "S1", "commissioning", "cd" * 32, "--place", "Bremen", *roaster)
    first = node.troth_json("certificate", "scan", GTIN, "S1", "--as", "dev:alice")
    second = node.troth_json("certificate", "scan", GTIN, "S1", "--as", "dev:alice")
    words = [done["receipt"]["events"][0]["fields"]["word"] for done in (first, second)]
    assert words == ["registered", "seen_before"]
    node.troth_json("certificate", "transfer", GTIN, "S1", "dev:alice", *roaster)
    node.troth_json("certificate", "mark", GTIN, "S1", "opened", "--as", "dev:alice")
    node.troth_json("certificate", "recall", GTIN, "S1", "--reason", "a test", *roaster)
    assert node.troth_json("certificate", "verdict", GTIN, "S1")["value"]["word"] == "recalled"
    shown = node.troth_json("certificate", "show", GTIN, "S1")["value"]
    assert (shown["holder"], shown["stage"], shown["marks"]) == (address_text("alice"), "commissioning", 1)
    node.troth_json("certificate", "revoke", GTIN, "S1", *roaster)
    refused(node, "E-CERT-005", 1, "certificate", "issue", GTIN, "S1", "ab" * 32, *roaster)


def test_consent_is_asked_given_used_and_taken_back(node: NodeProcess) -> None:
    roaster, subject = ("--as", "dev:roaster"), ("--as", "dev:subject")
    asked = node.troth_json(
        *("consent", "request", "--subject", "dev:subject", "--purposes", "research", "--purposes", "marketing"),
        *("--notice-hash", "11" * 32, "--terms-hash", "22" * 32, "--data-commitment", "33" * 32, "--expires", "+30d"),
        *roaster,
    )
    request = asked["request"]
    assert len(request) == 32
    refused(node, "E-CONSENT-004", 4, "consent", "grant", request, "44" * 32, "--as", "dev:alice")
    node.troth_json("consent", "grant", request, "44" * 32, *subject)
    node.troth_json("consent", "access", request, "55" * 32, "marketing", *roaster)
    assert node.troth_json("consent", "may-access", request, "marketing")["value"]["allowed"] is True
    node.troth_json("consent", "withdraw", request, *subject)
    refused(node, "E-CONSENT-009", 1, "consent", "access", request, "55" * 32, "marketing", *roaster)
    shown = node.troth_json("consent", "show", request)["value"]
    assert (shown["state"], shown["accesses"], shown["purposes"]) == ("withdrawn", 1, ["marketing", "research"])


def test_a_swap_is_built_signed_by_two_and_sent(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    node.troth_json("points", "create", "milk", "Milk", "--as", "dev:grocer")
    node.troth_json("points", "mint", "milk", "dev:heidi", "50", "--as", "dev:grocer")
    node.troth_json("points", "mint", programme, "dev:ivan", "50", "--as", "dev:roaster")
    file = tmp_path / "swap.json"

    def call(actor: int, programme: str, to: str) -> str:
        arguments = {"programme": programme, "to": address_text(to), "amount": 20}
        return f"{actor}:points.transfer {json.dumps(arguments)}"

    calls = ("--call", call(1, "milk", "ivan"), "--call", call(2, programme, "heidi"))
    actors = ("--actor", "dev:heidi", "--actor", "dev:ivan")
    genesis = ("--genesis", str(node.home / "genesis.json"))  # offline: no node is asked
    built = node.troth_json("tx", "build", *calls, *actors, "--out", str(file), *genesis)
    refused(node, "E-TX-007", 1, "tx", "send", str(file))
    assert refused(node, "E-CLI-001", 1, "tx", "sign", str(file), "--as", "dev:heidi")["fix"] == "give --yes"
    node.troth_json("tx", "sign", str(file), "--as", "dev:heidi", "--yes")
    refused(node, "E-TX-007", 1, "tx", "send", str(file))
    refused(node, "E-TX-008", 1, "tx", "sign", str(file), "--as", "dev:mallory", "--yes")
    node.troth_json("tx", "sign", str(file), "--as", "dev:ivan", "--yes")
    first = node.troth_json("tx", "send", str(file))
    again = node.troth_json("tx", "send", str(file))
    assert (first["id"], again["id"]) == (built["id"], built["id"])
    assert first["height"] == again["height"]
    assert [balance(node, each, name) for each, name in (("milk", "heidi"), (programme, "heidi"))] == [30, 20]
    assert [balance(node, each, name) for each, name in (("milk", "ivan"), (programme, "ivan"))] == [20, 30]


def test_why_says_what_became_of_a_transaction(node: NodeProcess, programme: str) -> None:
    sent = node.troth_json("points", "mint", programme, "dev:judy", "1", "--as", "dev:roaster", "--no-wait")
    assert sent["status"] == "waiting"
    done = node.troth_json("points", "mint", programme, "dev:judy", "2", "--as", "dev:roaster")
    assert node.troth_json("tx", "why", done["id"])["answer"] == f"It took effect in block {done['height']}."
    assert node.troth_json("tx", "show", done["id"])["transaction"]["calls"][0]["arguments"]["amount"] == 2
    unknown = "00" * 32
    error = refused(node, "E-CHAIN-002", 5, "tx", "why", unknown)
    assert unknown in error["cause"]


def test_why_names_the_call_that_failed(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = tmp_path / "two.json"
    calls = []
    for amount in (1, 999_999):
        arguments = {"programme": programme, "to": address_text("bob"), "amount": amount}
        calls += ["--call", f"points.transfer {json.dumps(arguments)}"]
    built = node.troth_json("tx", "build", *calls, "--actor", "dev:alice", "--out", str(file))
    node.troth_json("tx", "sign", str(file), "--as", "dev:alice", "--yes")
    error = refused(node, "E-POINTS-004", 1, "tx", "send", str(file))
    assert error["cause"].startswith("call 2: ")
    told = node.troth_json("tx", "why", built["id"])
    assert "call 2, points.transfer: E-POINTS-004" in told["answer"]
