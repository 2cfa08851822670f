"""Building, training and evaluating from Python: the same as the command line."""

import csv
import dataclasses
import functools
import json
import logging
import pickle
import re
import shutil
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import DiffRec as package
from baselines.models import MODELS
from DiffRec import (
    DiffRec,
    InputError,
    Interactions,
    Recommender,
    evaluate,
    load_dataset,
    train,
)
from DiffRec.engine import checkpoints
from DiffRec.engine.contract import any_model
from DiffRec.engine.settings import OptimizerSettings, setting
from DiffRec.engine.training import Training, is_true
from DiffRec.engine.variant import REGISTRY, Variant, register, variant_of
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from L_DiffRec import LDiffRec
from T_DiffRec import LTDiffRec, TDiffRec

SMALL = {"dims": [16], "steps": 4, "noise_scale": 0.5, "noise_min": 0.001, "noise_max": 0.01}


def small_model(dataset, **more):
    return DiffRec.for_dataset(dataset, **SMALL, **more)


def test_a_model_is_built_from_names():
    model = DiffRec(10, dims=[8])
    assert (model.settings.dims, model.settings.steps) == ((8,), 100)
    assert DiffRec(10, {"dims": [8]}, steps=3).diffusion.steps == 3
    assert DiffRec(10, model.settings).settings == model.settings
    for wrong, words in (
        ({"dim": [8]}, "there is no setting dim: did you mean dims?"),
        ({"lr": 0.1}, "there is no setting lr"),  # of training
        ({"steps": 0}, "steps must be greater than or equal to 1, got 0"),
        ({"dims": 5}, "dims must be a list, got 5"),
        ({"dims": []}, "dims must hold at least one"),
        ({"noise_min": 0.5}, "noise_min must be smaller than noise_max"),
        ({"sampling_steps": 200}, "must lie between 0 and steps"),
        ({"w_min": 0.1}, "there is no setting w_min"),
    ):
        with pytest.raises(InputError) as raised:
            DiffRec(10, wrong)
        assert words in str(raised.value)
    with pytest.raises(InputError, match="w_min must not exceed w_max"):
        TDiffRec(10, w_min=0.9, w_max=0.5)


def test_a_setting_can_not_be_changed_behind_the_models_back():
    model = DiffRec(10, dims=[8])
    with pytest.raises(ValueError, match="frozen"):
        model.settings.steps = 3


