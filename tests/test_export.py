"""The ONNX graph gives the scores of the model, and says what it is."""

import json
import sys

import numpy as np
import pytest
import torch

from DiffRec import DiffRec, train
from L_DiffRec import LDiffRec
from T_DiffRec import TDiffRec

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")


def clustered(tiny, **settings):
    """An L-DiffRec of three clusters that are no runs of item ids."""
    return LDiffRec(tiny.n_items, {"in_dims": [9], "mlp_dims": [6], "steps": 3, **settings},
                    torch.arange(tiny.n_items) % 3)  # fmt: skip


MODELS = {
    "DiffRec": lambda data: DiffRec(data.n_items, dims=[5, 8], steps=4, noise_scale=0.5),
    "plain": lambda data: DiffRec(data.n_items, dims=[8], steps=2, norm=True, mean_type="eps"),
    "L-DiffRec": clustered,
    "hidden": lambda data: clustered(data, out_dims=[7], cluster_decoders=True),
}


@pytest.fixture
def exported(tiny, tmp_path, run):
    """Train a model for an epoch, and export it by the script; the model and a session."""

    def call(model):
        made = train(model, tiny, epochs=1, save_path=tmp_path)
        out = tmp_path / "out" / "model.onnx"
        done = run("scripts/export_onnx.py", made.checkpoint, out)
        assert done.returncode == 0, done.stderr
        assert list(out.parent.iterdir()) == [out]  # one file holds all
        return model, onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])

    return call


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_scores_as_the_model(exported, tiny, name):
    model, session = exported(MODELS[name](tiny))
    for rows in (tiny.train.slice(0, 7), tiny.train.slice(7, 8)):  # batches of any size
        with torch.no_grad():
            expected = model.scorer()(rows).numpy()
        (scores,) = session.run(["scores"], {"history": rows.dense().numpy()})
        np.testing.assert_allclose(scores, expected, atol=1e-4)
        assert np.ptp(expected) > 1e-2  # or any graph would do


def test_the_file_says_what_it_is(exported, tiny):
    _, session = exported(MODELS["DiffRec"](tiny))
    told = session.get_modelmeta().custom_metadata_map
    header = json.loads(told["diffrec"])
    assert (header["variant"], header["dataset"]) == ("DiffRec", "tiny")
    assert len(json.loads(told["item_ids"])) == tiny.n_items


@pytest.mark.parametrize(
    ("model", "out", "words"),
    [
        (lambda n: TDiffRec(n, dims=[4], steps=2), "a.onnx", "only DiffRec and L-DiffRec"),
        (lambda n: DiffRec(n, dims=[4], steps=2, sampling_steps=1), "a.onnx", "draws noise"),
        (lambda n: DiffRec(n, dims=[4], steps=2, sampling_noise=True), "a.onnx", "draws noise"),
        (lambda n: DiffRec(n, dims=[4], steps=2), "a.pth", "must end in .onnx"),
    ],
)
def test_what_has_no_graph_is_told_in_a_sentence(tiny, tmp_path, run, model, out, words):
    made = train(model(tiny.n_items), tiny, epochs=1, save_path=tmp_path)
    done = run("scripts/export_onnx.py", made.checkpoint, tmp_path / out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
    assert not (tmp_path / out).exists()


def test_without_onnx_it_is_said(tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("scripts/export_onnx.py", tmp_path / "a.safetensors", tmp_path / "a.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install onnx onnxscript" in done.stderr
