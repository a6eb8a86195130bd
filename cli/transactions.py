"""From named calls to a final receipt: build, sign, simulate, send, wait, and say what happened.

Rules kept here:
- `valid_until` lies ten minutes (or what was asked for) after the time of the next block, which is this machine's time
  held between the head's and the latest at which the next block can come: a wrong clock here does no harm;
- the gas limit covers the bytes and twice what each call declares, with room for methods that loop over an array;
- an id takes effect once, so what may have been lost on the way is asked for by its id and never paid for twice;
- a refusal keeps its code; where it is for want of a role or ownership, the exit code is 4.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli.client import NOT_FINAL, NodeClient, described_error, restated
from cli.session import Session
from cli.values import now_ms, show
from ledger import codec
from ledger.errors import Forbidden, NotFound, Refused, TrothError, Unavailable
from ledger.transaction import (
    MAX_GAS,
    NONCE_BYTES,
    TRANSACTION_VERSION,
    Call,
    SignedTransaction,
    Transaction,
)
from vm import gas

if TYPE_CHECKING:
    from cli.signers import Signer
    from vm.registry import Registry

VALID_FOR_MS = 10 * 60 * 1000
WAIT_SECONDS = 30.0
REQUEST_SECONDS_MAX = 60.0
"""As long as a node holds one request; a longer wait asks again."""

SIGNATURE_BYTES_MAX = 112
"""What one signature adds to a signed transaction, at most: index, key, signature and heads."""
GAS_CALL_MARGIN = 200
GAS_ENTRY_MARGIN = 40

_PERMISSION_CODES = frozenset(
    ("E-VM-007", "E-POINTS-003", "E-CERT-003", "E-CERT-010", "E-CERT-015", "E-CONSENT-003", "E-CONSENT-004")
)
_LATER_CODES = frozenset(("E-TX-012", "E-TX-013", "E-TX-014", "E-TX-015"))
_KNOWN_CODES = frozenset(("E-TX-006", "E-TX-016"))


class ChainFacts(NamedTuple):
    """What building a transaction needs of a chain. Times in ms, limits in gas."""

    chain_id: str
    time_ms: int
    heartbeat_ms: int
    validity_window_ms: int
    gas_limit_max: int


class Outcome(NamedTuple):
    """What became of a transaction: `status` is final, waiting or refused; the receipt is in the API's JSON form."""

    id: str
    status: str
    height: int | None
    receipt: dict[str, Any] | None
    error: dict[str, Any] | None


def chain_facts(chain: dict[str, Any]) -> ChainFacts:
    """The facts out of `GET /v1/chain`."""
    parameters = chain["parameters"]
    return ChainFacts(
        chain["chain_id"],
        chain["time_ms"],
        parameters["heartbeat_ms"],
        parameters["validity_window_ms"],
        min(parameters["block_gas"] - parameters["reserved_gas"], MAX_GAS),
    )


def valid_until_ms(chain: ChainFacts, now: int, valid_for_ms: int = VALID_FOR_MS) -> int:
    """Until when a transaction built at `now` (this machine's ms since 1970) is valid, in block time."""
    next_block = min(max(now, chain.time_ms), chain.time_ms + chain.heartbeat_ms)
    return next_block + min(valid_for_ms, chain.validity_window_ms * 9 // 10)


def gas_bound(registry: Registry, calls: Sequence[Call], raw_bytes: int) -> int:
    """Gas that these calls will hardly exceed: bytes, twice the declared gas of each, and room to loop over arrays."""
    total = gas.intrinsic(raw_bytes)
    for call in calls:
        found = registry.method(call.contract, call.method)
        entries = sum([len(argument) for argument in call.arguments if type(argument) is tuple])
        total += 2 * found.gas + GAS_CALL_MARGIN + GAS_ENTRY_MARGIN * entries
    return total


def build(
    registry: Registry,
    chain: ChainFacts,
    actors: Sequence[bytes],
    calls: Sequence[Call],
    *,
    memo: str = "",
    gas_limit: int | None = None,
    valid_for_ms: int = VALID_FOR_MS,
    now: int | None = None,
) -> Transaction:
    """An unsigned transaction of these calls, with a fresh nonce. Raises Invalid where a call is wrong."""
    for call in calls:
        registry.validate_call(call)
    transaction = Transaction(
        TRANSACTION_VERSION,
        chain.chain_id,
        tuple(actors),
        secrets.token_bytes(NONCE_BYTES),
        valid_until_ms(chain, now_ms() if now is None else now, valid_for_ms),
        MAX_GAS if gas_limit is None else gas_limit,
        tuple(calls),
        memo,
    )
    if gas_limit is not None:
        return transaction
    size = len(codec.encode(transaction)) + SIGNATURE_BYTES_MAX * len(actors)
    return transaction._replace(gas_limit=min(gas_bound(registry, calls, size), chain.gas_limit_max))


def submit(
    client: NodeClient, signed: Sequence[SignedTransaction], *, wait_seconds: float | None = WAIT_SECONDS
) -> list[Outcome]:
    """Sends transactions and waits for their end, or does not wait where `wait_seconds` is None.

    What the node knows already (it was sent before, or the connection broke after sending) is asked for by its id.
    """
    deadline = time.monotonic() + (wait_seconds or 0.0)
    asked = None if wait_seconds is None else min(wait_seconds, REQUEST_SECONDS_MAX)
    results = client.submit([each.raw for each in signed], wait_seconds=asked)
    outcomes = [outcome_of(each.id.hex(), result) for each, result in zip(signed, results, strict=True)]
    return [
        await_final(client, outcome, deadline) if wait_seconds is not None and _is_known(outcome) else outcome
        for outcome in outcomes
    ]


def await_final(client: NodeClient, outcome: Outcome, deadline: float) -> Outcome:
    """Asks for a waiting transaction until it has ended or `deadline` (time.monotonic) has passed.

    Where the node has forgotten it, it is said to be waiting: sending it again is right, and does no harm.
    """
    pause = 0.05
    while True:
        try:
            found = outcome_of(outcome.id, client.transaction(bytes.fromhex(outcome.id)))
        except NotFound:
            return Outcome(outcome.id, "waiting", None, None, None)
        left = deadline - time.monotonic()
        if found.status != "waiting" or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 2, 1.0)


