"""Items over several processes, against one process that holds them all.

Two ranks are started once, over Gloo; each writes down what it finds, and the tests look at that.
"""

import contextlib
import io
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from test_ranks import N, by_ranks, two_epochs

from DiffRec import Dataset, DiffRec, InputError, evaluate, train
from DiffRec.engine import checkpoints
from DiffRec.engine.ranks import Ranks
from DiffRec.engine.shards import Shards, of_no_item
from DiffRec.engine.variant import REGISTRY
from DiffRec.inference import main

SMALL = {"dims": [6, 9], "steps": 4, "noise_schedule": "linear"}
CASES = {
    "published": {},
    "noise": {"mean_type": "eps", "noise_scale": 0.1},
    "sum, uniform": {"loss_reduction": "sum", "importance_sampling": False},
    "one hidden layer": {"dims": [7]},
}
TIMES = {"w_min": 0.2, "w_max": 0.9}
EVALUATED = {
    "recency": TIMES,
    "recency, validation as input": {**TIMES, "tst_w_val": True},
    "recency, redrawn": {**TIMES, "tst_w_val": True, "w_valid": "redrawn"},
    "hidden space": {},
    "step by step": {"mean_type": "eps", "noise_scale": 0.1},
    "min_k, with_items": {"recall_denominator": "min_k", "metric_users": "with_items"},
    "validation as input": {"tst_w_val": True},
    "what is seen": {"rank_seen": True},
}


def whole_model(n_items: int, **settings) -> DiffRec:
    """The same model everywhere, in float64 and without dropout."""
    torch.manual_seed(4)
    kind = REGISTRY["T-DiffRec" if "w_min" in settings else "DiffRec"].model
    return kind(n_items, {**SMALL, **settings}).double().eval()


def own_part(whole: DiffRec, n_items: int, shards: Shards) -> DiffRec:
    """This rank's items of it."""
    model = type(whole)(shards.stop - shards.first, dict(whole.settings)).double().eval()
    model.load_state_dict(cut(whole.state_dict(), model, shards.first, shards.stop, n_items))
    model.split_items(shards)
    return model


def cut(tensors: dict, model: DiffRec, first: int, stop: int, n_items: int) -> dict:
    """The items first..stop-1, and what belongs to none, of weights or gradients of all items."""
    return checkpoints.of_items_alone(tensors, model.axes(), first, stop, n_items)


