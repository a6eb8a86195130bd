"""A chain in memory for tests of contracts: the production executor over a dictionary of cells.

Each call is a transaction in a block of its own, admitted and executed as on a node, and its changes go through
their encoding, so a test sees what a later block would. Only signatures are left out: `BlockExecution` never looks
at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ledger import codec
from ledger.genesis import Genesis, Member, Organisation, Parameters
from ledger.receipt import Event, Receipt, decode_receipt
from ledger.transaction import Call, SignedTransaction, Transaction, assemble
from node.contracts import registry as production_registry
from vm.cells import check_invariants
from vm.context import BlockInfo, ContractFault
from vm.executor import BlockExecution, execute_genesis, run_view
from vm.registry import Registry

CHAIN_ID = "test-chain"
START_MS = 1_700_000_000_000


def address(name: str) -> bytes:
    """A distinct address for a short name."""
    return name.encode().ljust(20, b".")


ROASTER = address("roaster-issuer")
ROASTER_TILL = address("roaster-transactor")
ROASTER_ADMIN = address("roaster-admin")
ROASTER_AUDITOR = address("roaster-auditor")
GROCER = address("grocer-issuer")
GROCER_TILL = address("grocer-transactor")
HOLDER, FRIEND, THIRD, STRANGER = [address(name) for name in ("holder", "friend", "third", "stranger")]
NULL = bytes(20)


def genesis(parameters: Parameters | None = None) -> Genesis:
    """Two brands and a carrier; everyone else is a consumer."""

    def organisation(name: str, *members: tuple[bytes, tuple[str, ...]]) -> Organisation:
        return Organisation(name, name.capitalize(), tuple([Member(*member) for member in members]))

    return Genesis(
        1,
        CHAIN_ID,
        START_MS,
        parameters or Parameters(),
        (),
        (
            organisation(
                "roaster",
                (ROASTER, ("issuer",)),
                (ROASTER_TILL, ("transactor",)),
                (ROASTER_ADMIN, ("administrator",)),
                (ROASTER_AUDITOR, ("auditor",)),
            ),
            organisation("grocer", (GROCER, ("issuer",)), (GROCER_TILL, ("transactor",))),
        ),
    )


class Chain:
    """A chain whose blocks are made by calling its contracts. `cells` is the state, as bytes."""

    def __init__(self, registry: Registry | None = None, parameters: Parameters | None = None) -> None:
        self.registry = registry or production_registry()
        self.parameters = parameters or Parameters()
        self.height = 0
        self.time_ms = START_MS
        self.cells: dict[bytes, bytes] = {}
        self._nonce = 0
        self._commit(execute_genesis(self.registry, genesis(self.parameters)))

    def transaction(self, actors: Iterable[bytes], calls: Iterable[Call], gas_limit: int = 20_000) -> SignedTransaction:
        """An unsigned transaction that is valid in the next block."""
        self._nonce += 1
        transaction = Transaction(
            1,
            CHAIN_ID,
            tuple(actors),
            self._nonce.to_bytes(8, "big"),
            self.time_ms + 60_000,
            gas_limit,
            tuple(calls),
            "",
        )
        return assemble(transaction, codec.encode(transaction), ())

    def execution(self) -> BlockExecution:
        """The next block, empty, one second after the last."""
        block = BlockInfo(CHAIN_ID, self.height + 1, self.time_ms + 1_000)
        return BlockExecution(self.registry, self.parameters, block, self.cells.get, lambda _: False)

    def execute(self, signed: SignedTransaction) -> Receipt:
        """One block of one transaction. Returns its receipt, decoded from its bytes."""
        execution = self.execution()
        execution.admit(signed)
        execution.apply(signed)
        result = execution.finish()
        self.height, self.time_ms = execution.block.height, execution.block.time_ms
        self._commit(result.changes)
        return decode_receipt(result.encoded_receipts[0])

    def try_call(self, actor: bytes, target: str, *arguments: Any) -> Receipt:
        """The receipt of `contract.method`, whatever it says."""
        contract, method = target.split(".")
        return self.execute(self.transaction([actor], [Call(0, contract, method, arguments)]))

    def call(self, actor: bytes, target: str, *arguments: Any) -> Receipt:
        """The receipt of a call that must take effect."""
        receipt = self.try_call(actor, target, *arguments)
        assert receipt.ok, f"{target} was refused: {receipt.code} {receipt.detail}"
        return receipt

    def refuse(self, code: str, actor: bytes, target: str, *arguments: Any) -> Receipt:
        """The receipt of a call that must be refused with `code` and leave neither change nor event."""
        before = dict(self.cells)
        receipt = self.try_call(actor, target, *arguments)
        assert receipt.code == code, f"{target}: {receipt.code or 'took effect'} {receipt.detail}, expected {code}"
        assert self.cells == before
        assert receipt.events == () and receipt.results == ()
        return receipt

    def view(self, target: str, *arguments: Any) -> Any:
        """What a view answers now."""
        contract, name = target.split(".")
        block = BlockInfo(CHAIN_ID, self.height, self.time_ms)
        return run_view(self.registry, block, self.cells.get, contract, name, arguments)

    def broken(self) -> list[str]:
        """The invariants that do not hold."""
        return check_invariants(self.registry, self.cells.items())

    def pass_until(self, time_ms: int) -> None:
        """Lets time pass, so that the next block has exactly this time."""
        assert time_ms > self.time_ms
        self.time_ms = time_ms - 1_000

    def overwrite(self, contract: str, cell_map: str, key: tuple[Any, ...], value: Any) -> None:
        """Writes a cell past all contracts, as a defect or a thief would; None removes it."""
        cell = codec.encode((contract, cell_map, *key))
        if value is None:
            del self.cells[cell]
        else:
            self.cells[cell] = codec.encode(value)

    def _commit(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        for key, value in changes:
            if value is None:
                self.cells.pop(key, None)
            else:
                self.cells[key] = value


def event(contract: str, name: str, *fields: Any) -> Event:
    """An event as a receipt holds it."""
    return Event(contract, name, fields)


@contextmanager
def raises_fault(code: str) -> Iterator[None]:
    """Asserts that a view ends with this code."""
    with pytest.raises(ContractFault) as caught:
        yield
    assert caught.value.code == code
