"""Search settings of any model on validation, by Optuna:

python scripts/search.py --model DiffRec --dataset ml-1m_clean --trials 30 --jobs 2 [flags]

The first trial has the data set's preset. The next are drawn by the tree-structured Parzen
estimator from the model's ranges, or from those of a file (--ranges, in the words of RecBole's
range files). From epoch 8 on, a trial that is worse than the median there of those that came to
their end is stopped early, if five did and three of them are known at that epoch. Where --trials
are enough for all combinations, and no --minutes end them, all are tried to their end.
Further flags of the model's main.py hold in all trials; --from_file names a file of a model of
your own. results/search/tpe/MODEL_DATASET.csv keeps every trial with its metric on validation,
never that on test; a search that is stopped, or called again with the same flags and more trials,
goes on from there; trials of other ranges are none of the --trials, but may still be the best. The
best few are then run with further seeds, whose time counts to the minutes of a later call, and the
settings with the best mean on validation become a preset, DATASET_tuned, beside the model's others.
"""

import ast
import itertools
import json
import logging
import math
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from arguments import add_from_file, models_from
from reproduction.runs import RESULTS, read_once
from tqdm import tqdm

from DiffRec.data_utils import Dataset, default_dataset, find_dataset
from DiffRec.engine.commands import command, command_line, make_parser, parse, stop_asked
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import read_csv, write_csv, write_text
from DiffRec.engine.flags import Parser, checked, flags_of, given
from DiffRec.engine.machine import choose_device, code_version
from DiffRec.engine.run import train
from DiffRec.engine.settings import (
    Between,
    Folder,
    NotNegative,
    Positive,
    Ranges,
    RunOptions,
    Settings,
)
from DiffRec.engine.variant import REGISTRY, TUNED, Variant, register_from, variant_of
from DiffRec.engine.warm import digest_of

COLUMNS = ("trial", "state", "seed", "valid", "best_epoch", "epochs", "curve", "seconds",
           "settings", "data", "commit", "command")  # fmt: skip
NEWER = ("curve",)  # which tables of before 2026-11-29 lack
DONE, PRUNED, FAILED = "done", "pruned", "failed"
# Of a training's options those that trials have; the others would do nothing in a search.
OF_TRIALS = {"dataset", "data_path", "preset", "seed", "cuda", "gpu"}
WENT_WRONG = "  # "  # behind a command
LONGEST = 100_000  # epochs of a trial in a table
REPEATED = 100  # times in a row that known settings are drawn before a search is over
# Spellings in the range file that RecBole's page of this model prints.
MISSPELT = {"noice_scale": "noise_scale", "noice_min": "noise_min", "noice_max": "noise_max"}


# Ranges


def read_ranges(path: Path, kind: type[Settings]) -> dict[str, Sequence[Any] | Between]:
    """Ranges of a file, a line each: a name, then ``choice [..]``, ``uniform low,high``,
    ``loguniform low,high`` (of the natural logarithm) or ``quniform low,high,step``.

    Names may be any spelling of a setting; of what is no setting of the model's, and of a value
    that it cannot have, InputError.
    """
    spelt = dict(MISSPELT)
    for name, field in kind.model_fields.items():
        spelt |= dict.fromkeys((name, *field.json_schema_extra["spellings"]), name)
    found = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no file of ranges ({error}).") from error
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split(None, 2)
        if not words:
            continue
        where = f"{path} line {number}"
        if len(words) < 3 or words[1] not in ("choice", "uniform", "loguniform", "quniform"):
            raise InputError(f"{where} is not of the form NAME choice|uniform|loguniform VALUES.")
        name, how, values = words
        try:
            given = ast.literal_eval(values if how == "choice" else f"[{values}]")
            if how == "choice":
                found[spelt.get(name, name)] = list(given)
            elif how == "quniform":
                low, high, step = map(float, given)
                count = math.floor((high - low) / step + 1e-9) + 1  # .3 / .1 is 2.9999…
                found[spelt.get(name, name)] = [low + step * n for n in range(count)]
            else:
                low, high = map(float, given)
                log = how == "loguniform"
                bounds = (math.exp(low), math.exp(high)) if log else (low, high)
                if not low < high:
                    raise ValueError
                found[spelt.get(name, name)] = Between(*bounds, log=log)
            if not found[spelt.get(name, name)]:
                raise ValueError
        except (ValueError, TypeError, SyntaxError, ZeroDivisionError, OverflowError) as error:
            raise InputError(f"{where} has no values that can be read: {values}.") from error
    for name, some in found.items():
        if isinstance(some, Between):  # whose ends, and whole numbers, are hardly drawn
            some = [some.low + (some.high - some.low) * share for share in (0.0001, 0.9999)]
        for value in some:
            kind.check(name, value)
    return found


