from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.member_file import read_member
from ledger.genesis import parse_genesis
from node import signing_record
from node.config import load_config
from node.home import Home
from node.keystore import find
from node.network.node_key import load_node_key
from tests.unit.cli.test_member_file import member, text
from tests.unit.cli.typed import answer, failure, passphrase_file, typed


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return f"--passphrase-file={passphrase_file(tmp_path)}"


def founded(folder: Path, secret: str, *more: str, organisation: str = "grocer:The Grocer") -> dict[str, Any]:
    """What `genesis member` says, having made folder/home and folder/member.json."""
    out = f"--out={folder / 'member.json'}"
    asked = ("genesis", "member", f"--organisation={organisation}", out, secret, "--words=12", *more)
    return answer(typed(*asked, "--json", home=folder / "home"))


def others(folder: Path) -> list[str]:
    """Files of three other members."""
    paths = []
    for name in ("roaster", "bank", "airline"):
        path = folder / f"{name}.json"
        path.write_text(text(organisation=name, addresses=(f"{name}.example:8701",)))
        paths.append(str(path))
    return paths


def composed(folder: Path, *files: str) -> Path:
    out = folder / "genesis.json"
    answer(typed("genesis", "compose", *files, "--chain-id=acme-1", f"--out={out}", "--json", home=folder / "none"))
    return out


# member


def test_a_members_file_has_the_public_parts_of_its_home(tmp_path: Path, secret: str) -> None:
    said = founded(tmp_path, secret, "--address=grocer.example:8701", "--chain-id=acme-1")
    made = read_member(tmp_path / "member.json")
    home = Home.open(tmp_path / "home")
    assert (made.chain_id, made.organisation, made.name) == ("acme-1", "grocer", "The Grocer")
    assert made.addresses == ("grocer.example:8701",)
    assert made.number().hex() == said["number"]
    assert made.validator.hex() == find(home.keys, "validator").public_key
    assert said["account"] == find(home.keys, "grocer").address
    assert made.certificate == load_node_key(home).certificate
    assert len(said["words"]) == 12
    assert not home.genesis_file.exists() and not home.signing_record.exists()
    config = load_config(home.path, environment={})
    assert (config.network.host, config.network.port, config.validator.key) == ("0.0.0.0", 8701, "validator")


@pytest.mark.parametrize(
    ("asked", "address", "host", "port"),
    [
        ((), "127.0.0.1:8701", "127.0.0.1", 8701),
        (("--instance=2",), "127.0.0.1:8721", "127.0.0.1", 8721),
        (("--instance=2", "--address=localhost:9000"), "localhost:9000", "127.0.0.1", 9000),
        (("--address=[2001:db8::1]:9000",), "[2001:db8::1]:9000", "::", 9000),
        (("--set=network.advertise=a.example:1",), "a.example:1", "0.0.0.0", 1),
    ],
)
def test_the_node_will_listen_where_the_others_are_told(
    tmp_path: Path, secret: str, asked: tuple[str, ...], address: str, host: str, port: int
) -> None:
    said = founded(tmp_path, secret, *asked)
    assert said["addresses"] == [address]
    instance = 2 if "--instance=2" in asked else 0
    config = load_config(tmp_path / "home", environment={}, instance=instance)
    assert (config.network.host, config.network.port) == (host, port)


def test_the_file_is_made_again_from_the_same_keys(tmp_path: Path, secret: str) -> None:
    first = founded(tmp_path, secret)
    (tmp_path / "member.json").rename(tmp_path / "old.json")
    second = founded(tmp_path, secret, "--address=grocer.example:8701")
    assert [first[key] for key in ("account", "validator")] == [second[key] for key in ("account", "validator")]
    assert second["words"] == [] and second["addresses"] == ["grocer.example:8701"]
    before, after = read_member(tmp_path / "old.json"), read_member(tmp_path / "member.json")
    assert before.certificate == after.certificate


def test_no_file_is_replaced(tmp_path: Path, secret: str) -> None:
    (tmp_path / "member.json").write_text("mine")
    asked = ("genesis", "member", "--organisation=grocer", f"--out={tmp_path / 'member.json'}", secret, "--json")
    assert failure(typed(*asked, home=tmp_path / "home"))["code"] == "E-HOME-002"
    assert (tmp_path / "member.json").read_text() == "mine" and not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("--organisation=validator",), "E-KEYSTORE-001"),
        (("--organisation=Grocer",), "E-KEYSTORE-001"),
        (("--organisation=gro.cer",), "E-GENESIS-001"),
        (("--organisation=grocer", "--chain-id=Acme"), "E-GENESIS-001"),
        (("--organisation=grocer", "--address=:8701"), "E-PEER-012"),
        (("--organisation=grocer", "--address=grocer.example"), "E-PEER-012"),
        ((), "E-CLI-004"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    tmp_path: Path, secret: str, asked: tuple[str, ...], code: str
) -> None:
    out = f"--out={tmp_path / 'member.json'}"
    assert failure(typed("genesis", "member", *asked, out, secret, "--json", home=tmp_path / "home"))["code"] == code
    assert not (tmp_path / "home").exists() and not (tmp_path / "member.json").exists()


# compose and check


def test_members_who_compose_in_any_order_get_the_same_document(tmp_path: Path) -> None:
    files = others(tmp_path)
    (tmp_path / "again").mkdir()
    first, second = composed(tmp_path, *files), composed(tmp_path / "again", *reversed(files))
    assert first.read_bytes() == second.read_bytes()
    said = typed("genesis", "check", str(first), home=tmp_path / "none")
    assert said.exit_code == 0
    for part in (parse_genesis(first.read_text()).id().hex(), "acme-1", "3 validators", "The Bank", "There is no home"):
        assert part in said.stdout


