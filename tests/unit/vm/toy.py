"""A small contract for tests of the kit: a counter per account, and ways to fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from ledger import codec
from vm.context import Context, ContractFault
from vm.contract import Cells, Map, NativeContract, invariant, method, view
from vm.kinds import Address, Amount, Count, Flag, IntegerKind, OptionalAddress, ShortText

Small = Annotated[int, IntegerKind(0, 9)]

TOO_BIG = "E-TOY-001"


class Entry(NamedTuple):
    """Where and by whom something was noted."""

    height: Count
    last: OptionalAddress


class Toy(NativeContract, name="toy", version=3):
    """Counts.

    - A counter is never above 9.
    """

    # storage
    counter: Map[Address, Count] = Map(default=0)
    entry: Map[tuple[Address, ShortText], Entry] = Map()
    sum: Map[ShortText, Amount] = Map()

    # events
    class Added(NamedTuple):
        """A counter rose."""

        account: Address
        amount: Count

    # methods
    @method(gas=30)
    def add(self, ctx: Context, account: Address, amount: Small) -> Count:
        """Adds to a counter."""
        total = self.counter[account] + amount
        self.counter[account] = total
        ctx.emit(self.Added(account, amount))
        if total > 9:
            raise ContractFault(TOO_BIG, (account, total))
        return total

    @method(gas=10, role="issuer")
    def reset(self, ctx: Context, account: Address, really: Flag = True) -> None:
        """Removes a counter."""
        if really:
            del self.counter[account]

    @method(gas=10)
    def note(self, ctx: Context, label: ShortText) -> None:
        """Writes an entry of the caller's."""
        self.entry[ctx.actor, label] = Entry(ctx.height, ctx.actor)

    @method(gas=5)
    def spin(self, ctx: Context, turns: Count) -> None:
        """Charges before each turn."""
        for _ in range(turns):
            ctx.charge(100)

    @method(gas=1)
    def fail(self, ctx: Context, how: ShortText) -> None:
        """Fails in a way of the caller's choice, after a write and an event."""
        self.counter[ctx.actor] = 7
        ctx.emit(self.Added(ctx.actor, 7))
        if how == "memory":
            raise MemoryError
        if how == "recursion":
            self.fail(ctx, how)
        if how == "defect":
            raise ZeroDivisionError("text that no receipt may hold")
        codec.encode(1.5)  # type: ignore[arg-type]

    # views
    @view
    def total(self, ctx: Context, account: Address) -> Count:
        """What a counter says."""
        return self.counter[account]

    @view
    def now(self, ctx: Context) -> Amount:
        """Block time."""
        return ctx.time_ms

    # invariants
    @invariant
    def small(self, cells: Cells) -> Iterator[str]:
        """No counter is above 9."""
        for account, count in cells.of(self.counter):
            if count > 9:
                yield f"{account.hex()} counts {count}"
