"""RP³β (Paudel et al. 2017): three-step random walks, popular items weighed down."""

from typing import ClassVar

import numpy as np
import scipy.sparse

from baselines.recommender import ItemItem, largest_per_column, nearest
from DiffRec.engine.settings import NotNegative, Positive, Settings, setting


class RP3betaSettings(Settings):
    """RP3beta."""

    title = "RP3beta"
    alpha: NotNegative = setting(1.0, "power of the walk's probabilities")
    beta: NotNegative = setting(0.6, "power of an item's popularity, by which it is divided")
    neighbors: Positive = setting(100, "k, how many weights an item keeps, to others and from them")
    normalize: bool = setting(True, "scale each item's weights to sum to 1")


class RP3beta(ItemItem):
    """W_ij = Σ_u P_iu^α P_uj^α / |N_j|^β with the walk's probabilities P_iu = 1/|N_i| and
    P_uj = 1/|N_u|; item i keeps its k largest W_ij, itself left out, and with ``normalize`` they
    are scaled to sum to 1; of these each column keeps its k largest; score x W. Weighted
    interactions (``w_at``) are walked along with probabilities of their share, w_ui / Σ_i w_ui;
    popularity counts users.

    Source: the code of Ferrari Dacrema et al. 2019, its defaults and ranges.
    """

    variant = "RP3beta"
    Settings = RP3betaSettings
    ranges: ClassVar = {
        "alpha": [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0],
        "beta": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0],
        "neighbors": [20, 50, 100, 200, 500, 1000],
        "normalize": [False, True],
    }

    def similarities(self, x: scipy.sparse.csr_matrix) -> scipy.sparse.spmatrix:
        alpha, beta = self.settings.alpha, self.settings.beta
        from_users, to_users = shares(x, alpha), shares(x.T.tocsr(), alpha)
        penalty = np.maximum(x.getnnz(axis=0), 1.0) ** -beta

        def block(start: int, stop: int) -> np.ndarray:
            walks = (to_users[start:stop] @ from_users).toarray() * penalty
            walks[np.arange(stop - start), np.arange(start, stop)] = 0
            return walks

        found = nearest(self.n_items, block, self.settings.neighbors)
        if self.settings.normalize:
            found = shares(found)
        return largest_per_column(found, self.settings.neighbors)


def shares(weights: scipy.sparse.spmatrix, power: float = 1.0) -> scipy.sparse.csr_matrix:
    """Each row's weights, scaled to sum to 1, to this power."""
    sums = np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1e-12)
    found = (scipy.sparse.diags(1 / sums) @ weights).tocsr()
    found.data **= power
    return found
