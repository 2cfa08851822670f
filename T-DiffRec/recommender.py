"""T-DiffRec and LT-DiffRec: DiffRec and L-DiffRec on time-weighted interactions (Section 3.6)."""

from typing import ClassVar

from DiffRec import Dataset, DiffRec, Interactions
from DiffRec.engine.settings import Between, Ranges
from L_DiffRec import LDiffRec
from T_DiffRec.data_utils import TemporalDataset, check_weights, time_weights, weigh
from T_DiffRec.settings import LTDiffRecSettings, TDiffRecSettings, TimeSettings


class TimeAware:
    """Mixed into a model: its input, and with it its target, is x̄_0 = x_0 ⊙ w̄ (Eq. 16)."""

    settings: TimeSettings

    def make(self, settings: TimeSettings) -> None:
        check_weights(settings.w_min, settings.w_max, settings.w_schedule)
        super().make(settings)

    def prepare_data(self, dataset: Dataset) -> TemporalDataset:
        s = self.settings
        return weigh(dataset, s.w_min, s.w_max, s.w_schedule, s.w_valid)

    def weigh(self, history: Interactions) -> Interactions:
        """Weights by the order of a history that has none yet."""
        if history.values is not None:
            return history
        s = self.settings
        return history.with_values(time_weights(history, s.w_min, s.w_max, s.w_schedule))


class TDiffRec(TimeAware, DiffRec):
    """T-DiffRec: diffusion on time-weighted interactions."""

    variant = "T-DiffRec"
    Settings = TDiffRecSettings
    ranges: ClassVar[Ranges] = {"w_min": Between(0.01, 0.5, log=True), **DiffRec.ranges}


class LTDiffRec(TimeAware, LDiffRec):
    """LT-DiffRec: latent diffusion on time-weighted interactions."""

    variant = "LT-DiffRec"
    Settings = LTDiffRecSettings
    ranges: ClassVar[Ranges] = {"w_min": Between(0.01, 0.5, log=True), **LDiffRec.ranges}
