"""The tables and figures: which runs they ask for, what is reused, and what is made of them."""

import csv
import dataclasses
import itertools
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import epoch_study
import other_data
import pytest
import recency
import reproduce
import seeds_study
import sequential
from conftest import REPOSITORY, module_of
from reproduction import figures, tables
from reproduction.runs import (
    Run,
    datasets_on_disk,
    finished,
    of_group,
    require_released_evaluation,
    seeds_on_disk,
    work_folder,
)

from DiffRec import DiffRec, load_dataset, train
from DiffRec.engine import checkpoints
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import write_csv
from DiffRec.engine.paper import paper_figures, paper_resources
from DiffRec.engine.settings import setting
from DiffRec.engine.variant import REGISTRY, TUNED, Variant

RUNS = REPOSITORY / "results" / "runs"


def record(run: Run, recall: float = 0.1, **more) -> dict:
    """A result file's content with made-up metrics."""
    metrics = dict.fromkeys(tables.METRICS.values(), recall)
    return {
        "format": checkpoints.FORMAT, "variant": run.method, "dataset": run.dataset,
        "settings": run.settings([]),
        "seed": run.seed, "preset": "ml-1m_clean", "best_epoch": 5,
        "parameters": 3_600_000, "peak_memory_mb": 400.0,
        "valid": metrics, "test": metrics, "seconds": {"training": 1.0, "evaluation": 1.0},
        "machine": {"device": "cpu (x)", "threads": 1, "commit": "abc", "torch": "2"}, **more,
    }  # fmt: skip


@pytest.fixture
def datasets(tiny_folder, tmp_path, monkeypatch):
    """Folders named ml-1m_clean and ml-1m_noisy with the tiny data."""
    for kind in ("clean", "noisy"):
        shutil.copytree(tiny_folder, tmp_path / "data" / f"ml-1m_{kind}")
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mains_here(monkeypatch):
    """Every main.py that the scripts would start is called in this process, which saves seconds."""

    def call(words: list[str], *_) -> str | None:
        try:
            module_of(words[0]).main(words[1:])
        except InputError as error:
            return f"error: {error}"
        return None

    monkeypatch.setattr("reproduction.runs.call_main", call)


def test_a_run_is_a_command_line_of_a_main():
    run = Run("LT-DiffRec", "ml-1m_clean", 2, (("lr1", "1e-4"),))
    words = "T-DiffRec/main.py --latent --dataset ml-1m_clean --seed 2 --lr1 1e-4"
    assert run.words == words.split()
    assert run.name == "LT-DiffRec_ml-1m_clean_lr1=1e-4_seed2"
    assert run.settings([])["lr1"] == 1e-4
    assert Run("MultiDAE++", "yelp_clean", 1).words[:3] == [
        "baselines/main.py", "--model", "MultiDAE++",
    ]  # fmt: skip
    assert Run("MultiDAE++", "yelp_clean", 1).settings([])["noise_scale"] == 0.01


def test_methods_are_grouped_by_what_is_registered():
    assert of_group("ours") == ("DiffRec", "L-DiffRec", "T-DiffRec", "LT-DiffRec")
    simple = ("EASE", "SLIM", "ItemKNN", "RP3beta", "GF-CF", "iALS", "Popularity")
    assert of_group("simple") == simple
    assert tables.TABLES["table3"].rows() == ("LightGCN", "MultiVAE", "DiffRec", *simple)


def test_a_run_is_reused_only_with_equal_settings_and_data(datasets, tmp_path):
    run = Run("DiffRec", "ml-1m_clean", 1)
    assert finished(run, tmp_path, []) is None
    path = tmp_path / f"{run.name}.json"
    good = record(run, data=run.data([]))
    path.write_text(json.dumps(good))
    assert finished(run, tmp_path, []) == good
    assert finished(run, tmp_path, ["--lr", "0.5"]) is None
    other = {**good["data"], "sha256": "0"}
    path.write_text(json.dumps({**good, "data": other}))
    assert finished(run, tmp_path, []) is None
    for broken in ("{half", "[]", json.dumps({k: v for k, v in good.items() if k != "data"})):
        path.write_text(broken)
        assert finished(run, tmp_path, []) is None
    noisy = Run("DiffRec", "ml-1m_clean", 1, (("random_noise", "0.5"),))
    assert noisy.data([])["train"] > run.data([])["train"]
    assert run.data(["--random_noise", "0.5"]) == noisy.data([])


