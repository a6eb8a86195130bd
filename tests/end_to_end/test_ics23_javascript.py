"""State proofs as a stranger checks them: made by `ledger.ics23`, verified by @confio/ics23 under Node.js."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from ledger.errors import Invalid, VerifyFailed
from ledger.ics23 import (
    EMPTY_CHILD,
    LEAF_OP,
    TROTH_SPEC,
    CommitmentProof,
    ExistenceProof,
    HashOp,
    InnerOp,
    LengthOp,
    calculate_root,
    inner_op,
    verify_membership,
    verify_state_membership,
)
from tests.ics23_js.install import ensure_ics23_js
from tests.ics23_js.verify import Case, run_verifier, verify_with_javascript
from tests.reference_tree import ReferenceTree
from tests.state_proofs import absence, existence, membership

SIZES = (1, 2, 3, 17, 300)


@cache
def tree(size: int) -> ReferenceTree:
    """A tree of random keys and values of 1 to 40 bytes."""
    random = Random(size)
    entries: dict[bytes, bytes] = {}
    while len(entries) < size:
        entries[random.randbytes(random.randint(1, 40))] = random.randbytes(random.randint(1, 40))
    return ReferenceTree(entries)


def honest(of: ReferenceTree, key: bytes) -> Case:
    return Case(of.root, key, of.entries[key], membership(of, key).encode())


def holds_here(case: Case) -> bool:
    """What Troth's own verifier says."""
    try:
        proof = CommitmentProof.decode(case.proof)
        verify_state_membership(case.root, case.key, case.value, proof)
    except (VerifyFailed, Invalid):
        return False
    return True


def test_without_node_the_check_fails_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"node was not found.*apt-get install nodejs npm"):
        ensure_ics23_js()


def test_every_proof_of_every_tree_is_accepted() -> None:
    cases = [honest(tree(size), key) for size in SIZES for key in tree(size).keys]
    assert len(cases) == sum(SIZES)
    assert all(holds_here(case) for case in cases)
    assert verify_with_javascript(cases) == [True] * len(cases)


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def forged_proofs(proof: ExistenceProof, random: Random) -> Iterator[ExistenceProof]:
    """Proofs with something altered: a bit of a child, the order or number of steps, an operation."""

    def with_step(at: int, change: Callable[[InnerOp], InnerOp]) -> ExistenceProof:
        return replace(proof, path=(*proof.path[:at], change(proof.path[at]), *proof.path[at + 1 :]))

    for changed in (
        replace(LEAF_OP, hash=HashOp.SHA512),
        replace(LEAF_OP, prehash_key=HashOp.NO_HASH),
        replace(LEAF_OP, prehash_value=HashOp.NO_HASH),
        replace(LEAF_OP, length=LengthOp.VAR_PROTO),
        replace(LEAF_OP, prefix=b"\1"),
        replace(LEAF_OP, prefix=b"\0\0"),
        replace(LEAF_OP, prefix=b""),
        None,
    ):
        yield replace(proof, leaf=changed)
    yield replace(proof, path=(*proof.path, inner_op(EMPTY_CHILD, 0)))
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


def test_every_forged_proof_is_refused() -> None:
    random = Random(1)
    cases = []
    for size in SIZES:
        of = tree(size)
        for key in random.sample(of.keys, min(size, 8)):
            case, proof = honest(of, key), existence(of, key)
            value = case.value
            other = ExistenceProof(key, value + b"x", proof.leaf, proof.path)
            stranger = ExistenceProof(key + b"x", value, proof.leaf, proof.path)
            cases += [
                case._replace(value=flip(value, random.randrange(len(value) * 8))),
                case._replace(key=flip(key, random.randrange(len(key) * 8))),
                case._replace(root=flip(case.root, random.randrange(256))),
                case._replace(root=tree(18).root),
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
    assert not any(holds_here(case) for case in cases)
    answers = verify_with_javascript(cases)
    assert answers == [False] * len(cases)


def test_bytes_of_a_proof_are_bound_by_troths_verifier_alone() -> None:
    """protobuf.js ignores wire types, so it reads one message out of several encodings; Troth reads one encoding."""
    of = tree(17)
    case = honest(of, of.keys[0])
    assert case.proof[0] == 0x0A  # field 1, length-delimited
    key_tag = case.proof.index(bytes([0x0A, len(case.key)]) + case.key)
    other_wire_type = case._replace(proof=case.proof[:key_tag] + b"\x08" + case.proof[key_tag + 1 :])
    assert verify_with_javascript([case, other_wire_type]) == [True, True]
    assert not any(holds_here(case._replace(proof=flip(case.proof, bit))) for bit in range(len(case.proof) * 8))


def test_where_a_key_lies_is_checked_by_troths_verifier_alone() -> None:
    """A tree with a leaf in a wrong place satisfies ICS-23; this is why `verify_state_membership` looks further."""
    key, value = b"key", b"value"
    wrong = 1 - ReferenceTree.bit(key, 0)
    exist = ExistenceProof(key, value, LEAF_OP, (inner_op(EMPTY_CHILD, wrong),))
    root, proof = calculate_root(exist), CommitmentProof(exist)
    verify_membership(TROTH_SPEC, root, proof, key, value)
    case = Case(root, key, value, proof.encode())
    assert verify_with_javascript([case]) == [True]
    assert not holds_here(case)


def test_the_script_compares_with_what_is_expected() -> None:
    of = tree(17)
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
        '{"spec": "troth", "cases": [{}]}',
        '{"spec": "troth", "cases": [{"root": "0", "key": "", "value": "", "proof": ""}]}',
    ],
)
def test_the_script_refuses_other_input(text: str) -> None:
    assert run_verifier(text, exit_code=2) == []
