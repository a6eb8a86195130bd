"""A full disk, on a small file system of its own: the node says so and stops, and goes on once there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.transactions import build, chain_facts, submit
from ledger.address import address_of
from ledger.errors import Unavailable
from ledger.transaction import Call
from node.contracts import registry
from node.keystore import dev_key
from tests.end_to_end.nodes import NodeProcess

SMALL, LARGE = "12m", "200m"
ACCOUNTS_A_TRANSACTION = 100


@pytest.fixture
def file_system(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a few MB. Where mounting is not permitted the test fails, unless TROTH_NO_MOUNT says not to try."""
    if os.environ.get("TROTH_NO_MOUNT"):
        pytest.skip("TROTH_NO_MOUNT is set: no file system of a few MB can be mounted")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_the_node_in_words_and_nothing_final_is_lost(file_system: Path) -> None:
    node = NodeProcess.create(file_system)
    node.log = file_system.with_name("node.log")  # the node's last words must not need the full disk
    brand, contracts = dev_key("grocer"), registry()
    actor = address_of(brand.public)
    final: list[int] = []

    def grant(client_of: NodeProcess, *calls: Call) -> None:
        with client_of.client() as client:
            transaction = build(contracts, chain_facts(client.chain()), [actor], calls).sign([brand])
            outcome = submit(client, [transaction])[0]
            assert outcome.status == "final", outcome
            assert outcome.receipt is not None
            assert outcome.receipt["ok"], outcome.receipt
            final.append(sum(call.method == "mint" for call in calls))

    node.start()
    try:
        grant(node, Call(0, "points", "create", ("club", "Club", None, "points", 0)))
        with pytest.raises(Unavailable):
            for _ in range(2_000):
                accounts = [os.urandom(20) for _ in range(ACCOUNTS_A_TRANSACTION)]
                grant(node, *[Call(0, "points", "mint", ("club", account, 1)) for account in accounts])
        assert node.ended() == 1
        assert "E-STORE-003" in node.log_tail()
        assert "free space" in node.log_tail()

        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(file_system)], check=True)
        node.start()
        with node.client() as client:
            issued = client.view("points", "show", {"programme": "club"})["issued"]
        # The grant that met the full disk was not acknowledged: it may have taken effect or not, but never in part.
        assert issued - sum(final) in (0, ACCOUNTS_A_TRANSACTION)
        grant(node, Call(0, "points", "mint", ("club", actor, 1)))
    finally:
        node.stop()
    done = node.troth("audit", "replay", "--data", str(node.home))
    assert done.code == 0, done
