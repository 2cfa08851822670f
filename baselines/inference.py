"""Evaluate a checkpoint of a baseline, or recommend with it:

python baselines/inference.py --checkpoint FILE
"""

import functools

from baselines import options
from baselines.models import MODELS
from DiffRec import experiment
from DiffRec.inference_run import Variant, infer


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.inference_run.infer`."""
    variants = [
        Variant(
            model, functools.partial(options.make_parser, __doc__, name), options.PRESETS,
            released=False,
        )
        for name, model in MODELS.items()
    ]  # fmt: skip
    return infer(variants, argv)


if __name__ == "__main__":
    experiment.command(main)
