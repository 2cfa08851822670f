"""What L-DiffRec needs besides interactions: item embeddings, and the clusters they give."""

import warnings
from pathlib import Path

import numpy as np
import torch

from DiffRec.data_utils import Dataset
from DiffRec.engine.arrays import read_array
from DiffRec.engine.errors import InputError

FILE = "item_emb.npy"


def find_embeddings(dataset: Dataset, emb_path: Path | None) -> Path:
    """The embedding file: ``emb_path`` itself, or item_emb.npy in it, in its folder of the data
    set's name, or beside the data."""
    if emb_path is None:
        candidates = [dataset.path / FILE]
    elif emb_path.is_dir():
        candidates = [emb_path / FILE, emb_path / dataset.path.name / FILE]
    else:
        candidates = [emb_path]
    for path in candidates:
        if path.is_file():
            return path
    raise InputError(
        f"there are no item embeddings {candidates[-1]}: name a file with --emb_path, or use "
        f"--n_cate 1, which needs none."
    )


def load_embeddings(path: Path, n_items: int) -> np.ndarray:
    """(I, width) float64, a row per item; InputError where the file holds something else."""
    embeddings = read_array(path, "numbers")
    if embeddings.dtype.kind not in "fiu":
        raise InputError(f"{path} is no array of numbers: it holds {embeddings.dtype}.")
    embeddings = embeddings.astype(np.float64)
    if embeddings.ndim != 2 or len(embeddings) != n_items or not embeddings.shape[1]:
        raise InputError(
            f"{path} has shape {embeddings.shape}, but {n_items} items need {n_items} rows."
        )
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{path} row {row} is not finite ({(~finite).sum()} such rows).")
    return embeddings


def cluster_items(dataset: Dataset, n_cate: int, emb_path: Path | None, seed: int) -> torch.Tensor:
    """(I,) int64: the cluster of each item by seeded Euclidean k-means; all 0 for one cluster.

    Clusters are numbered by falling size. Fewer than ``n_cate`` come back where items coincide.
    """
    if n_cate > dataset.n_items:
        raise InputError(f"n_cate {n_cate} is more than the {dataset.n_items} items.")
    if n_cate == 1:
        return torch.zeros(dataset.n_items, dtype=torch.int64)
    embeddings = load_embeddings(find_embeddings(dataset, emb_path), dataset.n_items)
    from sklearn.cluster import KMeans  # here, since it takes a second and 100 MB
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        labels = KMeans(n_cate, n_init=10, random_state=seed).fit_predict(embeddings)
    found, counts = np.unique(labels, return_counts=True)
    rank = np.empty(n_cate, dtype=np.int64)
    rank[found[np.argsort(-counts, kind="stable")]] = np.arange(len(found))
    return torch.from_numpy(rank[labels])