def test_a_record_is_believed_where_its_data_are_not(datasets, tmp_path):
    run = Run("DiffRec", "yelp_clean", 1)
    (tmp_path / f"{run.name}.json").write_text(json.dumps(record(run, data={})))
    assert finished(run, tmp_path, [])


def test_what_is_on_disk(tmp_path):
    noisy = Run("DiffRec", "ml-1m_clean", 4, (("random_noise", "0.1"),))
    runs = [Run("DiffRec", "ml-1m_clean", n) for n in (1, 12)] + [noisy, Run("EASE", "my_noisy", 1)]
    for run in runs:
        (tmp_path / f"{run.name}.json").write_text("{}")
    assert seeds_on_disk(runs[0], tmp_path) == {1, 12}
    assert seeds_on_disk(noisy, tmp_path) == {4}
    assert datasets_on_disk(tmp_path, "clean") == ["ml-1m_clean"]
    assert datasets_on_disk(tmp_path, "noisy") == ["my_noisy"]
    (tmp_path / "DiffRec_yelp-cdr_clean_preset=none_seed1.json").write_text("{}")
    assert datasets_on_disk(tmp_path, "clean") == ["ml-1m_clean"]  # that one has its own page
    (tmp_path / "DiffRec_my_noisy_preset=other_clean_seed1.json").write_text("{}")
    assert datasets_on_disk(tmp_path, "clean") == ["ml-1m_clean"]


def test_a_run_on_other_data_does_not_go_on_with_this_ones_state(datasets):
    run, args = Run("DiffRec", "ml-1m_clean", 1), reproduce.make_parser().parse_args(["table2"])
    before = work_folder(run, args, [])
    assert before == work_folder(run, args, [])
    assert before != work_folder(run, args, ["--drop_unknown", "1"])
    assert before != work_folder(run, args, ["--random_noise", "0.1"])


def published(seeds: range) -> set[Run]:
    """What the tables and figures ask for on ML-1M."""
    runs = {
        tables.run_of(method, f"ml-1m_{table.kind}", seed)
        for table in tables.TABLES.values() for method in table.rows() for seed in seeds
    }  # fmt: skip
    for figure in figures.FIGURES.values():
        for some in figures.runs_of(figure, "ml-1m_clean", seeds).values():
            runs |= set(some)
    return runs


def of_recency(seeds: range) -> set[Run]:
    """What scripts/recency.py may ask for on ML-1M."""
    ways = [way for way in recency.WAYS.values() if way != "none"]
    every = itertools.product(recency.METHODS, seeds, ways, recency.W_MINS)
    return {recency.run_of(method, "ml-1m_clean", seed, way, w) for method, seed, way, w in every}


def of_tuned(seeds: range) -> set[Run]:
    """Every model with the settings that a search found."""
    return {
        Run(name, preset.removesuffix(TUNED), seed, (("preset", preset),))
        for name, variant in REGISTRY.items()
        for preset in variant.known_presets() if preset.endswith(TUNED)
        for seed in seeds
    }  # fmt: skip


def test_every_published_run_is_still_asked_for(real_datasets):
    """The committed results are those that the scripts would reuse."""
    missing = [run.name for run in published(range(1, 2)) if not finished(run, RUNS, [])]
    assert missing == []


def grown(variant: Variant, **fields) -> Variant:
    """A variant of the same name whose model has further settings."""
    more = {name: (type(field.default), field) for name, field in fields.items()}
    annotations = {name: kind for name, (kind, _) in more.items()}
    kind = variant.model.Settings
    body = {"__annotations__": annotations, "__module__": __name__, **fields}
    settings = type(kind)(kind.__name__, (kind,), body)
    model = type(variant.model)(variant.model.__name__, (variant.model,), {"Settings": settings})
    return dataclasses.replace(variant, model=model)


def test_a_new_setting_that_changes_nothing_leaves_every_run_reusable(tmp_path, monkeypatch):
    """Of each model, and of all seeds that are committed. The data are not here, so that the
    records are believed as to them."""
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path))
    committed = {path.stem for path in RUNS.glob("*.json")}
    seeds = range(1, 10)
    asked = published(seeds) | of_recency(seeds) | of_tuned(seeds)
    asked.add(Run("EASE", "ml-1m_noisy", 1, (("reg", "1000"),)))  # of which docs/findings.md tells
    asked |= {Run(name, "ml-1m_clean", n) for name in seeds_study.METHODS for n in range(1, 51)}
    asked |= {
        sequential.run_of(row, dataset, seed)
        for row in sequential.ROWS for dataset in sequential.DATASETS for seed in seeds
    }  # fmt: skip
    asked |= {
        run
        for row in other_data.ROWS for dataset in other_data.DATASETS for seed in seeds
        if (run := other_data.run_of(row, dataset, seed))
    }  # fmt: skip
    runs = {run for run in asked if run.name in committed}
    assert {run.name for run in runs} == committed
    for name, variant in list(REGISTRY.items()):
        field = setting(0.5, "a setting of tomorrow")
        monkeypatch.setitem(REGISTRY, name, grown(variant, of_tomorrow=field))
    assert Run("EASE", "ml-1m_clean", 1).settings([])["of_tomorrow"] == 0.5
    assert [run.name for run in runs if not finished(run, RUNS, [])] == []
    assert [run.name for run in runs if finished(run, RUNS, ["--of_tomorrow", "0.6"])] == []


