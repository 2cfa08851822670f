"""Hostile files and flags, thousands of them, and what the commands make of each:

python scripts/fuzz.py [--minutes 10] [--kinds header tensor …] [--seed 1]

Every input goes to a command in a process of its own. It is kept as promised if the command ends
with exit code 2 and one line on stderr that begins "error: ", or with 0 and output that is sound;
in at most 10 s, with at most 1 GB above its start, and without touching a file that was not named.
What cannot be sound, such as a weight that is not a number, must be refused. What breaks a promise
is printed and kept in --keep, and found again by the same --seed and --examples.
"""

import contextlib
import copy
import dataclasses
import gzip
import importlib
import io
import itertools
import json
import math
import os
import pickle
import random
import shlex
import shutil
import struct
import sys
import tempfile
import time
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pictures
import reproduction  # noqa: F401  (registers the models)
import sandbox
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from DiffRec import load_dataset
from DiffRec.engine.commands import command
from DiffRec.engine.flags import Parser, checked
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.settings import (
    Folder,
    NotNegative,
    Positive,
    Seed,
)
from DiffRec.engine.variant import REGISTRY, variant_of
from DiffRec.preparation import protocol, readers, synthetic, writer

LONGEST = 2000  # letters of a sentence that somebody shall read
TINY = {  # settings with which a model is trained in a moment
    "dims": "[6]", "mlp_dims": "[6]", "in_dims": "[8]", "n_cate": "2", "steps": "3",
    "emb_size": "6", "hidden_size": "5", "factors": "4", "rank": "3", "neighbors": "4",
    "max_iter": "3", "iterations": "2", "heads": "2", "layers": "1",
}  # fmt: skip
DIFFREC = ["--preset", "none", "--dims", "[4]", "--steps", "2", "--epochs", "1"]
LATENT = ["--preset", "none", "--mlp_dims", "[4]", "--in_dims", "[8]", "--epochs", "1"]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A command on tampered input.

    Attributes:
        writes: what it may write, by the beginning of its path in the folder of the attempt.
        must_refuse: whether no answer but a refusal is right.
        own: whether what is asked for is the user's own wish, who may be told that memory is short.
    """

    script: str
    flags: list[str]
    writes: tuple[str, ...] = ()
    must_refuse: bool = False
    own: bool = False


class Workshop:
    """Good files of every kind, which attempts tamper with.

    Attributes:
        data: a folder of small data.
        checkpoints: by variant its metadata and tensors.
        tables: by format a file of ratings.
        released: by name the pickled modules of a release.
    """

    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data" / "tiny"
        self.ratings = synthetic.make_ratings(n_users=60, n_items=40, mean_ratings=15, seed=3)
        writer.write(self.data, protocol.prepare(readers.from_table(self.ratings), core=2))
        dataset = load_dataset(data_path=self.data)
        self.n_users, self.n_items = dataset.n_users, dataset.n_items
        self.sha256 = dataset.fingerprint()["sha256"]
        embeddings = np.random.default_rng(0).random((self.n_items, 3)).astype(np.float32)
        np.save(self.data / "item_emb.npy", embeddings)
        np.save(folder / "times.npy", np.load(self.data / "train_times.npy"))
        self.tables = dict(self._tables())
        self.released = self._released()

    def train(self) -> None:
        """A checkpoint of every variant, and a state beside it."""
        self.paths, self.checkpoints = {}, {}
        for name, variant in REGISTRY.items():
            known = variant.settings.names()
            tiny = [w for n, v in TINY.items() if n in known for w in (f"--{n}", v)]
            saved = self.folder / "saved" / variant.name
            words = [*variant.flags, "--data_path", str(self.data), "--preset", "none", *tiny,
                     "--epochs", "1", "--save_path", str(saved), "--cuda", "0",
                     "--keep_state", "1"]  # fmt: skip
            words += ["--result_json", str(saved / "result.json")]
            done = sandbox.run(str(variant.folder.relative_to(REPOSITORY) / "main.py"), words,
                               self.folder)  # fmt: skip
            if done.code:
                raise RuntimeError(f"{name} was not trained: {done.err}")
            (path,) = saved.glob("*.safetensors")
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                self.checkpoints[name] = file.metadata(), tensors
            self.paths[name] = path, words

    def _tables(self) -> Iterator[tuple[str, Path]]:
        table = self.ratings[["user", "item", "rating", "timestamp"]]
        folder = self.folder / "tables"
        folder.mkdir()
        for format, known in readers.FORMATS.items():
            path = folder / f"{format}{known.member[known.member.rindex('.') :]}"
            named = table.set_axis(
                list(known.columns if known.separator is None or known.header else table.columns),
                axis=1,
            )
            if format == "parquet":
                named.to_parquet(path)
            elif known.separator is None:
                for column in named.columns[:2]:
                    named = named.assign(**{column: named[column].astype(str)})
                if format == "yelp":
                    named = named.assign(date=pd.to_datetime(named["date"], unit="s").astype(str))
                named.to_json(path, orient="records", lines=True)
            else:
                lines = named.astype(str).agg(known.separator.join, axis=1).tolist()
                if known.header:
                    lines.insert(0, known.separator.join(named.columns))
                path.write_text("\n".join(lines) + "\n")
            yield format, path

    def _released(self) -> dict[str, Any]:
        """A network, one on latent vectors, and an autoencoder, as the release has them."""

        def linears(*sizes: int) -> list[nn.Linear]:
            return [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]

        def network(width: int, latent: bool) -> dict:
            inward, outward = linears(width + 10, 6), linears(6, width)
            layers = nn.Sequential if latent else lambda *parts: nn.ModuleList(parts)
            return {
                "in_dims": [width, 6], "out_dims": [6, width], "time_type": "cat",
                "time_emb_dim": 10, "norm": False, "emb_layer": nn.Linear(10, 10),
                "in_layers": layers(*inward, *([nn.Tanh()] if latent else [])),
                "out_layers": layers(*outward), "drop": nn.Dropout(0.5),
            }  # fmt: skip

        clusters = torch.arange(self.n_items) % 2
        groups = [torch.where(clusters == c)[0] for c in range(2)]
        autoencoder = {
            "n_item": self.n_items, "n_cate": 2, "act_func": "tanh", "reparam": True,
            "in_dims": [8], "out_dims": [], "item_emb": torch.rand(self.n_items, 3),
            "cluster_ids": clusters, "category_idx": groups, "category_map": torch.cat(groups),
            "category_len": [len(group) for group in groups], "decode_dim": [[4], [4]],
            "dropout": nn.Dropout(0.1),
            "encoder": nn.ModuleList(
                nn.Sequential(nn.Linear(len(group), 8), nn.Tanh()) for group in groups
            ),
            "decoder": nn.Sequential(nn.Linear(8, self.n_items)),
        }  # fmt: skip
        return {"network": network(self.n_items, False), "latent": network(8, True),
                "autoencoder": autoencoder}  # fmt: skip


RELEASED_NAME = (
    "tiny_lr0.001_wd0.0_bs400_dims[6]_emb10_x0_steps4_scale0.5_min0.001_max0.01_sample0_"
    "reweight0_log.pth"
)
LATENT_NAME = (
    "tiny_0.001lr1_0.0005lr2_0.0wd1_0.0wd2_bs400_cate2_in[8]_out[]_lam0.03_dims[6]_emb10_x0_"
    "steps4_scale0.5_min0.001_max0.01_sample0_reweight1_log.pth"
)


def save_module(path: Path, name: str, attributes: dict) -> None:
    """Pickle a module of the release's class ``name``, such as models.DNN.DNN."""
    module, _, short = name.rpartition(".")
    kind = type(short, (nn.Module,), {"__module__": module})
    fakes = {"models": types.ModuleType("models"), module: types.ModuleType(module)}
    setattr(fakes[module], short, kind)
    made = kind()
    for key, value in attributes.items():
        try:
            setattr(made, key, value)
        except (TypeError, AttributeError):  # a layer's place, in which a module must stand
            made.__dict__.get("_modules", {}).pop(key, None)
            made.__dict__[key] = value
    before = {key: sys.modules.get(key) for key in fakes}
    sys.modules.update(fakes)
    try:
        torch.save(made, path)
    finally:
        for key, module in before.items():
            sys.modules.pop(key)
            if module is not None:
                sys.modules[key] = module


