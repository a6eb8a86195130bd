"""The test data of cosmos/ics23: proofs of three kinds of trees, and the single operations.

Troth's tree is the `smt` of this data. Trees of Tendermint and IAVL are none of Troth's: their proofs are read under
specs made here, which exercise trees without empty children, prefixes of varying length and children of 33 bytes. What
only IAVL means by the numbers in its prefixes is not checked.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import VerifyFailed
from ledger.ics23 import (
    TROTH_SPEC,
    CommitmentProof,
    ExistenceProof,
    HashOp,
    InnerOp,
    InnerSpec,
    LeafOp,
    LengthOp,
    ProofSpec,
    apply_hash,
    branch_of,
    calculate_root,
    check_against_spec,
    check_leaf,
    left_branch_is_empty,
    right_branch_is_empty,
    verify_membership,
    verify_non_membership,
    verify_state_membership,
)
from tests.vectors.files import vector_json

PLAIN_LEAF = LeafOp(HashOp.SHA256, HashOp.NO_HASH, HashOp.SHA256, LengthOp.VAR_PROTO, b"\0")
TENDERMINT_SPEC = ProofSpec(PLAIN_LEAF, InnerSpec((0, 1), 32, 1, 1, b"", HashOp.SHA256))
IAVL_SPEC = ProofSpec(PLAIN_LEAF, InnerSpec((0, 1), 33, 4, 12, b"", HashOp.SHA256))
SPECS = {"smt": TROTH_SPEC, "tendermint": TENDERMINT_SPEC, "iavl": IAVL_SPEC}
CASES = [
    (tree, f"{kind}_{where}")
    for tree in SPECS
    for kind in ("exist", "nonexist")
    for where in ("left", "middle", "right")
]


def data(name: str) -> Any:
    return vector_json("ics23", "testdata", f"{name}.json")


def raw(value: str | None) -> bytes:
    return b64decode(value or "")


def leaf_of(fields: dict[str, Any] | None) -> LeafOp | None:
    if fields is None:
        return None
    return LeafOp(
        HashOp(fields.get("hash", 0)),
        HashOp(fields.get("prehash_key", 0)),
        HashOp(fields.get("prehash_value", 0)),
        LengthOp(fields.get("length", 0)),
        raw(fields.get("prefix")),
    )


def required_leaf(fields: dict[str, Any]) -> LeafOp:
    leaf = leaf_of(fields)
    assert leaf is not None
    return leaf


def inner_of(fields: dict[str, Any]) -> InnerOp:
    return InnerOp(HashOp(fields.get("hash", 0)), raw(fields.get("prefix")), raw(fields.get("suffix")))


def existence_of(fields: dict[str, Any]) -> ExistenceProof:
    return ExistenceProof(
        raw(fields.get("key")),
        raw(fields.get("value")),
        leaf_of(fields.get("leaf")),
        tuple(inner_of(op) for op in fields.get("path", ())),
    )


def spec_of(fields: dict[str, Any]) -> ProofSpec:
    inner = fields["inner_spec"]
    return ProofSpec(
        leaf_spec=required_leaf(fields["leaf_spec"]),
        inner_spec=InnerSpec(
            tuple(inner["child_order"]),
            inner["child_size"],
            inner["min_prefix_length"],
            inner["max_prefix_length"],
            raw(inner.get("empty_child")),
            HashOp(inner["hash"]),
        ),
        max_depth=fields.get("max_depth", 0),
        min_depth=fields.get("min_depth", 0),
    )


def load(tree: str, name: str) -> tuple[ProofSpec, bytes, CommitmentProof, bytes, bytes]:
    case = data(f"{tree}/{name}")
    encoded = bytes.fromhex(case["proof"])
    proof = CommitmentProof.decode(encoded)
    assert proof.encode() == encoded
    return (
        SPECS[tree],
        bytes.fromhex(case["root"]),
        proof,
        bytes.fromhex(case["key"]),
        bytes.fromhex(case["value"]),
    )


@pytest.mark.parametrize(("tree", "name"), CASES)
def test_proofs_hold(tree: str, name: str) -> None:
    spec, root, proof, key, value = load(tree, name)
    if proof.exist is not None:
        assert name.startswith("exist")
        verify_membership(spec, root, proof, key, value)
    else:
        assert name.startswith("nonexist")
        verify_non_membership(spec, root, proof, key)


@pytest.mark.parametrize(("tree", "name"), [case for case in CASES if case[1].startswith("exist")])
def test_existence_is_refused_once_anything_is_altered(tree: str, name: str) -> None:
    spec, root, proof, key, value = load(tree, name)
    exist = proof.exist
    assert exist is not None
    last = exist.path[-1]
    altered = [
        (root[:-1] + bytes([root[-1] ^ 1]), proof, key, value),
        (root, proof, key + b"x", value),
        (root, proof, key, value + b"x"),
        (root, CommitmentProof(exist=replace(exist, value=value + b"x")), key, value + b"x"),
        (root, CommitmentProof(exist=replace(exist, key=key + b"x")), key + b"x", value),
        (root, CommitmentProof(exist=replace(exist, path=exist.path[:-1])), key, value),
        (root, CommitmentProof(exist=replace(exist, path=exist.path[::-1])), key, value),
        (
            root,
            CommitmentProof(exist=replace(exist, path=(*exist.path[:-1], replace(last, hash=HashOp.SHA512)))),
            key,
            value,
        ),
    ]
    for arguments in altered:
        with pytest.raises(VerifyFailed):
            verify_membership(spec, *arguments)
    with pytest.raises(VerifyFailed):
        verify_non_membership(spec, root, proof, key)


@pytest.mark.parametrize(("tree", "name"), [case for case in CASES if case[1].startswith("nonexist")])
def test_absence_is_refused_once_anything_is_altered(tree: str, name: str) -> None:
    spec, root, proof, key, _ = load(tree, name)
    absent = proof.nonexist
    assert absent is not None
    shown = [neighbour for neighbour in (absent.left, absent.right) if neighbour is not None]
    for neighbour in shown:
        with pytest.raises(VerifyFailed):
            verify_non_membership(spec, root, proof, neighbour.key)
    with pytest.raises(VerifyFailed):
        verify_non_membership(spec, bytes(32), proof, key)
    with pytest.raises(VerifyFailed):
        verify_membership(spec, root, proof, key, b"x")
    # A neighbour in the middle of the tree does not do for the edge, and two are needed where two were shown.
    for changed in (
        replace(absent, left=None, right=absent.left),
        replace(absent, right=None, left=absent.right),
        replace(absent, left=None, right=None),
    ):
        with pytest.raises(VerifyFailed):
            verify_non_membership(spec, root, CommitmentProof(nonexist=changed), key)
    if len(shown) == 2:
        for changed in (replace(absent, left=None), replace(absent, right=None)):
            with pytest.raises(VerifyFailed):
                verify_non_membership(spec, root, CommitmentProof(nonexist=changed), key)


@pytest.mark.parametrize("where", ["left", "middle", "right"])
def test_the_sparse_trees_proofs_are_where_their_keys_lie(where: str) -> None:
    _, root, proof, key, value = load("smt", f"exist_{where}")
    verify_state_membership(root, key, value, proof)


def test_check_against_spec() -> None:
    cases = data("TestCheckAgainstSpecData")
    assert len(cases) == 11
    for name, case in cases.items():
        proof, spec = existence_of(case["Proof"]), spec_of(case["Spec"])
        if case["Err"]:
            with pytest.raises(VerifyFailed):
                check_against_spec(spec, proof)
                pytest.fail(name)
        else:
            check_against_spec(spec, proof)


def test_check_leaf() -> None:
    cases = data("TestCheckLeafData")
    assert len(cases) == 10
    for name, case in cases.items():
        leaf, spec = required_leaf(case["Leaf"]), required_leaf(case["Spec"])
        if case["IsErr"]:
            with pytest.raises(VerifyFailed):
                check_leaf(spec, leaf)
                pytest.fail(name)
        else:
            check_leaf(spec, leaf)


def test_hashes() -> None:
    """Those that every Python has are computed; the others are refused, whatever OpenSSL offers."""
    refused = set()
    for name, case in data("TestDoHashData").items():
        preimage = (case.get("Preimage") or case["PreImage"]).encode()
        try:
            found = apply_hash(HashOp(case["HashOp"]), preimage)
        except VerifyFailed:
            refused.add(name)
            continue
        assert found.hex() == case["ExpectedHash"], name
    assert refused == {"ripemd160", "bitcoin", "sha512_256"}


def test_leaf_operations() -> None:
    cases = data("TestLeafOpData")
    assert len(cases) == 11
    for name, case in cases.items():
        leaf, key, value = required_leaf(case["Op"]), raw(case["Key"]), raw(case["Value"])
        if case["IsErr"]:
            with pytest.raises(VerifyFailed):
                leaf.apply(key, value)
                pytest.fail(name)
        else:
            assert leaf.apply(key, value) == raw(case["Expected"]), name


def test_inner_operations() -> None:
    cases = data("TestInnerOpData")
    assert len(cases) == 4
    for name, case in cases.items():
        op, child = inner_of(case["Op"]), raw(case["Child"])
        if case["IsErr"]:
            with pytest.raises(VerifyFailed):
                op.apply(child)
                pytest.fail(name)
        else:
            assert op.apply(child) == raw(case["Expected"]), name


def test_existence_roots() -> None:
    cases = data("TestExistenceProofData")
    assert len(cases) == 6
    for name, case in cases.items():
        proof = existence_of(case["Proof"])
        if case["IsErr"]:
            with pytest.raises(VerifyFailed):
                calculate_root(proof)
                pytest.fail(name)
        else:
            assert calculate_root(proof) == raw(case["Expected"]), name


def test_empty_branches() -> None:
    cases = data("TestEmptyBranchData")
    assert len(cases) == 8
    for case in cases:
        op, spec = inner_of(case["Op"]), spec_of(case["Spec"]).inner_spec
        assert branch_of(spec, op) is not None
        assert left_branch_is_empty(spec, op) == case["IsLeft"]
        assert right_branch_is_empty(spec, op) == case["IsRight"]
