"""The methods that the paper compares with, and simple ones that it should have compared with."""

import functools
from collections.abc import Sequence
from pathlib import Path

from baselines.models import MODELS
from baselines.recommender import Baseline
from baselines.settings import BaselineInferenceOptions, BaselineOptions, ModelOptions
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser
from DiffRec.engine.settings import DataSettings, TrainingSettings, joined
from DiffRec.engine.variant import (
    REGISTRY,
    Variant,
    read_presets,
    register,
    register_from,
    settings_of,
    variant_of,
)
from T_DiffRec.settings import RecencySettings

__all__ = ["MODELS", "Baseline", "known", "named", "variant_for", "wanted"]

FOLDER = Path(__file__).resolve().parent
PRESETS = FOLDER / "presets" / "baselines.toml"
EXAMPLE = "MultiVAE"  # whose flags --help lists when no model is named


def presets_of(model: type[Baseline]) -> dict[str, dict]:
    """A model's settings for each data set: the fixed ones, and those chosen on validation."""
    chosen, fixed = read_presets(PRESETS).get(model.variant, {}), model.fixed_presets()
    return {
        dataset: {**fixed.get(dataset, {}), **chosen.get(dataset, {})}
        for dataset in {**chosen, **fixed}
    }


def run_name(model: type[Baseline]) -> dict[str, str | None]:
    """What stands before each setting in the names of runs: the model, and its own settings."""
    everyones = TrainingSettings.names() | DataSettings.names() | RecencySettings.names()
    own = settings_of(model).names() - everyones
    shared = {} if model.closed_form else {"bs": "batch_size"}
    return {model.variant: None, **shared, **{name: name for name in sorted(own)}}


def variant_for(model: type[Baseline]) -> Variant:
    return Variant(
        model, FOLDER, functools.partial(presets_of, model),
        flags=("--model", model.variant), run_name=run_name(model),
        options=joined(f"{model.__name__}Options", model.Options, BaselineOptions),
        inference_options=BaselineInferenceOptions,
        read_released=model.read_published,
        presets_file=PRESETS if model.__module__.startswith(f"{__name__}.") else None,
        section=(model.variant,),
        group=model.group,
    )  # fmt: skip


register(*map(variant_for, MODELS.values()))


def named(argv: Sequence[str]) -> str | None:
    """The model that --model names, if it is given; those of --from_file are registered."""
    parser = Parser(add_help=False)
    parser.add_settings(ModelOptions)
    told = vars(parser.parse_known_args(argv)[0])
    own = ModelOptions.of({**told, "model": None}).from_file
    if own:
        register_from(own)
    return ModelOptions.of(told).model


def known() -> list[Variant]:
    """All baselines that are registered."""
    return [variant for variant in REGISTRY.values() if issubclass(variant.model, Baseline)]


def wanted(argv: Sequence[str]) -> Variant:
    """The model to train, on which the other flags depend."""
    name = named(argv)
    if name is None and not {"-h", "--help"} & set(argv):
        raise InputError(
            f"name a model with --model: {', '.join(model.name for model in known())}."
        )
    return variant_of(name or EXAMPLE)
