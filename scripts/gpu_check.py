"""Seconds and memory of DiffRec on a GPU, against its matrix products alone and the plain forms:

python scripts/gpu_check.py [--datasets ml-1m,yelp,amazon-book] [--steps 20] [--out FILE.md]

Data are twins of Table 1's sizes (scripts/prepare_data.py --synthetic like:NAME), settings the
published ones. An epoch's seconds are those of ``steps`` steps, times how many it has, and so are
those of an evaluation; the floor is the time of the products of a step, and nothing else, in the
same run. Precision bf16, tf32 and torch.compile are measured beside float32. The plain forms, which
hold the matrix of all users and items, are measured where it fits.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import plain
import torch
from arguments import listed
from reproduction import markdown
from torch.nn import functional as F
from tqdm import tqdm

from DiffRec import DiffRec, load_dataset
from DiffRec.data_utils import Dataset
from DiffRec.engine.commands import command
from DiffRec.engine.files import require_writable, write_text
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.machine import machine, peak_memory_mb, prepared_device
from DiffRec.engine.settings import Folder, Positive
from DiffRec.engine.training import Training, evaluate_model
from DiffRec.engine.variant import settings_of, variant_of
from DiffRec.preparation.folders import make_twin

WAYS = {"float32": {}, "tf32": {"precision": "tf32"}, "bf16": {"precision": "bf16"},
        "compiled": {"compile": True}}  # fmt: skip
LARGEST_PLAIN = 200_000_000  # users times items, for the plain forms
# Table 6's GPU memory of DiffRec in MB, by the data sets it has.
PAPER_MB = {"ml-1m_clean": 495}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def some_users(dataset: Dataset, users: int) -> Dataset:
    """The first of its users."""
    n = min(users, dataset.n_users)
    parts = {split: getattr(dataset, split).slice(0, n) for split in ("train", "valid", "test")}
    return dataclasses.replace(dataset, **parts)


def products(model: DiffRec, batch_size: int, steps: int) -> Callable[[], None]:
    """The matrix products of so many training steps, in float32: one of each layer forwards, and
    two backwards, of the first layer one."""
    shapes = [layer.weight for layer in (*model.dnn.in_layers, *model.dnn.out_layers)]
    device = model.device
    inputs = [torch.randn(batch_size, weight.shape[1], device=device) for weight in shapes]
    outputs = [torch.randn(batch_size, weight.shape[0], device=device) for weight in shapes]

    def work() -> None:
        for _ in range(steps):
            for place, (x, weight, y) in enumerate(zip(inputs, shapes, outputs, strict=True)):
                F.linear(x, weight)
                y.T @ x
                if place:
                    y @ weight

    return work


@torch.no_grad()
def measure(dataset: Dataset, way: str, steps: int, folder: Path, preset: dict) -> dict[str, float]:
    """Seconds of an epoch and an evaluation, and the peak memory of both."""
    device = dataset.train.device
    chosen = settings_of(DiffRec).of(preset, WAYS[way])
    model = DiffRec.for_dataset(dataset, **chosen.part(DiffRec.Settings).dump()).to(device)
    torch.backends.cuda.matmul.allow_tf32 = chosen.precision == "tf32"
    if chosen.compile:
        model.compile()
    prepared_device(device)  # peak memory begins anew
    users = steps * chosen.batch_size
    some = some_users(dataset, users)
    training = Training(model, some, chosen, 1, folder / "check.safetensors")
    share = dataset.n_users / some.n_users

    def evaluation() -> object:
        return evaluate_model(model.eval(), some, training.settings)

    def epoch() -> object:
        with torch.enable_grad():
            return training.train_epoch()

    for warm_up in (epoch, evaluation):
        warm_up()
    found = {
        "epoch": seconds(epoch, device) * share, "evaluation": seconds(evaluation, device) * share,
        "memory": peak_memory_mb(device),
    }  # fmt: skip
    if way == "float32":
        work = products(model, chosen.batch_size, -(-some.n_users // chosen.batch_size))
        work()
        found["floor"] = seconds(work, device) * share
        if some.n_users * some.n_items <= LARGEST_PLAIN:
            matrix = plain.dense_matrix(some.train).to(device)
            optimizer = model.optimizers(training.settings)[0]
            size = chosen.batch_size

            def plain_epoch() -> object:
                with torch.enable_grad():
                    return plain.training_epoch(model.train(), optimizer, matrix, size)

            one = some_users(some, size)

            def plain_evaluation() -> object:
                return plain.evaluate(model.eval(), matrix[:size], one, batch_size=size)

            for warm_up in (plain_epoch, plain_evaluation):
                warm_up()
            found["plain epoch"] = seconds(plain_epoch, device) * share
            found["plain evaluation"] = seconds(plain_evaluation, device) * (
                dataset.n_users / one.n_users
            )
    return found


def page(rows: list[tuple[str, str, dict[str, float]]], about: str) -> str:
    columns = ("epoch", "evaluation", "floor", "plain epoch", "plain evaluation", "memory")
    header = ["data", "form", "epoch (s)", "evaluation (s)", "products of an epoch (s)",
              "plain epoch (s)", "plain evaluation (s)", "peak memory (MB)"]  # fmt: skip
    lines = [about, "", *markdown.head(header, words=2)]
    for name, way, found in rows:
        cells = [f"{found[c]:,.0f}" if c == "memory" else f"{found[c]:.2f}" if c in found else ""
                 for c in columns]  # fmt: skip
        lines.append(markdown.line([name, way, *cells]))
    for name, _, found in rows:
        if "floor" not in found:
            continue
        told = f"{name}: an epoch takes {found['epoch'] / found['floor']:.2f} times its products"
        if "plain epoch" in found:
            told += (
                f"; it is {found['plain epoch'] / found['epoch']:.1f} times as fast as the plain "
                f"form, and an evaluation "
                f"{found['plain evaluation'] / found['evaluation']:.1f} times"
            )
        if name in PAPER_MB:
            told += f"; the paper's Table 6 has {PAPER_MB[name]} MB"
        lines += ["", told + "."]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--datasets", type=listed, default=("ml-1m", "yelp", "amazon-book"))
    parser.add_argument("--data_path", type=checked(Folder), default=None, help="instead of twins")
    parser.add_argument("--steps", type=checked(Positive), default=20, help="that are measured")
    parser.add_argument("--device", default="cuda", help="cpu to try this script without a GPU")
    parser.add_argument("--out", type=checked(Folder), default=None, help="write the table there")
    args = parser.parse_args(argv)
    require_writable(args.out)
    device = prepared_device(args.device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.datasets if args.data_path is None else [args.data_path.name]:
            path, found = args.data_path, name
            if path is None:
                path = make_twin(name, Path(folder) / name)
                found = f"{name}_clean"
            dataset = load_dataset(data_path=path).to(device)
            presets = variant_of("DiffRec").known_presets()
            for way in tqdm(WAYS, desc=name, unit="form", disable=None):
                rows.append(
                    (found, way,
                     measure(dataset, way, args.steps, Path(folder), presets.get(found, {})))
                )  # fmt: skip
    told = machine(device)
    about = (
        f"DiffRec, {told['device']}, torch {told['torch']}, commit {told['commit']}; epochs and "
        f"evaluations from {args.steps} steps each."
    )
    text = page(rows, about)
    if args.out is not None:
        write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    command(main)
