"""One run from arguments to report, shared by every main: device, seed, training, result."""

import argparse
import hashlib
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import torch

from DiffRec import report
from DiffRec.data_utils import REPOSITORY, Dataset, add_random_noise, load_dataset
from DiffRec.errors import InputError
from DiffRec.options import settings_of
from DiffRec.recommender import Recommender
from DiffRec.training import Log, Training

# Settings in which a run may differ from the one whose state it goes on with.
FREE = ("epochs", "patience")


def command(main: Callable[[], object]) -> None:
    """Run a main; a user's mistake becomes one sentence on stderr and exit code 2. The signal by
    which systems end a process stops it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except InputError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        sentence = "there is not enough memory for a model and batches of this size."
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        sys.exit(130)
    else:
        return
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


def command_line() -> str:
    """How this process was started, the script named from the repository's root."""
    script = Path(sys.argv[0]).resolve()
    inside = script.is_relative_to(REPOSITORY)
    return shlex.join(
        ["python", str(script.relative_to(REPOSITORY)) if inside else script.name, *sys.argv[1:]]
    )


def choose_device(cuda: bool | None, gpu: str) -> torch.device:
    """The GPU ``gpu`` if there is one and it is not refused, else the CPU, said aloud."""
    if cuda is False or not torch.cuda.is_available():
        if cuda:
            print("no GPU is available here: running on the CPU.", file=sys.stderr)
        return torch.device("cpu")
    if not gpu.isdigit() or int(gpu) >= torch.cuda.device_count():
        raise InputError(f"there is no GPU {gpu}: {torch.cuda.device_count()} are visible.")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # equal seeds, equal results
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    device = torch.device("cuda", int(gpu))
    torch.cuda.reset_peak_memory_stats(device)
    return device


def load(args: argparse.Namespace) -> Dataset:
    """The data that the arguments ask for, with their random noise."""
    dataset = load_dataset(args.dataset, args.data_path, args.drop_unknown)
    if args.random_noise:
        dataset = add_random_noise(dataset, args.random_noise, args.seed)
    return dataset


def prepare(args: argparse.Namespace) -> tuple[Dataset, torch.device]:
    """Data on its device, and every random number seeded."""
    device = choose_device(args.cuda, args.gpu)
    dataset = load(args)
    torch.manual_seed(args.seed)
    return dataset.to(device), device


def run_name(dataset: Dataset, args: argparse.Namespace, parts: dict[str, str]) -> str:
    """The run's file name, in the manner of the released checkpoints.

    parts: what stands before a setting's value → the setting. Further settings that the user
    changed are told apart by a short hash, so that no run overwrites another's files.
    """
    values = vars(args)
    words = []
    for prefix, name in parts.items():
        text = str(values[name]).replace(" ", "")
        words.append(f"{prefix}{text}")
    words += [args.log_name, f"seed{args.seed}"]
    named = {*parts.values(), *FREE}
    unnamed = sorted((k, str(v)) for k, v in args.changed.items() if k not in named)
    if unnamed:
        words.append(hashlib.sha256(repr(unnamed).encode()).hexdigest()[:6])
    return "_".join([dataset.name, *words])


def train(
    model: Recommender,
    dataset: Dataset,
    device: torch.device,
    args: argparse.Namespace,
    name_parts: dict[str, str],
) -> dict:
    """Train, report and return the result record; the checkpoint lies in --save_path.

    name_parts: see `run_name`.
    """
    settings = settings_of(args)
    model = model.to(device)
    dataset = model.prepare_data(dataset)
    if args.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    if args.compile:
        model.compile()
    checkpoint = args.save_path / f"{run_name(dataset, args, name_parts)}.safetensors"
    about = {
        "variant": model.variant, "dataset": dataset.name, "settings": settings, "seed": args.seed,
    }  # fmt: skip
    fixed = {key: value for key, value in settings.items() if key not in FREE}
    identity = {"variant": model.variant, "dataset": dataset.name, "seed": args.seed, **fixed}
    training = Training(model, dataset, settings, checkpoint, about, identity)

    log = Log(checkpoint.with_suffix(".log"))
    about_machine = report.machine(device)  # the commit is that of the start
    try:
        describe(log, model, dataset, device, args)
        if args.resume:
            found = training.resume()
            log(
                f"resumed after epoch {training.progress.epoch}"
                if found
                else "nothing to resume: starting from the first epoch"
            )
        progress = training.run(log)
        parameters = model.size()
        record = {
            **about,
            "preset": args.preset,
            "checkpoint": checkpoint.name,
            "best_epoch": progress.best_epoch,
            "epochs": progress.epoch,
            "valid": progress.valid,
            "test": progress.test,
            "parameters": parameters,
            "seconds": {
                "training": progress.training_seconds,
                "evaluation": progress.evaluation_seconds,
            },
            "evaluations": progress.evaluations,
            "peak_memory_mb": progress.peak_memory_mb,
            "data": training.fingerprint,
            "machine": about_machine,
            "command": command_line(),
        }
        log("")
        paper = report.paper_figures(model.variant, dataset.name, settings)
        log(report.metrics_table(progress.valid, progress.test, paper))
        log(
            f"\nbest epoch {progress.best_epoch} of {progress.epoch}; {parameters:,} parameters; "
            f"training {progress.training_seconds:.1f} s, evaluation "
            f"{progress.evaluation_seconds:.1f} s; peak memory {record['peak_memory_mb']:.0f} MB"
            f"\ncheckpoint: {checkpoint}"
        )
    except KeyboardInterrupt:
        log("stopped; the same command with --resume goes on from the last evaluation.")
        raise
    if args.result_json:
        report.write_json(args.result_json, record)
    return record


def describe(
    log: Log,
    model: Recommender,
    dataset: Dataset,
    device: torch.device,
    args: argparse.Namespace,
) -> None:
    """Say what runs: data, device, preset and every setting."""
    log(
        f"{model.variant} on {dataset.name}: {dataset.n_users:,} users, {dataset.n_items:,} items, "
        f"{len(dataset.train.items):,} / {len(dataset.valid.items):,} / "
        f"{len(dataset.test.items):,} interactions (train / valid / test); {device}, "
        f"{torch.get_num_threads()} threads, seed {args.seed}, preset {args.preset}"
    )
    settings = (f"{key}={value}".replace(" ", "") for key, value in settings_of(args).items())
    log(textwrap.fill("  ".join(settings), 100, initial_indent="  ", subsequent_indent="  "))
