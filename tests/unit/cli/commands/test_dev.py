from __future__ import annotations

from pathlib import Path

import pytest

from cli.example_accounts import BRANDS, CONSUMERS, PROGRAMMES, address
from cli.new_home import compose_genesis, dev_keys, write_home
from ledger.errors import Forbidden
from node.home import Home
from tests.unit.cli.typed import failure, typed


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
    names = [*CONSUMERS, *(brand.id for brand in BRANDS), "validator"]
    assert len({address(name) for name in names}) == len(names)
