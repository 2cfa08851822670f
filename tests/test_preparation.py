"""From raw ratings to splits: readers, protocol by hand, real ratings, noise, and the folder."""

import bz2
import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile

import data_report
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from DiffRec import Interactions, load_dataset
from DiffRec.engine import files
from DiffRec.engine.errors import InputError
from DiffRec.preparation import (
    download,
    inspection,
    prepare_folder,
    protocol,
    readers,
    synthetic,
    tables,
    writer,
)


def ratings(rows):
    return readers.from_table(pd.DataFrame(rows, columns=readers.COLUMNS))


def pairs_of(found):
    """(raw user, raw item) of each row."""
    table = found.table()
    return list(zip(table["user"], table["item"], strict=True))


# Readers

ROWS = [("u1", "i9", 5.0, 978300760), ("u2", "i3", 2.0, 978302109)]
NUMBERS = "1::9::5::978300760\n2::3::2::978302109\n"
JSON = [
    {"user_id": u, "business_id": i, "stars": r, "date": "2001-01-01 00:00:00", "text": "a\nb"}
    for u, i, r, _ in ROWS
]


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("somewhere/other.txt", "not this")
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, text in (("../../escape.txt", b"x"), (name, content)):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return buffer.getvalue()


def table(separator, header=""):
    lines = [separator.join(map(str, row)) for row in ROWS]
    return (header + "\n".join(lines) + "\n").encode()


def json_lines(renamed):
    return "\n".join(
        json.dumps({**dict(zip(renamed, row, strict=True)), "reviewText": "x"}) for row in ROWS
    ).encode()


HEAD = "user,item,rating,timestamp\n"
AMAZON = json_lines(("reviewerID", "asin", "overall", "unixReviewTime"))
RECBOLE = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("ratings.dat", NUMBERS.encode(), "movielens-1m"),
        ("ml-1m.zip", zipped("ml-1m/ratings.dat", NUMBERS), "movielens-1m"),
        ("u.data", NUMBERS.replace("::", "\t").encode(), "movielens-100k"),
        ("Books.csv", table(","), "amazon-csv"),
        ("Books.csv.gz", gzip.compress(table(",")), "amazon-csv"),
        ("Books.json", AMAZON, "amazon-json"),
        ("Books.json.gz", gzip.compress(AMAZON), "amazon-json"),
        ("x.inter", table("\t", RECBOLE), "recbole"),
        ("x.csv", table(",", HEAD), "csv"),
        ("x.csv.bz2", bz2.compress(table(",", HEAD)), "csv"),
        ("x.csv.xz", lzma.compress(table(",", HEAD)), "csv"),
        ("x.jsonl", json_lines(readers.COLUMNS), "jsonl"),
        ("x.tsv", table("\t", "user\titem\trating\ttimestamp\n"), "tsv"),
    ],
)
def test_every_format_gives_the_same_ratings(tmp_path, name, content, format):
    (tmp_path / name).write_bytes(content)
    found = readers.read(tmp_path / name, format)
    digits = format.startswith("movielens")
    expected = [(1, 9), (2, 3)] if digits else [("u1", "i9"), ("u2", "i3")]
    assert pairs_of(found) == expected
    assert found.table()["rating"].tolist() == [5, 2]
    assert found.table()["timestamp"].tolist() == [978300760, 978302109]


@pytest.mark.parametrize("name", ["yelp_academic_dataset_review.json", "yelp.tar", "r.json.gz"])
def test_yelp_in_place_and_its_dates(tmp_path, name):
    content = "\n".join(map(json.dumps, JSON)).encode()
    packed = {
        "yelp.tar": tarred("y/yelp_review.json", content),
        "r.json.gz": gzip.compress(content),
    }
    (tmp_path / name).write_bytes(packed.get(name, content))
    found = readers.read(tmp_path / name, "yelp")
    assert pairs_of(found) == [("u1", "i9"), ("u2", "i3")]
    assert found.table()["timestamp"].tolist() == [978307200] * 2
    assert not (tmp_path.parent.parent / "escape.txt").exists()  # nothing is unpacked


def test_parquet_and_named_columns(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["who", "what", "stars", "when"]).assign(more=1)
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_csv(tmp_path / "x.csv", index=False)
    names = ["who", "what", "stars", "when"]
    for name, format in (("x.parquet", "parquet"), ("x.csv", "csv")):
        assert pairs_of(readers.read(tmp_path / name, format, names)) == [
            ("u1", "i9"),
            ("u2", "i3"),
        ]


def test_json_lines_of_numbers_and_dates(tmp_path):
    rows = (7, 2, "4.5", "2001-01-01"), (3, 2, "5", "")
    lines = [json.dumps(dict(zip("uirt", row, strict=True))) for row in rows]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 2 has no valid timestamp"):
        readers.read(tmp_path / "x.jsonl", "jsonl", list("uirt"))
    found = readers.read(tmp_path / "x.jsonl", "jsonl", list("uirt"), drop_incomplete=True)
    assert found.table().to_numpy().tolist() == [[7, 2, 4.5, 978307200]]


def test_fields_may_hold_the_ends_of_lines(tmp_path, monkeypatch):
    """Also where a block would end within one."""
    monkeypatch.setattr(readers, "BLOCK", 40)
    rows = [f'u{n},"so\nit, {n}\n",i{n},5,{n}' for n in range(20)]
    (tmp_path / "x.csv").write_text("user,text,item,rating,timestamp\n" + "\n".join(rows))
    found = readers.read(tmp_path / "x.csv", "csv")
    assert pairs_of(found) == [(f"u{n}", f"i{n}") for n in range(20)]


def test_large_ids_are_kept_exactly(tmp_path):
    """Some are beyond what a signed number of 64 bits holds: they are words, as in a CSV."""
    users = np.array([2**64 - 3, 5, 2**63 + 1], dtype=np.uint64)
    frame = pd.DataFrame({"user": users, "item": [1, 2, 3], "rating": 5.0, "timestamp": 1})
    frame.to_parquet(tmp_path / "x.parquet")
    frame.to_csv(tmp_path / "x.csv", index=False)
    expected = [str(user) for user in users.tolist()]
    for name in ("parquet", "csv"):
        found = readers.read(tmp_path / f"x.{name}", name)
        assert (
            found.raw_users[found.database.arrays("FROM ratings")["user_no"]].tolist() == expected
        )


def test_a_missing_id_among_large_ones_is_told_by_its_row(tmp_path):
    users = pd.array([2**60 + 1, 2**60 + 3, None], "Int64")
    pd.DataFrame({"user": users, "item": 1, "rating": 5, "timestamp": 1}).to_parquet(
        tmp_path / "x.parquet"
    )
    with pytest.raises(InputError, match="row 3 has no valid user"):
        readers.read(tmp_path / "x.parquet", "parquet")


