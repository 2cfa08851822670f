"""Raw ratings in the formats they are published in, read in chunks and in place into a database.

Every reader yields tables with the columns user, item, rating, timestamp, in file order. Archives
are never unpacked: one member is read by its name, so that what else lies in them does not matter.
"""

import bz2
import codecs
import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import json
import logging
import lzma
import re
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

from DiffRec.engine.arrays import read_archive
from DiffRec.engine.errors import InputError
from DiffRec.engine.ids import as_numbers
from DiffRec.preparation.tables import ROWS, Database

COLUMNS = ("user", "item", "rating", "timestamp")
LONGEST_LINE, MOST_COLUMNS = 1_000_000, 1000
BLOCK = 1 << 26  # bytes of a text that are read at a time

log = logging.getLogger(__name__)


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
        if self.whole and low >= FIRST_DAY and high <= LAST_DAY:
            return (
                f"times seem to be days as {int(low)}, which are taken as seconds since 1970: "
                f"interactions are in their order, but have no dates until they are written as "
                f"2020-09-14, or are seconds."
            )
        if low > LATEST:
            return (
                "times seem to be milliseconds, or less, since 1970: interactions are in their "
                "order, but have no dates until they are seconds."
            )
        if high > LATEST:
            return (
                f"times lie between {low:g} and {high:g}: some seem to be seconds since 1970 and "
                f"others milliseconds, or less, so that their order is wrong."
            )
        return None

    def has_places(self) -> bool:
        """Whether the times of each user are the places of the user's own items, from 0 or 1 on."""
        return self.database.run(
            "SELECT bool_and(low IN (0, 1) AND high = n + low - 1 AND n = several) FROM (SELECT "
            "min(time) AS low, max(time) AS high, count(*) AS n, count(DISTINCT time) AS several "
            "FROM ratings GROUP BY user_no)"
        )[0]

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
LARGEST_ID = 2**63 - 1  # that is kept as a number, not as a word
TOO_MANY = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")  # as pandas says it
# What times are doubted beyond: the stars of a rating, and seconds since 1970 in the year 5138.
LARGEST_STARS, LATEST = 10, 10**11
FIRST_DAY, LAST_DAY = 19000101, 21001231


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
        ids = list(self.numbers)
        padded = [word for word in ids if isinstance(word, str) and word != word.strip()]
        if padded:
            log.warning(
                "%d ids of %ss begin or end with spaces, which count: %r is one.",
                len(padded), self.name, padded[0],
            )  # fmt: skip
        large = any(isinstance(number, int) and number > LARGEST_ID for number in ids)
        return as_numbers(np.array([str(number) for number in ids] if large else ids))


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
    table: pd.DataFrame, database: Database | None = None, columns: Sequence[str] | None = None,
    drop_incomplete: bool = False,
) -> Ratings:  # fmt: skip
    """`Ratings` of a table, with columns as those of `read`; InputError names the first row, by its
    place from 0, that lacks something, unless such rows are left out by ``drop_incomplete``."""
    picked = pick(table, named(COLUMNS if columns is None else columns), "the table")
    picked = picked.reset_index(drop=True)
    return collect(checked(iter([picked]), "row", drop_incomplete), database)


PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextlib.contextmanager
def opened(path: Path, member: str) -> Iterator[BinaryIO]:
    """The bytes of ``path``: of itself, unpacked if it is .gz, .bz2 or .xz, or of the one file
    inside a zip or tar archive whose name ends in ``member``, or that is alone there. InputError if
    it is missing or damaged."""
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
            elif name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
                archive = stack.enter_context(tarfile.open(path))
                inside = {m.name: m for m in archive if m.isfile()}
                file = archive.extractfile(inside[only(list(inside), member, path)])
            else:
                file = stack.enter_context(PACKED.get(path.suffix.lower(), open)(path, "rb"))
            yield file
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError,
            OSError) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise
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


def checked(
    tables: Iterator[pd.DataFrame], where: str, drop_incomplete: bool = False
) -> Iterator[pd.DataFrame]:
    """Tables with numbers in place of words; InputError names the first row that lacks something,
    or all such rows are left out, which is told.

    where: what a row's number, which the index has, stands behind, such as "ratings.csv line".
    """
    left_out = 0
    for table in tables:
        number = table.index
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
                    f"{where} {number[at]} has the {column} {table[column].iloc[at]:.0f}, which "
                    f"is too large to be kept exactly."
                )
        missing = table[list(COLUMNS)].isna()
        missing |= table[["user", "item"]].eq("").reindex(columns=COLUMNS, fill_value=False)
        lacking = missing.to_numpy(bool, na_value=True).any(axis=1)
        if lacking.any() and not drop_incomplete:
            at = int(np.flatnonzero(lacking)[0])
            bad = [column for column in COLUMNS if missing[column].iloc[at]]
            known = " (a number, or a date such as 2021-01-31 or 2021-01-31T12:00:00)"
            raise InputError(
                f"{where} {number[at]} has no valid {' and '.join(bad)}"
                f"{known if 'timestamp' in bad else ''}: mend it, or leave rows that lack "
                f"something out with drop_incomplete."
            )
        left_out += int(lacking.sum())
        yield table[~lacking]
    if left_out:
        log.warning("%s rows that lack something are left out.", f"{left_out:,}")


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


