"""Nothing a file or a flag says breaks a command: hostile input, kills, and full disks."""

import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import zipfile

import faults
import fuzz
import numpy as np
import pandas as pd
import pytest
import sandbox
import torch
from hostile import arrays, checkpoints
from hostile.values import DEEP
from hostile.workshop import Attempt, workshop
from safetensors.torch import save_file
from tqdm import tqdm

from DiffRec import DiffRec, InputError
from DiffRec.engine import tensors
from DiffRec.engine.files import temporary_prefix
from DiffRec.engine.variant import REGISTRY
from DiffRec.preparation import readers

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="scripts/sandbox.py needs Linux"
)
SHORT = ["--preset", "none", "--dims", "[4]", "--steps", "2", "--cuda", "0"]


@pytest.fixture(scope="module")
def shop():
    with workshop() as found:
        yield found


@pytest.fixture
def train(run, shop, tmp_path):
    """Call DiffRec/main.py on the workshop's data."""

    def call(*flags, script="DiffRec/main.py", data=shop.data, short=SHORT):
        words = [*short, "--data_path", data, "--save_path", tmp_path / "saved"]
        return run(script, *words, *flags)

    return call


def refused(done, *words: str) -> str:
    """The one sentence of a command that refuses, which must have these words."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= fuzz.LONGEST
    for word in words:
        assert word in done.stderr
    return done.stderr


def tried(shop, kind: str, what: tuple) -> fuzz.Report:
    """The report of one attempt, in a process of its own; it must keep all promises."""
    report = fuzz.Report()
    fuzz.attempted(shop, kind, what, None, report)
    assert not report.failures, report.failures[0][0]
    return report


# Many inputs, drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(fuzz.KINDS))
def test_what_is_drawn_breaks_no_promise(shop, kind, capsys):
    """A few of each kind, always the same; scripts/fuzz.sh tries thousands."""
    report = fuzz.Report()
    fuzz.trial(shop, kind, seed=15, examples=6, keep=None, report=report)
    assert report.tried >= 3
    assert not report.failures, capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("header", ("DiffRec", "export", [])), ("header", ("LightGCN", "recommend", [])),
        ("header", ("MultiVAE", "history", [])), ("header", ("iALS", "compare", [])),
        ("tensor", ("L-DiffRec", "evaluate", 0, ("none", 0))),
        *(("array", (which, ("cut", 10**9))) for which in arrays.ARRAYS[5:]),
        *(("table", (format, ("cut", 10**9), [])) for format in readers.FORMATS),
        ("map", ("user", ("swap",), "recommend")), ("state", ("DiffRec", ("cut", 10**9))),
        *(("pickle", (which, ("missing", "x"))) for which in ("network", "latent", "autoencoder")),
        ("record", ("result.json", ("cut", 10**9))), ("record", ("trials", ("cut", 10**9))),
    ],
    ids=str,
)  # fmt: skip
def test_what_nobody_tampered_with_is_accepted(shop, kind, what):
    """Else every promise would be kept by refusing all."""
    report = fuzz.Report()
    fuzz.attempted(shop, kind, what, None, report)
    assert (report.refused, report.failures) == (0, [])


def test_the_judge_sees_what_breaks_promises(shop, tmp_path):
    attempt = Attempt("DiffRec/main.py", [], ("out",))
    good = sandbox.Outcome(2, "", "error: no.\n", 0.1, 5)
    cases = [
        ({}, [], None),
        ({"late": True}, [], "no answer"),
        ({"busy": 11}, [], "11 s"),
        ({"megabytes": 2000}, [], "2000 MB"),
        ({"code": -11}, [], "signal 11"),
        ({"code": 1, "err": "Traceback\nKeyError: 1"}, [], "KeyError"),
        ({"err": "warning\nerror: no.\n"}, [], "2 lines"),
        ({"err": "no.\n"}, [], "lines of error"),
        ({"err": "error: " + "x" * 5000}, [], "letters"),
        ({"err": "error: there is not enough memory.\n"}, [], "on the word of a file"),
        ({}, ["out/x", "y"], "touched y"),
        ({"code": 0}, ["out"], None),
    ]
    for changes, touched, wanted in cases:
        found = fuzz.broken(
            attempt, sandbox.dataclasses.replace(good, **changes), touched, tmp_path
        )
        assert (found is None) if wanted is None else (wanted in found)
    must = sandbox.dataclasses.replace(attempt, must_refuse=True)
    done = sandbox.dataclasses.replace(good, code=0)
    assert "cannot be sound" in fuzz.broken(must, done, [], tmp_path)
    (tmp_path / "out.json").write_text('{"valid": {"a": NaN}, "test": {}}')
    assert "cannot be" in fuzz.broken(attempt, done, [], tmp_path)


def test_a_process_waits_for_no_lock_of_another(shop, tmp_path, monkeypatch):
    """As of one that was killed while it drew its bar."""
    monkeypatch.setattr(tqdm, "_lock", multiprocessing.RLock())
    pid = os.fork()
    if pid == 0:
        tqdm.get_lock().acquire()
        os._exit(0)
    os.waitpid(pid, 0)
    flags = [*SHORT, "--data_path", str(shop.data), "--save_path", "saved", "--epochs", "1"]
    done = sandbox.Process("DiffRec/main.py", flags, tmp_path).finish(20)
    assert (done.code, done.late) == (0, False), done.err


def test_a_process_is_bounded_in_time_and_watched(shop, tmp_path):
    flags = [*SHORT, "--data_path", str(shop.data), "--save_path", "saved", "--epochs", "100000000",
             "--eval_every", "1000", "--patience", "100000000"]  # fmt: skip
    done = sandbox.Process("DiffRec/main.py", flags, tmp_path).finish(1)
    assert done.late
    assert done.code == -signal.SIGKILL
    assert (tmp_path / "saved").is_dir()


# The ten rows of the list -------------------------------------------------------------------------


@pytest.mark.parametrize("name", checkpoints.OPTIONS[:6])
def test_no_header_steers_a_command(shop, name):
    what = ("EASE", "evaluate", [("setting", name, "stolen")])
    assert tried(shop, "header", what).refused


@pytest.mark.parametrize("name", ["machine", "result_json"])
def test_no_record_takes_what_only_a_header_has(shop, name):
    assert tried(shop, "header", ("DiffRec", "evaluate", [("top", name, "x")])).refused


@pytest.mark.parametrize("name", list(REGISTRY))
def test_tensors_that_are_cut_go_no_further(shop, name):
    """The table of iALS once ended in a segmentation fault."""
    places = range(min(len(shop.checkpoints[name][1]), 2))
    tried_on = [tried(shop, "tensor", (name, "evaluate", p, ("cut", 3))) for p in places]
    assert any(report.refused for report in tried_on)  # some have no more than three rows


@pytest.mark.parametrize("value", [-1, 10**9, "beyond", "falling"])
@pytest.mark.parametrize("name", ["ItemKNN", "LightGCN", "L-DiffRec"])
def test_index_tensors_stay_inside(shop, name, value):
    for place in range(1 if name == "L-DiffRec" else 2):
        report = tried(shop, "tensor", (name, "evaluate", place, ("index", value)))
        assert report.refused or value == "falling"


@pytest.mark.parametrize(
    ("variant", "name", "value"),
    [
        ("DiffRec", "dims", 5), ("DiffRec", "steps", None), ("DiffRec", "emb_size", 10**13),
        ("DiffRec", "topN", 5), ("DiffRec", "batch_size", 0), ("DiffRec", "batch_size", -1),
        ("DiffRec", "steps", 10**9), ("DiffRec", "steps", 10**5), ("DiffRec", "dims", [1] * 10**4),
        ("DiffRec", "noise_schedule", "x"), ("DiffRec", "mlp_act_func", ["tanh"]),
        ("LightGCN", "layers", 10**9), ("iALS", "factors", 10**12), ("GF-CF", "gamma", math.nan),
        ("L-DiffRec", "n_cate", DEEP), ("CDAE", "metric_users", "x" * 10**5),
        ("MultiVAE", "dims", [6, 10**9]),
    ],
)  # fmt: skip
def test_settings_of_a_header_are_bounded(shop, variant, name, value):
    what = (variant, "evaluate", [("setting", name, value)])
    assert tried(shop, "header", what).refused


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", -(10**18)), ("format", 10**9), ("format", 0), ("format", True), ("data", []),
     ("best_epoch", "x"), ("valid", [1]), ("seed", -1), ("dataset", ".."), ("settings", None)],
)  # fmt: skip
def test_what_else_a_header_says_is_checked(shop, key, value):
    report = tried(shop, "header", ("DiffRec", "convert", [("top", key, value)]))
    assert report.refused or key == "dataset"  # which the data that are named tell


@pytest.mark.parametrize("users", [-1, 0, 10**18, None, "5"])
def test_sizes_of_a_header_are_checked(shop, users):
    assert tried(shop, "header", ("MF", "export", [("data", "users", users)])).refused


@pytest.mark.parametrize(
    "change",
    [*(("dtype", name) for name in checkpoints.DTYPES),
     *(("value", value) for value in (math.nan, math.inf, 1e38)), ("drop", None), ("add", "x")],
    ids=str,
)  # fmt: skip
def test_type_and_values_of_tensors_are_checked(shop, change):
    assert tried(shop, "tensor", ("DiffRec", "evaluate", 2, change)).refused


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_no_answer(shop, value):
    """Weights can be finite, and their products not."""
    model = DiffRec.load(shop.paths["DiffRec"][0])
    model.scorer = lambda: lambda batch: torch.full((len(batch), model.n_items), value)
    with pytest.raises(InputError, match="scores must be numbers"):
        model.recommend([[1, 2]], k=3)


@pytest.mark.parametrize(
    ("which", "change"),
    [("result.json", ("text", DEEP)), ("finished", ("text", DEEP)),
     ("finished", ("top", "settings", [])), ("trials", ("row", "x", {})),
     ("curve.csv", ("cut", 30))],
)  # fmt: skip
def test_records_that_are_none_break_nothing(shop, which, change):
    tried(shop, "record", (which, change))


def test_a_view_of_one_number_is_no_room_for_a_model():
    shown = torch.zeros(1).expand(10**6, 10**6)
    assert tensors.held(shown) == 1
    with pytest.raises(InputError, match="does not hold the weights"):  # noqa: SIM117
        with tensors.no_larger_than({"a": shown}, "x.pth"):
            torch.empty(10**5, 10**4)


@pytest.mark.parametrize(
    ("column", "value"),
    [(3, "1e300"), (3, str(2**70)), (2, "1e300"), (2, "-1e300"), (3, "x"), (2, "1e400")],
)
@pytest.mark.parametrize("format", ["csv", "amazon-json"])
def test_what_preparation_cannot_keep_is_refused(shop, format, column, value):
    report = tried(shop, "table", (format, ("cell", column, value), []))
    assert report.refused


@pytest.mark.parametrize("value", [2147483646, 10**6, 10**5])
def test_small_lists_cost_little(shop, value):
    assert tried(shop, "array", ("train_list", ("set", 0, value))).refused


@pytest.mark.parametrize(
    "change",
    [("attribute", "out_dims", [6, 10**9]), ("attribute", "out_dims", [10**9]), ("packed",),
     ("weights", "expanded"), ("weights", "nan"), ("weights", "half"), ("loop",),
     ("hostile", "system"), ("missing", "out_layers")],
    ids=str,
)  # fmt: skip
def test_small_pickles_cost_little(shop, change):
    assert tried(shop, "pickle", ("network", change)).refused


@pytest.mark.parametrize("name", ["n_item", "n_cate", "category_idx", "in_dims"])
def test_an_autoencoder_costs_what_its_tensors_do(shop, name):
    change = ("attribute", name, [10**9] if name == "in_dims" else 10**9)
    assert tried(shop, "pickle", ("autoencoder", change)).refused


def test_a_packed_table_without_an_end_of_line_is_refused(shop):
    assert tried(shop, "table", ("csv", ("bomb",), [])).refused


def test_a_state_of_two_gigabytes_in_two_megabytes_is_not_read(train, tmp_path):
    assert train("--epochs", "1", "--keep_state").returncode == 0
    (state,) = (tmp_path / "saved").glob("*.state")
    with zipfile.ZipFile(state, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    refused(train("--epochs", "2", "--resume"), "is packed")


def test_a_full_disk_leaves_exported_vectors_as_they_were(shop):
    draw, found = random.Random(3), {}
    for name, script, flags, made in faults.full_commands(shop):
        found[name] = faults.fill_disk(script, flags, made, draw)
    assert not any(found.values()), found
    assert "export_vectors" in found


@pytest.mark.parametrize(
    "flags",
    [["--dims", "[99999999999999999999]"], ["--dims", "[" + "9" * 5000 + "]"], ["--steps", "1e5"],
     ["--lr", "nan"], ["--lr", "-1"], ["--batch_size", "0"], ["--topN", "[]"], ["--topN", "[5"],
     ["--epochs", ""], ["--log_name", "../../x"], ["--log_name", "a/b"], ["--seed", "-1"],
     ["--metrics", "x"], ["--select_by", "recall@7"], ["--dataset", ".."], ["--nonsense", "1"],
     ["--tensorboard", ""], ["--result_json", "~nosuchuser/x"]],
    ids=str,
)  # fmt: skip
def test_flags_that_mean_nothing(train, tmp_path, flags):
    refused(train("--epochs", "1", *flags))
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    "change",
    [("header", "<i8", "False", f"({10**30}, 2)"), ("header", "|O", "False", "(3, 2)"),
     ("header", "<i8", "False", "(4611686018427387904, 4)"), ("text", "{"), ("npz", None),
     ("pickle", None), ("cut", 100), ("dtype", "c16"), ("dtype", "f8"), ("folder", None)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("which", ["valid_list", "report_times"])
def test_arrays_that_are_none(shop, which, change):
    report = tried(shop, "array", (which, change))
    assert report.refused or (which, change) in (
        ("report_times", ("dtype", "f8")), ("report_times", ("folder", None)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("format", "change"),
    [("csv", ("random",)), ("csv", ("replace", "\n", "\r")), ("tsv", ("wide",)),
     ("amazon-csv", ("wide",)), ("parquet", ("nested",)), ("parquet", ("random",)),
     ("yelp", ("insert", 1340, b"v\xb9")),
     ("csv", ("utf-16",)), ("movielens-1m", ("replace", "::", ",,")), ("csv", ("bytes", b""))],
)  # fmt: skip
def test_tables_that_are_none(shop, format, change):
    assert tried(shop, "table", (format, change, [])).refused


def test_pictures_have_a_format(run, shop, tmp_path):
    refused(run("scripts/data_report.py", shop.data, "--out", tmp_path / "x.foo"), "x.foo")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "trial,valid\n", 'x,"', "\x00\x01", "state"])
def test_a_damaged_table_of_trials(run, shop, tmp_path, text):
    (tmp_path / "EASE_tiny.csv").write_text(text)
    words = ["--model", "EASE", "--dataset", "tiny", "--trials", "1", "--out", tmp_path]
    words += ["--presets", tmp_path / "presets.toml"]
    refused(run("scripts/search.py", *words), "EASE_tiny.csv", "remove it")
    assert (tmp_path / "EASE_tiny.csv").read_text() == text


def test_run_flags_with_an_open_quote(run, tmp_path):
    words = ["table2", "--dry_run", "--results", tmp_path, "--run_flags", "--lr 'x"]
    refused(run("scripts/reproduce.py", *words), "quote")


@pytest.mark.parametrize("epochs", ["1", "3", "40"])
def test_a_training_that_diverges_names_no_model_that_is_not_there(train, tmp_path, epochs):
    done = train("--epochs", epochs, "--lr", "1e30")
    said = refused(done)
    assert "best model" not in said
    assert not list((tmp_path / "saved").glob("*.safetensors"))


def test_an_output_is_tried_before_the_work(train, shop, tmp_path):
    (tmp_path / "file").write_text("")
    refused(train("--result_json", tmp_path / "file" / "x.json"), "could not be written")
    refused(train("--result_json", tmp_path), "is a folder")
    assert not (tmp_path / "saved").exists()
    os.mkfifo(tmp_path / "pipe")
    refused(train("--result_json", tmp_path / "pipe"), "no ordinary file")


@pytest.mark.parametrize("which", ["user", "item"])
@pytest.mark.parametrize("change", [("same",), ("twice",), ("columns",), ("random",), ("wide",)])
def test_maps_of_raw_ids_name_each_once(shop, which, change):
    assert tried(shop, "map", (which, change, "recommend")).refused


@pytest.mark.parametrize("change", [("dtype", "c16"), ("float", math.nan), ("shape", "none")])
def test_embeddings_are_real_numbers(shop, change):
    assert tried(shop, "array", ("item_emb", change)).refused


@pytest.mark.parametrize("keep", ["0", "1"])
def test_the_state_or_result_of_another_run_is_told_in_a_sentence(train, shop, tmp_path, keep):
    names = "--long_names", "1"  # as else other data have other names
    assert train("--epochs", "1", "--keep_state", keep, *names).returncode == 0
    other = shutil.copytree(shop.data, tmp_path / "tiny")
    pairs = np.load(other / "train_list.npy")
    np.save(other / "train_list.npy", pairs[::-1])
    said = refused(
        train("--epochs", "2", "--resume", *names, data=other), "is of another run (data)"
    )
    assert "{" not in said


@pytest.mark.parametrize(
    "change",
    [("drop", "weights"), ("drop", "random"), ("top", "model_state", None),
     ("top", "format", -(10**18)),
     ("progress", "epoch", -(10**18)), ("progress", "history", [{}]), ("progress", "valid", "x"),
     ("hostile", "system"), ("cut", 500)],
    ids=str,
)  # fmt: skip
def test_a_damaged_state_is_refused(shop, change):
    assert tried(shop, "state", ("DiffRec", change)).refused


def test_temporary_files_of_the_dead_are_removed(train, tmp_path):
    assert train("--epochs", "1").returncode == 0
    (saved,) = (tmp_path / "saved").glob("*.safetensors")
    dead = saved.with_name(f"{temporary_prefix(saved)}999999999.abc")
    alive = saved.with_name(f"{temporary_prefix(saved)}{os.getppid()}.abc")
    elsewhere = saved.with_name(f".{saved.name[:100]}.another-999999999.abc")
    for path in (dead, alive, elsewhere):
        path.write_text("x")
    assert train("--epochs", "1").returncode == 0
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_debug_shows_what_is_behind_a_sentence(shop, tmp_path):
    flags = ["--dataset", "nothing", "--cuda", "0"]
    assert "Traceback" not in sandbox.run("DiffRec/main.py", flags, tmp_path).err
    debugged = sandbox.run("DiffRec/main.py", [*flags, "--debug"], tmp_path)
    assert debugged.code == 2
    assert "Traceback" in debugged.err
    assert debugged.err.splitlines()[-1].startswith("error: ")


def test_raw_ids_of_a_checkpoint_are_checked(shop, tmp_path):
    for text in ("[1, 2]", "[" * 5000 + "]" * 5000, "{}", "[1e400]", "null"):
        metadata, found = shop.checkpoints["DiffRec"]
        path = tmp_path / "x.safetensors"
        save_file(found, path, {**metadata, "item_ids": text})
        with pytest.raises(InputError, match="raw id"):
            DiffRec.load(path)


# Kills --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LT-DiffRec", "search", "prepare_data"])
def test_a_killed_run_ends_as_if_nothing_had_been(shop, name):
    tallies = faults.kill_runs(shop, kills=2, seed=1, names=[name])
    assert tallies[name].kills >= 2
    assert tallies[name].kept == tallies[name].tried, tallies[name].failures


def test_a_disk_that_was_full_for_a_time(shop):
    (scenario,) = (s for s in faults.scenarios(shop) if s.name == "DiffRec")
    with sandbox.workplace("full.") as folder:
        known = faults.unbroken(scenario, folder)
    assert faults.fill_in_training(scenario, known, random.Random(2)) is None


def test_what_is_written_by_a_run_is_a_table(shop):
    """The workshop's tables are what their formats say."""
    assert set(pd.read_csv(shop.tables["csv"]).columns) == {"user", "item", "rating", "timestamp"}
    assert json.loads(shop.tables["yelp"].read_text().splitlines()[0])["stars"] > 0
