"""Evaluate a trained DiffRec: python DiffRec/inference.py --checkpoint FILE"""

from DiffRec import experiment
from DiffRec.recommender import DiffRec


def main(argv: list[str] | None = None) -> dict:
    """Load, evaluate and report; returns the record that --result_json writes."""
    return experiment.infer({"DiffRec": DiffRec}, argv, __doc__)


if __name__ == "__main__":
    experiment.command(main)
