"""Inclusion proofs of transparency-dev/merkle, with the ways in which each may be spoilt."""

from __future__ import annotations

import json
from base64 import b64decode

from ledger.merkle import verify_inclusion
from tests.vectors.files import vector_path

FILES = 98


def test_inclusion_proofs() -> None:
    folder = vector_path("rfc6962-merkle", "testdata", "inclusion")
    accepted = refused = 0
    for path in sorted(folder.rglob("*.json")):
        case = json.loads(path.read_bytes())
        holds = verify_inclusion(
            b64decode(case["leafHash"]),
            case["leafIdx"],
            case["treeSize"],
            [b64decode(node) for node in case["proof"] or ()],
            b64decode(case["root"]),
        )
        assert holds != case["wantErr"], f"{path.relative_to(folder)}: {case['desc']}"
        accepted += holds
        refused += not holds
    assert accepted + refused == FILES
    assert accepted >= 6
