"""Between the numbers that models use and the raw ids of the data they came from."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DiffRec.engine.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def as_numbers(ids: np.ndarray) -> np.ndarray:
    """Ids as integers if all of them are written as such (7, but not 07), else as they are."""
    if ids.dtype.kind in "iu":
        return ids
    try:
        numbers = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if (numbers.astype(str) == ids.astype(str)).all() else ids


def read_table(path: Path, columns: dict[str, type | None]) -> "pd.DataFrame":
    """A CSV that has these columns, of these types or whatever they are; InputError for another."""
    import pandas as pd  # here, since it takes half a second

    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    names = " and ".join(columns)
    with path.open("rb") as file:
        first = file.readline(1000)
    if first.count(b",") > 20:  # reading a hundred thousand columns takes minutes
        raise InputError(f"{path} must have the columns {names}.")
    types = {name: kind for name, kind in columns.items() if kind is not None}
    try:
        table = pd.read_csv(path, dtype=types, keep_default_na=False)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a table ({reason}).") from error
    if not set(columns) <= set(table.columns):
        raise InputError(f"{path} must have the columns {names}.")
    return table


@dataclasses.dataclass(frozen=True)
class IdMap:
    """Between the numbers 0..n-1 of users or items and their raw ids.

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
        if path is None or not path.exists():
            return cls(name, size)
        table = read_table(path, {f"raw_{name}": str, name: None}).sort_values(name)
        if table[name].tolist() != list(range(size)):
            raise InputError(f"{path} does not number {size} {name}s from 0 to {size - 1}.")
        raw = table[f"raw_{name}"]
        if raw.duplicated().any():
            raise InputError(f"{path} gives the raw id {raw[raw.duplicated()].iloc[0]} twice.")
        return cls(name, size, as_numbers(raw.to_numpy(str)))

    def names(self) -> np.ndarray:
        """(n,) what to call each: the raw ids, or the numbers."""
        return np.arange(self.size) if self.raw is None else self.raw

    def to_raw(self, numbers: np.ndarray) -> np.ndarray:
        """The raw ids of numbers, in an array of any shape; InputError where one is none."""
        numbers = np.asarray(numbers)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise InputError(f"numbers of {self.name}s are integers, not {numbers.dtype}.")
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < self.size:
            raise InputError(f"{self.name}s are numbered from 0 to {self.size - 1}.")
        return numbers if self.raw is None else self.raw[numbers]

    def to_numbers(self, ids: Iterable[Any]) -> list[int]:
        """The numbers of raw ids, or of what a user wrote; InputError names the first that is
        unknown."""
        if isinstance(ids, str):
            raise InputError(f"ids must be a list of them, got the word {ids!r}.")
        if not isinstance(ids, Iterable):
            raise InputError(f"ids must be a list of them, got {ids!r}.")
        numbers = {str(raw): number for number, raw in enumerate(self.names())}
        words = [str(raw) for raw in ids]
        for place, word in enumerate(words):
            words[place] = word if word in numbers else word.strip()
            if words[place] not in numbers:
                raise InputError(f"there is no {self.name} {word!r}.")
        return [numbers[word] for word in words]

    def require_same(self, other: "IdMap", model: str, data: str) -> None:
        """Refuse data whose items have other numbers than those of the model, which these are, as
        far as both tell raw ids."""
        if self.raw is None or other.raw is None:
            return
        differ = np.flatnonzero(self.raw.astype(str) != other.raw.astype(str))
        if len(differ):
            first = differ[0]
            raise InputError(
                f"{len(differ)} of the {self.size} {self.name}s of {data} have other numbers than "
                f"in the data of {model}, as number {first}, which is {other.raw[first]} here and "
                f"{self.raw[first]} there: recommend by --history or --histories, which go by raw "
                f"ids, or train on these data with --warm_start."
            )


def file_of(text: str) -> Path | None:
    """The file that ``text`` names, if it does."""
    try:
        return Path(text) if Path(text).is_file() else None
    except (OSError, ValueError):  # a long list of ids is no file name
        return None


def split_ids(text: str) -> list[str]:
    """Ids from "0,5,17", or from a file that holds one in a line, where they may have commas, and
    spaces at their ends."""
    path, words = file_of(text), text.split(",")
    if path is not None:
        try:
            words = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{text} is not a file of ids.") from error
    else:
        words = [word.strip() for word in words]
    ids = [word for word in words if word.strip()]
    if not ids:
        raise InputError(f"there are no ids in {text!r}.")
    return ids
