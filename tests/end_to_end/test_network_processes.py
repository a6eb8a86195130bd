"""The network between real processes: killed, paused, and cut off from each other in network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.nodes import ROOT, environment, free_port

WAIT_SECONDS = 30.0


class Speaker:
    """A process of `network_process`, and what it has said."""

    def __init__(self, folder: Path, name: str, places: dict[str, str], prefix: tuple[str, ...] = ()) -> None:
        self.name = name
        self.said: list[list[Any]] = []
        self._folder, self._places, self._prefix = folder, places, prefix
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        host, port = self._places[self.name].rsplit(":", 1)
        others = [f"{name}={place}" for name, place in self._places.items() if name != self.name]
        module = [sys.executable, "-m", "tests.end_to_end.network_process"]
        self._process = subprocess.Popen(
            [*self._prefix, *module, str(self._folder), self.name, host, port, *others],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self._folder / f"{self.name}.log").open("ab"),
            text=True,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(json.loads(line))

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def peers(self) -> set[str]:
        """Who is connected now, by what it has said."""
        present: set[str] = set()
        for event, name, *_ in list(self.said):
            if event == "+":
                present.add(name)
            elif event == "-":
                present.discard(name)
        return present

    def heard(self, name: str) -> int:
        """How many messages of a peer it has heard."""
        return sum(said[:2] == ["heard", name] for said in list(self.said))

    def ends(self, name: str) -> list[str]:
        """The reasons for which connections with a peer have ended."""
        return [said[2] for said in list(self.said) if said[:2] == ["-", name]]


def wait(condition: Callable[[], object], what: str) -> float:
    """Waits until it holds; returns the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WAIT_SECONDS, f"never happened: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def hears(one: Speaker, other: Speaker) -> None:
    """Waits until messages arrive that were not there before."""
    before = one.heard(other.name)
    wait(lambda: one.heard(other.name) > before, f"{one.name} hears {other.name}")


def together(*speakers: Speaker) -> None:
    """Waits until all are connected with each other and hear each other."""
    names = {speaker.name for speaker in speakers}
    for speaker in speakers:
        wait(lambda s=speaker: s.peers() >= names - {s.name}, f"{speaker.name} is connected")  # type: ignore[misc]
    for one in speakers:
        for other in speakers:
            if one is not other:
                hears(one, other)


@contextmanager
def speaking(folder: Path, places: dict[str, str], prefixes: Mapping[str, tuple[str, ...]]) -> Iterator[list[Speaker]]:
    """Processes of these names at these places; killed at the end."""
    speakers = [Speaker(folder, name, places, prefixes.get(name, ())) for name in places]
    try:
        for speaker in speakers:
            speaker.start()
        yield speakers
    finally:
        for speaker in speakers:
            speaker.kill()


def test_a_killed_and_a_paused_node_come_back(tmp_path: Path) -> None:
    places = {name: f"127.0.0.1:{free_port()}" for name in ("a", "b", "c")}
    with speaking(tmp_path, places, {}) as (a, b, c):
        together(a, b, c)
        c.kill()
        for other in (a, b):
            wait(lambda o=other: "c" not in o.peers(), "the kill is noticed")  # type: ignore[misc]
        together(a, b)
        c.said.clear()
        c.start()
        together(a, b, c)

        c.signal(signal.SIGSTOP)
        for other in (a, b):
            wait(lambda o=other: "c" not in o.peers(), "the pause is noticed")  # type: ignore[misc]
            assert other.ends("c")[-1] == "silent"
        together(a, b)
        c.signal(signal.SIGCONT)
        together(a, b, c)


# Namespaces


def ip(*arguments: str) -> None:
    """iproute2's command. Fails with what it says."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


@contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.99.0.1 and 10.99.0.2 on `cable`."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if shutil.which("ip") is None:
        subprocess.run([str(ROOT / "scripts" / "apt-install"), "iproute2"], check=True)
    names = [f"troth-{os.getpid()}-{side}" for side in ("left", "right")]
    tried = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this machine gives no network namespaces: {tried.stderr.strip()}")
    try:
        ip("netns", "add", names[1])
        ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.slow
def test_a_cut_and_mended_cable_between_two_machines(tmp_path: Path) -> None:
    places = {"left": "10.99.0.1:8701", "right": "10.99.0.2:8701"}
    with two_machines() as names:
        prefixes = {side: ("ip", "netns", "exec", name) for side, name in zip(("left", "right"), names, strict=True)}
        with speaking(tmp_path, places, prefixes) as (left, right):
            together(left, right)

            ip("-n", names[0], "link", "set", "cable", "down")
            for speaker in (left, right):
                wait(lambda s=speaker: s.peers() == set(), "both notice the cut")  # type: ignore[misc]
            ip("-n", names[0], "link", "set", "cable", "up")
            together(left, right)

            # One way: right hears left and cannot answer.
            ip("-n", names[1], "route", "add", "blackhole", "10.99.0.1/32")
            for speaker in (left, right):
                wait(lambda s=speaker: s.peers() == set(), "both notice the cut of one way")  # type: ignore[misc]
            ip("-n", names[1], "route", "delete", "blackhole", "10.99.0.1/32")
            together(left, right)
