"""Train DiffRec: python DiffRec/main.py --dataset ml-1m_clean"""

from pathlib import Path

from DiffRec import experiment, options
from DiffRec.recommender import DiffRec

FOLDER = Path(__file__).resolve().parent


def make_parser() -> options.Parser:
    parser = options.make_parser(__doc__, save_path=FOLDER / "saved_models")
    options.add_optimizer_options(parser)
    options.add_network_options(parser, prefix="", dims=[1000])
    options.add_diffusion_options(parser, beta_fixed=True)
    return parser


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    args = options.parse(make_parser(), argv, FOLDER / "presets" / "DiffRec.toml")
    dataset, device = experiment.prepare(args)
    model = DiffRec(dataset.n_items, options.settings_of(args))
    name = experiment.run_name(
        dataset,
        args,
        {
            "lr": "lr", "wd": "weight_decay", "bs": "batch_size", "dims": "dims",
            "emb": "emb_size", "": "mean_type", "steps": "steps", "scale": "noise_scale",
            "min": "noise_min", "max": "noise_max", "sample": "sampling_steps",
            "reweight": "reweight",
        },
    )  # fmt: skip
    return experiment.train(model, dataset, device, args, name)


if __name__ == "__main__":
    experiment.command(main)
