"""scripts/search.py: what is tried, what its table keeps, and what wins."""

import dataclasses
import json
import math
import os
import shutil
import signal
import time
import tomllib
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import search
from searching import study, trials
from searching.ranges import at_an_end, distributions, read_ranges
from searching.study import as_trial, study_of
from searching.table import COLUMNS, NEWER, curve_of, read_trials

from baselines.models.EASE import EASE
from DiffRec.engine.commands import parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import write_csv
from DiffRec.engine.settings import Between
from DiffRec.engine.variant import REGISTRY, variant_of


@pytest.fixture
def searching(run, tiny_folder, tmp_path, monkeypatch):
    """Search a model's settings on the tiny data; its presets go to a file of their own."""
    monkeypatch.setenv("DIFFREC_DATASETS", str(tiny_folder.parent))
    presets = tmp_path / "presets.toml"
    presets.write_text("[other]\nlr = 0.5\n")

    def call(model, *flags):
        words = ["--model", model, "--dataset", "tiny", "--out", tmp_path / "out", "--seeds", "2"]
        return run("scripts/search.py", *words, "--presets", presets, *flags)

    return call, presets, tmp_path / "out"


def test_a_search_keeps_every_trial_and_writes_the_winner(searching, tmp_path, monkeypatch):
    call, presets, out = searching
    done = call("EASE", "--trials", "7", "--candidates", "2")
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "EASE_tiny.csv")
    tried = {json.loads(row["settings"])["reg"]: float(row["valid"]) for row in rows}
    assert set(tried) == set(EASE.ranges["reg"])  # so few that all are tried
    assert [row["seed"] for row in rows] == ["1"] * 7 + ["2"] * 2
    best = max(tried, key=tried.get)
    assert ("At an end of its range" in done.stdout) == (best in (min(tried), max(tried)))
    found = tomllib.loads(presets.read_text())
    assert found["other"] == {"lr": 0.5}
    assert found["EASE"]["tiny_tuned"] == {"reg": best}
    assert "--reg" in rows[0]["command"]
    assert not [name for name in rows[0] if "test" in name]
    # Of few trials the further seeds are none: with more the rest is tried.
    fewer = ["--trials", "3", "--candidates", "3", "--out", tmp_path / "few"]
    assert call("EASE", *fewer).returncode == 0
    fewer[1] = "7"
    assert "4 new trials, 7 in all" in call("EASE", *fewer).stdout
    # Of other ranges all are tried too; what was found before may be the best still.
    (tmp_path / "r.txt").write_text("reg choice [1e6, 2e6]\n")
    other = call("EASE", "--trials", "7", "--candidates", "2", "--ranges", tmp_path / "r.txt")
    assert "2 new trials, 2 in all" in other.stdout
    assert "in 9 trials" in presets.read_text()
    assert tomllib.loads(presets.read_text()) == found
    # The same again runs nothing, and leaves one section.
    monkeypatch.setattr(trials, "train", None)
    again = call("EASE", "--trials", "7", "--candidates", "2")
    assert again.returncode == 0, again.stderr
    assert "0 new trials, 7 in all" in again.stdout
    assert tomllib.loads(presets.read_text()) == found


@pytest.mark.parametrize(
    ("some", "value", "at_end"),
    [
        ([1, 2, 5], 5, True), ([1, 2, 5], 2, False), ([0.0, 0.1, 0.2], 0.0, False),
        ([0.0, 0.1, 0.2], 0.2, True), ([1, 2], 2, False), ([False, True, True], True, False),
        (["[8]", "[9]", "[10]"], "[10]", False), (Between(0.0, 1.0), 0.97, True),
        (Between(0.0, 1.0), 0.9, False), (Between(1e-4, 1.0, log=True), 1.2e-4, True),
        (Between(1e-4, 1.0, log=True), 0.01, False),
    ],
)  # fmt: skip
def test_what_lies_at_an_end_of_its_range(some, value, at_end):
    assert at_an_end(some, value) == at_end


