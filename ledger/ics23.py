"""State proofs in the form of ICS-23 (Interchain Standard 23, "Vector Commitments"), and their verification.

A proof is a list of hash operations from a key and a value up to a root; a *spec* says which operations a tree may
use. So one verifier serves many trees, and verifiers that nobody here wrote check Troth's, whose spec is ICS-23's own
`smt` (TROTH_SPEC). Rules kept here:
- the messages of cosmos/ics23/v1/proofs.proto that single proofs need: no batches, no compression, no exclusion; and
  binary trees only, as are all for which ICS-23 has a spec;
- existence: the operations fit the spec, key and value are those asked for, and the calculated root is the given one;
- absence: two proven neighbours enclose the key (or one, at the tree's edge), and their paths leave no room for a leaf
  between them;
- in the state tree a leaf's key hash is also its path. `verify_state_membership` and `verify_state_absence` check
  that, so that a proof cannot lie about where a key lies.

One rule goes beyond the ICS-23 text, which cannot say that a key is absent from an empty tree: there is no leaf to
show. Here that proof is a NonExistenceProof without neighbours, and `verify_state_absence` takes it for the all-zero
root alone.

Every verifier returns None or raises VerifyFailed (E-PROOF-001) with the reason.
Sources: https://github.com/cosmos/ibc/tree/main/spec/core/ics-023-vector-commitments and
https://github.com/cosmos/ics23/blob/master/proto/cosmos/ics23/v1/proofs.proto
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import ClassVar, Literal, NoReturn

from ledger import protobuf
from ledger.errors import Invalid, VerifyFailed, define
from ledger.hashes import HASH_BYTES

BROKEN = define("E-PROOF-001", "a state proof does not hold", "do not trust this answer; ask another node")
BAD_SPEC = define("E-PROOF-002", "not a proof spec", "use one of the specs in docs/spec/bytes.md")
TWO_KINDS = define("E-PROOF-003", "not one proof", "a CommitmentProof holds an existence or a non-existence proof")

MAX_PROOF_BYTES = 1 << 20
"""Largest encoded proof that is read, in bytes."""

DEFAULT_MAX_DEPTH = 128
"""Most inner operations of a proof whose spec names no maximum (as in the other implementations)."""

_MAX_DEPTH = 256


class HashOp(IntEnum):
    """How bytes are hashed. Those that Python does not have everywhere are known by name and refused."""

    NO_HASH = 0
    SHA256 = 1
    SHA512 = 2
    KECCAK = 3
    RIPEMD160 = 4
    BITCOIN = 5
    SHA512_256 = 6
    BLAKE2B_512 = 7
    BLAKE2S_256 = 8
    BLAKE3 = 9


class LengthOp(IntEnum):
    """What stands before the key and the value in a leaf."""

    NO_PREFIX = 0
    VAR_PROTO = 1
    VAR_RLP = 2
    FIXED32_BIG = 3
    FIXED32_LITTLE = 4
    FIXED64_BIG = 5
    FIXED64_LITTLE = 6
    REQUIRE_32_BYTES = 7
    REQUIRE_64_BYTES = 8


@dataclass(frozen=True, slots=True)
class LeafOp:
    """leaf = hash(prefix | length(prehash_key(key)) | length(prehash_value(value)))"""

    hash: HashOp = HashOp.NO_HASH
    prehash_key: HashOp = HashOp.NO_HASH
    prehash_value: HashOp = HashOp.NO_HASH
    length: LengthOp = LengthOp.NO_PREFIX
    prefix: bytes = b""

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Integer(1, "hash", HashOp),
        protobuf.Integer(2, "prehash_key", HashOp),
        protobuf.Integer(3, "prehash_value", HashOp),
        protobuf.Integer(4, "length", LengthOp),
        protobuf.Bytes(5, "prefix"),
    )

    def apply(self, key: bytes, value: bytes) -> bytes:
        """The leaf's hash. ICS-23 knows neither an empty key nor an empty value."""
        if not key:
            _fail("a leaf needs a key")
        if not value:
            _fail("a leaf needs a value")
        prepared_key = _with_length(self.length, _prehash(self.prehash_key, key))
        prepared_value = _with_length(self.length, _prehash(self.prehash_value, value))
        return apply_hash(self.hash, self.prefix + prepared_key + prepared_value)


