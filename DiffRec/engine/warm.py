"""A model that begins where one of older data ended: weights are taken over item by item.

Items are matched by their raw ids, which the checkpoint and the data's item_map.csv hold. What the
older model does not know is new: its input weights are 0, so that no score changes by it at first,
and its output weights and bias are what the model's `newcomer` says.
"""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch

from DiffRec.data_utils import Dataset, command_to_prepare
from DiffRec.engine import checkpoints
from DiffRec.engine.contract import Axes, Recommender
from DiffRec.engine.errors import InputError
from DiffRec.engine.ids import IdMap
from DiffRec.engine.ranks import Ranks
from DiffRec.engine.tensors import digest_of_tensors

logger = logging.getLogger(__name__)


def digest_of(path: Path) -> str:
    """Six letters that tell a checkpoint from others, for names of runs."""
    return checkpoints.file_hash(path)[:6]


def digest_of_weights(model: Recommender, ranks: Ranks) -> str:
    """The same of all that a model's next training begins with: its weights, its buffers and what
    it keeps of its last one; ``ranks`` may have some of them each."""
    own = digest_of_tensors({**model.state_dict(), **model.training_state()})
    parts = sorted(set(ranks.collect(own)))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:6]


def numbers_today(path: Path, n_old: int, dataset: Dataset) -> np.ndarray:
    """(n_old,) int64: which item of the data each of the checkpoint's is; I and above for those
    that are not there any more."""
    of_old = checkpoints.item_ids(path, n_old)
    old = None if of_old is None else of_old.raw
    new = IdMap.of_folder("item", dataset.path, dataset.n_items).raw
    if old is None or new is None:
        where = path if old is None else dataset.path / "item_map.csv"
        raise InputError(
            f"{where} does not tell the items' raw ids, by which a warm start finds them: prepare "
            f"both data sets by {command_to_prepare()}."
        )
    number = {str(raw): place for place, raw in enumerate(new)}
    missing = range(dataset.n_items, dataset.n_items + n_old)
    found = [number.get(str(raw), other) for raw, other in zip(old, missing, strict=True)]
    return np.array(found, dtype=np.int64)


def taken_over(
    new: torch.Tensor, old: torch.Tensor, of_new: Axes, of_old: Axes, number: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """``new`` with what ``old`` has under the same labels (`Recommender.axes`), the items' being
    renumbered by ``number``; and where the new items are on the axis that has items."""
    places, fresh, axis_of_items = [], np.zeros(0, dtype=np.int64), None

    def numbers(labels: torch.Tensor | None, size: int) -> np.ndarray:
        return np.arange(size) - size if labels is None else labels.numpy()

    for axis, pair in enumerate(zip(of_new, of_old, strict=True)):
        labels, others = numbers(pair[0], new.shape[axis]), numbers(pair[1], old.shape[axis])
        is_item = others >= 0
        others = np.where(is_item, number[np.where(is_item, others, 0)], others)
        _, here, there = np.intersect1d(labels, others, assume_unique=True, return_indices=True)
        places.append((here, there))
        if (labels >= 0).any():
            axis_of_items, fresh = axis, np.setdiff1d(np.flatnonzero(labels >= 0), here)
    if not places:  # a single number
        return old.clone(), fresh
    found = new.clone()
    if axis_of_items == 1:
        found[:, fresh] = 0.0
    of_found, of_old_one = (
        tuple(map(torch.from_numpy, np.ix_(*index))) for index in zip(*places, strict=True)
    )
    found[of_found] = old[of_old_one]
    return found, fresh if axis_of_items == 0 else fresh[:0]


@torch.no_grad()
def take_over(model: Recommender, path: Path, dataset: Dataset) -> None:
    """Give a fresh model what an older one, a checkpoint, knows of the items that both have.

    InputError for a checkpoint of another model or other settings of it, for items without raw
    ids, and for a model whose weights do not belong to items.
    """
    old = type(model).load(path)
    if (old.trained_on or {}).get("test") == 0 and len(dataset.test.items):
        logger.warning(
            "%s was fitted on all of its data: metrics here may be of what it was trained on; the "
            "checkpoint that it was made of, which had validation and test, gives honest ones.",
            path.name,
        )  # fmt: skip
    if not model.axes():
        raise InputError(f"{model.variant} has no weights of items that a warm start could take.")
    theirs, ours = old.settings.dump(), model.settings.dump()
    other = [f"{n} {theirs[n]} there, {ours[n]} here" for n in ours if theirs[n] != ours[n]]
    if other:
        raise InputError(
            f"{path} is of a model with other settings ({', '.join(other)}): a warm start needs "
            f"the same."
        )
    number = numbers_today(path, old.n_items, dataset)
    known = np.sort(number[number < model.n_items])
    if not len(known):
        raise InputError(f"{path} and {dataset.name} have no item in common.")
    model.arrange_as(old, torch.from_numpy(number))
    weights, of_new, of_old = model.state_dict(), model.axes(), old.axes()
    groups = model.item_groups().numpy()
    for name, tensor in old.state_dict().items():
        if not tensor.is_floating_point():
            continue
        plain = (None,) * tensor.dim()
        labels = of_new.get(name, plain)
        older = tensor.to(weights[name].device)
        found, fresh = taken_over(weights[name], older, labels, of_old.get(name, plain), number)
        if len(fresh):
            items = labels[0].numpy()
            is_known = np.isin(items, known)
            for group in np.unique(groups[items[fresh]]):
                like = is_known & (groups[items] == group)
                value = model.newcomer(found[like if like.any() else is_known])
                found[fresh[groups[items[fresh]] == group]] = value
        weights[name].copy_(found)
    gone = old.n_items - len(known)
    logger.info(
        "warm start from %s: %d of %d items are known, %d new, %d gone",
        path.name, len(known), model.n_items, model.n_items - len(known), gone,
    )  # fmt: skip
