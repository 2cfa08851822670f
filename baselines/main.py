"""Train and evaluate a baseline: python baselines/main.py --model MultiVAE --dataset ml-1m_clean

--help lists the flags of MultiVAE, and with --model NAME those of that one."""

import argparse
import sys
from pathlib import Path

import numpy as np

from baselines import options
from baselines.models import MODELS
from DiffRec import Dataset, experiment
from DiffRec.errors import InputError
from DiffRec.files import written_whole
from DiffRec.options import parse, settings_of


def embedding_file(args: argparse.Namespace, dataset: Dataset) -> Path | None:
    """Where --export_item_emb goes, if asked for; what is there already is not overwritten."""
    path = getattr(args, "export_item_emb", None)
    if path is None:
        return None
    if path == options.BESIDE_THE_DATA:
        path = dataset.path / "item_emb.npy"
    if path.exists():
        raise InputError(f"{path} is there already: remove it, or name another file.")
    return path


def main(argv: list[str] | None = None) -> dict:
    """Parse, build, train and report; returns the record that --result_json writes."""
    argv = sys.argv[1:] if argv is None else argv
    name = options.wanted_model(argv)
    args = parse(options.make_parser(__doc__, name), argv, options.presets_of(name))
    dataset, device = experiment.prepare(args)
    embeddings = embedding_file(args, dataset)
    model = MODELS[name](dataset.n_users, dataset.n_items, settings_of(args))
    record = experiment.train(model, dataset, device, args, options.run_name(name))
    if embeddings:
        best = MODELS[name].load(args.save_path / record["checkpoint"])
        found = best.item_embeddings(args.item_emb).numpy()
        with written_whole(embeddings) as temporary, temporary.open("wb") as file:
            np.save(file, found)
        print(f"{embeddings}: {args.item_emb} embeddings, {found.shape}")
    return record


if __name__ == "__main__":
    experiment.command(main)
