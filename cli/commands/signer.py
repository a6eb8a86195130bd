"""`troth signer`: a validator's key and signing record in a process of its own."""

from __future__ import annotations

from pathlib import Path

import click

from cli.groups import TrothGroup
from cli.options import passphrase_file_option
from cli.session import Session, pass_session


@click.group(cls=TrothGroup)
def signer() -> None:
    """Hold a validator's key in a process of its own, which a node asks over a Unix socket.

    The node names the socket in its setting validator.signer, and then has no key itself. The signer signs statements
    of consensus only, and each position once, whatever it is asked.
    """


@signer.command()
@passphrase_file_option
@pass_session
def start(session: Session, passphrase_file: Path | None) -> None:
    """Open the validator's key of this home and sign for a node until Ctrl-C or SIGTERM.

    The home needs config.toml, the key of its setting validator.key, and signing/record. It may be the node's own home
    or another one: stop the node, and move key file and record together. Never copy a record: two that are used would
    sign twice.
    """
    from cli.key_access import open_key
    from ledger.address import to_text
    from node.log import configure
    from node.signer import GuardedKey
    from node.signer_protocol import check_path
    from node.signer_server import run_signer
    from node.signing_record import RecordFile

    home = session.open_home()
    config = session.config
    socket = home.signer_socket.absolute()
    check_path(socket)
    with RecordFile(home.signing_record) as record_file:  # before a passphrase is asked for in vain
        chain_id = record_file.record.chain_id
        key = open_key(session, home, config.validator.key, passphrase_file, chain_id=chain_id)
        configure(config.log.level, config.log.format)
        guarded = GuardedKey(key, record_file)
        address = to_text(guarded.address)

        def started() -> None:
            session.result(
                "signer",
                {
                    "socket": str(socket),
                    "address": address,
                    "public_key": key.public.hex(),
                    "chain_id": chain_id,
                },
                f"Signing for {address} on {chain_id}.\nsocket  {socket}",
                next=f'set in the config.toml of the node, below [validator]: signer = "{socket}"\nCtrl-C stops it.',
            )

        run_signer(guarded, socket, started=started)


@signer.command()
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    help="The signer's socket. Default: the setting validator.signer, or that of this home's own signer.",
)
@pass_session
def status(session: Session, socket: Path | None) -> None:
    """Say how a signer does. Exit code 6 where none answers."""
    import asyncio

    from ledger.address import to_text
    from node.home import Home
    from node.signer_client import ask_status

    path = socket or session.config.signer_socket or Home(session.home).signer_socket
    report = asyncio.run(ask_status(path.absolute()))
    record = report.record
    step = record.step.name.replace("_", "-")
    address = to_text(report.address)
    data = {
        "socket": str(path.absolute()),
        "address": address,
        "public_key": report.public_key.hex(),
        "chain_id": record.chain_id,
        "height": record.height,
        "round": record.round,
        "step": step,
        "node_connected": report.busy,
    }
    last = f"{step} of height {record.height} round {record.round}" if record.payload else "nothing so far"
    lines = [
        f"The signer at {path} signs for {address} on {record.chain_id}.",
        f"It signed last: {last}.",
        "A node is connected." if report.busy else "No node is connected.",
    ]
    session.result("signer-status", data, "\n".join(lines))
