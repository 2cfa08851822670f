"""Evaluate a trained T-DiffRec or LT-DiffRec: python T-DiffRec/inference.py --checkpoint FILE"""

from DiffRec import experiment
from T_DiffRec.recommender import LTDiffRec, TDiffRec


def main(argv: list[str] | None = None) -> dict:
    """Load, evaluate and report; returns the record that --result_json writes."""
    models = {model.variant: model for model in (TDiffRec, LTDiffRec)}
    return experiment.infer(models, argv, __doc__)


if __name__ == "__main__":
    experiment.command(main)
