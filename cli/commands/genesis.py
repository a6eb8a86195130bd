"""`troth genesis`: found a network with members who do not trust each other.

Each member makes its keys at home (`member`), all exchange the files, each composes the same document (`compose`),
all compare its id, and each takes it into its home (`troth join`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.groups import TrothGroup
from cli.options import passphrase_file_option
from cli.session import Session, pass_session
from ledger.errors import Refused

if TYPE_CHECKING:
    from ledger.genesis import Genesis
    from node.config import Config
    from node.home import Home

EXIT_NOT_IN_IT = 3
LOOPBACK = "127.0.0.1"


@click.group(cls=TrothGroup)
def genesis() -> None:
    """Found a network: members' files, the genesis document."""


@genesis.command()
@click.option("--organisation", "text", metavar="ID[:NAME]", required=True, help="Your organisation.")
@click.option(
    "--address",
    "addresses",
    metavar="HOST:PORT",
    multiple=True,
    help="Where the others' nodes reach yours; several where there are several ways.",
)
@click.option("--chain-id", metavar="ID", help="The chain that the file is for. Default: any.")
@click.option("--words", "count", type=click.Choice(("12", "24")), default="24", show_default=True, help="How many.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("member.json"),
    show_default=True,
    help="Write this new file.",
)
@passphrase_file_option
@pass_session
def member(
    session: Session,
    text: str,
    addresses: tuple[str, ...],
    chain_id: str | None,
    count: str,
    out: Path,
    passphrase_file: Path | None,
) -> None:
    """Make your home with a validator key, a node key and an administrator's key, and a file for the other members.

    Nothing secret is in the file. In a home that has not joined a network yet the keys are kept, and the file is made
    again. All keys but the node's come from one set of words, which are shown once.
    """
    from cli.member_file import FoundingMember, member_json
    from cli.new_home import VALIDATOR, Brand, check_labels, make_keys
    from cli.values import now_ms
    from ledger.address import address_of, to_text
    from ledger.node_address import parse_address
    from node.home import HOME_EXISTS, Home

    organisation, _, name = text.partition(":")
    check_labels([Brand(organisation, name)])
    home = Home(session.home)
    if home.genesis_file.exists():
        raise Refused(HOME_EXISTS, f"{home.path} is in a network already", fix="choose another folder with --home")
    if out.exists():
        raise Refused(HOME_EXISTS, f"{out} exists", fix="name another file with --out, or delete that one")
    config = session.config
    if not addresses:
        addresses = (config.network.advertise or f"{LOOPBACK}:{config.network.port}",)
    listening = [parse_address(address, host_required=True) for address in addresses]
    _check_asked(chain_id, organisation, name or organisation, addresses)
    passphrase = session.passphrase(passphrase_file, confirm=not home.config_file.exists())
    home = Home.open(home.path) if home.config_file.exists() else Home.create(home.path)
    keys, words = make_keys(home, (VALIDATOR, organisation), passphrase, int(count))
    certificate = _node_certificate(home)
    made = FoundingMember(
        chain_id or "",
        organisation,
        name or organisation,
        address_of(keys[organisation].public),
        keys[VALIDATOR].public,
        certificate,
        addresses,
        now_ms(),
    )
    if not home.config_file.exists():
        _write_settings(session, home, config, listening[0].host, listening[0].port)
    home.write_new(out, member_json(made, keys[VALIDATOR]))
    if all(_is_loopback(each.host) for each in listening):
        session.warn(f"only nodes on this machine reach {', '.join(addresses)}: for others give --address HOST:PORT")

    data = {
        "home": str(home.path),
        "out": str(out),
        "number": made.number().hex(),
        "organisation": organisation,
        "account": to_text(made.account),
        "validator": made.validator.hex(),
        "addresses": list(addresses),
        "words": words.split(),
    }

    def said() -> str:
        from cli.commands.keys import numbered

        parts = [
            f"The home of {organisation} is {home.path}. The file for the other members is {out}; its number is\n\n"
            f"    {data['number']}\n\n"
            "Read the number to them by another way than you send the file."
        ]
        if words:
            parts.append(
                f"The new keys come from these words, the validator's as account 0, the administrator's as account 1:"
                f"\n\n{numbered(words)}\n\n"
                "They are shown this once and kept nowhere. Write them on paper: they alone bring the keys back."
            )
        return "\n\n".join(parts)

    follow = f"once you have the files of all: {session.command('genesis compose FILES --chain-id ID')}"
    session.result("genesis-member", data, said, next=follow)


def _check_asked(chain_id: str | None, organisation: str, name: str, addresses: tuple[str, ...]) -> None:
    """Composes a document with public keys in place of those to come: so what is wrong is said before they are made."""
    from cli.founding import compose
    from cli.member_file import FoundingMember
    from ledger.address import address_of
    from ledger.node_certificate import make_certificate
    from node.keystore import dev_key

    key = dev_key("nobody")
    certificate = make_certificate(key)
    asked = FoundingMember("", organisation, name, address_of(key.public), key.public, certificate, addresses, 1)
    compose(chain_id or "any-chain", [asked])


def _node_certificate(home: Home) -> bytes:
    """The certificate of the home's node key, which is made where it is missing."""
    from ledger.errors import NotFound
    from node.network.node_key import create_node_key, load_node_key

    try:
        return load_node_key(home).certificate
    except NotFound:
        return create_node_key(home).certificate


