"""What docs/adr/0004 rests on: asking whether a transaction id is known, in the database's index and in a set.

python -m tests.benchmarks.replay_memory [--ids 1000000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ledger import codec
from node.leveldb import LevelStore

A_BLOCK = 1_000
ASKED = 20_000


def microseconds(ask: Callable[[bytes], bool], ids: Sequence[bytes], expected: bool) -> float:
    """Microseconds an id; every answer must be the expected one."""
    began = time.perf_counter()
    answers = [ask(each) for each in ids]
    took = time.perf_counter() - began
    assert set(answers) == {expected}
    return took / len(ids) * 1e6


def main(count: int) -> None:
    """Prints the cost of a question about unknown and known ids, and what the memory of ids takes."""
    ids = [sha256(number.to_bytes(8, "big")).digest() for number in range(count)]
    unknown = [sha256(b"unknown" + number.to_bytes(8, "big")).digest() for number in range(ASKED)]
    known = ids[:: max(count // ASKED, 1)][:ASKED]
    with tempfile.TemporaryDirectory() as folder:
        store = LevelStore(Path(folder))
        for height, start in enumerate(range(0, count, A_BLOCK)):
            rows = [(b"x" + each, codec.encode((height, at))) for at, each in enumerate(ids[start : start + A_BLOCK])]
            store.write(rows, sync=False)
        store.close()
        store = LevelStore(Path(folder))
        for name, asked, expected in (("unknown", unknown, False), ("known", known, True)):
            took = microseconds(lambda each: store.get(b"x" + each) is not None, asked, expected)
            print(f"  index of {count} ids, {name:7}  {took:6.2f} us")
        print(f"  index on disk  {store.disk_bytes() / count:.0f} bytes an id")
        store.close()
    window = set(ids)
    for name, asked, expected in (("unknown", unknown, False), ("known", known, True)):
        print(f"  set of {count} ids, {name:7}    {microseconds(window.__contains__, asked, expected):6.2f} us")
    in_memory = sys.getsizeof(window) + count * sys.getsizeof(ids[0])
    print(f"  set in memory  {in_memory / count:.0f} bytes an id")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, default=1_000_000)
    main(parser.parse_args().ids)