# What is put into places -------------------------------------------------------------------------

DEEP = "@deep@"  # stands for 5,000 lists in each other, which json.dumps could not write
HUGE = (2**31 - 1, 2**31, 10**9, 10**13, 10**18, 2**63, 2**64, 10**30)
NUMBERS = st.sampled_from(
    [-1, 0, 1, 2, 3, 5, 100, 10**4, 10**6, *HUGE, -(10**18), -(10**30), 0.5, -0.5, 1e-320, 1e20,
     1e308, -1e308, math.nan, math.inf, -math.inf]
)  # fmt: skip
WORDS = st.sampled_from(
    ["", " ", "x", "nan", "inf", "-1", "0", "1e999", "1e30", "1" * 5000, "x" * 100_000, "../../x",
     "/", "..", ".", "a/b", "~nosuchuser/x", "\u0000", "\ud800", "ß∂漢",
     "\n", "[", "[]", "[1,", "[1,2", "[[1]]",
     "1,2,3", "[5]", "[99999999999999999999]", "{}", "null", "None", "true", "recall@20",
     "recall@5", "EASE", "%s%n", "'", '"', "--x", "-"]
)  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.integers(), st.floats(), st.text())
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3),
    st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
    st.sampled_from([DEEP, [1] * 10**5, [[[1]]], {"a": {"b": []}}, [10**9], [6, 10**9], [-1]]),
)
TYPICAL = st.one_of(NUMBERS, WORDS, VALUES)
OPTIONS = ("result_json", "recommend", "convert", "export_vectors", "history", "data_path",
           "save_path", "tensorboard", "checkpoint", "resume", "log_name", "seed",
           "timestamps", "emb_path", "model", "gpu")  # fmt: skip
TOP = ("format", "version", "variant", "dataset", "settings", "seed", "best_epoch", "valid", "test",
       "data")  # fmt: skip
NEEDED = ("format", "variant", "dataset", "settings", "seed", "data")
MODES = ("evaluate", "recommend", "export", "history", "convert", "compare")


def as_json(value: Any) -> str:
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000)


def on_checkpoint(shop: Workshop, folder: Path, name: str, mode: str, path: Path) -> Attempt:
    """A command that reads a checkpoint of a variant."""
    script = str(variant_of(name).folder.relative_to(REPOSITORY) / "inference.py")
    flags = ["--checkpoint", str(path), "--data_path", str(shop.data), "--cuda", "0"]
    more, writes = {
        "evaluate": (["--result_json", "out.json"], "out.json"),
        "recommend": (["--recommend", "out.csv", "--k", "3"], "out.csv"),
        "export": (["--export_vectors", "out"], "out"),
        "history": (["--history", "1,2,3", "--raw_ids", "0"], "-"),
        "convert": (["--convert", "out.safetensors"], "out.safetensors"),
        "compare": ([], "out.csv"),
    }[mode]
    if mode == "compare":
        good = str(shop.paths[name][0])
        flags = [good, str(path), "--data_path", str(shop.data), "--out", "out.csv"]
        return Attempt("scripts/compare.py", flags, (writes,))
    return Attempt(script, [*flags, *more], (writes,))


