"""What T-DiffRec and LT-DiffRec are set by besides the model underneath: the weights of Eq. 16."""

from typing import Annotated, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from DiffRec.engine.settings import (
    Folder,
    RunOptions,
    Settings,
    ShareOrAll,
    setting,
)
from DiffRec.settings import DiffRecSettings
from L_DiffRec.settings import LatentInferenceOptions, LatentOptions, LDiffRecSettings
from T_DiffRec.data_utils import SCHEDULES, VALID_WEIGHTS, WEIGHTED_AT, check_weights


class TimeSettings(Settings):
    """Weights of the interactions (`T_DiffRec.data_utils.time_weights`)."""

    title = "time"
    idle: ClassVar = dict.fromkeys(("w_min", "w_max", "w_schedule", "w_valid"), ("w_at", "none"))
    w_at: Literal[WEIGHTED_AT] = setting(
        "both",
        "weigh interactions by recency in training and inference, at inference alone, or not",
    )
    w_min: ShareOrAll = setting(0.1, "weight of a user's oldest interaction")
    w_max: Annotated[float, Field(gt=0, le=1)] = setting(1.0, "weight of a user's latest one")
    w_schedule: Literal[SCHEDULES] = setting("linear", "how weights rise between the two")
    w_valid: Literal[VALID_WEIGHTS] = setting(
        "released",
        "with tst_w_val validation items weigh 1, as released, or one ramp is drawn over both",
    )

    @pydantic.model_validator(mode="after")
    def weights_rise(self) -> Self:
        check_weights(self.w_min, self.w_max, self.w_schedule)
        return self


class RecencySettings(TimeSettings):
    """The same for models that do without unless asked."""

    title = "time"
    defaults: ClassVar = {"w_at": "none"}


class TDiffRecSettings(TimeSettings, DiffRecSettings):
    """T-DiffRec."""

    title = "network"


class LTDiffRecSettings(TimeSettings, LDiffRecSettings):
    """LT-DiffRec."""

    title = "network"
    defaults: ClassVar = {"lamda": 0.0001}


class OrderOptions(Settings):
    """Which model, and where the times are."""

    title = "time"
    latent: bool = setting(False, "LT-DiffRec instead of T-DiffRec")
    timestamps: Folder | None = setting(
        None, "a .npy file with the time of each row of train_list, if not its order"
    )


class TimeOptions(OrderOptions, RunOptions):
    """Where a training of T-DiffRec happens."""


class LatentTimeOptions(OrderOptions, LatentOptions):
    """Where a training of LT-DiffRec happens."""


class TimeInferenceOptions(OrderOptions, LatentInferenceOptions):
    """What a trained T- or LT-DiffRec is asked for."""
