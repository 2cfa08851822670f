"""Whether trained models differ by more than the chance of the users, user by user:

python scripts/compare.py RUN.safetensors RUN.safetensors … [--metrics recall@20,ndcg@20]

By default recall (or hr) and ndcg are compared, at the cut-off by which the first was selected.

Each is evaluated on the data of the first by the conventions of the first, but given validation as
input (tst_w_val) as it was itself, and where all have as much --random_noise, that of its own seed;
every later one is compared with the first by paired tests over the users, and p is corrected for
all comparisons of the table. All of this is of these weights: with another seed a model may differ
from itself as clearly. With --pool_seeds runs that differ in their seed alone are one: each user's
metrics are averaged, and Welch's test of the seeds' means tells whether the models differ by more
than their seeds do.
"""

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import (
    add_from_file,
    header_of,
    models_from,
    read_as,
    require_known,
    short_names,
)
from reproduction.tables import p_value

from DiffRec import Dataset, compare, evaluate
from DiffRec.engine.commands import command
from DiffRec.engine.contract import any_model
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import require_writable, write_csv
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.machine import choose_device
from DiffRec.engine.settings import EvaluationSettings, Folder
from DiffRec.evaluate_utils import METRICS, OF_LISTS, mean_of_runs

OF_USERS = tuple(metric for metric in METRICS if metric not in OF_LISTS)


def metrics_at(text: str) -> list[tuple[str, int]]:
    """recall@20,ndcg@20 → their names and cut-offs."""
    found = []
    for word in filter(None, re.split(r"[,\s]+", text)):
        name, _, cut = word.partition("@")
        if name not in OF_USERS or not re.fullmatch("[1-9][0-9]{0,8}", cut):
            raise argparse.ArgumentTypeError(
                f"expected one of {', '.join(OF_USERS)} at a cut-off, as recall@20, got {word!r}"
            )
        found.append((name, int(cut)))
    if not found:
        raise argparse.ArgumentTypeError("expected metrics, as recall@20,ndcg@20")
    return found


def make_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("runs", type=checked(Folder), nargs="+", metavar="RUN", help="checkpoints")
    parser.add_argument("--dataset", default=None, help="by default that of the first")
    parser.add_argument(
        "--data_path", type=checked(Folder), default=None, help="its folder, or that of several"
    )
    parser.add_argument(
        "--metrics", type=metrics_at, nargs="+", default=None, help="what is compared"
    )  # fmt: skip
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    parser.add_argument(
        "--pool_seeds", action="store_true", default=False,
        help="average each user's metrics over runs that differ in their seed alone",
    )  # fmt: skip
    add_from_file(parser)
    parser.add_argument("--gpu", default="0", help="which GPU, where there is one")
    parser.add_argument(
        "--out", type=checked(Folder), default=None, help="write the table to this CSV"
    )
    return parser


def own_metrics(header: dict) -> list[tuple[str, int]]:
    """What a run was told by: recall or hr, and ndcg, where it has them, or what it was selected by
    if a user has it, at the cut-off of that."""
    select_by, _, cut = header["settings"]["select_by"].partition("@")
    known = header["settings"]["metrics"]
    names = [name for name in ("recall", "hr") if name in known][:1]
    names += ["ndcg"] if "ndcg" in known else []
    names = names or [select_by if select_by in OF_USERS else "recall"]
    return [(name, int(cut)) for name in names]


def conventions(headers: Sequence[dict]) -> dict[str, Any]:
    """How all are evaluated: as the first was; said aloud where another one was evaluated
    otherwise."""
    names = EvaluationSettings.names() - {"metrics", "topN", "tst_w_val"}
    how = {name: headers[0]["settings"][name] for name in sorted(names)}
    others = [
        f"{name} {value}"
        for name, value in how.items()
        if any(header["settings"][name] != value for header in headers)
    ]
    if others:
        print(f"All are evaluated as the first was, where they differ: {', '.join(others)}.\n")
    return how


