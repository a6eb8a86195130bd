"""A node of nothing but its network, as a process: tests start, kill and pause it, and cut its cable.

    python -m tests.end_to_end.network_process FOLDER NAME HOST PORT NAME=HOST:PORT ...

It says on stdout who comes and goes and what it hears, one JSON array a line: ["+", name], ["-", name, reason],
["heard", name, text]. Four times a second it broadcasts a number that rises, so that silence means a cut.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from ledger.node_address import parse_address
from ledger.node_certificate import certificate_key
from node.log import configure
from node.network.bans import Reason
from node.network.frames import Channel
from node.network.peers import Peers, RegisteredNode
from tests.networks import NETWORK, QUICK, certificate, identity

SETTINGS = QUICK._replace(silent_seconds=1.0, dial_seconds=1.0, handshake_seconds=1.0, tick_seconds=0.05)


class _Voice:
    def __init__(self, names: dict[bytes, str]) -> None:
        self._names = names

    def connected(self, peer: bytes) -> None:
        self._say("+", peer)

    def disconnected(self, peer: bytes, reason: Reason) -> None:
        self._say("-", peer, reason.word)

    def received(self, peer: bytes, channel: Channel, messages: list[bytes]) -> None:
        for message in messages:
            self._say("heard", peer, message.decode())

    def _say(self, event: str, peer: bytes, *more: str) -> None:
        print(json.dumps([event, self._names[peer], *more]), flush=True)


async def serve(folder: Path, name: str, listen: str, others: dict[str, str]) -> None:
    """Runs until SIGTERM."""
    places = {name: listen, **others}
    nodes = [RegisteredNode(each, certificate(each), (parse_address(place),)) for each, place in places.items()]
    names = {certificate_key(certificate(each)): each for each in places}
    peers = Peers(identity(folder, name), NETWORK, _Voice(names), SETTINGS)
    peers.register(nodes)
    await peers.start(parse_address(listen))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    number = 0
    while not stopping.is_set():
        number += 1
        peers.broadcast(Channel.CONSENSUS, str(number).encode())
        try:
            await asyncio.wait_for(stopping.wait(), 0.25)
        except TimeoutError:
            continue
    await peers.stop()


def main() -> None:
    """The command."""
    folder, name, host, port, *others = sys.argv[1:]
    configure("info", "json")
    known = dict(other.split("=", 1) for other in others)
    asyncio.run(serve(Path(folder), name, f"{host}:{port}", known))


if __name__ == "__main__":
    main()
