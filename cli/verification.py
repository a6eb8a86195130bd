"""Checking a node's answer against the genesis document alone.

Rules kept here:
- what is trusted: the genesis file of this machine, and this program. Nothing that the node says is;
- a header counts where a quorum of the genesis validators has sealed its id (`consensus.quorum.check_certificate`);
  that of height 0 where it is the one that the genesis document leads to, its state computed here;
- a cell counts where its ICS-23 proof leads to a header's state root, under the key computed here from what was asked;
- a transaction counts where its bytes hash to the id asked for, its signatures verify, and RFC 6962 proofs place it and
  its receipt, which names it, under one header's roots at one index;
- the shown value is decoded here from the proven bytes, never taken from the answer's readable part.

What no proof can tell: whether the node has withheld newer blocks. So height and time of the header are always said.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from consensus.quorum import check_certificate
from ledger import codec
from ledger.block import Header, certificate_of, header_of, validators_root
from ledger.errors import TrothError, VerifyFailed, define
from ledger.genesis import Genesis
from ledger.ics23 import CommitmentProof, verify_state_absence, verify_state_membership
from ledger.merkle import InclusionProof
from ledger.receipt import Receipt, decode_receipt
from ledger.state_tree import StateTree, root_hash
from ledger.transaction import SignedTransaction, check_chain, check_signatures, decode
from vm.executor import execute_genesis
from vm.registry import Registry

UNPROVEN = define("E-VERIFY-001", "the answer is not proven", "do not trust this node's answer; ask another node")
NO_PROOF = define("E-VERIFY-002", "the answer carries no proof", "ask a node that keeps the state of that height")


class ProvenCell(NamedTuple):
    """A cell that is proven to have `value` (encoded; None: to be absent) after the block of `header`."""

    header: Header
    value: bytes | None
    checks: tuple[str, ...]


class ProvenTransaction(NamedTuple):
    """A transaction and its receipt, proven to stand at `position` of the block of `header`."""

    header: Header
    position: int
    signed: SignedTransaction
    receipt: Receipt
    checks: tuple[str, ...]


def verify_header(
    registry: Registry, genesis: Genesis, header_hex: Any, certificate_hex: Any
) -> tuple[Header, tuple[str, ...]]:
    """The header of an answer, proven final, and what was checked in words. Raises VerifyFailed."""
    header = header_of(codec.decode(_bytes(header_hex, "header")))
    if header.chain_id != genesis.chain_id:
        _fail(f"the header is of chain {header.chain_id!r}, the genesis file of {genesis.chain_id!r}")
    if header.validators_root != validators_root(genesis.validators):
        _fail(f"the header of height {header.height} names other validators than the genesis file")
    block_id = header.id()
    if header.height == 0:
        if certificate_hex is not None:
            _fail("the header of height 0 comes with a certificate, which it cannot have")
        return header, (_check_genesis_header(registry, genesis, header),)
    certificate = certificate_of(codec.decode(_bytes(certificate_hex, "certificate")))
    if certificate.height != header.height:
        _fail(f"the certificate is of height {certificate.height}, the header of {header.height}")
    check_certificate(certificate, genesis.chain_id, block_id, genesis.validators)
    return header, (
        f"block {header.height} ({block_id.hex()[:16]}...) is final: {len(certificate.seals)} of"
        f" {len(genesis.validators)} validators of the genesis file sealed it",
    )


def _check_genesis_header(registry: Registry, genesis: Genesis, header: Header) -> str:
    cells = execute_genesis(registry, genesis)
    state_root = root_hash(StateTree(lambda number: None).update(None, cells, 0).root)
    if header.parent_id != genesis.id() or header.state_root != state_root or header.time_ms != genesis.time_ms:
        _fail("the header of height 0 is not the one that the genesis file leads to")
    return "height 0 is the state that the genesis file leads to, computed here"


def verify_cell(registry: Registry, genesis: Genesis, key: bytes, answer: dict[str, Any]) -> ProvenCell:
    """The cell of `key` out of an answer of `GET /v1/state/...?proof=1`. Raises VerifyFailed."""
    with _Failing():
        proof = _object(answer.get("proof"))
        header, checks = verify_header(registry, genesis, proof.get("header"), proof.get("certificate"))
        commitment = CommitmentProof.decode(_bytes(proof.get("commitment"), "commitment"))
        value = None if answer.get("value_bytes") is None else _bytes(answer["value_bytes"], "value")
        if value is None:
            verify_state_absence(header.state_root, key, commitment)
            what = f"the state after block {header.height} holds nothing under the key: ICS-23 proof of absence"
        else:
            verify_state_membership(header.state_root, key, value, commitment)
            what = f"the value is in the state after block {header.height}: ICS-23 proof of existence"
        return ProvenCell(header, value, (*checks, what))


def verify_transaction(
    registry: Registry, genesis: Genesis, identifier: bytes, answer: dict[str, Any]
) -> ProvenTransaction:
    """The transaction of that id out of an answer of `GET /v1/transactions/ID?proof=1`. Raises VerifyFailed."""
    with _Failing():
        proof = _object(answer.get("proof"))
        header, checks = verify_header(registry, genesis, proof.get("header"), proof.get("certificate"))
        raw = _bytes(proof.get("transaction_bytes"), "transaction")
        signed = decode(raw)
        if signed.id != identifier:
            _fail(f"the transaction sent is {signed.id.hex()}, another one was asked for")
        check_chain(signed.transaction, genesis.chain_id)
        check_signatures(signed)
        place = _inclusion(proof.get("transaction"))
        if not place.verify(raw, header.transactions_root):
            _fail("the transaction's path does not lead to the header's transactions root")
        encoded = _bytes(proof.get("receipt_bytes"), "receipt")
        receipt_place = _inclusion(proof.get("receipt"))
        if not receipt_place.verify(encoded, header.receipts_root):
            _fail("the receipt's path does not lead to the header's receipts root")
        if (receipt_place.index, receipt_place.size) != (place.index, place.size):
            _fail("transaction and receipt stand at different places of the block")
        receipt = decode_receipt(encoded)
        if receipt.transaction_id != identifier:
            _fail("the receipt is of another transaction")
        return ProvenTransaction(
            header,
            place.index,
            signed,
            receipt,
            (
                *checks,
                "the transaction is in that block: RFC 6962 proof",
                f"its {len(signed.signatures)} signature(s) verify, by keys of its actors",
                "the receipt, which names it, is under the same header at the same place: RFC 6962 proof",
            ),
        )


class _Failing:
    """Turns whatever is wrong with an answer into VerifyFailed: a malformed proof proves no more than a false one."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TrothError) and not isinstance(error, VerifyFailed):
            raise VerifyFailed(UNPROVEN, f"{error.code} {error.cause}") from error


def _inclusion(value: Any) -> InclusionProof:
    given = _object(value)
    path = given.get("path")
    if type(path) is not list:
        _fail("a Merkle path is missing")
    steps = tuple([_bytes(step, "a step of a path") for step in path])
    return InclusionProof.from_value((given.get("index"), given.get("size"), steps))


def _bytes(value: Any, what: str) -> bytes:
    if type(value) is not str:
        _fail(f"the {what} is missing")
    try:
        return bytes.fromhex(value)
    except ValueError:
        _fail(f"the {what} is not hexadecimal")


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise VerifyFailed(NO_PROOF, "the node sent no proof")
    return value


def _fail(reason: str) -> NoReturn:
    raise VerifyFailed(UNPROVEN, reason)
