from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from ledger.errors import Invalid, TrothError, VerifyFailed
from ledger.ics23 import (
    BAD_SPEC,
    BROKEN,
    EMPTY_CHILD,
    LEAF_OP,
    MAX_PROOF_BYTES,
    TROTH_SPEC,
    TWO_KINDS,
    CommitmentProof,
    ExistenceProof,
    HashOp,
    InnerOp,
    InnerSpec,
    LeafOp,
    LengthOp,
    NonExistenceProof,
    ProofSpec,
    apply_hash,
    branch_of,
    calculate_root,
    check_against_spec,
    check_position,
    check_spec,
    inner_op,
    left_branch_is_empty,
    right_branch_is_empty,
    verify_membership,
    verify_non_membership,
    verify_state_absence,
    verify_state_membership,
)
from ledger.protobuf import TOO_LARGE
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, existence, membership

ENTRIES = {f"key {number}".encode(): f"value {number}".encode() for number in range(60)}
TREE = ReferenceTree(ENTRIES)
OTHER = ReferenceTree({**ENTRIES, b"key 60": b"value 60"})
KEY = b"key 7"
VALUE = ENTRIES[KEY]
ABSENT = b"nothing here"


def key_at(bits: str) -> bytes:
    """A key whose hash begins with these binary digits."""
    return next(key for key in (str(number).encode() for number in range(10**6)) if _bits(key).startswith(bits))


def _bits(key: bytes) -> str:
    return f"{int.from_bytes(sha256(key).digest(), 'big'):0256b}"


def refuse(verify: object, *arguments: object) -> str:
    """The reason with which a verification fails."""
    assert callable(verify)
    with pytest.raises(VerifyFailed) as caught:
        verify(*arguments)
    assert caught.value.code == BROKEN
    return caught.value.cause


# Specs and forms


def test_troths_spec_is_ics23s_smt() -> None:
    assert (
        ProofSpec(
            LeafOp(HashOp.SHA256, HashOp.SHA256, HashOp.SHA256, LengthOp.NO_PREFIX, b"\0"),
            InnerSpec((0, 1), 32, 1, 1, bytes(32), HashOp.SHA256),
            max_depth=256,
            prehash_key_before_comparison=True,
        )
        == TROTH_SPEC
    )
    assert (
        TROTH_SPEC.encode().hex()
        == (
            "0a090801100118012a0100"  # leaf
            "122e0a02000110201801" + "20012a20" + "00" * 32 + "3001"  # inner
            "1880022801"  # depth 256, keys compared by their hashes
        )
    )
    assert ProofSpec.decode(TROTH_SPEC.encode()) == TROTH_SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"child_order": ()},
        {"child_order": (0, 0)},
        {"child_order": (1, 0)},
        {"child_order": (0, 1, 2)},
        {"child_size": 0},
        {"min_prefix_length": 2},
        {"max_prefix_length": 33},
        {"empty_child": bytes(31)},
    ],
)
def test_a_spec_of_another_shape_or_open_to_two_readings_is_refused(change: dict[str, object]) -> None:
    spec = replace(TROTH_SPEC, inner_spec=replace(TROTH_SPEC.inner_spec, **change))  # type: ignore[arg-type]
    with pytest.raises(Invalid) as caught:
        check_spec(spec)
    assert caught.value.code == BAD_SPEC
    with pytest.raises(Invalid):
        check_against_spec(spec, existence(TREE, KEY))


def test_a_proof_is_of_one_kind() -> None:
    exist, nonexist = ExistenceProof(), NonExistenceProof()
    for both in ({}, {"exist": exist, "nonexist": nonexist}):
        with pytest.raises(Invalid) as caught:
            CommitmentProof(**both)  # type: ignore[arg-type]
        assert caught.value.code == TWO_KINDS
    for encoded in (b"", bytes.fromhex("0a001200")):
        with pytest.raises(Invalid) as caught:
            CommitmentProof.decode(encoded)
        assert caught.value.code == TWO_KINDS


