"""Raw ratings in the formats they are published in, read in chunks and in place into a database.

Every reader yields tables with the columns user, item, rating, timestamp, in file order. Archives
are never unpacked: one member is read by its name, so that what else lies in them does not matter.
"""

import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from pandas.api.types import (
    is_bool_dtype,
    is_datetime64_any_dtype,
    is_integer_dtype,
    is_numeric_dtype,
    is_object_dtype,
    is_string_dtype,
)
from tqdm import tqdm

from DiffRec.engine.errors import InputError
from DiffRec.engine.ids import as_numbers
from DiffRec.preparation.tables import ROWS, Database

COLUMNS = ("user", "item", "rating", "timestamp")
LONGEST_LINE, MOST_COLUMNS = 1_000_000, 1000


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Ratings in the table ``ratings`` of a database, with the columns row (its place in the file),
    user_no and item_no (numbers of raw ids), rating and time.

    Attributes:
        raw_users, raw_items: the ids in the file, by number, in order of first appearance.
        whole: whether all times are whole numbers, of seconds or what the file has.
    """

    database: Database
    raw_users: np.ndarray
    raw_items: np.ndarray
    whole: bool

    def doubt(self) -> str | None:
        """What is odd about the times, in a sentence."""
        low, high = self.database.run("SELECT min(time), max(time) FROM ratings")
        if high <= LARGEST_STARS:
            return (
                f"all times lie between {low:g} and {high:g}, as ratings do: columns are user, "
                f"item, rating and time, or without ratings user, item and time."
            )
        if low > LATEST:
            return (
                "times seem to be milliseconds, or less, since 1970: interactions are in their "
                "order, but dates, as of --newer_than, are wrong until they are seconds."
            )
        return None

    def __len__(self) -> int:
        return self.database.run("SELECT count(*) FROM ratings")[0]

    def table(self) -> pd.DataFrame:
        """All of them in memory, raw ids and file order: what `from_table` takes."""
        found = self.database.arrays("FROM ratings ORDER BY row")
        times = found["time"].astype(np.int64) if self.whole else found["time"]
        columns = (
            self.raw_users[found["user_no"]], self.raw_items[found["item_no"]], found["rating"],
            times,
        )  # fmt: skip
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


UNREADABLE = frozenset("\r\n\0")  # in an id: a map of ids could not be read again
# Beyond these float32 keeps no rating, and float64 no time, to the unit.
LARGEST_RATING, LARGEST_TIME = 2**24, 2**53
# What times are doubted beyond: the stars of a rating, and seconds since 1970 in the year 5138.
LARGEST_STARS, LATEST = 10, 10**11


class Numbering:
    """Numbers raw ids in order of first appearance, a chunk at a time. ``name``: of what."""

    def __init__(self, name: str):
        self.name = name
        self.numbers: dict[str | int, int] = {}

    def __call__(self, raw: pd.Series) -> np.ndarray:
        codes, new = pd.factorize(raw)
        known, values = self.numbers, new.tolist()
        for value in values:
            if isinstance(value, str) and not UNREADABLE.isdisjoint(value):
                raise InputError(f"the {self.name} {value!r} holds the end of a line or of text.")
        of_new = [known.setdefault(value, len(known)) for value in values]
        return np.array(of_new, dtype=np.int32)[codes]

    def raw(self) -> np.ndarray:
        if len(set(map(type, self.numbers))) > 1:
            raise InputError(
                f"some ids of {self.name}s are numbers and others words: make all of them words."
            )
        return as_numbers(np.array(list(self.numbers)))


def collect(tables: Iterator[pd.DataFrame], database: Database | None = None) -> Ratings:
    """All tables of a reader as one `Ratings`, in ``database`` or one of their own; InputError if
    there is no row."""
    database = database or Database()
    users, items = Numbering("user"), Numbering("item")
    rows, whole = 0, True
    with tqdm(desc="ratings read", unit="", unit_scale=True, disable=None) as bar:
        for table in tables:
            times = table["timestamp"].to_numpy(np.float64)
            whole = whole and bool((times == np.floor(times)).all())
            database.insert(
                "ratings", row=np.arange(rows, rows + len(table)), user_no=users(table["user"]),
                item_no=items(table["item"]), rating=table["rating"].to_numpy(np.float32),
                time=times,
            )  # fmt: skip
            rows += len(table)
            bar.update(len(table))
    if not rows:
        raise InputError("the file holds no ratings.")
    return Ratings(database, users.raw(), items.raw(), whole)


def from_table(
    table: pd.DataFrame, database: Database | None = None, columns: Sequence[str] | None = None
) -> Ratings:
    """`Ratings` of a table, with columns as those of `read`; InputError names the first row, by its
    place from 0, that lacks something."""
    picked = pick(table, named(COLUMNS if columns is None else columns), "the table")
    return collect(checked(iter([picked]), "row", 0), database)


@contextlib.contextmanager
def opened(path: Path, member: str) -> Iterator[BinaryIO]:
    """The bytes of ``path``: of itself, unpacked if it is .gz, or of the one file inside a zip or
    tar archive whose name ends in ``member``, or that is alone there. InputError if it is missing
    or damaged."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    try:
        with contextlib.ExitStack() as stack:
            name = path.name.lower()
            file: Any  # of another class for each kind of archive
            if name.endswith(".zip"):
                packed = stack.enter_context(zipfile.ZipFile(path))
                names = [n for n in packed.namelist() if not n.endswith("/")]
                file = stack.enter_context(packed.open(only(names, member, path)))
            elif name.endswith((".tar", ".tar.gz", ".tgz")):
                archive = stack.enter_context(tarfile.open(path))
                inside = {m.name: m for m in archive if m.isfile()}
                file = archive.extractfile(inside[only(list(inside), member, path)])
            elif name.endswith(".gz"):
                file = stack.enter_context(gzip.open(path))
            else:
                file = stack.enter_context(path.open("rb"))
            yield file
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or truncated ({first_line(error)}).") from error
    except (RuntimeError, NotImplementedError) as error:  # of zipfile: encrypted, or packed oddly
        raise InputError(f"{path} cannot be unpacked ({first_line(error)}).") from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def only(names: list[str], member: str, path: Path) -> str:
    """The one name that ends in ``member``, or the only one there is."""
    names = [name for name in names if name.endswith(member) or len(names) == 1]
    if len(names) != 1:
        found = f"{len(names)} files" if names else "no file"
        raise InputError(f"{path} holds {found} named {member}, where there should be one.")
    return names[0]


