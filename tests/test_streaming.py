"""Lists for more users than fit in memory: as those of the users at once, after stops too."""

import hashlib
import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from DiffRec import DiffRec as Model
from DiffRec.engine import streaming


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_folder):
    import DiffRec.main

    where = ["--data_path", str(tiny_folder), "--save_path", str(tmp_path_factory.mktemp("c"))]
    flags = ["--preset", "none", "--dims", "[16]", "--steps", "4", "--lr", ".01", "--epochs", "2"]
    record = DiffRec.main.main([*flags, *where])
    return tmp_path_factory.getbasetemp() / where[-1] / record["checkpoint"]


@pytest.fixture
def table(tiny, tiny_folder):
    """A row for each train interaction, by raw id, sorted by user."""
    raw = {name: pd.read_csv(tiny_folder / f"{name}_map.csv")[f"raw_{name}"].to_numpy()
           for name in ("user", "item")}  # fmt: skip
    pairs = tiny.train.pairs()
    return pd.DataFrame({"user": raw["user"][pairs[:, 0]], "item": raw["item"][pairs[:, 1]]})


@pytest.fixture
def recommend(run, checkpoint, tmp_path, monkeypatch):
    """Lists for a table of histories, in parts of 300 rows or of 30 lists; the process and what is
    in its folder."""
    monkeypatch.setattr(streaming, "PAIRS", 300)
    monkeypatch.setattr(streaming, "LISTS", 30)

    def call(table, *flags, out="top.parquet", groups=300, env=None):
        path = table
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table)
        if isinstance(table, pa.Table):
            path = tmp_path / "histories.parquet"
            pa.parquet.write_table(table, path, row_group_size=groups)
        flags = ["--checkpoint", checkpoint, "--histories", path, "--k", "6", *flags]
        done = run("DiffRec/inference.py", *flags, "--recommend", tmp_path / out, env=env)
        found = None
        if (tmp_path / out).is_dir():
            parts = sorted((tmp_path / out).glob("part-*.parquet"))
            found = pd.concat([pd.read_parquet(part) for part in parts]) if parts else None
        return done, found

    return call


def lists_of(table):
    """A row for each user."""
    return table.groupby("user", sort=True)["item"].agg(list).reset_index()


def expected(checkpoint, table, tiny_folder, k=6, **how):
    """What the model says to all users at once."""
    items = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"]
    number = {raw: number for number, raw in enumerate(items)}
    by_user = lists_of(table)
    histories = [[number[i] for i in row if i in number] for row in by_user["item"]]
    top, scores = Model.load(checkpoint).recommend(histories, k=k, **how)
    found = pd.DataFrame(
        {
            "user": np.repeat(by_user["user"].to_numpy(), k),
            "rank": np.tile(np.arange(1, k + 1), len(by_user)),
            "item": items.to_numpy()[top.numpy().ravel()], "score": scores.numpy().ravel(),
        }
    )  # fmt: skip
    return found[np.isfinite(found["score"])]


def test_users_of_two_parts_are_noised_apart(recommend, table, tiny_folder, tmp_path, monkeypatch):
    """By a model that draws when it ranks; each part has a seed of its own."""
    import DiffRec.main

    where = ["--data_path", str(tiny_folder), "--save_path", str(tmp_path / "noisy")]
    flags = ["--preset", "none", "--dims", "[16]", "--steps", "4", "--epochs", "1"]
    noise = ["--sampling_steps", "3", "--sampling_noise", "1", "--noise_scale", "1"]
    record = DiffRec.main.main([*flags, *noise, *where])
    histories = lists_of(table).iloc[[0] * 60].assign(user=range(60))
    more = ["--checkpoint", tmp_path / "noisy" / record["checkpoint"]]
    done, found = recommend(histories, *more)
    assert done.returncode == 0, done.stderr
    first, second = (found[found["user"] == user]["score"].tolist() for user in (0, 30))
    assert first != second


