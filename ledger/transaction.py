"""Transactions: calls by one or several actors, each of whom signs.

A signed transaction is `[body, signatures]`: `body` is the canonical encoding of the transaction proper, carried as
bytes so that it is hashed and signed exactly as it was received.

    body        [version, chain id, actors, nonce, valid_until, gas limit, calls, memo]
    actors      addresses, distinct; the first bears the quota
    calls       [actor index, contract, method, arguments] each; all take effect or none
    signatures  [actor index, public key, signature] each, strictly ascending by index and key; at least one an actor

Rules kept here:
- the id is the tagged hash of the body and never covers signatures, so re-signing gives the same transaction;
- no sequence numbers: a random nonce and `valid_until` (block time, in ms) make an id unique, and an id is
  accepted once;
- a signature speaks for an actor where its key hashes to the actor's address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ledger import codec
from ledger.address import ADDRESS_BYTES, NULL_ADDRESS, address_of, to_text
from ledger.errors import Invalid, Refused, define
from ledger.hashes import transaction_hash
from ledger.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, check_public_key, verify

TRANSACTION_VERSION = 1
NONCE_BYTES = 8
MAX_TRANSACTION_BYTES = 256 << 10
MAX_CALLS = 1_000
MAX_ACTORS = 16
MAX_MEMO_CHARACTERS = 256
MAX_GAS = 2**48
MAX_TIME_MS = 2**53 - 1

MALFORMED = define("E-TX-001", "malformed transaction", "build it as docs/spec/bytes.md describes, or with `troth`")
TOO_LARGE = define(
    "E-TX-002", "transaction too large", f"send at most {MAX_CALLS} calls and {MAX_TRANSACTION_BYTES} bytes"
)
WRONG_CHAIN = define(
    "E-TX-003", "transaction for another chain", "sign it for the chain id this node serves: GET /v1/chain"
)
EXPIRED = define("E-TX-004", "transaction expired", "build and sign it again with a later valid_until")
TOO_FAR = define("E-TX-005", "valid_until too far ahead", "choose a valid_until within the chain's validity window")
UNSIGNED = define("E-TX-007", "an actor has not signed", "have every actor sign the transaction: `troth tx sign`")
OVER_SIGNED = define("E-TX-008", "a signature too many", "remove signatures that belong to no actor of the transaction")
BAD_SIGNATURE = define(
    "E-TX-009", "a signature does not verify", "sign the transaction's id again with the actor's key"
)
WRONG_KEY = define("E-TX-010", "the key is not the actor's", "sign with the key that the actor's address was made from")

_SIGNING_PREFIX = b"troth/sign/transaction\0"
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class Call(NamedTuple):
    """One call: `actor` is an index into the transaction's actors, `arguments` a tuple of codec values."""

    actor: int
    contract: str
    method: str
    arguments: tuple[Any, ...]


class Signature(NamedTuple):
    """One actor's signature over the transaction id."""

    actor: int
    public_key: bytes
    signature: bytes


class Transaction(NamedTuple):
    """The part of a transaction that is signed. Times are block time in ms since 1970-01-01 UTC."""

    version: int
    chain_id: str
    actors: tuple[bytes, ...]
    nonce: bytes
    valid_until_ms: int
    gas_limit: int
    calls: tuple[Call, ...]
    memo: str

    def sign(self, keys: Sequence[PrivateKey]) -> SignedTransaction:
        """The transaction signed by `keys`, each for the actor whose address it has. Refuses a key of no actor."""
        body = codec.encode(self)
        identifier = transaction_hash(body)
        message = signing_message(identifier)
        signatures = []
        for key in keys:
            address = address_of(key.public)
            if address not in self.actors:
                raise Refused(OVER_SIGNED, f"{to_text(address)} is no actor of this transaction")
            signatures.append(Signature(self.actors.index(address), key.public, key.sign(message)))
        return assemble(self, body, tuple(sorted(signatures)))