# Kinds of attempts: what is drawn, and how it is made --------------------------------------------


@st.composite
def headers(draw) -> tuple:
    name = draw(st.sampled_from(list(REGISTRY)))
    known = sorted(variant_of(name).settings.names())
    one = st.one_of(
        st.tuples(st.just("setting"), st.sampled_from(known), TYPICAL),
        st.tuples(st.just("setting"), st.sampled_from(known), TYPICAL),
        st.tuples(st.just("setting"), st.sampled_from((*OPTIONS, "x", "Steps", "")), WORDS),
        st.tuples(st.just("forget"), st.sampled_from(known), st.none()),
        st.tuples(st.just("top"), st.sampled_from((*TOP, *OPTIONS, "machine")), TYPICAL),
        st.tuples(st.just("drop"), st.sampled_from(TOP), st.none()),
        st.tuples(st.just("data"), st.sampled_from(("users", "items", "train", "x")), TYPICAL),
        st.tuples(st.just("variant"), st.sampled_from(list(REGISTRY)), st.none()),
        st.tuples(
            st.just("text"), st.sampled_from(["", "{", "[]", "null", "1", '"x"', DEEP]), st.none()
        ),
        st.tuples(st.just("ids"), st.sampled_from(["", "[1]", "{}", "[[1]]", DEEP, "null"]),
                  st.none()),
    )  # fmt: skip
    return name, draw(st.sampled_from(MODES)), draw(st.lists(one, min_size=1, max_size=2))


def make_header(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, mode, changes = what
    metadata, tensors = shop.checkpoints[name]
    header, metadata = json.loads(metadata["diffrec"]), dict(metadata)
    known, refuse, text = variant_of(name).settings.names(), False, None
    for how, key, value in changes:
        settings = header.get("settings") if isinstance(header.get("settings"), dict) else {}
        data = header.get("data") if isinstance(header.get("data"), dict) else {}
        if how == "setting":
            settings[key] = value
            refuse |= key not in known
        elif how == "forget":
            settings.pop(key, None)
        elif how == "top":
            header[key] = value
            refuse |= key not in TOP
        elif how == "drop":
            header.pop(key, None)
            refuse |= key in NEEDED
        elif how == "data":
            data[key] = value
        elif how == "variant":
            header["variant"] = key
        elif how == "text":
            text, refuse = as_json(DEEP) if key == DEEP else key, True
        else:
            metadata["item_ids"] = as_json(DEEP) if key == DEEP else key
    # A header of this format that was changed twice in one place may be whole again.
    refuse = refuse and len({(how, key) for how, key, _ in changes}) == len(changes)
    refuse = refuse and len({how for how, *_ in changes} & {"setting", "top", "drop"}) < 2
    metadata["diffrec"] = as_json(header) if text is None else text
    with contextlib.suppress(UnicodeEncodeError):
        save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "x.safetensors",
                  metadata)  # fmt: skip
    attempt = on_checkpoint(shop, folder, name, mode, folder / "x.safetensors")
    return dataclasses.replace(attempt, must_refuse=refuse)


DTYPES = ("float64", "float16", "bfloat16", "bool", "complex64", "int8", "int32", "int64", "uint8")


@st.composite
def tensors(draw) -> tuple:
    name = draw(st.sampled_from(list(REGISTRY)))
    place = draw(st.integers(0, 99))  # of the tensor, by number
    change = draw(
        st.one_of(
            st.sampled_from([("drop", None), ("add", "extra"), ("add", "dnn.x"), ("empty", None),
                             ("transpose", None), ("flat", None), ("scalar", None)]),
            st.tuples(st.just("cut"), st.sampled_from([0, 1, 3])),
            st.tuples(st.just("longer"), st.sampled_from([1, 1000])),
            st.tuples(st.just("dtype"), st.sampled_from(DTYPES)),
            st.tuples(st.just("value"),
                      st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38, 1e19, 9e17])),
            st.tuples(st.just("index"),
                      st.sampled_from([-1, -(2**31), 10**9, 2**31 - 1, "falling", "beyond"])),
            st.tuples(st.just("bytes"), st.integers(0, 5000)),
        )
    )  # fmt: skip
    return name, draw(st.sampled_from(MODES)), place, change