def test_a_record_with_a_setting_by_its_old_name_is_carried_forward(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path))
    run = Run("DiffRec", "ml-1m_clean", 1)
    old = record(run, data={})
    old["settings"]["learn_rate"] = old["settings"].pop("lr")
    for format in (1, None):  # the first records did not tell their format
        about = {**old, "format": format} if format else {k: old[k] for k in old if k != "format"}
        (tmp_path / f"{run.name}.json").write_text(json.dumps(about))
        assert finished(run, tmp_path, []) is None
        with monkeypatch.context() as patched:
            patched.setattr(checkpoints, "RENAMED", {1: {"learn_rate": "lr"}})
            assert finished(run, tmp_path, []) == about
            assert finished(run, tmp_path, ["--lr", "0.5"]) is None


def test_no_result_names_a_path_of_the_machine_it_was_made_on():
    for path in RUNS.glob("*.json"):
        words = json.loads(path.read_text())["command"].split()
        assert not [word for word in words if word.startswith("/")], path.name


def test_a_run_that_fails_is_named_and_the_others_go_on(run, mains_here, datasets, tmp_path):
    """L-DiffRec has no item embeddings here."""
    call = ["scripts/reproduce.py", "table4", "--results", tmp_path / "r", "--seeds", "1",
            "--datasets", "ml-1m,yelp", "--run_flags", "--epochs 1 --topN 10 20"]  # fmt: skip
    done = run(*call)
    assert done.returncode == 2
    assert "failed: L-DiffRec_ml-1m_noisy_seed1: error: there are no item embeddings" in (
        done.stdout + done.stderr
    )
    assert "skipped: yelp_noisy is not here" in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("error: some runs failed")
    page = (tmp_path / "r" / "table4.md").read_text()
    assert "| DiffRec | 1 |" in page
    assert "| L-DiffRec |" not in page
    rows = page.count("| DiffRec |")
    done = run(*call, "--methods", "L-DiffRec")  # what was done already stays in the table
    assert (tmp_path / "r" / "table4.md").read_text().count("| DiffRec |") == rows
    shown = run(*call, "--dry_run")
    assert shown.returncode == 0
    missing = [("L-DiffRec", "ml-1m"), ("DiffRec", "yelp"), ("L-DiffRec", "yelp")]
    assert {line for line in shown.stdout.splitlines() if line.startswith("python")} == {
        f"python {name}/main.py --dataset {data}_noisy --seed 1 --epochs 1 --topN 10 20"
        for name, data in missing
    }
    assert "needed: yelp_noisy is not here" in shown.stderr


def test_flags_choose_what_runs_and_pages_show_all_that_is_there(datasets, tmp_path, capsys):
    """Other methods, seeds and data sets stay on the page of a narrower command, those too whose
    data are not here."""
    folder = tmp_path / "r" / "runs"
    folder.mkdir(parents=True)
    runs = [tables.run_of("DiffRec-eps", "ml-1m_clean", 1)]
    for dataset in ("ml-1m_clean", "mine_clean"):
        runs += [Run("DiffRec", dataset, seed) for seed in (1, 2, 7)]
    tiny = runs[0].data([])
    for run in runs:
        made = record(run, 0.1 + 0.01 * run.seed, data=tiny)
        (folder / f"{run.name}.json").write_text(json.dumps(made))
    narrow = "table5 --datasets ml-1m --methods DiffRec --seeds 2 --results"
    reproduce.main([*narrow.split(), str(tmp_path / "r")])
    page = (tmp_path / "r" / "table5.md").read_text()
    assert page.count("| DiffRec | 3 |") == 2
    assert page.count("| DiffRec-eps | 1 |") == 1
    assert page.index("### ml-1m_clean") < page.index("### mine_clean")
    assert len((tmp_path / "r" / "table5.csv").read_text().splitlines()) == 8
    flags = "--datasets ml-1m --methods DiffRec --seeds 2"
    assert f"Made by `bash scripts/table5.sh`, last called with `{flags}`, on" in page


