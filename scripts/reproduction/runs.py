"""Runs of the folders' main.py: what they are called, which are done already, and doing them."""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from tqdm import tqdm

from baselines import options as of_baselines
from baselines.models import MODELS
from DiffRec import load_dataset, options
from DiffRec.data_utils import REPOSITORY, add_random_noise, find_dataset
from DiffRec.errors import InputError
from L_DiffRec import options as of_l_diffrec
from T_DiffRec import options as of_t_diffrec

RESULTS = REPOSITORY / "results"
OURS = ("DiffRec", "L-DiffRec", "T-DiffRec", "LT-DiffRec")
SIMPLE = ("EASE", "SLIM", "ItemKNN", "RP3beta", "GF-CF", "iALS", "Popularity")
HOW_TO_GET = {
    "ml-1m_clean": "bash scripts/get_data.sh ml-1m, or the authors' archive",
    "ml-1m_noisy": "the authors' archive, or bash scripts/get_data.sh ml-1m --noise 0.1",
    **{f"{name}_{kind}": f"the authors' archive, or bash scripts/get_data.sh {name}"
       for name in ("yelp", "amazon-book") for kind in ("clean", "noisy")},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: a method on a data set with a seed, and flags that beat the preset."""

    method: str
    dataset: str
    seed: int
    flags: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """The command line after ``python``, up to where its files go."""
        if self.method in MODELS:
            words = ["baselines/main.py", "--model", self.method]
        elif self.method == "LT-DiffRec":
            words = ["T-DiffRec/main.py", "--latent"]
        else:
            words = [f"{self.method}/main.py"]
        words += ["--dataset", self.dataset, "--seed", str(self.seed)]
        for name, value in self.flags:
            words += [f"--{name}", value]
        return words

    @property
    def name(self) -> str:
        changed = [f"{name}={value}" for name, value in self.flags]
        return "_".join([self.method, self.dataset, *changed, f"seed{self.seed}"])

    def settings(self, more: list[str]) -> dict:
        """The settings this run would have, read off the same parser and presets."""
        argv = [*self.words[1:], *more]
        if self.method in MODELS:
            parser = of_baselines.make_parser("", self.method)
            presets = of_baselines.presets_of(self.method)
        else:
            latent = self.method.startswith("LT")
            folder = REPOSITORY / self.method.replace("LT", "T")
            presets = options.read_presets(folder / "presets" / f"{self.method}.toml")
            if self.method.endswith("T-DiffRec"):
                parser = of_t_diffrec.make_parser("", folder, latent)
            else:
                module = options if self.method == "DiffRec" else of_l_diffrec
                parser = module.make_parser("", folder)
        return options.settings_of(options.parse(parser, argv, presets))


def mean_and_std(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


@functools.cache
def fingerprint(folder: Path, noise: float, seed: int) -> dict:
    """Of the data set in ``folder`` with random noise."""
    dataset = load_dataset(data_path=folder)
    return (add_random_noise(dataset, noise, seed) if noise else dataset).fingerprint()


def data_of(run: Run) -> dict:
    """The fingerprint of what a run trains on."""
    noise = float(dict(run.flags).get("random_noise", 0))
    _, folder = find_dataset(run.dataset, None)
    return fingerprint(folder, noise, run.seed if noise else 0)


def finished(run: Run, folder: Path, more: list[str]) -> dict | None:
    """The record of a run that is done, with these settings and on these lists; else None. The
    item embeddings of L- and LT-DiffRec are not compared."""
    path = folder / f"{run.name}.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    same = record.get("seed") == run.seed and record.get("settings") == run.settings(more)
    return record if same and record["data"] == data_of(run) else None


def finished_of(runs: list[Run], args: argparse.Namespace) -> dict[Run, dict]:
    """The records of those that are done."""
    more = shlex.split(args.run_flags)
    records = {run: finished(run, args.results / "runs", more) for run in runs}
    return {run: record for run, record in records.items() if record is not None}


def from_root(path: Path) -> str:
    """A path as a run's record shall name it: from the repository's root where it is inside."""
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


def present(dataset: str) -> bool:
    """Whether a data set is here; else it is named, and how to get it."""
    try:
        find_dataset(dataset, None)
    except InputError:
        how = HOW_TO_GET.get(dataset, "bash scripts/get_data.sh")
        print(f"skipped: {dataset} is not here ({how}; see datasets/README.md).")
        return False
    return True


def call_main(words: list[str], environment: dict | None = None) -> str | None:
    """Run a main.py by its command line, from the repository's root; what it complained of, or
    None where it went well."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (done.stderr.strip() or "stopped").splitlines()[-1] if done.returncode else None


def perform(runs: list[Run], what: str, args: argparse.Namespace) -> dict[Run, dict]:
    """The records of ``runs``: those that are done, and those that are then done, ``args.jobs`` at
    a time. A run that fails is named; the others go on."""
    folder, more = args.results / "runs", shlex.split(args.run_flags)
    records = finished_of(runs, args)
    to_do = [run for run in runs if run not in records]
    if args.dry_run:
        for run in to_do:
            print(shlex.join(["python", *run.words, *more]))
        print(f"{what}: {len(to_do)} runs to do, {len(records)} done.", file=sys.stderr)
        return records
    environment = dict(os.environ)
    threads = max((os.cpu_count() or 1) // args.jobs, 1)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    stopping = threading.Event()

    def do(run: Run) -> tuple[Run, dict | str]:
        if stopping.is_set():
            return run, "stopped"
        work = args.results / "work" / run.name  # a run that is stopped goes on from there
        result = folder / f"{run.name}.json"
        words = [*run.words, *more, "--resume", "--save_path", from_root(work)]
        if args.gpu is not None:
            words += ["--gpu", args.gpu]
        complaint = call_main([*words, "--result_json", from_root(result)], environment)
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
            raise
    return {run: records[run] for run in runs if run in records}
