"""Settings of a node and its commands: what there is, and where each value comes from.

Rules kept here:
- precedence: `--set KEY=VALUE`, then the environment (`TROTH_` and the key in capitals, dots as underscores:
  TROTH_API_PORT), then HOME/config.toml, then the default; each value's origin is known;
- every setting is declared once, below, with its range and its meaning. docs/configuration.md and the config.toml of
  a new home are made from the declarations;
- an unknown key is an error with a suggestion, and so is a value of the wrong type or out of range: a misspelt
  setting must not silently be the default.

Sizes are in bytes and times in milliseconds, as their names say.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from ledger.errors import Invalid, define
from ledger.node_address import parse_address
from node.home import Home

UNKNOWN_SETTING = define("E-CONFIG-001", "no such setting", "see: troth config show")
BAD_VALUE = define("E-CONFIG-002", "not a value of this setting", "see docs/configuration.md for what it takes")
BAD_FILE = define("E-CONFIG-003", "config.toml is not TOML", "correct the line it names")

PORTS_PER_INSTANCE = 10
INSTANCE_MAX = 99

_NOT_SETTINGS = frozenset({"TROTH_HOME", "TROTH_INSTANCE", "TROTH_PASSPHRASE_FILE", "TROTH_VECTORS"})
"""Variables that begin like settings and are others."""


class Kind(NamedTuple):
    """What a setting takes: whole numbers from `low` to `high`, one of `choices`, or text of the form `pattern`."""

    help: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    form: str = ""

    def takes(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.low is not None:
            return f"a whole number from {self.low} to {self.high}"
        return self.form


def _number(default: int, low: int, high: int, help: str) -> Any:
    return field(default=default, metadata={"kind": Kind(help, low, high)})


def _choice(default: str, choices: tuple[str, ...], help: str) -> Any:
    return field(default=default, metadata={"kind": Kind(help, choices=choices)})


def _text(default: str, pattern: str, form: str, help: str) -> Any:
    return field(default=default, metadata={"kind": Kind(help, pattern=pattern, form=form)})


@dataclass(frozen=True, slots=True)
class Api:
    """Where the node answers, and what it bears."""

    host: str = _text(
        "127.0.0.1",
        r"[0-9A-Za-z.:-]{1,253}",
        "an address or host name",
        "The address on which the node answers. 0.0.0.0 lets other machines in: put a proxy with TLS before it.",
    )
    port: int = _number(8700, 1, 65_535, "The port on which the node answers. Each --instance adds 10.")
    url: str = _text(
        "",
        r"|https?://[^\s/?#]+/?",
        "http:// or https:// and a host, or nothing",
        "The node that commands talk to. Nothing: the one at api.host and api.port.",
    )
    timeout_ms: int = _number(30_000, 100, 3_600_000, "How long commands wait for an answer of the node.")
    body_bytes: int = _number(8 << 20, 1 << 10, 1 << 30, "Largest body of a request.")
    batch_transactions: int = _number(1_000, 1, 100_000, "Most transactions in one request.")
    connections: int = _number(1_000, 1, 1_000_000, "Most connections at a time.")
    connections_per_address: int = _number(256, 1, 1_000_000, "Most connections at a time from one address.")
    header_timeout_ms: int = _number(10_000, 100, 3_600_000, "How long a client may take to send a request's headers.")
    body_timeout_ms: int = _number(20_000, 100, 3_600_000, "How long a client may take to send a request's body.")
    idle_timeout_ms: int = _number(60_000, 100, 3_600_000, "How long a connection may rest between requests.")


@dataclass(frozen=True, slots=True)
class Network:
    """Where the node meets the other nodes. Not used on a chain of one validator whose genesis names no nodes."""

    host: str = _text(
        "127.0.0.1",
        r"[0-9A-Za-z.:-]{1,253}",
        "an address or host name",
        "The address on which other nodes connect. 0.0.0.0 where they are on other machines.",
    )
    port: int = _number(8701, 1, 65_535, "The port on which other nodes connect. Each --instance adds 10.")
    advertise: str = _text(
        "",
        r"\S*",
        "host:port or [IPv6]:port, or nothing",
        "Where other nodes reach this one, if that differs. Nothing: the address that they see, and network.port.",
    )


@dataclass(frozen=True, slots=True)
class Store:
    """The database."""

    kind: str = _choice(
        "leveldb", ("leveldb", "lmdb", "memory"), "The database. A home keeps the kind it began with; memory forgets."
    )


@dataclass(frozen=True, slots=True)
class State:
    """What is kept of the past."""

    keep_heights: int = _number(
        10_000, 0, 1 << 53, "How many past states can be read and proved. 0: all of them (an archive node)."
    )


@dataclass(frozen=True, slots=True)
class Node:
    """The process."""

    workers: int = _number(
        0, 0, 1_024, "Processes that verify signatures. 0: one less than the machine has cores, at least one."
    )


@dataclass(frozen=True, slots=True)
class Mempool:
    """What may wait for a block: in all, and for each sender."""

    transactions: int = _number(40_000, 1, 10_000_000, "Most transactions that wait.")
    bytes: int = _number(64 << 20, 1 << 20, 1 << 40, "Most bytes that wait.")
    sender_transactions: int = _number(20_000, 1, 10_000_000, "Most transactions of one sender that wait.")
    sender_bytes: int = _number(48 << 20, 1 << 20, 1 << 40, "Most bytes of one sender that wait.")


@dataclass(frozen=True, slots=True)
class Log:
    """What the node says of itself, on stderr."""

    level: str = _choice("info", ("debug", "info", "warning", "error"), "The least important message that is shown.")
    format: str = _choice("text", ("text", "json"), "Lines for people, or one JSON object a line.")


@dataclass(frozen=True, slots=True)
class Validator:
    """The key with which the node makes blocks."""

    key: str = _text(
        "validator",
        r"(dev:)?[a-z0-9][a-z0-9._-]{0,39}",
        "a label of `troth keys list`, or dev:NAME",
        "The label of the validator's key in HOME/keys. dev:NAME is a public development key, for dev chains only.",
    )
    signer: str = _text(
        "",
        r'|[^\x00-\x1f\x7f"\\]{1,255}',
        "the path of a socket, or nothing",
        "The socket of the signer that holds the validator's key, as `troth signer start` prints it; a path that is "
        "not absolute begins at the home. Nothing: the node itself opens the key.",
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. `origins` says of each key where its value comes from; `path` is the file that was looked for."""

    api: Api = field(default_factory=Api)
    network: Network = field(default_factory=Network)
    store: Store = field(default_factory=Store)
    state: State = field(default_factory=State)
    node: Node = field(default_factory=Node)
    mempool: Mempool = field(default_factory=Mempool)
    log: Log = field(default_factory=Log)
    validator: Validator = field(default_factory=Validator)
    path: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def api_url(self) -> str:
        """The node that commands talk to, without a slash at the end."""
        if self.api.url:
            return self.api.url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api.host, self.api.host)  # noqa: S104  compared, not bound
        return f"http://[{host}]:{self.api.port}" if ":" in host else f"http://{host}:{self.api.port}"

    @property
    def signer_socket(self) -> Path | None:
        """The socket of the validator's signer; None where the node itself opens the key."""
        if not self.validator.signer:
            return None
        home = Path() if self.path is None else self.path.parent
        return home / Path(self.validator.signer).expanduser()

    @property
    def verify_workers(self) -> int:
        """How many processes verify signatures: `node.workers`, or what 0 stands for on this machine."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.node.workers or max(1, usable - 1)

    def items(self) -> Iterator[tuple[str, int | str, str]]:
        """Each setting: key, value, origin."""
        for setting in SETTINGS:
            yield setting.key, self.get(setting.key), self.origins.get(setting.key, "default")

    def get(self, key: str) -> int | str:
        """The value of a key. Raises Invalid (E-CONFIG-001)."""
        section, name = _find(key, "").key.split(".")
        value: int | str = getattr(getattr(self, section), name)
        return value


class Setting(NamedTuple):
    """One declared setting."""

    key: str
    default: int | str
    kind: Kind

    @property
    def environment(self) -> str:
        """The variable that sets it."""
        return "TROTH_" + self.key.replace(".", "_").upper()


_SECTIONS: dict[str, type[Any]] = {
    "api": Api,
    "network": Network,
    "store": Store,
    "state": State,
    "node": Node,
    "mempool": Mempool,
    "log": Log,
    "validator": Validator,
}

SECTION_HELP: dict[str, str] = {name: str(section.__doc__) for name, section in _SECTIONS.items()}

SETTINGS: tuple[Setting, ...] = tuple(
    Setting(f"{name}.{declared.name}", cast("int | str", declared.default), declared.metadata["kind"])
    for name, section in _SECTIONS.items()
    for declared in dataclasses.fields(section)
)

_BY_KEY = {setting.key: setting for setting in SETTINGS}
_BY_ENVIRONMENT = {setting.environment: setting for setting in SETTINGS}
_SHIFTED = ("api.port", "network.port")
"""Settings to which an instance adds."""


def load_config(
    home: Path,
    *,
    settings: Mapping[str, str] | None = None,
    instance: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """The settings of a home (which need not exist), by the precedence of the module. `settings` are flags, as text.

    Raises Invalid: E-CONFIG-001 an unknown key, E-CONFIG-002 a bad value, E-CONFIG-003 the file is not TOML; and what
    `Home.read_text` raises.
    """
    path = Home(home).config_file
    values: dict[str, int | str] = {}
    origins: dict[str, str] = {}
    for key, value in _read_file(path).items():
        values[key], origins[key] = _check(_find(key, f"{path}: "), value, f"{path}: "), str(path)
    for key in _SHIFTED if instance else ():
        shifted = int(values.get(key, _BY_KEY[key].default)) + PORTS_PER_INSTANCE * instance
        values[key] = _check(_BY_KEY[key], shifted, f"--instance {instance}: ")
        origins[key] = f"{origins.get(key, 'default')} + --instance {instance}"
    for name, text in (os.environ if environment is None else environment).items():
        setting = _BY_ENVIRONMENT.get(name)
        if setting is not None:
            values[setting.key], origins[setting.key] = _parse(setting, text, f"{name}: "), name
    for key, text in (settings or {}).items():
        setting = _find(key, "--set: ")
        values[key], origins[key] = _parse(setting, text, "--set: "), "--set"
    sections = {
        name: section(**{key.partition(".")[2]: value for key, value in values.items() if key.startswith(name + ".")})
        for name, section in _SECTIONS.items()
    }
    config = Config(**sections, path=path, origins=origins)
    if config.network.advertise:
        try:
            parse_address(config.network.advertise, host_required=True)
        except Invalid as error:
            raise Invalid(BAD_VALUE, f"network.advertise: {error.cause}", fix=error.fix) from None
    if config.api.port == config.network.port:
        raise Invalid(
            BAD_VALUE, f"api.port and network.port are both {config.api.port}", fix="set another network.port"
        )
    return config


def unknown_environment(environment: Mapping[str, str] | None = None) -> list[str]:
    """Variables that begin with TROTH_ and set nothing, each with a suggestion where one is near."""
    known = [*_BY_ENVIRONMENT, *sorted(_NOT_SETTINGS)]
    names = os.environ if environment is None else environment
    return [name + _suggest(name, known) for name in sorted(names) if name.startswith("TROTH_") and name not in known]


def render_config(values: Mapping[str, int | str] | None = None) -> str:
    """The text of a config.toml: every setting with its meaning; those in `values` set, the others commented out."""
    given = {_find(key, "").key: value for key, value in (values or {}).items()}
    lines = ["# Settings of this home. What is commented out has the value shown. See docs/configuration.md."]
    section = ""
    for setting in SETTINGS:
        name, key = setting.key.split(".")
        if name != section:
            section = name
            lines += ["", f"[{section}]"]
        lines.append(f"# {setting.kind.help}")
        if setting.key in given:
            value = _check(setting, given[setting.key], "")
            lines.append(f"{key} = {_toml(value)}")
        else:
            lines.append(f"# {key} = {_toml(setting.default)}")
    return "\n".join(lines) + "\n"


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = Home(path.parent).read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(BAD_FILE, f"{path}: {error}") from None
    values: dict[str, Any] = {}
    for section, entries in document.items():
        if section not in _SECTIONS:
            near = _suggest(section, list(_SECTIONS))
            raise Invalid(UNKNOWN_SETTING, f"{path}: there is no section [{section}]{near}")
        if not isinstance(entries, dict):
            raise Invalid(BAD_VALUE, f"{path}: {section} is a section: write [{section}] and its settings below it")
        values.update({f"{section}.{name}": value for name, value in entries.items()})
    return values


def _find(key: str, where: str) -> Setting:
    setting = _BY_KEY.get(key)
    if setting is None:
        raise Invalid(UNKNOWN_SETTING, f"{where}there is no setting {key!r:.80}{_suggest(key, list(_BY_KEY))}")
    return setting


def _parse(setting: Setting, text: str, where: str) -> int | str:
    if setting.kind.low is not None and re.fullmatch(r"-?[0-9]{1,20}", text):
        return _check(setting, int(text), where)
    return _check(setting, text, where)


def _check(setting: Setting, value: Any, where: str) -> int | str:
    kind = setting.kind
    if kind.low is not None and kind.high is not None:
        good = type(value) is int and kind.low <= value <= kind.high
    elif kind.choices:
        good = value in kind.choices
    else:
        good = type(value) is str and re.fullmatch(kind.pattern or "", value) is not None
    if not good:
        near = _suggest(str(value), list(kind.choices))
        raise Invalid(BAD_VALUE, f"{where}{setting.key} takes {kind.takes()}, not {value!r:.80}{near}")
    checked: int | str = value
    return checked


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _toml(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