@pytest.mark.parametrize(
    ("what", "flags", "told"),
    [
        ("table2", "--seeds 3 --gpu 0 --jobs 2 --results r", "--seeds 3"),
        ("table2", "--datasets ml-1m,yelp", "--datasets ml-1m,yelp"),
        ("figure6", "--dataset my_clean --methods DiffRec", "--dataset my_clean --methods DiffRec"),
        ("figure6", "--datasets yelp --dry_run", "--datasets yelp"),
        ("figure6", "--run_flags '--lr 1e-3'", "--run_flags '--lr 1e-3'"),
        ("table2", "--dataset ml-1m_clean", ""),  # of a figure made by the same command
    ],
)
def test_a_page_names_the_flags_that_made_it(what, flags, told):
    args = reproduce.make_parser().parse_args([what, *shlex.split(flags)])
    assert shlex.join(reproduce.flags_that_count(what, args)) == told


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("table2 --methods GPT", "there is no method GPT"),
        ("table4 --methods EASE", "choose from DiffRec, L-DiffRec."),
        ("table2 --datasets ml-2m", "ml-2m_clean is no data set of the paper's"),
        ("table3 --datasets ml-1m_clean", "made from noisy data"),
        ("table2 --datasets ,", "expected names with commas"),
        ("table2 --dataset ml-1m_clean", "a table takes --datasets"),
        ("figure6 --datasets yelp,ml-1m", "name it with --dataset"),
        ("table2 --run_flags 'x", "has a quote that is not closed"),
        ("table2 --seeds 0", "seeds: must be greater than or equal to 1, got '0'"),
    ],
)
def test_mistakes_are_one_sentence(flags, sentence):
    with pytest.raises(InputError) as raised:
        reproduce.main([*flags.split(), "--dry_run"])
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_quote_that_is_not_closed_is_one_sentence(run):
    done = run("scripts/reproduce.py", "table2", "--run_flags", "--lr 'x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_flags_that_no_main_takes_fail_the_runs_and_not_the_script(datasets, tmp_path, capsys):
    with pytest.raises(InputError, match="some runs failed"):
        reproduce.main(["table5", "--datasets", "ml-1m", "--seeds", "1", "--run_flags", "--lr x",
                        "--results", str(tmp_path / "r")])  # fmt: skip
    assert capsys.readouterr().out.count("error: lr must be a number, got 'x'.") == 2


def test_stopping_the_script_stops_its_runs(datasets, tmp_path):
    """A SIGTERM, as a batch system's, reaches what runs; the same command would go on."""
    call = [sys.executable, REPOSITORY / "scripts" / "reproduce.py", "table5", "--seeds", "1",
            "--results", tmp_path / "r", "--jobs", "2", "--run_flags",
            "--epochs 1000000 --patience 1000000 --topN 10 20"]  # fmt: skip
    script = subprocess.Popen(list(map(str, call)), stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: len(list((tmp_path / "r").rglob("*.state"))) == 2)
        script.terminate()
        _, stderr = script.communicate(timeout=60)
    finally:
        script.kill()
    assert (script.returncode, stderr.strip().splitlines()[-1]) == (130, "stopped.")
    logs = [path.read_text() for path in (tmp_path / "r" / "work").rglob("*.log")]
    assert len(logs) == 2
    for log in logs:
        assert "goes on from the last evaluation" in log.splitlines()[-1]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds * 10)):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_a_table_marks_the_best_the_second_and_what_beats_them():
    table = tables.TABLES["table3"]
    recalls = {
        "LightGCN": [0.10, 0.11, 0.12], "MultiVAE": [0.12, 0.121, 0.122],
        "DiffRec": [0.13, 0.131, 0.132], "EASE": [0.2, 0.2], "Popularity": [0.01, 0.01],
    }  # fmt: skip
    records = {
        method: [record(Run(method, "ml-1m_noisy", n), r) for n, r in enumerate(values)]
        for method, values in recalls.items()
    }
    text = tables.block(table, "ml-1m_noisy", records, {})
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "**0.1310 ± 0.0010\\***" in rows["DiffRec"]
    assert "<u>0.1210 ± 0.0010</u>" in rows["MultiVAE"]
    assert "| 0.1226 | 0.1100 ± 0.0100 | -10.3 |" in rows["LightGCN"]
    assert "| 0.2000 †" in rows["EASE"]
    assert "†" not in rows["Popularity"]
    # t is (0.131 - 0.121) / (0.001 / √3) with 2 degrees of freedom; and with both spreads,
    # (0.131 - 0.121) / (0.001 · √(2/3)) with 4.
    assert "DiffRec against MultiVAE R@20 < 0.001 (0.002)" in text
    # The star is by Welch's test, where both have a spread: many seeds of one are not enough.
    spread = {"LightGCN": [0.1], "MultiVAE": [0.1, 0.14], "DiffRec": [0.124, 0.125, 0.126] * 9}
    found = tables.against_the_best(spread, table)["DiffRec"]
    assert found[0] == "MultiVAE"
    assert found[1] > 0.05 > found[2]