def outcome_of(identifier: str, result: dict[str, Any]) -> Outcome:
    """The outcome out of one result of the API."""
    return Outcome(
        result.get("id") or identifier,
        result["status"],
        result.get("height"),
        result.get("receipt"),
        result.get("error"),
    )


def _is_known(outcome: Outcome) -> bool:
    return outcome.status == "waiting" or (outcome.error is not None and outcome.error["code"] in _KNOWN_CODES)


def refusal(described: dict[str, Any]) -> TrothError:
    """The error of a refused transaction or a failed receipt (`message` is then its cause)."""
    code = described["code"]
    if code in _PERMISSION_CODES:
        return described_error(Forbidden, _with_cause(described))
    if code in _LATER_CODES:
        return described_error(Unavailable, _with_cause(described))
    return described_error(Refused, _with_cause(described))


def _with_cause(described: dict[str, Any]) -> dict[str, Any]:
    return {**described, "cause": described.get("cause") or described.get("message")}


def check_outcome(outcome: Outcome) -> dict[str, Any]:
    """The receipt of a transaction that took effect. Raises the error of one that did not, or not yet."""
    if outcome.error is not None:
        raise refusal(outcome.error)
    if outcome.receipt is None:
        cause = f"transaction {outcome.id} still waits for a block"
        raise Unavailable(NOT_FINAL, cause, fix=f"ask again: troth tx why {outcome.id}")
    if not outcome.receipt["ok"]:
        error = refusal(outcome.receipt)
        if outcome.receipt.get("failed_call"):
            restated(error, f"call {outcome.receipt['failed_call'] + 1}: {error.cause}")
        raise error
    return outcome.receipt


def receipt_text(registry: Registry, receipt: dict[str, Any]) -> str:
    """A receipt for people: its events in words, its results, the gas."""
    lines = []
    for event in receipt["events"]:
        lines.append(f"{event['contract']}.{event['name']}: {_event_words(registry, event['contract'], event['name'])}")
        fields = event["fields"]
        width = max([len(name) for name in fields], default=0)
        lines += [f"    {name:<{width}}  {show(value, name)}" for name, value in fields.items()]
    lines += [f"Result: {show(result)}" for result in receipt.get("results", []) if result is not None]
    if not receipt["ok"]:
        lines.append(f"No effect: {receipt['code']} {receipt['message']}; {receipt['fix']}")
    lines.append(f"Gas used: {receipt['gas_used']}")
    return "\n".join(lines)


def _event_words(registry: Registry, contract: str, name: str) -> str:
    declared = registry.contracts.get(contract)
    kind = None if declared is None else declared.events.get(name)
    return "" if kind is None else " ".join((kind.record.__doc__ or "").split())


class Sending(NamedTuple):
    """How a command sends what it built."""

    dry_run: bool
    wait: bool
    timeout_seconds: float
    memo: str
    gas_limit: int | None
    valid_for_ms: int


