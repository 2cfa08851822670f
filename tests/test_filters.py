"""What may be recommended: equal to a search through all items, from Python and by the commands."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from DiffRec import DiffRec as Model
from DiffRec import InputError, Interactions, train
from DiffRec.engine import checkpoints
from DiffRec.interactions import join

N_ITEMS, K = 30, 7


def lists_by_search(scores, seen, allowed, categories, per_category, k):
    """Each row's items from the best down, one by one, as a person would take them."""
    found = []
    for row, left_out in zip(scores.tolist(), seen, strict=True):
        taken, counts = [], {}
        for item in sorted(range(len(row)), key=lambda i: -row[i]):
            word = categories[item]
            full = word is not None and counts.get(word, 0) == per_category
            if item in left_out or not allowed[item] or full:
                continue
            counts[word] = counts.get(word, 0) + 1
            taken.append(item)
        found.append(taken[:k])
    return found


class Given(Model):
    """A model whose scores are given."""

    def scorer(self):
        return lambda batch: self.given[batch.offsets.new_tensor(self.rows(len(batch)))].clone()

    def rows(self, n):
        self.at += n
        return range(self.at - n, self.at)


def given_model(scores):
    model = Given(scores.shape[1], dims=[2], steps=1).eval()
    model.given, model.at = scores, 0
    return model


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    per_category=st.integers(1, 4),
    n_categories=st.integers(1, 12),
    share=st.floats(0.1, 1.0),
    k=st.integers(1, N_ITEMS),
    batch_size=st.integers(1, 5),
)
def test_lists_equal_a_search_through_all_items(
    seed, per_category, n_categories, share, k, batch_size
):
    random = np.random.default_rng(seed)
    users = 4
    scores = torch.from_numpy(np.stack([random.permutation(N_ITEMS) for _ in range(users)])).float()
    words = [None if random.random() < 0.2 else f"c{random.integers(n_categories)}"
             for _ in range(N_ITEMS)]  # fmt: skip
    history, disliked = (
        [
            random.choice(N_ITEMS, random.integers(1, 6), replace=False).tolist()
            for _ in range(users)
        ]
        for _ in range(2)
    )
    only = random.permutation(N_ITEMS)[: max(int(share * N_ITEMS), 2)].tolist()
    without = [item for item in random.permutation(N_ITEMS)[:5].tolist() if item != only[0]]
    days = random.integers(0, 20, N_ITEMS)
    days[only[0]] = 20  # one is always left
    dates = np.datetime64("2024-01-01") + days
    dates[random.random(N_ITEMS) < 0.2 * (days < 20)] = np.datetime64("NaT")
    limit = np.datetime64("2024-01-06")

    items, values = given_model(scores).recommend(
        history, k, batch_size=batch_size, disliked=disliked, only_items=only,
        without_items=without, categories=words, per_category=per_category, item_dates=dates,
        newer_than=limit,
    )  # fmt: skip
    allowed = [i in only and i not in without and dates[i] > limit for i in range(N_ITEMS)]
    seen = [{*a, *b} for a, b in zip(history, disliked, strict=True)]
    expected = lists_by_search(scores, seen, allowed, words, per_category, k)
    found = [row[torch.isfinite(value)].tolist() for row, value in zip(items, values, strict=True)]
    assert found == expected


def test_each_filter_alone():
    scores = torch.arange(6.0).flip(0)[None]  # item 0 is the best

    def top(k=3, **how):
        return given_model(scores).recommend([[5]], k, **how)[0][0].tolist()

    assert top() == [0, 1, 2]
    assert top(only_items=[4, 3, 2]) == [2, 3, 4]
    assert top(without_items=[0, 2]) == [1, 3, 4]
    assert top(without_items=[]) == [0, 1, 2]
    assert top(disliked=[[1]]) == [0, 2, 3]
    assert top(disliked=[[1]], exclude_seen=False, k=5) == [0, 2, 3, 4, 5]
    assert top(categories=["a", "a", "a", "b", None, "b"], per_category=1) == [0, 3, 4]
    assert top(categories=["a", "a", "b", None, None, None], per_category=1) == [0, 2, 3]
    dates = ["2024-01-01", "2024-03-01", "NaT", "2024-05-01", "2024-02-01", "2024-04-01"]
    assert top(item_dates=dates, newer_than="2024-02-01", k=2) == [1, 3]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"only_items": []}, "no item is left"),
        ({"only_items": [30]}, "only_items must hold items from 0 to 29"),
        ({"without_items": ["a"]}, "without_items must be a list of item ids"),
        ({"categories": ["a"] * 30}, "categories and per_category go together"),
        ({"categories": ["a"], "per_category": 1}, "categories must hold one for each of 30 items"),
        ({"categories": ["a"] * 30, "per_category": 0}, "per_category must be at least 1"),
        ({"newer_than": "2024-01-01"}, "item_dates and newer_than go together"),
        ({"item_dates": ["soon"] * 30, "newer_than": "2024-01-01"}, "holds 'soon', which is no"),
        ({"item_dates": np.full(30, 1.7e9), "newer_than": "2024-01-01"}, "which is no date"),
        ({"item_dates": [None] * 30, "newer_than": 5}, "newer_than holds '5', which is no date"),
        ({"disliked": [[1], [2]]}, "disliked must have 1 rows, not 2"),
        ({"min_history": 2}, "does not know how popular items are"),
    ],
)
def test_what_does_not_fit_is_one_sentence(how, words):
    with pytest.raises(InputError, match=words):
        Model(N_ITEMS, dims=[2], steps=1).recommend([[1]], **how)


