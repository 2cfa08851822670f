"""compare.py and curves.py: models against each other, and how their trainings went."""

import csv
import json
import re
import shutil
from pathlib import Path

import compare
import curves
import numpy as np
import pytest
from arguments import short_names
from scipy import stats

from baselines.models import MODELS
from DiffRec import DiffRec, evaluate, load_dataset, train
from DiffRec import compare as compare_users
from DiffRec.engine.contract import any_model
from DiffRec.engine.variant import variant_of
from DiffRec.preparation import synthetic, writer


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """Result and checkpoint of two runs of DiffRec, and of one of EASE, by name."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, seed in (("DiffRec", 1), ("DiffRec", 2), ("EASE", 1)):
        chosen = {"dims": (8,), "steps": 2} if name == "DiffRec" else {"reg": 20.0}
        more = {"epochs": 10, "lr": 0.01} if name == "DiffRec" else {}
        model = variant_of(name).model.for_dataset(tiny, seed=seed, **chosen)
        run = train(model, tiny, seed=seed, save_path=folder, **more)
        result = folder / f"{name}_tiny_seed{seed}.json"
        result.write_text(json.dumps(run.record))
        found[name, seed] = result, run.checkpoint
    return found


def rows_of(text: str) -> list[list[str]]:
    """The table's cells: they are two blanks apart."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("---"))
    return [re.split(r" {2,}", line) for line in lines[start + 1 :] if line]


@pytest.mark.parametrize(
    ("metrics", "select_by", "expected"),
    [
        (["precision", "recall", "ndcg", "mrr"], "recall@20", [("recall", 20), ("ndcg", 20)]),
        (["hr", "ndcg"], "ndcg@10", [("hr", 10), ("ndcg", 10)]),
        (["recall", "hr"], "hr@5", [("recall", 5)]),
        (["mrr"], "mrr@50", [("mrr", 50)]),
        (["coverage"], "coverage@20", [("recall", 20)]),
    ],
)
def test_what_is_compared_where_nothing_is_named(metrics, select_by, expected):
    header = {"settings": {"metrics": metrics, "select_by": select_by}}
    assert compare.own_metrics(header) == expected


def test_models_are_compared_user_by_user(run, trained, tiny, tiny_folder, tmp_path):
    files = [trained["DiffRec", 1][1], trained["EASE", 1][1], trained["DiffRec", 2][1]]
    done = run(
        "scripts/compare.py", *files, "--data_path", tiny_folder, "--out", tmp_path / "t.csv"
    )
    assert done.returncode == 0, done.stderr
    assert "tiny, test, 120 users" in done.stdout
    assert "for the 4 comparisons" in done.stdout
    assert "note:" not in done.stdout
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["metric"] for row in rows] == ["recall@20"] * 3 + ["ndcg@20"] * 3
    per_user = [
        evaluate(any_model(file), tiny, topN=[20], per_user=True)["test"] for file in files
    ]  # fmt: skip
    tested = [row for row in rows if row["p"]]
    for row, k in zip(tested, (1, 2, 1, 2), strict=True):
        ours, first = per_user[k][row["metric"]], per_user[0][row["metric"]]
        test = stats.ttest_rel(ours, first)
        assert float(row["mean"]) == pytest.approx(ours.mean())
        assert float(row["difference"]) == pytest.approx(ours.mean() - first.mean())
        interval = test.confidence_interval(0.95)
        assert (float(row["low"]), float(row["high"])) == pytest.approx(tuple(interval))
        assert float(row["p"]) == pytest.approx(test.pvalue)
        assert float(row["wilcoxon"]) == pytest.approx(stats.wilcoxon(ours, first).pvalue)
        d = ours - first
        assert float(row["effect"]) == pytest.approx(d.mean() / d.std(ddof=1))
    corrected = stats.false_discovery_control([float(row["p"]) for row in tested])
    assert [float(row["adjusted"]) for row in tested] == pytest.approx(list(corrected))
    shown = rows_of(done.stdout)[: len(rows)]
    assert [cells[0] for cells in shown] == [row["metric"] for row in rows]
    for cells, row in zip(shown, rows, strict=True):
        assert cells[2] == f"{float(row['mean']):.4f}"
        if row["p"]:
            assert cells[3] == f"{float(row['difference']):+.4f}"
            assert cells[4] == f"[{float(row['low']):+.4f}, {float(row['high']):+.4f}]"


