from __future__ import annotations

from typing import Any

import pytest

from ledger import codec
from ledger.address import address_of
from ledger.errors import Invalid, Refused, TrothError
from ledger.hashes import transaction_hash
from ledger.keys import verify
from ledger.transaction import (
    MAX_ACTORS,
    MAX_CALLS,
    MAX_TRANSACTION_BYTES,
    Call,
    Signature,
    SignedTransaction,
    Transaction,
    check_chain,
    check_signatures,
    check_validity,
    decode,
    decode_body,
    signing_message,
)
from tests.chains import SMALL_ORDER_KEY, account, call, key, mint, signed, unsigned

_PLAIN = unsigned(["alice"], [mint("bob", 5)], memo="coffee")
_PAIR = unsigned(["roaster", "alice"], [mint("alice", 5), call("points.burn", "beans", 2, actor=1)])


def _refused(raw: bytes) -> TrothError:
    with pytest.raises(Invalid) as caught:
        decode(raw)
    assert caught.value.cause and caught.value.fix
    return caught.value


def _raw(transaction: object, signatures: object) -> bytes:
    return codec.encode((codec.encode(transaction), signatures))  # type: ignore[arg-type]


def _signature(transaction: Transaction, name: str, actor: int = 0) -> Signature:
    message = signing_message(transaction_hash(codec.encode(transaction)))
    return Signature(actor, key(name).public, key(name).sign(message))


def _forms(transaction: Any) -> bytes:
    """Signed bytes of any codec value, as if it were a transaction of alice's."""
    return _raw(transaction, (_signature(transaction, "alice"),))


@pytest.mark.parametrize(("transaction", "names"), [(_PLAIN, ["alice"]), (_PAIR, ["roaster", "alice"])])
def test_what_is_decoded_is_what_was_signed(transaction: Transaction, names: list[str]) -> None:
    made = transaction.sign([key(name) for name in names])
    found = decode(made.raw)
    assert found == made
    assert found.transaction == transaction
    assert all(type(each) is Call for each in found.transaction.calls)
    check_signatures(found)


def test_the_id_is_the_tagged_hash_of_the_body_alone() -> None:
    made = _PLAIN.sign([key("alice")])
    body, signatures = codec.decode(made.raw)
    assert body == codec.encode(_PLAIN)
    assert made.id == transaction_hash(body)
    forged = ((*signatures[0][:2], bytes(64)),)
    other = decode(codec.encode((body, forged)))
    assert other.id == made.id and other.raw != made.raw
    with pytest.raises(Invalid) as caught:
        check_signatures(other)
    assert caught.value.code == "E-TX-009"


def test_the_order_in_which_keys_sign_does_not_matter() -> None:
    keys = [key("roaster"), key("alice")]
    assert _PAIR.sign(keys) == _PAIR.sign(keys[::-1])


def test_a_key_of_no_actor_does_not_sign() -> None:
    with pytest.raises(Refused) as caught:
        _PLAIN.sign([key("alice"), key("bob")])
    assert caught.value.code == "E-TX-008"


def test_what_is_signed_is_the_id_under_its_own_tag() -> None:
    made = _PLAIN.sign([key("alice")])
    [(public, message, signature)] = made.signature_checks()
    assert message == b"troth/sign/transaction\0" + made.id
    assert verify(public, message, signature)
    assert not verify(public, made.id, signature)