@dataclass(frozen=True, slots=True)
class InnerOp:
    """node = hash(prefix | child | suffix)"""

    hash: HashOp = HashOp.NO_HASH
    prefix: bytes = b""
    suffix: bytes = b""

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Integer(1, "hash", HashOp),
        protobuf.Bytes(2, "prefix"),
        protobuf.Bytes(3, "suffix"),
    )

    def apply(self, child: bytes) -> bytes:
        """The node's hash."""
        if not child:
            _fail("an inner operation needs a child")
        return apply_hash(self.hash, self.prefix + child + self.suffix)


@dataclass(frozen=True, slots=True)
class ExistenceProof:
    """The operations from key and value up to the root; `path` begins next to the leaf."""

    key: bytes = b""
    value: bytes = b""
    leaf: LeafOp | None = None
    path: tuple[InnerOp, ...] = ()

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Bytes(1, "key"),
        protobuf.Bytes(2, "value"),
        protobuf.Embedded(3, "leaf", LeafOp),
        protobuf.Repeated(4, "path", InnerOp, _MAX_DEPTH),
    )


@dataclass(frozen=True, slots=True)
class NonExistenceProof:
    """The neighbours of an absent key. ICS-23 ignores `key`: other writers put the key or its hash there."""

    key: bytes = b""
    left: ExistenceProof | None = None
    right: ExistenceProof | None = None

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Bytes(1, "key"),
        protobuf.Embedded(2, "left", ExistenceProof),
        protobuf.Embedded(3, "right", ExistenceProof),
    )


@dataclass(frozen=True, slots=True)
class CommitmentProof:
    """One proof of either kind. Raises Invalid (E-PROOF-003) where it is not exactly one."""

    exist: ExistenceProof | None = None
    nonexist: NonExistenceProof | None = None

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Embedded(1, "exist", ExistenceProof),
        protobuf.Embedded(2, "nonexist", NonExistenceProof),
    )

    def __post_init__(self) -> None:
        if (self.exist is None) == (self.nonexist is None):
            raise Invalid(TWO_KINDS, "a proof of existence or of absence was expected, found neither or both")

    def encode(self) -> bytes:
        """The canonical protobuf bytes."""
        return protobuf.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> CommitmentProof:
        """The proof of these bytes. Raises Invalid (E-PROTOBUF-..., E-PROOF-003)."""
        return protobuf.decode(cls, data, max_bytes=MAX_PROOF_BYTES)


@dataclass(frozen=True, slots=True)
class InnerSpec:
    """The shape of a node: a prefix of min to max bytes, then two children of `child_size` bytes, left and right."""

    child_order: tuple[int, ...] = ()
    child_size: int = 0
    min_prefix_length: int = 0
    max_prefix_length: int = 0
    empty_child: bytes = b""
    hash: HashOp = HashOp.NO_HASH

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Integers(1, "child_order", 2),
        protobuf.Integer(2, "child_size"),
        protobuf.Integer(3, "min_prefix_length"),
        protobuf.Integer(4, "max_prefix_length"),
        protobuf.Bytes(5, "empty_child"),
        protobuf.Integer(6, "hash", HashOp),
    )


@dataclass(frozen=True, slots=True)
class ProofSpec:
    """What a tree's proofs must look like. A verifier holds it beforehand and never takes it from a proof."""

    leaf_spec: LeafOp = LeafOp()
    inner_spec: InnerSpec = InnerSpec()
    max_depth: int = 0
    min_depth: int = 0
    prehash_key_before_comparison: bool = False

    FIELDS: ClassVar[tuple[protobuf.Field, ...]] = (
        protobuf.Embedded(1, "leaf_spec", LeafOp),
        protobuf.Embedded(2, "inner_spec", InnerSpec),
        protobuf.Integer(3, "max_depth"),
        protobuf.Integer(4, "min_depth"),
        protobuf.Flag(5, "prehash_key_before_comparison"),
    )

    def encode(self) -> bytes:
        """The canonical protobuf bytes."""
        return protobuf.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> ProofSpec:
        """The spec of these bytes. Raises Invalid (E-PROTOBUF-..., E-PROOF-002)."""
        spec = protobuf.decode(cls, data, max_bytes=MAX_PROOF_BYTES)
        check_spec(spec)
        return spec


