"""The training loop every model shares: epochs, validation, early stopping, progress, resume."""

import dataclasses
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from DiffRec import checkpoints, report
from DiffRec.data_utils import Dataset
from DiffRec.errors import InputError
from DiffRec.evaluate_utils import evaluate
from DiffRec.files import written_whole
from DiffRec.recommender import Recommender


@dataclasses.dataclass
class Progress:
    """Where a training stands; everything in it is plain data and travels with the state file."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    valid: dict[str, float] = dataclasses.field(default_factory=dict)
    test: dict[str, float] = dataclasses.field(default_factory=dict)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    evaluations: int = 0
    peak_memory_mb: float = 0.0  # of all processes that had a part in it


class Log:
    """Lines to the terminal, above the progress bar, and to a file."""

    def __init__(self, path: Path | None):
        self.path = path

    def __call__(self, line: str) -> None:
        tqdm.write(line)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(line + "\n")
        except OSError as error:
            raise InputError(f"{self.path} could not be written ({error.strerror}).") from error


def evaluate_model(model: Recommender, dataset: Dataset, settings: dict) -> dict[str, dict]:
    """`evaluate` of a model as a run's settings say."""
    model.eval()
    with torch.inference_mode():
        scorer = model.scorer()
    names = ("topN", "tst_w_val", "recall_denominator", "metric_users")
    chosen = {name: settings[name] for name in names}
    # Some models train on thousands of pairs a batch; so many rows of scores would not fit.
    return evaluate(scorer, dataset, batch_size=min(settings["batch_size"], 400), **chosen)