def test_a_preset_leaves_out_what_the_data_say(searching, tiny_folder, tmp_path, monkeypatch):
    """How they are evaluated; but not what a flag says."""
    call, presets, _ = searching
    shutil.copytree(tiny_folder, tmp_path / "data" / "next")
    stats = tmp_path / "data" / "next" / "stats.json"
    how = {"topN": [5], "metrics": ["hr", "ndcg"], "select_by": "ndcg@5", "tst_w_val": True}
    stats.write_text(json.dumps({**json.loads(stats.read_text()), "evaluation": how}))
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path / "data"))
    flags = ["--dataset", "next", "--trials", "1", "--candidates", "1", "--rank_seen", "1"]
    done = call("EASE", *flags)
    assert done.returncode == 0, done.stderr
    found = tomllib.loads(presets.read_text())["EASE"]["next_tuned"]
    assert found.pop("rank_seen") is True
    assert found.keys() <= {"reg"}


def test_two_processes_share_a_grid(searching):
    call, presets, out = searching
    done = call("EASE", "--trials", "7", "--candidates", "1", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "EASE_tiny.csv")
    tried = [json.loads(row["settings"])["reg"] for row in rows if row["seed"] == "1"]
    assert sorted(tried) == sorted(EASE.ranges["reg"])
    assert [row["trial"] for row in rows] == [str(n) for n in range(len(rows))]
    assert "tiny_tuned" in tomllib.loads(presets.read_text())["EASE"]


def test_a_search_of_a_trained_model_goes_on_where_it_was(searching):
    call, presets, out = searching
    flags = ["--candidates", "1", "--epochs", "4", "--eval_every", "2", "--seed", "5"]
    ranges = out.parent / "ranges.txt"
    ranges.write_text(
        "learning_rate loguniform -8,-3\ndims_dnn choice ['[8]','[4,8]']  # RecBole's words\n"
        "noice_scale choice [0.1, 0.5]\nsteps quniform 2,4,1\ndropout uniform 0.1,0.6\n"
    )
    assert call("DiffRec", "--trials", "3", "--ranges", ranges, *flags).returncode == 0
    first = read_trials(out / "DiffRec_tiny.csv")
    done = call("DiffRec", "--trials", "6", "--ranges", ranges, *flags)
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "DiffRec_tiny.csv")
    assert rows[: len(first)] == first
    assert sum(row["seed"] == "5" for row in rows) == 6
    for row in rows:
        values = json.loads(row["settings"])
        assert set(values) == {"lr", "dims", "noise_scale", "steps", "dropout"}
        assert values["steps"] in (2, 3, 4)
        assert math.exp(-8) <= values["lr"] <= math.exp(-3)
    assert {row["seed"] for row in rows} == {"5", "6"}
    found = tomllib.loads(presets.read_text())["tiny_tuned"]
    assert (found["epochs"], found["eval_every"]) == (4, 2)  # what all trials had holds too
    # Trials of other flags are of another search.
    flags[3] = "6"
    done = call("DiffRec", "--trials", "1", "--ranges", ranges, *flags)
    assert done.returncode == 0, done.stderr
    assert f"{len(rows)} trials in {out / 'DiffRec_tiny.csv'} are of other flags" in done.stdout
    more = read_trials(out / "DiffRec_tiny.csv")
    assert more[: len(rows)] == rows
    assert len(more) == len(rows) + 2


def row_of(state, lr, seed, valid, best_epoch=6, epochs=20, curve=""):
    """A row of a table of trials."""
    told = {"state": state, "settings": json.dumps({"lr": lr}), "seed": str(seed), "curve": curve}
    return told | {"valid": str(valid), "best_epoch": str(best_epoch), "epochs": str(epochs)}


class Trials:
    """A search whose trials are those rows; a further one has the metric .2."""

    def __init__(self, *rows):
        self.all, self.options, self.table = list(rows), SimpleNamespace(seed=1), self

    def rows(self):
        return self.all

    def run(self, values, seed):
        self.all.append(row_of("done", values["lr"], seed, 0.2))


