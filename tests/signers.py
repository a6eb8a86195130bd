"""What tests of signers are written with: homes of a key and a record, payloads, raw talk with a signer's socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consensus.messages import Claim, Kind, Statement, Vote, signed_payload
from ledger.keys import PrivateKey
from node.signer import GuardedKey
from node.signer_protocol import Answer, Request, decode_answer, encode_request
from node.signing_record import RecordFile, create
from tests.consensus_kit import CHAIN, A, address

KEY = PrivateKey(b"\x07" * 32)
OTHER_KEY = PrivateKey(b"\x08" * 32)


def payload(statement: Statement, chain: str = CHAIN) -> bytes:
    """The bytes to be signed for a statement."""
    return signed_payload(chain, statement)


def commit(height: int, of: bytes = A, round_: int = 0, chain: str = CHAIN) -> bytes:
    """The bytes to be signed for a COMMIT."""
    return payload(Vote(Kind.COMMIT, height, round_, of, address(1)), chain)


def claim(height: int, round_: int) -> bytes:
    """The bytes to be signed for a ROUND-CHANGE that nothing was prepared before."""
    return payload(Claim(height, round_, None, None, address(1)))


def signing_home(folder: Path, chain: str = CHAIN) -> Path:
    """The path of a new record in a folder."""
    path = folder / "signing" / "record"
    create(path, chain)
    return path


def guarded_key(record: Path, key: PrivateKey = KEY) -> GuardedKey:
    """A key with the record at that path, locked until it is closed."""
    return GuardedKey(key, RecordFile(record))


class Raw:
    """One connection to a signer's socket, without the patience and the checks of the real client."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))

    def send(self, request: Request) -> None:
        """Sends a request."""
        self.socket.sendall(encode_request(request))

    def answer(self) -> Answer | None:
        """The next answer; None where the signer has ended the connection."""
        head = self._read(4)
        return None if head is None else decode_answer(self._read(struct.unpack(">I", head)[0]) or b"")

    def ask(self, request: Request) -> Answer | None:
        """Sends a request and reads the answer."""
        self.send(request)
        return self.answer()

    def _read(self, size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            try:
                more = self.socket.recv(size - len(found))
            except ConnectionResetError:
                return None
            if not more:
                return None
            found += more
        return found


@contextmanager
def raw(path: Path) -> Iterator[Raw]:
    """A raw connection, closed on the way out."""
    made = Raw(path)
    try:
        yield made
    finally:
        made.socket.close()
