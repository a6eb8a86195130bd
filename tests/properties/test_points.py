"""Points under any sequence of operations: they do what a model of a few lines does, and conserve supply."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.transaction import Call
from loyalty_contracts.points import UNLIMITED
from tests.harness import FRIEND, HOLDER, ROASTER, ROASTER_TILL, START_MS, STRANGER, THIRD, Chain, genesis
from vm.cells import check_invariants
from vm.context import BlockInfo
from vm.executor import BlockExecution
from vm.kinds import MAX_AMOUNT

P = "beans"
ACCOUNTS = (HOLDER, FRIEND, THIRD, STRANGER, ROASTER)

accounts = st.sampled_from(ACCOUNTS)
amounts = st.one_of(st.integers(0, 60), st.sampled_from([0, 1, MAX_AMOUNT - 50, MAX_AMOUNT]))


class Model:
    """The rules of one programme, on plain dictionaries. A refused operation returns its code and changes nothing."""

    def __init__(self, cap: int | None) -> None:
        self.balance = dict.fromkeys(ACCOUNTS, 0)
        self.allowance: dict[tuple[bytes, bytes], int] = {}
        self.frozen: set[bytes] = set()
        self.paused = False
        self.cap = cap
        self.issued = self.redeemed = self.burned = 0

    @property
    def outstanding(self) -> int:
        return self.issued - self.redeemed - self.burned

    def mint(self, actor: bytes, to: bytes, amount: int) -> str:
        if actor != ROASTER:
            return "E-VM-007"
        if self.paused:
            return "E-POINTS-007"
        if self.issued + amount > MAX_AMOUNT:
            return "E-POINTS-009"
        if self.cap is not None and self.outstanding + amount > self.cap:
            return "E-POINTS-008"
        self.balance[to] += amount
        self.issued += amount
        return ""

    def leave(self, actor: bytes, owner: bytes, amount: int, *, delegated: bool) -> str:
        allowed = self.allowance.get((owner, actor), 0)
        if self.paused:
            return "E-POINTS-007"
        if delegated and allowed < amount:
            return "E-POINTS-005"
        if owner in self.frozen:
            return "E-POINTS-006"
        if self.balance[owner] < amount:
            return "E-POINTS-004"
        if delegated and allowed != UNLIMITED:
            self.allowance[owner, actor] = allowed - amount
        self.balance[owner] -= amount
        return ""


class PointsMachine(RuleBasedStateMachine):
    """Runs the contract and the model side by side."""

    @initialize(cap=st.one_of(st.none(), st.integers(1, 200)))
    def begin(self, cap: int | None) -> None:
        self.chain = Chain()
        self.model = Model(cap)
        self.chain.call(ROASTER, "points.create", P, "Beans", cap, "beans", 0)

    def do(self, expected: str, actor: bytes, method: str, *arguments: Any) -> None:
        receipt = self.chain.try_call(actor, f"points.{method}", P, *arguments)
        assert receipt.code == expected, (method, receipt)
        assert len(receipt.events) == (0 if expected else 1)

    @rule(actor=st.sampled_from([ROASTER, ROASTER, ROASTER, HOLDER, ROASTER_TILL]), to=accounts, amount=amounts)
    def mint(self, actor: bytes, to: bytes, amount: int) -> None:
        self.do(self.model.mint(actor, to, amount), actor, "mint", to, amount)

    @rule(actor=accounts, to=accounts, amount=amounts)
    def transfer(self, actor: bytes, to: bytes, amount: int) -> None:
        code = self.model.leave(actor, actor, amount, delegated=False)
        if not code:
            self.model.balance[to] += amount
        self.do(code, actor, "transfer", to, amount)

    @rule(actor=accounts, owner=accounts, to=accounts, amount=amounts)
    def transfer_from(self, actor: bytes, owner: bytes, to: bytes, amount: int) -> None:
        code = self.model.leave(actor, owner, amount, delegated=True)
        if not code:
            self.model.balance[to] += amount
        self.do(code, actor, "transfer_from", owner, to, amount)

    @rule(actor=accounts, spender=accounts, amount=amounts)
    def approve(self, actor: bytes, spender: bytes, amount: int) -> None:
        self.model.allowance[actor, spender] = amount
        self.do("", actor, "approve", spender, amount)

    @rule(actor=accounts, amount=amounts)
    def spend(self, actor: bytes, amount: int) -> None:
        code = self.model.leave(actor, actor, amount, delegated=False)
        if not code:
            self.model.redeemed += amount
        self.do(code, actor, "spend", amount, "")

    @rule(actor=accounts, owner=accounts, amount=amounts)
    def spend_from(self, actor: bytes, owner: bytes, amount: int) -> None:
        code = self.model.leave(actor, owner, amount, delegated=True)
        if not code:
            self.model.redeemed += amount
        self.do(code, actor, "spend_from", owner, amount, "")

    @rule(actor=accounts, amount=amounts)
    def burn(self, actor: bytes, amount: int) -> None:
        code = self.model.leave(actor, actor, amount, delegated=False)
        if not code:
            self.model.burned += amount
        self.do(code, actor, "burn", amount)

    @rule(actor=accounts, owner=accounts, amount=amounts)
    def burn_from(self, actor: bytes, owner: bytes, amount: int) -> None:
        code = self.model.leave(actor, owner, amount, delegated=True)
        if not code:
            self.model.burned += amount
        self.do(code, actor, "burn_from", owner, amount)

    @rule(account=accounts, frozen=st.booleans())
    def freeze(self, account: bytes, frozen: bool) -> None:
        if frozen:
            self.model.frozen.add(account)
        else:
            self.model.frozen.discard(account)
        self.do("", ROASTER, "freeze" if frozen else "unfreeze", account)

    @rule(paused=st.sampled_from([True, False, False]))
    def pause(self, paused: bool) -> None:
        self.model.paused = paused
        self.do("", ROASTER, "pause" if paused else "unpause")

    @rule(cap=st.one_of(st.none(), st.integers(1, 300)))
    def set_cap(self, cap: int | None) -> None:
        refused = cap is not None and cap < self.model.outstanding
        if not refused:
            self.model.cap = cap
        self.do("E-POINTS-010" if refused else "", ROASTER, "set_cap", cap)

    @invariant()
    def same_as_the_model(self) -> None:
        view, model = self.chain.view, self.model
        for account in ACCOUNTS:
            assert view("points.balance_of", P, account) == model.balance[account]
            assert view("points.is_frozen", P, account) == (account in model.frozen)
        for (owner, spender), amount in model.allowance.items():
            assert view("points.allowance_of", P, owner, spender) == amount
        shown = view("points.show", P)
        assert (shown.issued, shown.redeemed, shown.burned) == (model.issued, model.redeemed, model.burned)
        assert (shown.outstanding, shown.cap, shown.paused) == (model.outstanding, model.cap, model.paused)
        assert sum(model.balance.values()) == model.outstanding
        assert self.chain.broken() == []


TestPoints = PointsMachine.TestCase
TestPoints.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)


def test_supply_is_conserved_over_ten_thousand_operations() -> None:
    """One seed, 10,000 operations of all kinds in blocks of 500; balances always add up to what is outstanding."""
    chain = Chain()
    chain.call(ROASTER, "points.create", P, "Beans", 5_000, "beans", 0)
    draw = random.Random(20_170_101)
    took_effect: dict[str, int] = {}
    for height in range(2, 22):
        block = BlockInfo(genesis().chain_id, height, START_MS + height * 1_000)
        execution = BlockExecution(chain.registry, chain.parameters, block, chain.cells.get, lambda _: False)
        for _ in range(500):
            actor, method, arguments = _operation(draw)
            signed = chain.transaction([actor], [Call(0, "points", method, (P, *arguments))], 1_000)
            if execution.apply(signed).ok:
                took_effect[method] = took_effect.get(method, 0) + 1
        for key, value in execution.finish().changes:
            assert value is not None
            chain.cells[key] = value
        assert check_invariants(chain.registry, chain.cells.items()) == []
    shown = chain.view("points.show", P)
    assert sum(chain.view("points.balance_of", P, account) for account in ACCOUNTS) == shown.outstanding
    assert shown.issued > shown.redeemed > 0 and shown.burned > 0
    assert set(took_effect) == set(_WEIGHTS) and min(took_effect.values()) > 30


_WEIGHTS = {
    "mint": 20,
    "transfer": 25,
    "transfer_from": 15,
    "approve": 15,
    "spend": 8,
    "spend_from": 8,
    "burn": 2,
    "burn_from": 3,
    "freeze": 2,
    "unfreeze": 4,
    "pause": 1,
    "unpause": 10,
}


def _operation(draw: random.Random) -> tuple[bytes, str, tuple[Any, ...]]:
    method = draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    actor, other, third = [draw.choice(ACCOUNTS) for _ in range(3)]
    amount = draw.choice([0, 1, draw.randrange(100), draw.randrange(2_000)])
    if method in ("pause", "unpause"):
        return ROASTER, method, ()
    if method in ("freeze", "unfreeze"):
        return ROASTER, method, (other,)
    if method == "mint":
        return ROASTER, method, (other, amount)
    if method == "transfer_from":
        return actor, method, (other, third, amount)
    if method in ("transfer", "approve", "burn_from"):
        return actor, method, (other, amount)
    if method == "spend_from":
        return actor, method, (other, amount, "")
    return actor, method, (amount, "") if method == "spend" else (amount,)
