"""The command line, made of settings: a flag for each, checked as any other value of it is.

A flag that is given beats the preset, and the preset beats the default.
"""

import argparse
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import pydantic

from DiffRec.engine.errors import InputError
from DiffRec.engine.settings import Settings, sentence


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and which takes no flag by half of its name.

    Flags that are not given leave no trace in what it returns.
    """

    def __init__(self, description: str | None = None, **more: Any):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="--debug shows the traceback behind an error.",
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            **more,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help).")

    def add_settings(self, kind: type[Settings], skip: Sequence[str] = ()) -> None:
        """A flag for each setting of a class, under the title of the class that defines it."""
        groups = {group.title: group for group in self._action_groups}
        for name, field in kind.model_fields.items():
            if name in skip:
                continue
            title = title_of(kind, name)
            if title not in groups:
                groups[title] = self.add_argument_group(title)
            told: Any = field.json_schema_extra
            shape = shape_of(field.annotation)
            more: dict[str, Any] = {}
            if shape is bool:
                more = {"nargs": "?", "const": True, "metavar": "0|1"}
            elif shape is tuple:
                more = {"action": Words, "metavar": "LIST"}
            else:
                offered = choices_of(field.annotation)
                more = {"metavar": "|".join(map(str, offered)) if offered else name.upper()}
            groups[title].add_argument(
                *(f"--{word}" for word in (name, *told["spellings"])), dest=name,
                help=f"{field.description} (default: {shown(field.default)})".replace("%", "%%"),
                **more,
            )  # fmt: skip


class Words(argparse.Action):
    """The words of a list, however the shell cut them, as one."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "nargs": "+"})

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, " ".join(values))


def title_of(kind: type[Settings], name: str) -> str:
    """The title of the class that defines a setting."""
    owner: Any = next(c for c in reversed(kind.__mro__) if name in getattr(c, "model_fields", ()))
    return owner.title


def shape_of(annotation: Any) -> type:
    """bool, tuple, or object for all that is written as one word."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return shape_of(next(a for a in arguments if a is not type(None)))
    found = typing.get_origin(annotation) or annotation
    return found if found in (bool, tuple) else object


def choices_of(annotation: Any) -> tuple:
    """What a setting is chosen from, or nothing where it is not a choice."""
    is_choice = typing.get_origin(annotation) is typing.Literal
    return typing.get_args(annotation) if is_choice else ()


def shown(value: Any) -> str:
    """A value as a flag takes it."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (tuple, list)):
        return f"[{','.join(map(str, value))}]"
    return "none" if value is None else str(value)


def given(parser: argparse.ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    """The flags that are on the command line, by the names of their settings."""
    return vars(parser.parse_args(argv))


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """Settings as the words of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", shown(value))]


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
