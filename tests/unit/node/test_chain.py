from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from ledger import codec, merkle
from ledger.block import Block, Header, Seal, commit_root, decode_block, encode_block
from ledger.errors import Fault, NotFound, VerifyFailed
from ledger.genesis import Parameters
from ledger.state_tree import root_hash
from ledger.transaction import SignedTransaction
from node.chain import Chain
from node.contracts import registry
from node.keyvalue import WRITE_FAILED
from node.ledger_store import LedgerStore
from node.memory import MemoryStore
from tests.chains import (
    CHAIN_ID,
    HOUR_MS,
    START_MS,
    account,
    balance,
    call,
    create,
    extend,
    genesis,
    key,
    mint,
    new_chain,
    propose,
    seal,
    signed,
    transfer,
    validator,
)
from vm.cells import check_invariants

# Genesis


def test_a_new_chain_stands_at_its_genesis() -> None:
    agreed = genesis()
    chain = new_chain()
    header = chain.header(0)
    assert chain.head.height == 0 and chain.head.certificate is None and chain.head.transactions == 0
    assert chain.head.block_id == header.id()
    assert header.parent_id == agreed.id() and header.time_ms == agreed.time_ms == chain.head.time_ms
    assert header.state_root == root_hash(chain.head.root) != bytes(32)
    assert header.transactions_root == header.receipts_root == header.evidence_root == merkle.EMPTY_ROOT
    assert header.last_commit_root == bytes(32) and header.proposer == bytes(20)


def test_genesis_brings_the_members() -> None:
    chain = new_chain()
    _, read = chain.read_head()
    member = chain.membership(read, account("till"))
    assert member is not None and member.organisation == "roaster" and member.roles == ("transactor",)
    assert chain.membership(read, account("alice")) is None
    assert check_invariants(chain.registry, chain.store.cells(0)) == []


def test_another_genesis_is_another_chain_from_its_first_block_id_on() -> None:
    one, other = new_chain(), new_chain(Parameters(heartbeat_ms=1_000))
    assert one.head.block_id != other.head.block_id
    assert root_hash(one.head.root) == root_hash(other.head.root)  # the parameters are no cells, but they are in the id


def test_a_store_of_another_chain_is_not_opened() -> None:
    store = LedgerStore(MemoryStore())
    Chain(store, registry(), genesis())
    with pytest.raises(Fault) as caught:
        Chain(store, registry(), genesis(chain_id="other-chain"))
    assert caught.value.code == "E-CHAIN-004"
    with pytest.raises(Fault):
        Chain(store, registry(), genesis(Parameters(heartbeat_ms=1_000)))


# Blocks of one's own


def _grown() -> Chain:
    """A chain with a programme of points, some of them alice's."""
    chain = new_chain()
    extend(chain, signed("roaster", create()))
    extend(chain, signed("roaster", mint("alice", 10)), signed("alice", transfer("bob", 4)))
    return chain


def test_blocks_follow_each_other() -> None:
    chain = new_chain()
    first = extend(chain, signed("roaster", create()))
    second = extend(chain, signed("roaster", mint("alice", 10)), signed("alice", transfer("bob", 4)))
    header = chain.header(2)
    assert (first.height, second.height) == (1, 2)
    assert header.parent_id == first.block_id and chain.header(1).parent_id == chain.header(0).id()
    assert header.last_commit_root == commit_root(first.certificate)
    assert header.state_root == root_hash(second.root) != chain.header(1).state_root
    assert second.transactions == 3 and second.block_id == header.id()
    assert (balance(chain, "alice"), balance(chain, "bob")) == (6, 4)


def test_a_chain_opened_again_stands_where_it_stood() -> None:
    chain = _grown()
    again = Chain(LedgerStore(chain.store.store), registry(), genesis())
    assert again.head == chain.head
    one, other = propose(chain), propose(again)
    assert one.block == other.block and one.block_bytes == other.block_bytes


def test_the_same_transactions_make_the_same_chain() -> None:
    assert _grown().head == _grown().head


def test_an_empty_block_changes_no_state() -> None:
    chain = _grown()
    before = chain.head
    after = extend(chain)
    assert after.root == before.root and after.height == before.height + 1 and after.block_id != before.block_id


def test_a_failed_transaction_is_final_and_changes_nothing() -> None:
    chain = _grown()
    before = chain.head.root
    extend(chain, signed("alice", transfer("bob", 7)))
    [receipt] = chain.store.receipts(3)
    assert receipt.code == "E-POINTS-004" and receipt.detail == (account("alice"), 6, 7)
    assert chain.head.root == before


# Blocks of others


