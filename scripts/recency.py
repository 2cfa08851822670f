"""Recency for everyone (Eq. 16): each model plain, weighted at inference, and in training too.

python scripts/recency.py [--datasets ml-1m] [--methods EASE,DiffRec] [--seeds 3] [--jobs 2]

For each model and way w_min is chosen by Recall@20 on validation, with one seed; that one is run
with the other seeds. DiffRec with weights is T-DiffRec, L-DiffRec is LT-DiffRec. Runs, a CSV and
a page go to results/.
"""

import itertools
import statistics
from collections.abc import Sequence

from arguments import listed
from reproduce import full_name, make_study
from reproduction import markdown
from reproduction.runs import (
    Run,
    add_run_arguments,
    can_run,
    check_run_arguments,
    datasets_on_disk,
    means,
    perform,
    require_methods,
    seeds_of,
    seeds_on_disk,
)
from reproduction.tables import METRICS

from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Positive

METHODS = ("DiffRec", "L-DiffRec", "MultiVAE", "GiffCF", "EASE", "ItemKNN", "RP3beta")
# Beside the preset, in every way: without these GiffCF's seeds differ more than its ways do.
FLAGS = {"GiffCF": (("patience", "100"), ("mixers", "positive"))}
WITH_WEIGHTS = {"DiffRec": "T-DiffRec", "L-DiffRec": "LT-DiffRec"}
WAYS = {"plain": "none", "at inference": "inference", "in both": "both"}
W_MINS = ("0.03", "0.1", "0.3")
SELECT_BY = "recall@20"


def run_of(method: str, dataset: str, seed: int, way: str, w_min: str | None = None) -> Run:
    """A run, named by the flags in which it differs from its model's preset alone."""
    common = FLAGS.get(method, ())
    if way == "none":
        return Run(method, dataset, seed, common)
    name = WITH_WEIGHTS.get(method, method)
    plain = Run(name, dataset, seed).settings([])
    flags = {"w_at": way, "w_min": float(w_min)}
    words = tuple((key, str(value)) for key, value in flags.items() if plain[key] != value)
    return Run(name, dataset, seed, common + words)


def chosen(records: dict[Run, dict], method: str, dataset: str, way: str) -> str | None:
    """The w_min of a model and way whose first seed is best on validation."""
    values = {
        w_min: records[run]["valid"][SELECT_BY]
        for w_min in W_MINS
        if (run := run_of(method, dataset, 1, way, w_min)) in records
    }
    return max(values, key=values.get) if values else None


def page(records: dict[Run, dict], datasets: Sequence[str]) -> str:
    """Markdown: a table for each data set that has a weighted model."""
    seeds = sorted({run.seed for run in records})
    parts = [
        "## Recency for everyone",
        "The weights of Eq. 16 are a property of the data, not of diffusion: here other models of "
        "rows get them too, in training and inference, or at inference alone. Test metrics, mean ± "
        "standard deviation over seeds. w_min was chosen by Recall@20 on validation with seed 1 "
        f"among {', '.join(W_MINS)}; w_max is 1. DiffRec and L-DiffRec with weights in both are "
        "T-DiffRec and LT-DiffRec. GiffCF's mixers begin positive, with a patience of 100 epochs, "
        "in all three ways.",
    ]
    for dataset in datasets:
        if not any(chosen(records, *which) for which in itertools.product(
            METHODS, [dataset], set(WAYS.values()) - {"none"}
        )):  # fmt: skip
            continue
        header = ["model", "weights", "w_min", "seeds", *METRICS, "valid R@20"]
        lines = markdown.head(header, words=2)
        for method, (label, way) in itertools.product(METHODS, WAYS.items()):
            w_min = None if way == "none" else chosen(records, method, dataset, way)
            if way != "none" and w_min is None:
                continue
            runs = [run_of(method, dataset, seed, way, w_min) for seed in seeds]
            found = [records[run] for run in runs if run in records]
            if not found:
                continue
            cells = [method, label, w_min or "", str(len(found)), *means(found, METRICS.values())]
            cells.append(f"{statistics.mean(r['valid'][SELECT_BY] for r in found):.4f}")
            lines.append(markdown.line(cells))
        parts += [f"### {dataset}", "\n".join(lines)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--datasets", type=listed, default=("ml-1m",), help="ml-1m,yelp, …")
    parser.add_argument("--methods", type=listed, default=(), help="only these")
    parser.add_argument("--seeds", type=checked(Positive), default=3, help="of trained models")
    add_run_arguments(parser)
    args = parser.parse_args(argv)
    require_methods(args.methods, METHODS)
    check_run_arguments(args)
    datasets = [name for word in args.datasets if can_run(name := full_name(word, "clean"), args)]
    methods = args.methods or METHODS
    first = [
        run_of(method, dataset, 1, way, w_min)
        for dataset, method, way in itertools.product(datasets, methods, WAYS.values())
        for w_min in ((None,) if way == "none" else W_MINS)
    ]
    records = perform(first, "recency", args)
    if args.dry_run:
        return
    more = [
        run_of(method, dataset, seed, way, w_min)
        for dataset, method, way in itertools.product(datasets, methods, WAYS.values())
        if way == "none" or chosen(records, method, dataset, way)
        for w_min in [None if way == "none" else chosen(records, method, dataset, way)]
        for seed in seeds_of(method, args.seeds)
    ]
    folder = args.results / "runs"
    shown = list(dict.fromkeys([*datasets, *datasets_on_disk(folder, "clean")]))
    every = [  # those of earlier calls stay on the page
        run_of(method, dataset, seed, way, w_min)
        for dataset, method, way in itertools.product(shown, METHODS, WAYS.values())
        for w_min in ((None,) if way == "none" else W_MINS)
        for seed in sorted(
            seeds_on_disk(run_of(method, dataset, 0, way, w_min), folder)
            | (set(seeds_of(method, args.seeds)) if dataset in datasets else set())
        )
    ]
    wanted = list(dict.fromkeys([*first, *more]))
    make_study(
        "recency", wanted, list(dict.fromkeys(every)), lambda found: page(found, shown), args
    )


if __name__ == "__main__":
    command(main)