def first_row(text: bytes, separator: str, path: Path) -> list[str]:
    """The words of the first row of separated values that is not empty; [] where there is none."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path} is in UTF-16: save it as text in UTF-8.")
    words = io.StringIO(text[:LONGEST_LINE].decode("utf-8-sig", errors="replace"), newline="")
    try:
        return next(filter(None, csv.reader(words, delimiter=separator)), [])
    except csv.Error as error:
        raise InputError(f"{path} is not separated by {separator!r} ({error}).") from error


def line_of(file: BinaryIO, path: Path) -> bytes:
    """The next line; InputError for one that has no end, as of a file that is small only while it
    is packed."""
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise InputError(f"{path} has a line of more than {LONGEST_LINE:,} letters.")
    return line


def blocks_of(file: BinaryIO, path: Path, quoted: bool = False) -> Iterator[bytes]:
    """Whole lines, many at a time; of ``quoted`` values whole rows, as far as the number of quotes
    tells, since a field may hold the ends of lines."""
    while block := file.read(BLOCK):
        block += line_of(file, path)
        if quoted and block.count(b'"') % 2:
            rest = [line_of(file, path)]
            while rest[-1] and rest[-1].count(b'"') % 2 == 0 and sum(map(len, rest)) < LONGEST_LINE:
                rest.append(line_of(file, path))
            block += b"".join(rest)
        yield block


def lines_of(text: bytes, separator: str, first: int, rows: int) -> np.ndarray:
    """(rows,) the line on which each row begins, that of the text's first being ``first``."""
    if text.count(b"\n") + (not text.endswith(b"\n")) != rows:  # empty lines, or ends in a field
        words = io.StringIO(text.decode(errors="replace"), newline="")
        reader = csv.reader(words, delimiter=separator)
        begins, before = [], 0
        with contextlib.suppress(csv.Error):
            for row in reader:
                begins += [first + before] if row else []
                before = reader.line_num
            if len(begins) == rows:
                return np.array(begins, dtype=np.int64)
    return np.arange(first, first + rows)


def read_delimited(
    file: BinaryIO, path: Path, separator: str, columns: dict[str, str], header: bool
) -> Iterator[pd.DataFrame]:
    """Rows of separated values; without a header line the columns are called "0", "1", …"""
    names, line = None, 1  # of the file
    if header:
        while (head := line_of(file, path)).isspace():
            line += 1
        names = first_row(head, separator, path)
        line += 1
        if names:
            pick(pd.DataFrame(columns=names), columns, path)
    for text in blocks_of(file, path, quoted=True):
        if len(separator) > 1:  # pandas is slow with separators of several letters
            text = text.replace(separator.encode(), b"\t")
        sep = separator if len(separator) == 1 else "\t"
        width = len(first_row(text, sep, path))
        if not width:
            line += text.count(b"\n")
            continue
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
            if told := TOO_MANY.search(str(error)):
                expected, at, found = map(int, told.groups())
                raise InputError(
                    f"{path} line {line + at - 1} has {found} columns, where there are {expected}."
                ) from error
            raise InputError(
                f"{path} is not separated by {separator!r} ({first_line(error)})."
            ) from error
        table.index = lines_of(text, sep, line, len(table))
        line += text.count(b"\n")
        yield pick(table, columns, path)


