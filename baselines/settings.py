"""What every command of the baselines is told: which of them it is about."""

from typing import Literal

from baselines.models import MODELS
from DiffRec.engine.settings import RunOptions, Settings, setting


class ModelOptions(Settings):
    """Which baseline."""

    title = "model"
    model: Literal[tuple(MODELS)] | None = setting(
        None, f"the model to train, which must be named: {', '.join(MODELS)}"
    )


class BaselineOptions(ModelOptions, RunOptions):
    """Which baseline is trained, and where."""
