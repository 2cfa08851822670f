"""L-DiffRec: clusters, clustered VAE, objective and scores; and the plain multinomial VAE."""

import json

import numpy as np
import pytest
import torch

from DiffRec import Interactions, evaluate
from DiffRec.engine.commands import parse
from DiffRec.engine.errors import InputError
from DiffRec.engine.variant import variant_of
from DiffRec.models.VAE import VAE, kl_to_standard_normal, multinomial_nll
from L_DiffRec import LDiffRec
from L_DiffRec.data_utils import cluster_items, load_embeddings
from L_DiffRec.models.DNN import DNN
from L_DiffRec.models.VAE import ClusteredVAE, share_out


def arguments(*flags):
    return parse(variant_of("L-DiffRec"), ["--preset", "none", *flags])[0]


def make_model(dataset, *flags, clusters=None):
    settings = arguments("--in_dims", "[12]", "--mlp_dims", "[9]", *flags)
    if clusters is None:
        clusters = torch.arange(dataset.n_items) % 3
    return LDiffRec(dataset.n_items, settings, clusters)


@pytest.fixture
def embedded(tiny, tmp_path):
    """A file with two well separated groups of embeddings: a third of the items, and the rest."""
    embeddings = np.random.default_rng(0).normal(size=(tiny.n_items, 5)).astype(np.float16)
    embeddings[: tiny.n_items // 3] += 20
    np.save(tmp_path / "item_emb.npy", embeddings)
    return tmp_path / "item_emb.npy"


# Clusters


def test_clusters_are_the_groups_and_numbered_by_size(tiny, embedded):
    clusters = cluster_items(tiny, 2, embedded, seed=1)
    third = tiny.n_items // 3
    assert clusters.tolist() == [1] * third + [0] * (tiny.n_items - third)
    folder = cluster_items(tiny, 2, embedded.parent, seed=1)
    assert torch.equal(folder, clusters)


def test_clusters_depend_on_the_seed_alone(tiny, embedded):
    one, same = (cluster_items(tiny, 7, embedded, seed=3) for _ in range(2))
    assert torch.equal(one, same)
    assert len(one.unique()) == 7


def test_coinciding_items_leave_fewer_clusters(tiny, tmp_path):
    np.save(tmp_path / "e.npy", np.repeat([[0.0], [1.0]], [tiny.n_items - 1, 1], axis=0))
    clusters = cluster_items(tiny, 5, tmp_path / "e.npy", seed=1)
    assert torch.bincount(clusters).tolist() == [tiny.n_items - 1, 1]
    model = make_model(tiny, clusters=clusters)  # a cluster of one item works
    assert model.vae.lengths == [tiny.n_items - 1, 1]
    model.eval()
    with torch.inference_mode():
        assert model.scorer()(tiny.train.slice(0, 3)).isfinite().all()


def test_one_cluster_needs_no_embeddings(tiny):
    assert cluster_items(tiny, 1, None, seed=1).eq(0).all()
    with pytest.raises(InputError, match=r"no item embeddings.*--n_cate 1"):
        cluster_items(tiny, 2, None, seed=1)


def test_bad_embeddings_are_refused(tiny, tmp_path):
    path = tmp_path / "e.npy"
    for array, words in (
        (np.zeros((3, 4)), rf"\(3, 4\), but {tiny.n_items} items"),
        (np.zeros(tiny.n_items), "rows"),
        (np.full((tiny.n_items, 2), np.nan), r"row 0 is not finite \(\d+ such rows\)"),
        (np.array([["a", "b"]] * tiny.n_items), "array of numbers"),
    ):
        np.save(path, array)
        with pytest.raises(InputError, match=words):
            load_embeddings(path, tiny.n_items)
    with pytest.raises(InputError, match="n_cate 10000"):
        cluster_items(tiny, 10_000, path, seed=1)


# Models


def test_sizes_are_shared_out_as_released():
    """The released ML-1M checkpoint: 1850 and 960 items give 197 and 103 latent units."""
    assert share_out([1850, 960], 300) == [197, 103]
    assert share_out([999, 1], 10) == [9, 1]
    assert share_out([1, 999], 10) == [1, 9]
    assert share_out([98, 1, 1], 10) == [8, 1, 1]
    with pytest.raises(ValueError, match="4 clusters cannot share"):
        share_out([1, 1, 1, 1], 3)


@pytest.mark.parametrize(
    ("n_items", "largest_share", "millions"),
    [(94_949, 0.89, 75), (34_395, 0.94, 29), (2_810, 1850 / 2810, 2)],
)
def test_parameter_counts_of_table_6(n_items, largest_share, millions):
    """Amazon-book, Yelp and ML-1M with the stated share of the larger of two clusters."""
    clusters = (torch.arange(n_items) >= round(largest_share * n_items)).long()
    vae, dnn = ClusteredVAE(clusters, [300], []), DNN(300, [300])
    count = sum(p.numel() for module in (vae, dnn) for p in module.parameters())
    assert round(count / 1e6) == millions


@pytest.mark.parametrize("in_dims", [[12], [12, 24]])
def test_cluster_encoders_equal_one_masked_dense_encoder(in_dims):
    """Block-diagonal weights over all items: no weight joins two clusters."""
    clusters = torch.tensor([2, 0, 1, 0, 0, 1, 2, 0])
    vae = ClusteredVAE(clusters, in_dims, []).eval()
    x = torch.rand(5, 8)
    mu, log_var = vae.encode(x[:, vae.order])
    h = x[:, vae.order]
    for i in range(0, 2 * len(in_dims), 2):
        weight = torch.block_diag(*(encoder[i].weight for encoder in vae.encoder))
        bias = torch.cat([encoder[i].bias for encoder in vae.encoder])
        h = torch.tanh(h @ weight.T + bias)
    parts = h.split([2 * size for size in vae.latent_sizes], dim=1)
    torch.testing.assert_close(mu, torch.cat([p[:, : p.shape[1] // 2] for p in parts], dim=1))
    torch.testing.assert_close(log_var, torch.cat([p[:, p.shape[1] // 2 :] for p in parts], dim=1))


@pytest.mark.parametrize("flags", [{}, {"out_dims": [20]}, {"cluster_decoders": True}])
@pytest.mark.parametrize("act_func", ["tanh", "relu", "sigmoid", "leaky_relu"])
def test_scores_come_back_in_item_order(tiny, flags, act_func):
    """Renumbering the items renumbers the scores, and nothing else."""
    words = ["--act_func", act_func, "--steps", "3"]
    words += [f"--{name}={value}" for name, value in flags.items()]
    clusters = torch.arange(tiny.n_items) % 3
    model = make_model(tiny, *words, clusters=clusters).eval()
    order = model.vae.order
    regrouped = make_model(tiny, *words, clusters=clusters[order]).eval()
    weights = model.state_dict()
    weights["vae.clusters"] = clusters[order]
    regrouped.load_state_dict(weights)
    rows = tiny.train.slice(0, 20)
    renumbered = Interactions(
        rows.offsets, model.vae.position[rows.items].int(), None, rows.n_items
    )
    with torch.inference_mode():
        scores, moved = model.scorer()(rows), regrouped.scorer()(renumbered)
    torch.testing.assert_close(scores[:, order], moved)


@pytest.mark.parametrize(
    "flags", ["", "--in_dims [12,24]", "--activate_latent 0", "--sampling_steps 2", "--norm 1"]
)
def test_fast_scores_equal_the_plain_ones(tiny, flags):
    model = make_model(tiny, "--steps", "20", *flags.split()).eval()
    rows = tiny.train.slice(0, 30)
    for batch in (rows, rows.with_values(torch.rand(len(rows.items)))):
        with torch.inference_mode():
            torch.manual_seed(1)
            fast = model.scorer()(batch)
            torch.manual_seed(1)
            slow = model.plain_scorer()(batch)
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_the_best_of_ten_clusterings_is_taken(tiny, tmp_path):
    from sklearn.cluster import KMeans

    points = np.random.default_rng(0).normal(size=(tiny.n_items, 4)).astype(np.float32)
    np.save(tmp_path / "e.npy", points)
    found = cluster_items(tiny, 6, tmp_path / "e.npy", seed=1).numpy()

    def spread(labels):
        return sum(
            ((points[labels == n] - points[labels == n].mean(axis=0)) ** 2).sum() for n in range(6)
        )

    first = KMeans(6, n_init=1, random_state=1).fit_predict(points)
    best = KMeans(6, n_init=10, random_state=1).fit_predict(points)
    assert spread(found) == pytest.approx(spread(best))
    assert spread(found) < spread(first) * 0.999


def test_decoders_per_cluster_honour_out_dims(tiny):
    clusters = torch.tensor([0] * 30 + [1] * 50)
    vae = ClusteredVAE(clusters, [16], [40, 24])
    sizes = [
        [layer.in_features for layer in d if hasattr(layer, "in_features")] for d in vae.decoder
    ]
    assert sizes == [[6, 15, 9], [10, 25, 15]]
    z = torch.randn(2, 16)
    torch.testing.assert_close(vae.decode(z)[:, :30], vae.decoder[0](z[:, :6]))


def test_without_reparam_the_latent_vector_is_the_mean():
    mu, log_var = torch.zeros(4, 3), torch.zeros(4, 3)
    clusters = torch.tensor([0, 0, 1, 1])
    assert torch.equal(ClusteredVAE(clusters, [3], [], reparam=False).latent(mu, log_var), mu)
    vae = ClusteredVAE(clusters, [3], [])
    assert not torch.equal(vae.latent(mu, log_var), mu)
    assert torch.equal(vae.eval().latent(mu, log_var), mu)


# Losses


def test_kl_and_likelihood_against_torch_distributions():
    from torch.distributions import Multinomial, Normal, kl_divergence

    mu, log_var = torch.randn(4, 6), torch.randn(4, 6)
    expected = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), expected)
    logits, x = torch.randn(4, 6), torch.randint(0, 3, (4, 6)).float()
    expected = -torch.stack(
        [
            Multinomial(int(row.sum()), logits=logit).log_prob(row)
            - torch.lgamma(row.sum() + 1)
            + torch.lgamma(row + 1).sum()
            for row, logit in zip(x, logits, strict=True)
        ]
    )
    torch.testing.assert_close(multinomial_nll(logits, x), expected)


def test_lambda_falls_over_epochs_to_its_floor(tiny):
    model = make_model(tiny, "--lamda", "0.1", "--anneal_steps", "10", "--anneal_cap", "0.03")
    values = []
    for model.epoch in (1, 5, 7, 8, 20):
        values.append(model.diffusion_weight())
    assert values == pytest.approx([0.1, 0.06, 0.04, 0.03, 0.03])
    constant = make_model(tiny, "--lamda", "0.1", "--anneal_steps", "0")
    constant.epoch = 99
    assert constant.diffusion_weight() == 0.1


def test_gamma_rises_over_batches_to_its_cap(tiny):
    model = make_model(tiny, "--vae_anneal_steps", "10", "--vae_anneal_cap", "0.25")
    values = []
    for _ in range(5):
        values.append(model.kl_weight().item())
        model.training_loss(tiny.train.slice(0, 5))
    assert values == pytest.approx([0, 0.1, 0.2, 0.25, 0.25])
    assert make_model(tiny, "--vae_anneal_steps", "0").kl_weight().item() == pytest.approx(0.3)


def test_plain_vae():
    vae = VAE(30, [4, 8])
    x = (torch.rand(6, 30) < 0.3).float()
    logits, mu, log_var = vae(x)
    assert (logits.shape, mu.shape, log_var.shape) == ((6, 30), (6, 4), (6, 4))
    vae.eval()
    logits, mu, log_var = vae(x)
    torch.testing.assert_close(logits, vae.decoder(mu))
    expected = multinomial_nll(logits, x) + 0.2 * kl_to_standard_normal(mu, log_var)
    torch.testing.assert_close(vae.loss(x, 0.2), expected.mean())
    with torch.device("meta"):  # Table 6: 114 M, 42 M, 4 M
        for n_items, millions in ((94_949, 114), (34_395, 42), (2_810, 4)):
            count = sum(p.numel() for p in VAE(n_items, [200, 600]).parameters())
            assert round(count / 1e6) == millions


# Command line


def test_recboles_names_are_understood():
    args = arguments(
        "--dims_dnn", "[64]", "--embedding_size", "12", "--ae_act_func", "relu",
        "--history_num_per_term", "5", "--train_batch_size", "99",
    )  # fmt: skip
    values = (args.mlp_dims, args.emb_size, args.act_func, args.batch_size)
    assert values == ((64,), 12, "relu", 99)


def test_the_releases_flags():
    args = arguments(
        "--cuda", "--dataset=yelp_clean", "--data_path=../datasets/yelp_clean/",
        "--emb_path=../datasets/", "--lr1=5e-4", "--lr2=1e-4", "--wd1=0", "--wd2=0",
        "--batch_size=400", "--n_cate=2", "--in_dims=[300]", "--out_dims=[]", "--lamda=0.03",
        "--mlp_dims=[300]", "--emb_size=10", "--mean_type=x0", "--steps=5", "--noise_scale=0.01",
        "--noise_min=0.005", "--noise_max=0.01", "--sampling_steps=0", "--reweight=1",
        "--log_name=log", "--round=1", "--gpu=0", "--act_func=tanh", "--optimizer1=AdamW",
        "--optimizer2=AdamW", "--anneal_cap=0.005", "--anneal_steps=500", "--vae_anneal_cap=0.3",
        "--vae_anneal_steps=200", "--reparam=1", "--mlp_act_func=tanh", "--tst_w_val",
    )  # fmt: skip
    assert args.out_dims == ()
    assert args.lamda == 0.03
    assert args.beta_fixed is False


def test_defaults_are_the_releases():
    args = arguments()
    assert (args.n_cate, args.lr1, args.lr2, args.lamda, args.steps) == (3, 1e-4, 1e-4, 0.03, 5)
    assert (args.noise_scale, args.noise_min, args.noise_max) == (0.1, 1e-4, 0.02)
    assert (args.anneal_cap, args.anneal_steps) == (0.005, 500)
    assert (args.vae_anneal_cap, args.vae_anneal_steps) == (0.3, 200)


def test_presets_of_all_six_data_sets_build():
    presets = variant_of("L-DiffRec").known_presets()
    assert len(variant_of("L-DiffRec").published_presets()) == 6
    for name in presets:
        settings, _ = parse(variant_of("L-DiffRec"), ["--preset", name])
        LDiffRec(600, settings, torch.arange(600) % 2)
        assert settings.lr1 == presets[name]["lr1"]


SMALL = "--preset none --in_dims [12] --mlp_dims [9] --steps 4 --lr1 .01 --batch_size 40".split()


@pytest.fixture
def train(run, tiny_folder, tmp_path, embedded):
    def call(name, *flags):
        where = ["--save_path", tmp_path / name, "--result_json", tmp_path / f"{name}.json"]
        done = run(
            "L-DiffRec/main.py", "--data_path", tiny_folder, "--emb_path", embedded, *SMALL, *where,
            *flags,
        )  # fmt: skip
        return done, tmp_path / f"{name}.json"

    return call


def test_train_resume_and_inference(train, run, tiny, tiny_folder, tmp_path):
    done, whole = train("whole", "--epochs", "20")
    assert done.returncode == 0, done.stderr
    record = json.loads(whole.read_text())
    train("part", "--epochs", "10", "--keep_state")
    done, part = train("part", "--epochs", "20", "--resume", "--keep_state")
    assert "resumed after epoch 10" in done.stdout
    assert json.loads(part.read_text())["test"] == record["test"]

    checkpoint, result = tmp_path / "whole" / record["checkpoint"], tmp_path / "again.json"
    done = run(
        "L-DiffRec/inference.py", "--checkpoint", checkpoint, "--data_path", tiny_folder,
        "--result_json", result,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text())["test"] == pytest.approx(record["test"])
    model = LDiffRec.load(checkpoint)  # needs no embeddings: the clusters are in the file
    assert evaluate(model.scorer(), tiny)["test"] == pytest.approx(record["test"])
    assert model.recommend([[1, 2, 3], []], k=4)[0].shape == (2, 4)
    embeddings = np.load(tmp_path / "item_emb.npy")
    np.save(tmp_path / "item_emb.npy", embeddings[::-1])  # other clusters: another run
    long = ["--long_names", "--keep_state"]
    np.save(tmp_path / "item_emb.npy", embeddings)
    train("long", "--epochs", "10", *long)
    np.save(tmp_path / "item_emb.npy", embeddings[::-1])
    done, _ = train("part", "--epochs", "25", "--resume")
    assert "nothing to resume" in done.stdout
    assert len(list((tmp_path / "part").glob("*.safetensors"))) == 2
    done, _ = train("long", "--epochs", "25", "--resume", *long)  # whose names do not tell them
    assert done.returncode == 2
    assert "clusters" in done.stderr
    done = run("DiffRec/inference.py", "--checkpoint", checkpoint, "--data_path", tiny_folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "flags",
    [["--n_cate", "1000"], ["--emb_path", "nowhere.npy"], ["--in_dims", "[1]"], ["--lr1", "0"]],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(train, flags):
    done, _ = train("a", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
