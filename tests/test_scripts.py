"""The scripts a user runs, and that what runs is this checkout."""

import json
import os
import re
import shutil
import subprocess
import tomllib

import pytest
from conftest import REPOSITORY

import baselines
import DiffRec
import L_DiffRec
import T_DiffRec


def test_modules_load_from_this_checkout():
    for package, folder in (
        (DiffRec, "DiffRec"), (L_DiffRec, "L-DiffRec"), (T_DiffRec, "T-DiffRec"),
        (baselines, "baselines"),
    ):  # fmt: skip
        assert REPOSITORY / folder in [*map(REPOSITORY.__class__, package.__path__)]


def test_every_package_folder_is_listed():
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {folder: name for name, folder in tools["package-dir"].items()}
    found = {
        ".".join([folders[path.parts[0]], *path.parts[1:-1]])
        for path in (p.relative_to(REPOSITORY) for p in REPOSITORY.glob("*/**/__init__.py"))
        if path.parts[0] in folders
    }
    assert found == set(tools["packages"])


def test_main_runs_from_its_own_folder(run, tiny_folder, tmp_path):
    flags = ["--data_path", tiny_folder, "--preset", "none", "--dims", "[8]", "--epochs", "1"]
    for script, cwd in (("main.py", "DiffRec"), ("DiffRec/main.py", ".")):
        done = run(script, *flags, "--save_path", tmp_path, cwd=REPOSITORY / cwd)
        assert done.returncode == 0, done.stderr


def test_run_sh_takes_the_releases_arguments(run, tiny_folder, tmp_path):
    """sh run.sh DATASET LR WD BS DIMS EMB MEAN STEPS SCALE MIN MAX T' REWEIGHT LOG ROUND GPU"""
    arguments = "tiny 1e-3 0 40 [8] 10 x0 2 0.1 0.001 0.01 0 1 log 1 0".split()
    done = subprocess.run(
        ["sh", "run.sh", *arguments, "--epochs", "5", "--save_path", tmp_path],
        cwd=REPOSITORY / "DiffRec",
        env={**os.environ, "DIFFREC_DATASETS": str(tiny_folder.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "preset none" in done.stdout
    assert re.search(r"epoch +5 .*best so far", done.stdout)


def test_quickstart_offline(run, tmp_path):
    """No data and no network: it says so, trains on synthetic data, and recommends."""
    elsewhere = (
        "import pathlib, sys; sys.path.insert(0, 'scripts'); import prepare_data, quickstart; "
        f"quickstart.DATASETS = prepare_data.DATASETS = pathlib.Path({str(tmp_path)!r}); "
        "quickstart.SAVED = quickstart.DATASETS / 'saved'; quickstart.main()"
    )
    done = run(
        "-c", elsewhere, "--epochs", "5", "--steps", "2",
        env={"DIFFREC_DATASETS": str(tmp_path), "https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert (tmp_path / "synthetic" / "train_list.npy").is_file()
    assert done.stdout.count("interactions): ") == 3


def test_benchmark_prints_ratios(run, tiny_folder):
    done = run(
        "scripts/benchmark.py", "--data_path", tiny_folder, "--preset", "none", "--cycles", "1",
        "--dims", "[8]", "--steps", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert "times faster in hidden space" in done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ["--dataset", "nowhere"],
        ["--steps", "0"],
        ["--sampling_steps", "9", "--steps", "5"],
        ["--noise_min", "0.5"],
        ["--noise_scale", "1000"],
        ["--dims", "[2;3]"],
        ["--preset", "nonsense"],
        ["--random_noise", "7"],
        ["--dropout", "2"],
        ["--gpu"],
        ["--patience", "1"],
        ["--seed", "12345678901234567890123"],
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(run, tiny_folder, tmp_path, flags):
    where = ["--data_path", tiny_folder.parent if "--dataset" in flags else tiny_folder]
    done = run("DiffRec/main.py", "--save_path", tmp_path / "s", *where, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_compile_changes_speed_alone(run, tiny_folder, tmp_path):
    flags = ["--data_path", tiny_folder, "--preset", "none", "--dims", "[8]", "--epochs", "2"]
    results = []
    for compiled in (0, 1):
        result = tmp_path / f"{compiled}.json"
        where = ["--save_path", tmp_path, "--result_json", result]
        done = run("DiffRec/main.py", *flags, *where, "--compile", compiled)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(result.read_text())["test"])
    assert results[0] == pytest.approx(results[1], abs=0.01)


def test_options_that_trade_or_vary_run(run, tiny_folder, tmp_path):
    """The named options, each through the real command line."""
    base = ["--data_path", tiny_folder, "--dims", "[8]", "--epochs", "2", "--save_path", tmp_path]
    for flags in (
        "--mean_type eps --loss_weight paper --loss_reduction sum",
        "--noise_schedule cosine --importance_sampling 0 --reweight 0 --norm 1",
        "--noise_scale 0 --steps 1 --precision bf16 --optimizer Momentum",
        "--noise_schedule binomial --sampling_noise 1 --sampling_steps 2 --steps 4",
        "--noise_schedule linear --random_noise .2 --optimizer SGD",
        "--optimizer Adagrad --tst_w_val --recall_denominator min_k --metric_users with_items",
    ):
        done = run("DiffRec/main.py", *base, *flags.split())
        assert done.returncode == 0, done.stderr
    latent = ["--data_path", tiny_folder, "--save_path", tmp_path, "--n_cate", "1", "--epochs", "2"]
    for flags in ("--precision bf16 --optimizer1 Adagrad --optimizer2 SGD", "--out_dims [30]"):
        done = run("L-DiffRec/main.py", *latent, *flags.split())
        assert done.returncode == 0, done.stderr
