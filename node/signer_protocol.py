"""What a node and its signer say to each other over a Unix socket.

A frame is the length of its body (4 bytes, big-endian) and the body, the canonical bytes (`ledger.codec`) of one of

    node      HELLO      [1, version, chain id]            first, and once
              SIGN       [2, payload]                      a consensus payload
              STATUS     [3, version]                      alone: looks, takes no place, gets no signature
    signer    WELCOME    [1, address, public key, record]  to HELLO; record as `consensus.guard.encode_record` has it
              SIGNATURE  [2, signature]                    to SIGN
              REPORT     [3, address, public key, record, busy]  to STATUS; busy: whether a node is connected
              REFUSAL    [4, class, code, cause, fix]      to any

Rules kept here:
- a frame has 1 to 4096 bytes, judged before its body is awaited; a body that is not exactly one of the above ends the
  connection: no later byte has a meaning;
- one answer to each request, in order; a request follows the answer to the last one;
- both ends belong to one user (SO_PEERCRED), beside the modes of folder (0700) and socket (0600).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from consensus.guard import MAX_RECORD_BYTES, Record, decode_record, encode_record
from ledger import codec
from ledger.errors import CODES, Fault, Forbidden, Invalid, Refused, TrothError, Unavailable, define
from ledger.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES

UNREACHABLE = define(
    "E-SIGNER-001", "the signer does not answer", "start it: troth signer start; see the setting validator.signer"
)
BUSY = define(
    "E-SIGNER-002",
    "another node uses the signer",
    "stop the other node: two nodes of one validator only hinder each other",
)
WRONG_CHAIN = define("E-SIGNER-003", "the signer is of another chain", "name the signer of this chain's validator")
BAD_PEER = define("E-SIGNER-004", "the other end of the socket is another user's", "run node and signer as one user")
BAD_MESSAGE = define("E-SIGNER-005", "not a message of the signer's protocol", "use one version of troth for both ends")
OTHER_VERSION = define("E-SIGNER-006", "the signer's protocol has another version", "use one version of troth for both")
CHANGED = define(
    "E-SIGNER-007", "the signer is not the one it was", "find out who exchanged its key; start the node again"
)
REFUSED = define("E-SIGNER-008", "the signer refused", "see its log")
LONG_PATH = define("E-SIGNER-009", "the socket's path is too long", "use a home with a shorter path")
SOCKET_FAILED = define("E-SIGNER-010", "the socket could not be made", "check the folder and its permissions")

VERSION = 1
MAX_FRAME_BYTES = 4096
TEXT_MAX = 1024
"""The longest cause or fix in a refusal, in characters."""

MAX_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux, in bytes: `sun_path` has 108, one of them for the end."""

_HELLO, _SIGN, _STATUS = 1, 2, 3
_WELCOME, _SIGNATURE, _REPORT, _REFUSAL = 1, 2, 3, 4
_CLASSES: dict[str, type[TrothError]] = {
    kind.__name__: kind for kind in (Invalid, Refused, Forbidden, Unavailable, Fault)
}
_head = struct.Struct(">I")
_credentials = struct.Struct("iII")


class Hello(NamedTuple):
    """A node wants to have statements of this chain signed."""

    version: int
    chain_id: str


class Sign(NamedTuple):
    """The bytes to be signed."""

    payload: bytes


class Status(NamedTuple):
    """Someone wants to know how the signer does."""

    version: int


class Welcome(NamedTuple):
    """Who signs, and what was signed last."""

    address: bytes
    public_key: bytes
    record: Record


class Signature(NamedTuple):
    """64 bytes."""

    signature: bytes


class Report(NamedTuple):
    """A `Welcome`, and whether a node is connected."""

    address: bytes
    public_key: bytes
    record: Record
    busy: bool


Request: TypeAlias = Hello | Sign | Status
Answer: TypeAlias = Welcome | Signature | Report | TrothError


class Peer(NamedTuple):
    """The process at the other end, as the kernel knows it."""

    pid: int
    uid: int


def encode_request(request: Request) -> bytes:
    """The frame of a request. Raises Invalid (E-SIGNER-005) where it is too long."""
    kind = {Hello: _HELLO, Sign: _SIGN, Status: _STATUS}[type(request)]
    return _frame((kind, *request))


def decode_request(body: bytes) -> Request:
    """The request of a frame's body. Raises Invalid (E-SIGNER-005)."""
    kind, fields = _fields(body)
    if kind == _HELLO and _are(fields, _is_number, _is_text):
        return Hello(*fields)
    if kind == _SIGN and _are(fields, _is_bytes):
        return Sign(*fields)
    if kind == _STATUS and _are(fields, _is_number):
        return Status(*fields)
    raise Invalid(BAD_MESSAGE, f"not a request of kind {kind!r:.20}")


