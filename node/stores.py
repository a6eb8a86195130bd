"""Opens a store by the name of its kind. An engine is imported only when its kind is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ledger.errors import Invalid
from node.keyvalue import UNKNOWN_KIND, KeyValue

KINDS = ("leveldb", "lmdb", "memory")


def open_store(kind: str, directory: Path, *, create: bool = True) -> KeyValue:
    """The store of `kind` (one of KINDS) in `directory`, which must exist; the memory kind leaves it alone.

    An empty directory becomes a new database where `create`, and is refused otherwise. Raises Invalid
    E-STORE-008 for an unknown kind, and what the store's own class raises.
    """
    if kind == "leveldb":
        from node.leveldb import LevelStore

        return LevelStore(directory, create=create)
    if kind == "lmdb":
        from node.lmdb_store import LmdbStore

        return LmdbStore(directory, create=create)
    if kind == "memory":
        from node.memory import MemoryStore

        return MemoryStore()
    near = get_close_matches(kind.lower(), KINDS, n=1)
    fix = f"did you mean {near[0]}?" if near else None
    raise Invalid(UNKNOWN_KIND, f"there is no kind of store called {kind!r}", fix=fix)
