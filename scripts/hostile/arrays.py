"""Data sets whose arrays are odd."""

import contextlib
import dataclasses
import io
import math
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from hostile.checkpoints import on_checkpoint
from hostile.values import Touch
from hostile.workshop import DIFFREC, LATENT, Attempt, Kind, Workshop

HEADER_OF_ARRAY = "{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
RAW_ARRAYS = st.one_of(
    st.tuples(
        st.just("header"), st.sampled_from(["<i8", "|O", "<c16", "<M8[s]", "<f8", "x", "<i4"]),
        st.sampled_from(["False", "True", "1"]),
        st.sampled_from([f"({10**30}, 2)", "(-1, 2)", f"({10**12}, 2)", "(0, 2)", "()", "(2,)",
                         "(4611686018427387904, 4)", "1", "('a',)", "(1000000, 2)", "(3, 2)"]),
    ),
    st.tuples(st.just("text"), st.sampled_from(
        ["", "{", "{}", "None", "[" * 5000, "{'descr': '<i8'}", "__import__('os')", "1" * 5000])),
    st.tuples(st.just("cut"), st.integers(0, 300)),
    st.tuples(st.just("binary"), st.binary(max_size=40)),
    st.tuples(st.just("npz"), st.none()),
    st.tuples(st.just("pickle"), st.none()),
    st.tuples(st.just("folder"), st.none()),
    st.tuples(st.just("version"), st.integers(0, 255)),
)  # fmt: skip
ARRAY_CHANGES = st.one_of(
    RAW_ARRAYS,
    st.tuples(st.just("set"), st.integers(0, 10**4), st.sampled_from(
        [-1, 2147483645, 2147483646, 2147483647, 2**31, 2**62, -(2**31), 10**5, 10**6, 5000])),
    st.tuples(st.just("float"), st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 1e300])),
    st.tuples(st.just("dtype"), st.sampled_from(
        ["f8", "f4", "f2", "c16", "u1", "u8", "i2", "?", "U5", "S3", "M8[s]", ">i8", "i4"])),
    st.tuples(st.just("shape"), st.sampled_from(["T", "flat", "3d", "wide", "none", "twice"])),
)  # fmt: skip
LISTS = ("train_list", "valid_list", "test_list")
ARRAYS = (*LISTS, *LISTS, "item_emb", "timestamps", "report_times", "report_list", "serve_list",
          "sequences")  # fmt: skip


def write_array(path: Path, what: tuple) -> None:
    """Tamper with a .npy file."""
    how, *rest = what
    raw = path.read_bytes()
    if how in ("header", "text"):
        text = rest[0]
        if how == "header":
            text = HEADER_OF_ARRAY.format(descr=rest[0], order=rest[1], shape=rest[2])
        body = text.encode() + b"\n"
        path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(body)) + body + raw[-400:])
    elif how == "cut":
        path.write_bytes(raw[: rest[0]])
    elif how == "binary":
        path.write_bytes(rest[0])
    elif how == "npz":
        buffer = io.BytesIO()
        np.savez(buffer, a=np.zeros(3))
        path.write_bytes(buffer.getvalue())
    elif how == "pickle":
        np.save(path, np.array([Touch("touched"), None], dtype=object), allow_pickle=True)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "version":
        path.write_bytes(raw[:6] + bytes([rest[0]]) + raw[7:])
    else:
        array = np.load(path)
        if how == "set":
            with contextlib.suppress(OverflowError):
                array.reshape(-1)[rest[0] % array.size] = rest[1]
        elif how == "float":
            array = array.astype(np.float64)
            array.reshape(-1)[0] = rest[0]
        elif how == "dtype":
            with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError):
                warnings.simplefilter("ignore")  # numbers that do not fit
                array = array.astype(rest[0])
        else:
            shapes = {
                "T": lambda: array.T, "flat": lambda: array.reshape(-1),
                "3d": lambda: array[None], "wide": lambda: np.hstack([array, array]),
                "none": lambda: array[:0], "twice": lambda: np.concatenate([array, array]),
            }  # fmt: skip
            array = shapes[rest[0]]()
        np.save(path, array)


def make_array(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, change = what
    data = folder / "tiny"
    shutil.copytree(shop.data, data)
    places = {
        "item_emb": data / "item_emb.npy", "timestamps": folder / "times.npy",
        "report_times": data / "train_times.npy", "report_list": data / "valid_list.npy",
        "serve_list": data / "train_list.npy", "sequences": folder / "items.npy",
    }  # fmt: skip
    if which == "timestamps":
        shutil.copy(shop.folder / "times.npy", folder)
    path = places.get(which, data / f"{which}.npy")
    if which == "sequences":
        users, items = np.load(data / "train_list.npy").T
        arrays = {"users": users, "items": items, "order": np.arange(len(users))}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
    write_array(path, change)
    refuse = change[0] in ("npz", "pickle", "folder", "text", "float") or change == ("cut", 0)
    if which in ("timestamps", "item_emb", "report_times") and change[0] == "float":
        refuse = change[1] not in (1e308, 1e300)
    if (which, change[0]) == ("report_times", "folder"):
        refuse = False  # there are no times then
    to_train = ["--data_path", str(data), "--save_path", "saved", "--cuda", "0"]
    if which == "sequences":
        with zipfile.ZipFile(folder / "sequences.npz", "w") as archive:
            for name in arrays:
                archive.write(folder / f"{name}.npy", f"{name}.npy")
        flags = ["sequences.npz", "--format", "sequences", "--out", "out", "--core", "2"]
        return Attempt("scripts/prepare_data.py", flags, ("out",), refuse)
    if which.startswith("report"):
        flags = [str(data), "--out", "out.png"]
        return Attempt("scripts/data_report.py", flags, ("out.png",), refuse)
    if which == "item_emb":
        return Attempt("L-DiffRec/main.py", [*LATENT, *to_train], ("saved",), refuse)
    if which == "timestamps":
        more = ["--timestamps", "times.npy"]
        return Attempt("T-DiffRec/main.py", [*DIFFREC, *to_train, *more], ("saved",), refuse)
    if which == "serve_list":
        found = on_checkpoint(shop, folder, "EASE", "evaluate", shop.paths["EASE"][0])
        flags = [str(data) if word == str(shop.data) else word for word in found.flags]
        return dataclasses.replace(found, flags=flags, must_refuse=refuse)
    return Attempt("DiffRec/main.py", [*DIFFREC, *to_train], ("saved",), refuse)


KINDS = {"array": Kind(st.tuples(st.sampled_from(ARRAYS), ARRAY_CHANGES), make_array)}
