from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.errors import Invalid, TrothError
from ledger.hashes import transaction_hash
from ledger.transaction import Call, SignedTransaction, Transaction, check_signatures, decode
from tests.chains import account, key, mint, signed

_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=32)
_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=40)
_ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | _TEXT,
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)
_ACTORS = st.lists(st.sampled_from(["alice", "bob", "carol", "dave"]), min_size=1, max_size=4, unique=True)


@st.composite
def _transactions(draw: st.DrawFn) -> tuple[Transaction, list[str]]:
    names = draw(_ACTORS)
    calls = draw(
        st.lists(
            st.builds(
                Call, st.integers(0, len(names) - 1), _NAMES, _NAMES, st.lists(_ARGUMENTS, max_size=4).map(tuple)
            ),
            min_size=1,
            max_size=5,
        )
    )
    transaction = Transaction(
        1,
        draw(_TEXT),
        tuple([account(name) for name in names]),
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.integers(1, 2**53 - 1)),
        draw(st.integers(1, 2**48)),
        tuple(calls),
        draw(_TEXT),
    )
    return transaction, names


@settings(derandomize=True, deadline=None)
@given(_transactions())
def test_round_trip(made: tuple[Transaction, list[str]]) -> None:
    transaction, names = made
    signed_by = transaction.sign([key(name) for name in names])
    found = decode(signed_by.raw)
    assert found == signed_by and found.transaction == transaction
    check_signatures(found)
    assert codec.encode((codec.encode(found.transaction), found.signatures)) == signed_by.raw


@settings(derandomize=True, deadline=None)
@given(_transactions(), st.data())
def test_the_id_never_covers_signatures(made: tuple[Transaction, list[str]], data: st.DataObject) -> None:
    transaction, names = made
    signed_by = transaction.sign([key(name) for name in names])
    assert signed_by.id == transaction_hash(codec.encode(transaction))
    signatures = tuple(
        [each._replace(signature=data.draw(st.binary(min_size=64, max_size=64))) for each in signed_by.signatures]
    )
    assert decode(codec.encode((codec.encode(transaction), signatures))).id == signed_by.id


_SAMPLE = signed(["alice", "roaster"], mint("bob", 70_000), mint("carol", 2, "order-7"), nonce=1 << 40, memo="tea")


def _stands(raw: bytes) -> SignedTransaction | None:
    """The transaction of bytes that decode and whose signatures verify, else None."""
    try:
        found = decode(raw)
        check_signatures(found)
    except TrothError:
        return None
    return found


def test_every_truncated_encoding_is_refused() -> None:
    for length in range(len(_SAMPLE.raw)):
        try:
            decode(_SAMPLE.raw[:length])
        except Invalid as error:
            assert error.code == "E-CODEC-001"
        else:
            raise AssertionError(f"the first {length} bytes were taken")


def test_every_extended_encoding_is_refused() -> None:
    for byte in range(256):
        assert _stands(_SAMPLE.raw + bytes([byte])) is None
        assert _stands(bytes([byte]) + _SAMPLE.raw) is None


def test_no_flipped_bit_leaves_a_transaction_that_stands() -> None:
    # Bytes that differ and still decode are another transaction (another id) or carry a signature that does not hold.
    decoded = 0
    for index in range(len(_SAMPLE.raw)):
        for bit in range(8):
            raw = bytearray(_SAMPLE.raw)
            raw[index] ^= 1 << bit
            try:
                found = decode(bytes(raw))
            except Invalid:
                continue
            decoded += 1
            assert found.raw != _SAMPLE.raw
            assert found.id != _SAMPLE.id or found.signatures != _SAMPLE.signatures
            assert _stands(bytes(raw)) is None
    assert decoded > 1_000  # flips within nonces, texts and signatures are well-formed


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    assert _stands(raw) is None


@settings(derandomize=True, deadline=None)
@given(_ARGUMENTS)
def test_foreign_values_are_refused_and_nothing_else_happens(value: object) -> None:
    for shaped in (value, (value, ()), (codec.encode(value), (value,)), (codec.encode((value,) * 8), ())):  # type: ignore[arg-type]
        assert _stands(codec.encode(shaped)) is None  # type: ignore[arg-type]
