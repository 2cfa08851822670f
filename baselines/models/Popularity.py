"""The same list for everyone: items by how many users have them."""

from collections.abc import Mapping

import torch

from baselines.recommender import ClosedForm
from DiffRec import Interactions
from DiffRec.engine.tensors import Expected
from DiffRec.evaluate_utils import Scorer


class Popularity(ClosedForm):
    """score = |N_i|, the number of train interactions of item i."""

    variant = "Popularity"
    reads_weights = False
    fitted = ("counts",)

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        return {"counts": Expected((self.n_items,))}

    def fit(self, train: Interactions) -> None:
        self.counts = torch.bincount(train.items, minlength=self.n_items).float()

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        nothing = torch.zeros(self.n_items, 1, device=self.device)
        return lambda batch: nothing.new_zeros(len(batch), 1), nothing, self.counts