# Users of whom little is known


def test_the_unknown_get_what_is_popular(tiny, tmp_path):
    model = Model.for_dataset(tiny, dims=[8], steps=2)
    run = train(model, tiny, epochs=2, save_path=tmp_path)
    counts = np.bincount(tiny.train.items, minlength=tiny.n_items)
    for known in (model, Model.load(run.checkpoint)):
        assert known.popularity.tolist() == counts.tolist()
        history = [[], [1, 2], [1, 2, 3, 4]]
        items, scores = known.recommend(history, k=5)
        assert scores[0].tolist() == np.sort(counts)[::-1][:5].tolist()
        assert counts[items[0]].tolist() == scores[0].tolist()
        own = known.recommend(history, k=5, min_history=0)
        assert torch.equal(items[1:], own[0][1:])
        assert not torch.equal(scores[0], own[1][0])
        thin, scores = known.recommend(history, k=5, min_history=3)
        assert scores[1].tolist() == counts[thin[1]].tolist()
        assert not {1, 2} & set(thin[1].tolist())
        assert torch.equal(thin[2], items[2])


def test_a_file_that_does_not_tell_what_is_popular(tiny, tmp_path):
    """As those from before: an empty row has scores of the model's own."""
    model = Model.for_dataset(tiny, dims=[8], steps=2)
    run = train(model, tiny, epochs=2, save_path=tmp_path)
    header, _ = checkpoints.load(run.checkpoint)
    checkpoints.save(tmp_path / "old.safetensors", model, header)
    old = Model.load(tmp_path / "old.safetensors")
    assert old.popularity is None
    right = model.recommend([[]], k=3, min_history=0)
    torch.testing.assert_close(old.recommend([[]], k=3), right)
    checkpoints.save(tmp_path / "bad.safetensors", model, header, None, torch.ones(3))
    with pytest.raises(InputError, match="does not hold a count for each"):
        Model.load(tmp_path / "bad.safetensors")


# By the commands, by raw id


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    model = Model.for_dataset(tiny, dims=[16], steps=2)
    return train(model, tiny, lr=0.01, epochs=5, save_path=tmp_path_factory.mktemp("c")).checkpoint


@pytest.fixture
def recommend(run, checkpoint, tiny, tiny_folder, tmp_path):
    """Call inference.py --recommend with flags; a function to the lists, by item number."""
    raw = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"].astype(str)
    number = {name: place for place, name in enumerate(raw)}

    def call(*flags):
        out = tmp_path / "top.csv"
        done = run("DiffRec/inference.py", "--checkpoint", checkpoint, "--data_path", tiny_folder,
                   "--recommend", out, "--k", K, *flags)  # fmt: skip
        assert done.returncode == 0, done.stderr
        table = pd.read_csv(out, dtype={"item": str})
        return [
            [number[item] for item in part["item"]] for _, part in table.groupby("user", sort=False)
        ], done

    call.raw = raw.tolist()
    return call


