"""`troth join`: the genesis document that the members composed becomes that of this home."""

from __future__ import annotations

from pathlib import Path

import click

from cli.session import Session, pass_session
from ledger.errors import Refused, VerifyFailed, define

NOT_IN_IT = define(
    "E-JOIN-001",
    "the home's keys are not in the genesis document",
    "have it composed with the file that `troth genesis member` made from this home",
)
OTHER_CHAIN = define("E-JOIN-002", "the home is in another network", "use another home for each network: --home")
OTHER_ID = define(
    "E-JOIN-003", "not the genesis document that was agreed on", "compare the members' files and compose again"
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--id", "expected", metavar="HEX", help="Take it only if this is its id, as you agreed on it.")
@pass_session
def join(session: Session, file: Path, expected: str | None) -> None:
    """Take the genesis document FILE into this home, after which its node can start.

    It is taken only where this home's validator key and node key are in it. Once it is there it stays: the same
    document again changes nothing, and another one is refused.
    """
    from cli.founding import own_part
    from cli.trust import read_genesis
    from ledger.genesis import parse_genesis
    from ledger.node_address import parse_address
    from node import signing_record

    home = session.open_home()
    document = read_genesis(file)
    identifier = document.id().hex()
    if expected is not None and expected.lower() != identifier:
        raise VerifyFailed(OTHER_ID, f"the id of {file} is {identifier}, not {expected.lower()}")
    known = home.genesis_file.exists()
    if known:
        present = parse_genesis(home.read_text(home.genesis_file))
        if present.id() != document.id():
            cause = f"{home.path} is in the chain {present.chain_id}, genesis {present.id().hex()}; {file} is another"
            raise Refused(OTHER_CHAIN, cause)
    own = own_part(home, session.config, document)
    if own.missing:
        raise Refused(NOT_IN_IT, "; ".join(own.missing))
    listening = session.config.network.port
    told = [address for node in document.nodes if node.organisation == own.node for address in node.addresses]
    if told and all(parse_address(address).port != listening for address in told):
        session.warn(f"the others look for this node at {', '.join(told)}, and network.port is {listening} here")
    if not known:
        # The record first: with a genesis document and no record, a validator would refuse to sign.
        signing_record.create(home.signing_record, document.chain_id)
        home.write_new(home.genesis_file, document.to_json())
    data = {
        "home": str(home.path),
        "chain_id": document.chain_id,
        "genesis_id": identifier,
        "organisation": own.validator,
        "already": known,
    }
    state = "is in the network already" if known else "is in the network now"
    text = f"{home.path} {state}: chain {document.chain_id}, genesis {identifier}, as {own.validator}."
    session.result("join", data, text, next=session.command("node start"))