def spoken(value: Any) -> Any:
    """A value in a form that Optuna keeps: lists as the words of a flag."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, (list, tuple)) else value


def distributions(ranges: Ranges) -> dict[str, optuna.distributions.BaseDistribution]:
    return {
        name: optuna.distributions.FloatDistribution(some.low, some.high, log=some.log)
        if isinstance(some, Between)
        else optuna.distributions.CategoricalDistribution([spoken(value) for value in some])
        for name, some in ranges.items()
    }


def combinations(ranges: Ranges, trials: int, minutes: float) -> list[dict[str, Any]]:
    """Every combination of what is chosen from, if there are at most ``trials``; else none, nor
    where ``minutes`` might be over before their better half is tried."""
    if minutes or any(isinstance(some, Between) for some in ranges.values()):
        return []
    if math.prod(map(len, ranges.values())) > trials:
        return []
    values = itertools.product(*([spoken(value) for value in some] for some in ranges.values()))
    return [dict(zip(ranges, some, strict=True)) for some in values]


# Trials


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
            trials of other data, and of other flags.
    """

    def __init__(self, path: Path, data: str, command_of: Callable[[Mapping[str, Any], str], str]):
        self.path, self.data, self.command_of = path, data, command_of
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lock = optuna.storages.journal.JournalFileOpenLock(str(path))

    def rows(self) -> list[dict[str, str]]:
        """Those of this search."""
        return [row for row in read_trials(self.path) if self.holds(row)]

    def holds(self, row: Mapping[str, str]) -> bool:
        """Whether a row is of this search; behind the command it may say what went wrong."""
        told = row["command"].split(WENT_WRONG)[0]
        return row["data"] == self.data and told == self.command_of(
            json.loads(row["settings"]), row["seed"]
        )

    def add(self, **row: Any) -> None:
        self.lock.acquire()
        try:
            rows = read_trials(self.path)
            number = str(len(rows))
            rows.append({name: str(row.get(name, "")) for name in COLUMNS} | {"trial": number})
            write_csv(self.path, rows)
        finally:
            self.lock.release()


