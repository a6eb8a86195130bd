"""`troth keys`: the keys of a home.

A key comes from words (BIP-39) by SLIP-0010, so that the words alone bring it back, and lies in a key file encrypted
under a passphrase (Argon2id). Words are shown once and kept nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import TrothGroup
from cli.options import passphrase_file_option
from cli.session import Session, pass_session
from ledger.errors import Fault, Invalid, define

if TYPE_CHECKING:
    from ledger.keys import PrivateKey
    from node.keystore import KeyInfo

BAD_INPUT_FILE = define("E-KEYS-001", "not a file of words or of a seed", "give a text file with nothing else in it")
NO_WORDS = define("E-KEYS-002", "no words to import", "give --words-file FILE, or run it on a terminal")
WOULD_SHOW_SECRET = define(
    "E-KEYS-003", "would print a secret", "give --yes if that is meant, and see who can read the output"
)

_INPUT_BYTES_MAX = 4096


@click.group(cls=TrothGroup)
def keys() -> None:
    """Make, import, export and list keys.

    They lie in HOME/keys, one file each, encrypted under a passphrase.
    """


@keys.command()
@click.argument("label")
@click.option("--words", "count", type=click.Choice(("12", "24")), default="24", show_default=True, help="How many.")
@click.option("--account", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Account index.")
@passphrase_file_option
@pass_session
def new(session: Session, label: str, count: str, account: int, passphrase_file: Path | None) -> None:
    """Make a key called LABEL from fresh words, and show the words once.

    Whoever has the words has the key: write them down on paper. One set of words gives any number of accounts.
    """
    from node import keystore, wallet

    keystore.check_label(label)
    _check_free(session, label)
    passphrase = session.passphrase(passphrase_file, confirm=True)
    words = wallet.new_words(int(count))
    key = wallet.private_key(words, account)
    path = keystore.save(_folder(session), label, key, passphrase)
    data = {**_described(label, key), "path": str(path), "account": account, "words": words.split()}

    def text() -> str:
        return "\n".join(
            [
                f"Key {label}, address {data['address']}, account {account} of these words:",
                "",
                numbered(words),
                "",
                "They are shown this once and kept nowhere. Write them on paper: they alone bring the key back.",
            ]
        )

    session.result("keys-new", data, text, next=f"troth keys show {label}")


@keys.command(name="import")
@click.argument("label")
@click.option("--words-file", type=click.Path(path_type=Path, dir_okay=False), help="Take the words from this file.")
@click.option("--seed-file", type=click.Path(path_type=Path, dir_okay=False), help="Take a seed of 64 hex digits.")
@click.option("--account", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Account index.")
@click.option("--language", help="Language of the words, where several fit.")
@passphrase_file_option
@pass_session
def import_(
    session: Session,
    label: str,
    words_file: Path | None,
    seed_file: Path | None,
    account: int,
    language: str | None,
    passphrase_file: Path | None,
) -> None:
    """Bring a key back from its words, or from the seed that `keys export` wrote, as LABEL."""
    from ledger.keys import PrivateKey
    from node import keystore, wallet

    if words_file is not None and seed_file is not None:
        raise click.UsageError("--words-file and --seed-file exclude each other")
    keystore.check_label(label)
    _check_free(session, label)
    if seed_file is not None:
        text = _read(seed_file).strip().lower()
        if len(text) != 64 or any(character not in "0123456789abcdef" for character in text):
            raise Invalid(BAD_INPUT_FILE, f"{seed_file} does not hold 64 hexadecimal digits")
        key = PrivateKey(bytes.fromhex(text))
    else:
        key = wallet.private_key(_words(words_file), account, language=language)
    passphrase = session.passphrase(passphrase_file, confirm=True)
    path = keystore.save(_folder(session), label, key, passphrase)
    data = {**_described(label, key), "path": str(path)}
    session.result(
        "keys-import", data, f"Key {label}, address {data['address']}, is in {path}.", next=f"troth keys show {label}"
    )


@keys.command()
@click.argument("label")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a new file (mode 0600) instead.")
@passphrase_file_option
@pass_session
def export(session: Session, label: str, out: Path | None, passphrase_file: Path | None) -> None:
    """Show the secret seed of the key LABEL, or write it to a file.

    The seed is the key itself, without protection. The encrypted file in HOME/keys can be copied as it is.
    """
    from node import keystore
    from node.home import Home

    info = keystore.find(_folder(session), label)
    if out is None and not session.yes and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise Invalid(WOULD_SHOW_SECRET, f"the secret seed of {info.label} would go to a pipe or file")
    if out is None:
        session.confirm(f"Show the secret seed of {info.label} on this screen?")
    passphrase = session.passphrase(passphrase_file, prompt=f"Passphrase of {info.label}")
    seed = keystore.load(info.path, passphrase).seed().hex()
    if out is not None:
        Home(session.home).write_new(out, seed + "\n")
        session.result(
            "keys-export",
            {**_info(info), "out": str(out)},
            f"The seed of {info.label} is in {out}.",
            next=f"keep {out} as you would keep the key; troth keys import LABEL --seed-file {out} reads it",
        )
        return
    session.result("keys-export", {**_info(info), "seed": seed}, seed, next="clear this screen")


@keys.command(name="list")
@pass_session
def list_(session: Session) -> None:
    """List the keys of this home. Needs no passphrase."""
    from node import keystore

    found = keystore.list_keys(_folder(session))
    session.result(
        "keys-list",
        {"keys": [_info(info) for info in found]},
        lambda: (
            session.table(("label", "address"), [(info.label, info.address) for info in found])
            if found
            else f"No keys in {_folder(session)}."
        ),
        next=None if found else "troth keys new LABEL",
    )


@keys.command()
@click.argument("label_or_address")
@click.option("--check", is_flag=True, help="Open the file with its passphrase, which proves that it holds this key.")
@passphrase_file_option
@pass_session
def show(session: Session, label_or_address: str, check: bool, passphrase_file: Path | None) -> None:
    """Show a key's address and public key, by its label or address."""
    from node import keystore

    info = keystore.find(_folder(session), label_or_address)
    if check:
        passphrase = session.passphrase(passphrase_file, prompt=f"Passphrase of {info.label}")
        keystore.load(info.path, passphrase)
    lines = [
        f"label       {info.label}",
        f"address     {info.address}",
        f"public key  {info.public_key}",
        f"file        {info.path}",
        f"opened      {'yes, it holds this key' if check else 'no (--check opens it)'}",
    ]
    session.result("keys-show", {**_info(info), "checked": check}, "\n".join(lines))


