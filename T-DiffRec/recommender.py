"""T-DiffRec and LT-DiffRec: DiffRec and L-DiffRec on time-weighted interactions (Section 3.6)."""

from pathlib import Path

from DiffRec import Dataset, DiffRec, Interactions
from DiffRec.errors import InputError
from L_DiffRec import LDiffRec
from T_DiffRec.data_utils import TemporalDataset, order_by_time, time_weights, weigh


class TimeAware:
    """Mixed into a model: its input, and with it its target, is x̄_0 = x_0 ⊙ w̄ (Eq. 16)."""

    settings: dict

    def prepare_data(self, dataset: Dataset) -> TemporalDataset:
        if self.settings["timestamps"]:
            if self.settings["random_noise"]:
                raise InputError("random_noise has no times: it does not go with timestamps.")
            dataset = order_by_time(dataset, Path(self.settings["timestamps"]))
        return weigh(dataset, self.settings)

    def weigh(self, history: Interactions) -> Interactions:
        """Weights by the order of a history that has none yet."""
        if history.values is not None:
            return history
        settings = self.settings
        how = settings["w_min"], settings["w_max"], settings["w_schedule"]
        return history.with_values(time_weights(history, *how))


class TDiffRec(TimeAware, DiffRec):
    """T-DiffRec: diffusion on time-weighted interactions."""

    variant = "T-DiffRec"


class LTDiffRec(TimeAware, LDiffRec):
    """LT-DiffRec: latent diffusion on time-weighted interactions."""

    variant = "LT-DiffRec"