def _fresh() -> tuple[Chain, Chain]:
    """Two chains that stand at one height: one that proposes, one that judges."""
    return _grown(), _grown()


@pytest.mark.parametrize("verified", [False, True])
def test_what_one_makes_another_accepts(verified: bool) -> None:
    maker, judge = _fresh()
    for transactions in ([], [signed("alice", transfer("bob", 1)), signed("alice", transfer("bob", 99), nonce=1)]):
        made = propose(maker, transactions)
        found = judge.judge(decode_block(made.block_bytes), verified=verified)
        assert found.block == made.block and found.block_id == made.block_id
        assert found.result.encoded_receipts == made.result.encoded_receipts
        certificate = seal(made)
        assert judge.append(found, certificate) == maker.append(made, certificate)


def test_judging_changes_nothing() -> None:
    maker, judge = _fresh()
    made = propose(maker, [signed("alice", transfer("bob", 1))])
    before = judge.head
    first, second = judge.judge(made.block), judge.judge(made.block)
    assert judge.head == before and balance(judge, "bob") == 4
    assert first == second


def test_a_parent_may_be_certified_by_other_seals_than_ours() -> None:
    agreed = genesis(validators=[validator(), *[validator(f"v{number}") for number in range(3)]])
    first, second = ["validator", "v0", "v1"], ["v0", "v1", "v2"]
    maker, judge = new_chain(agreed=agreed), new_chain(agreed=agreed)
    made = propose(maker)
    judge.append(judge.judge(made.block), seal(made, *first))
    maker.append(made, seal(made, *second, round_=2))
    following = propose(maker)
    assert following.block.last_commit != judge.head.certificate
    judge.append(judge.judge(following.block), seal(following, *first))
    assert judge.head.height == 2


Change = Callable[[Header], Header]


def _bent(block: Block, **change: Any) -> Block:
    return block._replace(header=block.header._replace(**change))


_FLIP = bytes(31) + b"\1"

_BROKEN_HEADERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "protocol version": ({"protocol_version": 2}, "E-CHAIN-005", "the protocol version is 2, not 1"),
    "chain id": ({"chain_id": "other-chain"}, "E-CHAIN-005", "the chain id is 'other-chain'"),
    "height below": ({"height": 2}, "E-CHAIN-005", "the height is 2, not 3"),
    "height above": ({"height": 4}, "E-CHAIN-005", "the height is 4, not 3"),
    "parent": ({"parent_id": _FLIP}, "E-CHAIN-005", "the parent id is"),
    "validators": ({"validators_root": _FLIP}, "E-CHAIN-005", "the validators root is"),
    "next validators": ({"next_validators_root": _FLIP}, "E-CHAIN-005", "the next validators root is"),
    "time of the parent": ({"time_ms": START_MS + 2_000}, "E-CHAIN-005", "is not after its parent's"),
    "earlier time": ({"time_ms": START_MS}, "E-CHAIN-005", "is not after its parent's"),
    "proposer": ({"proposer": account("alice")}, "E-CHAIN-005", "is no validator"),
    "transactions root": ({"transactions_root": _FLIP}, "E-CHAIN-005", "the transactions root is"),
    "evidence root": ({"evidence_root": _FLIP}, "E-CHAIN-005", "the evidence root is"),
    "last commit root": ({"last_commit_root": _FLIP}, "E-CHAIN-005", "the last commit root is"),
    "receipts root": ({"receipts_root": _FLIP}, "E-CHAIN-006", "the receipts root is"),
    "state root": ({"state_root": _FLIP}, "E-CHAIN-006", "the state root is"),
    "version": ({"version": 2}, "E-CHAIN-006", "execution gives block"),
}


def _refused(judge: Chain, block: Block, code: str = "E-CHAIN-005") -> str:
    before = judge.head
    with pytest.raises(VerifyFailed) as caught:
        judge.judge(block)
    assert caught.value.code == code
    assert caught.value.cause.startswith(f"block {block.header.height}: ")
    assert judge.head == before
    return caught.value.cause


@pytest.mark.parametrize(("change", "code", "said"), _BROKEN_HEADERS.values(), ids=_BROKEN_HEADERS)
def test_a_header_that_breaks_one_rule(change: dict[str, Any], code: str, said: str) -> None:
    maker, judge = _fresh()
    block = propose(maker, [signed("alice", transfer("bob", 1))]).block
    assert said in _refused(judge, _bent(block, **change), code)


def test_every_field_of_a_header_is_judged() -> None:
    assert {name for change, _, _ in _BROKEN_HEADERS.values() for name in change} == set(Header._fields)