def test_filters_by_the_command_line(recommend, checkpoint, tiny, tmp_path):
    model, raw = Model.load(checkpoint), recommend.raw
    scores = model.scorer()(tiny.train).detach()
    rows = join(tiny.seen(with_test=True), tiny.disliked())
    seen = [set(rows.slice(u, u + 1).items.tolist()) for u in range(tiny.n_users)]
    everyone, plain = [True] * tiny.n_items, [None] * tiny.n_items

    (tmp_path / "stock.txt").write_text("\n".join([*raw[:40], "nowhere"]))
    lists, done = recommend("--only_items", tmp_path / "stock.txt", "--without_items", raw[2])
    allowed = [i < 40 and i != 2 for i in range(tiny.n_items)]
    assert lists == lists_by_search(scores, seen, allowed, plain, 1, K)
    assert "only_items: 1 of 41 items are not known" in done.stderr

    words = [f"c{i % 3}" for i in range(tiny.n_items)]
    words[5] = None
    table = pd.DataFrame({"item": raw, "category": words}).dropna()
    table.to_csv(tmp_path / "categories.csv", index=False)
    lists, _ = recommend("--categories", tmp_path / "categories.csv", "--per_category", 2)
    assert lists == lists_by_search(scores, seen, everyone, words, 2, K)

    dates = [f"2024-{1 + i % 12:02}-01" for i in range(tiny.n_items)]
    table = pd.DataFrame({"item": raw, "date": dates, "more": 1})[1:]
    table.to_csv(tmp_path / "dates.csv", index=False)
    lists, _ = recommend("--item_dates", tmp_path / "dates.csv", "--newer_than", "2024-06-01T00:00")
    allowed = [i > 0 and date > "2024-06-01" for i, date in enumerate(dates)]
    assert lists == lists_by_search(scores, seen, allowed, plain, 1, K)


def test_what_was_rated_low_is_not_recommended(recommend, checkpoint, tiny, tiny_folder):
    """The folder tells it; the rows are those of ratings below the threshold."""
    low = tiny.disliked()
    assert len(low.items)
    known = tiny.seen(with_test=True).matrix()
    assert not known.multiply(low.matrix()).nnz
    lists, _ = recommend()
    bad = [set(low.slice(u, u + 1).items.tolist()) for u in range(tiny.n_users)]
    assert not any(set(row) & out for row, out in zip(lists, bad, strict=True))
    lists, _ = recommend("--exclude_disliked", "0")
    assert any(set(row) & out for row, out in zip(lists, bad, strict=True))


def test_a_history_is_filtered_too(run, checkpoint, tiny, tiny_folder, tmp_path):
    (tmp_path / "c.csv").write_text(
        "item,category\n" + "".join(f"{n},{n % 2}\n" for n in range(99))
    )
    call = [
        "DiffRec/inference.py",
        "--checkpoint",
        checkpoint,
        "--history",
        "1,2",
        "--raw_ids",
        "0",
    ]
    done = run(*call, "--k", "4", "--categories", tmp_path / "c.csv", "--per_category", "1")
    assert done.returncode == 0, done.stderr
    items = [int(line.split()[1]) for line in done.stdout.splitlines()[1:]]
    assert sorted(item % 2 for item in items) == [0, 1]
    counts = tiny.popularity()
    done = run(*call, "--k", "2", "--min_history", "3")
    scores = [float(line.split()[2]) for line in done.stdout.splitlines()[1:]]
    counts[[1, 2]] = 0
    assert scores == counts.sort(descending=True).values[:2].tolist()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--only_items", "nowhere"], "'nowhere' is no file, and none of its items is known"),
        (["--without_items", "no/file.txt"], "without_items: 'no/file.txt' is no file, and none"),
        (["--categories", "missing.csv", "--per_category", "1"], "missing.csv is not a file"),
        (["--per_category", "1"], "categories and per_category go together"),
        (["--item_dates", "d.csv", "--newer_than", "yesterday"], "'yesterday', which is no date"),
        (["--item_dates", "d.csv", "--newer_than", "2024-01-01"], "holds 'soon', which is no date"),
        (
            ["--categories", "d.csv", "--per_category", "1"],
            "must have the columns item and category",
        ),
        (["--categories", "t.csv", "--per_category", "1"], "has the item 1 twice"),
    ],
)
def test_a_mistake_is_one_sentence(
    run, checkpoint, tiny_folder, tmp_path, monkeypatch, flags, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("item,date\n1,soon\n")
    (tmp_path / "t.csv").write_text("item,category\n1,a\n1,b\n")
    done = run("DiffRec/inference.py", "--checkpoint", checkpoint, "--data_path", tiny_folder,
               "--recommend", "out.csv", "--raw_ids", "0", *flags)  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_the_example_of_the_page_runs(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").symlink_to(checkpoint)
    page = (REPOSITORY / "docs" / "own-data.md").read_text()
    block = re.findall(r"```python\n(.*?)```", page.split("## 4. Recommend")[1], re.DOTALL)[0]
    names = {}
    exec(block, names)
    assert names["items"].shape == (2, 10)
    assert not {5, 8} & set(names["items"][0].tolist())


def test_a_row_that_is_thin_by_name_alone(tiny):
    """Interactions of the data work as rows of ids do."""
    model = Model.for_dataset(tiny, dims=[8], steps=2).eval()
    model.popularity = tiny.popularity()
    rows = Interactions.from_histories([[1, 2], []], tiny.n_items)
    lists = model.recommend([[1, 2], []], k=4, min_history=2)
    assert all(map(torch.equal, model.recommend(rows, k=4, min_history=2), lists))