def same(found, wanted):
    assert found.columns.tolist() == ["user", "rank", "item", "score"]
    for name in ("user", "rank", "item"):
        assert found[name].tolist() == wanted[name].tolist()
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [7, 300, 10**6])
@pytest.mark.parametrize("layout", ["pairs", "times", "lists", "csv", "folder"])
def test_lists_are_those_of_all_users_at_once(
    recommend, checkpoint, table, tiny_folder, tmp_path, layout, groups
):
    wanted = expected(checkpoint, table, tiny_folder)
    source = table
    if layout == "times":  # the order within a user is that of time
        source = table.assign(timestamp=np.arange(len(table))).sample(frac=1, random_state=1)
        source = source.sort_values("user", kind="stable")
    elif layout == "lists":
        source = lists_of(table)
    elif layout == "csv":
        source = tmp_path / "h.csv"
        table.to_csv(source, index=False)
    elif layout == "folder":
        source = tmp_path / "folder"
        source.mkdir()
        for number in range(3):  # users go on from file to file
            part = table[number * 1111 : (number + 1) * 1111 if number < 2 else None]
            part.to_parquet(source / f"{number}.parquet", index=False)
    done, found = recommend(source, groups=groups)
    assert done.returncode == 0, done.stderr
    same(found, wanted)
    folder = tmp_path / "top.parquet"
    assert len(list(folder.glob("*.parquet"))) > 3
    pd.testing.assert_frame_equal(  # one table to others
        pd.read_parquet(folder), found.reset_index(drop=True), check_dtype=False
    )
    rows = duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall()
    assert rows == [(len(found),)]
    assert not [path for path in tmp_path.iterdir() if path.name[0] == "."]


