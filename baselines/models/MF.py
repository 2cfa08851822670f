"""Matrix factorisation trained by Bayesian personalised ranking (Rendle et al. 2009)."""

import argparse
from typing import ClassVar

import torch

from baselines.recommender import Pairwise
from DiffRec import options
from DiffRec.models.layers import Dropout


class MF(Pairwise):
    """Score e_u · e_i, without biases.

    Source: the ``PureMF`` of LightGCN-PyTorch, but for the first embeddings' standard deviation of
    0.1 (there 1, with which it learns slowly and badly). The paper searches a rate of dropout that
    no known code has; here it is on the embeddings.
    """

    variant = "MF"
    grid: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "weight_decay": [1e-6, 1e-5, 1e-4],
        "dropout": [0.1, 0.2, 0.3, 0.4, 0.5],
    }

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        Pairwise.add_options(group)
        group.add_argument("--dropout", type=options.rate_below_1, default=0.0, help="on them")

    def make(self, settings: dict) -> None:
        super().make(settings)
        self.dropout = Dropout(settings["dropout"])

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.dropout(self.users), self.dropout(self.items)
