from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from cli.main import COMMANDS, Entry, Root, troth
from tests.unit.cli.failing import CLASSES
from tests.unit.cli.typed import answer, failure, typed

ROOT = Path(__file__).resolve().parents[3]

ENDS = Root(
    name="troth",
    callback=troth.callback,
    entries={
        "end": Entry("tests.unit.cli.failing", "end", "Ends as told."),
        "unwritten": Entry("tests.unit.cli.no_such_module", "unwritten", "Has no module."),
    },
)


def end(*arguments: str, **environment: str) -> Result:
    return typed(*arguments, root=ENDS, environment=environment)


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_is_one_line_with_the_exit_code_of_its_class(name: str) -> None:
    result = end("end", name)
    assert result.exit_code == CLASSES[name].exit_code
    assert result.stdout == ""
    assert result.stderr == "E-ADDRESS-001 the cause; the fix\n"


def test_exit_codes_are_those_of_the_documentation() -> None:
    codes = {name: end("end", name).exit_code for name in CLASSES}
    assert codes == {
        "Fault": 1,
        "Forbidden": 4,
        "Invalid": 1,
        "NotFound": 5,
        "Refused": 1,
        "Unavailable": 6,
        "VerifyFailed": 3,
    }


def test_an_error_under_json_is_one_object_on_stderr() -> None:
    found = failure(end("--json", "end", "NotFound"))
    assert found == {
        "schema": "troth/error/1",
        "code": "E-ADDRESS-001",
        "title": "not a Troth address",
        "cause": "the cause",
        "fix": "the fix",
    }


def test_an_interrupt_exits_with_130() -> None:
    result = end("end", "interrupt")
    assert result.exit_code == 130
    assert "E-CLI-007 interrupted" in result.stderr


def test_a_command_may_choose_its_exit_code() -> None:
    assert end("end", "code").exit_code == 3


def test_a_defect_shows_no_traceback_unless_asked_for() -> None:
    result = end("end", "defect")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "E-CLI-005 unexpected ZeroDivisionError: a defect; run it again with -v and report what it prints\n"
    )


@pytest.mark.parametrize("arguments", [("-v", "end", "defect"), ("end", "defect", "-v"), ("end", "-qv", "defect")])
def test_a_defect_shows_its_traceback_with_v(arguments: tuple[str, ...]) -> None:
    result = end(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.rstrip().splitlines()[-1].startswith("E-CLI-005 unexpected ZeroDivisionError")


def test_what_the_system_refuses_names_the_file() -> None:
    result = end("end", "system")
    assert result.exit_code == 1
    assert result.stderr.startswith("E-CLI-006 /some/file: Permission denied; ")


def test_an_unknown_command_is_a_usage_error_with_near_names() -> None:
    result = typed("doctr")
    assert result.exit_code == 2
    assert result.stderr == "E-CLI-004 no command 'doctr' of `troth`; did you mean doctor?; see `troth --help`\n"


def test_an_unknown_command_below_a_group_suggests_too() -> None:
    result = typed("keys", "lst")
    assert result.exit_code == 2
    assert "no command 'lst' of `troth keys`; did you mean list?; see `troth keys --help`" in result.stderr


def test_a_wrong_option_is_a_usage_error_under_json_too() -> None:
    found = failure(end("end", "well", "--instanse", "1", "--json"))
    assert found["code"] == "E-CLI-004"
    assert "--instanse" in found["cause"] and "troth end --help" in found["fix"]


@pytest.mark.parametrize("text", ["-1", "100", "two"])
def test_the_instance_has_a_range(text: str) -> None:
    assert end("end", "well", f"--instance={text}").exit_code == 2
    assert end("end", "well", TROTH_INSTANCE=text).exit_code == 2


def test_success_ends_with_the_next_step_on_stderr() -> None:
    result = end("end", "well")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "It ended.\n", "Next: nothing\n")


def test_quiet_leaves_the_data_only() -> None:
    result = end("end", "well", "-q")
    assert (result.stdout, result.stderr) == ("It ended.\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--home", "/h", "--instance", "3", "-v", "-y", "--json", "--set", "a=b", "end", "well"),
        ("end", "--home", "/h", "--instance", "3", "-v", "-y", "--json", "--set", "a=b", "well"),
        ("--instance", "1", "--home", "/x", "end", "well", "--home=/h", "--instance=3", "-vy", "--json", "--set=a=b"),
    ],
)
def test_common_options_stand_before_and_after_the_command_and_the_last_counts(arguments: tuple[str, ...]) -> None:
    assert answer(end(*arguments)) == {
        "schema": "troth/end/1",
        "home": "/h",
        "instance": 3,
        "verbose": 1,
        "yes": True,
        "quiet": False,
        "settings": {"a": "b"},
    }


def test_options_come_before_the_environment() -> None:
    found = answer(end("end", "well", "--json", "--instance=5", TROTH_HOME="/e", TROTH_INSTANCE="4"))
    assert (found["home"], found["instance"]) == ("/e", 5)


def test_each_instance_has_a_default_home_of_its_own() -> None:
    homes = {answer(end("end", "well", "--json", f"--instance={n}", XDG_DATA_HOME="/data"))["home"] for n in range(3)}
    assert homes == {"/data/troth/home", "/data/troth/home-1", "/data/troth/home-2"}


def test_a_setting_is_a_key_and_a_value() -> None:
    result = end("end", "well", "--set", "api.port")
    assert result.exit_code == 2
    assert "'api.port' is not KEY=VALUE" in result.stderr


def test_a_command_without_a_module_is_neither_listed_nor_an_accident() -> None:
    shown = end("--help")
    assert shown.exit_code == 0
    assert "end  " in shown.stdout and "unwritten" not in shown.stdout
    assert end("unwritten").exit_code == 2


def test_every_command_that_has_a_module_explains_itself() -> None:
    for name, entry in COMMANDS.items():
        if importlib.util.find_spec(entry.module) is not None:
            result = typed(name, "--help")
            assert result.exit_code == 0, (name, result.stderr)
            assert f"Usage: troth {name}" in result.stdout
            assert "see `troth --help`" in result.stdout.replace("\n  ", " ")


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys; from cli.main import troth; troth.main(['--help'], standalone_mode=False);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ}
    ).stdout
    loaded = set(json.loads(shown.splitlines()[-1].replace("'", '"')))
    assert "click" in loaded
    heavy = {"aiohttp", "asyncio", "cryptography", "nacl", "plyvel", "pydantic", "rich", "structlog", "msgpack", "lmdb"}
    assert not loaded & heavy
