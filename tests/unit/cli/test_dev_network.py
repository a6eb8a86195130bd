from __future__ import annotations

from pathlib import Path

import pytest

from cli.dev_network import DevNode, choose_ports, create_network, find_node, open_network
from cli.example_accounts import ORGANISATIONS
from ledger.address import address_of
from ledger.errors import Forbidden, Invalid, NotFound, Refused
from ledger.genesis import parse_genesis
from ledger.node_certificate import certificate_key
from node import signing_record
from node.config import Config, load_config
from node.home import Home
from node.keystore import dev_key
from node.network.node_key import load_node_key


def settings(home: Path, instance: int = 0, **flags: str) -> Config:
    given = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(home, settings=given, instance=instance, environment={})


def made(home: Path, count: int = 4, chain_id: str = "dev-1") -> list[DevNode]:
    return create_network(home, chain_id, 1, ORGANISATIONS[:count], choose_ports(settings(home), count))


@pytest.mark.parametrize("count", [4, 7])
def test_every_node_has_a_home_keys_and_ports_of_its_own(tmp_path: Path, count: int) -> None:
    nodes = made(tmp_path / "home", count)
    assert [node.name for node in nodes] == [f"node-{number}" for number in range(1, count + 1)]
    assert [node.organisation for node in nodes] == [brand.id for brand in ORGANISATIONS[:count]]
    assert len({port for node in nodes for port in (node.port, node.network_port)}) == 2 * count
    text = (tmp_path / "home" / "genesis.json").read_text()
    genesis = parse_genesis(text)
    registered = {certificate_key(node.certificate): node for node in genesis.nodes}
    validators = {validator.public_key: validator for validator in genesis.validators}
    assert len(registered) == len(validators) == count
    for number, node in enumerate(nodes, 1):
        home = Home.open(node.home)
        assert home.genesis_file.read_text() == text
        config = settings(home.path)
        assert (config.api.port, config.network.port) == (node.port, node.network_port)
        assert config.validator.key == f"dev:validator-{number}"
        assert validators[dev_key(f"validator-{number}").public].organisation == node.organisation
        entry = registered[load_node_key(home).id]
        assert (entry.organisation, entry.addresses) == (node.organisation, (f"127.0.0.1:{node.network_port}",))
        assert signing_record.load(home.signing_record)


def test_every_organisation_with_a_seat_administers(tmp_path: Path) -> None:
    made(tmp_path / "home")
    genesis = parse_genesis((tmp_path / "home" / "genesis.json").read_text())
    for organisation in genesis.organisations:
        [member] = organisation.members
        assert member.address == address_of(dev_key(organisation.id).public)
        assert "administrator" in member.roles


def test_the_home_of_the_person_is_a_home_without_a_validator(tmp_path: Path) -> None:
    made(tmp_path / "home")
    home = Home.open(tmp_path / "home")
    assert not home.signing_record.exists()
    assert settings(home.path).api_url == "http://127.0.0.1:8700"


def test_a_network_is_opened_as_it_was_made(tmp_path: Path) -> None:
    nodes = made(tmp_path / "home")
    home = Home.open(tmp_path / "home")
    genesis = parse_genesis(home.genesis_file.read_text())
    assert open_network(home, genesis, settings(home.path)) == nodes
    moved = open_network(home, genesis, settings(home.path, instance=2))
    assert [node.port for node in moved] == [node.port + 20 for node in nodes]
    assert [node.network_port for node in moved] == [node.network_port for node in nodes]


def test_a_network_is_for_development_chains_only(tmp_path: Path) -> None:
    with pytest.raises(Forbidden):
        made(tmp_path / "home", chain_id="acme-1")
    assert not (tmp_path / "home").exists()


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    made(tmp_path / "home")
    with pytest.raises(Refused) as caught:
        made(tmp_path / "home")
    assert caught.value.code == "E-HOME-002"
    other = tmp_path / "other"
    (other / "node-3").mkdir(parents=True)
    with pytest.raises(Refused) as caught:
        made(other)
    assert (caught.value.code, str(other / "node-3") in caught.value.cause) == ("E-HOME-002", True)
    assert [path.name for path in other.iterdir()] == ["node-3"]


@pytest.mark.parametrize(
    ("flags", "instance", "first", "second"),
    [
        ({}, 0, (8700, 8701), (8702, 8703)),
        ({}, 1, (8710, 8711), (8712, 8713)),
        ({"api__port": "9000"}, 0, (9000, 9001), (9002, 9003)),
        ({"api__port": "9000", "network__port": "9500"}, 0, (9000, 9500), (9002, 9502)),
    ],
)
def test_ports_alternate_unless_told_otherwise(
    tmp_path: Path, flags: dict[str, str], instance: int, first: tuple[int, int], second: tuple[int, int]
) -> None:
    assert choose_ports(settings(tmp_path, instance, **flags), 2) == [first, second]


def test_ports_that_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        choose_ports(settings(tmp_path, api__port="9000", network__port="9004"), 4)
    assert caught.value.code == "E-CONFIG-002"


def test_a_node_is_found_by_its_name_or_number(tmp_path: Path) -> None:
    nodes = made(tmp_path / "home")
    assert find_node(nodes, "node-3") == find_node(nodes, "3") == nodes[2]
    for name in ("node-5", "0", "node", "", "-3"):
        with pytest.raises(NotFound) as caught:
            find_node(nodes, name)
        assert caught.value.code == "E-DEV-002"
