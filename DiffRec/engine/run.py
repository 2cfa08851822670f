"""A run from its start to its result: `train`, which the commands call too."""

import dataclasses
import glob
import logging
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from DiffRec.data_utils import Dataset, require_dataset
from DiffRec.engine import checkpoints
from DiffRec.engine.checkpoints import part_paths
from DiffRec.engine.contract import Recommender
from DiffRec.engine.errors import InputError, require_built
from DiffRec.engine.ids import IdMap
from DiffRec.engine.machine import (
    choose_device,
    machine,
    precision_of_products,
    prepared_device,
)
from DiffRec.engine.paper import comparable_figures, metrics_table
from DiffRec.engine.progress import Log
from DiffRec.engine.ranks import Ranks, here
from DiffRec.engine.settings import DataSettings, RunOptions, TrainingSettings
from DiffRec.engine.training import OnEvaluation, Training, result_of, state_of
from DiffRec.engine.variant import OWN_DATA, own_variant, settings_of
from DiffRec.engine.warm import digest_of, digest_of_weights, take_over
from DiffRec.evaluate_utils import require_parts_suffice

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """A training that ended.

    Attributes:
        record: what a result file holds: all settings, metrics unrounded, seconds, machine.
        checkpoint: the file of the best model.
    """

    record: dict[str, Any]
    checkpoint: Path

    @property
    def history(self) -> list[dict[str, float]]:
        """Of each evaluation the epoch, the loss, and the metrics of validation."""
        return self.record["history"]

    @property
    def valid(self) -> dict[str, float]:
        """The best model's metrics on validation, and ``test`` those on test."""
        return self.record["valid"]

    @property
    def test(self) -> dict[str, float]:
        return self.record["test"]

    @property
    def best_epoch(self) -> int:
        return self.record["best_epoch"]


