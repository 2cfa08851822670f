"""What speaks for a recommendation: against leaving items out one by one by hand."""

import re
import shutil

import explain
import numpy as np
import pandas as pd
import pictures
import pytest
import torch

from baselines.models import MODELS
from DiffRec import DiffRec, InputError, Interactions, load_dataset, train
from T_DiffRec import TDiffRec


def changes_by_hand(model, row, items):
    """Score of each item with the row less that without each of its items."""
    score = model.eval().scorer()
    found = np.zeros((len(items), len(row.items)))
    with torch.no_grad():
        (whole,) = score(row)
        for n in range(len(row.items)):
            kept = torch.arange(len(row.items)) != n
            values = None if row.values is None else row.values[kept]
            offsets = torch.tensor([0, len(row.items) - 1])
            fewer = Interactions(offsets, row.items[kept], values, row.n_items)
            found[:, n] = (whole - score(fewer)[0])[items].numpy()
    return found


@pytest.mark.parametrize("name", ["DiffRec", "T-DiffRec", "EASE"])
def test_changes_are_those_of_leaving_out_one_by_one(tiny, tmp_path, name, monkeypatch):
    monkeypatch.setattr(explain, "rows_at_once", lambda n: 4)  # a history takes several batches
    model = {
        "DiffRec": lambda: DiffRec(tiny.n_items, dims=[8], steps=3),
        "T-DiffRec": lambda: TDiffRec(tiny.n_items, dims=[8], steps=3),
        "EASE": lambda: MODELS["EASE"].for_dataset(tiny),
    }[name]()
    train(model, tiny, epochs=1, save_path=tmp_path)
    data = model.prepare_data(tiny)
    row, seen = data.train.slice(5, 6), data.seen(with_test=True).slice(5, 6)
    found = explain.explain(model, row, seen, k=4)
    assert found.changes.shape == (4, len(row.items))
    assert len(row.items) > 4
    np.testing.assert_allclose(found.changes, changes_by_hand(model, row, found.items), atol=1e-5)
    assert np.abs(found.changes).max() > 1e-4
    assert not set(found.items) & set(seen.items.tolist())
    assert (np.diff(found.scores) <= 0).all()


def test_what_has_no_history_or_hides_it_is_refused(tiny):
    row = tiny.train.slice(0, 1)
    nobody = Interactions.from_histories([[]], tiny.n_items)
    noisy = DiffRec(tiny.n_items, dims=[4], steps=2, sampling_noise=True)
    for model, given, words in (
        (noisy, row, "draws noise"),
        (DiffRec(tiny.n_items, dims=[4], steps=2), nobody, "no history"),
        (MODELS["MF"].for_dataset(tiny), row, "vectors of their own"),
    ):
        with pytest.raises(InputError, match=words):
            explain.explain(model, given, given, k=3)
    everything = Interactions.from_histories([range(tiny.n_items)], tiny.n_items)
    with pytest.raises(InputError, match="nothing is left to recommend"):
        explain.explain(DiffRec(tiny.n_items, dims=[4], steps=2), row, everything, k=3)


def test_the_data_are_read_as_they_were_trained_on(tiny_folder, tmp_path, run):
    """Items beyond those of train were dropped; and the folder may hold several data sets."""
    folder = tmp_path / "data" / "mine"
    shutil.copytree(tiny_folder, folder)
    (folder / "item_map.csv").unlink()  # of all items
    rows = np.load(folder / "train_list.npy")
    np.save(folder / "train_list.npy", rows[rows[:, 1] < rows[:, 1].max()])
    with pytest.raises(InputError):
        load_dataset(data_path=folder)
    data = load_dataset(data_path=folder, drop_unknown=True)
    model = DiffRec.for_dataset(data, dims=[4], steps=2)
    file = train(model, data, epochs=1, save_path=tmp_path).checkpoint
    done = run("scripts/explain.py", "3", "--checkpoint", file, "--data_path", folder.parent,
               "--out", tmp_path / "e.png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "DiffRec on mine" in done.stdout
    assert "note:" not in done.stdout


def test_it_is_told_by_title_and_drawn(tiny_folder, tmp_path, run):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    table = pd.read_csv(folder / "item_map.csv")
    table["title"] = [f"Film, the {n}th" + " $5_{$" * (n % 2) for n in table["item"]]
    table.to_csv(folder / "item_map.csv", index=False)
    data = load_dataset(data_path=folder)
    model = DiffRec(data.n_items, dims=[8], steps=2)
    checkpoint = train(model, data, epochs=1, save_path=tmp_path).checkpoint
    number = int(data.disliked().lengths.argmax())  # who disliked most
    raw = pd.read_csv(folder / "user_map.csv")["raw_user"][number]
    base = ["scripts/explain.py", "--checkpoint", checkpoint, "--data_path", folder]
    done = run(*base, raw, "--k", "200", "--out", tmp_path / "why.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "why.png").stat().st_size > 10_000
    lines = re.findall(
        r"^ *\d+\. (\d+) Film, the \d+th(?: \$5_{\$)?  -?\d", done.stdout, re.MULTILINE
    )
    asked = ["DiffRec/inference.py", "--checkpoint", checkpoint, "--data_path", folder]
    run(*asked, "--recommend", tmp_path / "top.csv", "--users", raw, "--k", "200")
    assert lines == pd.read_csv(tmp_path / "top.csv", dtype=str)["item"].tolist()
    done = run(*base, "nobody", "--out", tmp_path / "none.png")
    assert (done.returncode, done.stderr) == (2, "error: there is no user 'nobody'.\n")
    assert not (tmp_path / "none.png").exists()


def test_letters_that_no_font_has_are_told_once(tmp_path, capsys, recwarn):
    pyplot = pictures.drawing()
    picture, axis = pyplot.subplots(layout="constrained")
    axis.set_title("用户 1")
    pictures.save(picture, tmp_path / "x.png")
    pyplot.close(picture)
    assert capsys.readouterr().out.count("some letters are in no font here") == 1
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (tmp_path / "x.png").is_file()
