"""From ratings to train, validation and test: threshold, k-core, split in time, noise.

Section 4.1.1 of the paper says 7:1:2 for train, validation and test; the released files, to which
the paper's figures belong, are 7:1:2 for train, test and validation, in this order. Both are
protocols here.
"""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from DiffRec.data_utils import Dataset, Interactions, add_random_noise
from DiffRec.engine.errors import InputError
from DiffRec.preparation.readers import Ratings

SPLITS = ("train", "valid", "test")
PROTOCOLS = ("released", "paper", "global", "leave_one_out")
# How models are evaluated where one item of each user is left out: the next item is what is asked
# for, so that the one before it is known in test.
NEXT_ITEM = {
    "topN": [5, 10, 20], "metrics": ["hr", "ndcg"], "tst_w_val": True, "select_by": "ndcg@10",
    "metric_users": "with_items",  # whoever has fewer than three items has none left out
}  # fmt: skip

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Split:
    """A data set before it is written.

    Attributes:
        pairs: for each split (n, 2) int64 (user, item), users ascending, in order of time.
        times, ratings: for each split (n,), the time (int64) and rating (float32) of each row.
        raw_users, raw_items: the raw id of each number.
        disliked: (n, 2) int64, what users rated below the threshold of interactions.
    """

    pairs: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    ratings: dict[str, np.ndarray]
    raw_users: np.ndarray
    raw_items: np.ndarray
    disliked: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 2), np.int64))


def latest_of_repeated(ratings: Ratings) -> Ratings:
    """Of a pair of user and item that is rated more than once, the latest rating; of equal times
    the one further down the file."""
    order = np.lexsort((ratings.times, ratings.items, ratings.users))
    users, items = ratings.users[order], ratings.items[order]
    last = np.r_[(users[1:] != users[:-1]) | (items[1:] != items[:-1]), True]
    return ratings.select(np.sort(order[last]))


def check_threshold(ratings: np.ndarray, min_rating: float) -> None:
    """InputError for a threshold that no rating reaches; a warning for one that looks like that of
    a scale up to 5 where ratings go higher."""
    lowest, highest = float(ratings.min()), float(ratings.max())
    if highest < min_rating:
        raise InputError(
            f"no rating reaches min_rating {min_rating:g}: they go from {lowest:g} to {highest:g}."
        )
    if highest > 5 and lowest < min_rating <= highest / 2:
        log.warning(
            "ratings go from %g to %g: min_rating %g keeps %.0f %% of them; is it meant for "
            "another scale?", lowest, highest, min_rating, 100 * (ratings >= min_rating).mean(),
        )  # fmt: skip


def k_core(ratings: Ratings, core: int) -> Ratings:
    """Drop users and items with fewer than ``core`` rows until none is left to drop."""
    while True:
        user_count = np.bincount(ratings.users, minlength=len(ratings.raw_users))
        item_count = np.bincount(ratings.items, minlength=len(ratings.raw_items))
        keep = (user_count[ratings.users] >= core) & (item_count[ratings.items] >= core)
        if keep.all():
            break
        ratings = ratings.select(keep)
    if not len(ratings):
        raise InputError(f"no user and item is left by the {core}-core: choose a smaller one.")
    return ratings


def time_order(ratings: Ratings) -> np.ndarray:
    """(n,) row numbers: users by ascending raw id, each one's rows by time, ties as they are."""
    rank = np.empty(len(ratings.raw_users), dtype=np.int64)
    rank[np.argsort(ratings.raw_users, kind="stable")] = np.arange(len(rank))
    return np.lexsort((ratings.times, rank[ratings.users]))


def in_order_of_time(ratings: Ratings) -> Ratings:
    """The ratings in `time_order`; ties keep the order of the file."""
    return ratings.select(time_order(ratings))


def split_per_user(
    users: np.ndarray, shares: tuple[float, float, float], order: tuple[str, str, str]
) -> np.ndarray:
    """Which split each row is in, as an index into SPLITS, for rows in order of time within a user.

    Of a user's n rows those before int(c n) + 1 belong to the first splits, c being the sum of
    their shares: that is how the released files were cut. ``order`` says which split comes first.
    """
    starts = np.r_[0, np.flatnonzero(users[1:] != users[:-1]) + 1, len(users)]
    n = np.repeat(np.diff(starts), np.diff(starts))
    position = np.arange(len(users)) - np.repeat(starts[:-1], np.diff(starts))
    total = sum(shares)
    first, second = shares[0] / total, (shares[0] + shares[1]) / total
    cuts = [(c * n).astype(np.int64) + 1 for c in (first, second)]
    place = (position >= cuts[0]).astype(np.int64) + (position >= cuts[1])
    return np.array([SPLITS.index(name) for name in order])[place]


