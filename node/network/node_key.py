"""A node's own key, with which it is known to other nodes: not the validator's key, which signs blocks.

    HOME/node.key           the private key, PKCS #8 in PEM, mode 0600; without a passphrase, as it must be there
                            whenever the node starts, and it moves neither blocks nor points
    HOME/node.crt           its certificate (ledger.node_certificate) in PEM: this is what other members register

A certificate follows from its key, so a lost node.crt is written anew. One of another key is refused.
"""

from __future__ import annotations

import os
import secrets
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ledger.errors import Fault, Invalid, NotFound, Refused, define
from ledger.keys import SEED_BYTES, PrivateKey
from ledger.node_certificate import BAD_CERTIFICATE, certificate_key, make_certificate

if TYPE_CHECKING:
    from node.home import Home

BAD_KEY_FILE = define("E-NODEKEY-002", "not a node's key file", "restore node.key from a backup, or register a new key")
OPEN_KEY_FILE = define("E-NODEKEY-003", "others may read the node's key", "run: chmod 600 on node.key")
NO_NODE_KEY = define("E-NODEKEY-004", "the home has no node key", "restore node.key from a backup, or run: troth init")
NODE_KEY_FAULT = define("E-NODEKEY-005", "the node's key could not be read", "check the disk and permissions")

KEY_FILE = "node.key"
CERTIFICATE_FILE = "node.crt"
_OTHERS = 0o077
_FILE_BYTES_MAX = 4096


class NodeIdentity(NamedTuple):
    """A node's key and certificate (DER), and the files that TLS loads them from."""

    key: PrivateKey
    certificate: bytes
    key_file: Path
    certificate_file: Path

    @property
    def id(self) -> bytes:
        """The node's id, 32 bytes: its public key."""
        return self.key.public


def create_node_key(home: Home) -> NodeIdentity:
    """Makes a new key and certificate in a home. Raises Refused (E-HOME-002) where there is one."""
    return write_node_key(home, PrivateKey(secrets.token_bytes(SEED_BYTES)))


def write_node_key(home: Home, key: PrivateKey) -> NodeIdentity:
    """Writes a given key and its certificate to a home. Raises Refused (E-HOME-002) where there is one."""
    home.write_new(home.path / KEY_FILE, _key_pem(key))
    return load_node_key(home)


def load_node_key(home: Home) -> NodeIdentity:
    """The key and certificate of a home.

    Raises NotFound (E-NODEKEY-004), Refused (E-NODEKEY-003), Invalid (E-NODEKEY-001, E-NODEKEY-002) and Fault.
    """
    key_file, certificate_file = home.path / KEY_FILE, home.path / CERTIFICATE_FILE
    key = _read_key(key_file)
    made = make_certificate(key)
    if not certificate_file.exists():
        home.write_new(certificate_file, certificate_pem(made))
    elif certificate_of_pem(home.read_text(certificate_file)) != made:
        raise Invalid(
            BAD_CERTIFICATE,
            f"{certificate_file} is the certificate of another key than {key_file}",
            fix=f"move {certificate_file} away; it is made anew at the next start",
        )
    return NodeIdentity(key, made, key_file, certificate_file)


def certificate_pem(certificate: bytes) -> str:
    """A certificate as PEM text."""
    return ssl.DER_cert_to_PEM_cert(certificate)


def certificate_of_pem(text: str) -> bytes:
    """The certificate (DER) in PEM text. Raises Invalid (E-NODEKEY-001) unless it is a node's."""
    try:
        certificate = ssl.PEM_cert_to_DER_cert(text)
    except ValueError as error:
        raise Invalid(BAD_CERTIFICATE, f"not PEM: {error}") from None
    certificate_key(certificate)
    return certificate


def _key_pem(key: PrivateKey) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    held = Ed25519PrivateKey.from_private_bytes(key.seed())
    return held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _read_key(path: Path) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise NotFound(NO_NODE_KEY, f"{path} is missing") from None
    except OSError as error:
        raise Fault(NODE_KEY_FAULT, f"{path}: {error.strerror or error}") from error
    if mode & _OTHERS:
        raise Refused(OPEN_KEY_FILE, f"{path} has mode {mode:04o}", fix=f"run: chmod 600 {path}")
    try:
        held = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(BAD_KEY_FILE, f"{path} is not an unencrypted private key in PEM: {error}") from None
    if not isinstance(held, Ed25519PrivateKey):
        raise Invalid(BAD_KEY_FILE, f"{path} holds a key that is not Ed25519")
    return PrivateKey(held.private_bytes_raw())