def to_numbers(values: pd.Series) -> np.ndarray:
    """(n,) float64; NaN where there is no number."""
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers.to_numpy(np.float64, na_value=np.nan)


def to_seconds(values: pd.Series) -> np.ndarray:
    """Times, (n,) float64: numbers as they are, and seconds since 1970 of dates, in words by ISO
    8601, since 10/01/2021 may be of January or of October; NaN where there is none."""
    if is_numeric_dtype(values):
        return to_numbers(values)
    if is_datetime64_any_dtype(values):
        dates = pd.to_datetime(values, utc=True)
    elif is_object_dtype(values) or is_string_dtype(values):
        numbers = to_numbers(values)
        if not np.isnan(numbers).all():
            return numbers
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    else:  # durations and the like
        return np.full(len(values), np.nan)
    moments = dates.dt.tz_convert(None).to_numpy()
    return (moments - np.datetime64(0, "s")) / np.timedelta64(1, "s")


def to_ids(values: pd.Series) -> pd.Series:
    """Ids as integers, which floats that are whole are too, or as words; NA where there is none."""
    if is_bool_dtype(values) or not is_numeric_dtype(values):
        if is_string_dtype(values) and not is_object_dtype(values):
            return values
        return values.astype(object).map(word_of, na_action="ignore")
    if is_integer_dtype(values):
        return values
    numbers = to_numbers(values)
    whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= LARGEST_TIME)
    return pd.Series(np.where(whole, numbers, np.nan), values.index).astype("Int64")


