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
import shlex
import tempfile
from pathlib import Path

from reproduction.runs import call_main, data_of

from baselines.models import MODELS
from baselines.options import fixed_presets, make_parser
from DiffRec import report
from DiffRec.data_utils import REPOSITORY
from DiffRec.errors import InputError
from DiffRec.experiment import command
from DiffRec.options import Parser, parse

SELECT_BY = "recall@20"


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
            with path.open() as file:
                self.rows = list(csv.DictReader(file))

    def find(self, settings: str) -> float | None:
        key = (settings, self.data)
        found = [float(row["valid"]) for row in self.rows if (row["settings"], row["data"]) == key]
        return found[0] if found else None

    def add(self, row: dict) -> None:
        self.rows.append({name: str(value) for name, value in row.items()})
        report.write_csv(self.path, self.rows)


def run_trial(model: str, dataset: str, settings: dict, more: list[str], trials: Trials) -> float:
    """Validation Recall@20 of one run, from the CSV if it is there."""
    words = [f"{name}={value}" for name, value in settings.items()]
    key = " ".join(words + more)
    known = trials.find(key)
    if known is not None:
        return known
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    words = ["baselines/main.py", "--model", model, "--dataset", dataset, "--preset", "none"]
    words += [*flags, *more]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        where = ["--save_path", folder, "--result_json", str(result)]
        complaint = call_main([*words, *where])
        if complaint:
            raise InputError(f"{shlex.join(words)}: {complaint}")
        record = json.loads(result.read_text())
    value = record["valid"][SELECT_BY]
    seconds = sum(record["seconds"].values())
    trials.add(
        {
            "settings": key, "valid": f"{value:.6f}", "best_epoch": record["best_epoch"],
            "epochs": record["epochs"], "seconds": f"{seconds:.1f}",
            "commit": record["machine"]["commit"], "data": trials.data,
            "command": shlex.join(["python", *words]),
        }
    )  # fmt: skip
    print(f"{value:.4f}  {key}  (epoch {record['best_epoch']}, {seconds:.0f} s)", flush=True)
    return value


def search(
    model: str, dataset: str, start: dict, grid: dict, more: list[str], trials: Trials
) -> tuple[dict, float, int]:
    """The best settings found, their value, and how many were tried."""
    defaults = vars(make_parser("", model).parse_args([]))
    best = {name: start.get(name, defaults[name]) for name in {**MODELS[model].grid, **start}}
    value, n = run_trial(model, dataset, best, more, trials), 1
    for name, values in grid.items():
        for candidate in values:
            settings = {**best, name: candidate}
            if settings == best:
                continue
            found, n = run_trial(model, dataset, settings, more, trials), n + 1
            if found > value:
                value, best = found, settings
    return best, value, n


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), required=True)
    parser.add_argument("--dataset", default="ml-1m_clean")
    parser.add_argument("--start", type=assignment, nargs="+", default=[], help="NAME=VALUE …")
    parser.add_argument("--grid", type=choices, nargs="+", help="NAME=[VALUES] …, not all")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "results" / "search")
    args, more = parser.parse_known_args(argv)
    grid = dict(args.grid) if args.grid else MODELS[args.model].grid
    fixed = fixed_presets(args.model).get(args.dataset, {})
    of_main = make_parser("", args.model)
    data = data_of(parse(of_main, ["--dataset", args.dataset, "--preset", "none", *more], {}))
    trials = Trials(args.out / f"{args.model}_{args.dataset}.csv", data["sha256"])
    start = {**fixed, **dict(args.start)}
    best, value, n = search(args.model, args.dataset, start, grid, more, trials)
    print(f"\n# Recall@20 on validation {value:.4f}, the best of {n} trials.")
    if more:
        print(f"# All had {shlex.join(more)}: add these settings.")
    print(f'["{args.model}".{args.dataset}]')
    for name, setting in best.items():
        if name not in fixed:
            print(f"{name} = {json.dumps(setting)}")


if __name__ == "__main__":
    command(main)
