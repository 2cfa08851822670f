"""Shared by the tests: small data, real data where it lies, and the command lines."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from DiffRec import load_dataset, options
from DiffRec.preparation import protocol, readers, synthetic, writer

REPOSITORY = Path(__file__).resolve().parent.parent
PRESETS = REPOSITORY / "DiffRec" / "presets" / "DiffRec.toml"


@pytest.fixture(autouse=True)
def seeded():
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
    """DiffRec's settings for given flags, without a preset."""

    def make(*flags: str) -> dict:
        argv = ["--preset", "none", *flags]
        return options.settings_of(
            options.parse(options.make_parser("", REPOSITORY), argv, PRESETS)
        )

    return make


@pytest.fixture
def run():
    """Run a script of the repository; returns the finished process."""

    def call(script: str, *flags, cwd: Path | None = None, env: dict | None = None, **kwargs):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return subprocess.run(
            [sys.executable, script, *map(str, flags)],
            cwd=cwd or REPOSITORY, env=environment, capture_output=True, text=True, timeout=600,
            check=False, **kwargs,
        )  # fmt: skip

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
