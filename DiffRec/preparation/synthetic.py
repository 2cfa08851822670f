"""Synthetic ratings with the character of ML-1M, for machines without data or network.

Items have a long-tailed popularity and a latent position; users have a latent taste that drifts
from one point to another while they rate. What a user rates next is drawn by popularity and taste;
the rating follows the taste alone, with noise.
"""

import numpy as np
import pandas as pd


def make_ratings(
    n_users: int = 1500, n_items: int = 900, mean_ratings: int = 110, seed: int = 1
) -> pd.DataFrame:
    """A table with the columns user, item, rating (1 to 5) and timestamp, in random user order."""
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
