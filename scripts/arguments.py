"""What the arguments of scripts are read by: the types of settings, with their bounds."""

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydantic

from DiffRec.engine.settings import Settings, sentence


def checked(kind: Any) -> Callable[[str], Any]:
    """An argument's type from that of a setting, such as `DiffRec.engine.settings.Positive`."""
    adapter = pydantic.TypeAdapter(kind, config=pydantic.ConfigDict(allow_inf_nan=False))

    def read(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except pydantic.ValidationError as error:
            what = sentence(error.errors()[0], Settings)
            raise argparse.ArgumentTypeError(f"{what}, got {text!r}") from error

    return read


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
