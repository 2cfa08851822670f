"""Checkpoints in the release's format: read without trust, understood, and evaluated."""

import itertools
import json
import os
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from DiffRec import evaluate, load_dataset
from DiffRec.engine import checkpoints, inference, released
from DiffRec.engine.errors import InputError
from DiffRec.engine.variant import variant_of
from DiffRec.models.DNN import DNN, timestep_embedding
from DiffRec.released import IN_NAME
from L_DiffRec.released import IN_NAME as LATENT_IN_NAME
from L_DiffRec.released import read_autoencoder
from T_DiffRec.released import IN_NAME as TIMED_IN_NAME

NAME = (
    "tiny_lr0.001_wd0.0_bs400_dims[6,9]_emb10_x0_steps4_scale0.5_min0.001_max0.01_sample0_"
    "reweight0_log.pth"
)
LATENT_NAME = (
    "tiny_0.001lr1_0.0005lr2_0.0wd1_0.0wd2_bs400_cate2_in[12]_out[]_lam0.03_dims[7]_emb10_x0_"
    "steps4_scale0.5_min0.001_max0.01_sample0_reweight1_log.pth"
)
ACT = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


@pytest.fixture
def release(monkeypatch):
    """Classes under the module paths of the release, which a pickle remembers."""
    network = type("DNN", (nn.Module,), {"__module__": "models.DNN"})
    autoencoder = type("AutoEncoder", (nn.Module,), {"__module__": "models.Autoencoder"})
    for name, content in (
        ("models", {}), ("models.DNN", {"DNN": network}),
        ("models.Autoencoder", {"AutoEncoder": autoencoder}),
    ):  # fmt: skip
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return types.SimpleNamespace(DNN=network, AutoEncoder=autoencoder)


def linears(sizes):
    return [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]


def make_network(release, n_items, dims, latent=False, act="tanh"):
    """A module as the release pickles it, with NumPy integers among its attributes."""
    network = release.DNN()
    network.in_dims = [np.int64(n_items), *dims[::-1]]
    network.out_dims = [*dims, np.int32(n_items)]
    network.time_type, network.time_emb_dim, network.norm = "cat", 10, False
    network.emb_layer = nn.Linear(10, 10)
    inward, outward = linears([n_items + 10, *dims[::-1]]), linears([*dims, n_items])
    if latent:
        network.in_modules = [part for layer in inward for part in (layer, ACT[act]())]
        network.out_modules = [part for layer in outward for part in (layer, ACT[act]())][:-1]
        network.in_layers = nn.Sequential(*network.in_modules)
        network.out_layers = nn.Sequential(*network.out_modules)
        network.extra = {"note": "in the wild", "size": np.float64(1.5)}
    else:
        network.in_layers, network.out_layers = nn.ModuleList(inward), nn.ModuleList(outward)
    network.drop = nn.Dropout(0.5)
    return network


def network_output(network, x, t, act="tanh"):
    """What the release computes."""
    h = torch.cat([x, network.emb_layer(timestep_embedding(t, 10))], dim=1)
    parts = [m for m in (*network.in_layers, *network.out_layers) if isinstance(m, nn.Linear)]
    for layer in parts[:-1]:
        h = ACT[act]()(layer(h))
    return parts[-1](h)


def make_autoencoder(release, clusters, latent_sizes, out_dims, act="tanh"):
    single = len(latent_sizes) == 1
    ae = release.AutoEncoder()
    ae.n_item, ae.n_cate, ae.act_func, ae.reparam = len(clusters), len(latent_sizes), act, True
    ae.in_dims, ae.out_dims = [sum(latent_sizes)], out_dims
    ae.item_emb = torch.rand(len(clusters), 3)
    ae.dropout = nn.Dropout(0.1)
    lengths = torch.bincount(clusters).tolist()
    encoders = [
        nn.Sequential(nn.Linear(length, 2 * size), ACT[act]())
        for length, size in zip(lengths, latent_sizes, strict=True)
    ]
    if single:
        ae.encoder = encoders[0]
        ae.decoder = nn.Sequential(*linears([*ae.in_dims, *out_dims, len(clusters)]))
        return ae
    ae.cluster_ids = clusters
    ae.category_idx = [torch.where(clusters == c)[0] for c in range(len(latent_sizes))]
    ae.category_map = torch.cat(ae.category_idx)
    ae.category_len, ae.decode_dim = lengths, [[np.int64(size)] for size in latent_sizes]
    ae.encoder = nn.ModuleList(encoders)
    ae.decoder = nn.Sequential(nn.Linear(sum(latent_sizes), len(clusters)))
    if out_dims:
        ae.decoder = nn.ModuleList(
            nn.Sequential(nn.Linear(size, length))
            for size, length in zip(latent_sizes, lengths, strict=True)
        )
    return ae


