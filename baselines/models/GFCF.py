"""GF-CF (Shen et al. 2021): collaborative filtering as a low-pass filter on the item graph."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import scipy.sparse.linalg
import torch

from baselines.graph import GRAPH, expected_graph, graph_of, normalised, through_graph
from baselines.recommender import ClosedForm
from DiffRec import InputError, Interactions
from DiffRec.engine.settings import NotNegative, Positive, Settings, setting
from DiffRec.engine.tensors import Expected
from DiffRec.evaluate_utils import Scorer


class GFCFSettings(Settings):
    """GF-CF."""

    title = "GF-CF"
    gamma: NotNegative = setting(0.3, "gamma, the weight of the ideal low-pass filter")
    rank: Positive = setting(256, "r, the number of singular vectors of that filter")


class GFCF(ClosedForm):
    """score x (R̂ᵀ R̂ + γ D_i^-½ V Vᵀ D_i^½) with R̂ = D_u^-½ R D_i^-½ and V, (I, r), its r
    largest right singular vectors: a linear filter, and an ideal low-pass one.

    Source: the authors' code; its run on Amazon-book has γ = 0. The item × item matrix is never
    built: R̂ and V are kept.
    """

    variant = "GF-CF"
    Settings = GFCFSettings
    fitted = (*GRAPH, "vectors", "root_degree")
    read_later = ("gamma",)
    ranges: ClassVar = {
        "gamma": [0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0],
        "rank": [32, 64, 128, 256, 512],
    }

    def size(self) -> int:
        return 0 if self.vectors is None else self.vectors.numel()

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        own = {"vectors": Expected((self.n_items, "r")), "root_degree": Expected((self.n_items,))}
        return {**expected_graph(self.n_users, self.n_items), **own}

    def fit(self, train: Interactions) -> None:
        x = train.matrix()
        scaled = normalised(x)
        rank = min(self.settings.rank, min(x.shape) - 1)
        if rank < 1:
            raise InputError("GF-CF needs at least two users and two items.")
        start = np.random.default_rng(0).random(min(x.shape))
        _, _, vectors = scipy.sparse.linalg.svds(scaled, rank, v0=start)
        degree = np.maximum(np.asarray(x.sum(axis=0)).ravel(), 1)
        graph = graph_of(scaled)
        graph["vectors"] = torch.from_numpy(vectors.T.astype(np.float32, order="C"))
        graph["root_degree"] = torch.from_numpy(degree.astype(np.float32)).sqrt()
        for name, tensor in graph.items():
            setattr(self, name, tensor.to(self.device))

    def scorer(self) -> Scorer:
        def score(batch: Interactions) -> torch.Tensor:
            x = batch.dense()
            linear = through_graph(self, x)
            ideal = ((x / self.root_degree) @ self.vectors @ self.vectors.T) * self.root_degree
            return (linear + self.settings.gamma * ideal).contiguous()

        return score
