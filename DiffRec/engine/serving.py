"""What a trained model is used for: top-K lists in a stream, and user and item vectors."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from DiffRec.data_utils import Dataset
from DiffRec.engine.contract import Recommender, rows_at_once
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import folder_written_whole, write_safetensors, written_whole
from DiffRec.engine.filters import NO_FILTERS, Filters
from DiffRec.engine.ids import IdMap
from DiffRec.evaluate_utils import checked
from DiffRec.interactions import Interactions

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".parquet")


def check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise InputError(f"{path} must end in {' or '.join(FORMATS)}.")


def is_final(header: dict, dataset: Dataset) -> bool:
    """Whether a checkpoint's model was fitted on all three lists of the data."""
    return dataset.is_wholly(header["data"])


def rows_to_serve(
    header: dict, dataset: Dataset, model: Recommender | None = None, history_from: str = "auto"
) -> Interactions:
    """A row for each user: what a checkpoint's model is told of its users when it recommends, as
    ``InferenceOptions.history_from`` says; with validation if it is tested so. model: whose
    `Recommender.prepare_data` the data need, if any."""
    if history_from == "all" or (history_from == "auto" and is_final(header, dataset)):
        dataset = dataset.everything()
    with_valid = header["settings"].get("tst_w_val", False)
    if model is not None:
        if with_valid:
            model.require_rows("validation as input too would change nothing")
        dataset = model.prepare_data(dataset)
    return dataset.input_rows(with_valid)


def write_tables(path: Path, tables: "Iterable[pd.DataFrame]") -> int:
    """Append tables, as they come, to a new CSV or Parquet file; returns the number of rows."""
    check_format(path)
    rows = 0
    with written_whole(path) as temporary, contextlib.ExitStack() as stack:
        parquet = None
        for number, table in enumerate(tables):
            if path.suffix == ".csv":
                table.to_csv(temporary, mode="a", header=number == 0, index=False)
            else:
                import pyarrow as pa
                import pyarrow.parquet

                part = pa.Table.from_pandas(table, preserve_index=False)
                if parquet is None:
                    parquet = stack.enter_context(pa.parquet.ParquetWriter(temporary, part.schema))
                parquet.write_table(part)
            rows += len(table)
    return rows


def recommendation_tables(
    model: Recommender,
    history: Interactions,
    seen: Interactions | None,
    k: int,
    users: np.ndarray,
    items: IdMap,
    filters: Filters = NO_FILTERS,
    min_history: int = 1,
) -> "Iterator[pd.DataFrame]":
    """Tables with the columns user, rank (from 1), item, score; items that were seen are left out.
    Other arguments as those of `Recommender.recommend_batches`.

    history, seen: a row for each user; ``users``: (U,) what to call them.
    """
    import pandas as pd  # here, since it takes half a second

    batches = model.recommend_batches(history, seen, k, filters=filters, min_history=min_history)
    for start, top, scores in batches:
        n, width = top.shape
        table = pd.DataFrame(
            {
                "user": np.repeat(users[start : start + n], width),
                "rank": np.tile(np.arange(1, width + 1), n),
                "item": items.to_raw(top.cpu().numpy().ravel()),
                "score": scores.cpu().numpy().ravel(),
            }
        )
        # Whoever has fewer than k unseen items gets a shorter list.
        yield table[np.isfinite(table["score"])]


def write_recommendations(
    path: Path,
    model: Recommender,
    history: Interactions,
    seen: Interactions | None,
    k: int,
    users: np.ndarray,
    items: IdMap,
    filters: Filters = NO_FILTERS,
    min_history: int = 1,
) -> int:
    """`recommendation_tables` into a CSV or Parquet file; returns the number of rows."""
    tables = recommendation_tables(model, history, seen, k, users, items, filters, min_history)
    batches = -(-len(history) // rows_at_once(model.n_items))
    return write_tables(path, tqdm(tables, path.name, batches, unit="batch", disable=None))


@torch.inference_mode()
def export_vectors(
    folder: Path,
    model: Recommender,
    rows: Interactions,
    users: np.ndarray,
    items: np.ndarray,
) -> None:
    """User vectors p: (U, D), item vectors q: (I, D) and biases b: (I,), with p · q + b = score.

    Written as users.npy, items.npy, biases.npy and, together, vectors.safetensors; user_ids.npy and
    item_ids.npy hold what their rows are called, ``users`` and ``items``. All of them are written,
    or none. rows: what the model knows of each user.
    """
    encode, of_items, biases = model.factors()
    batches = rows.batches(rows_at_once(model.n_items))
    parts = [encode(batch).cpu() for batch in tqdm(batches, "user vectors", disable=None)]
    vectors = {"users": torch.cat(parts), "items": of_items.cpu(), "biases": biases.cpu()}
    for tensor in vectors.values():
        checked(tensor)
    arrays = {name: tensor.numpy() for name, tensor in vectors.items()}
    arrays |= {"user_ids": users, "item_ids": items}
    names = [*(f"{name}.npy" for name in arrays), "vectors.safetensors"]
    with folder_written_whole(folder, names, "exported vectors") as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        write_safetensors(temporary / "vectors.safetensors", vectors)
