"""Raw rating files as tables with the columns user, item, rating, timestamp, in file order."""

import io
import zipfile
from pathlib import Path

import pandas as pd

from DiffRec.errors import InputError

COLUMNS = ["user", "item", "rating", "timestamp"]


def read_movielens_1m(path: str | Path) -> pd.DataFrame:
    """``ratings.dat`` (user::item::rating::timestamp), plain or inside the official ml-1m.zip."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open("ml-1m/ratings.dat") as file:
                text = file.read()
        else:
            text = path.read_bytes()
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path} is not a whole ml-1m archive ({error}).") from error
    table = io.BytesIO(text.replace(b"::", b"\t"))  # pandas is slow with separators of two letters
    try:
        return pd.read_csv(table, sep="\t", header=None, names=COLUMNS, dtype="int64")
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} does not hold lines of user::item::rating::timestamp ({error})."
        ) from error
