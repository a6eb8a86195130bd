from __future__ import annotations

import pytest

from ledger import codec
from ledger.errors import Invalid
from ledger.receipt import Event, Receipt, decode_receipt

_DONE = Receipt(
    bytes(32),
    "",
    (),
    None,
    360,
    (Event("points", "Minted", ("beans", bytes(range(20)), 5)), Event("points", "Paused", ("beans",))),
    (None, ("registered", None, 1)),
)
_UNDONE = Receipt(bytes(range(32)), "E-POINTS-004", (bytes(20), 3, 5), 2, 900, (), ())


@pytest.mark.parametrize("receipt", [_DONE, _UNDONE])
def test_what_is_decoded_is_what_was_encoded(receipt: Receipt) -> None:
    found = decode_receipt(codec.encode(receipt))
    assert found == receipt
    assert all(type(event) is Event for event in found.events)


def test_the_code_tells_whether_it_took_effect() -> None:
    assert _DONE.ok
    assert not _UNDONE.ok


def test_the_encoding_is_positional() -> None:
    assert codec.decode(codec.encode(_UNDONE)) == tuple(_UNDONE)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        (),
        tuple(_DONE)[:6],
        (*_DONE, 1),
        _DONE._replace(transaction_id=bytes(31)),
        _DONE._replace(code=None),  # type: ignore[arg-type]
        _DONE._replace(detail=None),  # type: ignore[arg-type]
        _DONE._replace(failed_call="2"),  # type: ignore[arg-type]
        _DONE._replace(gas_used=-1),
        _DONE._replace(gas_used=True),
        _DONE._replace(events=None),  # type: ignore[arg-type]
        _DONE._replace(events=(("points", "Minted"),)),  # type: ignore[arg-type]
        _DONE._replace(events=(("points", 7, ()),)),  # type: ignore[arg-type]
        _DONE._replace(events=(7,)),  # type: ignore[arg-type]
        _DONE._replace(results=7),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_receipt_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        decode_receipt(codec.encode(value))  # type: ignore[arg-type]
    assert caught.value.code == "E-RECEIPT-001"


def test_bytes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        decode_receipt(codec.encode(_DONE) + b"\0")
    assert caught.value.code == "E-CODEC-001"