def check_spec(spec: ProofSpec) -> None:
    """Raises Invalid (E-PROOF-002) where a spec is not a binary tree's, or leaves branches open to two readings."""
    inner = spec.inner_spec
    if inner.child_order != (0, 1):
        raise Invalid(BAD_SPEC, "child_order must be 0, 1: a left child and a right one")
    if inner.child_size <= 0:
        raise Invalid(BAD_SPEC, "child_size must be positive")
    if not 0 <= inner.min_prefix_length <= inner.max_prefix_length < inner.min_prefix_length + inner.child_size:
        raise Invalid(BAD_SPEC, "prefix lengths must not vary by a whole child")
    if inner.empty_child and len(inner.empty_child) != inner.child_size:
        raise Invalid(BAD_SPEC, "empty_child must be as long as a child")


# Troth's spec

EMPTY_CHILD = bytes(HASH_BYTES)
"""Stands for an empty subtree; also the root of an empty tree."""

LEAF_OP = LeafOp(
    hash=HashOp.SHA256,
    prehash_key=HashOp.SHA256,
    prehash_value=HashOp.SHA256,
    length=LengthOp.NO_PREFIX,
    prefix=b"\x00",
)
"""The leaf operation of the state tree: SHA-256(0x00 | SHA-256(key) | SHA-256(value))."""

_INNER_PREFIX = b"\x01"

TROTH_SPEC = ProofSpec(
    leaf_spec=LEAF_OP,
    inner_spec=InnerSpec(
        child_order=(0, 1),
        child_size=HASH_BYTES,
        min_prefix_length=len(_INNER_PREFIX),
        max_prefix_length=len(_INNER_PREFIX),
        empty_child=EMPTY_CHILD,
        hash=HashOp.SHA256,
    ),
    max_depth=HASH_BYTES * 8,
    prehash_key_before_comparison=True,
)
"""The spec of Troth's state tree, which is `smt` of ICS-23: see ledger/state_tree.py for the tree."""


def inner_op(sibling: bytes, branch: int) -> InnerOp:
    """The operation of an inner node of the state tree: the path comes from `branch` (0 left, 1 right)."""
    if branch:
        return InnerOp(HashOp.SHA256, _INNER_PREFIX + sibling)
    return InnerOp(HashOp.SHA256, _INNER_PREFIX, sibling)


# ICS-23 verification


def verify_membership(spec: ProofSpec, root: bytes, proof: CommitmentProof, key: bytes, value: bytes) -> None:
    """Raises VerifyFailed unless `proof` shows that `key` has `value` under `root` in a tree of `spec`."""
    if proof.exist is None:
        _fail("a proof of existence was expected, found one of absence")
    _verify_existence(spec, root, proof.exist, key, value)


def verify_non_membership(spec: ProofSpec, root: bytes, proof: CommitmentProof, key: bytes) -> None:
    """Raises VerifyFailed unless `proof` shows that `key` has no value under `root` in a tree of `spec`."""
    if proof.nonexist is None:
        _fail("a proof of absence was expected, found one of existence")
    left, right = proof.nonexist.left, proof.nonexist.right
    place = _place(spec, key)
    if left is not None:
        _verify_existence(spec, root, left, left.key, left.value)
        if _place(spec, left.key) >= place:
            _fail("the left neighbour does not lie left of the key")
    if right is not None:
        _verify_existence(spec, root, right, right.key, right.value)
        if _place(spec, right.key) <= place:
            _fail("the right neighbour does not lie right of the key")
    if left is not None and right is not None:
        _check_neighbours(spec.inner_spec, left.path, right.path)
    elif left is not None:
        _check_right_most(spec.inner_spec, left.path)
    elif right is not None:
        _check_left_most(spec.inner_spec, right.path)
    else:
        _fail("a proof of absence needs a neighbour")


def calculate_root(proof: ExistenceProof) -> bytes:
    """The root that the proof's operations lead to; it proves nothing until the operations are checked."""
    if proof.leaf is None:
        _fail("a proof of existence needs a leaf operation")
    node = proof.leaf.apply(proof.key, proof.value)
    for op in proof.path:
        node = op.apply(node)
    return node