def numbered(words: str) -> str:
    """Words for writing down: four a line, each with its number."""
    found = words.split()
    cells = [f"{number:>2} {word:<8}" for number, word in enumerate(found, 1)]
    return "\n".join("  ".join(cells[row : row + 4]).rstrip() for row in range(0, len(cells), 4))


def _folder(session: Session) -> Path:
    from node.home import Home

    return Home(session.home).keys


def _check_free(session: Session, label: str) -> None:
    """Before anything is asked: a label that is taken is said at once."""
    from ledger.errors import Refused
    from node import keystore

    path = _folder(session) / (label + keystore.SUFFIX)
    if path.exists():
        raise Refused(keystore.EXISTS, f"{path} exists")


def _words(file: Path | None) -> str:
    if file is not None:
        return _read(file)
    if not sys.stdin.isatty():
        raise Invalid(NO_WORDS, "there is no terminal to ask on")
    answer: str = click.prompt("Words (not shown)", hide_input=True, err=True)
    return answer


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise Fault(BAD_INPUT_FILE, f"{file}: {error.strerror}") from None
    if len(raw) > _INPUT_BYTES_MAX:
        raise Invalid(BAD_INPUT_FILE, f"{file} is longer than {_INPUT_BYTES_MAX} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Invalid(BAD_INPUT_FILE, f"{file} is not UTF-8") from None


def _described(label: str, key: PrivateKey) -> dict[str, Any]:
    from ledger.address import address_of, to_text

    return {"label": label, "address": to_text(address_of(key.public)), "public_key": key.public.hex()}


def _info(info: KeyInfo) -> dict[str, Any]:
    return {
        "label": info.label,
        "address": info.address,
        "public_key": info.public_key,
        "path": str(info.path),
    }
