"""Matrix factorisation trained by Bayesian personalised ranking (Rendle et al. 2009)."""

from typing import ClassVar

import torch

from baselines.recommender import Pairwise, PairwiseSettings, Triple
from DiffRec.engine.settings import Share, setting
from DiffRec.models.layers import Dropout


class MFSettings(PairwiseSettings):
    """MF."""

    title = "MF"
    dropout: Share = setting(0.0, "rate of dropout on the embeddings", in_training=True)


class MF(Pairwise):
    """Score e_u · e_i, without biases.

    Source: the ``PureMF`` of LightGCN-PyTorch, but for the first embeddings' standard deviation of
    0.1 (there 1, with which it learns slowly and badly). The paper searches a rate of dropout that
    no known code has; here it is on the embeddings, drawn anew for each vector of each triple.
    """

    variant = "MF"
    Settings = MFSettings
    group = "paper"
    ranges: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "weight_decay": [1e-6, 1e-5, 1e-4],
        "dropout": [0.1, 0.2, 0.3, 0.4, 0.5],
    }

    def make(self, settings: MFSettings) -> None:
        super().make(settings)
        self.dropout = Dropout(settings.dropout)

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.users, self.items

    def vectors_of(
        self, u: torch.Tensor, i: torch.Tensor, j: torch.Tensor
    ) -> tuple[Triple, Triple]:
        """Dropout on what was drawn: on whole tables it would cost far more than all the rest."""
        drawn = self.users[u], self.items[i], self.items[j]
        return tuple(map(self.dropout, drawn)), drawn
