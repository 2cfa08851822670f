"""Tables that need not fit in memory: a DuckDB database in a temporary folder that vanishes."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from DiffRec.engine.errors import InputError
from DiffRec.engine.files import remove_stale, temporary_prefix

MEMORY = "1GB"  # for tables and sorting; what does not fit goes to the folder
ROWS = 1_000_000  # read at a time


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """A full disk, say, is an InputError."""
    try:
        yield
    except duckdb.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the ratings could not be worked through ({reason}).") from error


class Database:
    """A database of its own, whose folder is removed when it is closed or forgotten.

    beside: a path to lie beside, where there is room for the result, and so for what comes before
        it; by default the system's temporary folder.
    """

    def __init__(self, beside: Path | None = None):
        prefix, where = "diffrec-", None
        try:
            if beside is not None:
                beside = beside.resolve()
                where = beside.parent
                where.mkdir(parents=True, exist_ok=True)
                remove_stale(beside)
                prefix = f"{temporary_prefix(beside)}{os.getpid()}."
            self.folder = tempfile.TemporaryDirectory(
                prefix=prefix, dir=where, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise InputError(f"{where} could not be written ({error.strerror}).") from error
        self.schemas = 0
        with failures_told():
            self.connection = duckdb.connect(
                f"{self.folder.name}/ratings.duckdb",
                config={"memory_limit": MEMORY, "temp_directory": f"{self.folder.name}/spilled"},
            )

    def close(self) -> None:
        """Remove it; doing it twice is doing it once."""
        self.connection.close()
        self.folder.cleanup()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def schema(self) -> str:
        """The name of a new schema, for tables of one piece of work."""
        self.schemas += 1
        self.run(f"CREATE SCHEMA work{self.schemas}")
        return f"work{self.schemas}"

    def run(self, sql: str, *values: Any) -> tuple:
        """The first row of what a statement gives; of one that changes rows how many."""
        with failures_told():
            rows = self.connection.execute(sql, values).fetchall()
        return rows[0] if rows else ()

    def insert(self, table: str, **columns: np.ndarray) -> None:
        """Rows behind those of a table, which is made if it is not there."""
        self.connection.register("added", pa.table(columns))
        self.run(f"CREATE TABLE IF NOT EXISTS {table} AS FROM added LIMIT 0")
        self.run(f"INSERT INTO {table} FROM added")
        self.connection.unregister("added")

    def batches(self, sql: str, *values: Any) -> Iterator[dict[str, np.ndarray]]:
        """What a query gives, by column, some rows at a time, in the order of its table. The
        first has none, and tells their types."""
        with failures_told(), self.connection.cursor() as cursor:
            reader = cursor.sql(sql, params=values).to_arrow_reader(ROWS)
            first = pa.RecordBatch.from_pylist([], reader.schema)
            for batch in itertools.chain([first], reader):
                yield {
                    name: column.to_numpy(zero_copy_only=False)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }

    def arrays(self, sql: str, *values: Any) -> dict[str, np.ndarray]:
        """All that a query gives, by column."""
        with failures_told():
            return self.connection.execute(sql, values).fetchnumpy()