def test_incomplete_rows_are_left_out_if_asked_for(tmp_path, caplog):
    good = synthetic.make_ratings(seed=1)
    bad = good.astype({"rating": object})
    bad.loc[[3, 9], "rating"] = None
    with pytest.raises(InputError, match="row 3 has no valid rating"):
        prepare_folder(bad, tmp_path / "a", core=3)
    folder = prepare_folder(bad, tmp_path / "a", core=3, drop_incomplete=True)
    expected = prepare_folder(good.drop([3, 9]), tmp_path / "b", core=3)
    assert load_dataset(data_path=folder).fingerprint() == (
        load_dataset(data_path=expected).fingerprint()
    )
    assert "2 rows that lack something are left out." in caplog.messages


def test_ids_with_spaces_around_are_told(tmp_path, caplog):
    (tmp_path / "x.csv").write_text(f"{HEAD}u ,i,5,1\nu,i,5,2\n")
    assert readers.read(tmp_path / "x.csv", "csv").raw_users.tolist() == ["u ", "u"]
    assert caplog.messages == ["1 ids of users begin or end with spaces, which count: 'u ' is one."]


def test_noise_that_is_not_there(tmp_path, caplog):
    ratings = synthetic.make_ratings(seed=1)
    log = ratings.drop(columns="rating")
    with pytest.raises(InputError, match="there is no natural noise"):
        prepare_folder(log, tmp_path / "a", columns=["user", "item", "timestamp"], noise=0.1)
    prepare_folder(ratings, tmp_path / "a", core=3, noise=9)
    assert "rows were asked for, and" in caplog.text


def test_a_log_without_ratings(tmp_path, run):
    """Three columns: every row is an interaction."""
    frame = pd.DataFrame(ROWS, columns=["who", "what", "stars", "when"])
    frame = frame.drop(columns="stars")
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.json").write_text(frame.to_json(orient="records", lines=True))
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    names = ["who", "what", "when"]
    for name, format, columns in (
        ("x.csv", "csv", names), ("x.parquet", "parquet", names), ("x.json", "amazon-json", names),
        ("bare.csv", "amazon-csv", ["0", "1", "2"]),
    ):  # fmt: skip
        found = readers.read(tmp_path / name, format, columns)
        assert pairs_of(found) == [("u1", "i9"), ("u2", "i3")]
        assert found.table()["rating"].tolist() == [1, 1]
        assert found.table()["timestamp"].tolist() == [978300760, 978302109]
    rows = [(u, (3 * u + i) % 20, 100 * u + i) for u in range(9) for i in range(20)]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "log.csv", index=False)
    done = run("scripts/prepare_data.py", tmp_path / "log.csv", "--format", "csv", "--columns",
               "who,what,when", "--core", "2", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sum(len(np.load(file)) for file in (tmp_path / "out").glob("*_list.npy")) == 180
    with pytest.raises(InputError, match="or without ratings three of them"):
        readers.read(tmp_path / "x.csv", "csv", ["who", "what"])


@pytest.mark.parametrize(
    "name", ["plays.txt", "plays", "plays.txt.gz", "plays.zip", "plays.tar.gz"]
)
def test_double_colons_in_a_file_of_any_name(tmp_path, name):
    content = {
        "plays.txt.gz": gzip.compress(NUMBERS.encode()), "plays.tar.gz": None, "plays.zip": None,
    }.get(name, NUMBERS.encode())  # fmt: skip
    if name == "plays.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("some/plays.txt", NUMBERS)
    elif name == "plays.tar.gz":
        (tmp_path / "plays.txt").write_text(NUMBERS)
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            archive.add(tmp_path / "plays.txt", "plays.txt")
    else:
        (tmp_path / name).write_bytes(content)
    assert pairs_of(readers.read(tmp_path / name, "movielens-1m")) == [(1, 9), (2, 3)]


@pytest.mark.parametrize(
    ("lowest", "highest", "min_rating", "warned"),
    [
        (1, 10, 4, True), (1, 10, 6, False), (1, 5, 4, False), (1, 5, 2, False), (1, 10, 1, False),
        (1, 100, 50, True), (5, 100, 4, True), (5, 100, 0, False), (5, 100, 3, False),
    ],
)  # fmt: skip
def test_a_threshold_of_another_scale_is_warned_of(caplog, lowest, highest, min_rating, warned):
    """4, the default, is hardly meant where it keeps all."""
    protocol.check_threshold(lowest, highest, 0.5, min_rating)
    assert ("is it meant for another scale?" in caplog.text) == warned
    with pytest.raises(InputError, match=f"reaches min_rating 101: they go from {lowest} to"):
        protocol.check_threshold(lowest, highest, 0, 101)


def test_a_file_of_ones_own_is_split_as_the_paper_says(run, tmp_path):
    """Validation before test; and the output says so."""
    rows = [(u, (3 * u + i) % 20, 5, 100 * u + i) for u in range(9) for i in range(20)]
    pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"]).to_csv(
        tmp_path / "x.csv", index=False
    )
    call = ["scripts/prepare_data.py", tmp_path / "x.csv", "--format", "csv", "--core", "2"]
    for flags, words in (
        ([], "protocol paper: each user's interactions are cut in time into train, validation and "
             "test, ratio 7:1:2."),
        (["--ratio", "8:1:1"], "validation and test, ratio 8:1:1."),
        (["--protocol", "released"], "train, test and validation, ratio 7:1:2."),
    ):  # fmt: skip
        done = run(*call, "--out", tmp_path / "out", *flags)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        times = {name: np.load(tmp_path / "out" / f"{name}_times.npy") for name in protocol.SPLITS}
        users = {name: np.load(tmp_path / "out" / f"{name}_list.npy")[:, 0]
                 for name in protocol.SPLITS}  # fmt: skip
        first, second = ("test", "valid") if "released" in flags else ("valid", "test")
        for user in range(9):
            assert times[first][users[first] == user].max() < times[second][
                users[second] == user
            ].min()  # fmt: skip
        assert "no item in test" not in done.stdout
    few = [(u, i, 5, 10 * u + i) for u in range(3) for i in range(3 + 10 * u)]  # 3, 13 and 23
    pd.DataFrame(few, columns=["user", "item", "rating", "timestamp"]).to_csv(
        tmp_path / "x.csv", index=False
    )
    done = run(*call[:-1], "1", "--out", tmp_path / "few")
    without = 3 - len(np.unique(np.load(tmp_path / "few" / "test_list.npy")[:, 0]))
    assert 0 < without < 3
    assert f"\n{without} users have no item in test: metrics count them as 0" in done.stdout


def test_ids_are_words_unless_all_are_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("NA,01,5,1\n7,1,4,2\n")
    found = readers.read(tmp_path / "a.csv", "amazon-csv")
    assert found.raw_users.tolist() == ["NA", "7"]
    assert found.raw_items.tolist() == ["01", "1"]
    (tmp_path / "b.csv").write_text("10,5,5,1\n9,1,4,2\n")
    found = readers.read(tmp_path / "b.csv", "amazon-csv")
    assert found.raw_users.tolist() == [10, 9]


