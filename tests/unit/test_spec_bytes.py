"""docs/spec/bytes.md says what the source does: every example is made again, and judged by the document's formulas."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from hashlib import sha256

import pytest

from ledger import address, codec
from ledger.errors import CODES, Invalid
from ledger.keys import check_public_key, verify
from ledger.transaction import decode as decode_transaction
from tests.spec_examples import DOCUMENT, GTIN, Fence, examples, fences, line_bytes, render

FENCES = fences()
EXAMPLES = {fence.name: fence.bytes() for fence in FENCES if fence.kind == "bytes"}
MADE = examples()


def of_kind(kind: str) -> list[Fence]:
    return [fence for fence in FENCES if fence.kind == kind]


def sha(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def bytes_of(name: str) -> bytes:
    """The bytes of an example as the document shows them."""
    return EXAMPLES[name]


# What the source makes


def test_the_document_has_every_example_once() -> None:
    names = [fence.name for fence in of_kind("bytes")]
    assert sorted(names) == sorted(MADE)


@pytest.mark.parametrize("name", sorted(MADE))
def test_the_source_makes_the_example(name: str) -> None:
    made = b"".join([line.head + line.content for line in MADE[name]])
    assert bytes_of(name).hex() == made.hex(), "intended? python -m tests.spec_examples"


@pytest.mark.parametrize("fence", of_kind("bytes"), ids=lambda fence: fence.name)
def test_the_comments_of_the_example_are_those_of_its_bytes(fence: Fence) -> None:
    assert list(fence.lines) == render(MADE[fence.name]), "intended? python -m tests.spec_examples"


def codec_rows() -> list[tuple[bytes, object]]:
    (table,) = of_kind("codec")
    return [(line_bytes(line), ast.literal_eval(line.partition(";")[2].strip())) for line in table.lines]


@pytest.mark.parametrize(("data", "value"), codec_rows(), ids=lambda item: repr(item))
def test_a_value_has_the_encoding_that_the_document_gives(data: bytes, value: codec.Value) -> None:
    assert codec.encode(value) == data
    decoded = codec.decode(data)
    assert (type(decoded), decoded) == (type(value), value)


REFUSERS: dict[str, Callable[[str], object]] = {
    "codec": lambda line: codec.decode(line_bytes(line)),
    "key": lambda line: check_public_key(line_bytes(line)),
    "address": lambda line: address.from_text(line.partition(";")[0].strip()),
    "transaction": lambda line: decode_transaction(line_bytes(line)),
}


@pytest.mark.parametrize(("name", "line"), [(fence.name, line) for fence in of_kind("refused") for line in fence.lines])
def test_what_the_document_says_is_refused(name: str, line: str) -> None:
    kind, code = name.split()
    with pytest.raises(Invalid) as refused:
        REFUSERS[kind](line)
    assert refused.value.code == code


def test_codes_in_the_document_are_registered() -> None:
    named = set(re.findall(r"E-[A-Z0-9]+-[0-9]{3}", DOCUMENT.read_text(encoding="utf-8")))
    assert named - set(CODES) == set()


def test_every_code_of_the_transaction_module_is_in_the_document() -> None:
    from ledger import transaction

    codes = {value for name, value in vars(transaction).items() if name.isupper() and str(value).startswith("E-")}
    text = DOCUMENT.read_text(encoding="utf-8")
    assert codes and {code for code in codes if code not in text} == set()


# What the document's formulas give, without the source. Offsets are those of the annotated examples.


def test_identifiers_are_tagged_hashes() -> None:
    digest = sha(b"troth/address\0", bytes_of("public-key"))
    assert bytes_of("tag") == b"troth/address\0"
    assert bytes_of("address-digest") == digest and bytes_of("address") == digest[:20]
    assert bytes_of("transaction-id") == sha(b"troth/transaction\0", bytes_of("body"))
    assert bytes_of("genesis-id") == sha(b"troth/genesis\0", bytes_of("genesis"))
    assert bytes_of("block-id") == sha(b"troth/block\0", bytes_of("header"))
    assert bytes_of("genesis-id") in bytes_of("header-0")
    certificate_1 = bytes_of("export-frame").partition(bytes_of("block"))[2]
    assert bytes_of("commit-root") == sha(b"troth/commit\0", certificate_1)
    assert bytes_of("header").endswith(bytes_of("commit-root"))


def test_signatures_verify_over_the_messages() -> None:
    key = bytes_of("public-key")
    assert bytes_of("dev-seed") == sha(b"troth public development key/alice")
    assert verify(key, b"troth", bytes_of("signature"))
    assert bytes_of("signing-message") == b"troth/sign/transaction\0" + bytes_of("transaction-id")
    assert verify(key, bytes_of("signing-message"), bytes_of("transaction-signature"))
    signed = bytes_of("signed-transaction")
    assert bytes_of("body") in signed and key in signed and signed.endswith(bytes_of("transaction-signature"))
    validator = bytes_of("validator")[25:57]
    sealed = bytes_of("commit-message")
    assert sealed.startswith(b"troth/sign/commit\0") and sealed.endswith(bytes_of("block-id"))
    assert verify(validator, sealed, bytes_of("certificate")[-64:])


def test_the_address_is_bech32m_of_its_bytes() -> None:
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    ((line,),) = [fence.lines for fence in of_kind("address")]
    number = 0
    for character in line[len("troth1") : -6]:
        number = number << 5 | alphabet.index(character)
    assert number.to_bytes(20, "big") == bytes_of("address")
    assert len(line) == 44 and address.from_text(line) == bytes_of("address")


def test_merkle_roots_follow_rfc_6962() -> None:
    leaves = bytes_of("merkle-leaves")
    first, second, third = leaves[:32], leaves[32:64], leaves[64:]
    assert first == sha(b"\0", bytes_of("signed-transaction"))
    assert second == sha(b"\0", bytes_of("two-actors-signed"))
    root = sha(b"\1", sha(b"\1", first, second), third)
    assert bytes_of("merkle-root") == root and root in bytes_of("header")
    assert bytes_of("merkle-empty") == sha()
    assert bytes_of("validators-root") == sha(b"\0", bytes_of("validator"))
    assert bytes_of("receipts-root") in bytes_of("header")
    proof = bytes_of("merkle-proof")
    assert (proof[1], proof[2]) == (1, 3) and proof[6:38] == first and proof[40:] == third


def test_the_state_proof_leads_from_the_cell_to_the_root() -> None:
    leaf = bytes_of("state-leaf")
    key, value = bytes_of("cell-key"), bytes_of("cell-value")
    path, node = leaf[:32], leaf[64:]
    assert path == sha(key) and leaf[32:64] == sha(value) and node == sha(b"\0", path, sha(value))
    rest = bytes_of("proof-existence").partition(value)[2][11:]  # after the leaf operation
    depths = rest.count(b"\x08\x01")
    for depth in range(depths - 1, -1, -1):
        size = rest[1]
        operation, rest = rest[2 : 2 + size], rest[2 + size :]
        right = path[depth >> 3] >> (7 - (depth & 7)) & 1
        if right:
            assert operation[:5] == b"\x08\x01\x12\x21\x01"
            node = sha(b"\1", operation[5:], node)
        else:
            assert operation[:7] == b"\x08\x01\x12\x01\x01\x1a\x20"
            node = sha(b"\1", node, operation[7:])
    assert rest == b"" and node == bytes_of("state-root") and node in bytes_of("header")


def test_hashes_inside_contracts_are_tagged_and_linked() -> None:
    commitment, use = sha(b"salt and data"), sha(b"salt and use")
    time = b"\xcf" + (1_767_225_600_000).to_bytes(8, "big")
    zero = b"\xc4\x20" + bytes(32)

    def text(value: str) -> bytes:
        return bytes([0xA0 + len(value)]) + value.encode()

    entry = b"\x98" + zero + text(GTIN) + text("A1") + text("commissioning") + b"\xc4\x20" + commitment
    assert bytes_of("history-link") == sha(b"troth/history\0", entry + text("") + text("grocer") + time)
    request = b"\xc4\x10" + bytes(range(16))
    access = b"\x95" + zero + request + b"\xc4\x20" + use + text("marketing") + time
    assert bytes_of("access-link") == sha(b"troth/access\0", access)