def test_resources_stand_beside_the_papers():
    records = {"DiffRec": [record(Run("DiffRec", "ml-1m_clean", 1))]}
    text = tables.page(tables.TABLES["table6"], {"ml-1m_clean": records}, {})
    assert "| 4 | 3.6 | 495 | 400 |" in text
    assert "there was no GPU" in text
    assert paper_resources("ACVAE", "ml-1m_clean") is None


def test_claims_are_tested_by_the_means_and_their_spread():
    figure = figures.FIGURES["figure6"]
    panels = figure.panels("ml-1m_clean")
    recalls = {"0": 0.1, "1e-5": 0.12, "1e-1": 0.1495, "2": 0.1, "100": 0.2}
    found = {
        (n, "DiffRec", label): [
            record(Run("DiffRec", "ml-1m_clean", seed), recalls.get(label, 0.15) + 0.001 * seed)
            for seed in (1, 2, 3)
        ]
        for n, panel in enumerate(panels)
        for label, _ in panel.points
    }
    text = figures.page(figure, "figure6", "ml-1m_clean", found, "made-up data")
    verdicts = re.findall(r"@20 (\*\*.*?) \(", text)
    assert verdicts == [*["**yes**"] * 2, *["**not confirmed**"] * 2, *["**no**"] * 2]
    assert "shows neither that nor the contrary" in text
    assert "s = 0 the reverse chain feeds" in text
    (_, verdicts), *_ = figure.claims(
        {
            ("DiffRec", what, label): [0.1, 0.2] if label == "0" else [0.1, 0.19]
            for what in figures.SHOWN
            for panel in panels
            for label, _ in panel.points
        },
        panels,
    )
    assert figures.said(verdicts).count("**not confirmed** (") == 2  # where the spread is wide
    assert figures.every([True, None]) is None
    assert figures.every([True, None, False]) is False
    assert figures.every([True, True]) is True
    assert figures.above([0.1, 0.101], [0.2, 0.201]) is False
    del found[0, "DiffRec", "0"]
    assert "runs are missing" in figures.page(figure, "figure6", "ml-1m_clean", found, "")


def test_points_that_repeat_the_preset_share_its_run():
    figure = figures.FIGURES["figure5"]
    plan = figures.runs_of(figure, "ml-1m_clean", [1])
    plain = Run("DiffRec", "ml-1m_clean", 1)
    assert plan[0, "DiffRec", "importance"] == plan[1, "DiffRec", "0"] == [plain]
    labels = [label for n, _, label in plan if n == 1]
    assert labels == ["0", "T/4 = 10", "T/2 = 20", "T = 40"]
    steps = figures.sampling_panels("yelp_clean")[1].points  # T = 5
    assert [label for label, _ in steps] == ["0", "T/4 = 1", "T/2 = 2", "T = 5"]
    noise = figures.FIGURES["figure4"].panels("x")[0].points
    assert noise[:2] == (("0%", ()), ("10%", (("random_noise", "0.1"),)))


def test_no_picture_makes_noise_look_large(tmp_path, monkeypatch):
    """Every axis begins at 0 and shows all; four of them stand in two rows."""
    drawn = []
    monkeypatch.setattr(figures.pictures, "save", lambda picture, path: drawn.append(picture))
    figure = figures.FIGURES["figure5"]
    found = {
        (n, "DiffRec", label): [
            record(Run("DiffRec", "ml-1m_clean", seed), 0.2 + 0.01 * seed) for seed in (1, 2, 3)
        ]
        for n, panel in enumerate(figure.panels("ml-1m_clean"))
        for label, _ in panel.points
    }
    figures.draw(figure, "ml-1m_clean", found, "made-up data", tmp_path, "figure5")
    axes = drawn[0].axes
    assert {axis.get_gridspec().nrows for axis in axes} == {2}
    assert len(axes) == 4
    for axis in axes:
        low, high = axis.get_ylim()
        assert low == 0
        assert high > 0.23