def data_of_each(args: argparse.Namespace, headers: Sequence[dict]) -> list[Dataset]:
    """The first one's data for each; random noise, where all have as much, is each seed's own."""
    seeds = [headers[0]["seed"]] * len(headers)
    noise = {header["settings"]["random_noise"] for header in headers}
    if len(noise) == 1 and noise != {0}:
        seeds = [header["seed"] for header in headers]
    known = {seed: read_as(headers[0], args.dataset, args.data_path, seed) for seed in set(seeds)}
    found = [known[seed] for seed in seeds]
    for path, header, dataset in zip(args.runs, headers, found, strict=True):
        require_known(path, header, dataset)
    return found


def measure(
    args: argparse.Namespace, headers: Sequence[dict], datasets: Sequence[Dataset]
) -> list[dict]:
    """Of each checkpoint the metrics of each user, (U,) by name, on its data; by the first one's
    `conventions`, but that each is given what it was tested with."""
    how = conventions(headers)
    wanted = {"metrics": tuple(dict.fromkeys(name for name, _ in args.metrics)),
              "topN": tuple(dict.fromkeys(k for _, k in args.metrics))}  # fmt: skip
    device = choose_device(None, args.gpu)
    found = []
    for path, header, dataset in zip(args.runs, headers, datasets, strict=True):
        model = any_model(path, device)
        told = header["settings"]["tst_w_val"]  # each as it is used
        torch.manual_seed(header["seed"])  # of those that are noised when they rank
        values = evaluate(model, dataset, **how, **wanted, tst_w_val=told, per_user=True)[
            args.split
        ]
        found.append({f"{name}@{k}": values[f"{name}@{k}"] for name, k in args.metrics})
    return found


def pooled(
    paths: Sequence[Path], headers: Sequence[dict], found: Sequence[dict]
) -> tuple[list[str], list[list[dict]]]:
    """Runs of one model on one data set with one set of settings together: the groups' names, and
    of each what was ``found`` of its runs; InputError if a seed is there twice.

    A group is called by its model, and by the settings in which groups of this model differ, or
    by its first run where that does not tell it from another. Random noise makes other data with
    each seed. Runs that began with other weights than their own seed's are no seeds of the others.
    """
    groups: dict[str, dict[int, int]] = {}  # of each the run of each seed
    for n, header in enumerate(headers):
        data = dict(header["data"])
        if header["settings"]["random_noise"]:
            data.pop("sha256", None)
        began = [header.get("warm_start"), header.get("went_on", False)]
        key = json.dumps(
            [header["variant"], header["settings"], header.get("dataset"), data, began]
        )
        same = groups.setdefault(key, {}).setdefault(header["seed"], n)
        if same != n:
            raise InputError(
                f"{paths[same]} and {paths[n]} are one model with one seed: name each run once."
            )
    firsts = [headers[min(of_seed.values())] for of_seed in groups.values()]
    names = []
    for first, of_seed in zip(firsts, groups.values(), strict=True):
        others = [header for header in firsts if header["variant"] == first["variant"]]
        words = [first["variant"]] + [
            f"{name} {value}"
            for name, value in first["settings"].items()
            if any(other["settings"].get(name) != value for other in others)
        ]
        if any(other["data"] != first["data"] for other in others):
            words.append(f"{first['data']['train']:,} interactions")
        names.append(", ".join([*words, f"seeds: {len(of_seed)}"]))
    if len(set(names)) < len(names):
        of_first = (paths[min(of_seed.values())].stem for of_seed in groups.values())
        names = [f"{name}, {stem}" for name, stem in zip(names, of_first, strict=True)]
    return names, [[found[n] for n in of_seed.values()] for of_seed in groups.values()]


def of_seeds(ours: Sequence[dict], theirs: Sequence[dict], metric: str) -> float | str:
    """p of Welch's test, two-sided, of the means of two models' seeds; nothing for a single one,
    nor where no seed changes either."""
    from scipy.stats import ttest_ind  # here, since it takes most of a second

    if min(len(ours), len(theirs)) < 2:
        return ""
    means = [[np.nanmean(values[metric]) for values in some] for some in (ours, theirs)]
    if max(map(np.ptp, means)) < 1e-12:
        return ""
    return float(ttest_ind(*means, equal_var=False).pvalue)


