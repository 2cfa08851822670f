"""What a training step of any model takes, against its matrix products alone, in one run:

python scripts/step_benchmark.py --model DiffuRec --data_path datasets/beauty_next [--batches 40]

The batches are the first of an epoch; the products' seconds are those that torch's profiler counts
inside the same steps. Further flags are the model's settings.
"""

import dataclasses
import itertools
import time

import reproduction  # noqa: F401  (which registers all models)
import torch
from torch.profiler import profile

from DiffRec.engine.commands import command, load, parse
from DiffRec.engine.contract import Recommender
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser
from DiffRec.engine.machine import choose_device, machine, peak_memory_mb
from DiffRec.engine.settings import Positive, RunOptions, setting
from DiffRec.engine.variant import REGISTRY, variant_of

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
WARM_UP = 3  # batches that are not measured


class BenchmarkOptions(RunOptions):
    """What is measured, and how often."""

    title = "benchmark"
    batches: Positive = setting(40, "batches that are measured")
    threads: Positive = setting(1, "of the processor")


def step(model: Recommender, batch, optimizers: list[torch.optim.Optimizer]) -> None:
    """As `DiffRec.engine.training` takes it."""
    loss = model(batch)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def main(argv: list[str] | None = None) -> None:
    first = Parser(add_help=False)
    first.add_argument("--model", choices=list(REGISTRY), default="DiffRec")
    chosen, rest = first.parse_known_args(argv)
    variant = dataclasses.replace(variant_of(chosen.model), options=BenchmarkOptions)
    settings, options = parse(variant, rest, __doc__)
    torch.set_num_threads(options.threads)
    device = choose_device(options.cuda, options.gpu)
    dataset = load(variant, settings, options).to(device)
    kind = variant.model
    model = kind.for_dataset(dataset, seed=options.seed, **settings.part(kind.Settings).dump())
    model = model.to(device).train()
    optimizers = model.optimizers(settings.part(kind.Training))
    if not optimizers:
        raise InputError(f"{model.variant} is computed at once: it has no steps.")
    data, model.epoch = model.prepare_data(dataset), 1
    in_epoch, batches = model.epoch_batches(data.train, settings.batch_size)
    some = list(itertools.islice(batches, WARM_UP + options.batches))
    if len(some) <= WARM_UP:
        raise InputError(f"an epoch has {len(some)} batches, of which {WARM_UP} warm up.")
    for batch in some[:WARM_UP]:
        step(model, batch, optimizers)
    started = time.perf_counter()
    for batch in some[WARM_UP:]:
        step(model, batch, optimizers)
    seconds = (time.perf_counter() - started) / (len(some) - WARM_UP)
    memory = peak_memory_mb(device)  # before the profiler takes some
    with profile() as seen:
        for batch in some[WARM_UP:]:
            step(model, batch, optimizers)
    events = seen.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    products = sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS)
    if not products:
        raise InputError(f"{model.variant} has no matrix products to be measured against.")
    print(
        f"{model.variant} on {dataset.name}, {machine(device)['device']}: "
        f"{1000 * seconds:.0f} ms a step, {in_epoch * seconds:.0f} s an epoch of {in_epoch}; "
        f"{total / products:.2f} times its matrix products; peak memory {memory:.0f} MB"
    )


if __name__ == "__main__":
    command(main)
