"""The protocol of the released splits: rating threshold, k-core, split of each user in time.

Section 4.1.1 of the paper says 7:1:2 for train, validation and test; the released files, to which
the paper's figures belong, are 7:2:1 with validation last. This module makes the latter.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from DiffRec.errors import InputError
from DiffRec.files import written_whole


def k_core(ratings: pd.DataFrame, core: int) -> pd.DataFrame:
    """Drop users and items with fewer than ``core`` rows until none is left to drop."""
    while True:
        user_count = ratings.groupby("user")["item"].transform("size")
        item_count = ratings.groupby("item")["user"].transform("size")
        keep = (user_count >= core) & (item_count >= core)
        if keep.all():
            break
        ratings = ratings[keep]
    if ratings.empty:
        raise InputError(f"no user and item is left by the {core}-core: choose a smaller one.")
    return ratings


def split_in_time(ratings: pd.DataFrame) -> np.ndarray:
    """Which split each row of ratings, sorted by user and time, is in: 0 train, 1 valid, 2 test.

    Of a user's n rows the first int(0.7 n) + 1 are train, those up to int(0.8 n) + 1 are test and
    the last are validation.
    """
    n = ratings.groupby("user")["item"].transform("size").to_numpy()
    position = ratings.groupby("user").cumcount().to_numpy()
    train, test = (0.7 * n).astype(int) + 1, (0.8 * n).astype(int) + 1
    return np.where(position < train, 0, np.where(position < test, 2, 1))


def prepare(
    ratings: pd.DataFrame, min_rating: float = 4, core: int = 10
) -> tuple[dict[str, np.ndarray], dict[str, pd.DataFrame]]:
    """The clean split of raw ratings.

    ratings: columns user, item, rating, timestamp. A tie in time is broken by the order of the
    rows. Returns the pairs of each split, (n, 2) int64 in order of time within a user, and the
    maps of raw ids: users are numbered by ascending raw id, items by first appearance in train.
    """
    ratings = k_core(ratings[ratings["rating"] >= min_rating], core)
    ratings = ratings.sort_values(["user", "timestamp"], kind="stable")
    split = split_in_time(ratings)
    users, raw_users = pd.factorize(ratings["user"])  # sorted, hence ascending
    _, raw_items = pd.factorize(ratings["item"].to_numpy()[split == 0])
    items = pd.Index(raw_items).get_indexer(ratings["item"])
    known = items >= 0  # an item without a train interaction cannot be learnt
    pairs = np.stack([users, items], axis=1).astype(np.int64)
    lists = {
        name: pairs[known & (split == number)]
        for number, name in enumerate(("train", "valid", "test"))
    }
    maps = {
        name: pd.DataFrame({f"raw_{name}": raw, name: np.arange(len(raw))})
        for name, raw in (("user", raw_users), ("item", raw_items))
    }
    return lists, maps


def write(folder: Path, lists: dict[str, np.ndarray], maps: dict[str, pd.DataFrame]) -> None:
    """Write the three lists and user_map.csv, item_map.csv into ``folder``."""
    for name, table in maps.items():
        with written_whole(folder / f"{name}_map.csv") as temporary:
            table.to_csv(temporary, index=False)
    for name in ("test", "valid", "train"):  # train last: with it the folder counts as a data set
        with written_whole(folder / f"{name}_list.npy") as temporary, temporary.open("wb") as file:
            np.save(file, lists[name])
