"""Search settings of any model on validation, by Optuna:

python scripts/search.py --model DiffRec --dataset ml-1m_clean --trials 30 --jobs 2 [flags]

The first trial has the data set's preset. The next are drawn by the tree-structured Parzen
estimator from the model's ranges, or from those of a file (--ranges, in the words of RecBole's
range files). From epoch 8 on, a trial that is worse than the median there of those that came to
their end is stopped early, if five did and three of them are known at that epoch. Where --trials
are enough for all combinations, and no --minutes end them, all are tried to their end.
Further flags of the model's main.py hold in all trials, in the place of their ranges; --from_file
names a file of a model of your own. results/search/tpe/MODEL_DATASET.csv keeps every trial with
its metric on validation, never that on test; a search that is stopped, or called again with the
same flags and more trials, goes on from there; trials of other ranges are none of the --trials, but
may still be the best. The best few are then run with further seeds, whose time counts to the
minutes of a later call, and the settings with the best mean on validation become a preset,
DATASET_tuned, beside the model's others.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import optuna
from arguments import add_from_file, models_from
from reproduction.runs import RESULTS
from searching.presets import write_preset
from searching.ranges import at_an_end, read_ranges
from searching.study import fill_study, quiet, spent, study_of, tell_of_others, told_of, work
from searching.table import DONE
from searching.trials import Search
from tqdm import tqdm

from DiffRec.data_utils import default_dataset
from DiffRec.engine.commands import command, parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder, NotNegative, Positive
from DiffRec.engine.variant import REGISTRY, TUNED, variant_of


def means(search: Search, seeds: int) -> list[tuple[float, dict[str, Any], int]]:
    """Mean validation metric over the first so many seeds, settings, and number of seeds, of all
    finished trials, best first."""
    first = search.options.seed
    values: dict[str, dict[str, float]] = {}
    for row in search.table.rows():
        if row["state"] == DONE and first <= int(row["seed"]) < first + seeds:
            values.setdefault(row["settings"], {})[row["seed"]] = float(row["valid"])
    found = [
        (statistics.mean(of_seed.values()), json.loads(key), len(of_seed))
        for key, of_seed in values.items()
    ]
    return sorted(found, key=lambda row: -row[0])


def confirm(search: Search, candidates: int, seeds: int) -> tuple[float, dict[str, Any], int]:
    """Run the best few with further seeds; of all that have so many, be it from an earlier call,
    the best by their mean."""
    first = search.options.seed
    chosen = means(search, seeds)[:candidates]
    if not chosen:
        raise InputError("no trial came to its end: there is nothing to choose.")
    done = {(row["settings"], int(row["seed"])) for row in search.table.rows()}
    for _, values, _ in tqdm(chosen, "further seeds", disable=None):
        for seed in range(first, first + seeds):
            if (json.dumps(values), seed) not in done:
                try:
                    search.run(values, seed)
                except optuna.TrialPruned as error:  # with this seed the loss explodes
                    print(f"with seed {seed} {values} did not come to its end: {error}")
    whole = [row for row in means(search, seeds) if row[2] >= seeds]
    return whole[0] if whole else chosen[0]


def main(argv: list[str] | None = None) -> None:
    files = models_from(argv)
    if len(files) > 1:
        raise InputError("a search takes one --from_file, which may import from others.")
    own = files[0] if files else None
    parser = Parser(__doc__)
    parser.add_argument("--model", choices=list(REGISTRY), required=True)
    parser.add_argument(
        "--dataset",
        default=None,
        help="by default that of --data_path, where it is one, or else ml-1m_clean",
    )
    parser.add_argument(
        "--trials", type=checked(Positive), default=30, help="in all, those of before included"
    )
    parser.add_argument(
        "--minutes",
        type=checked(NotNegative),
        default=0.0,
        help="no trial begins after so many CPU minutes; 0: no limit",
    )
    parser.add_argument("--jobs", type=checked(Positive), default=1, help="trials at a time")
    parser.add_argument("--ranges", type=checked(Folder), default=None, help="a file of ranges")
    parser.add_argument(
        "--candidates", type=checked(Positive), default=3, help="the best so many get more seeds"
    )
    parser.add_argument("--seeds", type=checked(Positive), default=3, help="how many each")
    parser.add_argument("--out", type=checked(Folder), default=RESULTS / "search" / "tpe")
    parser.add_argument(
        "--presets", type=checked(Folder), default=None,
        help="the file that gets the preset; by default the model's own",
    )  # fmt: skip
    add_from_file(parser)
    args, flags = parser.parse_known_args(argv)
    variant = variant_of(args.model)
    if own and "from_file" in variant.options.names():
        flags = ["--from_file", str(own), *flags]
    ranges = read_ranges(args.ranges, variant.settings) if args.ranges else variant.model.ranges
    if not ranges:
        raise InputError(f"{args.model} says no ranges: give a file of them with --ranges.")
    dataset = args.dataset
    if dataset is None:
        _, options = parse(variant, [*variant.flags, *flags])
        dataset = default_dataset(options.data_path)
    table = args.out / f"{args.model}_{dataset}.csv"
    presets = args.presets or variant.presets_file or variant.presets
    if not isinstance(presets, Path):
        raise InputError(f"{args.model} has no file of presets: name one with --presets.")
    quiet()
    search = Search(variant, dataset, flags, ranges, table, own)
    before, _ = spent(search)
    tell_of_others(search)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        fill_study(study_of(journal, 0), search, args.trials, args.minutes)
        rest = (own, args.model, dataset, flags, ranges, table, journal, args.trials, args.minutes)
        if args.jobs == 1:
            work(0, *rest)
        else:
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            context = multiprocessing.get_context("spawn")
            processes = [  # which end with this one
                context.Process(target=work, args=(n, *rest), daemon=True) for n in range(args.jobs)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
            if any(process.exitcode for process in processes):
                raise InputError("a process of the search failed: see above.")
    value, values, seeds = confirm(search, args.candidates, args.seeds)
    count, _ = spent(search)
    among, minutes = told_of(search, search.table.rows())  # of other ranges too
    about = (
        f"Found by scripts/search.py in {among} trials and {minutes:.0f} CPU minutes: "
        f"{search.settings.select_by} {value:.4f} on validation, mean of {seeds} seeds; data "
        f"{search.table.data}."
    )
    print(f"{count - before} new trials, {count} in all: {table}")
    print(write_preset(search, values, about, presets))
    ends = [name for name, value in values.items() if at_an_end(search.ranges.get(name, ()), value)]
    if ends:
        print(f"At an end of its range, beyond which may be better (--ranges): {', '.join(ends)}.")
    if args.presets:
        print(f"To use it: --preset {args.presets}:{dataset}{TUNED}")


if __name__ == "__main__":
    command(main)
