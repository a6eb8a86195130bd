"""Batches on a real node: killed at any moment, on either side, nobody is paid twice and nobody is left out."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from ledger.address import to_text
from tests.end_to_end.nodes import NodeProcess

GTIN = "09506000134352"
ROWS = 20_000
AMOUNT = 3


@pytest.fixture(scope="module")
def programme(node: NodeProcess) -> str:
    node.troth_json("points", "create", "beans", "Beans", "--as", "dev:roaster")
    return "beans"


def account(number: int) -> str:
    return to_text(sha256(b"member %d" % number).digest()[:20])


def pay_file(path: Path, rows: int, *, salt: str = "") -> Path:
    lines = [f"{account(number)},{AMOUNT},{salt}" for number in range(rows)]
    path.write_text("account,amount,memo\n" + "\n".join(lines) + "\n")
    return path


def issued(node: NodeProcess, programme: str) -> int:
    value: int = node.troth_json("points", "show", programme)["value"]["issued"]
    return value


def batch(file: Path, *more: str) -> tuple[str, ...]:
    return ("points", "batch", str(file), "--programme", "beans", "--as", "dev:roaster", *more)


def journal_of(file: Path) -> Path:
    return file.with_name(file.name + ".troth-journal")


def wait_for_lines(process: subprocess.Popen[bytes], file: Path, lines: int) -> None:
    """Returns once the journal of a batch has so many lines. Fails where the batch ends before."""
    deadline = time.monotonic() + 60
    journal = journal_of(file)
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the batch gets nowhere"
        time.sleep(0.01)


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that the test has begun; they are ended with it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_a_batch_killed_again_and_again_pays_each_once(
    node: NodeProcess, programme: str, tmp_path: Path, begun: list[subprocess.Popen[bytes]]
) -> None:
    file = pay_file(tmp_path / "pay.csv", ROWS)
    before = issued(node, programme)
    for lines in (1, 2, 4):
        process = node.begin(*batch(file))
        begun.append(process)
        wait_for_lines(process, file, lines)
        process.kill()
        process.wait()
    done = node.troth_json(*batch(file))
    assert (done["rows"], done["total_amount"]) == (ROWS, ROWS * AMOUNT)
    assert done["sent"] + done["done_before"] == done["transactions"] == ROWS // 500
    assert issued(node, programme) == before + ROWS * AMOUNT
    for number in (0, 499, 500, ROWS - 1):
        assert node.client().view("points", "balance_of", {"programme": programme, "account": account(number)}) == 3


def test_without_its_journal_a_batch_still_pays_nobody_twice(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = pay_file(tmp_path / "pay.csv", 1_500, salt="twice")
    before = issued(node, programme)
    assert node.troth_json(*batch(file))["sent"] == 3
    assert node.troth_json(*batch(file))["sent"] == 0
    journal_of(file).unlink()
    again = node.troth_json(*batch(file))
    assert (again["sent"], again["done_before"]) == (0, 3)
    assert issued(node, programme) == before + 1_500 * AMOUNT


def test_a_node_killed_under_a_batch_is_waited_for(
    node: NodeProcess, programme: str, tmp_path: Path, begun: list[subprocess.Popen[bytes]]
) -> None:
    file = pay_file(tmp_path / "pay.csv", ROWS, salt="node")
    before = issued(node, programme)
    process = node.begin("--json", *batch(file))
    begun.append(process)
    for lines in (2, 4):
        wait_for_lines(process, file, lines)
        node.kill()
        node.start()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert b'"schema": "troth/batch/1"' in out
    assert issued(node, programme) == before + ROWS * AMOUNT


def test_a_changed_file_is_refused_and_nothing_is_sent(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = pay_file(tmp_path / "pay.csv", 10, salt="first")
    node.troth_json(*batch(file))
    before = issued(node, programme)
    pay_file(file, 10, salt="second")
    ran = node.troth("--json", *batch(file))
    assert (ran.code, ran.error["code"]) == (1, "E-BATCH-004")
    assert "content of the file was changed" in ran.error["cause"]
    assert issued(node, programme) == before


def test_a_wrong_row_is_named_before_anything_is_sent(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = pay_file(tmp_path / "pay.csv", 10, salt="wrong")
    file.write_text(file.read_text() + "nobody,5,\n")
    before = issued(node, programme)
    ran = node.troth("--json", *batch(file))
    assert (ran.code, ran.error["code"]) == (1, "E-BATCH-002")
    assert "row 12, column account" in ran.error["cause"]
    assert not journal_of(file).exists()
    assert issued(node, programme) == before


def test_a_dry_run_sums_up_and_leaves_nothing_behind(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = pay_file(tmp_path / "pay.csv", 1_001, salt="dry")
    before = issued(node, programme)
    told = node.troth_json(*batch(file, "--dry-run"))
    assert (told["rows"], told["total_amount"], told["transactions"], told["sent"]) == (1_001, 3_003, 3, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pay.csv"]
    assert issued(node, programme) == before


def test_who_may_not_mint_is_told_before_anything_is_sent(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    file = pay_file(tmp_path / "pay.csv", 10, salt="role")
    ran = node.troth("--json", "points", "batch", str(file), "--programme", programme, "--as", "dev:alice")
    assert (ran.code, ran.error["code"]) == (4, "E-VM-007")
    assert "row 2: " in ran.error["cause"]
    assert "nothing of this file has taken effect" in ran.error["cause"]


def test_a_refused_row_is_named_with_what_has_taken_effect(node: NodeProcess, tmp_path: Path) -> None:
    node.troth_json("points", "create", "small", "Small", "--cap", str(4_600 * AMOUNT), "--as", "dev:roaster")
    file = pay_file(tmp_path / "pay.csv", 4_700)
    arguments = ("points", "batch", str(file), "--programme", "small", "--as", "dev:roaster")
    ran = node.troth("--json", *arguments)
    assert (ran.code, ran.error["code"]) == (1, "E-POINTS-008")
    assert "row 4602: " in ran.error["cause"]
    assert "rows 2 to 4501 have taken effect, the others have not" in ran.error["cause"]
    assert node.troth_json("points", "show", "small")["value"]["issued"] == 4_500 * AMOUNT
    node.troth_json("points", "cap", "small", "none", "--as", "dev:roaster")
    assert node.troth_json(*arguments)["done_before"] == 9
    assert node.troth_json("points", "show", "small")["value"]["issued"] == 4_700 * AMOUNT


def test_a_consumer_transfers_to_many_within_the_quota(node: NodeProcess, programme: str, tmp_path: Path) -> None:
    node.troth_json("points", "mint", programme, "dev:alice", "5000", "--as", "dev:roaster")
    file = pay_file(tmp_path / "gifts.csv", 600)
    arguments = ("points", "batch", str(file), "--programme", programme, "--operation", "transfer", "--as", "dev:alice")
    assert node.troth_json(*arguments)["rows"] == 600
    assert node.troth_json("points", "balance", programme, "dev:alice")["value"] == 5_000 - 600 * AMOUNT


def test_rows_with_references_of_their_own_are_paid_once_across_files(
    node: NodeProcess, programme: str, tmp_path: Path
) -> None:
    def file(name: str, orders: range) -> Path:
        path = tmp_path / name
        rows = "".join([f"{account(order)},{AMOUNT},order-{order}\n" for order in orders])
        path.write_text(f"account,amount,reference\n{rows}")
        return path

    before = issued(node, programme)
    node.troth_json(*batch(file("monday.csv", range(30))))
    done = node.troth_json(*batch(file("tuesday.csv", range(20, 60))))
    assert done["rows"] == 40
    assert issued(node, programme) == before + 60 * AMOUNT
    node.troth_json(*batch(file("wednesday.csv", range(60))))
    assert issued(node, programme) == before + 60 * AMOUNT


def test_certificates_of_many_packs(node: NodeProcess, tmp_path: Path) -> None:
    node.troth_json("certificate", "define", GTIN, "Beans 500 g", "00" * 32, "--as", "dev:roaster")
    file = tmp_path / "packs.csv"
    rows = "".join([f"S{number},{sha256(b'%d' % number).hexdigest()},\n" for number in range(1_200)])
    file.write_text(f"serial,commitment,expires\n{rows}")
    arguments = ("certificate", "batch", str(file), "--gtin", GTIN, "--as", "dev:roaster")
    assert node.troth_json(*arguments)["rows"] == 1_200
    assert node.troth_json(*arguments)["sent"] == 0
    product = node.troth_json("certificate", "product", GTIN)["value"]
    assert product["certificates"] == 1_200
    shown = node.troth_json("certificate", "show", GTIN, "S1199")["value"]
    assert shown["commitment"] == sha256(b"1199").hexdigest()
