"""Evaluate a trained L-DiffRec: python L-DiffRec/inference.py --checkpoint FILE"""

from DiffRec import experiment
from L_DiffRec.recommender import LDiffRec


def main(argv: list[str] | None = None) -> dict:
    """Load, evaluate and report; returns the record that --result_json writes."""
    return experiment.infer({"L-DiffRec": LDiffRec}, argv, __doc__)


if __name__ == "__main__":
    experiment.command(main)