def check_against_spec(spec: ProofSpec, proof: ExistenceProof) -> None:
    """Raises VerifyFailed unless every operation of the proof is one that the spec allows."""
    check_spec(spec)
    if proof.leaf is None:
        _fail("a proof of existence needs a leaf operation")
    check_leaf(spec.leaf_spec, proof.leaf)
    depth = len(proof.path)
    if depth < spec.min_depth:
        _fail(f"{depth} inner operations, at least {spec.min_depth} are needed")
    if depth > (spec.max_depth or DEFAULT_MAX_DEPTH):
        _fail(f"{depth} inner operations, at most {spec.max_depth or DEFAULT_MAX_DEPTH} are allowed")
    for op in proof.path:
        _check_inner(spec, op)


def check_leaf(spec: LeafOp, leaf: LeafOp) -> None:
    """Raises VerifyFailed unless the leaf operation is the spec's; its prefix may be longer."""
    for name in ("hash", "prehash_key", "prehash_value", "length"):
        found, expected = getattr(leaf, name), getattr(spec, name)
        if found != expected:
            _fail(f"the leaf's {name} is {found.name}, the spec says {expected.name}")
    if not leaf.prefix.startswith(spec.prefix):
        _fail(f"the leaf's prefix does not begin with {spec.prefix.hex()}")


def _check_inner(spec: ProofSpec, op: InnerOp) -> None:
    inner = spec.inner_spec
    if op.hash != inner.hash:
        _fail(f"an inner hash is {op.hash.name}, the spec says {inner.hash.name}")
    if op.prefix.startswith(spec.leaf_spec.prefix):
        _fail("an inner operation begins like a leaf")
    if len(op.prefix) < inner.min_prefix_length:
        _fail(f"an inner prefix of {len(op.prefix)} bytes is too short")
    if len(op.prefix) > inner.max_prefix_length + inner.child_size:
        _fail(f"an inner prefix of {len(op.prefix)} bytes is too long")
    if len(op.suffix) not in (0, inner.child_size):
        _fail(f"an inner suffix of {len(op.suffix)} bytes is not one child")


def _verify_existence(spec: ProofSpec, root: bytes, proof: ExistenceProof, key: bytes, value: bytes) -> None:
    check_against_spec(spec, proof)
    if proof.key != key:
        _fail("the proof is about another key")
    if proof.value != value:
        _fail("the proof is about another value")
    if calculate_root(proof) != root:
        _fail("the proof does not lead to this root")


def _place(spec: ProofSpec, key: bytes) -> bytes:
    """What keys are ordered by."""
    return _prehash(spec.leaf_spec.prehash_key, key) if spec.prehash_key_before_comparison else key


# Neighbours


def branch_of(spec: InnerSpec, op: InnerOp) -> int | None:
    """The branch of a node that an operation takes (0 left, 1 right), or None where its lengths fit neither.

    `check_spec` sees to it that they never fit both.
    """
    for branch, before, after in ((0, 0, spec.child_size), (1, spec.child_size, 0)):
        prefix = len(op.prefix) - before
        if spec.min_prefix_length <= prefix <= spec.max_prefix_length and len(op.suffix) == after:
            return branch
    return None


def left_branch_is_empty(spec: InnerSpec, op: InnerOp) -> bool:
    """True where the operation takes the right branch, and the left one is the spec's empty child."""
    return branch_of(spec, op) == 1 and spec.empty_child == op.prefix[-spec.child_size :]


def right_branch_is_empty(spec: InnerSpec, op: InnerOp) -> bool:
    """True where the operation takes the left branch, and the right one is the spec's empty child."""
    return branch_of(spec, op) == 0 and spec.empty_child == op.suffix


def _check_left_most(spec: InnerSpec, path: Sequence[InnerOp]) -> None:
    for op in path:
        if branch_of(spec, op) != 0 and not left_branch_is_empty(spec, op):
            _fail("a leaf may lie between the key and its right neighbour")


def _check_right_most(spec: InnerSpec, path: Sequence[InnerOp]) -> None:
    for op in path:
        if branch_of(spec, op) != 1 and not right_branch_is_empty(spec, op):
            _fail("a leaf may lie between the key and its left neighbour")


def _check_neighbours(spec: InnerSpec, left: Sequence[InnerOp], right: Sequence[InnerOp]) -> None:
    common = 0  # from the root down
    shorter = min(len(left), len(right))
    while common < shorter and left[-1 - common] == right[-1 - common]:
        common += 1
    if common == shorter:
        _fail("the neighbours' paths never part")
    # Equal operations above lead to one root, so both of these make the same node.
    if branch_of(spec, left[-1 - common]) != 0 or branch_of(spec, right[-1 - common]) != 1:
        _fail("the neighbours' paths do not part from left to right")
    _check_right_most(spec, left[: len(left) - 1 - common])
    _check_left_most(spec, right[: len(right) - 1 - common])