def test_batches_and_compressed_proofs_are_refused() -> None:
    for encoded in ("1a00", "2200", "2a00"):
        with pytest.raises(Invalid):
            CommitmentProof.decode(bytes.fromhex(encoded))


def test_an_oversized_proof_is_not_read() -> None:
    huge = CommitmentProof(exist=ExistenceProof(b"k", bytes(MAX_PROOF_BYTES), LEAF_OP))
    with pytest.raises(Invalid) as caught:
        CommitmentProof.decode(huge.encode())
    assert caught.value.code == TOO_LARGE


def test_a_proof_survives_its_encoding() -> None:
    for proof in (membership(TREE, KEY), absence(TREE, ABSENT)):
        assert CommitmentProof.decode(proof.encode()) == proof


# Operations


@pytest.mark.parametrize("op", [HashOp.NO_HASH, HashOp.KECCAK, HashOp.RIPEMD160, HashOp.BITCOIN, HashOp.BLAKE3])
def test_hashes_not_found_in_every_python_are_refused(op: HashOp) -> None:
    assert op.name in refuse(apply_hash, op, b"food")


@pytest.mark.parametrize(
    ("length", "prefix"),
    [
        (LengthOp.NO_PREFIX, ""),
        (LengthOp.VAR_PROTO, "20"),
        (LengthOp.FIXED32_BIG, "00000020"),
        (LengthOp.FIXED32_LITTLE, "20000000"),
        (LengthOp.FIXED64_BIG, "0000000000000020"),
        (LengthOp.FIXED64_LITTLE, "2000000000000000"),
        (LengthOp.REQUIRE_32_BYTES, ""),
    ],
)
def test_what_stands_before_key_and_value(length: LengthOp, prefix: str) -> None:
    leaf = LeafOp(HashOp.SHA256, HashOp.NO_HASH, HashOp.SHA256, length, b"p")
    before = bytes.fromhex(prefix)
    content = b"p" + before + b"k" * 32 + before + sha256(b"v").digest()
    assert leaf.apply(b"k" * 32, b"v") == sha256(content).digest()


def test_required_lengths() -> None:
    short = LeafOp(HashOp.SHA256, length=LengthOp.REQUIRE_32_BYTES)
    assert "exactly 32" in refuse(short.apply, b"k" * 31, b"v" * 32)
    long = LeafOp(HashOp.SHA256, length=LengthOp.REQUIRE_64_BYTES)
    assert "exactly 64" in refuse(long.apply, b"k" * 64, b"v" * 32)
    assert long.apply(b"k" * 64, b"v" * 64) == sha256(b"k" * 64 + b"v" * 64).digest()
    assert "VAR_RLP" in refuse(LeafOp(HashOp.SHA256, length=LengthOp.VAR_RLP).apply, b"k", b"v")


def test_an_inner_node() -> None:
    left, right = b"l" * 32, b"r" * 32
    node = sha256(b"\1" + left + right).digest()
    for op, child, branch in ((inner_op(right, 0), left, 0), (inner_op(left, 1), right, 1)):
        assert op.apply(child) == node
        assert branch_of(TROTH_SPEC.inner_spec, op) == branch


def test_a_leaf_of_state() -> None:
    expected = sha256(b"\0" + sha256(b"k").digest() + sha256(b"v").digest()).digest()
    assert LEAF_OP.apply(b"k", b"v") == expected
    assert calculate_root(ExistenceProof(b"k", b"v", LEAF_OP)) == expected


# Existence


def test_every_key_of_a_tree_is_proven() -> None:
    for key, value in ENTRIES.items():
        proof = membership(TREE, key)
        verify_membership(TROTH_SPEC, TREE.root, proof, key, value)
        verify_state_membership(TREE.root, key, value, proof)


def test_a_tree_of_one_leaf() -> None:
    tree = ReferenceTree({KEY: VALUE})
    assert membership(tree, KEY) == CommitmentProof(ExistenceProof(KEY, VALUE, LEAF_OP))
    verify_state_membership(tree.root, KEY, VALUE, membership(tree, KEY))
    verify_state_absence(tree.root, ABSENT, absence(tree, ABSENT))