def test_evidence_is_not_known_yet() -> None:
    maker, judge = _fresh()
    block = propose(maker).block._replace(evidence=(b"proof",))
    assert "evidence" in _refused(judge, _bent(block, evidence_root=merkle.root(block.evidence)))


def test_the_last_commit_is_a_certificate_of_the_parent() -> None:
    maker, judge = _fresh()
    block = propose(maker).block
    good = block.last_commit
    assert good is not None

    def with_commit(commit: Any) -> Block:
        return _bent(block._replace(last_commit=commit), last_commit_root=commit_root(commit))

    assert "no certificate of its parent" in _refused(judge, with_commit(None))
    assert "no certificate of its parent" in _refused(judge, with_commit(maker.store.certificate(1)))
    unsealed = good._replace(round=1)
    assert "E-CERTIFICATE-001" in _refused_certificate(judge, with_commit(unsealed))
    assert "E-CERTIFICATE-001" in _refused_certificate(judge, with_commit(good._replace(seals=())))
    forged = good._replace(seals=(Seal(account("validator"), bytes(64)),))
    assert "E-CERTIFICATE-001" in _refused_certificate(judge, with_commit(forged))
    assert "E-CERTIFICATE-001" in _refused_certificate(judge, with_commit(good._replace(block_id=_FLIP)))


def _refused_certificate(judge: Chain, block: Block) -> str:
    with pytest.raises(VerifyFailed) as caught:
        judge.judge(block)
    return str(caught.value)


def test_the_first_block_carries_no_certificate() -> None:
    maker, judge = new_chain(), new_chain()
    block = propose(maker).block
    other = seal(propose(_grown()))
    cause = _refused(judge, _bent(block._replace(last_commit=other), last_commit_root=commit_root(other)))
    assert "genesis" in cause


def _holding(maker: Chain, transactions: Sequence[SignedTransaction]) -> Block:
    """A block that states these transactions, whatever the rules say of them."""
    block = propose(maker).block
    raws = tuple([each.raw for each in transactions])
    return _bent(block._replace(transactions=raws), transactions_root=merkle.root(raws))


def _unsigned_by_bob() -> SignedTransaction:
    good = signed("alice", transfer("bob", 1))
    signatures = (good.signatures[0]._replace(signature=bytes(64)),)
    return good._replace(signatures=signatures, raw=codec.encode((codec.encode(good.transaction), signatures)))


_BROKEN_TRANSACTIONS: dict[str, tuple[list[SignedTransaction], str]] = {
    "forged": ([_unsigned_by_bob()], "E-TX-009"),
    "other chain": ([signed("alice", transfer("bob", 1), chain_id="other-chain")], "E-TX-003"),
    "expired": ([signed("alice", transfer("bob", 1), valid_until_ms=START_MS + 3_000)], "E-TX-004"),
    "too far ahead": ([signed("alice", transfer("bob", 1), valid_until_ms=START_MS + 3 * HOUR_MS)], "E-TX-005"),
    "twice": ([signed("alice", transfer("bob", 1))] * 2, "E-TX-006"),
    "again": ([signed("alice", transfer("bob", 4))], "E-TX-006"),
    "too little gas": ([signed("alice", transfer("bob", 1), gas_limit=150)], "E-TX-011"),
    "more gas than a block": ([signed("alice", transfer("bob", 1), gas_limit=2_000_000)], "E-TX-011"),
    "over quota": ([signed("alice", transfer("bob", 1), gas_limit=40_001)], "E-TX-012"),
    "over quota together": (
        [signed("alice", transfer("bob", 1), gas_limit=20_001, nonce=number) for number in range(2)],
        "E-TX-012",
    ),
}


@pytest.mark.parametrize(("transactions", "code"), _BROKEN_TRANSACTIONS.values(), ids=_BROKEN_TRANSACTIONS)
def test_a_transaction_that_may_not_stand_in_the_block(transactions: list[SignedTransaction], code: str) -> None:
    maker, judge = _fresh()
    cause = _refused(judge, _holding(maker, transactions))
    assert f"transaction {len(transactions) - 1} may not stand in it: {code}" in cause


def test_a_transaction_that_is_none() -> None:
    maker, judge = _fresh()
    raw = b"\x92\xc4\x00\x90"
    block = propose(maker).block
    cause = _refused(judge, _bent(block._replace(transactions=(raw,)), transactions_root=merkle.root((raw,))))
    assert "E-CODEC-001" in cause or "E-TX-001" in cause


