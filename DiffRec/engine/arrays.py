"""Arrays from .npy and .npz files, which are not trusted: what a header declares must be in the
file."""

import io
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from DiffRec.engine.errors import InputError, reason_of


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
        raise InputError(
            f"{path} is not a whole .npy array of {what} ({reason_of(error)})."
        ) from error


LONGEST_HEADER = 1 << 14  # bytes; NumPy reads no longer ones unasked
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_archive(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The arrays of these names of a .npz file; InputError for a file that lacks one. As with
    `read_array` no Python objects, and no memory on the word of a header. what: a word for them
    all, for messages."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)  # of headers that Python 2 wrote
            found = {}
            for name in names:
                info = archive.getinfo(f"{name}.npy")
                with archive.open(info) as file:
                    begin = io.BytesIO(file.read(LONGEST_HEADER))
                version = npy.read_magic(begin)
                if version not in HEADERS:
                    raise ValueError(f"{info.filename} is of version {version}")
                shape, _, kind = HEADERS[version](begin)
                if math.prod(shape) * kind.itemsize != info.file_size - begin.tell():
                    raise ValueError(f"{info.filename} is not of the size that it declares")
                with archive.open(info) as file:
                    found[name] = npy.read_array(file, allow_pickle=False)
        return found
    except Exception as error:
        raise InputError(f"{path} does not hold {what} ({reason_of(error)}).") from error
