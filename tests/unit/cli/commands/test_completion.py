from __future__ import annotations

import pytest

from tests.unit.cli.typed import answer, typed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_troth(shell: str) -> None:
    result = typed("completion", shell)
    assert result.exit_code == 0
    assert "_TROTH_COMPLETE" in result.stdout and f"{shell}_complete" in result.stdout
    assert result.stderr.startswith("Next: ")
    assert answer(typed("completion", shell, "--json"))["script"] in result.stdout


def test_another_shell_is_a_usage_error() -> None:
    assert typed("completion", "tcsh").exit_code == 2


def test_what_the_script_asks_is_answered() -> None:
    result = typed(environment={"_TROTH_COMPLETE": "bash_complete", "COMP_WORDS": "troth con", "COMP_CWORD": "1"})
    assert {line.partition(",")[2] for line in result.stdout.splitlines()} >= {"config", "consent"}
