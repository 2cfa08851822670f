"""What scripts read from their arguments: lists, flags for others, files of models, and short names
of files."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.settings import Folder
from DiffRec.engine.variant import register_from


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
        "--from_file", type=checked(Folder), default=None,
        help="a Python file that registers models of your own",
    )  # fmt: skip


def models_from(argv: Sequence[str] | None) -> Path | None:
    """Register the models of the file that --from_file names, before anything asks for them."""
    parser = Parser(add_help=False)
    add_from_file(parser)
    path = parser.parse_known_args(argv)[0].from_file
    if path:
        register_from(path)
    return path


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