def test_the_data_are_those_of_the_first_checkpoint(run, trained, tiny_folder, monkeypatch):
    """Its header names them; models of different kinds go by their names."""
    monkeypatch.setenv("DIFFREC_DATASETS", str(tiny_folder.parent))
    files = [trained[name, 1][1] for name in ("DiffRec", "EASE")]
    done = run("scripts/compare.py", *files, "--metrics", "hit@5", "map@10", "--split", "valid")
    assert done.returncode == 0, done.stderr
    assert "tiny, valid, 120 users; differences to DiffRec" in done.stdout
    shown = rows_of(done.stdout)
    assert [cells[:2] for cells in shown] == [
        [metric, name] for metric in ("hit@5", "map@10") for name in ("DiffRec", "EASE")
    ]


def test_a_model_equal_to_the_first_differs_by_nothing(run, trained, tiny_folder):
    _, file = trained["EASE", 1]
    done = run("scripts/compare.py", file, file, "--data_path", tiny_folder)
    assert done.returncode == 0, done.stderr
    assert rows_of(done.stdout)[1][3:] == ["+0.0000", "[+0.0000, +0.0000]", "+0.00", *["1.000"] * 3]


def test_runs_of_several_seeds_can_be_one(run, trained, tiny, tiny_folder):
    files = [trained[which][1] for which in (("EASE", 1), ("DiffRec", 1), ("DiffRec", 2))]
    where = ["--data_path", tiny_folder, "--metrics", "recall@20"]
    done = run("scripts/compare.py", *files, *where, "--pool_seeds")
    assert done.returncode == 0, done.stderr
    first, second = rows_of(done.stdout)
    assert [first[1], second[1]] == ["EASE, seeds: 1", "DiffRec, seeds: 2"]
    each = [
        evaluate(any_model(file), tiny, 20, metrics="recall", per_user=True)["test"]["recall@20"]
        for file in files
    ]
    right = stats.ttest_rel((each[1] + each[2]) / 2, each[0])
    assert second[2] == f"{(each[1] + each[2]).mean() / 2:.4f}"
    assert second[6] == (f"{right.pvalue:.3f}" if right.pvalue >= 0.001 else "< 0.001")
    done = run("scripts/compare.py", *files[1:], *where, "--pool_seeds")
    assert "all runs are of one model" in done.stderr
    done = run("scripts/compare.py", *files, files[1], *where, "--pool_seeds")
    assert "are one model with one seed: name each run once" in done.stderr


def test_runs_of_other_settings_or_data_are_not_pooled():
    paths = [Path(name) for name in "abcd"]
    data = {"train": 3000, "sha256": "1"}
    headers = [
        {
            "variant": "DiffRec",
            "seed": seed,
            "data": data,
            "settings": {"lr": lr, "steps": 2, "random_noise": 0},
        }
        for seed, lr in ((1, 0.1), (2, 0.1), (1, 0.2))
    ]
    headers.append({**headers[0], "data": {"train": 2000, "sha256": "2"}})
    found = [{"recall@20": np.array([n, 2.0 * n])} for n in range(4)]
    names, runs = compare.pooled(paths, headers, found)
    assert names == [
        "DiffRec, lr 0.1, 3,000 interactions, seeds: 2",
        "DiffRec, lr 0.2, 3,000 interactions, seeds: 1",
        "DiffRec, lr 0.1, 2,000 interactions, seeds: 1",
    ]
    means = [row["mean"] for row in compare.table_of(names, runs)]
    assert means == pytest.approx([0.75, 3, 4.5])
    # What has the same interactions in another order is told apart by its file.
    headers[3] = {**headers[2], "data": {**data, "sha256": "2"}}
    names, _ = compare.pooled(paths, headers, found)
    assert names[1:] == [f"DiffRec, lr 0.2, 3,000 interactions, seeds: 1, {stem}" for stem in "cd"]
    # What began warm, or was trained on, is no further seed, nor the same as one.
    headers[1]["warm_start"], headers[3] = "old", {**headers[0], "went_on": True}
    _, runs = compare.pooled(paths, headers, found)
    assert [len(group) for group in runs] == [1, 1, 1, 1]


