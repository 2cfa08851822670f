"""What scripts read from their arguments: lists, flags for others, files of models, the data of
checkpoints, and short names of files."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from DiffRec import Dataset, load_dataset
from DiffRec.data_utils import SPLITS, holds_dataset
from DiffRec.engine import checkpoints
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder
from DiffRec.engine.variant import REGISTRY, register_from, variant_of


def listed(text: str) -> tuple[str, ...]:
    """The names in a,b,c."""
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    if not found:
        raise argparse.ArgumentTypeError("expected names with commas between them")
    return found


def flags_in(text: str) -> str:
    """Flags in one word; the shell's quotes inside it must be closed."""
    try:
        shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} has a quote that is not closed") from error
    return text


def add_from_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from_file", type=checked(Folder), action="append", default=[],
        help="a Python file that registers models of your own; may be given several times",
    )  # fmt: skip


def models_from(argv: Sequence[str] | None) -> list[Path]:
    """Register the models of the files that --from_file names, before anything asks for them."""
    parser = Parser(add_help=False)
    add_from_file(parser)
    paths = parser.parse_known_args(argv)[0].from_file
    for path in paths:
        register_from(path)
    return paths


def header_of(path: Path) -> dict:
    """The header of a checkpoint of any model, with all of today's settings."""
    header = checkpoints.read_header(path)
    checkpoints.require_variant(path, header, *REGISTRY)
    return checkpoints.completed(path, header, variant_of(header["variant"]).settings)


def read_as(
    header: dict, dataset: str | None, data_path: Path | None, seed: int | None = None
) -> Dataset:
    """Data read as they were for a checkpoint, be it that others are named; ``seed``: of random
    noise, in the place of the checkpoint's."""
    own = data_path is not None and holds_dataset(data_path)
    named = dataset or (None if own else header["dataset"])
    how, seed = header["settings"], header["seed"] if seed is None else seed
    noise, repeated = how["random_noise"], how["drop_repeated"]
    return load_dataset(named, data_path, how["drop_unknown"], noise, seed, repeated)


def data_of(path: Path, header: dict, dataset: str | None, data_path: Path | None) -> Dataset:
    """The data that a checkpoint was trained on, read as they were then, unless others are named;
    InputError if it does not know their items."""
    found = read_as(header, dataset, data_path)
    require_known(path, header, found)
    return found


def require_known(path: Path, header: dict, dataset: Dataset) -> None:
    """InputError if a checkpoint does not know the data's items; says so where it was trained on
    other data."""
    checkpoints.require_items(path, header, dataset)
    known, found = header["data"], dataset.fingerprint()
    if known != found and not dataset.is_wholly(known):
        sizes = all(known.get(name) == found[name] for name in SPLITS)
        order = ", or not in its order, as by --timestamps" if sizes else ""
        print(f"note: {dataset.name} is not the data that {path.name} was trained on{order}.")


def short_names(paths: Sequence[Path]) -> list[str]:
    """What files are called, shortened to the words in which they differ: a_x_b and a_y_b are x
    and y. Files of one name are told apart by their folders."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in paths]
    parts = [re.split(r"[_/]", name) for name in names]
    common = set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else set()
    short = ["_".join(word for word in words if word not in common) for words in parts]
    return short if all(short) and len(set(short)) == len(set(names)) else names