def numbered(tables: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Tables whose rows the index counts from 1, over all of them."""
    first = 1
    for table in tables:
        yield table.set_axis(range(first, first + len(table)))
        first += len(table)


def kinds_of(file: BinaryIO, path: Path, columns: dict[str, str]) -> list[tuple[str, pa.DataType]]:
    """Of the fields of JSON lines, whose file is then at its beginning again: numbers or words,
    as the first object has them."""
    line = b" "
    while line.isspace():
        line = line_of(file, path)
    file.seek(0)
    try:
        found = json.loads(line or "{}")
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} does not hold a JSON object a line ({error}).") from error

    def kind(column: str, value: Any) -> pa.DataType:
        if column in ("user", "item"):
            return pa.int64() if isinstance(value, int) else pa.string()
        return pa.string() if isinstance(value, str) else pa.float64()

    return [(name, kind(column, found.get(name))) for column, name in columns.items()]


def read_json_lines(file: BinaryIO, path: Path, columns: dict[str, str]) -> Iterator[pd.DataFrame]:
    """An object a line, of which the named fields are read."""
    schema = pa.schema(kinds_of(file, path, columns))
    parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa.json.ReadOptions(block_size=1 << 24)
    try:
        for batch in pa.json.open_json(file, read_options=reading, parse_options=parsing):
            batch.validate(full=True)  # words that are no UTF-8
            yield pick(batch.to_pandas(), columns, path)
    except pa.ArrowException as error:
        reason = first_line(error)
        raise InputError(
            f"{path} does not hold a JSON object a line, with the same kind of value in a field of "
            f"all ({reason})."
        ) from error


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
            yield pick(batch.to_pandas(integer_object_nulls=True), columns, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a whole Parquet file ({first_line(error)}).") from error


SEQUENCES = "sequences"  # a format of its own: no table
ARRAYS = ("users", "items", "order")


def read_sequences(path: Path) -> Iterator[pd.DataFrame]:
    """Items in order and no ratings: an .npz file with the arrays users, items and order (the place
    of each item in its user's time), or text with a line for each user, "user item item …", or with
    one for each item, "user item", in order of time."""
    if path.suffix == ".npz":
        arrays = read_archive(path, ARRAYS, f"the arrays {', '.join(ARRAYS)}")
        whole = all(a.ndim == 1 and a.dtype.kind in "iu" for a in arrays.values())
        if not whole or len({len(array) for array in arrays.values()}) != 1:
            raise InputError(f"{path}: {', '.join(ARRAYS)} must be integers, equally many of each.")
        names = dict(zip(("user", "item", "timestamp"), arrays.values(), strict=True))
        yield from numbered(iter([pd.DataFrame({**names, "rating": 1.0})]))
        return
    line, longest, again = 0, 1, False
    so_far: dict[str, int] = {}  # items of each user
    with opened(path, path.name) as file:
        for block in blocks_of(file, path):
            users, items = [], []
            places: list[int] = []
            lines: list[int] = []
            if not line:
                block = block.removeprefix(codecs.BOM_UTF8)
            for text in block.removesuffix(b"\n").split(b"\n"):
                line += 1
                if not text.strip():
                    continue
                try:
                    user, *rest = (word.decode() for word in text.split())
                except UnicodeDecodeError as error:
                    raise InputError(f"{path} line {line} is not in UTF-8 ({error}).") from error
                if not rest:
                    raise InputError(
                        f"{path} line {line} has a user and no items, with spaces between."
                    )
                longest, again = max(longest, len(rest)), again or user in so_far
                if again and longest > 1:
                    raise InputError(
                        f"{path} line {line} has the user {user}: a user has a line, or all lines "
                        f"have one item each, but here users come again and lines have several."
                    )
                first = so_far.get(user, 0)
                so_far[user] = first + len(rest)
                users += [user] * len(rest)
                items += rest
                places += range(first, first + len(rest))
                lines += [line] * len(rest)
            columns = {"user": users, "item": items, "timestamp": places, "rating": 1.0}
            yield pd.DataFrame(columns, lines)


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


NAMED = COLUMNS
FORMATS = {
    "movielens-1m": Format("ratings.dat", ("0", "1", "2", "3"), "::"),
    "movielens-100k": Format("u.data", ("0", "1", "2", "3"), "\t"),
    "amazon-csv": Format(".csv", ("0", "1", "2", "3"), ","),
    "amazon-json": Format(".json", ("reviewerID", "asin", "overall", "unixReviewTime")),
    "yelp": Format("review.json", ("user_id", "business_id", "stars", "date")),
    "recbole": Format(
        ".inter",
        ("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
        "\t",
        header=True,
    ),
    "csv": Format(".csv", NAMED, ",", header=True),
    "tsv": Format(".tsv", NAMED, "\t", header=True),
    "jsonl": Format(".jsonl", NAMED),
    "parquet": Format(".parquet", NAMED),
}


def read(
    path: str | Path,
    format: str,
    columns: Sequence[str] | None = None,
    database: Database | None = None,
    drop_incomplete: bool = False,
) -> Ratings:
    """All ratings of a file, or a folder of Parquet files, into ``database`` or one of their own.

    format: one of `FORMATS`, or `SEQUENCES`. columns: the names of user, item, rating and timestamp
    where they are not the format's own; without a header line they are "0", "1" and so on. Three
    are user, item and timestamp of a log without ratings: every row is an interaction, rated 1.
    drop_incomplete: leave rows out that lack something, in the place of an InputError.
    """
    path = Path(path)
    where = f"{path} line"
    if format == SEQUENCES:
        if columns is not None:
            raise InputError("sequences have no columns to name.")
        return collect(checked(read_sequences(path), where), database)
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join([*FORMATS, SEQUENCES])}, got {format}.")
    known = FORMATS[format]
    names = named(known.columns if columns is None else columns)
    if format == "parquet":
        parts = (
            checked(numbered(read_parquet(part, names)), f"{part} row", drop_incomplete)
            for part in parquet_files(path)
        )
        return collect(itertools.chain.from_iterable(parts), database)
    with opened(path, known.member) as file:
        tables = (
            numbered(read_json_lines(file, path, names))
            if known.separator is None
            else read_delimited(file, path, known.separator, names, known.header)
        )
        return collect(checked(tables, where, drop_incomplete), database)
