"""What may be recommended: which items, and how many of a category. All of it is said before top-k,
so that a list is as long as it can be and equals that of a search through all items."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from DiffRec.engine.errors import InputError, whole_number
from DiffRec.engine.ids import IdMap, file_of, read_table, split_ids
from DiffRec.engine.settings import InferenceOptions

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Filters:
    """
    Attributes:
        allowed: (I,) bool, the items that may be recommended, or None for all.
        crowded: of each category that has more items than a list may hold of it those items, (n,)
            int64.
        per_category: how many of each that is; 0 where no category is crowded.
    """

    allowed: torch.Tensor | None = None
    crowded: tuple[torch.Tensor, ...] = ()
    per_category: int = 0

    @classmethod
    def of(
        cls,
        n_items: int,
        only_items: Sequence[int] | None = None,
        without_items: Sequence[int] | None = None,
        categories: Sequence[Any] | np.ndarray | None = None,
        per_category: int | None = None,
        item_dates: Sequence[Any] | np.ndarray | None = None,
        newer_than: Any | None = None,
    ) -> Self:
        """From what `Recommender.recommend` takes by these names; InputError for what does not
        fit."""
        if (categories is None) != (per_category is None):
            raise InputError("categories and per_category go together.")
        if (item_dates is None) != (newer_than is None):
            raise InputError("item_dates and newer_than go together.")
        if per_category is not None:
            per_category = whole_number("per_category", per_category, 1)
        allowed = torch.ones(n_items, dtype=torch.bool)
        if only_items is not None:
            allowed[:] = False
            allowed[numbers_of("only_items", only_items, n_items)] = True
        if without_items is not None:
            allowed[numbers_of("without_items", without_items, n_items)] = False
        if item_dates is not None:
            dates = moments(item_dates, "item_dates")
            require_length("item_dates", dates, n_items)
            limit = moments([newer_than], "newer_than")
            allowed &= torch.from_numpy(dates > limit)  # what has no date (NaT) is not newer
        if not allowed.any():
            raise InputError("no item is left that may be recommended.")
        crowded: tuple[torch.Tensor, ...] = ()
        if categories is not None and per_category is not None:
            words = words_of(categories)
            require_length("categories", words, n_items)
            order = np.argsort(words, kind="stable")
            groups = np.split(order, np.flatnonzero(words[order][1:] != words[order][:-1]) + 1)
            crowded = tuple(
                torch.from_numpy(group)
                for group in groups
                if len(group) > per_category and words[group[0]]
            )
        return cls(None if allowed.all() else allowed, crowded, per_category or 0)

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Set to -inf, in place, what may not be in the lists: scores, (B, I), of which the seen
        items' are -inf already. Of a category each row keeps the best ``per_category``: no others
        can be in its list, and those may all be."""
        if self.allowed is not None:
            scores[:, ~self.allowed.to(scores.device)] = -torch.inf
        for items in self.crowded:
            columns = items.to(scores.device)
            of_category = scores[:, columns]
            best, places = of_category.topk(self.per_category, dim=1)
            kept = torch.full_like(of_category, -torch.inf).scatter_(1, places, best)
            scores[:, columns] = kept
        return scores


NO_FILTERS = Filters()


def require_length(name: str, array: np.ndarray, n_items: int) -> None:
    if array.shape != (n_items,):
        raise InputError(f"{name} must hold one for each of {n_items} items, not {array.shape}.")


def numbers_of(name: str, items: Sequence[int], n_items: int) -> torch.Tensor:
    """Items as an index; InputError for what is none."""
    numbers = np.asarray(items)
    if numbers.size == 0:
        return torch.empty(0, dtype=torch.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise InputError(f"{name} must be a list of item ids, integers.")
    if numbers.min() < 0 or numbers.max() >= n_items:
        raise InputError(f"{name} must hold items from 0 to {n_items - 1}.")
    return torch.from_numpy(numbers.astype(np.int64))


def words_of(categories: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(n,) what each item's category is called; "" for one that has none: None or NaN."""
    import pandas as pd  # here, since it takes half a second

    try:
        given = pd.Series(categories, dtype=object)
    except (TypeError, ValueError) as error:
        raise InputError(f"categories must hold one for each item: {error}.") from error
    return given.where(given.notna(), "").map(str).to_numpy(str)


# From files, by raw id ---------------------------------------------------------------------------


def filters_of(options: InferenceOptions, items: IdMap) -> Filters:
    """What the options of a command say. Files may name items that the model does not know."""
    dates = limit = None
    if options.newer_than is not None:
        limit = moments([options.newer_than], "newer_than")[0]
    if options.item_dates is not None:
        dates = moments(column_of(options.item_dates, "date", items), str(options.item_dates))
    return Filters.of(
        items.size,
        known_items("only_items", options.only_items, items),
        known_items("without_items", options.without_items, items),
        None if options.categories is None else column_of(options.categories, "category", items),
        options.per_category,
        dates,
        limit,
    )


def known_items(name: str, text: str | None, items: IdMap) -> list[int] | None:
    """The items of "3,17" or of a file; those that the model does not know are told and left
    out."""
    if text is None:
        return None
    words, known = split_ids(text), set(map(str, items.names().tolist()))
    found = [word for word in words if word in known]
    if not found and file_of(text) is None:
        raise InputError(f"{name}: {text!r} is no file, and none of its items is known.")
    if len(found) < len(words):
        logger.warning(
            "%s: %d of %d items are not known.", name, len(words) - len(found), len(words)
        )
    return items.to_numbers(found)


def column_of(path: Path, column: str, items: IdMap) -> np.ndarray:
    """(I,) words: what a CSV with the columns item and ``column`` says of each item, "" where it
    says nothing. InputError for an item that is there twice."""
    table = read_table(path, {"item": str, column: str})
    twice = table["item"].duplicated()
    if twice.any():
        raise InputError(f"{path} has the item {table['item'][twice].iloc[0]} twice.")
    said = dict(zip(table["item"], table[column], strict=True))
    return np.array([said.get(str(name), "") for name in items.names().tolist()])


def moments(values: Sequence[Any] | np.ndarray, where: str) -> np.ndarray:
    """(n,) datetime64 of dates, such as 2024-05-31 or 2024-05-31T12:00; NaT where there is none."""
    import pandas as pd  # here, since it takes half a second

    given = pd.Series(values, dtype=None if isinstance(values, np.ndarray) else object)
    given = given.mask(given.isna() | given.isin(["", "NaT"]))
    number = given.map(lambda value: isinstance(value, int | float | np.number)) & given.notna()
    try:
        found = pd.to_datetime(given.mask(number), errors="coerce", utc=True, format="ISO8601")
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} must hold dates such as 2024-05-31: {error}.") from error
    wrong = given[found.isna() & given.notna()]
    if len(wrong):
        told = str(wrong.iloc[0])
        raise InputError(f"{where} holds {told!r}, which is no date such as 2024-05-31.")
    return found.dt.tz_localize(None).to_numpy("datetime64[us]")
