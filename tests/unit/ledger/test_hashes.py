from __future__ import annotations

from hashlib import sha256
from itertools import combinations

from ledger import hashes
from ledger.hashes import tagged
from loyalty_contracts import certificate_records, consent

_KINDS = {
    "address": hashes.address_hash,
    "transaction": hashes.transaction_hash,
    "block": hashes.block_hash,
    "genesis": hashes.genesis_hash,
    "evidence": hashes.evidence_hash,
    "commit": hashes.commit_hash,
    "history": certificate_records.history_hash,
}


def test_the_form_of_an_identifier() -> None:
    for kind, digest in _KINDS.items():
        assert digest(b"content") == sha256(b"troth/" + kind.encode() + b"\0content").digest()


def test_one_content_has_another_identifier_as_each_kind() -> None:
    for first, second in combinations([*_KINDS.values(), consent.access_hash_of], 2):
        assert first(b"content") != second(b"content")


def test_a_tag_never_runs_into_its_content() -> None:
    # Without the zero byte, "block" + "s" and "blocks" + "" would be one input (Fabric CVE-2023-46132).
    assert tagged("block")(b"s") != tagged("blocks")(b"")
    assert tagged("a")(b"\0b") != tagged("a")(b"b")


def test_no_identifier_is_a_leaf_or_a_node_of_a_tree() -> None:
    # The input of an identifier begins with the letter t, that of RFC 6962's leaves and nodes with 0x00 and 0x01.
    for kind, digest in _KINDS.items():
        for prefix in (b"\0", b"\1"):
            assert digest(b"x") != sha256(prefix + b"troth/" + kind.encode() + b"\0x").digest()
