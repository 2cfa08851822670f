"""Train and evaluate a baseline: python baselines/main.py --model MultiVAE --dataset ml-1m_clean

--help lists the flags of MultiVAE, and with --model NAME those of that one."""

import sys
from pathlib import Path

import numpy as np

from baselines import wanted
from DiffRec.data_utils import find_dataset
from DiffRec.engine.commands import command, parse, train_by
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import written_whole
from DiffRec.engine.settings import RunOptions


def embedding_file(options: RunOptions) -> Path | None:
    """Where --export_item_emb goes, if asked for; what is there already is not overwritten."""
    path = getattr(options, "export_item_emb", False)
    if path is False:
        return None
    if path is True:
        path = find_dataset(options.dataset, options.data_path)[1] / "item_emb.npy"
    if path.exists():
        raise InputError(f"{path} is there already: remove it, or name another file.")
    return path


def main(argv: list[str] | None = None) -> dict:
    """See `DiffRec.engine.commands.train_by`; and write item embeddings, if asked for."""
    argv = sys.argv[1:] if argv is None else argv
    variant = wanted(argv)
    _, options = parse(variant, argv, __doc__)
    embeddings = embedding_file(options)  # before hours of training
    record = train_by(variant, argv, __doc__)
    if embeddings:
        folder = options.save_path or variant.saved_models
        best = variant.model.load(folder / record["checkpoint"])
        found = best.item_embeddings(options.item_emb).numpy()
        with written_whole(embeddings) as temporary, temporary.open("wb") as file:
            np.save(file, found)
        print(f"{embeddings}: {options.item_emb} embeddings, {found.shape}")
    return record


def console() -> None:
    command(main)


if __name__ == "__main__":
    console()
