"""docs/spec/consensus.md says what the source says."""

from __future__ import annotations

import re
from hashlib import sha256

from consensus.guard import PreparedBlock, Step, encode_prepared, encode_record, first_record
from consensus.justification import Rule
from consensus.messages import parse_payload, signed_payload
from consensus.transitions import TRANSITIONS, Phase
from ledger import codec
from tests.consensus_docs import DOCUMENT, render
from tests.consensus_kit import CHAIN, A, block, prepares

TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_generated_parts_are_current() -> None:
    assert render(TEXT) == TEXT, "run: python -m tests.consensus_docs"


def test_everything_is_named_in_it() -> None:
    for name in [*(each.name for each in TRANSITIONS), *(phase.name for phase in Phase), *(rule.name for rule in Rule)]:
        assert f"| {name} |" in TEXT


def test_the_worked_payloads_are_read_back() -> None:
    found = re.findall(r"^((?:    [0-9a-f]+\n)+)", TEXT.partition("of 32 bytes `ab`")[2], re.MULTILINE)
    assert len(found) == 5
    for each in found:
        data = bytes.fromhex("".join(each.split()))
        chain, statement = parse_payload(data, bytes(20))
        assert (chain, statement.height, statement.round) == ("dev-example", 7, 2)
        assert signed_payload(chain, statement) == data


def test_the_record_is_laid_out_as_written() -> None:
    fields = (1, CHAIN, 0, 0, 0, b"")
    checksum = sha256(b"troth/signing-record\0" + codec.encode(fields)).digest()
    assert encode_record(first_record(CHAIN)) == codec.encode((*fields, checksum))
    kept = PreparedBlock(4, 0, A, prepares(), block())
    held = (1, (4, 0, A), tuple([(each.validator, each.signature) for each in prepares()]), block())
    assert encode_prepared(kept) == codec.encode((*held, sha256(b"troth/prepared\0" + codec.encode(held)).digest()))
    assert [step.value for step in Step] == [0, 1, 2, 3, 4]
