"""Asks @confio/ics23, a verifier that nobody in this project wrote, whether state proofs hold.

What its version 0.6.8 checks of an existence proof: the leaf's hash, both prehashes, length operation and the
beginning of its prefix; each inner operation's hash, that its prefix does not begin like a leaf and is from 1 to
1 + 32 bytes long; the depth; key, value and root. What it does not: that prefix and
suffix are made of whole children (only the hash speaks for that), where in the tree the key lies, that the bytes of
a proof are its message's only encoding, and, in absence proofs, empty children and keys compared by their hashes. So
absence is left to `ledger.ics23`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from tests.ics23_js.install import ensure_ics23_js

_VERIFY_SECONDS_MAX = 120


class Case(NamedTuple):
    """A claim that `key` has `value` under `root`, and the encoded CommitmentProof that should show it."""

    root: bytes
    key: bytes
    value: bytes
    proof: bytes


def verify_with_javascript(cases: Sequence[Case]) -> list[bool]:
    """What `verifyMembership` says of each case, in order."""
    text = json.dumps(
        {
            "spec": "troth",
            "cases": [{name: part.hex() for name, part in case._asdict().items()} for case in cases],
        }
    )
    return [bool(answer["accepted"]) for answer in run_verifier(text)]


def run_verifier(text: str, *, exit_code: int = 0) -> list[dict[str, object]]:
    """The answers of `node verify.cjs` to this input. Raises RuntimeError where it ends with another exit code."""
    done = subprocess.run(
        ["node", "verify.cjs"],
        cwd=ensure_ics23_js(),
        input=text,
        capture_output=True,
        text=True,
        timeout=_VERIFY_SECONDS_MAX,
        check=False,
    )
    if done.returncode != exit_code:
        raise RuntimeError(
            f"verify.cjs ended with {done.returncode}, expected {exit_code}: {done.stderr or done.stdout}"
        )
    return [json.loads(line) for line in done.stdout.splitlines()]