class Search:
    """What all trials share; each process has its own.

    Args:
        flags: of every trial, as the words of a command line.
        ranges: what is searched, and ``own`` a file of models, whose content counts as code does.
    """

    def __init__(
        self, variant: Variant, dataset: str, flags: list[str], ranges: Ranges, table: Path,
        own: Path | None = None,
    ):  # fmt: skip
        self.variant, self.dataset, self.flags, self.ranges = variant, dataset, flags, ranges
        base = [*variant.flags, "--dataset", dataset, *flags]
        told = RunOptions.own(given(make_parser(variant, "", variant.options), base))
        if idle := sorted(set(told) - OF_TRIALS):
            raise InputError(f"{idle[0]} is of a training by itself: a search has no use for it.")
        self.settings, self.options = parse(variant, base)
        self.prepared: dict[int, Dataset] = {}  # by the seed of the noise, 0 without
        data = self.data_with(self.options.seed).fingerprint()["sha256"]
        self.table = Table(table, data, self.command_of)
        self.commit = " ".join([code_version() or "", digest_of(own) if own else ""]).strip()

    def data_with(self, seed: int) -> Dataset:
        """What a trial with this seed trains on: random noise, if any, is drawn with it."""
        noise = self.settings.random_noise
        drawn = seed if noise else 0
        if drawn not in self.prepared:
            _, folder = find_dataset(self.dataset, self.options.data_path)
            plain, _ = read_once(
                folder, self.settings.drop_unknown, noise, drawn, self.settings.drop_repeated
            )
            self.prepared[drawn] = self.variant.prepare(plain, self.options)
        return self.prepared[drawn]

    def command_of(self, values: Mapping[str, Any], seed: int | str) -> str:
        """The command of a trial."""
        words = [
            *self.variant.flags, "--dataset", self.dataset, *self.flags, "--seed", str(seed),
            *flags_of(values),
        ]  # fmt: skip
        return command_line(self.variant, "main.py", words)

    def start(self) -> dict[str, Any]:
        """The preset's values of what is searched, if they lie in the ranges."""
        found = {}
        for name, some in self.ranges.items():
            value = self.settings.dump()[name]
            inside = (
                some.low <= value <= some.high
                if isinstance(some, Between)
                else spoken(value) in [spoken(choice) for choice in some]
            )
            if inside:
                found[name] = spoken(value)
        return found

    def known(self, values: Mapping[str, Any], seed: int) -> dict[str, str] | None:
        """The latest row of a trial with these settings, be it that it was stopped early or
        failed."""
        told = json.dumps(dict(values)), str(seed)
        rows = reversed(self.table.rows())
        return next((row for row in rows if (row["settings"], row["seed"]) == told), None)

    def run(self, values: Mapping[str, Any], seed: int, trial: optuna.Trial | None = None) -> float:
        """One training, which stands in the table afterwards; its best validation metric."""
        model, kind = self.variant.model, self.variant.settings
        row = {
            "seed": seed, "settings": json.dumps(dict(values)), "data": self.table.data,
            "commit": self.commit, "command": self.command_of(values, seed),
        }  # fmt: skip
        metric, best, last, rises = self.settings.select_by, -math.inf, 0, []

        def watch(found: dict[str, float]) -> None:
            nonlocal best, last
            before, last = range(last + 1, found["epoch"]), found["epoch"]
            if trial is not None and rises:  # as `curve_of` has them
                for epoch in before:
                    trial.report(best, epoch)
            if found[metric] > best:
                best = found[metric]
                rises.append(f"{last}:{best:.6f}")
            if trial is not None:
                trial.report(best, last)
                if trial.should_prune():
                    raise optuna.TrialPruned

        started, state, run, stopped = time.process_time(), FAILED, None, False
        try:
            settings = kind.of(self.settings.dump(), values)
            data = self.data_with(seed)
            with tempfile.TemporaryDirectory() as folder:
                of_model = settings.part(model.Settings).dump()
                sources = {name: getattr(self.options, name) for name in model.sources}
                built = model.for_dataset(data, seed=seed, **of_model, **sources)
                run = train(
                    built, data, seed=seed, save_path=folder, on_evaluation=watch,
                    device=choose_device(self.options.cuda, self.options.gpu),
                    **settings.part(model.Training).dump(),
                )  # fmt: skip
            state = DONE
        except optuna.TrialPruned:
            state = PRUNED
            raise
        except InputError as error:  # settings that do not go together, or a loss that explodes
            if stop_asked.is_set():
                raise
            row["command"] += f"{WENT_WRONG}{error}"
            raise optuna.TrialPruned(str(error)) from error
        except KeyboardInterrupt:  # it is no trial then, and is done when the search goes on
            stopped = True
            raise
        finally:
            told = {"epochs": last, "curve": " ".join(rises)}
            if run:
                told |= {"best_epoch": run.best_epoch, "epochs": run.record["epochs"]}
            value = run.valid[metric] if run else best
            if not (stopped or stop_asked.is_set()):
                self.table.add(
                    **row, **told, state=state, seconds=f"{time.process_time() - started:.1f}",
                    valid=f"{value:.6f}" if math.isfinite(value) else "",
                )  # fmt: skip
        return run.valid[metric]


# Processes


def study_of(journal: Path, seed: int) -> optuna.Study:
    """The study that processes share, by way of a file."""
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend), study_name="search", direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8
        ),
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=8, n_min_trials=3),
    )  # fmt: skip


def inside(row: Mapping[str, str], known: Mapping) -> bool:
    """Whether the settings of a row, of an earlier search maybe, lie in the ranges of this one."""
    try:
        optuna.trial.create_trial(
            params=json.loads(row["settings"]), distributions=known, value=0.0
        )
    except (ValueError, TypeError):
        return False
    return True


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


def as_trial(row: Mapping[str, str], known: Mapping) -> optuna.trial.FrozenTrial:
    """A row of the table that has a metric."""
    done = row["state"] == DONE
    return optuna.trial.create_trial(
        params=json.loads(row["settings"]), distributions=known,
        value=float(row["valid"]) if done else None, intermediate_values=curve_of(row),
        state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED,
    )  # fmt: skip


def ends_so(row: Mapping[str, str]) -> bool:
    """Whether a trial would end no other way, if it were run to its end again."""
    return row["state"] == DONE or (row["state"] == FAILED and WENT_WRONG in row["command"])


