"""Certificates under any sequence of issues, moves and revocations: unique for ever, counted, moved by right only."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.merkle import prove, root
from loyalty_contracts.certificate_records import batch_leaf
from loyalty_contracts.gs1 import NEXT_STEPS, STEPS, Gtin, check_digit
from tests.harness import FRIEND, GROCER, HOLDER, ROASTER, THIRD, Chain
from vm.kinds import kind_of

G = "09506000134352"
OTHER = "00614141999996"
PRODUCTS = (G, OTHER)
SERIALS = ("1", "2", "3")
BATCHED = ("2", "3", "4")
HASH = b"h" * 32
LEAVES = {gtin: [batch_leaf(gtin, serial, HASH) for serial in BATCHED] for gtin in PRODUCTS}

products = st.sampled_from(PRODUCTS)
serials = st.sampled_from(SERIALS)
people = st.sampled_from([HOLDER, FRIEND, THIRD])
actors = st.sampled_from([HOLDER, FRIEND, THIRD, ROASTER, GROCER])


class Pack:
    """What the model knows of one certificate."""

    def __init__(self, holder: bytes | None) -> None:
        self.holder = holder
        self.approved: bytes | None = None
        self.revoked = False
        self.stage = ""
        self.scans = 0
        self.marks: set[bytes] = set()


class CertificateMachine(RuleBasedStateMachine):
    """Two products of one brand, few serials, so that everything collides."""

    @initialize()
    def begin(self) -> None:
        self.chain = Chain()
        self.packs: dict[tuple[str, str], Pack] = {}
        self.operators: set[tuple[bytes, bytes]] = set()
        for gtin in PRODUCTS:
            self.chain.call(ROASTER, "certificate.define_product", gtin, "Beans", HASH)
            self.chain.call(ROASTER, "certificate.issue_batch", gtin, "B", root(LEAVES[gtin]), len(BATCHED), None)

    def try_it(self, allowed: bool, actor: bytes, method: str, *arguments: Any) -> bool:
        receipt = self.chain.try_call(actor, f"certificate.{method}", *arguments)
        assert receipt.ok == allowed, (method, receipt)
        assert len(receipt.events) == allowed
        return allowed

    def live(self, gtin: str, serial: str) -> Pack | None:
        pack = self.packs.get((gtin, serial))
        return None if pack is None or pack.revoked else pack

    def may_control(self, actor: bytes, pack: Pack) -> bool:
        if pack.holder is None:
            return actor == ROASTER
        return actor == pack.holder or (pack.holder, actor) in self.operators

    @rule(actor=st.sampled_from([ROASTER, ROASTER, GROCER]), gtin=products, serial=serials, holder=st.none() | people)
    def issue(self, actor: bytes, gtin: str, serial: str, holder: bytes | None) -> None:
        allowed = actor == ROASTER and (gtin, serial) not in self.packs
        if self.try_it(allowed, actor, "issue", gtin, serial, HASH, holder, None):
            self.packs[gtin, serial] = Pack(holder)

    @rule(actor=actors, gtin=products, index=st.integers(0, 2), place=st.integers(0, 3))
    def materialise(self, actor: bytes, gtin: str, index: int, place: int) -> None:
        serial = BATCHED[index]
        path = prove(LEAVES[gtin], index).path
        allowed = place == index and (gtin, serial) not in self.packs
        if self.try_it(allowed, actor, "materialise", gtin, "B", serial, HASH, place, path):
            self.packs[gtin, serial] = Pack(None)

    @rule(actor=actors, gtin=products, serial=serials, to=people)
    def transfer(self, actor: bytes, gtin: str, serial: str, to: bytes) -> None:
        pack = self.live(gtin, serial)
        allowed = pack is not None and (actor == pack.approved or self.may_control(actor, pack))
        if self.try_it(allowed, actor, "transfer", gtin, serial, to, None):
            assert pack is not None
            pack.holder, pack.approved = to, None

    @rule(actor=actors, gtin=products, serial=serials, approved=st.none() | people)
    def approve(self, actor: bytes, gtin: str, serial: str, approved: bytes | None) -> None:
        pack = self.live(gtin, serial)
        allowed = pack is not None and pack.holder is not None and self.may_control(actor, pack)
        if self.try_it(allowed, actor, "approve", gtin, serial, approved):
            assert pack is not None
            pack.approved = approved

    @rule(owner=people, operator=people, allowed=st.booleans())
    def set_operator(self, owner: bytes, operator: bytes, allowed: bool) -> None:
        self.try_it(True, owner, "set_operator", operator, allowed)
        if allowed:
            self.operators.add((owner, operator))
        else:
            self.operators.discard((owner, operator))

    @rule(actor=st.sampled_from([ROASTER, GROCER, HOLDER]), gtin=products, serial=serials)
    def revoke(self, actor: bytes, gtin: str, serial: str) -> None:
        pack = self.live(gtin, serial)
        if self.try_it(actor == ROASTER and pack is not None, actor, "revoke", gtin, serial, ""):
            assert pack is not None
            pack.revoked, pack.holder, pack.approved = True, None, None

    @rule(gtin=products, serial=serials, step=st.sampled_from(STEPS))
    def record(self, gtin: str, serial: str, step: str) -> None:
        pack = self.live(gtin, serial)
        allowed = pack is not None and step in NEXT_STEPS[pack.stage]
        if self.try_it(allowed, ROASTER, "record_event", gtin, serial, step, HASH, ""):
            assert pack is not None
            pack.stage = step

    @rule(actor=people, gtin=products, serial=serials)
    def mark(self, actor: bytes, gtin: str, serial: str) -> None:
        pack = self.live(gtin, serial)
        if self.try_it(pack is not None and actor not in pack.marks, actor, "mark", gtin, serial, "good"):
            assert pack is not None
            pack.marks.add(actor)

    @rule(actor=people, gtin=products, serial=serials)
    def scan(self, actor: bytes, gtin: str, serial: str) -> None:
        receipt = self.chain.call(actor, "certificate.scan", gtin, serial, "")
        pack = self.packs.get((gtin, serial))
        if pack is None:
            assert receipt.results[0] == ("unknown", None, 0)
            return
        pack.scans += 1
        word = "revoked" if pack.revoked else "registered" if pack.scans == 1 else "seen_before"
        assert (receipt.results[0][0], receipt.results[0][2]) == (word, pack.scans)

    @invariant()
    def as_expected(self) -> None:
        view = self.chain.view
        for (gtin, serial), pack in self.packs.items():
            shown = view("certificate.show", gtin, serial)
            assert (shown.holder, shown.approved, shown.stage) == (pack.holder, pack.approved, pack.stage)
            assert (shown.scans, shown.marks, shown.status == "revoked") == (pack.scans, len(pack.marks), pack.revoked)
        for gtin in PRODUCTS:
            mine = [pack for (product, _), pack in self.packs.items() if product == gtin]
            assert view("certificate.product_of", gtin).certificates == len(mine)
            for account in (HOLDER, FRIEND, THIRD):
                held = [pack for pack in mine if pack.holder == account]
                assert view("certificate.balance_of", gtin, account) == len(held)
        assert self.chain.broken() == []


TestCertificate = CertificateMachine.TestCase
TestCertificate.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)


@settings(derandomize=True)
@given(digits=st.text("0123456789", min_size=13, max_size=13), place=st.integers(0, 12), shift=st.integers(1, 9))
def test_a_check_digit_finds_every_single_wrong_digit(digits: str, place: int, shift: int) -> None:
    gtin = digits + check_digit(digits)
    assert kind_of(Gtin).check(gtin) is None
    wrong = str((int(digits[place]) + shift) % 10)
    assert kind_of(Gtin).check(gtin[:place] + wrong + gtin[place + 1 :]) is not None
