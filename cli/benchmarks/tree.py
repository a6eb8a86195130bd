"""The state tree on its real storage: cost per changed key, at several sizes."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from ledger import codec
from ledger.state_tree import StateTree, TreeUpdate
from node.stores import open_store
from vm.overlay import cell_key, map_prefix

CHANGED_KEYS = 2_000
ROUNDS = 7
LOAD_KEYS = 20_000


def measure(folder: Path, accounts: int, progress: Callable[[int], None]) -> dict[str, Any]:
    """Microseconds per changed key: reading it, updating the tree, storing the nodes. Blocks of 2,000 random keys.

    Medians over seven blocks; nodes lie in LevelDB as a node's do, written in one synced batch a block.
    """
    folder.mkdir()
    store = open_store("leveldb", folder)
    tree = StateTree(lambda number: store.get(b"n" + number.to_bytes(8, "big")), cache_nodes=40_000)
    draw = random.Random(accounts)
    prefix = map_prefix("points", "account", 2)
    keys = [cell_key((prefix, ("bench", draw.randbytes(20)))) for _ in range(accounts)]
    root, version = None, 0
    steps: dict[str, list[float]] = {"read": [], "update": [], "store": []}
    rows = stored = 0

    def save(update: TreeUpdate) -> None:
        store.write([(b"n" + number.to_bytes(8, "big"), row) for number, row in update.rows])
        tree.adopt(update)

    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for start in range(0, accounts, LOAD_KEYS):
            version += 1
            update = tree.update(
                root, [(key, codec.encode((1000, False))) for key in keys[start : start + LOAD_KEYS]], version
            )
            save(update)
            root = update.root
            progress(min(LOAD_KEYS, accounts - start))
        for _ in range(ROUNDS):
            version += 1
            changed = draw.sample(keys, CHANGED_KEYS)
            t0 = time.process_time()
            for key in changed:
                tree.get(root, key)
            t1 = time.process_time()
            update = tree.update(
                root, [(key, codec.encode((draw.randrange(1 << 30), False))) for key in changed], version
            )
            t2 = time.process_time()
            save(update)
            t3 = time.process_time()
            root = update.root
            rows, stored = len(update.rows), sum(len(row) for _, row in update.rows)
            for step, passed in (("read", t1 - t0), ("update", t2 - t1), ("store", t3 - t2)):
                steps[step].append(passed / CHANGED_KEYS * 1e6)
    finally:
        gc.enable()
        gc.unfreeze()
        store.close()
    return {
        "accounts": accounts,
        "update_us_per_key": round(median(steps["update"]), 1),
        "read_us_per_key": round(median(steps["read"]), 1),
        "store_us_per_key": round(median(steps["store"]), 1),
        "rows_per_key": round(rows / CHANGED_KEYS, 2),
        "bytes_per_key": round(stored / CHANGED_KEYS),
    }
