"""Replay: an auditor executes the chain of the node benchmark again, every signature and root verified."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

from ledger.genesis import Genesis
from node.audit import Audit, Database
from node.stores import open_store
from node.verifier import Workers


def measure(home: Path, work: Path, genesis: Genesis, funded_height: int) -> dict[str, Any]:
    """Transfers replayed a second from a stopped node's database, on all cores.

    The blocks up to `funded_height`, which mint for many accounts in each transaction, are replayed and not counted.
    """
    started = Workers(len(os.sched_getaffinity(0)))
    work.mkdir()
    source, own = open_store("leveldb", home / "data" / "ledger"), open_store("leveldb", work)
    began = time.perf_counter()
    funded = ended = began
    transfers = 0

    def progress(height: int, transactions: int) -> None:
        nonlocal funded, ended, transfers
        ended = time.perf_counter()
        if height <= funded_height:
            funded = ended
        else:
            transfers += transactions

    gc.set_threshold(100_000, 50, 100)  # as `troth audit replay` has it
    try:
        report = Audit(genesis, own, started, progress=progress).run(Database(source, str(home)))
    finally:
        source.close()
        own.close()
        started.close()
    return {
        "transfers_per_second": round(transfers / (ended - funded)),
        "transfers": transfers,
        "transactions": report.transactions,
        "cells": report.cells,
        "ms": round(report.seconds * 1000),
    }