def test_existence_is_about_its_key_value_and_root() -> None:
    tree = TREE
    proof = membership(tree, KEY)
    assert "another key" in refuse(verify_state_membership, tree.root, b"key 8", VALUE, proof)
    assert "another value" in refuse(verify_state_membership, tree.root, KEY, b"value 8", proof)
    assert "root" in refuse(verify_state_membership, OTHER.root, KEY, VALUE, proof)
    assert "root" in refuse(verify_state_membership, b"", KEY, VALUE, proof)
    assert "absence" in refuse(verify_state_membership, tree.root, KEY, VALUE, absence(tree, ABSENT))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hash": HashOp.SHA512}, "leaf's hash"),
        ({"prehash_key": HashOp.NO_HASH}, "prehash_key"),
        ({"prehash_value": HashOp.NO_HASH}, "prehash_value"),
        ({"length": LengthOp.VAR_PROTO}, "length"),
        ({"prefix": b"\1"}, "prefix"),
        ({"prefix": b""}, "prefix"),
    ],
)
def test_the_leaf_operation_is_the_specs(change: dict[str, object], reason: str) -> None:
    exist = existence(TREE, KEY)
    forged = replace(exist, leaf=replace(LEAF_OP, **change))  # type: ignore[arg-type]
    assert reason in refuse(verify_membership, TROTH_SPEC, TREE.root, CommitmentProof(forged), KEY, VALUE)


def test_a_proof_without_a_leaf_operation() -> None:
    forged = replace(existence(TREE, KEY), leaf=None)
    assert "leaf" in refuse(check_against_spec, TROTH_SPEC, forged)
    assert "leaf" in refuse(calculate_root, forged)


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (InnerOp(HashOp.SHA512, b"\1" + bytes(32)), "inner hash"),
        (InnerOp(HashOp.SHA256, b"\0" + bytes(32)), "like a leaf"),
        (InnerOp(HashOp.SHA256, b"", bytes(32)), "too short"),
        (InnerOp(HashOp.SHA256, b"\1" + bytes(33)), "too long"),
        (InnerOp(HashOp.SHA256, b"\1" + bytes(64)), "too long"),
        (InnerOp(HashOp.SHA256, b"\1", bytes(31)), "one child"),
        (InnerOp(HashOp.SHA256, b"\1", bytes(64)), "one child"),
    ],
)
def test_inner_operations_are_of_the_specs_form(op: InnerOp, reason: str) -> None:
    proof = ExistenceProof(KEY, VALUE, LEAF_OP, (op,))
    assert reason in refuse(check_against_spec, TROTH_SPEC, proof)


def test_depth() -> None:
    step = inner_op(EMPTY_CHILD, 1)
    check_against_spec(TROTH_SPEC, ExistenceProof(KEY, VALUE, LEAF_OP, (step,) * 256))
    too_deep = ExistenceProof(KEY, VALUE, LEAF_OP, (step,) * 257)
    assert "at most 256" in refuse(check_against_spec, TROTH_SPEC, too_deep)
    assert "at most 256" in refuse(check_position, too_deep)
    assert "at most 128" in refuse(check_against_spec, replace(TROTH_SPEC, max_depth=0), too_deep)
    shallow = replace(TROTH_SPEC, min_depth=3)
    assert "at least 3" in refuse(check_against_spec, shallow, replace(too_deep, path=(step, step)))


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """The halves of a node's content, given out as the hashes of a key and a value."""
    left, right = (ReferenceTree({key: b"v"}).root for key in (key_at("0"), key_at("1")))
    tree = ReferenceTree({key_at("0"): b"v", key_at("1"): b"v"})
    forged = ExistenceProof(left, right, LeafOp(HashOp.SHA256, prefix=b"\1"))
    assert calculate_root(forged) == tree.root
    assert refuse(verify_membership, TROTH_SPEC, tree.root, CommitmentProof(forged), left, right)


# Position


