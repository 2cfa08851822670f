"""T-DiffRec and LT-DiffRec: interactions weighted by recency (Section 3.6)."""

from pathlib import Path

import DiffRec
import L_DiffRec
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser
from DiffRec.engine.variant import Variant, register, variant_of
from T_DiffRec.data_utils import order_by_time
from T_DiffRec.recommender import LTDiffRec, TDiffRec
from T_DiffRec.released import read_lt_diffrec, read_t_diffrec
from T_DiffRec.settings import LatentTimeOptions, OrderOptions, TimeInferenceOptions, TimeOptions

__all__ = ["LTDiffRec", "TDiffRec", "order_by_time"]

FOLDER = Path(__file__).resolve().parent
WEIGHTS = {"wmin": "w_min", "wmax": "w_max"}


def prepare(dataset: DiffRec.Dataset, options: OrderOptions) -> DiffRec.Dataset:
    """The data in the order of --timestamps, if there are any."""
    if options.timestamps is None:
        return dataset
    if dataset.random_noise:
        raise InputError("random_noise has no times: it does not go with timestamps.")
    return order_by_time(dataset, options.timestamps)


register(
    Variant(
        TDiffRec, FOLDER, FOLDER / "presets" / "T-DiffRec.toml",
        run_name={**DiffRec.RUN_NAME, **WEIGHTS}, options=TimeOptions,
        inference_options=TimeInferenceOptions, prepare=prepare, read_released=read_t_diffrec,
    ),
    Variant(
        LTDiffRec, FOLDER, FOLDER / "presets" / "LT-DiffRec.toml", flags=("--latent",),
        run_name={**L_DiffRec.RUN_NAME, **WEIGHTS}, options=LatentTimeOptions,
        inference_options=TimeInferenceOptions, prepare=prepare, read_released=read_lt_diffrec,
        released_files=2,
    ),
)  # fmt: skip


def variants(argv: list[str]) -> list[Variant]:
    """Both models, the one that --latent asks for first; the other flags depend on it."""
    parser = Parser(add_help=False)
    parser.add_settings(OrderOptions)
    told, _ = parser.parse_known_args(argv)
    models = (LTDiffRec, TDiffRec) if OrderOptions.of(vars(told)).latent else (TDiffRec, LTDiffRec)
    return [variant_of(model.variant) for model in models]
