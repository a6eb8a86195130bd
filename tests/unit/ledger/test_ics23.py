from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from ledger.errors import Invalid, TrothError, VerifyFailed
from ledger.ics23 import (
    BAD_SPEC,
    BROKEN,
    EMPTY_CHILD,
    MAX_PROOF_BYTES,
    SMT_SPEC,
    TENDERMINT_SPEC,
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
    leaf_op,
    left_branches_are_empty,
    right_branches_are_empty,
    sparse_spec,
    verify_membership,
    verify_non_membership,
    verify_state_absence,
    verify_state_membership,
)
from ledger.protobuf import TOO_LARGE
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, existence, membership

ARITIES = (2, 4, 16, 256)
ENTRIES = {f"key {number}".encode(): f"value {number}".encode() for number in range(60)}
TREES = {arity: ReferenceTree(ENTRIES, arity) for arity in ARITIES}
KEY = b"key 7"
VALUE = ENTRIES[KEY]
ABSENT = b"nothing here"


def key_at(*digits: int) -> bytes:
    """A key whose hash begins with these hexadecimal digits."""
    wanted = "".join(f"{digit:x}" for digit in digits)
    return next(key for key in (str(number).encode() for number in range(10**6)) if _hash(key).startswith(wanted))


def _hash(key: bytes) -> str:
    return sha256(key).hexdigest()


def refuse(verify: object, *arguments: object) -> str:
    """The reason with which a verification fails."""
    assert callable(verify)
    with pytest.raises(VerifyFailed) as caught:
        verify(*arguments)
    assert caught.value.code == BROKEN
    return caught.value.cause


# Specs and forms


def test_the_binary_sparse_spec_is_ics23s_smt() -> None:
    assert (
        ProofSpec(
            LeafOp(HashOp.SHA256, HashOp.SHA256, HashOp.SHA256, LengthOp.NO_PREFIX, b"\0"),
            InnerSpec((0, 1), 32, 1, 1, bytes(32), HashOp.SHA256),
            max_depth=256,
            prehash_key_before_comparison=True,
        )
        == SMT_SPEC
    )


def test_troths_spec() -> None:
    assert TROTH_SPEC.inner_spec.child_order == tuple(range(16))
    assert TROTH_SPEC.max_depth == 64
    assert (
        TROTH_SPEC.encode().hex()
        == (
            "0a090801100118012a0100"  # leaf
            "123c0a10000102030405060708090a0b0c0d0e0f1020180120012a20" + "00" * 32 + "3001"  # inner
            "18402801"  # depth 64, keys compared by their hashes
        )
    )


@pytest.mark.parametrize("spec", [TENDERMINT_SPEC, *map(sparse_spec, ARITIES)])
def test_a_spec_survives_its_encoding(spec: ProofSpec) -> None:
    assert ProofSpec.decode(spec.encode()) == spec


@pytest.mark.parametrize("arity", [0, 1, 3, 8, 32, 512])
def test_a_sparse_tree_divides_the_hash_evenly(arity: int) -> None:
    with pytest.raises(Invalid) as caught:
        sparse_spec(arity)
    assert caught.value.code == BAD_SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"child_order": ()},
        {"child_order": (0, 0)},
        {"child_order": (1, 2)},
        {"child_size": 0},
        {"min_prefix_length": 2},
        {"max_prefix_length": 33},
        {"empty_child": bytes(31)},
    ],
)
def test_a_spec_open_to_two_readings_is_refused(change: dict[str, object]) -> None:
    spec = replace(SMT_SPEC, inner_spec=replace(SMT_SPEC.inner_spec, **change))  # type: ignore[arg-type]
    with pytest.raises(Invalid) as caught:
        check_spec(spec)
    assert caught.value.code == BAD_SPEC
    with pytest.raises(Invalid):
        check_against_spec(spec, existence(TREES[2], KEY))


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
    huge = CommitmentProof(exist=ExistenceProof(b"k", bytes(MAX_PROOF_BYTES), leaf_op()))
    with pytest.raises(Invalid) as caught:
        CommitmentProof.decode(huge.encode())
    assert caught.value.code == TOO_LARGE


@pytest.mark.parametrize("arity", ARITIES)
def test_a_proof_survives_its_encoding(arity: int) -> None:
    for proof in (membership(TREES[arity], KEY), absence(TREES[arity], ABSENT)):
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