def test_seeds_of_noise_are_pooled_each_on_its_own_data(run, tiny_folder, tmp_path):
    files, each = [], []
    for seed in (1, 2):
        data = load_dataset(data_path=tiny_folder, random_noise=0.3, seed=seed)
        for name in ("EASE", "ItemKNN"):
            model = MODELS[name].for_dataset(data, seed=seed)
            files.append(train(model, data, seed=seed, save_path=tmp_path).checkpoint)
            each.append(evaluate(model, data, 20, metrics="recall")["test"]["recall@20"])
    flags = ["--data_path", tiny_folder, "--pool_seeds", "--metrics", "recall@20"]
    done = run("scripts/compare.py", *files, *flags)
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stdout
    first, second = rows_of(done.stdout)
    assert [first[1], second[1]] == ["EASE, seeds: 2", "ItemKNN, seeds: 2"]
    assert first[2] == f"{(each[0] + each[2]) / 2:.4f}"
    assert second[2] == f"{(each[1] + each[3]) / 2:.4f}"


def test_the_spread_of_the_seeds_has_a_test_of_its_own():
    """Users all agree in each pair of runs, and the seeds do not."""
    users = np.linspace(0, 1, 50)
    a = [{"recall@20": users + shift} for shift in (0.10, 0.20, 0.31)]
    b = [{"recall@20": users + shift + users / 100} for shift in (0.11, 0.21, 0.30)]
    _, row = compare.table_of(["b", "a"], [b, a])
    means = [[run["recall@20"].mean() for run in runs] for runs in (a, b)]
    assert row["seeds"] == pytest.approx(stats.ttest_ind(*means, equal_var=False).pvalue)
    assert row["p"] < 0.001 < 0.5 < row["seeds"]
    assert compare.table_of(["b", "a"], [b, a[:1]])[1]["seeds"] == ""
    alike = [[a[0], a[0]], [b[0], b[0]]]  # models that depend on no seed
    assert compare.table_of(["b", "a"], alike)[1]["seeds"] == ""


def test_runs_in_another_order_are_no_difference():
    """Though their means differ by rounding."""
    runs = [{"recall@20": np.random.default_rng(n).choice([1 / 3, 1 / 7, 1 / 9], 60)}
            for n in range(3)]  # fmt: skip
    found = compare_users(runs, runs[::-1])["recall@20"]
    assert [found[name] for name in ("difference", "effect", "p", "wilcoxon")] == [0, 0, 1, 1]


def test_each_is_measured_as_the_first_was(trained, tiny, tiny_folder):
    """tst_w_val, recall_denominator and metric_users are in its header."""
    files = [str(trained[name, 1][1]) for name in ("DiffRec", "EASE")]
    args = compare.make_parser().parse_args(files)
    args.metrics = compare.metrics_at("recall@5")
    headers = [*map(compare.header_of, args.runs)]
    headers[0]["settings"] |= {"recall_denominator": "min_k", "metric_users": "with_items"}
    found = compare.measure(args, headers, [tiny, tiny])
    how = {"recall_denominator": "min_k", "metric_users": "with_items", "topN": [5]}
    right = evaluate(DiffRec.load(files[0]), tiny, **how, per_user=True)["test"]["recall@5"]
    np.testing.assert_array_equal(found[0]["recall@5"], right)
    row = compare.table_of(["a", "b"], [[values] for values in found])[0]
    assert row["mean"] == pytest.approx(np.nanmean(right))


