"""Evaluate a T-DiffRec or LT-DiffRec checkpoint, or recommend with it:

python T-DiffRec/inference.py --dataset yelp_clean             what lies in checkpoints/T-DiffRec
python T-DiffRec/inference.py --dataset yelp_clean --latent    what lies in checkpoints/LT-DiffRec
python T-DiffRec/inference.py --checkpoint FILE                any file, released or our own
"""

import sys

from DiffRec.engine.commands import command
from DiffRec.engine.inference import infer
from T_DiffRec import variants


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.engine.inference.infer`."""
    argv = sys.argv[1:] if argv is None else argv
    return infer(variants(argv), argv, __doc__)


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
