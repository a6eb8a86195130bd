from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from ledger.errors import Invalid, TrothError
from node.api.server import ApiLimits
from node.config import SETTINGS, Config, load_config, render_config, unknown_environment
from node.mempool import Limits
from node.stores import KINDS


def home_with(tmp_path: Path, text: str) -> Path:
    (tmp_path / "config.toml").write_text(text)
    return tmp_path


def load(home: Path, *, instance: int = 0, environment: dict[str, str] | None = None, **flags: str) -> Config:
    settings = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(home, settings=settings, instance=instance, environment=environment or {})


def refused(home: Path, *, instance: int = 0, environment: dict[str, str] | None = None, **flags: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        load(home, instance=instance, environment=environment, **flags)
    return caught.value


def test_without_a_home_the_defaults_hold(tmp_path: Path) -> None:
    config = load(tmp_path / "nowhere")
    assert (config.api.host, config.api.port, config.store.kind, config.state.keep_heights) == (
        "127.0.0.1",
        8700,
        "leveldb",
        10_000,
    )
    assert {origin for _, _, origin in config.items()} == {"default"}


def test_flags_come_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    home = home_with(tmp_path, "[log]\nlevel = 'error'\nformat = 'json'\n[api]\nport = 9000\nhost = '::1'\n")
    environment = {"TROTH_LOG_LEVEL": "warning", "TROTH_API_PORT": "9001"}
    config = load(home, environment=environment, log__level="debug")
    assert (config.log.level, config.api.port, config.log.format, config.node.workers) == ("debug", 9001, "json", 0)
    origins = {key: origin for key, _, origin in config.items()}
    assert origins["log.level"] == "--set"
    assert origins["api.port"] == "TROTH_API_PORT"
    assert origins["log.format"] == str(tmp_path / "config.toml")
    assert origins["node.workers"] == "default"


def test_an_instance_shifts_the_port_of_the_file_and_the_default_only(tmp_path: Path) -> None:
    assert load(tmp_path, instance=3).api.port == 8730
    home = home_with(tmp_path, "[api]\nport = 9000\n")
    config = load(home, instance=2)
    assert config.api.port == 9020
    assert dict(config.origins)["api.port"] == f"{tmp_path / 'config.toml'} + --instance 2"
    assert load(home, instance=2, api__port="9000").api.port == 9000
    assert load(home, instance=2, environment={"TROTH_API_PORT": "9000"}).api.port == 9000


def test_an_instance_shifts_the_port_for_other_nodes_too(tmp_path: Path) -> None:
    assert load(tmp_path).network.port == 8701
    assert load(tmp_path, instance=3).network.port == 8731
    home = home_with(tmp_path, "[network]\nport = 9001\n")
    assert load(home, instance=2).network.port == 9021
    assert load(home, instance=2, network__port="9001").network.port == 9001


def test_two_settings_of_one_port_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, api__port="8701")
    assert (error.code, error.cause) == ("E-CONFIG-002", "api.port and network.port are both 8701")
    assert load(tmp_path, api__port="8701", network__port="8700").network.port == 8700


@pytest.mark.parametrize("address", ["", "node.example:8701", "192.0.2.1:1", "[2001:db8::1]:8701"])
def test_an_advertised_address_is_one_that_peers_take(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, network__advertise=address).network.advertise == address


@pytest.mark.parametrize("address", ["node.example", ":8701", "node.example:", "node.example:0", "http://a:1", "::1:1"])
def test_what_is_no_address_is_not_advertised(tmp_path: Path, address: str) -> None:
    assert refused(tmp_path, network__advertise=address).code == "E-CONFIG-002"


def test_an_instance_beyond_the_last_port_is_refused(tmp_path: Path) -> None:
    error = refused(home_with(tmp_path, "[api]\nport = 65530\n"), instance=1)
    assert error.code == "E-CONFIG-002" and "--instance 1" in error.cause


@pytest.mark.parametrize(
    ("text", "code", "cause"),
    [
        ("[api]\nprt = 1\n", "E-CONFIG-001", "there is no setting 'api.prt'; did you mean api.port?"),
        ("[apo]\nport = 1\n", "E-CONFIG-001", "there is no section [apo]; did you mean api?"),
        ("api = 1\n", "E-CONFIG-002", "api is a section"),
        ("[api]\nport = 0\n", "E-CONFIG-002", "api.port takes a whole number from 1 to 65535, not 0"),
        ("[api]\nport = 65536\n", "E-CONFIG-002", "not 65536"),
        ("[api]\nport = '8700'\n", "E-CONFIG-002", "not '8700'"),
        ("[api]\nport = true\n", "E-CONFIG-002", "not True"),
        ("[api]\nport = 87.0\n", "E-CONFIG-002", "not 87.0"),
        ("[api]\nhost = 'a b'\n", "E-CONFIG-002", "api.host takes an address or host name"),
        ("[api]\nurl = 'localhost:8700'\n", "E-CONFIG-002", "api.url takes http"),
        ("[store]\nkind = 'leveldbb'\n", "E-CONFIG-002", "not 'leveldbb'; did you mean leveldb?"),
        ("[store]\nkind = ['lmdb']\n", "E-CONFIG-002", "store.kind takes one of"),
        ("[validator]\nkey = '../key'\n", "E-CONFIG-002", "validator.key takes a label"),
        ("[validator]\nsigner = 'a\"b'\n", "E-CONFIG-002", "validator.signer takes the path of a socket, or nothing"),
        ("[api\n", "E-CONFIG-003", "line 1"),
        ("[api]\nport = 1\nport = 2\n", "E-CONFIG-003", "line 3"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, code: str, cause: str) -> None:
    error = refused(home_with(tmp_path, text))
    assert error.code == code
    assert cause in error.cause
    assert str(tmp_path / "config.toml") in error.cause


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"# \xff\n")
    with pytest.raises(TrothError) as caught:
        load(tmp_path)
    assert caught.value.code == "E-HOME-007"


@pytest.mark.parametrize("text", ["", "x", "1.5", " 1", "1_000", "0x10", "٣", "9" * 40])
def test_a_number_in_the_environment_is_decimal_digits(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, environment={"TROTH_API_PORT": text})
    assert error.code == "E-CONFIG-002" and error.cause.startswith("TROTH_API_PORT: ")


def test_a_wrong_flag_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, api__prt="1").cause == "--set: there is no setting 'api.prt'; did you mean api.port?"
    assert refused(tmp_path, log__level="loud").code == "E-CONFIG-002"