def test_each_is_given_what_it_was_tested_with(trained, tiny):
    """tst_w_val is of the run, not of the comparison; what is noised is so by the run's seed."""
    file = str(trained["DiffRec", 1][1])
    args = compare.make_parser().parse_args([file, file])
    args.metrics = compare.metrics_at("recall@5")
    headers = [*map(compare.header_of, args.runs)]
    headers[1]["settings"] |= {"tst_w_val": True}
    plain, told = compare.measure(args, headers, [tiny, tiny])
    how = {"topN": [5], "metrics": ["recall"], "per_user": True}
    for found, tst_w_val in ((plain, False), (told, True)):
        right = evaluate(DiffRec.load(file), tiny, **how, tst_w_val=tst_w_val)["test"]
        np.testing.assert_array_equal(found["recall@5"], right["recall@5"])
    assert not np.array_equal(plain["recall@5"], told["recall@5"])


def test_models_that_are_noised_when_they_rank_are_compared_alike_each_time(
    run, tiny, tiny_folder, tmp_path
):
    noised = {"steps": 5, "sampling_steps": 4, "sampling_noise": True, "noise_scale": 10}
    model = DiffRec.for_dataset(tiny, dims=(8,), **noised)
    file = train(model, tiny, epochs=2, eval_every=1, save_path=tmp_path).checkpoint
    call = ["scripts/compare.py", file, file, "--data_path", tiny_folder]
    assert rows_of(run(*call).stdout)[1][3] == "+0.0000"
    asked = ["DiffRec/inference.py", "--checkpoint", file, "--history", "3,7", "--raw_ids", "0"]
    first = run(*asked).stdout
    assert run(*asked).stdout == first
    assert run(*asked, "--seed", "5").stdout != first


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--metrics", "coverage@20"], "at a cut-off, as recall@20, got 'coverage@20'"),
        (["--metrics", "recall"], "got 'recall'"),
        (["--metrics", ","], "expected metrics"),
        (["--metrics", "recall@0"], "got 'recall@0'"),
        (["--metrics", f"recall@{10**22}"], "got 'recall@1000"),
        (["--out", "."], ". is a folder"),
        (["--data_path", "nowhere"], "nowhere does not exist"),
        (["nothing.safetensors"], "there is no checkpoint"),
    ],
)
def test_mistakes_in_comparing_are_one_sentence(run, trained, tiny_folder, flags, sentence):
    files = [trained[name, 1][1] for name in ("DiffRec", "EASE")]
    where = [] if "--data_path" in flags else ["--data_path", tiny_folder]
    done = run("scripts/compare.py", *files, *flags, *where)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


def test_comparing_needs_two_and_the_same_items(run, trained, tmp_path):
    writer.write(tmp_path / "twin", synthetic.make_twin(60, 50, 900))
    files = [trained[name, 1][1] for name in ("DiffRec", "EASE")]
    done = run("scripts/compare.py", *files, "--data_path", tmp_path / "twin")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.search(r"was trained on \d+ items, but twin has 50", done.stderr)
    done = run("scripts/compare.py", files[0])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


# Curves


def test_curves_are_those_of_the_history(trained):
    result, checkpoint = trained["DiffRec", 1]
    record = json.loads(result.read_text())
    by_json, by_csv = curves.read_curve(result), curves.read_curve(checkpoint.with_suffix(".csv"))
    assert by_json.rows == by_csv.rows == record["history"]
    epochs, losses = by_json.series("loss")
    assert epochs == [5, 10]
    assert losses == [row["loss"] for row in record["history"]]
    assert by_json.best("recall@20") == (record["best_epoch"], record["valid"]["recall@20"])
    highest = max(record["history"], key=lambda row: row["ndcg@10"])
    assert by_csv.best("ndcg@10") == (highest["epoch"], highest["ndcg@10"])


