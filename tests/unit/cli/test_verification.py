"""Proofs by hand: a chain of two validators whose answers are true, and each way in which one can be false."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.verification import verify_cell, verify_header, verify_transaction
from ledger import codec, merkle
from ledger.address import address_of
from ledger.block import (
    BLOCK_VERSION,
    NO_COMMIT_ROOT,
    Certificate,
    Header,
    Seal,
    Validator,
    commit_message,
    validators_root,
)
from ledger.errors import TrothError, VerifyFailed
from ledger.genesis import GENESIS_VERSION, Genesis, Member, Organisation, Parameters
from ledger.keys import PrivateKey
from ledger.state_proof import prove
from ledger.state_tree import StateTree, root_hash
from ledger.transaction import Call, SignedTransaction, Transaction
from node.contracts import registry
from node.keystore import dev_key
from tests.harness import START_MS
from vm.context import BlockInfo
from vm.executor import BlockExecution, execute_genesis
from vm.overlay import cell_key

KEYS = sorted([dev_key("validator-one"), dev_key("validator-two")], key=lambda key: address_of(key.public))
ISSUER = dev_key("issuer")
ADDRESS = address_of(ISSUER.public)
HOLDER, STRANGER = b"\x01" * 20, b"\x02" * 20


def genesis_of(keys: list[PrivateKey], time_ms: int = START_MS) -> Genesis:
    validators = tuple([Validator(address_of(key.public), key.public, 1, "roaster") for key in keys])
    members = (Member(ADDRESS, ("administrator", "issuer")),)
    organisations = (Organisation("roaster", "The Roaster", members),)
    return Genesis(GENESIS_VERSION, "dev-proof", time_ms, Parameters(), validators, organisations)


GENESIS = genesis_of(KEYS)


class World:
    """One block after genesis: a programme is created and points are minted."""

    def __init__(self) -> None:
        rows: dict[int, bytes] = {}
        self.tree = StateTree(rows.get)
        cells = execute_genesis(registry(), GENESIS)
        start = self.tree.update(None, cells, 0)
        rows.update(start.rows)
        self.root_0 = start.root
        content = dict(cells)
        calls = (
            Call(0, "points", "create", ("beans", "Beans", None, "points", 0)),
            Call(0, "points", "mint", ("beans", HOLDER, 5)),
        )
        self.signed = Transaction(1, "dev-proof", (ADDRESS,), bytes(8), START_MS + 60_000, 9_000, calls, "").sign(
            [ISSUER]
        )
        other = self.signed.transaction._replace(nonce=b"\x01" * 8).sign([ISSUER])
        block = BlockInfo("dev-proof", 1, START_MS + 250)
        execution = BlockExecution(registry(), GENESIS.parameters, block, content.get, lambda _: False)
        self.transactions = [self.signed, other]
        for signed in self.transactions:
            execution.admit(signed)
            execution.apply(signed)
        result = execution.finish()
        self.receipts = result.encoded_receipts
        update = self.tree.update(self.root_0, result.changes, 1)
        rows.update(update.rows)
        self.root_1 = update.root
        self.raws = [signed.raw for signed in self.transactions]
        self.header = self.make_header(1, START_MS + 250, root_hash(update.root))

    def make_header(self, height: int, time_ms: int, state_root: bytes, **changes: Any) -> Header:
        empty = merkle.root(())
        validators = validators_root(GENESIS.validators)
        header = Header(
            BLOCK_VERSION,
            1,
            "dev-proof",
            height,
            time_ms,
            GENESIS.id(),
            GENESIS.validators[0].address if height else bytes(20),
            merkle.root(self.raws) if height else empty,
            merkle.root(self.receipts) if height else empty,
            state_root,
            validators,
            validators,
            empty,
            NO_COMMIT_ROOT,
        )
        return header._replace(**changes)

    def seal(self, header: Header, keys: list[PrivateKey] = KEYS, *, height: int | None = None) -> str:
        height = header.height if height is None else height
        message = commit_message("dev-proof", height, 0, header.id())
        seals = tuple([Seal(address_of(key.public), key.sign(message)) for key in keys])
        return codec.encode(Certificate(height, 0, header.id(), seals)).hex()

    def cell(self, contract: str, cell_map: str, key: Any) -> tuple[bytes, dict[str, Any]]:
        raw_key = cell_key((registry().contract(contract).maps[cell_map].prefix, key))
        value = self.tree.get(self.root_1, raw_key)
        proof = {
            "commitment": prove(self.tree, self.root_1, raw_key).encode().hex(),
            "header": codec.encode(self.header).hex(),
            "certificate": self.seal(self.header),
        }
        return raw_key, {"value_bytes": None if value is None else value.hex(), "value": "anything", "proof": proof}

    def transaction(self, position: int = 0) -> dict[str, Any]:
        def inclusion(leaves: Any) -> dict[str, Any]:
            proof = merkle.prove(leaves, position)
            return {"index": proof.index, "size": proof.size, "path": [step.hex() for step in proof.path]}

        return {
            "proof": {
                "header": codec.encode(self.header).hex(),
                "certificate": self.seal(self.header),
                "transaction": inclusion(self.raws),
                "transaction_bytes": self.raws[position].hex(),
                "receipt": inclusion(self.receipts),
                "receipt_bytes": self.receipts[position].hex(),
            }
        }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    yield World()


def fails(check: Callable[[], object], reason: str) -> None:
    with pytest.raises(VerifyFailed) as caught:
        check()
    assert reason in caught.value.cause
    assert caught.value.exit_code == 3


def test_a_true_cell_is_proven(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", HOLDER))
    proven = verify_cell(registry(), GENESIS, key, answer)
    assert codec.decode(proven.value or b"") == (5, False)
    assert proven.header == world.header
    assert proven.checks == (
        f"block 1 ({world.header.id().hex()[:16]}...) is final: 2 of 2 validators of the genesis file sealed it",
        "the value is in the state after block 1: ICS-23 proof of existence",
    )


def test_a_true_absence_is_proven(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", STRANGER))
    proven = verify_cell(registry(), GENESIS, key, answer)
    assert proven.value is None
    assert "absence" in proven.checks[-1]


def test_height_0_follows_from_the_genesis_document_alone(world: World) -> None:
    key = cell_key((registry().contract("organisations").maps["member"].prefix, ADDRESS))
    header = world.make_header(0, START_MS, root_hash(world.root_0))
    answer = {
        "value_bytes": (world.tree.get(world.root_0, key) or b"").hex(),
        "proof": {
            "commitment": prove(world.tree, world.root_0, key).encode().hex(),
            "header": codec.encode(header).hex(),
            "certificate": None,
        },
    }
    assert verify_cell(registry(), GENESIS, key, answer).value is not None
    forged = world.make_header(0, START_MS, root_hash(world.root_1))
    fails(lambda: verify_header(registry(), GENESIS, codec.encode(forged).hex(), None), "not the one that the genesis")
    later = world.make_header(0, START_MS + 1, root_hash(world.root_0))
    fails(lambda: verify_header(registry(), GENESIS, codec.encode(later).hex(), None), "not the one that the genesis")
    sealed = codec.encode(header).hex(), world.seal(header)
    fails(lambda: verify_header(registry(), GENESIS, *sealed), "which it cannot have")


def test_a_cell_under_another_key_value_or_kind_fails(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", HOLDER))
    other_key, absent = world.cell("points", "account", ("beans", STRANGER))
    changed = {**answer, "value_bytes": codec.encode((6, False)).hex()}
    fails(lambda: verify_cell(registry(), GENESIS, key, changed), "about another value")
    fails(lambda: verify_cell(registry(), GENESIS, other_key, answer), "about another key")
    fails(lambda: verify_cell(registry(), GENESIS, key, absent), "about another key")
    fails(lambda: verify_cell(registry(), GENESIS, key, {**answer, "value_bytes": None}), "absence was expected")
    fails(
        lambda: verify_cell(registry(), GENESIS, other_key, {**absent, "value_bytes": "00"}), "existence was expected"
    )


def test_an_older_state_under_a_newer_header_fails(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", HOLDER))
    forged = world.make_header(1, START_MS + 250, root_hash(world.root_0))
    proof = {**answer["proof"], "header": codec.encode(forged).hex(), "certificate": world.seal(forged)}
    fails(lambda: verify_cell(registry(), GENESIS, key, {**answer, "proof": proof}), "does not lead to this root")


def test_headers_that_no_quorum_sealed_fail(world: World) -> None:
    header = codec.encode(world.header).hex()
    stranger = sorted([KEYS[0], dev_key("stranger")], key=lambda key: address_of(key.public))
    changed = codec.encode(world.header._replace(time_ms=world.header.time_ms + 1)).hex()
    for certificate, reason in (
        (world.seal(world.header, KEYS[:1]), "power 1 has sealed"),
        (world.seal(world.header, []), "power 0 has sealed"),
        (world.seal(world.header, stranger), "is no validator"),
        (world.seal(world.header, height=2), "the certificate is of height 2"),
        (None, "the certificate is missing"),
        ("zz", "not hexadecimal"),
    ):
        fails(lambda given=certificate: verify_header(registry(), GENESIS, header, given), reason)  # type: ignore[misc]
    fails(lambda: verify_header(registry(), GENESIS, changed, world.seal(world.header)), "it names block")


def test_a_seal_over_another_block_fails(world: World) -> None:
    other = world.header._replace(time_ms=world.header.time_ms + 1)
    stolen = codec.decode(bytes.fromhex(world.seal(other)))
    certificate = codec.encode((stolen[0], stolen[1], world.header.id(), stolen[3])).hex()
    fails(lambda: verify_header(registry(), GENESIS, codec.encode(world.header).hex(), certificate), "does not verify")


def test_another_genesis_file_trusts_nothing_of_this_chain(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", HOLDER))
    strangers = genesis_of([dev_key("stranger")])
    fails(lambda: verify_cell(registry(), strangers, key, answer), "names other validators than the genesis file")
    elsewhere = GENESIS._replace(chain_id="dev-else")
    fails(lambda: verify_cell(registry(), elsewhere, key, answer), "is of chain 'dev-proof'")


@pytest.mark.parametrize("position", [0, 1])
def test_a_true_transaction_is_proven(world: World, position: int) -> None:
    signed: SignedTransaction = world.transactions[position]
    proven = verify_transaction(registry(), GENESIS, signed.id, world.transaction(position))
    assert (proven.position, proven.signed, proven.receipt.transaction_id) == (position, signed, signed.id)
    assert proven.receipt.ok is (position == 0)
    assert len(proven.checks) == 4


def test_a_false_transaction_fails(world: World) -> None:
    first, second = [world.transaction(position)["proof"] for position in (0, 1)]

    def check(**changes: Any) -> Callable[[], object]:
        answer = {"proof": {**first, **changes}}
        return lambda: verify_transaction(registry(), GENESIS, world.signed.id, answer)

    check()()
    fails(check(transaction_bytes=second["transaction_bytes"]), "another one was asked for")
    fails(check(transaction=second["transaction"]), "path does not lead to the header's transactions root")
    fails(check(receipt=second["receipt"]), "path does not lead to the header's receipts root")
    fails(check(receipt=second["receipt"], receipt_bytes=second["receipt_bytes"]), "at different places")
    fails(check(receipt_bytes=second["receipt_bytes"]), "path does not lead to the header's receipts root")
    forged = codec.encode((*codec.decode(world.receipts[0])[:4], 1, (), ())).hex()
    fails(check(receipt_bytes=forged), "path does not lead to the header's receipts root")
    other = world.signed.transaction._replace(gas_limit=9_001).sign([ISSUER])
    fails(check(transaction_bytes=other.raw.hex()), "another one was asked for")
    body, signatures = codec.decode(world.signed.raw)
    broken = codec.encode((body, ((*signatures[0][:2], bytes(64)),))).hex()
    fails(check(transaction_bytes=broken), "does not verify")


@pytest.mark.parametrize(
    "what", ["header", "certificate", "transaction", "transaction_bytes", "receipt", "receipt_bytes"]
)
@pytest.mark.parametrize("instead", [None, 5, "", "zz", "00", [], {}, {"index": -1, "size": 0, "path": []}])
def test_a_malformed_proof_fails_and_never_crashes(world: World, what: str, instead: Any) -> None:
    answer = copy.deepcopy(world.transaction())
    answer["proof"][what] = instead
    with pytest.raises(VerifyFailed):
        verify_transaction(registry(), GENESIS, world.signed.id, answer)


@pytest.mark.parametrize("proof", [None, 5, [], "x"])
def test_no_proof_is_no_proof(world: World, proof: Any) -> None:
    with pytest.raises(TrothError) as caught:
        verify_cell(registry(), GENESIS, b"key", {"value_bytes": None, "proof": proof})
    assert caught.value.code == "E-VERIFY-002"


def test_every_changed_byte_of_a_proof_is_noticed(world: World) -> None:
    key, answer = world.cell("points", "account", ("beans", HOLDER))
    for part in ("commitment", "header", "certificate"):
        raw = bytes.fromhex(answer["proof"][part])
        for index in range(len(raw)):
            changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
            proof = {**answer["proof"], part: changed.hex()}
            with pytest.raises(VerifyFailed):
                verify_cell(registry(), GENESIS, key, {**answer, "proof": proof})
