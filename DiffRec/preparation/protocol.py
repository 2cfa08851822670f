"""From ratings to train, validation and test: threshold, k-core, split in time, noise.

Section 4.1.1 of the paper says 7:1:2 for train, validation and test; the released files, to which
the paper's figures belong, are 7:1:2 for train, test and validation, in this order. Both are
protocols here.

Ratings are a table of a database (`DiffRec.preparation.tables`), and so is all that is made of
them, in a schema of its own: nothing but ids and counts of users and items has to fit in memory.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator
from tqdm import tqdm

from DiffRec.data_utils import Dataset, add_random_noise
from DiffRec.engine.errors import InputError
from DiffRec.engine.settings import Count, NotNegative, Seed, Settings
from DiffRec.interactions import Interactions
from DiffRec.preparation.readers import Ratings
from DiffRec.preparation.tables import Database

SPLITS = ("train", "valid", "test")
DEFAULT_SHARES = (7.0, 1.0, 2.0)
PROTOCOLS = ("released", "paper", "global", "leave_one_out")
# How models are evaluated where one item of each user is left out: the next item is what is asked
# for, so that the one before it is known in test.
NEXT_ITEM = {
    "topN": [5, 10, 20], "metrics": ["hr", "ndcg"], "tst_w_val": True, "select_by": "ndcg@10",
    "metric_users": "with_items",  # whoever has fewer than three items has none left out
}  # fmt: skip

log = logging.getLogger(__name__)


def shares_of(values: Any) -> tuple[float, float, float]:
    """Three numbers, or those of 8:1:1, whose sum is one too."""
    try:
        first, second, third = map(float, values.split(":") if isinstance(values, str) else values)
    except (TypeError, ValueError) as error:
        raise ValueError("must be three numbers, as in 8:1:1") from error
    if not (first > 0 and min(second, third) >= 0 and first + second + third < np.inf):
        raise ValueError("must have a share of train above 0, and others of 0 or more")
    return first, second, third


Shares = Annotated[tuple[float, float, float], BeforeValidator(shares_of)]


class Preparation(Settings):
    """The arguments of `prepare`."""

    min_rating: NotNegative = 4.0
    core: Count = 10
    protocol: Literal[PROTOCOLS] = "released"
    shares: Shares | None = None
    noise: NotNegative = 0.0
    random_noise: NotNegative = 0.0
    seed: Seed = 1


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set before it is written.

    Attributes:
        sizes: how many rows each split has.
        raw_users, raw_items: the raw id of each number.
        rows: a function from a split's name to its rows, some at a time: (n, 2) int64 (user, item),
            users ascending, in order of time, and each row's time, (n,) int64 where all are whole
            and else float64, and rating, (n,) float32.
        low: a function to what users rated below the threshold of interactions, (n, 2) int64 some
            at a time, ascending.
    """

    sizes: dict[str, int]
    raw_users: np.ndarray
    raw_items: np.ndarray
    rows: Callable[[str], Iterator[Rows]]
    low: Callable[[], Iterator[np.ndarray]]

    @cached_property
    def _arrays(self) -> dict[str, Rows]:
        found = {}
        for name in SPLITS:
            pairs, times, ratings = map(np.concatenate, zip(*self.rows(name), strict=True))
            found[name] = pairs, times, ratings
        return found

    @property
    def pairs(self) -> dict[str, np.ndarray]:
        """The pairs of each split, all in memory."""
        return {name: arrays[0] for name, arrays in self._arrays.items()}

    @property
    def times(self) -> dict[str, np.ndarray]:
        """The times of each split's rows, all in memory."""
        return {name: arrays[1] for name, arrays in self._arrays.items()}

    @property
    def ratings(self) -> dict[str, np.ndarray]:
        """The ratings of each split's rows, all in memory."""
        return {name: arrays[2] for name, arrays in self._arrays.items()}

    @property
    def disliked(self) -> np.ndarray:
        """What users rated below the threshold, (n, 2) int64, all in memory."""
        return np.concatenate([np.empty((0, 2), np.int64), *self.low()])


