"""`troth node`: run a node, and ask one how it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import TrothGroup
from cli.options import passphrase_file_option
from cli.session import Session, pass_session

if TYPE_CHECKING:
    from ledger.genesis import Genesis
    from node.home import Home

EXIT_NOT_READY = 6


@click.group(cls=TrothGroup)
def node() -> None:
    """Start a node, or ask how it does."""


@node.command()
@passphrase_file_option
@pass_session
def start(session: Session, passphrase_file: Path | None) -> None:
    """Run the node of this home until Ctrl-C or SIGTERM. A second Ctrl-C stops it at once.

    Its log goes to stderr, by the settings log.level and log.format.
    """
    from cli.key_access import open_key
    from node.service import run

    home = session.open_home()
    config = session.config
    genesis = load_genesis(home)
    with home.claimed():  # before a passphrase is asked for in vain
        key = None
        if config.signer_socket is None:
            key = open_key(session, home, config.validator.key, passphrase_file, chain_id=genesis.chain_id)
        run(config, genesis, key, home)
    session.result("node-stopped", {"home": str(home.path), "chain_id": genesis.chain_id}, "")


@node.command()
@click.option(
    "--node", "url", metavar="URL", help="Its address. Default: the setting api.url, or this home's own node."
)
@pass_session
@click.pass_context
def status(ctx: click.Context, session: Session, url: str | None) -> None:
    """Say how a node does. Exit code 0 where it is ready, 6 where it is not or cannot be reached."""
    from cli.client import NodeClient
    from cli.node_status import count, words
    from cli.values import now_ms, show_time
    from node.home import Home

    with NodeClient(url or session.config.api_url, timeout_seconds=session.config.api.timeout_ms / 1000) as client:
        chain = client.chain()
        info = client.node()
        readiness = fetch_readiness(client.url, session.config.api.timeout_ms / 1000)
    pid = None if url else Home(session.home).running_pid()
    waiting = chain["mempool"]
    age_ms = max(0, now_ms() - chain["time_ms"])

    def text() -> str:
        state = "is ready" if readiness["ready"] else f"is not ready: {', '.join(readiness['reasons'])}"
        head = (
            f"at the beginning of the chain {chain['chain_id']}: no block yet"
            if chain["height"] == 0
            else f"at height {chain['height']} of the chain {chain['chain_id']}, "
            f"made {age_ms / 1000:.1f} s ago ({show_time(chain['time_ms'])})"
        )
        lines = [
            f"The node at {client.url}{f' (pid {pid})' if pid else ''} {state}.",
            f"It is {head}.",
            f"{chain['transactions']} transactions are final; "
            f"{waiting['transactions']} wait ({waiting['bytes']} bytes).",
            f"{count(len(chain['validators']), 'validator')}; "
            f"state can be read from height {chain['oldest_state']} on.",
            *words(info),
        ]
        return "\n".join(lines)

    data = {"url": client.url, "pid": pid, "readiness": readiness, "chain": chain, "node": info}
    session.result("node-status", data, text)
    if not readiness["ready"]:
        ctx.exit(EXIT_NOT_READY)


def load_genesis(home: Home) -> Genesis:
    """The genesis document of a home. Raises NotFound (E-HOME-004), Invalid (E-GENESIS-001, E-HOME-007)."""
    from ledger.errors import NotFound
    from ledger.genesis import parse_genesis

    try:
        text = home.read_text(home.genesis_file)
    except NotFound as error:
        fix = "once the members have composed it: troth join FILE; else restore it from a backup"
        raise NotFound(error.code, error.cause, fix=fix) from None
    return parse_genesis(text)


def fetch_readiness(url: str, timeout_seconds: float) -> dict[str, Any]:
    """`GET /health/ready` of a node: `ready`, and the `reasons` where it is not.

    Raises Unavailable (E-CLIENT-001) where it cannot be reached, Fault (E-CLIENT-002) where that is no node of Troth.
    """
    import json
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, build_opener

    from cli.client import BAD_ANSWER, UNREACHABLE
    from ledger.errors import Fault, Unavailable

    opener = build_opener(ProxyHandler({}))  # the node is asked directly, as `cli.client` does
    try:
        with opener.open(f"{url}/health/ready", timeout=timeout_seconds) as response:
            raw = response.read(1 << 16)
    except HTTPError as error:  # 503 carries the same document
        raw = error.read(1 << 16)
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        cause = f"cannot reach the node at {url}: {getattr(reason, 'strerror', None) or reason}"
        raise Unavailable(UNREACHABLE, cause) from None
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if type(found) is not dict or type(found.get("ready")) is not bool:
        raise Fault(BAD_ANSWER, f"{url}/health/ready is not the readiness of a Troth node")
    return {"reasons": [], **found}
