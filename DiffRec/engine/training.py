"""The training loop of every model: epochs, validation, early stopping, resume."""

import dataclasses
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm import tqdm

from DiffRec.data_utils import Dataset
from DiffRec.engine import checkpoints
from DiffRec.engine.averaging import MovingAverage
from DiffRec.engine.contract import Recommender, rows_at_once
from DiffRec.engine.errors import InputError, reason_of, settings_from_user
from DiffRec.engine.files import write_json, write_text, write_torch
from DiffRec.engine.ids import IdMap
from DiffRec.engine.machine import peak_memory_mb
from DiffRec.engine.progress import Log, Progress, curve, curves_for_tensorboard
from DiffRec.engine.ranks import ALONE, Ranks, Streams
from DiffRec.engine.released import require_unpacked
from DiffRec.engine.settings import EvaluationSettings, Settings, TrainingSettings
from DiffRec.engine.variant import FREE, code_of, settings_of
from DiffRec.evaluate_utils import evaluate

logger = logging.getLogger(__name__)

# Is given a row of the history, and may give True to end the training.
OnEvaluation = Callable[[dict[str, float]], bool | None]


def state_of(checkpoint: Path) -> Path:
    """Where the state of a run lies, by its checkpoint."""
    return checkpoint.with_name(checkpoint.name + ".state")


def result_of(checkpoint: Path) -> Path:
    """Where the result of a run lies that is done."""
    return checkpoint.with_suffix(".json")


def is_true(answer: Any) -> bool:
    """Whether an answer is True, of Python, NumPy or torch."""
    if getattr(answer, "dtype", None) in (torch.bool, np.dtype(bool)):
        return math.prod(answer.shape) == 1 and bool(answer)
    return answer is True


def evaluate_model(
    model: Recommender, dataset: Dataset, settings: EvaluationSettings, ranks: Ranks = ALONE
) -> dict[str, dict]:
    """`evaluate` of a model as the settings say; nothing for a list that is empty."""
    how = settings.part(EvaluationSettings).model_dump()
    rows = rows_at_once(dataset.catalogue)  # for every rank, whatever its share of the items
    found = evaluate(model, dataset, batch_size=rows, ranks=ranks, **how)
    return {split: found[split] if dataset.count(split) else {} for split in found}


def raw_item_ids(dataset: Dataset) -> np.ndarray | None:
    """(I,) the raw ids beside the data, if they are there and fit."""
    first = dataset.first_item
    try:
        raw = IdMap.of_folder("item", dataset.path, dataset.catalogue).raw
        return None if raw is None else raw[first : first + dataset.n_items]
    except InputError as error:
        logger.warning("%s It is not used.", error)
        return None