def make_tensor(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, mode, place, (how, value) = what
    metadata, found = shop.checkpoints[name]
    found = dict(found)
    if how == "index":
        pool = [k for k, t in found.items() if not t.is_floating_point()] or list(found)
    else:
        pool = list(found)
    key = sorted(pool)[place % len(pool)]
    old = tensor = found[key]
    if how == "drop":
        tensor = None
    elif how == "add":
        found[value] = torch.zeros(3)
    elif how == "empty":
        tensor = tensor.new_zeros(0)
    elif how == "transpose":
        tensor = tensor.T if tensor.ndim == 2 else tensor.reshape(1, -1)
    elif how == "flat":
        tensor = tensor.reshape(-1)
    elif how == "scalar":
        tensor = torch.zeros((), dtype=tensor.dtype)
    elif how == "cut":
        tensor = tensor[:value] if tensor.ndim else tensor
    elif how == "longer" and tensor.ndim:
        tensor = torch.cat([tensor, tensor[:1].expand(value, *tensor.shape[1:])])
    elif how == "dtype":
        tensor = tensor.to(getattr(torch, value))
    elif how == "value" and tensor.is_floating_point() and tensor.numel():
        tensor = tensor.clone()
        tensor.view(-1)[place % tensor.numel()] = value
        if value == 9e17:
            tensor.fill_(value)
    elif how == "index" and not tensor.is_floating_point() and tensor.numel():
        tensor = tensor.clone()
        flat = tensor.view(-1)
        if value == "falling":
            flat.copy_(flat.flip(0))
        else:
            flat[-1] = int(flat.max()) + 10**6 if value == "beyond" else value
    if tensor is None:
        del found[key]
    else:
        found[key] = tensor
    same = tensor is not None and tensor.dtype == old.dtype and tensor.shape == old.shape
    if same and how in ("index", "value"):
        same = torch.equal(tensor, old)
    # Columns may stand in any order within a row, and clusters may be anybody's.
    free = how == "index" and value == "falling" and not key.endswith("offsets")
    refuse = how == "add" or (not same and not free and value != 9e17)  # which may just do
    path = folder / "x.safetensors"
    if found:
        save_file({k: t.contiguous() for k, t in found.items()}, path, metadata)
    if how == "bytes" and path.is_file():
        path.write_bytes(path.read_bytes()[: -value or None])
        refuse = value > 0
    attempt = on_checkpoint(shop, folder, name, mode, path)
    return dataclasses.replace(attempt, must_refuse=refuse)


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
ARRAYS = (*LISTS, *LISTS, "item_emb", "timestamps", "report_times", "report_list", "serve_list")


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


class Touch:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def make_array(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, change = what
    data = folder / "tiny"
    shutil.copytree(shop.data, data)
    places = {
        "item_emb": data / "item_emb.npy", "timestamps": folder / "times.npy",
        "report_times": data / "train_times.npy", "report_list": data / "valid_list.npy",
        "serve_list": data / "train_list.npy",
    }  # fmt: skip
    if which == "timestamps":
        shutil.copy(shop.folder / "times.npy", folder)
    path = places.get(which, data / f"{which}.npy")
    write_array(path, change)
    refuse = change[0] in ("npz", "pickle", "folder", "text", "float") or change == ("cut", 0)
    if which in ("timestamps", "item_emb", "report_times") and change[0] == "float":
        refuse = change[1] not in (1e308, 1e300)
    if (which, change[0]) == ("report_times", "folder"):
        refuse = False  # there are no times then
    to_train = ["--data_path", str(data), "--save_path", "saved", "--cuda", "0"]
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


CELLS = st.sampled_from(
    ["1e300", "-1e300", str(2**70), str(2**53 + 1), "nan", "inf", "", "x", "-1", "1e400", "\x00",
     "2020-13-45", "∂", '"', "'", "x" * 10**5, "1_000", "0x10", "True", "16777217", "1e-320"]
)  # fmt: skip
TABLE_CHANGES = st.one_of(
    st.tuples(st.just("cell"), st.integers(0, 3), CELLS),
    st.tuples(st.just("cell"), st.integers(2, 3), CELLS),
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("insert"), st.integers(0, 2000), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), st.integers(0, 3000)),
    st.tuples(st.just("replace"), st.sampled_from(["\n", "1", ",", "\t", "::"]),
              st.sampled_from(["\r", "\r\n", "\x00", "", '"', ",,", "\n\n", "\ufeff"])),
    st.sampled_from([("utf-16",), ("bom",), ("header",), ("twice",), ("folder",), ("nested",),
                     ("bomb",), ("one line",), ("random",), ("strings",), ("wide",)]),
    st.tuples(st.sampled_from(["gz", "zip", "tar"]), st.integers(0, 10**4)),
)  # fmt: skip
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


# Flags -------------------------------------------------------------------------------------------

FLAG_WORDS = st.one_of(
    WORDS.filter(lambda text: "\u0000" not in text and len(text) < 10**5),
    NUMBERS.map(str),
    st.text(max_size=8).filter(lambda text: "\u0000" not in text),
    st.sampled_from(["x.csv", "x.foo", "x.json", "x.safetensors", "fifo", "missing/x", "data",
                     "broken.json", "broken.csv", "broken.npy", "--lr 'x", "--epochs 0", "recall"]),
)  # fmt: skip
WRITE = {"save_path", "result_json", "tensorboard", "out", "results", "convert", "recommend",
         "export_vectors", "keep", "presets"}  # fmt: skip
# Who asks for a lot of work gets it: these are not given large numbers.
WORK = {"epochs", "iterations", "max_iter", "layers", "cycles", "threads", "jobs", "seeds",
        "minutes", "kills", "n_cate", "patience", "history_num_per_term", "eval_every", "resamples",
        "synthetic", "examples", "trials", "candidates", "rank", "max_length"}  # fmt: skip


def script_lines(shop: Workshop) -> dict[str, list[str]]:
    """Scripts, and words with which each ends well, soon."""
    good = str(shop.paths["DiffRec"][0])
    record = str(shop.folder / "saved" / "DiffRec" / "result.json")
    table = str(shop.tables["csv"])
    data = ["--data_path", str(shop.data)]
    return {
        "scripts/compare.py": [good, good, *data],
        "scripts/convert_checkpoint.py": [RELEASED_NAME, "out.safetensors", *data],
        "scripts/curves.py": [record, "--out", "out.png"],
        "scripts/data_report.py": [str(shop.data), "--out", "out.png"],
        "scripts/options_page.py": ["--out", "out.md"],
        "scripts/prepare_data.py": [table, "--format", "csv", "--out", "out", "--core", "2"],
        "scripts/reproduce.py": ["table2", "--dry_run", "--results", "out"],
        "scripts/search.py": ["--model", "EASE", "--dataset", "tiny", "--trials", "1",
                              "--seeds", "1", "--out", "out", "--presets", "presets.toml"],
    }  # fmt: skip


