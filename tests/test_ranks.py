"""Several processes that train one model, against one process that trains it alone.

Two ranks are started once, over Gloo; each writes down what it finds, and the tests look at that.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from conftest import REPOSITORY
from safetensors.torch import load_file
from test_baselines import SMALL

from DiffRec import (
    Dataset,
    InputError,
    Interactions,
    Recommender,
    evaluate,
    load_dataset,
    train,
)
from DiffRec.engine.ranks import (
    ALONE,
    Ranks,
    Streams,
    here,
    mixed,
    of_environment,
    started_together,
)
from DiffRec.engine.settings import OptimizerSettings, Settings, setting
from DiffRec.engine.variant import REGISTRY, Variant, register
from DiffRec.evaluate_utils import METRICS

N = 2
B = 13  # rows of the batch whose gradient is compared: N does not divide it
OURS = {"dims": [8], "mlp_dims": [8], "in_dims": [8], "n_cate": 1, "steps": 4}


def settings_of(name: str) -> dict:
    known = REGISTRY[name].model.Settings.names()
    return SMALL.get(name) or {key: value for key, value in OURS.items() if key in known}


def has_optimizers(name: str) -> bool:
    """Whether a model is trained by gradients."""
    return any(n.startswith("optimizer") for n in REGISTRY[name].model.Training.names())


def trained_by_gradients() -> list[str]:
    """Every such model whose loss is a mean over rows. ACVAE's is not: it sets the users of a batch
    against each other."""
    return [name for name in REGISTRY if has_optimizers(name) and name != "ACVAE"]


@contextlib.contextmanager
def same_noise(start: int, stop: int):
    """Rows start..stop-1 of what a batch of B rows draws; no noise in what is not (rows, items)."""
    generator = torch.Generator().manual_seed(3)

    def rows(make, *shape):
        return make(*shape, generator=generator)[start:stop]

    def normal(x, **_):
        if x.dim() != 2 or len(x) != stop - start:
            return torch.zeros_like(x)
        return rows(torch.randn, B, x.shape[1]).to(x)

    def integers(*given, **_):
        low, high = (0, given[0]) if len(given) == 2 else given[:2]
        return low + (rows(torch.rand, B) * (high - low)).long()

    with (
        mock.patch.object(torch, "randn_like", normal),
        mock.patch.object(torch, "randint", integers),
        mock.patch.object(torch, "multinomial", lambda p, n, **_: integers(len(p), n)),
    ):
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)


def gradient_of(name: str, dataset, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Of the first batch of B rows, without dropout, in float64."""
    model = REGISTRY[name].model.for_dataset(dataset, **settings_of(name))
    rows = model.prepare_data(dataset).train
    rows = rows.with_values(None if rows.values is None else rows.values.double())
    model = model.double().eval()
    called = ranks.wrap(model)
    torch.manual_seed(5)
    batch = next(iter(model.epoch_batches(rows, B)[1]))
    if isinstance(batch, Interactions):
        batch = rows.rows(torch.arange(B))  # of unequal lengths
    start, stop = ranks.range_of(B)
    part, weight = ranks.part(batch, model.loss_terms) if ranks.several else (batch, 1)
    with same_noise(start, stop):
        loss = weight * called(part)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {**found, **{f"state {n}": t.clone() for n, t in model.training_state().items()}}


def two_epochs(dataset, folder: Path, epochs: int, model=None, **more):
    model = model or REGISTRY["DiffRec"].model.for_dataset(dataset, dims=[8], steps=4)
    return train(model, dataset, epochs=epochs, eval_every=1, batch_size=50, save_path=folder,
                 log_name="ranks", device="cpu", **more)  # fmt: skip