def split_globally(times: np.ndarray, shares: tuple[float, float, float]) -> np.ndarray:
    """As `split_per_user`, with two cuts in time that all users share: nothing of the future is
    known in training. Rows of one time stay together."""
    total = sum(shares)
    cuts = [shares[0] / total, (shares[0] + shares[1]) / total]
    at = np.quantile(times, cuts, method="lower")
    return (times > at[0]).astype(np.int64) + (times > at[1])


def split_last_two(users: np.ndarray) -> np.ndarray:
    """As `split_per_user`: a user's last row is test and the one before it validation; whoever has
    fewer than three has all of them in train."""
    starts = np.r_[0, np.flatnonzero(users[1:] != users[:-1]) + 1, len(users)]
    n = np.repeat(np.diff(starts), np.diff(starts))
    left = np.repeat(starts[1:], np.diff(starts)) - np.arange(len(users))  # 1 for the last row
    return np.where((n >= 3) & (left <= 2), 3 - left, 0)


def natural_noise(
    ratings: Ratings, positives: Ratings, scale: float, seed: int, min_rating: float
) -> Ratings:
    """Rows with ratings below the threshold of the users of ``positives``, drawn at random:
    ``scale`` times as many as there are positives, or all there are (Section 4.1.1)."""
    known = np.zeros(len(ratings.raw_users), dtype=bool)
    known[positives.users] = True
    candidates = np.flatnonzero((ratings.ratings < min_rating) & known[ratings.users])
    wanted = min(round(scale * len(positives)), len(candidates))
    chosen = np.random.default_rng(seed).choice(candidates, wanted, replace=False)
    return ratings.select(np.sort(chosen))


def known_to_train(rows: Ratings, split: np.ndarray) -> np.ndarray:
    """(n,) mask: the rows whose user and item both have a row in train."""
    known = np.ones(len(rows), dtype=bool)
    for codes in (rows.users, rows.items):
        known &= np.isin(codes, np.unique(codes[split == 0]))
    return known


def number(
    rows: Ratings, split: np.ndarray, low: Ratings | None = None, keep: bool = False
) -> Split:
    """Number users in the order they stand in and items by first appearance in train; rows of
    users or items that train does not have are left out, since nothing can be learnt of them, or
    with ``keep`` numbered behind the others. low: ratings below the threshold."""
    pairs, times, ratings = {}, {}, {}
    numbers = []
    for codes, size in ((rows.users, len(rows.raw_users)), (rows.items, len(rows.raw_items))):
        _, first = np.unique(codes[split == 0], return_index=True)
        of_train = codes[split == 0][np.sort(first)]
        if keep:
            others, first = np.unique(codes[~np.isin(codes, of_train)], return_index=True)
            of_train = np.concatenate([of_train, others[np.argsort(first)]])
        table = np.full(size, -1, dtype=np.int64)
        table[of_train] = np.arange(len(of_train))
        numbers.append((table, of_train))
    (user_table, user_codes), (item_table, item_codes) = numbers
    users, items = user_table[rows.users], item_table[rows.items]
    known = (users >= 0) & (items >= 0)
    for index, name in enumerate(SPLITS):
        mine = known & (split == index)
        pairs[name] = np.stack([users[mine], items[mine]], axis=1)
        times[name], ratings[name] = rows.times[mine], rows.ratings[mine]
    found = Split(pairs, times, ratings, rows.raw_users[user_codes], rows.raw_items[item_codes])
    if low is None:
        return found
    disliked = np.stack([user_table[low.users], item_table[low.items]], axis=1)
    disliked = disliked[(disliked >= 0).all(axis=1)]
    return dataclasses.replace(found, disliked=disliked[np.lexsort(disliked.T[::-1])])


