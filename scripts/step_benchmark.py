"""What a training step of any model takes, against its matrix products alone, in one run:

python scripts/step_benchmark.py --model DiffuRec --data_path datasets/beauty_next [--batches 40]
torchrun --nproc_per_node 2 scripts/step_benchmark.py --item_shards 2

The batches are the first of an epoch; the products' seconds are those that torch's profiler counts
inside the same steps. Further flags are the model's settings. Of several processes rank 0 tells,
with what each hands over to the others in a step.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from unittest import mock

import reproduction  # noqa: F401  (which registers all models)
import torch
import torch.distributed as dist
from torch import nn
from torch.profiler import profile

from DiffRec.engine.commands import command, load, parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import Parser
from DiffRec.engine.machine import choose_device, machine, peak_memory_mb
from DiffRec.engine.ranks import here, joined
from DiffRec.engine.settings import Positive, RunOptions, Settings, setting
from DiffRec.engine.variant import REGISTRY, Variant, variant_of

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
WARM_UP = 3  # batches that are not measured


class BenchmarkOptions(RunOptions):
    """What is measured, and how often."""

    title = "benchmark"
    batches: Positive = setting(40, "batches that are measured")
    threads: Positive = setting(1, "of the processor")


def step(called: nn.Module, part: tuple, optimizers: list[torch.optim.Optimizer]) -> None:
    """As `DiffRec.engine.training` takes it."""
    batch, weight = part
    loss = weight * called(batch)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


@contextlib.contextmanager
def handed_over() -> Iterator[list[int]]:
    """The bytes of each tensor that this process gives to the others within."""
    given: list[int] = []

    def counting(name: str, place: int):
        original = getattr(dist, name)

        def call(*args, **more):
            given.append(args[place].nbytes)
            return original(*args, **more)

        return mock.patch.object(dist, name, call)

    with counting("all_reduce", 0), counting("broadcast", 0), counting("all_gather", 1):
        yield given


def finish(device: torch.device) -> None:
    """Wait for what is under way."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    variant: Variant, settings: Settings, options: BenchmarkOptions, device: torch.device
) -> None:
    kind = variant.model
    if settings.precision != "float32" or settings.compile or settings.ema:
        raise InputError("a step is measured in float32, not compiled and without ema.")
    dataset = load(variant, settings, options).to(device)
    model = kind.for_dataset(
        dataset, seed=options.seed, item_shards=options.item_shards,
        **settings.part(kind.Settings).dump(),
    ).to(device).train()  # fmt: skip
    ranks = here() if model.shards is None else model.shards
    optimizers = model.optimizers(settings.part(kind.Training))
    if not optimizers:
        raise InputError(f"{model.variant} is computed at once: it has no steps.")
    data, model.epoch = ranks.own(model.prepare_data(dataset)), 1
    called = ranks.wrap(model)
    torch.manual_seed(options.seed)  # all ranks draw the same batches
    in_epoch, batches = model.epoch_batches(data.train, settings.batch_size)
    few = list(itertools.islice(batches, WARM_UP + options.batches))
    if len(few) <= WARM_UP:
        raise InputError(f"an epoch has {len(few)} batches, of which {WARM_UP} warm up.")
    some = [ranks.part(b, model.loss_terms) if ranks.several else (b, 1.0) for b in few]
    for part in some[:WARM_UP]:
        step(called, part, optimizers)
    finish(device)
    with handed_over() as given:
        started = time.perf_counter()
        for part in some[WARM_UP:]:
            step(called, part, optimizers)
        finish(device)
        seconds = (time.perf_counter() - started) / (len(some) - WARM_UP)
    memory = ranks.most(peak_memory_mb(device))  # before the profiler takes some
    with profile() as seen:
        for part in some[WARM_UP:]:
            step(called, part, optimizers)
    events = seen.key_averages()
    on = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    total = sum(getattr(event, on) for event in events)
    products = sum(getattr(event, on) for event in events if event.key in PRODUCTS)
    if not products:
        raise InputError(f"{model.variant} has no matrix products to be measured against.")
    if not ranks.writes:
        return
    print(
        f"{model.variant} on {dataset.name}, {machine(device)['device']}: "
        f"{1000 * seconds:.0f} ms a step, {in_epoch * seconds:.0f} s an epoch of {in_epoch}; "
        f"{total / products:.2f} times its matrix products; peak memory {memory:.0f} MB"
    )
    if ranks.several:
        a_step = sum(given) / (len(some) - WARM_UP)
        if called is not model:  # whose gradients torch's wrapper sums by itself
            a_step += sum(parameter.nbytes for parameter in model.parameters())
        print(
            f"{ranks.size} processes; each has {sum(p.nbytes for p in model.parameters()):,} bytes "
            f"of weights and hands over {a_step:,.0f} bytes a step"
        )


def main(argv: list[str] | None = None) -> None:
    first = Parser(add_help=False)
    first.add_argument("--model", choices=list(REGISTRY), default="DiffRec")
    chosen, rest = first.parse_known_args(argv)
    variant = dataclasses.replace(variant_of(chosen.model), options=BenchmarkOptions)
    settings, options = parse(variant, rest, __doc__)
    torch.set_num_threads(options.threads)
    device = choose_device(options.cuda, options.gpu)
    with joined(device):
        measure(variant, settings, options, device)


if __name__ == "__main__":
    command(main)