@pytest.mark.parametrize(
    ("model", "script", "flags", "settings", "training"),
    [
        (DiffRec, "DiffRec/main.py", [], {"dims": [16], "steps": 4}, {"lr": 0.01}),
        (TDiffRec, "T-DiffRec/main.py", [], {"dims": [16], "steps": 4}, {"lr": 0.01}),
        (LDiffRec, "L-DiffRec/main.py", [], {"in_dims": [12], "n_cate": 1}, {"lr1": 0.01}),
        (LTDiffRec, "T-DiffRec/main.py", ["--latent"], {"in_dims": [12], "n_cate": 1},
         {"lr2": 0.01}),
    ],
)  # fmt: skip
def test_python_gives_what_the_command_line_gives(
    run, tiny, tiny_folder, tmp_path, model, script, flags, settings, training
):
    built = model.for_dataset(tiny, seed=3, **settings)
    found = train(built, tiny, seed=3, epochs=10, save_path=tmp_path / "a", **training)
    words = [w for k, v in {**settings, **training}.items() for w in (f"--{k}", v)]
    done = run(
        script, *flags, "--data_path", tiny_folder, "--preset", "none", "--seed", 3, "--epochs", 10,
        *words, "--save_path", tmp_path / "b", "--result_json", tmp_path / "r.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    for name in "settings seed valid test history best_epoch checkpoint data".split():
        assert record[name] == found.record[name], name
    assert found.test == record["test"]
    # the model holds its best weights, and the file as well
    for best in (built, model.load(found.checkpoint), any_model(found.checkpoint)):
        assert evaluate(best, tiny)["test"] == pytest.approx(found.test)
        assert not best.training


def test_presets_by_name(tiny, tmp_path):
    model = DiffRec.for_dataset(tiny, preset="ml-1m_noisy")
    assert (model.settings.noise_scale, model.settings.steps) == (0.5, 5)
    run = train(model, tiny, preset="ml-1m_noisy", epochs=1, save_path=tmp_path)
    assert run.record["settings"]["lr"] == 1e-3
    assert run.record["preset"] == "ml-1m_noisy"
    with pytest.raises(InputError, match="no preset nonsense of DiffRec"):
        DiffRec.for_dataset(tiny, preset="nonsense")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning": 1}, "there is no setting learning"),
        ({"lr": 0}, "lr must be greater than 0"),
        ({"patience": 5}, "patience 5 must be more than eval_every 5"),
        ({"metrics": ["gini"]}, "metrics must hold one that is better the higher it is"),
        ({"metrics": ["gini", "hr"]}, "such as hr@100, got recall@20"),
        ({"select_by": "recall@7"}, "select_by must be one of"),
        ({"dims": [3]}, "dims is a setting of the model: give it to for_dataset"),
        ({"dim": [3]}, "there is no setting dim"),
    ],
)
def test_wrong_settings_of_a_training(tiny, tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        train(small_model(tiny), tiny, save_path=tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_what_is_passed_stays_as_it_was(tiny, tmp_path):
    settings, before = dict(SMALL), tiny.fingerprint()
    values = tiny.train.items.clone(), tiny.train.offsets.clone()
    model = TDiffRec.for_dataset(tiny, **settings)
    train(model, tiny, epochs=1, save_path=tmp_path)
    evaluate(model, tiny)
    assert settings == SMALL
    assert tiny.fingerprint() == before
    assert tiny.train.values is None
    assert torch.equal(tiny.train.items, values[0])
    assert torch.equal(tiny.train.offsets, values[1])


def test_the_library_logs_and_does_not_print(tiny, tmp_path, capsys, caplog):
    logging.getLogger("DiffRec").handlers, logging.getLogger("DiffRec").propagate = [], True
    caplog.set_level(logging.INFO)
    train(small_model(tiny), tiny, epochs=1, save_path=tmp_path)
    assert capsys.readouterr().out == ""
    assert "recall@20" in caplog.text
    assert all(record.name.startswith("DiffRec") for record in caplog.records)


# Mistakes, and what must not follow from them


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": -1}, "seed must be greater"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"log_name": "a/b"}, "log_name must be a word"),
        ({"warm_start": torch.nn.Linear(2, 2)}, "^warm_start must be a path, got Linear.$"),
        ({"device": "cuda:77"}, "there is no device cuda:77"),
        ({"preset": "nonsense"}, "no preset nonsense"),
    ],
)
def test_wrong_options_of_a_training(tiny, tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        train(small_model(tiny), tiny, save_path=tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()


def test_a_seed_may_be_of_numpy(tiny, tmp_path):
    run = train(small_model(tiny, seed=np.int64(3)), tiny, seed=np.int64(3), epochs=1,
                save_path=tmp_path)  # fmt: skip
    assert run.record["seed"] == 3
    assert run.test == train(small_model(tiny, seed=3), tiny, seed=3, epochs=1,
                             save_path=tmp_path).test  # fmt: skip


def test_data_and_model_of_other_items(tiny, tmp_path):
    model = DiffRec(tiny.n_items + 1, dims=[4])
    for call in (lambda: evaluate(model, tiny), lambda: train(model, tiny, save_path=tmp_path)):
        with pytest.raises(InputError, match=f"{tiny.n_items + 1} items, but tiny has"):
            call()


def test_noise_is_found_again_by_the_seed_of_the_run(tiny_folder, tmp_path):
    noisy = load_dataset(data_path=tiny_folder, random_noise=0.2, seed=7)
    with pytest.raises(InputError, match="drawn with seed 7"):
        train(small_model(noisy), noisy, seed=1, save_path=tmp_path)
    train(small_model(noisy, seed=7), noisy, seed=7, epochs=1, save_path=tmp_path)


def test_what_was_not_trained_says_so(tiny):
    for name in ("EASE", "Popularity"):
        model = MODELS[name].for_dataset(tiny)
        for call in (lambda m=model: evaluate(m, tiny), lambda m=model: m.recommend([[1]])):
            with pytest.raises(InputError, match=f"{name} knows nothing yet"):
                call()


def test_evaluating_before_training_changes_nothing(tiny, tmp_path):
    results = []
    for look in (False, True):
        model = MODELS["LightGCN"].for_dataset(tiny, emb_size=4)
        if look:
            evaluate(model, tiny)
        results.append(train(model, tiny, epochs=2, save_path=tmp_path).test)
    assert results[0] == results[1]


def test_validation_as_input_is_refused_at_once_where_it_does_nothing(tiny, tmp_path):
    model = MODELS["MF"].for_dataset(tiny, emb_size=4)
    with pytest.raises(InputError, match="vectors of their own"):
        evaluate(model, tiny, tst_w_val=True)
    with pytest.raises(InputError, match="vectors of their own"):
        train(model, tiny, tst_w_val=True, save_path=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_is_not_made_shorter(tiny, tmp_path):
    train(small_model(tiny), tiny, epochs=10, save_path=tmp_path, keep_state=True)
    state = next(tmp_path.glob("*.state"))
    with pytest.raises(InputError, match="at epoch 10 already, beyond the 7"):
        train(small_model(tiny), tiny, epochs=7, save_path=tmp_path, resume=True)
    assert state.is_file()


def test_a_resumed_run_writes_its_curve_again(tiny, tmp_path):
    run = train(small_model(tiny), tiny, epochs=10, save_path=tmp_path)
    run.checkpoint.with_suffix(".csv").unlink()
    train(small_model(tiny), tiny, epochs=10, save_path=tmp_path, resume=True)
    assert len(run.checkpoint.with_suffix(".csv").read_text().splitlines()) == 3


def test_a_model_can_be_pickled_after_it_recommended(tiny, tmp_path):
    model = small_model(tiny).eval()
    first = model.recommend([[1, 2]], k=3)
    torch.save(model, tmp_path / "m.pt")
    again = torch.load(tmp_path / "m.pt", weights_only=False)
    assert all(map(torch.equal, first, again.recommend([[1, 2]], k=3)))


@pytest.mark.parametrize("name", ["EASE", "SASRec", "MultiVAE", "DiffRec"])
def test_settings_can_be_pickled(tiny, name):
    model = variant_of(name).model.for_dataset(tiny)
    again = pickle.loads(pickle.dumps(model))
    assert again.settings == model.settings
    assert type(again.settings) is type(model.settings)


def test_what_a_model_was_trained_on_is_known(tiny, tiny_folder, tmp_path):
    """It is not evaluated on its own training data, nor on items that have other numbers, and finds
    items by their raw ids."""
    model = variant_of("EASE").model.for_dataset(tiny)
    assert model.item_ids.to_raw(np.array([3, 0])).tolist() == [3, 0]
    for wrong in ([[0, -1]], [tiny.n_items]):
        with pytest.raises(InputError, match="items are numbered from 0 to 79"):
            model.item_ids.to_raw(np.array(wrong))
    with pytest.raises(InputError, match="numbers of items are integers, not float64"):
        model.item_ids.to_raw(np.array([1.5]))
    for word in ("B0001", 5):
        with pytest.raises(InputError, match=f"ids must be a list of them, got .*{word}"):
            model.item_ids.to_numbers(word)
    with pytest.raises(InputError, match="lr is a setting of training: give it to train"):
        DiffRec.for_dataset(tiny, lr=0.1)
    run = train(model, tiny, save_path=tmp_path)
    loaded = any_model(run.checkpoint)
    for known in (model, loaded):
        assert known.trained_on == tiny.fingerprint()
        words = known.item_ids.to_raw(np.array([3, 0]))
        assert known.item_ids.to_numbers(words) == [3, 0]
        assert evaluate(known, tiny)["test"] == run.test
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    items = pd.read_csv(other / "item_map.csv")
    items.assign(item=items["item"].to_numpy()[::-1]).to_csv(other / "item_map.csv", index=False)
    np.save(other / "test_list.npy", np.load(other / "test_list.npy")[:-1])
    with pytest.raises(InputError, match="have other numbers than in the data of the model"):
        evaluate(loaded, load_dataset(data_path=other))
    final = train(model, tiny, final=True, save_path=tmp_path)
    for known in (model, any_model(final.checkpoint)):
        with pytest.raises(InputError, match="trained on validation and test of tiny too"):
            evaluate(known, tiny)


def test_data_of_one_name_do_not_share_files(tiny, tiny_folder, tmp_path):
    """Two folders called alike, in two projects say."""
    other = tmp_path / tiny.name
    shutil.copytree(tiny_folder, other)
    np.save(other / "train_list.npy", np.load(other / "train_list.npy")[:-1])
    data = load_dataset(data_path=other)
    assert data.name == tiny.name
    runs = [
        train(variant_of("EASE").model.for_dataset(some), some, save_path=tmp_path / "saved")
        for some in (tiny, data)
    ]
    assert runs[0].checkpoint != runs[1].checkpoint
    assert all(run.checkpoint.is_file() for run in runs)


@pytest.mark.parametrize("wrong", ["a folder", None, 5])
def test_what_is_no_data_set_is_told(tiny, tmp_path, wrong):
    model = small_model(tiny)
    for call in (
        lambda: small_model(wrong), lambda: train(model, wrong), lambda: evaluate(model, wrong),
        lambda: evaluate(tiny, model),
    ):  # fmt: skip
        with pytest.raises(InputError, match="data must be a Dataset, as load_dataset gives it"):
            call()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"k": 5.0}, "k must be an integer"), ({"k": 0}, "k must be at least 1"),
        ({"batch_size": -5}, "batch_size must be at least 1"),
        ({"min_history": "2"}, "min_history must be an integer"),
        ({"categories": ["a"] * 9, "per_category": 1.5}, "per_category must be an integer"),
        ({"categories": 5, "per_category": 1}, "categories must hold one for each"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_recommend(tiny, wrong, words):
    with pytest.raises(InputError, match=words):
        small_model(tiny).recommend([[1, 2]], **wrong)


def test_pairs_must_be_of_what_there_is():
    rows = Interactions.from_pairs([[1, 4], [0, 2], [1, 3]], 3, 5)
    assert rows.items.tolist() == [2, 4, 3]
    assert Interactions.from_pairs([], 3, 5).lengths.tolist() == [0, 0, 0]
    for wrong, words in (
        ([[0, -1]], "there is no item -1: they run from 0 to 4"),
        ([[3, 0]], "there is no user 3"), ([[0, 0.5]], "pairs must be"), ([0, 1], "pairs must be"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Interactions.from_pairs(wrong, 3, 5)


def test_histories_of_any_integers(tiny):
    model = small_model(tiny).eval()
    right = model.recommend([[3, 5]], k=4)[0]
    for same in ([[3, 3, 5]], torch.tensor([[3, 5]]), np.array([[3, 5]]), [(3, 5)]):
        assert torch.equal(model.recommend(same, k=4)[0], right)
    for wrong in ([3, 5], [[1.7]], [["a"]]):
        with pytest.raises(InputError, match="list of lists of item ids"):
            model.recommend(wrong)


# Curves


def test_the_history_is_in_the_record_and_beside_the_checkpoint(tiny, tmp_path):
    run = train(small_model(tiny), tiny, epochs=12, eval_every=3, save_path=tmp_path)
    assert [row["epoch"] for row in run.history] == [3, 6, 9, 12]
    best = run.history[run.best_epoch // 3 - 1]
    assert {k: best[k] for k in run.valid} == run.valid
    assert all(row["loss"] > 0 for row in run.history)
    rows = list(csv.DictReader(run.checkpoint.with_suffix(".csv").open()))
    assert [float(row["recall@20"]) for row in rows] == [row["recall@20"] for row in run.history]


def test_curves_for_tensorboard(tiny, tmp_path, monkeypatch):
    drawn = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_scalar(self, name, value, step):
            drawn.append((self.folder.parent.name, name, value, step))

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    where = {"save_path": tmp_path, "tensorboard": tmp_path / "board", "keep_state": True}
    run = train(small_model(tiny), tiny, epochs=10, **where)
    assert ("board", "valid/recall@20", run.history[0]["recall@20"], 5) in drawn
    assert ("board", "loss", run.history[1]["loss"], 10) in drawn
    before = len(drawn)  # a run that goes on draws what was before too
    train(small_model(tiny), tiny, epochs=15, resume=True, **where)
    assert len(drawn) == before + before * 3 // 2
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        train(small_model(tiny), tiny, epochs=20, resume=True, **where)


@pytest.mark.parametrize("noise", [{}, {"sampling_steps": 2, "sampling_noise": True}])
def test_lengthening_a_run_that_ended_before_its_first_evaluation(tiny, tmp_path, noise):
    """Its one evaluation is dropped, and the random numbers of it: it ends as a run that was as
    long from the start."""
    whole = train(small_model(tiny, **noise), tiny, epochs=20, save_path=tmp_path / "a")
    where = {"save_path": tmp_path / "b"}
    short = train(small_model(tiny, **noise), tiny, epochs=3, keep_state=True, **where)
    assert [row["epoch"] for row in short.history] == [3]
    longer = train(small_model(tiny, **noise), tiny, epochs=20, resume=True, **where)
    assert longer.history == whole.history
    assert longer.test == whole.test
    again = train(small_model(tiny), tiny, epochs=3, save_path=tmp_path / "c")
    same = train(small_model(tiny), tiny, epochs=3, save_path=tmp_path / "c", resume=True)
    assert same.history == again.history  # not lengthened: kept


# Models of one's own


class Constant(Recommender):
    """Scores by a vector b of the items, trained by least squares."""

    variant = "Constant"

    class Settings(Recommender.Settings):
        start: float = setting(0.0, "where b starts")

    class Training(Recommender.Training):
        rate: float = setting(0.1, "learning rate")

    def make(self, settings):
        self.b = nn.Parameter(torch.full((self.n_items,), settings.start))

    def optimizers(self, training):
        return [torch.optim.SGD(self.parameters(), training.rate)]

    def training_loss(self, batch):
        return (batch.dense() - self.b).square().mean()

    def scorer(self):
        return lambda batch: self.b.repeat(len(batch), 1)


@pytest.fixture
def registered(tmp_path):
    before = dict(REGISTRY)
    register(Variant(Constant, tmp_path, dict, run_name={"from": "start"}))
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def test_a_model_of_ones_own(tiny, tmp_path, registered):
    model = Constant.for_dataset(tiny, start=0.5)
    run = train(model, tiny, epochs=6, rate=0.5)
    assert run.checkpoint.parent == tmp_path / "saved_models"
    assert run.checkpoint.name == "Constant_tiny_seed1_" + run.checkpoint.name[-20:]
    assert any_model(run.checkpoint).settings.start == 0.5
    assert run.record["settings"]["rate"] == 0.5
    with pytest.raises(InputError, match="there is no model Other: choose from DiffRec"):
        variant_of("Other")


def test_a_noise_schedule_of_ones_own(tiny):
    """All tables follow from its β."""

    class Equal(GaussianDiffusion):
        def betas(self, noise_schedule, steps, *others):
            return torch.full((steps,), 0.25, dtype=torch.float64)

    class Own(DiffRec):
        Diffusion = Equal

    diffusion = Own(tiny.n_items, steps=3, beta_fixed=False).diffusion
    alpha_bar = 0.75 ** torch.arange(1.0, 4.0, dtype=torch.float64)
    torch.testing.assert_close(diffusion.alpha_bar, alpha_bar)
    torch.testing.assert_close(diffusion.posterior_variance[1], 0.25 * 0.25 / (1 - alpha_bar[1]))


class Forgetful(Recommender):
    """It has parameters, and nothing else that a model needs."""

    variant = "Forgetful"

    def make(self, settings):
        self.b = nn.Parameter(torch.zeros(self.n_items))


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({}, NotImplementedError, "Own needs optimizers, or OptimizerSettings"),
        ({"Training": OptimizerSettings}, NotImplementedError, "Own needs training_loss"),
        ({"optimizers": lambda self, _: torch.optim.SGD(self.parameters())}, InputError, "a list"),
        ({"Training": OptimizerSettings, "training_loss": lambda self, batch: self.b.square()},
         InputError, "training_loss of Own must be a single number"),
        ({"Training": OptimizerSettings, "training_loss": lambda self, batch: self.b.sum()},
         NotImplementedError, "Own needs scorer"),
        ({"Training": OptimizerSettings, "training_loss": lambda self, batch: self.b.sum(),
          "scorer": lambda self: lambda batch: np.zeros((len(batch), batch.n_items))},
         InputError, "a scorer must give a tensor, but gave ndarray"),
    ],
)  # fmt: skip
def test_what_a_model_of_ones_own_lacks(tiny, tmp_path, monkeypatch, parts, error, words):
    kind = type("Own", (Forgetful,), {"variant": "Own", **parts})
    monkeypatch.setitem(REGISTRY, "Own", Variant(kind, tmp_path, dict))
    with pytest.raises(error, match=words):
        train(kind.for_dataset(tiny), tiny, epochs=1, save_path=tmp_path)


def test_a_model_is_built_for_a_data_set_and_loaded_by_its_class(tiny, tmp_path):
    with pytest.raises(InputError, match=r"DiffRec\.for_dataset builds a model"):
        DiffRec(tiny)
    run = train(small_model(tiny), tiny, epochs=1, save_path=tmp_path)
    assert type(Recommender.load(run.checkpoint)) is DiffRec
    assert tiny.train.rows([3, 1]).lengths.tolist() == tiny.train.lengths[[3, 1]].tolist()


class Tied(Constant):
    """x W Wᵀ, with W under two names."""

    variant = "Tied"

    def make(self, settings):
        self.inward = nn.Linear(4, self.n_items, bias=False)
        self.outward = nn.Linear(4, self.n_items, bias=False)
        self.outward.weight = self.inward.weight

    def training_loss(self, batch):
        return (batch.dense() - self.scorer()(batch)).square().mean()

    def scorer(self):
        return lambda batch: self.outward(batch.dense() @ self.inward.weight)


def test_weights_of_two_names(tiny, tmp_path, monkeypatch):
    """They are learned, written, read and learned again as one."""
    monkeypatch.setitem(REGISTRY, "Tied", Variant(Tied, tmp_path, dict))
    model = Tied.for_dataset(tiny)
    run = train(model, tiny, epochs=4, rate=0.5, save_path=tmp_path)
    loaded = any_model(run.checkpoint)
    assert evaluate(loaded, tiny) == evaluate(model, tiny)
    assert loaded.outward.weight is loaded.inward.weight
    assert loaded.size() == 4 * tiny.n_items
    again = [train(m, tiny, epochs=3, save_path=tmp_path).history for m in (model, loaded)]
    assert again[0] == again[1]


def test_who_watches_a_training_draws_no_numbers_of_it(tiny, tmp_path):
    about = {"epochs": 3, "eval_every": 1, "save_path": tmp_path}
    plain = train(DiffRec.for_dataset(tiny, **SMALL), tiny, **about)

    def watch(row):
        torch.rand(3)
        DiffRec.for_dataset(tiny, seed=7, **SMALL)
        DiffRec.load(plain.checkpoint)

    watched = train(DiffRec.for_dataset(tiny, **SMALL), tiny, on_evaluation=watch, **about)
    assert watched.history == plain.history


def test_what_is_no_path_or_function_is_one_sentence(tiny):
    model = DiffRec.for_dataset(tiny, **SMALL)
    for call, words in (
        (lambda: load_dataset(data_path=5), "data_path is a folder's path, not int"),
        (lambda: DiffRec.load(None), "a checkpoint is named by its path, not NoneType"),
        (lambda: train(model, tiny, on_evaluation=5), "on_evaluation is a function, not int"),
        (
            lambda: LDiffRec.for_dataset(tiny, n_cate=2, emb_path=np.eye(3)),
            "emb_path is the path of a file, not ndarray",
        ),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_one_that_was_stopped_is_fresh_no_more(tiny, tmp_path):
    """Its next training has files of its own; with resume the one that was stopped goes on."""
    about = {"epochs": 6, "eval_every": 2, "save_path": tmp_path}

    def stop(row):
        if row["epoch"] == 4:
            raise KeyboardInterrupt

    def stopped(model):
        with pytest.raises(KeyboardInterrupt):
            train(model, tiny, on_evaluation=stop, **about)
        return model

    whole = train(DiffRec.for_dataset(tiny, **SMALL), tiny, **about)
    model = stopped(DiffRec.for_dataset(tiny, **SMALL))
    again = train(model, tiny, **about)
    assert again.record["went_on"]
    assert again.checkpoint != whole.checkpoint
    model = stopped(DiffRec.for_dataset(tiny, **SMALL))
    resumed = train(model, tiny, resume=True, **about)
    assert resumed.record["history"] == whole.record["history"]
    assert resumed.checkpoint == whole.checkpoint
    assert train(model, tiny, resume=True, **about).history == whole.history  # its result again

    second = train(DiffRec.load(whole.checkpoint), tiny, **about)
    model = stopped(DiffRec.load(whole.checkpoint))
    assert train(model, tiny, resume=True, **about).history == second.history
    third = train(model, tiny, **about)
    names = {run.checkpoint.name for run in (whole, again, second, third)}
    assert len(names) == 4
    loaded = train(DiffRec.load(whole.checkpoint), tiny, resume=True, lr=0.02, **about)
    assert loaded.record["went_on"]
    assert "_more-" in loaded.checkpoint.name
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="no numbers any more: make a new one"):
        train(model, tiny, **about)


@pytest.mark.parametrize("kind", [bool, np.bool_, torch.tensor])
def test_a_function_may_end_a_training(tiny, tmp_path, kind):
    """Whose truth is; and it has a result like any other."""
    about = {"epochs": 9, "eval_every": 1, "save_path": tmp_path, "log_name": "ended"}
    answers = about | {"on_evaluation": lambda row: kind(row["epoch"] == 3)}
    model = DiffRec.for_dataset(tiny, **SMALL)
    run = train(model, tiny, **answers)
    assert run.record["epochs"] == 3
    assert run.checkpoint.is_file()
    assert evaluate(model, tiny)["valid"] == pytest.approx(run.valid)
    for given in (about, answers):
        again = train(DiffRec.for_dataset(tiny, **SMALL), tiny, resume=True, **given)
        assert (again.history, again.test) == (run.history, run.test)
    kept = train(DiffRec.for_dataset(tiny, **SMALL), tiny, keep_state=True, **answers)
    assert kept.record["ended"]
    longer = train(DiffRec.for_dataset(tiny, **SMALL), tiny, resume=True, **about)
    assert longer.record["epochs"] == 9  # from the state that was kept
    assert "ended" not in longer.record
    whole = train(DiffRec.for_dataset(tiny, **SMALL), tiny, **{**about, "log_name": "whole"})
    assert (longer.history, longer.test) == (whole.history, whole.test)


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (True, True), (np.True_, True), (np.array([True]), True), (torch.tensor(True), True),
        (torch.tensor([[True]]), True), (torch.ones(1, dtype=torch.bool, device="meta"), None),
        (None, False), (False, False), (1, False), ("yes", False), ([[1], [2, 3]], False),
        (np.zeros(0, bool), False), (torch.ones(2, dtype=torch.bool), False), (np.ones(1), False),
        (torch.ones(1, requires_grad=True), False), (np.False_, False),
    ],
)  # fmt: skip
def test_what_ends_a_training_is_true(answer, ends):
    if ends is None:  # no number can be had of it
        with pytest.raises(RuntimeError):
            is_true(answer)
    else:
        assert is_true(answer) is ends


def test_an_ended_run_that_was_killed_before_its_result_is_done(tiny, tmp_path, monkeypatch):
    about = {"epochs": 9, "eval_every": 1, "save_path": tmp_path}
    about["on_evaluation"] = lambda row: row["epoch"] == 3

    def killed(self, record, keep_state):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        train(small_model(tiny), tiny, **about)
    monkeypatch.undo()
    run = train(small_model(tiny), tiny, resume=True, **about)
    assert (run.record["epochs"], run.record["ended"]) == (3, True)


def test_a_training_that_is_refused_has_not_begun(tiny, tmp_path):
    model = small_model(tiny)
    for wrong in ({"patience": 3}, {"metrics": ["gini"]}, {"lr": -1}):
        with pytest.raises(InputError):
            train(model, tiny, epochs=9, save_path=tmp_path, **wrong)
    no_validation = dataclasses.replace(tiny, valid=tiny.valid.slice(0, 0))
    with pytest.raises((InputError, ValueError, IndexError)):
        train(model, no_validation, save_path=tmp_path)
    run = train(model, tiny, epochs=1, save_path=tmp_path)
    assert "_more-" not in run.checkpoint.name


def test_pickles_and_buffers_of_a_fresh_model(tiny, tmp_path):
    """One from before digests were kept is no fresh one for sure; other buffers are other weights,
    but not those that an evaluation leaves."""
    old = small_model(tiny)
    old.seeded = old.seeded[:2]
    again = pickle.loads(pickle.dumps(old))
    assert "_more-" in train(again, tiny, epochs=1, save_path=tmp_path).checkpoint.name
    light = variant_of("LightGCN").model
    fresh = light.for_dataset(tiny, emb_size=4)
    evaluate(fresh, tiny)
    assert "_more-" not in train(fresh, tiny, epochs=1, save_path=tmp_path).checkpoint.name
    other = small_model(tiny)
    other.register_buffer("prior", torch.ones(3))
    assert "_more-" in train(other, tiny, epochs=1, save_path=tmp_path).checkpoint.name


def test_other_first_weights_are_another_run(tiny, tmp_path, caplog):
    """Such as pretrained ones, or those that a constructor drew: no seed makes them again."""
    about = {"epochs": 3, "eval_every": 1, "save_path": tmp_path}
    plain = train(DiffRec.for_dataset(tiny, **SMALL), tiny, **about)
    donor = train(DiffRec.for_dataset(tiny, seed=5, **SMALL), tiny, **about)

    def begun():
        model = DiffRec.for_dataset(tiny, **SMALL)
        model.load_state_dict(DiffRec.load(donor.checkpoint).state_dict())
        return model

    run = train(begun(), tiny, **about)
    assert "are not those of for_dataset: it begins with them" in caplog.text
    assert run.record["went_on"]
    assert run.checkpoint.name.startswith(f"{plain.checkpoint.stem}_more-")
    assert run.history != plain.history
    resumed = train(begun(), tiny, resume=True, **about)
    assert (resumed.history, resumed.checkpoint) == (run.history, run.checkpoint)
    built = []
    for seed in (98, 99):
        torch.manual_seed(seed)
        built.append(train(DiffRec(tiny.n_items, **SMALL), tiny, **about).checkpoint)
    assert len({*built, plain.checkpoint, run.checkpoint}) == 4
    assert DiffRec.load(plain.checkpoint).digest() != DiffRec.load(built[0]).digest()
    moved = DiffRec.for_dataset(tiny, **SMALL)
    evaluate(moved.to("cpu"), tiny)
    assert train(moved, tiny, **about).checkpoint == plain.checkpoint


def test_less_patience_makes_no_run_shorter(tiny, tmp_path):
    """Less patience would have ended it before, with another best epoch perhaps."""
    about = {"epochs": 40, "eval_every": 1, "lr": 0.05, "save_path": tmp_path, "keep_state": True}
    patient = train(small_model(tiny), tiny, patience=12, **about)
    rises = [row["epoch"] for row in patient.history]
    assert patient.record["epochs"] == patient.best_epoch + 11
    with pytest.raises(InputError, match="where patience 2 would have ended it"):
        train(small_model(tiny), tiny, patience=2, resume=True, **about)
    next(tmp_path.glob("*.state")).unlink()
    with pytest.raises(InputError, match="where patience 11 would have ended it"):
        train(small_model(tiny), tiny, patience=11, resume=True, **about)
    again = train(small_model(tiny), tiny, patience=12, resume=True, **about)
    assert [row["epoch"] for row in again.history] == rises

    # What is compared is rounded, and a rise in the last epoch of the patience is too late.
    training = types.SimpleNamespace(settings=types.SimpleNamespace(
        patience=3, select_by="r", selection_decimals=4))  # fmt: skip
    training.compared = functools.partial(Training.compared, training)

    def end_of(*values, every=1):
        rows = [{"epoch": every * n, "r": value} for n, value in enumerate(values, 1)]
        return Training.end_of(training, types.SimpleNamespace(history=rows))

    assert end_of(0.1, 0.2, 0.1) == 4
    assert end_of(0.1, 0.2, 0.1, 0.3) == 6  # in the 4th epoch: just in time
    assert end_of(0.1, 0.2, 0.1, 0.1, 0.3) == 4
    assert end_of(0.1, 0.10001, 0.1) == 3
    assert end_of(0.1, 0.2, every=2) == 6

    # Nobody is kept from less patience where it has not run out.
    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    some = {**about, "log_name": "less"}
    with pytest.raises(KeyboardInterrupt):
        train(small_model(tiny), tiny, patience=30, on_evaluation=stop, **some)
    less = train(small_model(tiny), tiny, patience=4, resume=True, **some)
    fresh = train(small_model(tiny), tiny, patience=4, **{**some, "log_name": "fresh"})
    assert (less.best_epoch, less.history) == (fresh.best_epoch, fresh.history)


def test_a_state_without_its_best_model_is_told_at_once(tiny, tmp_path):
    about = {"eval_every": 1, "lr": 0.05, "patience": 40, "save_path": tmp_path, "keep_state": True}
    run = train(small_model(tiny), tiny, epochs=40, **about)
    assert run.best_epoch < 40
    run.checkpoint.unlink()
    with pytest.raises(InputError, match=r"is gone, and .* does not hold the best model"):
        train(small_model(tiny), tiny, epochs=60, resume=True, **about)


def test_stopped_runs_of_other_settings_are_told(tiny, tmp_path, caplog):
    """To whom asks to resume and changed a setting since."""
    caplog.set_level(logging.INFO)
    about = {"eval_every": 1, "save_path": tmp_path, "keep_state": True}
    run = train(small_model(tiny), tiny, epochs=1, **about)
    train(small_model(tiny), tiny, epochs=2, lr=0.5, resume=True, **about)
    assert f"(of other settings, data or weights: {run.checkpoint.name}.state)" in caplog.text
    caplog.clear()
    train(small_model(tiny), tiny, epochs=2, resume=True, **about)
    assert "resumed after epoch 1" in caplog.text
    assert "of other settings" not in caplog.text


def test_names_and_optimisers_that_do_not_fit(tiny, tmp_path):
    odd = dataclasses.replace(tiny, name="a/b")
    with pytest.raises(InputError, match="must be one that a file can have: a/b"):
        train(small_model(odd), odd, epochs=1, save_path=tmp_path)

    class Closed(DiffRec):
        variant = "Closed"

        def optimizers(self, training):
            return [torch.optim.LBFGS(self.parameters())]

    register(Variant(Closed, tmp_path, dict))
    try:
        with pytest.raises(InputError, match="LBFGS asks for the loss several times"):
            train(Closed.for_dataset(tiny, **SMALL), tiny, epochs=1, save_path=tmp_path)
    finally:
        del REGISTRY["Closed"]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_files_of_split_items_are_not_passed_over(tiny, tmp_path):
    run = train(small_model(tiny), tiny, epochs=1, save_path=tmp_path)
    for suffix in (".state", ""):
        part = checkpoints.part_path(run.checkpoint, 0, 2)
        part = part.with_name(part.name + suffix)
        part.write_bytes(b"")
        with pytest.raises(InputError, match="is of this run with its items split"):
            train(small_model(tiny), tiny, epochs=1, save_path=tmp_path, resume=True)
        part.unlink()


@pytest.mark.parametrize("shown", [None, True, False])
def test_bars_on_request(tiny, tmp_path, capsys, shown):
    """By default in a terminal alone."""
    train(DiffRec.for_dataset(tiny, **SMALL), tiny, epochs=1, save_path=tmp_path, progress=shown)
    assert ("training: 100%" in capsys.readouterr().err) == bool(shown)


def test_a_model_that_goes_on_has_files_of_its_own(tiny, tmp_path, caplog):
    """As a cell of a notebook does that is run twice."""
    model = DiffRec.for_dataset(tiny, **SMALL)
    runs = []
    for expected in ((), ("the model was trained before: it goes on from its weights",)):
        caplog.clear()
        runs.append(train(model, tiny, epochs=2, save_path=tmp_path))
        assert all(words in caplog.text for words in expected)
    assert re.fullmatch(rf"{runs[0].checkpoint.stem}_more-[0-9a-f]{{6}}", runs[1].checkpoint.stem)
    assert runs[1].record["went_on"]
    assert "went_on" not in runs[0].record
    ease = variant_of("EASE").model.for_dataset(tiny)  # which is computed anew
    first, second = (train(ease, tiny, save_path=tmp_path).checkpoint for _ in range(2))
    assert first == second
    other = dataclasses.replace(tiny, path=tmp_path / "other")
    other.path.mkdir()
    lines = "".join(f"y{n},{n}\n" for n in range(tiny.n_items))
    (other.path / "item_map.csv").write_text(f"raw_item,item\n{lines}")
    other = dataclasses.replace(other, train=tiny.valid)
    with pytest.raises(InputError, match="have other numbers"):
        train(model, other, epochs=1, save_path=tmp_path)


def test_a_name_is_that_of_one_class(tiny, tmp_path):
    """Else the files of one would be taken for the other's."""

    class Mine(DiffRec):
        def training_loss(self, batch):
            return 2 * super().training_loss(batch)

    with pytest.raises(InputError, match="Mine calls itself DiffRec, which is DiffRec's name"):
        train(Mine.for_dataset(tiny, **SMALL), tiny, save_path=tmp_path)
    anew = type("DiffRec", (DiffRec,), {})
    with pytest.raises(InputError, match="DiffRec was defined anew: register it again"):
        train(anew.for_dataset(tiny, **SMALL), tiny, save_path=tmp_path)
    compiled = torch.compile(DiffRec.for_dataset(tiny, **SMALL))
    with pytest.raises(InputError, match="train a model itself, with compile=True"):
        train(compiled, tiny, save_path=tmp_path)
    with pytest.raises(InputError, match="Mine is a class"):
        train(Mine, tiny, save_path=tmp_path)
    with pytest.raises(InputError, match="DiffRec is a class"):
        evaluate(DiffRec, tiny)
    with pytest.raises(InputError, match="train takes a model, not str"):
        train("DiffRec", tiny, save_path=tmp_path)
    with pytest.raises(InputError, match="named by its path, not int"):
        any_model(3)


@pytest.mark.parametrize("n_items", [0, -1, 2.5, "a"])
@pytest.mark.parametrize("model", [DiffRec, LDiffRec])
def test_a_model_has_items(model, n_items):
    with pytest.raises(InputError, match="n_items must be"):
        model(n_items)


@pytest.mark.parametrize(
    "clusters",
    [[0, 1] * 5, torch.tensor([0, 1]), torch.zeros(10), torch.full((10,), -1)],
    ids=["list", "short", "float", "negative"],
)
def test_each_item_has_a_cluster(clusters):
    with pytest.raises(InputError, match="clusters must be a tensor of 10 int64 numbers"):
        LDiffRec(10, n_cate=2, clusters=clusters)


def test_rows_of_other_items_are_refused(tiny):
    model = small_model(tiny)
    for n_items in (3, 100):
        rows = Interactions.from_histories([[1, 2]], n_items)
        with pytest.raises(InputError, match=f"history is of {n_items} items, the model of 80"):
            model.recommend(rows)
        with pytest.raises(InputError, match=f"disliked is of {n_items} items, the model of 80"):
            model.recommend([[1]], disliked=rows)
    assert [len(part[0]) for part in (model.recommend([[1]], k=99)[0],)] == [80]
    assert model.recommend([], k=99)[0].shape == (0, 80)


def test_a_network_returns_what_it_is_given(tiny):
    class OneNumber(DiffRec):
        def make_networks(self, settings):
            self.dnn = lambda x_t, t: x_t.mean(dim=1, keepdim=True)

    with pytest.raises(ValueError, match=r"must return that shape, but returned \(5, 1\)"):
        OneNumber(tiny.n_items, **SMALL).training_loss(tiny.train.slice(0, 5))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"seed": setting(3, "a seed")}, "has the setting seed, which all commands have"),
        ({"k": setting(3, "a size")}, "has the setting k, which all commands have"),
        ({"rate": 0.5}, r"rate must be a setting\(default, help\)"),
        ({"ema": setting(0.9, "of mine")}, "has the setting ema, which is one of training or data"),
        ({"sizes": setting((8, 4), "sizes")}, "a flag could not give its default"),
        ({"ranges": {"strat": [1]}}, "has a range for strat, which is no setting"),
        ({"ranges": {"start": 5}}, "range of start must be a list, or Between"),
        ({"variant": "a/b"}, "variant must be a word that a file's name can hold"),
        ({"variant": None}, "Own needs a variant, a name of its own"),
    ],
)
def test_what_no_command_could_take_is_not_registered(tmp_path, parts, words):
    parts = dict(parts)
    ranges, name = parts.pop("ranges", {}), parts.pop("variant", "Own")
    own_name = {} if name is None else {"variant": name}
    kinds = {name: tuple[int, ...] if name == "sizes" else float for name in parts}
    fields = {"__annotations__": kinds, "__module__": __name__, **parts}
    own = type("Own", (Constant.Settings,), fields)
    model = type("Own", (Constant,), {**own_name, "Settings": own, "ranges": ranges})
    with pytest.raises(InputError, match=words):
        register(Variant(model, tmp_path, dict))
    assert "Own" not in REGISTRY


