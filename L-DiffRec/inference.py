"""Evaluate an L-DiffRec checkpoint, or recommend with it:

python L-DiffRec/inference.py --dataset ml-1m_clean        what lies in checkpoints/L-DiffRec
python L-DiffRec/inference.py --checkpoint FILE            any file, released or our own
"""

import functools
from pathlib import Path

from DiffRec import experiment
from DiffRec.inference_run import Variant, infer
from L_DiffRec import options
from L_DiffRec.recommender import LDiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.inference_run.infer`."""
    make_parser = functools.partial(options.make_parser, __doc__, FOLDER)
    variant = Variant(LDiffRec, make_parser, FOLDER / "presets" / "L-DiffRec.toml", latent=True)
    return infer([variant], argv)


if __name__ == "__main__":
    experiment.command(main)
