"""The loop: determinism, early stopping, resume, and files that are whole or not there."""

import json
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

from DiffRec import DiffRec, evaluate
from DiffRec import train as train_model
from DiffRec.engine import checkpoints
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import written_whole
from DiffRec.engine.optimizers import make_optimizer
from DiffRec.engine.progress import Log, Progress
from DiffRec.engine.settings import setting
from DiffRec.engine.training import Training
from DiffRec.engine.variant import variant_of

MAIN = "DiffRec/main.py"
SMALL = [
    "--preset", "none", "--dims", "[16]", "--steps", "4", "--lr", "0.01", "--batch_size", "40",
    "--noise_scale", "0.5", "--noise_min", "0.001", "--noise_max", "0.01",
]  # fmt: skip


def result_of(path):
    record = json.loads(path.read_text())
    return {key: record[key] for key in ("best_epoch", "epochs", "valid", "test")}


@pytest.fixture
def train(run, tiny_folder, tmp_path):
    """Run main.py on the tiny data; returns the finished process and where its result lies."""

    def call(name, *flags, **kwargs):
        where = ["--save_path", tmp_path / name, "--result_json", tmp_path / f"{name}.json"]
        done = run(MAIN, "--data_path", tiny_folder, *SMALL, *where, *flags, **kwargs)
        return done, tmp_path / f"{name}.json"

    return call


def test_momentum_is_that_of_the_documentation():
    (group,) = make_optimizer("Momentum", [torch.nn.Parameter(torch.zeros(2))], 0.1).param_groups
    assert (group["momentum"], group["lr"]) == (0.95, 0.1)


def test_one_seed_one_result(train):
    results = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done, path = train(name, "--epochs", "12", "--seed", seed)
        assert done.returncode == 0, done.stderr
        results.append(result_of(path))
    assert results[0] == results[1] != results[2]


def test_the_result_record(train, tiny):
    done, path = train("a", "--epochs", "6", "--seed", "3")
    record = json.loads(path.read_text())
    assert (record["variant"], record["dataset"], record["seed"]) == ("DiffRec", "tiny", 3)
    assert record["settings"]["dims"] == [16]
    assert record["best_epoch"] == 5
    assert set(record["valid"]) == set(record["test"])
    assert "recall@10" in record["test"]
    assert "ndcg@100" in record["valid"]
    assert record["parameters"] == sum(
        p.numel() for p in DiffRec(tiny.n_items, dims=[16]).parameters()
    )
    assert record["seconds"]["training"] > 0
    assert record["peak_memory_mb"] > 50
    assert record["data"] == tiny.fingerprint()
    # unrounded, and shown rounded
    assert f"{record['test']['recall@20']:.4f}" in done.stdout
    assert any(value != round(value, 4) for value in record["test"].values())


def test_the_checkpoint_is_the_best_model(train, tiny, tmp_path):
    _, path = train("a", "--epochs", "10")
    record = json.loads(path.read_text())
    checkpoint = tmp_path / "a" / record["checkpoint"]
    header, _ = checkpoints.load(checkpoint)
    assert header["best_epoch"] == record["best_epoch"]
    assert (header["format"], header["version"]) == (checkpoints.FORMAT, "0.1.0")
    assert header["data"] == tiny.fingerprint()
    model = DiffRec.load(checkpoint)
    assert evaluate(model.scorer(), tiny)["test"] == pytest.approx(record["test"])
    assert (tmp_path / "a" / record["checkpoint"]).with_suffix(".log").read_text().count("epoch")


class Scripted(Training):
    """A training whose epochs do nothing and whose validations are given."""

    def __init__(self, tmp_path, values, **settings):
        self.values, self.model = iter(values), torch.nn.Module()
        self.model.device = torch.device("cpu")
        self.settings = DiffRec.Training.of(settings)
        self.progress, self.optimizers = Progress(), ["one"]
        self.checkpoint, self.saved, self.tensorboard = tmp_path / "a.safetensors", [], None

    def train_epoch(self):
        return 1.0

    def evaluate(self):
        value = next(self.values)
        return {"valid": {"recall@20": value}, "test": {"recall@20": value}}

    def save_state(self):
        pass

    def save_checkpoint(self):
        self.saved.append(self.progress.epoch)