def test_composing_says_the_number_of_each_file(tmp_path: Path) -> None:
    out = tmp_path / "genesis.json"
    asked = ("genesis", "compose", *others(tmp_path), "--chain-id=acme-1", f"--out={out}")
    said = answer(typed(*asked, "--parameter=block_interval_ms=250", "--json", home=tmp_path / "none"))
    assert said["genesis_id"] == parse_genesis(out.read_text()).id().hex()
    numbers = {row["organisation"]: row["number"] for row in said["members"]}
    expected, _ = member("bank", addresses=("bank.example:8701",))
    assert numbers["bank"] == expected.number().hex()
    shown = typed("genesis", "check", str(out), home=tmp_path / "none").stdout
    assert "but block_interval_ms = 250" in shown and "none of them may fail" in shown


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("--parameter=block_interval_ms=x",), "E-CLI-004"),
        (("--parameter=block_interval=5",), "E-MEMBER-005"),
        (("--parameter=block_interval_ms=5",), "E-GENESIS-001"),
        (("--chain-id=acme-2",), "E-MEMBER-004"),
    ],
)
def test_what_cannot_be_composed_is_not_written(tmp_path: Path, asked: tuple[str, ...], code: str) -> None:
    out = tmp_path / "genesis.json"
    command = ("genesis", "compose", *others(tmp_path), "--chain-id=acme-1", f"--out={out}", *asked, "--json")
    assert failure(typed(*command, home=tmp_path / "none"))["code"] == code
    assert not out.exists()


def test_a_changed_file_is_not_composed(tmp_path: Path) -> None:
    first, *more = others(tmp_path)
    document = json.loads(Path(first).read_text())
    document["organisation"]["name"] = "The Thief"
    Path(first).write_text(json.dumps(document))
    result = typed("genesis", "compose", first, *more, "--chain-id=acme-1", f"--out={tmp_path / 'g'}", "--json")
    assert (result.exit_code, failure(result)["code"]) == (3, "E-MEMBER-003")


# join


def test_a_member_finds_itself_and_joins_once(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret, "--address=grocer.example:8701")
    home = Home(tmp_path / "home")
    document = composed(tmp_path, str(tmp_path / "member.json"), *others(tmp_path))
    checked = answer(typed("genesis", "check", str(document), "--json", home=home.path))
    assert (checked["validator_of"], checked["node_of"], checked["missing"]) == ("grocer", "grocer", [])

    joined = answer(typed("join", str(document), "--json", home=home.path))
    assert (joined["organisation"], joined["already"]) == ("grocer", False)
    assert home.genesis_file.read_text() == document.read_text()
    assert signing_record.load(home.signing_record)
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}

    again = answer(typed("join", str(document), "--json", home=home.path))
    assert (again["already"], again["genesis_id"]) == (True, joined["genesis_id"])
    other = tmp_path / "other.json"
    other.write_text(document.read_text().replace('"acme-1"', '"acme-2"'))
    assert failure(typed("join", str(other), "--json", home=home.path))["code"] == "E-JOIN-002"
    out = f"--out={tmp_path / 'm2.json'}"
    refused = typed("genesis", "member", "--organisation=grocer", out, secret, "--json", home=home.path)
    assert failure(refused)["code"] == "E-HOME-002"
    assert {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()} == before


def test_a_lost_signing_record_is_not_made_again_by_joining_again(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret)
    home = Home(tmp_path / "home")
    document = composed(tmp_path, str(tmp_path / "member.json"), *others(tmp_path))
    answer(typed("join", str(document), "--json", home=home.path))
    home.signing_record.unlink()
    answer(typed("join", str(document), "--json", home=home.path))
    assert not home.signing_record.exists()


def test_a_document_without_this_homes_keys_is_not_joined(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret)
    document = composed(tmp_path, *others(tmp_path))
    checked = typed("genesis", "check", str(document), home=tmp_path / "home")
    assert checked.exit_code == 3
    assert "Not yours: the validator's key of this home, validator, is not in it." in checked.stdout
    found = failure(typed("join", str(document), "--json", home=tmp_path / "home"))
    assert found["code"] == "E-JOIN-001" and "node key" in found["cause"]
    assert not Home(tmp_path / "home").genesis_file.exists()


def test_only_the_document_of_the_id_that_was_agreed_on_is_joined(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret)
    document = composed(tmp_path, str(tmp_path / "member.json"), *others(tmp_path))
    result = typed("join", str(document), f"--id={'ab' * 32}", "--json", home=tmp_path / "home")
    assert (result.exit_code, failure(result)["code"]) == (3, "E-JOIN-003")
    identifier = parse_genesis(document.read_text()).id().hex().upper()
    answer(typed("join", str(document), f"--id={identifier}", "--json", home=tmp_path / "home"))


def test_joining_needs_a_home_and_starting_needs_to_have_joined(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret)
    document = composed(tmp_path, *others(tmp_path))
    assert failure(typed("join", str(document), "--json", home=tmp_path / "none"))["code"] == "E-HOME-001"
    found = failure(typed("node", "start", "--json", home=tmp_path / "home"))
    assert found["code"] == "E-HOME-004" and "troth join" in found["fix"]


def test_a_node_that_listens_elsewhere_than_the_others_look_is_warned_of(tmp_path: Path, secret: str) -> None:
    founded(tmp_path, secret)
    document = composed(tmp_path, str(tmp_path / "member.json"), *others(tmp_path))
    result = typed("join", str(document), "--set=network.port=9999", home=tmp_path / "home")
    assert result.exit_code == 0
    assert "127.0.0.1:8701" in result.stderr and "9999" in result.stderr
