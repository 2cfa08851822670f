"""A prepared data set's folder, written whole or not at all."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from DiffRec.data_utils import fingerprint
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import folder_written_whole
from DiffRec.preparation.protocol import SPLITS, Split
from DiffRec.preparation.tables import ROWS

OURS = (
    *(f"{split}_{kind}.npy" for split in SPLITS for kind in ("list", "times", "ratings")),
    "disliked_list.npy",
    *("user_map.csv", "item_map.csv", "stats.json"),
)


class NpyFile:
    """A .npy file that is written some rows at a time, to what np.save writes of all of them."""

    def __init__(self, path: Path):
        self.path, self.rows = path, 0
        self.like: np.ndarray = np.empty(0)
        self.file = path.open("wb")

    def __enter__(self) -> "NpyFile":
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            self.write_header()

    def write_header(self) -> None:
        """At the beginning; its length does not depend on the number of rows."""
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(
            self.file,
            {
                "descr": np.lib.format.dtype_to_descr(self.like.dtype),
                "fortran_order": False,
                "shape": (self.rows, *self.like.shape[1:]),
            },
        )

    def append(self, array: np.ndarray) -> None:
        """Rows of the type of those before."""
        if not self.file.tell():
            self.like = array[:0]
            self.write_header()
        self.file.write(np.ascontiguousarray(array).data)
        self.rows += len(array)

    def read(self, column: int) -> Iterator[np.ndarray]:
        """A column of what was written, as int32, some rows at a time."""
        width = self.like.shape[1]
        with self.path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            while len(part := np.fromfile(file, self.like.dtype, ROWS * width)):
                yield part[column::width].astype(np.int32)


def statistics(split: Split) -> dict:
    """Sizes, density and the splits' shares."""
    sizes = split.sizes
    users, items, total = len(split.raw_users), len(split.raw_items), sum(sizes.values())
    return {
        "users": users, "items": items, "interactions": total, **sizes,
        "density": total / (users * items), "interactions_per_user": total / users,
    }  # fmt: skip


def write(folder: Path, split: Split, about: dict | None = None) -> dict:
    """Write lists, times, ratings, maps of raw ids and stats.json into ``folder``; returns it.

    Everything is written beside it first and then put in its place. A folder that is there is
    replaced if it holds nothing but a data set that was prepared here. about: what else stats.json
    says, such as the command's settings.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "stats.json").is_file():
        raise InputError(
            f"{folder} holds files that were not prepared here, such as released ones: choose "
            f"another folder, or move it away."
        )
    with folder_written_whole(folder, OURS, "a data set") as temporary:
        lists = {}
        total = sum(split.sizes.values())
        with tqdm(total=total, desc="rows written", unit="", unit_scale=True, disable=None) as bar:
            for name in SPLITS:
                of_user = np.zeros(len(split.raw_users), dtype=np.int64)
                with contextlib.ExitStack() as stack:
                    files = [
                        stack.enter_context(NpyFile(temporary / f"{name}_{kind}.npy"))
                        for kind in ("list", "times", "ratings")
                    ]
                    for rows in split.rows(name):
                        for file, array in zip(files, rows, strict=True):
                            file.append(array)
                        of_user += np.bincount(rows[0][:, 0], minlength=len(of_user))
                        bar.update(len(rows[0]))
                lists[name] = np.r_[0, np.cumsum(of_user)], files[0].read(column=1)
        with NpyFile(temporary / "disliked_list.npy") as low:
            for pairs in split.low():
                low.append(pairs)
        if not low.rows:
            low.path.unlink()
        for name, raw in (("user", split.raw_users), ("item", split.raw_items)):
            table = pd.DataFrame({f"raw_{name}": raw, name: np.arange(len(raw))})
            table.to_csv(temporary / f"{name}_map.csv", index=False)
        stats = {**statistics(split), **(about or {})}
        stats["fingerprint"] = fingerprint(len(split.raw_users), len(split.raw_items), lists)
        (temporary / "stats.json").write_text(json.dumps(stats, indent=1) + "\n")
    return stats
