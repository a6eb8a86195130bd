"""`troth dev` with four real validators, and the faults that its sub-commands make.

What is expected of a step is that it happens, within a time that no working network needs.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.client import NodeClient
from cli.dev_state import read_state
from node.home import Home
from tests.end_to_end.nodes import ROOT, Ran, address_text, command, environment

pytestmark = pytest.mark.slow

WAIT_SECONDS = 90.0
NODES = 4


def free_ports(count: int) -> int:
    """The first of so many ports in a row that were free a moment ago."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        taken = [port for port in range(first, first + count) if not is_free(port)]
        if not taken and first + count < 65_536:
            return first


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Network:
    """A home, the `troth dev` that runs in it, and its sub-commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_ports(2 * NODES)
        self.log = home.with_name("dev.log")
        self.first: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {**environment(), "TROTH_API_PORT": str(self.port)}

    def start(self, *arguments: str) -> None:
        """Starts `troth dev` and waits until it says that the network runs."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command(self.home, ["dev", "--json", *arguments]),
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        self.first = json.loads(line)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(WAIT_SECONDS)

    def end(self) -> None:
        """Ends all that is left after a test, be it good or not."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)  # the second one kills the nodes
            process.wait(WAIT_SECONDS)

    def troth(self, *arguments: str) -> Ran:
        """A command on the home, run to its end."""
        done = subprocess.run(
            command(self.home, arguments),
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def dev(self, *arguments: str) -> dict[str, Any]:
        """What a sub-command of `dev`, which must succeed, says."""
        ran = self.troth("dev", *arguments, "--json")
        assert ran.code == 0, f"dev {' '.join(arguments)}: {ran.err}"
        return ran.json

    def states(self) -> dict[str, str]:
        """The state of each node."""
        return {row["node"]: row["state"] for row in self.dev("status")["nodes"]}

    def transfer(self, through: int, amount: int = 1) -> Ran:
        """A transfer of dev:alice's to dev:bob, sent to one node, and waited for."""
        url = f"http://127.0.0.1:{self.port + 2 * (through - 1)}"
        transfer = ("points", "transfer", "grocer", address_text("bob"), str(amount), "--as", "dev:alice")
        return self.troth(f"--set=api.url={url}", *transfer, "--json")

    @contextmanager
    def client(self, number: int) -> Iterator[NodeClient]:
        with NodeClient(f"http://127.0.0.1:{self.port + 2 * (number - 1)}", timeout_seconds=10) as client:
            yield client

    def heights(self) -> list[int]:
        found = []
        for number in range(1, NODES + 1):
            with self.client(number) as client:
                found.append(int(client.chain()["height"]))
        return found

    def agree(self) -> int:
        """Waits until all nodes are at one height, and compares every block of theirs. Returns the height."""
        until(lambda: len(set(self.heights())) == 1, "all nodes are at one height")
        height = min(self.heights())
        for each in range(1, height + 1):
            blocks = set()
            for number in range(1, NODES + 1):
                with self.client(number) as client:
                    block = client.get(f"/blocks/{each}")
                    blocks.add((block["block_id"], block["header"]["state_root"]))
            assert len(blocks) == 1, f"different blocks at height {each}"
        return height


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A new network, not started."""
    made = Network(tmp_path / "home")
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def running(network: Network) -> Network:
    """A new network that runs."""
    network.start()
    return network


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def test_four_validators_run_stop_and_go_on_where_they_were(network: Network) -> None:
    network.start()
    said = network.first
    assert [node["node"] for node in said["nodes"]] == [f"node-{number}" for number in range(1, NODES + 1)]
    assert len({node["organisation"] for node in said["nodes"]}) == NODES
    balances = {row["key"]: row["balances"] for row in said["accounts"]}
    assert balances["dev:alice"] == {"grocer": 1_000, "roaster": 20}
    assert {"dev:bank", "dev:airline"} <= set(balances)
    with network.client(1) as client:
        assert len(client.chain()["validators"]) == NODES

    for through in range(1, NODES + 1):
        assert network.transfer(through).code == 0
    height = network.agree()
    refused = network.troth("dev", "--json")
    assert (refused.code, refused.error["code"]) == (1, "E-HOME-006")
    assert network.stop() == 0
    assert [node["pid"] for node in said["nodes"] if alive(node["pid"])] == []
    assert read_state(network.home) is None

    network.start()
    assert network.first["genesis_id"] == said["genesis_id"]
    assert network.first["new_programmes"] == []
    assert network.first["height"] >= height
    held = {row["key"]: row["balances"] for row in network.first["accounts"]}
    assert (held["dev:alice"]["grocer"], held["dev:bob"]["grocer"]) == (1_000 - NODES, 500 + NODES)
    assert network.transfer(1).code == 0
    network.agree()
    assert network.stop() == 0
    assert network.troth("dev", "reset", "--yes").code == 0
    assert not list(network.home.glob("node-*"))


def test_one_killed_node_holds_nobody_up_and_comes_back(running: Network) -> None:
    network = running
    pid = network.dev("kill", "node-2")["pid"]
    assert not alive(pid)
    assert network.states()["node-2"] == "stopped"
    for through in (1, 3, 4):
        assert network.transfer(through).code == 0
    until(lambda: "node-2 was killed by SIGKILL" in network.log.read_text(), "its end is told")
    assert "3 of 4 go on" in network.log.read_text()
    started = network.dev("start", "2")
    assert started["pid"] != pid and alive(started["pid"])
    network.agree()
    assert network.transfer(2).code == 0
    network.agree()
    again = network.troth("dev", "start", "node-2", "--json")
    assert again.error["code"] == "E-DEV-006"


def test_two_killed_nodes_stop_the_chain_until_they_are_back(running: Network) -> None:
    network = running
    before = network.agree()
    for name in ("node-3", "node-4"):
        network.dev("kill", name)
    transfer = ("points", "transfer", "grocer", address_text("bob"), "1", "--as", "dev:alice")
    sent = subprocess.Popen(
        command(network.home, transfer),
        cwd=ROOT,
        env=network.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with sent:
        with network.client(1) as client:
            until(lambda: client.chain()["mempool"]["transactions"] == 1, "the transfer waits")
            assert client.chain()["height"] == before
        until(lambda: "too few to make blocks" in network.log.read_text(), "the halt is told")
        with network.client(2) as client:
            assert client.chain()["height"] == before
        for name in ("node-3", "node-4"):
            network.dev("start", name)
        _, said = sent.communicate(timeout=WAIT_SECONDS)
        assert sent.returncode == 0, said
    assert network.agree() > before


def test_a_paused_node_catches_up(running: Network) -> None:
    network = running
    network.dev("pause", "node-1")
    assert network.states()["node-1"] == "paused"
    for _ in range(3):
        assert network.transfer(2).code == 0
    with network.client(2) as client:
        ahead = client.chain()["height"]
    assert network.dev("resume", "1")["node"] == "node-1"
    assert network.agree() >= ahead
    assert network.dev("pause", "1", "--seconds", "0.2")["seconds"] == 0.2
    assert network.states()["node-1"] != "paused"
    assert network.transfer(1).code == 0


def test_a_node_that_was_cut_off_catches_up_when_it_is_healed(running: Network) -> None:
    network = running
    network.dev("cut", "node-4")
    assert network.states()["node-4"] == "cut off"
    with network.client(4) as client:
        alone = client.chain()["height"]
        for _ in range(3):
            assert network.transfer(1).code == 0
        assert client.chain()["height"] == alone
    network.dev("heal", "node-4")
    assert network.agree() > alone
    assert network.transfer(4).code == 0


def test_all_killed_at_once_come_back_with_what_was_final(running: Network) -> None:
    network = running
    assert network.transfer(1, 7).code == 0
    height = network.agree()
    state = read_state(network.home)
    assert state is not None
    for node in state.nodes:
        assert node.process.send(signal.SIGKILL, group=True)
    until(lambda: "No node runs any more" in network.log.read_text(), "the end of the last one is told")
    assert network.process.poll() is None
    assert network.stop() == 0
    network.start()
    assert network.first["height"] >= height
    held = {row["key"]: row["balances"] for row in network.first["accounts"]}
    assert held["dev:bob"]["grocer"] == 507
    network.agree()


def test_a_paused_node_ends_with_the_others_at_ctrl_c(running: Network) -> None:
    network = running
    network.dev("pause", "node-2")
    assert network.stop() == 0
    assert [node["pid"] for node in network.first["nodes"] if alive(node["pid"])] == []


def test_nodes_that_outlive_a_killed_dev_are_stopped_by_the_next(running: Network) -> None:
    network = running
    pids = [node["pid"] for node in network.first["nodes"]]
    network.process.kill()
    network.process.wait(WAIT_SECONDS)
    assert all(alive(pid) for pid in pids)
    network.start()
    assert not any(alive(pid) for pid in pids)
    assert network.log.read_text().count("had outlived an earlier") == NODES
    assert network.transfer(1).code == 0


def test_a_node_that_cannot_start_is_told_and_the_others_go_on(network: Network) -> None:
    network.start()
    assert network.stop() == 0
    (network.home / "node-3" / "signing" / "record").unlink()
    network.start()
    told = next(line for line in network.log.read_text().splitlines() if line.startswith("node-3 ended"))
    assert "E-GUARD-002" in told and "3 of 4 go on" in told
    assert network.states()["node-3"] == "stopped"
    assert network.transfer(1).code == 0


def test_too_few_that_start_are_no_network(network: Network) -> None:
    network.start()
    assert network.stop() == 0
    for name in ("node-2", "node-3"):
        (network.home / name / "signing" / "record").unlink()
    ran = network.troth("dev", "--json")
    assert (ran.code, ran.error["code"]) == (1, "E-CLI-009")
    assert "node-2 ended" in ran.error["cause"] and "node-3 ended" in ran.error["cause"]
    assert [Home(home).running_pid() for home in sorted(network.home.glob("node-*"))] == [None] * NODES
    assert read_state(network.home) is None


def test_the_status_of_a_node_names_its_peers(running: Network) -> None:
    network = running
    url = f"http://127.0.0.1:{network.port + 2}"

    def has_met_all() -> bool:
        with network.client(2) as client:
            node = client.node()
            return bool(node["caught_up"]) and all(peer["connected"] for peer in node["peers"])

    until(has_met_all, "the node has met all others")
    ran = network.troth("node", "status", "--node", url)
    assert ran.code == 0, ran.err
    assert "As a validator it is in round 0 of height" in ran.out
    assert "3 of 3 peers connected:" in ran.out
    for organisation in ("grocer", "bank", "airline"):
        assert f"  {organisation} " in ran.out


def test_members_who_do_not_know_each_other_found_a_network(tmp_path: Path) -> None:
    first = free_ports(2 * NODES)
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    names = ("grocer", "roaster", "bank", "airline")
    ports = {name: (first + 2 * number, first + 2 * number + 1) for number, name in enumerate(names)}

    def typed(name: str, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            command(tmp_path / name, [*arguments, "--json"]),
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    files = []
    for name in names:
        files.append(str(tmp_path / f"{name}.json"))
        address = f"--address=127.0.0.1:{ports[name][1]}"
        typed(name, "genesis", "member", f"--organisation={name}", address, f"--passphrase-file={secret}",
              f"--out={files[-1]}")  # fmt: skip
    identifiers = set()
    for number, name in enumerate(names):  # each composes for itself, with the files in an order of its own
        out = str(tmp_path / f"genesis-{name}.json")
        rotated = files[number:] + files[:number]
        made = typed(name, "genesis", "compose", *rotated, "--chain-id=acme-1", f"--out={out}")
        typed(name, "join", out, f"--id={made['genesis_id']}")
        identifiers.add(made["genesis_id"])
    assert len(identifiers) == 1

    running = []
    try:
        for name in names:
            with (tmp_path / f"{name}.log").open("wb") as log:
                start = (f"--set=api.port={ports[name][0]}", "node", "start", f"--passphrase-file={secret}")
                running.append(
                    subprocess.Popen(
                        command(tmp_path / name, start),
                        cwd=ROOT,
                        env=environment(),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        url = f"--set=api.url=http://127.0.0.1:{ports['bank'][0]}"

        def is_ready() -> bool:
            ask = command(tmp_path / "bank", [url, "node", "status", "--json"])
            return subprocess.run(ask, cwd=ROOT, env=environment(), capture_output=True, check=False).returncode == 0

        until(is_ready, "the bank's node is ready")
        # The bank's administrator issues, by a key that never left its home.
        typed("bank", url, "points", "create", "miles", "Miles", "--unit=miles", "--as=bank",
              f"--passphrase-file={secret}")  # fmt: skip
        for name in names:
            with NodeClient(f"http://127.0.0.1:{ports[name][0]}") as client:
                until(lambda client=client: client.chain()["height"] >= 1, f"{name} has the block")  # type: ignore[misc]
                assert client.state("points", "programme", ["miles"])["exists"]
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(WAIT_SECONDS) for process in running]
    assert codes == [0] * NODES
