"""Recommendations and vectors through the real command line."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file

import DiffRec.main
import L_DiffRec.main
import T_DiffRec.main
from DiffRec import DiffRec as Model
from DiffRec import Interactions
from DiffRec.engine import contract
from DiffRec.engine.errors import InputError
from DiffRec.engine.ids import IdMap, split_ids
from DiffRec.engine.serving import write_recommendations, write_tables
from DiffRec.interactions import join
from L_DiffRec import LDiffRec

TRAIN = {
    "DiffRec": (DiffRec.main, "--preset none --dims [16] --steps 4 --lr .01"),
    "L-DiffRec": (L_DiffRec.main, "--preset none --in_dims [12] --n_cate 1 --lr1 .01"),
    "T-DiffRec": (T_DiffRec.main, "--preset none --dims [16] --steps 4 --lr .01"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_folder):
    """A function from a variant to a checkpoint trained for a few epochs."""
    folder, made = tmp_path_factory.mktemp("checkpoints"), {}

    def get(variant):
        if variant not in made:
            module, flags = TRAIN[variant]
            where = ["--data_path", str(tiny_folder), "--save_path", str(folder)]
            record = module.main([*flags.split(), "--epochs", "5", *where, "--log_name", variant])
            made[variant] = folder / record["checkpoint"]
        return made[variant]

    return get


@pytest.fixture
def infer(run, tiny_folder):
    def call(checkpoint, *flags, variant="DiffRec"):
        flags = ["--checkpoint", checkpoint, "--data_path", tiny_folder, *flags]
        return run(f"{variant}/inference.py", *flags)

    return call


def test_a_user_named_twice_has_one_list(infer, checkpoint, tmp_path, tiny_folder):
    user = pd.read_csv(tiny_folder / "user_map.csv")["raw_user"].iloc[3]
    out = tmp_path / "top.csv"
    done = infer(checkpoint("DiffRec"), "--recommend", out, "--k", "3", "--users", f"{user},{user}")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(out)["rank"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("DiffRec", ["--lr", "5"], "lr is of the training, where it was 0."),
        ("DiffRec", ["--epochs", "7"], "epochs is of the training, where it was"),
    ],
)
def test_settings_of_the_training_are_as_they_were(infer, checkpoint, name, flags, words):
    done = infer(checkpoint(name), *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_everyone_gets_the_lists_of_the_model(
    infer, checkpoint, tiny, tiny_folder, tmp_path, ending, monkeypatch
):
    monkeypatch.setattr(contract, "ROWS", 50)  # so that there are several batches
    out = tmp_path / f"top.{ending}"
    done = infer(checkpoint("DiffRec"), "--recommend", out, "--k", "7")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert table.columns.tolist() == ["user", "rank", "item", "score"]
    assert len(table) == 7 * tiny.n_users
    raw_users = pd.read_csv(tiny_folder / "user_map.csv")["raw_user"].to_numpy()
    raw_items = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"].to_numpy()
    seen = join(tiny.seen(with_test=True), tiny.disliked())
    model = Model.load(checkpoint("DiffRec"))
    scores = model.scorer()(tiny.train).detach()
    scores[seen.row_index(), seen.items.long()] = -torch.inf
    expected = scores.topk(7)
    assert table["item"].tolist() == raw_items[expected.indices.numpy()].ravel().tolist()
    assert table["user"].tolist() == raw_users.repeat(7).tolist()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7] * tiny.n_users
    np.testing.assert_allclose(table["score"], expected.values.ravel(), rtol=1e-4, atol=1e-5)


def test_some_users_by_number_and_by_raw_id_and_from_a_file(
    infer, checkpoint, tiny, tiny_folder, tmp_path
):
    raw = pd.read_csv(tiny_folder / "user_map.csv")["raw_user"]
    (tmp_path / "users.txt").write_text(f"{raw[5]}\n{raw[2]}\n")
    tables = []
    for users, flags in (
        (f"{raw[5]},{raw[2]}", []), (tmp_path / "users.txt", []), ("5,2", ["--raw_ids", "0"]),
    ):  # fmt: skip
        done = infer(
            checkpoint("DiffRec"), "--recommend", tmp_path / "t.csv", "--users", users, *flags
        )
        assert done.returncode == 0, done.stderr
        tables.append(pd.read_csv(tmp_path / "t.csv"))
    assert tables[0].equals(tables[1])
    assert tables[0]["user"].unique().tolist() == [raw[5], raw[2]]
    assert tables[2]["user"].unique().tolist() == [5, 2]
    np.testing.assert_allclose(tables[0]["score"], tables[2]["score"], rtol=1e-5)


def test_seen_items_come_back_if_asked_for(infer, checkpoint, tiny, tmp_path):
    out = tmp_path / "t.csv"
    flags = ["--recommend", out, "--k", "1000", "--raw_ids", "0", "--users", "3"]
    infer(checkpoint("DiffRec"), *flags, "--exclude_seen", "0")
    assert sorted(pd.read_csv(out)["item"]) == list(range(tiny.n_items))
    for with_test in (True, False):  # a shorter list than asked for, not seen items
        infer(checkpoint("DiffRec"), *flags, "--exclude_test", with_test, "--exclude_disliked", "0")
        seen = tiny.seen(with_test).slice(3, 4).items.tolist()
        assert sorted([*pd.read_csv(out)["item"], *seen]) == list(range(tiny.n_items))


@pytest.mark.parametrize("variant", ["DiffRec", "L-DiffRec", "T-DiffRec"])
def test_a_user_who_is_not_in_the_data(infer, checkpoint, tmp_path, variant):
    flags = ["--history", "3,17,25", "--raw_ids", "0", "--k", "4"]
    done = infer(checkpoint(variant), *flags, variant=variant)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    infer(checkpoint(variant), *flags, "--recommend", tmp_path / "h.csv", variant=variant)
    items = pd.read_csv(tmp_path / "h.csv")["item"].tolist()
    assert str(items[0]) in done.stdout.splitlines()[1]
    assert not {3, 17, 25} & set(items)
    reverse = ["--history", "25,17,3", "--raw_ids", "0", "--k", "4"]
    same = infer(checkpoint(variant), *reverse, variant=variant).stdout == done.stdout
    assert same == (variant != "T-DiffRec")  # only there does the order count


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--recommend", "top.txt"], "must end in .csv or .parquet"),
        (["--recommend", "top.csv", "--users", "nobody"], "there is no user 'nobody'"),
        (["--users", "3"], "users goes with recommend or export_vectors"),
        (["--history", "1", "--users", "3"], "users is of a data set's users"),
        (["--history", "1", "--exclude_test", "0"], "it does not go with history"),
        (["--export_vectors", "v", "--only_items", "3"], "only_items goes with recommend, history"),
        (["--export_vectors", "v", "--exclude_test", "0"], "exclude_test goes with recommend"),
        (["--k", "2"], "k goes with recommend, history or histories"),
        (["--resume"], "resume goes with histories"),
        (["--final", "x"], "final is of a training"),
        (["--preset", "ml-1m_clean"], "preset is of a training"),
        (["--autoencoder", "x.pth"], "autoencoder goes with a released"),
        (["--history", "1", "--export_vectors", "v"], "it does not go with history"),
        (["--history", "1,x"], "there is no item 'x'"),
        (["--recommend", "top.parquet", "--users", ","], "there are no ids"),
        (
            ["--recommend", "top.csv", "--users", ",".join(map(str, range(900, 1300)))],
            "no user '900'",
        ),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(infer, checkpoint, flags, words):
    done = infer(checkpoint("DiffRec"), *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_data_whose_items_have_other_numbers_are_refused(infer, checkpoint, tiny_folder, tmp_path):
    """Weeks later the same items may be prepared in another order."""
    shutil.copytree(tiny_folder, tmp_path / "later")
    path = tmp_path / "later" / "item_map.csv"
    table = pd.read_csv(path)
    names = table["raw_item"].tolist()
    names[3], names[9] = names[9], names[3]
    table.assign(raw_item=names).to_csv(path, index=False)
    where = ["--data_path", tmp_path / "later"]
    for flags in ([], ["--recommend", tmp_path / "t.csv"]):
        done = infer(checkpoint("DiffRec"), *flags, *where)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        said = f"as number 3, which is {names[3]} here and {names[9]} there"
        assert "2 of the" in done.stderr
        assert said in done.stderr
    assert not (tmp_path / "t.csv").exists()
    lists = tmp_path / "later" / "test_list.npy"
    for rows in (np.load(lists), np.load(lists)[:-1]):  # of the same data, and of others
        np.save(lists, rows)
        done = infer(checkpoint("DiffRec"), *where, "--raw_ids", "0")  # numbers are all that counts
        assert done.returncode == 0, done.stderr


def test_an_interrupted_list_leaves_no_file(tiny, tmp_path, monkeypatch):
    model = Model(tiny.n_items, dims=[8], steps=2)

    def broken(*args, **more):
        yield 0, torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "recommend_batches", broken)
    with pytest.raises(KeyboardInterrupt):
        write_recommendations(
            tmp_path / "t.parquet", model, tiny.train, None, 2, np.arange(tiny.n_users),
            IdMap("item", tiny.n_items),
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_recommendation_that_fails_leaves_the_model_as_it_was(tiny):
    model = Model(tiny.n_items, dims=[8], steps=2).train()
    wrong = Interactions.from_histories([[0]], tiny.n_items)
    wrong.items[0] = tiny.n_items + 5
    with pytest.raises((IndexError, RuntimeError)):
        model.recommend(wrong)
    assert model.training


def test_raw_ids_mean_the_same_without_the_data(run, checkpoint, tiny_folder):
    """The checkpoint knows them."""
    raw = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"]
    call = ["DiffRec/inference.py", "--checkpoint", checkpoint("DiffRec"), "--k", "4"]
    history = ",".join(str(raw[number]) for number in (3, 17, 25))
    known = run(*call, "--history", history, "--data_path", tiny_folder)
    assert known.returncode == 0, known.stderr
    assert run(*call, "--history", history).stdout == known.stdout
    numbers = run(*call, "--history", "3,17,25", "--raw_ids", "0")
    top = [int(line.split()[1]) for line in numbers.stdout.splitlines()[1:]]
    shown = [line.split()[1] for line in known.stdout.splitlines()[1:]]
    assert shown == [str(raw[number]) for number in top]


def test_the_scorer_is_kept_until_the_parameters_change(tiny, monkeypatch):
    model = Model(tiny.n_items, dims=[8], steps=2).eval()
    made = []
    scorer = Model.scorer

    def counted(self):
        made.append(1)
        return scorer(self)

    monkeypatch.setattr(Model, "scorer", counted)
    first = model.recommend([[1, 2]], k=3)
    assert all(map(torch.equal, first, model.recommend([[1, 2]], k=3)))
    assert len(made) == 1
    with torch.no_grad():
        model.dnn.out_layers[-1].bias.add_(torch.arange(tiny.n_items))
    assert model.recommend([[1, 2]], k=3)[0][0, 0] == tiny.n_items - 1
    assert len(made) == 2
    model.load_state_dict(Model(tiny.n_items, dims=[8], steps=2).state_dict(), assign=True)
    model.recommend([[1, 2]], k=3)
    model.train()
    model.recommend([[1, 2]], k=3)
    assert len(made) == 4


def test_rows_are_scored_400_at_a_time_or_as_is_asked(tiny):
    model = Model(tiny.n_items, dims=[8], steps=2).eval()
    many = Interactions.from_histories([[1, 2]] * 900, tiny.n_items)

    def starts(*more):
        return [start for start, *_ in model.recommend_batches(many, None, 3, *more)]

    assert starts() == [0, 400, 800]
    assert starts(600) == [0, 600]


def test_an_empty_first_batch_writes_the_header_once(tmp_path):
    table = pd.DataFrame({"user": [1], "rank": [1], "item": [2], "score": [0.5]})
    write_tables(tmp_path / "t.csv", iter([table[:0], table, table]))
    assert (tmp_path / "t.csv").read_text() == "user,rank,item,score\n" + "1,1,2,0.5\n" * 2


def test_id_maps(tmp_path):
    (tmp_path / "item_map.csv").write_text("raw_item,item\nb,1\na,0\n")
    ids = IdMap.of_folder("item", tmp_path, 2)
    assert ids.to_raw(np.array([1, 0])).tolist() == ["b", "a"]
    assert ids.to_numbers(["a", "b"]) == [0, 1]
    with pytest.raises(InputError, match="from 0 to 2"):
        IdMap.of_folder("item", tmp_path, 3)
    assert IdMap.of_folder("user", tmp_path, 2).to_numbers(["1"]) == [1]
    assert split_ids("3, a b,256,") == ["3", "a b", "256"]
    (tmp_path / "ids.txt").write_text("\ufeffit 56\r\nit,140\n\n 7\n", encoding="utf-8")
    assert split_ids(str(tmp_path / "ids.txt")) == ["it 56", "it,140", " 7"]
    spaced = IdMap("item", 2, np.array(["7", " 8"]))
    assert spaced.to_numbers([" 7", " 8"]) == [0, 1]  # as they are, or without the spaces
    with pytest.raises(InputError, match="no item '8'"):
        spaced.to_numbers(["8"])


# Vectors


@pytest.mark.parametrize("dims", ["[16]", "[8,16]"])
def test_vectors_of_diffrec_give_the_scores(tiny, settings, dims):
    model = Model(tiny.n_items, settings("--dims", dims, "--steps", "4")).eval()
    check_factors(model, tiny)


@pytest.mark.parametrize("flags", ["", "--cluster_decoders 1", "--out_dims [20]", "--norm 1"])
def test_vectors_of_l_diffrec_give_the_scores(tiny, flags):
    from test_latent import make_model

    check_factors(make_model(tiny, *flags.split()).eval(), tiny)


def check_factors(model, tiny):
    with torch.inference_mode():
        encode, items, biases = model.factors()
        rows = tiny.train.slice(0, 30)
        torch.testing.assert_close(
            encode(rows) @ items.T + biases, model.scorer()(rows), rtol=1e-4, atol=1e-5
        )
        assert (items.shape[0], biases.shape) == (tiny.n_items, (tiny.n_items,))


def test_models_without_vectors_say_so(tiny, settings):
    model = Model(tiny.n_items, settings("--mean_type", "eps"))
    with pytest.raises(InputError, match="mean_type x0"):
        model.factors()


def readme_block(word: str) -> str:
    """The README's Python example that holds ``word``."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if word in block)


