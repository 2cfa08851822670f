"""Evaluate a DiffRec checkpoint, or recommend with it:

python DiffRec/inference.py --dataset ml-1m_clean          what lies in checkpoints/DiffRec
python DiffRec/inference.py --checkpoint FILE              any file, released or our own
"""

import functools
from pathlib import Path

from DiffRec import experiment, options
from DiffRec.inference_run import Variant, infer
from DiffRec.recommender import DiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.inference_run.infer`."""
    make_parser = functools.partial(options.make_parser, __doc__, FOLDER)
    variant = Variant(DiffRec, make_parser, FOLDER / "presets" / "DiffRec.toml")
    return infer([variant], argv)


if __name__ == "__main__":
    experiment.command(main)
