"""The table of trials: a row each, with its metric on validation and never that on test."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import optuna

from DiffRec.engine.files import read_csv, write_csv

COLUMNS = ("trial", "state", "seed", "valid", "best_epoch", "epochs", "curve", "seconds",
           "settings", "data", "commit", "command")  # fmt: skip
NEWER = ("curve",)  # which tables of before 2026-11-29 lack
DONE, PRUNED, FAILED = "done", "pruned", "failed"
WENT_WRONG = "  # "  # behind a command
LONGEST = 100_000  # epochs of a trial in a table


def check_trial(row: Mapping[str, str]) -> None:
    """ValueError for a row that no trial left."""
    if not isinstance(json.loads(row["settings"]), dict):
        raise ValueError("settings must be an object")
    if row["state"] not in (DONE, PRUNED, FAILED) or (row["state"] == DONE and not row["valid"]):
        raise ValueError("a trial is done, pruned or failed, and one that is done has a metric")
    int(row["seed"])
    if not 0 <= int(row["best_epoch"] or 0) <= int(row["epochs"]) <= LONGEST:
        raise ValueError(f"a trial has from 0 to {LONGEST} epochs, and the best is one of them")
    rises = rises_of(row)
    if [epoch for epoch, _ in rises] != sorted({epoch for epoch, _ in rises}):
        raise ValueError("the epochs of a curve rise")
    if rises and not 0 < rises[0][0] <= rises[-1][0] <= int(row["epochs"]):
        raise ValueError("a curve is of the trial's epochs")
    if not all(math.isfinite(value) for _, value in rises):
        raise ValueError("a curve is finite")
    if not all(math.isfinite(float(row[name] or 0)) for name in ("valid", "seconds")):
        raise ValueError("a metric is finite")


def read_trials(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV of trials; InputError if it is damaged."""
    return read_csv(path, COLUMNS, check_trial, NEWER) if path.is_file() else []


def rises_of(row: Mapping[str, str]) -> list[tuple[int, float]]:
    """The epochs at which a trial's best metric rose, and to what, as its row tells them:
    "5:0.1107 10:0.1130"."""
    pairs = (word.split(":") for word in row["curve"].split())
    return [(int(epoch), float(value)) for epoch, value in pairs]


class Table:
    """The trials of a model on a data set, in a CSV that several processes append to.

    Args:
        data: the hash of the data set, its noise drawn with the first seed, and ``command_of`` the
            command of a trial of this search, by its settings and its seed: the table may hold
            trials of other data, and of other flags. told: settings that are the flags', which
            searches once drew too.
    """

    def __init__(
        self, path: Path, data: str, command_of: Callable[[Mapping[str, Any], str], str],
        told: Collection[str] = (),
    ):  # fmt: skip
        self.path, self.data, self.command_of, self.told = path, data, command_of, told
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = optuna.storages.journal.JournalFileOpenLock(str(path))

    def rows(self) -> list[dict[str, str]]:
        """Those of this search."""
        return [row for row in read_trials(self.path) if self.holds(row)]

    def holds(self, row: Mapping[str, str]) -> bool:
        """Whether a row is of this search; behind the command it may say what went wrong."""
        command, values = row["command"].split(WENT_WRONG)[0], json.loads(row["settings"])
        same = row["data"] == self.data and command == self.command_of(values, row["seed"])
        return same and not any(name in self.told for name in values)

    def add(self, **row: Any) -> None:
        self.lock.acquire()
        try:
            rows = read_trials(self.path)
            number = str(len(rows))
            rows.append({name: str(row.get(name, "")) for name in COLUMNS} | {"trial": number})
            write_csv(self.path, rows)
        finally:
            self.lock.release()


def curve_of(row: Mapping[str, str]) -> dict[int, float]:
    """The best metric up to each epoch. Of a table of before curves were kept, what a trial had
    when it was stopped early is known, and nothing of one that came to its end: from its best epoch
    on alone it would make others look slow."""
    last = int(row["epochs"])
    rises = rises_of(row)
    if not rises:
        return {last: float(row["valid"])} if row["state"] != DONE else {}
    ends = [epoch for epoch, _ in rises[1:]] + [last + 1]
    return {
        epoch: value
        for (start, value), end in zip(rises, ends, strict=True)
        for epoch in range(start, end)
    }


def ends_so(row: Mapping[str, str]) -> bool:
    """Whether a trial would end no other way, if it were run to its end again."""
    return row["state"] == DONE or (row["state"] == FAILED and WENT_WRONG in row["command"])
