from __future__ import annotations

from typing import Any

import pytest

from ledger import codec
from ledger.block import Certificate, Seal
from ledger.errors import Invalid
from node.sync_messages import BLOCKS_MAX, Blocks, Get, Status, SyncMessage, decode, encode

_ID = b"\1" * 32
_CERTIFICATE = Certificate(7, 2, _ID, (Seal(b"\2" * 20, b"\3" * 64), Seal(b"\4" * 20, b"\5" * 64)))


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (Status(0, _ID), (1, 0, _ID)),
        (Status((1 << 40) - 1, _ID), (1, (1 << 40) - 1, _ID)),
        (Get(1, 1), (2, 1, 1)),
        (Get(9, BLOCKS_MAX), (2, 9, BLOCKS_MAX)),
        (Blocks(7, ()), (3, 7, ())),
        (Blocks(7, ((b"block", _CERTIFICATE),)), (3, 7, ((b"block", _CERTIFICATE),))),
    ],
)
def test_messages_and_their_bytes(message: SyncMessage, fields: tuple[Any, ...]) -> None:
    assert encode(message) == codec.encode(fields)
    assert decode(encode(message)) == message and type(decode(encode(message))) is type(message)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (1,),
        (1, 1),
        (1, 1, _ID, 1),
        1,
        "text",
        ("1", 1, _ID),
        (True, 1, _ID),
        (0, 1, _ID),
        (4, 1, _ID),
        (1, -1, _ID),
        (1, 1 << 40, _ID),
        (1, "1", _ID),
        (1, True, _ID),
        (1, 1, _ID[:-1]),
        (1, 1, None),
        (2, 0, 1),
        (2, 1, 0),
        (2, 1, BLOCKS_MAX + 1),
        (2, 1, -1),
        (2, 1, True),
        (3, 0, ()),
        (3, 1, None),
        (3, 1, ((b"block",),)),
        (3, 1, ((b"block", _CERTIFICATE, 1),)),
        (3, 1, (("block", _CERTIFICATE),)),
        (3, 1, (b"block",)),
        (3, 1, ((b"block", _CERTIFICATE),) * (BLOCKS_MAX + 1)),
    ],
)
def test_malformed_messages(fields: Any) -> None:
    with pytest.raises(Invalid) as caught:
        decode(codec.encode(fields))
    assert caught.value.code == "E-SYNC-001"


@pytest.mark.parametrize("certificate", [None, (), (1, 0, _ID), (1, 0, _ID[:-1], ()), (1, 0, _ID, ((b"x", b"y"),))])
def test_a_malformed_certificate(certificate: Any) -> None:
    with pytest.raises(Invalid):
        decode(codec.encode((3, 1, ((b"block", certificate),))))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01", b"\x93\xcd\x00\x01\x01\xc4\x00", bytes(40)])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode(data)
