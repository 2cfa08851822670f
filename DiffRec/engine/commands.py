"""What main.py and inference.py of every folder do: from a command line to a result."""

import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from DiffRec.data_utils import (
    REPOSITORY,
    Dataset,
    default_dataset,
    evaluation_beside,
    holds_dataset,
    home,
    load_dataset,
)
from DiffRec.engine import checkpoints
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import require_writable, write_json
from DiffRec.engine.flags import Parser, given
from DiffRec.engine.machine import choose_device
from DiffRec.engine.ranks import joined, lost, started_together
from DiffRec.engine.run import train
from DiffRec.engine.settings import DataSettings, RunOptions, Settings
from DiffRec.engine.variant import Variant

logger = logging.getLogger(__name__)

LONGEST = 1000  # letters of a sentence that somebody shall read

# Set by the signal that stops this process. The KeyboardInterrupt alone does not tell: raised while
# an extension is at work, torch's say, it may come out as an error of the extension's own.
stop_asked = threading.Event()


class ToTerminal(logging.Handler):
    """What the library logs: on stdout, above progress bars; warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        tqdm.write(record.getMessage(), file=sys.stderr if warning else sys.stdout)


def stop(number: int, frame: object) -> NoReturn:
    """A handler of the signals that stop a process."""
    stop_asked.set()
    raise KeyboardInterrupt


def command(main: Callable[[], object]) -> None:
    """Run a main; a user's mistake becomes one sentence on stderr and exit code 2. The signal by
    which systems end a process stops it as Ctrl-C does. --debug, which every command takes, shows
    the traceback behind the sentence."""
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    logger = logging.getLogger("DiffRec")
    logger.handlers, logger.propagate = [ToTerminal()], False
    tells = started_together().writes  # else another process says the same
    logger.setLevel(logging.INFO if tells else logging.CRITICAL)
    try:
        stop_asked.clear()
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and a shell's & leave it
                signal.signal(number, stop)
        main()
    except KeyboardInterrupt:
        exit_stopped()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        if stop_asked.is_set():
            exit_stopped()
        sentence = sentence_of(error)
        if sentence is None:
            raise
        words = " ".join(sentence.split())
        if not tells:  # it may be its own alone
            words = f"process {started_together().rank}: {words}"
        if len(words) > LONGEST:  # a file's content can be in it
            words = f"{words[: LONGEST // 2]} … {words[-LONGEST // 2 :]}"
        print(f"error: {words}", file=sys.stderr)
        sys.exit(2)


def exit_stopped() -> NoReturn:
    print("stopped.", file=sys.stderr)
    sys.exit(130)


def sentence_of(error: Exception) -> str | None:
    """What a user is told of an error; None for one that is no user's."""
    if isinstance(error, InputError):
        return str(error)
    short = ("allocate", "out of memory", "ALLOC_FAILED")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in short)
    ):
        return "there is not enough memory for a model and batches of this size."
    if lost(error):
        reason = str(error).splitlines()[0][:200]
        return (
            f"another process of this training is gone ({reason}): what it said tells why. The "
            f"same command with --resume goes on from the last evaluation."
        )
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
    return None


def make_parser(variant: Variant, description: str, options: type[RunOptions]) -> Parser:
    """All flags of a variant: its options, and its settings."""
    parser = Parser(description)
    parser.add_settings(options)
    parser.add_settings(variant.settings)
    return parser


def parse(
    variant: Variant, argv: Sequence[str], description: str = ""
) -> tuple[Settings, RunOptions]:
    """The settings and options of a training; ``options.preset`` becomes the one that is used.
    Flags beat the preset, which beats what the data set says of its evaluation."""
    flags = given(make_parser(variant, description, variant.options), argv)
    options = variant.options.of(variant.options.own(flags))
    finished = None
    if options.final:
        finished = header_of_finished(variant, options.final, flags)
        require_same_model(variant, options.final, finished["settings"], flags)
        defaults = {"seed": finished["seed"], "dataset": finished["dataset"]}
        if "preset" in finished:
            defaults["preset"] = finished["preset"]
        if options.data_path and holds_dataset(options.data_path):
            del defaults["dataset"]  # the folder says itself what it holds
        options = variant.options.of(defaults, variant.options.own(flags))
    if options.preset == "auto":
        name = options.dataset or default_dataset(options.data_path)
        options = variant.options.of(dict(options), {"preset": variant.preset_for(name)})
    chosen = variant.settings.own(flags)
    of_data = variant.model.evaluation_of(evaluation_beside(options.dataset, options.data_path))
    start = finished["settings"] if finished else variant.preset(options.preset)
    settings = variant.settings.of(of_data, start, chosen)
    settings.require_used(chosen)
    settings.part(variant.model.Training).check_selection()
    return settings, options


