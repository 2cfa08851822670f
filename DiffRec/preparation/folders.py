"""A data set's folder: of ratings of one's own, of MovieLens, or made up."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from DiffRec.data_utils import home
from DiffRec.engine.errors import InputError, require_path
from DiffRec.engine.paper import paper_sizes
from DiffRec.engine.settings import at_home
from DiffRec.preparation import download, readers, synthetic, writer
from DiffRec.preparation.protocol import NEXT_ITEM, Preparation, prepare
from DiffRec.preparation.tables import Database

logger = logging.getLogger(__name__)

DATASETS = home() / "datasets"
MOVIELENS = {
    "ml-1m": (download.ML_1M, "movielens-1m"),
    "ml-100k": (download.ML_100K, "movielens-100k"),
}


def write_folder(folder: Path, read: Callable[[Database], readers.Ratings], **how: Any) -> Path:
    """A data set's folder, of what ``read`` finds, by `prepare` with ``how``."""
    prepared = Preparation.of(how).dump()
    next_item = {"evaluation": NEXT_ITEM} if prepared["protocol"] == "leave_one_out" else {}
    with Database(folder) as database:
        writer.write(folder, prepare(read(database), **how), {"prepared": prepared, **next_item})
    return folder


def prepare_folder(
    ratings: pd.DataFrame | str | Path,
    out: str | Path,
    format: str | None = None,
    columns: str | Sequence[Any] | None = None,
    *,
    protocol: str = "paper",
    min_rating: float | None = None,
    drop_incomplete: bool = False,
    **how: Any,
) -> Path:
    """A data set's folder, ``out``, of ratings of one's own; it is written whole or not at all.

    Args:
        ratings: a table with a row for each rating, or a file in one of `readers.FORMATS`.
        format: of a file.
        columns: what user, item, rating and timestamp are called, or of a log without ratings user,
            item and timestamp; by default so in a table, and as the format has them in a file. Ids
            are whole numbers or words, times numbers or dates.
        protocol: how train, validation and test are cut, and ``how`` of it: see
            `DiffRec.preparation.protocol.prepare`.
        min_rating: ratings from here on are interactions, by default 4; of a log all rows are.
        drop_incomplete: leave rows out that lack something, in the place of an InputError.

    Raises InputError for what cannot be read, and where nothing is left.
    """
    require_path("out is a folder's path", out)
    columns = columns.split(",") if isinstance(columns, str) else columns
    if columns is not None and len(list(columns)) == 3:
        logger.info("without ratings every row is an interaction, at the time in %s", columns[2])
    if format == readers.SEQUENCES or (columns is not None and len(list(columns)) == 3):
        if min_rating:
            raise InputError("without ratings every row is an interaction: leave min_rating out.")
        how["min_rating"] = 0.0
    elif min_rating is not None:
        how["min_rating"] = min_rating
    if isinstance(ratings, pd.DataFrame):
        if format is not None:
            raise InputError(f"a table has no format, got {format}.")
        read = functools.partial(
            readers.from_table, ratings, columns=columns, drop_incomplete=drop_incomplete
        )
    elif not isinstance(ratings, str | Path):
        raise InputError(f"ratings must be a table of pandas or a file, not {type(ratings)}.")
    elif format is None:
        if not at_home(Path(ratings)).exists():
            raise InputError(f"there is no file {ratings}.")
        raise InputError(f"{ratings} is a file, and needs a format.")
    else:
        read = functools.partial(
            readers.read, at_home(Path(ratings)), format, columns, drop_incomplete=drop_incomplete
        )

    def looked_at(database: Database) -> readers.Ratings:
        found = read(database)
        if format != readers.SEQUENCES and (doubt := found.doubt()):
            logger.warning(doubt)
        if protocol == "global" and found.has_places():
            raise InputError(
                "the times are each user's own places, 0, 1, 2 and so on, which users do not "
                "share: the protocol global needs times."
            )
        return found

    return write_folder(at_home(Path(out)), looked_at, protocol=protocol, **how)


def make_movielens(name: str, raw: Path | None = None, folder: Path | None = None, **how) -> Path:
    """datasets/ml-1m_clean, say, from the official archive, which is downloaded unless given."""
    archive, format = MOVIELENS[name]
    raw = raw or download.download(*archive, DATASETS / "raw" / f"{name}.zip")
    noisy = how.get("noise") or how.get("random_noise")
    kind = "noisy" if noisy else "next" if how.get("protocol") == "leave_one_out" else "clean"
    folder = folder or DATASETS / f"{name}_{kind}"
    return write_folder(folder, functools.partial(readers.read, raw, format, None), **how)


def make_synthetic(folder: Path | None = None, seed: int = 1, **how) -> Path:
    """datasets/synthetic: ratings with ML-1M's character, through the same protocol."""
    read = functools.partial(readers.from_table, synthetic.make_ratings(seed=seed))
    return write_folder(folder or DATASETS / "synthetic", read, seed=seed, **how)


def make_twin(like: str, folder: Path | None = None, seed: int = 1) -> Path:
    """datasets/<name>-twin: made-up data with the sizes that Table 1 gives for a data set."""
    sizes = paper_sizes()
    name = like if like in sizes else f"{like}_clean"
    if name not in sizes:
        raise InputError(f"there is no {like} in Table 1: choose one of {', '.join(sizes)}.")
    folder = folder or DATASETS / f"{name}-twin"
    noisy = 0.2 if name.endswith("_noisy") else 0.0
    split = synthetic.make_twin(*sizes[name], noisy, seed)
    writer.write(folder, split, {"twin": {"like": name, "noisy": noisy, "seed": seed}})
    return folder
