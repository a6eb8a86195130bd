from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from node.chain import Chain
from node.committed import Committed, Steps
from node.metrics import Metrics
from tests.chains import create, new_chain, propose, seal, signed, transfer


def _samples(metrics: Metrics) -> dict[str, float]:
    """Every sample by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        assert family.name.startswith("troth_") and family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def _committed(chain: Chain, *transactions: object) -> Committed:
    candidate = propose(chain, transactions)  # type: ignore[arg-type]
    head = chain.append(candidate, seal(candidate))
    return Committed(head, candidate, candidate.result.receipts, Steps(0.5, 0.25, 0.125))


def test_blocks_are_counted() -> None:
    metrics, chain = Metrics(), new_chain()
    metrics.block(_committed(chain, signed("roaster", create()), signed("alice", transfer("bob", 1))))
    last = _committed(chain)
    metrics.block(last)
    samples = _samples(metrics)
    assert samples["troth_height"] == 2
    assert samples["troth_block_time_seconds"] == last.head.time_ms / 1000
    assert samples["troth_transactions_total{outcome=ok}"] == 1
    assert samples["troth_transactions_total{outcome=failed}"] == 1
    assert samples["troth_gas_total"] == sum(receipt.gas_used for receipt in chain.store.receipts(1))
    assert samples["troth_block_transactions_count"] == 2 and samples["troth_block_transactions_sum"] == 2
    assert samples["troth_block_transactions_bucket{le=0.0}"] == 1
    assert [samples[f"troth_step_seconds_total{{step={step}}}"] for step in ("execute", "tree", "write")] == [
        1,
        0.5,
        0.25,
    ]


def test_submissions_are_counted_from_totals() -> None:
    metrics = Metrics()
    for accepted, refused in ((3, 1), (3, 1), (5, 4)):
        metrics.submissions(accepted, refused, accepted / 4)
    samples = _samples(metrics)
    assert samples["troth_submitted_total{verdict=accepted}"] == 5
    assert samples["troth_submitted_total{verdict=refused}"] == 4


def test_two_nodes_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.height.set(7)
    assert _samples(one)["troth_height"] == 7 and _samples(other)["troth_height"] == 0
