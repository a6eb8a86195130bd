"""`troth init`: a home with keys, settings and the genesis document of a chain of one validator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import dry_run_option, passphrase_file_option
from cli.session import Session, pass_session

if TYPE_CHECKING:
    from cli.new_home import Brand


@click.command()
@click.option("--chain-id", metavar="ID", help="The chain's id: 3 to 32 of a-z 0-9 -. Asked for where missing.")
@click.option(
    "--organisation",
    "organisations",
    multiple=True,
    metavar="ID[:NAME]",
    help="A member organisation; the first one runs the validator and administers. Asked for where missing.",
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="ORGANISATION:ADDRESS:ROLES",
    help="An account whose key is elsewhere; roles separated by commas. That organisation then gets no key here.",
)
@click.option("--words", "count", type=click.Choice(("12", "24")), default="24", show_default=True, help="How many.")
@click.option(
    "--dev-keys", is_flag=True, help="Use public development keys. Only where the chain's id begins with dev."
)
@passphrase_file_option
@dry_run_option
@pass_session
def init(
    session: Session,
    chain_id: str | None,
    organisations: tuple[str, ...],
    members: tuple[str, ...],
    count: str,
    dev_keys: bool,
    passphrase_file: Path | None,
    dry_run: bool,
) -> None:
    """Create a home: keys, settings and a genesis document.

    The chain has one validator. Each organisation gets an account that issues points and certificates; the first one's
    is the administrator too. All keys come from one set of words, which are shown once: account 0 is the validator's,
    the organisations' follow in order.
    """
    from cli.key_access import check_dev_chain
    from cli.new_home import check_absent, check_labels, compose_genesis, labels, make_keys, write_home
    from cli.new_home import dev_keys as public_keys
    from cli.values import now_ms
    from ledger.address import address_of, to_text
    from node.home import Home

    check_absent(session.home)
    chain_id = chain_id or _ask("--chain-id", "Chain id")
    texts = organisations or (_ask("--organisation", "Your organisation, as ID:NAME"),)
    brands = _brands(texts, members)
    check_labels(brands)
    if dev_keys:
        check_dev_chain(chain_id, "public development keys")
    time_ms = now_ms()
    known = public_keys(brands)
    genesis = compose_genesis(chain_id, time_ms, brands, {label: key.public for label, key in known.items()})
    home = Home(session.home)
    files = [str(home.config_file), str(home.genesis_file), str(home.signing_record)]
    if not dev_keys:
        files += [str(home.keys / f"{label}.json") for label in labels(brands)]
    if dry_run:
        data = {"home": str(home.path), "chain_id": chain_id, "files": files, "dry_run": True}
        lines = [f"Would create a home for the chain {chain_id}:", *(f"  {file}" for file in files)]
        session.result("init", data, "\n".join(lines), next="the same command without --dry-run")
        return

    words = ""
    if not dev_keys:
        passphrase = session.passphrase(passphrase_file, confirm=True)
        Home.create(session.home)
        known, words = make_keys(home, labels(brands), passphrase, int(count))
        genesis = compose_genesis(chain_id, time_ms, brands, {label: key.public for label, key in known.items()})
    write_home(session.home, genesis, dev=dev_keys)

    prefix = "dev:" if dev_keys else ""
    keys = [
        {"key": prefix + label, "address": to_text(address_of(key.public)), "public_key": key.public.hex()}
        for label, key in known.items()
    ]
    data = {
        "home": str(home.path),
        "chain_id": chain_id,
        "genesis_id": genesis.id().hex(),
        "keys": keys,
        "files": files,
        "words": words.split(),
        "dry_run": False,
    }

    def text() -> str:
        from cli.commands.keys import numbered

        parts = [
            f"Created {home.path} for the chain {chain_id} (genesis {genesis.id().hex()}).",
            session.table(("key", "address"), [(key["key"], key["address"]) for key in keys]),
        ]
        if words:
            parts.append(
                f"The new keys come from these words, as accounts 0 to {len(keys) - 1} in this order:\n\n"
                f"{numbered(words)}\n\n"
                "They are shown this once and kept nowhere. Write them on paper: they alone bring the keys back."
            )
        return "\n\n".join(parts)

    session.result("init", data, text, next=session.command("node start"))


def _ask(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise click.MissingParameter(param_hint=option, param_type="option")
    answer: str = click.prompt(question, err=True)
    return answer


def _brands(texts: tuple[str, ...], members: tuple[str, ...]) -> list[Brand]:
    from cli.new_home import Brand
    from ledger.address import from_text
    from ledger.genesis import Member

    given: dict[str, list[Member]] = {}
    for text in members:
        organisation, _, rest = text.partition(":")
        address, _, roles = rest.partition(":")
        if not roles:
            raise click.BadParameter(f"{text!r} is not ORGANISATION:ADDRESS:ROLES", param_hint="--member")
        account = Member(from_text(address), tuple(sorted(role.strip() for role in roles.split(","))))
        given.setdefault(organisation, []).append(account)
    brands = []
    for text in texts:
        identifier, _, name = text.partition(":")
        brands.append(Brand(identifier, name or identifier, tuple(given.pop(identifier, ()))))
    if given:
        raise click.BadParameter(f"{next(iter(given))!r} is no --organisation here", param_hint="--member")
    return brands