def test_a_quoted_header_and_fractions_of_seconds(tmp_path):
    lines = '"user","item","rating","timestamp"\n"a,b","x",5,0.9\n"a,b","y",5,0.1\n'
    (tmp_path / "a.csv").write_text(lines)
    found = readers.read(tmp_path / "a.csv", "csv")
    assert found.raw_users.tolist() == ["a,b"]
    assert found.table()["timestamp"].tolist() == [0.9, 0.1]


@pytest.mark.parametrize(
    ("content", "format", "words"),
    [
        (b"1::2::five::3\n", "movielens-1m", "line 1 has no valid rating"),
        (b"1::2::5::3\n1::3::5::\n", "movielens-1m", "line 2 has no valid timestamp"),
        (b"1::2::5::inf\n", "movielens-1m", "line 1 has no valid timestamp"),
        (b"1::2::5::10/01/2021\n", "movielens-1m", "timestamp .a number, or a date such as 2021-"),
        (
            table(",", "user,item,rating,timestamp\n") + b",i,3,4\n",
            "csv",
            "line 4 has no valid user",
        ),
        (b"1,2,5,3\n", "movielens-1m", "no column 1, 2, 3"),
        (
            table(",", "a,b,c,d\n"),
            "csv",
            "no column user, item, rating, timestamp; it has a, b, c, d",
        ),
        (b"1,2,3,4\n1,2,3,4,5,6\n", "amazon-csv", "line 2 has 6 columns, where there are 4"),
        ("user,item,rating,timestamp\nZoë,2,3,4\n".encode("latin-1"), "csv", "is not in UTF-8"),
        ("user,item,rating,timestamp\nZoë,2,3,4\n".encode("utf-16"), "csv", "is in UTF-16"),
        (b"user,item\n1,2,3,4\n", "csv", "no column rating, timestamp; it has user, item"),
        (HEAD.encode() + b"1,2,3,4,5\n", "csv", "rows of 5 columns, but 4 names"),
        (b"user;item;rating;timestamp\n1;2;3,5;4\n", "csv", "Is it separated by ';'"),
        (
            HEAD.encode() + b'\n\na,"b\n\n",4,1\na,c,x,2\n',
            "csv",
            "line 7 has no valid rating",
        ),
        (
            b'{"user": 1, "item": 2, "rating": 3, "timestamp": 4}\n{"user": "a"}\n',
            "jsonl",
            "with the same kind of value in a field",
        ),
        (b"user;item;rating;timestamp\n1;2;3;4\n", "csv", "Is it separated by ';'"),
        (b"no json\n", "amazon-json", "does not hold a JSON object a line"),
        (b"", "movielens-1m", "holds no ratings"),
        (b"PAR1", "parquet", "not a whole Parquet file"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, content, format, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        readers.read(tmp_path / "file", format)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "columns", "words"),
    [
        (lambda t: t, None, []),
        (lambda t: t.assign(timestamp=t["timestamp"] * 1000), None, ["seem to be milliseconds"]),
        (lambda t: t.assign(timestamp=20200914 + t.index), None, ["to be days as 20200914"]),
        (lambda t: t.assign(timestamp=t["timestamp"] * (1 + 999 * (t.index > 50))), None,
         ["some seem to be seconds"]),
        (lambda t: t, ["user", "item", "rating"],
         ["row is an interaction, at the time in rating", "lie between 1 and 5"]),
        (lambda t: t, ["user", "item", "timestamp"], ["at the time in timestamp"]),
    ],
)  # fmt: skip
def test_odd_times_are_told(tmp_path, caplog, change, columns, words):
    caplog.set_level("INFO")
    table = change(synthetic.make_ratings(seed=1))
    prepare_folder(table, tmp_path / "a", columns=columns, core=3)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(words)
    assert all(part in line for part, line in zip(words, told, strict=True))


def test_what_test_shares_with_train_is_counted(tiny):
    assert inspection.describe(tiny)["pairs of test that train or validation has"] == 0
    pairs = np.concatenate([tiny.test.pairs(), tiny.train.pairs()[:7], tiny.valid.pairs()[:2]])
    rows = Interactions.from_pairs(pairs, tiny.n_users, tiny.n_items)
    found = inspection.describe(dataclasses.replace(tiny, test=rows))
    assert found["pairs of test that train or validation has"] == 9
    assert found["pairs of validation that train has"] == 0


def test_damaged_archives(tmp_path):
    whole = {
        "a.zip": zipped("ratings.dat", NUMBERS * 100), "a.gz": gzip.compress(NUMBERS.encode() * 99),
        "a.tar.gz": tarred("ratings.dat", NUMBERS.encode() * 100),
    }  # fmt: skip
    for name, content in whole.items():
        path = tmp_path / name
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="damaged or truncated"):
            readers.read(path, "movielens-1m")
    (tmp_path / "b.zip").write_bytes(zipped("other.dat", NUMBERS))
    with pytest.raises(InputError, match=r"holds no file named ratings\.dat"):
        readers.read(tmp_path / "b.zip", "movielens-1m")
    with pytest.raises(InputError, match="there is no file"):
        readers.read(tmp_path / "none", "movielens-1m")
    with pytest.raises(InputError, match="format must be one of"):
        readers.read(tmp_path / "b.zip", "xml")


def test_chunks_are_numbered_as_one_file(tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.integers(1, 50, size=(500, 4)))
    tables = [rows[:137], rows[137:300], rows[300:]]
    named = [t.set_axis(list(readers.COLUMNS), axis=1) for t in tables]
    found = readers.collect(iter(named))
    assert pairs_of(found) == list(map(tuple, rows[[0, 1]].to_numpy().tolist()))


# A data set from Python


def as_seconds(times, unit):
    """Dates of whole seconds, kept in such units, as pandas and Parquet have them."""
    return pd.to_datetime(times, unit="s").astype(f"datetime64[{unit}]")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_are_seconds_in_whatever_unit_a_table_has_them(tmp_path, unit):
    wanted = [978300760, 978302109]
    rows = pd.DataFrame(ROWS, columns=readers.COLUMNS).assign(timestamp=as_seconds(wanted, unit))
    rows.to_parquet(tmp_path / "x.parquet")
    for found in (readers.read(tmp_path / "x.parquet", "parquet"), readers.from_table(rows)):
        assert found.table()["timestamp"].tolist() == wanted
    zoned = rows.assign(timestamp=rows["timestamp"].dt.tz_localize("Asia/Tokyo"))
    assert readers.from_table(zoned).table()["timestamp"].tolist() == [t - 9 * 3600 for t in wanted]