def test_seeds_by_default():
    args = reproduce.make_parser().parse_args(["table2"])
    assert list(reproduce.seeds_for("DiffRec", args)) == [1, 2, 3, 4, 5]
    assert list(reproduce.seeds_for("MF", args)) == [1, 2, 3]


def mean_of(records: str, metric: str) -> str:
    """Mean and standard deviation over some records in results, as the README writes them."""
    records = [json.loads(path.read_text()) for path in (REPOSITORY / "results").glob(records)]
    values = [record["test"][metric] for record in records]
    spread = statistics.stdev(values) if len(set(values)) > 1 else 0
    mean = f"{statistics.mean(values):.4f}".removeprefix("0")
    return mean + (f" ± {spread:.4f}".replace("0.", ".") if spread else "")


# What rows of the headline are called, where it is not a method: the method, and its runs' flags.
OF_HEADLINE = {
    "DiffRec, tuned": ("DiffRec", "_preset={}_tuned"),
    "L-DiffRec, tuned": ("L-DiffRec", "_preset={}_tuned"),
    "T-DiffRec, tuned": ("T-DiffRec", "_preset={}_tuned"),
    "LT-DiffRec, tuned": ("LT-DiffRec", "_preset={}_tuned"),
    "EASE, recent": ("EASE", "_w_at=inference_w_min=0.03"),
    "GiffCF": ("GiffCF", "_patience=100_mixers=positive"),
    "GiffCF, recent": ("GiffCF", "_patience=100_mixers=positive_w_at=inference_w_min=0.03"),
}


def test_the_headline_of_the_readme_is_that_of_the_runs_and_the_paper():
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if "clean, checkpoint" in line)
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table]
    compared = 0
    for name, *cells in rows:
        method = name.rstrip("²³⁴⁵⁶⁷⁸⁹ ")
        method, flags = OF_HEADLINE.get(method, (method, ""))
        for k, cell in enumerate(cells):
            dataset, whose = ("ml-1m_clean",) * 3 + ("ml-1m_noisy",) * 2, "pcopo"[k]
            for metric, shown in zip(("recall@20", "ndcg@20"), cell.split(" / "), strict=False):
                if not shown:
                    continue
                if whose == "p":
                    told = f"{paper_figures(method, dataset[k])[metric]:.4f}".lstrip("0")
                else:
                    name = f"{method}_{dataset[k]}"
                    of_runs = f"runs/{name}{flags.format(dataset[k])}_seed*"
                    records = of_runs if whose == "o" else f"checkpoints/{name}"
                    told = mean_of(f"{records}.json", metric)
                assert shown == told, (method, dataset[k], metric)
                compared += 1
    assert compared >= 40


def test_the_tables_are_those_of_the_runs():
    """Means in the Markdown are those of the CSV, and the CSV's of the runs."""
    import csv

    for what in tables.TABLES:
        rows = list(csv.DictReader((REPOSITORY / "results" / f"{what}.csv").open()))
        page = (REPOSITORY / "results" / f"{what}.md").read_text()
        groups = {}
        for row in rows:
            name = Run(
                row["method"], row["dataset"], int(row["seed"]),
                tuple(tuple(f.split("=")) for f in row["flags"].split()),
            ).name  # fmt: skip
            path = RUNS / f"{name}.json"
            truth = json.loads(path.read_text())["test"]["recall@20"]
            assert float(row["test_recall@20"]) == truth
            groups.setdefault((row["method"], row["dataset"], row["flags"]), []).append(truth)
        for values in groups.values():
            assert f"{statistics.mean(values):.4f}" in page


def test_recency_is_chosen_on_validation_and_shown_beside_the_plain_model(
    run, mains_here, datasets, tmp_path
):
    call = ["scripts/recency.py", "--methods", "EASE,ItemKNN", "--results", tmp_path / "r"]
    done = run(*call)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "r" / "recency.md").read_text()
    for method in ("EASE", "ItemKNN"):
        for label, way in recency.WAYS.items():
            (line,) = (li for li in page.splitlines() if li.startswith(f"| {method} | {label} |"))
            if way == "none":
                continue
            values = {}
            for w_min in recency.W_MINS:
                name = recency.run_of(method, "ml-1m_clean", 1, way, w_min).name
                found = json.loads((tmp_path / "r" / "runs" / f"{name}.json").read_text())
                assert found["settings"]["w_at"] == way
                values[w_min] = found["valid"]["recall@20"]
            assert f"| {max(values, key=values.get)} | 1 |" in line
    again = run(*call, "--dry_run")
    assert not [line for line in again.stdout.splitlines() if line.startswith("python")]
    # A call for less leaves the others on the page.
    call[2] = "EASE"
    assert run(*call, "--seeds", "1").returncode == 0
    page_of_less = (tmp_path / "r" / "recency.md").read_text()
    assert page_of_less.split("Made by")[0] == page.split("Made by")[0]
    done = run("scripts/recency.py", "--methods", "MF")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