def test_the_best_is_chosen_by_equally_many_seeds():
    """Neither by what was stopped early, nor by a seed that others do not have."""
    rows = [row_of("done", 0.1, seed, v) for seed, v in ((1, 0.10), (2, 0.10), (3, 0.90))]
    rows += [row_of("done", 0.2, seed, v) for seed, v in ((1, 0.11), (2, 0.105))]
    rows += [row_of("pruned", 0.3, 1, 0.8, ""), row_of("failed", 0.4, 1, "", "")]
    found = Trials(*rows, row_of("done", 0.5, 1, 0.05))
    assert [(values["lr"], n) for _, values, n in search.means(found, 2)] == [
        (0.2, 2), (0.1, 2), (0.5, 1),
    ]  # fmt: skip
    value, values, seeds = search.confirm(found, candidates=2, seeds=2)
    assert (round(value, 6), values, seeds) == (0.1075, {"lr": 0.2}, 2)
    assert len(found.all) == len(rows) + 1  # nothing was run again
    # Of three candidates the third gets its second seed, and all are looked at.
    assert search.confirm(found, candidates=3, seeds=2)[1:] == ({"lr": 0.5}, 2)
    with pytest.raises(InputError, match="no trial came to its end"):
        search.confirm(Trials(rows[5]), candidates=2, seeds=2)
    # The winner of an earlier call stays where later ones were better by their first seed alone.
    before = [row_of("done", 0.1, seed, 0.3) for seed in (1, 2)]
    found = Trials(*before, row_of("done", 0.6, 1, 0.35), row_of("done", 0.7, 1, 0.34))
    assert search.confirm(found, candidates=2, seeds=2)[1:] == ({"lr": 0.1}, 2)


def test_what_is_worse_than_the_median_is_stopped(tmp_path):
    """Where three trials came to their end, and not in the first epochs; higher is better."""
    known = distributions({"lr": Between(0.01, 1.0)})
    shared = study_of(tmp_path / "journal", seed=1)

    def is_stopped(epoch, value):
        trial = shared.ask(known)
        trial.report(value, epoch)
        stop = trial.should_prune()
        shared.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return stop

    values = (0.1, 0.2, 0.3, 0.4, 0.5)
    done = [
        row_of("done", 0.1 * n, 1, v, curve=f"5:{v} 15:{v + 1}") for n, v in enumerate(values, 1)
    ]
    for row in done[:2]:
        shared.add_trial(as_trial(row, known))
    assert not is_stopped(10, 0.01)
    for row in [*done[2:], row_of("pruned", 0.7, 1, 0.9, "", 10)]:
        shared.add_trial(as_trial(row, known))
    assert shared.best_value == 0.5
    assert is_stopped(10, 0.25)
    assert not is_stopped(10, 0.35)
    assert is_stopped(15, 1.25)
    assert not is_stopped(7, 0.25)
    assert not is_stopped(21, 0.25)  # none of the others was there


def test_what_a_table_tells_of_the_way_of_a_trial():
    """From its first evaluation on; a table of before curves were kept has no early values of what
    came to its end, and those of quick learners alone would stop all others."""
    told = row_of("done", 0.1, 1, 0.3, epochs=9, curve="2:0.1 4:0.25 7:0.3")
    assert curve_of(told) == {
        2: 0.1, 3: 0.1, 4: 0.25, 5: 0.25, 6: 0.25, 7: 0.3, 8: 0.3, 9: 0.3,
    }  # fmt: skip
    assert curve_of(row_of("done", 0.1, 1, 0.3)) == {}
    assert curve_of(row_of("pruned", 0.1, 1, 0.3, "", 10)) == {10: 0.3}


def test_a_table_without_curves_is_read_and_goes_on(searching):
    call, _presets, out = searching
    flags = ["--epochs", "4", "--candidates", "1", "--seeds", "1"]
    assert call("DiffRec", "--trials", "1", *flags).returncode == 0
    path = out / "DiffRec_tiny.csv"
    (row,) = read_trials(path)
    epoch, value = row["curve"].split()[-1].split(":")
    assert (epoch, float(value)) == (row["best_epoch"], float(row["valid"]))
    older = [name for name in COLUMNS if name not in NEWER]
    write_csv(path, [{name: row[name] for name in older}])
    assert call("DiffRec", "--trials", "2", *flags).returncode == 0
    first, second = read_trials(path)
    assert first == {**row, "curve": ""}
    assert second["curve"]