def perform(
    session: Session,
    client: NodeClient,
    registry: Registry,
    signer: Signer,
    calls: Sequence[Call],
    sending: Sending,
    *,
    extra: dict[str, Any] | None = None,
) -> None:
    """Builds, signs and sends one transaction of one actor, and says what became of it. Raises TrothError."""
    chain = chain_facts(client.chain())
    signer.check_chain(chain.chain_id)
    transaction = build(
        registry,
        chain,
        [signer.address],
        calls,
        memo=sending.memo,
        gas_limit=sending.gas_limit,
        valid_for_ms=sending.valid_for_ms,
    )
    signed = transaction.sign([signer.key(chain.chain_id)])
    deliver(session, client, registry, signed, sending, extra=extra)


def deliver(
    session: Session,
    client: NodeClient,
    registry: Registry,
    signed: SignedTransaction,
    sending: Sending,
    *,
    extra: dict[str, Any] | None = None,
) -> None:
    """Simulates or sends a signed transaction, and says what became of it. Raises TrothError."""
    identifier = signed.id.hex()
    if sending.dry_run:
        receipt = client.simulate(signed.raw)
        if not receipt["ok"]:
            raise refusal(receipt)
        data = {"id": identifier, "status": "simulated", "receipt": receipt, **(extra or {})}
        text = f"Would take effect (nothing was sent)\n{receipt_text(registry, receipt)}"
        session.result("transaction", data, text, next="the same command without --dry-run")
        return
    outcome = submit(client, [signed], wait_seconds=sending.timeout_seconds if sending.wait else None)[0]
    if not sending.wait and outcome.status == "waiting":
        data = {"id": identifier, "status": "waiting", **(extra or {})}
        session.result("transaction", data, f"Sent: {identifier}", next=session.command(f"tx why {identifier}"))
        return
    receipt = check_outcome(outcome)
    data = {"id": identifier, "status": "final", "height": outcome.height, "receipt": receipt, **(extra or {})}
    shown = "".join([f"\n{name}: {value}" for name, value in (extra or {}).items()])
    text = f"Final in block {outcome.height}: {identifier}\n{receipt_text(registry, receipt)}{shown}"
    session.result("transaction", data, text, next=session.command(f"query transaction {identifier} --verify"))


def connect(session: Session, given: str | None) -> NodeClient:
    """A client of the node that a command talks to: the one of --node, or the one that the settings name."""
    return NodeClient(given or session.config.api_url, timeout_seconds=session.config.api.timeout_ms / 1000)


node_option = click.option(
    "--node", "node", metavar="URL", help="The node's address. Default: the setting api.url, or this home's own node."
)
"""`--node URL` as the argument `node: str | None`."""


class Seconds(click.ParamType[float]):
    """A positive number of seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a fraction is taken."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < number <= 86_400:
            self.fail(f"{value} is not between 0 and 86400 seconds", param, ctx)
        return number


no_wait_option = click.option("--no-wait", is_flag=True, help="Send and do not wait until it is final.")
"""`--no-wait` as the argument `no_wait: bool`."""

timeout_option = click.option(
    "--timeout", type=Seconds(), default=WAIT_SECONDS, show_default=True, help="How long to wait for the end."
)
"""`--timeout SECONDS` as the argument `timeout: float`."""


def sending_options(function: Any) -> Any:
    """The options of every command that sends: --as, --passphrase-file, --node, --memo, --dry-run, --no-wait, ...

    They arrive as `signer_name`, `passphrase_file`, `node`, `memo`, `dry_run`, `no_wait`, `timeout`, `gas_limit` and
    `valid_for`; `sending_of` makes a `Sending` of the last six.
    """
    from cli.options import dry_run_option, passphrase_file_option
    from cli.signers import as_option

    options = (
        as_option,
        passphrase_file_option,
        node_option,
        click.option("--memo", default="", metavar="TEXT", help="A public note in the transaction; no personal data."),
        dry_run_option,
        no_wait_option,
        timeout_option,
        click.option(
            "--gas-limit", type=click.IntRange(1, MAX_GAS), metavar="N", help="Instead of the computed limit."
        ),
        click.option(
            "--valid-for",
            type=click.IntRange(1, 10_080),
            default=VALID_FOR_MS // 60_000,
            show_default=True,
            metavar="MINUTES",
            help="How long the transaction may wait for a block.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def sending_of(values: dict[str, Any]) -> Sending:
    """Takes the values of `sending_options` that say how to send out of a command's arguments."""
    return Sending(
        values.pop("dry_run"),
        not values.pop("no_wait"),
        values.pop("timeout"),
        values.pop("memo"),
        values.pop("gas_limit"),
        values.pop("valid_for") * 60_000,
    )


def signer_of(session: Session, values: dict[str, Any]) -> Signer:
    """Takes `signer_name` and `passphrase_file` out of a command's arguments and finds the signer."""
    from cli.signers import find_signer

    name: str | None = values.pop("signer_name")
    file: Path | None = values.pop("passphrase_file")
    return find_signer(session, name, file)