def test_an_unknown_variable_is_told_with_a_suggestion() -> None:
    found = unknown_environment({"TROTH_API_PROT": "1", "TROTH_HOME": "/h", "TROTH_API_PORT": "1", "PATH": "/bin"})
    assert found == ["TROTH_API_PROT; did you mean TROTH_API_PORT?"]


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "http://127.0.0.1:8700"),
        ({"api.host": "0.0.0.0"}, "http://127.0.0.1:8700"),
        ({"api.host": "::"}, "http://[::1]:8700"),
        ({"api.host": "node.example"}, "http://node.example:8700"),
        ({"api.url": "https://node.example:443/", "api.port": "1"}, "https://node.example:443"),
    ],
)
def test_the_client_talks_to_the_url_or_else_to_host_and_port(tmp_path: Path, flags: dict[str, str], url: str) -> None:
    assert load_config(tmp_path, settings=flags, environment={}).api_url == url


def test_zero_workers_stand_for_the_cores_but_one(tmp_path: Path) -> None:
    assert load(tmp_path).verify_workers >= 1
    assert load(tmp_path, node__workers="5").verify_workers == 5


def test_a_rendered_file_sets_what_was_given_and_nothing_else(tmp_path: Path) -> None:
    text = render_config({"validator.key": "dev:validator", "api.port": 9000})
    assert tomllib.loads(text) == {
        **{name: {} for name in ("network", "store", "state", "node", "mempool", "log")},
        "api": {"port": 9000},
        "validator": {"key": "dev:validator"},
    }
    config = load(home_with(tmp_path, text))
    assert (config.validator.key, config.api.port) == ("dev:validator", 9000)


def test_a_rendered_file_with_everything_uncommented_says_the_defaults(tmp_path: Path) -> None:
    lines = render_config().splitlines()
    keys = {setting.key.partition(".")[2] for setting in SETTINGS}
    uncommented = [
        line.removeprefix("# ") if line.removeprefix("# ").partition(" = ")[0] in keys else line for line in lines
    ]
    config = load(home_with(tmp_path, "\n".join(uncommented)))
    for setting in SETTINGS:
        assert config.get(setting.key) == setting.default
    assert len(config.origins) == len(SETTINGS)


def test_a_rendered_value_is_checked() -> None:
    with pytest.raises(Invalid):
        render_config({"api.port": 0})
    with pytest.raises(Invalid):
        render_config({"api.prt": 1})


def test_get_knows_the_settings_only(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.get("api.port") == 8700
    with pytest.raises(Invalid) as caught:
        config.get("api.__class__")
    assert caught.value.code == "E-CONFIG-001"


def test_the_defaults_are_those_of_what_they_configure() -> None:
    config, limits, api = Config(), Limits(), ApiLimits()
    assert dataclasses.astuple(config.mempool) == tuple(limits)
    assert (config.api.body_bytes, config.api.batch_transactions) == (api.body_bytes, api.batch)
    assert config.api.connections == api.connections
    assert config.api.connections_per_address == api.connections_per_address
    assert config.api.header_timeout_ms == api.head_seconds * 1000
    assert config.api.body_timeout_ms == api.body_seconds * 1000
    assert config.api.idle_timeout_ms == api.keepalive_seconds * 1000
    kind = next(setting.kind for setting in SETTINGS if setting.key == "store.kind")
    assert set(kind.choices) == set(KINDS)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().api.port = 1  # type: ignore[misc]


def test_the_signers_socket_begins_at_the_home_unless_it_is_absolute(tmp_path: Path) -> None:
    assert load(tmp_path).signer_socket is None
    assert load(tmp_path, validator__signer="signing/socket").signer_socket == tmp_path / "signing" / "socket"
    assert load(tmp_path, validator__signer="/run/troth/socket").signer_socket == Path("/run/troth/socket")
    assert load(tmp_path, validator__signer="~/signer/socket").signer_socket == Path.home() / "signer" / "socket"
