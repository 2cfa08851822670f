"""What a user did wrong, said in one sentence: the commands print it and exit with code 2."""

import contextlib


class InputError(ValueError):
    """Bad input of a user: a file, a flag, a setting. The message is one sentence."""


@contextlib.contextmanager
def settings_from_user():
    """Inside, a ValueError of the model classes is about settings the user chose."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
