from __future__ import annotations

from pathlib import Path

import pytest

from ledger.address import address_of, to_text
from ledger.genesis import Genesis, Parameters, parse_genesis
from node import keystore, wallet
from node.config import load_config
from node.home import Home
from tests.unit.cli.typed import PASSPHRASE, answer, failure, passphrase_file, typed

ASKED = ("init", "--chain-id=acme-1", "--organisation=grocer:The Grocer", "--organisation=roaster", "--words=12")
ELSEWHERE = to_text(address_of(keystore.dev_key("elsewhere").public))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return f"--passphrase-file={passphrase_file(tmp_path)}"


def genesis_of(home: Path) -> Genesis:
    return parse_genesis((home / "genesis.json").read_text())


def test_a_home_has_all_that_a_node_needs(home: Path, secret: str) -> None:
    made = answer(typed(*ASKED, secret, "--json", home=home))
    genesis = genesis_of(home)
    assert genesis.id().hex() == made["genesis_id"]
    assert (genesis.chain_id, genesis.parameters) == ("acme-1", Parameters())
    assert [(o.id, o.name) for o in genesis.organisations] == [("grocer", "The Grocer"), ("roaster", "roaster")]
    assert [[m.roles for m in o.members] for o in genesis.organisations] == [
        [("administrator", "issuer", "transactor")],
        [("issuer", "transactor")],
    ]
    key = keystore.load(home / "keys" / "validator.json", PASSPHRASE)
    assert [(v.public_key, v.organisation, v.power) for v in genesis.validators] == [(key.public, "grocer", 1)]
    assert load_config(home, environment={}).validator.key == "validator"
    Home.open(home)


def test_all_keys_come_from_the_words(home: Path, secret: str) -> None:
    made = answer(typed(*ASKED, secret, "--json", home=home))
    words = " ".join(made["words"])
    for account, label in enumerate(("validator", "grocer", "roaster")):
        key = keystore.load(home / "keys" / f"{label}.json", PASSPHRASE)
        assert key.public == wallet.private_key(words, account).public
        assert made["keys"][account]["key"] == label
        assert made["keys"][account]["address"] == to_text(address_of(key.public))


def test_the_text_shows_the_words_and_the_next_step(home: Path, secret: str) -> None:
    result = typed(*ASKED, secret, "--home", str(home))
    assert " 1 " in result.stdout and "12 " in result.stdout and "shown this once" in result.stdout
    assert result.stderr == f"Next: troth --home {home} node start\n"


def test_a_second_init_refuses_and_changes_nothing(home: Path, secret: str) -> None:
    typed(*ASKED, secret, home=home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    found = failure(typed(*ASKED, secret, "--json", home=home))
    assert found["code"] == "E-HOME-002"
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_an_interrupted_init_goes_on_with_the_keys_that_it_left(home: Path, secret: str) -> None:
    first = answer(typed(*ASKED, secret, "--json", home=home))
    for name in ("config.toml", "genesis.json", "keys/roaster.json"):
        (home / name).unlink()
    second = answer(typed(*ASKED, secret, "--json", home=home))
    assert second["keys"][:2] == first["keys"][:2]
    assert second["keys"][2] != first["keys"][2]
    assert genesis_of(home).validators[0].public_key.hex() == first["keys"][0]["public_key"]


def test_a_dry_run_names_the_files_and_makes_none(home: Path) -> None:
    made = answer(typed(*ASKED, "--dry-run", "--json", home=home))
    assert made["dry_run"] is True
    assert {Path(file).name for file in made["files"]} == {
        "config.toml",
        "genesis.json",
        "record",
        "validator.json",
        "grocer.json",
        "roaster.json",
    }
    assert not home.exists()


def test_development_keys_need_no_passphrase_and_no_files(home: Path) -> None:
    answer(typed("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", "--json", home=home))
    assert genesis_of(home).validators[0].public_key == keystore.dev_key("validator").public
    assert load_config(home, environment={}).validator.key == "dev:validator"
    assert list((home / "keys").iterdir()) == []


def test_development_keys_are_refused_elsewhere(home: Path) -> None:
    result = typed("init", "--chain-id=acme-1", "--organisation=grocer", "--dev-keys", "--json", home=home)
    assert result.exit_code == 4
    assert failure(result)["code"] == "E-CLI-008"
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--chain-id=Acme", "--organisation=grocer"), "E-GENESIS-001"),
        (("--chain-id=ac", "--organisation=grocer"), "E-GENESIS-001"),
        (("--chain-id=acme", "--organisation=grocer", "--organisation=grocer"), "E-GENESIS-001"),
        (("--chain-id=acme", "--organisation=Grocer"), "E-KEYSTORE-001"),
        (("--chain-id=acme", "--organisation=validator"), "E-KEYSTORE-001"),
        (("--chain-id=acme", "--organisation=gro.cer"), "E-GENESIS-001"),
        (("--chain-id=acme", "--organisation=grocer", "--member=grocer:troth1x:issuer"), "E-ADDRESS-001"),
        (("--chain-id=acme", "--organisation=grocer", f"--member=grocer:{ELSEWHERE}:isuer"), "E-GENESIS-001"),
        (("--chain-id=acme", "--organisation=grocer", f"--member=grocer:{ELSEWHERE}:issuer"), "E-GENESIS-001"),
        (("--chain-id=acme", "--organisation=grocer", f"--member=roaster:{ELSEWHERE}:issuer"), "E-CLI-004"),
        (("--chain-id=acme", "--organisation=grocer", f"--member=grocer:{ELSEWHERE}"), "E-CLI-004"),
        (("--organisation=grocer",), "E-CLI-004"),
        (("--chain-id=acme",), "E-CLI-004"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    home: Path, secret: str, arguments: tuple[str, ...], code: str
) -> None:
    assert failure(typed("init", *arguments, secret, "--json", home=home))["code"] == code
    assert not home.exists()


def test_members_whose_keys_are_elsewhere_need_none_here(home: Path, secret: str) -> None:
    member = f"--member=roaster:{ELSEWHERE}:transactor,issuer"
    made = answer(typed(*ASKED, member, secret, "--json", home=home))
    assert [key["key"] for key in made["keys"]] == ["validator", "grocer"]
    [only] = genesis_of(home).organisations[1].members
    assert (to_text(only.address), only.roles) == (ELSEWHERE, ("issuer", "transactor"))