class SignedTransaction(NamedTuple):
    """A transaction, its signatures, its id (32 bytes) and the bytes it travels in."""

    transaction: Transaction
    signatures: tuple[Signature, ...]
    id: bytes
    raw: bytes

    def signature_checks(self) -> list[tuple[bytes, bytes, bytes]]:
        """(public key, message, signature) of each signature, for `ledger.keys.verify_many`."""
        message = signing_message(self.id)
        return [(public_key, message, signature) for _, public_key, signature in self.signatures]


def signing_message(identifier: bytes) -> bytes:
    """What an actor signs: the id under a tag of its own, so no other signed object can pass for it."""
    return _SIGNING_PREFIX + identifier


def assemble(transaction: Transaction, body: bytes, signatures: tuple[Signature, ...]) -> SignedTransaction:
    """Joins a transaction, its encoding and signatures. Checks nothing: use `decode` for foreign bytes."""
    return SignedTransaction(transaction, signatures, transaction_hash(body), codec.encode((body, signatures)))


def decode(raw: bytes) -> SignedTransaction:
    """The signed transaction of canonical bytes, with every rule checked that needs no state and no cryptography.

    Raises Invalid: E-TX-002 too large, E-CODEC-... not canonical, E-TX-001 a field of the wrong form, E-TX-007 and
    E-TX-008 signatures missing or too many, E-TX-010 a key that is not its actor's.
    """
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise Invalid(TOO_LARGE, f"the transaction has {len(raw)} bytes, at most {MAX_TRANSACTION_BYTES} are taken")
    outer = codec.decode(raw)
    if type(outer) is not tuple or len(outer) != 2 or type(outer[0]) is not bytes or type(outer[1]) is not tuple:
        raise Invalid(MALFORMED, "a signed transaction is [body, signatures]")
    body, signatures = outer
    transaction = decode_body(body)
    return SignedTransaction(transaction, _check_signatures(transaction, signatures), transaction_hash(body), raw)


def decode_body(body: bytes) -> Transaction:
    """The transaction of canonical body bytes. Raises Invalid like `decode`."""
    fields = codec.decode(body, max_bytes=MAX_TRANSACTION_BYTES)
    if type(fields) is not tuple or len(fields) != 8:
        raise Invalid(MALFORMED, "a transaction body has 8 fields")
    version, chain_id, actors, nonce, valid_until, gas_limit, calls, memo = fields
    if version != TRANSACTION_VERSION or type(version) is not int:
        raise Invalid(MALFORMED, f"transaction version {version!r}; this software knows {TRANSACTION_VERSION}")
    if type(chain_id) is not str:
        raise Invalid(MALFORMED, "the chain id must be text")
    if type(actors) is not tuple or not 0 < len(actors) <= MAX_ACTORS:
        raise Invalid(MALFORMED, f"a transaction has 1 to {MAX_ACTORS} actors")
    for actor in actors:
        if type(actor) is not bytes or len(actor) != ADDRESS_BYTES or actor == NULL_ADDRESS:
            raise Invalid(MALFORMED, f"an actor is an address of {ADDRESS_BYTES} bytes, not all zero")
    if len(actors) > 1 and len(frozenset(actors)) != len(actors):
        raise Invalid(MALFORMED, "an actor is named twice")
    if type(nonce) is not bytes or len(nonce) != NONCE_BYTES:
        raise Invalid(MALFORMED, f"the nonce must be {NONCE_BYTES} bytes")
    if type(valid_until) is not int or not 0 < valid_until <= MAX_TIME_MS:
        raise Invalid(MALFORMED, "valid_until must be a time in ms")
    if type(gas_limit) is not int or not 0 < gas_limit <= MAX_GAS:
        raise Invalid(MALFORMED, f"the gas limit must be 1 to {MAX_GAS}")
    if type(memo) is not str or len(memo) > MAX_MEMO_CHARACTERS:
        raise Invalid(MALFORMED, f"the memo must be text of at most {MAX_MEMO_CHARACTERS} characters")
    if type(calls) is not tuple or not calls:
        raise Invalid(MALFORMED, "a transaction has at least one call")
    if len(calls) > MAX_CALLS:
        raise Invalid(TOO_LARGE, f"{len(calls)} calls, at most {MAX_CALLS} are taken")
    return Transaction(
        version,
        chain_id,
        actors,
        nonce,
        valid_until,
        gas_limit,
        tuple([_check_call(call, len(actors)) for call in calls]),
        memo,
    )