def table_of(names: Sequence[str], runs: Sequence[Sequence[dict]]) -> list[dict]:
    """A row for each metric and model, of which there are one or several runs: its mean, and for
    all but the first the tests against the first; p is corrected over all rows."""
    from scipy.stats import false_discovery_control  # here, since it takes most of a second

    first, compared = mean_of_runs(runs[0]), [compare(some, runs[0]) for some in runs[1:]]
    rows, tested = [], []
    for metric, values in first.items():
        rows.append({"metric": metric, "run": names[0], "mean": float(np.nanmean(values))})
        for name, some, tests in zip(names[1:], runs[1:], compared, strict=True):
            of_metric = {**tests[metric], "metric": metric, "run": name, "mean": tests[metric]["a"]}
            of_metric["seeds"] = of_seeds(some, runs[0], metric)
            rows.append(of_metric)
            tested.append(of_metric)
    if tested:
        corrected = false_discovery_control([row["p"] for row in tested])
        for row, p in zip(tested, corrected, strict=True):
            row["adjusted"] = float(p)
    columns = ("metric", "run", "mean", "difference", "low", "high", "effect", "p", "wilcoxon",
               "adjusted", "seeds")  # fmt: skip
    return [{column: row.get(column, "") for column in columns} for row in rows]


def shown(rows: Sequence[dict]) -> str:
    """The table as aligned text."""
    lines = [("metric", "run", "mean", "difference", "95 % interval", "effect", "p", "Wilcoxon",
              "corrected", "of seeds")]  # fmt: skip
    for row in rows:
        cells = [row["metric"], row["run"], f"{row['mean']:.4f}"]
        if row["p"] == "":
            cells += [""] * 7
        else:
            interval = f"[{row['low']:+.4f}, {row['high']:+.4f}]"
            cells += [f"{row['difference']:+.4f}", interval, f"{row['effect']:+.2f}"]
            cells += [p_value(row[name]) for name in ("p", "wilcoxon", "adjusted")]
            cells.append("" if row["seeds"] == "" else p_value(row["seeds"]))
        lines.append(tuple(cells))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def main(argv: list[str] | None = None) -> None:
    models_from(argv)
    args = make_parser().parse_args(argv)
    if len(args.runs) < 2:
        raise InputError("name two checkpoints or more: the first is what others are compared to.")
    require_writable(args.out, args.runs)
    headers = [header_of(path) for path in args.runs]
    if args.metrics is None:
        args.metrics = own_metrics(headers[0])
    else:
        args.metrics = list(itertools.chain.from_iterable(args.metrics))
    datasets = data_of_each(args, headers)
    dataset = datasets[0]
    names = [header["variant"] for header in headers]
    if len(set(names)) < len(names):
        names = short_names(args.runs)
    found = measure(args, headers, datasets)
    runs = [[values] for values in found]
    if args.pool_seeds:
        names, runs = pooled(args.runs, headers, found)
        if len(runs) < 2:
            raise InputError("all runs are of one model and one set of settings.")
    rows = table_of(names, runs)
    print(
        f"{dataset.name}, {args.split}, {dataset.n_users:,} users; differences to {names[0]}, with "
        f"two-sided paired tests;\neffect: mean over standard deviation of the users' differences; "
        f"corrected: p of the t-test\nfor the {len(rows) - len(args.metrics)} comparisons "
        f"(Benjamini-Hochberg); of seeds: p of Welch's test of their means. The others\nare of "
        f"these weights: a model may differ as clearly from itself with another seed.\n"
    )
    print(shown(rows))
    if args.out:
        write_csv(args.out, rows)
        print(f"\n{args.out} is written.")


if __name__ == "__main__":
    command(main)