def train(
    model: Recommender,
    dataset: Dataset,
    *,
    preset: str = "none",
    seed: int | None = None,
    save_path: str | Path | None = None,
    log_name: str = "log",
    resume: bool = False,
    keep_state: bool = False,
    long_names: bool = False,
    final: bool = False,
    warm_start: str | Path | None = None,
    device: str | torch.device | None = None,
    tensorboard: str | Path | None = None,
    on_evaluation: OnEvaluation | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """Train a model until validation stops rising; afterwards it holds its best weights. One that
    was trained before goes on from its weights, be it that it was stopped, and one whose weights
    are not those that `for_dataset` drew begins with what it has: its files' names end in _more and
    six letters that tell these weights from others.

    Args:
        preset: settings to start from, such as "ml-1m_clean" for the published ones.
        seed: of everything random; by default that of `for_dataset`, with which a model trains as
            by the command line, or else 1. Another one is for a model that was trained before.
        save_path: folder for the checkpoint, the result, the state for ``resume``, the log and the
            curve; by default saved_models in the model's folder, or, installed, in the one you are
            in.
        resume: go on where the model's last run was stopped, or the one that began with its
            weights. One that is done gives its result again; it is made longer only if it was
            called with ``keep_state``, which keeps what it goes on from; so is one that
            ``on_evaluation`` ended.
        long_names: name files by all settings, as the released checkpoints are.
        final: train on everything, `Dataset.everything`, for all ``epochs``, with nothing left to
            evaluate by; the names of the run's files end in _final.
        warm_start: a checkpoint of the same model, trained on older data, whose weights it begins
            with (`DiffRec.engine.warm`).
        device: by default a GPU if there is one; the model is moved there.
        tensorboard: folder for curves, if wanted.
        on_evaluation: called after each evaluation with its row of the history, beside which are
            the metrics on test (test_recall@20, …), for nothing to be chosen by. If it gives True
            the training ends there, as after its last epoch; an error that it raises breaks it off.
            Of several processes any one may end it.
        progress: whether bars are shown; by default in a terminal, and not in a notebook.
        settings: those of the model's ``Training``, such as lr, epochs or batch_size. How it is
            evaluated the data set may say (`Dataset.evaluation`).

    Raises InputError, a ValueError, for settings that do not exist or do not fit.
    """
    require_dataset(dataset)
    require_built(model)
    if not (on_evaluation is None or callable(on_evaluation)):
        raise InputError(f"on_evaluation is a function, not {type(on_evaluation).__name__}.")
    variant = own_variant(model)
    if seed is None:
        seed = 1 if model.seeded is None else model.seeded[0]
    told = {"preset": preset, "seed": seed, "log_name": log_name, "resume": resume,
            "keep_state": keep_state, "long_names": long_names, "save_path": save_path,
            "tensorboard": tensorboard, "warm_start": warm_start}  # fmt: skip
    options = variant.options.of(told)
    require_seed(model, dataset, options.seed)
    data = dataset.fingerprint()["sha256"]
    if final:
        if dataset.random_noise:
            raise InputError("random_noise is for experiments: it does not go with a final fit.")
        dataset = dataset.everything()
    require_fit(model, dataset, options)
    chosen = settings_of_training(model, dataset, variant.preset(preset), settings)
    if model.shards is not None:
        require_parts_suffice(chosen.metrics)
    of_data = {name: getattr(dataset, name) for name in DataSettings.names()}
    everything = settings_of(type(model)).of(model.settings.dump(), chosen.dump(), of_data)
    about = dataset.name, everything.dump(), options.seed, options.log_name
    if options.long_names:
        name = variant.long_name_of_run(*about, preset)
    else:
        name = variant.name_of_run(*about, data, model.identity())
    ranks = here() if model.shards is None else model.shards
    folder = options.save_path or variant.saved_models

    def file_of(suffix: str) -> Path:
        return folder / f"{name}{suffix}{'_final' if final else ''}.safetensors"

    suffix, began = first_weights(
        model, dataset, options, ranks, lambda suffix: is_there(ranks.file(file_of(suffix)))
    )
    checkpoint = file_of(suffix)
    device = choose_device(None, "0") if device is None else prepared_device(device)
    if device.type == "cuda" and ranks.several:
        torch.cuda.set_device(device)  # where NCCL exchanges objects
    torch.manual_seed(options.seed)
    if model.seeded is not None and model.seeded[0] == options.seed and "went_on" not in began:
        torch.set_rng_state(model.seeded[1])
    model = model.to(device)
    model.forget_data()
    dataset = ranks.own(model.prepare_data(dataset.to(device)))
    if chosen.compile:
        model.compile()
    if model.shards is None:
        require_no_parts(checkpoint)
    own = ranks.file(checkpoint)
    training = Training(model, dataset, everything, options.seed, own, options.tensorboard, ranks)
    training.shows = progress
    training.header |= {"preset": preset, **began}
    told = {"resume": options.resume, "keep_state": options.keep_state}
    ranks.require_same({**training.identity(), **training.header["settings"], **told})
    if not training.chooses and training.optimizers and "epochs" not in chosen.model_fields_set:
        raise InputError(
            f"{dataset.name} has no validation to choose the number of epochs by: give epochs, "
            f"such as the best_epoch of a run that had one."
        )
    log = Log(checkpoint.with_suffix(".log") if ranks.writes else None)
    made_on = {**machine(device), "processes": ranks.size}  # its commit is that of the start
    describe(log, training, device, preset, settled=final)
    model.trained_on, model.begun = None, (suffix, began)
    carry_out(training, options.resume, log, on_evaluation)
    model.popularity, model.trained_on = training.popularity, training.fingerprint
    model.item_ids = IdMap("item", model.n_items, training.item_ids)
    record = record_of(training, made_on)
    training.finish(record, options.keep_state)
    model.eval()
    return Run(record, checkpoint)


def require_seed(model: Recommender, dataset: Dataset, seed: int) -> None:
    """InputError if the model's first weights, or the data's noise, come from another seed."""
    if model.is_fresh and model.seeded is not None and model.seeded[0] != seed:
        raise InputError(
            f"the model's first weights were drawn with seed {model.seeded[0]}: give for_dataset "
            f"seed={seed} too, or leave it out here."
        )
    if dataset.random_noise and dataset.noise_seed != seed:
        raise InputError(
            f"the data's random noise was drawn with seed {dataset.noise_seed}: train with the "
            f"same seed, by which the checkpoint finds its data again."
        )


def require_fit(model: Recommender, dataset: Dataset, options: RunOptions) -> None:
    """InputError if the model is not built for these data, or can not begin as it shall."""
    model.require_data(dataset)
    if dataset.name != Path(dataset.name).name:
        raise InputError(f"a data set's name must be one that a file can have: {dataset.name}.")
    n_items = model.n_items if model.shards is None else model.shards.n_items
    if dataset.n_items != n_items:
        raise InputError(
            f"the model is built for {n_items} items, but {dataset.name} has {dataset.n_items}."
        )
    if model.shards is not None and options.warm_start:
        raise InputError("item_shards does not go with warm_start.")


def require_no_parts(checkpoint: Path) -> None:
    """InputError if processes that split the items between them have left files of this run."""
    for path in (*part_paths(checkpoint, ".state"), *part_paths(checkpoint)):
        raise InputError(
            f"{path} is of this run with its items split: go on with as many item_shards, or move "
            f"its parts away first."
        )


def settings_of_training(
    model: Recommender, dataset: Dataset, preset: Mapping[str, Any], given: Mapping[str, Any]
) -> TrainingSettings:
    """Those of the data set, of a preset, and given ones, each above those before it."""
    if elsewhere := sorted(set(given) & (model.Settings.names() - model.Training.names())):
        raise InputError(f"{elsewhere[0]} is a setting of the model: give it to for_dataset.")
    of_data = model.evaluation_of(dataset.evaluation)
    chosen = model.Training.of(of_data, model.Training.own(preset), given)
    chosen.require_used(given)
    return chosen


def is_there(checkpoint: Path) -> bool:
    """Whether a run with this checkpoint was done, or broken off after an evaluation."""
    return state_of(checkpoint).is_file() or result_of(checkpoint).is_file()


def first_weights(
    model: Recommender, dataset: Dataset, options: RunOptions, ranks: Ranks,
    known: Callable[[str], bool],
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    """What a run that does not begin with fresh weights has at the end of its name, and in its
    header; ``known`` tells whether there are files of a run with such an end."""
    if options.warm_start:
        take_over(model, options.warm_start, dataset)
        suffix = f"_warm-{digest_of(options.warm_start)}"
        return suffix, {"warm_start": options.warm_start.name}
    if model.closed_form:
        return "", {}
    drawn = False
    if model.is_fresh and model.seeded is not None:
        model.forget_data()  # of an evaluation before
        drawn = model.seeded[2:] == (model.digest(),)
    if all(ranks.collect(drawn)):
        return "", {}
    if options.resume and model.begun is not None and known(model.begun[0]):
        return model.begun
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise InputError("the model's weights are no numbers any more: make a new one.")
    if model.is_fresh:
        logger.warning("the model's weights are not those of for_dataset: it begins with them.")
    else:
        logger.warning("the model was trained before: it goes on from its weights.")
    return f"_more-{digest_of_weights(model, ranks)}", {"went_on": True}


def carry_out(
    training: Training, resume: bool, log: Log, on_evaluation: OnEvaluation | None
) -> None:
    """Train, and put the best weights into the model; say what happens."""
    try:
        if resume and training.is_finished():
            log(f"this run is done, after epoch {training.progress.epoch}: its result")
        else:
            if resume:
                found = training.resume()
                log(
                    f"resumed after epoch {training.progress.epoch}"
                    if found
                    else "nothing to resume: starting from the first epoch"
                )
                if not found and (others := stopped_beside(training)):
                    log(f"  (of other settings, data or weights: {', '.join(others)})")
            elif training.state_path.is_file():
                log(
                    "the state of an earlier start of this run will be replaced: stop now, and "
                    "give --resume, to go on with it"
                )
            elif training.replaces_longer():
                log(
                    "the result of an earlier run of this name, of more epochs, will be replaced: "
                    "stop now, and give another --log_name or --save_path, to keep it"
                )
            training.ranks.wait()  # all have read what is there
            with precision_of_products(training.settings.precision):
                training.run(log, on_evaluation)
        training.ranks.wait()  # it is written
        own = training.checkpoint
        checkpoints.fill(training.model, checkpoints.load(own)[1], own)
        log(outcome_of(training))
    except KeyboardInterrupt:
        if training.state_path.is_file():
            log(
                "the same command with --resume (in Python the same model with "
                "resume=True) goes on from the last evaluation."
            )
        else:
            log("not evaluated yet: there is nothing to resume.")
        raise


def stopped_beside(training: Training) -> list[str]:
    """The states of runs of this model, name of data and seed that were stopped in the folder of
    this one."""
    header = training.header
    name = glob.escape(f"{header['variant']}_{header['dataset']}")
    found = training.state_path.parent.glob(f"{name}*_seed{header['seed']}_*.state")
    return sorted(path.name for path in found)


def record_of(training: Training, made_on: dict[str, Any]) -> dict[str, Any]:
    """What a result file holds; made_on: the machine."""
    progress = training.progress
    return {
        "format": checkpoints.FORMAT,
        **training.header,
        "checkpoint": checkpoints.whole_path(training.checkpoint).name,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        **({"ended": True} if progress.ended else {}),
        "valid": progress.valid,
        "test": progress.test,
        "history": progress.history,
        "evaluations": len(progress.history) if training.chooses else 0,
        "parameters": training.parameters,
        "seconds": {
            "training": progress.training_seconds,
            "evaluation": progress.evaluation_seconds,
        },
        "peak_memory_mb": progress.peak_memory_mb,
        "data": training.fingerprint,
        "machine": made_on,
    }


def outcome_of(training: Training) -> str:
    """What is said at the end: metrics beside the paper's, epochs, sizes and seconds."""
    progress, header = training.progress, training.header
    paper = comparable_figures(header["variant"], header["dataset"], header["settings"])
    outcome = f"epochs {progress.epoch}; there is no validation, and nothing was evaluated"
    if training.chooses:
        metrics = metrics_table(progress.valid, progress.test, paper)
        outcome = f"\n{metrics}\n\nbest epoch {progress.best_epoch} of {progress.epoch}"
    return (
        f"{outcome}; {training.parameters:,} parameters; "
        f"training {progress.training_seconds:.1f} s, evaluation "
        f"{progress.evaluation_seconds:.1f} s; peak memory {progress.peak_memory_mb:.0f} MB"
        f"\ncheckpoint: {checkpoints.whole_path(training.checkpoint)}"
    )


def describe(
    log: Log, training: Training, device: torch.device, preset: str, settled: bool
) -> None:
    """Say what runs: data, device, preset and every setting; ``settled``: that of a run before."""
    dataset, header = training.dataset, training.header
    log(
        f"{header['variant']} on {dataset.name}: {dataset.n_users:,} users, "
        f"{training.fingerprint['items']:,} items, {dataset.count('train'):,} / "
        f"{dataset.count('valid'):,} / {dataset.count('test'):,} interactions (train / valid / "
        f"test); {device}, "
        f"{torch.get_num_threads()} threads, seed {header['seed']}, preset {preset}"
    )
    if preset == OWN_DATA and not settled:
        log(
            "  no settings are known for these data: those that docs/own-data.md gives for such, "
            "and says how to search for better ones (--preset none: the release's defaults)"
        )
    words = (f"{name}={value}".replace(" ", "") for name, value in header["settings"].items())
    log(textwrap.fill("  ".join(words), 100, initial_indent="  ", subsequent_indent="  "))