def latest_of_repeated(ratings: Ratings) -> str:
    """A new schema with the table ``latest``: of a pair of user and item that is rated more than
    once, the latest rating; of equal times the one further down the file. Its users are numbered by
    ascending raw id."""
    database, at = ratings.database, ratings.database.schema()
    order = np.argsort(ratings.raw_users, kind="stable")
    database.insert(f"{at}.ranks", user_no=order, rank=np.arange(len(order), dtype=np.int32))
    time = "CAST(time AS BIGINT)" if ratings.whole else "time"
    database.run(
        f"CREATE TABLE {at}.latest AS SELECT row, rank AS user_no, item_no, rating, {time} AS time "
        f"FROM ratings JOIN {at}.ranks USING (user_no) QUALIFY row_number() OVER "
        f"(PARTITION BY rank, item_no ORDER BY ratings.time DESC, row DESC) = 1"
    )
    rows, latest = (
        database.run(f"SELECT count(*) FROM {table}")[0] for table in ("ratings", f"{at}.latest")
    )
    if latest < rows:
        log.warning(
            "%s of %s rows are of a pair of user and item that comes again: its latest counts.",
            f"{rows - latest:,}", f"{rows:,}",
        )  # fmt: skip
    return at


def check_threshold(lowest: float, highest: float, kept: float, min_rating: float) -> None:
    """InputError for a threshold that no rating reaches; a warning for one that looks like that of
    a scale up to 5 where ratings go higher. kept: the share of ratings that reach it."""
    if highest < min_rating:
        raise InputError(
            f"no rating reaches min_rating {min_rating:g}: they go from {lowest:g} to {highest:g}."
        )
    meant = lowest >= min_rating != Preparation.model_fields["min_rating"].default  # to keep all
    if highest > 5 and 0 < min_rating <= highest / 2 and not meant:
        log.warning(
            "ratings go from %g to %g: min_rating %g keeps %.0f %% of them; is it meant for "
            "another scale?", lowest, highest, min_rating, 100 * kept,
        )  # fmt: skip


def k_core(database: Database, at: str, core: int) -> None:
    """Drop users and items with fewer than ``core`` rows of the table ``kept`` until none is left
    to drop."""
    few = " OR ".join(
        f"{column} IN (SELECT {column} FROM {at}.kept GROUP BY {column} HAVING count(*) < {core})"
        for column in ("user_no", "item_no")
    )
    while database.run(f"DELETE FROM {at}.kept WHERE {few}")[0]:
        pass
    if not database.run(f"SELECT count(*) FROM {at}.kept")[0]:
        raise InputError(f"no user and item is left by the {core}-core: choose a smaller one.")


def cut(database: Database, at: str, split: str) -> None:
    """The table ``cut``: that of ``kept`` with the column split, an index into SPLITS.

    split: that column in SQL, of time, place (of a row in its user's time, from 0; ties in the
        order of the file) and n (how many rows the user has).
    """
    within = "PARTITION BY user_no ORDER BY time, row ROWS BETWEEN UNBOUNDED PRECEDING AND"
    database.run(
        f"CREATE TABLE {at}.cut AS SELECT row, user_no, item_no, rating, time, 0 AS noise, "
        f"CAST({split} AS INT) AS split FROM (SELECT *, "
        f"row_number() OVER ({within} UNBOUNDED FOLLOWING) - 1 AS place, "
        f"count(*) OVER ({within} UNBOUNDED FOLLOWING) AS n FROM {at}.kept)"
    )


