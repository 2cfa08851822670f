"""From raw ratings to splits: the protocol by hand, on real ratings, and the synthetic data."""

import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest

from DiffRec import load_dataset
from DiffRec.errors import InputError
from DiffRec.preparation import download, protocol, readers, synthetic


def ratings(rows):
    return pd.DataFrame(rows, columns=readers.COLUMNS)


def test_k_core_repeats_until_stable():
    """Item 3 falls first, then user c, who then has too few, then nothing more."""
    table = ratings(
        [(u, i, 5, 0) for u, i in [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 2), ("c", 3)]]
    )
    kept = protocol.k_core(table, 2)
    assert sorted(zip(kept["user"], kept["item"], strict=True)) == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 2),
    ]  # fmt: skip
    with pytest.raises(InputError, match="3-core"):
        protocol.k_core(table, 3)


def test_split_sizes_by_hand():
    """n = 10: 8 train, then 1 test, then 1 validation; n = 20: 15, 2, 3."""
    for n, sizes in ((10, (8, 1, 1)), (20, (15, 2, 3)), (1, (1, 0, 0))):
        table = ratings([(1, item, 5, item) for item in range(n)])
        split = protocol.split_in_time(table)
        assert tuple((split == s).sum() for s in (0, 2, 1)) == sizes
        assert split.tolist() == [0] * sizes[0] + [2] * sizes[1] + [1] * sizes[2]


def test_order_threshold_and_numbering():
    """Time orders a user's rows, ties keep the file's order, low ratings go."""
    rows = [
        (7, 30, 5, 9),
        (7, 10, 4, 1),
        (7, 20, 5, 9),
        (7, 40, 3, 2),
        (3, 20, 5, 1),
        (3, 30, 4, 2),
    ]
    lists, maps = protocol.prepare(ratings(rows), core=1)
    assert maps["user"]["raw_user"].tolist() == [3, 7]
    assert lists["train"].tolist() == [[0, 0], [0, 1], [1, 2], [1, 1], [1, 0]]
    assert maps["item"]["raw_item"].tolist() == [20, 30, 10]


def test_reading_movielens(tmp_path):
    text = "1::1193::5::978300760\n1::661::3::978302109\n"
    plain, archive = tmp_path / "ratings.dat", tmp_path / "ml-1m.zip"
    plain.write_text(text)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-1m/ratings.dat", text)
    for path in (plain, archive):
        assert readers.read_movielens_1m(path).to_numpy().tolist() == [
            [1, 1193, 5, 978300760], [1, 661, 3, 978302109],
        ]  # fmt: skip
    plain.write_text("1::1193::five::978300760\n")
    with pytest.raises(InputError, match="user::item::rating::timestamp"):
        readers.read_movielens_1m(plain)
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(InputError, match="not a whole ml-1m archive"):
        readers.read_movielens_1m(archive)
    with pytest.raises(InputError, match="no file"):
        readers.read_movielens_1m(tmp_path / "none")


def test_download_keeps_only_what_has_the_checksum(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"archive")
    url, md5 = source.as_uri(), hashlib.md5(b"archive").hexdigest()
    with pytest.raises(InputError, match="another checksum"):
        download.download(url, "0" * 32, target)
    assert not target.exists()
    assert download.download(url, md5, target).read_bytes() == b"archive"
    source.unlink()
    assert download.download(url, md5, target) == target  # not fetched again
    with pytest.raises(InputError, match="could not be fetched"):
        download.download(url, md5, tmp_path / "other")


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
    done = run("scripts/prepare_data.py", "ml-1m", "--raw", tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_real_movielens_becomes_the_released_split(raw_ratings, real_datasets):
    lists, maps = protocol.prepare(readers.read_movielens_1m(raw_ratings / "ml-1m" / "ml-1m.zip"))
    assert {name: len(pairs) for name, pairs in lists.items()} == {
        "train": 403_277, "valid": 110_722, "test": 57_532,
    }  # fmt: skip
    assert (len(maps["user"]), len(maps["item"])) == (5_949, 2_810)
    users = pd.read_csv(raw_ratings / "ml-1m" / "user_map_raw_to_diffrec_clean.csv")
    assert users["raw_user"].tolist() == maps["user"]["raw_user"].tolist()
    items = pd.read_csv(raw_ratings / "ml-1m" / "item_map_raw_to_diffrec_clean.csv")
    items = items.set_index("raw_item")["diffrec_item"]
    released = np.load(real_datasets / "ml-1m_clean" / "train_list.npy")
    ours = items[maps["item"]["raw_item"]].to_numpy()[lists["train"][:, 1]]
    common = set(zip(lists["train"][:, 0], ours, strict=True)) & set(map(tuple, released))
    assert len(common) >= 0.995 * len(released)
