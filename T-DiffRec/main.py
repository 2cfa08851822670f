"""Train T-DiffRec, or with --latent LT-DiffRec: python T-DiffRec/main.py --dataset ml-1m_clean"""

import sys
from pathlib import Path

from DiffRec import experiment
from DiffRec.options import parse, settings_of
from T_DiffRec import options
from T_DiffRec.data_utils import check_weights
from T_DiffRec.recommender import LTDiffRec, TDiffRec

FOLDER = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    argv = sys.argv[1:] if argv is None else argv
    latent = options.wants_latent(argv)
    variant = LTDiffRec.variant if latent else TDiffRec.variant
    parser = options.make_parser(__doc__, FOLDER, latent)
    args = parse(parser, argv, FOLDER / "presets" / f"{variant}.toml")
    check_weights(args.w_min, args.w_max, args.w_schedule)
    dataset, device = experiment.prepare(args)
    settings = settings_of(args)
    model = (
        LTDiffRec.for_dataset(dataset, settings, args.emb_path, args.seed)
        if latent
        else TDiffRec(dataset.n_items, settings)
    )
    return experiment.train(model, dataset, device, args, options.run_name(latent))


if __name__ == "__main__":
    experiment.command(main)