def per_user(shares: tuple[float, float, float], order: tuple[str, str, str]) -> str:
    """The split, for `cut`, of each user's rows in time.

    Of a user's n rows those before int(c n) + 1 belong to the first splits, c being the sum of
    their shares: that is how the released files were cut. ``order`` says which split comes first;
    of few rows it has more than its share, and the last one less, or none.
    """
    total = sum(shares)
    ends = [c / total for c in (shares[0], shares[0] + shares[1])]
    first, second = (f"place < floor(CAST({c!r} AS DOUBLE) * n) + 1" for c in ends)
    a, b, c = (SPLITS.index(name) for name in order)
    return f"CASE WHEN {first} THEN {a} WHEN {second} THEN {b} ELSE {c} END"


def globally(database: Database, at: str, shares: tuple[float, float, float]) -> str:
    """As `per_user`, with two cuts in time that all users share: nothing of the future is known in
    training. Rows of one time stay together."""
    total = sum(shares)
    n = database.run(f"SELECT count(*) FROM {at}.kept")[0]
    ends: list[float] = []
    for share in (shares[0] / total, (shares[0] + shares[1]) / total):
        at_rank = f"ORDER BY time LIMIT 1 OFFSET {int((n - 1) * share)}"
        ends += database.run(f"SELECT time FROM {at}.kept {at_rank}")
    first, second = (f"time > CAST({end!r} AS {sql_type(end)})" for end in ends)
    return f"CASE WHEN {second} THEN 2 WHEN {first} THEN 1 ELSE 0 END"


def sql_type(number: float) -> str:
    return "BIGINT" if isinstance(number, int) else "DOUBLE"


# As `per_user`: a user's last row is test and the one before it validation; whoever has fewer than
# three has all of them in train.
LAST_TWO = "CASE WHEN n >= 3 AND n - place <= 2 THEN 3 - (n - place) ELSE 0 END"


def drop_unknown(database: Database, at: str) -> None:
    """Drop rows of ``cut`` whose user or item has no row in train: nothing can be learnt of
    them."""
    known = " AND ".join(
        f"{column} IN (SELECT {column} FROM {at}.cut WHERE split = 0)"
        for column in ("user_no", "item_no")
    )
    database.run(f"DELETE FROM {at}.cut WHERE NOT ({known})")


def add_natural_noise(
    database: Database, at: str, reached: str, scale: float, seed: int, by_time: bool
) -> None:
    """Add to train and validation of ``cut`` rows of its users whose rating is not ``reached``, in
    SQL, drawn at random: ``scale`` times as many as it has rows, or all there are (Section 4.1.1).

    A noisy row is train or validation at random, as the share of its user's clean rows in them
    says; or, with ``by_time``, by its time, and none is later than the last of validation.
    """
    last_of_train, last_of_valid = (
        f"(SELECT max(time) FROM {at}.cut WHERE split {of})" for of in ("= 0", "< 2")
    )
    database.run(
        f"CREATE TABLE {at}.candidates AS FROM {at}.latest WHERE NOT {reached} "
        f"AND user_no IN (SELECT user_no FROM {at}.cut) "
        f"{f'AND time <= {last_of_valid}' if by_time else ''} ORDER BY row"
    )
    n = database.run(f"SELECT count(*) FROM {at}.candidates")[0]
    if not n:
        raise InputError(
            "there is no natural noise: no rating below min_rating is of these users"
            f"{', and not later than validation' if by_time else ''}."
        )
    asked = round(scale * database.run(f"SELECT count(*) FROM {at}.cut")[0])
    wanted = min(asked, n)
    if wanted < asked:
        log.warning(
            "natural noise: %s rows were asked for, and %s are all there are.",
            f"{asked:,}", f"{n:,}",
        )  # fmt: skip
    chosen = np.sort(np.random.default_rng(seed).choice(n, wanted, replace=False))
    drawn = np.random.default_rng([seed, 1]).random(wanted)
    database.insert(f"{at}.chosen", place=chosen, drawn=drawn)
    is_train = f"time <= {last_of_train}" if by_time else "drawn < share"
    database.run(
        f"INSERT INTO {at}.cut SELECT row, user_no, item_no, rating, time, 1 AS noise, "
        f"CASE WHEN {is_train} THEN 0 ELSE 1 END AS split "
        f"FROM {at}.candidates JOIN {at}.chosen ON candidates.rowid = place JOIN (SELECT user_no, "
        f"count(*) FILTER (WHERE split = 0) / greatest(count(*) FILTER (WHERE split < 2), 1) "
        f"AS share FROM {at}.cut GROUP BY user_no) USING (user_no)"
    )