def test_what_would_do_nothing_is_said(tiny, tmp_path):
    """It would be taken for a model with weights."""
    kind = variant_of("EASE").model
    with pytest.raises(InputError, match="w_min does nothing while w_at is none"):
        kind.for_dataset(tiny, w_min=0.3)
    assert kind.for_dataset(tiny, w_min=0.3, w_at="inference").settings.w_min == 0.3
    assert kind.for_dataset(tiny, **kind.Settings().dump()).settings.w_at == "none"
    with pytest.raises(InputError, match="lr_factor does nothing while lr_step is 0"):
        train(small_model(tiny), tiny, lr_factor=0.5, save_path=tmp_path)


def test_another_spelling_of_a_flag_is_told(tiny):
    with pytest.raises(InputError, match="no setting learning_rate: did you mean lr"):
        train(small_model(tiny), tiny, learning_rate=0.1)


def test_defaults_are_checked_as_values_are():
    for wrong, words in (({"strat": 1.0}, "no setting strat: did you"), ({"start": "x"}, "a numb")):
        with pytest.raises(InputError, match=words):
            type("Own", (Constant.Settings,), {"defaults": wrong, "__module__": __name__})


def test_the_seed_is_that_of_the_first_weights(tiny, tmp_path):
    runs = [
        train(small_model(tiny, seed=3), tiny, epochs=3, save_path=tmp_path / str(n), **more)
        for n, more in enumerate(({}, {"seed": 3}))
    ]
    assert [run.record["seed"] for run in runs] == [3, 3]
    assert runs[0].history == runs[1].history
    model = small_model(tiny, seed=3)
    with pytest.raises(InputError, match="drawn with seed 3: give for_dataset seed=4 too"):
        train(model, tiny, seed=4, save_path=tmp_path)
    train(model, tiny, epochs=3, save_path=tmp_path)
    assert train(model, tiny, seed=4, epochs=3, save_path=tmp_path).record["seed"] == 4


