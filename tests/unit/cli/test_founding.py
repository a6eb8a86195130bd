from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from cli.founding import compose, own_part, parameters_of
from cli.member_file import FoundingMember
from ledger.errors import Invalid
from ledger.genesis import Genesis, Parameters, parse_genesis
from ledger.keys import PrivateKey
from node import keystore
from node.config import Config, load_config
from node.home import Home
from node.network.node_key import write_node_key
from tests.unit.cli.test_member_file import member

NAMES = ("grocer", "roaster", "bank", "airline")


def members(*names: str, **changed: Any) -> list[FoundingMember]:
    found = []
    for number, name in enumerate(names or NAMES):
        made = member(name, addresses=(f"{name}.example:8701",), time_ms=1_000 + number)[0]
        found.append(made._replace(**changed))
    return found


def test_the_order_of_the_files_does_not_matter() -> None:
    documents = {compose("acme-1", order).to_json() for order in permutations(members())}
    assert len(documents) == 1


def test_every_member_has_a_seat_a_node_and_an_administrator() -> None:
    genesis = compose("acme-1", members())
    assert parse_genesis(genesis.to_json()) == genesis
    assert (genesis.chain_id, genesis.time_ms, genesis.parameters) == ("acme-1", 1_003, Parameters())
    assert [organisation.id for organisation in genesis.organisations] == sorted(NAMES)
    for each in members():
        [organisation] = [found for found in genesis.organisations if found.id == each.organisation]
        assert organisation.name == each.name
        assert [account.address for account in organisation.members] == [each.account]
        assert "administrator" in organisation.members[0].roles
        [validator] = [found for found in genesis.validators if found.organisation == each.organisation]
        assert (validator.public_key, validator.power) == (each.validator, 1)
        [node] = [found for found in genesis.nodes if found.organisation == each.organisation]
        assert (node.certificate, node.addresses) == (each.certificate, each.addresses)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"organisation": "grocer"}, "the organisation grocer"),
        ({"account": members("grocer")[0].account}, "the account"),
        ({"validator": members("grocer")[0].validator}, "the validator's key"),
        ({"certificate": members("grocer")[0].certificate}, "the node's certificate"),
        ({"addresses": ("x.example:1", "grocer.example:8701")}, "the node's address grocer.example:8701"),
    ],
)
def test_two_members_share_nothing(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as caught:
        compose("acme-1", [*members("grocer"), *members("roaster", **changed)])
    assert caught.value.code == "E-MEMBER-004" and caught.value.cause.startswith(said)


def test_a_file_for_another_chain_is_refused_and_one_for_any_chain_is_not() -> None:
    with pytest.raises(Invalid) as caught:
        compose("acme-2", members())
    assert (caught.value.code, "acme-1" in caught.value.cause) == ("E-MEMBER-004", True)
    assert compose("acme-2", members(chain_id="")).chain_id == "acme-2"


@pytest.mark.parametrize(("chain_id", "names"), [("Acme", ("grocer",)), ("acme-1", ("gro.cer",))])
def test_what_a_genesis_document_refuses_is_refused(chain_id: str, names: tuple[str, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        compose(chain_id, members(*names, chain_id="", addresses=("a.example:1",)))
    assert caught.value.code == "E-GENESIS-001"


def test_parameters_are_the_defaults_but_those_given() -> None:
    given = parameters_of({"block_interval_ms": 200})
    assert given == Parameters(block_interval_ms=200)
    assert compose("acme-1", members(), given).id() != compose("acme-1", members()).id()
    with pytest.raises(Invalid) as caught:
        parameters_of({"block_intervall_ms": 200})
    assert caught.value.code == "E-MEMBER-005"
    with pytest.raises(Invalid) as caught:
        compose("acme-1", members(), parameters_of({"block_interval_ms": 1}))
    assert caught.value.code == "E-GENESIS-001"


def home_of(path: Path, validator: PrivateKey | None, node: PrivateKey | None) -> tuple[Home, Config]:
    home = Home.create(path)
    if validator is not None:
        keystore.save(home.keys, "validator", validator, "secret", kdf=keystore.Kdf(1, 8, 1))
    if node is not None:
        write_node_key(home, node)
    return home, load_config(path, environment={})


def genesis() -> Genesis:
    return compose("acme-1", members())


def test_a_home_finds_itself(tmp_path: Path) -> None:
    home, config = home_of(tmp_path, member("bank")[1], keystore.dev_key("bank-node"))
    assert own_part(home, config, genesis()) == ("bank", "bank", ())


@pytest.mark.parametrize(
    ("validator", "node", "said"),
    [
        ("x", "bank-node", ["the validator's key of this home, validator, is not in it"]),
        ("bank-validator", "x", ["the node key of this home is not in it"]),
        (None, None, ["this home has no validator's key validator", "this home has no node key"]),
        (
            "bank-validator",
            "grocer-node",
            ["the validator's key of this home is that of bank there, and its node key of grocer"],
        ),
    ],
)
def test_a_home_says_what_of_it_is_missing(
    tmp_path: Path, validator: str | None, node: str | None, said: list[str]
) -> None:
    keys = [None if name is None else keystore.dev_key(name) for name in (validator, node)]
    home, config = home_of(tmp_path, *keys)
    assert list(own_part(home, config, genesis()).missing) == said