SCRIPTS = ("compare", "convert_checkpoint", "curves", "data_report", "options_page", "prepare_data",
           "reproduce", "search")  # fmt: skip
FLAGS_OF_SCRIPTS = {
    "compare": "dataset data_path metrics split gpu out",
    "convert_checkpoint": "variant data_path dataset autoencoder steps dims history recommend",
    "curves": "metric out",
    "data_report": "out check",
    "options_page": "out",
    "prepare_data": "raw out format columns min_rating core protocol ratio noise random_noise seed",
    "reproduce": "datasets dataset methods seeds gpu jobs results run_flags",
    "search": "model dataset ranges trials minutes seeds candidates out presets reg epochs topN",
}


@st.composite
def flags(draw) -> tuple:
    if draw(st.booleans()):
        script = draw(st.sampled_from(SCRIPTS))
        names = FLAGS_OF_SCRIPTS[script].split()
        target = script
    else:
        target = draw(st.sampled_from(list(REGISTRY)))
        variant = variant_of(target)
        serve = draw(st.booleans())
        target = f"{target}{' serve' if serve else ''}"
        options = variant.inference_options if serve else variant.options
        names = sorted({*options.names(), *variant.settings.names()} - {"model", "latent"})
    one = st.tuples(st.sampled_from(names), FLAG_WORDS)
    given = draw(st.lists(one, min_size=1, max_size=2))
    loose = draw(st.sampled_from([[], [], [], [], ["--nonsense", "1"], ["x"], ["--"], ["-h"]]))
    return target, given, loose


def large(text: str) -> bool:
    try:
        return not abs(float(text)) <= 100
    except ValueError:
        return len(text) > 300 or any(part.isdigit() and int(part) > 100
                                      for part in text.strip("[]").split(","))  # fmt: skip


