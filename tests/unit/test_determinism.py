"""One chain, one result: on every Python, under every hash seed, however the node was stopped and pruned.

The constants are what every node and every auditor has computed so far. Where one of them changes, a chain that exists
replays differently: the change then needs a version that takes effect at a height, unless nothing was released yet.
New ones come from `python -m tests.scripted_chain`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.contracts import registry
from tests.scripted_chain import PARAMETERS, Outcome, run

pytestmark = pytest.mark.determinism

_ROOT = Path(__file__).parents[2]

HEIGHT = 16
TRANSACTIONS = 513
BLOCK_ID = "e62bf6c60ecc7e49489f3ce45d8831dc9260d038ce604a590967dbf06e008102"
STATE_ROOT = "46cf62a5232acb874aa1b6574651bf391179226bfac16654f0139acbd9f0905a"
RECEIPTS = "6886661918d56c059ca76ab6031528ab714ea592214c11b8b0dafae1cca4f0a9"


def _agreed(found: Outcome) -> None:
    assert (found.height, found.transactions) == (HEIGHT, TRANSACTIONS)
    assert found.receipts == RECEIPTS, f"other receipts: {found.codes}"
    assert found.state_root == STATE_ROOT
    assert found.block_id == BLOCK_ID


def test_the_result_is_the_one_agreed_on() -> None:
    _agreed(run())


@pytest.mark.parametrize("keep_heights", [0, 1, 5])
def test_a_node_that_was_stopped_and_pruned_between_blocks_agrees(keep_heights: int) -> None:
    _agreed(run(reopen=True, keep_heights=keep_heights))


@pytest.mark.parametrize("seed", ["0", "1", "12345"])
def test_every_hash_seed_gives_the_same(seed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.scripted_chain"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    _agreed(Outcome(**json.loads(ended.stdout)))


def test_the_script_leaves_nothing_out() -> None:
    found = run()
    every = {
        f"{name}.{method.name}"
        for name, contract in registry().contracts.items()
        for method in contract.methods.values()
        if not method.is_view
    }
    assert every <= set(found.methods)
    assert sum(count for code, count in found.codes.items() if code) > 50
    assert len(found.codes) > 20
    assert PARAMETERS.block_transactions >= TRANSACTIONS