def prepare(
    ratings: Ratings,
    min_rating: float = 4,
    core: int = 10,
    protocol: str = "released",
    shares: tuple[float, float, float] | None = None,
    noise: float = 0.0,
    random_noise: float = 0.0,
    seed: int = 1,
) -> Split:
    """The splits of raw ratings.

    Args:
        min_rating: ratings from here on are interactions.
        core: every user and item keeps at least so many, iterated until stable.
        protocol: "released" cuts each user's rows 7:1:2 in time into train, test and validation,
            in this order; "paper" 7:1:2 into train, validation and test; "global" cuts all rows at
            two times instead; "leave_one_out" keeps each user's last row for test and the one
            before it for validation, and items that train lacks. ``shares`` for (train, validation,
            test) in place of 7:1:2 with the middle two; a share of 0 leaves that list empty.
        noise: natural noise, ratings below the threshold, as a share of the interactions; it goes
            to train and validation, by time under the global protocol and else at random in the
            proportion of its user's interactions in the two; test is the same.
        random_noise: random noise, as a share of each user's rows in train and in validation.
        seed: of the noise.

    Raises InputError where nothing is left, or a split that has a share is empty.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol}.")
    if shares is not None and (
        protocol not in ("paper", "global")
        or not (shares[0] > 0 and all(0 <= share < np.inf for share in shares))
    ):
        raise InputError(
            "a ratio needs three shares, of which train's is above 0 and the others may be 0, and "
            "the protocol paper or global."
        )
    check_threshold(ratings.ratings, min_rating)
    ratings = latest_of_repeated(ratings)
    positives = in_order_of_time(k_core(ratings.select(ratings.ratings >= min_rating), core))
    if protocol == "released":
        split = split_per_user(positives.users, (7, 1, 2), ("train", "test", "valid"))
    elif protocol == "paper":
        split = split_per_user(positives.users, shares or (7, 1, 2), SPLITS)
    elif protocol == "global":
        split = split_globally(positives.times, shares or (7, 1, 2))
    else:
        split = split_last_two(positives.users)
        if noise or random_noise:
            raise InputError("noise is for protocols other than leave_one_out.")
    last = protocol == "leave_one_out"
    # What train does not have goes before noise comes, so that test is the same with and without.
    known = known_to_train(positives, split) | last
    rows, split = positives.select(known), split[known]
    if noise:
        cuts = None
        if protocol == "global":
            cuts = rows.times[split == 0].max(), rows.times[split < 2].max()
        rows, split = add_natural_noise(ratings, rows, split, cuts, noise, seed, min_rating)
    found = number(rows, split, ratings.select(ratings.ratings < min_rating), keep=last)
    wanted = zip(SPLITS, shares or (7, 1, 2), strict=True)
    empty = [name for name, share in wanted if share and not len(found.pairs[name])]
    if empty:
        raise InputError(
            f"there are too few interactions for these splits: {' and '.join(empty)} would be "
            f"empty."
        )
    return with_random_noise(found, random_noise, seed) if random_noise else found


def with_random_noise(split: Split, proportion: float, seed: int) -> Split:
    """The split with the random noise of `DiffRec.data_utils.add_random_noise`, whose rows take the
    time of the row before them (or after, for a user's first) and have no rating (NaN)."""
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
    return dataclasses.replace(split, pairs=pairs, times=times, ratings=ratings)


def add_natural_noise(
    ratings: Ratings,
    positives: Ratings,
    split: np.ndarray,
    cuts: tuple[float, float] | None,
    scale: float,
    seed: int,
    min_rating: float,
) -> tuple[Ratings, np.ndarray]:
    """The interactions and their splits with natural noise in train and validation.

    A noisy row is train or validation at random, as the share of its user's clean rows in them
    says; or, with ``cuts``, by its time, and none is later than the second.
    """
    if cuts is not None:
        ratings = ratings.select(ratings.times <= cuts[1])
    noisy = natural_noise(ratings, positives, scale, seed, min_rating)
    counts = [np.bincount(positives.users[split == s], minlength=len(ratings.raw_users))
              for s in (0, 1)]  # fmt: skip
    share = counts[0] / np.maximum(counts[0] + counts[1], 1)
    drawn = np.random.default_rng([seed, 1]).random(len(noisy))
    noisy_split = np.where(drawn < share[noisy.users], 0, 1)
    if cuts is not None:
        noisy_split = (noisy.times > cuts[0]).astype(np.int64)
    both = dataclasses.replace(
        positives,
        **{
            field: np.concatenate([getattr(positives, field), getattr(noisy, field)])
            for field in ("users", "items", "ratings", "times")
        },
    )
    order = time_order(both)
    return both.select(order), np.concatenate([split, noisy_split])[order]