def test_a_trial_that_is_stopped_early_says_so(searching, monkeypatch):
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: True)
    call, _, out = searching
    done = call("DiffRec", "--trials", "2", "--epochs", "9")
    assert "no trial came to its end" in done.stderr
    rows = read_trials(out / "DiffRec_tiny.csv")
    assert [row["state"] for row in rows] == ["pruned"] * 2
    assert all(row["epochs"] == str(json.loads(row["settings"])["eval_every"]) for row in rows)
    # All combinations are tried to their end, be it that one was stopped early before.
    flags = ["--trials", "7", "--candidates", "1", "--seeds", "1"]
    assert call("EASE", *flags).returncode == 0
    rows = read_trials(out / "EASE_tiny.csv")
    assert [row["state"] for row in rows] == ["done"] * 7
    write_csv(out / "EASE_tiny.csv", [{**rows[0], "state": "pruned"}, *rows[1:]])
    assert call("EASE", *flags).returncode == 0
    again = read_trials(out / "EASE_tiny.csv")
    assert [row["settings"] for row in again[7:]] == [rows[0]["settings"]]


def test_pruning_sees_the_same_curve_when_a_search_goes_on(searching, monkeypatch):
    call, _, out = searching
    reported = []
    monkeypatch.setattr(optuna.Trial, "report", lambda trial, *told: reported.append(told))
    done = call("DiffRec", "--trials", "1", "--epochs", "12", "--eval_every", "4", "--seeds", "1")
    assert done.returncode == 0, done.stderr
    (row,) = read_trials(out / "DiffRec_tiny.csv")
    curve = curve_of(row)
    assert list(curve) == [epoch for _, epoch in reported]
    assert curve == pytest.approx({epoch: value for value, epoch in reported}, abs=1e-6)


def test_the_preset_of_any_name_of_data_can_be_read(searching, tiny_folder, tmp_path, monkeypatch):
    call, presets, _ = searching
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path))
    (tmp_path / "my data.v2").symlink_to(tiny_folder)
    flags = ["--trials", "7", "--candidates", "1", "--dataset", "my data.v2"]
    for _ in range(2):  # the second replaces the first
        done = call("EASE", *flags)
        assert done.returncode == 0, done.stderr
    assert list(tomllib.loads(presets.read_text())["EASE"]) == ["my data.v2_tuned"]
    chosen = f"{presets}:my data.v2_tuned"
    words = ["--model", "EASE", "--data_path", str(tiny_folder), "--preset", chosen]
    assert parse(variant_of("EASE"), words)[0].reg in EASE.ranges["reg"]