class Training:
    """One run of a model on a data set.

    Args:
        model, dataset: on one device.
        settings: the run's options (`DiffRec.options`).
        checkpoint: where the best model goes; the state from which a run is resumed, finished or
            not, lies beside it with the suffix ``.state``.
        header: what the checkpoint says of itself besides metrics and data.
        identity: the settings two runs must share for one to continue the other.
    """

    def __init__(
        self,
        model: Recommender,
        dataset: Dataset,
        settings: dict,
        checkpoint: Path,
        header: dict,
        identity: dict,
    ):
        self.model, self.dataset, self.settings = model, dataset, settings
        self.checkpoint, self.header = checkpoint, header
        self.state_path = checkpoint.with_name(checkpoint.name + ".state")
        self.fingerprint = dataset.fingerprint()
        self.identity = {**identity, **model.identity(), "data": self.fingerprint}
        self.optimizers = model.optimizers()
        self.progress = Progress()

    def evaluate(self) -> dict[str, dict[str, float]]:
        return evaluate_model(self.model, self.dataset, self.settings)

    # State -------------------------------------------------------------------------------------

    def _random_states(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return states

    def save_state(self) -> None:
        now = report.peak_memory_mb(self.model.device)
        self.progress.peak_memory_mb = max(self.progress.peak_memory_mb, now)
        state = {
            "identity": self.identity,
            "progress": dataclasses.asdict(self.progress),
            "weights": checkpoints.weights_of(self.model),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "model_state": self.model.training_state(),
            "random": self._random_states(),
        }
        with written_whole(self.state_path) as temporary:
            torch.save(state, temporary)

    def save_checkpoint(self) -> None:
        progress = self.progress
        found = {"best_epoch": progress.best_epoch, "valid": progress.valid, "test": progress.test}
        checkpoints.save(
            self.checkpoint, self.model, {**self.header, **found, "data": self.fingerprint}
        )

    def resume(self) -> bool:
        """Continue from the state file, if there is one; InputError if it is of another run."""
        if not self.state_path.is_file():
            return False
        try:
            state = torch.load(self.state_path, map_location="cpu", weights_only=True)
            theirs, progress = state["identity"], Progress(**state["progress"])
        except Exception as error:  # a foreign or damaged file can raise almost anything
            raise InputError(
                f"{self.state_path} is not a training state of this project ({error}): remove it "
                f"to start anew."
            ) from error
        ours = self.identity
        differing = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
        if differing:
            what = ", ".join(f"{k} {theirs.get(k)} there, {ours.get(k)} here" for k in differing)
            raise InputError(
                f"{self.state_path} is the state of another run ({what}): remove it to start anew."
            )
        self.progress = progress
        checkpoints.fill(self.model, state["weights"], self.state_path)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, tensor in self.model.training_state().items():
            tensor.copy_(state["model_state"][name])
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and self.model.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.model.device)
        if self.progress.best_epoch == self.progress.epoch:
            # The state is written before the checkpoint: a run killed between the two has the
            # best weights here and an older file there.
            self.save_checkpoint()
        return True

    # Training ------------------------------------------------------------------------------------

    def train_epoch(self) -> float | None:
        """One pass over the data; returns the mean loss per batch. A model without optimisers is
        computed at once, and has none."""
        model, settings = self.model, self.settings
        model.train()
        model.epoch = self.progress.epoch
        if not self.optimizers:
            model.fit(self.dataset.train)
            return None
        n_batches, batches = model.epoch_batches(self.dataset.train, settings["batch_size"])
        total = torch.zeros((), device=model.device)
        desc = f"epoch {model.epoch}"
        for batch in tqdm(batches, desc, n_batches, leave=False, delay=5, disable=None):
            with torch.autocast(
                model.device.type, torch.bfloat16, enabled=settings["precision"] == "bf16"
            ):
                loss = model.training_loss(batch)
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            total += loss.detach()
        return total.item() / n_batches

    def validate(self, loss: float | None, log: Log) -> None:
        """Evaluate, remember the best, and write state and checkpoint."""
        progress, settings, started = self.progress, self.settings, time.perf_counter()
        metrics = self.evaluate()
        progress.evaluation_seconds += time.perf_counter() - started
        progress.evaluations += 1
        select_by = settings["select_by"]
        value = metrics["valid"][select_by]
        decimals = settings["selection_decimals"]
        compared = round(value, decimals) if decimals >= 0 else value
        better = compared > progress.best_value
        if better:
            progress.best_epoch, progress.best_value = progress.epoch, compared
            progress.valid, progress.test = metrics["valid"], metrics["test"]
        log(
            f"epoch {progress.epoch:4d}  {'' if loss is None else f'loss {loss:.6f}  '}"
            f"valid {select_by} {value:.4f}  "
            f"test {metrics['test'][select_by]:.4f}{'  best so far' if better else ''}"
        )
        self.save_state()
        if better:
            self.save_checkpoint()

    def run(self, log: Log) -> Progress:
        """Train until ``epochs``, or until ``patience`` epochs went by without a better model."""
        settings, progress = self.settings, self.progress
        epochs, patience = settings["epochs"], settings["patience"]

        def last_epoch() -> int:
            if not self.optimizers:
                return 1
            return min(epochs, progress.best_epoch + patience - 1)

        bar = tqdm(
            total=last_epoch(), initial=progress.epoch, unit="epoch", desc="training", disable=None
        )
        with bar:
            while progress.epoch < last_epoch():
                progress.epoch += 1
                started = time.perf_counter()
                loss = self.train_epoch()
                progress.training_seconds += time.perf_counter() - started
                if loss is not None and not math.isfinite(loss):
                    raise InputError(
                        f"the loss became {loss} in epoch {progress.epoch}: lower the learning "
                        f"rate; the best model so far is kept in {self.checkpoint}."
                    )
                last = progress.epoch == last_epoch() and not progress.evaluations
                if progress.epoch % settings["eval_every"] == 0 or last:
                    self.validate(loss, log)
                best = "none yet"
                if progress.best_epoch:
                    best = f"{progress.best_value:.4f} (epoch {progress.best_epoch})"
                shown = {} if loss is None else {"loss": f"{loss:.4f}"}
                bar.set_postfix({**shown, settings["select_by"]: best}, refresh=False)
                bar.total = last_epoch()
                bar.update()
        self.save_state()
        return progress