def test_the_picture_has_a_line_for_each_run_and_what_they_are_below(run, trained, tmp_path):
    results = [result for result, _ in trained.values()]
    out = tmp_path / "pictures" / "curves.svg"
    done = run("scripts/curves.py", *results, "--out", out, "--metric", "ndcg@10")
    assert done.returncode == 0, done.stderr
    assert out.read_text().startswith("<?xml")
    for ending, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        done = run("scripts/curves.py", results[0], "--out", out.with_suffix(f".{ending}"))
        assert done.returncode == 0, done.stderr
        assert out.with_suffix(f".{ending}").read_bytes().startswith(start)


def test_names_are_drawn_letter_by_letter(run, tmp_path):
    """Also between two dollar signs; and a table may come from Excel."""
    path = tmp_path / "a$x_{$.csv"
    path.write_text("\ufeffepoch,loss,recall@20\n5,1,.1\n", encoding="utf-8")
    done = run("scripts/curves.py", path, "--out", tmp_path / "c.svg")
    assert done.returncode == 0, done.stderr
    assert "$x_{$" in (tmp_path / "c.svg").read_text()


def test_no_table_takes_the_place_of_a_run(run, trained, tiny_folder, tmp_path):
    files = [shutil.copy(trained[name, 1][1], tmp_path) for name in ("DiffRec", "EASE")]
    before = Path(files[1]).read_bytes()
    done = run("scripts/compare.py", *files, "--data_path", tiny_folder, "--out", files[1])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is read here: name another file to write" in done.stderr
    assert Path(files[1]).read_bytes() == before


def test_runs_that_have_no_loss_are_drawn_too(run, trained, tmp_path):
    done = run("scripts/curves.py", trained["EASE", 1][0], "--out", tmp_path / "ease")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ease").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("old.json", '{"variant": "EASE", "best_epoch": 1}', "has no history of its training"),
        ("empty.csv", "epoch,loss,recall@20\n", "has no history of its training"),
        ("half.json", '{"history": [{"epoch": 1, "recall', "is damaged"),
        ("list.json", "[]", "is damaged"),
        ("words.csv", "epoch,recall@20\n5,high\n", "is damaged"),
        ("short.csv", "epoch,recall@20\n5\n", "is damaged"),
        ("other.csv", "a,b\n1,2\n", "is damaged"),
        ("nan.json", '{"history": [{"epoch": NaN, "recall@20": 0.1}]}', "is damaged"),
        ("other.csv", "epoch,loss,recall@10\n5,1,.1\n", "has no recall@20: choose from recall@10"),
        ("odd.json", '{"best_epoch": "x", "history": [{"epoch": 1, "recall@20": 0}]}', "damaged"),
        ("inf.csv", "epoch,loss,recall@20\n5,inf,.1\n", "is damaged"),
        ("final.csv", "epoch,loss\n5,1\n", "has no metrics of validation"),
        ("run.txt", "", "neither the .json of a result nor the .csv of a curve"),
        ("none.json", None, "there is no file"),
    ],
)
def test_files_without_a_curve_are_refused(run, tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = run("scripts/curves.py", tmp_path / name, "--out", tmp_path / "x.png")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr
    assert not (tmp_path / "x.png").exists()


def test_a_picture_of_no_known_format_is_refused_first(run, tmp_path):
    done = run("scripts/curves.py", tmp_path / "none.json", "--out", tmp_path / "x.foo")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ends in no format of pictures" in done.stderr


def test_names_are_shortened_to_what_differs(tmp_path):
    def short(*names):
        return short_names([tmp_path / name for name in names])

    assert short("DiffRec_ml_seed1.json", "EASE_ml_seed1.json") == ["DiffRec", "EASE"]
    assert short("a_lr0.1_x.csv", "a_lr0.01_x.csv") == ["lr0.1", "lr0.01"]
    assert short("a_b.csv") == ["a_b"]
    assert short("a.csv", "a_b.csv") == ["a", "a_b"]  # nothing would be left of the first
    assert short("one/run.csv", "two/run.csv") == ["one", "two"]
