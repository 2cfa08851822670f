"""Choose a baseline's settings on validation: one after the other, each from the paper's range.

python scripts/search.py --model MultiVAE --dataset ml-1m_clean [--grid 'lr=[1e-4,1e-3]'] [flags]

From the model's defaults, or the values of --start, every value of the first setting is tried, the
best is kept, then every value of the second, and so on. A trial is one run of baselines/main.py
(seed 1, no preset; further flags are handed on); results/search/MODEL_DATASET.csv keeps its
validation metrics, never those of test, and what is there, of the same data, is not run again. The
last lines are a section for baselines/presets/baselines.toml.
"""

import argparse
import csv
import json
import logging
import shlex
import tempfile
from pathlib import Path

from arguments import checked
from reproduction.runs import RESULTS, data_of

from DiffRec.engine.commands import command, command_line, parse, train_by
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import write_csv
from DiffRec.engine.flags import Parser, flags_of
from DiffRec.engine.settings import Folder
from DiffRec.engine.variant import REGISTRY, Variant, variant_of

SELECT_BY = "recall@20"
COLUMNS = ("settings", "valid", "best_epoch", "epochs", "seconds", "commit", "data", "command")


def assignment(text: str) -> tuple[str, object]:
    """NAME=VALUE, the value being JSON."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected NAME=VALUE with a JSON value, got {text!r}"
        ) from error


def choices(text: str) -> tuple[str, list]:
    """NAME=[VALUES], the list being JSON."""
    name, values = assignment(text)
    if not isinstance(values, list):
        raise argparse.ArgumentTypeError(f"expected NAME=[VALUES], got {text!r}")
    return name, values


class Trials:
    """The finished trials of a model on a data set, in a CSV. data: the hash of its lists."""

    def __init__(self, path: Path, data: str):
        self.path, self.data, self.rows = path, data, []
        if path.is_file():
            self.rows = read_trials(path)

    def find(self, settings: str) -> float | None:
        key = (settings, self.data)
        found = [float(row["valid"]) for row in self.rows if (row["settings"], row["data"]) == key]
        return found[0] if found else None

    def add(self, row: dict) -> None:
        self.rows.append({name: str(value) for name, value in row.items()})
        write_csv(self.path, self.rows)


def read_trials(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV of trials; InputError if it is damaged."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
        whole = tuple(reader.fieldnames or ()) == COLUMNS
        if not whole or any(None in row or None in row.values() for row in rows):
            raise ValueError(f"not all lines have the columns {', '.join(COLUMNS)}")
        for row in rows:
            float(row["valid"])
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a whole table of trials ({error}): remove it.") from error
    return rows


def run_trial(
    variant: Variant, dataset: str, settings: dict, more: list[str], trials: Trials
) -> float:
    """Validation Recall@20 of one run, from the CSV if it is there."""
    key = " ".join([*(f"{name}={value}" for name, value in settings.items()), *more])
    known = trials.find(key)
    if known is not None:
        return known
    words = [*variant.flags, "--dataset", dataset, "--preset", "none", *flags_of(settings), *more]
    told = command_line(variant, "main.py", words)
    with tempfile.TemporaryDirectory() as folder:
        try:
            record = train_by(variant, [*words, "--save_path", folder])
        except InputError as error:
            raise InputError(f"{told}: {error}") from error
    value = record["valid"][SELECT_BY]
    seconds = sum(record["seconds"].values())
    found = (
        key, f"{value:.6f}", record["best_epoch"], record["epochs"], f"{seconds:.1f}",
        record["machine"]["commit"], trials.data, told,
    )  # fmt: skip
    trials.add(dict(zip(COLUMNS, found, strict=True)))
    print(f"{value:.4f}  {key}  (epoch {record['best_epoch']}, {seconds:.0f} s)", flush=True)
    return value


def search(
    variant: Variant, dataset: str, start: dict, grid: dict, more: list[str], trials: Trials
) -> tuple[dict, float, int]:
    """The best settings found, their value, and how many were tried."""
    defaults = variant.settings().dump()
    best = {name: start.get(name, defaults[name]) for name in {**variant.model.grid, **start}}
    value, n = run_trial(variant, dataset, best, more, trials), 1
    for name, values in grid.items():
        for candidate in values:
            settings = {**best, name: candidate}
            if settings == best:
                continue
            found, n = run_trial(variant, dataset, settings, more, trials), n + 1
            if found > value:
                value, best = found, settings
    return best, value, n


def main(argv: list[str] | None = None) -> None:
    offered = [variant.name for variant in REGISTRY.values() if hasattr(variant.model, "grid")]
    parser = Parser(__doc__)
    parser.add_argument("--model", choices=offered, required=True)
    parser.add_argument("--dataset", default="ml-1m_clean")
    parser.add_argument("--start", type=assignment, nargs="+", default=[], help="NAME=VALUE …")
    parser.add_argument(
        "--grid", type=choices, nargs="+", default=None, help="NAME=[VALUES] …, not all"
    )
    parser.add_argument("--out", type=checked(Folder), default=RESULTS / "search")
    args, more = parser.parse_known_args(argv)
    variant = variant_of(args.model)
    grid = dict(args.grid) if args.grid else variant.model.grid
    fixed = variant.model.fixed_presets().get(args.dataset, {})
    asked = parse(variant, [*variant.flags, "--dataset", args.dataset, "--preset", "none", *more])
    data = data_of(variant, *asked)
    trials = Trials(args.out / f"{args.model}_{args.dataset}.csv", data["sha256"])
    logging.getLogger("DiffRec").setLevel(logging.WARNING)  # a line for each trial is enough
    start = {**fixed, **dict(args.start)}
    best, value, n = search(variant, args.dataset, start, grid, more, trials)
    print(f"\n# Recall@20 on validation {value:.4f}, the best of {n} trials.")
    if more:
        print(f"# All had {shlex.join(more)}: add these settings.")
    print(f'["{args.model}".{args.dataset}]')
    for name, setting in best.items():
        if name not in fixed:
            print(f"{name} = {json.dumps(setting)}")


if __name__ == "__main__":
    command(main)