def finish(
    database: Database,
    at: str,
    raw_users: np.ndarray,
    raw_items: np.ndarray,
    low: str | None = None,
) -> Split:
    """The data set of the rows of ``cut``, put in order: users by number, each one's rows by time,
    ties in the order of the file and noise behind.

    Users and items get numbers by first appearance in train, those that train does not have behind
    the others. low: which rows of ``latest`` are disliked, in SQL; None where none are.
    """
    database.run(
        f"CREATE TABLE {at}.final AS SELECT user_no, item_no, rating, time, split FROM {at}.cut "
        f"ORDER BY user_no, time, noise, row"
    )
    database.run(f"DROP TABLE {at}.cut")
    numbers, raw = {}, {}
    for name, ids in (("user", raw_users), ("item", raw_items)):
        known = database.arrays(
            f"SELECT {name}_no AS no FROM {at}.final GROUP BY {name}_no "
            f"ORDER BY min(rowid) FILTER (WHERE split = 0) NULLS LAST, min(rowid)"
        )["no"]
        numbers[name] = np.full(len(ids), -1, dtype=np.int64)
        numbers[name][known] = np.arange(len(known))
        raw[name] = ids[known]
        database.insert(f"{at}.{name}s", no=known, number=np.arange(len(known)))
    if low is not None:
        database.run(
            f"CREATE TABLE {at}.disliked AS SELECT users.number AS user, items.number AS item "
            f"FROM {at}.latest JOIN {at}.users ON user_no = users.no "
            f"JOIN {at}.items ON item_no = items.no WHERE {low} ORDER BY users.number, items.number"
        )
        database.run(f"DROP TABLE {at}.latest")
    counted = database.arrays(f"SELECT split, count(*) AS n FROM {at}.final GROUP BY split")
    sizes = dict(zip(counted["split"].tolist(), counted["n"].tolist(), strict=True))

    def rows(name: str) -> Iterator[Rows]:
        split = SPLITS.index(name)
        for batch in database.batches(f"FROM {at}.final WHERE split = {split}"):
            users, items = (numbers[kind][batch[f"{kind}_no"]] for kind in ("user", "item"))
            yield np.stack([users, items], axis=1), batch["time"], batch["rating"]

    def disliked() -> Iterator[np.ndarray]:
        if low is not None:
            for batch in database.batches(f"FROM {at}.disliked"):
                yield np.stack([batch["user"], batch["item"]], axis=1)

    return Split(
        {name: sizes.get(split, 0) for split, name in enumerate(SPLITS)},
        raw["user"], raw["item"], rows, disliked,
    )  # fmt: skip


