"""Runs of the folders' main.py: what they are called, which are done already, and doing them."""

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from arguments import flags_in
from tqdm import tqdm

from DiffRec.data_utils import (
    EVALUATION,
    Dataset,
    evaluation_beside,
    find_dataset,
    load_dataset,
)
from DiffRec.engine import checkpoints
from DiffRec.engine.commands import parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import checked
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.settings import Folder, Positive, RunOptions, Settings
from DiffRec.engine.variant import REGISTRY, Variant, variant_of

RESULTS = REPOSITORY / "results"
HOW_TO_GET = {
    "ml-1m_clean": "bash scripts/get_data.sh ml-1m, or the authors' archive",
    "ml-1m_noisy": "the authors' archive, or bash scripts/get_data.sh ml-1m --noise 0.1",
    **{f"{name}_{kind}": f"the authors' archive, or bash scripts/get_data.sh {name}"
       for name in ("yelp", "amazon-book") for kind in ("clean", "noisy")},
}  # fmt: skip
# Those that the paper does not have, whose page scripts/other_data.py makes.
OTHER_DATA = ("ml-100k_clean", "yelp-cdr_clean", "amazon-book-cdr_clean")


def of_group(group: str) -> tuple[str, ...]:
    """The names of the registered methods of a group, such as the simple ones."""
    return tuple(variant.name for variant in REGISTRY.values() if variant.group == group)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: a method on a data set with a seed, and flags that beat the preset."""

    method: str
    dataset: str
    seed: int
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def variant(self) -> Variant:
        return variant_of(self.method)

    @property
    def words(self) -> list[str]:
        """The command line after ``python``, up to where its files go."""
        words = [from_root(self.variant.folder / "main.py"), *self.variant.flags]
        words += ["--dataset", self.dataset, "--seed", str(self.seed)]
        for name, value in self.flags:
            words += [f"--{name}", value]
        return words

    @property
    def stem(self) -> str:
        """Its name without the seed."""
        changed = [f"{name}={value}" for name, value in self.flags]
        return "_".join([self.method, self.dataset, *changed])

    @property
    def name(self) -> str:
        return f"{self.stem}_seed{self.seed}"

    def parsed(self, more: Sequence[str]) -> tuple[Settings, RunOptions]:
        """What its main would make of its command line and ``more``."""
        return parse(self.variant, [*self.words[1:], *more])

    def settings(self, more: Sequence[str]) -> dict:
        """As its record would have them."""
        return self.parsed(more)[0].dump()

    def data(self, more: Sequence[str]) -> dict:
        """The fingerprint of what it trains on."""
        return data_of(self.variant, *self.parsed(more))


def mean_and_std(values: list[float]) -> str:
    """Of one seed, or of equal ones, the value alone."""
    spread = f" ± {statistics.stdev(values):.4f}" if len(set(values)) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def means(records: Sequence[dict], names: Iterable[str]) -> list[str]:
    """Of each metric on test, as `mean_and_std`."""
    return [mean_and_std([record["test"][name] for record in records]) for name in names]


def seeds_of(method: str, seeds: int) -> range:
    """As many, but one of what is the same with each."""
    return range(1, (seeds if variant_of(method).model.random else 1) + 1)


@functools.cache
def read_once(
    data_path: Path, drop_unknown: bool, random_noise: float, seed: int, drop_repeated: bool
) -> tuple[Dataset, dict]:
    """A data set and its fingerprint; tables ask for the same ones again and again."""
    dataset = load_dataset(None, data_path, drop_unknown, random_noise, seed, drop_repeated)
    return dataset, dataset.fingerprint()


def data_of(variant: Variant, settings: Settings, options: RunOptions) -> dict:
    """The fingerprint of the data that a main with these settings and options trains on."""
    _, folder = find_dataset(options.dataset, options.data_path)
    noise = (settings.random_noise, options.seed) if settings.random_noise else (0.0, 0)
    dataset, fingerprint = read_once(folder, settings.drop_unknown, *noise, settings.drop_repeated)
    prepared = variant.prepare(dataset, options)
    return fingerprint if prepared is dataset else prepared.fingerprint()


def carried_forward(variant: Variant, record: dict) -> dict:
    """The settings of a record under today's names, with today's defaults for those that are newer
    than it is: a setting whose default changes nothing leaves every record reusable."""
    settings = checkpoints.migrated(record["settings"], record.get("format", 1))
    return variant.settings.of(settings).dump()


def finished(run: Run, folder: Path, more: Sequence[str]) -> dict | None:
    """The record of a run that is done, with these settings and on these lists; else None. Where
    the lists are not here, the record is believed. The item embeddings of L- and LT-DiffRec are
    not compared."""
    path = folder / f"{run.name}.json"
    try:
        record = json.loads(path.read_text())
        same = record["seed"] == run.seed
        settings, asked = carried_forward(run.variant, record), run.settings(more)
        if is_here(run.dataset):
            same = same and record["data"] == run.data(more)
        else:  # nor do they say how they are evaluated
            asked |= {name: settings[name] for name in EVALUATION}
        same = same and settings == asked
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # none, or not a whole record
        return None
    return record if same else None


def seeds_on_disk(run: Run, folder: Path) -> set[int]:
    """The seeds that have a result file of this run, done with whatever settings."""
    pattern = re.compile(re.escape(run.stem) + r"_seed(\d+)\.json")
    found = (pattern.fullmatch(path.name) for path in folder.glob("*.json"))
    return {int(match[1]) for match in found if match}


def datasets_on_disk(folder: Path, kind: str) -> list[str]:
    """The data sets of a kind, clean or noisy, that have result files, but for `OTHER_DATA`."""
    names = {path.name for path in folder.glob("*.json")}
    known = (re.fullmatch(rf"[^_]+_([^=]+?_{kind})_(.+_)?seed\d+\.json", name) for name in names)
    return sorted({match[1] for match in known if match} - {*OTHER_DATA})


def finished_of(runs: list[Run], args: argparse.Namespace) -> dict[Run, dict]:
    """The records of those that are done."""
    more = shlex.split(args.run_flags)
    records = {run: finished(run, args.results / "runs", more) for run in runs}
    return {run: record for run, record in records.items() if record is not None}


def from_root(path: Path) -> str:
    """A path as a run's record shall name it: from the repository's root where it is inside."""
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


def is_here(dataset: str) -> bool:
    try:
        find_dataset(dataset, None)
    except InputError:
        return False
    return True


@functools.cache
def tell_missing(dataset: str, planned: bool) -> None:
    """Name a data set that is not here and how to get it; once."""
    how = f"{HOW_TO_GET[dataset]}; " if dataset in HOW_TO_GET else ""
    text = f"{dataset} is not here ({how}see datasets/README.md)."
    if planned:  # beside the commands, which are what a dry run prints
        print(f"needed: {text}", file=sys.stderr)
    else:
        print(f"skipped: {text}")


def can_run(dataset: str, args: argparse.Namespace) -> bool:
    """Whether runs on a data set can be done, or told by a dry run, which needs no data."""
    here = is_here(dataset)
    if not here:
        tell_missing(dataset, args.dry_run)
    return here or args.dry_run


def require_released_evaluation(dataset: str, metric: str) -> None:
    """InputError, before any run, for a study of a metric on data that are evaluated otherwise."""
    if is_here(dataset) and evaluation_beside(dataset, None):
        raise InputError(f"{dataset} is evaluated otherwise: this study is of {metric}.")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how the runs of a page happen."""
    parser.add_argument("--gpu", default=None, help="which GPU")
    parser.add_argument("--jobs", type=checked(Positive), default=1, help="runs at a time")
    parser.add_argument(
        "--dry_run", action="store_true", default=False, help="print the commands to run"
    )
    parser.add_argument(
        "--results", type=checked(Folder), default=RESULTS, help="folder for everything"
    )
    parser.add_argument(
        "--run_flags", type=flags_in, default="", help="further flags of every run, in one word"
    )


