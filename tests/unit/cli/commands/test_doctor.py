from __future__ import annotations

import json
import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.checkup import LOWEST_VERSIONS, Finding, _clock, _numbers
from cli.dev_network import choose_ports, create_network
from cli.example_accounts import ORGANISATIONS
from cli.values import now_ms
from ledger.genesis import parse_genesis
from node.chain import Chain
from node.config import load_config
from node.contracts import registry
from node.home import Home
from node.ledger_store import LedgerStore
from node.network.node_key import create_node_key
from node.stores import open_store
from tests.unit.cli.typed import typed

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def home(tmp_path: Path) -> Home:
    path = tmp_path / "home"
    made = typed("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", home=path)
    assert made.exit_code == 0, made.stderr
    return Home(path)


def examined(home: Home, port: int, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the last finding of each name."""
    result = typed("doctor", "--json", f"--set=api.port={port}", *arguments, home=home.path)
    found = json.loads(result.stdout)
    assert found["ok"] is (result.exit_code == 0)
    for check in found["checks"]:
        assert check["status"] in ("ok", "warn", "fail")
        assert bool(check["fix"]) is (check["status"] != "ok"), check
    return result.exit_code, {check["name"]: check for check in found["checks"]}


def test_a_fresh_home_is_well(home: Home, free_port: int) -> None:
    code, checks = examined(home, free_port)
    assert code == 0
    assert [name for name, check in checks.items() if check["status"] == "fail"] == []
    assert "chain dev-1" in checks["genesis"]["found"]
    assert set(checks) >= {"python", "libraries", "settings", "home", "file modes", "disk", "genesis", "keys"}
    assert set(checks) >= {"open files", "validator key", "database", "port", "clock"}


def test_the_text_has_a_line_for_each_check_and_ends_with_the_count(home: Home, free_port: int) -> None:
    result = typed("doctor", f"--set=api.port={free_port}", home=home.path)
    assert result.exit_code == 0
    assert all(line.split()[0] in ("ok", "warn", "fix:") for line in result.stdout.splitlines())
    assert "Next: troth node start\n0 failed, " in result.stderr


def test_without_a_home_that_is_what_is_said(tmp_path: Path) -> None:
    result = typed("doctor", home=tmp_path / "none")
    assert result.exit_code == 1
    assert "E-HOME-001 no home at" in result.stdout and "fix: run: troth init" in result.stdout


def test_a_key_that_others_may_read_fails(home: Home, free_port: int) -> None:
    (home.keys / "mine.json").write_text("{}")
    (home.keys / "mine.json").chmod(0o644)
    code, checks = examined(home, free_port)
    assert code == 1
    assert checks["file modes"]["fix"] == f"run: chmod 600 {home.keys / 'mine.json'}"
    assert checks["keys"]["found"].startswith("E-KEYSTORE-004")


def test_settings_that_others_may_read_are_a_warning(home: Home, free_port: int) -> None:
    home.config_file.chmod(0o644)
    code, checks = examined(home, free_port)
    assert (code, checks["file modes"]["status"]) == (0, "warn")


def test_bad_settings_are_named_and_what_needs_them_is_left_out(home: Home) -> None:
    home.config_file.write_text("[api]\nport = 'x'\n")
    result = typed("doctor", home=home.path)
    assert result.exit_code == 1
    assert "fail  settings       E-CONFIG-002" in result.stdout
    assert "port  " not in result.stdout


def test_a_damaged_genesis_is_named(home: Home, free_port: int) -> None:
    home.genesis_file.write_text(home.genesis_file.read_text().replace("block_gas", "block_gass"))
    code, checks = examined(home, free_port)
    assert code == 1
    assert "did you mean 'block_gas'" in checks["genesis"]["found"]


def test_a_missing_genesis_is_named(home: Home, free_port: int) -> None:
    home.genesis_file.unlink()
    code, checks = examined(home, free_port)
    assert (code, checks["genesis"]["found"].split()[0]) == (1, "E-HOME-004")


def test_a_key_that_is_no_validators_fails(home: Home, free_port: int) -> None:
    code, checks = examined(home, free_port, "--set=validator.key=dev:other")
    assert (code, checks["validator key"]["found"]) == (1, "dev:other is no validator of dev-1")
    code, checks = examined(home, free_port, "--set=validator.key=missing")
    assert checks["validator key"]["found"].startswith("E-KEYSTORE-003")


def test_a_development_key_of_another_chain_fails(home: Home, free_port: int) -> None:
    home.genesis_file.write_text(home.genesis_file.read_text().replace("dev-1", "acme-1"))
    code, checks = examined(home, free_port)
    assert code == 1
    assert "acme-1 is no development chain" in checks["validator key"]["found"]


def test_a_port_that_another_program_holds_fails(home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # bound and not listening: a connection is refused at once
        code, checks = examined(home, port)
    assert (code, checks["port"]["status"]) == (1, "fail")
    assert "Address already in use" in checks["port"]["found"]


def begin(home: Home) -> None:
    store = open_store("leveldb", home.ledger)
    Chain(LedgerStore(store), registry(), parse_genesis(home.genesis_file.read_text()))
    store.close()


def test_a_database_of_this_chain_is_well(home: Home, free_port: int) -> None:
    begin(home)
    code, checks = examined(home, free_port)
    assert (code, checks["database"]["found"]) == (0, "leveldb, height 0")


def test_a_database_of_another_chain_fails(home: Home, free_port: int) -> None:
    begin(home)
    home.genesis_file.write_text(home.genesis_file.read_text().replace("dev-1", "dev-2"))
    code, checks = examined(home, free_port)
    assert (code, checks["database"]["status"]) == (1, "fail")
    assert "another genesis document" in checks["database"]["found"]


def test_a_database_whose_files_are_gone_fails(home: Home, free_port: int) -> None:
    begin(home)
    (home.ledger / "CURRENT").unlink()
    code, checks = examined(home, free_port)
    assert (code, checks["database"]["found"].split()[0]) == (1, "E-STORE-002")


def test_a_database_in_use_is_no_fault(home: Home, free_port: int) -> None:
    begin(home)
    with home.claimed():
        _, checks = examined(home, free_port)
    assert checks["database"]["found"].startswith("in use by the node of this home")
    assert checks["port"]["status"] == "warn"


def test_too_few_open_files_are_a_warning(home: Home, free_port: int) -> None:
    code, checks = examined(home, free_port, "--set=api.connections=1000000")
    assert (code, checks["open files"]["status"]) == (0, "warn")
    assert "ulimit -n 1000256" in checks["open files"]["fix"]


def test_a_clock_behind_the_chain_fails() -> None:
    assert _clock(0).status == "ok"
    assert _clock(now_ms() - 1).status == "ok"
    found = _clock(now_ms() + 3_600_000)
    assert isinstance(found, Finding)
    assert found.status == "fail" and "behind the last block" in found.found


def test_the_lowest_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = dict(entry.split(">=") for entry in project["dependencies"])
    assert {name: declared[name] for name in LOWEST_VERSIONS} == LOWEST_VERSIONS


@pytest.mark.parametrize(("older", "newer"), [("3.9", "3.14"), ("1.6.1", "1.6.2"), ("45", "45.0.1"), ("1.2.4", "1.10")])
def test_versions_compare_by_their_numbers(older: str, newer: str) -> None:
    assert _numbers(older) < _numbers(newer)


@pytest.fixture
def network(tmp_path: Path) -> Home:
    path = tmp_path / "network"
    config = load_config(path, environment={})
    create_network(path, "dev-1", 1, ORGANISATIONS[:4], choose_ports(config, 4))
    return Home(path)


def test_the_home_of_a_development_network_is_well(network: Home, free_port: int) -> None:
    code, checks = examined(network, free_port)
    assert code == 0 and "no node runs in this home" in checks["validator key"]["found"]
    assert "node key" not in checks


def test_the_home_of_a_node_is_well_as_long_as_it_has_its_key(network: Home, free_port: int) -> None:
    node = Home(network.path / "node-3")
    code, checks = examined(node, free_port)
    assert code == 0 and checks["node key"]["found"] == "node of bank in dev-1, at 127.0.0.1:8705"
    for name in ("node.key", "node.crt"):
        (node.path / name).unlink()
    code, checks = examined(node, free_port)
    assert code == 1 and checks["node key"]["found"].startswith("E-NODEKEY-004")
    create_node_key(node)
    code, checks = examined(node, free_port)
    assert code == 1 and "does not name this node" in checks["node key"]["found"]