class Training:
    """One run of a model on a data set.

    Args:
        model, dataset: on one device; the data as the model wants them.
        settings: all that decides the numbers (`variant.settings_of`).
        seed: of everything random.
        checkpoint: where the best model goes. Beside it lie the curve, with the suffix ``.csv``;
            of a run that is not done the state from which it is resumed, ``.state``; and of one
            that is done its result, ``.json``.
        tensorboard: a folder for curves, or None.
        ranks: the processes that train together, each of which has such a training.

    Attributes:
        chooses: whether there is validation to choose the best epoch by. Without it all epochs are
            trained, nothing is evaluated, and the last one is the model.
        shows: whether there are bars; None: in a terminal.
    """

    chooses = True
    shows: bool | None = None
    ranks = ALONE

    def __init__(
        self,
        model: Recommender,
        dataset: Dataset,
        settings: Settings,
        seed: int,
        checkpoint: Path,
        tensorboard: Path | None = None,
        ranks: Ranks = ALONE,
    ):
        self.model, self.dataset, self.checkpoint = model, dataset, checkpoint
        self.ranks = ranks
        self.settings: TrainingSettings = settings.part(model.Training)
        self.settings.check_selection()
        if self.settings.tst_w_val:
            model.require_rows("to test it with validation as input too would change nothing")
        self.header: dict[str, Any] = {
            "variant": model.variant, "dataset": dataset.name, "settings": settings.dump(),
            "seed": seed,
        }  # fmt: skip
        self.state_path, self.result_path = state_of(checkpoint), result_of(checkpoint)
        self.fingerprint = dataset.fingerprint()
        self.item_ids = raw_item_ids(dataset)
        self.popularity = dataset.popularity()
        with settings_from_user():
            self.optimizers = model.optimizers(self.settings)
        if not isinstance(self.optimizers, list):
            raise InputError(f"the optimizers of {model.variant} must be a list.")
        if any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in self.optimizers):
            raise InputError(
                "LBFGS asks for the loss several times a batch: take another optimiser."
            )
        self.first_rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.average = None
        if self.settings.ema and self.optimizers:
            self.average = MovingAverage(model, self.settings.ema)
        self.progress = Progress()
        self.tensorboard = tensorboard if ranks.writes else None
        self.chooses = dataset.count("valid") > 0

    @functools.cached_property
    def trained(self) -> torch.nn.Module:
        """The model as training calls it; all processes must be known to train the same."""
        return self.ranks.wrap(self.model)

    @property
    def candidate(self) -> Recommender:
        """The model that is evaluated and saved: the one that is trained, or its average."""
        return self.model if self.average is None else cast(Recommender, self.average.module)

    @functools.cached_property
    def parameters(self) -> int:
        """How many numbers the whole model has learned; asked of all ranks, once, at the end."""
        return self.ranks.parameters_of(self.model)

    def evaluate(self) -> dict[str, dict[str, float]]:
        return evaluate_model(self.candidate.eval(), self.dataset, self.settings, self.ranks)

    # State -------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """What, besides settings, two runs must share for one to go on with the other's state."""
        about = {name: self.header[name] for name in ("variant", "dataset", "seed")}
        return {**about, **self.model.identity(), "data": self.fingerprint}

    def _random_states(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return states

    def save_state(self) -> None:
        now = self.ranks.most(peak_memory_mb(self.model.device))
        self.progress.peak_memory_mb = max(self.progress.peak_memory_mb, now)
        if not self.ranks.keeps:
            return
        state = {
            "format": checkpoints.FORMAT,
            "settings": self.header["settings"],
            "identity": self.identity(),
            "code": code_of(self.model),
            "progress": dataclasses.asdict(self.progress),
            "weights": checkpoints.weights_of(self.model),
            "average": None if self.average is None else checkpoints.weights_of(self.average),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "model_state": self.model.training_state(),
            "random": self._random_states(),
        }
        self.ranks.write_state(self.state_path, lambda path: write_torch(path, state))
        self.result_path.unlink(missing_ok=True)  # of a run before, under the same name

    def save_checkpoint(self) -> None:
        if not self.ranks.keeps:
            return
        progress = self.progress
        found = {"best_epoch": progress.best_epoch, "valid": progress.valid, "test": progress.test}
        header = {**self.header, **found, "data": self.fingerprint}
        checkpoints.save(
            self.checkpoint, self.candidate, header, self.item_ids, self.popularity,
            self.model.part_of_items(),
        )  # fmt: skip

    def read_state(self) -> dict:
        """The content of the state file; InputError if it is of another run."""
        anew = "remove it to start anew"
        require_unpacked(self.state_path)
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
            if type(state) is not dict:
                raise ValueError("it is no state")
            state["progress"] = self.read_progress(state["progress"])
            saved = checkpoints.migrated(state["settings"], state["format"])
            saved = settings_of(type(self.model)).of(saved).dump()
            theirs = {**state["identity"], **saved}
        except Exception as error:  # a foreign or damaged file can raise almost anything
            reason = str(error).split("\n")[0][:200]
            raise InputError(
                f"{self.state_path} is not a training state of this version ({reason}): {anew}."
            ) from error
        self.require_own(self.state_path, theirs, state["progress"])
        return state

    def require_own(self, path: Path, theirs: dict[str, Any], progress: Progress) -> None:
        """InputError unless a file of identity and settings ``theirs`` is of this run, and no
        further than it goes."""
        ours = {**self.identity(), **self.header["settings"]}
        differing = [
            name if isinstance(value, dict) else f"{name} {theirs.get(name)} there, {value} here"
            for name, value in sorted(ours.items())
            if name not in FREE and theirs.get(name) != value
        ]
        if differing:
            raise InputError(
                f"{path} is of another run ({', '.join(differing)}): remove it to start anew."
            )
        if progress.epoch > self.settings.epochs:
            raise InputError(
                f"{path} is at epoch {progress.epoch} already, beyond the {self.settings.epochs} "
                f"that are asked for."
            )
        if self.chooses and self.optimizers and progress.epoch > (end := self.end_of(progress)):
            raise InputError(
                f"{path} is at epoch {progress.epoch} already, beyond epoch {end}, where patience "
                f"{self.settings.patience} would have ended it."
            )

    def end_of(self, progress: Progress) -> int:
        """The epoch at which this run's patience would have ended one that came so far, or would
        end it if nothing better is found."""
        best_epoch, best_value = 0, -math.inf
        for row in progress.history:
            if row["epoch"] > (end := best_epoch + self.settings.patience - 1):
                return end
            if (value := self.compared(row)) > best_value:
                best_epoch, best_value = int(row["epoch"]), value
        return best_epoch + self.settings.patience - 1

    def compared(self, metrics: Mapping[str, float]) -> float:
        """Of metrics of validation the one that tells which model is best, as it is compared."""
        value, decimals = metrics[self.settings.select_by], self.settings.selection_decimals
        return round(value, decimals) if decimals >= 0 else value

    def read_progress(self, saved: dict[str, Any]) -> Progress:
        return Progress.read(saved, self.settings.select_by if self.chooses else None)

    def finish(self, record: dict[str, Any], keep_state: bool) -> None:
        """Write the result of a run that is done, and only then remove its state."""
        if self.ranks.keeps:
            write_json(self.result_path, {**record, "identity": self.identity()})
        self.ranks.wait()
        if self.ranks.keeps and not keep_state:
            self.state_path.unlink(missing_ok=True)

    def replaces_longer(self) -> bool:
        """Whether a result of this run is there, of more epochs than it shall have now."""
        try:
            return json.loads(self.result_path.read_text())["epochs"] > self.settings.epochs
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False

    def is_finished(self) -> bool:
        """Whether this run is done already and has no state any more; its progress is that of the
        result then. InputError if the result is of another run, or of a shorter one, which can not
        go on without its state."""
        whole = self.result_path.is_file() and self.checkpoint.is_file()
        if not any(self.ranks.collect(whole and not self.ranks.has_state(self.state_path))):
            return False
        try:
            record = json.loads(self.result_path.read_text())
            saved = checkpoints.migrated(record["settings"], record["format"])
            saved = settings_of(type(self.model)).of(saved).dump()
            theirs = {**record["identity"], **saved}
            told = {name: record[name] for name in ("best_epoch", "valid", "test", "history")}
            seconds = {f"{name}_seconds": value for name, value in record["seconds"].items()}
            told |= {"epoch": record["epochs"], "peak_memory_mb": record["peak_memory_mb"]}
            told["ended"] = record.get("ended", False)
            progress = self.read_progress({**told, **seconds})
        except Exception as error:  # a foreign or damaged file can raise almost anything
            raise InputError(
                f"{self.result_path} is not the result of a training of this version "
                f"({reason_of(error)}): "
                f"remove it to start anew."
            ) from error
        self.require_own(self.result_path, theirs, progress)
        self.progress = progress
        if progress.epoch < self.last_epoch() and not progress.ended:
            raise InputError(
                f"this run was done after epoch {progress.epoch} and its state was removed: leave "
                f"out --resume to train it anew, and give --keep_state 1 to runs that shall be "
                f"made longer."
            )
        self.save_curve()
        return True

    def resume(self) -> bool:
        """Go on from the state file, if there is one; InputError if it is of another run."""
        self.ranks.settle(self.state_path)
        if not self.state_path.is_file():
            return False
        state = self.read_state()
        try:
            self._take(state)
        except Exception as error:  # what is missing or does not fit can raise almost anything
            raise InputError(
                f"{self.state_path} is not a whole training state ({type(error).__name__}: "
                f"{reason_of(error)}): remove it to start anew."
            ) from error
        progress = self.progress
        behind = 0 < progress.best_epoch < progress.epoch
        if self.chooses and behind and not self.checkpoint.is_file():
            raise InputError(
                f"{self.checkpoint} is gone, and {self.state_path} does not hold the best model: "
                f"remove it to start anew."
            )
        if progress.best_epoch and progress.best_epoch == progress.epoch:
            # The state is written before the checkpoint: a run killed between the two has the
            # best weights here and an older file there.
            self.save_checkpoint()
        self.save_curve()
        return True

    def _take(self, state: dict) -> None:
        """Go on from the content of a state file."""
        self.progress = progress = state["progress"]
        if state.get("code") != code_of(self.model):
            logger.warning("the file that registers %s has changed since.", self.model.variant)
        checkpoints.fill(self.model, state["weights"], self.state_path)
        if self.average is not None:
            checkpoints.fill(self.average, state["average"], self.state_path)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, tensor in self.model.training_state().items():
            tensor.copy_(state["model_state"][name])
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.model.device)
        every = self.settings.eval_every
        early = [row for row in progress.history if row["epoch"] % every]
        if self.chooses and early and self.optimizers and progress.epoch < self.settings.epochs:
            # It ended before its first evaluation was due and was evaluated all the same. A run
            # that is longer from the start is not, and neither is this one.
            empty = Progress()
            progress.history, progress.valid, progress.test = [], {}, {}
            progress.best_epoch, progress.best_value = empty.best_epoch, empty.best_value

    # Training ------------------------------------------------------------------------------------

    @property
    def hidden(self) -> bool | None:
        """For tqdm."""
        if not self.ranks.writes:
            return True
        return None if self.shows is None else not self.shows

    def set_rates(self) -> None:
        """The learning rates of this epoch, where they fall in steps."""
        if self.settings.lr_step:
            share = self.settings.lr_factor ** ((self.progress.epoch - 1) // self.settings.lr_step)
            for optimizer, rates in zip(self.optimizers, self.first_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * share

    def train_epoch(self) -> float | None:
        """One pass over the data; returns the mean loss per batch. A model without optimisers is
        computed at once, and has none."""
        model, settings = self.model, self.settings
        model.train()
        model.epoch = self.progress.epoch
        if not self.optimizers:
            model.fit(self.dataset.train)
            return None
        self.set_rates()
        n_batches, batches = self.parts()
        total = torch.zeros((), device=model.device)
        desc, hidden, first = f"epoch {model.epoch}", self.hidden, True
        for batch, weight in tqdm(batches, desc, n_batches, leave=False, delay=5, disable=hidden):
            with torch.autocast(
                model.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
            ):
                loss = self.trained(batch)
            if not torch.is_tensor(loss) or loss.dim():
                raise InputError(f"the training_loss of {model.variant} must be a single number.")
            if weight != 1:
                loss = weight * loss
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if first and self.trained is not model:
                self.require_gradients()
            first = False
            for optimizer in self.optimizers:
                optimizer.step()
            if self.average is not None:
                self.average.update_parameters(model)
            total += loss.detach()
        for kept in dict.fromkeys((model, self.candidate)):  # one where there is no average
            self.ranks.keep_alike(kept)
        return self.ranks.add_up(total).item() / (n_batches * self.ranks.size)

    def require_gradients(self) -> None:
        """InputError for a parameter that the loss does not depend on: torch's wrapper for several
        processes would wait for its gradient."""
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise InputError(
                    f"{name} has no part in the training_loss of {self.model.variant}: several "
                    f"processes need one of every parameter, or requires_grad=False."
                )

    def parts(self) -> tuple[int, Iterator[tuple[Any, float]]]:
        """An epoch: the number of its batches, and of each in turn this rank's part, and the factor
        of its loss with which the mean over ranks is the loss of the whole."""
        model, ranks = self.model, self.ranks
        begun = self.dataset.train, self.settings.batch_size
        if not ranks.several:
            n_batches, batches = model.epoch_batches(*begun)
            return n_batches, ((batch, 1) for batch in batches)
        streams = Streams(model.device, self.header["seed"], model.epoch, ranks.rank)
        with streams.shared():
            n_batches, batches = model.epoch_batches(*begun)

        def of_this_rank() -> Iterator[tuple[Any, float]]:
            while True:
                with streams.shared():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield ranks.part(batch, model.loss_terms)

        return n_batches, of_this_rank()

    def note(self, loss: float | None, log: Log) -> dict[str, float]:
        """In the place of `validate`, where there is nothing to validate by."""
        progress = self.progress
        told = {} if loss is None else {"loss": loss}
        progress.history.append({"epoch": progress.epoch, **told})
        log(f"epoch {progress.epoch:4d}" + ("" if loss is None else f"  loss {loss:.6f}"))
        self.save_state()
        self.save_curve()
        return {}

    def validate(self, loss: float | None, log: Log) -> dict[str, float]:
        """Evaluate, remember the best, and write state, checkpoint and curve; returns the metrics
        on test, by names that begin with test_."""
        progress, settings, started = self.progress, self.settings, time.perf_counter()
        with self.random_apart(progress.epoch % settings.eval_every > 0):  # a longer run drops it
            metrics = self.evaluate()
        progress.evaluation_seconds += time.perf_counter() - started
        told = {} if loss is None else {"loss": loss}
        progress.history.append({"epoch": progress.epoch, **told, **metrics["valid"]})
        select_by = settings.select_by
        value, compared = metrics["valid"][select_by], self.compared(metrics["valid"])
        better = compared > progress.best_value
        if better:
            progress.best_epoch, progress.best_value = progress.epoch, compared
            progress.valid, progress.test = metrics["valid"], metrics["test"]
        of_test = f"  test {metrics['test'][select_by]:.4f}" if metrics["test"] else ""
        log(
            f"epoch {progress.epoch:4d}  {'' if loss is None else f'loss {loss:.6f}  '}"
            f"valid {select_by} {value:.4f}{of_test}{'  best so far' if better else ''}"
        )
        self.save_state()
        if better:
            self.save_checkpoint()
        self.save_curve()
        return {f"test_{name}": value for name, value in metrics["test"].items()}

    def save_curve(self) -> None:
        if self.progress.history and self.ranks.writes:
            path = checkpoints.whole_path(self.checkpoint).with_suffix(".csv")
            write_text(path, curve(self.progress.history))

    def last_epoch(self) -> int:
        """Where the training ends, if no better model is found until then."""
        if not self.optimizers:
            return 1
        if not self.chooses:
            return self.settings.epochs
        return min(self.settings.epochs, self.progress.best_epoch + self.settings.patience - 1)

    def told_to_end(self, row: dict[str, float], on_evaluation: OnEvaluation | None) -> bool:
        """What ``on_evaluation`` answers; the random numbers that it draws are none of training's,
        whose state is written already."""
        if on_evaluation is None:
            return False
        with self.random_apart():
            return is_true(on_evaluation(row))

    def random_apart(self, apart: bool = True) -> AbstractContextManager[None]:
        """Random numbers that are drawn here are none of training's."""
        device = self.model.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=apart)

    def run(self, log: Log, on_evaluation: OnEvaluation | None = None) -> Progress:
        """Train until ``epochs``, or until ``patience`` epochs went by without a better model.
        ``on_evaluation`` is given what `train` says, and may end the run.

        It is evaluated after every ``eval_every`` epochs. A run that ends before the first of these
        is evaluated once, at its end; when it is made longer, that evaluation is dropped. Without
        validation (``chooses``) it trains all ``epochs`` and keeps the last.
        """
        settings, progress, last_epoch = self.settings, self.progress, self.last_epoch
        bar = tqdm(
            total=last_epoch(), initial=progress.epoch, unit="epoch", desc="training",
            disable=self.hidden,
        )  # fmt: skip
        with bar, curves_for_tensorboard(self.tensorboard, self.checkpoint.stem) as draw:
            for row in progress.history:
                draw(row)
            if progress.ended and self.result_path.is_file():
                progress.ended = False  # it was done, and is made longer
            while progress.epoch < last_epoch() and not progress.ended:
                progress.epoch += 1
                started = time.perf_counter()
                loss = self.train_epoch()
                progress.training_seconds += time.perf_counter() - started
                if loss is not None and not math.isfinite(loss):
                    kept = f"; the best model so far is kept in {self.checkpoint}"
                    raise InputError(
                        f"the loss became {loss} in epoch {progress.epoch}: lower the learning "
                        f"rate{kept if progress.best_epoch else ''}."
                    )
                last = progress.epoch == last_epoch() and not (progress.history and self.chooses)
                if progress.epoch % settings.eval_every == 0 or last:
                    of_test = (self.validate if self.chooses else self.note)(loss, log)
                    draw(progress.history[-1])
                    row = {**progress.history[-1], **of_test}
                    progress.ended = any(self.ranks.collect(self.told_to_end(row, on_evaluation)))
                shown = {} if loss is None else {"loss": f"{loss:.4f}"}
                if self.chooses:
                    best = "none yet"
                    if progress.best_epoch:
                        best = f"{progress.best_value:.4f} (epoch {progress.best_epoch})"
                    shown[settings.select_by] = best
                bar.set_postfix(shown, refresh=False)
                bar.total = last_epoch()
                bar.update()
        if not self.chooses:
            progress.best_epoch = progress.epoch
        self.save_state()
        if not self.chooses:
            self.save_checkpoint()
        return progress
