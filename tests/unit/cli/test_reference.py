from __future__ import annotations

from pathlib import Path

import pytest

from cli.reference import cli_markdown, configuration_markdown, walk
from node.config import SETTINGS

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_reference_of_commands_is_current() -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_markdown(), "run: make docs"


def test_the_reference_of_settings_is_current() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == configuration_markdown(), "run: make docs"


def test_every_setting_and_its_variable_are_documented() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert f"`{setting.key}`<br>`{setting.environment}`" in text
        assert setting.kind.help in text


def test_the_reference_depends_on_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cli_markdown()
    for name, value in {"COLUMNS": "40", "TROTH_HOME": "/somewhere", "TROTH_PASSPHRASE_FILE": "/file"}.items():
        monkeypatch.setenv(name, value)
    assert cli_markdown() == plain


def test_every_command_has_help_and_every_option_too() -> None:
    for path, command in walk():
        assert command.help, path
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), (path, parameter.name)
