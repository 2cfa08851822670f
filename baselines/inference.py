"""Evaluate a checkpoint of a baseline, or recommend with it:

python baselines/inference.py --checkpoint FILE
"""

import sys

from baselines import known, named
from DiffRec.engine.commands import command
from DiffRec.engine.inference import infer
from DiffRec.engine.variant import variant_of


def main(argv: list[str] | None = None) -> dict | None:
    """See `DiffRec.engine.inference.infer`."""
    argv = sys.argv[1:] if argv is None else argv
    name = named(argv)
    return infer([variant_of(name)] if name else known(), argv, __doc__)


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
