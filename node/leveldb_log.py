"""LevelDB's log format, as far as it takes to tell a tail torn by a power cut from damage.

LevelDB takes a log that ends inside a record for one cut short by a crash, and opens it without that record.
That is right for a torn tail, and wrong in two ways:
- a damaged length in the last block looks the same, and hides the batches after it. `hidden_damage` finds
  this before LevelDB is asked;
- some file systems leave more after a power cut than a short file: the full length, with zeros or old bytes
  in the last pages. With `paranoid_checks` LevelDB refuses that. `cut_torn_tail` tells it from damage: each
  batch is one record, synced before the next is begun, so a power cut can only tear the last one. A fault
  with a whole record begun after it is damage, and is not touched.

What cannot be told apart is a torn last batch and a damaged one, which may have been acknowledged. So
`cut_torn_tail` never runs by itself: an operator calls for it after a power cut, and the node then fetches
what it lacks.

Format: LevelDB, doc/log_format.md. Blocks of 32 KiB; records of CRC-32C over type and content (masked, 4
bytes), length (2), type (1), content; all little-endian. Logs and manifests share it.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ledger.errors import Fault
from node.keyvalue import CORRUPT, WRITE_FAILED, machine_fault
from node.store_directory import StoreDirectory

BLOCK_BYTES = 32 << 10
_HEADER = struct.Struct("<IHB")
_ZERO, _FULL, _FIRST, _MIDDLE, _LAST = range(5)


def cut_torn_tail(directory: Path) -> int:
    """Cuts the newest log in `directory` where its last record is torn; the bytes cut are kept in
    `*.log.torn`.

    Returns how many bytes were cut: 0 where the log has no fault that LevelDB would refuse. Raises Fault
    E-STORE-002 where the fault is damage and not a torn tail, E-STORE-003 or E-STORE-004 where cutting fails,
    and what claiming the directory raises (E-STORE-001 while a node runs on it).
    """
    claimed = StoreDirectory(directory, "leveldb", create=False)
    try:
        logs = sorted(directory.glob("*.log"), key=lambda path: int(path.stem))
        if not logs:
            return 0
        newest = logs[-1]
        data = newest.read_bytes()
        found = find_fault(data)
        if found is None:
            return 0
        fault, cut = found
        later = _begun_after(data, fault)
        if later is not None:
            raise Fault(
                CORRUPT,
                f"{newest} is damaged at byte {fault}, and a whole record follows at byte {later}",
            )
        with newest.with_name(newest.name + ".torn").open("wb") as kept:
            kept.write(data[cut:])
            kept.flush()
            os.fsync(kept.fileno())
        with newest.open("r+b") as log:
            log.truncate(cut)
            os.fsync(log.fileno())
    except OSError as error:
        raise machine_fault(error.errno, directory, error.strerror or str(error), WRITE_FAILED) from error
    finally:
        claimed.release()
    return len(data) - cut


def hidden_damage(path: Path) -> int | None:
    """The offset of a damaged length that LevelDB would take for the end of the file at `path`; None where
    none is."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        base = size - size % BLOCK_BYTES
        file.seek(base)
        block = file.read()
    offset = 0
    while offset + _HEADER.size <= len(block):
        masked, length, _ = _HEADER.unpack_from(block, offset)
        end = offset + _HEADER.size + length
        if end > len(block):
            rest = len(block) - offset - _HEADER.size
            if _intact(block, offset, rest, masked) or _records_in(block, offset + 1, len(block)):
                return base + offset
            return None
        offset = end
    return None


def find_fault(log: bytes) -> tuple[int, int] | None:
    """The first fault of a log, as (its offset, the offset where the last whole record before it ends).

    None for a log that ends cleanly or inside its last record.
    """
    offset, begun = 0, None  # begun: where the record began whose fragments are being read
    while True:
        left = BLOCK_BYTES - offset % BLOCK_BYTES
        if left < _HEADER.size:
            offset += left
            continue
        if len(log) - offset < _HEADER.size:
            return None
        whole = offset if begun is None else begun
        masked, length, kind = _HEADER.unpack_from(log, offset)
        if kind == _ZERO and length == 0 and begun is None:
            offset += left
            continue
        if _HEADER.size + length > left:
            # LevelDB takes an overlong record in the last block for one cut short.
            return None if len(log) - offset <= left and len(log) % BLOCK_BYTES else (offset, whole)
        if offset + _HEADER.size + length > len(log):
            return None
        if (
            not _intact(log, offset, length, masked)
            or not _FULL <= kind <= _LAST
            or (kind in (_MIDDLE, _LAST)) != (begun is not None)
        ):
            return offset, whole
        if kind == _FIRST:
            begun = offset
        elif kind == _LAST:
            begun = None
        offset += _HEADER.size + length


def _begun_after(log: bytes, fault: int) -> int | None:
    """The offset of an intact record (a whole one, or the first fragment of one) at or after `fault`; None
    without."""
    block, offset = fault - fault % BLOCK_BYTES, fault
    while offset < len(log):
        end = min(block + BLOCK_BYTES, len(log))
        begun = [at for at, kind in _records_in(log, offset, end) if kind in (_FULL, _FIRST)]
        if begun:
            return begun[0]
        block += BLOCK_BYTES
        offset = block
    return None


def _records_in(log: bytes, offset: int, end: int) -> list[tuple[int, int]]:
    """The (offset, type) of the intact records between two offsets of one block.

    A length after a fault cannot be trusted, so where no record is, the next offset is tried.
    """
    found = []
    while offset + _HEADER.size <= end:
        masked, length, kind = _HEADER.unpack_from(log, offset)
        fits = offset + _HEADER.size + length <= end
        if fits and _FULL <= kind <= _LAST and _intact(log, offset, length, masked):
            found.append((offset, kind))
            offset += _HEADER.size + length
        else:
            offset += 1
    return found


def _intact(log: bytes, offset: int, length: int, masked: int) -> bool:
    """True where the record's CRC, over its type and content, holds."""
    crc = crc32c(memoryview(log)[offset + _HEADER.size - 1 : offset + _HEADER.size + length])
    return masked == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli) of `data`. Source: RFC 3720, B.4."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
