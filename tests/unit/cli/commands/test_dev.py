from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.dev_network import choose_ports, create_network
from cli.dev_state import DevState, Process, RunningNode, write_state
from cli.example_accounts import BRANDS, CONSUMERS, ORGANISATIONS, PROGRAMMES, address
from cli.new_home import compose_genesis, dev_keys, write_home
from ledger.errors import Forbidden
from node.config import load_config
from node.home import Home
from tests.unit.cli.typed import answer, failure, typed


def made(path: Path, chain_id: str = "dev-1") -> Home:
    keys = {label: key.public for label, key in dev_keys(BRANDS).items()}
    return write_home(path, compose_genesis(chain_id, 1, BRANDS, keys), dev=True)


def test_reset_asks_first_and_then_forgets_the_chain_but_no_keys(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    (home.keys / "mine.json").write_text("kept")
    (home.ledger / "000001.log").write_text("block")
    assert failure(typed("dev", "reset", "--json", home=home.path))["code"] == "E-CLI-001"
    assert home.config_file.exists()
    assert typed("dev", "reset", "--yes", home=home.path).exit_code == 0
    assert [path.name for path in sorted(home.path.iterdir())] == ["keys", "node.pid"]
    assert (home.keys / "mine.json").read_text() == "kept"


def test_reset_touches_no_home_of_another_chain(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    home.genesis_file.write_text(home.genesis_file.read_text().replace("dev-1", "acme-1"))
    assert failure(typed("dev", "reset", "--yes", "--json", home=home.path))["code"] == "E-DEV-001"
    assert failure(typed("dev", "--json", home=home.path))["code"] == "E-DEV-001"
    assert home.config_file.exists()


def test_reset_waits_for_no_running_node(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    with home.claimed():
        assert failure(typed("dev", "reset", "--yes", "--json", home=home.path))["code"] == "E-HOME-006"
        result = typed("dev", "--json", home=home.path)
    assert failure(result)["code"] == "E-HOME-006"
    assert home.config_file.exists()


def test_reset_of_nothing_is_not_found(tmp_path: Path) -> None:
    assert typed("dev", "reset", "--yes", home=tmp_path / "none").exit_code == 5


def test_a_development_home_is_made_for_development_chains_only(tmp_path: Path) -> None:
    with pytest.raises(Forbidden):
        made(tmp_path / "home", "acme-1")
    assert not (tmp_path / "home").exists()


def test_every_grant_goes_to_an_example_consumer() -> None:
    assert set(PROGRAMMES) == {brand.id for brand in BRANDS}
    for programme in PROGRAMMES.values():
        assert {name for name, _ in programme.grants} <= set(CONSUMERS)
        assert all(amount > 0 for _, amount in programme.grants)
    names = [*CONSUMERS, *(brand.id for brand in ORGANISATIONS), "validator"]
    assert len({address(name) for name in names}) == len(names)


# Networks


def network(path: Path) -> Home:
    config = load_config(path, environment={})
    create_network(path, "dev-1", 1, ORGANISATIONS[:4], choose_ports(config, 4))
    return Home.open(path)


def test_reset_of_a_network_forgets_its_nodes_and_no_keys(tmp_path: Path) -> None:
    home = network(tmp_path / "home")
    (home.keys / "mine.json").write_text("kept")
    with Home(home.path / "node-3").claimed():  # a node that outlived its `troth dev`
        assert failure(typed("dev", "reset", "--yes", "--json", home=home.path))["code"] == "E-HOME-006"
    assert typed("dev", "reset", "--yes", home=home.path).exit_code == 0
    assert [path.name for path in sorted(home.path.iterdir())] == ["keys", "node.pid"]
    assert (home.keys / "mine.json").read_text() == "kept"


def test_a_network_is_not_run_twice(tmp_path: Path) -> None:
    home = network(tmp_path / "home")
    with home.claimed():
        assert failure(typed("dev", "--json", home=home.path))["code"] == "E-HOME-006"


@pytest.mark.parametrize("size", ["1", "7"])
def test_a_chain_keeps_its_number_of_validators(tmp_path: Path, size: str) -> None:
    home = network(tmp_path / "home")
    found = failure(typed("dev", f"--validators={size}", "--json", home=home.path))
    assert (found["code"], "has 4 validators" in found["cause"]) == ("E-DEV-004", True)


def test_the_number_of_validators_is_of_a_new_network_only(tmp_path: Path) -> None:
    home = network(tmp_path / "home")
    assert typed("dev", "--validators=4", "status", home=home.path).exit_code == 2
    assert typed("dev", "--validators=5", home=tmp_path / "new").exit_code == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", ["kill", "pause", "resume", "start", "cut", "heal"])
def test_there_is_nothing_to_break_where_no_network_runs(tmp_path: Path, command: str) -> None:
    home = network(tmp_path / "home")
    result = typed("dev", command, "node-1", "--json", home=home.path)
    assert (result.exit_code, failure(result)["code"]) == (6, "E-DEV-005")
    result = typed("dev", command, "node-5", "--json", home=home.path)
    assert (result.exit_code, failure(result)["code"]) == (5, "E-DEV-002")
    single = made(tmp_path / "single")
    assert failure(typed("dev", command, "node-1", "--json", home=single.path))["code"] == "E-DEV-001"


def test_the_state_of_a_network_that_does_not_run_is_said(tmp_path: Path) -> None:
    home = network(tmp_path / "home")
    assert failure(typed("dev", "status", "--json", home=home.path))["code"] == "E-DEV-005"
    gone = RunningNode("node-2", "http://127.0.0.1:1", Process(os.getpid(), "another moment"))
    write_state(home.path, DevState(Process(os.getpid(), "another moment"), (gone,)))
    rows = answer(typed("dev", "status", "--json", home=home.path))["nodes"]
    assert [(row["node"], row["state"], row["pid"]) for row in rows] == [
        (f"node-{number}", "stopped", None) for number in range(1, 5)
    ]
    # The process of that id is this test itself: nothing may be sent to it.
    for command in ("kill", "pause", "start"):
        assert failure(typed("dev", command, "2", "--json", home=home.path))["code"] == "E-DEV-005"
