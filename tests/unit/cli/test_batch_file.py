"""CSV files of batches: what is taken, and each way in which a row is refused, with row and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.batch_file import Batch, Operation, parse_batch, read_batch
from ledger.address import to_text
from ledger.errors import Fault, Invalid
from ledger.transaction import Call
from node.contracts import registry

HOLDER, OTHER = b"\x01" * 20, b"\x02" * 20
A, B = to_text(HOLDER), to_text(OTHER)
GTIN = "09506000134352"
MINT = Operation("points", registry().method("points", "mint"), {"programme": "beans"}, {"to": ("account",)}, ())
ISSUE = Operation(
    "certificate",
    registry().method("certificate", "issue"),
    {},
    {"commitment": ("commitment", "data_hash")},
    ("gtin", "serial"),
)


def mint(text: str) -> Batch:
    return parse_batch(text.encode(), MINT, "pay.csv")


def refused(text: str | bytes, operation: Operation = MINT) -> str:
    with pytest.raises(Invalid) as caught:
        parse_batch(text if type(text) is bytes else str(text).encode(), operation, "pay.csv")
    assert caught.value.code == "E-BATCH-002"
    return caught.value.cause


def test_each_row_becomes_a_call() -> None:
    batch = mint(f"account,amount\n{A},5\n{B},0\n")
    assert batch.calls == (
        Call(0, "points", "mint", ("beans", HOLDER, 5)),
        Call(0, "points", "mint", ("beans", OTHER, 0)),
    )
    assert batch.rows == (2, 3)
    assert batch.column("amount") == [5, 0]
    assert not batch.has_references


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeffaccount,amount\n{A},5\n",
        f"account,amount\r\n{A},5\r\n",
        f"account;amount\n{A};5\n",
        f" Account , AMOUNT \n {A} , 5 \n",
        f"amount,account\n5,{A}\n",
        f"to,amount\n{A},5",
        f'"account","amount"\n"{A}","5"\n',
        f"account,amount,memo\n{A},5,=HYPERLINK(1)\n",
        f"account,amount\n{A.upper()},5\n",
    ],
)
def test_forms_in_which_spreadsheets_write(text: str) -> None:
    assert mint(text).calls == (Call(0, "points", "mint", ("beans", HOLDER, 5)),)


def test_empty_rows_are_left_out_and_counted() -> None:
    assert mint(f"account,amount\n\n{A},5\n , \n{B},6\n").rows == (3, 5)


def test_a_quoted_newline_does_not_shift_the_rows() -> None:
    assert mint(f'account,amount,note\n{A},1,"two\nlines"\n{B},2,\n').rows == (2, 3)
    assert "row 3, column amount" in refused(f'account,amount,note\n{A},1,"two\nlines"\n{B},x,\n')


def test_all_errors_are_named_by_row_and_column() -> None:
    cause = refused(f"account,amount\n{A},5\nalice,5\n{A},five\n{A},-1\n{A}\n{A[:-1]}b,1.5\n,1\n{B},\n")
    assert cause.startswith("pay.csv has 8 errors:")
    for expected in (
        "row 3, column account: is no address",
        "row 4, column amount: must be a whole number (it is 'five')",
        "row 5, column amount: must be from 0",
        "row 6: 1 cells, the header has 2",
        f"row 7, column account: '{A[:-1]}b' contains 'b', which no address does",
        "row 7, column amount: must be a whole number (it is '1.5')",
        "row 8, column account: is empty",
        "row 9, column amount: is empty",
    ):
        assert expected in cause


def test_of_many_errors_fifty_are_shown_and_all_counted() -> None:
    cause = refused("account,amount\n" + f"{A},x\n" * 80)
    assert cause.startswith("pay.csv has 80 errors:")
    assert cause.count("column amount") == 50
    assert "and 30 more" in cause


@pytest.mark.parametrize(
    "cell", ["=1+1", "+5", "@SUM(A1)", "-1", "1,000", "1_000", "0x10", "5.0", "\u0665", "1e3", "9" * 21, str(2**63)]
)
def test_what_is_no_plain_amount_is_data_and_wrong(cell: str) -> None:
    assert "row 2, column amount" in refused(f'account,amount\n{A},"{cell}"\n')


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("account", "the column 'amount' is missing"),
        ("account,amount,colour", "no column 'colour' is known here"),
        ("account,amount,amount", "the column 'amount' is named twice"),
        ("account,to,amount", "the columns account and to mean the same"),
        ("account,amount,", "a column without name"),
        (A + ",5", "the column 'account' is missing"),
    ],
)
def test_a_wrong_header_is_named(header: str, reason: str) -> None:
    cause = refused(f"{header}\n{A},5\n")
    assert f"row 1: {reason}" in cause


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "missing"),
        (b"account,amount\n", "no rows below its header"),
        (b"account,amount\n\xff,5\n", "line 2: not UTF-8"),
        (b"account,amount\nPK\x00\x03,5\n", "zero byte"),
        (b'account,amount\n"open,5\n', "line"),
    ],
)
def test_what_is_no_csv_is_refused(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_a_reference_of_each_row_goes_into_its_call() -> None:
    batch = mint(f"account,amount,reference\n{A},5,order-1\n{A},5,order-2\n")
    assert batch.has_references
    assert [call.arguments[-1] for call in batch.calls] == ["order-1", "order-2"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (f"{A},5,x\n{B},6,x\n", "row 3, column reference: the same as in row 2"),
        (f"{A},5,\n", "row 2, column reference: is empty"),
        (f"{A},5,{'x' * 65}\n", "row 2, column reference: must have 1 to 64 characters"),
    ],
)
def test_a_reference_is_there_once_and_short(rows: str, reason: str) -> None:
    assert reason in refused(f"account,amount,reference\n{rows}")


def test_certificates_with_what_may_be_left_out() -> None:
    text = f"gtin,serial,data_hash,holder,expires\n{GTIN},A1,{'ab' * 32},{A},1970-01-02\n{GTIN},A2,{'cd' * 32},,\n"
    batch = parse_batch(text.encode(), ISSUE, "packs.csv")
    assert batch.calls[0].arguments == (GTIN, "A1", b"\xab" * 32, HOLDER, 86_400_000)
    assert batch.calls[1].arguments == (GTIN, "A2", b"\xcd" * 32, None, None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (f"{GTIN[:-1]}1,A1,{'ab' * 32},", "row 2, column gtin: must end with the check digit 2"),
        (f"{GTIN},A 1,{'ab' * 32},", "row 2, column serial: must have the form"),
        (f"{GTIN},A1,{'ab' * 31},", "row 2, column commitment: must have 32 to 32 bytes"),
        (f"{GTIN},A1,@/etc/hostname,", "row 2, column commitment: must be"),
        (f"{GTIN},A1,{'ab' * 32},+30d", "row 2, column expires: '+30d' depends on the moment"),
        (f"{GTIN},A1,{'ab' * 32},\n{GTIN},A1,{'cd' * 32},", "row 3, column serial: the same as in row 2"),
    ],
)
def test_a_wrong_certificate_is_named(row: str, reason: str) -> None:
    assert reason in refused(f"gtin,serial,commitment,expires\n{row}\n", ISSUE)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pay.csv"
    file.write_text(f"account,amount\n{A},5\n")
    first = read_batch(file, MINT)
    file.write_text(f"account,amount\n{A},5\n\n")
    assert read_batch(file, MINT).calls == first.calls
    assert read_batch(file, MINT).digest != first.digest


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"E-BATCH-001 .*No such file"):
        read_batch(tmp_path / "none.csv", MINT)
