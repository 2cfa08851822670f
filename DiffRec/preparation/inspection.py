"""What is in a data set's folder: statistics, dates, and whether a released one is whole."""

from pathlib import Path

import numpy as np

from DiffRec.data_utils import SPLITS, Dataset
from DiffRec.engine.arrays import read_array
from DiffRec.engine.errors import InputError
from DiffRec.engine.paper import paper_sizes

# Of the authors' archives: rows of each list, and the fingerprint's hash where it was seen.
ARCHIVES = {
    "ml-1m_clean": ((403_277, 110_722, 57_532), "b34a042d529514df"),
    "ml-1m_noisy": ((429_993, 130_772, 57_532), "24808f7e8fba8525"),
}


def describe(dataset: Dataset) -> dict[str, float]:
    """Sizes, density, and how unequally users and items share the train interactions."""
    train = dataset.train
    per_user = train.lengths.numpy()
    per_item = np.bincount(train.items.numpy(), minlength=dataset.n_items)
    total = sum(len(getattr(dataset, split).items) for split in SPLITS)
    again = dataset.asked_again()
    top = np.sort(per_item)[::-1][: max(dataset.n_items // 10, 1)].sum()
    return {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": total,
        **{split: len(getattr(dataset, split).items) for split in SPLITS},
        "density": total / (dataset.n_users * dataset.n_items),
        "train items per user, median": float(np.median(per_user)),
        "train users per item, median": float(np.median(per_item)),
        "share of train in the top 10 % of items": float(top / max(per_item.sum(), 1)),
        "items without a train interaction": int((per_item == 0).sum()),
        "users without a test item": int((dataset.test.lengths == 0).sum()),
        "pairs of validation that train has": again["valid"],
        "pairs of test that train or validation has": again["test"],
    }


def check_whole(dataset: Dataset) -> str:
    """Compare with what the authors' archive holds; InputError if rows are missing."""
    found = dataset.fingerprint()
    sizes = tuple(found[split] for split in SPLITS)
    if dataset.name in ARCHIVES:
        expected, sha256 = ARCHIVES[dataset.name]
        if any(size < right for size, right in zip(sizes, expected, strict=True)):
            raise InputError(
                f"{dataset.path} has {sizes} rows in train, validation and test, but the released "
                f"{dataset.name} has {expected}: unpack the archive again."
            )
        if found["sha256"] == sha256:
            return f"{dataset.name} is the released one, whole."
        return f"{dataset.name} has the released sizes, but not the released rows."
    paper = paper_sizes().get(dataset.name)
    if paper is None:
        return f"{dataset.name} is no data set of the paper: there is nothing to compare it with."
    ours = dataset.n_users, dataset.n_items, sum(sizes)
    if ours != paper:
        raise InputError(
            f"{dataset.path} has {ours} users, items and interactions, but Table 1 has {paper}: if "
            f"it is the authors' archive, unpack it again."
        )
    return f"{dataset.name} has the sizes of Table 1."


# Of seconds since 1970, in the years 1973 and 2242: others are places in an order, or no seconds.
EARLIEST, LATEST = 10**8, 2**33


def read_times(path: Path) -> np.ndarray:
    """(n,) numbers; InputError for what is no time."""
    times = read_array(path, "times")
    if times.ndim != 1 or times.dtype.kind not in "fiu":
        raise InputError(f"{path} is no list of times: {times.dtype} of shape {times.shape}.")
    if not np.isfinite(times).all():
        raise InputError(f"{path} holds what is no time.")
    return times


def days_of(dataset: Dataset) -> list[np.ndarray] | None:
    """The dates of each split's rows; None where their times are missing or no seconds."""
    files = [dataset.path / f"{split}_times.npy" for split in SPLITS]
    if not all(file.is_file() for file in files):
        return None
    times = [read_times(file) for file in files]
    some = np.concatenate(times)
    if not len(some) or some.max() < EARLIEST or np.abs(some.astype(np.float64)).max() > LATEST:
        return None
    return [(part.astype(np.int64) // 86_400).astype("datetime64[D]") for part in times]
