"""State proofs as a stranger checks them: made by `ledger.ics23`, verified by @confio/ics23 under Node.js."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from random import Random

import pytest

from ledger.errors import Invalid, VerifyFailed
from ledger.ics23 import (
    EMPTY_CHILD,
    CommitmentProof,
    ExistenceProof,
    HashOp,
    InnerOp,
    LengthOp,
    inner_op,
    leaf_op,
    sparse_spec,
    verify_membership,
    verify_state_membership,
)
from tests.ics23_js.install import ensure_ics23_js
from tests.ics23_js.verify import Case, run_verifier, verify_with_javascript
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, existence, membership

ARITIES = (2, 16)
SIZES = (1, 2, 3, 17, 300)


@cache
def tree(arity: int, size: int) -> ReferenceTree:
    """A tree of random keys and values of 1 to 40 bytes."""
    random = Random(size)
    entries: dict[bytes, bytes] = {}
    while len(entries) < size:
        entries[random.randbytes(random.randint(1, 40))] = random.randbytes(random.randint(1, 40))
    return ReferenceTree(entries, arity)


def honest(of: ReferenceTree, key: bytes) -> Case:
    return Case(of.root, key, of.entries[key], membership(of, key).encode())


def holds_here(case: Case, arity: int) -> bool:
    """What Troth's own verifier says."""
    try:
        proof = CommitmentProof.decode(case.proof)
        verify_state_membership(case.root, case.key, case.value, proof, sparse_spec(arity))
    except (VerifyFailed, Invalid):
        return False
    return True


def test_without_node_the_check_fails_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"node was not found.*apt-get install nodejs npm"):
        ensure_ics23_js()


@pytest.mark.parametrize("arity", ARITIES)
def test_every_proof_of_every_tree_is_accepted(arity: int) -> None:
    cases = [honest(tree(arity, size), key) for size in SIZES for key in tree(arity, size).keys]
    assert len(cases) == sum(SIZES)
    assert all(holds_here(case, arity) for case in cases)
    assert verify_with_javascript(cases, arity=arity) == [True] * len(cases)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def forged_proofs(proof: ExistenceProof, random: Random) -> Iterator[ExistenceProof]:
    """Proofs with something altered: a bit of a child, the order or number of steps, an operation."""

    def with_step(at: int, change: Callable[[InnerOp], InnerOp]) -> ExistenceProof:
        return replace(proof, path=(*proof.path[:at], change(proof.path[at]), *proof.path[at + 1 :]))

    leaf = leaf_op()
    for changed in (
        replace(leaf, hash=HashOp.SHA512),
        replace(leaf, prehash_key=HashOp.NO_HASH),
        replace(leaf, prehash_value=HashOp.NO_HASH),
        replace(leaf, length=LengthOp.VAR_PROTO),
        replace(leaf, prefix=b"\1"),
        replace(leaf, prefix=b"\0\0"),
        replace(leaf, prefix=b""),
        None,
    ):
        yield replace(proof, leaf=changed)
    yield replace(proof, path=(*proof.path, inner_op([EMPTY_CHILD] * 2, 0)))
    for at, op in enumerate(proof.path):
        yield replace(proof, path=(*proof.path[:at], *proof.path[at + 1 :]))
        yield with_step(at, lambda op: replace(op, hash=HashOp.SHA512))
        yield with_step(at, lambda op: replace(op, prefix=op.prefix[1:]))
        yield with_step(at, lambda op: replace(op, prefix=op.prefix + bytes(32)))
        yield with_step(at, lambda op: replace(op, suffix=op.suffix + bytes(32)))
        if op.suffix != op.prefix[1:]:
            yield with_step(at, lambda op: InnerOp(op.hash, b"\1" + op.suffix, op.prefix[1:]))
        for part in ("prefix", "suffix"):
            if content := getattr(op, part):
                bit = random.randrange(len(content) * 8)
                flipped = flip(content, bit)
                yield with_step(at, lambda op, part=part, flipped=flipped: replace(op, **{part: flipped}))  # type: ignore[misc]
    if len(set(proof.path)) > 1:
        yield replace(proof, path=proof.path[::-1])


