"""The baselines: their mathematics against brute force, and what every one of them must do."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY
from torch.distributions import Normal, kl_divergence

from baselines import options
from baselines.graph import graph_of, normalised
from baselines.main import main
from baselines.models import MODELS
from baselines.models.ACVAE import ACVAE
from baselines.models.EASE import EASE
from baselines.models.LightGCN import LightGCN
from baselines.recommender import nearest
from baselines.sampling import sample_triples
from DiffRec import Interactions, load_dataset
from DiffRec.data_utils import Dataset
from DiffRec.errors import InputError
from DiffRec.models.VAE import VAE, kl_to_standard_normal
from DiffRec.options import parse, settings_of
from DiffRec.training import Log, Training

SMALL = {
    "MF": "--emb_size 6", "LightGCN": "--emb_size 6 --dropout .2", "CDAE": "--hidden_size 6",
    "MultiDAE": "--dims [5,8]", "MultiDAE++": "--dims [5,8]", "MultiVAE": "--dims [5,8]",
    "CODIGEM": "--hidden_size 6", "ACVAE": "--emb_size 6 --max_length 9", "iALS": "--factors 6",
    "GF-CF": "--rank 6", "ItemKNN": "--neighbors 5", "RP3beta": "--neighbors 5 --normalize",
    "SLIM": "--alpha .01",
}  # fmt: skip


def settings_for(name: str, *flags: str) -> dict:
    argv = ["--preset", "none", *SMALL.get(name, "").split(), *flags]
    return settings_of(parse(options.make_parser("", name), argv, {}))


def build(name: str, dataset: Dataset, *flags: str):
    settings = settings_for(name, *flags)
    model = MODELS[name](dataset.n_users, dataset.n_items, settings)
    model.prepare_data(dataset)
    return model


def trained(name: str, dataset: Dataset, folder, *flags: str, seed: int = 1):
    """A model after three epochs of the shared loop, and its checkpoint."""
    torch.manual_seed(seed)
    model = build(name, dataset, "--epochs", "3", *flags)
    about = {
        "variant": name, "dataset": dataset.name, "settings": model.settings, "seed": seed,
    }  # fmt: skip
    checkpoint = folder / f"{name}.safetensors"
    Training(model, dataset, model.settings, checkpoint, about, {}).run(Log(None))
    return model.eval(), checkpoint


@torch.inference_mode()
def scores_of(model, rows: Interactions) -> torch.Tensor:
    return model.scorer()(rows)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    """Interactions of 9 users and 6 items, as a dense array."""
    return (np.random.default_rng(5).random((9, 6)) < 0.5).astype(np.float64)


@pytest.fixture(scope="module")
def small(matrix):
    """The same as a data set."""
    rows = Interactions.from_pairs(np.argwhere(matrix), *matrix.shape)
    return Dataset("small", REPOSITORY, rows, rows.slice(0, 9), rows.slice(0, 9))


def fitted(name: str, dataset: Dataset, *flags: str) -> torch.Tensor:
    """The scores, (U, I), of a model that is computed at once, with exactly these flags."""
    settings = settings_of(parse(options.make_parser("", name), ["--preset", "none", *flags], {}))
    model = MODELS[name](dataset.n_users, dataset.n_items, settings)
    model.fit(dataset.train)
    return scores_of(model, dataset.train).double().numpy()


# The mathematics


def test_ease_solves_a_ridge_regression_for_each_item(matrix, small):
    expected = np.zeros((6, 6))
    for j in range(6):
        others = [i for i in range(6) if i != j]
        x = matrix[:, others]
        expected[others, j] = np.linalg.solve(x.T @ x + 3 * np.eye(5), x.T @ matrix[:, j])
    np.testing.assert_allclose(fitted("EASE", small, "--reg", "3"), matrix @ expected, atol=1e-5)


def test_item_knn_by_hand(matrix, small):
    norm = np.linalg.norm(matrix, axis=0)
    s = matrix.T @ matrix / (np.outer(norm, norm) + 2)
    np.fill_diagonal(s, 0)
    for j in range(6):
        s[np.argsort(s[:, j])[:-3], j] = 0
    found = fitted("ItemKNN", small, "--neighbors", "3", "--shrink", "2")
    np.testing.assert_allclose(found, matrix @ s, atol=1e-6)


@pytest.mark.parametrize("normalize", [0, 1])
def test_rp3beta_by_hand(matrix, small, normalize):
    from_item = matrix.T / matrix.sum(axis=0)[:, None]
    from_user = matrix / matrix.sum(axis=1)[:, None]
    w = (from_item**0.7) @ (from_user**0.7) / matrix.sum(axis=0) ** 0.4
    np.fill_diagonal(w, 0)
    for i in range(6):
        w[i, np.argsort(w[i])[:-3]] = 0
    if normalize:
        w /= w.sum(axis=1, keepdims=True)
    flags = "--alpha .7 --beta .4 --neighbors 3 --normalize".split()
    np.testing.assert_allclose(
        fitted("RP3beta", small, *flags, str(normalize)), matrix @ w, atol=1e-6
    )


def test_slim_meets_its_optimality_conditions(matrix, small):
    """With g = ∂/∂w of the smooth part: g + αρ = 0 where w > 0, and ≥ 0 where w = 0."""
    alpha, rho = 0.05, 0.3
    model = build(
        "SLIM", small, "--alpha", str(alpha), "--l1_ratio", str(rho), "--max_iter", "5000"
    )
    w = model.similarities(small.train.matrix()).toarray()
    assert np.diag(w).tolist() == [0] * 6
    assert (w >= 0).all()
    gradient = -matrix.T @ (matrix - matrix @ w) / len(matrix) + alpha * (1 - rho) * w + alpha * rho
    off = ~np.eye(6, dtype=bool)
    assert np.abs(gradient[off & (w > 0)]).max() < 5e-3
    assert gradient[off & (w == 0)].min() > -5e-3
    assert 0 < (w > 0).sum() < 30


def test_gfcf_as_a_dense_formula(matrix, small):
    degree_u, degree_i = matrix.sum(axis=1), matrix.sum(axis=0)
    r = matrix / np.sqrt(np.outer(degree_u, degree_i))
    _, _, vt = np.linalg.svd(r)
    ideal = np.diag(degree_i**-0.5) @ vt[:3].T @ vt[:3] @ np.diag(degree_i**0.5)
    expected = matrix @ (r.T @ r + 0.3 * ideal)
    np.testing.assert_allclose(fitted("GF-CF", small, "--rank", "3"), expected, atol=1e-5)


def test_ials_folds_users_in_by_weighted_least_squares(matrix, small):
    model = build("iALS", small, "--factors", "3", "--alpha", "4", "--reg", ".2")
    model.fit(small.train)
    q = model.items.double().numpy()
    expected = []
    for row in matrix:
        weights = np.where(row > 0, 4.0, 1.0)
        expected.append(
            np.linalg.solve((q.T * weights) @ q + 0.2 * np.eye(3), (q.T * weights) @ row)
        )
    np.testing.assert_allclose(scores_of(model, small.train), np.array(expected) @ q.T, atol=1e-4)


def dense_propagation(matrix: np.ndarray, embeddings: torch.Tensor, layers: int) -> torch.Tensor:
    """LightGCN on the whole bipartite graph, (U + I, d)."""
    n_users, n_items = matrix.shape
    a = np.zeros((n_users + n_items,) * 2)
    a[:n_users, n_users:], a[n_users:, :n_users] = matrix, matrix.T
    degree = np.maximum(a.sum(axis=1), 1)
    a = torch.tensor(a / np.sqrt(np.outer(degree, degree)), dtype=torch.float32)
    found, current = embeddings, embeddings
    for _ in range(layers):
        current = a @ current
        found = found + current
    return found / (layers + 1)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_lightgcn_propagates_as_the_dense_graph_does(matrix, small, layers):
    model = build("LightGCN", small, "--layers", str(layers), "--dropout", "0")
    together = torch.cat([model.users, model.items]).detach().requires_grad_()
    expected = dense_propagation(matrix, together, layers)
    p, q = model.propagate()
    torch.testing.assert_close(torch.cat([p, q]), expected)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (torch.cat([p, q]) * weights).sum().backward()
    torch.testing.assert_close(torch.cat([model.users.grad, model.items.grad]), together.grad)


def test_lightgcn_dropout_has_the_gradient_of_what_it_computes(small):
    """By finite differences in double precision would need another product: linearity serves."""
    model = build("LightGCN", small, "--layers", "2", "--dropout", ".5").train()

    def propagate(users, items):
        torch.manual_seed(3)
        with torch.no_grad():
            model.users.copy_(users)
            model.items.copy_(items)
        return torch.cat(model.propagate())

    users, items = torch.randn_like(model.users), torch.randn_like(model.items)
    weights = torch.randn(15, users.shape[1])
    (propagate(users, items) * weights).sum().backward()
    change_u, change_i = torch.randn_like(users), torch.randn_like(items)
    change = propagate(users + change_u, items + change_i) - propagate(users, items)
    predicted = (model.users.grad * change_u).sum() + (model.items.grad * change_i).sum()
    torch.testing.assert_close((change * weights).sum(), predicted, rtol=1e-4, atol=1e-4)


def test_the_graph_is_normalised(matrix):
    import scipy.sparse

    graph = graph_of(normalised(scipy.sparse.csr_matrix(matrix)))
    row, column = np.argwhere(matrix).T
    expected = 1 / np.sqrt(matrix.sum(axis=1)[row] * matrix.sum(axis=0)[column])
    np.testing.assert_allclose(graph["user_weights"], expected, rtol=1e-6)
    assert graph["user_columns"].tolist() == column.tolist()


def test_multivae_kl_is_that_of_the_distributions():
    mu, log_var = torch.randn(7, 4), torch.randn(7, 4)
    expected = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mu, log_var), expected)


def test_multivae_scores_are_those_of_the_network_and_beta_rises(tiny):
    model = build("MultiVAE", tiny, "--anneal_cap", ".3", "--anneal_steps", "4").eval()
    rows = tiny.train.slice(0, 8)
    torch.testing.assert_close(scores_of(model, rows), model.vae(rows.dense())[0])
    assert isinstance(model.vae, VAE)
    betas = []
    for _ in range(3):
        betas.append(float(model.beta()))
        model.train().training_loss(rows)
    assert betas == pytest.approx([0, 0.25, 0.3])
    assert float(build("MultiVAE", tiny, "--anneal_steps", "0").beta()) == pytest.approx(0.2)


def test_multidae_loss_by_hand(tiny):
    model = build("MultiDAE", tiny, "--dropout", "0")
    x = tiny.train.slice(0, 8).dense()
    logits = model.output(model.layers(x / x.norm(dim=1, keepdim=True)))
    expected = -(x * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(model.training_loss(tiny.train.slice(0, 8)), expected)


def test_multidae_plus_plus_takes_diffrecs_schedule(tiny):
    presets = options.presets_of("MultiDAE++")
    assert presets["yelp_clean"]["noise_scale"] == 0.01
    assert "lr" not in presets["yelp_clean"]
    noiseless = build("MultiDAE++", tiny, "--noise_scale", "0", "--dropout", "0")
    plain = build("MultiDAE", tiny, "--dropout", "0")
    plain.load_state_dict(noiseless.state_dict())
    rows = tiny.train.slice(0, 9)
    torch.testing.assert_close(noiseless.training_loss(rows), plain.training_loss(rows))
    noisy = build("MultiDAE++", tiny, "--noise_scale", "1", "--noise_max", ".5", "--steps", "3")
    x = rows.dense()
    variance = (noisy.corrupt(torch.zeros(4000, 80)) ** 2).mean()
    expected = (1 - noisy.diffusion.alpha_bar).mean()
    assert float(variance) == pytest.approx(float(expected), rel=0.05)
    assert noisy.corrupt(x).shape == x.shape


def test_cdae_forgets_users_it_does_not_know(tiny):
    model = build("CDAE", tiny).eval()
    rows = tiny.train.slice(0, 4)
    strangers = dataclasses.replace(rows, users=None)
    assert not torch.allclose(scores_of(model, rows), scores_of(model, strangers))
    beyond = dataclasses.replace(rows, users=torch.full((4,), 10_000))
    torch.testing.assert_close(scores_of(model, beyond), scores_of(model, strangers))
    x = rows.dense()
    z = torch.relu(model.input(x) + model.user_vectors.weight[:4])
    torch.testing.assert_close(scores_of(model, rows), model.output(z))


def test_codigem_noise_at_inference_is_small_and_can_be_left_out(tiny):
    model = build("CODIGEM", tiny).eval()
    model.settings = {**model.settings, "test_noise": False}
    quiet = scores_of(model, tiny.train.slice(0, 5))
    model.settings = {**model.settings, "test_noise": True}
    noised = scores_of(model, tiny.train.slice(0, 5))
    assert not torch.equal(quiet, noised)
    assert (quiet - noised).abs().max() < 0.05


# ACVAE


def test_acvae_sees_no_later_item():
    model = ACVAE(5, 20, settings_for("ACVAE")).eval()
    x = model.embedding(torch.randint(1, 21, (3, 9)))
    changed = x.clone()
    changed[:, 6:] = 0
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    before, after = model.encoder(x, noise[0]), model.encoder(changed, noise[1])
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_acvae_gathered_loss_equals_the_padded_one():
    """Cross-entropy of the positions that predict, against one-hot targets of all of them."""
    model = ACVAE(4, 12, settings_for("ACVAE", "--alpha", "0", "--beta", "0", "--dropout", "0"))
    rows = Interactions.from_histories([[3, 1, 4], [5], list(range(12)), []], 12)
    model.ratio.forward = lambda x, z: torch.zeros_like(z)
    torch.manual_seed(9)
    found = model.training_loss(rows) - 2 * np.log(2) * (2 + 9) / 4
    torch.manual_seed(9)
    sequences, _ = model.padded(rows, 10)
    log_p = model.output(model.decoder(model.encoder(model.embedding(sequences[:, :-1]), None)))
    one_hot = F.one_hot(sequences[:, 1:], 13)[..., 1:].float()  # zeros where there is no target
    expected = -(one_hot * log_p.log_softmax(dim=2)).sum() / 4
    torch.testing.assert_close(found, expected)


def test_acvae_pads_the_latest_items():
    model = ACVAE(2, 9, settings_for("ACVAE"))
    rows = Interactions.from_histories([[8, 0, 3, 5], [2], []], 9)
    sequences, lengths = model.padded(rows, 3)
    assert sequences.tolist() == [[1, 4, 6], [3, 0, 0], [0, 0, 0]]
    assert lengths.tolist() == [3, 1, 0]


def test_acvae_sizes_are_those_of_table_7():
    for n_items, millions in ((94_949, 13), (34_395, 5)):
        with torch.device("meta"):
            model = ACVAE(1, n_items, settings_for("ACVAE", "--emb_size", "64"))
        assert round(model.size() / 1e6) == millions


# Sampling


@pytest.mark.parametrize("positives", ["users", "interactions"])
def test_triples(positives):
    histories = [[0], [1, 2, 3, 4, 5, 6, 7], list(range(8)), []]  # one has all, one nothing
    train = Interactions.from_histories(histories * 200, 8)
    triples = sample_triples(train, positives)
    u, i, j = triples.T
    x = train.dense()
    assert x[u, i].all()
    assert not x[u, j].any()
    assert set((u % 4).tolist()) == {0, 1}
    few = float((u % 4 == 0).float().mean())
    if positives == "users":
        assert len(triples) == len(train.items)
        assert few == pytest.approx(0.5, abs=0.05)
    else:
        assert few == 1 / 8
        assert len((u * 8 + i).unique()) == len(triples) == 1600
    of_few = j[u % 4 == 0]
    counts = torch.bincount(of_few, minlength=8).float() / len(of_few)
    assert counts[0] == 0
    assert counts[1:].tolist() == pytest.approx([1 / 7] * 7, abs=0.07)


def test_bpr_loss_by_hand(tiny):
    model = build("MF", tiny)
    triples = sample_triples(tiny.train, "users")[:10]
    u, i, j = (model.users[triples[:, 0]], model.items[triples[:, 1]], model.items[triples[:, 2]])
    margin = (u * i).sum(dim=1) - (u * j).sum(dim=1)
    squares = sum((e**2).sum() for e in (u, i, j)) / 10
    expected = -margin.sigmoid().log().mean() + 1e-4 / 2 * squares
    torch.testing.assert_close(model.training_loss(triples), expected)


def test_nearest_keeps_the_largest_in_blocks():
    s = np.random.default_rng(0).random((11, 11))
    found = nearest(11, lambda start, stop: s[start:stop], k=4, block_size=3).toarray()
    expected = np.where(s >= np.sort(s, axis=1)[:, -4:-3], s, 0)
    np.testing.assert_array_equal(found, expected)


# What every model must do


@pytest.mark.parametrize("name", MODELS)
def test_contract(name, tiny, tmp_path):
    model, checkpoint = trained(name, tiny, tmp_path)
    rows = tiny.train.slice(10, 40)
    scores = scores_of(model, rows)
    assert scores.shape == (30, tiny.n_items)
    assert scores.isfinite().all()

    again, _ = trained(name, tiny, tmp_path)  # equal seeds, equal scores
    torch.testing.assert_close(scores_of(again, rows), scores, rtol=0, atol=0)

    header_epoch = json.loads(json.dumps(model.epoch))
    loaded = MODELS[name].load(checkpoint)
    best = scores_of(loaded, rows)
    assert best.shape == scores.shape
    if header_epoch == 3 or not model.optimizers():
        torch.testing.assert_close(best, scores)

    items, values = model.recommend(tiny.train, k=10)
    some = values.isfinite()
    assert not (tiny.train.dense().gather(1, items).bool() & some).any()


@pytest.mark.parametrize("name", MODELS)
def test_users_of_one_interaction_and_of_nearly_all(name, tmp_path):
    n = 12
    histories = [[3], [0, 1, 2], list(range(n)), list(range(n - 1)), [5]] * 4
    train = Interactions.from_pairs(
        np.array([(u, i) for u, history in enumerate(histories) for i in history]), 20, n
    )
    empty = Interactions.from_pairs(np.array([(1, 7)]), 20, n)
    dataset = Dataset("odd", tmp_path, train, empty, empty)
    flags = ["--neighbors", "3"] if name in ("ItemKNN", "RP3beta") else []
    model, _ = trained(name, dataset, tmp_path, "--batch_size", "3", *flags)
    scores = scores_of(model, train)
    assert scores.shape == (20, n)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_factors_give_the_scores(name, tiny, tmp_path):
    model, _ = trained(name, tiny, tmp_path)
    rows = tiny.train.slice(0, 20)
    if name in ("EASE", "SLIM", "ItemKNN", "RP3beta", "GF-CF"):
        with pytest.raises(InputError, match="no user and item vectors"):
            model.factors()
        return
    encode, items, biases = model.factors()
    with torch.inference_mode():
        found = encode(rows) @ items.T + biases
    expected = scores_of(model, rows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 if name != "CODIGEM" else 0.05)


def test_a_user_without_vector_is_said(tiny, tmp_path):
    model, _ = trained("MF", tiny, tmp_path)
    with pytest.raises(InputError, match="a vector for each user of its training data"):
        model.recommend([[1, 2]])


def test_what_does_not_fit_is_refused_with_its_size(tiny, monkeypatch):
    monkeypatch.setattr("baselines.recommender.available_memory_mb", lambda: 1024.0)
    model = EASE(5, 100_000, settings_for("EASE"))
    with pytest.raises(InputError, match=r"100,000 × 100,000 matrix needs 186\.3 GB.* 1\.0 GB"):
        model.similarities(None)


def test_nothing_to_rank_is_said(tmp_path):
    rows = Interactions.from_histories([[0, 1], []], 2)
    model = LightGCN(2, 2, settings_for("LightGCN"))
    with pytest.raises(InputError, match="nothing to rank"):
        model.epoch_batches(rows, 5)


def test_the_papers_ranges_are_flags_of_the_models():
    for name, model in MODELS.items():
        known = vars(options.make_parser("", name).parse_args([]))
        assert set(model.grid) <= set(known), name
    assert MODELS["MultiVAE"].grid["anneal_steps"] == [0, 200, 500]


def test_presets_set_flags_that_exist_to_values_of_the_ranges():
    for name, model in MODELS.items():
        parser = options.make_parser("", name)
        for dataset, preset in options.presets_of(name).items():
            argv = ["--preset", dataset]
            args = parse(options.make_parser("", name), argv, options.presets_of(name))
            for flag, value in preset.items():
                assert getattr(args, flag) == value
                action = next(a for a in parser._actions if a.dest == flag)
                assert action.choices is None or value in action.choices
                if model.grid.get(flag):
                    default = parser.get_default(flag)
                    assert value in model.grid[flag] or value == default, (name, dataset, flag)


# The command line


@pytest.fixture(scope="module")
def communities(tmp_path_factory):
    """300 users of 6 tastes: 13 of the 20 items of the own one, and 2 of all 120."""
    random = np.random.default_rng(0)
    splits = {"train": [], "valid": [], "test": []}
    for user in range(300):
        own = random.choice(20, 13, replace=False) + 20 * (user % 6)
        items = random.permutation(np.union1d(own, random.choice(120, 2, replace=False)))
        for name, part in zip(splits, np.split(items, [8, 10]), strict=True):
            splits[name] += [(user, item) for item in part]
    folder = tmp_path_factory.mktemp("communities")
    for name, pairs in splits.items():
        np.save(folder / f"{name}_list.npy", np.array(pairs))
    return folder


@pytest.mark.parametrize("name", [name for name in MODELS if name != "Popularity"])
def test_each_model_beats_popularity(name, communities, tmp_path):
    def recall(model, *flags):
        argv = ["--model", model, "--data_path", str(communities), "--preset", "none"]
        return main([*argv, "--save_path", str(tmp_path), *flags])["test"]["recall@10"]

    gradient = ["--lr", "1e-2", "--epochs", "20", "--batch_size", "50"]
    flags = [] if not MODELS[name].defaults else gradient
    assert recall(name, *flags) > 2 * recall("Popularity") > 0


def test_a_run_resumes_where_it_was(run, tiny_folder, tmp_path):
    base = ["baselines/main.py", "--model", "MultiVAE", "--data_path", tiny_folder]
    base += ["--anneal_steps", "30", "--dims", "[8]", "--batch_size", "40"]
    results = []
    for folder, epochs in (("whole", ["10"]), ("parts", ["5", "10"])):
        for n in epochs:
            result = tmp_path / f"{folder}.json"
            where = ["--save_path", tmp_path / folder, "--result_json", result, "--resume"]
            done = run(*base, "--epochs", n, *where)
            assert done.returncode == 0, done.stderr
        results.append(json.loads(result.read_text()))
    assert "resumed after epoch 5" in done.stdout
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["valid"] == results[1]["valid"]


def test_inference_repeats_training(run, tiny_folder, tmp_path):
    for name in ("LightGCN", "ItemKNN"):
        result = tmp_path / "a.json"
        base = ["--data_path", tiny_folder, "--result_json", result]
        done = run(
            "baselines/main.py", "--model", name, *base, "--epochs", "5", "--save_path", tmp_path
        )
        assert done.returncode == 0, done.stderr
        record = json.loads(result.read_text())
        done = run("baselines/inference.py", "--checkpoint", tmp_path / record["checkpoint"], *base)
        assert done.returncode == 0, done.stderr
        again = json.loads(result.read_text())
        assert again["test"] == pytest.approx(record["test"])
        assert again["variant"] == name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "nonsense"], "invalid choice"),
        ([], "the following arguments are required: --model"),
        (["--model", "EASE", "--lr", "1"], "unrecognized arguments"),
        (["--model", "MultiDAE", "--dims", "[]"], "dims must hold"),
        (["--model", "MF", "--emb_size", "0"], "expected int at least 1"),
        (["--model", "MF", "--dropout", "1"], "below 1"),
        (["--model", "MF", "--preset", "nowhere"], "there is no preset nowhere"),
    ],
)
def test_mistakes_are_one_sentence(run, tiny_folder, tmp_path, flags, words):
    done = run("baselines/main.py", *flags, "--data_path", tiny_folder, "--save_path", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_help_lists_the_models_flags(run):
    assert "--anneal_cap" in run("baselines/main.py", "--help").stdout
    assert "--layers" in run("baselines/main.py", "--model", "LightGCN", "--help").stdout


def test_item_embeddings_for_l_diffrec(run, tiny_folder, tmp_path):
    """scripts/make_item_embeddings.sh writes what L-DiffRec reads."""
    import os
    import shutil
    import subprocess

    shutil.copytree(tiny_folder, tmp_path / "tiny")
    call = ["bash", "scripts/make_item_embeddings.sh", "tiny", "--epochs", "5", "--emb_size", "8"]
    environment = {**os.environ, "DIFFREC_DATASETS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.setdefault("VIRTUAL_ENV", os.sys.prefix)
    for expected in (0, 2):
        done = subprocess.run(
            [*call, "--save_path", tmp_path / "saved"], cwd=REPOSITORY, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == expected, done.stderr
    assert "is there already" in done.stderr
    found = np.load(tmp_path / "tiny" / "item_emb.npy")
    assert found.shape == (load_dataset(data_path=tiny_folder).n_items, 8)
    done = run(
        "L-DiffRec/main.py", "--data_path", tmp_path / "tiny", "--n_cate", "2", "--epochs", "1",
        "--in_dims", "[8]", "--save_path", tmp_path / "saved",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
