"""Making a home with the genesis document of its chain, for `troth init`, `troth dev` and `troth genesis`.

A chain has one validator and needs no network, or it has a seat for each of several organisations, whose nodes find
each other by the genesis document.

Everything is checked before anything is written, and config.toml is written last: what lacks it is no home yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cli.key_access import check_dev_chain
from ledger.address import address_of
from ledger.block import Validator
from ledger.errors import Invalid, Refused
from ledger.genesis import GENESIS_VERSION, Genesis, Member, Node, Organisation, Parameters, parse_genesis
from ledger.keys import PrivateKey
from node import keystore, signing_record
from node.config import render_config
from node.home import HOME_EXISTS, Home

VALIDATOR = "validator"
"""The label of the validator's key, and the name of its development key."""

FIRST_ROLES = ("administrator", "issuer", "transactor")
BRAND_ROLES = ("issuer", "transactor")


class Brand(NamedTuple):
    """An organisation as it is asked for. Without `members` it gets one account, with a key of its own."""

    id: str
    name: str
    members: tuple[Member, ...] = ()


class Seat(NamedTuple):
    """A validator with a node of its own: its organisation, its key, the node's certificate (DER), where it listens."""

    organisation: str
    public_key: bytes
    certificate: bytes
    addresses: tuple[str, ...]


def labels(brands: Sequence[Brand]) -> list[str]:
    """The keys that a home of these brands needs: the validator's, and one for each brand without members."""
    return [VALIDATOR, *(brand.id for brand in brands if not brand.members)]


def check_labels(brands: Sequence[Brand]) -> None:
    """Raises Invalid (E-KEYSTORE-001) where a brand's id cannot be a key's label, or is that of the validator."""
    for brand in brands:
        keystore.check_label(brand.id)
        if brand.id == VALIDATOR:
            raise Invalid(keystore.BAD_LABEL, f"{VALIDATOR} is the validator's label", fix="name it otherwise")


def compose_genesis(
    chain_id: str,
    time_ms: int,
    brands: Sequence[Brand],
    public_keys: dict[str, bytes],
    parameters: Parameters | None = None,
    seats: Sequence[Seat] = (),
) -> Genesis:
    """The genesis of a chain of these brands. `public_keys` are by label.

    Without `seats` its one validator belongs to the first brand, whose own account is the administrator. With them
    each seat is a validator with a node, and the own account of each seated brand an administrator. The order of the
    seats does not matter. Raises Invalid (E-GENESIS-001).
    """
    administering = {seat.organisation for seat in seats} if seats else {brand.id for brand in brands[:1]}
    organisations = []
    for brand in brands:
        roles = FIRST_ROLES if brand.id in administering else BRAND_ROLES
        own = () if brand.members else (Member(address_of(public_keys[brand.id]), roles),)
        organisations.append(Organisation(brand.id, brand.name, (*brand.members, *own)))
    if seats:
        keys = [(seat.public_key, seat.organisation) for seat in seats]
    else:
        keys = [(public_keys[VALIDATOR], brands[0].id if brands else "")]
    genesis = Genesis(
        GENESIS_VERSION,
        chain_id,
        time_ms,
        Parameters() if parameters is None else parameters,
        tuple([Validator(address_of(key), key, 1, organisation) for key, organisation in keys]),
        tuple(organisations),
        tuple([Node(seat.organisation, seat.certificate, seat.addresses) for seat in sorted(seats)]),
    )
    try:
        return parse_genesis(genesis.to_json())
    except Invalid as error:
        raise Invalid(error.code, error.cause, fix="correct it, and run the command again") from None


def dev_keys(brands: Sequence[Brand]) -> dict[str, PrivateKey]:
    """Public development keys for the labels of these brands."""
    return {label: keystore.dev_key(label) for label in labels(brands)}


def make_keys(home: Home, labels: Sequence[str], passphrase: str, count: int) -> tuple[dict[str, PrivateKey], str]:
    """A key for each label, from `count` fresh words, which are returned too; empty where no key had to be made.

    A key file that an interrupted run left is opened and kept.
    """
    from node import wallet

    words = wallet.new_words(count)
    keys: dict[str, PrivateKey] = {}
    made = 0
    for account, label in enumerate(labels):
        path = home.keys / (label + keystore.SUFFIX)
        if path.exists():
            keys[label] = keystore.load(path, passphrase)
            continue
        keys[label] = wallet.private_key(words, account)
        keystore.save(home.keys, label, keys[label], passphrase)
        made += 1
    return keys, words if made else ""


def check_absent(path: Path) -> None:
    """Raises Refused (E-HOME-002) where there is a home already, before anything is asked."""
    home = Home(path)
    for file in (home.config_file, home.genesis_file):
        if file.exists():
            raise Refused(HOME_EXISTS, f"{file} exists")


def write_home(
    path: Path,
    genesis: Genesis,
    *,
    dev: bool,
    validator: bool = True,
    settings: dict[str, int | str] | None = None,
) -> Home:
    """Writes genesis.json and config.toml of a new home, and the first signing record of its `validator` if it has one.

    `dev` names the validator's public development key. Raises Refused (E-HOME-002, E-HOME-003, E-SIGNING-003),
    Forbidden (E-CLI-008), Fault (E-HOME-005, E-SIGNING-001).
    """
    if dev:
        check_dev_chain(genesis.chain_id, "public development keys")
    home = Home.create(path)
    if validator:
        signing_record.create(home.signing_record, genesis.chain_id)
    home.write_new(home.genesis_file, genesis.to_json())
    key = f"dev:{VALIDATOR}" if dev else VALIDATOR
    home.write_new(home.config_file, render_config({"validator.key": key, **(settings or {})}))
    return home