def test_a_full_block_takes_no_more() -> None:
    parameters = Parameters(block_transactions=2)
    maker, judge = new_chain(parameters), new_chain(parameters)
    three = [signed("roaster", create(f"programme-{number}")) for number in range(3)]
    judge.judge(propose(maker, three[:2]).block)
    assert "E-TX-013" in _refused(judge, _holding(maker, three))


def test_a_result_that_was_lied_about() -> None:
    """A proposer that states the roots of other receipts, as if a failed transfer had succeeded."""
    maker, judge = _fresh()
    failed = propose(maker, [signed("alice", transfer("bob", 99))])
    lie = failed.result.receipts[0]._replace(code="", detail=(), failed_call=None)
    stated = merkle.root((codec.encode(lie),))
    assert "the receipts root" in _refused(judge, _bent(failed.block, receipts_root=stated), "E-CHAIN-006")
    good = propose(maker, [signed("alice", transfer("bob", 1))]).block
    stolen = propose(maker, [signed("alice", transfer("carol", 1))]).block.header.state_root
    assert "the state root" in _refused(judge, _bent(good, state_root=stolen), "E-CHAIN-006")


# Reading the past


def test_past_states_stay_readable() -> None:
    chain = _grown()
    extend(chain, signed("alice", transfer("bob", 1)))
    assert [balance(chain, "alice", height) for height in (1, 2, 3)] == [0, 6, 5]
    with pytest.raises(Exception, match="E-POINTS-001"):
        balance(chain, "alice", 0)
    block, _ = chain.read_at(2)
    assert (block.chain_id, block.height, block.time_ms) == (CHAIN_ID, 2, START_MS + 2_000)


@pytest.mark.parametrize("height", [-1, 3, 1 << 40, 1 << 63])
def test_an_unknown_height_is_not_found(height: int) -> None:
    chain = _grown()
    for read in (chain.read_at, chain.header):
        with pytest.raises(NotFound) as caught:
            read(height)
        assert caught.value.code == "E-CHAIN-001"


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_a_pruned_chain_keeps_so_many_past_states(keep: int) -> None:
    chain, archive = new_chain(keep_heights=keep), new_chain()
    for each in (chain, archive):
        extend(each, signed("roaster", create()))
        for number in range(12):
            extend(each, signed("roaster", mint("alice", 1), mint(f"member-{number}", 1), nonce=number))
    assert chain.head == archive.head  # pruning changes nothing that is agreed on
    oldest = chain.store.oldest_state()
    assert oldest == 13 - keep
    for height in range(oldest, 14):
        assert balance(chain, "alice", height) == height - 1
        assert list(chain.store.cells(height)) == list(archive.store.cells(height))
    for height in range(oldest):
        with pytest.raises(NotFound) as caught:
            chain.read_at(height)
        assert caught.value.code == "E-CHAIN-003"
        assert chain.header(height) == archive.header(height)  # blocks are never pruned
    kept = sum(1 for _ in chain.store.store.scan(b"n"))
    assert kept < sum(1 for _ in archive.store.store.scan(b"n"))


def test_a_pruned_store_holds_no_node_that_nothing_leads_to() -> None:
    chain = new_chain(keep_heights=1)
    extend(chain, signed("roaster", create()))
    for number in range(30):
        extend(chain, signed("roaster", mint(f"member-{number % 20}", 1), nonce=number))
    reached: set[int] = set()

    def visit(slot: Any) -> None:
        if slot is not None and len(slot) == 2 and slot[1] not in reached:
            reached.add(slot[1])
            for each in chain.store.tree.node(slot[1]):
                visit(each)

    for height in (chain.head.height - 1, chain.head.height):
        visit(chain.store.root_at(height))
    stored = {int.from_bytes(row[1:], "big") for row, _ in chain.store.store.scan(b"n")}
    assert stored == reached


def test_a_height_that_goes_while_it_is_read_is_not_found() -> None:
    chain = new_chain(keep_heights=1)
    extend(chain, signed("roaster", create()))
    extend(chain, signed("roaster", mint("alice", 1)))
    # A reader of its own cache, as the API's is where the node was not read before.
    reader = Chain(LedgerStore(chain.store.store), registry(), genesis(), keep_heights=1)
    _, read = reader.read_at(1)
    for number in range(3):
        extend(chain, signed("roaster", mint("alice", 1), nonce=number + 1))
    with pytest.raises(NotFound) as caught:
        read(b"any cell")
    assert caught.value.code == "E-CHAIN-003"
    with pytest.raises(NotFound) as caught, reader.store.state_at(4) as root:
        for number in range(3, 6):
            extend(chain, signed("roaster", mint("alice", 1), nonce=number + 1))
        list(reader.store.tree.items(root))
    assert caught.value.code == "E-CHAIN-003"


