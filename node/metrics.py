"""Figures of a running node, in Prometheus' form.

Counters rise from the start of the process. Each node has a registry of its own, so several can live in one process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from node.committed import Committed


class Metrics:
    """The node's metrics; `render` gives the text that Prometheus scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._submitted: dict[str, int] = {}
        self.height = Gauge("troth_height", "Height of the last block", registry=self.registry)
        self.block_time = Gauge("troth_block_time_seconds", "Block time of the last block", registry=self.registry)
        self.transactions = Counter(
            "troth_transactions", "Transactions in blocks, by outcome", ["outcome"], registry=self.registry
        )
        self.gas = Counter("troth_gas", "Gas used by blocks", registry=self.registry)
        self.step_seconds = Counter(
            "troth_step_seconds", "Time spent on each step of making blocks", ["step"], registry=self.registry
        )
        self.block_transactions = Histogram(
            "troth_block_transactions",
            "Transactions in each block",
            buckets=(0, 1, 10, 100, 500, 1000, 2000, 5000),
            registry=self.registry,
        )
        self.mempool_transactions = Gauge("troth_mempool_transactions", "Waiting transactions", registry=self.registry)
        self.mempool_bytes = Gauge("troth_mempool_bytes", "Bytes of waiting transactions", registry=self.registry)
        self.submitted = Counter(
            "troth_submitted",
            "Submitted transactions, by whether they were let in",
            ["verdict"],
            registry=self.registry,
        )
        self._decode_seconds = 0.0
        self.requests = Counter("troth_http_requests", "Answers of the API", ["status"], registry=self.registry)
        self.streams = Gauge("troth_streams", "Open event streams", registry=self.registry)

    def block(self, committed: Committed) -> None:
        """Counts a block."""
        failed = sum([not receipt.ok for receipt in committed.receipts])
        self.height.set(committed.head.height)
        self.block_time.set(committed.head.time_ms / 1000)
        self.transactions.labels("ok").inc(len(committed.receipts) - failed)
        self.transactions.labels("failed").inc(failed)
        self.gas.inc(committed.candidate.result.gas_used)
        self.block_transactions.observe(len(committed.receipts))
        for step, seconds in committed.steps._asdict().items():
            self.step_seconds.labels(step).inc(seconds)

    def submissions(self, accepted: int, refused: int, decode_seconds: float) -> None:
        """Brings the count of submitted transactions, and the time that decoding them took, to these totals."""
        self.step_seconds.labels("decode").inc(decode_seconds - self._decode_seconds)
        self._decode_seconds = decode_seconds
        for verdict, total in (("accepted", accepted), ("refused", refused)):
            self.submitted.labels(verdict).inc(total - self._submitted.get(verdict, 0))
            self._submitted[verdict] = total

    def render(self) -> bytes:
        """The metrics as text."""
        return generate_latest(self.registry)
