"""The homes of a development network: several validators on one machine, each with a home and ports of its own.

    HOME/                   the person's home: keys, config.toml, genesis.json; no node runs in it
      node-1 ... node-N/    the homes of the validators, each with a node key and the same genesis document

Node i has the public development key `validator-i` and belongs to the i-th example organisation. Its API listens on
api.port + 2 (i - 1). Its port for other nodes is the one after that, or network.port + 2 (i - 1) where that is set;
the genesis document names it, so it stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cli.key_access import check_dev_chain
from cli.new_home import Brand, Seat, check_absent, compose_genesis, dev_keys, write_home
from ledger.errors import Invalid, NotFound, Refused, define
from ledger.genesis import Genesis, Parameters
from node.config import BAD_VALUE, Config, load_config
from node.home import HOME_EXISTS, Home
from node.keystore import dev_key
from node.network.node_key import create_node_key

NO_NODE = define("E-DEV-002", "the development network has no such node", "see: troth dev status")

PORTS_PER_NODE = 2
LOOPBACK = "127.0.0.1"


class DevNode(NamedTuple):
    """One validator of a development network: its name, organisation and home, and the ports of its API and network."""

    name: str
    organisation: str
    home: Path
    port: int
    network_port: int

    @property
    def url(self) -> str:
        """Where its API answers."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> list[str]:
        """The flags that hold against the environment: a variable would set all nodes alike."""
        return [
            f"--set=api.host={LOOPBACK}",
            f"--set=api.port={self.port}",
            f"--set=network.host={LOOPBACK}",
            f"--set=network.port={self.network_port}",
            "--set=network.advertise=",
            "--set=validator.signer=",
            f"--set=validator.key=dev:{_key_name(self.name)}",
        ]


def create_network(
    path: Path,
    chain_id: str,
    time_ms: int,
    brands: Sequence[Brand],
    ports: Sequence[tuple[int, int]],
    parameters: Parameters | None = None,
) -> list[DevNode]:
    """Writes HOME and the homes of as many validators as there are `ports`: those of API and network of each.

    The first brands take the seats. Raises Refused (E-HOME-002, E-HOME-003), Forbidden (E-CLI-008), Fault, Invalid.
    """
    check_dev_chain(chain_id, "public development keys")
    check_absent(path)
    nodes = [
        DevNode(f"node-{index}", brand.id, path / f"node-{index}", *pair)
        for index, (brand, pair) in enumerate(zip(brands, ports, strict=False), 1)
    ]
    for node in nodes:
        if node.home.exists():
            fix = "delete it where it is left of an interrupted run, or choose another folder with --home"
            raise Refused(HOME_EXISTS, f"{node.home} exists, though {path} is no home", fix=fix)
    Home.create(path)
    seats = []
    for node in nodes:
        identity = create_node_key(Home.create(node.home))
        key = dev_key(_key_name(node.name)).public
        seats.append(Seat(node.organisation, key, identity.certificate, (f"{LOOPBACK}:{node.network_port}",)))
    public_keys = {label: key.public for label, key in dev_keys(brands).items()}
    genesis = compose_genesis(chain_id, time_ms, brands, public_keys, parameters, seats)
    for node in nodes:
        settings: dict[str, int | str] = {
            "api.port": node.port,
            "network.port": node.network_port,
            "validator.key": f"dev:{_key_name(node.name)}",
        }
        write_home(node.home, genesis, dev=True, settings=settings)
    write_home(path, genesis, dev=True, validator=False)
    return nodes


def choose_ports(config: Config, count: int) -> list[tuple[int, int]]:
    """The ports of API and network of a new network's nodes, by the rule of the module."""
    network = config.network.port if _is_set(config, "network.port") else config.api.port + 1
    pairs = [(config.api.port + PORTS_PER_NODE * index, network + PORTS_PER_NODE * index) for index in range(count)]
    if len({port for pair in pairs for port in pair}) < 2 * count:
        cause = f"from api.port {config.api.port} and network.port {network}, the ports of {count} nodes overlap"
        raise Invalid(BAD_VALUE, cause, fix="leave network.port unset, or set it further away from api.port")
    return pairs


def _is_set(config: Config, key: str) -> bool:
    return not config.origins.get(key, "default").startswith("default")


def open_network(home: Home, genesis: Genesis, config: Config) -> list[DevNode]:
    """The validators of the network in HOME, none where the chain has one validator.

    Ports of the API are by `config`, the settings of HOME; the others as they were written.
    """
    if not genesis.nodes:
        return []
    nodes = []
    for index in range(1, len(genesis.validators) + 1):
        own = Home.open(home.path / f"node-{index}")
        settings = load_config(own.path, environment={})
        key = dev_key(settings.validator.key.removeprefix("dev:")).public
        organisation = next((v.organisation for v in genesis.validators if v.public_key == key), "")
        port = config.api.port + PORTS_PER_NODE * (index - 1)
        nodes.append(DevNode(own.path.name, organisation, own.path, port, settings.network.port))
    return nodes


def is_network(home: Home) -> bool:
    """Whether this is the HOME of a development network: the person's, in which no node runs."""
    return (home.path / "node-1").is_dir() and not home.signing_record.exists()


def find_node(nodes: Sequence[DevNode], name: str) -> DevNode:
    """The node of that name, `node-2` or `2`. Raises NotFound (E-DEV-002)."""
    full = f"node-{name}" if re.fullmatch("[0-9]+", name) else name
    for node in nodes:
        if node.name == full:
            return node
    raise NotFound(NO_NODE, f"there is no {name!r:.40} among {', '.join(node.name for node in nodes)}")


def _key_name(name: str) -> str:
    return name.replace("node", "validator")
