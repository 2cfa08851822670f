"""L-DiffRec: diffusion in the latent space of a VAE per item cluster (Section 3.5)."""

from pathlib import Path

from DiffRec.engine.variant import Variant, register
from L_DiffRec.recommender import LDiffRec
from L_DiffRec.released import read_released
from L_DiffRec.settings import LatentInferenceOptions, LatentOptions

__all__ = ["LDiffRec"]

FOLDER = Path(__file__).resolve().parent
# As in the names of the released checkpoints, which put "lr1" behind its value.
RUN_NAME = {
    "lr1-": "lr1", "lr2-": "lr2", "wd1-": "wd1", "wd2-": "wd2", "bs": "batch_size",
    "cate": "n_cate", "in": "in_dims", "out": "out_dims", "lam": "lamda", "dims": "mlp_dims",
    "emb": "emb_size", "": "mean_type", "steps": "steps", "scale": "noise_scale",
    "min": "noise_min", "max": "noise_max", "sample": "sampling_steps", "reweight": "reweight",
}  # fmt: skip
register(
    Variant(
        LDiffRec,
        FOLDER,
        FOLDER / "presets" / "L-DiffRec.toml",
        run_name=RUN_NAME,
        options=LatentOptions,
        inference_options=LatentInferenceOptions,
        read_released=read_released,
        released_files=2,
    )
)