@pytest.mark.parametrize("arity", ARITIES)
def test_every_forged_proof_is_refused(arity: int) -> None:
    random = Random(arity)
    cases = []
    for size in SIZES:
        of = tree(arity, size)
        for key in random.sample(of.keys, min(size, 8)):
            case, proof = honest(of, key), existence(of, key)
            value = case.value
            other = ExistenceProof(key, value + b"x", proof.leaf, proof.path)
            stranger = ExistenceProof(key + b"x", value, proof.leaf, proof.path)
            cases += [
                case._replace(value=flip(value, random.randrange(len(value) * 8))),
                case._replace(key=flip(key, random.randrange(len(key) * 8))),
                case._replace(root=flip(case.root, random.randrange(256))),
                case._replace(root=tree(arity, 18).root),
                case._replace(root=b""),
                case._replace(value=b""),
                case._replace(value=other.value, proof=CommitmentProof(other).encode()),
                case._replace(key=stranger.key, proof=CommitmentProof(stranger).encode()),
                case._replace(proof=absence(of, b"absent").encode()),
                case._replace(proof=case.proof[:-1]),
                case._replace(proof=b""),
            ]
            for _ in range(3):
                bit = random.randrange(len(value) * 8)
                forged_value = replace(proof, value=flip(value, bit))
                cases.append(case._replace(value=forged_value.value, proof=CommitmentProof(forged_value).encode()))
            cases += [case._replace(proof=CommitmentProof(forged).encode()) for forged in forged_proofs(proof, random)]
    assert len(cases) > 700
    assert not any(holds_here(case, arity) for case in cases)
    answers = verify_with_javascript(cases, arity=arity)
    assert answers == [False] * len(cases)


def test_bytes_of_a_proof_are_bound_by_troths_verifier_alone() -> None:
    """protobuf.js ignores wire types, so it reads one message out of several encodings; Troth reads one encoding."""
    of = tree(16, 17)
    case = honest(of, of.keys[0])
    assert case.proof[0] == 0x0A  # field 1, length-delimited
    key_tag = case.proof.index(bytes([0x0A, len(case.key)]) + case.key)
    other_wire_type = case._replace(proof=case.proof[:key_tag] + b"\x08" + case.proof[key_tag + 1 :])
    assert verify_with_javascript([case, other_wire_type]) == [True, True]
    assert not any(holds_here(case._replace(proof=flip(case.proof, bit)), 16) for bit in range(len(case.proof) * 8))


@pytest.mark.parametrize("arity", ARITIES)
def test_a_proof_for_one_arity_is_none_for_another(arity: int) -> None:
    of = tree(arity, 300)
    too_wide = [honest(of, key) for key in of.keys if of.path(key)[0][1] > 1]
    assert bool(too_wide) == (arity == 16)
    assert verify_with_javascript(too_wide, arity=2) == [False] * len(too_wide)


def test_where_a_key_lies_is_checked_by_troths_verifier_alone() -> None:
    """A tree with a leaf in a wrong place satisfies ICS-23; this is why `verify_state_membership` looks further."""
    key, value = b"key", b"value"
    right = sha256(key).digest()[0] >> 4
    wrong = right ^ 1
    children = [EMPTY_CHILD] * 16
    children[wrong] = leaf_op().apply(key, value)
    root = sha256(b"\1" + b"".join(children)).digest()
    proof = CommitmentProof(ExistenceProof(key, value, leaf_op(), (inner_op(children, wrong),)))
    verify_membership(sparse_spec(16), root, proof, key, value)
    case = Case(root, key, value, proof.encode())
    assert verify_with_javascript([case]) == [True]
    assert not holds_here(case, 16)


def test_the_script_compares_with_what_is_expected() -> None:
    of = tree(16, 17)
    case = {name: part.hex() for name, part in honest(of, of.keys[0])._asdict().items()}
    answers = run_verifier(json.dumps({"spec": "troth", "cases": [{**case, "expect": True}]}))
    assert answers == [{"case": 0, "accepted": True, "reason": "verifyMembership: true"}]
    unexpected = json.dumps({"spec": "troth", "cases": [{**case, "expect": False}]})
    assert run_verifier(unexpected, exit_code=1)[0]["accepted"] is True
    missing = json.dumps({"spec": "troth", "cases": [{**case, "root": bytes(32).hex(), "expect": True}]})
    assert run_verifier(missing, exit_code=1)[0]["accepted"] is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"spec": "smt", "cases": []}',
        '{"spec": "troth"}',
        '{"spec": "troth", "arity": 3, "cases": []}',
        '{"spec": "troth", "cases": [{}]}',
        '{"spec": "troth", "cases": [{"root": "0", "key": "", "value": "", "proof": ""}]}',
    ],
)
def test_the_script_refuses_other_input(text: str) -> None:
    assert run_verifier(text, exit_code=2) == []
