"""Top-k lists for more users than fit in memory: from a file of histories to a folder of parts.

A part belongs to a range of the file's rows: it has the users whose first row lies there. So every
part can be made without the others: again after a stop, or by another process.
"""

import contextlib
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from DiffRec.data_utils import last_of_repeated
from DiffRec.engine.contract import Recommender
from DiffRec.engine.errors import InputError, reason_of
from DiffRec.engine.files import hash_of, remove_stale, temporary_prefix, write_json
from DiffRec.engine.filters import Filters
from DiffRec.engine.ids import IdMap
from DiffRec.engine.ranks import of_environment
from DiffRec.engine.serving import recommendation_tables, write_tables
from DiffRec.interactions import Interactions

if TYPE_CHECKING:
    import pyarrow as pa

PAIRS, LISTS = 1_000_000, 20_000  # rows of a file in a part: of pairs, and of a user's whole list
ABOUT = "_about.json"  # readers of folders of Parquet leave out what begins so

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """What pyarrow cannot read is an InputError."""
    import pyarrow as pa  # here, since it takes a while

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no whole file of histories ({reason_of(error)}).") from error


class HistoryFile:
    """A Parquet file of histories, or a folder of such files in the order of their names.

    Columns are user and item, and perhaps timestamp, numbers or moments: a row for each
    interaction, sorted by user; or item is a list, and each row a user. Without timestamps a user's
    items are in order of time.

    Attributes:
        path: what messages call it.
        rows: how many there are.
        lists: whether each row is a user.
        numbers: whether its users are written as words and are whole numbers all the same.
    """

    def __init__(self, path: Path, numbers: bool = False, called: Path | None = None):
        import pyarrow as pa
        import pyarrow.parquet

        self.path, self.numbers = called or path, numbers
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise InputError(f"there is no file {path}, nor any .parquet file in it.")
        with readable(path):
            self.files = [pa.parquet.ParquetFile(file, pre_buffer=False) for file in files]
        schema = self.files[0].schema_arrow
        if any(not file.schema_arrow.equals(schema) for file in self.files):
            raise InputError(f"the files in {path} have different columns.")
        if not {"user", "item"} <= set(schema.names):
            raise InputError(
                f"{self.path} must have the columns user and item, and may have timestamp; it has "
                f"{', '.join(schema.names)[:200]}. A text has commas between them."
            )
        of_item = schema.field("item").type
        self.lists = pa.types.is_list(of_item) or pa.types.is_large_list(of_item)
        self.columns = ["user", "item"]
        if "timestamp" in schema.names:
            kind = schema.field("timestamp").type
            if self.lists and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
                raise InputError(
                    f"{self.path}: the items of a list stand in order of time, and have no list of "
                    f"timestamps."
                )
            if not self.lists:
                self.columns.append("timestamp")
                if not (
                    pa.types.is_integer(kind) or pa.types.is_floating(kind)
                    or pa.types.is_temporal(kind) or pa.types.is_null(kind)
                ):  # fmt: skip
                    raise InputError(
                        f"{self.path}: the column timestamp must hold numbers, or dates such as "
                        f"2021-01-31 or 2021-01-31T12:00:00, all of one kind."
                    )
        for name, kind in (
            ("user", schema.field("user").type),
            ("item", of_item.value_type if self.lists else of_item),
        ):
            if pa.types.is_dictionary(kind):  # pandas' categories
                kind = kind.value_type
            if not (
                pa.types.is_integer(kind)
                or pa.types.is_string(kind)
                or pa.types.is_large_string(kind)
            ):
                raise InputError(f"{self.path}: the column {name} must hold numbers or words.")
        # Where each group of rows begins, over all files.
        self.groups = [
            (file, number) for file in self.files for number in range(file.num_row_groups)
        ]
        sizes = [file.metadata.row_group(number).num_rows for file, number in self.groups]
        self.starts = np.r_[0, np.cumsum(sizes, dtype=np.int64)]
        self.rows = int(self.starts[-1])

    def read(self, start: int, stop: int) -> "pa.Table":
        """Rows start..stop-1; of others no more than a batch is in memory."""
        import pyarrow as pa
        import pyarrow.compute as pc

        parts = [self.files[0].schema_arrow.empty_table().select(self.columns)]
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        with readable(self.path):
            for at in range(first, len(self.groups)):
                if self.starts[at] >= stop:
                    break
                file, number = self.groups[at]
                row = int(self.starts[at])
                for batch in file.iter_batches(65_536, [number], self.columns):
                    low, high = max(start - row, 0), min(stop - row, len(batch))
                    if low < high:
                        parts.append(pa.Table.from_batches([batch.slice(low, high - low)]))
                    row += len(batch)
                    if row >= stop:
                        break
            table = pa.concat_tables(parts)
            table.validate(full=True)
        for name in self.columns:
            column, missing = table[name], table[name].null_count
            if pa.types.is_floating(column.type):
                missing = missing or not pc.all(pc.is_finite(column)).as_py()
            if missing:
                raise InputError(f"{self.path} has rows without {name}.")
        for at, name in enumerate(("user", "item")):
            if pa.types.is_dictionary(table[name].type):
                table = table.set_column(at, name, table[name].cast(table[name].type.value_type))
        if self.numbers:
            table = table.set_column(0, "user", table["user"].cast(pa.int64()))
        return table.combine_chunks()

    def part(self, start: int, stop: int) -> "pa.Table":
        """All rows of the users whose first row is one of start..stop-1; InputError where these are
        not sorted by user."""
        import pyarrow as pa

        if self.lists:
            return self.read(start, stop)
        before = min(start, 1)  # the row before tells whether the first user began there
        table = self.read(start - before, stop)
        self.require_sorted(table, start - before)
        if before:
            table = table.slice(first_of_another(table, table["user"][0]))
        parts = [table]
        while len(table) and stop < self.rows:  # the last user may go on
            more = self.read(stop, min(stop + 65_536, self.rows))
            same = first_of_another(more, table["user"][-1])
            parts.append(more.slice(0, same))
            stop += same
            if same < len(more):
                break
        return pa.concat_tables(parts).combine_chunks()

    def require_sorted(self, table: "pa.Table", start: int) -> None:
        import pyarrow.compute as pc

        users = table["user"]
        falls = pc.less(users[1:], users[:-1])
        if pc.any(falls).as_py():
            at = pc.index(falls, True).as_py()
            raise InputError(
                f"{self.path} must be sorted by user, so that each one's rows stand together: row "
                f"{start + at + 2} has the user {users[at + 1]} behind {users[at]}."
            )