def _check_call(call: object, actors: int) -> Call:
    if type(call) is not tuple or len(call) != 4:
        raise Invalid(MALFORMED, "a call is [actor index, contract, method, arguments]")
    actor, contract, method, arguments = call
    if type(actor) is not int or not 0 <= actor < actors:
        raise Invalid(MALFORMED, "a call's actor is an index into the transaction's actors")
    if type(contract) is not str or not _is_name(contract) or type(method) is not str or not _is_name(method):
        raise Invalid(MALFORMED, "contract and method are names of a-z, 0-9 and _, at most 32 characters")
    if type(arguments) is not tuple:
        raise Invalid(MALFORMED, "a call's arguments are an array")
    return Call(actor, contract, method, arguments)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= 32 and _NAME_CHARACTERS.issuperset(name)


def _check_signatures(transaction: Transaction, signatures: tuple[Any, ...]) -> tuple[Signature, ...]:
    actors = transaction.actors
    if len(signatures) > len(actors):
        raise Invalid(OVER_SIGNED, f"{len(signatures)} signatures for {len(actors)} actors")
    checked: list[Signature] = []
    for entry in signatures:
        if type(entry) is not tuple or len(entry) != 3:
            raise Invalid(MALFORMED, "a signature is [actor index, public key, signature]")
        actor, public_key, signature = entry
        if type(actor) is not int or type(public_key) is not bytes or type(signature) is not bytes:
            raise Invalid(MALFORMED, "a signature is [integer, bytes, bytes]")
        if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            raise Invalid(MALFORMED, f"a public key has {PUBLIC_KEY_BYTES} bytes, a signature {SIGNATURE_BYTES}")
        if not 0 <= actor < len(actors):
            raise Invalid(OVER_SIGNED, f"a signature for actor {actor}, there are {len(actors)}")
        if checked and checked[-1][:2] >= (actor, public_key):
            raise Invalid(OVER_SIGNED, "signatures must ascend by actor and key, without repeats")
        if address_of(public_key) != actors[actor]:
            check_public_key(public_key)
            raise Invalid(WRONG_KEY, f"key {public_key.hex()} does not belong to {to_text(actors[actor])}")
        checked.append(Signature(actor, public_key, signature))
    signers = {entry[0] for entry in checked}
    for index, actor in enumerate(actors):
        if index not in signers:
            raise Invalid(UNSIGNED, f"{to_text(actor)} has not signed")
    return tuple(checked)


def check_signatures(signed: SignedTransaction) -> None:
    """Raises Invalid where a signature does not verify: E-KEY-001 if its key is to blame, else E-TX-009.

    `verify` alone decides, here as in a worker process; the look at the key only explains a refusal.
    """
    for public_key, message, signature in signed.signature_checks():
        if not verify(public_key, message, signature):
            check_public_key(public_key)
            raise Invalid(BAD_SIGNATURE, f"the signature of key {public_key.hex()} does not verify")


def check_chain(transaction: Transaction, chain_id: str) -> None:
    """Raises Refused (E-TX-003) where the transaction was signed for another chain."""
    if transaction.chain_id != chain_id:
        raise Refused(WRONG_CHAIN, f"signed for chain {transaction.chain_id!r}, this is {chain_id!r}")


def check_validity(transaction: Transaction, block_time_ms: int, window_ms: int) -> None:
    """Raises Refused unless block_time < valid_until <= block_time + window (E-TX-004, E-TX-005)."""
    ahead = transaction.valid_until_ms - block_time_ms
    if ahead <= 0:
        raise Refused(EXPIRED, f"it was valid until {transaction.valid_until_ms} ms, block time is {block_time_ms} ms")
    if ahead > window_ms:
        raise Refused(TOO_FAR, f"valid_until is {ahead} ms ahead, at most {window_ms} ms are allowed")
