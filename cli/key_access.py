"""Keys by the names that people give them: a label or address in HOME/keys, or `dev:NAME`.

Rules kept here:
- a public development key (`dev:NAME`), which everybody can compute, opens only where the chain's id begins with
  `dev`: a key of no worth must never guard anything of worth;
- every other key is in a key file, and its passphrase comes from `Session.passphrase`.
"""

from __future__ import annotations

from pathlib import Path

from cli.session import Session
from ledger.errors import Forbidden, define
from ledger.keys import PrivateKey
from node import keystore
from node.home import Home

DEV_PREFIX = "dev:"
DEV_CHAIN_PREFIX = "dev"

DEV_KEY_REFUSED = define(
    "E-CLI-008",
    "a public development key outside a development chain",
    "make a key of your own: troth keys new",
)


def check_dev_chain(chain_id: str, what: str) -> None:
    """Raises Forbidden (E-CLI-008) unless the chain's id begins with `dev`. `what` is the subject of the refusal."""
    if not chain_id.startswith(DEV_CHAIN_PREFIX):
        raise Forbidden(
            DEV_KEY_REFUSED, f"{what} may be used on chains whose id begins with dev, and this is {chain_id}"
        )


def open_key(
    session: Session, home: Home, reference: str, passphrase_file: Path | None, *, chain_id: str
) -> PrivateKey:
    """The key that `reference` names, a label, an address or `dev:NAME`, for use on the chain `chain_id`.

    Raises Forbidden (E-CLI-008), and what `node.keystore.find`, `load` and `Session.passphrase` raise.
    """
    if reference.startswith(DEV_PREFIX):
        check_dev_chain(chain_id, f"the public development key {reference}")
        return keystore.dev_key(reference.removeprefix(DEV_PREFIX))
    info = keystore.find(home.keys, reference)
    passphrase = session.passphrase(passphrase_file, prompt=f"Passphrase of {info.label}")
    return keystore.load(info.path, passphrase)
