"""Tables of ratings, and maps of ids, with odd cells."""

import contextlib
import dataclasses
import gzip
import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import pandas as pd
from hypothesis import strategies as st

from DiffRec.preparation import readers
from hostile.checkpoints import on_checkpoint
from hostile.workshop import Attempt, Kind, Workshop

CELLS = st.sampled_from(
    ["1e300", "-1e300", str(2**70), str(2**53 + 1), "nan", "inf", "", "x", "-1", "1e400", "\x00",
     "2020-13-45", "∂", '"', "'", "x" * 10**5, "1_000", "0x10", "True", "16777217", "1e-320"]
)  # fmt: skip
TEXT_CHANGES = st.one_of(
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("insert"), st.integers(0, 2000), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), st.integers(0, 3000)),
    st.tuples(st.just("replace"), st.sampled_from(["\n", "1", ",", "\t", "::", " "]),
              st.sampled_from(["\r", "\r\n", "\x00", "", '"', ",,", "\n\n", "\ufeff"])),
    st.sampled_from([("utf-16",), ("bom",), ("header",), ("twice",), ("folder",), ("bomb",),
                     ("one line",), ("random",), ("wide",)]),
    st.tuples(st.sampled_from(["gz", "zip", "tar"]), st.integers(0, 10**4)),
)  # fmt: skip
TABLE_CHANGES = st.one_of(
    st.tuples(st.just("cell"), st.integers(0, 3), CELLS),
    st.tuples(st.just("cell"), st.integers(2, 3), CELLS),
    st.sampled_from([("nested",), ("strings",)]),
    TEXT_CHANGES,
)
HOW = st.sampled_from(
    [[], [], [], ["--core", "1"], ["--noise", "0.5"], ["--protocol", "global"],
     ["--protocol", "paper", "--ratio", "8:1:1"], ["--random_noise", "0.3"],
     ["--columns", "a,b,c,d"], ["--columns", "user,user,user,user"], ["--columns", "0,1,2,3"]]
)  # fmt: skip


def set_cell(path: Path, format: str, column: int, value: str) -> None:
    """Put a word into the second row of a table of a format."""
    known = readers.FORMATS[format]
    if format == "parquet":
        table = pd.read_parquet(path).astype(object)
        name = table.columns[column]
        with contextlib.suppress(ValueError):
            value = float(value)
        table.loc[1, name] = value
        if isinstance(value, str):
            table[name] = table[name].astype(str)
        with contextlib.suppress(Exception):  # what Parquet cannot hold is no attempt
            table.infer_objects().to_parquet(path)
        return
    lines = path.read_text().split("\n")
    if known.separator is None:
        row = json.loads(lines[1])
        with contextlib.suppress(ValueError):
            value = json.loads(value)
        row[list(row)[column]] = value
        lines[1] = json.dumps(row)
    else:
        words = lines[1].split(known.separator)
        words[column] = value
        lines[1] = known.separator.join(words)
    path.write_text("\n".join(lines))