def test_early_stopping_as_released(tmp_path):
    """Patience 20: no epoch begins that is 20 or more after the best one."""
    run = Scripted(tmp_path, [0.1, 0.2, 0.15, 0.15, 0.2])
    progress = run.run(Log(None))
    assert (progress.best_epoch, progress.epoch, run.saved) == (10, 29, [5, 10])


def test_selection_compares_rounded_values_unless_told(tmp_path):
    values = [0.10001, 0.10002, 0.1, 0.1, 0.1, 0.1]
    assert Scripted(tmp_path, values).run(Log(None)).best_epoch == 5
    exact = Scripted(tmp_path, values, selection_decimals=-1)
    assert exact.run(Log(None)).best_epoch == 10


def test_a_run_shorter_than_the_first_evaluation_still_evaluates(tmp_path):
    progress = Scripted(tmp_path, [0.3], epochs=2).run(Log(None))
    assert (progress.best_epoch, progress.epoch) == (2, 2)


def test_bf16_on_a_cpu_trains_nearly_as_float32(tiny, tmp_path):
    losses = {}
    for precision in ("float32", "bf16"):
        model, types = DiffRec.for_dataset(tiny, dims=[8], steps=3), set()
        model.dnn.register_forward_hook(lambda _, given, found, types=types: types.add(found.dtype))
        about = {"precision": precision, "epochs": 3, "save_path": tmp_path, "device": "cpu"}
        losses[precision] = train_model(model, tiny, **about).history[-1]["loss"]
        assert types == {torch.bfloat16 if precision == "bf16" else torch.float32}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.01)


def test_a_loss_that_explodes_is_said(train):
    done, _ = train("a", "--lr", "1e30", "--epochs", "20")
    assert done.returncode == 2
    assert "lower the learning rate" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# The moving average of the weights


def test_the_average_is_what_is_evaluated_and_saved(tiny, settings, tmp_path):
    """Recomputed update by update; the weights that are trained are those without it."""
    decay, seen = 0.9, []

    class Watched(Training):
        def evaluate(self):
            seen.append(checkpoints.weights_of(self.model))
            return super().evaluate()

    def start(kind, *flags):
        torch.manual_seed(1)
        chosen = settings(*SMALL[2:], "--epochs", "5", *flags)
        return kind(DiffRec(tiny.n_items, chosen), tiny, chosen, 1, tmp_path / "a.safetensors")

    plain = start(Training)
    updates, step = [], plain.optimizers[0].step
    plain.optimizers[0].step = lambda: [step(), updates.append(
        {name: w.detach().clone() for name, w in plain.model.state_dict().items()}
    )]  # fmt: skip
    plain.run(Log(None))
    expected = updates[0]  # the first update is the average's beginning
    for n, weights in enumerate(updates[1:], 1):
        d = min(decay, (1 + n) / (10 + n))
        expected = {name: d * expected[name] + (1 - d) * w for name, w in weights.items()}

    averaged = start(Watched, "--ema", str(decay))
    averaged.run(Log(None))
    torch.testing.assert_close(seen[-1], updates[-1])
    _, saved = checkpoints.load(averaged.checkpoint)
    torch.testing.assert_close(saved, expected)
    again = evaluate(DiffRec.load(averaged.checkpoint), tiny)["valid"]
    assert averaged.progress.valid == pytest.approx(again)
    assert averaged.progress.valid != plain.progress.valid