def _write_settings(session: Session, home: Home, config: Config, host: str, port: int) -> None:
    """config.toml of a member: its node listens where the others are told to find it."""
    from cli.new_home import VALIDATOR
    from node.config import PORTS_PER_INSTANCE, render_config

    settings: dict[str, int | str] = {"validator.key": VALIDATOR}
    if port != config.network.port:
        settings["network.port"] = port - PORTS_PER_INSTANCE * session.instance
    if not _is_loopback(host):
        settings["network.host"] = "0.0.0.0" if ":" not in host else "::"  # noqa: S104  the others must get in
    home.write_new(home.config_file, render_config(settings))


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


@genesis.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--chain-id", metavar="ID", required=True, help="The chain's id: 3 to 32 of a-z 0-9 -.")
@click.option("--parameter", "given", multiple=True, metavar="NAME=NUMBER", help="Another value than the default.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("genesis.json"),
    show_default=True,
    help="Write this new file.",
)
@pass_session
def compose(session: Session, files: tuple[Path, ...], chain_id: str, given: tuple[str, ...], out: Path) -> None:
    """Compose the genesis document of the members whose FILEs these are, each with one validator.

    The same files, id and parameters give the same document, in whatever order: each member composes it, and all
    compare its id.
    """
    from cli import founding
    from cli.member_file import read_member
    from node.home import HOME_EXISTS, Home

    if out.exists():
        raise Refused(HOME_EXISTS, f"{out} exists", fix="name another file with --out, or delete that one")
    members = [read_member(path) for path in files]
    document = founding.compose(chain_id, members, founding.parameters_of(_numbers(given)))
    Home(session.home).write_new(out, document.to_json())
    numbers = sorted((each.organisation, each.number().hex()) for each in members)
    data = {
        **_described(document),
        "out": str(out),
        "members": [{"organisation": organisation, "number": number} for organisation, number in numbers],
    }

    def text() -> str:
        parts = [
            _words(session, document),
            session.table(("organisation", "number of its file"), numbers),
            f"It is in {out}. All members must see the same id: compare it by another way than you got the files.",
        ]
        return "\n\n".join(parts)

    session.result("genesis-compose", data, text, next=session.command(f"join {out}"))


def _numbers(given: tuple[str, ...]) -> dict[str, int]:
    numbers = {}
    for text in given:
        name, _, number = text.partition("=")
        if not number.isdecimal() or not number.isascii():
            raise click.BadParameter(f"{text!r} is not NAME=NUMBER", param_hint="--parameter")
        numbers[name] = int(number)
    return numbers


@genesis.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_session
@click.pass_context
def check(ctx: click.Context, session: Session, file: Path) -> None:
    """Say who is in the genesis document FILE, and whether this home's keys are.

    Exit code 3 where there is a home and its keys are not in it.
    """
    from cli.founding import own_part
    from cli.trust import read_genesis
    from node.home import Home

    document = read_genesis(file)
    home = Home(session.home)
    own = own_part(home, session.config, document) if home.config_file.exists() else None
    data = {
        **_described(document),
        "home": None if own is None else str(home.path),
        "validator_of": None if own is None else own.validator,
        "node_of": None if own is None else own.node,
        "missing": [] if own is None else list(own.missing),
    }

    def text() -> str:
        if own is None:
            mine = f"There is no home at {home.path}, whose keys could be looked for."
        elif own.missing:
            mine = "\n".join(f"Not yours: {each}." for each in own.missing)
        else:
            mine = f"The keys of {home.path} are in it: its validator and node are those of {own.validator}."
        return f"{_words(session, document)}\n\n{mine}"

    good = own is None or not own.missing
    session.result("genesis-check", data, text, next=session.command(f"join {file}") if own and good else None)
    if not good:
        ctx.exit(EXIT_NOT_IN_IT)


def _described(document: Genesis) -> dict[str, Any]:
    from consensus.quorum import faulty

    return {
        "chain_id": document.chain_id,
        "genesis_id": document.id().hex(),
        "time_ms": document.time_ms,
        "validators": len(document.validators),
        "may_fail": faulty(sum(validator.power for validator in document.validators)),
        "organisations": [organisation.id for organisation in document.organisations],
    }


def _words(session: Session, document: Genesis) -> str:
    """A genesis document for people: its id, who is in it, and what is not the default."""
    from cli.node_status import count
    from cli.values import show_time
    from ledger.address import to_text
    from ledger.genesis import Parameters
    from ledger.node_certificate import certificate_key

    facts = _described(document)
    may_fail = facts["may_fail"]
    failing = (
        f"{may_fail} of them may fail or lie" if may_fail else "none of them may fail: four are the least for that"
    )
    rows = []
    for organisation in document.organisations:
        validators = [v.public_key.hex()[:16] for v in document.validators if v.organisation == organisation.id]
        nodes = [node for node in document.nodes if node.organisation == organisation.id]
        rows.append(
            (
                organisation.id,
                organisation.name,
                ", ".join(validators) or "none",
                ", ".join([certificate_key(node.certificate).hex()[:16] for node in nodes]) or "none",
                ", ".join([address for node in nodes for address in node.addresses]),
            )
        )
    accounts = [
        (organisation.id, to_text(account.address), ", ".join(account.roles))
        for organisation in document.organisations
        for account in organisation.members
    ]
    usual = Parameters()._asdict()
    other = [f"{name} = {value}" for name, value in document.parameters._asdict().items() if value != usual[name]]
    parts = [
        f"The chain {document.chain_id} begins at {show_time(document.time_ms)}. The id of its genesis is\n\n"
        f"    {facts['genesis_id']}",
        f"It has {count(facts['validators'], 'validator')}; {failing}.",
        session.table(("organisation", "name", "validator", "node", "addresses"), rows),
        session.table(("organisation", "account", "roles"), accounts),
        f"Its parameters are the defaults{', but ' + ', '.join(other) if other else ''}.",
    ]
    return "\n\n".join(parts)
