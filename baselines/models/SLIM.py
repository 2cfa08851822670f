"""SLIM (Ning & Karypis 2011): sparse linear item weights, a regression for each item."""

import warnings
from typing import ClassVar

import numpy as np
import scipy.sparse
from tqdm import tqdm

from baselines.recommender import ItemItem
from DiffRec.engine.settings import Positive, Rate, Settings, Share, setting


class SLIMSettings(Settings):
    """SLIM."""

    title = "SLIM"
    alpha: Rate = setting(0.2, "strength of the penalty on the weights")
    l1_ratio: Share = setting(0.02, "share of the L1 norm in the penalty")
    max_iter: Positive = setting(100, "iterations for each item at most")


class SLIM(ItemItem):
    """For each item j, with x_j its column of X (Eq. 4 of the source, scaled as in scikit-learn),

        w_j = argmin 1/(2U) ‖x_j - X w‖² + α (1 - ρ)/2 ‖w‖² + α ρ ‖w‖₁,   w ≥ 0, w_jj = 0

    and score x W. α is ``alpha``, ρ is ``l1_ratio``; defaults as in RecBole, whose
    solver goes on to a tolerance of 1e-4, not 1e-3. It solves I problems
    over all interactions, by scikit-learn: seconds on ML-1M, hours on the larger data sets.
    """

    variant = "SLIM"
    Settings = SLIMSettings
    ranges: ClassVar = {
        "alpha": [0.001, 0.003, 0.01, 0.03, 0.1, 0.2],
        "l1_ratio": [0.001, 0.003, 0.01, 0.02, 0.05, 0.1],
    }

    def similarities(self, x: scipy.sparse.csr_matrix) -> scipy.sparse.spmatrix:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import ElasticNet  # here, since it takes a second and 100 MB

        settings = self.settings
        model = ElasticNet(
            alpha=settings.alpha, l1_ratio=settings.l1_ratio, positive=True,
            fit_intercept=False, copy_X=False, max_iter=settings.max_iter, tol=1e-3,
        )  # fmt: skip
        x = x.astype(np.float64).tocsc()
        columns = []
        for j in tqdm(range(self.n_items), desc="SLIM", unit="item", leave=False, disable=None):
            own = slice(x.indptr[j], x.indptr[j + 1])
            kept, target = x.data[own].copy(), x[:, [j]].toarray().ravel()
            x.data[own] = 0  # the item itself may not explain it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, target)
            x.data[own] = kept
            columns.append(scipy.sparse.csc_matrix(model.coef_.astype(np.float32)[:, None]))
        return scipy.sparse.hstack(columns)
