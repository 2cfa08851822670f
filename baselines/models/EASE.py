"""EASE^R (Steck 2019): a linear autoencoder with zero diagonal, in closed form."""

from typing import ClassVar

import numpy as np
import scipy.linalg
import scipy.sparse

from baselines.recommender import ItemItem, require_memory
from DiffRec.engine.settings import Rate, Settings, setting


class EASESettings(Settings):
    """EASE."""

    title = "EASE"
    reg: Rate = setting(250.0, "lambda, the weight of the squared item-item weights")


class EASE(ItemItem):
    """B = argmin ‖X - X B‖² + λ ‖B‖² with diag(B) = 0, which is (Eq. 8 of the source)

        P = (Xᵀ X + λ I)⁻¹,   B_ij = -P_ij / P_jj for i ≠ j;   score x B.

    The default λ is RecBole's.
    """

    variant = "EASE"
    Settings = EASESettings
    ranges: ClassVar = {"reg": [50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0]}

    def similarities(self, x: scipy.sparse.csr_matrix) -> np.ndarray:
        n = self.n_items
        # The products of a dense data set in sparse form, 12 bytes each, and in full, 8 bytes.
        require_memory(20 * n**2 / 2**20, f"EASE's inverse of a {n:,} × {n:,} matrix")
        x = x.astype(np.float64)
        gram = (x.T @ x).toarray()
        gram[np.diag_indices(n)] += self.settings.reg
        inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False, assume_a="pos")
        inverse /= -np.diag(inverse).copy()
        inverse[np.diag_indices(n)] = 0
        return inverse.astype(np.float32)
