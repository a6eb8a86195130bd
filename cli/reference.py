"""docs/cli.md and docs/configuration.md, made from the commands and settings themselves.

Rule kept here: a text depends on the declarations alone, not on the terminal, the environment or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from cli.groups import EPILOG
from cli.main import troth
from cli.options import common_options
from node.config import SECTION_HELP, SETTINGS

CLI_HEADING = """\
# Commands

Generated from the commands by `make docs`; not written by hand.

`troth COMMAND --help` says the same. Data goes to stdout, everything else to stderr. Exit codes:

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed |
| 2 | the command line is wrong |
| 3 | verification failed, or diverged |
| 4 | refused: the signer may not do this |
| 5 | not found |
| 6 | unreachable, timed out or not ready |
| 130 | interrupted |

A failure is one line on stderr, `CODE cause; fix`, and the codes are those of [errors.md](errors.md). With `--json` a
success is one JSON object on stdout, whose `schema` is `troth/<kind>/1`, and a failure is one on stderr, whose `schema`
is `troth/error/1`, with `code`, `title`, `cause` and `fix`.
"""

CONFIGURATION_HEADING = """\
# Settings

Generated from the declarations in `node/config.py` by `make docs`; not written by hand.

A setting comes from the first of these that has it: `--set KEY=VALUE`, the environment variable, `HOME/config.toml`,
the default. `troth config show --origin` says which it was. An unknown key is an error, and so is a value of the wrong
type or out of range. Sizes are in bytes, times in milliseconds.

Four more variables are no settings: `TROTH_HOME` (as `--home`), `TROTH_INSTANCE` (as `--instance`),
`TROTH_PASSPHRASE_FILE` (as `--passphrase-file`), and `NO_COLOR` (as `--no-color`).
"""


def cli_markdown() -> str:
    """docs/cli.md: every command with its arguments and options."""
    lines = [CLI_HEADING, "## Options of every command", "", *_table(common_options()), ""]
    with click.Context(troth, info_name="troth") as ctx:
        for name in troth.list_commands(ctx):
            command = troth.get_command(ctx, name)
            if command is not None:
                lines += _command(command, f"troth {name}", ctx, depth=2)
    return "\n".join(lines).rstrip("\n") + "\n"


def configuration_markdown() -> str:
    """docs/configuration.md: every setting."""
    lines = [CONFIGURATION_HEADING]
    section = ""
    for setting in SETTINGS:
        name = setting.key.partition(".")[0]
        if name != section:
            section = name
            lines += [f"## {name}", "", SECTION_HELP[name], "", "| setting | default | takes | meaning |"]
            lines.append("| --- | --- | --- | --- |")
        default = f"`{setting.default}`" if setting.default != "" else "nothing"
        lines.append(
            f"| `{setting.key}`<br>`{setting.environment}` | {default} | {_cell(setting.kind.takes())} "
            f"| {_cell(setting.kind.help)} |"
        )
        following = SETTINGS.index(setting) + 1
        if following == len(SETTINGS) or not SETTINGS[following].key.startswith(name + "."):
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def walk() -> Iterator[tuple[str, click.Command]]:
    """Every command below `troth`, with what one types to run it."""
    with click.Context(troth, info_name="troth") as ctx:
        for name in troth.list_commands(ctx):
            command = troth.get_command(ctx, name)
            assert command is not None  # it was listed
            yield from _walk(command, f"troth {name}", ctx)


def _walk(command: click.Command, path: str, parent: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, parent=parent, info_name=command.name) as ctx:
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None  # it was listed
                yield from _walk(below, f"{path} {name}", ctx)


def _command(command: click.Command, path: str, parent: click.Context, *, depth: int) -> list[str]:
    with click.Context(command, parent=parent, info_name=path.rpartition(" ")[2]) as ctx:
        usage = " ".join([path, *command.collect_usage_pieces(ctx)])
        lines = [f"{'#' * depth} {path}", "", "```", usage, "```", "", _prose(command.help), ""]
        own = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        if own:
            lines += [*_table(own), ""]
        if command.epilog and command.epilog != EPILOG:
            lines += [_prose(command.epilog), ""]
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None  # it was listed
                lines += _command(below, f"{path} {name}", ctx, depth=min(depth + 1, 4))
        return lines


def _table(options: list[click.Option]) -> list[str]:
    lines = ["| option | meaning |", "| --- | --- |"]
    with click.Context(click.Command("troth")) as ctx:
        for option in options:
            record = option.get_help_record(ctx)
            assert record is not None  # a shown option has help
            lines.append(f"| `{_cell(record[0])}` | {_cell(record[1])} |")
    return lines


def _prose(text: str | None) -> str:
    """Help as Markdown: paragraphs, and those that are marked as set by hand (\\b) as they are."""
    parts = []
    for part in cleandoc(text or "").split("\n\n"):
        if part.startswith("\b"):
            parts.append("```\n" + part.removeprefix("\b").strip("\n") + "\n```")
        else:
            parts.append(" ".join(part.split()))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