def encode_answer(answer: Answer) -> bytes:
    """The frame of an answer. An error becomes a REFUSAL; one of another class than may be sent becomes a Fault."""
    if isinstance(answer, TrothError):
        name = type(answer).__name__
        known = name if name in _CLASSES else Fault.__name__
        return _frame((_REFUSAL, known, answer.code, _printable(answer.cause), _printable(answer.fix)))
    if isinstance(answer, Signature):
        return _frame((_SIGNATURE, answer.signature))
    fields = (answer.address, answer.public_key, encode_record(answer.record))
    return _frame((_REPORT, *fields, answer.busy) if isinstance(answer, Report) else (_WELCOME, *fields))


def decode_answer(body: bytes) -> Answer:
    """The answer of a frame's body; a refusal as the error it is, not raised.

    Raises Invalid (E-SIGNER-005), Fault (E-GUARD-003) for a record that is none.
    """
    kind, fields = _fields(body)
    if kind in (_WELCOME, _REPORT):
        more = (_is_truth,) if kind == _REPORT else ()
        if _are(fields, _sized(20), _sized(PUBLIC_KEY_BYTES), _is_record, *more):
            address, public_key, record = fields[0], fields[1], decode_record(fields[2])
            welcome = Welcome(address, public_key, record)
            return Report(*welcome, fields[3]) if kind == _REPORT else welcome
    if kind == _SIGNATURE and _are(fields, _sized(SIGNATURE_BYTES)):
        return Signature(*fields)
    if kind == _REFUSAL and _are(fields, *[_is_text] * 4) and fields[0] in _CLASSES:
        name, code, cause, fix = fields
        if code in CODES:
            return _CLASSES[name](code, cause, fix=fix)
        return _CLASSES[name](REFUSED, f"{code} {cause}", fix=fix)
    raise Invalid(BAD_MESSAGE, f"not an answer of kind {kind!r:.20}")


async def read_body(stream: asyncio.StreamReader, patience_seconds: float) -> bytes | None:
    """The body of the next frame; None where the other end has closed before one began.

    Waits for the beginning of a frame for as long as it takes, and `patience_seconds` for the rest of it. Raises
    Invalid (E-SIGNER-005), TimeoutError, ConnectionError.
    """
    first = await stream.read(1)
    if not first:
        return None
    try:
        async with asyncio.timeout(patience_seconds):
            (length,) = _head.unpack(first + await stream.readexactly(_head.size - 1))
            if not 0 < length <= MAX_FRAME_BYTES:
                raise Invalid(BAD_MESSAGE, f"a frame of {length} bytes; it may have 1 to {MAX_FRAME_BYTES}")
            return await stream.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("it ended within a frame") from None


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end of a Unix socket, at the time when it was connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
    pid, uid, _ = _credentials.unpack(raw)
    return Peer(pid, uid)


def check_peer(peer: Peer) -> None:
    """Raises Forbidden (E-SIGNER-004) unless the process is this one's own user's."""
    if peer.uid != os.geteuid():
        raise Forbidden(BAD_PEER, f"process {peer.pid} is of user {peer.uid}, this one of {os.geteuid()}")


def check_version(version: int) -> None:
    """Raises Refused (E-SIGNER-006) for another version than this."""
    if version != VERSION:
        raise Refused(OTHER_VERSION, f"asked in version {version}, answered in {VERSION}")


def check_path(path: Path) -> None:
    """Raises Invalid (E-SIGNER-009) where no socket can have this path."""
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise Invalid(LONG_PATH, f"{path} has {size} bytes; a socket's path may have {MAX_PATH_BYTES}")


def _frame(fields: tuple[Any, ...]) -> bytes:
    body = codec.encode(fields)
    if len(body) > MAX_FRAME_BYTES:
        raise Invalid(BAD_MESSAGE, f"a message of {len(body)} bytes; it may have {MAX_FRAME_BYTES}")
    return _head.pack(len(body)) + body


def _fields(body: bytes) -> tuple[Any, tuple[Any, ...]]:
    try:
        fields = codec.decode(body, max_bytes=MAX_FRAME_BYTES)
    except Invalid as error:
        raise Invalid(BAD_MESSAGE, f"not canonical: {error.cause}") from None
    if type(fields) is not tuple or not fields or type(fields[0]) is not int:
        raise Invalid(BAD_MESSAGE, "a message is an array that begins with its kind")
    return fields[0], fields[1:]


def _printable(text: str) -> str:
    """Text as the codec takes it, and no longer than a frame allows: causes may quote what others wrote."""
    ascii_only = text.encode("ascii", "backslashreplace").decode()[:TEXT_MAX]
    return "".join([character if character.isprintable() else " " for character in ascii_only])


_Check: TypeAlias = Callable[[Any], bool]


def _are(fields: tuple[Any, ...], *checks: _Check) -> bool:
    return len(fields) == len(checks) and all(check(value) for check, value in zip(checks, fields, strict=True))


def _is_number(value: Any) -> bool:
    return type(value) is int


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_bytes(value: Any) -> bool:
    return type(value) is bytes


def _is_truth(value: Any) -> bool:
    return type(value) is bool


def _is_record(value: Any) -> bool:
    return type(value) is bytes and len(value) <= MAX_RECORD_BYTES


def _sized(size: int) -> _Check:
    return lambda value: type(value) is bytes and len(value) == size