def steps_of(model: DiffRec, batch, noise: torch.Tensor, columns: slice) -> dict:
    """Three steps of AdamW with the same noise; loss and gradients of the first, the weights."""
    torch.set_default_dtype(torch.float64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    found: dict = {}
    for step in range(3):
        torch.manual_seed(step)  # for the steps t
        with mock.patch.object(torch, "randn_like", return_value=noise[:, columns]):
            loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        if not step:
            found["loss"] = loss.detach()
            found["gradients"] = {n: p.grad.clone() for n, p in model.named_parameters()}
        optimizer.step()
    torch.set_default_dtype(torch.float32)
    found["weights"] = {n: p.detach().clone() for n, p in model.named_parameters()}
    return found | {f"state {n}": t.clone() for n, t in model.training_state().items()}


def noise_of(dataset) -> torch.Tensor:
    return torch.randn(
        20, dataset.n_items, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def evaluated(model: DiffRec, dataset, how: dict) -> dict:
    told = {name: value for name, value in how.items() if name in (
        "recall_denominator", "metric_users", "tst_w_val", "rank_seen")}  # fmt: skip
    return evaluate(model.float(), dataset, batch_size=17, topN=[3, 10, 200], **told)


def of_model(how: dict) -> dict:
    names = REGISTRY["T-DiffRec"].model.Settings.names()
    return {name: value for name, value in how.items() if name in names}


def train_split(dataset, folder: Path, epochs: int, name: str = "DiffRec", **more):
    model = REGISTRY[name].model.for_dataset(dataset, dims=[8], steps=4, item_shards=N)
    return two_epochs(dataset, folder, epochs, model=model, **more)


def sentence(work, *args, **more) -> str:
    with pytest.raises(InputError) as error:
        work(*args, **more)
    return str(error.value)


def work(ranks: Ranks, dataset: Dataset, folder: Path) -> dict:
    rank = ranks.rank
    shards = Shards.of(N, dataset.n_items)
    columns, found = slice(shards.first, shards.stop), {}
    rows = shards.own(dataset).train.slice(0, 20)
    for name, settings in CASES.items():
        model = own_part(whole_model(dataset.n_items, **settings), dataset.n_items, shards)
        found[name] = steps_of(model, rows, noise_of(dataset), columns)
    for name, how in EVALUATED.items():
        model = own_part(
            whole_model(dataset.n_items, **of_model(how)), dataset.n_items, shards
        )  # fmt: skip
        found[f"metrics, {name}"] = evaluated(model, dataset, how)

    model = own_part(whole_model(dataset.n_items), dataset.n_items, shards)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    found["ties"] = evaluate(model, dataset)
    run = train_split(dataset, folder / "whole", 4)
    found["whole"] = run.checkpoint, run.record
    train_split(dataset, folder / "done", 1, keep_state=True)
    if rank:  # as if it had died while the states were removed
        next((folder / "done").glob("*part2of2*.state")).unlink()
    dist.barrier()
    found["done"] = train_split(dataset, folder / "done", 1, resume=True).record["epochs"]
    train_split(dataset, folder / "broken", 2, keep_state=True)
    if rank:  # as if this rank had died between its state and that of the other
        state = next((folder / "broken").glob("*part2of2*.state"))
        state.rename(state.with_name(f"{state.name}.before"))
        state.write_bytes(b"")
    dist.barrier()
    run = train_split(dataset, folder / "broken", 4, resume=True, keep_state=True)
    found["broken"] = run.checkpoint, run.record
    if rank == 0:  # as if the first save of all had been cut off
        (folder / "begun").mkdir()
        first = checkpoints.part_path(folder / "begun" / run.checkpoint.name, 0, N)
        state = next((folder / "broken").glob("*part1of2*.state"))
        first.with_name(first.name + ".state.new").write_bytes(state.read_bytes())
    dist.barrier()
    begun = train_split(dataset, folder / "begun", 1, resume=True)
    found["begun"] = begun.record["epochs"], sorted(p.suffix for p in folder.glob("begun/*"))
    again = DiffRec.load(run.checkpoint, item_shards=N)
    found["again"] = evaluate(again, dataset)
    flags = ["--checkpoint", str(run.checkpoint), "--data_path", str(dataset.path)]
    with contextlib.redirect_stdout(io.StringIO()):
        found["by command"] = [main([*flags, "--item_shards", n])["test"] for n in ("1", "2")]

    model = REGISTRY["DiffRec"].model.for_dataset(dataset, dims=[8], steps=4, item_shards=N)
    found["first"] = {n: p.detach() for n, p in model.named_parameters()}
    makes = [(REGISTRY["L-DiffRec"].model, {}), (DiffRec, {"norm": True}),
             (REGISTRY["MultiDAE"].model, {})]  # fmt: skip
    found["refused"] = [
        sentence(kind.for_dataset, dataset, item_shards=N, **settings) for kind, settings in makes
    ] + [
        sentence(DiffRec.for_dataset, dataset, item_shards=3),
        sentence(evaluate, again, dataset, metrics=["coverage"]),
        sentence(again.recommend, dataset.train.slice(0, 2)),
        sentence(train, model, dataset, metrics=["recall", "novelty"], save_path=folder / "novel"),
    ]
    return found


@pytest.fixture(scope="module")
def found(tiny_folder, tmp_path_factory) -> list[dict]:
    """What each of two ranks has found."""
    return by_ranks(work, tiny_folder, tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("name", CASES)
def test_training_is_that_of_one_process(found, tiny, name):
    whole = whole_model(tiny.n_items, **CASES[name])
    expected = steps_of(whole, tiny.train.slice(0, 20), noise_of(tiny), slice(None))
    for rank, one in enumerate(found):
        shards = Shards(Ranks(rank, N), tiny.n_items)
        mine = DiffRec(shards.stop - shards.first, {**SMALL, **CASES[name]})
        for what, value in expected.items():
            if isinstance(value, dict):
                value = cut(value, mine, shards.first, shards.stop, tiny.n_items)
            torch.testing.assert_close(one[name][what], value, rtol=1e-10, atol=1e-10, msg=what)


@pytest.mark.parametrize("name", EVALUATED)
def test_metrics_are_those_of_one_process(found, tiny, name):
    how = EVALUATED[name]
    expected = evaluated(whole_model(tiny.n_items, **of_model(how)), tiny, how)
    for one in found:
        for split, values in expected.items():
            assert one[f"metrics, {name}"][split] == pytest.approx(values, rel=1e-12)


def test_equal_scores_are_ranked_as_in_one_process(found, tiny):
    model = whole_model(tiny.n_items)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    for one in found:
        for split, metrics in evaluate(model, tiny).items():
            assert one["ties"][split] == pytest.approx(metrics)


def test_a_done_run_of_which_one_state_is_left_is_done(found):
    assert [one["done"] for one in found] == [1, 1]


def test_first_weights_have_the_spread_of_all_items(found, tiny):
    """And differ from rank to rank, where they belong to items; else they are the same."""
    first, second = (one["first"] for one in found)
    d, n = 8, tiny.n_items
    both = torch.cat([first["dnn.out_layers.0.weight"], second["dnn.out_layers.0.weight"]])
    assert both.std().item() == pytest.approx((2 / (d + n)) ** 0.5, rel=0.15)
    assert not torch.equal(both[:5], both[n // 2 : n // 2 + 5])
    model = DiffRec(n // 2, dims=[8], steps=4)
    for name, axes in {**dict.fromkeys(first, ()), **model.axes()}.items():
        assert torch.equal(of_no_item(first[name], axes), of_no_item(second[name], axes))


def test_a_resumed_training_ends_like_an_unbroken_one(found):
    """Also where a rank was ahead of the other when they were stopped."""
    (whole, record), (broken, resumed) = found[0]["whole"], found[0]["broken"]
    assert record["history"] == resumed["history"]
    weights, again = (checkpoints.load(path)[1] for path in (whole, broken))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert record["parameters"] == sum(t.numel() for t in weights.values())


def test_a_first_state_that_not_all_have_written_is_none(found):
    for one in found:
        epochs, suffixes = one["begun"]
        assert epochs == 1
        assert ".new" not in suffixes


def test_one_process_reads_the_parts(found, tiny, run, tiny_folder):
    path, record = found[0]["broken"]
    assert not path.exists()
    assert len(checkpoints.part_paths(path)) == N
    metrics = evaluate(DiffRec.load(path), tiny)
    assert metrics["test"] == pytest.approx(record["test"], rel=1e-12)
    for one in found:
        assert one["again"]["test"] == pytest.approx(record["test"], rel=1e-12)
        for by_command in one["by command"]:  # on shared users, and on shared items
            assert by_command == pytest.approx(record["test"], rel=1e-12)
    for named in (path, checkpoints.part_paths(path)[0], path.parent):
        flags = ["--data_path", tiny_folder, "--dataset", "tiny"]
        result = run("DiffRec/inference.py", "--checkpoint", named, *flags)
        assert result.returncode == 0, result.stderr
    part = checkpoints.part_paths(path)[1]
    assert torch.equal(DiffRec.load(part).popularity, tiny.popularity())


def test_a_warm_start_from_parts(found, tiny, tmp_path):
    model = DiffRec.for_dataset(tiny, dims=[8], steps=4)
    path = found[0]["whole"][0]
    run = train(model, tiny, warm_start=path, epochs=1, save_path=tmp_path, device="cpu")
    assert run.record["warm_start"] == path.name


def test_any_number_of_ranks_reads_its_items(found, tiny):
    path = found[0]["whole"][0]
    whole = checkpoints.load(path)[1]
    for rank in range(3):
        shards = Shards(Ranks(rank, 3), tiny.n_items)
        model = DiffRec(shards.stop - shards.first, dims=[8], steps=4)
        part = checkpoints.load_items(path, shards.first, shards.stop)
        expected = cut(whole, model, shards.first, shards.stop, tiny.n_items)
        assert part.keys() == expected.keys()
        assert all(torch.equal(part[name], expected[name]) for name in part)


def test_what_can_not_be_split_is_refused(found):
    for one in found:
        of_latent, norm, of_dae, number, coverage, recommend, novelty = one["refused"]
        assert "item_shards does not go with novelty" in novelty
        assert "item_shards is not for L-DiffRec" in of_latent
        assert "item_shards does not go with norm" in norm
        assert "item_shards is not for MultiDAE" in of_dae
        assert "item_shards 3 needs as many processes, but there are 2" in number
        assert "item_shards does not go with coverage" in coverage
        assert "load its checkpoint in one process" in recommend


def test_parts_that_are_not_one_checkpoint(found, tmp_path):
    first, second = checkpoints.part_paths(found[0]["whole"][0])
    copies = [tmp_path / first.name, tmp_path / second.name]
    copies[0].write_bytes(first.read_bytes())
    path = checkpoints.whole_path(copies[0])
    with pytest.raises(InputError, match="do not make one checkpoint: one is missing"):
        checkpoints.load(path)
    save_file(load_file(second), copies[1])
    with pytest.raises(InputError, match="is no part of a checkpoint of this project"):
        checkpoints.load(path)
    with pytest.raises(InputError, match="there is no checkpoint"):
        checkpoints.load(tmp_path / "other.safetensors")


def test_a_state_of_other_shards_is_not_passed_over(found, tiny):
    path = found[0]["broken"][0]
    with pytest.raises(InputError, match="by 2 processes: go on with item_shards 2"):
        Shards(Ranks(0, 3), tiny.n_items).file(path)


def test_other_files_of_the_run_are_in_the_way(found, tiny, tmp_path):
    """They would be read in the place of the new parts."""
    path = tmp_path / "run.safetensors"
    for left in (path, checkpoints.part_path(path, 0, 3)):
        left.write_bytes(b"")
        with pytest.raises(InputError, match="another number of item_shards: move it away"):
            Shards(Ranks(0, 2), tiny.n_items).file(path)
        left.unlink()


def test_more_shards_than_items_are_refused():
    with pytest.raises(InputError, match="item_shards 3 is more than the 2 items"):
        Shards(Ranks(0, 3), 2)
