"""The scripts a user runs, and that what runs is this checkout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib

import gpu_check
import pytest
from conftest import REPOSITORY

import baselines
import DiffRec
import L_DiffRec
import T_DiffRec
from DiffRec.engine.commands import sentence_of


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
        where = REPOSITORY / cwd
        done = run(script, *flags, "--save_path", tmp_path, cwd=where, process=True)
        assert done.returncode == 0, done.stderr


def test_run_sh_takes_the_releases_arguments(tiny_folder, tmp_path):
    """sh run.sh DATASET LR WD BS DIMS EMB MEAN STEPS SCALE MIN MAX T' REWEIGHT LOG ROUND GPU"""
    arguments = "tiny 1e-3 0 40 [8] 10 x0 2 0.1 0.001 0.01 0 1 log 1 0".split()
    done = subprocess.run(
        ["sh", "run.sh", *arguments, "--epochs", "5", "--save_path", tmp_path],
        cwd=REPOSITORY / "DiffRec",
        env={**os.environ, "DIFFREC_DATASETS": str(tiny_folder.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "seed 1, preset none\n" in done.stdout  # not what own data begin with
    assert "ema=0.0" in done.stdout
    assert re.search(r"epoch +5 .*best so far", done.stdout)


@pytest.mark.parametrize("has_torch", [True, False])
def test_a_dry_run_installs_nothing(tmp_path, has_torch):
    """A checkout without an environment: pip and venv are not called, and python is what it is."""
    scripts = tmp_path / "checkout" / "scripts"
    scripts.mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", scripts)
    (scripts / "table.sh").write_text('source "$(dirname "$0")/setup.sh"\npython -m table "$@"\n')
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    told = f'echo "$@" >> {tmp_path}/called\n[ "$1" != -c ] || exit {0 if has_torch else 1}\n'
    fake.write_text(f"#!/bin/sh\n{told}")
    fake.chmod(0o755)
    (fake.parent / "python3").symlink_to(fake)
    environment = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", scripts / "table.sh", "--seeds", "1", "--dry_run"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    called = (tmp_path / "called").read_text().splitlines()
    assert not [line for line in called if "venv" in line or "pip" in line]
    assert not (tmp_path / "checkout" / ".venv").exists()
    if has_torch:
        assert (done.returncode, called[-1]) == (0, "-m table --seeds 1 --dry_run"), done.stderr
    else:
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "bash scripts/setup.sh first" in done.stderr


def test_a_step_stands_beside_its_matrix_products(run, tiny_folder):
    script, flags = "scripts/step_benchmark.py", ["--data_path", tiny_folder, "--cuda", "0"]
    done = run(script, "--model", "SASRec", *flags, "--batch_size", "8", "--batches", "2")
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"; ([\d.]+) times its matrix products", done.stdout)[1]) > 1
    refused = run(script, "--model", "EASE", *flags)
    assert refused.returncode == 2
    assert refused.stderr == "error: EASE is computed at once: it has no steps.\n"


def test_the_check_of_a_gpu_runs_on_a_cpu_too(run, tiny_folder, tmp_path, monkeypatch):
    """But for torch.compile, which takes most of a minute."""
    monkeypatch.delitem(gpu_check.WAYS, "compiled")
    flags = ["--data_path", tiny_folder, "--steps", 1, "--device", "cpu"]
    done = run("scripts/gpu_check.py", *flags, "--out", tmp_path / "check.md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "check.md").read_text()
    assert re.search(
        r"tiny: an epoch takes [\d.]+ times its products; it is [\d.]+ times as fast", text
    )
    assert len(re.findall(r"^\| tiny \|", text, re.MULTILINE)) == 3


def test_quickstart_offline(run, tmp_path):
    """No data and no network: it says so, trains on synthetic data, and recommends."""
    elsewhere = (
        "import pathlib, sys; sys.path.insert(0, 'scripts'); import quickstart; "
        f"quickstart.folders.DATASETS = pathlib.Path({str(tmp_path)!r}); "
        "quickstart.SAVED = quickstart.folders.DATASETS / 'saved'; quickstart.main()"
    )
    done = run(
        "-c", elsewhere, "--epochs", "5", "--steps", "2",
        env={"DIFFREC_DATASETS": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}, process=True,
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
    assert len(rows) == 6 + 6
    assert any(row.startswith("| reverse chain (ms) | ") for row in rows)


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


def test_item_embeddings_are_refused_for_the_path_of_a_data_set(run, tiny_folder, tmp_path):
    """make_item_embeddings.sh takes a name; a path would put the file into another's folder."""
    last = (REPOSITORY / "scripts" / "make_item_embeddings.sh").read_text().splitlines()[-1]
    (_, python, script, *flags) = shlex.split(last)
    assert python == "python"
    flags = [str(tiny_folder) if word == "$dataset" else word for word in flags[:-1]]
    done = run(script, *flags, "--save_path", tmp_path / "saved")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a data set is named" in done.stderr
    assert not (tmp_path / "saved").exists()
    assert not (tiny_folder / "item_emb.npy").exists()


# Search


@pytest.mark.parametrize(
    "words", ["CUDA out of memory.", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
              "DefaultCPUAllocator: can't allocate memory"],
)  # fmt: skip
def test_short_memory_is_one_sentence(words):
    assert sentence_of(RuntimeError(words)).startswith("there is not enough memory")
    assert sentence_of(RuntimeError("an illegal memory access")) is None


@pytest.mark.parametrize("name", ["test", "try_package", "api_docs", "smoke_all"])
def test_a_script_without_flags_helps_by_its_comment(name):
    words = ["bash", f"scripts/{name}.sh", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    source = (REPOSITORY / "scripts" / f"{name}.sh").read_text().split("help_is_comment")[0]
    assert done.stdout == re.sub(r"(?m)^# ", "", source.split("\n", 1)[1])


def test_conversion_offers_what_the_release_has(run, tmp_path):
    done = run("scripts/convert_checkpoint.py", "a.pth", "b.safetensors", "--variant", "EASE")
    assert done.returncode == 2
    assert "choose from DiffRec, L-DiffRec, T-DiffRec, LT-DiffRec" in done.stderr.replace("'", "")
    done = run("scripts/convert_checkpoint.py", "--data_path", tmp_path, "a.pth", "b.safetensors")
    assert "flags stand behind the two files" in done.stderr
    done = run("scripts/convert_checkpoint.py", tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a.pth" in done.stderr
