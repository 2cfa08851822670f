"""Make a table or figure of the paper: python scripts/reproduce.py table2 [flags]

The runs go through the folders' main.py; what is done already, with equal settings on equal data,
is not run again, and what was stopped goes on. results/ gets a CSV of all runs and a Markdown
table, or the pictures, and a page that gathers them all, results/README.md.
"""

import argparse
import dataclasses
import datetime
import shlex
from collections.abc import Callable
from pathlib import Path

from arguments import listed
from reproduction import figures, tables
from reproduction.runs import (
    HOW_TO_GET,
    Run,
    add_run_arguments,
    can_run,
    check_run_arguments,
    conclude,
    datasets_on_disk,
    finished_of,
    is_here,
    of_group,
    perform,
    require_methods,
    seeds_of,
    seeds_on_disk,
    tell_missing,
)

from DiffRec.engine.commands import command
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import write_csv, write_text
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Positive

EVERYTHING = ("table1", *tables.TABLES, *figures.FIGURES)
STUDIES = (
    "recency",
    "seeds_study",
    "epoch_study",
    "other_data",
    "sequential",
)  # of scripts of their own
TUNED_SEEDS = 5
FIVE_SEEDS = (*of_group("ours"), "MultiVAE")  # by default; three for the rest


def make_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("what", choices=[*EVERYTHING, "all"], nargs="+")
    parser.add_argument(
        "--datasets", type=listed, default=None,
        help="only these: ml-1m,yelp; or full names (default: the paper's)",
    )  # fmt: skip
    parser.add_argument(
        "--dataset", default=None, help="of a figure (default: amazon-book_clean, or ml-1m_clean)"
    )
    parser.add_argument("--methods", type=listed, default=None, help="only these: DiffRec,MultiVAE")
    parser.add_argument(
        "--seeds", type=checked(Positive), default=None,
        help="how many (default: 5 or 3, 3 in figures)",
    )  # fmt: skip
    add_run_arguments(parser)
    return parser


def full_name(dataset: str, kind: str) -> str:
    """ml-1m → ml-1m_clean; InputError for a full name of another kind, or of nothing."""
    if dataset.endswith(("_clean", "_noisy")):
        if not dataset.endswith(kind):
            raise InputError(f"this is made from {kind} data, and {dataset} is not.")
    else:
        dataset = f"{dataset}_{kind}"
    if dataset not in HOW_TO_GET and not is_here(dataset):
        raise InputError(f"{dataset} is no data set of the paper's, nor one that is here.")
    return dataset


def seeds_for(method: str, args: argparse.Namespace) -> range:
    method = tables.run_of(method, "", 0).method  # a row's name may tell its flags
    return seeds_of(method, args.seeds or (5 if method in FIVE_SEEDS else 3))


def tuned_seeds(method: str, args: argparse.Namespace) -> range:
    """Of settings that a search found."""
    return seeds_of(method, args.seeds or TUNED_SEEDS)


def methods_of(what: str) -> set[str]:
    """The methods in a table or figure."""
    if what in tables.TABLES:
        return set(tables.TABLES[what].rows())
    panels = figures.FIGURES[what].panels("") if what in figures.FIGURES else ()
    return {method for panel in panels for method in panel.methods}


def row_of(run: Run, record: dict) -> dict:
    """A run as a row of a CSV."""
    names = [name for name in tables.METRICS.values() if name in record["test"]]
    if len(names) < len(tables.METRICS):  # the data set has others
        names = list(record["test"])
    metrics = {
        f"{split}_{name}": record[split][name] for split in ("valid", "test") for name in names
    }
    return {
        "method": run.method, "dataset": run.dataset,
        "flags": " ".join(f"{name}={value}" for name, value in run.flags), "seed": run.seed,
        **metrics, "best_epoch": record["best_epoch"], "parameters": record["parameters"],
        "training_s": round(record["seconds"]["training"], 1),
        "evaluation_s": round(record["seconds"]["evaluation"], 1),
        "peak_memory_mb": round(record["peak_memory_mb"]), "device": record["machine"]["device"],
        "threads": record["machine"]["threads"], "commit": record["machine"]["commit"],
    }  # fmt: skip


def flags_that_count(what: str, args: argparse.Namespace) -> list[str]:
    """The given flags that change what is made of ``what``, and not only where or how fast."""
    names = ["datasets", "methods", "seeds", "run_flags"]
    if what not in tables.TABLES and getattr(args, "dataset", None):
        names[0] = "dataset"
    told = []
    for name in names:
        value = getattr(args, name, None)
        if value:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            told += [f"--{name}", text]
    return told


