"""What every command of the baselines is told: which of them it is about."""

from typing import Annotated

from pydantic import AfterValidator

from baselines.models import MODELS
from baselines.recommender import Baseline
from DiffRec.engine.settings import Folder, InferenceOptions, RunOptions, Settings, setting
from DiffRec.engine.variant import REGISTRY


def a_baseline(name: str) -> str:
    """One that is registered."""
    if name in REGISTRY and not issubclass(REGISTRY[name].model, Baseline):
        raise ValueError("must be a baseline: others have a command of their own, by train_by")
    if name not in REGISTRY:
        raise ValueError(f"must be one of {', '.join(MODELS)}, or one that from_file registers")
    return name


class ModelOptions(Settings):
    """Which baseline."""

    title = "model"
    model: Annotated[str, AfterValidator(a_baseline)] | None = setting(
        None, f"which model: {', '.join(MODELS)}; a checkpoint tells its own"
    )
    from_file: Folder | None = setting(
        None, "a Python file that registers models of your own (docs/extending.md)"
    )


class BaselineOptions(ModelOptions, RunOptions):
    """Which baseline is trained, and where."""


class BaselineInferenceOptions(ModelOptions, InferenceOptions):
    """What a trained baseline is asked for."""