def restore(variant, path, **more):
    restored = inference.restore_released(path, None, "tiny", [variant_of(variant)])
    settings = restored.variant.settings.of(restored.header["settings"], more)
    return restored.model(settings)


def test_no_conversion_takes_the_place_of_what_it_reads(release, tmp_path, tiny, tiny_folder, run):
    torch.save(make_network(release, tiny.n_items, [6, 9]), tmp_path / NAME)
    (tmp_path / "b.safetensors").symlink_to(tmp_path / NAME)
    before = (tmp_path / NAME).read_bytes()
    where = ["--dataset", "tiny", "--data_path", tiny_folder]
    for target, words in (
        ("b.safetensors", "is read here: name another file to write"),
        ("c.pth", "convert writes a .safetensors file"),
    ):
        done = run("scripts/convert_checkpoint.py", tmp_path / NAME, tmp_path / target, *where)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr
    assert (tmp_path / NAME).read_bytes() == before
    lists = ["--recommend", tmp_path / "u.csv", "--users", tmp_path / "u.csv"]
    (tmp_path / "u.csv").write_text("0\n")
    done = run("DiffRec/inference.py", "--checkpoint", tmp_path / NAME, *where, *lists)
    assert "u.csv is read here: name another file to write" in done.stderr


@pytest.mark.parametrize("dims", [[6, 9], [9]])
def test_a_network_computes_what_the_release_computes(release, tmp_path, tiny, dims):
    network = make_network(release, tiny.n_items, dims)
    torch.save(network, tmp_path / NAME)
    model = restore("DiffRec", tmp_path / NAME)
    assert (model.diffusion.steps, model.settings.dims) == (4, tuple(dims))
    assert model.diffusion.beta[0] == 1e-5
    assert model.settings.reweight is True  # its name says 0, which the release took as true
    x, t = torch.rand(5, tiny.n_items), torch.arange(5) % 4
    torch.testing.assert_close(model.dnn(x, t), network_output(network, x, t))
    assert restore("DiffRec", tmp_path / NAME, steps=2).diffusion.steps == 2


