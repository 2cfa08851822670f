"""Fast forms against plain ones, side by side in one run, as ratios.

python scripts/benchmark.py [--dataset ml-1m_clean] [--cycles 2] [--threads 1]

A cycle is what a training consists of: five epochs and an evaluation of validation and test. The
plain forms are those of scripts/plain.py, which do the work as the authors' release does. Both are
given the same published settings, the same threads and, turn by turn, the same minutes. Peak memory
is measured in two processes of their own.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import plain
import torch

from DiffRec import DiffRec
from DiffRec.data_utils import Dataset
from DiffRec.engine.commands import command, load, parse
from DiffRec.engine.machine import choose_device, machine, peak_memory_mb
from DiffRec.engine.settings import Positive, RunOptions, Settings, setting
from DiffRec.engine.training import Training
from DiffRec.engine.variant import variant_of
from DiffRec.evaluate_utils import top_k
from DiffRec.models.layers import joined_linear, wide_linear

EPOCHS_PER_CYCLE = 5


class BenchmarkOptions(RunOptions):
    """What is measured, and how often."""

    title = "benchmark"
    cycles: Positive = setting(2, "measured, after a short one")
    threads: Positive = setting(1, "for both forms")
    memory_of: Literal["fast", "plain"] | None = setting(None, "internal: measure one form")


class Fast:
    """The project's own training loop and evaluation."""

    def __init__(self, dataset: Dataset, settings: Settings, folder: Path):
        self.model = DiffRec(dataset.n_items, settings).to(dataset.train.device)
        checkpoint = folder / "benchmark.safetensors"  # which no measurement writes
        self.training = Training(self.model, dataset, settings, 1, checkpoint)

    def epoch(self):
        self.training.train_epoch()

    def evaluate(self):
        return self.training.evaluate()


class Plain:
    """The same work in the plain forms."""

    def __init__(self, dataset: Dataset, settings: Settings, folder: Path):
        self.dataset, self.batch_size = dataset, settings.batch_size
        self.matrix = plain.dense_matrix(dataset.train).to(dataset.train.device)
        self.model = DiffRec(dataset.n_items, settings).to(dataset.train.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), settings.lr, weight_decay=0.0)

    def epoch(self):
        plain.training_epoch(self.model, self.optimizer, self.matrix, self.batch_size)

    def evaluate(self):
        return plain.evaluate(self.model, self.matrix, self.dataset, batch_size=self.batch_size)


FORMS = {"fast": Fast, "plain": Plain}


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_times(forms: dict, cycles: int) -> dict[str, dict[str, float]]:
    """Median seconds of an epoch, an evaluation and a cycle, for each form."""
    taken = {name: {"epoch": [], "evaluation": [], "cycle": []} for name in forms}
    for cycle in range(cycles + 1):  # the first warms up
        for name, form in forms.items():
            epochs = [seconds(form.epoch) for _ in range(EPOCHS_PER_CYCLE if cycle else 1)]
            evaluation = seconds(form.evaluate)
            if cycle:
                taken[name]["epoch"] += epochs
                taken[name]["evaluation"].append(evaluation)
                taken[name]["cycle"].append(sum(epochs) + evaluation)
    return {
        name: {what: statistics.median(values) for what, values in row.items()}
        for name, row in taken.items()
    }


def measure_parts(form: Fast, dataset: Dataset, batch_size: int) -> dict[str, tuple[float, float]]:
    """Median seconds of the plain and the fast form of single parts, on one batch."""
    model, dnn, k = form.model.eval(), form.model.dnn, min(100, dataset.n_items)
    first, last, batch = dnn.in_layers[0], dnn.out_layers[-1], dataset.train.slice(0, batch_size)
    x, like = batch.dense(), {"device": batch.device}
    e = torch.randn(len(x), dnn.emb_size, requires_grad=True, **like)
    h = torch.randn(len(x), last.in_features, **like)

    def step(layer: Callable[[], torch.Tensor]) -> None:
        dnn.zero_grad()
        layer().sum().backward()

    found = {
        "first layer, forwards and backwards": medians(
            lambda: step(lambda: first(torch.cat([x, e], dim=1))),
            lambda: step(lambda: joined_linear(x, e, first.weight, first.bias)),
        )
    }
    with torch.inference_mode():
        scores, plain_scorer, scorer = last(h), model.plain_scorer(), model.scorer()
        return found | {
            "reverse chain": medians(lambda: plain_scorer(batch), lambda: scorer(batch)),
            "last layer": medians(lambda: last(h), lambda: wide_linear(h, last.weight, last.bias)),
            f"top {k}": medians(lambda: scores.topk(k), lambda: top_k(scores, k)),
        }


def medians(plain: Callable[[], object], fast: Callable[[], object]) -> tuple[float, float]:
    """Seconds of both, turn by turn; the first turn warms up."""
    turns = [(seconds(plain), seconds(fast)) for _ in range(6)][1:]
    slow, quick = map(statistics.median, zip(*turns, strict=True))
    return slow, quick


def main(argv: list[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    variant = dataclasses.replace(variant_of(DiffRec.variant), options=BenchmarkOptions)
    settings, options = parse(variant, argv, __doc__)
    torch.set_num_threads(options.threads)
    device = choose_device(options.cuda, options.gpu)
    dataset = load(variant, settings, options).to(device)
    torch.manual_seed(options.seed)

    with tempfile.TemporaryDirectory() as folder:
        if options.memory_of:
            form = FORMS[options.memory_of](dataset, settings, Path(folder))
            form.epoch()
            form.evaluate()
            print(json.dumps(peak_memory_mb(device)))
            return

        forms = {name: form(dataset, settings, Path(folder)) for name, form in FORMS.items()}
        times = measure_times(forms, options.cycles)
        parts = measure_parts(forms["fast"], dataset, settings.batch_size)
    memory = {}
    for name in FORMS:
        words = [sys.executable, __file__, *argv, "--memory_of", name]
        finished = subprocess.run(words, capture_output=True, text=True, check=True)
        memory[name] = json.loads(finished.stdout.splitlines()[-1])

    print(
        f"{dataset.name}, {machine(device)['device']}, {options.threads} threads, T = "
        f"{settings.steps}, medians of {options.cycles} cycles\n"
    )
    print("| | plain | fast | ratio |\n| --- | ---: | ---: | ---: |")
    for what, label in (
        ("epoch", "training epoch (s)"),
        ("evaluation", "evaluation of both splits (s)"),
        ("cycle", "five epochs and an evaluation (s)"),
    ):
        slow, fast = times["plain"][what], times["fast"][what]
        print(f"| {label} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |")
    slow, fast = memory["plain"], memory["fast"]
    print(f"| peak memory of the process (MB) | {slow:.0f} | {fast:.0f} | {slow / fast:.1f} |")
    print("\n| one batch | plain | fast | ratio |\n| --- | ---: | ---: | ---: |")
    for part, (slow, fast) in parts.items():
        print(f"| {part} (ms) | {1000 * slow:.1f} | {1000 * fast:.1f} | {slow / fast:.1f} |")


if __name__ == "__main__":
    command(main)
