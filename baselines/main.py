"""Train and evaluate a baseline: python baselines/main.py --model MultiVAE --dataset ml-1m_clean

--help lists the flags of MultiVAE, and with --model NAME those of that one."""

import sys

import numpy as np

from baselines import options
from baselines.models import MODELS
from DiffRec import experiment
from DiffRec.files import written_whole
from DiffRec.options import parse, settings_of


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    argv = sys.argv[1:] if argv is None else argv
    name = options.wanted_model(argv)
    args = parse(options.make_parser(__doc__, name), argv, options.presets_of(name))
    dataset, device = experiment.prepare(args)
    model = MODELS[name](dataset.n_users, dataset.n_items, settings_of(args))
    record = experiment.train(model, dataset, device, args, options.run_name(name))
    if getattr(args, "export_item_emb", None):
        best = MODELS[name].load(args.save_path / record["checkpoint"])
        embeddings = best.item_embeddings(args.item_emb).numpy()
        with written_whole(args.export_item_emb) as temporary, temporary.open("wb") as file:
            np.save(file, embeddings)
        print(f"{args.export_item_emb}: {args.item_emb} embeddings, {embeddings.shape}")
    return record


if __name__ == "__main__":
    experiment.command(main)