# Many seeds


def test_the_best_of_n_seeds_is_that_of_all_choices():
    valid, test = [0.3, 0.1, 0.2, 0.2, 0.5], [1.0, 2.0, 3.0, 5.0, 0.0]
    found = seeds_study.best_of(valid, test)
    for n in range(1, 6):
        chosen = []
        for some in itertools.combinations(range(5), n):
            best = max(valid[i] for i in some)
            equal = [test[i] for i in range(5) if valid[i] == best]
            chosen.append(statistics.mean(equal))
        assert found[n - 1] == pytest.approx(statistics.mean(chosen))
    assert found[0] == pytest.approx(statistics.mean(test))
    assert found[-1] == 0.0


def test_the_study_of_seeds_says_how_many_reach_the_papers_figure(run, datasets, tmp_path):
    call = ["scripts/seeds_study.py", "--methods", "DiffRec", "--results", tmp_path / "r"]
    flags = ["--seeds", "3", "--run_flags", "--epochs 1 --topN 10 20 --dims [8] --steps 2"]
    done = run(*call, *flags)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "r" / "seeds_study.md").read_text()
    records = [json.loads(p.read_text()) for p in (tmp_path / "r" / "runs").glob("*.json")]
    values = [r["test"]["recall@20"] for r in records]
    assert len(values) == 3
    reached = sum(value >= paper_figures("DiffRec", "ml-1m_clean")["recall@20"] for value in values)
    assert f"is reached by {reached} of 3 seeds" in text
    assert f"Recall@20 {statistics.mean(values):.4f}" in text
    assert (tmp_path / "r" / "seeds_study.png").stat().st_size > 0
    assert "seeds_study.png" in (tmp_path / "r" / "README.md").read_text()
    refused = run("scripts/seeds_study.py", "--methods", "Oracle")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_the_study_of_epochs_has_the_best_by_validation_and_by_test(
    run, datasets, tmp_path, monkeypatch
):
    """The first is what training itself chooses; a seed that is done is not run again."""
    short = {"epochs": 30, "eval_every": 2, "dims": (8,), "steps": 2, "lr": 0.02, "noise_scale": 0}
    monkeypatch.setattr(Variant, "known_presets", lambda _: {"ml-1m_clean": short})
    monkeypatch.setattr(Variant, "preset", lambda _, name: short)
    call = ["scripts/epoch_study.py", "--methods", "DiffRec", "--results", tmp_path / "r"]
    assert run(*call, "--seeds", "1").returncode == 0
    done = run(*call, "--seeds", "2")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "r" / "epoch_study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == sorted(row["seed"] for row in rows)
    data = load_dataset("ml-1m_clean")
    for seed in (1, 2):
        some = [row for row in rows if row["seed"] == str(seed)]
        (chosen,) = epoch_study.chosen_by("valid", some)
        (oracle,) = epoch_study.chosen_by("test", some)
        assert float(oracle["test_recall@20"]) == max(float(r["test_recall@20"]) for r in some)
        model = DiffRec.for_dataset(data, seed=seed, dims=(8,), steps=2, noise_scale=0)
        trained = train(
            model, data, seed=seed, save_path=tmp_path / "s", epochs=30, eval_every=2, lr=0.02
        )
        assert int(chosen["epoch"]) == trained.best_epoch
        assert float(chosen["test_ndcg@20"]) == pytest.approx(trained.test["ndcg@20"], abs=1e-6)
    monkeypatch.setattr(epoch_study, "train", None)
    assert run(*call, "--seeds", "2").returncode == 0
    assert "| DiffRec | published | 2 | 0.1787 |" in (tmp_path / "r" / "epoch_study.md").read_text()
    assert "## What the choice of the epoch" in (tmp_path / "r" / "README.md").read_text()
    monkeypatch.setattr(epoch_study, "train", train)
    other = {**short, "dropout": 0.1}  # a preset that was changed: its rows do not count
    monkeypatch.setattr(Variant, "known_presets", lambda _: {"ml-1m_clean": other})
    monkeypatch.setattr(Variant, "preset", lambda _, name: other)
    again = run(*call, "--seeds", "1")
    assert f"{len(rows)} evaluations in" in again.stdout
    with (tmp_path / "r" / "epoch_study.csv").open(newline="") as file:
        others = list(csv.DictReader(file))
    assert {row["seed"] for row in others} == {"1"}
    assert others[0]["preset_sha256"] != rows[0]["preset_sha256"]
    assert run(*call, "--seeds", "1", "--patience", "7").returncode == 0
    with (tmp_path / "r" / "epoch_study.csv").open(newline="") as file:
        both = list(csv.DictReader(file))
    assert [row for row in both if not row["patience"]] == others
    (less,) = epoch_study.chosen_by("valid", [row for row in both if row["patience"] == "7"])
    last = max(int(row["epoch"]) for row in both if row["patience"] == "7")
    assert last <= int(less["epoch"]) + 6 < 30
    text = (tmp_path / "r" / "epoch_study.md").read_text()
    assert "| DiffRec | published, patience 7 | 1 |" in text
    older = [{name: row[name] for name in row if name != "patience"} for row in others]
    write_csv(tmp_path / "r" / "epoch_study.csv", older)
    assert run(*call, "--seeds", "1").returncode == 0
    damaged = (tmp_path / "r" / "epoch_study.csv").read_text().rsplit(",", 3)[0]
    (tmp_path / "r" / "epoch_study.csv").write_text(damaged)
    refused = run(*call, "--seeds", "2")
    assert refused.returncode == 2
    assert "epoch_study.csv is not a whole table" in refused.stderr