def test_training_goes_through_the_module_itself(tiny, tmp_path):
    """So that a wrapper of torch around it fits."""
    model = small_model(tiny)
    calls = []
    model.register_forward_hook(lambda module, args, output: calls.append(output.ndim))
    train(model, tiny, epochs=1, batch_size=50, save_path=tmp_path)
    assert calls == [0] * 3


def test_one_list_of_models(tiny):
    """Whoever wants to know of a model asks the registry, and finds all there is to know."""
    ours = {"DiffRec", "L-DiffRec", "T-DiffRec", "LT-DiffRec"}
    assert {v.name for v in REGISTRY.values() if v.group == "ours"} == ours
    for name, variant in REGISTRY.items():
        assert variant.name == name == variant.model.variant
        assert (variant.folder / "main.py").is_file()
        for preset in variant.known_presets():
            variant.settings.of(variant.preset(preset))
    assert {v.name for v in REGISTRY.values() if v.read_released} == ours | {"GiffCF"}


def test_the_public_names():
    for name in package.__all__:
        assert hasattr(package, name)
    assert package.load_dataset is load_dataset


def test_older_runs_settings_have_a_place_today():
    assert checkpoints.migrated({"timestamps": None, "steps": 5}, 1) == {"steps": 5}
    with pytest.raises(InputError, match="give it as --timestamps"):
        checkpoints.migrated({"timestamps": "/some/file.npy"}, 1)
    assert checkpoints.migrated({"steps": 5}, checkpoints.FORMAT) == {"steps": 5}
