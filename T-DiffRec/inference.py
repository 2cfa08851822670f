"""Evaluate a T-DiffRec or LT-DiffRec checkpoint, or recommend with it:

python T-DiffRec/inference.py --dataset yelp_clean             what lies in checkpoints/T-DiffRec
python T-DiffRec/inference.py --dataset yelp_clean --latent    what lies in checkpoints/LT-DiffRec
python T-DiffRec/inference.py --checkpoint FILE                any file, released or our own
"""

import functools
from pathlib import Path

from DiffRec import experiment
from DiffRec.inference_run import Variant, infer
from T_DiffRec import options
from T_DiffRec.recommender import LTDiffRec, TDiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.inference_run.infer`."""
    variants = [
        Variant(
            model,
            functools.partial(options.make_parser, __doc__, FOLDER, latent),
            FOLDER / "presets" / f"{model.variant}.toml",
            latent,
        )
        for model, latent in ((TDiffRec, False), (LTDiffRec, True))
    ]
    return infer(variants, argv)


if __name__ == "__main__":
    experiment.command(main)