def header_of_finished(variant: Variant, path: Path, flags: Mapping[str, Any]) -> dict:
    """The header of the checkpoint that --final names, with its best epoch as ``epochs``."""
    header = checkpoints.read_header(path)
    checkpoints.require_variant(path, header, variant.name)
    header = checkpoints.completed(path, header, variant.settings)
    epochs = flags.get("epochs", header.get("best_epoch", 0))
    if epochs in (0, None):
        raise InputError(f"{path} does not tell its best epoch: give --epochs.")
    if "warm_start" in header and not {"warm_start", "epochs"} & set(flags):
        raise InputError(
            f"{path} began warm, and its best epoch is a warm one's: give --warm_start, as it had "
            f"({header['warm_start']}), or --epochs."
        )
    return {**header, "settings": {**header["settings"], "epochs": epochs}}


def require_same_model(
    variant: Variant, path: Path, before: Mapping[str, Any], flags: Mapping[str, Any]
) -> None:
    """InputError for flags that define another model than the one whose epochs are taken over."""
    kind = variant.model.Settings
    own = kind.own(flags)
    if "epochs" in flags or variant.model.closed_form:
        return
    told, known = kind.of(kind.own(before), own).dump(), kind.of(kind.own(before)).dump()
    for name in own:
        if told[name] != known[name]:
            raise InputError(
                f"the best epoch of {path} was found with {name} {known[name]}: give --epochs for "
                f"{name} {told[name]}, or train a model with it first."
            )


def load(variant: Variant, settings: Settings, options: RunOptions) -> Dataset:
    """The data that a command line asks for."""
    found = load_dataset(
        options.dataset, options.data_path, **dict(settings.part(DataSettings)), seed=options.seed
    )
    return variant.prepare(found, options)


def command_line(variant: Variant, script: str, argv: Sequence[str]) -> str:
    """How to call this again, the script named from the repository's root, or, where the package
    is installed, as a module."""
    path = variant.folder / script
    if home(variant.folder) != variant.folder:
        words = ["-m", f"{variant.folder.name}.{path.stem}"]
    else:
        inside = path.is_relative_to(REPOSITORY)
        words = [str(path.relative_to(REPOSITORY)) if inside else script]
    return shlex.join(["python", *words, *argv])


def train_by(variant: Variant, argv: Sequence[str] | None, description: str = "") -> dict[str, Any]:
    """Parse, build, train and report; returns the record that --result_json writes."""
    argv = list(sys.argv[1:] if argv is None else argv)
    settings, options = parse(variant, argv, description)
    require_writable(options.result_json, [options.warm_start, options.final])
    device = choose_device(options.cuda, options.gpu)
    with joined(device):
        record = train_on(variant, settings, options, device)
    record["command"] = command_line(variant, "main.py", argv)
    if options.result_json and started_together().writes:
        write_json(options.result_json, record)
    return record


def train_on(
    variant: Variant, settings: Settings, options: RunOptions, device: torch.device
) -> dict[str, Any]:
    """Build and train what a command line asks for; the run's record."""
    dataset = load(variant, settings, options).to(device)
    if options.final and checkpoints.read_header(options.final)["data"] != dataset.fingerprint():
        logger.warning("%s was trained on other data than %s.", options.final, dataset.name)
    model_class = variant.model
    sources = {name: getattr(options, name) for name in model_class.sources}
    of_model = settings.part(model_class.Settings).dump()
    model = model_class.for_dataset(
        dataset, seed=options.seed, item_shards=options.item_shards, **of_model, **sources
    )
    told = settings.model_dump(mode="json", exclude_unset=True)  # train tells these from defaults
    run = train(
        model, dataset, preset=options.preset, seed=options.seed, save_path=options.save_path,
        log_name=options.log_name, resume=options.resume, keep_state=options.keep_state,
        long_names=options.long_names, final=options.final is not None,
        warm_start=options.warm_start, device=device, tensorboard=options.tensorboard,
        **model_class.Training.own(told),
    )  # fmt: skip
    return run.record
