"""Options that several commands share.

The options that every command takes (`--home`, `--json`, ...) are declared here too, and `cli.main` adds them to
each command, so that they may stand before and after its name. The last one given counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def passphrase_file_option(function: F) -> F:
    """`--passphrase-file FILE` as the argument `passphrase_file: Path | None`, for `Session.passphrase`."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="TROTH_PASSPHRASE_FILE",
        help="Take the passphrase from the first line of this file instead of asking.",
    )(function)


def dry_run_option(function: F) -> F:
    """`--dry-run` as the argument `dry_run: bool`."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(function)


def common_options() -> list[click.Option]:
    """Fresh copies of the options that every command takes. Each acts on the Session, none reaches a function."""
    return [
        _common(
            "--home",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of keys, settings and data. [env: TROTH_HOME]",
        ),
        _common(
            "--instance",
            type=click.IntRange(0, 99),
            metavar="N",
            help="Use the N-th set of ports (and default home) on this machine. [env: TROTH_INSTANCE]",
        ),
        _common("--set", multiple=True, metavar="KEY=VALUE", help="Override a setting of config.toml, for this run."),
        _common("--json", is_flag=True, help="Print one JSON object instead of text."),
        _common("--quiet", "-q", is_flag=True, help="No notes, no progress."),
        _common("--verbose", "-v", count=True, help="Say more; with an unexpected failure, where it happened."),
        _common("--yes", "-y", is_flag=True, help="Answer yes to every question."),
        _common("--no-color", is_flag=True, help="No colours. [env: NO_COLOR]"),
    ]


def add_common_options(command: click.Command, *, show: bool) -> None:
    """Adds the common options to a command, except where it has an option of that name. Idempotent.

    `show` lists them in its help.
    """
    taken = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for option in common_options():
        if not taken.intersection(option.opts):
            option.hidden = not show
            command.params.append(option)


def _common(*declarations: str, **attributes: Any) -> click.Option:
    return click.Option(list(declarations), expose_value=False, callback=_apply, **attributes)


def _apply(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    name = str(parameter.name)
    if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
        return value
    given: dict[str, Any] = ctx.meta.setdefault("troth.given", {})
    if name == "set":
        given.setdefault("set", {}).update(_settings(ctx, parameter, value))
    elif name == "verbose":
        given["verbose"] = given.get("verbose", 0) + value
    else:
        given[name] = value
    session = ctx.find_object(Session)
    if session is not None:
        apply_given(session, given)
    return value


def apply_given(session: Session, given: dict[str, Any]) -> None:
    """Puts what was given on the command line into the session, and forgets what it derived from other options."""
    from node.home import default_home

    for name in ("instance", "json", "quiet", "verbose", "yes", "no_color"):
        if name in given:
            setattr(session, name, given[name])
    session.settings.update(given.get("set", {}))
    if "home" in given:
        session.home, session.home_given = given["home"], True
    elif not session.home_given:
        session.home = default_home(session.instance)
    session.__dict__.pop("config", None)


def _settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for text in values:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", ctx=ctx, param=parameter)
        settings[key.strip()] = value
    return settings