def test_a_node_of_sixteen() -> None:
    children = [bytes([digit]) * 32 for digit in range(16)]
    node = sha256(b"\1" + b"".join(children)).digest()
    for branch in range(16):
        op = inner_op(children, branch)
        assert op.apply(children[branch]) == node
        assert branch_of(TROTH_SPEC.inner_spec, op) == branch


def test_a_sparse_leaf() -> None:
    expected = sha256(b"\0" + sha256(b"k").digest() + sha256(b"v").digest()).digest()
    assert leaf_op().apply(b"k", b"v") == expected
    assert calculate_root(ExistenceProof(b"k", b"v", leaf_op())) == expected


# Existence


@pytest.mark.parametrize("arity", ARITIES)
def test_every_key_of_a_tree_is_proven(arity: int) -> None:
    tree, spec = TREES[arity], sparse_spec(arity)
    for key, value in ENTRIES.items():
        proof = membership(tree, key)
        verify_membership(spec, tree.root, proof, key, value)
        verify_state_membership(tree.root, key, value, proof, spec)


@pytest.mark.parametrize("arity", ARITIES)
def test_a_tree_of_one_leaf(arity: int) -> None:
    tree, spec = ReferenceTree({KEY: VALUE}, arity), sparse_spec(arity)
    verify_state_membership(tree.root, KEY, VALUE, membership(tree, KEY), spec)
    verify_state_absence(tree.root, ABSENT, absence(tree, ABSENT), spec)


def test_existence_is_about_its_key_value_and_root() -> None:
    tree = TREES[16]
    proof = membership(tree, KEY)
    assert "another key" in refuse(verify_state_membership, tree.root, b"key 8", VALUE, proof)
    assert "another value" in refuse(verify_state_membership, tree.root, KEY, b"value 8", proof)
    assert "root" in refuse(verify_state_membership, TREES[2].root, KEY, VALUE, proof)
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
    exist = existence(TREES[16], KEY)
    forged = replace(exist, leaf=replace(leaf_op(), **change))  # type: ignore[arg-type]
    assert reason in refuse(verify_membership, TROTH_SPEC, TREES[16].root, CommitmentProof(forged), KEY, VALUE)


def test_a_proof_without_a_leaf_operation() -> None:
    forged = replace(existence(TREES[16], KEY), leaf=None)
    assert "leaf" in refuse(check_against_spec, TROTH_SPEC, forged)
    assert "leaf" in refuse(calculate_root, forged)


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (InnerOp(HashOp.SHA512, b"\1" + bytes(32)), "inner hash"),
        (InnerOp(HashOp.SHA256, b"\0" + bytes(32)), "like a leaf"),
        (InnerOp(HashOp.SHA256, b"", bytes(32)), "too short"),
        (InnerOp(HashOp.SHA256, b"\1" + bytes(33)), "too long"),
        (InnerOp(HashOp.SHA256, b"\1", bytes(31)), "whole children"),
        (InnerOp(HashOp.SHA256, b"\1", bytes(64)), "too long"),
    ],
)
def test_inner_operations_are_of_the_specs_form(op: InnerOp, reason: str) -> None:
    proof = ExistenceProof(KEY, VALUE, leaf_op(), (op,))
    assert reason in refuse(check_against_spec, SMT_SPEC, proof)


def test_depth() -> None:
    step = inner_op([EMPTY_CHILD] * 16, 3)
    check_against_spec(TROTH_SPEC, ExistenceProof(KEY, VALUE, leaf_op(), (step,) * 64))
    too_deep = ExistenceProof(KEY, VALUE, leaf_op(), (step,) * 65)
    assert "at most 64" in refuse(check_against_spec, TROTH_SPEC, too_deep)
    assert "at most 64" in refuse(check_position, TROTH_SPEC, too_deep)
    shallow = replace(TROTH_SPEC, min_depth=3)
    assert "at least 3" in refuse(check_against_spec, shallow, replace(too_deep, path=(step, step)))


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """The halves of a binary node's content, given out as the hashes of a key and a value."""
    tree = TREES[2]
    children, _ = tree.path(KEY)[-1]
    plain = LeafOp(HashOp.SHA256, prefix=b"\1")
    forged = CommitmentProof(ExistenceProof(children[0], children[1], plain))
    assert calculate_root(ExistenceProof(children[0], children[1], plain)) == tree.root
    assert refuse(verify_membership, SMT_SPEC, tree.root, forged, children[0], children[1])


# Position