_WRONG_FIELDS: dict[str, Any] = {
    "version 0": {"version": 0},
    "version 2": {"version": 2},
    "version true": {"version": True},
    "chain id of bytes": {"chain_id": b"test-chain"},
    "no actors": {"actors": ()},
    "actors no array": {"actors": account("alice")},
    "too many actors": {"actors": tuple([account(str(number)) for number in range(MAX_ACTORS + 1)])},
    "short address": {"actors": (account("alice")[:19],)},
    "null address": {"actors": (bytes(20),)},
    "actor twice": {"actors": (account("alice"), account("alice"))},
    "short nonce": {"nonce": bytes(7)},
    "nonce of integer": {"nonce": 8},
    "valid until 0": {"valid_until_ms": 0},
    "valid until beyond time": {"valid_until_ms": 2**53},
    "valid until true": {"valid_until_ms": True},
    "gas 0": {"gas_limit": 0},
    "gas beyond": {"gas_limit": 2**48 + 1},
    "gas text": {"gas_limit": "5000"},
    "no calls": {"calls": ()},
    "calls no array": {"calls": 1},
    "call no array": {"calls": (1,)},
    "call of three": {"calls": ((0, "points", "mint"),)},
    "call of an absent actor": {"calls": (Call(1, "points", "mint", ()),)},
    "call of actor -1": {"calls": (Call(-1, "points", "mint", ()),)},
    "call of actor false": {"calls": ((False, "points", "mint", ()),)},
    "contract in capitals": {"calls": (Call(0, "Points", "mint", ()),)},
    "contract empty": {"calls": (Call(0, "", "mint", ()),)},
    "method too long": {"calls": (Call(0, "points", "m" * 33, ()),)},
    "method beyond ASCII": {"calls": (Call(0, "points", "münze", ()),)},
    "arguments no array": {"calls": ((0, "points", "mint", 7),)},
    "memo too long": {"memo": "m" * 257},
    "memo of bytes": {"memo": b"coffee"},
}


@pytest.mark.parametrize("change", _WRONG_FIELDS.values(), ids=_WRONG_FIELDS)
def test_a_field_of_the_wrong_form_is_refused(change: dict[str, Any]) -> None:
    assert _refused(_forms(_PLAIN._replace(**change))).code == "E-TX-001"


@pytest.mark.parametrize("value", [None, 7, b"", "", (), tuple(_PLAIN)[:7], (*_PLAIN, 1)])
def test_a_body_that_is_no_transaction_is_refused(value: Any) -> None:
    assert _refused(_forms(value)).code == "E-TX-001"


def test_the_bounds_themselves_are_taken() -> None:
    names = [f"actor-{number}" for number in range(MAX_ACTORS)]
    widest = unsigned(
        names,
        [Call(MAX_ACTORS - 1, "a" * 32, "_9" * 16, ())] * MAX_CALLS,
        valid_until_ms=2**53 - 1,
        gas_limit=2**48,
        memo="m" * 256,
    ).sign([key(name) for name in names])
    assert decode(widest.raw) == widest


@pytest.mark.parametrize("value", [None, 7, (), (b"",), (b"", (), ()), ((), ()), (b"", b""), ("", ())], ids=repr)
def test_bytes_that_are_no_signed_transaction_are_refused(value: Any) -> None:
    assert _refused(codec.encode(value)).code == "E-TX-001"


def test_too_large() -> None:
    calls = [call("points.mint", "beans", account("bob"), 5)] * (MAX_CALLS + 1)
    assert _refused(signed("alice", *calls).raw).code == "E-TX-002"
    long = signed("alice", call("points.mint", bytes(MAX_TRANSACTION_BYTES)))
    assert _refused(long.raw).code == "E-TX-002"
    with pytest.raises(Invalid) as caught:
        decode_body(codec.encode(long.transaction))
    assert caught.value.code == "E-CODEC-003"


def test_the_largest_size_is_taken() -> None:
    room = MAX_TRANSACTION_BYTES - len(signed("alice", call("points.mint", bytes(1 << 17))).raw) + (1 << 17)
    assert len(decode(signed("alice", call("points.mint", bytes(room))).raw).raw) == MAX_TRANSACTION_BYTES


def test_not_canonical() -> None:
    made = _PLAIN.sign([key("alice")])
    body, signatures = codec.decode(made.raw)
    assert body[1] == 1  # the version, right after the head of the array
    long_version = body[:1] + b"\xcc\x01" + body[2:]
    assert _refused(codec.encode((long_version, signatures))).code == "E-CODEC-002"
    assert made.raw[:1] == b"\x92"
    assert _refused(b"\xdc\x00\x02" + made.raw[1:]).code == "E-CODEC-002"
    assert _refused(made.raw + b"\0").code == "E-CODEC-001"
    assert _refused(made.raw[:-1]).code == "E-CODEC-001"
    assert _refused(b"").code == "E-CODEC-001"


def test_unsigned() -> None:
    assert _refused(_raw(_PLAIN, ())).code == "E-TX-007"
    assert _refused(_raw(_PAIR, (_signature(_PAIR, "alice", 1),))).code == "E-TX-007"