def make_flags(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    target, given, loose = what
    os.mkfifo(folder / "fifo")
    (folder / "data").mkdir()
    for ending in ("json", "csv", "npy"):
        (folder / f"broken.{ending}").write_bytes(b'{"\xff,\n"')
    if target in SCRIPTS:
        script = f"scripts/{target}.py"
        words = script_lines(shop)[script]
        if target == "convert_checkpoint":
            save_module(folder / RELEASED_NAME, "models.DNN.DNN", shop.released["network"])
    else:
        name, _, serve = target.partition(" ")
        variant = variant_of(name)
        script = str(
            variant.folder.relative_to(REPOSITORY) / ("inference.py" if serve else "main.py")
        )
        path, words = shop.paths[name]
        words = words[: words.index("--save_path")]
        if serve:
            words = ["--checkpoint", str(path), "--data_path", str(shop.data), "--cuda", "0"]
        else:
            words = [*words, "--save_path", "saved", "--cuda", "0"]
    writes = ["saved", *(word for word in words if word.startswith(("out", "presets")))]
    more = []
    for flag, value in given:
        if flag in WORK and large(value):
            value = "3"
        if flag in WRITE and value.startswith("/"):
            value = "x"  # the machine's own folders are no place to try
        with contextlib.suppress(UnicodeEncodeError):
            value.encode()
            more += [f"--{flag}={value}"] if value.startswith("-") else [f"--{flag}", value]
        if flag in WRITE and value:
            place = os.path.normpath(os.path.join("/a/b/c/d/e", value))  # as below `place`
            writes.append(os.path.relpath(place, "/a/b/c/d/e"))
    if target == "data_report" and any(flag == "out" for flag, _ in given):
        writes.append("tiny.png")
    return Attempt(script, [*words, *more, *loose], tuple(writes), own=True)


# Files of the release, states, and records --------------------------------------------------------

HOSTILE = {
    "system": lambda: Touch("touched"),
    "list": lambda: [1, 2, 3],
    "tensor": lambda: torch.zeros(3),
    "dict": lambda: {"a": torch.zeros(3), "b": Touch("touched")},
}
PICKLE_CHANGES = st.one_of(
    st.tuples(st.just("attribute"), st.sampled_from(
        ["in_dims", "out_dims", "time_emb_dim", "norm", "emb_layer", "in_layers", "out_layers",
         "n_item", "n_cate", "act_func", "reparam", "category_idx", "category_map", "encoder",
         "decoder", "drop", "item_emb"]),
        st.one_of(VALUES.filter(lambda value: value != DEEP), st.sampled_from(
            [[6, 10**9], 10**9, [10**9], [-5], [[0], [1]], [], "tensor", "expanded"]))),
    st.tuples(st.just("missing"), st.sampled_from(
        ["out_dims", "time_emb_dim", "emb_layer", "in_layers", "out_layers", "n_item", "n_cate",
         "encoder", "decoder", "category_idx", "category_map"])),
    st.tuples(st.just("weights"), st.sampled_from(["nan", "expanded", "half", "cut", "sparse"])),
    st.tuples(st.just("hostile"), st.sampled_from(list(HOSTILE))),
    st.tuples(st.just("cut"), st.integers(0, 6000)),
    st.tuples(st.just("flip"), st.integers(0, 6000)),
    st.tuples(st.just("raw"), st.binary(max_size=60)),
    st.sampled_from([("packed",), ("plain pickle",), ("old",), ("loop",), ("zip",), ("folder",)]),
)  # fmt: skip


def make_pickle(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, (how, *rest) = what
    latent = which != "network"
    kinds = {"network": "models.DNN.DNN", "latent": "models.DNN.DNN",
             "autoencoder": "models.Autoencoder.AutoEncoder"}  # fmt: skip
    path = folder / (LATENT_NAME if latent else RELEASED_NAME)
    second = path.with_name(path.name.replace(".pth", "_AE.pth"))
    if latent:
        save_module(path, kinds["latent"], shop.released["latent"])
        save_module(second, kinds["autoencoder"], shop.released["autoencoder"])
    victim = second if which == "autoencoder" else path
    attributes = copy.deepcopy(shop.released[which])
    refuse = how in ("hostile", "raw", "packed", "plain pickle", "loop", "zip", "folder")
    if how == "attribute":
        value = {"tensor": torch.zeros(3), "expanded": torch.zeros(1).expand(10**6, 10**6)}.get(
            rest[1] if isinstance(rest[1], str) else "", rest[1])  # fmt: skip
        attributes[rest[0]] = value
    elif how == "missing":
        attributes.pop(rest[0], None)
    elif how == "weights":
        layer = attributes["decoder"][0] if which == "autoencoder" else attributes["out_layers"][0]
        weight = layer.weight.detach()
        made = {
            "nan": weight * math.nan, "half": weight.half(), "cut": weight[:3],
            "expanded": torch.zeros(1).expand(10**9, 6), "sparse": weight.to_sparse(),
        }[rest[0]]  # fmt: skip
        layer.weight = nn.Parameter(made)
        if rest[0] == "expanded" and which == "network":
            attributes["out_dims"], refuse = [6, 10**9], True
        refuse = True
    save_module(victim, kinds[which], attributes)
    raw = victim.read_bytes()
    if how == "hostile":
        torch.save(HOSTILE[rest[0]](), victim)
    elif how == "cut":
        victim.write_bytes(raw[: rest[0]])
    elif how == "flip":
        changed = bytearray(raw)
        changed[rest[0] % len(changed)] ^= 0xFF
        victim.write_bytes(bytes(changed))
    elif how == "raw":
        victim.write_bytes(rest[0])
    elif how == "packed":
        with zipfile.ZipFile(victim, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open("archive/data.pkl", "w") as file:
                for _ in range(64):
                    file.write(b"N0" * 2**19)
            archive.writestr("archive/version", "3")
    elif how == "plain pickle":
        victim.write_bytes(pickle.dumps(Touch("touched")))
    elif how == "old":
        torch.save(torch.zeros(3), victim, _use_new_zipfile_serialization=False)
    elif how == "loop":  # lists that hold each other, twice at each of forty floors
        torch.save(list(floors(40)), victim)
    elif how == "zip":
        with zipfile.ZipFile(victim, "w") as archive:
            archive.writestr("x", "y")
    elif how == "folder":
        victim.unlink()
        victim.mkdir()
    script = "L-DiffRec/inference.py" if latent else "DiffRec/inference.py"
    flags = ["--checkpoint", str(path), "--data_path", str(shop.data), "--dataset", "tiny",
             "--result_json", "out.json", "--cuda", "0"]  # fmt: skip
    return Attempt(script, flags, ("out.json",), refuse)


def floors(n: int) -> list:
    inner: list = []
    for _ in range(n):
        inner = [inner, inner]
    return inner


STATE_CHANGES = st.one_of(
    st.tuples(st.just("top"), st.sampled_from(
        ["format", "settings", "identity", "progress", "weights", "average", "optimizers",
         "model_state", "random", "x"]), VALUES),
    st.tuples(st.just("drop"), st.sampled_from(
        ["format", "settings", "identity", "progress", "weights", "optimizers", "model_state",
         "random"])),
    st.tuples(st.just("progress"), st.sampled_from(
        ["epoch", "best_epoch", "best_value", "valid", "test", "history"]), VALUES),
    st.tuples(st.just("cut"), st.integers(0, 6000)),
    st.tuples(st.just("flip"), st.integers(0, 6000)),
    st.tuples(st.just("hostile"), st.sampled_from(list(HOSTILE))),
)  # fmt: skip


def make_state(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    name, (how, *rest) = what
    path, words = shop.paths[name]
    saved = folder / "saved"
    shutil.copytree(path.parent, saved)
    (victim,) = saved.glob("*.state")
    state = torch.load(victim, weights_only=True)
    if how == "top":
        state[rest[0]] = rest[1]
    elif how == "drop":
        del state[rest[0]]
    elif how == "progress":
        state["progress"][rest[0]] = rest[1]
    if how in ("top", "drop", "progress"):
        torch.save(state, victim)
    elif how == "hostile":
        torch.save(HOSTILE[rest[0]](), victim)
    else:
        content = bytearray(victim.read_bytes())
        if how == "flip":
            content[rest[0] % len(content)] ^= 0xFF
        victim.write_bytes(bytes(content[: rest[0]] if how == "cut" else content))
    words = words[: words.index("--save_path")]
    flags = [*words, "--epochs", "2", "--save_path", "saved", "--cuda", "0", "--resume"]
    script = str(variant_of(name).folder.relative_to(REPOSITORY) / "main.py")
    refuse = how == "hostile" or (
        how == "drop" and rest[0] not in ("optimizers", "model_state")  # some models have none
    )
    return Attempt(script, flags, ("saved",), refuse)


RECORD_CHANGES = st.one_of(
    st.tuples(st.just("top"), st.sampled_from(
        ["history", "best_epoch", "settings", "seed", "data", "format", "valid"]), VALUES),
    st.tuples(st.just("row"), st.sampled_from(["epoch", "loss", "recall@20", "x"]), VALUES),
    st.tuples(st.just("bytes"), st.binary(max_size=60)),
    st.tuples(st.just("cut"), st.integers(0, 2000)),
    st.tuples(st.just("insert"), st.integers(0, 2000), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("text"), st.sampled_from(["", "[]", "{}", "null", DEEP, "1" * 5000])),
)  # fmt: skip


def make_record(shop: Workshop, folder: Path, what: tuple) -> Attempt:
    which, (how, *rest) = what
    source = shop.folder / "saved" / "DiffRec"
    if which == "curve.csv":
        (source,) = source.glob("*.csv")
    else:
        source = source / "result.json"
    if which == "trials":
        source = folder / "out" / "EASE_tiny.csv"
        source.parent.mkdir()
        source.write_text(
            "trial,state,seed,valid,best_epoch,epochs,seconds,settings,data,commit,command\n"
            + "".join(
                f'{n},{state},1,{valid},1,1,0.1,"{{""reg"": {reg}}}",{shop.sha256},x,"python '
                f'baselines/main.py --model EASE --dataset tiny --seed 1 --reg {reg}"\n'
                for n, (state, valid, reg) in enumerate(
                    [("done", 0.1, 250.0), ("failed", "", 10.0), ("pruned", 0.05, 500.0)]
                )
            )
        )
    raw = source.read_bytes()
    if how in ("top", "row") and which in ("result.json", "finished"):
        record = json.loads(raw)
        place = record if how == "top" else record["history"][0]
        place[rest[0]] = rest[1]
        raw = as_json(record).encode(errors="replace")
    elif how in ("top", "row"):
        lines = raw.decode().split("\n")
        cells = lines[1].split(",")
        cells[min(len(rest[0]), len(cells)) - 1] = str(rest[1])
        raw = "\n".join([lines[0], ",".join(cells), *lines[2:]]).encode(errors="replace")
    elif how == "bytes":
        raw = rest[0]
    elif how == "cut":
        raw = raw[: rest[0]]
    elif how == "insert":
        raw = raw[: rest[0]] + rest[1] + raw[rest[0] :]
    else:
        raw = (as_json(DEEP) if rest[0] == DEEP else rest[0]).encode()
    if which == "trials":
        source.write_bytes(raw)
        words = script_lines(shop)["scripts/search.py"]
        return Attempt("scripts/search.py", words, ("out", "presets.toml"))
    if which == "finished":
        path = folder / "out" / "runs" / "EASE_tiny_clean_seed1.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(raw)
        words = ["table2", "--datasets", "tiny", "--methods", "EASE", "--seeds", "1", "--dry_run"]
        return Attempt("scripts/reproduce.py", [*words, "--results", "out"], ("out",))
    path = folder / f"x{source.suffix}"
    path.write_bytes(raw)
    return Attempt("scripts/curves.py", [str(path), "--out", "out.png"], ("out.png",))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What of one kind is tried."""

    drawn: st.SearchStrategy
    make: Callable[[Workshop, Path, tuple], Attempt]


KINDS = {
    "header": Kind(headers(), make_header),
    "tensor": Kind(tensors(), make_tensor),
    "array": Kind(st.tuples(st.sampled_from(ARRAYS), ARRAY_CHANGES), make_array),
    "table": Kind(
        st.tuples(st.sampled_from(list(readers.FORMATS)), TABLE_CHANGES, HOW), make_table
    ),
    "map": Kind(
        st.tuples(st.sampled_from(["user", "item"]), MAP_CHANGES,
                  st.sampled_from(["recommend", "export"])),
        make_map,
    ),
    "flag": Kind(flags(), make_flags),
    "pickle": Kind(
        st.tuples(st.sampled_from(["network", "latent", "autoencoder"]), PICKLE_CHANGES),
        make_pickle,
    ),
    "state": Kind(
        st.tuples(st.sampled_from(["DiffRec", "MultiVAE", "L-DiffRec", "EASE", "LightGCN"]),
                  STATE_CHANGES),
        make_state,
    ),
    "record": Kind(
        st.tuples(st.sampled_from(["result.json", "curve.csv", "trials", "finished"]),
                  RECORD_CHANGES),
        make_record,
    ),
}  # fmt: skip


# Judging -----------------------------------------------------------------------------------------


def unsound(folder: Path) -> str | None:
    """What is wrong with what a command has written, if anything."""
    record = folder / "out.json"
    if record.is_file():
        found = json.loads(record.read_text())
        values = [*found["valid"].values(), *found["test"].values()]
        if not all(math.isfinite(v) and v >= 0 for v in values):
            return f"metrics that cannot be: {values[:3]}"
    lists = folder / "out.csv"
    if lists.is_file() and lists.stat().st_size > 1:
        table = pd.read_csv(lists)
        if "score" in table and not np.isfinite(table["score"]).all():
            return "scores that are not numbers"
    for path in (folder / "out").glob("*.npy"):
        array = np.load(path)
        if (
            array.dtype.kind == "f"
            and not path.stem.endswith("_ratings")
            and not np.isfinite(array).all()
        ):
            return f"{path.name} that are not all numbers"
    return None


def broken(attempt: Attempt, done: sandbox.Outcome, touched: list[str], folder: Path) -> str | None:
    """Which promise was broken, if any."""
    strange = [n for n in touched if not any(
        n == w or n.startswith((f"{w}/", f"{w}.")) or w.startswith(f"{n}/") for w in attempt.writes
    )]  # fmt: skip
    if done.late:
        return f"no answer in {done.seconds:.0f} s"
    if done.seconds > sandbox.SECONDS:
        return f"{done.seconds:.0f} s"
    if done.megabytes > sandbox.MEGABYTES:
        return f"{done.megabytes:.0f} MB"
    if done.code < 0:
        return f"ended by signal {-done.code}"
    if strange:
        return f"touched {', '.join(strange[:3])}"
    lines = done.err.splitlines()
    if done.code == 2:
        if len(lines) != 1 or not lines[0].startswith("error: "):
            return f"{len(lines)} lines of error"
        if len(lines[0]) > LONGEST:
            return f"an error of {len(lines[0])} letters"
        if not attempt.own and "not enough memory" in lines[0]:
            return "took memory on the word of a file"
        return None
    if done.code == 0:
        if attempt.must_refuse:
            return "accepted what cannot be sound"
        return unsound(folder)
    last = lines[-1] if lines else ""
    return f"exit code {done.code}: {last[:150]}"


@dataclasses.dataclass
class Report:
    """What was tried of one kind: how much, how much of it was refused, and what broke promises."""

    tried: int = 0
    refused: int = 0
    failures: list[tuple[str, tuple, Attempt]] = dataclasses.field(default_factory=list)


def attempted(shop: Workshop, kind: str, what: tuple, keep: Path | None, report: Report) -> None:
    """Make what was drawn, run its command, and note how it went."""
    with sandbox.workplace("fuzz.") as top:
        place = top / "a" / "b" / "c"  # so that ../../x lands where it is seen
        place.mkdir(parents=True)
        attempt = KINDS[kind].make(shop, place, what)
        before = {**sandbox.files_in(top), **looks(shop)}
        done = sandbox.Process(attempt.script, attempt.flags, place).finish(sandbox.SECONDS + 5)
        after = {**sandbox.files_in(top), **looks(shop)}
        touched = [os.path.relpath(name, "a/b/c") for name in sandbox.changed(before, after)]
        reason = broken(attempt, done, touched, place)
        report.tried += 1
        report.refused += done.code == 2
        if reason:
            number = len(report.failures)
            report.failures.append((reason, what, attempt))
            print(f"{kind}: {reason}\n    {what!r:.300}\n    {attempt.script} "
                  f"{shlex.join(attempt.flags)[:600]}", flush=True)  # fmt: skip
            print("".join(f"    | {line[:200]}\n" for line in done.err.splitlines()[-12:]), end="")
            if keep is not None:
                target = keep / f"{kind}-{number}"
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(place, target, ignore=lambda *_: ["fifo"])
                (target / "attempt.txt").write_text(
                    f"{reason}\n{what!r}\n{attempt.script} {shlex.join(attempt.flags)}\n{done.err}"
                )


def looks(shop: Workshop) -> dict[str, str]:
    """How the good files look, which no attempt may touch."""
    return {
        f"workshop {path}": f"{path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in shop.folder.rglob("*") if path.is_file()
    }  # fmt: skip


def trial(shop: Workshop, kind: str, seed: int, examples: int, keep: Path | None, report: Report,
          until: float = math.inf) -> None:  # fmt: skip
    """So many inputs of a kind, drawn by a seed; none is drawn after the time ``until``."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(KINDS[kind].drawn)
    def one(what: tuple) -> None:
        if time.monotonic() < until:
            attempted(shop, kind, what, keep, report)

    one()


@contextlib.contextmanager
def workshop() -> Iterator[Workshop]:
    """Good files, in a folder that is gone afterwards; the environment names their data."""
    names = ("DIFFREC_DATASETS", "OMP_NUM_THREADS")
    old = {name: os.environ.get(name) for name in names}
    with sandbox.workplace("workshop.") as folder:
        shop = Workshop(folder)
        (folder / "data" / "tiny_clean").symlink_to(shop.data)
        os.environ.update({"DIFFREC_DATASETS": str(folder / "data"), "OMP_NUM_THREADS": "1"})
        torch.set_num_threads(1)
        for slow in ("implicit.cpu.als", "sklearn.cluster", "sklearn.linear_model",
                     "torch._dynamo"):  # fmt: skip
            importlib.import_module(slow)  # here, and not in every attempt anew
        pictures.drawing()
        try:
            shop.train()
            yield shop
        finally:
            for name, value in old.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--minutes", type=checked(NotNegative), default=10.0, help="for all kinds")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=checked(Seed), default=1, help="of the first round")
    parser.add_argument(
        "--examples", type=checked(Positive), default=50, help="of each kind in a round"
    )
    parser.add_argument(
        "--keep", type=checked(Folder), default=Path(tempfile.gettempdir(), "fuzz-failures"),
        help="folder for failures",
    )  # fmt: skip
    args = parser.parse_args(argv)
    until = time.monotonic() + 60 * args.minutes
    reports = {kind: Report() for kind in args.kinds}
    with workshop() as shop:
        for seed in itertools.count(args.seed):
            for kind in args.kinds:
                print(f"--seed {seed} --kinds {kind} --examples {args.examples}", flush=True)
                trial(shop, kind, seed, args.examples, args.keep, reports[kind], until)
            if time.monotonic() > until:
                break
    print(f"\n{'kind':<10}{'tried':>8}{'refused':>10}{'as promised':>14}")
    for kind, report in reports.items():
        kept = report.tried - len(report.failures)
        print(f"{kind:<10}{report.tried:>8}{report.refused:>10}{kept:>14}")
    tried = sum(report.tried for report in reports.values())
    failed = sum(len(report.failures) for report in reports.values())
    print(
        f"{'all':<10}{tried:>8}{sum(r.refused for r in reports.values()):>10}{tried - failed:>14}"
    )
    if failed:
        print(f"\n{failed} broke a promise: see above, and {args.keep}.")
        sys.exit(1)


if __name__ == "__main__":
    command(main)