def make_table(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    format, (how, *rest), more = what
    path = folder / shop.tables[format].name
    shutil.copy(shop.tables[format], path)
    raw, refuse = path.read_bytes(), False
    if how == "cell":
        set_cell(path, format, *rest)
        refuse = rest[0] > 1 and rest[1] in ("1e300", "-1e300", str(2**70), "x", "1e400")
    elif how == "bytes":
        path.write_bytes(rest[0])
    elif how == "insert":
        path.write_bytes(raw[: rest[0]] + rest[1] + raw[rest[0] :])
    elif how == "cut":
        path.write_bytes(raw[: rest[0]])
    elif how == "replace":
        path.write_bytes(raw.replace(*(word.encode() for word in rest)))
    elif how == "utf-16":
        path.write_bytes(raw.decode("latin-1").encode("utf-16"))
    elif how == "bom":
        path.write_bytes(b"\xef\xbb\xbf" + raw)
    elif how == "header":
        path.write_bytes(raw.split(b"\n")[0] + b"\n")
    elif how == "twice":
        path.write_bytes(raw + raw)
    elif how == "folder":
        path.unlink()
        path.mkdir()
        refuse = True
    elif how == "nested":
        import pyarrow as pa
        import pyarrow.parquet

        names = readers.FORMATS[format].columns
        columns = {n: pa.array([{"a": [1]}, {"a": [2]}] if i == 2 else [["x"], ["y"]])
                   for i, n in enumerate(names)}  # fmt: skip
        pa.parquet.write_table(pa.table(columns), path)
        refuse = True
    elif how == "strings":
        table = pd.DataFrame({n: ["a", "b"] for n in readers.FORMATS[format].columns})
        table.to_parquet(path)
        refuse = True
    elif how == "bomb":  # 1.5 GB without an end of line in 1.5 MB
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(b"1" * 2**24, 6) * 96)
        refuse = True
    elif how == "one line":
        path.write_bytes(raw.replace(b"\n", b" "))
    elif how == "wide":
        path.write_bytes(b",".join([b"1"] * 10**5) + b"\n" + raw)
    elif how == "random":
        path.write_bytes(random.Random(1).randbytes(3000))
    else:
        packed = {"gz": path.name + ".gz", "zip": "x.zip", "tar": "x.tar"}[how]
        buffer = io.BytesIO()
        if how == "gz":
            buffer.write(gzip.compress(raw))
        elif how == "zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(path.name, raw)
        else:
            import tarfile

            with tarfile.open(fileobj=buffer, mode="w") as archive:
                archive.add(path, path.name)
        path = folder / packed
        content = bytearray(buffer.getvalue())
        content[rest[0] % len(content)] ^= 0xFF
        path.write_bytes(bytes(content))
    flags = [str(path), "--format", format, "--out", "out", *more]
    core = [] if "--core" in more else ["--core", "2"]
    return Attempt("scripts/prepare_data.py", [*flags, *core], ("out",), refuse)


MAP_CHANGES = st.one_of(
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("cut"), st.integers(0, 300)),
    st.tuples(st.just("insert"), st.integers(0, 200), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("raw"), CELLS),
    st.tuples(st.just("number"), CELLS),
    st.sampled_from([("twice",), ("same",), ("columns",), ("empty",), ("random",), ("folder",),
                     ("utf-16",), ("swap",), ("wide",)]),
)  # fmt: skip


def make_map(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, (how, *rest), mode = what
    data = folder / "tiny"
    shutil.copytree(shop.data, data)
    path = data / f"{which}_map.csv"
    raw, refuse = path.read_bytes(), False
    lines = raw.decode().splitlines()
    if how == "bytes":
        path.write_bytes(rest[0])
    elif how == "cut":
        path.write_bytes(raw[: rest[0]])
    elif how == "insert":
        path.write_bytes(raw[: rest[0]] + rest[1] + raw[rest[0] :])
    elif how in ("raw", "number"):
        words = lines[1].split(",")
        words[how == "number"] = rest[0]
        path.write_text("\n".join([lines[0], ",".join(words), *lines[2:]]))
    elif how == "twice":
        path.write_bytes(raw + b"\n".join(raw.split(b"\n")[1:]))
        refuse = True
    elif how == "same":
        first = lines[1].split(",")[0]
        path.write_text("\n".join([*lines[:2], f"{first},{lines[2].split(',')[1]}", *lines[3:]]))
        refuse = True
    elif how == "columns":
        path.write_text("\n".join(["a,b", *lines[1:]]))
        refuse = True
    elif how == "empty":
        path.write_bytes(b"")
        refuse = True
    elif how == "random":
        path.write_bytes(random.Random(1).randbytes(3000))
        refuse = True
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "utf-16":
        path.write_bytes(raw.decode().encode("utf-16"))
        refuse = True
    elif how == "swap":
        path.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    else:
        path.write_bytes(b",".join([b"1"] * 10**5) + b"\n" + raw)
        refuse = True
    found = on_checkpoint(shop, folder, "EASE" if mode == "recommend" else "DiffRec", mode,
                          shop.paths["EASE" if mode == "recommend" else "DiffRec"][0])  # fmt: skip
    flags = [str(data) if word == str(shop.data) else word for word in found.flags]
    return dataclasses.replace(found, flags=flags, must_refuse=refuse)


KINDS = {
    "table": Kind(
        st.one_of(
            st.tuples(st.sampled_from(list(readers.FORMATS)), TABLE_CHANGES, HOW),
            st.tuples(st.just(readers.SEQUENCES), TEXT_CHANGES, HOW),
        ),
        make_table,
    ),
    "map": Kind(
        st.tuples(
            st.sampled_from(["user", "item"]), MAP_CHANGES, st.sampled_from(["recommend", "export"])
        ),
        make_map,
    ),
}