def provenance(what: str, records: dict[Run, dict], args: argparse.Namespace) -> str:
    """How it was made: the command, the date, and the commits and machines of the runs."""
    commits = sorted({str(r["machine"]["commit"]) for r in records.values()})
    machines = sorted(
        {
            f"{r['machine']['device']}, {r['machine']['threads']} threads, "
            f"torch {r['machine']['torch']}"
            for r in records.values()
        }
    )
    date = datetime.datetime.now(datetime.UTC).date()
    flags = flags_that_count(what, args)
    last = f", last called with `{shlex.join(flags)}`," if flags else ""
    return (
        f"Made by `bash scripts/{what}.sh`{last} on {date} from {len(records)} runs "
        f"([{what}.csv]({what}.csv)); commits {', '.join(commits)}; {'; '.join(machines)}."
    )


def make_table_1(args: argparse.Namespace) -> None:
    known = args.datasets or ("amazon-book", "yelp", "ml-1m")
    short = [d.removesuffix("_clean").removesuffix("_noisy") for d in known]
    wanted = [f"{name}_{kind}" for name in short for kind in ("clean", "noisy")]
    here = [name for name in dict.fromkeys(wanted) if can_run(name, args)]
    if here and not args.dry_run:
        rows, text = tables.sizes(here)
        write_csv(args.results / "table1.csv", rows)
        write_text(args.results / "table1.md", text)
        print(text)


def make(
    what: str,
    wanted: list[Run],
    all_runs: list[Run],
    page: Callable[[dict[Run, dict]], str],
    args: argparse.Namespace,
) -> bool:
    """Do what is missing of ``wanted`` and write CSV and Markdown of all runs that are done, the
    others among ``all_runs`` included; returns whether nothing failed."""
    if not wanted:
        print(f"{what}: nothing to do.")
        return True
    records = perform(wanted, what, args)
    if args.dry_run:
        return True
    failed = len(wanted) - len(records)
    records |= finished_of([run for run in all_runs if run not in records], args)
    records = {run: records[run] for run in all_runs if run in records}
    if records:
        text = f"{page(records)}\n\n{provenance(what, records, args)}"
        write_csv(args.results / f"{what}.csv", [row_of(*pair) for pair in records.items()])
        write_text(args.results / f"{what}.md", text)
        print(text)
    return failed == 0


def make_table(what: str, args: argparse.Namespace) -> bool:
    table, folder = tables.TABLES[what], args.results / "runs"
    papers = [full_name(d, table.kind) for d in table.datasets]
    named = [full_name(d, table.kind) for d in args.datasets] if args.datasets else papers
    # What to run; and by data set and method what may stand in the table, with the table's settings
    # and with those that a search found.
    wanted, plan, tuned_plan = [], {}, {}
    for dataset in dict.fromkeys([*papers, *named, *datasets_on_disk(folder, table.kind)]):
        to_run = dataset in named and can_run(dataset, args)
        for method in table.rows():
            seeds = set()
            if to_run and method in (args.methods or table.rows()):
                seeds = set(seeds_for(method, args))
            for make_run, of_plan in ((tables.run_of, plan), (tables.tuned_run_of, tuned_plan)):
                tuned = of_plan is tuned_plan
                first = make_run(method, dataset, 0) if table.searched or not tuned else None
                if first is None:
                    continue
                if tuned and seeds and first != tables.run_of(method, dataset, 0):
                    seeds = set(tuned_seeds(method, args))
                wanted += [dataclasses.replace(first, seed=seed) for seed in sorted(seeds)]
                known = seeds | seeds_on_disk(first, folder)
                runs = [dataclasses.replace(first, seed=seed) for seed in sorted(known)]
                of_plan.setdefault(dataset, {})[method] = runs

    def page(records: dict[Run, dict]) -> str:
        blocks, tuned = (
            {
                dataset: {
                    method: found
                    for method, runs in methods.items()
                    if (found := [records[run] for run in runs if run in records])
                }
                for dataset, methods in some.items()
            }
            for some in (plan, tuned_plan)
        )
        blocks = {dataset: found for dataset, found in blocks.items() if found}
        return tables.page(table, blocks, tuned)

    every = [
        run
        for some in (plan, tuned_plan)
        for methods in some.values()
        for runs in methods.values()
        for run in runs
    ]
    return make(what, list(dict.fromkeys(wanted)), every, page, args)