def as_rank(rank: int, work: Callable, data_folder: Path, folder: Path) -> None:
    """What a rank does: work, and keep what it found in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=N)
    torch.save(work(here(), load_dataset(data_path=data_folder), folder), folder / f"{rank}.pt")
    dist.destroy_process_group()


def by_ranks(work: Callable, data_folder: Path, folder: Path) -> list[dict]:
    """What each of N ranks has found, working at once."""
    torch.multiprocessing.spawn(as_rank, (work, data_folder, folder), nprocs=N)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(N)]


class Normed(Recommender):
    """Keeps statistics of its rows, and has what ``parts`` says of it no part in the loss."""

    variant = "Normed"

    class Settings(Settings):
        parts: int = setting(2, "parameters that have a part")

    Training = OptimizerSettings

    def make(self, settings):
        self.inner = torch.nn.Linear(self.n_items, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.outer, self.other = torch.nn.Linear(8, self.n_items), torch.nn.Linear(1, 1)
        self.other.requires_grad_(settings.parts == 3)

    def scores(self, x):
        return self.outer(self.norm(self.inner(x)))

    def scorer(self):
        return lambda batch: self.scores(batch.dense())

    def training_loss(self, batch):
        x = batch.dense()
        self.seen += x.sum()
        return ((self.scores(x) - x) ** 2).mean()


def of_models_with_states(ranks: Ranks, dataset: Dataset, folder: Path) -> dict:
    """What goes wrong where a model has more than weights, or only one rank watches."""
    register(Variant(Normed, folder, dict))
    about = {"epochs": 2, "eval_every": 1, "batch_size": 20, "lr": 0.05, "save_path": folder / "n",
             "device": "cpu"}  # fmt: skip
    watch = {"on_evaluation": lambda row: row["epoch"] == 1} if ranks.rank == 1 else {}
    found: dict = {"ended": train(Normed.for_dataset(dataset), dataset, **about, **watch).record}
    for ema in (0.0, 0.9):
        run_model = Normed.for_dataset(dataset)
        run = train(run_model, dataset, ema=ema, log_name="norm", **about)
        ranks.wait()
        alone = evaluate(Normed.load(run.checkpoint), dataset, batch_size=20)
        found[f"ema {ema}"] = run.valid, alone["valid"]
    with pytest.raises(InputError) as error:
        train(Normed.for_dataset(dataset, parts=3), dataset, **about)
    found["unused"] = str(error.value)
    found["seen"] = float(run_model.seen)
    model = Normed.for_dataset(dataset, seed=5 if ranks.rank == 0 else 1)  # as if 0 had loaded
    model.seeded = Normed.for_dataset(dataset).seeded
    found["loaded"] = train(model, dataset, log_name="loaded", **about).checkpoint
    mine = dataset if ranks.rank else dataset.columns(0, dataset.n_items - 1)
    mine = dataclasses.replace(mine, whole=None)
    with pytest.raises(InputError) as error:
        two_epochs(mine, folder / "other", 1)
    found["items"] = str(error.value)
    with pytest.raises(InputError) as error:
        two_epochs(dataset, folder / "resume", 1, resume=ranks.rank == 0)
    found["resume"] = str(error.value)
    return found


def work(ranks: Ranks, dataset: Dataset, folder: Path) -> dict:
    rank, found = ranks.rank, {}
    found["gradients"] = {n: gradient_of(n, dataset, ranks) for n in trained_by_gradients()}
    found["rows"] = ranks.gather_rows(torch.arange(rank + 1), torch.full((rank + 1,), 0.5 + rank))

    model = REGISTRY["DiffRec"].model.for_dataset(dataset, dims=[8], steps=4)
    found["metrics"] = evaluate(model, dataset, batch_size=11, metrics=METRICS, ranks=ranks)
    run = two_epochs(dataset, folder / "whole", 4)
    found["whole"] = run.checkpoint, run.record
    two_epochs(dataset, folder / "broken", 2, keep_state=True)
    run = two_epochs(dataset, folder / "broken", 4, resume=True, keep_state=True)
    found["broken"] = run.checkpoint, run.record
    with pytest.raises(InputError) as error:
        two_epochs(dataset, folder / "differing", 1, lr=1e-3 * (1 + rank))
    found["differing"] = str(error.value)
    found |= of_models_with_states(ranks, dataset, folder)
    few = torch.arange(1)
    found["few"] = ranks.part(few, len), ranks.gather_rows(few)
    return found


@pytest.fixture(scope="module")
def found(tiny_folder, tmp_path_factory) -> list[dict]:
    """What each of two ranks has found."""
    return by_ranks(work, tiny_folder, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", trained_by_gradients())
def test_the_gradient_is_that_of_one_process(found, tiny, name):
    alone = gradient_of(name, tiny, ALONE)
    for one in found:
        of_two = one["gradients"][name]
        assert of_two.keys() == alone.keys()
        for part, value in alone.items():
            torch.testing.assert_close(of_two[part], value, rtol=1e-10, atol=1e-10, msg=part)


def test_the_losses_of_all_ranks_are_remembered_in_the_order_of_the_batch(found):
    """Which the states of the samplers above show; here are ranks with other numbers of rows."""
    for one in found:
        numbers, halves = one["rows"]
        assert numbers.tolist() == [0, 0, 1]
        assert halves.tolist() == [0.5, 1.5, 1.5]


def test_a_batch_smaller_than_the_ranks_counts_once(found):
    for one, weight in zip(found, (0, N), strict=True):
        (part, factor), (gathered,) = one["few"]
        assert (len(part), factor, gathered.tolist()) == (1, weight, [0])


def test_the_parts_of_a_batch_are_the_batch():
    batch = torch.arange(10)
    parts = [Ranks(rank, 4).part(batch, len) for rank in range(4)]
    assert torch.equal(torch.cat([part for part, _ in parts]), batch)
    assert sum(weight for _, weight in parts) == pytest.approx(4)


def test_metrics_are_those_of_one_process(found, tiny):
    model = REGISTRY["DiffRec"].model.for_dataset(tiny, dims=[8], steps=4)
    alone = evaluate(model, tiny, batch_size=11, metrics=METRICS)
    for one in found:
        for split, values in alone.items():
            assert one["metrics"][split] == pytest.approx(values, rel=1e-12)


def test_rank_0_writes_and_all_end_alike(found):
    (checkpoint, record), (same_checkpoint, other) = (one["whole"] for one in found)
    assert checkpoint == same_checkpoint
    assert checkpoint.is_file()
    assert record["machine"]["processes"] == N
    for name in ("best_epoch", "valid", "test", "history", "peak_memory_mb"):
        assert record[name] == other[name]


def test_a_resumed_training_of_several_ends_like_an_unbroken_one(found):
    (whole, record), (broken, resumed) = found[0]["whole"], found[0]["broken"]
    weights, again = load_file(whole), load_file(broken)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert record["history"] == resumed["history"]


def test_another_number_of_ranks_goes_on_with_the_state(found, tiny):
    run = two_epochs(tiny, found[0]["broken"][0].parent, 5, resume=True)
    assert run.record["epochs"] == 5
    assert run.history[:4] == found[0]["broken"][1]["history"]


def test_what_a_model_counts_of_its_rows_is_that_of_its_checkpoint(found):
    for one in found:
        for ema in ("ema 0.0", "ema 0.9"):
            valid, alone = one[ema]
            assert valid == pytest.approx(alone)
    assert found[0]["ema 0.0"] != found[0]["ema 0.9"]
    assert found[0]["seen"] == found[1]["seen"] != 0


def test_one_rank_may_have_loaded_its_weights(found):
    """The others take them over, and the run's name is that of such weights on all."""
    assert found[0]["loaded"] == found[1]["loaded"]
    assert "_more-" in found[0]["loaded"].name


