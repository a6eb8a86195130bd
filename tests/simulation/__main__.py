"""Runs seeds and shows what fails: `python -m tests.simulation --seeds 0..999`.

With `--broken NAME` a part is broken on purpose (`mutations.py`), to see that it is found. Exit code 1 if anything
failed; each failing seed comes with the command that plays it again, and only it.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import LEDGERS, play


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0..99", metavar="A..B", help="first and last seed, or a single one")
    parser.add_argument("--broken", choices=sorted(MUTATIONS), help="break a part on purpose")
    parser.add_argument("--ledger", choices=sorted(LEDGERS), default="opaque", help="opaque blocks, or the real chain")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    began, failed, blocks = time.monotonic(), 0, 0
    for seed in seeds:
        result = play(seed, arguments.broken, arguments.ledger)
        blocks += result.blocks
        if result.fault is not None:
            failed += 1
            print(f"seed {seed}: {result.fault}\n  {result.plan}\n  again: {result.command}", flush=True)
    seconds = time.monotonic() - began
    rate = len(seeds) * 60 / max(seconds, 0.001)
    print(f"{len(seeds)} seeds, {failed} failed, {blocks} blocks, {seconds:.0f} s, {rate:.0f} seeds a minute")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