def test_exported_vectors_in_an_index_as_the_readme_shows(
    infer, checkpoint, tiny, tiny_folder, tmp_path, monkeypatch
):
    pytest.importorskip("faiss")
    done = infer(checkpoint("DiffRec"), "--export_vectors", tmp_path / "vectors")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(readme_block("faiss").replace(" 100)", " 10)"), names)
    raw = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"].to_numpy()
    assert np.load(tmp_path / "vectors" / "item_ids.npy").tolist() == raw.tolist()
    assert len(np.load(tmp_path / "vectors" / "user_ids.npy")) == tiny.n_users
    whole = load_file(tmp_path / "vectors" / "vectors.safetensors")
    assert np.array_equal(whole["users"].numpy(), names["users"])
    exact = Model.load(checkpoint("DiffRec")).recommend(tiny.train, k=10, exclude_seen=False)
    found = [
        len(set(a) & set(b)) / 10
        for a, b in zip(names["top"].tolist(), exact[0].tolist(), strict=True)
    ]
    assert np.mean(found) > 0.95
    np.testing.assert_allclose(names["scores"][:, 0], exact[1][:, 0], rtol=1e-3, atol=1e-4)


def test_vectors_are_written_together_or_not_at_all(infer, checkpoint, tmp_path, monkeypatch):
    """What was there stays if one of the files can not be written."""
    folder = tmp_path / "vectors"
    assert infer(checkpoint("DiffRec"), "--export_vectors", folder).returncode == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save = np.save

    def full(path, array):
        if str(path).endswith("biases.npy"):
            raise OSError(28, "No space left on device")
        save(path, array)

    monkeypatch.setattr(np, "save", full)
    done = infer(checkpoint("L-DiffRec"), "--export_vectors", folder, variant="L-DiffRec")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "could not be written" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]
    monkeypatch.undo()
    (folder / "mine.txt").write_text("mine")
    done = infer(checkpoint("DiffRec"), "--export_vectors", folder)
    assert "holds more than exported vectors (mine.txt)" in done.stderr


def test_the_readmes_recommendation_example(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").symlink_to(checkpoint("DiffRec"))
    names, block = {}, readme_block("recommend(")
    known = Model.load("model.safetensors").item_ids.raw
    for place, shown in enumerate(("1193", "661", "914", "2355")):
        block = block.replace(shown, str(known[place]))
    exec(block, names)
    assert names["items"].shape == names["scores"].shape == names["names"].shape == (2, 10)


def test_an_empty_history_works_for_every_model(tiny, checkpoint):
    for model in (Model.load(checkpoint("DiffRec")), LDiffRec.load(checkpoint("L-DiffRec"))):
        empty = Interactions.from_histories([[]], tiny.n_items)
        assert model.recommend(empty, k=3)[1].isfinite().all()