@pytest.mark.parametrize("arity", ARITIES)
def test_a_leaf_in_a_wrong_place_is_ics23_but_no_state(arity: int) -> None:
    """Someone who writes a tree can put a leaf anywhere; its hashes fit, its path does not."""
    leaf = leaf_op().apply(KEY, VALUE)
    right = TREES[arity].digit(KEY, 0)
    wrong = (right + 1) % arity
    children = [EMPTY_CHILD] * arity
    children[wrong] = leaf
    root = sha256(b"\1" + b"".join(children)).digest()
    proof = CommitmentProof(ExistenceProof(KEY, VALUE, leaf_op(), (inner_op(children, wrong),)))
    verify_membership(sparse_spec(arity), root, proof, KEY, VALUE)
    reason = refuse(verify_state_membership, root, KEY, VALUE, proof, sparse_spec(arity))
    assert f"takes branch {wrong} at depth 0, where the key lies in branch {right}" in reason


def test_a_misplaced_neighbour_proves_no_absence() -> None:
    key = key_at(8)
    children = [EMPTY_CHILD] * 16
    children[3] = leaf_op().apply(key, b"v")  # should be 8
    root = sha256(b"\1" + b"".join(children)).digest()
    neighbour = ExistenceProof(key, b"v", leaf_op(), (inner_op(children, 3),))
    asked = key_at(5)
    proof = CommitmentProof(nonexist=NonExistenceProof(asked, right=neighbour))
    verify_non_membership(TROTH_SPEC, root, proof, asked)
    assert "branch 3" in refuse(verify_state_absence, root, asked, proof)


def test_the_leaf_operation_of_state_is_exact() -> None:
    """ICS-23 lets a leaf's prefix be longer than the spec's; nothing else may stand in a leaf of state."""
    leaf = replace(leaf_op(), prefix=b"\0more")
    exist = ExistenceProof(KEY, VALUE, leaf)
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "spec's own" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


def test_an_inner_prefix_is_exact() -> None:
    children = [EMPTY_CHILD] * 16
    branch = TREES[16].digit(KEY, 0)
    op = inner_op(children, branch)
    exist = ExistenceProof(KEY, VALUE, leaf_op(), (replace(op, prefix=b"\2" + op.prefix[1:]),))
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "begin" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


def test_an_operation_of_fewer_children_is_no_node_of_state() -> None:
    op = InnerOp(HashOp.SHA256, b"\1", bytes(32))
    exist = ExistenceProof(KEY, VALUE, leaf_op(), (op,))
    root = calculate_root(exist)
    verify_membership(TROTH_SPEC, root, CommitmentProof(exist), KEY, VALUE)
    assert "branch None" in refuse(verify_state_membership, root, KEY, VALUE, CommitmentProof(exist))


def test_only_sparse_trees_have_positions() -> None:
    with pytest.raises(Invalid) as caught:
        check_position(replace(TROTH_SPEC, min_depth=1), existence(TREES[16], KEY))
    assert caught.value.code == BAD_SPEC


# Absence


@pytest.mark.parametrize("arity", ARITIES)
def test_absence_everywhere_in_a_tree(arity: int) -> None:
    tree, spec = TREES[arity], sparse_spec(arity)
    for number in range(200):
        key = f"absent {number}".encode()
        proof = absence(tree, key)
        verify_non_membership(spec, tree.root, proof, key)
        verify_state_absence(tree.root, key, proof, spec)


def test_a_present_key_is_not_absent() -> None:
    tree = TREES[16]
    keys = tree.keys
    for at in (0, 1, 30, 58, 59):
        left = existence(tree, keys[at - 1]) if at else None
        right = existence(tree, keys[at + 1]) if at + 1 < len(keys) else None
        proof = CommitmentProof(nonexist=NonExistenceProof(keys[at], left, right))
        assert "may lie between" in refuse(verify_state_absence, tree.root, keys[at], proof)
    for left_at, right_at in ((30, 31), (29, 30)):
        own = NonExistenceProof(keys[30], existence(tree, keys[left_at]), existence(tree, keys[right_at]))
        assert "does not lie" in refuse(verify_state_absence, tree.root, keys[30], CommitmentProof(nonexist=own))


def test_neighbours_part_over_empty_children_only() -> None:
    low, middle, high, asked = key_at(2), key_at(7), key_at(11), key_at(5)
    wide = ReferenceTree({low: b"l", high: b"h"}, 16)
    verify_state_absence(wide.root, asked, absence(wide, asked))
    full = ReferenceTree({low: b"l", middle: b"m", high: b"h"}, 16)
    verify_state_absence(full.root, asked, absence(full, asked))
    skipping = NonExistenceProof(asked, existence(full, low), existence(full, high))
    assert "between the neighbours" in refuse(
        verify_state_absence, full.root, asked, CommitmentProof(nonexist=skipping)
    )