def test_the_study_of_epochs_takes_for_equal_what_training_does():
    rows = [
        {"seed": "1", "epoch": epoch, "valid_recall@20": valid, "test_recall@20": valid}
        for epoch, valid in (("5", "0.112310"), ("10", "0.112340"), ("15", "0.112260"))
    ]
    assert [row["epoch"] for row in epoch_study.chosen_by("valid", rows)] == ["5"]
    rows[1]["valid_recall@20"] = "0.112360"
    assert [row["epoch"] for row in epoch_study.chosen_by("valid", rows)] == ["10"]


# What a search found, in the tables


def test_a_table_has_a_column_for_what_a_search_found():
    runs = [Run("DiffRec", "ml-1m_clean", seed) for seed in (1, 2)]
    plain = {"DiffRec": [record(run, 0.1) for run in runs]}
    found = {"DiffRec": [record(run, 0.2) for run in runs]}
    table = tables.TABLES["table2"]
    assert "tuned" not in tables.page(table, {"ml-1m_clean": plain}, {})
    text = tables.page(table, {"ml-1m_clean": plain}, {"ml-1m_clean": found})
    (row,) = [line for line in text.splitlines() if line.startswith("| DiffRec |")]
    (header,) = [line for line in text.splitlines() if line.startswith("| method |")]
    where = [n for n, cell in enumerate(header.split("|")) if cell.strip() == "tuned"]
    assert [row.split("|")[n].strip() for n in where] == ["0.2000"] * 4
    assert "Seeds of what is tuned: DiffRec 2." in text


def test_tuned_runs_are_asked_for_where_a_search_has_been(datasets, run):
    words = ["table2", "--datasets", "ml-1m", "--methods", "DiffRec", "--seeds", "2", "--dry_run"]
    lines = run("scripts/reproduce.py", *words, "--results", datasets).stdout.splitlines()
    assert sum("--preset ml-1m_clean_tuned" in line for line in lines) == 2
    assert len([line for line in lines if line.startswith("python")]) == 4
    assert tables.tuned_run_of("DiffRec-eps", "ml-1m_clean", 1) is None
    # A search may find the preset's settings: its runs are those.
    assert tables.tuned_run_of("LightGCN", "ml-1m_clean", 2) == Run("LightGCN", "ml-1m_clean", 2)
    words[4], words[6] = "LightGCN", "9"
    lines = run("scripts/reproduce.py", *words, "--results", datasets).stdout.splitlines()
    assert len([line for line in lines if line.startswith("python")]) == 9


def test_a_study_of_recall_refuses_data_that_are_evaluated_otherwise(tmp_path, monkeypatch):
    for name, words in (("plain_clean", "{}"), ("next_clean", '{"evaluation": {"topN": [5]}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stats.json").write_text(words)
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path))
    require_released_evaluation("plain_clean", "recall@20")
    with pytest.raises(InputError, match=r"next_clean is evaluated otherwise: this study is of re"):
        require_released_evaluation("next_clean", "recall@20")