def fill_study(study: optuna.Study, search: Search, trials: int, minutes: float) -> None:
    """Put the table's trials into a new study, and what shall be tried first: all combinations, if
    they are few, or else the preset's settings."""
    known, rows = distributions(search.ranges), search.table.rows()
    for row in rows:
        if row["valid"] and row["state"] != FAILED and inside(row, known):
            study.add_trial(as_trial(row, known))
    every = combinations(search.ranges, trials, minutes)
    ended = [json.loads(row["settings"]) for row in rows if ends_so(row)]
    for values in every or ([] if rows else [search.start()]):
        if values not in ended:
            study.enqueue_trial(values, user_attrs={"wanted": True})


def spent(search: Search) -> tuple[int, float]:
    """The number of trials in the ranges, to which the best few's further seeds do not count, and
    the CPU minutes of both."""
    known = distributions(search.ranges)
    return told_of(search, [row for row in search.table.rows() if inside(row, known)])


def told_of(search: Search, rows: Sequence[Mapping[str, str]]) -> tuple[int, float]:
    """The number of trials among ``rows``, and the CPU minutes of all."""
    drawn = [row for row in rows if row["seed"] == str(search.options.seed)]
    return len(drawn), sum(float(row["seconds"]) for row in rows) / 60


def tell_of_others(search: Search) -> None:
    """Say which trials of the table do not count, and which came from other code."""
    rows, path = search.table.rows(), search.table.path
    others = len(read_trials(path)) - len(rows)
    if others:
        print(f"{others} trials in {path} are of other flags or data: they do not count.")
    elsewhere = sum(row["commit"] != search.commit for row in rows)
    if elsewhere:
        print(f"{elsewhere} trials that count are of other code: remove {path} to begin anew.")


def work(
    number: int, own: Path | None, name: str, dataset: str, flags: list[str], ranges: Ranges,
    table: Path, journal: Path, trials: int, minutes: float,
) -> None:  # fmt: skip
    """One of the processes: trials until there are enough or their time is over. own: a file of
    models."""
    quiet()
    if own:
        register_from(own)
    search = Search(variant_of(name), dataset, flags, ranges, table, own)
    study = study_of(journal, seed=number + 1)
    whole, known = bool(combinations(ranges, trials, minutes)), distributions(ranges)
    seed, repeated = search.options.seed, 0
    while True:
        count, taken = spent(search)
        count += len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]))
        over = count >= trials or (minutes and taken >= minutes) or repeated == REPEATED
        if over and not whole:
            return
        trial = study.ask(known)
        if whole and not trial.user_attrs:  # all combinations are taken
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        before = None if whole else search.known(trial.params, seed)
        if before is not None:  # it is known how it ends
            if before["state"] == DONE:
                study.tell(trial, float(before["valid"]))
            else:
                for epoch, value in curve_of(before).items() if before["valid"] else ():
                    trial.report(value, epoch)
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            repeated += 1
            continue
        repeated = 0
        try:
            study.tell(trial, search.run(trial.params, seed, None if whole else trial))
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("DiffRec").setLevel(logging.WARNING)  # a line for each trial is enough


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


# The preset


def toml(value: Any) -> str:
    """A setting's value as TOML writes it."""
    return json.dumps(value) if not isinstance(value, float) else repr(value)


def key(name: str) -> str:
    """A name as a key of TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def write_preset(search: Search, values: Mapping[str, Any], about: str, path: Path) -> str:
    """Put the settings into a file of presets, as DATASET_tuned; returns the section."""
    variant = search.variant
    header = "".join(f'"{part}".' for part in variant.section) + key(search.dataset + TUNED)
    tuned = variant.settings.of(search.settings.dump(), values).dump()
    plain = variant.settings().dump()
    lines = [f"{name} = {toml(value)}" for name, value in tuned.items() if value != plain[name]]
    text = f"# {about}\n[{header}]\n" + "\n".join(lines)
    before = path.read_text() if path.is_file() else ""
    known = re.search(rf"data (\w+)\.\n\[{re.escape(header)}\]\n", before)
    if known and known[1] != search.table.data:
        print(f"{search.dataset}{TUNED} in {path}, of other data of that name, is replaced.")
    old = re.compile(rf"(# [^\n]*\n)*\[{re.escape(header)}\]\n([^\[\n][^\n]*\n?)*\n*")
    write_text(path, f"{old.sub('', before).rstrip()}\n\n{text}")
    return text


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
    if args.presets:
        print(f"To use it: --preset {args.presets}:{dataset}{TUNED}")


if __name__ == "__main__":
    command(main)
