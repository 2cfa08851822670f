"""What only a GPU can show: run by scripts/gpu_check.sh where there is one, skipped elsewhere."""

import pytest
import torch
import torch.distributed as dist
from test_baselines import SMALL
from test_ranks import has_optimizers

from DiffRec import evaluate, load_dataset, train
from DiffRec.engine.commands import sentence_of
from DiffRec.engine.ranks import joined
from DiffRec.engine.variant import REGISTRY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

TIES = ("Popularity", "ItemKNN", "RP3beta", "SLIM")  # among their scores
OURS = {"dims": [16], "mlp_dims": [16], "in_dims": [16], "n_cate": 1, "steps": 5}


def fresh(name: str, dataset):
    kind = REGISTRY[name].model
    chosen = SMALL.get(name) or {k: v for k, v in OURS.items() if k in kind.Settings.names()}
    return kind.for_dataset(dataset, **chosen)


def trained(name: str, dataset, folder, device: str = "cuda", epochs: int = 2, **more):
    if has_optimizers(name):
        more = {"epochs": epochs, "eval_every": 1, "batch_size": 40, **more}
    return train(fresh(name, dataset), dataset, save_path=folder, device=device, **more)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_model_trains_there_and_scores_as_on_a_cpu(name, tiny, tmp_path):
    """Metrics too, but of those whose scores have ties, which rounding parts on one of them."""
    run = trained(name, tiny, tmp_path)
    scores, metrics = {}, {}
    for device in ("cpu", "cuda"):
        model = REGISTRY[name].model.load(run.checkpoint, device)
        data = model.prepare_data(tiny.to(model.device))
        with torch.inference_mode():
            scores[device] = model.scorer()(data.input_rows(False)).cpu()
        metrics[device] = evaluate(model, tiny)
    torch.testing.assert_close(scores["cuda"], scores["cpu"], rtol=1e-3, atol=1e-4)
    if name not in TIES:
        for split in ("valid", "test"):
            assert metrics["cuda"][split] == pytest.approx(metrics["cpu"][split], abs=5e-3)


def test_a_model_can_be_moved_after_it_ranked(tiny, tmp_path):
    for name in REGISTRY:
        run = trained(name, tiny, tmp_path / name)
        model = REGISTRY[name].model.load(run.checkpoint, "cuda")
        if not model.reads_rows:
            continue
        there = model.recommend([[1, 2, 3]], k=5)[1].cpu()
        here = model.cpu().recommend([[1, 2, 3]], k=5)[1]
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", list(filter(has_optimizers, REGISTRY)))
def test_equal_seeds_give_equal_results(name, tiny, tmp_path):
    runs = [trained(name, tiny, tmp_path / str(turn)) for turn in range(2)]
    assert runs[0].history == runs[1].history
    assert runs[0].record["peak_memory_mb"] > 0


@pytest.mark.parametrize("way", [{"precision": "bf16"}, {"ema": 0.9}])
def test_equal_seeds_of_long_sequences_in_other_ways(way, save_lists, tmp_path):
    """Some kernels of attention split keys from a length on, and add up in any order."""
    pairs = [(u, (u * 7 + n) % 300) for u in range(40) for n in range(250)]
    later = [(u, (u * 7 + 260) % 300) for u in range(40)]
    data = load_dataset(data_path=save_lists(pairs, later, later))
    runs = []
    for turn in range(2):
        model = REGISTRY["SASRec"].model.for_dataset(data, max_length=200)
        how = {"epochs": 2, "eval_every": 1, "save_path": tmp_path / str(turn), **way}
        runs.append(train(model, data, device="cuda", **how))
    assert runs[0].history == runs[1].history


def test_no_step_of_diffrec_waits(tiny):
    """After the first."""
    model, rows = fresh("DiffRec", tiny).to("cuda"), tiny.to("cuda").train.slice(0, 40)
    model.training_loss(rows).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.training_loss(rows).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_does_not_fit_is_one_sentence():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**46, device="cuda")
    assert sentence_of(error.value).startswith("there is not enough memory")


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_a_training_goes_on_where_it_is_resumed(first, then, tiny, tmp_path):
    """On the same device exactly."""
    trained("DiffRec", tiny, tmp_path, first, keep_state=True)
    run = trained("DiffRec", tiny, tmp_path, then, epochs=4, resume=True)
    whole = trained("DiffRec", tiny, tmp_path / "whole", first, epochs=4)
    assert run.history[:2] == whole.history[:2]
    assert run.record["epochs"] == 4
    if first == then:
        assert run.history == whole.history


@pytest.mark.parametrize("way", [{"precision": "tf32"}, {"precision": "bf16"}, {"compile": True}])
def test_faster_ways_train_alike(way, tiny, tmp_path):
    exact = trained("DiffRec", tiny, tmp_path / "exact", epochs=10)
    fast = trained("DiffRec", tiny, tmp_path / "fast", epochs=10, **way)
    assert fast.test["recall@20"] == pytest.approx(exact.test["recall@20"], abs=0.05)


def test_a_group_of_one_over_nccl(tiny, tmp_path, monkeypatch):
    """Several GPUs are not needed to see that the group is made and left."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
                        "MASTER_ADDR": "localhost", "MASTER_PORT": "29555"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with joined(torch.device("cuda", 0)):
        assert not dist.is_initialized()  # one process alone needs none
    dist.init_process_group("cpu:gloo,cuda:nccl")
    try:
        for device in ("cpu", "cuda"):
            total = torch.ones(3, device=device)
            dist.all_reduce(total)
            assert total.tolist() == [1, 1, 1]
    finally:
        dist.destroy_process_group()
