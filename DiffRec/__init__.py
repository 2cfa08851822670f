"""DiffRec (Wang et al., SIGIR 2023), and the engine that its extensions and the baselines use."""

from pathlib import Path

from DiffRec.data_utils import Dataset, load_dataset
from DiffRec.engine.contract import Recommender
from DiffRec.engine.errors import InputError
from DiffRec.engine.run import Run, train
from DiffRec.engine.variant import Variant, register
from DiffRec.evaluate_utils import compare, evaluate
from DiffRec.interactions import Interactions
from DiffRec.recommender import DiffRec
from DiffRec.released import read_released

__all__ = [
    "DiffRec", "load_dataset", "train", "evaluate", "compare",
    "Dataset", "Interactions", "Recommender", "Run", "InputError",
]  # fmt: skip

FOLDER = Path(__file__).resolve().parent
# As in the names of the released checkpoints.
RUN_NAME = {
    "lr": "lr", "wd": "weight_decay", "bs": "batch_size", "dims": "dims", "emb": "emb_size",
    "": "mean_type", "steps": "steps", "scale": "noise_scale", "min": "noise_min",
    "max": "noise_max", "sample": "sampling_steps", "reweight": "reweight",
}  # fmt: skip
register(
    Variant(
        DiffRec,
        FOLDER,
        FOLDER / "presets" / "DiffRec.toml",
        run_name=RUN_NAME,
        read_released=read_released,
    )
)
