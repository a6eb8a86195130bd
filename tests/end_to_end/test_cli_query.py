"""`troth query --verify` against a real node: true answers are proven, and a stranger's genesis file proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.new_home import Brand, compose_genesis
from node.keystore import dev_key
from tests.end_to_end.nodes import BRANDS, CHAIN_ID, NodeProcess, address_text


@pytest.fixture(scope="module")
def minted(node: NodeProcess) -> dict[str, Any]:
    """The last of three transactions: alice holds 100 points, then 101."""
    node.troth_json("points", "create", "beans", "Beans", "--as", "dev:roaster")
    node.troth_json("points", "mint", "beans", "dev:alice", "100", "--as", "dev:roaster")
    return node.troth_json("points", "mint", "beans", "dev:alice", "1", "--as", "dev:roaster")


@pytest.fixture(scope="module")
def stranger(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genesis file of the same chain id, time and members with another validator."""
    keys = {label: dev_key(label).public for label in ("roaster", "grocer")}
    genesis = compose_genesis(CHAIN_ID, node.genesis.time_ms, BRANDS, {**keys, "validator": dev_key("stranger").public})
    path = tmp_path_factory.mktemp("stranger") / "genesis.json"
    path.write_text(genesis.to_json(), encoding="utf-8")
    return path


def test_a_balance_is_proven_now_and_at_past_heights(node: NodeProcess, minted: dict[str, Any]) -> None:
    query = ("query", "balance", "beans", "dev:alice", "--verify")
    now = node.troth_json(*query)
    assert (now["verified"], now["value"]) == (True, {"balance": 101, "frozen": False})
    assert now["genesis_file"] == str(node.home / "genesis.json")
    assert len(now["checks"]) == 2
    for height, balance in ((minted["height"] - 1, 100), (1, 0), (0, 0)):
        past = node.troth_json(*query, "--height", str(height))
        assert (past["height"], past["value"]["balance"], past["verified"]) == (height, balance, True)


def test_without_verify_it_is_the_nodes_word(node: NodeProcess, minted: dict[str, Any]) -> None:
    assert node.troth_json("query", "balance", "beans", "dev:alice")["verified"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ("programme", "beans"),
        ("totals", "beans"),
        ("allowance", "beans", "dev:alice", "dev:bob"),
        ("member", "dev:roaster"),
        ("organisation", "grocer"),
        ("state", "points", "programme", "beans"),
        ("state", "points", "account", "beans", "dev:alice"),
    ],
)
def test_other_cells_are_proven(node: NodeProcess, minted: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert node.troth_json("query", *arguments, "--verify")["verified"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("programme", "none"),
        ("member", "dev:alice"),
        ("certificate", "09506000134352", "S1"),
        ("product", "09506000134352"),
        ("consent", "00" * 16),
    ],
)
def test_what_is_not_there_is_proven_not_to_be(
    node: NodeProcess, minted: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    ran = node.troth("--json", "query", *arguments, "--verify")
    assert (ran.code, ran.error["code"]) == (5, "E-QUERY-002")
    assert "proven to be absent" in ran.error["cause"]


def test_a_transaction_and_its_receipt_are_proven(node: NodeProcess, minted: dict[str, Any]) -> None:
    shown = node.troth_json("query", "transaction", minted["id"], "--verify")
    assert (shown["verified"], shown["height"]) == (True, minted["height"])
    assert shown["receipt"] == minted["receipt"]
    assert shown["transaction"]["actors"] == [address_text("roaster")]
    receipt = node.troth_json("query", "receipt", minted["id"], "--verify")
    assert receipt["receipt"] == minted["receipt"]


@pytest.mark.parametrize("height", [(), ("--height", "0")])
def test_a_strangers_genesis_file_proves_nothing(
    node: NodeProcess, minted: dict[str, Any], stranger: Path, height: tuple[str, ...]
) -> None:
    queries = [("balance", "beans", "dev:alice", *height), ("programme", "none", *height)]
    if not height:
        queries.append(("transaction", minted["id"]))
    for query in queries:
        ran = node.troth("--json", "query", *query, "--verify", "--genesis", str(stranger))
        assert (ran.code, ran.error["code"], ran.out) == (3, "E-VERIFY-001", "")
        assert "other validators" in ran.error["cause"]


def test_other_members_are_another_height_0(node: NodeProcess, minted: dict[str, Any], tmp_path: Path) -> None:
    brands = (*BRANDS, Brand("intruder", "The Intruder"))
    labels = ("roaster", "grocer", "intruder", "validator")
    genesis = compose_genesis(
        CHAIN_ID, node.genesis.time_ms, brands, {label: dev_key(label).public for label in labels}
    )
    path = tmp_path / "genesis.json"
    path.write_text(genesis.to_json(), encoding="utf-8")
    query = ("query", "member", "dev:intruder", "--verify", "--height", "0", "--genesis", str(path))
    ran = node.troth("--json", *query)
    assert (ran.code, ran.error["code"]) == (3, "E-VERIFY-001")


def test_without_a_genesis_file_nothing_is_verified(node: NodeProcess, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.json")
    ran = node.troth("--json", "query", "balance", "beans", "dev:alice", "--verify", "--genesis", missing)
    assert (ran.code, ran.error["code"]) == (5, "E-VERIFY-003")


def test_a_height_that_is_not_there_is_not_found(node: NodeProcess, minted: dict[str, Any]) -> None:
    ran = node.troth("--json", "query", "balance", "beans", "dev:alice", "--verify", "--height", "1000000")
    assert ran.code == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("state", "points", "nothing", "x"),
        ("state", "nothing", "account", "x"),
    ],
)
def test_unknown_maps_are_named(node: NodeProcess, arguments: tuple[str, ...]) -> None:
    ran = node.troth("--json", "query", *arguments)
    assert ran.code == 1
    assert "nothing" in ran.error["cause"]


@pytest.mark.parametrize(
    "arguments", [("state", "points", "account", "beans"), ("block", "../../health"), ("receipt", "x")]
)
def test_wrong_arguments_are_usage_errors(node: NodeProcess, arguments: tuple[str, ...]) -> None:
    ran = node.troth("--json", "query", *arguments)
    assert (ran.code, ran.error["code"]) == (2, "E-CLI-004")


def test_blocks_and_the_chain(node: NodeProcess, minted: dict[str, Any]) -> None:
    by_height = node.troth_json("query", "block", str(minted["height"]))
    by_id = node.troth_json("query", "block", by_height["block_id"])
    assert by_height == by_id
    assert by_height["transactions"] == [minted["id"]]
    chain = node.troth_json("query", "chain")
    assert chain["genesis_id"] == node.genesis.id().hex()
    assert node.troth("query", "block").out.startswith(f"Block {chain['height']} ")
