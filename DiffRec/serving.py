"""What a trained model is used for: top-K lists in a stream, and user and item vectors."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from DiffRec.data_utils import Dataset, Interactions
from DiffRec.errors import InputError
from DiffRec.files import written_whole
from DiffRec.preparation.readers import as_numbers
from DiffRec.recommender import Recommender

FORMATS = (".csv", ".parquet")


@dataclasses.dataclass(frozen=True)
class IdMap:
    """Between the numbers 0..n-1 of users or items and the raw ids of the data they came from.

    Attributes:
        name: "user" or "item", for messages.
        size: n.
        raw: (n,) raw ids by number, or None where the numbers are all there is.
    """

    name: str
    size: int
    raw: np.ndarray | None = None

    @classmethod
    def of_folder(cls, name: str, folder: Path | None, size: int) -> "IdMap":
        """From ``folder``/{name}_map.csv with the columns raw_{name} and {name}, if it is there."""
        path = None if folder is None else folder / f"{name}_map.csv"
        if path is None or not path.is_file():
            return cls(name, size)
        try:
            table = pd.read_csv(path, dtype={f"raw_{name}": str}, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise InputError(f"{path} is not a table ({error}).") from error
        if not {name, f"raw_{name}"} <= set(table.columns):
            raise InputError(f"{path} must have the columns raw_{name} and {name}.")
        table = table.sort_values(name)
        if table[name].tolist() != list(range(size)):
            raise InputError(f"{path} does not number {size} {name}s from 0 to {size - 1}.")
        return cls(name, size, as_numbers(table[f"raw_{name}"].to_numpy(str)))

    def to_raw(self, numbers: np.ndarray) -> np.ndarray:
        return numbers if self.raw is None else self.raw[numbers]

    def to_numbers(self, words: list[str]) -> list[int]:
        """The numbers of ids a user wrote; InputError names the first that is unknown."""
        known = range(self.size) if self.raw is None else self.raw
        numbers = {str(raw): number for number, raw in enumerate(known)}
        for word in words:
            if word not in numbers:
                raise InputError(f"there is no {self.name} {word!r}.")
        return [numbers[word] for word in words]


def split_ids(text: str) -> list[str]:
    """Ids from "0,5,17", or from a file that holds them between commas or white space."""
    try:
        if Path(text).is_file():
            text = Path(text).read_text()
    except UnicodeDecodeError as error:
        raise InputError(f"{text} is not a file of ids.") from error
    except (OSError, ValueError):
        pass  # a long list of ids is no file name
    ids = text.replace(",", " ").split()
    if not ids:
        raise InputError(f"there are no ids in {text!r}.")
    return ids


def write_tables(path: Path, tables: Iterable[pd.DataFrame]) -> int:
    """Append tables, as they come, to a new CSV or Parquet file; returns the number of rows."""
    check_format(path)
    rows = 0
    with written_whole(path) as temporary, contextlib.ExitStack() as stack:
        parquet = None
        for number, table in enumerate(tables):
            if path.suffix == ".csv":
                table.to_csv(temporary, mode="a", header=number == 0, index=False)
            else:
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
    batch_size: int,
) -> Iterator[pd.DataFrame]:
    """Tables with the columns user, rank (from 1), item, score; items that were seen are left out.

    history, seen: a row per user; ``users``: (U,) what to call them.
    """
    for start, top, scores in model.recommend_batches(history, seen, k, batch_size):
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


def check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise InputError(f"{path} must end in {' or '.join(FORMATS)}.")


def write_recommendations(
    path: Path,
    model: Recommender,
    dataset: Dataset,
    users: list[int] | None,
    k: int,
    exclude_seen: bool,
    tst_w_val: bool,
    user_ids: IdMap,
    item_ids: IdMap,
    batch_size: int,
) -> int:
    """Top-k lists of all users, or of those numbered ``users``, into a CSV or Parquet file.

    The input is that of the test split; seen are a user's train and validation items. Returns the
    number of rows written.
    """
    chosen = np.arange(dataset.n_users) if users is None else np.array(users, dtype=np.int64)
    rows = torch.from_numpy(chosen)
    history = (dataset.train_and_valid() if tst_w_val else dataset.train).rows(rows)
    seen = Dataset.train_and_valid(dataset).rows(rows) if exclude_seen else None
    tables = recommendation_tables(
        model, history, seen, k, user_ids.to_raw(chosen), item_ids, batch_size
    )
    batches = -(-len(chosen) // batch_size)
    return write_tables(path, tqdm(tables, path.name, batches, unit="batch", disable=None))


@torch.inference_mode()
def export_vectors(folder: Path, model: Recommender, dataset: Dataset, batch_size: int) -> None:
    """User vectors p: (U, D), item vectors q: (I, D) and biases b: (I,), with p · q + b = score.

    Written as users.npy, items.npy, biases.npy and, together, vectors.safetensors. The input of
    the users is their train interactions.
    """
    encode, items, biases = model.factors()
    users = torch.cat(
        [
            encode(dataset.train.slice(start, min(start + batch_size, dataset.n_users))).cpu()
            for start in tqdm(
                range(0, dataset.n_users, batch_size), desc="user vectors", disable=None
            )
        ]
    )
    arrays = {"users": users, "items": items.cpu(), "biases": biases.cpu()}
    for name, array in arrays.items():
        with written_whole(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array.numpy())
    with written_whole(folder / "vectors.safetensors") as temporary:
        save_file({name: array.contiguous() for name, array in arrays.items()}, temporary)
