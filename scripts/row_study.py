"""What studies share whose rows are a model and the flags in which it differs from its preset."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from arguments import listed
from reproduce import make_study
from reproduction.runs import (
    Run,
    add_run_arguments,
    can_run,
    check_run_arguments,
    require_methods,
    seeds_of,
    seeds_on_disk,
)

from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Positive

Flags = tuple[tuple[str, str], ...]
Found = dict[str, dict[str, list[dict]]]  # records by data set and row
STRETCH = (("stretch", "random"),)
# Weighted by recency, with the w_min that ML-1M's validation chose for EASE (scripts/recency.py).
RECENT = (("w_at", "inference"), ("w_min", "0.03"))


def make_parser(about: str | None, datasets: Sequence[str], seeds: int) -> Parser:
    parser = Parser(about)
    parser.add_argument("--datasets", type=listed, default=datasets)
    parser.add_argument("--methods", type=listed, default=(), help="only rows of these models")
    parser.add_argument("--seeds", type=checked(Positive), default=seeds, help="of trained models")
    add_run_arguments(parser)
    return parser


def make_rows(
    what: str,
    rows: Mapping[str, tuple[str, Flags]],
    run_of: Callable[[str, str, int], Run | None],
    page: Callable[[Found], str],
    args: argparse.Namespace,
    datasets: Sequence[str],
) -> None:
    """Do what is missing of the rows that are asked for, and write the page of all that are done.

    Args:
        rows: by label.
        run_of: row, data set and seed ↦ run; None where the row is not for that data set. Runs of
            a row differ in their seed alone.
        datasets: all of the study's.
    """
    known = sorted({method for method, _ in rows.values()})
    require_methods(args.methods, known)
    check_run_arguments(args)
    here = [dataset for dataset in args.datasets if can_run(dataset, args)]
    folder, wanted, plan = args.results / "runs", [], {}
    for dataset in dict.fromkeys([*datasets, *args.datasets]):
        for row, (method, _) in rows.items():
            first = run_of(row, dataset, 1)
            if first is None:
                continue
            seeds: set[int] = set()
            if method in (args.methods or known) and dataset in here:
                seeds = set(seeds_of(method, args.seeds))
            wanted += [dataclasses.replace(first, seed=seed) for seed in sorted(seeds)]
            seeds |= seeds_on_disk(first, folder)
            plan[dataset, row] = [dataclasses.replace(first, seed=seed) for seed in sorted(seeds)]

    def write(records: dict[Run, dict]) -> str:
        found: Found = {}
        for (dataset, row), runs in plan.items():
            some = [records[run] for run in runs if run in records]
            if some:
                found.setdefault(dataset, {})[row] = some
        return page(found)

    every = list(dict.fromkeys(run for runs in plan.values() for run in runs))
    make_study(what, list(dict.fromkeys(wanted)), every, write, args)
