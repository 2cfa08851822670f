"""Evaluate a trained DiffRec: python DiffRec/inference.py --checkpoint FILE"""

from pathlib import Path

from DiffRec import checkpoints, experiment, options
from DiffRec.recommender import DiffRec


def make_parser() -> options.Parser:
    parser = options.Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what training wrote")
    parser.add_argument("--batch_size", type=options.POSITIVE, default=400)
    parser.add_argument("--result_json", type=Path, help="write settings and metrics to this file")
    parser.add_argument("--sampling_steps", type=int, help="T', if not as trained")
    options.add_data_options(parser)
    options.add_machine_options(parser)
    options.add_evaluation_options(parser)
    return parser


def main(argv: list[str] | None = None) -> dict:
    """Load, evaluate and report; returns the record that --result_json writes."""
    args = make_parser().parse_args(argv)
    options.check(args)
    header, weights = checkpoints.load(args.checkpoint)
    checkpoints.require_variant(args.checkpoint, header, DiffRec.variant)
    if args.sampling_steps is not None:
        header["settings"]["sampling_steps"] = args.sampling_steps
    model = DiffRec(header["data"]["items"], header["settings"])
    checkpoints.fill(model, weights, args.checkpoint)
    return experiment.infer(model, header, args.checkpoint, args)


if __name__ == "__main__":
    experiment.command(main)