def first_of_another(table: "pa.Table", user: Any) -> int:
    """The first row that is not of ``user``; the number of rows where there is none."""
    import pyarrow.compute as pc

    at = pc.index(pc.not_equal(table["user"], user), True).as_py()
    return len(table) if at < 0 else at


def parquet_of(path: Path, beside: Path, stack: contextlib.ExitStack) -> HistoryFile:
    """The histories of a file; those of a .csv file, packed or not, are copied to a temporary
    Parquet file first, since nothing tells where its rows begin. Users are numbers there if all are
    written as such, 7 and not 007."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet

    packed = Path(path.name.lower()).suffix in (".gz", ".bz2")
    kind = (Path(path.stem) if packed else path).suffix.lower()
    if kind != ".csv" or not path.is_file():
        return HistoryFile(path)
    prefix = f"{temporary_prefix(beside)}{os.getpid()}."
    folder = stack.enter_context(tempfile.TemporaryDirectory(dir=beside.parent, prefix=prefix))
    copy = Path(folder) / "histories.parquet"
    words = pa.csv.ConvertOptions(
        column_types={"user": pa.string(), "item": pa.string()},  # 01 and 1 differ
        strings_can_be_null=True, null_values=[""],
    )  # fmt: skip
    numbers = True
    with (
        readable(path),
        pa.csv.open_csv(path, convert_options=words) as batches,
        pa.parquet.ParquetWriter(copy, batches.schema) as written,
    ):
        for batch in tqdm(batches, f"copy of {path.name}", unit="batch", disable=None):
            written.write_batch(batch)
            if numbers and "user" in batch.schema.names:
                plain = pc.match_substring_regex(batch["user"], "^(0|-?[1-9][0-9]{0,17})$")
                numbers = pc.all(plain, min_count=0).as_py()
    return HistoryFile(copy, numbers, path)


class ItemNumbers:
    """From raw ids, arrays of numbers or words, to a model's items; what it does not know is -1."""

    def __init__(self, items: IdMap):
        import pandas as pd

        self.words = pd.Index(items.names().astype(str).astype(object))
        names = items.names()
        self.numbers = pd.Index(names) if names.dtype.kind in "iu" else None

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        if ids.dtype.kind in "iu" and self.numbers is not None:
            return self.numbers.get_indexer(ids)
        return self.words.get_indexer(ids.astype(str).astype(object))


@dataclasses.dataclass(frozen=True)
class Histories:
    """Users and their items.

    Attributes:
        users: (U,) raw ids.
        rows: a row for each user, in order of time, of a repeated item the latest.
        unknown: how many of ``all`` rows of the file have an item that the model does not know.
    """

    users: np.ndarray
    rows: Interactions
    unknown: int
    all: int


