"""T-DiffRec and LT-DiffRec: DiffRec and L-DiffRec on time-weighted interactions (Section 3.6)."""

import torch

from DiffRec import Dataset, DiffRec, Interactions
from L_DiffRec import LDiffRec
from T_DiffRec.data_utils import TemporalDataset, time_weights, weigh


class TimeAware:
    """Mixed into a model: its input, and with it its target, is x̄_0 = x_0 ⊙ w̄ (Eq. 16)."""

    settings: dict
    n_items: int

    def prepare_data(self, dataset: Dataset) -> TemporalDataset:
        return weigh(dataset, self.settings)

    def recommend(
        self, history: Interactions | list[list[int]], *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Recommender.recommend`; histories without weights get those of their order."""
        if not isinstance(history, Interactions):
            history = Interactions.from_histories(history, self.n_items)
        if history.values is None:
            settings = self.settings
            how = settings["w_min"], settings["w_max"], settings["w_schedule"]
            history = history.with_values(time_weights(history, *how))
        return super().recommend(history, *args, **kwargs)


class TDiffRec(TimeAware, DiffRec):
    """T-DiffRec: diffusion on time-weighted interactions."""

    variant = "T-DiffRec"


class LTDiffRec(TimeAware, LDiffRec):
    """LT-DiffRec: latent diffusion on time-weighted interactions."""

    variant = "LT-DiffRec"
