"""What a contract's method may know and do: its caller, the block, gas, events. There is no other way out.

No clock but block time, no randomness, no other contract's cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ledger.errors import Fault, define
from ledger.receipt import Event

OUT_OF_GAS = define("E-VM-002", "out of gas", "raise the gas limit, or split the transaction")
CONTRACT_BROKEN = define(
    "E-VM-003", "a contract failed", "report it with the transaction's id: this is a defect of Troth"
)


class ContractFault(Exception):
    """A call cannot take effect. Undoes the whole transaction and becomes its receipt.

    `detail` are codec values that the message of `code` names.
    """

    def __init__(self, code: str, detail: tuple[Any, ...] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


class Membership(NamedTuple):
    """An account's place in the consortium: its organisation and roles (ascending)."""

    organisation: str
    roles: tuple[str, ...]


class Authority(Protocol):
    """Who belongs where, as of the state that the block has reached. Kept by the organisations contract."""

    def membership(self, account: bytes) -> Membership | None:
        """The account's membership, or None for a consumer."""


class BlockInfo(NamedTuple):
    """The block that is being executed. `time_ms` is ms since 1970-01-01 UTC."""

    chain_id: str
    height: int
    time_ms: int


class Context:
    """One call's view of the world. `actor` is the address that makes the call and has signed the transaction."""

    __slots__ = ("_authority", "actor", "actors", "block", "contract", "events", "gas_left", "transaction_id")

    def __init__(
        self,
        block: BlockInfo,
        authority: Authority,
        transaction_id: bytes,
        actors: tuple[bytes, ...],
        gas_left: int,
    ) -> None:
        self.block = block
        self.transaction_id = transaction_id
        self.actors = actors
        self.actor = actors[0]
        self.contract = ""
        self.events: list[Event] = []
        self.gas_left = gas_left
        self._authority = authority

    @property
    def time_ms(self) -> int:
        """Block time."""
        return self.block.time_ms

    @property
    def height(self) -> int:
        """Height of the block."""
        return self.block.height

    def charge(self, gas: int) -> None:
        """Takes gas for work about to be done. Raises ContractFault (E-VM-002) where too little is left."""
        self.gas_left -= gas
        if self.gas_left < 0:
            raise ContractFault(OUT_OF_GAS)

    def emit(self, event: tuple[Any, ...]) -> None:
        """Records an event: an instance of one of the contract's event classes."""
        self.events.append(Event(self.contract, type(event).__name__, tuple(event)))

    def membership_of(self, account: bytes) -> Membership | None:
        """Organisation and roles of an account, or None for a consumer."""
        return self._authority.membership(account)

    def has_role(self, role: str, organisation: str) -> bool:
        """True where the acting account has `role` in `organisation`."""
        member = self._authority.membership(self.actor)
        return member is not None and member.organisation == organisation and role in member.roles


class HostExhausted(Fault):
    """The host ran out of memory or stack while executing. Never a transaction's result: the node stops."""
