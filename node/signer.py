"""The signer: who holds a validator's key and its signing record, and signs what the guard allows.

    host: Persist(record, prepared)   make `prepared` durable, where given; leave `record` to the signer
    host: Sign(statement)             signature = await signer.sign(signed_payload(chain_id, statement))
    signer: guard.advance, record durable, signature made, signature returned, in this order

Rules kept here:
- nothing is signed but statements of consensus, of one chain, at rising positions (`consensus.guard.advance`);
- the new record is durable before the signature is made, so that no crash and no kill can let a signature out that the
  record does not know of;
- one payload at a time, in the order in which they were asked for, also where who asked has gone away;
- the host persists only what a COMMIT was prepared by, and has done so before it asks. A crash between the two is
  harmless, in this order (`consensus.events.Persist`);
- after a failed write nothing is signed any more, not even what was signed before (`node.signing_record`).

A signer is `LocalSigner`, with the key in this process, or `node.signer_client.RemoteSigner`, with the key in another.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from consensus.guard import Record, advance
from ledger.address import address_of
from ledger.keys import PrivateKey
from node.signing_record import RecordFile


class Signer(Protocol):
    """What a host needs of who signs."""

    @property
    def address(self) -> bytes:
        """The validator's address, 20 bytes."""

    @property
    def public_key(self) -> bytes:
        """The validator's public key, 32 bytes."""

    def record(self) -> Record:
        """What was signed last, for the engine and the checks at the start. Raises Fault where that is not known."""

    async def sign(self, payload: bytes) -> bytes:
        """The 64-byte signature of `consensus.messages.signed_payload`.

        Raises Refused (E-GUARD-001) where it would be a second signature, Invalid for bytes that are no statement of
        consensus, Fault (E-SIGNING-001) where the record cannot be made durable: the node must then stop. A remote
        signer also raises Unavailable (E-SIGNER-001): nothing was received, and to ask again for the same is safe.
        """

    async def close(self) -> None:
        """Ends it. Nothing is signed afterwards."""


class GuardedKey:
    """A private key that signs through the guard only. For one thread at a time. Owns the record's file."""

    def __init__(self, key: PrivateKey, record_file: RecordFile) -> None:
        self._key = key
        self._file = record_file
        self.public_key = key.public
        self.address = address_of(key.public)

    def record(self) -> Record:
        """As `Signer.record`."""
        return self._file.record

    def sign(self, payload: bytes) -> bytes:
        """As `Signer.sign`."""
        before = self._file.record
        after = advance(before, payload)
        if after is not before:
            self._file.store(after)
        return self._key.sign(payload)

    def close(self) -> None:
        """Gives the record free for another process."""
        self._file.close()


class LocalSigner:
    """Signs in this process, in a thread of its own: a sync of the disk holds up nobody else."""

    def __init__(self, key: PrivateKey, record_file: RecordFile) -> None:
        self._guarded = GuardedKey(key, record_file)
        self.address = self._guarded.address
        self.public_key = self._guarded.public_key
        # Its queue keeps the order, and goes on with what it has begun where an asker is cancelled.
        self._thread = ThreadPoolExecutor(1, "signer")

    def record(self) -> Record:
        """As `Signer.record`."""
        return self._guarded.record()

    async def sign(self, payload: bytes) -> bytes:
        """As `Signer.sign`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded.sign, payload)

    async def close(self) -> None:
        """As `Signer.close`. What was begun is finished first."""
        await asyncio.to_thread(self._thread.shutdown)
        self._guarded.close()