@pytest.mark.parametrize("script", ["DiffRec", "L-DiffRec", "baselines"])
def test_a_run_with_an_average_is_resumed_exactly(run, tiny_folder, tmp_path, script):
    flags = {
        "DiffRec": SMALL,
        "L-DiffRec": ["--preset", "none", "--in_dims", "[12]", "--n_cate", "1", "--lr1", ".01"],
        "baselines": ["--model", "LightGCN", "--preset", "none", "--emb_size", "8"],
    }[script]
    results = {}
    for name, parts in {"whole": [20], "parts": [10, 20]}.items():
        for epochs in parts:
            results[name] = tmp_path / f"{name}.json"
            done = run(
                f"{script}/main.py", "--data_path", tiny_folder, *flags, "--ema", ".95", "--resume",
                "--keep_state", "--epochs", epochs, "--save_path", tmp_path / name,
                "--result_json", results[name],
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    assert "resumed after epoch 10" in done.stdout
    assert result_of(results["whole"]) == result_of(results["parts"])
    without = tmp_path / "without.json"
    run(f"{script}/main.py", "--data_path", tiny_folder, *flags, "--epochs", "20", "--save_path",
        tmp_path / "without", "--result_json", without)  # fmt: skip
    assert result_of(without)["valid"] != result_of(results["whole"])["valid"]


# Resume


# A run that is killed when its state has been written for the fourth time, in a file that is not
# yet in its place.
KILLED = """
import os, pathlib, runpy, signal, sys
replace, written = pathlib.Path.replace, []
def counted(path, target):
    written.extend([target] if target.suffix == ".state" else [])
    if len(written) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
pathlib.Path.replace = counted
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_killed_run_ends_with_the_result_of_an_unbroken_one(train, tiny_folder, tmp_path):
    flags = ["--epochs", "60", "--patience", "100"]
    _, whole = train("whole", *flags)
    command = [
        sys.executable, "-c", KILLED, MAIN, "--data_path", tiny_folder, *SMALL, *flags,
        "--save_path", tmp_path / "killed",
    ]  # fmt: skip
    killed = subprocess.run(
        list(map(str, command)), env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((tmp_path / "killed").glob("*.state"))
    done, resumed = train("killed", *flags, "--resume")
    assert "resumed after epoch" in done.stdout
    assert result_of(resumed) == result_of(whole)


def test_a_start_without_resume_says_that_a_state_is_replaced(train):
    """And none is spoken of where there is none."""
    words = "the state of an earlier start of this run will be replaced"
    done, _ = train("a", "--epochs", "10", "--keep_state", "1")
    assert words not in done.stdout
    done, _ = train("a", "--epochs", "10")
    assert words in done.stdout


def test_a_shorter_run_says_that_it_replaces_a_longer_one(train):
    words = "of more epochs, will be replaced"
    for epochs, told in (("4", False), ("6", False), ("6", False), ("3", True)):
        done, _ = train("a", "--epochs", epochs)
        assert done.returncode == 0, done.stderr
        assert (words in done.stdout) == told


def test_what_is_said_when_a_run_is_stopped(tiny, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")

    def stop(*_):
        raise KeyboardInterrupt

    model = DiffRec.for_dataset(tiny, dims=[8], steps=2)
    with pytest.raises(KeyboardInterrupt):
        train_model(model, tiny, epochs=10, eval_every=5, save_path=tmp_path, on_evaluation=stop)
    assert "--resume (in Python the same model with resume=True) goes on" in caplog.text
    caplog.clear()
    model = DiffRec.for_dataset(tiny, seed=2, dims=[8], steps=2)
    monkeypatch.setattr(model, "training_loss", stop)
    with pytest.raises(KeyboardInterrupt):
        train_model(model, tiny, epochs=10, save_path=tmp_path)
    assert "not evaluated yet: there is nothing to resume" in caplog.text


def test_a_shorter_run_can_be_made_longer(train, tmp_path, tiny_folder, run):
    _, whole = train("whole", "--epochs", "20")
    keep = ("--keep_state", "1", "--resume")
    train("short", "--epochs", "10", *keep)
    done, resumed = train("short", "--epochs", "20", *keep)
    assert "resumed after epoch 10" in done.stdout
    assert result_of(resumed) == result_of(whole)
    done, again = train("short", "--epochs", "20", *keep)  # a finished run is not trained anew
    assert done.stdout.count("loss ") == 0
    assert result_of(again) == result_of(whole)
    (path,) = (tmp_path / "short").glob("*.state")
    state = torch.load(path, weights_only=True)
    state["progress"]["peak_memory_mb"] = 1e6  # of the process before
    torch.save(state, path)
    _, again = train("short", "--epochs", "20", *keep)
    assert json.loads(again.read_text())["peak_memory_mb"] == 1e6


def test_a_run_that_is_done_leaves_no_state_and_gives_its_result_again(train, tmp_path):
    first, path = train("a", "--epochs", "10", "--resume")
    assert first.returncode == 0, first.stderr
    before = json.loads(path.read_text())
    kinds = [".csv", ".json", ".log", ".safetensors"]
    assert sorted(file.suffix for file in (tmp_path / "a").iterdir()) == kinds
    checkpoint = (tmp_path / "a" / before["checkpoint"]).read_bytes()
    path.unlink()
    again, _ = train("a", "--epochs", "10", "--resume")
    assert "this run is done, after epoch 10" in again.stdout
    assert "loss 0" not in again.stdout
    assert json.loads(path.read_text()) == before
    assert (tmp_path / "a" / before["checkpoint"]).read_bytes() == checkpoint
    longer, _ = train("a", "--epochs", "20", "--resume")
    assert (longer.returncode, longer.stderr.count("\n")) == (2, 1)
    assert "its state was removed" in longer.stderr
    shorter, _ = train("a", "--epochs", "5", "--resume")
    assert "at epoch 10 already, beyond the 5" in shorter.stderr
    anew, _ = train("a", "--epochs", "20")
    assert anew.returncode == 0
    assert json.loads(path.read_text())["epochs"] == 20


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.update(history=[{"epoch": 1}]),
        lambda record: record.pop("identity"),
        lambda record: record.update(epochs="many"),
        lambda record: record["settings"].update(dims=["x"]),
        lambda record: record.update(seconds=3),
    ],
)
def test_a_damaged_result_is_one_sentence(train, tmp_path, damage):
    train("a", "--epochs", "1")
    (path,) = (tmp_path / "a").glob("*.json")
    record = json.loads(path.read_text())
    damage(record)
    path.write_text(json.dumps(record))
    done, _ = train("a", "--epochs", "1", "--resume")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not the result of a training" in done.stderr


def test_a_result_of_other_data_is_refused(train, tmp_path):
    train("a", "--epochs", "1")
    (path,) = (tmp_path / "a").glob("*.json")
    record = json.loads(path.read_text())
    record["identity"]["data"]["sha256"] = "other"
    path.write_text(json.dumps(record))
    done, _ = train("a", "--epochs", "1", "--resume")
    assert done.returncode == 2
    assert "is of another run (data)" in done.stderr


def test_names_are_short_and_as_many_as_runs(tiny):
    """And a setting's default, a preset or epochs rename none."""
    variant = variant_of("DiffRec")
    start = variant.settings().dump()
    longest = 2**32 - 1
    told = [
        ("ml-1m_clean", start, 1, "log"), ("ml-1m_clean", start, 2, "log"),
        ("ml-1m_noisy", start, 1, "log"), ("ml-1m_clean", start, 1, "mine"),
        ("ml-1m_clean", {**start, "lr": 0.1}, 1, "log"),
        ("ml-1m_clean", {**start, "random_noise": 0.1}, 1, "log"),
        ("x" * 300, start, longest, "y" * 60), ("x" * 299, start, longest, "y" * 60),
        ("x" * 300, start, longest, "y" * 59),
    ]  # fmt: skip
    names = [variant.name_of_run(*about) for about in told]
    assert len(set(names)) == len(told)
    assert all(len(f"{name}.safetensors.state") < 80 for name in names)
    assert names[0].startswith("DiffRec_ml-1m_clean_seed1_")
    other = {**start, "epochs": 7, "patience": 9}
    assert variant.name_of_run("ml-1m_clean", other, 1) == names[0]
    without = {name: value for name, value in start.items() if name != "ema"}
    assert variant.name_of_run("ml-1m_clean", without, 1) == names[0]


def test_released_names_are_an_option(train, tmp_path, run, tiny_folder):
    _, path = train("long", "--epochs", "1", "--long_names", "1")
    _, other = train("short", "--epochs", "1")
    name = json.loads(path.read_text())["checkpoint"]
    assert name.startswith("tiny_lr0.01_wd0.0_bs40_dims[16]_emb10_x0_steps4_scale0.5_min0.001_")
    assert result_of(path) == result_of(other)
    for folder in ("long", "short"):  # both are found by the data set
        where = ["--checkpoint", tmp_path / folder, "--dataset", "tiny"]
        done = run("DiffRec/inference.py", *where, "--data_path", tiny_folder)
        assert done.returncode == 0, done.stderr


def test_a_state_of_another_configuration_is_refused(train, tmp_path):
    train("b", "--epochs", "5", "--dropout", "0.25", "--keep_state")
    train("a", "--epochs", "5", "--keep_state")
    (other,), (state,) = ((tmp_path / name).glob("*.state") for name in "ba")
    before = other.read_bytes()
    state.write_bytes(before)
    done, _ = train("a", "--epochs", "5", "--resume")
    assert done.returncode == 2
    assert "dropout 0.25 there, 0.5 here" in done.stderr
    assert state.read_bytes() == before
    state.write_bytes(before[: len(before) // 2])
    done, _ = train("a", "--epochs", "5", "--resume")
    assert done.returncode == 2
    assert "not a training state" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_resume_with_nothing_there_starts_anew(train):
    done, path = train("a", "--epochs", "5", "--resume")
    assert done.returncode == 0
    assert "nothing to resume" in done.stdout
    assert path.is_file()


def test_a_checkpoint_older_than_the_state_is_written_again(tiny, settings, tmp_path):
    """Killed between writing the state and the checkpoint, a run loses neither."""
    flags = settings(*SMALL[2:], "--epochs", "5")

    def start():
        torch.manual_seed(1)
        model = DiffRec(tiny.n_items, flags)
        return Training(model, tiny, flags, 1, tmp_path / "a.safetensors")

    first = start()
    first.run(Log(None))
    first.checkpoint.unlink()
    second = start()
    assert second.resume()
    _, weights = checkpoints.load(second.checkpoint)
    torch.testing.assert_close(weights, checkpoints.weights_of(first.model))


# Whole files


@pytest.mark.parametrize("limited_to", [10, 4000])
def test_a_full_disk_leaves_the_previous_checkpoint(train, tmp_path, limited_to):
    """A limit on the size of files stands in for the full disk: writes fail half-way."""
    _, path = train("a", "--epochs", "5")
    checkpoint = tmp_path / "a" / json.loads(path.read_text())["checkpoint"]
    before = checkpoint.read_bytes()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limited_to, hard))
    try:
        done, _ = train("a", "--epochs", "5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.returncode == 2
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoint.read_bytes() == before
    suffixes = sorted(path.suffix for path in (tmp_path / "a").iterdir())
    assert suffixes == [".csv", ".json", ".log", ".safetensors"]


def test_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with written_whole(target) as temporary:
        temporary.write_text("one")

    def fail():
        with written_whole(target) as temporary:
            temporary.write_text("two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "one"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_that_is_not_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(RuntimeError, match="the model's own"), written_whole(tmp_path / "a"):
        raise RuntimeError("the model's own")
    assert not list(tmp_path.iterdir())


def test_a_save_path_that_is_a_file(train, tmp_path):
    (tmp_path / "a").write_text("a file")
    done, _ = train("a", "--epochs", "5")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "could not be written" in done.stderr


def test_runs_of_other_settings_keep_their_own_files(train, tmp_path):
    for flags in ([], ["--dropout", "0.1"], ["--noise_schedule", "cosine"], ["--seed", "2"]):
        train("a", "--epochs", "5", *flags)
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 4


# Checkpoints


def test_checkpoints_that_are_not(tmp_path, tiny, settings):
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="there is no checkpoint"):
        checkpoints.load(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        checkpoints.load(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="no header"):
        checkpoints.load(path)
    model = DiffRec(tiny.n_items, settings(*SMALL[2:]))
    for text in ("{not json", "{}", "[]", '{"format": 1, "variant": "DiffRec", "settings": {}}'):
        save_file({"a": torch.zeros(1)}, path, metadata={"diffrec": text})
        with pytest.raises(InputError, match="header that is not one of this project's"):
            checkpoints.load(path)
    about = {"data": {"items": 5}, "dataset": "tiny", "seed": 1}
    checkpoints.save(path, model, {"variant": "Other", "settings": {}, **about})
    with pytest.raises(InputError, match="holds Other, not DiffRec"):
        DiffRec.load(path)
    header = {"variant": "DiffRec", "settings": settings(*SMALL[2:]).dump(), **about}
    checkpoints.save(path, model, header)
    with pytest.raises(InputError, match="do not fit"):
        DiffRec.load(path)


def test_a_header_sets_settings_and_nothing_else(tiny, tmp_path, run, tiny_folder):
    """What says where files go, or is unknown, has no place in a file."""
    path, victim = tmp_path / "x.safetensors", tmp_path / "victim"
    victim.write_text("mine")
    model = DiffRec(tiny.n_items, dims=[8])
    about = {"variant": "DiffRec", "data": {"items": tiny.n_items}, "dataset": "tiny", "seed": 1}
    call = ["DiffRec/inference.py", "--checkpoint", path, "--data_path", tiny_folder]
    for name in ("result_json", "recommend", "convert", "export_vectors", "history", "data_path"):
        settings = {**model.settings.dump(), name: str(victim)}
        checkpoints.save(path, model, {**about, "settings": settings})
        done = run(*call)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"there is no setting {name}" in done.stderr
        with pytest.raises(InputError, match=f"there is no setting {name}"):
            DiffRec.load(path)
    assert victim.read_text() == "mine"
    checkpoints.save(path, model, {**about, "settings": {"dims": [8]}, "note": "more"})
    with pytest.raises(InputError, match="what no checkpoint has: note"):
        DiffRec.load(path)
    for wrong in ({"dims": 5}, {"steps": None}, {"batch_size": 0}, {"emb_size": 10**13}):
        checkpoints.save(path, model, {**about, "settings": {"dims": [8], **wrong}})
        done = run(*call)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert next(iter(wrong)) in done.stderr


def test_a_checkpoint_of_an_older_version_is_carried_forward(tiny, tmp_path, monkeypatch):
    """It lacks a newer setting, and calls another by its old name."""
    path = tmp_path / "x.safetensors"
    model = DiffRec(tiny.n_items, dims=[8], steps=3)
    old = {name: value for name, value in model.settings.dump().items() if name != "uniform_prob"}
    old["n_steps"] = old.pop("steps")
    about = {"variant": "DiffRec", "data": {"items": tiny.n_items}, "dataset": "tiny", "seed": 1}
    checkpoints.save(path, model, {**about, "settings": old})
    with pytest.raises(InputError, match="there is no setting n_steps"):
        DiffRec.load(path)
    monkeypatch.setitem(checkpoints.RENAMED, checkpoints.FORMAT, {"n_steps": "steps"})
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    found = DiffRec.load(path)
    assert found.settings == model.settings
    rows = tiny.train.slice(0, 9)
    torch.testing.assert_close(found.scorer()(rows), model.eval().scorer()(rows))


def test_a_checkpoint_written_before_a_setting_was_added(tiny, tmp_path, monkeypatch):
    """With a new neutral setting it loads and gives the same scores."""
    path = tmp_path / "x.safetensors"
    run = train_model(DiffRec(tiny.n_items, dims=[8], steps=2), tiny, epochs=1,
                         save_path=tmp_path)  # fmt: skip
    run.checkpoint.rename(path)
    before = DiffRec.load(path).recommend(tiny.train, k=5)

    class Larger(DiffRec.Settings):
        new_one: int = setting(3, "nothing yet")

    monkeypatch.setattr(DiffRec, "Settings", Larger)
    after = DiffRec.load(path)
    assert after.settings.new_one == 3
    assert all(map(torch.equal, before, after.recommend(tiny.train, k=5)))
    # and a run that was stopped before goes on
    longer = train_model(DiffRec(tiny.n_items, dims=[8], steps=2), tiny, epochs=2,
                            save_path=tmp_path, keep_state=True)  # fmt: skip
    state = longer.checkpoint.with_name(longer.checkpoint.name + ".state")
    content = torch.load(state, weights_only=True)
    del content["settings"]["new_one"]
    torch.save(content, state)
    again = train_model(DiffRec(tiny.n_items, dims=[8], steps=2), tiny, epochs=3, resume=True,
                           save_path=tmp_path)  # fmt: skip
    assert again.record["epochs"] == 3
    assert len(again.history) == 1


def test_inference_reports_what_training_did(run, train, tmp_path, tiny_folder, save_lists):
    _, path = train("a", "--epochs", "5")
    record = json.loads(path.read_text())
    checkpoint = tmp_path / "a" / record["checkpoint"]
    result = tmp_path / "again.json"
    base = ["DiffRec/inference.py", "--checkpoint", checkpoint, "--result_json", result]
    done = run(*base, "--data_path", tiny_folder)
    assert done.returncode == 0, done.stderr
    again = json.loads(result.read_text())
    assert again["test"] == pytest.approx(record["test"])
    assert "note:" not in done.stdout
    done = run(*base, "--data_path", tiny_folder, "--topN", "5", "--metrics", "map", "coverage")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(result.read_text())["test"]) == {"map@5", "coverage@5"}
    done = run(*base, "--data_path", tiny_folder, "--tst_w_val", "--sampling_steps", "2")
    assert json.loads(result.read_text())["test"] != again["test"]
    done = run(*base, "--data_path", save_lists([(0, 1), (1, 0)], [], []))
    assert done.returncode == 2
    assert "has 2" in done.stderr


def test_a_checkpoint_knows_its_data_among_several(run, train, tmp_path, tiny_folder):
    """The folder of several data sets does not make it the default one."""
    _, path = train("a", "--epochs", "5")
    record = json.loads(path.read_text())
    done = run("DiffRec/inference.py", "--checkpoint", tmp_path / "a" / record["checkpoint"],
               "--data_path", tiny_folder.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stdout


def test_inference_repeats_the_random_noise_of_training(run, train, tmp_path, tiny_folder):
    _, path = train("a", "--epochs", "5", "--random_noise", "0.3", "--seed", "4")
    record, result = json.loads(path.read_text()), tmp_path / "again.json"
    done = run(
        "DiffRec/inference.py", "--checkpoint", tmp_path / "a" / record["checkpoint"],
        "--data_path", tiny_folder, "--result_json", result,
    )  # fmt: skip
    assert "note:" not in done.stdout
    assert json.loads(result.read_text())["test"] == pytest.approx(record["test"])


def test_recommendations(tiny, settings):
    model = DiffRec(tiny.n_items, settings(*SMALL[2:]))
    items, scores = model.recommend(tiny.train, k=5, batch_size=50)
    assert items.shape == scores.shape == (tiny.n_users, 5)
    assert not tiny.train.dense().gather(1, items).any()  # nothing seen
    assert (scores.diff(dim=1) <= 0).all()
    alone, _ = model.recommend([tiny.train.slice(7, 8).items.tolist(), []], k=5)
    assert torch.equal(alone[0], items[7])
    everything, _ = model.recommend([[0, 1]], k=10**6, exclude_seen=False)
    assert sorted(everything[0].tolist()) == list(range(tiny.n_items))
    assert model.recommend([], k=3)[0].shape == (0, 3)
