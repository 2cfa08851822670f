"""The study of data that the paper does not have."""

import json
import shutil

import other_data
import pytest

from DiffRec.engine.variant import variant_of


def record(valid: float, test: float = 0.1) -> dict:
    names = [*other_data.METRICS.values()]
    return {"valid": dict.fromkeys(names, valid), "test": dict.fromkeys(names, test),
            "best_epoch": 5}  # fmt: skip


def test_settings_of_diffrec_are_measured_against_the_best_model_without_order():
    mine = "DiffRec, of ML-1M"
    found = {
        "a_clean": {"EASE": [record(0.2)], mine: [record(0.12), record(0.16)],
                    "DiffRec, of Yelp": [record(0.05)], "ACVAE": [record(0.9)]},
        "b_clean": {mine: [record(0.3)]},
    }  # fmt: skip
    told = other_data.shares(found)
    assert told["of ML-1M"] == {"a_clean": pytest.approx(0.7), "b_clean": 1.0}
    assert told["of Yelp"] == {"a_clean": pytest.approx(0.25)}
    text = other_data.page(found)
    assert "| of ML-1M | 70.0 | 100.0 | 70.0 |" in text  # the mean is over what all were tried on
    assert "| of Yelp | 25.0 |  | 25.0 |" in text
    assert "| ACVAE | 1 | 5 | 0.1000 | 0.1000 | 0.1000 | 0.1000 | 0.9000 |" in text
    assert other_data.comparison({"a_clean": {"EASE": [record(0.2)]}}) == []
    assert other_data.comparison({"a_clean": {"SASRec": [record(0.2)]}}) == []


def test_rows_name_what_exists_and_skip_presets_that_do_not():
    for row, (method, _) in other_data.ROWS.items():
        for dataset in ("ml-1m_clean", "nowhere_clean"):
            run = other_data.run_of(row, dataset, 1)
            if run is not None:
                assert run.settings([]).keys() == variant_of(method).settings.names()
    assert set(other_data.WITH_ORDER) <= set(other_data.ROWS)
    assert other_data.run_of("EASE, searched", "nowhere_clean", 1) is None
    run = other_data.run_of("DiffRec, of ML-1M", "ml-1m_clean", 2)
    assert run.name == "DiffRec_ml-1m_clean_seed2"  # that of the tables
    run = other_data.run_of("DiffRec, of ML-1M", "nowhere_clean", 2)
    assert run.flags == (("preset", "ml-1m_clean"),)


def test_the_study_runs_what_is_missing_and_writes_a_page(tiny_folder, run, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "data" / "mine_clean")
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path / "data"))
    call = ["scripts/other_data.py", "--results", tmp_path / "r", "--datasets", "mine_clean"]
    done = run(*call, "--methods", "EASE,DiffRec", "--run_flags", "--topN 10 20 --epochs 1")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r" / "other_data.md").read_text()
    (path,) = (tmp_path / "r" / "runs").glob("EASE*.json")
    found = json.loads(path.read_text())
    assert path.stem == "EASE_mine_clean_seed1"
    assert f"{found['test']['recall@20']:.4f}" in text
    assert "### mine_clean" in text
    assert "EASE, searched" not in text
    assert "| the release's defaults |" in text