def make_figure(what: str, args: argparse.Namespace) -> bool:
    """On one data set, with as many seeds as all its points have, at least those asked for."""
    figure = figures.FIGURES[what]
    wanted, note = args.dataset or (args.datasets or ("amazon-book",))[0], ""
    dataset = full_name(wanted, "clean")
    if wanted == "amazon-book" and not args.dataset and not is_here(dataset):
        tell_missing(dataset, planned=False)
        dataset, note = "ml-1m_clean", " (the paper's Amazon-book is not here)"
    if not can_run(dataset, args):
        return True
    seeds = range(1, (args.seeds or 3) + 1)
    done = [
        seeds_on_disk(run, args.results / "runs")
        for (run,) in figures.runs_of(figure, dataset, [0]).values()
    ]
    shown = sorted({*seeds, *set.intersection(*done)})
    plan = figures.runs_of(figure, dataset, shown)
    chosen = [
        run
        for (_, method, _), some in plan.items()
        for run in some
        if run.seed in seeds and method in (args.methods or (method,))
    ]

    def page(records: dict[Run, dict]) -> str:
        found = {
            where: [records[run] for run in some if run in records] for where, some in plan.items()
        }
        found = {where: some for where, some in found.items() if some}
        counts = sorted({len(some) for some in found.values()})
        told = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        subtitle = (
            f"{dataset}{note}, mean ± standard deviation of {told} seed{'s' * (counts[-1] > 1)}"
        )
        figures.draw(figure, dataset, found, subtitle, args.results, what)
        return figures.page(figure, what, dataset, found, subtitle)

    every = list(dict.fromkeys(run for some in plan.values() for run in some))
    return make(what, list(dict.fromkeys(chosen)), every, page, args)


def make_study(
    what: str,
    wanted: list[Run],
    all_runs: list[Run],
    page: Callable[[dict[Run, dict]], str],
    args: argparse.Namespace,
) -> None:
    """`make`, and the page of all pages; InputError where some runs failed."""
    whole = make(what, wanted, all_runs, page, args)
    if not args.dry_run:
        gather(args.results)
    conclude(whole)


def gather(folder: Path) -> None:
    """README.md: every table and figure that was made."""
    pages = [folder / f"{what}.md" for what in (*EVERYTHING, *STUDIES)]
    text = [
        "# Results",
        "The paper's tables and figures, remade. Each is made by a script of its name, which "
        "reuses the runs in `runs/`: one JSON file a run, with its settings, command, seed, "
        "commit, machine and unrounded metrics; a commit with + had changes that were not "
        "committed. The settings of the baselines were chosen on validation (`search/`, "
        "`scripts/search.py`, and docs/faithfulness.md 36 for ACVAE); "
        "those of DiffRec and its extensions are the published ones (of T- and LT-DiffRec there "
        "are none on ML-1M: docs/faithfulness.md 34), and those of GiffCF and of models of "
        "sequences their authors' or defaults. `checkpoints/` has what `inference.py` measured of "
        "checkpoints that were trained with the release's code, of a DiffuRec by all of its "
        "reverse steps, and of a GiffCF with recency at inference; and a DiffuRec that began warm. "
        "This page is written by the scripts.",
        *(page.read_text().strip() for page in pages if page.is_file()),
    ]
    write_text(folder / "README.md", "\n\n".join(text))


def main(argv: list[str] | None = None) -> None:
    tell_missing.cache_clear()  # what is missing is said once for each command
    args = make_parser().parse_args(argv)
    wanted = EVERYTHING if "all" in args.what else args.what
    known = {method for what in wanted for method in methods_of(what)}
    require_methods(args.methods or (), sorted(known))
    if args.dataset and not set(wanted) & set(figures.FIGURES):
        raise InputError("--dataset is of a figure: a table takes --datasets.")
    if len(args.datasets or ()) > 1 and set(wanted) <= set(figures.FIGURES):
        raise InputError("a figure is drawn on one data set: name it with --dataset.")
    check_run_arguments(args)
    whole = True
    for what in wanted:
        if what == "table1":
            make_table_1(args)
        else:
            make_it = make_table if what in tables.TABLES else make_figure
            whole = make_it(what, args) and whole
        if not args.dry_run:
            gather(args.results)
    conclude(whole)


if __name__ == "__main__":
    command(main)