def test_a_leaf_in_a_wrong_place_is_ics23_but_no_state() -> None:
    """Someone who writes a tree can put a leaf anywhere; its hashes fit, its path does not."""
    right = TREE.bit(KEY, 0)
    wrong = 1 - right
    exist = ExistenceProof(KEY, VALUE, LEAF_OP, (inner_op(EMPTY_CHILD, wrong),))
    root, proof = calculate_root(exist), CommitmentProof(exist)
    verify_membership(TROTH_SPEC, root, proof, KEY, VALUE)
    reason = refuse(verify_state_membership, root, KEY, VALUE, proof)
    assert f"takes branch {wrong} at depth 0, where the key lies in branch {right}" in reason


def test_a_misplaced_neighbour_proves_no_absence() -> None:
    key, asked = key_at("1"), key_at("01")
    neighbour = ExistenceProof(key, b"v", LEAF_OP, (inner_op(EMPTY_CHILD, 0),))  # should be branch 1
    root, proof = calculate_root(neighbour), CommitmentProof(nonexist=NonExistenceProof(asked, right=neighbour))
    verify_non_membership(TROTH_SPEC, root, proof, asked)
    assert "branch 0" in refuse(verify_state_absence, root, asked, proof)


def test_the_leaf_operation_of_state_is_exact() -> None:
    """ICS-23 lets a leaf's prefix be longer than the spec's; nothing else may stand in a leaf of state."""
    leaf = replace(LEAF_OP, prefix=b"\0more")
    exist = ExistenceProof(KEY, VALUE, leaf)
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "spec's own" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


def test_an_inner_prefix_is_exact() -> None:
    op = inner_op(EMPTY_CHILD, TREE.bit(KEY, 0))
    exist = ExistenceProof(KEY, VALUE, LEAF_OP, (replace(op, prefix=b"\2" + op.prefix[1:]),))
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "begin" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


@pytest.mark.parametrize(("before", "after"), [(0, 0), (32, 32), (10, 0)])
def test_an_operation_without_exactly_one_sibling_is_no_node_of_state(before: int, after: int) -> None:
    op = InnerOp(HashOp.SHA256, b"\1" + bytes(before), bytes(after))
    exist = ExistenceProof(KEY, VALUE, LEAF_OP, (op,))
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "branch None" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


# Absence


def test_absence_everywhere_in_a_tree() -> None:
    for number in range(200):
        key = f"absent {number}".encode()
        proof = absence(TREE, key)
        verify_non_membership(TROTH_SPEC, TREE.root, proof, key)
        verify_state_absence(TREE.root, key, proof)


def test_a_present_key_is_not_absent() -> None:
    tree = TREE
    keys = tree.keys
    for at in (0, 1, 30, 58, 59):
        left = existence(tree, keys[at - 1]) if at else None
        right = existence(tree, keys[at + 1]) if at + 1 < len(keys) else None
        proof = CommitmentProof(nonexist=NonExistenceProof(keys[at], left, right))
        assert "may lie between" in refuse(verify_state_absence, tree.root, keys[at], proof)
    for left_at, right_at in ((30, 31), (29, 30)):
        own = NonExistenceProof(keys[30], existence(tree, keys[left_at]), existence(tree, keys[right_at]))
        assert "does not lie" in refuse(verify_state_absence, tree.root, keys[30], CommitmentProof(nonexist=own))


def test_leaves_between_the_neighbours_shown() -> None:
    """A leaf deeper on the left one's right, or on the right one's left, lies between them."""
    low, hidden_low, hidden_high, high = (key_at(bits) for bits in ("000", "001", "110", "111"))
    asked = key_at("10")
    tree = ReferenceTree(dict.fromkeys((low, hidden_low, hidden_high, high), b"v"))
    for left, right in ((low, hidden_high), (hidden_low, high), (low, high)):
        skipping = NonExistenceProof(asked, existence(tree, left), existence(tree, right))
        assert "may lie between" in refuse(verify_state_absence, tree.root, asked, CommitmentProof(nonexist=skipping))
    verify_state_absence(tree.root, asked, absence(tree, asked))