def test_a_table_becomes_the_folder_that_its_file_becomes(tmp_path, run):
    """With columns of any names, beside others, and with any index."""
    names = ["who", "what", "stars", "when"]
    table = synthetic.make_ratings(120, 80, 35, seed=3).set_axis(names, axis=1)
    table.to_csv(tmp_path / "own.csv", index=False)
    flags = ["--format", "csv", "--columns", ",".join(names), "--core", "3"]
    done = run("scripts/prepare_data.py", tmp_path / "own.csv", *flags, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    table = table.set_index(table.index[::-1]).assign(note="?")
    folder = prepare_folder(table, tmp_path / "b", columns=names, core=3)
    data = load_dataset(data_path=folder)
    assert data.fingerprint() == load_dataset(data_path=tmp_path / "a").fingerprint()
    for path in (tmp_path / "a").iterdir():
        if path.name != "stats.json":
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    folder = prepare_folder(table, tmp_path / "c", columns=["who", "what", "when"], core=3)
    log = load_dataset(data_path=folder)
    assert len(log.train.items) > len(data.train.items)  # every row counts
    folder = prepare_folder(tmp_path / "own.csv", str(tmp_path / "d"), "csv", names, core=3)
    assert load_dataset(data_path=folder).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("changed", "how", "words"),
    [
        ({"rating": [5.0, None]}, {}, "row 1 has no valid rating"),
        ({"user": ["", "u2"]}, {}, "row 0 has no valid user"),
        ({"timestamp": ["2001-01-01", "01/02/2001"]}, {}, "row 1 has no valid timestamp"),
        ({}, {"columns": ["who", "item", "rating", "timestamp"]}, "the table has no column who"),
        ({}, {"columns": ["user", "item"]}, "columns must name user, item, rating and timestamp"),
        ({}, {"format": "csv"}, "a table has no format"),
        ({}, {"protocol": "best"}, "protocol must be 'released'"),
        ({}, {"shares": (8, 1)}, "shares must be three numbers, as in 8:1:1"),
        ({}, {"shares": (1e308, 1e308, 1)}, "shares must have a share of train above 0"),
        ({}, {"shares": "8:1:1", "protocol": "released"}, "a ratio is for the protocols paper"),
        ({}, {"core": "1); DROP TABLE"}, "core must be an integer"),
        ({}, {"noise": float("nan")}, "noise must be a finite number"),
        ({}, {"corr": 1}, "there is no setting corr: did you mean core"),
        ({}, {"columns": "user,item,timestamp", "min_rating": 5}, "leave min_rating out"),
        ({}, {"columns": ["user", "user", "rating", "timestamp"]}, "columns must name user, item"),
        ({"rating": pd.array([5, None], "Int64")}, {}, "row 1 has no valid rating"),
        ({"timestamp": pd.array([None, 5], "Float64")}, {}, "row 0 has no valid timestamp"),
        ({"timestamp": pd.to_timedelta([5, 6], unit="s")}, {}, "row 0 has no valid timestamp"),
        ({"user": [1.5, 2]}, {}, "row 0 has no valid user"),
        ({"item": pd.Categorical([1, None])}, {}, "row 1 has no valid item"),
        ({"user": [b"\xff", "u"]}, {}, "row 0 has no valid user"),
        ({"item": ["a", "b\rc"]}, {}, "the item 'b.rc' holds the end of a line"),
        ({}, {}, "no user and item is left"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_and_leaves_nothing(tmp_path, changed, how, words):
    table = pd.DataFrame(ROWS, columns=readers.COLUMNS).assign(**changed)
    with pytest.raises(InputError, match=words):
        prepare_folder(table, tmp_path / "out", **how)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="there is no file"):
        prepare_folder(tmp_path / "x.csv", tmp_path / "out")
    (tmp_path / "x.csv").touch()
    with pytest.raises(InputError, match="is a file, and needs a format"):
        prepare_folder(tmp_path / "x.csv", tmp_path / "out")
    with pytest.raises(InputError, match="out is a folder's path, not int"):
        prepare_folder(table, 3)


KINDS = {
    "words": lambda x: x.astype(str),
    "numbers and words": lambda x: x.astype(object).where(x % 2 == 0, x.astype(str)),
    "floats of a merge": lambda x: x.astype(float),
    "nullable": lambda x: x.astype("Int64"),
    "categories": lambda x: x.astype("category"),
    "categories of words": lambda x: x.astype(str).astype("category"),
    "arrow": lambda x: x.astype("int64[pyarrow]"),
    "arrow floats": lambda x: x.astype("double[pyarrow]"),
    "bytes": lambda x: x.astype(str).str.encode("utf-8"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_all_kinds_are_the_same_ids(kind):
    """One merge, concatenation or file format is enough to change what pandas keeps them as."""
    table = synthetic.make_ratings(50, 40, 20, seed=3)
    wanted = readers.from_table(table)
    made = table.assign(user=KINDS[kind](table["user"]), item=KINDS[kind](table["item"]))
    found = readers.from_table(made)
    assert found.raw_items.tolist() == wanted.raw_items.tolist()
    assert found.raw_users.tolist() == wanted.raw_users.tolist()


def test_ids_that_are_numbers_in_one_file_and_words_in_another_are_refused(tmp_path):
    table = synthetic.make_ratings(50, 40, 20, seed=3)
    table.to_parquet(tmp_path / "1.parquet")
    table.astype({"item": str}).to_parquet(tmp_path / "2.parquet")
    with pytest.raises(InputError, match="some ids of items are numbers and others words"):
        readers.read(tmp_path, "parquet")


def test_numbers_and_dates_of_all_kinds(tmp_path):
    table = pd.DataFrame(ROWS, columns=readers.COLUMNS)
    far = ["9999-12-31", "0001-01-01"]
    assert readers.from_table(table.assign(timestamp=far)).table()["timestamp"].tolist() == [
        253402214400, -62135596800,
    ]  # fmt: skip
    zoned = pd.to_datetime(table["timestamp"], unit="s").astype("timestamp[ns, UTC][pyarrow]")
    kinds = {
        "timestamp": zoned, "rating": table["rating"].astype("double[pyarrow]"),
    }  # fmt: skip
    for name, values in kinds.items():
        found = readers.from_table(table.assign(**{name: values})).table()
        assert found[name].tolist() == table[name].tolist()
    liked = table["rating"].gt(3)
    for kind in ("bool", "boolean", "bool[pyarrow]"):
        found = readers.from_table(table.assign(rating=liked.astype(kind))).table()
        assert found["rating"].tolist() == [1, 0]
    twice = pd.concat([table, table[["user"]]], axis=1)
    with pytest.raises(InputError, match="the table has more than one column user"):
        readers.from_table(twice)


def test_arguments_may_be_numpys_and_a_home_be_shortened(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table = synthetic.make_ratings(120, 80, 35, seed=3)
    how = {"core": np.int64(3), "min_rating": np.float32(4), "shares": np.array([8, 1, 1])}
    folder = prepare_folder(table, "~/x", columns=table.columns, **how)
    assert folder == tmp_path / "x"
    prepared = json.loads((folder / "stats.json").read_text())["prepared"]
    assert prepared == {
        "min_rating": 4, "core": 3, "protocol": "paper", "shares": [8, 1, 1], "noise": 0,
        "random_noise": 0, "seed": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match="must be a table of pandas or a file"):
        prepare_folder(table.to_dict(), tmp_path / "y")


# Protocol


def prepared(rows, **how):
    """The protocol on ratings by hand, all of it train unless ``how`` says otherwise."""
    how = {"protocol": "paper", "shares": (1, 0, 0), "core": 1, **how}
    return protocol.prepare(ratings(rows), **how)


def raw_pairs(split, name="train"):
    """(raw user, raw item) of each row of a split."""
    return [(split.raw_users[u], split.raw_items[i]) for u, i in split.pairs[name].tolist()]


def test_of_a_repeated_pair_the_latest_rating_counts(caplog):
    rows = [(1, 7, 5, 30), (1, 8, 4, 10), (1, 7, 2, 40), (1, 8, 3, 5), (1, 8, 5, 10)]
    split = prepared(rows, min_rating=1)
    assert [record.getMessage() for record in caplog.records] == [
        "3 of 5 rows are of a pair of user and item that comes again: its latest counts."
    ]
    assert raw_pairs(split) == [(1, 8), (1, 7)]
    assert split.ratings["train"].tolist() == [5, 2]
    assert raw_pairs(prepared(rows)) == [(1, 8)]  # what is not liked in the end is not liked


def test_k_core_repeats_until_stable():
    """Item 3 falls first, then user c, who then has too few, then nothing more."""
    rows = [(u, i, 5, 0) for u, i in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 2), ("c", 3)]]
    assert raw_pairs(prepared(rows, core=2)) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    with pytest.raises(InputError, match="3-core"):
        prepared(rows, core=3)


@pytest.mark.parametrize(("n", "sizes"), [(10, (8, 1, 1)), (20, (15, 2, 3)), (1, (1, 0, 0))])
def test_sizes_of_a_users_splits_by_hand(n, sizes):
    """First int(0.7 n) + 1, then up to int(0.8 n) + 1, then the rest."""
    for order in (("train", "test", "valid"), ("train", "valid", "test")):
        database = tables.Database()
        at, rows = database.schema(), np.arange(n)
        columns = ("row", "user_no", "item_no", "rating", "time")
        database.insert(f"{at}.kept", **dict.fromkeys(columns, rows) | {"user_no": 0 * rows})
        protocol.cut(database, at, protocol.per_user((7, 1, 2), order))
        split = database.arrays(f"SELECT split FROM {at}.cut ORDER BY row")["split"]
        expected = np.repeat([protocol.SPLITS.index(name) for name in order], sizes)
        assert split.tolist() == expected.tolist()


def test_order_threshold_and_numbering():
    """Time orders a user's rows, ties keep the file's order, low ratings go."""
    low = [(7, 40, 3, 2)]
    rows = [(7, 30, 5, 9), (7, 10, 4, 1), (7, 20, 5, 9), *low, (3, 20, 5, 1), (3, 30, 4, 2)]
    split = prepared(rows)
    assert split.raw_users.tolist() == [3, 7]
    assert split.pairs["train"].tolist() == [[0, 0], [0, 1], [1, 2], [1, 1], [1, 0]]
    assert split.raw_items.tolist() == [20, 30, 10]
    assert split.times["train"].tolist() == [1, 2, 1, 9, 9]


def test_a_rating_of_the_threshold_itself_is_an_interaction():
    """Also where it is no number that float32 holds."""
    rows = [(1, 1, 4.1, 0), (1, 2, 4.0, 1), (1, 3, 5, 2)]
    assert raw_pairs(prepared(rows, min_rating=4.1)) == [(1, 1), (1, 3)]


@pytest.fixture(scope="module")
def made_up():
    """Ratings whose users rate all along the time of the data."""
    table = synthetic.make_ratings(200, 120, 40, seed=4)
    table["timestamp"] = np.random.default_rng(1).integers(10**6, size=len(table))
    return readers.from_table(table)


def test_the_global_protocol_does_not_know_the_future(made_up):
    split = protocol.prepare(made_up, core=3, protocol="global")
    assert split.times["train"].max() < split.times["valid"].min()
    assert split.times["valid"].max() < split.times["test"].min()
    assert set(split.pairs["test"][:, 1]) <= set(split.pairs["train"][:, 1])
    assert set(split.pairs["test"][:, 0]) <= set(split.pairs["train"][:, 0])


def test_a_ratio_of_ones_own(made_up):
    split = protocol.prepare(made_up, core=3, protocol="paper", shares=(8, 1, 1))
    clean = protocol.prepare(made_up, core=3, protocol="paper")
    assert len(split.pairs["train"]) > len(clean.pairs["train"])
    for wrong, words in (
        ({"shares": (8, 1, 1)}, "a ratio is for the protocols paper and global"),
        ({"protocol": "paper", "shares": (0, 1, 1)}, "must have a share of train above 0"),
    ):
        with pytest.raises(InputError, match=words):
            protocol.prepare(made_up, **wrong)
    with pytest.raises(InputError, match="core"):
        protocol.prepare(made_up, core=500)
    with pytest.raises(InputError, match=r"too few interactions.*test"):
        protocol.prepare(ratings([(1, i, 5, i) for i in range(3)]), core=1)


def many_ratings(n=4000, seed=1):
    """Ratings with repeated pairs, equal times, fractions of seconds and ids that are words."""
    random = np.random.default_rng(seed)
    users, items = random.integers(80, size=n), random.integers(60, size=n)
    times = random.integers(300, size=n) + random.choice([0, 0.5], n)
    values = random.choice([1, 2, 3, 3.5, 4, 5], n)
    return pd.DataFrame(
        {"user": [f"u{u}" for u in users], "item": items, "rating": values, "timestamp": times}
    )


def digest(folder):
    """Of all bytes of a folder's files."""
    total = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:12]


# Of what NumPy made of the same ratings, all of them in memory, before a database did.
BYTES = {
    "released": ("078816abdea7", "d503cb77dfa7"),
    "paper": ("e23d131272c8", "8767d2d0b8d5"),
    "global": ("9e9851591cee", "f1225be017ca"),
    "leave_one_out": ("94148bd2c5ad", "94148bd2c5ad"),  # which has no noise
}


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("how", BYTES)
def test_prepared_data_are_those_of_an_implementation_in_memory(tmp_path, how, noise):
    """To the byte: order, ties, numbers, types, and what stats.json says."""
    more = {"noise": 0.2, "random_noise": 0.1} if noise and how != "leave_one_out" else {}
    shares = {"shares": (6, 1, 3)} if noise and how in ("paper", "global") else {}
    split = protocol.prepare(
        readers.from_table(many_ratings()), core=8, protocol=how, **more, **shares
    )
    about = {"evaluation": protocol.NEXT_ITEM} if how == "leave_one_out" else None
    writer.write(tmp_path / "data", split, about)
    assert digest(tmp_path / "data") == BYTES[how][noise]


def test_what_does_not_fit_in_memory_goes_to_the_folder(tmp_path, monkeypatch):
    """With next to no memory, and a few rows at a time, the result is the same."""
    table = many_ratings(100_000)
    table["item"] = np.random.default_rng(2).integers(9000, size=len(table))
    found = {}
    for memory, rows in (("1GB", 10**6), ("16MB", 7001)):
        monkeypatch.setattr(tables, "MEMORY", memory)
        for module in (tables, writer):
            monkeypatch.setattr(module, "ROWS", rows)
        with tables.Database(tmp_path / memory) as database:
            database.run("SET threads = 2")  # each takes some
            ratings = readers.from_table(table, database)
            writer.write(tmp_path / memory, protocol.prepare(ratings, core=5, noise=0.1))
        found[memory] = digest(tmp_path / memory)
    assert found["16MB"] == found["1GB"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError("no")])
def test_temporary_folders_lie_beside_the_result_and_vanish(tmp_path, error, monkeypatch, run):
    table = tmp_path / "x.csv"
    many_ratings().to_csv(table, index=False)
    there = []

    def interrupted(*args):
        there.extend(path.name for path in (tmp_path / "deep").iterdir())
        raise error

    monkeypatch.setattr(protocol, "k_core", interrupted)
    call = ["scripts/prepare_data.py", table, "--format", "csv", "--out", tmp_path / "deep" / "out"]
    with contextlib.suppress(KeyboardInterrupt):
        assert run(*call).returncode
    assert len(there) == 1
    assert there[0].startswith(".out.")
    assert not list((tmp_path / "deep").iterdir())


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
    table = many_ratings()
    table.to_parquet(tmp_path / "all.parquet")
    (tmp_path / "parts").mkdir()
    for number in range(3):
        part = table[number * 1500 : (number + 1) * 1500]
        part.to_parquet(tmp_path / "parts" / f"part-{number}.parquet")
    whole, parts = (readers.read(tmp_path / n, "parquet").table() for n in ("all.parquet", "parts"))
    pd.testing.assert_frame_equal(whole, parts)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"nor any \.parquet file in it"):
        readers.read(tmp_path / "none", "parquet")


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
@pytest.mark.parametrize("shape", [(0,), (7,), (12, 2), (1000, 2)])
def test_arrays_are_written_as_numpy_does(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    with writer.NpyFile(tmp_path / "b.npy") as file:
        file.append(array[:5])
        file.append(array[5:])
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("how", ["released", "paper", "global"])
def test_natural_noise(made_up, how):
    """Low ratings join train and validation, in order of time; test is the same."""
    clean = protocol.prepare(made_up, core=3, protocol=how)
    noisy = protocol.prepare(made_up, core=3, protocol=how, noise=0.2, seed=5)
    raw = [
        {
            name: set(zip(s.raw_users[p[:, 0]], s.raw_items[p[:, 1]], strict=True))
            for name, p in s.pairs.items()
        }
        for s in (clean, noisy)
    ]
    table = made_up.table()
    table = table[table["rating"] >= 4]
    liked = set(zip(table["user"], table["item"], strict=True))
    for name in ("train", "valid"):
        assert raw[0][name] <= raw[1][name]
        assert raw[1][name] - raw[0][name]
        assert not (raw[1][name] - raw[0][name]) & liked
    assert raw[0]["test"] == raw[1]["test"]
    added = sum(len(raw[1][n]) - len(raw[0][n]) for n in ("train", "valid"))
    assert added == pytest.approx(0.2 * sum(map(len, clean.pairs.values())), rel=0.05)
    if how == "global":
        assert noisy.times["train"].max() < noisy.times["valid"].min()
        assert noisy.times["valid"].max() < noisy.times["test"].min()
    for name, pairs in noisy.pairs.items():
        same_user = pairs[1:, 0] == pairs[:-1, 0]
        assert (np.diff(noisy.times[name])[same_user] >= 0).all()
    again = protocol.prepare(made_up, core=3, protocol=how, noise=0.2, seed=5)
    other = protocol.prepare(made_up, core=3, protocol=how, noise=0.2, seed=6)
    assert np.array_equal(noisy.pairs["train"], again.pairs["train"])
    assert not np.array_equal(noisy.pairs["train"], other.pairs["train"])


def test_random_noise(made_up):
    clean, noisy = (protocol.prepare(made_up, core=3, random_noise=p) for p in (0, 0.3))
    assert np.array_equal(clean.pairs["test"], noisy.pairs["test"])
    for name in ("train", "valid"):
        pairs, true = noisy.pairs[name], ~np.isnan(noisy.ratings[name])
        assert np.array_equal(pairs[true], clean.pairs[name])
        assert np.array_equal(noisy.times[name][true], clean.times[name])
        assert (~true).sum() == np.round(0.3 * np.bincount(clean.pairs[name][:, 0])).sum()
        same_user = pairs[1:, 0] == pairs[:-1, 0]
        assert (np.diff(noisy.times[name])[same_user] >= 0).all()
    unseen = {tuple(p) for p in noisy.pairs["train"][np.isnan(noisy.ratings["train"])].tolist()}
    assert not unseen & {tuple(p) for rows in clean.pairs.values() for p in rows.tolist()}


@pytest.mark.parametrize("how", ["released", "paper", "global"])
def test_noise_brings_no_test_rows_back(how):
    """Sparse data, in which train misses many items that noise then shows."""
    random = np.random.default_rng(0)
    columns = (random.integers(high, size=900) for high in (60, 400, 5, 10**6))
    rows = {(u, i): (u, i, r + 1, t) for u, i, r, t in zip(*columns, strict=True)}
    table = ratings(list(rows.values()))
    clean, noisy = (protocol.prepare(table, core=1, protocol=how, noise=n) for n in (0, 0.9))
    sets = [
        set(
            zip(s.raw_users[s.pairs["test"][:, 0]], s.raw_items[s.pairs["test"][:, 1]], strict=True)
        )
        for s in (clean, noisy)
    ]
    assert sets[0] == sets[1]
    assert len(noisy.raw_items) > len(clean.raw_items)


# Folder


def test_the_folder_is_written_whole(made_up, tmp_path, monkeypatch):
    split = protocol.prepare(made_up, core=3)
    folder = tmp_path / "data" / "mine"
    stats = writer.write(folder, split, {"note": 1})
    assert json.loads((folder / "stats.json").read_text()) == stats
    dataset = load_dataset(data_path=folder)
    assert dataset.fingerprint() == stats["fingerprint"]
    assert (stats["users"], stats["items"]) == (dataset.n_users, dataset.n_items)
    assert len(np.load(folder / "train_times.npy")) == stats["train"]
    users = pd.read_csv(folder / "user_map.csv")
    assert users["user"].tolist() == list(range(stats["users"]))
    before = (folder / "train_list.npy").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(InputError, match="No space left"):
        writer.write(folder, split)
    assert (folder / "train_list.npy").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]  # nothing half-written
    monkeypatch.undo()
    writer.write(folder, split)  # a data set may be replaced
    (folder / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"more than a data set \(thesis\.tex\)"):
        writer.write(folder, split)
    (folder / "thesis.tex").rename(folder / "item_emb.npy")  # somebody's embeddings
    with pytest.raises(InputError, match=r"more than a data set \(item_emb\.npy\)"):
        writer.write(folder, split)
    (folder / "item_emb.npy").unlink()
    (folder / "stats.json").unlink()  # as a released data set looks
    with pytest.raises(InputError, match="were not prepared here"):
        writer.write(folder, split)
    assert (folder / "train_list.npy").read_bytes() == before