def check_run_arguments(args: argparse.Namespace) -> None:
    """InputError for runs that would be put among others' results."""
    args.results = Path(args.results).resolve()
    if args.run_flags and args.results == RESULTS.resolve():
        raise InputError("--run_flags makes other runs than these results: add --results FOLDER.")


def require_methods(names: Iterable[str], known: Collection[str]) -> None:
    """InputError for a name that is none of the known methods."""
    for name in names:
        if name not in known:
            raise InputError(f"there is no method {name}: choose from {', '.join(known)}.")


def conclude(whole: bool) -> None:
    """InputError where some runs failed."""
    if not whole:
        raise InputError("some runs failed: see above; the same command does what is missing.")


def call_main(
    words: list[str], environment: dict | None = None, running: set[subprocess.Popen] | None = None
) -> str | None:
    """Run a main.py by its command line, from the repository's root; what it complained of, or
    None where it went well. It is in ``running`` while it runs."""
    running = set() if running is None else running
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        running.add(process)
        try:
            _, stderr = process.communicate()
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            running.discard(process)
    return (stderr.strip() or "stopped").splitlines()[-1] if process.returncode else None


def work_folder(run: Run, args: argparse.Namespace, more: Sequence[str]) -> Path:
    """Where a run keeps its state, from which it goes on after a stop: a folder of its own for
    each settings and data."""
    key = json.dumps([run.settings(more), run.data(more)], sort_keys=True)
    return args.results / "work" / f"{run.name}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def perform(runs: list[Run], what: str, args: argparse.Namespace) -> dict[Run, dict]:
    """The records of ``runs``: those that are done, and those that are then done, ``args.jobs`` at
    a time. A run that fails is named; the others go on. What runs is stopped with this script."""
    folder, more = args.results / "runs", shlex.split(args.run_flags)
    records = finished_of(runs, args)
    to_do = [run for run in runs if run not in records]
    if args.dry_run:
        for run in to_do:
            print(shlex.join(["python", *run.words, *more]))
        print(
            f"{what}: {len(to_do)} runs to do, {len(records)} done (the script adds flags that say "
            f"where the files of a run go).",
            file=sys.stderr,
        )
        return records
    environment = dict(os.environ)
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    stopping, running = threading.Event(), set()

    def do(run: Run) -> tuple[Run, dict | str]:
        if stopping.is_set():
            return run, "stopped"
        try:
            work = work_folder(run, args, more)
        except InputError as error:
            return run, f"error: {error}"
        result = folder / f"{run.name}.json"
        words = [*run.words, *more, "--resume", "--save_path", from_root(work)]
        if args.gpu is not None:
            words += ["--gpu", args.gpu]
        complaint = call_main([*words, "--result_json", from_root(result)], environment, running)
        if complaint:
            return run, complaint
        shutil.rmtree(work, ignore_errors=True)
        return run, json.loads(result.read_text())

    bar = tqdm(total=len(runs), initial=len(records), desc=what, unit="run", disable=None)
    with bar, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(do, run) for run in to_do]
        try:
            for future in concurrent.futures.as_completed(waiting):
                run, record = future.result()
                if isinstance(record, str):
                    tqdm.write(f"failed: {run.name}: {record}")
                else:
                    records[run] = record
                bar.update()
        except KeyboardInterrupt:
            stopping.set()
            for process in tuple(running):
                process.terminate()
            raise
    return {run: records[run] for run in runs if run in records}
