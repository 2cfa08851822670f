"""Data of one's own: training on everything, and what is recommended from all that is known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from DiffRec import DiffRec as Model
from DiffRec import InputError, load_dataset, train
from DiffRec.engine import checkpoints
from DiffRec.preparation import protocol, readers, synthetic, writer
from T_DiffRec import TDiffRec

SMALL = ["--preset", "none", "--dims", "[16]", "--steps", "4", "--lr", "0.01"]


def ratings(**how):
    return readers.from_table(synthetic.make_ratings(120, 80, 35, seed=3, **how))


@pytest.fixture
def finished(run, tiny_folder, tmp_path):
    """Train on the tiny data, then on all of it; returns the final run's process and record."""

    def call(script="DiffRec", *flags):
        where = ["--data_path", tiny_folder, "--save_path", tmp_path / "saved"]
        result = tmp_path / "result.json"
        done = run(f"{script}/main.py", *flags, *where, "--result_json", result)
        assert done.returncode == 0, done.stderr
        first = json.loads(result.read_text())
        model = ["--model", flags[1]] if script == "baselines" else []
        best = tmp_path / "saved" / first["checkpoint"]
        done = run(f"{script}/main.py", *model, *where, "--final", best, "--result_json", result)
        assert done.returncode == 0, done.stderr
        return first, json.loads(result.read_text()), tmp_path / "saved", done

    return call


# Train on everything


def test_a_final_fit_has_the_settings_and_the_best_epoch_of_the_finished_run(finished, tiny):
    first, last, folder, done = finished("DiffRec", *SMALL, "--epochs", "30", "--seed", "5")
    assert last["epochs"] == last["best_epoch"] == first["best_epoch"]
    assert last["seed"] == 5
    assert {**last["settings"], "epochs": 30} == first["settings"]
    assert last["checkpoint"] == first["checkpoint"].replace(".safetensors", "_final.safetensors")
    assert (last["valid"], last["test"], last["evaluations"]) == ({}, {}, 0)
    assert all(set(row) == {"epoch", "loss"} for row in last["history"])
    assert last["data"] == tiny.everything().fingerprint()
    assert "nothing was evaluated" in done.stdout
    header, _ = checkpoints.load(folder / last["checkpoint"])
    assert header["best_epoch"] == first["best_epoch"]
    # The same from Python: as many epochs, on all that there is.
    model = Model.for_dataset(tiny, dims=[16], steps=4, seed=5)
    run = train(model, tiny, final=True, epochs=first["best_epoch"], lr=0.01, seed=5,
                save_path=folder / "python")  # fmt: skip
    weights = checkpoints.load(folder / last["checkpoint"])[1]
    assert all(torch.equal(w, weights[n]) for n, w in checkpoints.load(run.checkpoint)[1].items())


def test_a_final_fit_in_closed_form(finished, tiny):
    _, last, folder, _ = finished("baselines", "--model", "Popularity", "--preset", "none")
    _, weights = checkpoints.load(folder / last["checkpoint"])
    counts = np.bincount(tiny.seen(with_test=True).items, minlength=tiny.n_items)
    assert weights["counts"].tolist() == counts.tolist()
    assert last["history"] == [{"epoch": 1}]


def test_a_final_fit_goes_on_where_it_was_stopped(tiny, tmp_path):
    def fit(name, *epochs):
        for number in epochs:
            model = Model.for_dataset(tiny, dims=[8], steps=2)
            run = train(model, tiny, final=True, epochs=number, resume=True,
                        save_path=tmp_path / name)  # fmt: skip
        return run.record["epochs"], checkpoints.load(run.checkpoint)[1]

    (whole, weights), (parts, same) = fit("whole", 12), fit("parts", 7, 12, 12)
    assert whole == parts == 12
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_everything_is_in_order_of_time_where_the_folder_tells_it(tmp_path):
    """Released lists have test before validation."""
    split = protocol.prepare(ratings(), core=3, protocol="released")
    writer.write(tmp_path / "timed", split)
    timed = load_dataset(data_path=tmp_path / "timed").everything()
    for file in (tmp_path / "timed").glob("*_times.npy"):
        file.unlink()
    plain = load_dataset(data_path=tmp_path / "timed").everything()
    assert not len(timed.valid.items)
    assert not len(timed.test.items)
    assert timed.train.lengths.tolist() == plain.train.lengths.tolist()
    pairs = np.concatenate([split.pairs[name] for name in protocol.SPLITS])
    times = np.concatenate([split.times[name] for name in protocol.SPLITS])
    time_of = dict(zip(map(tuple, pairs.tolist()), times.tolist(), strict=True))
    found = [[time_of[u, i] for i in row] for u, row in enumerate(rows_of(timed.train))]
    assert all(row == sorted(row) for row in found)
    in_lists = [[time_of[u, i] for i in row] for u, row in enumerate(rows_of(plain.train))]
    assert found != in_lists
    assert [sorted(row) for row in in_lists] == found
    np.save(tmp_path / "timed" / "train_times.npy", np.zeros(3))
    for name in ("valid", "test"):
        np.save(tmp_path / "timed" / f"{name}_times.npy", split.times[name])
    with pytest.raises(InputError, match=r"train_times.npy must hold a number for each"):
        load_dataset(data_path=tmp_path / "timed").everything()


