"""T-DiffRec and LT-DiffRec: the weights by hand, and what they leave alone."""

import json

import numpy as np
import pytest
import torch

from baselines.models import MODELS
from DiffRec import DiffRec, Interactions, evaluate, load_dataset, train
from DiffRec.engine.commands import parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.variant import variant_of
from T_DiffRec import LTDiffRec, TDiffRec, order_by_time
from T_DiffRec.data_utils import time_weights, weigh


def weighted_by(dataset, w_min, w_valid="released"):
    return weigh(dataset, w_min, 1.0, "linear", w_valid)


def rows(*histories, n_items=9):
    return Interactions.from_histories([list(history) for history in histories], n_items)


def test_linear_weights_by_hand():
    """Three interactions from .1 to 1: .1, .55, 1; two: .1, 1; one: .1, as released; none."""
    weights = time_weights(rows([3, 1, 2], [5, 4], [7], []), 0.1, 1.0)
    torch.testing.assert_close(weights, torch.tensor([0.1, 0.55, 1.0, 0.1, 1.0, 0.1]))


def test_exponential_weights_by_hand():
    weights = time_weights(rows([3, 1, 2]), 0.25, 1.0, "exponential")
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.5, 1.0]))


@pytest.mark.parametrize(
    ("w_min", "w_max", "schedule", "words"),
    [
        (-0.1, 1, "linear", r"\[0, 1\]"),
        (0.1, 1.1, "linear", r"\(0, 1\]"),
        (0, 0, "linear", r"\(0, 1\]"),
        (0.9, 0.5, "linear", "w_min must not exceed w_max"),
        (0, 1, "exponential", "above 0"),
    ],
)
def test_wrong_weights(w_min, w_max, schedule, words):
    with pytest.raises(InputError, match=words):
        time_weights(rows([1, 2]), w_min, w_max, schedule)


@pytest.mark.parametrize("w_min", [0.0, 0.3])
def test_masks_and_truth_ignore_the_weights(tiny, w_min):
    """Even an item of weight 0 is masked, and the metrics see the unweighted lists."""
    weighted = weighted_by(tiny, w_min)
    dense = weighted.train.dense()
    assert dense.max() == 1
    first = [row.items[0].item() for row in (tiny.train.slice(u, u + 1) for u in range(9))]
    assert dense[range(9), first].tolist() == pytest.approx([w_min] * 9)
    shown = []

    def scorer(batch):
        shown.append(batch.dense())
        return tiny.train.dense() * 9 + tiny.valid.dense() * 2 + tiny.test.dense()

    report = evaluate(scorer, weighted, [1], batch_size=10**6, metric_users="with_items")
    assert torch.equal(shown[0], dense)
    # what was seen is scored highest, and was masked
    assert report["valid"]["precision@1"] == 1
    assert report["test"]["precision@1"] == 1


def test_the_input_of_a_test_with_validation(save_lists):
    dataset = load_dataset(
        data_path=save_lists([(0, 0), (0, 1), (1, 3)], [(0, 2), (1, 2)], [(1, 0)])
    )
    released = weighted_by(dataset, 0.5)
    assert released.input_rows(True).dense().tolist() == [[0.5, 1, 1, 0], [0, 0, 1, 0.5]]
    redrawn = weighted_by(dataset, 0.5, "redrawn")
    assert redrawn.input_rows(True).dense().tolist() == [[0.5, 0.75, 1, 0], [0, 0, 1, 0.5]]
    assert torch.equal(redrawn.train.dense(), released.train.dense())


def test_timestamps_beat_the_lists_order(save_lists, tmp_path):
    folder = save_lists([(0, 0), (1, 3), (0, 1), (0, 2)], [(0, 3)], [(1, 0)])
    np.save(tmp_path / "times.npy", np.array([30.5, 1, 10, 20]))
    ordered = order_by_time(load_dataset(data_path=folder), tmp_path / "times.npy")
    assert ordered.train.items.tolist() == [1, 2, 0, 3]
    # Also where all lists are one, and the folder has other times.
    for name, count in (("train", 4), ("valid", 1), ("test", 1)):
        np.save(folder / f"{name}_times.npy", np.arange(count))
    assert ordered.everything().train.items.tolist() == [1, 2, 0, 3, 3, 0]
    for wrong, words in (
        (np.zeros(3), "each of the 4 rows"),
        (np.array([1, np.nan, 2, 3]), "row 1"),
        (np.array(["a"] * 4), "number"),
    ):
        np.save(tmp_path / "times.npy", wrong)
        with pytest.raises(InputError, match=words):
            order_by_time(load_dataset(data_path=folder), tmp_path / "times.npy")
    with pytest.raises(InputError, match="there is no file"):
        order_by_time(load_dataset(data_path=folder), tmp_path / "none.npy")


def test_recommending_weighs_raw_histories(tiny):
    model = TDiffRec(tiny.n_items, dims=[8], steps=2)
    weighted = model.prepare_data(tiny).train.slice(0, 5)
    raw = [tiny.train.slice(u, u + 1).items.tolist() for u in range(5)]
    expected, found = model.recommend(weighted, k=3), model.recommend(raw, k=3)
    assert torch.equal(expected[0], found[0])
    torch.testing.assert_close(expected[1], found[1])
    backwards, _ = model.recommend([history[::-1] for history in raw], k=3)
    assert not torch.equal(backwards, expected[0])


