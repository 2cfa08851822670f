"""The study of Optuna that chooses what is tried next, and the processes that try it."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna

from DiffRec.engine.settings import Ranges
from DiffRec.engine.variant import register_from, variant_of
from searching.ranges import combinations, distributions
from searching.table import DONE, FAILED, curve_of, ends_so, read_trials
from searching.trials import Search

REPEATED = 100  # times in a row that known settings are drawn before a search is over


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


def as_trial(row: Mapping[str, str], known: Mapping) -> optuna.trial.FrozenTrial:
    """A row of the table that has a metric."""
    done = row["state"] == DONE
    return optuna.trial.create_trial(
        params=json.loads(row["settings"]), distributions=known,
        value=float(row["valid"]) if done else None, intermediate_values=curve_of(row),
        state=optuna.trial.TrialState.COMPLETE if done else optuna.trial.TrialState.PRUNED,
    )  # fmt: skip


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
    whole = bool(combinations(search.ranges, trials, minutes))
    known = distributions(search.ranges)
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
