"""How far a training has come, and what it tells of that: its log, its curve, TensorBoard."""

import contextlib
import csv
import dataclasses
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from DiffRec.engine.errors import InputError
from DiffRec.engine.settings import Count

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Progress:
    """Where a training stands; everything in it is plain data and travels with the state file.

    Attributes:
        history: of each evaluation the epoch, its mean loss per batch, and the metrics of
            validation.
        peak_memory_mb: of all processes that had a part in it.
        ended: whether the one who watches it (`train`'s on_evaluation) ended it.
    """

    epoch: Count = 0
    best_epoch: Count = 0
    best_value: float = float("-inf")
    valid: dict[str, float] = dataclasses.field(default_factory=dict)
    test: dict[str, float] = dataclasses.field(default_factory=dict)
    history: list[dict[str, int | float]] = dataclasses.field(default_factory=list)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    ended: bool = False

    @classmethod
    def read(cls, saved: dict[str, Any], select_by: str | None) -> "Progress":
        """From a state file, checked; a ValueError or TypeError for what no training has left.
        select_by: None where there is no validation."""
        found = pydantic.TypeAdapter(cls).validate_python(dataclasses.asdict(cls(**saved)))
        columns = [set(row) for row in found.history]
        needed = {"epoch"} if select_by is None else {"epoch", select_by}
        whole = all(names == columns[0] and needed <= names for names in columns)
        whole = whole and found.best_epoch <= found.epoch
        whole = whole and (
            not found.test or select_by is None or set(found.test) == set(found.valid)
        )
        if not whole or (found.best_epoch and select_by and select_by not in found.valid):
            raise ValueError("its progress contradicts itself")
        return found


class Log:
    """Lines to the logger, and to a file."""

    def __init__(self, path: Path | None):
        self.path = path

    def __call__(self, line: str) -> None:
        logger.info(line)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise InputError(f"{self.path} could not be written ({error.strerror}).") from error


def curve(history: list[dict[str, float]]) -> str:
    """A history as CSV, a line for each evaluation."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().rstrip("\n")


@contextlib.contextmanager
def curves_for_tensorboard(folder: Path | None, name: str) -> Iterator:
    """A function that draws a row of the history, if there is a folder; InputError if TensorBoard
    is not installed."""
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("TensorBoard is not installed: pip install tensorboard.") from error
    with SummaryWriter(folder / name) as writer:

        def draw(row: dict[str, float]) -> None:
            for metric, value in row.items():
                if metric != "epoch":
                    place = metric if metric == "loss" else f"valid/{metric}"
                    writer.add_scalar(place, value, row["epoch"])

        yield draw
