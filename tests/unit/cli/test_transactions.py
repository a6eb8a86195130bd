"""Building transactions and reading outcomes, without a node."""

from __future__ import annotations

from typing import Any

import pytest

from cli.transactions import (
    SIGNATURE_BYTES_MAX,
    ChainFacts,
    Outcome,
    build,
    chain_facts,
    check_outcome,
    gas_bound,
    receipt_text,
    refusal,
    valid_until_ms,
)
from ledger import codec
from ledger.address import address_of
from ledger.errors import Forbidden, Invalid, Refused, TrothError, Unavailable
from ledger.genesis import Parameters
from ledger.transaction import Call, check_validity, decode
from node.contracts import registry
from node.keystore import dev_key
from tests.harness import HOLDER, ROASTER, START_MS, Chain
from vm import gas

HOUR = 3_600_000
FACTS = ChainFacts("dev-test", START_MS, 30_000, 2 * HOUR, 1_900_000)
KEY = dev_key("alice")
ALICE = address_of(KEY.public)
CALL = Call(0, "points", "transfer", ("beans", HOLDER, 5))


def test_the_facts_are_those_of_the_chain() -> None:
    parameters = Parameters(heartbeat_ms=1_000, block_gas=500_000, reserved_gas=50_000)
    chain = {"chain_id": "dev", "time_ms": 5, "parameters": parameters._asdict()}
    assert chain_facts(chain) == ChainFacts("dev", 5, 1_000, parameters.validity_window_ms, 450_000)


@pytest.mark.parametrize("skew_ms", [-365 * 24 * HOUR, -HOUR, 0, 10_000, 30_000, HOUR, 365 * 24 * HOUR])
@pytest.mark.parametrize("valid_for_ms", [60_000, 600_000, 10 * HOUR])
def test_a_wrong_clock_does_no_harm(skew_ms: int, valid_for_ms: int) -> None:
    """Whatever this machine's clock says, the next block, at most a heartbeat after the head, takes it."""
    transaction = build(registry(), FACTS, [ALICE], [CALL], now=START_MS + skew_ms, valid_for_ms=valid_for_ms)
    for block_time_ms in (START_MS + 1, START_MS + FACTS.heartbeat_ms):
        check_validity(transaction, block_time_ms, FACTS.validity_window_ms)


def test_validity_counts_from_now_between_head_and_next_block() -> None:
    assert valid_until_ms(FACTS, START_MS + 10_000, 60_000) == START_MS + 70_000


def test_each_build_is_another_transaction() -> None:
    first, second = [build(registry(), FACTS, [ALICE], [CALL], now=START_MS) for _ in range(2)]
    assert first.nonce != second.nonce
    assert first._replace(nonce=second.nonce) == second


def test_a_built_transaction_decodes_and_its_gas_covers_its_bytes() -> None:
    signed = build(registry(), FACTS, [ALICE], [CALL] * 50, now=START_MS, memo="m" * 256).sign([KEY])
    assert decode(signed.raw) == signed
    assert len(signed.raw) <= len(codec.encode(signed.transaction)) + SIGNATURE_BYTES_MAX
    assert signed.transaction.gas_limit >= gas.intrinsic(len(signed.raw)) + 50 * 60


def test_a_limit_is_never_above_a_block() -> None:
    facts = FACTS._replace(gas_limit_max=700)
    assert build(registry(), facts, [ALICE], [CALL] * 50, now=START_MS).gas_limit == 700
    assert build(registry(), FACTS, [ALICE], [CALL], now=START_MS, gas_limit=12_345).gas_limit == 12_345


def test_a_wrong_call_is_refused_before_anything_is_signed() -> None:
    with pytest.raises(Invalid, match=r"E-VM-001 .*amount must be from 0"):
        build(registry(), FACTS, [ALICE], [CALL._replace(arguments=("beans", HOLDER, -1))], now=START_MS)


def test_the_bound_covers_what_execution_uses() -> None:
    chain = Chain()
    chain.call(ROASTER, "points.create", "beans", "Beans", None, "points", 0)
    calls = [Call(0, "points", "mint", ("beans", HOLDER, 5))] * 20
    signed = chain.transaction([ROASTER], calls)
    limit = gas_bound(registry(), calls, len(signed.raw))
    receipt = chain.execute(chain.transaction([ROASTER], calls, limit))
    assert receipt.ok
    assert receipt.gas_used <= limit


def test_the_bound_covers_a_method_that_loops_over_an_array() -> None:
    chain = Chain()
    gtin, path = "09506000134352", (bytes(32),) * 32
    call = Call(0, "certificate", "materialise", (gtin, "B1", "S1", bytes(32), 0, path))
    chain.call(ROASTER, "certificate.define_product", gtin, "Beans", bytes(32))
    chain.call(ROASTER, "certificate.issue_batch", gtin, "B1", bytes(32), 2**32 - 1, None)
    limit = gas_bound(registry(), [call], len(chain.transaction([HOLDER], [call]).raw))
    assert chain.execute(chain.transaction([HOLDER], [call], limit)).code == "E-CERT-008"  # the path, not the gas


@pytest.mark.parametrize(
    ("code", "cls", "exit_code"),
    [
        ("E-VM-007", Forbidden, 4),
        ("E-POINTS-003", Forbidden, 4),
        ("E-CONSENT-004", Forbidden, 4),
        ("E-POINTS-004", Refused, 1),
        ("E-TX-004", Refused, 1),
        ("E-TX-014", Unavailable, 6),
        ("E-FUTURE-001", Refused, 1),
    ],
)
def test_a_refusal_keeps_its_code_and_decides_the_exit_code(code: str, cls: type[TrothError], exit_code: int) -> None:
    error = refusal({"code": code, "message": "why", "fix": "do this"})
    assert type(error) is cls
    assert (error.code, error.cause, error.fix, error.exit_code) == (code, "why", "do this", exit_code)


RECEIPT: dict[str, Any] = {
    "ok": True,
    "code": None,
    "message": None,
    "fix": None,
    "failed_call": None,
    "gas_used": 321,
    "events": [{"contract": "points", "name": "Minted", "fields": {"programme": "beans", "amount": 5}}],
    "results": [None, {"word": "registered", "first_ms": START_MS}],
}
FAILED = {**RECEIPT, "ok": False, "code": "E-POINTS-004", "message": "too little", "fix": "less", "failed_call": 2}


def test_a_receipt_reads_in_words() -> None:
    text = receipt_text(registry(), {**RECEIPT})
    assert "points.Minted: New points were given to an account." in text
    assert "    amount     5" in text
    assert "Result: word registered, first 2023-11-14 22:13:20 UTC" in text
    assert "Gas used: 321" in text


def test_an_event_that_is_unknown_here_is_shown_as_it_is() -> None:
    events = [{"contract": "later", "name": "Done", "fields": {"what": "x"}}]
    assert "later.Done: \n    what  x" in receipt_text(registry(), {**RECEIPT, "events": events})


def test_outcomes() -> None:
    assert check_outcome(Outcome("ab", "final", 3, RECEIPT, None)) == RECEIPT
    with pytest.raises(Refused, match="E-POINTS-004 call 3: too little; less"):
        check_outcome(Outcome("ab", "final", 3, FAILED, None))
    with pytest.raises(Unavailable, match=r"E-CLIENT-005 .*troth tx why ab"):
        check_outcome(Outcome("ab", "waiting", None, None, None))
    error = {"code": "E-TX-004", "title": "expired", "cause": "it expired", "fix": "again"}
    with pytest.raises(Refused, match="E-TX-004 it expired; again"):
        check_outcome(Outcome("ab", "refused", None, None, error))
