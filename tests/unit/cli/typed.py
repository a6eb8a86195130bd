"""Runs `troth` in this process, as a person without a terminal types it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from cli.main import troth

PASSPHRASE = "correct horse"


def typed(
    *arguments: str,
    home: Path | None = None,
    root: click.Command = troth,
    environment: Mapping[str, str] | None = None,
) -> Result:
    """The result of `troth ARGUMENTS` with no TROTH_ variables but TROTH_HOME and those given."""
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("TROTH_")}
    clean["NO_COLOR"] = None
    if home is not None:
        clean["TROTH_HOME"] = str(home)
    return CliRunner().invoke(root, arguments, env={**clean, **(environment or {})}, prog_name="troth")


def answer(result: Result) -> dict[str, Any]:
    """The one JSON object that a successful command printed."""
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.stdout
    found = json.loads(lines[0])
    assert type(found) is dict
    return found


def failure(result: Result) -> dict[str, Any]:
    """The one JSON object that a failed command printed on stderr; stdout has nothing."""
    assert result.exit_code != 0
    assert result.stdout == ""
    found = json.loads(result.stderr)
    assert type(found) is dict and found["schema"] == "troth/error/1"
    return found


def passphrase_file(folder: Path) -> Path:
    """A file with the passphrase of these tests."""
    path = folder / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    return path
