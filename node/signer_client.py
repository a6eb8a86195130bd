"""The node's end of a signer in another process (`node.signer_server`).

Rules kept here:
- a request whose answer did not come is asked again, on a new connection, with the same bytes: the guard signs the
  same bytes again, and nothing else in their place, so neither end can lead the other to a second signature;
- a late answer is never taken for the next request's: whatever goes wrong, be it a cancelled request, ends the
  connection; and every signature is verified before it is handed on;
- the signer that is found again must hold the same key, and a record that is not older than what was signed for this
  node: an older one was rolled back, and nothing more is asked of it (E-GUARD-004);
- a signer that is away costs the node a few seconds once, and then an attempt for each request, not more: the node
  follows the chain meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from consensus.guard import ROLLED_BACK, Record, advance
from ledger.address import address_of, to_text
from ledger.errors import Fault, Invalid, Refused, TrothError, Unavailable
from ledger.keys import verify
from node.signer_protocol import (
    BAD_MESSAGE,
    CHANGED,
    UNREACHABLE,
    VERSION,
    WRONG_CHAIN,
    Answer,
    Hello,
    Report,
    Request,
    Sign,
    Signature,
    Status,
    Welcome,
    check_path,
    check_peer,
    decode_answer,
    encode_request,
    peer_of,
    read_body,
)

T = TypeVar("T")


class Patience(NamedTuple):
    """How long a node waits for its signer, in seconds.

    `answer_seconds` for one answer; `whole_seconds` for a signature, connecting again and again; pauses between
    attempts double from `pause_seconds` to `pause_most_seconds`.
    """

    answer_seconds: float = 2.0
    whole_seconds: float = 3.0
    pause_seconds: float = 0.02
    pause_most_seconds: float = 0.5


class _Connection:
    """One connection to a signer's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: Patience) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience

    @classmethod
    async def open(cls, path: Path, patience: Patience) -> _Connection:
        """Raises Unavailable (E-SIGNER-001), Forbidden (E-SIGNER-004), Invalid (E-SIGNER-009)."""
        check_path(path)
        try:
            async with asyncio.timeout(patience.answer_seconds):
                reader, writer = await asyncio.open_unix_connection(os.fspath(path))
        except OSError as error:
            raise _away(path, error) from error
        made = cls(reader, writer, patience)
        try:
            check_peer(peer_of(writer.get_extra_info("socket")))
        except TrothError:
            made.close()
            raise
        return made

    async def ask(self, request: Request) -> Answer:
        """The answer, which may be a refusal. Raises OSError, Invalid (E-SIGNER-005), Fault."""
        self._writer.write(encode_request(request))
        async with asyncio.timeout(self._patience.answer_seconds):
            await self._writer.drain()
            body = await read_body(self._reader, self._patience.answer_seconds)
        if body is None:
            raise ConnectionResetError("it ended the connection")
        return decode_answer(body)

    def close(self) -> None:
        """Ends it at once."""
        self._writer.transport.abort()


class RemoteSigner:
    """A `node.signer.Signer` whose key is in another process. Made by `open`."""

    def __init__(self, path: Path, chain_id: str, patience: Patience) -> None:
        self.path = path
        self.chain_id = chain_id
        self.address = b""
        self.public_key = b""
        self._patience = patience
        self._record: Record | None = None
        self._connection: _Connection | None = None
        self._turn = asyncio.Lock()
        self._well = True

    @classmethod
    async def open(cls, path: Path, chain_id: str, patience: Patience | None = None) -> RemoteSigner:
        """Connects. Raises Unavailable (E-SIGNER-001, E-SIGNER-002), and what the signer refuses with."""
        made = cls(path, chain_id, patience or Patience())
        made._connection = await made._insist(made._connect)
        return made

    def record(self) -> Record:
        """As `node.signer.Signer.record`: what this node has had signed, and what the signer said at its last HELLO."""
        if self._record is None:
            raise Unavailable(UNREACHABLE, f"{self.path} was never connected")
        return self._record

    async def sign(self, payload: bytes) -> bytes:
        """As `node.signer.Signer.sign`. Also raises Unavailable: E-SIGNER-001, E-SIGNER-002."""
        return await self._insist(lambda: self._ask(payload))

    async def close(self) -> None:
        """Ends the connection: another node may have the signer."""
        async with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Attempts again, while the signer is away, until patience ends."""
        async with self._turn:
            clock = asyncio.get_running_loop().time
            deadline = clock() + (self._patience.whole_seconds if self._well else 0.0)
            pause = self._patience.pause_seconds
            while True:
                try:
                    result = await attempt()
                except Unavailable:
                    if clock() + pause > deadline:
                        self._well = False
                        raise
                else:
                    self._well = True
                    return result
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._patience.pause_most_seconds)

    async def _ask(self, payload: bytes) -> bytes:
        connection = self._connection or await self._connect()
        self._connection = None  # until the answer is there, whole: what fails or is cancelled ends the connection
        try:
            answer = await connection.ask(Sign(payload))
            if isinstance(answer, Signature) and verify(self.public_key, payload, answer.signature):
                self._record = advance(self.record(), payload)
            elif not isinstance(answer, TrothError):
                raise Fault(CHANGED, "it did not answer with a signature of its key")
        except OSError as error:
            connection.close()
            raise _away(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        if isinstance(answer, TrothError):
            raise answer
        return answer.signature

    async def _connect(self) -> _Connection:
        connection = await _Connection.open(self.path, self._patience)
        try:
            self._welcome(await connection.ask(Hello(VERSION, self.chain_id)))
        except OSError as error:
            connection.close()
            raise _away(self.path, error) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _welcome(self, answer: Answer) -> None:
        """Takes the signer for the one it says to be. Raises Refused (E-GUARD-004), Fault (E-SIGNER-007)."""
        if isinstance(answer, TrothError):
            raise answer
        if not isinstance(answer, Welcome) or answer.address != address_of(answer.public_key):
            raise Invalid(BAD_MESSAGE, "not the answer to HELLO")
        before, found = self._record, answer.record
        if found.chain_id != self.chain_id:
            raise Refused(WRONG_CHAIN, f"its record is of {found.chain_id}, not of {self.chain_id}")
        if before is not None:
            if answer.public_key != self.public_key:
                raise Fault(CHANGED, f"it was {to_text(self.address)}, and is {to_text(answer.address)}")
            if found.position < before.position or (found.position == before.position and found != before):
                raise Refused(ROLLED_BACK, f"the signer at {self.path} has signed more than its record says")
        self.address, self.public_key, self._record = answer.address, answer.public_key, found


async def ask_status(path: Path, patience: Patience | None = None) -> Report:
    """How the signer at a socket does. Takes no node's place. Raises Unavailable (E-SIGNER-001)."""
    connection = await _Connection.open(path, patience or Patience())
    try:
        answer = await connection.ask(Status(VERSION))
    except OSError as error:
        raise _away(path, error) from error
    finally:
        connection.close()
    if isinstance(answer, TrothError):
        raise answer
    if not isinstance(answer, Report):
        raise Invalid(BAD_MESSAGE, "asked how it does, answered with something else")
    return answer


def _away(path: Path, error: Exception) -> Unavailable:
    reason = getattr(error, "strerror", None) or str(error) or "it was too slow"
    return Unavailable(UNREACHABLE, f"the signer at {path}: {reason}")