def test_over_signed() -> None:
    once = _signature(_PLAIN, "alice")
    assert _refused(_raw(_PLAIN, (once, once))).code == "E-TX-008"
    assert _refused(_raw(_PLAIN, (once._replace(actor=1),))).code == "E-TX-008"
    assert _refused(_raw(_PLAIN, (once._replace(actor=-1),))).code == "E-TX-008"
    pair = (_signature(_PAIR, "roaster"), _signature(_PAIR, "alice", 1))
    assert decode(_raw(_PAIR, pair)).signatures == pair
    assert _refused(_raw(_PAIR, pair[::-1])).code == "E-TX-008"
    assert _refused(_raw(_PAIR, (pair[0], pair[0]))).code == "E-TX-008"
    assert _refused(_raw(_PAIR, (*pair, once))).code == "E-TX-008"


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "0"},
        {"actor": False},
        {"public_key": 7},
        {"public_key": bytes(31)},
        {"signature": bytes(63)},
        {"signature": bytes(65)},
        {"signature": None},
    ],
    ids=str,
)
def test_a_signature_of_the_wrong_form_is_refused(change: dict[str, Any]) -> None:
    assert _refused(_raw(_PLAIN, (_signature(_PLAIN, "alice")._replace(**change),))).code == "E-TX-001"


def test_another_account_cannot_sign() -> None:
    error = _refused(_raw(_PLAIN, (_signature(_PLAIN, "bob"),)))
    assert error.code == "E-TX-010"
    assert key("bob").public.hex() in error.cause


def test_a_small_order_key_signs_for_nobody() -> None:
    weak = _PLAIN._replace(actors=(address_of(SMALL_ORDER_KEY),))
    # S = 0 with R the neutral point is a signature of every message under such a key, where a verifier lets it.
    forged = Signature(0, SMALL_ORDER_KEY, (1).to_bytes(32, "little") + bytes(32))
    made = decode(_raw(weak, (forged,)))
    with pytest.raises(Invalid) as caught:
        check_signatures(made)
    assert caught.value.code == "E-KEY-001"
    # As another's key it is named for what it is at once.
    assert _refused(_raw(_PLAIN, (forged,))).code == "E-KEY-001"


def _with_signature(made: SignedTransaction, signature: bytes) -> SignedTransaction:
    return made._replace(signatures=(made.signatures[0]._replace(signature=signature),))


def test_each_byte_of_a_signature_counts() -> None:
    made = _PLAIN.sign([key("alice")])
    good = made.signatures[0].signature
    for index in range(64):
        bad = bytes([*good[:index], good[index] ^ 1, *good[index + 1 :]])
        with pytest.raises(Invalid) as caught:
            check_signatures(_with_signature(made, bad))
        assert caught.value.code == "E-TX-009"


def test_every_signature_is_verified() -> None:
    made = _PAIR.sign([key("roaster"), key("alice")])
    for index in range(2):
        signatures = list(made.signatures)
        signatures[index] = signatures[index]._replace(signature=bytes(64))
        with pytest.raises(Invalid):
            check_signatures(made._replace(signatures=tuple(signatures)))


def test_a_signature_is_of_one_chain() -> None:
    there = _PLAIN._replace(chain_id="other-chain")
    moved = decode(_raw(there, (_signature(_PLAIN, "alice"),)))
    with pytest.raises(Invalid):
        check_signatures(moved)
    with pytest.raises(Refused) as caught:
        check_chain(there, "test-chain")
    assert caught.value.code == "E-TX-003"
    check_chain(_PLAIN, "test-chain")


@pytest.mark.parametrize(
    ("ahead", "code"), [(-1, "E-TX-004"), (0, "E-TX-004"), (1, ""), (999, ""), (1_000, ""), (1_001, "E-TX-005")]
)
def test_the_window_of_validity(ahead: int, code: str) -> None:
    now = _PLAIN.valid_until_ms - ahead
    if code:
        with pytest.raises(Refused) as caught:
            check_validity(_PLAIN, now, 1_000)
        assert caught.value.code == code
    else:
        check_validity(_PLAIN, now, 1_000)
