"""The released ML-1M splits, where they lie."""

import json

import pytest

from DiffRec import load_dataset


@pytest.mark.parametrize(
    ("name", "users", "items", "sizes"),
    [
        ("ml-1m_clean", 5_949, 2_810, (403_277, 110_722, 57_532)),
        ("ml-1m_noisy", 5_949, 3_494, (429_993, 130_772, 57_532)),
    ],
)
def test_statistics_of_table_1(real_datasets, name, users, items, sizes):
    dataset = load_dataset(name, real_datasets)
    assert (dataset.n_users, dataset.n_items) == (users, items)
    parts = (dataset.train, dataset.valid, dataset.test)
    assert tuple(len(part.items) for part in parts) == sizes


def test_five_epochs_of_the_published_settings(real_datasets, run, tmp_path):
    """They reach what full runs reach to within their spread, in less than 1 GB."""
    result = tmp_path / "r.json"
    done = run(
        "DiffRec/main.py", "--dataset", "ml-1m_clean", "--data_path", real_datasets,
        "--epochs", "5", "--save_path", tmp_path, "--result_json", result, process=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(result.read_text())
    assert record["preset"] == "ml-1m_clean"
    assert record["test"]["recall@20"] > 0.16
    assert record["valid"]["recall@20"] > 0.105
    assert record["peak_memory_mb"] < 1000
    assert "0.1787" in done.stdout  # the paper's figure stands beside
