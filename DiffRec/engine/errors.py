"""What a user did wrong, said in one sentence: the commands print it and exit with code 2."""

import contextlib
import operator
import os
from typing import Any


class InputError(ValueError):
    """Bad input of a user: a file, a flag, a setting. The message is one sentence."""


def reason_of(error: Exception) -> str:
    """What an error says, on one line and not at length: a part of a sentence."""
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def settings_from_user():
    """Inside, a ValueError of the model classes is about settings the user chose."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def whole_number(name: str, value: Any, least: int) -> int:
    """An argument that counts something; InputError unless it is an integer of at least so much."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name} must be an integer, got {value!r}.") from error
    if number < least:
        raise InputError(f"{name} must be at least {least}, got {number}.")
    return number


def require_built(model: object) -> None:
    """InputError for a model's class in the place of a model."""
    if isinstance(model, type):
        name = model.__name__
        raise InputError(f"{name} is a class: {name}.for_dataset builds a model.")


def require_path(what: str, value: Any) -> None:
    """InputError, "``what``, not int", for what is no path."""
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{what}, not {type(value).__name__}.")
