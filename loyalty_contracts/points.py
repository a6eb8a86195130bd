"""Loyalty points: programmes, balances, allowances. Behaves as ERC-20 does wherever ERC-20 says anything.

Three choices that ERC-20 leaves open:
- a cap limits the points outstanding (issued less redeemed and burned), so redeeming makes room for new ones;
- a frozen account sends, spends and burns nothing, by itself or through an allowance, but it still receives: one
  frozen member must not undo a brand's batch of a thousand, and a wrong freeze then costs the member nothing;
- balance and freeze share one cell, because a transfer reads both and every cell it touches is paid for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from vm.context import Context
from vm.contract import Cells, Map, NativeContract, fault, invariant, method, view
from vm.kinds import (
    MAX_AMOUNT,
    Address,
    Amount,
    Flag,
    Identifier,
    IntegerKind,
    OptionalKind,
    OrganisationId,
    TextKind,
    TimeMs,
)

Title = Annotated[str, TextKind(128, shortest=1, what="a name for people")]
Unit = Annotated[str, TextKind(16, shortest=1, what="what one point is called")]
Decimals = Annotated[int, IntegerKind(0, 18, "digits after the point when an amount is shown")]
Purpose = Annotated[str, TextKind(64, what="what the points were redeemed for; no personal data")]
Cap = Annotated[
    int | None,
    OptionalKind(IntegerKind(1, MAX_AMOUNT, "the most points outstanding at a time; null for no cap")),
]

UNLIMITED = MAX_AMOUNT
"""An allowance of this amount is never reduced."""


class ProgrammeRecord(NamedTuple):
    """A programme: who may issue its points, how they are shown, and its limits."""

    organisation: OrganisationId
    name: Title
    unit: Unit
    decimals: Decimals
    cap: Cap
    paused: Flag
    created_ms: TimeMs


class Totals(NamedTuple):
    """What a programme has issued, redeemed and burned since it was created, in points."""

    issued: Amount
    redeemed: Amount
    burned: Amount

    @property
    def outstanding(self) -> int:
        """Points that members hold now."""
        return self.issued - self.redeemed - self.burned


class Account(NamedTuple):
    """What one address holds of one programme. An absent cell is an empty account."""

    balance: Amount
    frozen: Flag


class Programme(NamedTuple):
    """A programme with its totals, as `show` returns it."""

    organisation: OrganisationId
    name: Title
    unit: Unit
    decimals: Decimals
    cap: Cap
    paused: Flag
    created_ms: TimeMs
    issued: Amount
    redeemed: Amount
    burned: Amount
    outstanding: Amount


EMPTY = Account(0, False)
NOTHING = Totals(0, 0, 0)


class Points(NativeContract, name="points", version=1):
    """Loyalty points of any number of programmes.

    - The balances of a programme add up to issued - redeemed - burned, and that never exceeds its cap.
    - Only issuers of the organisation that created a programme mint, freeze, pause and set the cap.
    - Points leave an account by its holder's signature, or by that of one whom the holder has given an allowance.
    - While a programme is paused nothing is minted, moved, redeemed or burned; allowances and freezes still change.
    - Each change of a balance is one event: Minted (ERC-20's transfer from null), Transferred, Redeemed, Burned
      (its transfer to null). An amount of zero is allowed and changes nothing.
    """

    # storage
    programme: Map[Identifier, ProgrammeRecord] = Map()
    totals: Map[Identifier, Totals] = Map(default=NOTHING)
    account: Map[tuple[Identifier, Address], Account] = Map(default=EMPTY)
    allowance: Map[tuple[Identifier, Address, Address], Amount] = Map(default=0)

    # events
    class Created(NamedTuple):
        """A programme was created."""

        programme: Identifier
        organisation: OrganisationId
        cap: Cap

    class Minted(NamedTuple):
        """New points were given to an account."""

        programme: Identifier
        to: Address
        amount: Amount

    class Transferred(NamedTuple):
        """Points moved from one account to another."""

        programme: Identifier
        sender: Address
        to: Address
        amount: Amount

    class Redeemed(NamedTuple):
        """A holder's points were spent for something. `spender` signed: the holder, or a till with an allowance."""

        programme: Identifier
        holder: Address
        spender: Address
        amount: Amount
        purpose: Purpose

    class Burned(NamedTuple):
        """A holder's points ceased to exist without anything in return."""

        programme: Identifier
        holder: Address
        amount: Amount

    class Approved(NamedTuple):
        """An allowance was set."""

        programme: Identifier
        owner: Address
        spender: Address
        amount: Amount

    class Frozen(NamedTuple):
        """An account can no longer send or spend."""

        programme: Identifier
        account: Address

    class Unfrozen(NamedTuple):
        """An account can send and spend again."""

        programme: Identifier
        account: Address

    class Paused(NamedTuple):
        """A programme stands still."""

        programme: Identifier

    class Unpaused(NamedTuple):
        """A programme runs again."""

        programme: Identifier

    class CapSet(NamedTuple):
        """A programme has a new cap, or none."""

        programme: Identifier
        cap: Cap

    # errors
    unknown = fault("E-POINTS-001", "there is no programme {}", "check its id, or create it first")
    exists = fault("E-POINTS-002", "the programme {} exists already", "choose another id")
    not_yours = fault(
        "E-POINTS-003", "the programme {} belongs to {}", "sign with an issuer's account of that organisation"
    )
    short = fault("E-POINTS-004", "the account {} holds {} points, {} are needed", "use a smaller amount")
    over_allowance = fault(
        "E-POINTS-005",
        "{} may use {} points of {}, {} are needed",
        "ask the holder to approve a larger allowance",
    )
    frozen = fault("E-POINTS-006", "the account {} is frozen", "ask the programme's issuer to unfreeze it")
    paused = fault("E-POINTS-007", "the programme {} is paused", "wait until its issuer resumes it")
    over_cap = fault(
        "E-POINTS-008",
        "{} points are outstanding, the cap is {}, {} more do not fit",
        "mint fewer, or raise the cap",
    )
    too_many = fault(
        "E-POINTS-009", "{} points were issued, {} more exceed what can be counted", "start a new programme"
    )
    cap_too_low = fault("E-POINTS-010", "{} points are outstanding, a cap of {} is below that", "choose a higher cap")

    # methods
    @method(gas=120, role="issuer")
    def create(
        self,
        ctx: Context,
        programme: Identifier,
        name: Title,
        cap: Cap = None,
        unit: Unit = "points",
        decimals: Decimals = 0,
    ) -> None:
        """Creates a programme that belongs to the caller's organisation."""
        if programme in self.programme:
            raise self.exists(programme)
        member = ctx.membership_of(ctx.actor)
        assert member is not None  # the kit has checked the role
        self.programme[programme] = ProgrammeRecord(member.organisation, name, unit, decimals, cap, False, ctx.time_ms)
        self.totals[programme] = NOTHING
        ctx.emit(self.Created(programme, member.organisation, cap))

    @method(gas=60, role="issuer")
    def mint(self, ctx: Context, programme: Identifier, to: Address, amount: Amount) -> None:
        """Gives new points to an account."""
        record = self._owned(ctx, programme)
        if record.paused:
            raise self.paused(programme)
        totals = self.totals[programme]
        issued, redeemed, burned = totals
        if issued + amount > MAX_AMOUNT:
            raise self.too_many(issued, amount)
        cap = record.cap
        if cap is not None and issued - redeemed - burned + amount > cap:
            raise self.over_cap(totals.outstanding, cap, amount)
        key = (programme, to)
        balance, frozen = self.account[key]
        self.account[key] = Account(balance + amount, frozen)
        self.totals[programme] = Totals(issued + amount, redeemed, burned)
        ctx.emit(self.Minted(programme, to, amount))

    @method(gas=60)
    def transfer(self, ctx: Context, programme: Identifier, to: Address, amount: Amount) -> None:
        """Moves the caller's points to another account."""
        self._running(programme)
        self._move(ctx, programme, ctx.actor, to, amount)

    @method(gas=40)
    def approve(self, ctx: Context, programme: Identifier, spender: Address, amount: Amount) -> None:
        """Lets `spender` use up to `amount` of the caller's points; replaces what was allowed before."""
        self._known(programme)
        self.allowance[programme, ctx.actor, spender] = amount
        ctx.emit(self.Approved(programme, ctx.actor, spender, amount))

    @method(gas=80)
    def transfer_from(self, ctx: Context, programme: Identifier, owner: Address, to: Address, amount: Amount) -> None:
        """Moves points of an owner who has given the caller an allowance."""
        self._running(programme)
        self._use_allowance(ctx, programme, owner, amount)
        self._move(ctx, programme, owner, to, amount)

    @method(gas=60)
    def spend(self, ctx: Context, programme: Identifier, amount: Amount, purpose: Purpose = "") -> None:
        """Redeems the caller's points."""
        self._running(programme)
        self._redeem(ctx, programme, ctx.actor, amount, purpose)

    @method(gas=80)
    def spend_from(
        self, ctx: Context, programme: Identifier, owner: Address, amount: Amount, purpose: Purpose = ""
    ) -> None:
        """Redeems points of an owner who has given the caller, a till, an allowance."""
        self._running(programme)
        self._use_allowance(ctx, programme, owner, amount)
        self._redeem(ctx, programme, owner, amount, purpose)

    @method(gas=60)
    def burn(self, ctx: Context, programme: Identifier, amount: Amount) -> None:
        """Destroys points of the caller, who gets nothing for them."""
        self._running(programme)
        self._burn(ctx, programme, ctx.actor, amount)

    @method(gas=80)
    def burn_from(self, ctx: Context, programme: Identifier, owner: Address, amount: Amount) -> None:
        """Destroys points of an owner who has given the caller an allowance."""
        self._running(programme)
        self._use_allowance(ctx, programme, owner, amount)
        self._burn(ctx, programme, owner, amount)

    @method(gas=50, role="issuer")
    def freeze(self, ctx: Context, programme: Identifier, account: Address) -> None:
        """Stops an account from sending and spending; it still receives."""
        self._owned(ctx, programme)
        self.account[programme, account] = Account(self.account[programme, account].balance, True)
        ctx.emit(self.Frozen(programme, account))

    @method(gas=50, role="issuer")
    def unfreeze(self, ctx: Context, programme: Identifier, account: Address) -> None:
        """Lets a frozen account send and spend again."""
        self._owned(ctx, programme)
        self.account[programme, account] = Account(self.account[programme, account].balance, False)
        ctx.emit(self.Unfrozen(programme, account))

    @method(gas=50, role="issuer")
    def pause(self, ctx: Context, programme: Identifier) -> None:
        """Stops minting, transfers, redemptions and burns of a programme."""
        self.programme[programme] = self._owned(ctx, programme)._replace(paused=True)
        ctx.emit(self.Paused(programme))

    @method(gas=50, role="issuer")
    def unpause(self, ctx: Context, programme: Identifier) -> None:
        """Lets a paused programme run again."""
        self.programme[programme] = self._owned(ctx, programme)._replace(paused=False)
        ctx.emit(self.Unpaused(programme))

    @method(gas=50, role="issuer")
    def set_cap(self, ctx: Context, programme: Identifier, cap: Cap) -> None:
        """Sets the cap of a programme, or takes it away. It may not fall below what is outstanding."""
        record = self._owned(ctx, programme)
        outstanding = self.totals[programme].outstanding
        if cap is not None and cap < outstanding:
            raise self.cap_too_low(outstanding, cap)
        self.programme[programme] = record._replace(cap=cap)
        ctx.emit(self.CapSet(programme, cap))

    # views
    @view
    def show(self, ctx: Context, programme: Identifier) -> Programme:
        """A programme and its totals."""
        totals = self.totals[programme]
        return Programme(*self._known(programme), *totals, totals.outstanding)

    @view
    def balance_of(self, ctx: Context, programme: Identifier, account: Address) -> Amount:
        """The points that an account holds, 0 for an unknown account."""
        self._known(programme)
        return self.account[programme, account].balance

    @view
    def allowance_of(self, ctx: Context, programme: Identifier, owner: Address, spender: Address) -> Amount:
        """The points of `owner` that `spender` may still use."""
        self._known(programme)
        return self.allowance[programme, owner, spender]

    @view
    def is_frozen(self, ctx: Context, programme: Identifier, account: Address) -> Flag:
        """True where the account can neither send nor spend."""
        self._known(programme)
        return self.account[programme, account].frozen

    # invariants
    @invariant
    def conserved(self, cells: Cells) -> Iterator[str]:
        """Balances of a programme add up to its outstanding points, within its cap."""
        held: dict[str, int] = {}
        for (programme, _), account in cells.of(self.account):
            held[programme] = held.get(programme, 0) + account.balance
        caps = {programme: record.cap for programme, record in cells.of(self.programme)}
        for programme, totals in cells.of(self.totals):
            outstanding = totals.outstanding
            balances = held.pop(programme, 0)
            if balances != outstanding:
                yield f"programme {programme}: balances add up to {balances}, outstanding are {outstanding}"
            if programme not in caps:
                yield f"programme {programme} has totals and no record"
                continue
            cap = caps.pop(programme)
            if cap is not None and outstanding > cap:
                yield f"programme {programme}: {outstanding} points are outstanding, the cap is {cap}"
        for programme in caps:
            yield f"programme {programme} has a record and no totals"
        for programme, balances in held.items():
            yield f"{balances} points are held of a programme {programme!r} that has no totals"

    @invariant
    def allowances_belong(self, cells: Cells) -> Iterator[str]:
        """Every allowance is of a programme that exists."""
        programmes = {programme for programme, _ in cells.of(self.programme)}
        for (programme, owner, _), _amount in cells.of(self.allowance):
            if programme not in programmes:
                yield f"{owner.hex()} gave an allowance of a programme {programme!r} that does not exist"

    # inside
    def _known(self, programme: str) -> ProgrammeRecord:
        record = self.programme.get(programme)
        if record is None:
            raise self.unknown(programme)
        return record

    def _running(self, programme: str) -> None:
        if self._known(programme).paused:
            raise self.paused(programme)

    def _owned(self, ctx: Context, programme: str) -> ProgrammeRecord:
        record = self._known(programme)
        if not ctx.has_role("issuer", record.organisation):
            raise self.not_yours(programme, record.organisation)
        return record

    def _take(self, programme: str, holder: bytes, amount: int) -> None:
        account = self.account[programme, holder]
        if account.frozen:
            raise self.frozen(holder)
        if account.balance < amount:
            raise self.short(holder, account.balance, amount)
        self.account[programme, holder] = Account(account.balance - amount, False)

    def _move(self, ctx: Context, programme: str, sender: bytes, to: bytes, amount: int) -> None:
        self._take(programme, sender, amount)
        balance, frozen = self.account[programme, to]  # after taking: `to` may be the sender
        self.account[programme, to] = Account(balance + amount, frozen)
        ctx.emit(self.Transferred(programme, sender, to, amount))

    def _redeem(self, ctx: Context, programme: str, holder: bytes, amount: int, purpose: str) -> None:
        self._take(programme, holder, amount)
        issued, redeemed, burned = self.totals[programme]
        self.totals[programme] = Totals(issued, redeemed + amount, burned)
        ctx.emit(self.Redeemed(programme, holder, ctx.actor, amount, purpose))

    def _burn(self, ctx: Context, programme: str, holder: bytes, amount: int) -> None:
        self._take(programme, holder, amount)
        issued, redeemed, burned = self.totals[programme]
        self.totals[programme] = Totals(issued, redeemed, burned + amount)
        ctx.emit(self.Burned(programme, holder, amount))

    def _use_allowance(self, ctx: Context, programme: str, owner: bytes, amount: int) -> None:
        key = (programme, owner, ctx.actor)
        allowed = self.allowance[key]
        if allowed < amount:
            raise self.over_allowance(ctx.actor, allowed, owner, amount)
        if allowed != UNLIMITED:
            self.allowance[key] = allowed - amount
