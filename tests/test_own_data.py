"""Data of one's own: training on everything, and what is recommended from all that is known."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import module_of

from baselines import wanted
from baselines.models import MODELS
from DiffRec import DiffRec as Model
from DiffRec import InputError, Interactions, load_dataset, train
from DiffRec.engine import checkpoints
from DiffRec.engine.commands import parse
from DiffRec.engine.variant import variant_of
from DiffRec.engine.warm import take_over
from DiffRec.interactions import join
from DiffRec.preparation import protocol, readers, synthetic, writer
from T_DiffRec import TDiffRec

EASE = MODELS["EASE"]
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
            run = train(model, tiny, final=True, epochs=number, resume=True, keep_state=True,
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
    # The paper's archives have no times either, and are known to be cut so.
    papers = dataclasses.replace(load_dataset(data_path=tmp_path / "timed"), name="ml-1m_clean")
    cut = papers.everything()
    assert [[time_of[u, i] for i in row] for u, row in enumerate(rows_of(cut.train))] == found
    assert papers.is_wholly(cut.fingerprint())
    assert papers.is_wholly(plain.fingerprint())  # as an earlier version wrote it
    assert not papers.is_wholly(papers.fingerprint())
    for name in protocol.SPLITS:
        np.save(tmp_path / "timed" / f"{name}_times.npy", split.times[name])
    # Data made in Python may have what the folder's lists have not, and it tells no times for it.
    data = load_dataset(data_path=tmp_path / "timed")
    new = next(i for i in range(data.n_items) if i not in rows_of(data.seen(with_test=True))[0])
    more = np.vstack([data.train.pairs(), [[0, new]]])
    rows = Interactions.from_pairs(more, data.n_users, data.n_items)
    mixed = dataclasses.replace(data, train=rows).everything()
    assert rows_of(mixed.train)[1:] == rows_of(plain.train)[1:] != rows_of(timed.train)[1:]
    np.save(tmp_path / "timed" / "train_times.npy", np.zeros(3))
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
    writer.write(
        tmp_path / "d", protocol.prepare(ratings(), core=3, protocol="paper", shares=(8, 2, 0))
    )
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
    done = run("DiffRec/main.py", *where, "--final", best, "--dropout", "0.3")
    assert "was found with dropout 0.5: give --epochs for dropout 0.3" in done.stderr
    done = run("DiffRec/inference.py", "--data_path", tiny_folder, "--checkpoint",
               folder / last["checkpoint"])  # fmt: skip
    assert done.returncode == 2
    assert "metrics on them would mean nothing" in done.stderr


def test_a_final_fit_of_another_model_is_told_its_epochs(run, finished, tiny_folder, tmp_path):
    first, _, folder, _ = finished("DiffRec", *SMALL, "--epochs", "5")
    where = ["--data_path", tiny_folder, "--save_path", tmp_path]
    result = ["--result_json", tmp_path / "r.json"]
    best = folder / first["checkpoint"]
    flags = ["--dropout", "0.3", "--epochs", "4"]
    done = run("DiffRec/main.py", *where, "--final", best, *flags, *result)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r.json").read_text())
    assert (record["epochs"], record["settings"]["dropout"]) == (4, 0.3)
    # A closed form has no epochs to take over.
    first, _, folder, _ = finished("baselines", "--model", "EASE")
    best = folder / first["checkpoint"]
    done = run("baselines/main.py", "--model", "EASE", *where, "--final", best, "--reg", "7",
               *result)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["reg"] == 7


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
        known = join(tiny.seen(with_test=True), tiny.disliked())
        scores[known.row_index(), known.items.long()] = -torch.inf
        assert lists(folder / name, *flags).tolist() == scores.topk(5).indices.tolist()


# A start from older weights


@pytest.fixture(scope="module")
def weeks(tmp_path_factory):
    """Folders of older data and of newer, which have some new items and lack some old ones; item
    embeddings lie beside both."""
    folder = tmp_path_factory.mktemp("weeks")
    table = synthetic.make_ratings(n_users=120, n_items=80, mean_ratings=35, seed=3)
    parts = {"old": table[table["item"] > 8], "new": table[table["item"] <= 72]}
    random = np.random.default_rng(0)
    embeddings = {item: random.normal(size=4) + 5 * (item % 2) for item in range(1, 100)}
    for name, part in parts.items():
        writer.write(folder / name, protocol.prepare(readers.from_table(part), core=3))
        raw = pd.read_csv(folder / name / "item_map.csv")["raw_item"]
        np.save(folder / name / "item_emb.npy", np.stack([embeddings[item] for item in raw]))
    return folder


SHORT = ["--preset", "none", "--emb_size", "8", "--max_length", "9"]
# One step: with more the scores of items that are gone were inputs of the next one.
WARM = {
    "DiffRec": ("DiffRec/main.py", [*SMALL, "--steps", "1"]),
    "T-DiffRec": ("T-DiffRec/main.py", [*SMALL, "--steps", "1"]),
    "L-DiffRec": ("L-DiffRec/main.py", ["--preset", "none", "--in_dims", "[17]", "--n_cate", "2"]),
    "L-DiffRec, decoders": ("L-DiffRec/main.py", ["--preset", "none", "--in_dims", "[17,23]",
                                                  "--out_dims", "[9]", "--n_cate", "2"]),
    "MultiDAE": ("baselines/main.py", ["--model", "MultiDAE", "--preset", "none", "--dims", "[9]"]),
    "MultiVAE": ("baselines/main.py", ["--model", "MultiVAE", "--preset", "none", "--dims", "[9]"]),
    "SASRec": ("baselines/main.py", ["--model", "SASRec", *SHORT]),
    "GRU4Rec": ("baselines/main.py", ["--model", "GRU4Rec", *SHORT]),
    # Their noise belongs to the items' numbers, which are others in newer data: none of it here.
    "DiffuRec": ("baselines/main.py", ["--model", "DiffuRec", "--layers", "1", *SHORT,
                                       "--lambda_mean", "0", "--lambda_std", "0"]),
    "DiffRec-Du": ("baselines/main.py", ["--model", "DiffRec-Du", "--layers", "1", *SHORT]),
    "ACVAE": ("baselines/main.py", ["--model", "ACVAE", *SHORT]),
}  # fmt: skip


@pytest.fixture(scope="module")
def older(weeks):
    """A function from a name in WARM to a model trained on the older data."""
    made = {}

    def get(name):
        if name not in made:
            script, flags = WARM[name]
            where = ["--data_path", str(weeks / "old"), "--save_path", str(weeks / "saved")]
            record = module_of(script).main([*flags, *where, "--epochs", "5"])
            made[name] = weeks / "saved" / record["checkpoint"]
        return made[name]

    return get


def raw_items(folder):
    return pd.read_csv(folder / "item_map.csv")["raw_item"].tolist()


def fresh_model(name, weeks):
    """A model for the newer data with the settings of the older one."""
    script, flags = WARM[name]
    variant = wanted(flags) if script.startswith("baselines") else variant_of(name.split(",")[0])
    settings, _ = parse(variant, flags)
    data = load_dataset(data_path=weeks / "new")
    of_model = settings.part(variant.model.Settings).dump()
    return variant.model.for_dataset(data, seed=2, **of_model), data


@pytest.mark.parametrize("name", [name for name in WARM if name not in ("DiffRec-Du", "ACVAE")])
def test_a_warm_start_scores_known_items_as_the_older_model_did(weeks, older, name):
    """Histories of known items give the same scores; items the older model lacks change nothing as
    inputs, since their weights there are 0."""
    model, data = fresh_model(name, weeks)
    take_over(model, older(name), data)
    old = type(model).load(older(name))
    model.eval()
    mine, theirs = raw_items(weeks / "new"), raw_items(weeks / "old")
    both = [item for item in mine if item in theirs]
    new_only = [mine.index(item) for item in mine if item not in theirs]
    assert new_only
    assert len(both) < len(theirs)
    history = both[:6]

    def scores(model, numbering, more=()):
        numbers = [numbering.index(item) for item in history]
        rows = Interactions.from_histories([[*numbers, *more]], len(numbering))
        with torch.inference_mode():
            found = model.scorer()(rows)[0]
        return found[[numbering.index(item) for item in both]]

    torch.testing.assert_close(scores(model, mine), scores(old, theirs), rtol=1e-4, atol=1e-5)
    if name == "DiffRec":  # the others scale a row by its length, or weigh it by its order
        torch.testing.assert_close(
            scores(model, mine, new_only), scores(old, theirs), rtol=1e-4, atol=1e-5
        )


def test_new_items_begin_by_rule(weeks, older):
    model, data = fresh_model("DiffRec", weeks)
    take_over(model, older("DiffRec"), data)
    theirs = set(raw_items(weeks / "old"))
    known = torch.tensor([item in theirs for item in raw_items(weeks / "new")])
    last = model.dnn.out_layers[-1]
    assert (last.bias[~known] == last.bias[known].min()).all()
    assert not last.weight[~known].any()
    assert not model.dnn.first_layer()[0][:, ~known].any()
    assert model.dnn.first_layer()[0][:, known].any()

    latent, data = fresh_model("L-DiffRec", weeks)
    take_over(latent, older("L-DiffRec"), data)
    old = type(latent).load(older("L-DiffRec"))
    old_raw = raw_items(weeks / "old")
    weights, biases = (part[latent.vae.position] for part in latent.vae.item_factors())
    for place, item in enumerate(raw_items(weeks / "new")):
        if item in theirs:  # known items stay in their clusters
            assert latent.vae.clusters[place] == old.vae.clusters[old_raw.index(item)]
            continue
        like = known & (latent.vae.clusters == latent.vae.clusters[place])
        torch.testing.assert_close(weights[place], weights[like].mean(dim=0))
        torch.testing.assert_close(biases[place], biases[like].mean(dim=0))
        # and a new one comes to those it is like: here all of an even raw id, or of an odd one
        assert (
            latent.vae.clusters[place]
            == old.vae.clusters[[other % 2 == item % 2 for other in old_raw]].mode().values
        )


@pytest.mark.parametrize("name", ["SASRec", "DiffRec-Du", "ACVAE"])
def test_sequence_models_begin_with_the_older_items(weeks, older, name):
    model, data = fresh_model(name, weeks)
    take_over(model, older(name), data)
    old = type(model).load(older(name))
    mine, theirs = raw_items(weeks / "new"), raw_items(weeks / "old")
    known = torch.tensor([item in theirs for item in mine])
    there = torch.tensor([theirs.index(item) for item in mine if item in theirs])
    for new, was in zip(model.factors()[1:], old.factors()[1:], strict=True):
        torch.testing.assert_close(new[known], was[there])
    table, before = model.embedding.weight, old.embedding.weight
    torch.testing.assert_close(table[1:][known], before[1:][there])
    torch.testing.assert_close(table[0], before[0])  # padding, or the unknown item
    if name == "ACVAE":  # whose table is of inputs alone
        assert not table[1:][~known].any()
        assert (model.output.bias[~known] == model.output.bias[known].min()).all()
    else:
        torch.testing.assert_close(
            table[1:][~known], table[1:][known].mean(dim=0).expand(int((~known).sum()), -1)
        )
    rest = [name for name in model.state_dict() if name not in model.axes()]
    for name in rest:
        torch.testing.assert_close(model.state_dict()[name], old.state_dict()[name])


@pytest.mark.parametrize("name", ["DiffRec", "L-DiffRec", "L-DiffRec, decoders", "SASRec"])
def test_a_warm_run_through_the_command_line(run, weeks, older, tmp_path, name):
    script, flags = WARM[name]
    call = [script, *flags, "--data_path", weeks / "new", "--epochs", "5", "--save_path", tmp_path]
    results = [tmp_path / "cold.json", tmp_path / "warm.json"]
    for result, more in zip(results, ([], ["--warm_start", older(name)]), strict=True):
        done = run(*call, "--result_json", result, *more)
        assert done.returncode == 0, done.stderr
    assert re.search(
        r"warm start from .*: \d+ of \d+ items are known, \d new, \d gone", done.stdout
    )
    cold, warm = (json.loads(result.read_text()) for result in results)
    assert warm["warm_start"] == older(name).name
    assert "warm_start" not in cold
    assert warm["settings"] == cold["settings"]
    assert warm["checkpoint"] != cold["checkpoint"]  # neither overwrites the other
    assert warm["valid"] != cold["valid"]
    assert run(*call, "--warm_start", older(name), "--resume").returncode == 0
    # Of a warm run the best epoch is a warm one's.
    last = [*call, "--final", tmp_path / warm["checkpoint"]]
    places = [n for n, word in enumerate(last) if word == "--epochs"]
    del last[places[0] : places[0] + 2]
    done = run(*last)
    assert f"give --warm_start, as it had ({older(name).name}), or --epochs" in done.stderr
    assert run(*last, "--warm_start", older(name)).returncode == 0


def test_a_warm_start_from_a_final_model_warns_of_its_metrics(run, weeks, older, tmp_path):
    script, flags = WARM["DiffRec"]
    call = [script, *flags, "--save_path", tmp_path, "--epochs", "2"]
    honest = ["--data_path", weeks / "new", "--warm_start", older("DiffRec")]
    words = "metrics here may be of what it was trained on"
    assert words not in run(*call, *honest).stderr
    done = run(*call, "--data_path", weeks / "old", "--final", older("DiffRec"))
    assert done.returncode == 0, done.stderr
    (final,) = tmp_path.glob("*_final.safetensors")
    again = [*call, "--data_path", weeks / "new", "--warm_start", final]
    assert words in run(*again).stderr
    model = Model.load(final)
    data = load_dataset(data_path=weeks / "old")
    with pytest.raises(InputError, match="trained on validation and test of old too"):
        train(model, data, save_path=tmp_path)
    train(model, data, epochs=1, final=True, save_path=tmp_path)


def test_a_warm_start_that_can_not_be(run, weeks, older, tiny, tmp_path):
    def refused(words, name="DiffRec", *flags, **how):
        script, own = WARM[name]
        where = ["--data_path", how.get("data", weeks / "new"), "--save_path", tmp_path]
        from_ = ["--warm_start", how.get("path", older("DiffRec"))]
        done = run(script, *own, *where, "--epochs", "2", *from_, *flags)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr

    refused("dims [16] there, [8] here", "DiffRec", "--dims", "[8]")
    refused("holds DiffRec, not T-DiffRec", "T-DiffRec")
    bare = tmp_path / "bare"
    shutil.copytree(weeks / "new", bare)
    (bare / "item_map.csv").unlink()
    refused("item_map.csv does not tell the items' raw ids", data=bare)
    (bare / "item_map.csv").write_text("raw_item,item\n" + "".join(
        f"x{n},{n}\n" for n in range(len(raw_items(weeks / "new")))
    ))  # fmt: skip
    refused("no item in common", data=bare)
    ease = train(EASE.for_dataset(tiny), tiny, save_path=tmp_path).checkpoint
    with pytest.raises(InputError, match="EASE has no weights of items"):
        train(EASE.for_dataset(tiny), tiny, save_path=tmp_path, warm_start=ease)


def test_the_study_of_warm_starts(run, tmp_path):
    table = synthetic.make_ratings(n_users=150, n_items=60, mean_ratings=40, seed=3)
    table.to_csv(tmp_path / "ratings.csv", index=False)
    out = tmp_path / "out.csv"
    done = run("scripts/warm_start_study.py", tmp_path / "ratings.csv", "--format", "csv",
               "--models", "DiffRec", "--seeds", "1", "--epochs", "3", "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    cold, warm = pd.read_csv(out).to_dict("records")
    assert (cold["start"], warm["start"]) == ("cold", "warm")
    assert cold["epochs_to_100%"] == cold["best_epoch"]  # by what the cold run itself reached
    assert cold["seconds_to_100%"] <= cold["cpu_seconds"]
    done = run("scripts/warm_start_study.py", tmp_path / "ratings.csv", "--share", "0")
    assert "share must be above 0" in done.stderr
