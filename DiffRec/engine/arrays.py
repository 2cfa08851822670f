"""Arrays from .npy files, which are not trusted: what a header declares must be in the file."""

import warnings
from pathlib import Path

import numpy as np

from DiffRec.engine.errors import InputError


def read_array(path: Path, what: str) -> np.ndarray:
    """The array of a .npy file, which holds no Python objects; InputError for any other.

    what: a word for its numbers, for messages. Nothing is read before the size that the header
    declares is that of the file.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of sizes that overflow
            found = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(found, np.ndarray):
            raise ValueError("it is an archive")
        return np.array(found)
    except Exception as error:  # a header can be wrong in every way
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a whole .npy array of {what} ({reason}).") from error