def test_neighbours_below_where_the_paths_part() -> None:
    """A leaf deeper on the left one's right, or on the right one's left, lies between them."""
    low, hidden_low, hidden_high, high, asked = (
        key_at(2, 1),
        key_at(2, 9),
        key_at(11, 1),
        key_at(11, 9),
        key_at(5),
    )
    tree = ReferenceTree(dict.fromkeys((low, hidden_low, hidden_high, high), b"v"), 16)
    for left, right in ((low, hidden_high), (hidden_low, high), (low, high)):
        skipping = NonExistenceProof(asked, existence(tree, left), existence(tree, right))
        assert "may lie between" in refuse(verify_state_absence, tree.root, asked, CommitmentProof(nonexist=skipping))
    verify_state_absence(tree.root, asked, absence(tree, asked))


@pytest.mark.parametrize("path", [(), (inner_op([EMPTY_CHILD] * 16, 3),)])
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
    tree = TREES[16]
    proof = absence(tree, ABSENT)
    assert "another key" in refuse(verify_state_absence, tree.root, b"something else", proof)
    assert "at least one byte" in refuse(verify_state_absence, tree.root, b"", absence(tree, b""))
    assert "existence" in refuse(verify_state_absence, tree.root, KEY, membership(tree, KEY))
    assert "existence" in refuse(verify_non_membership, TROTH_SPEC, tree.root, membership(tree, KEY), KEY)
    assert "root" in refuse(verify_state_absence, TREES[2].root, ABSENT, proof)


def test_in_an_empty_tree_every_key_is_absent() -> None:
    none = CommitmentProof(nonexist=NonExistenceProof(ABSENT))
    verify_state_absence(EMPTY_CHILD, ABSENT, none)
    verify_state_absence(EMPTY_CHILD, ABSENT, CommitmentProof.decode(none.encode()), SMT_SPEC)
    assert ReferenceTree({}, 16).root == EMPTY_CHILD
    assert "neighbour" in refuse(verify_state_absence, TREES[16].root, ABSENT, none)
    assert "neighbour" in refuse(verify_state_absence, b"", ABSENT, none)
    assert "neighbour" in refuse(verify_non_membership, TROTH_SPEC, EMPTY_CHILD, none, ABSENT)
    assert "root" in refuse(verify_state_absence, EMPTY_CHILD, ABSENT, absence(TREES[16], ABSENT))


# Branches


def test_children_may_be_stored_in_another_order() -> None:
    """Branch 1 stands last, as in trees that write a node's own data between its children's."""
    spec = InnerSpec((0, 2, 1), 4, 1, 1, b"none", HashOp.SHA256)
    node = {0: b"zero", 1: b"none", 2: b"two."}
    op = InnerOp(HashOp.SHA256, b"\1zero", node[1])  # at position 1 stands branch 2
    assert branch_of(spec, op) == 2
    assert not left_branches_are_empty(spec, op)
    assert left_branches_are_empty(spec, replace(op, prefix=b"\1none"))
    assert not right_branches_are_empty(spec, op)
    last = InnerOp(HashOp.SHA256, b"\1" + b"nonetwo.")
    assert branch_of(spec, last) == 1
    assert left_branches_are_empty(spec, last)
    assert not right_branches_are_empty(spec, last)
    assert right_branches_are_empty(spec, replace(last, prefix=b"\1zeronone"))


@pytest.mark.parametrize("lengths", [(0, 0), (0, 32), (32, 0), (1, 0), (2, 32), (1, 33), (34, 0), (33, 32), (65, 0)])
def test_lengths_that_fit_no_branch(lengths: tuple[int, int]) -> None:
    op = InnerOp(HashOp.SHA256, bytes(lengths[0]), bytes(lengths[1]))
    assert branch_of(SMT_SPEC.inner_spec, op) is None
    assert not left_branches_are_empty(SMT_SPEC.inner_spec, op)
    assert not right_branches_are_empty(SMT_SPEC.inner_spec, op)


def test_errors_cross_processes() -> None:
    error = VerifyFailed(BROKEN, "a reason")
    assert isinstance(error, TrothError)
    assert error.exit_code == 3
