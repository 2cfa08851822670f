"""Shared by the tests: small data, real data where it lies, and the command lines."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import baselines  # noqa: F401  (each package registers its models)
import L_DiffRec  # noqa: F401
import T_DiffRec  # noqa: F401
from DiffRec import load_dataset
from DiffRec.engine.commands import command, parse
from DiffRec.engine.settings import Settings
from DiffRec.engine.variant import variant_of
from DiffRec.preparation import protocol, readers, synthetic, writer

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def seeded():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A data set of 120 users and at most 80 items in the release's layout."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    ratings = synthetic.make_ratings(n_users=120, n_items=80, mean_ratings=35, seed=3)
    writer.write(folder, protocol.prepare(readers.from_table(ratings), core=3))
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    return load_dataset(data_path=tiny_folder)


def folder_named_by(variable: str) -> Path:
    """The folder an environment variable names; without it the test that asks is skipped."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} does not name a folder of the real files")
    return Path(folder)


@pytest.fixture(scope="session")
def real_datasets() -> Path:
    """The folder of real data sets."""
    return folder_named_by("DIFFREC_DATASETS")


@pytest.fixture(scope="session")
def released_checkpoints() -> Path:
    """A folder of checkpoints in the release's format, with the metrics they must give."""
    return folder_named_by("DIFFREC_CHECKPOINTS")


@pytest.fixture(scope="session")
def raw_ratings() -> Path:
    """The folder of raw rating files."""
    return folder_named_by("DIFFREC_RAW")


@pytest.fixture
def settings():
    """The settings of a run of a variant for given flags, without a preset."""

    def make(*flags: str, variant: str = "DiffRec") -> Settings:
        found, _ = parse(variant_of(variant), ["--preset", "none", *flags])
        return found

    return make


def module_of(script: str):
    """The module of a script of the repository, by its path."""
    parts = Path(script).with_suffix("").parts
    name = parts[1] if parts[0] == "scripts" else ".".join(parts).replace("-", "_", 1)
    return importlib.import_module(name)


@pytest.fixture
def run():
    """Call a script of the repository with flags, as its command line would; returns what
    subprocess.run does. It runs in this process, which saves seconds, or with ``process`` in one
    of its own."""

    def call(script, *flags, env: dict | None = None, process: bool = False, **more):
        flags, environment = list(map(str, flags)), {"OMP_NUM_THREADS": "1", **(env or {})}
        if process:
            return subprocess.run(
                [sys.executable, script, *flags], env={**os.environ, **environment},
                capture_output=True, text=True, timeout=600, check=False,
                **{"cwd": REPOSITORY, **more},
            )  # fmt: skip
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                command(lambda: module_of(script).main(flags))
            except SystemExit as error:
                code = error.code or 0
        words = [script, *flags]
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def save_lists(tmp_path):
    """Write a data set of given pairs; returns its folder."""

    def save(train, valid=((0, 0),), test=((0, 0),), dtype=np.int64) -> Path:
        folder = tmp_path / "lists"
        folder.mkdir(exist_ok=True)
        for name, pairs in (("train", train), ("valid", valid), ("test", test)):
            np.save(folder / f"{name}_list.npy", np.array(pairs, dtype=dtype).reshape(-1, 2))
        return folder

    return save
