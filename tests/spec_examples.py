"""The worked examples of docs/spec/bytes.md: a chain of two blocks, made with public development keys and fixed nonces.

Each example is a list of annotated lines, so that the document shows which byte means what. The tests compare the
bytes in the document with those made here; after an intended change, `python -m tests.spec_examples` writes the
document's blocks anew. It never adds one: a new example begins with an empty block in the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ledger import codec, merkle, slip10
from ledger.address import address_of
from ledger.block import Block, Certificate, Seal, commit_message, commit_root, validators_root
from ledger.genesis import Genesis, parse_genesis
from ledger.hashes import address_hash
from ledger.ics23 import TROTH_SPEC, CommitmentProof, NonExistenceProof, ProofSpec
from ledger.keys import PrivateKey
from ledger.receipt import Receipt
from ledger.state_proof import prove
from ledger.state_tree import leaf_hash, root_hash
from ledger.transaction import Call, SignedTransaction, Transaction
from loyalty_contracts.certificate_records import NO_HISTORY, batch_leaf, history_link
from loyalty_contracts.consent import NO_ACCESS, access_link
from node.chain import Chain
from node.contracts import registry
from node.keystore import dev_key
from node.keyvalue import KeyValue
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from vm.overlay import cell_key, map_prefix

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "spec" / "bytes.md"
CHAIN_ID = "dev-example"
BEGINNING_MS = 1_767_225_600_000
BYTES_A_LINE = 33
GTIN = "09506000134352"
HEIGHT_2 = (2).to_bytes(8, "big")

_FENCE = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Fence(NamedTuple):
    """A fenced block of the document: the first word of its info string, the rest of it, and the lines."""

    kind: str
    name: str
    lines: tuple[str, ...]

    def bytes(self) -> bytes:
        """The bytes of a block: hexadecimal digits, white space of any kind, a comment after each semicolon."""
        return b"".join([line_bytes(line) for line in self.lines])


def line_bytes(line: str) -> bytes:
    """The bytes of one line."""
    return bytes.fromhex("".join(line.partition(";")[0].split()))


def fences() -> list[Fence]:
    """All fenced blocks of the document."""
    found = _FENCE.findall(DOCUMENT.read_text(encoding="utf-8"))
    return [Fence(kind, name, tuple(lines.splitlines())) for kind, name, lines in found]


# The example chain


class Example(NamedTuple):
    """The chain: its genesis, the store, and what its two blocks hold."""

    genesis: Genesis
    chain: Chain
    store: KeyValue
    transactions: tuple[tuple[SignedTransaction, ...], ...]

    def block(self, height: int) -> Block:
        """A block of the chain."""
        return self.chain.store.block(height)


def key(name: str) -> PrivateKey:
    """The public development key of that name."""
    return dev_key(name)


def address(name: str) -> bytes:
    """The address of the public development key of that name."""
    return address_of(key(name).public)


def transaction(signers: Sequence[str], nonce: int, calls: Sequence[Call], memo: str = "") -> SignedTransaction:
    """A signed transaction of the example chain, valid for ten minutes after its beginning."""
    unsigned = Transaction(
        1,
        CHAIN_ID,
        tuple([address(name) for name in signers]),
        nonce.to_bytes(8, "big"),
        BEGINNING_MS + 600_000,
        5_000,
        tuple(calls),
        memo,
    )
    return unsigned.sign([key(name) for name in signers])


@cache
def example() -> Example:
    """The chain: block 1 creates a programme of points, block 2 holds three transactions, one of which fails."""
    text = next(fence for fence in fences() if (fence.kind, fence.name) == ("json", "genesis")).lines
    genesis = parse_genesis("\n".join(text))
    store = MemoryStore()
    chain = Chain(LedgerStore(store), registry(), genesis)
    first = transaction(
        ["grocer"],
        1,
        [
            Call(0, "points", "create", ("grocer", "Grocer Points", None, "points", 0)),
            Call(0, "points", "mint", ("grocer", address("alice"), 1_000)),
        ],
    )
    transfer = transaction(["alice"], 2, [Call(0, "points", "transfer", ("grocer", address("bob"), 250, "order-17"))])
    exchange = transaction(
        ["grocer", "alice"],
        3,
        [
            Call(0, "points", "mint", ("grocer", address("alice"), 5)),
            Call(1, "points", "approve", ("grocer", address("grocer"), 100)),
        ],
        "a café visit",
    )
    failing = transaction(["bob"], 4, [Call(0, "points", "spend", ("grocer", 9_999, "a kettle"))])
    blocks = ((first,), (transfer, exchange, failing))
    for transactions in blocks:
        execution = chain.execution(chain.head.time_ms + 1_000)
        for signed in transactions:
            execution.admit(signed)
            execution.apply(signed)
        candidate = chain.close(execution, transactions, address("validator"))
        height = candidate.block.header.height
        seal = key("validator").sign(commit_message(CHAIN_ID, height, 0, candidate.block_id))
        chain.append(candidate, Certificate(height, 0, candidate.block_id, (Seal(address("validator"), seal),)))
    return Example(genesis, chain, store, blocks)


# Annotated lines


class Line(NamedTuple):
    """Bytes that belong together, how deep they lie, and what they mean."""

    depth: int
    head: bytes
    content: bytes
    comment: str


def plain(data: bytes, comment: str = "", depth: int = 0) -> Line:
    """Bytes without structure."""
    return Line(depth, b"", data, comment)


def annotate(value: Any, note: Any, depth: int = 0) -> Iterator[Line]:
    """The lines of a value's encoding. `note` is a comment, or (comment, notes of an array's items).

    A note for bytes may be (comment, lines) to show what the bytes hold.
    """
    comment, inner = (note, None) if isinstance(note, str) else note
    encoded = codec.encode(value)
    if isinstance(value, tuple):
        head = codec.encode((None,) * len(value))[: -len(value) or None]
        yield Line(depth, head, b"", f"array of {len(value)}: {comment}" if comment else f"array of {len(value)}")
        notes = [""] * len(value) if inner is None else inner
        assert len(notes) == len(value), f"{comment}: {len(notes)} notes for {len(value)} items"
        for item, item_note in zip(value, notes, strict=True):
            yield from annotate(item, item_note, depth + 1)
    elif isinstance(value, bytes | str):
        content = value.encode() if isinstance(value, str) else value
        head = encoded[: len(encoded) - len(content)]
        if isinstance(value, str):
            comment = f'{comment} "{value}"'.strip()
        if inner is None:
            yield Line(depth, head, content, comment)
        else:
            yield Line(depth, head, b"", f"{len(content)} bytes: {comment}")
            for line in inner:
                yield line._replace(depth=line.depth + depth + 1)
    else:
        shown = "" if value is None or isinstance(value, bool) else f" {value}"
        yield Line(depth, encoded, b"", f"{comment}{shown}".strip())


def render(lines: Sequence[Line]) -> list[str]:
    """The text of annotated lines: two spaces a level, at most 33 bytes of content a line."""
    rows: list[tuple[str, str]] = []
    for depth, head, content, comment in lines:
        indent = "  " * depth
        first = f"{indent}{head.hex()} " if head else indent
        digits = content.hex()
        pieces = [digits[at : at + 2 * BYTES_A_LINE] for at in range(0, len(digits), 2 * BYTES_A_LINE)] or [""]
        rows.append(((first + pieces[0]).rstrip(), comment))
        rows += [(" " * len(first) + piece, "") for piece in pieces[1:]]
    column = max([len(digits) for digits, comment in rows if comment], default=0)
    return [f"{digits.ljust(column)}  ; {comment}" if comment else digits for digits, comment in rows]


# Notes for the objects of the ledger

HEADER_NOTES = [
    "version",
    "protocol version",
    "chain id",
    "height",
    "time, ms",
    "parent id",
    "proposer",
    "transactions root",
    "receipts root",
    "state root after the block",
    "validators root",
    "next validators root",
    "evidence root (no evidence)",
    "last commit root",
]
CERTIFICATE_NOTE = (
    "a certificate",
    ["height", "round", "block id", ("seals", [("a seal", ["validator", "signature"])])],
)
VALIDATOR_NOTE = ("a validator", ["address", "public key", "power", "organisation"])


def _call_note(names: Sequence[str]) -> tuple[str, list[Any]]:
    return ("a call", ["actor index", "contract", "method", ("arguments", list(names))])


def _body_note(actors: Sequence[str], calls: Sequence[Sequence[str]]) -> tuple[str, list[Any]]:
    return (
        "body",
        [
            "version",
            "chain id",
            ("actors", list(actors)),
            "nonce",
            "valid until, ms",
            "gas limit",
            ("calls", [_call_note(names) for names in calls]),
            "memo",
        ],
    )


def _signed(signed: SignedTransaction, names: Sequence[str]) -> list[Line]:
    body = codec.encode(signed.transaction)
    notes = ("a signed transaction", [("the body", [plain(body)]), ("signatures", [
        (f"by {names[signature.actor]}", ["actor index", "public key", "signature"])
        for signature in signed.signatures
    ])])  # fmt: skip
    return list(annotate((body, signed.signatures), notes))


def _receipt(receipt: Receipt, detail: Sequence[str], events: Sequence[Any], results: Sequence[str]) -> list[Line]:
    notes = (
        "a receipt",
        [
            "transaction id",
            "code" if receipt.code else "no code: it took effect",
            ("detail", list(detail)),
            "failed call" if receipt.failed_call is not None else "no call failed",
            "gas used",
            ("events", list(events)),
            ("results", list(results)),
        ],
    )
    return list(annotate(tuple(receipt), notes))


def _event_note(names: Sequence[str]) -> tuple[str, list[Any]]:
    return ("an event", ["contract", "name", ("fields", list(names))])


def _protobuf(data: bytes, kind: Any, depth: int = 0) -> Iterator[Line]:
    """The lines of a protobuf message: a tag, a length or number, and what follows."""
    fields = {field.number: field for field in kind.FIELDS}
    at = 0
    while at < len(data):
        field = fields[data[at] >> 3]
        length, end = _varint(data, at + 1)
        if data[at] & 7 == 0:
            yield Line(depth, data[at:end], b"", f"{field.name} {_enum_name(field, length)}")
            at = end
            continue
        content = data[end : end + length]
        inner = getattr(field, "message", None)
        if inner is None:
            yield Line(depth, data[at:end], content, f"{field.name}, {length} bytes")
        else:
            yield Line(depth, data[at:end], b"", f"{field.name}, {length} bytes")
            yield from _protobuf(content, inner, depth + 1)
        at = end + length


def _enum_name(field: Any, number: int) -> str:
    return str(number) if getattr(field, "enum", None) is None else field.enum(number).name


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _commitment(proof: CommitmentProof) -> list[Line]:
    data = proof.encode()
    assert CommitmentProof.decode(data) == proof
    return list(_protobuf(data, CommitmentProof))


def account_cell(name: str) -> bytes:
    """The key of the cell that holds an account of the example programme."""
    return cell_key((map_prefix("points", "account", 2), ("grocer", address(name))))


def _row(row: bytes, note: Any) -> list[Line]:
    """A database row: its key, and its value as the codec reads it."""
    value = example().store.get(row)
    assert value is not None
    return [Line(0, row[:1], row[1:], "the key"), *annotate(codec.decode(value), note)]


def _smallest_node() -> tuple[tuple[Any, ...], bytes]:
    """The slots of the shortest node that block 2 wrote, and the key of its row."""
    rows = [(len(value), row) for row, value in example().store.scan(b"n" + (2 << 24).to_bytes(8, "big")[:5])]
    _, row = min(rows)
    return codec.decode(example().store.get(row) or b""), row


def _slot_note(slot: Any) -> Any:
    if slot is None:
        return ""
    return ("a leaf", ["its hash", "cell key", "cell value"]) if len(slot) == 3 else ("a node", ["its hash", "number"])


def examples() -> dict[str, list[Line]]:
    """Every example by its name in the document."""
    return {
        **_keys_and_addresses(),
        **_transactions_and_receipts(),
        **_trees(),
        **_genesis_and_blocks(),
        **_state(),
        **_transport_and_rows(),
        **_contracts(),
    }


def _keys_and_addresses() -> dict[str, list[Line]]:
    alice = key("alice")
    derived, _ = slip10.derive(bytes(range(64)), slip10.account_path(1))
    return {
        "tag": [plain(b"troth/address\0", '"troth/" | "address" | a zero byte')],
        "dev-seed": [plain(alice.seed(), "seed of dev:alice")],
        "public-key": [plain(alice.public, "public key of dev:alice")],
        "signature": [plain(alice.sign(b"troth"), 'over the 5 bytes of "troth"')],
        "derived-seed": [plain(derived)],
        "address-digest": [plain(address_hash(alice.public), "the first 20 bytes are the address")],
        "address": [plain(address("alice"))],
    }


def _transactions_and_receipts() -> dict[str, list[Line]]:
    held = example()
    transfer, exchange, _ = held.transactions[1]
    success, _, failure = held.chain.store.receipts(2)
    transfer_note = _body_note(["alice"], [["programme", "to: bob", "amount", "reference"]])
    exchange_note = _body_note(
        ["grocer: bears the quota", "alice"],
        [["programme", "to: alice", "amount"], ["programme", "spender: grocer", "amount"]],
    )
    return {
        "body": list(annotate(tuple(transfer.transaction), transfer_note)),
        "transaction-id": [plain(transfer.id)],
        "signing-message": [
            plain(b"troth/sign/transaction\0", '"troth/sign/transaction" | 00'),
            plain(transfer.id, "the id"),
        ],
        "transaction-signature": [plain(transfer.signatures[0].signature)],
        "signed-transaction": _signed(transfer, ["alice"]),
        "two-actors-body": list(annotate(tuple(exchange.transaction), exchange_note)),
        "two-actors-signed": _signed(exchange, ["the grocer", "alice"]),
        "receipt": _receipt(success, [], [_event_note(["programme", "sender", "to", "amount"])], ["nothing returned"]),
        "receipt-failed": _receipt(failure, ["the account", "it holds", "it needs"], [], []),
    }


def _trees() -> dict[str, list[Line]]:
    held = example()
    raws = held.block(2).transactions
    proof_note = ("an inclusion proof", ["index", "size", ("path", ["L0", "L2"])])
    return {
        "merkle-leaves": [
            plain(merkle.leaf_hash(raw), f"L{index} = SHA-256(00 | transaction {index})")
            for index, raw in enumerate(raws)
        ],
        "merkle-root": [plain(held.block(2).header.transactions_root)],
        "merkle-empty": [plain(merkle.EMPTY_ROOT)],
        "merkle-proof": list(annotate(merkle.prove(raws, 1).to_value(), proof_note)),
        "receipts-root": [plain(merkle.root(held.chain.store.receipt_bytes(2)))],
    }


def _genesis_and_blocks() -> dict[str, list[Line]]:
    held = example()
    genesis, store = held.genesis, held.chain.store
    first, second = held.block(1), held.block(2)
    sealed = (CHAIN_ID, "commit", 2, 0, second.header.id())
    organisation_note = ("an organisation", ["id", "name", ("members", [("a member", ["address", ("roles", None)])])])
    genesis_note = (
        "genesis",
        [
            "version",
            "chain id",
            "time, ms",
            ("parameters", [name.replace("_", " ") for name in genesis.parameters._fields]),
            ("validators", [VALIDATOR_NOTE]),
            ("organisations", [organisation_note] * len(genesis.organisations)),
            "nodes",
        ],
    )
    block_note = (
        "a block",
        [
            ("header", HEADER_NOTES),
            ("transactions", ["a signed transaction"]),
            ("evidence", []),
            "last commit: none before block 1",
        ],
    )
    return {
        "genesis": list(annotate(tuple(genesis), genesis_note)),
        "genesis-id": [plain(genesis.id())],
        "header-0": list(annotate(tuple(held.chain.genesis_header), ("header of height 0", HEADER_NOTES))),
        "header": list(annotate(tuple(second.header), ("header of block 2", HEADER_NOTES))),
        "block-id": [plain(second.header.id())],
        "validator": list(annotate(tuple(genesis.validators[0]), VALIDATOR_NOTE)),
        "validators-root": [plain(validators_root(genesis.validators))],
        "block": list(annotate(tuple(first), block_note)),
        "commit-message": [
            plain(b"troth/sign/commit\0", '"troth/sign/commit" | 00'),
            *annotate(sealed, ("what is sealed", ["chain id", "kind", "height", "round", "block id"])),
        ],
        "certificate": list(annotate(tuple(store.certificate(2)), CERTIFICATE_NOTE)),
        "commit-root": [plain(commit_root(store.certificate(1)))],
    }


def _state() -> dict[str, list[Line]]:
    store = example().chain.store
    root = store.meta(2).root
    cell = account_cell("alice")
    value = store.tree.get(root, cell)
    assert value is not None
    cell_note = ("a cell key", ["contract", "map", "programme", "account"])
    return {
        "cell-key": list(annotate(codec.decode(cell), cell_note)),
        "cell-value": list(annotate(codec.decode(value), ("an account", ["balance", "frozen: false"]))),
        "state-leaf": [
            plain(sha256(cell).digest(), "SHA-256(cell key), the path"),
            plain(sha256(value).digest(), "SHA-256(cell value)"),
            plain(leaf_hash(cell, value), "the leaf"),
        ],
        "state-root": [plain(root_hash(root))],
        "proof-spec": list(_protobuf(TROTH_SPEC.encode(), ProofSpec)),
        "proof-existence": _commitment(prove(store.tree, root, cell)),
        "proof-absence": _commitment(prove(store.tree, root, account_cell("carol"))),
        "proof-empty": _commitment(CommitmentProof(nonexist=NonExistenceProof(b"key"))),
    }


def _transport_and_rows() -> dict[str, list[Line]]:
    held = example()
    store = held.chain.store
    transfer, _, failing = [signed.raw for signed in held.transactions[1]]
    block, certificate = store.block_bytes(1), store.certificate(1)
    frame_bytes = len(codec.encode((block, certificate)))
    submission_note = ("transactions", [("signed", [plain(transfer)]), ("signed", [plain(failing)])])
    frame_note = ("a frame's content", [("block 1, as above", [plain(block)]), CERTIFICATE_NOTE])
    slots, slots_row = _smallest_node()
    cell = account_cell("alice"), store.tree.get(store.meta(2).root, account_cell("alice"))
    cell_bytes = len(codec.encode(cell))
    return {
        "submission": list(annotate((transfer, failing), submission_note)),
        "export-frame": [
            plain(frame_bytes.to_bytes(4, "big"), f"length: {frame_bytes}"),
            *annotate((block, certificate), frame_note),
        ],
        "cell-frame": [
            plain(cell_bytes.to_bytes(4, "big"), f"length: {cell_bytes}"),
            *annotate(cell, ("a cell", ["cell key", "cell value"])),
        ],
        "row-head": _row(b"h", "height of the head"),
        "row-certificate": _row(b"c" + HEIGHT_2, CERTIFICATE_NOTE),
        "row-block-id": _row(b"i" + held.block(1).header.id(), "its height"),
        "row-transaction": _row(b"x" + held.transactions[1][0].id, ("place", ["height", "position"])),
        "row-stale": _row(b"s" + HEIGHT_2, ("node numbers", None)),
        "row-node": _row(slots_row, ("slots", [_slot_note(slot) for slot in slots])),
    }


def _contracts() -> dict[str, list[Line]]:
    commitment, access = sha256(b"salt and data").digest(), sha256(b"salt and use").digest()
    leaf = batch_leaf(GTIN, "A1", commitment)
    step = history_link(NO_HISTORY, GTIN, "A1", "commissioning", commitment, "", "grocer", BEGINNING_MS)
    return {
        "batch-leaf": list(annotate(codec.decode(leaf), ("a leaf", ["tag", "GTIN", "serial", "commitment"]))),
        "history-link": [plain(step)],
        "access-link": [plain(access_link(NO_ACCESS, bytes(range(16)), access, "marketing", BEGINNING_MS))],
    }


def write() -> list[str]:
    """Writes the document's blocks anew; returns the names of those that changed. KeyError for an unknown one."""
    made = examples()
    changed: list[str] = []

    def block(found: re.Match[str]) -> str:
        kind, name, lines = found.groups()
        if kind != "bytes":
            return found[0]
        text = "".join([line + "\n" for line in render(made[name])])
        if text != lines:
            changed.append(name)
        return f"```bytes {name}\n{text}```"

    document = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(_FENCE.sub(block, document), encoding="utf-8")
    return changed


if __name__ == "__main__":
    print("\n".join(write()) or "nothing has changed")
