"""A trial: one training with settings that a search drew, and its row in the table."""

import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from reproduction.runs import read_once

from DiffRec.data_utils import Dataset, find_dataset
from DiffRec.engine.commands import command_line, make_parser, parse, stop_asked
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import flags_of, given
from DiffRec.engine.machine import choose_device, code_version
from DiffRec.engine.run import train
from DiffRec.engine.settings import Between, Ranges, RunOptions
from DiffRec.engine.variant import Variant
from DiffRec.engine.warm import digest_of
from searching.ranges import spoken
from searching.table import DONE, FAILED, PRUNED, WENT_WRONG, Table

# Of a training's options those that trials have; the others would do nothing in a search.
OF_TRIALS = {"dataset", "data_path", "preset", "seed", "cuda", "gpu"}


class Search:
    """What all trials share; each process has its own.

    Args:
        flags: of every trial, as the words of a command line.
        ranges: what is searched, but for what ``flags`` say; ``own``: a file of models, whose
            content counts as code does.
    """

    def __init__(
        self, variant: Variant, dataset: str, flags: list[str], ranges: Ranges, table: Path,
        own: Path | None = None,
    ):  # fmt: skip
        self.variant, self.dataset, self.flags = variant, dataset, flags
        base = [*variant.flags, "--dataset", dataset, *flags]
        told = given(make_parser(variant, "", variant.options), base)
        if idle := sorted(set(RunOptions.own(told)) - OF_TRIALS):
            raise InputError(f"{idle[0]} is of a training by itself: a search has no use for it.")
        self.ranges = {name: some for name, some in ranges.items() if name not in told}
        if not self.ranges:
            raise InputError("the flags say all that has a range: nothing is left to search.")
        self.settings, self.options = parse(variant, base)
        self.prepared: dict[int, Dataset] = {}  # by the seed of the noise, 0 without
        data = self.data_with(self.options.seed).fingerprint()["sha256"]
        self.table = Table(table, data, self.command_of, told)
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
