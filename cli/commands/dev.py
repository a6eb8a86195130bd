"""`troth dev`: a running network for development, with example brands and consumers, and faults to play with.

The nodes are processes of their own, as in production; all keys are public development keys, so the chain is worth
nothing and its id begins with `dev`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import TrothGroup
from cli.session import Session, pass_session
from ledger.errors import Invalid, Refused, Unavailable, define

if TYPE_CHECKING:
    from cli.client import NodeClient
    from cli.dev_network import DevNode
    from cli.dev_state import DevState, RunningNode
    from cli.new_home import Brand
    from ledger.genesis import Genesis
    from node.home import Home

NOT_DEV = define("E-DEV-001", "not the home of a development chain", "use another folder with --home")
OTHER_SIZE = define(
    "E-DEV-004", "the development chain has another number of validators", "begin a new one: troth dev reset"
)
NOT_RUNNING = define("E-DEV-005", "the development network or its node does not run", "start it: troth dev")
RUNS = define("E-DEV-006", "the node runs", "see: troth dev status")
NO_EFFECT = define("E-DEV-007", "the node did not do it in time", "see node.log in its home")

VALIDATORS = 4
SIZES = ("1", "4", "7")
ANSWER_SECONDS = 2.0
EFFECT_SECONDS = 30.0
"""How long a node may take to come back, or to drop its peers."""


@click.group(cls=TrothGroup, invoke_without_command=True)
@click.option(
    "--validators", "size", type=click.Choice(SIZES), help=f"Of a new network: how many. Default: {VALIDATORS}."
)
@click.pass_context
@pass_session
def dev(session: Session, ctx: click.Context, size: str | None) -> None:
    """Run a network for development until Ctrl-C; a second Ctrl-C forces it.

    The first run makes the homes, one for each validator, and funded example accounts; later runs go on where it was.
    Node i answers on port api.port + 2 (i - 1), and meets the others on the one after it; so seven nodes take ports of
    the next --instance too.
    """
    if ctx.invoked_subcommand is not None:
        if size is not None:
            raise click.UsageError(f"--validators is for `troth dev` itself, not for `{ctx.invoked_subcommand}`")
        return
    from cli.dev_network import open_network

    home = _open_or_create(session, None if size is None else int(size))
    genesis = _dev_genesis(home)
    nodes = open_network(home, genesis, session.config)
    if nodes:
        _run_network(session, home, genesis, nodes)
    else:
        _run_one(session, home, genesis)
    session.note(f"Stopped. `{session.command('dev')}` goes on from here.")


def _run_one(session: Session, home: Home, genesis: Genesis) -> None:
    from cli.client import NodeClient
    from cli.node_process import node_process

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
            data = _begun(client, home, genesis, pid=node.pid)
        _tell(session, home, data, [])
        node.wait()


def _run_network(session: Session, home: Home, genesis: Genesis, nodes: Sequence[DevNode]) -> None:
    from cli.client import NodeClient
    from cli.dev_supervisor import dev_supervisor

    arguments = [f"--set={key}={value}" for key, value in session.settings.items()]
    if session.verbose and "log.level" not in session.config.origins:
        arguments.append("--set=log.level=debug")
    with (
        home.claimed(),
        dev_supervisor(home.path, nodes, genesis.id().hex(), arguments, session.note) as running,
    ):
        session.note(f"Starting the {len(nodes)} nodes of {genesis.chain_id} ...")
        ready = running.start()
        with NodeClient(ready[0].url) as client:
            data = _begun(client, home, genesis, url=ready[0].url)
        rows: list[dict[str, Any]] = [
            {
                "node": node.name,
                "organisation": node.organisation,
                "pid": running.processes[node.name].pid if node.name in running.processes else None,
                "url": node.url,
                "network": f"127.0.0.1:{node.network_port}",
                "home": str(node.home),
            }
            for node in nodes
        ]
        _tell(session, home, {**data, "nodes": rows}, rows)
        running.watch()
        session.note("Stopping ...")


def _begun(client: NodeClient, home: Home, genesis: Genesis, **more: object) -> dict[str, Any]:
    """Funds the example accounts; what is to be told of a chain that has begun."""
    from cli.example_accounts import ORGANISATIONS, accounts, fund

    made = fund(client)
    here = {organisation.id for organisation in genesis.organisations}
    rows = accounts(client, [brand for brand in ORGANISATIONS if brand.id in here])
    return {
        "chain_id": genesis.chain_id,
        "genesis_id": genesis.id().hex(),
        "home": str(home.path),
        "url": client.url,
        **more,
        "height": client.chain()["height"],
        "new_programmes": made,
        "accounts": rows,
    }


def _tell(session: Session, home: Home, data: dict[str, Any], nodes: list[dict[str, Any]]) -> None:
    def text() -> str:
        shown = [
            (
                row["key"],
                row["address"],
                row["what"],
                ", ".join(f"{amount} {programme}" for programme, amount in row["balances"].items() if amount),
            )
            for row in data["accounts"]
        ]
        lines = [
            f"The chain {data['chain_id']} runs, at height {data['height']}.",
            "",
            session.table(("key", "address", "what", "points"), shown),
            "",
        ]
        if nodes:
            columns = ("node", "organisation", "pid", "url", "network", "home")
            lines += [session.table(columns, [[row[column] or "-" for column in columns] for row in nodes]), ""]
        lines += [
            f"API      {data['url']}/v1/chain",
            f"OpenAPI  {data['url']}/openapi.json",
            f"Metrics  {data['url']}/metrics",
            f"Home     {home.path}",
        ]
        if nodes:
            lines.append("Logs     node.log in the home of each node")
        return "\n".join(lines)

    example = _example(session, home.path)
    steps = [f"in another terminal: {example}"]
    if nodes:
        steps.append(f"or break something: {session.command('dev kill node-2')}; {session.command('dev status')}")
    session.result("dev", data, text, next="\n".join([*steps, "Ctrl-C stops it."]))


@dev.command()
@pass_session
def status(session: Session) -> None:
    """Show how each node of the running network does."""
    from concurrent.futures import ThreadPoolExecutor

    home, nodes = _network(session)
    state = _state(home)
    with ThreadPoolExecutor(len(nodes)) as pool:
        rows = list(pool.map(lambda node: _row(node, state.running(node.name), len(nodes) - 1), nodes))
    columns = ("node", "organisation", "state", "height", "round", "peers", "pid", "url")
    shown = [["" if row[column] is None else row[column] for column in columns] for row in rows]
    session.result("dev-status", {"nodes": rows}, lambda: session.table(columns, shown))


def _row(node: DevNode, running: RunningNode | None, others: int) -> dict[str, Any]:
    """A node as `troth dev status` shows it, with how many `others` there are; what is not known is None."""
    from cli.client import NodeClient
    from ledger.errors import TrothError

    row: dict[str, Any] = {"node": node.name, "organisation": node.organisation, "state": "stopped"}
    row |= {"height": None, "round": None, "peers": None, "pid": None, "url": node.url}
    if running is None:
        return row
    row |= {"pid": running.process.pid, "url": running.url}
    if running.process.paused():
        return {**row, "state": "paused"}
    try:
        with NodeClient(running.url, timeout_seconds=ANSWER_SECONDS) as client:
            info = client.node()
    except TrothError as error:
        return {**row, "state": f"silent ({error.code})"}
    behind = info["lag_heights"]
    connected = sum(1 for peer in info["peers"] if peer["connected"])
    state = f"{behind} behind" if behind else "running"
    return {
        **row,
        "state": state if info["peers"] else "cut off",
        "height": info["height"],
        "round": info["round"],
        "peers": f"{connected} of {others}",
    }


@dev.command()
@click.argument("name", metavar="NODE")
@pass_session
def kill(session: Session, name: str) -> None:
    """Kill NODE (-9) and its workers, as a power cut would. `troth dev start NODE` brings it back."""
    import signal

    node, running = _running(session, name)
    running.process.send(signal.SIGKILL, group=True)
    _until(lambda: not running.process.alive(), f"{node.name} was killed and is still there")
    session.result(
        "dev-kill",
        {"node": node.name, "pid": running.process.pid},
        f"{node.name} (process {running.process.pid}) is killed.",
        next=session.command(f"dev start {node.name}"),
    )


_seconds_option = click.option(
    "--seconds", type=click.FloatRange(0.1, 86_400), help="Undo it after so many seconds; Ctrl-C undoes it too."
)


@dev.command()
@click.argument("name", metavar="NODE")
@_seconds_option
@pass_session
def pause(session: Session, name: str, seconds: float | None) -> None:
    """Pause NODE and its workers: they keep what they have and answer nobody, as a machine that hangs."""
    import signal

    node, running = _running(session, name)
    running.process.send(signal.SIGSTOP, group=True)
    _until(running.process.paused, f"{node.name} is not paused")
    _for_a_while(session, seconds, lambda: running.process.send(signal.SIGCONT, group=True))
    _done(session, "pause", node, seconds, "is paused", "resume")


@dev.command()
@click.argument("name", metavar="NODE")
@pass_session
def resume(session: Session, name: str) -> None:
    """Let a paused NODE go on."""
    import signal

    node, running = _running(session, name)
    running.process.send(signal.SIGCONT, group=True)
    session.result("dev-resume", {"node": node.name}, f"{node.name} goes on.", next=session.command("dev status"))


@dev.command()
@click.argument("name", metavar="NODE")
@pass_session
def start(session: Session, name: str) -> None:
    """Start NODE again, in the running `troth dev`, and wait until it is ready."""
    from cli.dev_network import find_node
    from cli.dev_supervisor import request_start

    home, nodes = _network(session)
    node = find_node(nodes, name)
    state = _state(home)
    found = state.running(node.name)
    if found is not None:
        raise Refused(RUNS, f"{node.name} runs already (process {found.process.pid})")
    if not state.supervisor.alive():
        raise Unavailable(NOT_RUNNING, f"no `troth dev` runs in {home.path}")
    request_start(node)
    _until(lambda: _is_ready(home, node), f"{node.name} is not ready after {EFFECT_SECONDS:.0f} s")
    again = _state(home).running(node.name)
    pid = None if again is None else again.process.pid
    session.result(
        "dev-start",
        {"node": node.name, "pid": pid},
        f"{node.name} runs again (process {pid}).",
        next=session.command("dev status"),
    )


def _is_ready(home: Home, node: DevNode) -> bool:
    from cli.commands.node import fetch_readiness

    running = _state(home).running(node.name)
    if running is None:
        return False
    try:
        return bool(fetch_readiness(running.url, ANSWER_SECONDS)["ready"])
    except Unavailable:
        return False


@dev.command()
@click.argument("name", metavar="NODE")
@_seconds_option
@pass_session
def cut(session: Session, name: str, seconds: float | None) -> None:
    """Cut NODE off from all other nodes: it drops its connections and makes and takes none until `heal`.

    For development chains only; its API goes on answering.
    """
    import signal

    node, running = _running(session, name)
    _connected(running)  # a node that does not answer yet does not know the signal either
    running.process.send(signal.SIGUSR1)
    _until(lambda: _connected(running) == 0, f"{node.name} still has peers")
    _for_a_while(session, seconds, lambda: running.process.send(signal.SIGUSR2))
    _done(session, "cut", node, seconds, "is cut off", "heal")


@dev.command()
@click.argument("name", metavar="NODE")
@pass_session
def heal(session: Session, name: str) -> None:
    """Let NODE, which was cut off, meet the others again."""
    import signal

    node, running = _running(session, name)
    _connected(running)
    running.process.send(signal.SIGUSR2)
    session.result(
        "dev-heal", {"node": node.name}, f"{node.name} meets the others again.", next=session.command("dev status")
    )


def _connected(running: RunningNode) -> int:
    """How many peers a node is connected with. Raises Unavailable where it does not answer."""
    from cli.client import NodeClient

    with NodeClient(running.url, timeout_seconds=ANSWER_SECONDS) as client:
        return sum(1 for peer in client.node()["peers"] if peer["connected"])


@dev.command()
@pass_session
def reset(session: Session) -> None:
    """Forget the development chain: its blocks, settings, genesis document and nodes. Key files stay."""
    import shutil
    from contextlib import ExitStack

    from cli.dev_network import open_network
    from node.home import Home

    home = _open(session)
    genesis = _dev_genesis(home)
    nodes = open_network(home, genesis, session.config)
    session.confirm(f"Delete the chain {genesis.chain_id} in {home.path}?")
    with home.claimed(), ExitStack() as stack:
        for node in nodes:  # one that outlived its `troth dev` holds its own home
            stack.enter_context(Home(node.home).claimed())
        # The one that makes it a home goes first: what is left of an interrupted reset is no home.
        home.config_file.unlink()
        shutil.rmtree(home.data)
        if home.signing_record.parent.exists():
            shutil.rmtree(home.signing_record.parent)
        for node in nodes:
            shutil.rmtree(node.home)
        home.genesis_file.unlink()
    session.result(
        "dev-reset",
        {"home": str(home.path), "chain_id": genesis.chain_id},
        f"The chain {genesis.chain_id} is gone.",
        next=session.command("dev"),
    )


def _for_a_while(session: Session, seconds: float | None, undo: Callable[[], object]) -> None:
    """Waits and then undoes a fault, where a time was given; also where the wait is interrupted."""
    if seconds is None:
        return
    session.note(f"For {seconds:g} s ...")
    try:
        time.sleep(seconds)
    finally:
        undo()


def _done(session: Session, what: str, node: DevNode, seconds: float | None, state: str, undo: str) -> None:
    text = (
        f"{node.name} {state}." if seconds is None else f"{node.name} was {state.split(' ', 1)[1]} for {seconds:g} s."
    )
    follow = f"dev {undo} {node.name}" if seconds is None else "dev status"
    session.result(f"dev-{what}", {"node": node.name, "seconds": seconds}, text, next=session.command(follow))


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + EFFECT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(NO_EFFECT, otherwise)
        time.sleep(0.05)


def _network(session: Session) -> tuple[Home, list[DevNode]]:
    """The home and nodes of a network. Raises Refused (E-DEV-001) where the chain has one validator."""
    from cli.dev_network import open_network

    home = _open(session)
    nodes = open_network(home, _dev_genesis(home), session.config)
    if not nodes:
        cause = f"the chain in {home.path} has one validator: there is no network to play with"
        raise Refused(NOT_DEV, cause, fix="troth dev --validators 4, in another home or after troth dev reset")
    return home, nodes


def _state(home: Home) -> DevState:
    from cli.dev_state import read_state

    state = read_state(home.path)
    if state is None:
        raise Unavailable(NOT_RUNNING, f"no `troth dev` runs in {home.path}")
    return state


def _running(session: Session, name: str) -> tuple[DevNode, RunningNode]:
    from cli.dev_network import find_node

    home, nodes = _network(session)
    node = find_node(nodes, name)
    running = _state(home).running(node.name)
    if running is None:
        fix = f"start it: {session.command(f'dev start {node.name}')}"
        raise Unavailable(NOT_RUNNING, f"{node.name} does not run", fix=fix)
    return node, running


def _path(session: Session) -> Path:
    from node.home import default_dev_home

    return session.home if session.home_given else default_dev_home(session.instance)


def _open(session: Session) -> Home:
    from node.home import Home

    home = Home.open(_path(session))
    session.use_home(home.path)
    return home


def _open_or_create(session: Session, size: int | None) -> Home:
    """The home of the chain, made where there is none. Raises Invalid (E-DEV-004) where it has another `size`."""
    import secrets

    from cli.dev_network import choose_ports, create_network
    from cli.example_accounts import BRANDS, ORGANISATIONS
    from cli.new_home import compose_genesis, dev_keys, write_home
    from cli.values import now_ms
    from ledger.errors import NotFound

    try:
        home = _open(session)
    except NotFound:
        session.note(f"Creating a development chain in {_path(session)} ...")
    else:
        found = len(_dev_genesis(home).validators)
        if size not in (None, found):
            raise Invalid(OTHER_SIZE, f"the chain in {home.path} has {found} validators, not {size}")
        return home
    # The id differs from reset to reset: what was signed for the last chain must not pass on this one.
    chain_id = f"dev-{secrets.token_hex(3)}"
    size = size or VALIDATORS
    if size == 1:
        keys = {label: key.public for label, key in dev_keys(BRANDS).items()}
        write_home(_path(session), compose_genesis(chain_id, now_ms(), BRANDS, keys), dev=True)
    else:
        brands: Sequence[Brand] = ORGANISATIONS[:size]
        create_network(_path(session), chain_id, now_ms(), brands, choose_ports(session.config, size))
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
