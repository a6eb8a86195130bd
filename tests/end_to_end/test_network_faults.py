"""Four validators as real processes: killed, paused, cut off, wiped, robbed of their records. Whatever happens, there
is one chain, nothing that was called final is lost, nobody signs twice, and the network lives again in time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from node.home import Home
from tests.end_to_end.networks import Ears, Load, NetworkOfNodes, observer, validator_key
from tests.end_to_end.nodes import ROOT

pytestmark = pytest.mark.slow

RESUME_SECONDS = 10.0
"""How soon after the return of those it lacks a network must make blocks again."""

CLOCK_AHEAD_MS = 15_000
"""How far ahead of the others' clocks the time of a block may be (`node.consensus_host`)."""


@contextmanager
def _loaded(folder: Path) -> Iterator[tuple[NetworkOfNodes, Load, Ears]]:
    """A network of four that works, a load that may be put on it, and an observer that hears all votes."""
    network = NetworkOfNodes.create(folder)
    ears = Ears(network.genesis.chain_id)
    with network:
        network.wait_caught_up()
        with observer(network, ears):
            load = Load(network)
            load.fund()
            yield network, load, ears


def _finish(network: NetworkOfNodes, load: Load, ears: Ears) -> None:
    """Everything that was sent ends, all nodes have one chain with all of it, and nobody has signed twice."""
    load.finish()
    network.assert_equal()
    for index in network.all:
        load.check(index)
    ears.hear_chains(network)
    ears.assert_no_double_signature()


