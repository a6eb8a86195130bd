from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger.errors import Refused, TrothError, Unavailable
from ledger.transaction import SignedTransaction, assemble
from node.mempool import Limits, Mempool
from tests.chains import transfer, unsigned

_LIMITS = Limits(transactions=12, bytes=2_400, sender_transactions=5, sender_bytes=1_000)
_SENDERS = st.sampled_from(["alice", "carol", "dave"])


def _made(sender: str, number: int, size: int) -> SignedTransaction:
    """A transaction without signatures, which a mempool never looks at."""
    transaction = unsigned([sender], [transfer("bob", 1)], nonce=number, memo="m" * size)
    return assemble(transaction, b"%s %d" % (sender.encode(), number), ())._replace(raw=bytes(100 + size))


class MempoolMachine(RuleBasedStateMachine):
    """The mempool against a list in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[bytes] = []
        self.included: set[bytes] = set()
        self.waiting: list[SignedTransaction] = []
        self.pool = Mempool(_LIMITS, self.included.__contains__, lambda identifier, _: self.dropped.append(identifier))

    @rule(sender=_SENDERS, number=st.integers(0, 15), size=st.integers(0, 256))
    def send(self, sender: str, number: int, size: int) -> None:
        made = _made(sender, number, size)
        mine = [each for each in self.waiting if each.transaction.actors == made.transaction.actors]
        full = (
            len(self.waiting) >= _LIMITS.transactions
            or sum(len(each.raw) for each in self.waiting) + len(made.raw) > _LIMITS.bytes
            or len(mine) >= _LIMITS.sender_transactions
            or (mine and sum(len(each.raw) for each in mine) + len(made.raw) > _LIMITS.sender_bytes)
        )
        known = made.id in self.included or any(each.id == made.id for each in self.waiting)
        try:
            self.pool.check(made)
            self.pool.add(made)
        except Unavailable:
            assert full
        except Refused:
            assert known
        else:
            assert not full and not known
            self.waiting.append(made)

    @rule(count=st.integers(0, 6))
    def block(self, count: int) -> None:
        taken = [each for each, _ in zip(self.pool.candidates(), range(count), strict=False)]
        most: dict[tuple[bytes, ...], int] = {}
        for each in taken:
            most[each.transaction.actors] = most.get(each.transaction.actors, 0) + 1
        for actors, number in most.items():
            others = [each.transaction.actors for each in self.waiting if each.transaction.actors != actors]
            for other in set(others):  # nobody gets two turns while another with a transaction gets none
                assert most.get(other, 0) >= min(number - 1, others.count(other))
        self.included.update(each.id for each in taken)
        self.pool.remove([each.id for each in taken])
        self.waiting = [each for each in self.waiting if each.id not in self.included]

    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        if not self.waiting:
            return
        gone = data.draw(st.sampled_from(self.waiting))
        before = len(self.dropped)
        self.pool.drop(gone.id, TrothError("E-TX-004", "expired"))
        assert self.dropped[before:] == [gone.id]
        self.waiting.remove(gone)

    @invariant()
    def agrees(self) -> None:
        assert len(self.pool) == len(self.waiting)
        assert self.pool.bytes == sum(len(each.raw) for each in self.waiting)
        found = list(self.pool.candidates())
        assert sorted(each.id for each in found) == sorted(each.id for each in self.waiting)
        for actors in {each.transaction.actors for each in self.waiting}:
            queue = [each for each in found if each.transaction.actors == actors]
            assert queue == [each for each in self.waiting if each.transaction.actors == actors]


TestMempool = MempoolMachine.TestCase
TestMempool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