def test_as_the_command_for_a_data_set(recommend, checkpoint, run, tmp_path):
    """A data set of train alone: the same files say the same of the same users."""
    from DiffRec import load_dataset
    from DiffRec.preparation import protocol, readers, synthetic, writer

    ratings = synthetic.make_ratings(n_users=120, n_items=80, mean_ratings=35, seed=3)
    split = protocol.prepare(readers.from_table(ratings), core=3, protocol="paper",
                             shares=(1, 0, 0))  # fmt: skip
    writer.write(tmp_path / "all", split)
    data = load_dataset(data_path=tmp_path / "all")
    flags = ["--dims", "[8]", "--steps", "2", "--epochs", "1", "--preset", "none"]
    where = ["--data_path", tmp_path / "all", "--save_path", tmp_path]
    assert run("DiffRec/main.py", *flags, *where).returncode == 0
    (model,) = tmp_path.glob("*.safetensors")
    asked = ["--checkpoint", model, "--without_items", "3,4", "--k", "9", "--min_history", "20"]
    done = run("DiffRec/inference.py", *asked, *where[:2], "--exclude_disliked", "0",
               "--recommend", tmp_path / "known.parquet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    pairs = data.train.pairs()
    table = pd.DataFrame({"user": split.raw_users[pairs[:, 0]],
                          "item": split.raw_items[pairs[:, 1]]})  # fmt: skip
    done, found = recommend(table, *asked)
    assert done.returncode == 0, done.stderr
    same(found, pd.read_parquet(tmp_path / "known.parquet"))


def test_a_user_longer_than_a_part_and_users_of_nothing(recommend, checkpoint, tiny_folder, table):
    items = table["item"].unique()
    rows = [("a", item) for item in [*items, *items] * 20] + [("b", items[0]), ("b", "nothing")]
    rows += [("c", "nothing")]
    many = pd.DataFrame(rows, columns=["user", "item"]).astype(str)
    done, found = recommend(many, "--k", "10000")
    assert done.returncode == 0, done.stderr
    assert "2 of" in done.stderr
    assert "items are not known" in done.stderr
    left = found.groupby("user").size()
    known = pd.read_csv(tiny_folder / "item_map.csv")["raw_item"]
    wanted = {"a": len(known) - len(items), "b": len(known) - 1, "c": len(known)}
    assert left.to_dict() == {user: n for user, n in wanted.items() if n}
    counts = Model.load(checkpoint).popularity
    assert found[found["user"] == "c"]["score"].tolist() == sorted(counts.tolist())[::-1]


def test_ids_in_a_csv_file_are_words(recommend, table, tmp_path):
    """Of items; users stay numbers where all of them are, and are sorted as such."""
    (tmp_path / "h.csv").write_text(f"user,item\n9,0{table['item'][0]}\n10,{table['item'][0]}\n")
    done, found = recommend(tmp_path / "h.csv")
    assert done.returncode == 0, done.stderr
    assert "1 of 2 items are not known" in done.stderr
    assert found["user"].unique().tolist() == [9, 10]
    items = table["item"].unique()
    lines = [f"{user},{item}" for user, item in zip(("007", "08", "7"), items, strict=False)]
    (tmp_path / "h.csv").write_text("\n".join(["user,item", *lines]))
    done, found = recommend(tmp_path / "h.csv", out="c.parquet")
    assert done.returncode == 0, done.stderr
    assert found["user"].unique().tolist() == ["007", "08", "7"]
    (tmp_path / "h.csv").write_text(f"user,item\n7,{items[0]}\n,{items[0]}\n")
    done, _ = recommend(tmp_path / "h.csv", out="d.parquet")
    assert "rows without user" in done.stderr
    (tmp_path / "h.csv").write_text(f"user,item,timestamp\n7,{items[0]},nan\n7,{items[1]},1.5\n")
    done, _ = recommend(tmp_path / "h.csv", out="e.parquet")
    assert "rows without timestamp" in done.stderr
    (tmp_path / "h.csv").write_text("user,item\n1,2,3\n")
    done, _ = recommend(tmp_path / "h.csv", out="b.parquet")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no whole file of histories" in done.stderr


def test_a_stopped_run_goes_on_and_parts_are_whole(recommend, table, tmp_path, monkeypatch):
    _, whole = recommend(table, out="whole.parquet")
    write, made = streaming.write_tables, []

    def stopped(path, tables):
        made.append(path)
        return write(path, tables if len(made) < 3 else interrupted(tables))

    def interrupted(tables):
        yield next(tables)
        raise KeyboardInterrupt

    monkeypatch.setattr(streaming, "write_tables", stopped)
    done, _ = recommend(table)
    assert done.returncode not in (0, 2)
    names = sorted(path.name for path in (tmp_path / "top.parquet").iterdir())
    assert names == ["_about.json", "part-00000.parquet", "part-00001.parquet"]
    monkeypatch.setattr(streaming, "write_tables", write)
    before = (tmp_path / "top.parquet" / "part-00001.parquet").stat().st_mtime_ns
    done, _ = recommend(table)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--resume goes on with it" in done.stderr
    done, found = recommend(table, "--resume")
    assert done.returncode == 0, done.stderr
    assert "; 2 were there" in done.stdout
    assert (tmp_path / "top.parquet" / "part-00001.parquet").stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(found, whole)
    for flags in (["--k", "5"], ["--exclude_seen", "0"]):  # others are another folder's
        done, _ = recommend(table, "--resume", *flags)
        assert done.returncode == 2
        assert "holds something else than these lists" in done.stderr


def test_lists_of_files_that_changed_are_others(recommend, table, tmp_path):
    """Of what is banned, and of the histories."""
    banned = tmp_path / "banned.txt"
    banned.write_text(f"{table['item'][0]}\n")
    done, _ = recommend(table, "--without_items", banned)
    assert done.returncode == 0, done.stderr
    done, _ = recommend(table, "--without_items", banned, "--resume")
    assert done.returncode == 0, done.stderr
    changed = table.copy()
    changed.loc[len(changed) - 1, "item"] = table["item"][0]
    done, _ = recommend(changed, "--without_items", banned, "--resume")
    assert "holds something else than these lists" in done.stderr
    banned.write_text(f"{table['item'][1]}\n")
    done, _ = recommend(table, "--without_items", banned, "--resume")
    assert "holds something else than these lists" in done.stderr


def test_processes_share_the_parts(recommend, table, tmp_path):
    _, whole = recommend(table, out="whole.parquet")
    for rank in "10":
        done, found = recommend(table, env={"RANK": rank, "WORLD_SIZE": "2"})
        assert done.returncode == 0, done.stderr
        assert f"the share of process {rank} of 2" in done.stdout
        odd = sorted((tmp_path / "top.parquet").glob("*.parquet"))
        assert (odd[0].name == "part-00001.parquet") == (rank == "1")
    pd.testing.assert_frame_equal(found, whole)
    done, _ = recommend(table, env={"RANK": "2", "WORLD_SIZE": "2"}, out="other.parquet")
    assert done.returncode == 2
    assert "RANK and WORLD_SIZE" in done.stderr


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (lambda t: t[::-1], [], "must be sorted by user, so that each one's rows stand together"),
        (lambda t: pa.table({"user": [2, 2, 1], "item": [1, 2, 3]}), [], "row 3 has the user 1"),
        (lambda t: t.rename(columns={"user": "who"}), [], "must have the columns user and item"),
        (lambda t: t.assign(item=1.5), [], "the column item must hold numbers or words"),
        (lambda t: t.assign(user=t["user"].where(t["user"] > 9)).astype("Int64"), [],
         "rows without user"),
        (lambda t: t, ["--users", "1,2"], "it does not go with histories"),
        (lambda t: t, ["--result_json", "x"], "not with serving"),
        (lambda t: pa.table({"user": [1], "item": [[1, None]]}), [], "hold an item that is none"),
        (lambda t: pa.table({"user": [1], "item": [[1, 2]], "timestamp": [[2, 1]]}), [],
         "the items of a list stand in order of time"),
        (lambda t: t.assign(timestamp="9/1/2021"), [], "timestamp must hold numbers, or dates"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(recommend, table, change, flags, words):
    done, _ = recommend(change(table), *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_categories_of_pandas_are_their_words(recommend, table):
    _, expected = recommend(table, out="plain.parquet")
    done, found = recommend(table.astype({"user": "category", "item": "category"}))
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(found, expected)


def test_a_folder_without_a_part_begins_anew(recommend, table):
    assert recommend(table[::-1])[0].returncode == 2  # not sorted
    done, found = recommend(table)
    assert done.returncode == 0, done.stderr
    assert len(found)


@pytest.mark.parametrize("name", ["h.csv.gz", "h.CSV"])
def test_texts_that_are_packed_or_named_otherwise(recommend, table, tmp_path, name):
    _, expected = recommend(table, out="plain.parquet")
    table.to_csv(tmp_path / name, index=False)
    done, found = recommend(tmp_path / name)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(found, expected)
    (tmp_path / "other.csv").write_text("user;item\n1;2\n")
    done, _ = recommend(tmp_path / "other.csv", out="o.parquet")
    assert f"{tmp_path / 'other.csv'} must have the columns user and item" in done.stderr


def test_a_folder_of_something_else_is_left_alone(recommend, table, tmp_path):
    (tmp_path / "top.parquet").mkdir()
    (tmp_path / "top.parquet" / "thesis.tex").touch()
    for flags in ([], ["--resume"]):
        done, _ = recommend(table, *flags)
        assert done.returncode == 2
        assert "holds something else" in done.stderr
    assert [path.name for path in (tmp_path / "top.parquet").iterdir()] == ["thesis.tex"]
    done, _ = recommend(table, out="top.csv")
    assert "must end in .parquet" in done.stderr
    done, _ = recommend(tmp_path / "none.parquet", out="b.parquet")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no file" in done.stderr


def test_what_the_folder_says(recommend, table, tmp_path):
    recommend(table, "--min_history", "3")
    about = json.loads((tmp_path / "top.parquet" / "_about.json").read_text())
    digest = hashlib.sha256((tmp_path / "histories.parquet").read_bytes()).hexdigest()
    assert about["histories"] == ["histories.parquet", digest]
    assert (about["k"], about["min_history"]) == (6, 3)
