from __future__ import annotations

from itertools import islice

import pytest

from ledger.errors import Invalid, Refused, TrothError, Unavailable
from ledger.transaction import SignedTransaction
from node.mempool import Limits, Mempool
from tests.chains import account, signed, transfer


def _made(sender: str, number: int, memo: str = "") -> SignedTransaction:
    return signed(sender, transfer("bob", 1), nonce=number, memo=memo)


_SIZE = len(_made("alice", 0).raw)


class _Pool(Mempool):
    """A mempool that remembers what it dropped; `chain` are the ids that the chain includes."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.chain: set[bytes] = set()
        self.given_up: list[tuple[bytes, str]] = []
        super().__init__(limits or Limits(), self.chain.__contains__, self._note)

    def _note(self, identifier: bytes, error: TrothError) -> None:
        self.given_up.append((identifier, error.code))


def _refusal(pool: Mempool, made: SignedTransaction) -> TrothError:
    """The refusal that both `check` and `add` give."""
    with pytest.raises(TrothError) as checked:
        pool.check(made)
    with pytest.raises(TrothError) as added:
        pool.add(made)
    assert added.value.code == checked.value.code
    assert checked.value.cause and checked.value.fix
    return checked.value


def test_what_was_added_waits() -> None:
    pool = _Pool()
    first, second = _made("alice", 1), _made("carol", 2)
    for each in (first, second):
        pool.check(each)
        pool.add(each)
    assert len(pool) == 2 and pool.bytes == len(first.raw) + len(second.raw)
    assert first.id in pool and pool.get(first.id) is first and pool.get(bytes(32)) is None
    assert list(pool.candidates()) == [first, second]
    assert len(pool) == 2  # looking takes nothing


def test_an_id_waits_once() -> None:
    pool = _Pool()
    pool.add(_made("alice", 1))
    error = _refusal(pool, _made("alice", 1))
    assert type(error) is Refused and error.code == "E-TX-016"
    assert len(pool) == 1 and pool.bytes == _SIZE


def test_what_the_chain_includes_is_refused() -> None:
    pool = _Pool()
    made = _made("alice", 1)
    pool.chain.add(made.id)
    with pytest.raises(Refused) as caught:
        pool.check(made)
    assert caught.value.code == "E-TX-006"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(transactions=3), "E-TX-014"),
        (Limits(bytes=3 * _SIZE), "E-TX-014"),
        (Limits(bytes=4 * _SIZE - 1), "E-TX-014"),
        (Limits(sender_transactions=3), "E-TX-015"),
        (Limits(sender_bytes=3 * _SIZE), "E-TX-015"),
        (Limits(sender_bytes=4 * _SIZE - 1), "E-TX-015"),
    ],
)
def test_each_bound_holds(limits: Limits, code: str) -> None:
    pool = _Pool(limits)
    made = [_made("alice", number) for number in range(4)]
    for each in made[:3]:
        pool.add(each)
    error = _refusal(pool, made[3])
    assert type(error) is Unavailable and error.code == code
    if code == "E-TX-015":
        pool.add(_made("carol", 1))  # the bound of one sender is no other's
    else:
        assert _refusal(pool, _made("carol", 1)).code == code
    pool.remove([made[0].id])
    if code == "E-TX-014":
        pool.check(made[3])
        pool.add(made[3])
        assert len(pool) == 3


def test_the_bounds_of_a_sender_are_those_of_the_first_actor() -> None:
    pool = _Pool(Limits(sender_transactions=1))
    pool.add(signed(["alice", "carol"], transfer("bob", 1)))
    pool.add(_made("carol", 1))
    assert _refusal(pool, _made("alice", 2)).code == "E-TX-015"


def test_a_flood_of_one_sender_delays_no_other() -> None:
    pool = _Pool()
    flood = [_made("alice", number) for number in range(50)]
    for each in flood:
        pool.add(each)
    late = [_made("carol", 1), _made("carol", 2), _made("dave", 1)]
    for each in late:
        pool.add(each)
    first = list(islice(pool.candidates(), 5))
    assert first == [flood[0], late[0], late[2], flood[1], late[1]]


def test_each_senders_transactions_keep_their_order() -> None:
    pool = _Pool()
    made = [_made(name, number) for number in range(4) for name in ("alice", "carol", "dave")]
    for each in made:
        pool.add(each)
    for name in ("alice", "carol", "dave"):
        mine = [each for each in pool.candidates() if each.transaction.actors[0] == account(name)]
        assert mine == [each for each in made if each.transaction.actors[0] == account(name)]


def test_who_was_served_goes_behind_who_was_not() -> None:
    pool = _Pool()
    made = {name: [_made(name, number) for number in range(3)] for name in ("alice", "carol", "dave")}
    for queue in made.values():
        for each in queue:
            pool.add(each)
    block = list(islice(pool.candidates(), 2))
    assert block == [made["alice"][0], made["carol"][0]]
    pool.remove([each.id for each in block])
    assert next(pool.candidates()) == made["dave"][0]


def test_many_senders_are_all_served_however_small_the_blocks() -> None:
    pool = _Pool()
    for number in range(3):
        for name in range(10):
            pool.add(_made(f"sender-{name}", number))
    served: dict[bytes, int] = {}
    for _ in range(5):
        block = list(islice(pool.candidates(), 4))
        pool.remove([each.id for each in block])
        for each in block:
            served[each.transaction.actors[0]] = served.get(each.transaction.actors[0], 0) + 1
    assert len(served) == 10 and max(served.values()) <= 2


def test_removing_frees_what_was_taken() -> None:
    pool = _Pool()
    made = [_made("alice", number) for number in range(3)] + [_made("carol", 1)]
    for each in made:
        pool.add(each)
    pool.remove([made[0].id, made[3].id, bytes(32)])
    assert len(pool) == 2 and pool.bytes == 2 * _SIZE
    assert made[0].id not in pool and made[1].id in pool
    assert pool.given_up == []
    pool.remove([made[1].id, made[2].id])
    assert len(pool) == 0 and pool.bytes == 0 and list(pool.candidates()) == []
    pool.add(made[0])  # it may come again: the chain decides whether it is a duplicate
    assert len(pool) == 1


def test_what_arrives_while_a_block_is_made_waits_for_the_next() -> None:
    pool = _Pool()
    pool.add(_made("alice", 1))
    candidates = pool.candidates()
    first = next(candidates)
    pool.add(_made("alice", 2))
    pool.add(_made("carol", 1))
    assert list(candidates) == []
    pool.remove([first.id])
    assert len(list(pool.candidates())) == 2


def test_what_is_given_up_is_told() -> None:
    pool = _Pool()
    made = _made("alice", 1)
    pool.add(made)
    pool.drop(made.id, Invalid("E-TX-004", "it was valid until yesterday"))
    pool.drop(made.id, Invalid("E-TX-004", "it was valid until yesterday"))
    assert pool.given_up == [(made.id, "E-TX-004")]
    assert len(pool) == 0 and pool.bytes == 0
