"""SLIP-0010's own Ed25519 test vectors 1 and 2: twelve nodes, private key and chain code."""

from __future__ import annotations

from ledger.slip10 import derive, format_path, parse_path
from tests.vectors.files import vector_json


def test_slip10_nodes() -> None:
    nodes = 0
    for vector in vector_json("slip-0010", "slip10_ed25519.json"):
        assert vector["curve"] == "ed25519"
        for step in vector["steps"]:
            path = tuple(step["hardened_path"])
            key, chain_code = derive(bytes.fromhex(vector["seed"]), path)
            assert (key.hex(), chain_code.hex()) == (step["private"], step["chain_code"]), path
            assert parse_path(format_path(path)) == path
            nodes += 1
    assert nodes == 12
