"""Item-based nearest neighbours by shrunk cosine (Sarwar et al. 2001)."""

from typing import ClassVar

import numpy as np
import scipy.sparse

from baselines.recommender import ItemItem, nearest
from DiffRec.engine.settings import NotNegative, Positive, Settings, setting


class ItemKNNSettings(Settings):
    """ItemKNN."""

    title = "ItemKNN"
    neighbors: Positive = setting(100, "k, the number of similar items that an item keeps")
    shrink: NotNegative = setting(0.0, "added to the denominator of the cosine")


class ItemKNN(ItemItem):
    """s_ij = x_i · x_j / (‖x_i‖ ‖x_j‖ + shrink) for columns x_i of X; item j keeps the k most
    similar i, itself left out; score x S."""

    variant = "ItemKNN"
    Settings = ItemKNNSettings
    ranges: ClassVar = {
        "neighbors": [20, 50, 100, 200, 500, 1000],
        "shrink": [0.0, 10.0, 50.0, 100.0, 500.0, 1000.0],
    }

    def similarities(self, x: scipy.sparse.csr_matrix) -> scipy.sparse.spmatrix:
        shrink = self.settings.shrink
        by_item = x.T.tocsr()
        norms = np.sqrt(np.asarray(by_item.multiply(by_item).sum(axis=1)).ravel())

        def block(start: int, stop: int) -> np.ndarray:
            products = (by_item[start:stop] @ x).toarray()
            scale = norms[start:stop, None] * norms + shrink
            np.divide(products, scale, out=products, where=scale > 0)
            products[np.arange(stop - start), np.arange(start, stop)] = 0
            return products

        return nearest(self.n_items, block, self.settings.neighbors).T
