from __future__ import annotations

from pathlib import Path

from node.config import SETTINGS
from tests.unit.cli.typed import answer, failure, typed


def test_show_says_every_setting_and_its_origin(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[log]\nlevel = 'error'\n")
    result = typed(
        "config", "show", "--json", "--set", "log.format=json", home=tmp_path, environment={"TROTH_API_PORT": "9000"}
    )
    settings = {entry["key"]: (entry["value"], entry["origin"]) for entry in answer(result)["settings"]}
    assert set(settings) == {setting.key for setting in SETTINGS}
    assert settings["log.level"] == ("error", str(tmp_path / "config.toml"))
    assert settings["log.format"] == ("json", "--set")
    assert settings["api.port"] == (9000, "TROTH_API_PORT")
    assert settings["store.kind"] == ("leveldb", "default")


def test_show_of_one_setting_is_its_value_alone(tmp_path: Path) -> None:
    assert typed("config", "show", "api.port", "--instance", "2", home=tmp_path).stdout == "8720\n"
    shown = typed("config", "show", "api.port", "--origin", home=tmp_path).stdout.splitlines()
    assert [line.split() for line in shown] == [["setting", "value", "from"], ["api.port", "8700", "default"]]


def test_show_of_an_unknown_setting_suggests(tmp_path: Path) -> None:
    found = failure(typed("config", "show", "api.prt", "--json", home=tmp_path))
    assert found["code"] == "E-CONFIG-001" and "api.port" in found["cause"]


def test_path_is_where_the_file_would_be(tmp_path: Path) -> None:
    result = typed("config", "path", home=tmp_path)
    assert result.stdout == f"{tmp_path / 'config.toml'}\n"
    assert "no such file" in result.stderr
    (tmp_path / "config.toml").write_text("")
    found = answer(typed("config", "path", "--json", home=tmp_path))
    assert (found["path"], found["exists"]) == (str(tmp_path / "config.toml"), True)


def test_check_accepts_a_good_home_and_warns_of_strange_variables(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[api]\nport = 9000\n")
    result = typed("config", "check", home=tmp_path, environment={"TROTH_API_PROT": "1"})
    assert result.exit_code == 0
    assert result.stdout.startswith("Good: ") and "1 setting is not the default" in result.stdout
    assert "TROTH_API_PROT; did you mean TROTH_API_PORT?: it sets nothing" in result.stderr


def test_check_refuses_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[api]\nport = 'high'\n")
    result = typed("config", "check", home=tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"E-CONFIG-002 {tmp_path / 'config.toml'}: api.port takes a whole number")
