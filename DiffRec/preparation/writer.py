"""A prepared data set's folder, written whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from DiffRec.data_utils import load_dataset
from DiffRec.engine.arrays import read_array
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import folder_written_whole
from DiffRec.preparation.protocol import SPLITS, Split

OURS = (
    *(f"{split}_{kind}.npy" for split in SPLITS for kind in ("list", "times", "ratings")),
    "disliked_list.npy",
    *("user_map.csv", "item_map.csv", "stats.json"),
)


def statistics(split: Split) -> dict:
    """Sizes, density and the splits' shares."""
    sizes = {name: len(split.pairs[name]) for name in SPLITS}
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
            f"{folder} holds a data set that was not prepared here, such as a released one: choose "
            f"another folder, or move it away."
        )
    with folder_written_whole(folder, OURS, "a data set") as temporary:
        for name in SPLITS:
            np.save(temporary / f"{name}_list.npy", split.pairs[name])
            np.save(temporary / f"{name}_times.npy", split.times[name])
            np.save(temporary / f"{name}_ratings.npy", split.ratings[name])
        if len(split.disliked):
            np.save(temporary / "disliked_list.npy", split.disliked)
        for file in temporary.glob("*.npy"):
            read_array(file, "numbers")  # np.save may not tell that the disk was full at last
        for name, raw in (("user", split.raw_users), ("item", split.raw_items)):
            table = pd.DataFrame({f"raw_{name}": raw, name: np.arange(len(raw))})
            table.to_csv(temporary / f"{name}_map.csv", index=False)
        stats = {**statistics(split), **(about or {})}
        told = temporary / "stats.json"
        told.write_text(json.dumps(stats))  # which says how many items there are
        stats["fingerprint"] = load_dataset(data_path=temporary).fingerprint()
        told.write_text(json.dumps(stats, indent=1) + "\n")
    return stats
