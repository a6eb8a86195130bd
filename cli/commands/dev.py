"""`troth dev`: a running chain for development, with example brands and consumers.

The node is a process of its own, as in production; all keys are public development keys, so the chain is worth
nothing and its id begins with `dev`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session
from ledger.errors import Refused, define

if TYPE_CHECKING:
    from ledger.genesis import Genesis
    from node.home import Home

NOT_DEV = define("E-DEV-001", "not the home of a development chain", "use another folder with --home")


@click.group(cls=TrothGroup, invoke_without_command=True)
@click.pass_context
@pass_session
def dev(session: Session, ctx: click.Context) -> None:
    """Run a chain for development until Ctrl-C; a second Ctrl-C forces it.

    The first run makes a home, a chain of one validator and funded example accounts; later runs go on where it was.
    """
    if ctx.invoked_subcommand is not None:
        return
    from cli.client import NodeClient
    from cli.example_accounts import accounts, fund
    from cli.node_process import node_process

    home = _open_or_create(session)
    genesis = _dev_genesis(home)
    config = session.config
    arguments = [f"--instance={session.instance}"] if session.instance else []
    arguments += [f"--set={key}={value}" for key, value in session.settings.items()]
    if not session.verbose and "log.level" not in config.origins:
        arguments.append("--set=log.level=warning")
    with home.claimed():  # a node that runs here already is said before another is started
        pass
    with node_process(home.path, config.api_url, genesis.id().hex(), arguments) as node:
        session.note(f"Starting the node of {genesis.chain_id} ...")
        node.wait_ready()
        with NodeClient(config.api_url) as client:
            made = fund(client)
            rows = accounts(client)
            height = client.chain()["height"]
        data = {
            "chain_id": genesis.chain_id,
            "genesis_id": genesis.id().hex(),
            "home": str(home.path),
            "url": config.api_url,
            "pid": node.pid,
            "height": height,
            "new_programmes": made,
            "accounts": rows,
        }

        def text() -> str:
            shown = [
                (
                    row["key"],
                    row["address"],
                    row["what"],
                    ", ".join(f"{amount} {programme}" for programme, amount in row["balances"].items() if amount),
                )
                for row in rows
            ]
            lines = [
                f"The chain {genesis.chain_id} runs, at height {height}.",
                "",
                session.table(("key", "address", "what", "points"), shown),
                "",
                f"API      {config.api_url}/v1/chain",
                f"OpenAPI  {config.api_url}/openapi.json",
                f"Metrics  {config.api_url}/metrics",
                f"Home     {home.path}",
            ]
            return "\n".join(lines)

        next_step = _example(session, home.path)
        session.result("dev", data, text, next=f"in another terminal: {next_step}\nCtrl-C stops it.")
        node.wait()
    session.note(f"Stopped. `{session.command('dev')}` goes on from here.")


@dev.command()
@pass_session
def reset(session: Session) -> None:
    """Forget the development chain: its blocks, settings and genesis document. Key files stay."""
    import shutil

    home = _open(session)
    genesis = _dev_genesis(home)
    session.confirm(f"Delete the chain {genesis.chain_id} in {home.path}?")
    with home.claimed():
        # The one that makes it a home goes first: what is left of an interrupted reset is no home.
        home.config_file.unlink()
        shutil.rmtree(home.data)
        if home.signing_record.parent.exists():
            shutil.rmtree(home.signing_record.parent)
        home.genesis_file.unlink()
    session.result(
        "dev-reset",
        {"home": str(home.path), "chain_id": genesis.chain_id},
        f"The chain {genesis.chain_id} is gone.",
        next=session.command("dev"),
    )


def _path(session: Session) -> Path:
    from node.home import default_dev_home

    return session.home if session.home_given else default_dev_home(session.instance)


def _open(session: Session) -> Home:
    from node.home import Home

    home = Home.open(_path(session))
    session.use_home(home.path)
    return home


def _open_or_create(session: Session) -> Home:
    import secrets

    from cli.example_accounts import BRANDS
    from cli.new_home import compose_genesis, dev_keys, write_home
    from cli.values import now_ms
    from ledger.errors import NotFound

    try:
        return _open(session)
    except NotFound:
        session.note(f"Creating a development chain in {_path(session)} ...")
    keys = {label: key.public for label, key in dev_keys(BRANDS).items()}
    # The id differs from reset to reset: what was signed for the last chain must not pass on this one.
    genesis = compose_genesis(f"dev-{secrets.token_hex(3)}", now_ms(), BRANDS, keys)
    write_home(_path(session), genesis, dev=True)
    return _open(session)


def _dev_genesis(home: Home) -> Genesis:
    from cli.commands.node import load_genesis
    from cli.key_access import DEV_CHAIN_PREFIX

    genesis = load_genesis(home)
    if not genesis.chain_id.startswith(DEV_CHAIN_PREFIX):
        raise Refused(NOT_DEV, f"{home.path} is a home of the chain {genesis.chain_id}")
    return genesis


def _example(session: Session, home: Path) -> str:
    import shlex

    exports = [f"TROTH_HOME={shlex.quote(str(home))}"]
    if session.instance:
        exports.append(f"TROTH_INSTANCE={session.instance}")
    if session.settings:
        exports.append(f"TROTH_API_URL={shlex.quote(session.config.api_url)}")
    return f"export {' '.join(exports)}; troth points balance grocer dev:alice"