def histories_of(table: "pa.Table", lists: bool, number: ItemNumbers, n_items: int) -> Histories:
    """What the rows of a part say."""
    import pyarrow.compute as pc

    users = table["user"].to_numpy()
    if lists:
        items = pc.list_flatten(table["item"])
        if items.null_count:
            raise InputError("the lists of histories hold an item that is none.")
        row = np.repeat(np.arange(len(users)), pc.list_value_length(table["item"]).to_numpy())
        items = items.to_numpy()
    else:
        begins = np.r_[True, users[1:] != users[:-1]] if len(users) else np.zeros(0, bool)
        row, items = np.cumsum(begins) - 1, table["item"].to_numpy()
        users = users[begins]
        if "timestamp" in table.column_names:
            order = np.lexsort((table["timestamp"].to_numpy(), row))
            items = items[order]
    numbers = number(items)
    known = numbers >= 0
    pairs = last_of_repeated(np.stack([row[known], numbers[known]], axis=1))
    rows = Interactions.from_pairs(pairs, len(users), n_items)
    names = users if users.dtype.kind in "iu" else users.astype(str)
    return Histories(names, dataclasses.replace(rows, users=None), int((~known).sum()), len(known))


def begin(folder: Path, about: dict[str, Any], own: list[Path], resume: bool) -> None:
    """Make the folder, or go on with it; InputError for one that holds something else."""
    told = folder / ABOUT
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: lists for histories are a folder of parts.")
    # One without a part was stopped before the first, and may begin anew.
    if folder.is_dir() and any(path.name[0] not in "._" for path in folder.iterdir()):
        try:
            same = json.loads(told.read_text()) == about
        except (OSError, ValueError, RecursionError):
            same = False
        if not same:
            raise InputError(
                f"{folder} holds something else than these lists: choose another name, or move it "
                f"away."
            )
        if not resume and any(path.exists() for path in own):
            raise InputError(f"{folder} is there already: --resume goes on with it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} could not be written ({error.strerror}).") from error
    write_json(told, about)


def recommend_for_histories(
    path: Path, folder: Path, model: Recommender, items: IdMap, k: int, filters: Filters,
    min_history: int, exclude_seen: bool, seed: int, about: dict[str, Any], resume: bool,
) -> None:  # fmt: skip
    """`recommendation_tables` for the users of ``path``, as parts of the folder ``folder``.

    Of several processes each makes every WORLD_SIZE-th part from its RANK on. about: what, besides
    the histories, the lists depend on; with ``resume`` parts that are there are kept if it is
    unchanged.
    """
    import pandas as pd

    if folder.suffix != ".parquet":
        raise InputError(f"{folder} must end in .parquet: it will be a folder of such files.")
    ranks = of_environment()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    with contextlib.ExitStack() as stack:
        histories = parquet_of(path, folder, stack)
        step = LISTS if histories.lists else PAIRS
        starts = range(0, histories.rows, step)
        parts = {
            folder / f"part-{number:05}.parquet": start
            for number, start in enumerate(starts)
            if number % ranks.size == ranks.rank
        }
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        of_file = [path.name, hash_of(*files)]
        begin(folder, {**about, "histories": of_file}, list(parts), resume)
        left = {part: start for part, start in parts.items() if not part.exists()}
        number, rows, users, unknown, every = ItemNumbers(items), 0, 0, 0, 0
        with tqdm(left.items(), folder.name, unit="part", disable=None) as bar:
            for part, start in bar:
                table = histories.part(start, min(start + step, histories.rows))
                found = histories_of(table, histories.lists, number, model.n_items)
                torch.manual_seed(seed + start // step)  # so that parts do not depend on each other
                history = model.weigh(found.rows.to(model.device))
                seen = history if exclude_seen else None
                none = pd.DataFrame(
                    {
                        "user": found.users[:0], "rank": np.zeros(0, np.int64),
                        "item": items.names()[:0], "score": np.zeros(0, np.float32),
                    }
                )  # fmt: skip
                tables = recommendation_tables(
                    model, history, seen, k, found.users, items, filters, min_history
                )
                rows += write_tables(part, tables if len(found.users) else [none])
                users, unknown = users + len(found.users), unknown + found.unknown
                every += found.all
                bar.set_postfix(users=users)
    if unknown:
        logger.warning("%s: %d of %d items are not known.", path, unknown, every)
    share = f", the share of process {ranks.rank} of {ranks.size}" if ranks.several else ""
    kept = f"; {len(parts) - len(left)} were there" if len(left) < len(parts) else ""
    made = f"{len(left)} part{'' if len(left) == 1 else 's'}"
    print(f"{folder}: {rows:,} rows for {users:,} users in {made}{kept}{share}")
