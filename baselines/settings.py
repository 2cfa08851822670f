"""What every command of the baselines is told: which of them it is about."""

from typing import Literal

from baselines.models import MODELS
from DiffRec.engine.settings import InferenceOptions, RunOptions, Settings, setting


class ModelOptions(Settings):
    """Which baseline."""

    title = "model"
    model: Literal[tuple(MODELS)] | None = setting(
        None, f"which model: {', '.join(MODELS)}; a checkpoint tells its own"
    )


class BaselineOptions(ModelOptions, RunOptions):
    """Which baseline is trained, and where."""


class BaselineInferenceOptions(ModelOptions, InferenceOptions):
    """What a trained baseline is asked for."""
