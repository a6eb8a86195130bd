"""Engines with real keys, talking in bytes: what the tests of single engines leave out."""

from __future__ import annotations

from collections import deque

import pytest

from consensus import events as out
from consensus.engine import Engine
from consensus.guard import advance, decode_record, encode_record, first_record
from consensus.messages import Message, decode, encode, signed_payload
from consensus.quorum import check_certificate
from ledger.block import Certificate
from ledger.hashes import block_hash
from tests import chains

CHAIN = chains.CHAIN_ID


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_heights_are_decided_with_real_signatures_over_the_wire(count: int) -> None:
    names = {chains.account(f"validator-{number}"): f"validator-{number}" for number in range(count)}
    validators = tuple(sorted([chains.validator(name) for name in names.values()]))
    engines = {each.address: Engine(CHAIN, each.address, first_record(CHAIN)) for each in validators}
    records = {each.address: encode_record(first_record(CHAIN)) for each in validators}
    heads = {each.address: bytes(32) for each in validators}
    decided: dict[int, list[Certificate]] = {}
    work: deque[tuple[bytes, out.Input]] = deque()
    now_ms = 0

    def to_all(sender: bytes, message: Message) -> None:
        data = encode(message)
        work.extend([(each, out.Received(sender, decode(data))) for each in engines if each != sender])

    def act(who: bytes, output: out.Output) -> None:
        if isinstance(output, out.Persist):
            records[who] = encode_record(output.record)
        elif isinstance(output, out.Sign):
            payload = signed_payload(CHAIN, output.statement)
            assert advance(decode_record(records[who]), payload).payload == payload
            signature = chains.key(names[who]).sign(payload)
            work.append((who, out.Signed(output.statement._replace(signature=signature))))
        elif isinstance(output, out.Broadcast):
            to_all(who, output.message)
        elif isinstance(output, out.Build):
            block = f"block {output.height}".encode() + output.parent_id
            work.append((who, out.Built(output.height, output.round, block_hash(block), block)))
        elif isinstance(output, out.Judge):
            right = block_hash(output.block) == output.block_id and output.block.endswith(heads[who])
            work.append((who, out.Judged(output.ticket, right)))
        elif isinstance(output, out.Decide):
            check_certificate(output.certificate, CHAIN, output.block_id, validators)
            decided.setdefault(output.height, []).append(output.certificate)
            heads[who] = output.block_id
            work.append((who, out.NewHeight(output.height + 1, output.block_id, validators)))
            work.append((who, out.Work(output.height + 1)))
        else:
            assert not isinstance(output, out.Refused | out.Evidence), output

    for each in engines:
        work.extend([(each, out.NewHeight(1, bytes(32), validators)), (each, out.CaughtUp(True)), (each, out.Work(1))])
    while len(decided.get(5, ())) < count:
        if not work:
            now_ms += 100
            work.extend([(each, out.Tick()) for each in engines])
        who, event = work.popleft()
        for output in engines[who].handle(event, now_ms):
            act(who, output)
        assert now_ms < 60_000
    for height in range(1, 6):
        assert len({each.block_id for each in decided[height]}) == 1
        assert {each.round for each in decided[height]} == {0}
