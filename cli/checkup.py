"""What `troth doctor` looks at: this machine, a home, and what runs there.

Each check gives findings, `ok`, `warn` or `fail`, and every one that is not ok says what to do. A check that cannot
be made because an earlier one failed is left out, so that one fault is named once.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from cli.client import NodeClient
from cli.dev_network import is_network
from cli.key_access import DEV_CHAIN_PREFIX, DEV_PREFIX
from cli.session import Session
from cli.values import now_ms, show_time
from ledger import codec
from ledger.errors import TrothError
from ledger.genesis import Genesis, parse_genesis
from node import keystore
from node.config import Config, unknown_environment
from node.home import Home
from node.network.node_key import load_node_key

OK, WARN, FAIL = "ok", "warn", "fail"

PYTHON_LOWEST, PYTHON_BEYOND = (3, 11), (3, 13)
LOWEST_VERSIONS = {
    "aiohttp": "3.14",
    "click": "8.2",
    "cryptography": "45",
    "lmdb": "1.6",
    "msgpack": "1.2.4",
    "plyvel": "1.5.1",
    "pynacl": "1.6.2",
}
"""The libraries whose older versions are known to misbehave; as in pyproject.toml."""

DISK_WARN_BYTES, DISK_FAIL_BYTES = 2 << 30, 256 << 20
CLOCK_SLACK_MS = 60_000
CLOCK_LOWEST_MS = 1_735_689_600_000
"""2025-01-01: a clock before this was never set."""
SPARE_FILES = 256
"""Open files that a node needs beside its connections: database, workers, logs."""


class Finding(NamedTuple):
    """One line of the doctor's: what was looked at, how it is, what was found, and what to do where it is not ok."""

    name: str
    status: str
    found: str
    fix: str = ""


def examine(session: Session) -> Iterator[Finding]:
    """All findings, in the order in which a reader would mend them."""
    yield _python()
    yield _libraries()
    home = Home(session.home)
    config: Config | None = None
    try:
        config = session.config
        yield Finding("settings", OK, f"{home.config_file if home.config_file.exists() else 'defaults'}")
    except TrothError as error:
        yield _failed("settings", error)
    for name in unknown_environment():
        yield Finding("environment", WARN, f"{name}: it sets nothing", "unset it, or correct its name")
    try:
        Home.open(session.home)
        yield Finding("home", OK, str(home.path))
    except TrothError as error:
        yield _failed("home", error)
        return
    yield from _modes(home)
    yield from _disk(home)
    genesis: Genesis | None = None
    try:
        genesis = parse_genesis(home.read_text(home.genesis_file))
        yield Finding("genesis", OK, f"chain {genesis.chain_id}, id {genesis.id().hex()}")
    except TrothError as error:
        yield _failed("genesis", error)
    yield from _keys(home)
    if config is None:
        return
    yield _open_files(config)
    if genesis is not None and is_network(home):
        found = f"no node runs in this home: those of the development network have their own, {home.path}/node-1 and on"
        yield Finding("validator key", OK, found)
    elif genesis is not None:
        yield _validator_key(home, config, genesis)
        if genesis.nodes:
            yield _node_key(home, genesis)
    if genesis is not None:
        pid = home.running_pid()
        database, head_ms = _database(home, config, genesis, pid)
        yield database
        port, served_ms = _port(config, genesis, pid)
        yield port
        yield _clock(max(head_ms, served_ms))


def _failed(name: str, error: TrothError) -> Finding:
    return Finding(name, FAIL, f"{error.code} {error.cause}", error.fix)


def _python() -> Finding:
    version = sys.version_info[:2]
    shown = ".".join(str(part) for part in sys.version_info[:3])
    if PYTHON_LOWEST <= version < PYTHON_BEYOND:
        return Finding("python", OK, shown)
    return Finding("python", FAIL, f"{shown}; Troth is made for 3.11 and 3.12", "install Python 3.12")


