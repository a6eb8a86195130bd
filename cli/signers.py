"""Who signs: a key of this home by label or address, or a public development key.

Rules kept here:
- `dev:NAME` is a key that everybody can compute: it signs for development chains only (`cli.key_access`);
- a key file is opened when something is to be signed, and not before: its passphrase is asked for once in a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.key_access import DEV_PREFIX, check_dev_chain
from cli.session import Session
from ledger.address import address_of, from_text
from ledger.errors import Invalid, NotFound, define

if TYPE_CHECKING:
    from ledger.keys import PrivateKey

WHICH_KEY = define("E-SIGN-001", "it is not said who signs", "name a key with --as LABEL; see: troth keys list")


def keys_folder(session: Session) -> Path:
    """Where the keys of the session's home lie, whether it exists or not."""
    from node.home import Home

    return Home(session.home).keys


class Signer:
    """One who signs: `address` is known at once, the key when it is asked for."""

    def __init__(self, session: Session, name: str, passphrase_file: Path | None) -> None:
        self.name = name
        self._session = session
        self._passphrase_file = passphrase_file
        self._key: PrivateKey | None = None
        self._path: Path | None = None
        if name.startswith(DEV_PREFIX):
            from node.keystore import dev_key

            self._key = dev_key(name.removeprefix(DEV_PREFIX))
            self.address = address_of(self._key.public)
        else:
            from node.keystore import find

            found = find(keys_folder(session), name)
            self._path = found.path
            self.address = from_text(found.address)

    @property
    def is_public(self) -> bool:
        """True for a development key."""
        return self._path is None

    def check_chain(self, chain_id: str) -> None:
        """Raises Forbidden (E-CLI-008) where this key must not sign for that chain."""
        if self.is_public:
            check_dev_chain(chain_id, f"the public development key {self.name}")

    def key(self, chain_id: str) -> PrivateKey:
        """The key, for signing on that chain. Asks for its passphrase.

        Raises Forbidden (E-CLI-008); Invalid, Refused and Fault as `node.keystore.load` does.
        """
        self.check_chain(chain_id)
        if self._key is None:
            from node.keystore import load

            assert self._path is not None  # a signer has a key or a file
            prompt = f"Passphrase of {self._path.stem}"
            self._key = load(self._path, self._session.passphrase(self._passphrase_file, prompt=prompt))
        return self._key


def find_signer(session: Session, name: str | None, passphrase_file: Path | None) -> Signer:
    """The signer of that label, address or `dev:NAME`; without a name, the only key of the home.

    Raises Invalid (E-SIGN-001) where there are several keys, NotFound where there are none.
    """
    if name is not None:
        return Signer(session, name, passphrase_file)
    from node.keystore import NO_KEY, list_keys

    keys = list_keys(keys_folder(session))
    if not keys:
        fix = "make one: troth keys new LABEL; on a development chain: --as dev:NAME"
        raise NotFound(NO_KEY, f"there is no key in {keys_folder(session)}", fix=fix)
    if len(keys) > 1:
        raise Invalid(WHICH_KEY, f"there are several keys: {', '.join(key.label for key in keys)}")
    return Signer(session, keys[0].label, passphrase_file)


as_option = click.option(
    "--as", "signer_name", metavar="KEY", help="Who signs: a key's label, its address, or dev:NAME."
)
