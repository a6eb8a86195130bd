"""Installs the JavaScript verifier once: `npm ci` in this folder, by its lock file.

The lock file pins versions and contents (integrity hashes) and names no registry: npm asks the one it is set up for.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_INSTALL_SECONDS_MAX = 300


def ensure_ics23_js() -> Path:
    """The folder in which `node verify.cjs` works, after `npm ci` where that was not yet done.

    Raises RuntimeError, saying what to do, where Node.js or npm is missing or the installation fails.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise RuntimeError(
                f"{program} was not found: the JavaScript verifier of state proofs needs Node.js 16 or later with npm "
                "(Debian: apt-get install nodejs npm)"
            )
    with (FOLDER / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # tests may run in several processes
        if not _is_complete():
            done = subprocess.run(
                ["npm", "ci"],
                cwd=FOLDER,
                capture_output=True,
                text=True,
                timeout=_INSTALL_SECONDS_MAX,
                check=False,
            )
            if done.returncode != 0 or not _is_complete():
                raise RuntimeError(f"`npm ci` in {FOLDER} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return FOLDER


def _is_complete() -> bool:
    """npm writes this file last, so an installation that was cut short has none; an older lock file's is older."""
    marker = FOLDER / "node_modules" / ".package-lock.json"
    wanted = FOLDER / "package-lock.json"
    return marker.exists() and marker.stat().st_mtime >= wanted.stat().st_mtime
