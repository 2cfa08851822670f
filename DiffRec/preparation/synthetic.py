"""Synthetic ratings, for machines without data or network.

`make_ratings` has the character of ML-1M and goes through the same protocol as real ratings;
`make_twin` has exactly the sizes of a data set of the paper, at any size. In both, items have a
long-tailed popularity, and users a taste that drifts from one point to another while they rate.
"""

import numpy as np
import pandas as pd

from DiffRec.engine.errors import InputError
from DiffRec.preparation.protocol import Split, cut, finish, per_user
from DiffRec.preparation.tables import Database


def make_ratings(
    n_users: int = 1500, n_items: int = 900, mean_ratings: int = 110, seed: int = 1
) -> pd.DataFrame:
    """A table with the columns user, item, rating (1 to 5) and timestamp, users ascending.

    Items and users have latent vectors. What a user rates next is drawn by popularity and taste;
    the rating follows the taste alone, with noise.
    """
    random = np.random.default_rng(seed)
    n_factors = 12
    popularity = -0.9 * np.log(1 + random.permutation(n_items))  # Zipf's law, in logarithms
    genre = random.normal(size=(n_items, n_factors)) / np.sqrt(n_factors)
    taste_before = random.normal(size=(n_users, n_factors))
    taste_after = 0.7 * taste_before + np.sqrt(1 - 0.7**2) * random.normal(size=taste_before.shape)
    lengths = np.exp(random.normal(np.log(mean_ratings) - 0.32, 0.8, size=n_users)).astype(int)
    lengths = lengths.clip(20, n_items // 2)

    tables = []
    for user in range(n_users):
        n = lengths[user]
        affinity = np.stack([taste_before[user], taste_after[user]]) @ genre.T  # (2, I)
        # Half of the ratings come from either end of the drift: the n items with the highest keys
        # are a draw without replacement (Gumbel's trick), the two halves in that order.
        keys = popularity + 2.2 * affinity + random.gumbel(size=(2, n_items))
        early = np.argpartition(-keys[0], n // 2)[: n // 2]
        keys[1, early] = -np.inf
        late = np.argpartition(-keys[1], n - n // 2)[: n - n // 2]
        items = np.concatenate([random.permutation(early), random.permutation(late)])
        now = np.concatenate([affinity[0, early], affinity[1, late]])
        liking = 2.75 + 0.8 * now + random.normal(0, 0.8, size=n)
        start = random.integers(956_703_932, 1_046_454_590)  # ML-1M's span of seconds
        tables.append(
            pd.DataFrame(
                {
                    "user": user + 1,
                    "item": items + 1,
                    "rating": liking.round().clip(1, 5).astype(int),
                    "timestamp": start + np.cumsum(random.integers(1, 90, size=n)),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


N_GENRES, N_FAVOURITES = 60, 4
START, SPAN = 956_703_932, 89_750_658  # ML-1M's first second, and its length


def history_lengths(random: np.random.Generator, n_users: int, total: int, most: int) -> np.ndarray:
    """Log-normal lengths, (n_users,), that sum to ``total``; none is above ``most``."""
    least = max(min(10, total // n_users), 1)
    if total < n_users or total > n_users * most:
        raise InputError(
            f"{total} interactions do not fit {n_users} users with at most {most} each."
        )
    weights = np.exp(random.normal(0, 1, size=n_users))
    lengths = least + (weights / weights.sum() * (total - least * n_users)).astype(np.int64)
    lengths = lengths.clip(max=most)
    while lengths.sum() < total:
        free = np.flatnonzero(lengths < most)
        some = random.choice(free, min(total - lengths.sum(), len(free)), replace=False)
        lengths[some] += 1
    return lengths


def make_twin(
    n_users: int, n_items: int, n_interactions: int, noisy: float = 0.0, seed: int = 1
) -> Split:
    """A data set of exactly these sizes, split as the released files are.

    Items belong to genres and have Zipf's popularity. A user has a few favourite genres at the
    beginning and others at the end; the further a history has gone, the more is drawn from the
    latter. noisy: share of the interactions in train and validation that follow popularity alone
    and have ratings below 4; all others have 4 or 5.
    """
    random = np.random.default_rng(seed)
    lengths = history_lengths(random, n_users, n_interactions, most=n_items // 2)
    users = np.repeat(np.arange(n_users), lengths)
    starts = np.cumsum(lengths) - lengths
    progress = (np.arange(n_interactions) - starts[users]) / np.maximum(lengths[users] - 1, 1)
    database = Database()
    at = database.schema()
    rows = np.arange(n_interactions)
    database.insert(f"{at}.kept", row=rows, user_no=users, time=rows, item_no=rows, rating=rows)
    cut(database, at, per_user((7, 1, 2), ("train", "test", "valid")))
    split = database.arrays(f"SELECT split FROM {at}.cut ORDER BY row")["split"]

    genre = np.sort(random.integers(N_GENRES, size=n_items))  # items of a genre stand together
    popularity = 1 / (1 + random.permutation(n_items)) ** 0.8
    mass = np.r_[0, np.cumsum(popularity)]
    edge = np.searchsorted(genre, np.arange(N_GENRES + 1))
    favourites = random.integers(N_GENRES, size=(2, n_users, N_FAVOURITES))
    is_noise = (split != 2) & (random.random(n_interactions) < noisy)

    def draw(rows: np.ndarray) -> np.ndarray:
        """An item for each row: of a favourite genre, or of all (noise, a fifth of the rest)."""
        late = (random.random(len(rows)) < progress[rows]).astype(int)
        liked = favourites[late, users[rows], random.integers(N_FAVOURITES, size=len(rows))]
        low, high = mass[edge[liked]], mass[edge[liked + 1]]
        anything = is_noise[rows] | (random.random(len(rows)) < 0.2) | (low == high)
        low, high = np.where(anything, 0, low), np.where(anything, mass[-1], high)
        point = low + random.random(len(rows)) * (high - low)
        return np.searchsorted(mass, point, side="right").clip(1, n_items) - 1

    # Every item gets one interaction in train; the others are drawn until no pair is repeated.
    in_train = np.flatnonzero(split == 0)
    if len(in_train) < n_items:
        raise InputError(f"{len(in_train)} train interactions cannot show all {n_items} items.")
    items = np.full(n_interactions, -1, dtype=np.int64)
    items[random.choice(in_train, n_items, replace=False)] = random.permutation(n_items)
    fixed = items >= 0
    rounds = 0
    while (missing := np.flatnonzero(items < 0)).size:
        rounds += 1
        # Whoever has nearly all of the favourites left to draw takes anything in the end.
        items[missing] = (
            draw(missing) if rounds < 40 else random.integers(n_items, size=missing.size)
        )
        keys = users * n_items + items
        order = np.lexsort((~fixed, keys))
        repeated = order[1:][keys[order][1:] == keys[order][:-1]]
        items[repeated] = -1
        fixed = items >= 0

    ratings = random.choice([4, 5], n_interactions, p=[0.6, 0.4])
    ratings[is_noise] = random.choice([1, 2, 3], is_noise.sum(), p=[0.15, 0.25, 0.6])
    first = START + random.integers(SPAN // 2, size=n_users)
    times = first[users] + (progress * random.integers(SPAN // 2, size=n_users)[users]).astype(int)
    database.run(f"DROP TABLE {at}.cut")
    database.insert(
        f"{at}.cut", row=rows, user_no=users, item_no=items, rating=ratings.astype(np.float32),
        time=times, noise=np.zeros(n_interactions, np.int8), split=split,
    )  # fmt: skip
    return finish(database, at, np.arange(n_users) + 1, np.arange(n_items) + 1)