@pytest.mark.parametrize("model", [TDiffRec, LTDiffRec])
def test_presets_build(model):
    variant = variant_of(model.variant)
    assert set(variant.published_presets()) == {"amazon-book_clean", "yelp_clean", "ml-1m_clean"}
    for name in variant.known_presets():
        settings, _ = parse(variant, ["--preset", name])
        assert model(600, settings).settings.w_max == 1


def test_moving_the_data_moves_what_a_test_is_given(tiny):
    """To another device, for which the meta device stands in."""
    moved = weighted_by(tiny, 0.5, "redrawn").to("meta")
    for part in (moved.train, moved.test, moved.redrawn):
        assert part.items.device.type == "meta"
    assert moved.train.values.device.type == "meta"


SMALL = "--preset none --steps 4 --batch_size 40 --epochs 10 --noise_scale .5".split()
LATENT = "--in_dims [12] --mlp_dims [9] --lr1 .01 --n_cate 1 --lamda .03".split()


@pytest.fixture
def train_by(run, tiny_folder, tmp_path):
    def call(name, script, *flags):
        result = tmp_path / f"{name}.json"
        done = run(
            script, "--data_path", tiny_folder, *SMALL, *flags, "--save_path", tmp_path / name,
            "--result_json", result,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(result.read_text())

    return call


@pytest.mark.parametrize(
    ("plain", "flags", "temporal"),
    [
        ("DiffRec", ["--dims", "[16]", "--lr", ".01"], []),
        ("L-DiffRec", LATENT, ["--latent"]),
    ],
)
def test_with_weights_of_one_nothing_changes(train_by, plain, flags, temporal):
    without = train_by("without", f"{plain}/main.py", *flags)
    ones = train_by("ones", "T-DiffRec/main.py", *flags, *temporal, "--w_min", "1")
    ramp = train_by("ramp", "T-DiffRec/main.py", *flags, *temporal, "--w_min", ".1")
    assert ones["valid"] == without["valid"]
    assert ones["test"] == without["test"]
    assert ramp["test"] != ones["test"]
    assert ones["variant"] == ("LT-DiffRec" if temporal else "T-DiffRec")


@pytest.mark.parametrize(
    "flags", [["--dims", "[16]"], ["--latent", *LATENT, "--w_schedule", "exponential"]]
)
def test_inference_reports_what_training_did(train_by, run, tiny_folder, tmp_path, flags):
    record = train_by("a", "T-DiffRec/main.py", *flags)
    result = tmp_path / "again.json"
    call = [
        "T-DiffRec/inference.py", "--checkpoint", tmp_path / "a" / record["checkpoint"],
        "--data_path", tiny_folder, "--result_json", result,
    ]  # fmt: skip
    done = run(*call)
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text())["test"] == pytest.approx(record["test"])
    done = run(*call, "--w_at", "none")  # its scores read that, whatever it was trained on
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text())["test"] != pytest.approx(record["test"])


@pytest.mark.parametrize("flags", [["--w_min", "2"], ["--w_min", ".9", "--w_max", ".5"]])
def test_a_users_mistake_is_one_sentence_and_exit_code_2(run, tiny_folder, tmp_path, flags):
    done = run(
        "T-DiffRec/main.py", "--data_path", tiny_folder, "--save_path", tmp_path / "s", *flags
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


# Recency for everyone


def test_weights_at_inference_leave_the_training_alone(tiny, tmp_path):
    """The same model, given weighted rows: those of the data, and of raw histories."""
    made = {
        w_at: MODELS["EASE"].for_dataset(tiny, w_at=w_at, w_min=0.2)
        for w_at in ("none", "inference", "both")
    }
    for w_at, model in made.items():
        train(model, tiny, save_path=tmp_path / w_at)
    assert torch.equal(made["none"].weights, made["inference"].weights)
    assert not torch.equal(made["none"].weights, made["both"].weights)
    rows = tiny.train.slice(0, 9)
    weighted = rows.with_values(time_weights(rows, 0.2, 1.0))
    with torch.inference_mode():
        expected = made["none"].scorer()(weighted)
        data = made["inference"].prepare_data(tiny)
        found = made["inference"].scorer()(data.input_rows().slice(0, 9))
    torch.testing.assert_close(found, expected)
    raw = [tiny.train.slice(u, u + 1).items.tolist() for u in range(9)]
    assert torch.equal(made["inference"].recommend(raw, k=3)[0], made["none"].recommend(
        weighted, k=3)[0])  # fmt: skip
    results = [evaluate(model, tiny)["test"] for model in made.values()]
    assert results[0] != results[1] != results[2] != results[0]
    assert data.train.values is None
    assert data.input_rows(True).values is not None


def test_t_diffrec_without_weights_is_diffrec(tiny, tmp_path):
    how = {"dims": [8], "steps": 2}
    plain = train(DiffRec.for_dataset(tiny, **how), tiny, epochs=5, save_path=tmp_path)
    none = train(TDiffRec.for_dataset(tiny, w_at="none", **how), tiny, epochs=5,
                 save_path=tmp_path)  # fmt: skip
    late = train(TDiffRec.for_dataset(tiny, w_at="inference", **how), tiny, epochs=5,
                 save_path=tmp_path)  # fmt: skip
    assert none.test == plain.test != late.test
    assert none.history[0]["loss"] == late.history[0]["loss"]


@pytest.mark.parametrize("name", ["MF", "LightGCN", "Popularity", "ACVAE"])
def test_models_that_do_not_read_weights_refuse_them(tiny, tmp_path, name):
    model = MODELS[name].for_dataset(tiny, w_at="inference")
    with pytest.raises(InputError, match=f"{name} does not read the weights"):
        train(model, tiny, save_path=tmp_path)
