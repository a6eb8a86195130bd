"""`troth config`: what is set, and by what."""

from __future__ import annotations

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session


@click.group(cls=TrothGroup)
def config() -> None:
    """Show and check the settings.

    A setting comes from --set KEY=VALUE, else from its TROTH_ variable, else from HOME/config.toml, else from its
    default. docs/configuration.md describes them all.
    """


@config.command()
@click.argument("key", required=False)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_session
def show(session: Session, key: str | None, origin: bool) -> None:
    """Show every setting, or the one named KEY."""
    settings = session.config
    if key is not None:
        settings.get(key)
    found = [entry for entry in settings.items() if key in (None, entry[0])]

    def text() -> str:
        if origin:
            return session.table(("setting", "value", "from"), [(name, _shown(v), where) for name, v, where in found])
        if key is not None:
            return str(found[0][1])
        return session.table(("setting", "value"), [(name, _shown(value)) for name, value, _ in found])

    data = {"settings": [{"key": name, "value": value, "origin": where} for name, value, where in found]}
    session.result("config", data, text)


@config.command()
@pass_session
def path(session: Session) -> None:
    """Show where config.toml is looked for."""
    from node.home import Home

    file = Home(session.home).config_file
    exists = file.exists()
    session.result("config-path", {"path": str(file), "exists": exists}, str(file))
    if not exists:
        session.note("There is no such file: the defaults hold. `troth init` writes one.")


@config.command()
@pass_session
def check(session: Session) -> None:
    """Check config.toml and the environment, and change nothing.

    Fails (exit code 1) where config.toml or a TROTH_ variable sets what it cannot, and warns of TROTH_ variables that
    set nothing.
    """
    from node.config import unknown_environment
    from node.home import Home

    settings = session.config
    strange = unknown_environment()
    for name in strange:
        session.warn(f"the environment has {name}: it sets nothing")
    file = Home(session.home).config_file
    given = sum(1 for _, _, where in settings.items() if where != "default")
    read = str(file) if file.exists() else f"no {file}"
    session.result(
        "config-check",
        {"path": str(file), "exists": file.exists(), "given": given, "unknown_environment": strange},
        f"Good: {read}; {given} setting{'s are' if given != 1 else ' is'} not the default.",
        next="troth config show --origin",
    )


def _shown(value: int | str) -> str:
    return str(value) if value != "" else "(nothing)"