@pytest.mark.parametrize("flags", ["--warm_start x", "--item_shards 2", "--result_json x.json"])
def test_what_a_search_has_no_use_for_is_refused(searching, flags):
    call, _, out = searching
    done = call("DiffRec", "--trials", "1", *flags.split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{flags.split()[0][2:]} is of a training by itself" in done.stderr
    assert not list(out.glob("*.csv"))


@pytest.mark.parametrize(
    ("text", "values"),
    [("dropout quniform 0,0.3,0.1", [0, 0.1, 0.2, 0.3]), ("steps quniform 2,7,2", [2, 4, 6])],
)
def test_steps_of_a_range_hold_both_ends(tmp_path, text, values):
    (tmp_path / "r.txt").write_text(text)
    ranges = read_ranges(tmp_path / "r.txt", REGISTRY["DiffRec"].settings)
    assert ranges[text.split()[0]] == pytest.approx(values)


def test_what_a_flag_says_is_not_drawn(searching):
    call, presets, out = searching
    short = ["--trials", "4", "--candidates", "1"]
    done = call("ItemKNN", *short, "--neighbors", "50")
    assert done.returncode == 0, done.stderr
    tried = [json.loads(row["settings"]) for row in read_trials(out / "ItemKNN_tiny.csv")]
    assert {name for values in tried for name in values} == {"shrink"}
    assert len({values["shrink"] for values in tried}) > 1
    assert tomllib.loads(presets.read_text())["ItemKNN"]["tiny_tuned"]["neighbors"] == 50
    # A trial of before, when such a setting was drawn all the same, is none of this search.
    table = out / "ItemKNN_tiny.csv"
    rows = read_trials(table)
    before = json.dumps({"neighbors": 500, **json.loads(rows[0]["settings"])})
    command = rows[0]["command"].replace("--seed 1 ", "--seed 1 --neighbors 500 ")
    write_csv(table, [*rows, {**rows[0], "settings": before, "command": command, "valid": "0.9"}])
    done = call("ItemKNN", *short, "--neighbors", "50")
    assert "1 trials in" in done.stdout, done.stderr
    assert tomllib.loads(presets.read_text())["ItemKNN"]["tiny_tuned"]["neighbors"] == 50
    done = call("EASE", *short, "--reg", "5")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nothing is left to search" in done.stderr


def test_a_search_without_flags_is_not_one_whose_flags_begin_with_a_seed(searching):
    """Though their commands begin alike."""
    call, _presets, out = searching
    short = ["--trials", "1", "--minutes", "9", "--candidates", "1"]
    done = call("EASE", *short, "--seed", "5", "--metric_users", "with_items")
    assert done.returncode == 0, done.stderr
    before = read_trials(out / "EASE_tiny.csv")
    done = call("EASE", *short)
    assert f"{len(before)} trials in" in done.stdout, done.stderr
    rows = read_trials(out / "EASE_tiny.csv")
    assert [row["seed"] for row in rows] == ["5", "6", "1", "2"]
    assert "1 new trials, 1 in all" in done.stdout


def test_a_preset_of_other_data_is_replaced_aloud(searching, tiny_folder, tmp_path, monkeypatch):
    call, presets, _out = searching
    short = ["--trials", "1", "--candidates", "1"]
    words = f"tiny_tuned in {presets}, of other data of that name, is replaced"
    for _ in range(2):
        assert words not in call("EASE", *short).stdout
    other = tmp_path / "other" / "tiny"
    shutil.copytree(tiny_folder, other)
    np.save(other / "train_list.npy", np.load(other / "train_list.npy")[:-1])
    monkeypatch.setenv("DIFFREC_DATASETS", str(other.parent))
    assert words in call("EASE", *short).stdout


def test_a_search_with_noise_draws_it_with_each_seed(searching):
    call, _presets, out = searching
    done = call("EASE", "--trials", "1", "--candidates", "1", "--random_noise", "0.3")
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "EASE_tiny.csv")
    assert [(row["seed"], row["state"]) for row in rows] == [("1", "done"), ("2", "done")]
    assert "mean of 2 seeds" in done.stdout
    assert "did not come to its end" not in done.stdout


def test_a_model_without_a_file_of_presets_is_told_to_name_one(run, searching, monkeypatch):
    """Before anything is run."""
    _call, _presets, out = searching
    monkeypatch.setitem(REGISTRY, "EASE", dataclasses.replace(REGISTRY["EASE"], presets_file=None))
    done = run("scripts/search.py", "--model", "EASE", "--dataset", "tiny", "--out", out)
    assert "EASE has no file of presets: name one with --presets" in done.stderr
    assert not list(out.glob("*.csv"))


def test_settings_that_are_drawn_again_are_not_run_again(searching, monkeypatch):
    """With minutes they are drawn: in a row they might all be over before the better ones."""
    call, presets, out = searching
    monkeypatch.setattr(study, "REPEATED", 30)
    start = EASE.Settings().reg
    (out.parent / "r.txt").write_text(f"reg choice [10.0, {start}]\n")
    drawn = ["--minutes", "9", "--trials", "9", "--candidates", "1"]
    done = call("EASE", *drawn, "--ranges", out.parent / "r.txt")
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "EASE_tiny.csv")
    assert [row["seed"] for row in rows] == ["1", "1", "2"]
    assert json.loads(rows[0]["settings"]) == {"reg": start}
    for state in ("pruned", "failed"):  # these end the same again
        write_csv(out / "EASE_tiny.csv", [rows[0], {**rows[1], "state": state}])
        assert call("EASE", *drawn, "--ranges", out.parent / "r.txt").returncode == 0
        again = read_trials(out / "EASE_tiny.csv")
        assert [row["seed"] for row in again if row["state"] != "done"] == ["1"]
        assert len([row for row in again if row["seed"] == "1"]) == 2
    # A table of a time when they were: a seed counts once.
    write_csv(out / "EASE_tiny.csv", [*rows, *rows])
    assert call("EASE", "--trials", "2", "--ranges", out.parent / "r.txt").returncode == 0
    assert "mean of 2 seeds" in presets.read_text()


