"""`troth demo` and `troth audit` as a person runs them: real processes, real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.demos.complete_journey_data import expected
from node.stores import open_store
from tests.end_to_end.nodes import troth


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The home of a demonstration of two weeks, during which the node was killed three times, and what it said."""
    home = tmp_path_factory.mktemp("demo") / "home"
    code, out, err = troth("demo", "complete-journey", "--weeks", "2", "--kills", "3", "--keep", str(home), "--json")
    assert code == 0, err
    return home, json.loads(out)


def test_the_demonstration_ends_equal_and_audited_though_its_node_was_killed(kept: tuple[Path, dict[str, Any]]) -> None:
    _, said = kept
    sums = expected(2)
    assert said["equal"] is True
    assert (said["issued"], said["redeemed"]) == (sums.issued, sums.redeemed)
    assert said["households"] == len(sums.balances)
    assert said["transactions"] == 1 + said["baskets"] + said["redemptions_paid"]
    assert (said["restarts"], said["validators"]) == (3, 1)
    assert said["audit"]["ok"] is True
    assert said["audit"]["transactions"] == said["audit"]["signatures"] == said["transactions"]
    assert said["audit"]["failed_transactions"] == 0


def test_the_kept_home_can_be_audited_and_one_changed_byte_is_found(
    kept: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    home, said = kept
    code, out, err = troth("audit", "replay", "--data", str(home), "--json")
    assert code == 0, err
    assert json.loads(out)["block_id"] == said["audit"]["block_id"]

    damaged = tmp_path / "home"
    shutil.copytree(home, damaged)
    store = open_store("leveldb", damaged / "data" / "ledger", create=False)
    key = b"b" + (2).to_bytes(8, "big")
    block = bytearray(store.get(key) or b"")
    block[len(block) // 2] ^= 1
    store.write([(key, bytes(block))])
    store.close()
    code, out, err = troth("audit", "replay", "--data", str(damaged))
    assert (code, out) == (3, "")
    assert "E-AUDIT-001 block 2:" in err


@pytest.mark.slow
def test_four_validators_end_equal_though_one_after_the_other_was_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    more = ("--validators", "4", "--kills", "4", "--keep", str(home), "--json")
    code, out, err = troth("demo", "complete-journey", "--weeks", "2", *more)
    assert code == 0, err
    said, sums = json.loads(out), expected(2)
    assert (said["equal"], said["validators"], said["restarts"]) == (True, 4, 4)
    assert (said["issued"], said["redeemed"], said["households"]) == (sums.issued, sums.redeemed, len(sums.balances))
    assert said["audit"]["transactions"] == said["transactions"] == 1 + said["baskets"] + said["redemptions_paid"]
    code, out, err = troth("audit", "replay", "--data", str(home / "node-3"), "--json")
    assert code == 0, err
    assert json.loads(out)["transactions"] == said["transactions"]


def test_weeks_and_all_exclude_each_other_and_a_folder_is_never_replaced(tmp_path: Path) -> None:
    code, _, err = troth("demo", "complete-journey", "--weeks", "2", "--all")
    assert (code, "--all and --weeks" in err) == (1, True)
    code, _, err = troth("demo", "complete-journey", "--weeks", "1", "--keep", str(tmp_path))
    assert (code, "E-HOME-002" in err) == (1, True)