# Troth's state


def verify_state_membership(root: bytes, key: bytes, value: bytes, proof: CommitmentProof) -> None:
    """Raises VerifyFailed unless `key` has `value` in the state with this root."""
    verify_membership(TROTH_SPEC, root, proof, key, value)
    if proof.exist is not None:
        check_position(proof.exist)


def verify_state_absence(root: bytes, key: bytes, proof: CommitmentProof) -> None:
    """Raises VerifyFailed unless `key` has no value in the state with this root.

    In an empty state (32 zero bytes) every key is absent; there, and only there, a proof has no neighbour.
    """
    absent = proof.nonexist
    if absent is None:
        _fail("a proof of absence was expected, found one of existence")
    if not key:
        _fail("a key is at least one byte")
    if absent.key != key:
        _fail("the proof is about another key")
    if absent.left is None and absent.right is None and root == EMPTY_CHILD:
        return
    verify_non_membership(TROTH_SPEC, root, proof, key)
    for neighbour in (absent.left, absent.right):
        if neighbour is not None:
            check_position(neighbour)


def check_position(proof: ExistenceProof) -> None:
    """Raises VerifyFailed unless a proof takes, at each depth, the branch that the hash of its key names.

    So at depth d (0 at the root) it comes from the side of bit d of SHA-256(key), the highest bit first.
    """
    if len(proof.path) > _MAX_DEPTH:
        _fail(f"{len(proof.path)} inner operations, at most {_MAX_DEPTH} are allowed")
    if proof.leaf != LEAF_OP:
        _fail("the leaf operation is not the spec's own")
    path = int.from_bytes(sha256(proof.key).digest(), "big")
    for depth, op in enumerate(reversed(proof.path)):
        branch = branch_of(TROTH_SPEC.inner_spec, op)
        expected = path >> (_MAX_DEPTH - 1 - depth) & 1
        if branch != expected:
            _fail(f"the path takes branch {branch} at depth {depth}, where the key lies in branch {expected}")
        if not op.prefix.startswith(_INNER_PREFIX):
            _fail(f"the node at depth {depth} does not begin with {_INNER_PREFIX.hex()}")


# Operations

_HASHES: dict[HashOp, Callable[[bytes], bytes]] = {
    HashOp.SHA256: lambda data: sha256(data).digest(),
    HashOp.SHA512: lambda data: hashlib.sha512(data).digest(),
    HashOp.BLAKE2B_512: lambda data: hashlib.blake2b(data).digest(),
    HashOp.BLAKE2S_256: lambda data: hashlib.blake2s(data).digest(),
}
_FIXED: dict[LengthOp, tuple[int, Literal["big", "little"]]] = {
    LengthOp.FIXED32_BIG: (4, "big"),
    LengthOp.FIXED32_LITTLE: (4, "little"),
    LengthOp.FIXED64_BIG: (8, "big"),
    LengthOp.FIXED64_LITTLE: (8, "little"),
}
_REQUIRED = {LengthOp.REQUIRE_32_BYTES: 32, LengthOp.REQUIRE_64_BYTES: 64}


def apply_hash(op: HashOp, data: bytes) -> bytes:
    """The hash of `data`. Raises VerifyFailed for NO_HASH and for hashes that not every Python has."""
    function = _HASHES.get(op)
    if function is None:
        _fail(f"the hash {op.name} is not supported here")
    return function(data)


def _prehash(op: HashOp, data: bytes) -> bytes:
    return data if op is HashOp.NO_HASH else apply_hash(op, data)


def _with_length(op: LengthOp, data: bytes) -> bytes:
    if op is LengthOp.NO_PREFIX:
        return data
    if op is LengthOp.VAR_PROTO:
        return protobuf.varint(len(data)) + data
    if op in _FIXED:
        width, order = _FIXED[op]
        return len(data).to_bytes(width, order) + data
    if op not in _REQUIRED:
        _fail(f"the length operation {op.name} is not supported here")
    if len(data) != _REQUIRED[op]:
        _fail(f"{len(data)} bytes where exactly {_REQUIRED[op]} are required")
    return data


def _fail(reason: str) -> NoReturn:
    raise VerifyFailed(BROKEN, reason)
