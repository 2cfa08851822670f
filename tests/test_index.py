"""scripts/build_index.py: what an index finds of a model's items."""

import re

import numpy as np
import pytest
import torch

from DiffRec import DiffRec as Model
from DiffRec import train

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny):
    model = Model.for_dataset(tiny, dims=[16], steps=4)
    return train(model, tiny, lr=0.01, epochs=5, save_path=tmp_path_factory.mktemp("c")).checkpoint


@pytest.fixture
def build(run, checkpoint, tiny_folder, tmp_path):
    def call(*flags, out="items.faiss"):
        words = [checkpoint, tmp_path / out, "--data_path", tiny_folder, *flags]
        return run("scripts/build_index.py", *words)

    return call


@pytest.mark.parametrize(
    ("flags", "least"), [(["--kind", "hnsw"], 0.99), (["--kind", "ivfpq", "--bytes", "17"], 0.6)]
)
def test_an_index_finds_what_exact_search_finds(build, checkpoint, tiny, tmp_path, flags, least):
    done = build(*flags, "--k", "10", "--users", "50")
    assert done.returncode == 0, done.stderr
    told = float(re.search(r"recall@10 of 50 users (\S+);", done.stdout)[1])
    index = faiss.read_index(str(tmp_path / "items.faiss"))
    assert index.ntotal == tiny.n_items
    # By the file alone: it is asked for a user's vector, and tells items by number.
    model = Model.load(checkpoint)
    encode, *_ = model.factors()
    rows = tiny.train.rows(torch.linspace(0, tiny.n_users - 1, 50, dtype=torch.float64).long())
    with torch.inference_mode():
        vectors = encode(rows).numpy()
    _, found = index.search(np.hstack([vectors, np.ones((50, 1), np.float32)]), 10)
    best = model.recommend(rows, k=10, exclude_seen=False)[0].numpy()
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)])
    assert recall == pytest.approx(told, abs=0.005)
    assert recall >= least


def test_what_no_index_can_be_made_of(build, run, tiny, tiny_folder, tmp_path):
    model = Model.for_dataset(tiny, dims=[8], steps=2, mean_type="eps")
    other = train(model, tiny, epochs=1, save_path=tmp_path).checkpoint
    for done, words in (
        (run("scripts/build_index.py", other, tmp_path / "a.faiss", "--data_path", tiny_folder),
         "mean_type x0"),
        (build(out="a.txt"), "must end in .faiss"),
        (build("--links", "1", out="a.faiss"), "needs at least 2 --links"),
    ):  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr
        assert not list(tmp_path.glob("a.*"))