def word_of(value: Any) -> str | None:
    """An id among others of any kind as a word; None for bytes that are none."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def without_categories(values: pd.Series) -> pd.Series:
    """The values themselves, where pandas keeps the numbers of categories."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values
    return values.astype(object if values.hasnans else values.cat.categories.dtype)


def checked(tables: Iterator[pd.DataFrame], where: str, first: int) -> Iterator[pd.DataFrame]:
    """Tables with numbers in place of words; InputError names the first row that lacks something.

    where: what a row's number stands behind, such as "ratings.csv line"; first: that of the first.
    """
    number = first
    for table in tables:
        user, item, rating, timestamp = (
            without_categories(table[name].reset_index(drop=True)) for name in COLUMNS
        )
        table = pd.DataFrame(
            {
                "user": to_ids(user),
                "item": to_ids(item),
                "rating": to_numbers(rating),
                "timestamp": to_seconds(timestamp),
            }
        ).replace([np.inf, -np.inf], np.nan)
        for column, limit in (("rating", LARGEST_RATING), ("timestamp", LARGEST_TIME)):
            large = (table[column].abs() > limit).to_numpy()
            if large.any():
                at = int(np.flatnonzero(large)[0])
                raise InputError(
                    f"{where} {number + at} has the {column} {table[column].iloc[at]:.0f}, which "
                    f"is too large to be kept exactly."
                )
        missing = table[list(COLUMNS)].isna()
        missing |= table[["user", "item"]].eq("").reindex(columns=COLUMNS, fill_value=False)
        if missing.to_numpy(bool, na_value=True).any():
            at = int(np.flatnonzero(missing.any(axis=1))[0])
            bad = [column for column in COLUMNS if missing[column].iloc[at]]
            known = " (a number, or a date such as 2021-01-31 or 2021-01-31T12:00:00)"
            raise InputError(
                f"{where} {number + at} has no valid {' and '.join(bad)}"
                f"{known if 'timestamp' in bad else ''}."
            )
        number += len(table)
        yield table


def pick(table: pd.DataFrame, columns: dict[str, Any], source: str | Path) -> pd.DataFrame:
    """The four columns under our names; InputError where ``source`` lacks one, or has it twice.
    Where no column of ratings is asked for, every row is an interaction, and its rating 1."""
    asked = [column for column in COLUMNS if column in columns]
    there = list(table.columns)
    for problem, wrong in (
        ("has no column", [name for name in columns.values() if name not in there]),
        ("has more than one column", [name for name in columns.values() if there.count(name) > 1]),
    ):
        if wrong:
            told = (", ".join(map(str, names)) for names in (wrong, there))
            alone = str(there[0]) if len(there) == 1 else ""
            other = next((mark for mark in ";\t|," if mark in alone), None)
            hint = f" Is it separated by {other!r}? This format is not." if other else ""
            raise InputError("{} {} {}; it has {}.{}".format(source, problem, *told, hint))
    picked = table[[columns[column] for column in asked]].set_axis(asked, axis=1)
    return picked if "rating" in columns else picked.assign(rating=1.0)[list(COLUMNS)]


def named(columns: Sequence[Any]) -> dict[str, Any]:
    """What our columns are called; InputError unless there are four names, or three without one of
    ratings."""
    columns = list(columns)
    if len(columns) not in (3, 4) or len(set(columns)) < len(columns):
        raise InputError(
            f"columns must name user, item, rating and timestamp, or without ratings three of them,"
            f" got {columns}."
        )
    ours = COLUMNS if len(columns) == 4 else ("user", "item", "timestamp")
    return dict(zip(ours, columns, strict=True))