def _libraries() -> Finding:
    found, bad = [], []
    for name, lowest in LOWEST_VERSIONS.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            bad.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _numbers(version) < _numbers(lowest):
            bad.append(f"{name} {version} is older than {lowest}")
    if bad:
        return Finding("libraries", FAIL, ", ".join(bad), "install them again: make setup")
    return Finding("libraries", OK, ", ".join(found))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _modes(home: Home) -> Iterator[Finding]:
    """Folders and files that others may enter or read."""
    looked_at = (home.path, home.keys, home.data, home.config_file, home.genesis_file, *_files(home.keys))
    wrong = [path for path in looked_at if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in wrong:
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.parent == home.keys or path == home.keys
        fix = f"run: chmod {'700' if path.is_dir() else '600'} {path}"
        yield Finding("file modes", FAIL if secret else WARN, f"{path} has mode {mode:04o}: others may read it", fix)
    if not wrong:
        yield Finding("file modes", OK, "only the owner can read this home")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _disk(home: Home) -> Iterator[Finding]:
    free = shutil.disk_usage(home.path).free
    shown = f"{free / (1 << 30):.1f} GiB free at {home.path}"
    fix = "free some space, or move the home to a larger disk"
    if free < DISK_FAIL_BYTES:
        yield Finding("disk", FAIL, shown, fix)
    elif free < DISK_WARN_BYTES:
        yield Finding("disk", WARN, shown, fix)
    else:
        yield Finding("disk", OK, shown)


def _keys(home: Home) -> Iterator[Finding]:
    try:
        found = keystore.list_keys(home.keys)
    except TrothError as error:
        yield _failed("keys", error)
        return
    yield Finding("keys", OK, ", ".join(info.label for info in found) if found else "no key files")


def _open_files(config: Config) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.api.connections + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return Finding("open files", OK, f"{soft} allowed, {needed} needed at most")
    found = f"{soft} allowed, {needed} needed with api.connections = {config.api.connections}"
    return Finding("open files", WARN, found, f"run: ulimit -n {needed}, or lower api.connections")


def _validator_key(home: Home, config: Config, genesis: Genesis) -> Finding:
    name = "validator key"
    reference = config.validator.key
    try:
        if reference.startswith(DEV_PREFIX):
            if not genesis.chain_id.startswith(DEV_CHAIN_PREFIX):
                found = f"{reference} is public, and {genesis.chain_id} is no development chain"
                return Finding(name, FAIL, found, "set validator.key to a key of your own")
            public_key = keystore.dev_key(reference.removeprefix(DEV_PREFIX)).public.hex()
        else:
            public_key = keystore.find(home.keys, reference).public_key
    except TrothError as error:
        return _failed(name, error)
    if all(validator.public_key.hex() != public_key for validator in genesis.validators):
        fix = "set validator.key to the key that the genesis document names"
        return Finding(name, FAIL, f"{reference} is no validator of {genesis.chain_id}", fix)
    return Finding(name, OK, f"{reference} is a validator of {genesis.chain_id}")


def _node_key(home: Home, genesis: Genesis) -> Finding:
    name = "node key"
    try:
        certificate = load_node_key(home).certificate
    except TrothError as error:
        return _failed(name, error)
    for node in genesis.nodes:
        if node.certificate == certificate:
            return Finding(
                name, OK, f"node of {node.organisation} in {genesis.chain_id}, at {', '.join(node.addresses)}"
            )
    fix = "use the node.key of the home whose certificate the genesis document names"
    return Finding(name, FAIL, f"the genesis document of {genesis.chain_id} does not name this node", fix)


def _database(home: Home, config: Config, genesis: Genesis, pid: int | None) -> tuple[Finding, int]:
    """The database, and the time of its head in ms, 0 where that is not known."""
    name = "database"
    if pid is not None:
        return Finding(name, OK, f"in use by the node of this home (pid {pid})"), 0
    if not _files(home.ledger):
        return Finding(name, OK, "not begun: the node makes it at its first start"), 0
    from node.ledger_store import LedgerStore
    from node.stores import open_store

    try:
        store = open_store(config.store.kind, home.ledger, create=False)
    except TrothError as error:
        return _failed(name, error), 0
    try:
        ledger = LedgerStore(store)
        begun = ledger.genesis_bytes()
        if begun is None:
            return Finding(name, OK, f"{config.store.kind}, empty"), 0
        if begun != codec.encode(genesis):
            found = f"{home.ledger} was begun with another genesis document"
            return Finding(name, FAIL, found, "use the right genesis.json, or a home of its own for each chain"), 0
        height = ledger.head_height()
        head_ms = ledger.block(height).header.time_ms if height else genesis.time_ms
        return Finding(name, OK, f"{config.store.kind}, height {height}"), head_ms
    except TrothError as error:
        return _failed(name, error), 0
    finally:
        store.close()


def _port(config: Config, genesis: Genesis, pid: int | None) -> tuple[Finding, int]:
    """The port, and the time of the head that is served there in ms, 0 where none is."""
    name = "port"
    where = f"{config.api.host}:{config.api.port}"
    family = socket.AF_INET6 if ":" in config.api.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.api.host, config.api.port))
        if pid is not None:
            found = f"{where} is free, though the node of this home runs (pid {pid})"
            return Finding(name, WARN, found, "it was started with another port, or is just starting"), 0
        return Finding(name, OK, f"{where} is free"), 0
    except OSError as error:
        refused = os.strerror(error.errno) if error.errno else str(error)
    try:
        with NodeClient(config.api_url, timeout_seconds=5.0) as client:
            chain = client.chain()
    except TrothError:
        fix = "stop what listens there, or choose another api.port or --instance"
        return Finding(name, FAIL, f"{where} cannot be used: {refused}", fix), 0
    if chain["genesis_id"] != genesis.id().hex():
        fix = "stop it, or choose another api.port or --instance"
        return Finding(name, FAIL, f"{where} is taken by a node of another chain, {chain['chain_id']}", fix), 0
    return Finding(name, OK, f"{where} is served by a node of this chain, height {chain['height']}"), chain["time_ms"]


def _clock(head_ms: int) -> Finding:
    now = now_ms()
    if now < CLOCK_LOWEST_MS:
        return Finding("clock", FAIL, f"it says {show_time(now)}", "set the machine's clock (NTP)")
    if head_ms - now > CLOCK_SLACK_MS:
        behind = (head_ms - now) // 1000
        return Finding("clock", FAIL, f"{behind} s behind the last block", "set the machine's clock (NTP)")
    return Finding("clock", OK, show_time(now // 1000 * 1000) + (", not behind the chain" if head_ms else ""))
