"""Good files that are made once, and what an attempt on a copy of them is."""

import contextlib
import dataclasses
import importlib
import itertools
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pictures
import reproduction  # noqa: F401  (registers the models)
import sandbox
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from DiffRec import load_dataset
from DiffRec.engine.machine import REPOSITORY
from DiffRec.engine.variant import REGISTRY
from DiffRec.preparation import protocol, readers, synthetic, writer

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
        in_order = table.sort_values("timestamp", kind="stable").groupby("user")["item"]
        lines = [" ".join(map(str, [user, *items])) for user, items in in_order]
        path = folder / "sequences.txt"
        path.write_text("\n".join(lines) + "\n")
        yield readers.SEQUENCES, path

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


@dataclasses.dataclass(frozen=True)
class Kind:
    """What of one kind is tried."""

    drawn: st.SearchStrategy
    make: Callable[[Workshop, Path, tuple], Attempt]


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
