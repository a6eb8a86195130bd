"""A node whose key is in another process, by the commands that a person types: it survives the signer's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.home import Home
from tests.end_to_end.nodes import ROOT, NodeProcess, environment


@contextmanager
def signer(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`troth signer start` on a home, ready; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "--home", str(home), "signer", "start"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert process.poll() is None, "the signer has ended"
            status = [sys.executable, "-m", "cli", "--home", str(home), "signer", "status"]
            if subprocess.run(status, cwd=ROOT, env=environment(), capture_output=True, check=False).returncode == 0:
                break
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_node_signs_by_another_process_and_outlives_it(tmp_path: Path) -> None:
    node = NodeProcess.create(tmp_path, settings={"validator.signer": "signing/socket"})
    with signer(node.home) as first:
        node.start()
        try:
            made = node.troth_json("points", "create", "beans", "Beans", "--as", "dev:roaster")
            before = made["height"]
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            waits = node.troth("points", "mint", "beans", "dev:alice", "5", "--as", "dev:roaster", "--timeout", "2")
            assert waits.code == 6, waits
            with node.client() as client:
                assert client.chain()["height"] == before
            with signer(node.home):
                deadline = time.monotonic() + 60
                balance = 0
                while balance != 5 and time.monotonic() < deadline:
                    found = node.troth_json("points", "balance", "beans", "dev:alice")
                    balance = found["value"]
                assert balance == 5  # the same transaction, which waited for a signature
        finally:
            code = node.stop()
    assert code == 0
    assert Home(node.home).signing_record.exists()
    assert node.troth("audit", "replay", "--data", str(node.home)).code == 0