@pytest.mark.parametrize("error", [ValueError, InputError])
def test_a_stop_that_an_extension_makes_an_error_of_is_a_stop(searching, monkeypatch, error):
    """It comes while torch reads a file, say: as a KeyboardInterrupt it is lost."""
    call, _, out = searching

    def lose_interrupt(*args, **more):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            raise error("could not determine the shape") from None

    monkeypatch.setattr(trials, "train", lose_interrupt)
    done = call("EASE", "--trials", "7")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "stopped.")
    assert read_trials(out / "EASE_tiny.csv") == []


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ("noise_min choice [0.001, 0.9]", "noise_min must be smaller"),  # the model says so
        ("w_min choice [0.1, 0.9]", "w_min must not exceed w_max"),  # the settings do
    ],
)
def test_settings_that_do_not_go_together_are_a_failed_trial(searching, ranges, sentence):
    call, _, out = searching
    (out.parent / "ranges.txt").write_text(ranges)
    flags = ["--ranges", out.parent / "ranges.txt", "--epochs", "1", "--dims", "[4]"]
    done = call("T-DiffRec", "--trials", "2", "--steps", "2", "--w_max", "0.5", *flags)
    assert done.returncode == 0, done.stderr
    rows = read_trials(out / "T-DiffRec_tiny.csv")
    assert sorted(row["state"] for row in rows) == ["done", "done", "failed"]
    assert any(sentence in row["command"] for row in rows)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("valid", "value", 1),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(",0.5,", ",high,"),
        lambda text: text.replace("reg", '"reg', 1),
        lambda text: text.replace(",0.5,", ",inf,"),
        lambda text: text.replace(",0.5,", ",,"),
        lambda text: text.replace("done", "finished"),
        lambda text: text.replace(",0.5,1,", ",0.5,-164833090,"),
        lambda text: text.replace(",0.5,1,1,", ",0.5,1,10000000000,"),
        lambda text: text.replace("1:0.5", "1:0.4 1:0.5"),
        lambda text: text.replace("1:0.5", "1:0.4 2:0.5"),
        lambda text: text.replace("1:0.5", "0:0.5"),
        lambda text: text.replace("1:0.5", "1:nan"),
        lambda text: text.replace("1:0.5", "1"),
        lambda text: "\xff\0",
    ],
)
def test_a_damaged_table_of_trials_is_one_sentence(searching, damage):
    call, _, out = searching
    values = [
        "0",
        "done",
        "1",
        "0.5",
        "1",
        "1",
        "1:0.5",
        "1.0",
        '"{""reg"": 1.0}"',
        "x",
        "c",
        "python",
    ]
    whole = f"{','.join(COLUMNS)}\n{','.join(values)}\n"
    out.mkdir()
    (out / "EASE_tiny.csv").write_text(damage(whole), encoding="latin-1")
    done = call("EASE")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not a whole table (" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr", "not of the form"),
        ("lr normal 0,1", "not of the form"),
        ("lr choice [0.1", "no values that can be read"),
        ("lr loguniform 1", "no values that can be read"),
        ("clicks choice [1]", "there is no setting clicks"),
        ("lr choice [0.1, -1]", "lr must be greater than 0"),
        ("dropout uniform 0,1.5", "dropout must be"),
        ("steps uniform 2,10", "steps must be an integer"),
        ("lr choice []", "no values that can be read"),
        ("steps quniform 10,2,1", "no values that can be read"),
        ("lr loguniform -3,-8", "no values that can be read"),
    ],
)
def test_wrong_ranges_are_one_sentence(searching, text, words):
    call, _, out = searching
    (out.parent / "ranges.txt").write_text(text)
    done = call("DiffRec", "--trials", "1", "--ranges", out.parent / "ranges.txt")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