def words_of(line: str, separator: str, path: Path) -> list[str]:
    """The words of a line of separated values."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise InputError(f"{path} is not separated by {separator!r} ({error}).") from error


def blocks_of(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Whole lines, many at a time; InputError for a line that has no end, as of a file that is
    small only while it is packed."""
    while block := file.read(1 << 26):
        rest = file.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE:
            raise InputError(f"{path} has a line of more than {LONGEST_LINE:,} letters.")
        yield block + rest


def read_delimited(
    file: BinaryIO, path: Path, separator: str, columns: dict[str, str], header: bool
) -> Iterator[pd.DataFrame]:
    """Rows of separated values; without a header line the columns are called "0", "1", …"""
    names = None
    if header:
        line = file.readline(LONGEST_LINE).decode("utf-8-sig", errors="replace")
        names = words_of(line, separator, path)
    for text in blocks_of(file, path):
        first = text.split(b"\n", 1)[0].decode("utf-8", errors="replace")
        if len(separator) > 1:  # pandas is slow with separators of several letters
            text = text.replace(separator.encode(), b"\t")
        sep = separator if len(separator) == 1 else "\t"
        width = len(words_of(first.replace(separator, sep), sep, path))
        if width > MOST_COLUMNS:
            raise InputError(f"{path} has {width:,} columns, which no table of ratings has.")
        names = names or [str(i) for i in range(width)]
        if width != len(names):
            raise InputError(
                f"{path} has rows of {width} columns, but {len(names)} names for them."
            )
        # Ids are words: 01 and 1 differ, and NA is a name. Only numbers may be missing.
        words = {columns["user"]: str, columns["item"]: str}
        numbers = {columns[c]: [""] for c in ("rating", "timestamp") if c in columns}
        pick(pd.DataFrame(columns=names), columns, path)
        try:
            table = pd.read_csv(
                io.BytesIO(text), sep=sep, header=None, names=names, dtype=words,
                keep_default_na=False, na_values=numbers, low_memory=False, 
            )  # fmt: skip
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not in UTF-8 ({first_line(error)}).") from error
        except (pd.errors.ParserError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path} is not separated by {separator!r} ({first_line(error)})."
            ) from error
        yield pick(table, columns, path)


def read_json_lines(
    file: BinaryIO, path: Path, columns: dict[str, str], time: pa.DataType
) -> Iterator[pd.DataFrame]:
    """An object a line, of which four fields are read."""
    types = {"user": pa.string(), "item": pa.string(), "rating": pa.float64(), "timestamp": time}
    schema = pa.schema([(name, types[column]) for column, name in columns.items()])
    parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa.json.ReadOptions(block_size=1 << 24)
    try:
        for batch in pa.json.open_json(file, read_options=reading, parse_options=parsing):
            batch.validate(full=True)  # words that are no UTF-8
            yield pick(batch.to_pandas(), columns, path)
    except pa.ArrowException as error:
        reason = first_line(error)
        raise InputError(f"{path} does not hold a JSON object a line ({reason}).") from error


def parquet_files(path: Path) -> list[Path]:
    """The file itself, or those of a folder by name; InputError where there is none."""
    if path.is_dir() and (files := sorted(path.glob("*.parquet"))):
        return files
    if not path.is_file():
        raise InputError(f"there is no file {path}, nor any .parquet file in it.")
    return [path]