def test_one_of_four_killed_under_load(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(20)
            network.kill(3)
            load.wait_final(50)  # progress goes on, the dead one's turns included
            network.wait_progress(0, 1, 2, blocks=5)
            network.start(3)
            network.wait_caught_up(3)
            load.wait_final(20)
        _finish(network, load, ears)


def test_two_of_four_killed_halt_the_network_and_bring_it_back(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(20)
            network.kill(2, 3)
        network.wait(lambda: network.height(0) == network.height(1), "those left stand at one height")
        height, told = network.height(0), len(load.final)
        with load:
            # A round passes. Two of four decide nothing, nor do they go on to the next round without a third.
            network.wait(lambda: min(network.describe(i)["round"] for i in (0, 1)) == 1, "a round goes by")
            threading.Event().wait(3)
        network.assert_no_fork()
        assert network.height(0) == network.height(1) == height
        assert len(load.final) == told
        network.start(2, 3)
        took = network.wait_progress(seconds=RESUME_SECONDS)
        assert took < RESUME_SECONDS
        with load:
            load.wait_final(20)
        _finish(network, load, ears)


@pytest.mark.long
def test_an_outage_of_ten_minutes_is_over_in_ten_seconds(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        network.kill(2, 3)
        threading.Event().wait(600)
        network.start(2, 3)
        assert network.wait_progress(seconds=RESUME_SECONDS) < RESUME_SECONDS
        with load:
            load.wait_final(20)
        _finish(network, load, ears)


def test_a_node_paused_for_ten_seconds_rejoins(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(20)
            network.pause(1)
            threading.Event().wait(10)
            network.wait_progress(0, 2, 3)
            network.resume(1)
            behind = network.height(0)
            network.wait(lambda: network.height(1) > behind, "the paused node rejoins", RESUME_SECONDS)
            load.wait_final(20)
        _finish(network, load, ears)


def test_nodes_cut_off_and_connected_again(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(20)
            network.cut(0)
            network.wait_progress(1, 2, 3, blocks=4)
            network.cut(1)  # two of four are left
            network.wait(lambda: network.height(2) == network.height(3), "those left stand at one height")
            height = network.height(2)
            network.wait(lambda: network.describe(2)["round"] >= 1, "a round goes by")
            assert network.height(2) == network.height(3) == height
            network.heal(0, 1)
            assert network.wait_progress(seconds=RESUME_SECONDS) < RESUME_SECONDS
            load.wait_final(20)
        _finish(network, load, ears)


def test_all_four_killed_at_once_and_started_again(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(30)
            network.kill()
        told = dict(load.final)
        network.start()
        assert network.wait_progress(seconds=RESUME_SECONDS) < RESUME_SECONDS
        assert set(told.items()) <= set(load.final.items())
        with load:
            load.wait_final(20)
        _finish(network, load, ears)


def test_nodes_are_stopped_and_started_again_one_after_the_other_under_load(tmp_path: Path) -> None:
    """As for an upgrade of the software: each node ends in order (SIGTERM) and comes back before the next one goes."""
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            for index in network.all:
                load.wait_final(10)
                network.stop(index)
                network.wait_progress(*[each for each in network.all if each != index], blocks=1)
                network.start(index)
                network.wait_caught_up(index)
            load.wait_final(20)
        _finish(network, load, ears)


def test_random_kills_under_load(tmp_path: Path) -> None:
    random = Random(7)
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            for _ in range(6):
                victims = random.sample(network.all, random.choice((1, 1, 2, 3)))
                threading.Event().wait(random.uniform(0.0, 0.6))
                network.kill(*victims)
                threading.Event().wait(random.uniform(0.0, 0.6))
                network.start(*victims)
                network.wait_progress(blocks=1)
            load.wait_final(20)
        _finish(network, load, ears)


def test_a_wiped_node_gets_everything_again_and_signs(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        with load:
            load.wait_final(30)
            network.kill(2)
            shutil.rmtree(_data(network, 2))
            _data(network, 2).mkdir(mode=0o700)  # a folder that is missing may be a disk that is not mounted
            network.wait_progress(0, 1, 3)
            network.start(2)
            network.wait_caught_up(2)
        load.finish()
        network.kill(3)  # now nothing is decided without the wiped one
        network.wait_progress(0, 1, 2, blocks=4)
        own = network.genesis.validators[_place(network, 2)].address
        last = network.blocks(0)[-1].certificate
        assert own in {seal.validator for seal in last.seals}
        network.start(3)
        _finish(network, load, ears)


def _data(network: NetworkOfNodes, index: int) -> Path:
    """The folder of a node's database."""
    return Home(network.nodes[index].home).ledger


def _place(network: NetworkOfNodes, index: int) -> int:
    """Which of the genesis' validators a node is."""
    public = validator_key(index).public
    return next(place for place, each in enumerate(network.genesis.validators) if each.public_key == public)


def test_a_lost_or_old_signing_record_is_refused_in_words(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        node = network.nodes[3]
        record = node.home / "signing" / "record"
        with load:
            load.wait_final(10)
            network.stop(3)
            old = record.read_bytes()
            network.start(3)
            network.wait_caught_up(3)
            network.wait_progress()
            network.stop(3)
        new = record.read_bytes()
        assert new != old

        record.unlink()
        ran = node.troth("node", "start")
        assert ran.code != 0 and "E-GUARD-002" in ran.err and "rotate the validator's key" in ran.err
        assert not record.exists()  # nothing puts a first one in its place

        record.write_bytes(old)
        record.chmod(0o600)
        ran = node.troth("node", "start")
        assert ran.code != 0 and "E-GUARD-004" in ran.err and "rotate the validator's key" in ran.err
        assert record.read_bytes() == old

        # The database is gone too, so only the others' chain shows that the record is old.
        shutil.move(_data(network, 3), tmp_path / "kept")
        _data(network, 3).mkdir(mode=0o700)
        ran = node.troth("node", "start")
        assert ran.code != 0 and "E-GUARD-004" in ran.err
        assert record.read_bytes() == old

        shutil.rmtree(_data(network, 3))
        shutil.move(tmp_path / "kept", _data(network, 3))
        record.write_bytes(new)
        network.start(3)
        network.wait_caught_up(3)
        _finish(network, load, ears)


_CLOCK = """\
import time
_time, _time_ns, _shift = time.time, time.time_ns, {shift}
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + _shift * 1_000_000_000
"""


def _shift_clock(network: NetworkOfNodes, index: int, seconds: int) -> None:
    """Has a node's processes read a wall clock that is so many seconds off."""
    folder = network.folder / f"clock-{seconds}"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_CLOCK.format(shift=seconds), encoding="ascii")
    network.nodes[index].extra["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"


def test_a_clock_an_hour_off_harms_nobody(tmp_path: Path) -> None:
    with _loaded(tmp_path) as (network, load, ears):
        network.stop(0)
        _shift_clock(network, 0, 3_600)
        network.start(0)
        asked = Load(network, 1, 2, 3)  # for node 0 these transactions have expired
        with asked:
            network.wait_progress(blocks=6)
            asked.wait_final(20)
        asked.finish()
        network.stop(0)
        _shift_clock(network, 0, -3_600)
        ran = network.nodes[0].troth("node", "start", extra=network.nodes[0].extra)
        assert ran.code != 0 and "E-NODE-005" in ran.err  # it says that its clock is behind
        network.nodes[0].extra.clear()
        network.start(0)
        _finish(network, load, ears)
        blocks = network.blocks(1)
        now = time.time_ns() // 1_000_000
        assert all(each.block.header.time_ms <= now + CLOCK_AHEAD_MS for each in blocks)


# Namespaces: a machine for each node, and a bridge between them and this one


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


class _Machines:
    """Four network namespaces on one bridge; machine i has the address 10.98.0.(i + 1)."""

    def __init__(self) -> None:
        self._bridge = f"tb{os.getpid()}"
        self.names = [f"troth-{os.getpid()}-{index}" for index in range(4)]
        self.hosts = [f"10.98.0.{index + 1}" for index in range(4)]

    def __enter__(self) -> _Machines:
        if os.geteuid() != 0:
            pytest.skip("needs root, for network namespaces")
        if shutil.which("ip") is None:
            pytest.skip("needs the command `ip` of iproute2")
        tried = subprocess.run(
            ["ip", "link", "add", self._bridge, "type", "bridge"], capture_output=True, text=True, check=False
        )
        if tried.returncode != 0:
            pytest.skip(f"this machine gives no bridges: {tried.stderr.strip()}")
        try:
            _ip("addr", "add", "10.98.0.254/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for index, (name, host) in enumerate(zip(self.names, self.hosts, strict=True)):
                cable = f"{self._bridge}-{index}"
                _ip("netns", "add", name)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", name)
                _ip("link", "set", cable, "master", self._bridge, "up")
                _ip("-n", name, "addr", "add", f"{host}/24", "dev", "cable")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", "cable", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True, check=False)

    def block(self, sender: int, receiver: int) -> None:
        """From now on nothing of one machine reaches the other; the other way stays open."""
        _ip("-n", self.names[sender], "route", "add", "blackhole", f"{self.hosts[receiver]}/32")

    def unblock(self, sender: int, receiver: int) -> None:
        """Takes `block` back."""
        _ip("-n", self.names[sender], "route", "delete", "blackhole", f"{self.hosts[receiver]}/32")


def test_partitions_between_machines(tmp_path: Path) -> None:
    with _Machines() as machines:
        prefixes = [("ip", "netns", "exec", name) for name in machines.names]
        network = NetworkOfNodes.create(tmp_path, hosts=machines.hosts, prefixes=prefixes)
        ears = Ears(network.genesis.chain_id)
        with network:
            network.wait_caught_up()
            load = Load(network)
            load.fund()
            halves = [(a, b) for a in (0, 1) for b in (2, 3)]
            for a, b in halves:  # 2 and 2: nobody decides anything
                machines.block(a, b)
                machines.block(b, a)
            network.wait(lambda: all(len(network.connected(i)) == 1 for i in network.all), "both halves notice the cut")
            network.wait(lambda: network.height(0) == network.height(1), "the first half stands at one height")
            network.wait(lambda: network.height(2) == network.height(3), "the second half stands at one height")
            heights = [network.height(index) for index in network.all]
            network.wait(lambda: network.describe(0)["round"] >= 1, "a round goes by")
            assert [network.height(index) for index in network.all] == heights
            network.assert_no_fork()
            for a, b in halves:
                machines.unblock(a, b)
                machines.unblock(b, a)
            assert network.wait_progress(seconds=RESUME_SECONDS) < RESUME_SECONDS

            for other in (0, 1, 2):  # one way: what node 3 says reaches nobody
                machines.block(3, other)
            network.wait_progress(0, 1, 2, blocks=4)
            for other in (0, 1, 2):
                machines.unblock(3, other)
            network.wait_caught_up()
            with load:
                load.wait_final(20)
            _finish(network, load, ears)
