"""Recency for any model of rows: what goes into it is x̄_0 = x_0 ⊙ w̄ (Eq. 16)."""

from DiffRec import Dataset, InputError, Interactions
from T_DiffRec.data_utils import time_weights, weigh
from T_DiffRec.settings import TimeSettings


class TimeAware:
    """Mixed into a model whose settings have those of `TimeSettings`.

    Attributes:
        reads_weights: whether the weights of a row change its scores.
    """

    reads_weights = True
    settings: TimeSettings

    def prepare_data(self, dataset: Dataset) -> Dataset:
        dataset, s = super().prepare_data(dataset), self.settings
        if s.w_at != "none" and not self.reads_weights:
            raise InputError(
                f"{self.variant} does not read the weights of interactions: w_at must be none."
            )
        return weigh(dataset, s.w_min, s.w_max, s.w_schedule, s.w_valid, s.w_at)

    def weigh(self, history: Interactions) -> Interactions:
        """Weights by the order of a history that has none yet."""
        s = self.settings
        if s.w_at == "none" or history.values is not None:
            return history
        return history.with_values(time_weights(history, s.w_min, s.w_max, s.w_schedule))