def read_parquet(path: Path, columns: dict[str, str]) -> Iterator[pd.DataFrame]:
    try:
        file = pa.parquet.ParquetFile(path, pre_buffer=False)  # else all of it stays
        wanted = [name for name in columns.values() if name in file.schema_arrow.names]
        for batch in file.iter_batches(ROWS, columns=wanted):
            batch.validate(full=True)  # words that are no UTF-8
            yield pick(batch.to_pandas(), columns, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a whole Parquet file ({first_line(error)}).") from error


SEQUENCES = "sequences"  # a format of its own: no table
ARRAYS = ("users", "items", "order")


def read_sequences(path: Path) -> Iterator[pd.DataFrame]:
    """Items in order and no ratings: an .npz file with the arrays users, items and order (the place
    of each item in its user's time), or text with a line for each user, "user item item …"."""
    if not path.is_file():
        raise InputError(f"there is no file {path}.")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in ARRAYS}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f"{path} must hold the arrays {', '.join(ARRAYS)} ({first_line(error)})."
            ) from error
        whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in arrays.values())
        if not whole or len({len(array) for array in arrays.values()}) != 1:
            raise InputError(f"{path}: {', '.join(ARRAYS)} must be integers, equally many of each.")
        names = dict(zip(("user", "item", "timestamp"), arrays.values(), strict=True))
        yield pd.DataFrame({**names, "rating": 1.0})
        return
    line, known = 0, set()
    with opened(path, path.name) as file:
        for block in blocks_of(file, path):
            users, items = [], []
            places: list[int] = []
            for text in block.decode("utf-8", errors="replace").splitlines():
                line += 1
                if not text.strip():
                    continue
                user, *rest = text.split()
                if not rest:
                    raise InputError(
                        f"{path} line {line} has a user and no items, with spaces between."
                    )
                if user in known:
                    raise InputError(f"{path} line {line} has the user {user} a second time.")
                known.add(user)
                users += [user] * len(rest)
                items += rest
                places += range(len(rest))
            yield pd.DataFrame({"user": users, "item": items, "timestamp": places, "rating": 1.0})


@dataclasses.dataclass(frozen=True)
class Format:
    """How a kind of file is read.

    Attributes:
        member: the end of the file's name inside an archive.
        columns: what our user, item, rating and timestamp are called in it.
        separator: of a table; None for JSON lines and Parquet.
        header: whether a table's first line names its columns.
    """

    member: str
    columns: tuple[str, str, str, str]
    separator: str | None = None
    header: bool = False
    time: pa.DataType | None = None


NAMED = COLUMNS
FORMATS = {
    "movielens-1m": Format("ratings.dat", ("0", "1", "2", "3"), "::"),
    "movielens-100k": Format("u.data", ("0", "1", "2", "3"), "\t"),
    "amazon-csv": Format(".csv", ("0", "1", "2", "3"), ","),
    "amazon-json": Format(
        ".json", ("reviewerID", "asin", "overall", "unixReviewTime"), time=pa.int64()
    ),
    "yelp": Format("review.json", ("user_id", "business_id", "stars", "date"), time=pa.string()),
    "recbole": Format(
        ".inter",
        ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
        "\t",
        header=True,
    ),
    "csv": Format(".csv", NAMED, ",", header=True),
    "tsv": Format(".tsv", NAMED, "\t", header=True),
    "parquet": Format(".parquet", NAMED),
}


def read(
    path: str | Path,
    format: str,
    columns: Sequence[str] | None = None,
    database: Database | None = None,
) -> Ratings:
    """All ratings of a file, or a folder of Parquet files, into ``database`` or one of their own.

    format: one of `FORMATS`, or `SEQUENCES`. columns: the names of user, item, rating and timestamp
    where they are not the format's own; without a header line they are "0", "1" and so on. Three
    are user, item and timestamp of a log without ratings: every row is an interaction, rated 1.
    """
    path = Path(path)
    if format == SEQUENCES:
        if columns is not None:
            raise InputError("sequences have no columns to name.")
        return collect(checked(read_sequences(path), f"{path} line", 1), database)
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join([*FORMATS, SEQUENCES])}, got {format}.")
    known = FORMATS[format]
    names = named(known.columns if columns is None else columns)
    if format == "parquet":
        parts = (
            checked(read_parquet(part, names), f"{part} line", 1) for part in parquet_files(path)
        )
        return collect(itertools.chain.from_iterable(parts), database)
    with opened(path, known.member) as file:
        tables = (
            read_json_lines(file, path, names, known.time)
            if known.separator is None
            else read_delimited(file, path, known.separator, names, known.header)
        )
        return collect(checked(tables, f"{path} line", 1 + known.header), database)
