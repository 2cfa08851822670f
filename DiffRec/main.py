"""Train DiffRec: python DiffRec/main.py --dataset ml-1m_clean"""

from pathlib import Path

from DiffRec import experiment, options
from DiffRec.recommender import DiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    parser = options.make_parser(__doc__, FOLDER)
    args = options.parse(parser, argv, FOLDER / "presets" / "DiffRec.toml")
    dataset, device = experiment.prepare(args)
    model = DiffRec(dataset.n_items, options.settings_of(args))
    return experiment.train(model, dataset, device, args, options.RUN_NAME)


if __name__ == "__main__":
    experiment.command(main)
