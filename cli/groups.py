"""Groups of commands: `@click.group(cls=TrothGroup)` for every command that has commands below it.

They suggest near names for an unknown one, and give every command below them the common options.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import click

from cli.options import add_common_options

EPILOG = "Every command also takes --home, --instance, --set, --json, -q, -v, -y and --no-color: see `troth --help`."


def suggestion(word: str, known: Sequence[str]) -> str:
    """`; did you mean ...?` where something known is near, else nothing."""
    close = difflib.get_close_matches(word, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def prepare(command: click.Command, *, show: bool = False) -> click.Command:
    """The command with the common options, in it and in all commands below it; their help is listed where `show`."""
    add_common_options(command, show=show)
    if not show and command.epilog is None:
        command.epilog = EPILOG
    if isinstance(command, click.Group):
        for below in command.commands.values():
            prepare(below)
    return command


class TrothGroup(click.Group):
    """See the module."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        return command if command is None else prepare(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = suggestion(name, self.list_commands(ctx))
            raise click.UsageError(f"no command {name!r} of `{ctx.command_path}`{near}", ctx)
        return super().resolve_command(ctx, args)