def test_cells_that_go_while_they_are_read_are_not_taken_for_all() -> None:
    chain = new_chain(keep_heights=1)
    extend(chain, signed("roaster", create()))
    extend(chain, *[signed("roaster", mint(f"member-{number}", 1)) for number in range(300)])
    reader = Chain(LedgerStore(chain.store.store, cache_nodes=2), registry(), genesis(), keep_heights=1)
    cells = reader.store.cells(2)
    next(cells)
    for number in range(3):
        extend(chain, *[signed("roaster", mint(f"member-{each}", 1), nonce=1 + number) for each in range(300)])
    with pytest.raises(NotFound) as caught:
        list(cells)
    assert caught.value.code == "E-CHAIN-003"
    with pytest.raises(NotFound):
        reader.store.cells(2)


def test_a_node_that_the_store_has_lost_is_a_fault() -> None:
    chain = _grown()
    reader = Chain(LedgerStore(chain.store.store), registry(), genesis())
    root = chain.head.root
    assert root is not None and len(root) == 2
    chain.store.store.write([], [b"n" + root[1].to_bytes(8, "big")])
    _, read = reader.read_at(2)
    with pytest.raises(Fault) as caught:
        read(b"any cell")
    assert caught.value.code == "E-TREE-001"


def test_a_lower_setting_catches_up() -> None:
    chain = new_chain()
    extend(chain, signed("roaster", create()))
    for number in range(40):
        extend(chain, signed("roaster", mint("alice", 1), nonce=number))
    lowered = Chain(LedgerStore(chain.store.store), registry(), genesis(), keep_heights=3)
    for number in range(40, 46):
        extend(lowered, signed("roaster", mint("alice", 1), nonce=number))
    assert lowered.store.oldest_state() == lowered.head.height - 3
    assert balance(lowered, "alice") == 46


# Atomicity


class _FailingStore(MemoryStore):
    """A store whose next write fails once it is told so, as a real one does: whole, and for ever after."""

    failing = False

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True) -> None:
        if self.failing:
            raise Fault(WRITE_FAILED, "the disk is gone")
        super().write(puts, deletes, sync=sync)


def test_a_block_that_was_not_written_has_not_happened() -> None:
    store = _FailingStore()
    chain = Chain(LedgerStore(store), registry(), genesis())
    extend(chain, signed("roaster", create()))
    before = chain.head
    rows = dict(store.scan(b""))
    candidate = propose(chain, [signed("roaster", mint("alice", 5))])
    store.failing = True
    with pytest.raises(Fault):
        chain.append(candidate, seal(candidate))
    assert chain.head == before and dict(store.scan(b"")) == rows
    store.failing = False
    again = Chain(LedgerStore(store), registry(), genesis())
    assert again.head == before
    extend(again, signed("roaster", mint("alice", 5)))
    assert balance(again, "alice") == 5


def test_one_block_is_one_write() -> None:
    written: list[int] = []

    class Counting(MemoryStore):
        def write(
            self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = (), *, sync: bool = True
        ) -> None:
            assert sync
            written.append(1)
            super().write(puts, deletes, sync=sync)

    chain = Chain(LedgerStore(Counting()), registry(), genesis(), keep_heights=1)
    assert written == [1]
    extend(chain, signed("roaster", create()))
    extend(chain, signed("roaster", mint("alice", 5)))
    extend(chain)
    assert written == [1] * 4


def test_a_damaged_row_stops_the_reader() -> None:
    chain = _grown()
    store = chain.store.store
    store.write([], [b"c" + (2).to_bytes(8, "big")])
    with pytest.raises(Fault) as caught:
        Chain(LedgerStore(store), registry(), genesis())
    assert caught.value.code == "E-STORE-002"


def test_the_whole_chain_replays_from_its_blocks() -> None:
    chain = _grown()
    extend(chain, signed(["roaster", "alice"], mint("alice", 5), call("points.spend", "beans", 3, "tea", actor=1)))
    extend(chain, signed("bob", transfer("alice", 100)))
    replayed = new_chain()
    for height in range(1, chain.head.height + 1):
        block = decode_block(chain.store.block_bytes(height))
        assert encode_block(block) == chain.store.block_bytes(height)
        replayed.append(replayed.judge(block), chain.store.certificate(height))
    assert replayed.head == chain.head
    assert list(replayed.store.cells(4)) == list(chain.store.cells(4))
    assert check_invariants(chain.registry, replayed.store.cells(4)) == []
    assert key("validator").public == replayed.validators[0].public_key
