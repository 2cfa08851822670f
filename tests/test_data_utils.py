"""Reading, refusing, slicing and corrupting interactions."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from DiffRec import Interactions, load_dataset
from DiffRec.data_utils import add_random_noise
from DiffRec.engine.errors import InputError
from DiffRec.interactions import join, put, put_flat
from T_DiffRec.data_utils import order_by_time

PAIRS = [(0, 2), (0, 1), (1, 0), (1, 2), (2, 1)]

pair_sets = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), min_size=1, unique=True)


@given(pair_sets, st.lists(st.integers(0, 5), max_size=8))
def test_rows_equal_those_of_the_dense_matrix(pairs, users):
    array = np.array(pairs)
    interactions = Interactions.from_pairs(array, 6, 8)
    matrix = torch.zeros(6, 8)
    matrix[array[:, 0], array[:, 1]] = 1
    assert torch.equal(interactions.dense(), matrix)
    assert torch.equal(interactions.slice(2, 5).dense(), matrix[2:5])
    chosen = torch.tensor(users, dtype=torch.int64)
    assert torch.equal(interactions.rows(chosen).dense(), matrix[chosen])
    assert torch.equal(interactions.rows(chosen).lengths, matrix[chosen].sum(1).long())


@given(pair_sets)
def test_the_order_within_a_user_is_the_lists(pairs):
    interactions = Interactions.from_pairs(np.array(pairs), 6, 8)
    for user in range(6):
        row = interactions.slice(user, user + 1).items.tolist()
        assert row == [i for u, i in pairs if u == user]


def test_weights_follow_their_items():
    rows = Interactions.from_pairs(np.array(PAIRS), 3, 3).with_values(torch.arange(1.0, 6))
    assert rows.dense().tolist() == [[0, 2, 1], [3, 0, 4], [0, 5, 0]]
    assert rows.rows(torch.tensor([2, 0])).dense().tolist() == [[0, 5, 0], [0, 2, 1]]
    assert rows.slice(1, 2).values.tolist() == [3, 4]


def test_join_appends_and_fills_in_ones():
    first = Interactions.from_pairs(np.array([(0, 2), (1, 0)]), 2, 4)
    second = Interactions.from_pairs(np.array([(0, 1), (1, 3)]), 2, 4)
    assert join(first, second).items.tolist() == [2, 1, 0, 3]
    assert join(first, second).values is None
    weighted = join(first.with_values(torch.tensor([0.5, 0.25])), second)
    assert weighted.dense().tolist() == [[0, 1, 0.5, 0], [0.25, 0, 0, 1]]


def test_joining_counts_what_both_have_once():
    first = Interactions.from_pairs(np.array([(0, 2), (2, 0)]), 3, 4)
    second = Interactions.from_pairs(np.array([(0, 1), (0, 2), (1, 0), (2, 0)]), 3, 4)
    both = join(first.with_values(torch.tensor([0.5, 0.25])), second)
    assert both.pairs().tolist() == [[0, 2], [0, 1], [1, 0], [2, 0]]
    assert both.values.tolist() == [0.5, 1, 1, 0.25]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_lists_load_in_any_order_of_users(save_lists, dtype):
    folder = save_lists([(1, 0), (0, 2), (1, 2), (0, 1), (2, 1)], [(0, 0)], [(2, 0)], dtype)
    dataset = load_dataset(data_path=folder)
    assert (dataset.n_users, dataset.n_items, dataset.name) == (3, 3, "lists")
    assert dataset.train.items.tolist() == [2, 1, 0, 2, 1]
    assert dataset.train.items.dtype == torch.int32
    again = load_dataset("lists", folder.parent)  # the parent works as well as the folder
    assert again.fingerprint() == dataset.fingerprint()


def test_the_fingerprint_tells_data_apart(save_lists):
    before = load_dataset(data_path=save_lists(PAIRS, [(0, 0)], [(2, 0)])).fingerprint()
    after = load_dataset(data_path=save_lists(PAIRS, [(0, 0)], [(2, 2)])).fingerprint()
    assert {k: before[k] == after[k] for k in before} == {
        "users": True, "items": True, "train": True, "valid": True, "test": True, "sha256": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": []}, "empty"),
        ({"train": PAIRS, "valid": [(0, -1)]}, "row 0 holds a negative id"),
        ({"train": PAIRS, "test": [(0, 0), (3, 0)]}, r"row 1 holds \(3, 0\).*drop_unknown"),
        ({"train": PAIRS, "valid": [(0, 9)]}, r"items below 3"),
        ({"train": [*PAIRS, (0, 2)]}, r"row 5 repeats the pair \(0, 2\)"),
        ({"train": PAIRS, "dtype": np.float64}, "int32 or int64"),
        ({"train": [(0, 2**40)]}, "far beyond its 1 rows"),
        ({"train": [(2147483646, 0)]}, "id 2147483646, far beyond"),
    ],
)
def test_bad_lists_are_refused_in_one_sentence(save_lists, lists, words):
    with pytest.raises(InputError, match=words) as error:
        load_dataset(data_path=save_lists(**lists))
    assert "\n" not in str(error.value)


def test_repeated_pairs_may_be_dropped(save_lists, tmp_path):
    """Of each the last row stays, and the order of the others."""
    folder = save_lists([(0, 2), (0, 1), (1, 0), (0, 2), (2, 1), (0, 0)], [(0, 0), (0, 0)])
    with pytest.raises(InputError, match="repeats the pair"):
        load_dataset(data_path=folder)
    dataset = load_dataset(data_path=folder, drop_repeated=True)
    assert dataset.train.pairs().tolist() == [[0, 1], [0, 2], [0, 0], [1, 0], [2, 1]]
    assert dataset.valid.pairs().tolist() == [[0, 0]]
    assert dataset.drop_repeated
    # The order of a file of times holds for the last of a pair too.
    times = tmp_path / "times.npy"
    np.save(times, np.array([9, 5, 0, 1, 0, 7]))
    ordered = order_by_time(dataset, times)
    assert ordered.train.pairs().tolist() == [[0, 1], [0, 0], [0, 2], [1, 0], [2, 1]]


def test_what_was_seen_already_is_told(save_lists, caplog):
    """Of two rows of validation one is in train, of three of test one in train, one in valid."""
    train = [(0, 2), (0, 1), (1, 0), (1, 2)]
    folder = save_lists(train, [(0, 1), (0, 0)], [(1, 1), (1, 2), (0, 0)])
    load_dataset(data_path=folder)
    told = [record.getMessage() for record in caplog.records]
    assert [words.split(": ")[1][:15] for words in told] == ["1 of 2 rows are", "2 of 3 rows are"]
    caplog.clear()
    (folder / "stats.json").write_text(json.dumps({"items": 3, "evaluation": {"rank_seen": True}}))
    load_dataset(data_path=folder)
    assert not caplog.records


def test_a_run_on_repeated_pairs(run, save_lists, tmp_path):
    folder = save_lists([(0, 2), (0, 1), (1, 0), (0, 2), (2, 1)])
    call = ["baselines/main.py", "--model", "Popularity", "--data_path", folder, "--save_path",
            tmp_path / "saved"]  # fmt: skip
    assert "with drop_repeated" in run(*call).stderr
    done = run(*call, "--drop_repeated", "1")
    assert done.returncode == 0, done.stderr
    (saved,) = (tmp_path / "saved").glob("*.safetensors")
    done = run("baselines/inference.py", "--checkpoint", saved, "--data_path", folder)
    assert done.returncode == 0, done.stderr  # the checkpoint says how the data were read


def test_wrong_shape_and_broken_files(save_lists):
    folder = save_lists(PAIRS)
    np.save(folder / "test_list.npy", np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(InputError, match=r"shape \(n, 2\)"):
        load_dataset(data_path=folder)
    (folder / "test_list.npy").write_bytes(b"\x93NUMPY, but no more")
    with pytest.raises(InputError, match="not a whole"):
        load_dataset(data_path=folder)
    (folder / "test_list.npy").unlink()
    (folder / "train_list.npy").rename(folder / "aside.npy")
    with pytest.raises(InputError, match=r"train_list.npy is missing"):
        load_dataset(data_path=folder)
    (folder / "aside.npy").rename(folder / "train_list.npy")
    with pytest.raises(InputError, match=r"test_list.npy is missing.*datasets/README.md"):
        load_dataset(data_path=folder)
    with pytest.raises(InputError, match=r"no data set nowhere.*there: lists.*get_data.sh"):
        load_dataset("nowhere", folder.parent)


def test_pickled_arrays_are_not_executed(save_lists):
    folder = save_lists(PAIRS)
    np.save(folder / "train_list.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="not a whole"):
        load_dataset(data_path=folder)


def test_drop_unknown_leaves_the_rows_out(save_lists, caplog):
    caplog.set_level("INFO")
    folder = save_lists(PAIRS, [(0, 0)], [(0, 0), (3, 0), (1, 7)])
    dataset = load_dataset(data_path=folder, drop_unknown=True)
    assert dataset.test.pairs().tolist() == [[0, 0]]
    assert "left out 2 rows" in caplog.text


@pytest.mark.parametrize("proportion", [0.1, 0.5])
def test_random_noise(tiny, proportion):
    noisy = add_random_noise(tiny, proportion, seed=7)
    splits = {s: getattr(tiny, s).dense() for s in ("train", "valid", "test")}
    seen = sum(splits.values())
    assert noisy.test is tiny.test
    added = {}
    for split in ("train", "valid"):
        clean, dirty = getattr(tiny, split), getattr(noisy, split)
        added[split] = dirty.dense() - splits[split]
        assert added[split].min() == 0  # nothing was lost
        assert not (added[split] * seen).any()  # and nothing true was added
        wanted = (proportion * clean.lengths.double()).round()
        assert torch.equal(added[split].sum(1).double(), wanted)
        for user in range(10):  # true interactions keep their order
            row = dirty.slice(user, user + 1).items.tolist()
            true = clean.slice(user, user + 1).items.tolist()
            assert [i for i in row if i in set(true)] == true
    assert not (added["train"] * added["valid"]).any()
    same, other = (add_random_noise(tiny, proportion, seed=s) for s in (7, 8))
    assert noisy.fingerprint() == same.fingerprint() != other.fingerprint()


def test_random_noise_takes_every_place_alike(save_lists):
    """One false item among two true ones: before them, between them and behind them."""
    train = [(user, item) for user in range(900) for item in (0, 1)] + [(900, 49)]
    noisy = add_random_noise(load_dataset(data_path=save_lists(train)), 0.5, seed=1)
    rows = [noisy.train.slice(user, user + 1).items.tolist() for user in range(900)]
    places = [next(n for n, item in enumerate(row) if item > 1) for row in rows]
    assert [places.count(n) / 900 for n in range(3)] == pytest.approx([1 / 3] * 3, abs=0.05)


def test_random_noise_stops_where_no_item_is_left(save_lists):
    train = [(0, item) for item in range(9)] + [(1, 9)]
    noisy = add_random_noise(load_dataset(data_path=save_lists(train, [(1, 0)])), 0.5, 1)
    assert sorted(noisy.train.slice(0, 1).items.tolist()) == list(range(10))


def test_random_noise_of_a_wrong_proportion(tiny):
    with pytest.raises(InputError, match="random_noise"):
        add_random_noise(tiny, 1.5, 1)


def test_histories_become_rows():
    rows = Interactions.from_histories([[3, 1], [], [0]], 4)
    assert rows.dense().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert Interactions.from_histories([[3, 1, 3]], 4).items.tolist() == [1, 3]
    with pytest.raises(InputError, match="item 4"):
        Interactions.from_histories([[4]], 4)


def test_a_matrix_is_a_copy_in_order_and_rows_know_their_users(tiny):
    before = tiny.fingerprint()
    matrix = tiny.train.with_values(torch.arange(len(tiny.train.items)).float()).matrix()
    assert matrix.has_sorted_indices
    assert tiny.fingerprint() == before
    row = tiny.train.slice(3, 4)
    assert matrix[3].indices.tolist() == sorted(row.items.tolist())
    start = int(tiny.train.offsets[3])
    assert matrix[3, int(row.items[2])] == start + 2
    assert row.users.tolist() == [3]
    assert tiny.train.rows(torch.tensor([5, 2])).slice(1, 2).users.tolist() == [2]
    assert Interactions.from_histories([[1]], 3).users is None


def test_a_value_is_put_into_a_matrix_either_way():
    rows, columns = torch.tensor([0, 2, 2]), torch.tensor([4, 0, 3])
    for value in (-torch.inf, 1.0):
        wanted = torch.rand(3, 5)
        found = [wanted.clone() for _ in range(2)]
        wanted[rows, columns] = value
        put(found[0], rows, columns, value)
        put_flat(found[1], rows, columns, value)  # as on a GPU
        assert torch.equal(found[0], wanted)
        assert torch.equal(found[1], wanted)


def test_padded_rows():
    """From the left, in order of time, the latest; ids from 1, and 0 behind."""
    rows = Interactions.from_histories([[4, 0, 2], [], [1]], 5)
    items, lengths = rows.padded(9)
    assert items.tolist() == [[5, 1, 3], [0, 0, 0], [2, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    items, lengths = rows.padded(2)
    assert items.tolist() == [[1, 3], [0, 0], [2, 0]]
    assert lengths.tolist() == [2, 0, 1]
    assert rows.slice(1, 2).padded(3)[0].tolist() == [[0]]


def test_what_a_data_set_is_called(save_lists, tmp_path):
    folder = save_lists([(0, 0)], [], [])
    assert load_dataset(data_path=folder).name == folder.name
    assert load_dataset(folder.name, folder.parent).name == folder.name
    with pytest.raises(InputError, match=f"holds the data set {folder.name}, not other"):
        load_dataset("other", folder)
    for wrong in (str(folder), folder, 3):
        with pytest.raises(InputError, match="give its folder"):
            load_dataset(wrong)


def test_pairs_that_are_repeated_are_refused():
    """They would be one item in dense rows and several in sparse ones."""
    with pytest.raises(InputError, match=r"the array row 2 repeats the pair \(0, 2\) \(1 repeated"):
        Interactions.from_pairs(np.array([[0, 2], [1, 2], [0, 2]]), 3, 4)