def rows_of(rows):
    return [rows.slice(user, user + 1).items.tolist() for user in range(len(rows))]


@pytest.mark.parametrize("how", ["paper", "global"])
def test_a_ratio_of_train_alone(run, tmp_path, how):
    split = protocol.prepare(ratings(), core=3, protocol=how, shares=(1, 0, 0))
    assert [len(split.pairs[name]) > 0 for name in protocol.SPLITS] == [True, False, False]
    writer.write(tmp_path / "all", split)
    here = ["--data_path", tmp_path / "all"]
    call = ["DiffRec/main.py", *here, *SMALL, "--save_path", tmp_path]
    done = run(*call)
    assert done.returncode == 2
    assert "has no validation to choose the number of epochs by: give epochs" in done.stderr
    done = run(*call, "--epochs", "7", "--result_json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert (record["epochs"], record["best_epoch"], record["valid"]) == (7, 7, {})
    done = run("DiffRec/inference.py", *here, "--checkpoint", tmp_path / record["checkpoint"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "all has neither validation nor test: there is nothing to evaluate by" in done.stderr
    done = run("baselines/main.py", "--model", "EASE", *here, "--save_path", tmp_path)
    assert done.returncode == 0, done.stderr  # it has no epochs to choose


def test_a_share_of_nothing_for_test_alone(run, tmp_path):
    """A run chooses by validation and tells no test metrics."""
    writer.write(tmp_path / "d", protocol.prepare(ratings(), 4, 3, "paper", (8, 2, 0)))
    done = run("DiffRec/main.py", "--data_path", tmp_path / "d", *SMALL, "--epochs", "5",
               "--save_path", tmp_path, "--result_json", tmp_path / "r.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["valid"]["recall@20"] > 0
    assert record["test"] == {}
    assert "valid    test" not in done.stdout


def test_what_a_final_fit_can_not_be_made_of(run, finished, tiny_folder, tmp_path):
    first, last, folder, _ = finished("DiffRec", *SMALL, "--epochs", "5")
    where = ["--data_path", tiny_folder, "--save_path", folder]
    best = folder / first["checkpoint"]
    done = run("L-DiffRec/main.py", *where, "--final", best)
    assert "holds DiffRec, not L-DiffRec" in done.stderr
    done = run("DiffRec/main.py", *where, "--final", best, "--random_noise", "0.1")
    assert "does not go with a final fit" in done.stderr
    done = run("DiffRec/inference.py", "--data_path", tiny_folder, "--checkpoint",
               folder / last["checkpoint"])  # fmt: skip
    assert done.returncode == 2
    assert "metrics on them would mean nothing" in done.stderr


@pytest.mark.parametrize("script", ["DiffRec", "T-DiffRec"])
def test_a_final_model_is_told_all_that_is_known(run, finished, tiny, tiny_folder, script):
    """And nothing that a user has in any list is recommended."""
    first, last, folder, _ = finished(script, *SMALL, "--epochs", "5")
    module = {"DiffRec": Model, "T-DiffRec": TDiffRec}[script]

    def lists(checkpoint, *flags):
        asked = ["--recommend", folder / "top.csv", "--k", "5", "--raw_ids", "0", *flags]
        where = ["--checkpoint", checkpoint, "--data_path", tiny_folder]
        done = run(f"{script}/inference.py", *where, *asked)
        assert done.returncode == 0, done.stderr
        assert "not the data" not in done.stdout
        return pd.read_csv(folder / "top.csv")["item"].to_numpy().reshape(-1, 5)

    for name, flags, everything in (
        (last["checkpoint"], [], True),
        (last["checkpoint"], ["--history_from", "train"], False),
        (first["checkpoint"], [], False),
        (first["checkpoint"], ["--history_from", "all"], True),
    ):
        model = module.load(folder / name)
        history = tiny.everything().train if everything else tiny.train
        scores = model.scorer()(model.weigh(history)).detach()
        known = tiny.seen(with_test=True)
        scores[known.row_index(), known.items.long()] = -torch.inf
        assert lists(folder / name, *flags).tolist() == scores.topk(5).indices.tolist()
