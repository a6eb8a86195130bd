"""The raw limits of this machine: what no software that verifies, hashes and syncs can pass."""

from __future__ import annotations

import multiprocessing
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.keys import PrivateKey, verify

SECONDS = 1.5


def measure(folder: Path) -> dict[str, Any]:
    """Operations a second: Ed25519 by one process and by two, SHA-256 of 64 bytes, synced writes of 4 KiB."""
    one = verifications(SECONDS)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(verifications, [0.2, 0.2])  # both have started
        two = sum(pool.map(verifications, [SECONDS, SECONDS], chunksize=1))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "verify_per_second_one_core": round(one),
        "verify_per_second_two_cores": round(two),
        "sign_per_second": round(_signatures(SECONDS / 2)),
        "sha256_per_second": round(_hashes(SECONDS / 2)),
        "synced_writes_per_second": round(_synced_writes(folder / "synced", SECONDS)),
    }


def verifications(seconds: float) -> float:
    """Signatures verified a second by this process."""
    key = PrivateKey(bytes(range(32)))
    message = bytes(55)
    public_key, signature = key.public, key.sign(message)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(100):
            verify(public_key, message, signature)
        count += 100
    return count / passed


def _signatures(seconds: float) -> float:
    key, message = PrivateKey(bytes(range(32))), bytes(55)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(100):
            key.sign(message)
        count += 100
    return count / passed


def _hashes(seconds: float) -> float:
    data = bytes(64)
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(1_000):
            sha256(data).digest()
        count += 1_000
    return count / passed


def _synced_writes(path: Path, seconds: float) -> float:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    data = os.urandom(4096)
    count, began = 0, time.perf_counter()
    try:
        while (passed := time.perf_counter() - began) < seconds:
            os.write(descriptor, data)
            os.fdatasync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
    return count / passed
