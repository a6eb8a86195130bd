"""Two shapes of the state tree, measured in one run on the real storage layout: the figures behind docs/adr/0002.

    python -m tests.benchmarks.tree_shapes [--accounts 1000000] [--rounds 5] [--json]

(a) the state tree as it is: binary hashes, nodes of sixteen slots;
(b) the same nodes, hashed sixteen at a time: node = SHA-256(0x01 | 16 children of 32 bytes).

Each shape has a LevelDB store of its own, in the layout of node/ledger_store.py. A block changes balances of random
accounts, the same ones in both shapes, which take turns at going first. Times are medians over the blocks of one size
after a first block, which is left out. A shared machine is noisy: trust the ratios rather than the microseconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import mean, median
from time import perf_counter

from ledger import codec
from ledger.ics23 import LEAF_OP, CommitmentProof, ExistenceProof, HashOp, InnerOp, NonExistenceProof
from ledger.state_proof import prove
from ledger.state_tree import ARITY, Node, Slot, StateTree, Steps, root_hash
from node.leveldb import LevelStore

BLOCK_SIZES = (1000, 2000, 4000)
CACHE_NODES = 40_000  # as node/ledger_store.py has it
PROOFS = 500
_BATCH_ROWS = 20_000


class SixteenAryTree(StateTree):
    """The rejected shape: one hash over sixteen children a node."""

    def fold(self, node: Node, changed: list[int] | None = None) -> None:
        node[1] = (sha256(b"\1" + b"".join([root_hash(slot) for slot in node[ARITY:]])).digest(),)


@dataclass(frozen=True)
class Figures:
    """What one shape needs at one size of blocks. Times are microseconds per changed key."""

    shape: str
    changed_keys: int
    read_us: float
    update_us: float
    store_us: float
    rows: float
    row_bytes: float


@dataclass(frozen=True)
class ProofFigures:
    """Encoded proofs of one shape, in bytes; and absence proofs whose paths part at branches that are not adjacent."""

    shape: str
    existence_bytes: float
    absence_bytes: float
    absence_bytes_max: int
    not_adjacent: float


class Shape:
    """One tree in one store."""

    def __init__(self, name: str, kind: type[StateTree], directory: Path) -> None:
        directory.mkdir()
        self.name = name
        self.store = LevelStore(directory)
        self.tree = kind(lambda number: self.store.get(_row(number)), cache_nodes=CACHE_NODES)
        self.root: Slot = None

    def begin(self, accounts: int) -> None:
        """Writes the state of the first block."""
        update = self.tree.update(None, ((_cell(number), codec.encode(1000)) for number in range(accounts)), 0)
        for start in range(0, len(update.rows), _BATCH_ROWS):
            piece = update.rows[start : start + _BATCH_ROWS]
            self.store.write([(_row(number), row) for number, row in piece])
        self.root = update.root

    def block(self, height: int, keys: Sequence[bytes]) -> Figures:
        """One block: each cell is read, then all are changed at once, then the rows are written."""
        encoded = [codec.encode(1_000_000 + height)] * len(keys)
        started = perf_counter()
        for key in keys:
            self.tree.get(self.root, key)
        read = perf_counter()
        update = self.tree.update(self.root, zip(keys, encoded, strict=True), height)
        updated = perf_counter()
        puts = [(_row(number), row) for number, row in update.rows]
        puts.append((b"s" + height.to_bytes(8, "big"), codec.encode_trusted(tuple(update.stale))))
        self.store.write(puts)
        self.tree.adopt(update)
        stored = perf_counter()
        self.root = update.root
        count = len(keys)
        return Figures(
            self.name,
            count,
            read_us=1e6 * (read - started) / count,
            update_us=1e6 * (updated - read) / count,
            store_us=1e6 * (stored - updated) / count,
            rows=len(update.rows) / count,
            row_bytes=sum(len(key) + len(row) for key, row in puts) / count,
        )


def _row(number: int) -> bytes:
    return b"n" + number.to_bytes(8, "big")


def _cell(number: int) -> bytes:
    """A cell as the points contract has it: the canonical encoding of [contract, map, address]."""
    return codec.encode(("points", "balance", sha256(b"%d" % number).digest()[:20]))


def _median(figures: Sequence[Figures]) -> Figures:
    first = figures[0]
    return Figures(
        first.shape,
        first.changed_keys,
        read_us=median([one.read_us for one in figures]),
        update_us=median([one.update_us for one in figures]),
        store_us=median([one.store_us for one in figures]),
        rows=mean([one.rows for one in figures]),
        row_bytes=mean([one.row_bytes for one in figures]),
    )


def measure_blocks(shapes: Sequence[Shape], accounts: int, rounds: int) -> list[Figures]:
    """The figures of every shape and size of blocks."""
    random = Random(1)
    found: list[Figures] = []
    height = 0
    for size in BLOCK_SIZES:
        blocks: dict[str, list[Figures]] = {shape.name: [] for shape in shapes}
        for turn in range(rounds + 1):
            height += 1
            keys = [_cell(number) for number in random.sample(range(accounts), size)]
            for shape in shapes if turn & 1 else reversed(shapes):
                blocks[shape.name].append(shape.block(height, keys))
        found += [_median(figures[1:]) for figures in blocks.values()]
    return found


def measure_proofs(binary: Shape, wide: Shape, accounts: int) -> list[ProofFigures]:
    """The sizes of proofs of the same keys in both shapes."""
    random = Random(2)
    present = [_cell(number) for number in random.sample(range(accounts), PROOFS)]
    absent = [_cell(accounts + number) for number in range(PROOFS)]
    existence: dict[str, list[int]] = {binary.name: [], wide.name: []}
    absence: dict[str, list[int]] = {binary.name: [], wide.name: []}
    apart = 0
    for key in present:
        existence[binary.name].append(len(prove(binary.tree, binary.root, key).encode()))
        steps, _ = wide.tree.walk(wide.root, sha256(key).digest())
        existence[wide.name].append(len(CommitmentProof(_wide_existence(wide, steps, key)).encode()))
    for key in absent:
        proof = prove(binary.tree, binary.root, key)
        absence[binary.name].append(len(proof.encode()))
        assert proof.nonexist is not None
        neighbours = [one.key for one in (proof.nonexist.left, proof.nonexist.right) if one is not None]
        walks = [wide.tree.walk(wide.root, sha256(neighbour).digest())[0] for neighbour in neighbours]
        shown = [_wide_existence(wide, *pair) for pair in zip(walks, neighbours, strict=True)]
        left, right = (shown[0], shown[-1]) if len(shown) == 2 else (shown[0], None)
        absence[wide.name].append(len(CommitmentProof(nonexist=NonExistenceProof(key, left, right)).encode()))
        apart += len(walks) == 2 and _parting(*walks) > 1
    return [
        ProofFigures(
            shape.name,
            mean(existence[shape.name]),
            mean(absence[shape.name]),
            max(absence[shape.name]),
            apart / PROOFS if shape is wide else 0.0,
        )
        for shape in (binary, wide)
    ]


def _wide_existence(wide: Shape, steps: Steps, key: bytes) -> ExistenceProof:
    """The proof of a key of the sixteen-ary tree, checked to lead to its root."""
    value = wide.tree.get(wide.root, key)
    assert value is not None
    hashed = LEAF_OP.apply(key, value)
    path = []
    for node, position in reversed(steps):
        children = [root_hash(slot) for slot in node[ARITY:]]
        before, after = children[: position - ARITY], children[position - ARITY + 1 :]
        path.append(InnerOp(HashOp.SHA256, b"\1" + b"".join(before), b"".join(after)))
        hashed = path[-1].apply(hashed)
    assert hashed == root_hash(wide.root)
    return ExistenceProof(key, value, LEAF_OP, tuple(path))


def _parting(left: Steps, right: Steps) -> int:
    """How many branches two paths lie apart in the node where they part."""
    return next(high - low for (_, low), (_, high) in zip(left, right, strict=False) if low != high)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tree_shapes", description=__doc__.split("\n")[0])
    parser.add_argument("--accounts", type=int, default=1_000_000, help="cells in the state (at least 4,000)")
    parser.add_argument("--rounds", type=int, default=5, help="measured blocks of each size")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--directory", type=Path, help="where to make the stores (default: the temporary directory)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        binary = Shape("binary in sixteens", StateTree, Path(directory, "binary"))
        wide = Shape("sixteen-ary", SixteenAryTree, Path(directory, "wide"))
        for shape in (binary, wide):
            shape.begin(chosen.accounts)
        gc.collect()
        gc.freeze()  # as node/service.py sets the collector
        gc.set_threshold(50_000, 20, 100)
        blocks = measure_blocks((binary, wide), chosen.accounts, chosen.rounds)
        proofs = measure_proofs(binary, wide, chosen.accounts)
        binary.store.close()
        wide.store.close()
    if chosen.json:
        result = {
            "accounts": chosen.accounts,
            "blocks": [asdict(one) for one in blocks],
            "proofs": [asdict(one) for one in proofs],
        }
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    print(f"{chosen.accounts:,} accounts; per changed key:\n")
    print(f"{'shape':20}{'keys a block':>14}{'read µs':>10}{'update µs':>11}{'store µs':>10}{'rows':>7}{'bytes':>7}")
    for block in blocks:
        print(
            f"{block.shape:20}{block.changed_keys:>14,}{block.read_us:>10.1f}{block.update_us:>11.1f}"
            f"{block.store_us:>10.1f}{block.rows:>7.2f}{block.row_bytes:>7.0f}"
        )
    print(f"\nproofs of {PROOFS} keys, bytes:\n")
    print(f"{'shape':20}{'existence':>11}{'absence':>9}{'longest':>9}{'parting at branches not adjacent':>34}")
    for proof in proofs:
        print(
            f"{proof.shape:20}{proof.existence_bytes:>11.0f}{proof.absence_bytes:>9.0f}"
            f"{proof.absence_bytes_max:>9}{proof.not_adjacent:>34.0%}"
        )


if __name__ == "__main__":
    main()