def prepare(ratings: Ratings, **how: Any) -> Split:
    """The splits of raw ratings.

    Args:
        min_rating: 4 unless it is given; ratings from here on are interactions.
        core: 10; every user and item keeps at least so many, iterated until stable.
        protocol: "released" cuts each user's rows 7:1:2 in time into train, test and validation,
            in this order; "paper" 7:1:2 into train, validation and test; "global" cuts all rows at
            two times instead; "leave_one_out" keeps each user's last row for test and the one
            before it for validation, and items that train lacks.
        shares: with paper or global for (train, validation, test) in place of 7:1:2; a share of 0
            leaves that list empty.
        noise: natural noise, ratings below the threshold, as a share of the interactions; it goes
            to train and validation, by time under the global protocol and else at random in the
            proportion of its user's interactions in the two; test is the same.
        random_noise: random noise, as a share of each user's rows in train and in validation.
        seed: 1; of the noise.

    Raises InputError for what these cannot be, where nothing is left, and where a split that has a
    share is empty.
    """
    chosen = Preparation.of(how)
    min_rating, core, protocol, shares, noise, random_noise, seed = dict(chosen).values()
    if shares is not None and protocol not in ("paper", "global"):
        raise InputError(f"a ratio is for the protocols paper and global, not for {protocol}.")
    if protocol == "leave_one_out" and (noise or random_noise):
        raise InputError("noise is for protocols other than leave_one_out.")
    database = ratings.database
    threshold = f"'{float(min_rating)!r}'"
    lowest, highest, kept = database.run(
        f"SELECT min(rating), max(rating), avg(CAST(rating >= CAST({threshold} AS DOUBLE) AS INT)) "
        f"FROM ratings"
    )
    check_threshold(lowest, highest, kept, min_rating)
    reached = f"rating >= CAST({threshold} AS FLOAT)"  # so 4.1 is reached by 4.1
    shares = shares or DEFAULT_SHARES
    with tqdm(total=4 + bool(noise), unit="step", disable=None) as bar:

        def step(what: str) -> None:
            bar.set_description(what)
            bar.update()

        step("repeated ratings")
        at = latest_of_repeated(ratings)
        database.run(f"CREATE TABLE {at}.kept AS FROM {at}.latest WHERE {reached}")
        step(f"{core}-core")
        k_core(database, at, core)
        step("splits")
        if protocol == "global":
            split = globally(database, at, shares)
        elif protocol == "leave_one_out":
            split = LAST_TWO
        else:
            split = per_user(
                shares, ("train", "test", "valid") if protocol == "released" else SPLITS
            )
        cut(database, at, split)
        database.run(f"DROP TABLE {at}.kept")
        # What train does not have goes before noise comes, so that test is the same with and
        # without.
        if protocol != "leave_one_out":
            drop_unknown(database, at)
        if noise:
            step("natural noise")
            add_natural_noise(database, at, reached, noise, seed, protocol == "global")
            drop_unknown(database, at)
        step("order of time")
        raw_users = np.sort(ratings.raw_users, kind="stable")
        found = finish(database, at, raw_users, ratings.raw_items, f"NOT {reached}")
    wanted = zip(SPLITS, shares, strict=True)
    empty = [name for name, share in wanted if share and not found.sizes[name]]
    if empty:
        raise InputError(
            f"there are too few interactions for these splits: {' and '.join(empty)} would be "
            f"empty."
        )
    return with_random_noise(found, random_noise, seed) if random_noise else found


def with_random_noise(split: Split, proportion: float, seed: int) -> Split:
    """The split with the random noise of `DiffRec.data_utils.add_random_noise`, whose rows take the
    time of the row before them (or after, for a user's first) and have no rating (NaN). Here all
    rows are in memory: false interactions are drawn from what a user has in none of them."""
    sizes = len(split.raw_users), len(split.raw_items)
    parts = {name: Interactions.from_pairs(split.pairs[name], *sizes) for name in SPLITS}
    data = Dataset("", Path(), parts["train"], parts["valid"], parts["test"])
    noisy = add_random_noise(data, proportion, seed)
    pairs, times, ratings = dict(split.pairs), dict(split.times), dict(split.ratings)
    for name in ("train", "valid"):
        clean = split.pairs[name]
        pairs[name] = getattr(noisy, name).pairs()
        keys = [rows[:, 0] * sizes[1] + rows[:, 1] for rows in (pairs[name], clean)]
        real = np.isin(*keys)
        source = np.maximum(np.cumsum(real) - 1, 0)
        source += clean[source, 0] != pairs[name][:, 0]  # before the first true row of its user
        times[name] = split.times[name][source]
        ratings[name] = np.where(real, split.ratings[name][source], np.nan).astype(np.float32)
    found = {name: (pairs[name], times[name], ratings[name]) for name in SPLITS}
    total = {name: len(pairs[name]) for name in SPLITS}
    return dataclasses.replace(split, sizes=total, rows=lambda name: iter([found[name]]))
