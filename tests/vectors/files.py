"""Where the external test data lives: files that nobody in this project wrote, and that are not copied into it.

The folder is named by the environment variable TROTH_VECTORS, by default `../shared/vectors` seen from the project's
root. A file that is absent skips the test, with the path that was looked for; nothing else does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "TROTH_VECTORS"
_PROJECT = Path(__file__).resolve().parents[2]


def vector_folder() -> Path:
    """The folder of external data, whether it exists or not. A relative setting counts from the project's root."""
    return _PROJECT / (os.environ.get(VARIABLE) or "../shared/vectors")


def vector_path(*parts: str) -> Path:
    """The path of one file or folder of external data. Skips the test, saying so, where it is absent."""
    path = vector_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no external test data at {path}; set {VARIABLE} to the folder that holds it")
    return path


def vector_json(*parts: str) -> Any:
    """The decoded content of one JSON file of external data. Skips the test, saying so, where it is absent."""
    return json.loads(vector_path(*parts).read_bytes())
