"""Train L-DiffRec: python L-DiffRec/main.py --dataset ml-1m_clean"""

from pathlib import Path

from DiffRec import experiment
from DiffRec.options import parse, settings_of
from L_DiffRec import options
from L_DiffRec.recommender import LDiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    parser = options.make_parser(__doc__, FOLDER)
    args = parse(parser, argv, FOLDER / "presets" / "L-DiffRec.toml")
    dataset, device = experiment.prepare(args)
    model = LDiffRec.for_dataset(dataset, settings_of(args), args.emb_path, args.seed)
    return experiment.train(model, dataset, device, args, options.RUN_NAME)


if __name__ == "__main__":
    experiment.command(main)