REPLACE = """
import os, pathlib, signal, sys
from DiffRec.engine import files
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & has had ignored
renamed, calls = pathlib.Path.rename, []
def second(self, target):
    calls.append(target)
    if len(calls) == 2:
        os.kill(os.getpid(), int(sys.argv[1]))
    return renamed(self, target)
pathlib.Path.rename = second
with files.folder_written_whole("data", ["a"], "data") as folder:
    (folder / "a").write_text("new")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_folder_is_not_lost_by_a_kill_while_it_is_replaced(tmp_path, number):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("old")
    where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    done = subprocess.run([sys.executable, "-c", REPLACE, str(int(number))], **where, check=False)
    assert done.returncode == -number
    with files.folder_written_whole(tmp_path / "data", ["a"], "data") as folder:
        assert (tmp_path / "data" / "a").read_text() == "old"
        (folder / "a").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "a").read_text() == "new"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content``; understands ranges; breaks off after ``most`` bytes."""

    content, most, requests = b"", 10**9, []

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(asked[6:-1]) if asked else 0
        self.requests.append(start)
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : start + self.most])

    def log_message(self, *args):
        pass


@pytest.fixture
def served(monkeypatch):
    """The address of a server on this machine, and its class to steer it by."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(Server, "content", bytes(range(256)) * 9000)
    monkeypatch.setattr(Server, "requests", [])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}/archive.zip", Server
    server.shutdown()
    server.server_close()


def test_a_broken_download_goes_on_where_it_stopped(served, tmp_path, monkeypatch):
    url, server = served
    md5, target = hashlib.md5(server.content).hexdigest(), tmp_path / "deep" / "archive.zip"
    monkeypatch.setattr(server, "most", 1_000_000)
    with pytest.raises(InputError, match="goes on from there"):
        download.download(url, md5, target)
    assert not target.exists()
    monkeypatch.setattr(server, "most", 10**9)
    assert download.download(url, md5, target).read_bytes() == server.content
    assert server.requests == [0, 1_000_000]
    assert download.download(url, md5, target) == target  # not fetched again
    assert len(server.requests) == 2
    assert [path.name for path in target.parent.iterdir()] == ["archive.zip"]


def test_a_whole_part_is_only_checked(served, tmp_path):
    url, server = served
    (tmp_path / "archive.zip.part").write_bytes(server.content)
    md5 = hashlib.md5(server.content).hexdigest()
    assert download.download(url, md5, tmp_path / "archive.zip").read_bytes() == server.content


def test_a_download_with_another_checksum_is_thrown_away(served, tmp_path):
    url, _ = served
    with pytest.raises(InputError, match="another checksum"):
        download.download(url, "0" * 32, tmp_path / "archive.zip")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="could not be fetched"):
        download.download("http://127.0.0.1:9/x", "0" * 32, tmp_path / "archive.zip")


# Synthetic data


@pytest.mark.parametrize("noisy", [0.0, 0.2])
@pytest.mark.parametrize("sizes", [(300, 200, 9_000), (50, 400, 2_000), (20, 30, 250)])
def test_a_twin_has_exactly_the_sizes(sizes, noisy, tmp_path):
    split = synthetic.make_twin(*sizes, noisy, seed=3)
    stats = writer.write(tmp_path / "twin", split)
    assert (stats["users"], stats["items"], stats["interactions"]) == sizes
    dataset = load_dataset(data_path=tmp_path / "twin")
    assert (dataset.n_users, dataset.n_items) == sizes[:2]
    low = {name: (values < 4).mean() for name, values in split.ratings.items()}
    assert low["test"] == 0
    assert low["train"] == pytest.approx(noisy, abs=0.05)
    again = synthetic.make_twin(*sizes, noisy, seed=3)
    assert np.array_equal(split.pairs["train"], again.pairs["train"])


def test_a_twin_has_a_long_tail_and_tastes_that_drift():
    split = synthetic.make_twin(2_000, 1_000, 80_000, seed=1)
    train = split.pairs["train"]
    counts = np.sort(np.bincount(train[:, 1]))[::-1]
    assert counts[:100].sum() > 0.3 * counts.sum()
    genre = (split.raw_items - 1) * synthetic.N_GENRES // 1_000  # about: they stand in order
    begin = np.r_[True, train[1:, 0] != train[:-1, 0]]
    position = np.arange(len(train)) - np.repeat(np.flatnonzero(begin), np.diff(
        np.r_[np.flatnonzero(begin), len(train)]))  # fmt: skip
    test = split.pairs["test"]
    late_taste = {(u, g) for u, g in zip(test[:, 0], genre[test[:, 1]], strict=True)}
    share = [
        np.mean([(u, g) in late_taste for u, g in zip(t[:, 0], genre[t[:, 1]], strict=True)])
        for t in (train[position < 5], train[position >= 15])
    ]
    assert share[1] > 1.3 * share[0]  # later interactions are more like the test items


def test_a_twin_that_cannot_be():
    with pytest.raises(InputError, match="do not fit"):
        synthetic.make_twin(10, 10, 90)
    with pytest.raises(InputError, match="cannot show all"):
        synthetic.make_twin(10, 500, 300)


# Looking at data


def test_the_legend_of_a_data_report_is_off_the_bars(tiny, tmp_path, monkeypatch):
    from matplotlib import pyplot

    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    data_report.draw(tiny, tmp_path / "a.png")
    monkeypatch.undo()
    (figure,) = drawn
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)
    pyplot.close(figure)


@pytest.mark.parametrize("factor", [1000, 1e-9])
def test_a_report_without_dates(tiny, tiny_folder, tmp_path, factor):
    """Milliseconds, or places in an order, are no dates."""
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    assert inspection.days_of(load_dataset(data_path=folder)) is not None
    for split in protocol.SPLITS:
        path = folder / f"{split}_times.npy"
        np.save(path, (np.load(path) * factor).astype(np.int64))
    data = load_dataset(data_path=folder)
    assert inspection.days_of(data) is None
    data_report.draw(data, tmp_path / "tiny.png")
    assert (tmp_path / "tiny.png").stat().st_size > 10_000


def test_data_report(run, tmp_path):
    writer.write(tmp_path / "twin", synthetic.make_twin(60, 50, 900))
    out = tmp_path / "pictures" / "twin.png"
    done = run("scripts/data_report.py", tmp_path / "twin", "--out", out, "--check")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^users +60$", done.stdout, re.MULTILINE)
    assert re.search(r"^interactions +900$", done.stdout, re.MULTILINE)
    assert "nothing to compare it with" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    done = run("scripts/data_report.py", tmp_path / "twin", "--out", tmp_path / "x.foo")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "x.foo ends in no format of pictures" in done.stderr


def test_a_truncated_released_data_set_is_noticed(run, tmp_path):
    writer.write(tmp_path / "ml-1m_clean", synthetic.make_twin(60, 50, 900))
    writer.write(tmp_path / "yelp_clean", synthetic.make_twin(60, 50, 900))
    for name, words in (("ml-1m_clean", "unpack the archive again"), ("yelp_clean", "Table 1 has")):
        done = run("scripts/data_report.py", tmp_path / name, "--check")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr


def test_released_data_sets_are_whole(real_datasets):
    for name in ("ml-1m_clean", "ml-1m_noisy"):
        assert inspection.check_whole(load_dataset(name, real_datasets)) == (
            f"{name} is the released one, whole."
        )


def test_table_1_shows_what_is_here_and_what_is_missing(run, tmp_path):
    writer.write(tmp_path / "yelp_clean", synthetic.make_twin(60, 50, 900))
    where = {"DIFFREC_DATASETS": str(tmp_path)}
    done = run("scripts/reproduce.py", "table1", "--results", tmp_path / "r", env=where)
    assert done.returncode == 0, done.stderr
    rows = "\n| yelp_clean ".join(
        ["", "| paper | 54,574 | 34,395 | 1,402,736 |", "| here | 60 | 50 | 900 |"]
    )
    assert rows in done.stdout
    assert rows in (tmp_path / "r" / "table1.md").read_text()
    assert done.stdout.count("skipped: ") == 5
    assert "skipped: ml-1m_clean is not here (bash scripts/get_data.sh ml-1m" in done.stdout


def test_synthetic_ratings_have_the_character_of_movielens():
    table = synthetic.make_ratings(seed=5)
    assert table.equals(synthetic.make_ratings(seed=5))
    assert not table.duplicated(["user", "item"]).any()
    assert set(table["rating"]) == {1, 2, 3, 4, 5}
    assert 0.45 < (table["rating"] >= 4).mean() < 0.7
    counts = np.sort(table.groupby("item").size())[::-1]
    assert counts[: len(counts) // 10].sum() > 0.25 * counts.sum()  # a long tail
    assert (table.groupby("user")["timestamp"].diff().dropna() > 0).all()


def test_prepare_script(run, tmp_path):
    done = run("scripts/prepare_data.py", "synthetic", "--out", tmp_path / "s", "--seed", "2")
    assert done.returncode == 0, done.stderr
    dataset = load_dataset(data_path=tmp_path / "s")
    assert len(dataset.train.items) > 3 * len(dataset.valid.items) > 3 * len(dataset.test.items) > 0
    table = synthetic.make_ratings(100, 80, 40).rename(columns={"user": "who", "timestamp": "when"})
    table.to_csv(tmp_path / "own.csv", index=False)
    own = ["scripts/prepare_data.py", tmp_path / "own.csv", "--format", "csv"]
    names = ["--columns", "who,item,rating,when", "--out", tmp_path / "own"]
    more = ["--protocol", "paper", "--ratio", "8:1:1", "--core", "3", "--noise", ".1"]
    done = run(*own, *names, *more)
    assert done.returncode == 0, done.stderr
    assert load_dataset(data_path=tmp_path / "own").n_users == 100
    done = run("scripts/prepare_data.py", "--synthetic", "like:ml-1m", "--out", tmp_path / "twin")
    assert done.returncode == 0, done.stderr
    assert len(load_dataset(data_path=tmp_path / "twin").train.items) > 400_000
    for wrong in (
        ["scripts/prepare_data.py", "ml-1m", "--raw", tmp_path / "none"], own,
        [*own, *names, "--ratio", "8-1"], ["scripts/prepare_data.py", "synthetic", "--raw", "x"],
        ["scripts/prepare_data.py", "yelp"], ["scripts/prepare_data.py"],
        ["scripts/prepare_data.py", "--synthetic", "like:netflix"],
        ["scripts/prepare_data.py", "--synthetic", "like:ml-1m", "--noise", ".5"],
        ["scripts/prepare_data.py", "--synthetic", "--noise", "inf"],
    ):  # fmt: skip
        done = run(*wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_help_says_which_protocol_is_which(run):
    done = run("scripts/prepare_data.py", "--help")
    assert done.returncode == 0
    told = " ".join(done.stdout.split())
    assert "7:1:2 of each user's time as the released files, into train, test and valid" in told
    assert "7:2:1" not in told


def test_real_movielens_1m_becomes_the_released_split(raw_ratings, real_datasets):
    raw = readers.read(raw_ratings / "ml-1m" / "ml-1m.zip", "movielens-1m")
    split = protocol.prepare(raw)
    assert {name: len(pairs) for name, pairs in split.pairs.items()} == {
        "train": 403_277, "valid": 110_722, "test": 57_532,
    }  # fmt: skip
    stats = writer.statistics(split)
    assert (stats["users"], stats["items"], stats["interactions"]) == (5_949, 2_810, 571_531)
    users = pd.read_csv(raw_ratings / "ml-1m" / "user_map_raw_to_diffrec_clean.csv")
    assert users["raw_user"].tolist() == split.raw_users.tolist()
    items = pd.read_csv(raw_ratings / "ml-1m" / "item_map_raw_to_diffrec_clean.csv")
    items = items.set_index("raw_item")["diffrec_item"]
    released = np.load(real_datasets / "ml-1m_clean" / "train_list.npy")
    train = split.pairs["train"]
    ours = items[split.raw_items].to_numpy()[train[:, 1]]
    common = set(zip(train[:, 0], ours, strict=True)) & set(map(tuple, released))
    assert len(common) >= 0.995 * len(released)


@pytest.mark.parametrize(
    ("file", "format", "how", "bytes"),
    [
        ("ml-100k/u.data", "movielens-100k", "released", "0ff0670ee242"),
        ("ml-100k/u.data", "movielens-100k", "global", "440fbec67669"),
        ("ml-1m-full/ml-1m.zip", "movielens-1m", "released", "989f3174b4b3"),
    ],
)
def test_real_data_are_those_of_an_implementation_in_memory(
    raw_ratings, tmp_path, file, format, how, bytes
):
    """As `BYTES`."""
    split = protocol.prepare(readers.read(raw_ratings / file, format), protocol=how)
    writer.write(tmp_path / "data", split)
    assert digest(tmp_path / "data") == bytes


@pytest.mark.parametrize("how", ["released", "paper", "global"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_real_movielens_100k_goes_through_all_protocols(raw_ratings, tmp_path, how, noise):
    raw = readers.read(raw_ratings / "ml-100k" / "u.data", "movielens-100k")
    assert (len(raw), len(raw.raw_users), len(raw.raw_items)) == (100_000, 943, 1_682)
    stats = writer.write(tmp_path / "ml-100k", protocol.prepare(raw, protocol=how, noise=noise))
    dataset = load_dataset(data_path=tmp_path / "ml-100k")
    assert dataset.n_users == stats["users"] > 500
    assert min(len(dataset.train.items), len(dataset.valid.items), len(dataset.test.items)) > 500
