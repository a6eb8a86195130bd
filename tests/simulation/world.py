"""The world: virtual time, a network that misbehaves, and a plan of faults, all from one seed.

First comes a time of faults, in which only safety is asked for. Then the network is made good (every node up, nothing
cut, nothing lost; Byzantine nodes stay what they are), and every honest node must go on within a bounded time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from consensus.engine import Engine
from consensus.events import Settings
from consensus.messages import Kind, Vote, decode, encode
from ledger.block import Validator
from ledger.errors import Invalid
from tests.consensus_kit import address, committee
from tests.oracle.qbft_predicates import f
from tests.oracle.translate import members
from tests.simulation.byzantine import STYLES, Byzantine
from tests.simulation.checks import Checks, ViolationError
from tests.simulation.disk import Disk
from tests.simulation.host import Blocks, Get, Host, Status
from tests.simulation.ledger import GENESIS_ID, Ledger, OpaqueLedger, Schedule

FAULTS_MS = 12_000
GOOD_MS = 150_000
BLOCKS_AFTER = 3
"""Blocks that everybody must see once the network is good."""


class Plan(NamedTuple):
    """What is decided of a run before it begins. Rates are chances from 0 to 1 a message."""

    size: int
    powers: tuple[int, ...]
    byzantine: tuple[tuple[int, str], ...]
    twins: tuple[int, ...]
    drop: float
    duplicate: float
    mutate: float
    delay_ms: int
    crashes: int
    cuts: int
    aimed: int
    all_crash: bool
    lose_chain: bool
    skewed: bool
    idle_ms: int
    removed: tuple[int, int, int] | None


class Broken(NamedTuple):
    """What a mutation puts in the place of the product's or the simulation's own parts."""

    engine: type[Engine] = Engine
    host: type[Host] = Host
    ledger: Callable[[Disk, Schedule], Ledger] = OpaqueLedger
    size: int | None = None
    fixed_validators: bool = False


SOUND = Broken()


def plan_of(random: Random, count: int | None = None) -> Plan:
    """A plan from a random source."""
    count = count or random.choice((1, 2, 3, 4, 4, 4, 4, 5, 6, 7))
    powers = tuple([random.randint(1, 3) for _ in range(count)]) if random.random() < 0.2 else (1,) * count
    plain = members(committee(count, powers))
    faulty: list[int] = []
    wanted = random.choice((0, 1, 1, 2))
    for index in random.sample(range(count), count):
        if len(faulty) < wanted and sum(powers[each] for each in (*faulty, index)) <= f(plain):
            faulty.append(index)
    twins = tuple([each for each in faulty if random.random() < 0.3])
    byzantine = tuple([(each, random.choice(STYLES)) for each in faulty if each not in twins])
    bad = random.random() < 0.7
    removed = None
    if count >= 5 and not faulty and random.random() < 0.5:
        start = random.randint(2, 6)
        removed = random.randrange(count), start, start + random.randint(1, 5)
    return Plan(
        count,
        powers,
        byzantine,
        twins,
        drop=random.choice((0.0, 0.05, 0.2, 0.35)) if bad else 0.0,
        duplicate=random.choice((0.0, 0.1)) if bad else 0.0,
        mutate=random.choice((0.0, 0.0, 0.03)) if bad else 0.0,
        delay_ms=random.choice((20, 100, 600, 2_500)) if bad else 20,
        crashes=random.choice((0, 0, 2, 6)),
        cuts=random.choice((0, 1, 3, 6)),
        aimed=random.choice((0, 2, 6)),
        all_crash=random.random() < 0.2,
        lose_chain=random.random() < 0.1,
        skewed=random.random() < 0.5,
        idle_ms=random.choice((0, 50, 400)),
        removed=removed,
    )


class World:
    """One run. A plan given replaces the one that the seed would make; `faults_ms` is how long it stays bad."""

    def __init__(self, seed: int, broken: Broken = SOUND, plan: Plan | None = None, faults_ms: int = FAULTS_MS) -> None:
        self.seed, self.faults_ms = seed, faults_ms
        self.random = Random(seed)
        self.plan = plan = plan or plan_of(self.random, broken.size)
        self.now = 0
        self.good = False
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._cut: set[tuple[str, str]] = set()
        self._filters: list[Callable[[str, object], bool]] = []
        first = committee(plan.size, plan.powers)
        self._fixed = broken.fixed_validators
        self.schedule = Schedule(first, self._changes(first))
        self.addresses = [address(index) for index in range(plan.size)]
        self.settings = Settings(timeout_ms=400, timeout_cap_ms=3_000, repeat_ms=500, block_interval_ms=30)
        dishonest = {*plan.twins, *[index for index, _ in plan.byzantine]}
        self.checks = Checks([address(index) for index in range(plan.size) if index not in dishonest])
        self.nodes: list[Host | Byzantine] = []
        styles = dict(plan.byzantine)
        for index in range(plan.size):
            if index in styles:
                self.nodes.append(Byzantine(self, index, styles[index], self.schedule))
                continue
            names = [f"twin {index}a", f"twin {index}b"] if index in plan.twins else [f"node {index}"]
            self.nodes += [self._host(name, index, broken) for name in names]
        self.honest = [node for node in self.nodes if isinstance(node, Host) and node.honest]

    def _changes(self, first: tuple[Validator, ...]) -> dict[int, tuple[Validator, ...]]:
        if self.plan.removed is None or self._fixed:
            return {}
        index, start, end = self.plan.removed
        return {start: tuple([each for each in first if each != first[index]]), end: first}

    def _host(self, name: str, index: int, broken: Broken) -> Host:
        offset, rate = (
            (self.random.randint(0, 10**7), self.random.randint(800, 1_250)) if self.plan.skewed else (0, 1_000)
        )
        honest = index not in self.plan.twins

        def open_ledger(disk: Disk) -> Ledger:
            return broken.ledger(disk, self.schedule)

        host = broken.host(self, name, index, open_ledger, self.settings, honest=honest, clock=(offset, rate))
        host.engine_class = broken.engine
        return host

    # Time

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Runs an action later."""
        self._sequence += 1
        heapq.heappush(self._events, (self.now + max(delay_ms, 0), self._sequence, action))

    def run_until(self, end: int, done: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass."""
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
            if done():
                return
        self.now = end

    def idle_ms(self) -> int:
        """How long a node waits until somebody wants a block."""
        return self.random.randint(0, self.plan.idle_ms)

    # The network

    def send(self, sender: Host | Byzantine, peer: bytes, payload: object) -> None:
        """Sends to whoever has that address: twins share one."""
        for node in self.nodes:
            if node.address == peer and node is not sender:
                self._carry(sender, node, payload)

    def broadcast(self, sender: Host | Byzantine, payload: object) -> None:
        """Sends to everybody else. A twin does not hear its other half."""
        for node in self.nodes:
            if node.address != sender.address:
                self._carry(sender, node, payload)

    def _carry(self, sender: Host | Byzantine, node: Host | Byzantine, payload: object) -> None:
        random, plan = self.random, self.plan
        if self.good:
            self._deliver(sender, node, payload, random.randint(1, 20), True)
            return
        if (sender.name, node.name) in self._cut or random.random() < plan.drop:
            return
        if any(stops(node.name, payload) for stops in self._filters):
            return
        intact = True
        if plan.mutate and random.random() < plan.mutate and not isinstance(payload, Status | Get | Blocks):
            payload, intact = self._mutated(payload), False
            if payload is None:
                return
        self._deliver(sender, node, payload, random.randint(1, plan.delay_ms), intact)
        if plan.duplicate and random.random() < plan.duplicate:
            self._deliver(sender, node, payload, random.randint(1, 2 * plan.delay_ms), intact)

    def _mutated(self, payload: object) -> object:
        data = bytearray(encode(payload))  # type: ignore[arg-type]
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        try:
            return decode(bytes(data))
        except Invalid:
            return None

    def _deliver(
        self, sender: Host | Byzantine, node: Host | Byzantine, payload: object, delay_ms: int, intact: bool
    ) -> None:
        def arrive() -> None:
            if node.up:
                node.receive(sender.address, payload, intact)  # type: ignore[arg-type]

        self.after(delay_ms, arrive)

    def head_before(self, height: int) -> bytes:
        """The id of the block below a height, as far as any honest node knows it."""
        return self.checks.chain.get(height - 1, GENESIS_ID)

    # Faults

    def crashed(self, host: Host) -> None:
        """A node has crashed: it comes back some time later."""

        def again() -> None:
            if not host.up:
                host.start()

        self.after(self.random.randint(10, 4_000), again)

    def _kill(self, host: Host) -> None:
        if host.up:
            host.crash()
            self.crashed(host)

    def _kill_at_sync(self, host: Host) -> None:
        host.disk.crash_in = self.random.randint(1, 8)

    def _lose_chain(self, host: Host) -> None:
        """The database is gone, the signing record is not: the node must catch up before it signs."""
        height = host.ledger.height if host.up else 0
        others = [node.ledger.height for node in self.honest if node is not host and node.up]
        if host.up and others and max(others) >= height:
            host.crash()
            host.disk = _without_blocks(host.disk)
            self.crashed(host)

    def split(self, sides: Sequence[set[str]]) -> None:
        """Cuts the network into these sides, by names, and nowhere else."""
        side = {name: number for number, names in enumerate(sides) for name in names}
        names = [node.name for node in self.nodes]
        self._cut = {(one, other) for one in names for other in names if side[one] != side[other]}

    def _cut_off(self) -> None:
        """A partition: two-way, one-way, or a single direction between two nodes."""
        names = [node.name for node in self.nodes]
        side = set(self.random.sample(names, self.random.randint(1, max(1, len(names) // 2))))
        kind = self.random.choice(("both", "out", "in", "one"))
        for one in names:
            for other in names:
                across = one in side and other not in side
                back = one not in side and other in side
                if (across and kind in ("both", "out")) or (back and kind in ("both", "in")):
                    self._cut.add((one, other))
        if kind == "one" and len(names) > 1:
            one, other = self.random.sample(names, 2)
            self._cut.add((one, other))

    def _lonely_decision(self, host: Host) -> None:
        """COMMITs reach one node only. Once it has decided it is alone, and the others must find the same block."""
        before = host.ledger.height if host.up else 0

        def stops(name: str, payload: object) -> bool:
            return name != host.name and isinstance(payload, Vote) and payload.kind is Kind.COMMIT

        def watch(tries: int) -> None:
            decided = host.up and host.ledger.height > before
            if decided:
                for node in self.nodes:
                    self._cut |= {(host.name, node.name), (node.name, host.name)}
            if decided or tries == 0 or self.good:
                self._filters.remove(stops)
                self.after(self.random.randint(1_000, 5_000), self._when_bad(self._heal))
            else:
                self.after(5, lambda: watch(tries - 1))

        self._filters.append(stops)
        watch(400)

    def _some_prepare(self) -> None:
        """PREPAREs reach some nodes only, COMMITs nobody: some are locked, then the round changes."""
        some = set(self.random.sample([node.name for node in self.nodes], (len(self.nodes) + 1) // 2))

        def stops(name: str, payload: object) -> bool:
            return isinstance(payload, Vote) and (payload.kind is Kind.COMMIT or name not in some)

        self._filters.append(stops)
        self.after(self.random.randint(200, 1_500), lambda: self._filters.remove(stops))

    def _heal(self) -> None:
        self._cut.clear()
        for node in self.nodes:
            for peer in self.addresses:
                if node.up and peer != node.address:
                    node.connected(peer)

    def _plan_faults(self) -> None:
        random, plan = self.random, self.plan
        hosts = [node for node in self.nodes if isinstance(node, Host)]
        for _ in range(plan.cuts):
            start = random.randint(0, FAULTS_MS)
            self.after(start, self._when_bad(self._cut_off))
            self.after(start + random.randint(100, 6_000), self._when_bad(self._heal))
        for _ in range(plan.aimed if self.honest else 0):
            host = random.choice(self.honest)
            aim = partial(self._lonely_decision, host) if random.random() < 0.5 else self._some_prepare
            self.after(random.randint(500, FAULTS_MS), self._when_bad(aim))
        for _ in range(plan.crashes if hosts else 0):
            host = random.choice(hosts)
            how = random.choice((self._kill, self._kill_at_sync, self._kill_at_sync))
            self.after(random.randint(0, FAULTS_MS), self._when_bad(partial(how, host)))
        if plan.all_crash:
            at = random.randint(500, FAULTS_MS)
            for host in hosts:
                self.after(at, self._when_bad(partial(self._kill, host)))
        if plan.lose_chain and self.honest:
            host = random.choice(self.honest)
            self.after(random.randint(2_000, FAULTS_MS), self._when_bad(lambda: self._lose_chain(host)))

    def _when_bad(self, action: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self.good else action()

    # The run

    def run(self) -> None:
        """Raises ViolationError where a promise is broken."""
        for node in self.nodes:
            self.after(self.random.randint(0, 1_000), node.start)
        self._plan_faults()
        self.run_until(self.faults_ms)
        self._make_good()
        goal = max(self._heights(self.honest), default=0) + BLOCKS_AFTER
        self.run_until(self.faults_ms + GOOD_MS, lambda: min(self._heights(self.honest), default=goal) >= goal)
        behind = [f"{node.name} at {height}" for node, height in self._standing() if height < goal]
        if behind:
            raise ViolationError(f"no progress to height {goal} in {GOOD_MS} ms of a good network: {', '.join(behind)}")

    def _make_good(self) -> None:
        self.good = True
        for node in self.nodes:
            if isinstance(node, Host):
                node.disk.crash_in = 0
            if not node.up:
                node.start()
        self._heal()

    def _heights(self, nodes: Iterable[Host]) -> list[int]:
        return [node.ledger.height for node in nodes]

    def _standing(self) -> list[tuple[Host, int]]:
        return [(node, node.ledger.height) for node in self.honest]


def _without_blocks(disk: Disk) -> Disk:
    """A disk with the files of consensus and without the chain."""
    emptied = Disk(disk._random)
    for name in ("record", "prepared"):
        content = disk.read(name)
        if content is not None:
            emptied.write(name, content)
    emptied.sync()
    return emptied
