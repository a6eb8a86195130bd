"""Nodes with keys and certificates for tests of the network, the same in every run."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ledger.keys import PrivateKey
from ledger.node_certificate import make_certificate
from node.home import Home
from node.network.handshake import Network
from node.network.node_key import NodeIdentity, load_node_key, write_node_key

NETWORK = Network("test-chain", b"g" * 32)


def node_key(name: str) -> PrivateKey:
    """The node key of a name."""
    return PrivateKey(sha256(b"test node/" + name.encode()).digest())


def certificate(name: str) -> bytes:
    """The certificate of a name."""
    return make_certificate(node_key(name))


def identity(folder: Path, name: str) -> NodeIdentity:
    """A node's identity with its files in a folder of their own below `folder`."""
    home = Home(folder / name)
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home.path / "node.key").exists():
        write_node_key(home, node_key(name))
    return load_node_key(home)
