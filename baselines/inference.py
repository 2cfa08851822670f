"""Evaluate a checkpoint of a baseline, or recommend with it:

python baselines/inference.py --checkpoint FILE
"""

from baselines import MODELS
from DiffRec.engine.commands import command
from DiffRec.engine.inference import infer
from DiffRec.engine.variant import variant_of


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.engine.inference.infer`."""
    return infer([variant_of(name) for name in MODELS], argv, __doc__)


if __name__ == "__main__":
    command(main)