def test_an_encoder_of_two_layers(release, tmp_path, tiny):
    """The release keeps the sizes of its encoder from the items inwards."""
    ae = make_autoencoder(release, torch.zeros(tiny.n_items, dtype=torch.int64), [12], [])
    ae.in_dims = [20, 12]
    ae.encoder = nn.Sequential(nn.Linear(tiny.n_items, 20), nn.Tanh(), nn.Linear(20, 24), nn.Tanh())
    network = make_network(release, 12, [9], latent=True)
    torch.save(network, tmp_path / LATENT_NAME)
    torch.save(ae, tmp_path / LATENT_NAME.replace(".pth", "_AE.pth"))
    model = restore("L-DiffRec", tmp_path / LATENT_NAME)
    assert model.settings.in_dims == (12, 20)
    rows = tiny.train.slice(0, 6)
    with torch.no_grad():
        mu = ae.encoder(rows.dense())[:, :12]
        z = model.diffusion.denoise(lambda x, t: network_output(network, x, t, "tanh"), mu)
        torch.testing.assert_close(model.scorer()(rows), ae.decoder(z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("act", ["tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("out_dims", [[], [5]])
@pytest.mark.parametrize("latent_sizes", [[7, 5], [12]])
def test_a_latent_model_computes_what_the_release_computes(
    release, tmp_path, tiny, act, out_dims, latent_sizes
):
    clusters = (torch.arange(tiny.n_items) % 3 == 0).long()
    if len(latent_sizes) == 1:
        clusters.zero_()
    network = make_network(release, 12, [7, 9], latent=True, act=act)
    ae = make_autoencoder(release, clusters, latent_sizes, out_dims, act)
    torch.save(network, tmp_path / LATENT_NAME)
    torch.save(ae, tmp_path / LATENT_NAME.replace(".pth", "_AE.pth"))
    if out_dims and len(latent_sizes) == 1:
        # the linear layers stand at 0 and 1 here, at 0 and 2 where activations lie between
        ae.decoder = nn.Sequential(ae.decoder[0], ACT[act](), ae.decoder[1])
        torch.save(ae, tmp_path / LATENT_NAME.replace(".pth", "_AE.pth"))
    model = restore("L-DiffRec", tmp_path / LATENT_NAME)
    assert model.diffusion.beta[0] != 1e-5

    rows = tiny.train.slice(0, 6)
    x = rows.dense()
    with torch.no_grad():
        if len(latent_sizes) == 1:
            mu = ae.encoder(x)[:, :12]
        else:
            mu = torch.cat(
                [
                    encoder(x[:, items])[:, :size]
                    for encoder, items, size in zip(
                        ae.encoder, ae.category_idx, latent_sizes, strict=True
                    )
                ],
                dim=1,
            )
        z = model.diffusion.denoise(lambda x, t: network_output(network, x, t, act), mu)
        if len(latent_sizes) == 1:
            expected = ae.decoder(z)
        else:
            parts = z.split(latent_sizes, dim=1) if out_dims else [z]
            decoders = ae.decoder if out_dims else [ae.decoder]
            grouped = torch.cat([d(p) for d, p in zip(decoders, parts, strict=True)], dim=1)
            expected = torch.empty_like(grouped)
            expected[:, ae.category_map] = grouped
        torch.testing.assert_close(model.scorer()(rows), expected, rtol=1e-4, atol=1e-5)


def test_names_of_the_release():
    assert released.settings_in_name(NAME, IN_NAME) == {
        "lr": 0.001, "weight_decay": 0.0, "batch_size": 400, "mean_type": "x0", "steps": 4,
        "noise_scale": 0.5, "noise_min": 0.001, "noise_max": 0.01, "sampling_steps": 0,
    }  # fmt: skip
    told = released.settings_in_name(LATENT_NAME, LATENT_IN_NAME)
    assert (told["lr1"], told["lr2"], told["lamda"], told["wd1"]) == (0.001, 0.0005, 0.03, 0.0)
    small = "yelp_clean_lr1e-05_wd0.0_bs400_dims[1000]_emb10_x0_steps5_scale0.01_min0.001_max0.01"
    assert released.settings_in_name(small, IN_NAME)["lr"] == 1e-5
    timed = released.settings_in_name(
        small + "_sample0_reweight1_wmin0.5_wmax1.0_log.pth", TIMED_IN_NAME
    )
    assert (timed["w_min"], timed["w_max"], timed["noise_min"]) == (0.5, 1.0, 0.001)
    assert released.settings_in_name("my_model.pth", IN_NAME) == {}


def test_a_name_that_says_nothing_falls_back_to_the_preset(release, tmp_path, capsys):
    path = tmp_path / "ml-1m_noisy.pth"
    torch.save(make_network(release, 20, [6]), tmp_path / "ml-1m_noisy.pth")
    restored = inference.restore_released(
        tmp_path / "ml-1m_noisy.pth", None, None, [variant_of("DiffRec")]
    )
    assert restored.header["settings"]["noise_scale"] == 0.5
    assert restored.known["dims"] == [6]
    assert not {"noise_scale", "lr"} & set(restored.known)
    assert "tells no settings; those of the preset ml-1m_noisy" in capsys.readouterr().out
    torch.save(make_network(release, 20, [6]), tmp_path / "mine.pth")
    with pytest.raises(InputError, match="give --dataset"):
        inference.restore_released(tmp_path / "mine.pth", None, None, [variant_of("DiffRec")])
    with pytest.raises(InputError, match=r"tells no settings and mine has no preset"):
        inference.restore_released(tmp_path / "mine.pth", None, "mine", [variant_of("DiffRec")])
    with pytest.raises(InputError, match=r"needs ml-1m_noisy_AE\.pth"):
        inference.restore_released(path, None, None, [variant_of("L-DiffRec")])


# Files that are not to be trusted


def read(path):
    return released.read(path, released.NETWORK, "the denoising network")


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_hostile_pickle_is_refused_and_does_nothing(release, tmp_path, run, tiny_folder):
    marker = tmp_path / "marker"
    for content in (Hostile(f"touch {marker}"), {"weights": Hostile(f"touch {marker}")}):
        torch.save(content, tmp_path / NAME)
        with pytest.raises(InputError, match=r"names (posix|nt|os)\.system.*was not read"):
            read(tmp_path / NAME)
    network = make_network(release, 20, [6])
    network.extra = Hostile(f"touch {marker}")
    torch.save(network, tmp_path / NAME)
    flags = ["--checkpoint", tmp_path / NAME, "--data_path", tiny_folder]
    done = run("DiffRec/inference.py", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "system" in done.stderr
    assert not marker.exists()


class Unlisted(nn.Module):
    """A harmless class, but not one of the release's."""


def test_other_classes_are_refused_by_name(tmp_path):
    torch.save(Unlisted(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"test_released\.Unlisted"):
        read(tmp_path / "x.pth")
    torch.save(nn.Conv1d(1, 1, 1), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.conv\.Conv1d"):
        read(tmp_path / "x.pth")
    torch.save(np.array([object()]), tmp_path / "x.pth")
    with pytest.raises(InputError, match="names"):
        read(tmp_path / "x.pth")


def test_damaged_and_foreign_files(release, tmp_path):
    path = tmp_path / "x.pth"
    torch.save(make_network(release, 200, [6]), path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[: len(whole) // 3] * 2):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole checkpoint"):
            read(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="holds a dict"):
        read(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="holds a Linear"):
        read(path)
    with pytest.raises(InputError, match="there is no checkpoint"):
        read(tmp_path / "none.pth")
    torch.save(make_network(release, 20, [6]), path)
    with pytest.raises(InputError, match="where the autoencoder is expected"):
        read_autoencoder(path)


def test_modules_that_lack_what_the_releases_have(release, tmp_path):
    path = tmp_path / "x.pth"
    for damage in (
        lambda network: delattr(network, "out_dims"),
        lambda network: network.__dict__.update(_modules={"in_layers": network}),
        lambda network: network.__dict__.update(_parameters={"in_layers": 3}),
        lambda network: network.__dict__.update(in_layers=torch.zeros(1), _modules={}),
    ):
        network = make_network(release, 20, [6])
        damage(network)
        torch.save(network, path)
        with pytest.raises(InputError):
            checkpoints.fill(
                torch.nn.ModuleDict({"dnn": DNN(20, [6])}),
                released.read_network(path, "dims")[0], path,
            )  # fmt: skip
    torch.save(release.AutoEncoder(), path)
    with pytest.raises(InputError, match="not built like"):
        read_autoencoder(path)


MEMORY = """
import sys, pathlib
import torch
from DiffRec.engine import machine, released
before = machine.peak_memory_mb(torch.device("cpu"))
from DiffRec.models.DNN import DNN
weights, settings, n_items = released.read_network(pathlib.Path(sys.argv[1]), "dims")
model = torch.nn.ModuleDict({"dnn": DNN(n_items, settings["dims"])})
model.load_state_dict(weights, assign=True)
assert sum(tensor.sum() for tensor in model.state_dict().values()).isfinite()  # reads it all
print(machine.peak_memory_mb(torch.device("cpu")) - before)
"""


def test_reading_needs_at_most_twice_the_file(release, tmp_path, run):
    path = tmp_path / NAME
    torch.save(make_network(release, 20_000, [1000]), path)
    (tmp_path / "read.py").write_text(MEMORY)
    done = run(tmp_path / "read.py", path, process=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2 * path.stat().st_size / 2**20


# The real ones


@pytest.mark.parametrize("variant", ["DiffRec", "L-DiffRec"])
def test_released_checkpoints_give_the_metrics_they_must(
    run, released_checkpoints, real_datasets, tmp_path, variant
):
    expected = json.loads((released_checkpoints / "expected.json").read_text())[variant]
    target, result = tmp_path / "converted.safetensors", tmp_path / "result.json"
    done = run(
        "scripts/convert_checkpoint.py", released_checkpoints / expected["file"], target,
        "--data_path", real_datasets, "--result_json", result,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(result.read_text())
    for split in ("valid", "test"):
        for metric, values in expected[split].items():
            for k, value in zip((10, 20, 50, 100), values, strict=True):
                assert round(record[split][f"{metric}@{k}"], 4) == value
    assert record["settings"]["steps"] == expected["steps"]
    assert record["settings"]["beta_fixed"] == expected["beta_fixed"]
    # and our own format, made from it, gives the same
    done = run(f"{variant}/inference.py", "--checkpoint", target, "--data_path", real_datasets,
               "--result_json", result)  # fmt: skip
    assert "note:" not in done.stdout
    assert json.loads(result.read_text())["test"] == record["test"]


@pytest.mark.parametrize("variant", ["DiffRec", "L-DiffRec"])
def test_the_releases_inference_command(
    run, released_checkpoints, real_datasets, variant, tmp_path
):
    """A folder of checkpoints and --dataset are enough; --gpu does no harm without one."""
    flags = ["--dataset=ml-1m_clean", "--gpu=0", "--checkpoint", released_checkpoints / variant]
    done = run(f"{variant}/inference.py", *flags, "--data_path", real_datasets)
    assert done.returncode == 0, done.stderr
    assert "recall@20" in done.stdout


def test_giffcfs_published_weights_give_their_figures(released_checkpoints, real_datasets):
    """By both denominators of Recall; and with rows weighted by recency."""
    path = released_checkpoints / "GiffCF" / "ml-1m_clean.npz"
    restored = inference.restore_released(path, None, None, [variant_of("GiffCF")])
    plain = load_dataset("ml-1m_clean", real_datasets)
    names = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
    published = {
        ("none", "relevant"): (0.1166, 0.1977, 0.1002, 0.1272),
        ("none", "min_k"): (0.1308, 0.2024, 0.1002, 0.1272),
        ("inference", "relevant"): (0.1403, 0.2315, 0.1206, 0.1516),
    }
    for w_at in ("none", "inference"):
        settings = restored.variant.settings.of(restored.header["settings"], {"w_at": w_at})
        model = restored.model(settings)
        data = model.prepare_data(plain)
        rows = data.input_rows()
        with torch.inference_mode():
            score = model.scorer()
            scores = torch.cat([score(rows.slice(n, n + 400)) for n in range(0, len(rows), 400)])
        for (weighted, denominator), figures in published.items():
            if weighted == w_at:
                found = evaluate(scores, plain, [10, 20], recall_denominator=denominator)["test"]
                assert tuple(round(found[name], 4) for name in names) == figures


def test_giffcfs_weights_through_the_command_line(run, released_checkpoints, tmp_path):
    """They have no graph, and no data set's items but their own."""
    path = released_checkpoints / "GiffCF" / "ml-1m_clean.npz"
    call = ["baselines/inference.py", "--model", "GiffCF", "--checkpoint", path]
    done = run(*call, "--history", "3,17")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "come without a graph" in done.stderr


def test_a_npz_that_is_not_giffcfs(run, tmp_path, tiny_folder):
    call = ["baselines/inference.py", "--model", "GiffCF", "--data_path", tiny_folder]
    path = tmp_path / "ml-1m_clean.npz"
    for content in (b"", b"PK\x03\x04 not an archive"):
        path.write_bytes(content)
        done = run(*call, "--checkpoint", path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    np.savez(path, item_embed=np.array([object()]))
    done = run(*call, "--checkpoint", path)
    assert "does not hold GiffCF's weights" in done.stderr


def test_without_checkpoints_the_command_says_where_to_put_them(run, tmp_path):
    done = run("DiffRec/inference.py", "--dataset=yelp_clean", "--checkpoint", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "put the released ones there" in done.stderr