def test_empty_sides_lie_between_no_neighbours() -> None:
    """Two leaves that share a long prefix hang below nodes with an empty side."""
    low, high, before, after = (key_at(bits) for bits in ("0110000", "0110001", "00", "10"))
    tree = ReferenceTree({low: b"l", high: b"h"})
    assert [sibling for sibling, _ in tree.path(low)].count(EMPTY_CHILD) == 6
    for asked in (before, after):
        verify_state_absence(tree.root, asked, absence(tree, asked))


@pytest.mark.parametrize("path", [(), (inner_op(EMPTY_CHILD, 1),)])
def test_one_leaf_under_two_keys_is_not_two_neighbours(path: tuple[InnerOp, ...]) -> None:
    """Where nothing separates prefix and key, one leaf can be shown under two keys around a third."""
    plain = LeafOp(HashOp.SHA256, HashOp.NO_HASH, HashOp.SHA256, LengthOp.NO_PREFIX, b"\0")
    spec = replace(TROTH_SPEC, leaf_spec=plain, prehash_key_before_comparison=False)
    left = ExistenceProof(b"ab", b"v", plain, path)
    right = ExistenceProof(b"b", b"v", replace(plain, prefix=b"\0a"), path)
    root = calculate_root(left)
    assert calculate_root(right) == root
    proof = CommitmentProof(nonexist=NonExistenceProof(b"az", left, right))
    assert "never part" in refuse(verify_non_membership, spec, root, proof, b"az")


def test_absence_is_about_its_key_and_kind() -> None:
    tree = TREE
    proof = absence(tree, ABSENT)
    assert "another key" in refuse(verify_state_absence, tree.root, b"something else", proof)
    assert "at least one byte" in refuse(verify_state_absence, tree.root, b"", absence(tree, b""))
    assert "existence" in refuse(verify_state_absence, tree.root, KEY, membership(tree, KEY))
    assert "existence" in refuse(verify_non_membership, TROTH_SPEC, tree.root, membership(tree, KEY), KEY)
    assert "root" in refuse(verify_state_absence, OTHER.root, ABSENT, proof)


def test_in_an_empty_tree_every_key_is_absent() -> None:
    none = CommitmentProof(nonexist=NonExistenceProof(ABSENT))
    verify_state_absence(EMPTY_CHILD, ABSENT, none)
    verify_state_absence(EMPTY_CHILD, ABSENT, CommitmentProof.decode(none.encode()))
    assert ReferenceTree({}).root == EMPTY_CHILD
    assert "neighbour" in refuse(verify_state_absence, TREE.root, ABSENT, none)
    assert "neighbour" in refuse(verify_state_absence, b"", ABSENT, none)
    assert "neighbour" in refuse(verify_non_membership, TROTH_SPEC, EMPTY_CHILD, none, ABSENT)
    assert "root" in refuse(verify_state_absence, EMPTY_CHILD, ABSENT, absence(TREE, ABSENT))


# Branches


@pytest.mark.parametrize("sibling", [EMPTY_CHILD, b"s" * 32])
def test_empty_branches(sibling: bytes) -> None:
    spec, empty = TROTH_SPEC.inner_spec, sibling == EMPTY_CHILD
    left, right = inner_op(sibling, 0), inner_op(sibling, 1)
    assert (left_branch_is_empty(spec, left), right_branch_is_empty(spec, left)) == (False, empty)
    assert (left_branch_is_empty(spec, right), right_branch_is_empty(spec, right)) == (empty, False)


@pytest.mark.parametrize("lengths", [(0, 0), (0, 32), (32, 0), (1, 0), (2, 32), (1, 33), (34, 0), (33, 32), (65, 0)])
def test_lengths_that_fit_no_branch(lengths: tuple[int, int]) -> None:
    op = InnerOp(HashOp.SHA256, bytes(lengths[0]), bytes(lengths[1]))
    assert branch_of(TROTH_SPEC.inner_spec, op) is None
    assert not left_branch_is_empty(TROTH_SPEC.inner_spec, op)
    assert not right_branch_is_empty(TROTH_SPEC.inner_spec, op)


def test_errors_cross_processes() -> None:
    error = VerifyFailed(BROKEN, "a reason")
    assert isinstance(error, TrothError)
    assert error.exit_code == 3
