"""Time-aware weights of the interactions (Section 3.6, Eq. 16).

Only what goes *into* a model is weighted: masks and the items to find stay as they are.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from DiffRec.data_utils import Dataset, last_of_repeated, read_pairs
from DiffRec.engine.arrays import read_array
from DiffRec.engine.errors import InputError
from DiffRec.interactions import Interactions, join

SCHEDULES = ("linear", "exponential")
VALID_WEIGHTS = ("released", "redrawn")
WEIGHTED_AT = ("both", "inference", "none")


def check_weights(w_min: float, w_max: float, schedule: str) -> None:
    """InputError unless 0 ≤ w_min ≤ w_max ≤ 1 and the schedule is defined for them."""
    if not (0 <= w_min <= 1 and 0 < w_max <= 1):
        raise InputError(f"w_min must lie in [0, 1] and w_max in (0, 1], got {w_min} and {w_max}.")
    if w_min > w_max:
        raise InputError(f"w_min must not exceed w_max, got {w_min} and {w_max}.")
    if schedule == "exponential" and w_min == 0:
        raise InputError("w_min must be above 0 for exponential weights.")


def time_weights(
    rows: Interactions, w_min: float, w_max: float, schedule: str = "linear"
) -> torch.Tensor:
    """w_m of each interaction, (nnz,) float32, for rows in order of time.

    With m = 1..M counting a user's interactions:

        linear       w_m = w_min + (m - 1) / (M - 1) · (w_max - w_min)          (Section 3.6)
        exponential  w_m = w_min · (w_max / w_min)^((m - 1) / (M - 1))

    A user's only interaction weighs w_min, as released.
    """
    check_weights(w_min, w_max, schedule)
    row = rows.row_index()
    lengths, starts = rows.lengths.to(rows.device), rows.offsets[:-1].to(rows.device)
    m = torch.arange(len(rows.items), device=rows.device) - starts[row]
    progress = m / (lengths[row] - 1).clamp(min=1)
    if schedule == "linear":
        return w_min + progress * (w_max - w_min)
    return w_min * (w_max / w_min) ** progress


@dataclasses.dataclass(frozen=True)
class TemporalDataset(Dataset):
    """A data set whose interactions carry time-aware weights, in training or at inference alone.

    Attributes:
        weighted: train with its weights, which a model is given when it is evaluated.
        redrawn: the weighted input of a test with validation, or None for the released one, in
            which train keeps its weights and every validation item weighs 1.
    """

    weighted: Interactions | None = None
    redrawn: Interactions | None = None

    def input_rows(self, with_valid: bool = False) -> Interactions:
        if not with_valid:
            return self.weighted
        return join(self.weighted, self.valid) if self.redrawn is None else self.redrawn


def order_by_time(dataset: Dataset, timestamps: Path) -> Dataset:
    """Put each user's train interactions into the order of a file of timestamps.

    timestamps: a .npy array, (n,), of numbers, one for each row of train_list.npy; ties keep the
    list's order. Raises InputError for another shape or values that are not finite.
    """
    pairs = read_pairs(dataset.path / "train_list.npy")
    times = read_array(timestamps, "times")
    if times.shape != (len(pairs),) or times.dtype.kind not in "fiu":
        raise InputError(
            f"{timestamps} must hold one number for each of the {len(pairs)} rows of train_list, "
            f"but has shape {times.shape} and type {times.dtype}."
        )
    if not np.isfinite(times).all():
        raise InputError(f"{timestamps} row {int(np.argmin(np.isfinite(times)))} is not finite.")
    pairs = pairs[np.lexsort((times, pairs[:, 0]))]
    pairs = last_of_repeated(pairs) if dataset.drop_repeated else pairs
    train = Interactions.from_pairs(pairs, dataset.n_users, dataset.n_items)
    return dataclasses.replace(dataset, train=train.to(dataset.train.device), reordered=True)


def weigh(
    dataset: Dataset, w_min: float, w_max: float, schedule: str, w_valid: str, w_at: str = "both"
) -> Dataset:
    """The data set with its train interactions weighted; see `time_weights`.

    w_valid: "released" or "redrawn", see `TemporalDataset`. w_at: weigh in training and inference
    ("both"), at "inference" alone, or not at all ("none").
    """
    if w_at == "none":
        return dataset
    how = w_min, w_max, schedule
    weighted = dataset.train.with_values(time_weights(dataset.train, *how))
    redrawn = None
    if w_valid == "redrawn":
        both = join(dataset.train, dataset.valid)
        redrawn = both.with_values(time_weights(both, *how))
    plain = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(Dataset)}
    plain["train"] = weighted if w_at == "both" else dataset.train
    return TemporalDataset(**plain, weighted=weighted, redrawn=redrawn)