def test_one_rank_may_watch_and_end_the_training(found):
    assert [one["ended"]["epochs"] for one in found] == [1, 1]


def test_a_parameter_without_a_part_is_one_sentence(found):
    for one in found:
        assert "other.weight has no part in the training_loss of Normed" in one["unused"]


def test_ranks_that_differ_are_told_so(found):
    for one in found:
        assert "processes of this training differ in lr:" in one["differing"]
        assert "processes of this training differ in data:" in one["items"]
        assert "processes of this training differ in resume:" in one["resume"]


@pytest.mark.parametrize(
    ("told", "ranks"), [({}, (0, 1)), ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4))]
)
def test_the_ranks_of_the_environment(told, ranks, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, word in told.items():
        monkeypatch.setenv(name, word)
    found = of_environment()
    assert (found.rank, found.size) == ranks
    assert not started_together().several  # they can not meet
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(InputError, match="RANK the smaller: x"):
        of_environment()


def test_streams_are_shared_or_ones_own():
    def draw(rank: int, epoch: int = 1) -> tuple:
        streams = Streams(torch.device("cpu"), seed=1, epoch=epoch, rank=rank)
        own = torch.rand(1).item()
        with streams.shared():
            first = torch.rand(1).item()
        more = torch.rand(1).item()
        with streams.shared():
            return (first, torch.rand(1).item()), (own, more)

    (shared, own), (same, other) = draw(0), draw(1)
    assert shared == same
    assert len({*shared, *own, *other}) == 6
    assert draw(0) == (shared, own)
    assert draw(0, epoch=2)[0] != shared
    assert 0 <= mixed(1, 2) < 2**63
    assert mixed(1, 2) != mixed(2, 1)


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(N)]


def started(*flags: object, **more) -> subprocess.Popen:
    """DiffRec's training by two processes."""
    words = [*TORCHRUN, "DiffRec/main.py", "--preset", "none", "--dims", "[8]", "--steps", "4",
             "--eval_every", "1", *map(str, flags)]  # fmt: skip
    return subprocess.Popen(
        words, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more,
    )  # fmt: skip


def test_a_rank_that_dies_leaves_a_whole_state(tiny_folder, tmp_path, run):
    """The other says so in a sentence, or is stopped by torchrun first; then it goes on."""
    flags = ["--data_path", tiny_folder, "--save_path", tmp_path, "--epochs", 2000]
    process = started(*flags, "--patience", 2000)
    states = lambda: list(tmp_path.glob("*.state"))  # noqa: E731
    deadline = time.monotonic() + 120
    while not states() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert states(), process.communicate()[0]
    (victim, *_) = [pid for pid in children(process.pid) if rank_of(pid) == "1"]
    os.kill(victim, signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "stopped" in out or "another process of this training is gone" in out
    epoch = torch.load(states()[0], weights_only=True)["progress"]["epoch"]
    again = started(*flags, "--resume", "--epochs", epoch + 1)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    assert out.count(f"resumed after epoch {epoch}") == 1  # rank 0 alone tells


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return list(map(int, found))


def rank_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(w.split(b"=", 1) for w in words if b"=" in w).get(b"RANK", b"").decode()
