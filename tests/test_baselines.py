"""The baselines: their mathematics against brute force, and what every one of them must do."""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import scipy.sparse
import sequential
import torch
from conftest import REPOSITORY

import baselines
from baselines.graph import graph_of, normalised
from baselines.main import main
from baselines.models import MODELS
from baselines.models.ACVAE import ACVAE, GRU_SIZE
from baselines.models.EASE import EASE
from baselines.models.GFCF import GFCF
from baselines.models.GiffCF import GiffCF
from baselines.models.LightGCN import LightGCN
from baselines.models.MF import MF
from baselines.noise import generators
from baselines.recommender import ClosedForm, nearest
from baselines.sampling import sample_triples
from DiffRec import Dataset, InputError, Interactions, evaluate, load_dataset, train
from DiffRec.data_utils import EVALUATION
from DiffRec.engine import contract, training
from DiffRec.engine.contract import ROWS, Recommender, rows_at_once
from DiffRec.engine.flags import flags_of
from DiffRec.engine.settings import Between, Positive, Settings, TrainingSettings, setting
from DiffRec.engine.training import evaluate_model
from DiffRec.engine.variant import REGISTRY, register, variant_of
from DiffRec.models.VAE import VAE
from T_DiffRec.settings import RecencySettings

SMALL = {
    "MF": {"emb_size": 6}, "LightGCN": {"emb_size": 6, "dropout": 0.2},
    "CDAE": {"hidden_size": 6}, "MultiDAE": {"dims": [5, 8]}, "MultiDAE++": {"dims": [5, 8]},
    "MultiVAE": {"dims": [5, 8]}, "CODIGEM": {"hidden_size": 6},
    "ACVAE": {"emb_size": 6, "max_length": 9}, "iALS": {"factors": 6}, "GF-CF": {"rank": 6},
    "ItemKNN": {"neighbors": 5}, "RP3beta": {"neighbors": 5, "normalize": True},
    "SLIM": {"alpha": 0.01},
    "SASRec": {"emb_size": 8, "max_length": 9}, "GRU4Rec": {"emb_size": 6, "hidden_size": 7},
    "DiffuRec": {"emb_size": 8, "max_length": 9, "steps": 3, "layers": 2},
    "DiffRec-Du": {"emb_size": 8, "max_length": 9, "steps": 3, "noise_schedule": "cosine"},
}  # fmt: skip


def build(name: str, dataset: Dataset, **settings):
    """A small model, its random numbers being those that stand."""
    chosen = {**SMALL.get(name, {}), **settings}
    model = MODELS[name](dataset.n_users, dataset.n_items, chosen)
    model.prepare_data(dataset)
    return model


@pytest.mark.parametrize("name", ["ACVAE", "DiffuRec", "DiffRec-Du", "SASRec", "GRU4Rec"])
def test_items_that_are_not_read_change_nothing(name, tiny):
    """Noise neither: a service may send the latest items alone."""
    model = build(name, tiny, max_length=9).eval()
    histories = [np.random.default_rng(u).permutation(tiny.n_items).tolist()[:30] for u in range(4)]
    whole = model.recommend(histories, k=9, exclude_seen=False)
    latest = model.recommend([history[-9:] for history in histories], k=9, exclude_seen=False)
    assert torch.equal(whole[0], latest[0])
    torch.testing.assert_close(whole[1], latest[1])


def trained(name: str, dataset: Dataset, folder, batch_size: int = 40, **settings):
    """A small model after three epochs of the shared loop, and its checkpoint."""
    model = MODELS[name].for_dataset(dataset, **{**SMALL.get(name, {}), **settings})
    return model, train(
        model, dataset, save_path=folder, epochs=3, batch_size=batch_size
    ).checkpoint


@pytest.fixture(scope="module")
def trained_once(tiny, tmp_path_factory):
    """`trained` on tiny, each model once for all tests, which must not change it."""
    return functools.cache(lambda name: trained(name, tiny, tmp_path_factory.mktemp(name)))


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


def fitted(name: str, dataset: Dataset, **settings) -> np.ndarray:
    """The scores, (U, I), of a model that is computed at once, with exactly these settings."""
    model = MODELS[name](dataset.n_users, dataset.n_items, settings)
    model.fit(dataset.train)
    return scores_of(model, dataset.train).double().numpy()


def other_values(kind: type[Settings], name: str, value) -> list:
    """Further values that a setting may have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return [word for word in get_args(kind.model_fields[name].annotation) if word != value]
    if isinstance(value, int):
        return [value + 1, max(value - 1, 1)]
    return [value / 2 or 0.3, min(1.5 * value, 0.9)] if isinstance(value, float) else []


# These are read where others, which are off by default, are on.
READ_ELSEWHERE = {"beta_fixed", "cutoff"}


@pytest.mark.parametrize("name", REGISTRY)
def test_what_only_a_training_reads_is_told(tiny, name):
    """Scores change with a setting, or it does not fit the weights, unless it is said to be of the
    training."""
    kind = REGISTRY[name].model
    small = {"in_dims": [8], "mlp_dims": [8], "n_cate": 1, **SMALL.get(name, {"dims": [8]})}
    small = {"steps": 4, "heads": 1, "layers": 1, **small, "max_length": 9}
    small = {key: value for key, value in small.items() if key in kind.Settings.names()}
    model = kind.for_dataset(tiny, seed=1, **small)
    model.prepare_data(tiny)
    if model.closed_form:
        model.fit(tiny.train)
    model.eval()
    before, told, of_training = scores_of(model, tiny.train), model.settings.dump(), set()
    for setting_name in kind.Settings.names() - RecencySettings.names() - READ_ELSEWHERE:
        changed = []
        for value in other_values(kind.Settings, setting_name, told[setting_name]):
            try:
                other = kind.for_dataset(tiny, seed=1, **{**told, setting_name: value})
                if model.closed_form:
                    for buffer in model.fitted:
                        setattr(other, buffer, getattr(model, buffer))
                else:
                    other.load_state_dict(model.state_dict())
                other.prepare_data(tiny)
                changed.append(not torch.equal(scores_of(other.eval(), tiny.train), before))
            except (InputError, RuntimeError, ValueError):
                changed.append(True)
        if changed and not any(changed):
            of_training.add(setting_name)
    assert of_training <= kind.read_in_training()
    others = kind.read_in_training() - of_training - READ_ELSEWHERE
    assert others <= {"stretch", "factors", "n_cate"}  # which do not go with these values


# The mathematics


def test_ease_solves_a_ridge_regression_for_each_item(matrix, small):
    expected = np.zeros((6, 6))
    for j in range(6):
        others = [i for i in range(6) if i != j]
        x = matrix[:, others]
        expected[others, j] = np.linalg.solve(x.T @ x + 3 * np.eye(5), x.T @ matrix[:, j])
    np.testing.assert_allclose(fitted("EASE", small, reg=3), matrix @ expected, atol=1e-5)


def test_item_knn_by_hand(matrix, small):
    norm = np.linalg.norm(matrix, axis=0)
    s = matrix.T @ matrix / (np.outer(norm, norm) + 2)
    np.fill_diagonal(s, 0)
    for j in range(6):
        s[np.argsort(s[:, j])[:-3], j] = 0
    found = fitted("ItemKNN", small, neighbors=3, shrink=2)
    np.testing.assert_allclose(found, matrix @ s, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.7, 0.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_rp3beta_by_hand(matrix, small, normalize, weighted, alpha):
    """Weighted interactions are walked along in proportion, and popularity counts users."""
    x = matrix * (np.random.default_rng(0).uniform(0.1, 1, matrix.shape) if weighted else 1)
    from_item = x.T / x.sum(axis=0)[:, None]
    from_user = x / x.sum(axis=1)[:, None]
    to_users, to_items = (np.where(p > 0, p**alpha, 0) for p in (from_item, from_user))
    w = to_users @ to_items / matrix.sum(axis=0) ** 0.4
    np.fill_diagonal(w, 0)
    for i in range(6):
        w[i, np.argsort(w[i])[:-3]] = 0
    if normalize:
        w /= w.sum(axis=1, keepdims=True)
    assert (np.count_nonzero(w, axis=0) > 3).any()
    for j in range(6):
        w[np.argsort(w[:, j])[:-3], j] = 0
    given = {"alpha": alpha, "beta": 0.4, "neighbors": 3, "normalize": normalize}
    found = build("RP3beta", small, **given).similarities(scipy.sparse.csr_matrix(x)).toarray()
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(w, axis=0), atol=1e-6)
    if not alpha:
        return  # walks are counts: which of equal ones a column keeps is not told
    np.testing.assert_allclose(found, w, atol=1e-6)
    if not weighted:
        np.testing.assert_allclose(fitted("RP3beta", small, **given), matrix @ w, atol=1e-6)


def test_slim_meets_its_optimality_conditions(matrix, small):
    """With g = ∂/∂w of the smooth part: g + αρ = 0 where w > 0, and ≥ 0 where w = 0."""
    alpha, rho = 0.05, 0.3
    model = build("SLIM", small, alpha=alpha, l1_ratio=rho, max_iter=5000)
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
    np.testing.assert_allclose(fitted("GF-CF", small, rank=3), expected, atol=1e-5)


def test_ials_of_vectors_that_leave_no_solution_is_one_sentence(small):
    model = build("iALS", small, factors=3)
    model.items = torch.ones(small.n_items, 3)
    model.items[0] = 9e17
    with pytest.raises(InputError, match="iALS cannot be solved for these vectors"):
        model.recommend([[1, 2]], k=2)


def test_ials_folds_users_in_by_weighted_least_squares(matrix, small):
    model = build("iALS", small, factors=3, alpha=4, reg=0.2)
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
    model = build("LightGCN", small, layers=layers, dropout=0)
    together = torch.cat([model.users, model.items]).detach().requires_grad_()
    expected = dense_propagation(matrix, together, layers)
    p, q = model.propagate()
    torch.testing.assert_close(torch.cat([p, q]), expected)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (torch.cat([p, q]) * weights).sum().backward()
    torch.testing.assert_close(torch.cat([model.users.grad, model.items.grad]), together.grad)


def test_mixers_that_begin_positive_are_the_drawn_ones_without_signs(tiny):
    models = {}
    for mixers in ("random", "positive"):
        torch.manual_seed(3)
        models[mixers] = dict(build("GiffCF", tiny, mixers=mixers).named_parameters())
    changed = 0
    for name, weights in models["random"].items():
        of_mixer = name.startswith("mixer_")
        expected = weights.abs() if of_mixer else weights
        torch.testing.assert_close(models["positive"][name], expected, rtol=0, atol=0)
        changed += not torch.equal(expected, weights)
    assert changed >= 2


def test_lightgcn_dropout_has_the_gradient_of_what_it_computes(small):
    """By finite differences in double precision would need another product: linearity serves."""
    model = build("LightGCN", small, layers=2, dropout=0.5).train()

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
    graph = graph_of(normalised(scipy.sparse.csr_matrix(matrix)))
    row, column = np.argwhere(matrix).T
    expected = 1 / np.sqrt(matrix.sum(axis=1)[row] * matrix.sum(axis=0)[column])
    np.testing.assert_allclose(graph["user_weights"], expected, rtol=1e-6)
    assert graph["user_columns"].tolist() == column.tolist()


def test_multivae_scores_are_those_of_the_network_and_beta_rises(tiny):
    model = build("MultiVAE", tiny, anneal_cap=0.3, anneal_steps=4).eval()
    rows = tiny.train.slice(0, 8)
    torch.testing.assert_close(scores_of(model, rows), model.vae(rows.dense())[0])
    assert isinstance(model.vae, VAE)
    betas = []
    for _ in range(3):
        betas.append(float(model.beta()))
        model.train().training_loss(rows)
    assert betas == pytest.approx([0, 0.25, 0.3])
    assert float(build("MultiVAE", tiny, anneal_steps=0).beta()) == pytest.approx(0.2)


def test_multidae_plus_plus_takes_diffrecs_schedule(tiny):
    presets = variant_of("MultiDAE++").known_presets()
    assert MODELS["MultiDAE++"].fixed_presets()["yelp_clean"] == presets["yelp_clean"]
    assert MODELS["MultiDAE"].fixed_presets() == {}
    assert presets["yelp_clean"]["noise_scale"] == 0.01
    assert "lr" not in presets["yelp_clean"]
    noiseless = build("MultiDAE++", tiny, noise_scale=0, dropout=0)
    plain = build("MultiDAE", tiny, dropout=0)
    plain.load_state_dict(noiseless.state_dict())
    rows = tiny.train.slice(0, 9)
    torch.testing.assert_close(noiseless.training_loss(rows), plain.training_loss(rows))
    noisy = build("MultiDAE++", tiny, noise_scale=1, noise_max=0.5, steps=3)
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
    noisy, quiet = build("CODIGEM", tiny).eval(), build("CODIGEM", tiny, test_noise=False).eval()
    quiet.load_state_dict(noisy.state_dict())
    noised, quiet = (scores_of(model, tiny.train.slice(0, 5)) for model in (noisy, quiet))
    assert not torch.equal(quiet, noised)
    assert (quiet - noised).abs().max() < 0.05


# ACVAE


def test_acvae_sees_no_later_item():
    model = ACVAE(5, 20, SMALL["ACVAE"]).eval()
    x = model.embedding(torch.randint(1, 21, (3, 9)))
    changed = x.clone()
    changed[:, 6:] = 0
    noise = torch.randn(2, 3, 9, GRU_SIZE)
    before, after = model.encoder(x, noise), model.encoder(changed, noise)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_acvae_ranks_by_the_latent_vector_at_the_last_item():
    model = ACVAE(3, 20, SMALL["ACVAE"]).eval()
    batch = Interactions.from_histories([[3, 1, 4], [2], [7, 5, 8, 0, 6]], 20)
    sequences, lengths = batch.padded(9)
    with torch.inference_mode():
        z = model.encoder(model.embedding(sequences), model.noise(batch, 5))
        last = torch.stack([z[n, length - 1] for n, length in enumerate(lengths)])
        expected = model.output(model.decoder(last))
        torch.testing.assert_close(model.scorer()(batch), expected)


def test_acvae_contrasts_nobody_with_himself():
    losses = []
    for beta in (0.0, 0.9):
        torch.manual_seed(0)
        model = ACVAE(1, 20, SMALL["ACVAE"], beta=beta).eval()
        losses.append(model.training_loss(Interactions.from_histories([[3, 1, 4]], 20)).item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("kind", "training", "expected"),
    [
        (ACVAE, {"lr": 0.1, "lr_contrast": 0.2, "lr_ratio": 0.3, "weight_decay": 0.4,
                 "wd_critics": 0.5},
         [("embedding encoder.gru encoder decoder output", 0.1, 0.4),
          ("encoder contrast", 0.2, 0.5), ("ratio", 0.3, 0.5)]),
        (GiffCF, {"lr": 0.1, "lr_mixers": 0.2},
         [("embedding", 0.1, 0.0), ("step_1 step_2 mixer_1 mixer_2", 0.2, 0.0)]),
    ],
)  # fmt: skip
def test_each_optimiser_steps_its_parts_at_its_own_rate(kind, training, expected):
    model = kind(5, 9, {"emb_size": 6})
    apart = ("encoder.gru",)  # of what its part's other parameters are not stepped with
    names = {
        parameter: next((part for part in apart if name.startswith(part)), name.split(".")[0])
        for name, parameter in model.named_parameters()
    }
    found = []
    for optimizer in model.optimizers(kind.Training.of(training)):
        (group,) = optimizer.param_groups
        parts = " ".join(dict.fromkeys(names[parameter] for parameter in group["params"]))
        found.append((parts, group["lr"], group["weight_decay"]))
    assert found == expected


@pytest.mark.parametrize("shape", [(3, 6), (2, 3), (6, 3)])
def test_gfcf_of_one_vector(shape):
    users, items = shape
    rows = Interactions.from_histories([[u % items, (u + 1) % items] for u in range(users)], items)
    model = GFCF(users, items, rank=1)
    model.fit(rows)
    assert model.vectors.shape == (items, 1)


def test_what_is_not_fitted_has_no_numbers():
    assert GFCF(3, 5).size() == 0


def test_other_weights_are_not_ranked_by_what_was_made_of_the_first(tiny):
    """GiffCF keeps A, and makes it anew where another graph is loaded."""
    train = tiny.train.pairs()
    half = Interactions.from_pairs(train[::2], tiny.n_users, tiny.n_items)
    models = []
    for data in (tiny, dataclasses.replace(tiny, train=half)):
        torch.manual_seed(0)
        models.append(GiffCF.for_dataset(data, emb_size=6).eval())
        models[-1].prepare_data(data)
    with torch.inference_mode():
        first, second = (model.scorer()(tiny.train) for model in models)
        assert not torch.allclose(first, second, atol=1e-3)
        models[0].load_state_dict(models[1].state_dict())
        torch.testing.assert_close(models[0].scorer()(tiny.train), second)


def test_acvae_pads_the_latest_items():
    model = ACVAE(2, 9, max_length=3)
    rows = Interactions.from_histories([[8, 0, 3, 5], [2], []], 9)
    read = []
    model.embedding.register_forward_hook(lambda _, given, found: read.append(given[0].tolist()))
    noise = model.noise(rows, 3)
    scores_of(model.eval(), rows)
    assert read == [[[0, 0, 0], [3, 0, 0], [1, 4, 6]]]  # by length
    assert [int((noise[0, row].abs().sum(dim=1) > 0).sum()) for row in range(3)] == [3, 1, 0]


def test_acvae_sizes_are_those_of_table_7():
    for n_items, millions in ((94_949, 13), (34_395, 5)):
        with torch.device("meta"):
            model = ACVAE(1, n_items, emb_size=64)
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


def test_mf_drops_out_what_was_drawn_and_not_whole_tables(tiny):
    model = build("MF", tiny, dropout=0.5).train()
    shapes = []
    model.dropout.register_forward_hook(lambda _, given, found: shapes.append(found.shape))
    triples = sample_triples(tiny.train, "users")[:10]
    model.training_loss(triples)
    assert shapes == [(10, 6)] * 3
    model = MF(1, 1, emb_size=2000, dropout=0.25).train()
    u = torch.zeros(50, dtype=torch.int64)
    (p, _, _), _ = model.vectors_of(u, u, u)
    assert float((p == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(p[0], p[1])  # each occurrence of a user has a mask of its own
    kept = p != 0
    torch.testing.assert_close(p[kept], (model.users[u] / 0.75)[kept])
    torch.testing.assert_close(model.eval().vectors_of(u, u, u)[0][0], model.users[u])


def test_nearest_keeps_the_largest_in_blocks():
    s = np.random.default_rng(0).random((11, 11))
    found = nearest(11, lambda start, stop: s[start:stop], k=4, block_size=3).toarray()
    expected = np.where(s >= np.sort(s, axis=1)[:, -4:-3], s, 0)
    np.testing.assert_array_equal(found, expected)


# What every model must do


@pytest.mark.parametrize("name", MODELS)
def test_contract(name, tiny, trained_once, tmp_path):
    model, checkpoint = trained_once(name)
    rows = tiny.train.slice(10, 40)
    scores = scores_of(model, rows)
    assert scores.shape == (30, tiny.n_items)
    assert scores.isfinite().all()

    again, _ = trained(name, tiny, tmp_path)  # equal seeds, equal scores
    torch.testing.assert_close(scores_of(again, rows), scores, rtol=0, atol=0)

    loaded = MODELS[name].load(checkpoint)
    torch.testing.assert_close(scores_of(loaded, rows), scores)
    assert loaded.settings == model.settings

    items, values = model.recommend(tiny.train, k=10)
    some = values.isfinite()
    assert not (tiny.train.dense().gather(1, items).bool() & some).any()


@pytest.mark.parametrize("name", MODELS)
def test_users_of_one_interaction_and_of_nearly_all(name, tmp_path):
    n = 12
    histories = [[3], [0, 1, 2], list(range(n)), list(range(n - 1)), [5]] * 4
    rows = Interactions.from_pairs(
        np.array([(u, i) for u, history in enumerate(histories) for i in history]), 20, n
    )
    empty = Interactions.from_pairs(np.array([(1, 7)]), 20, n)
    dataset = Dataset("odd", tmp_path, rows, empty, empty)
    more = {"neighbors": 3} if name in ("ItemKNN", "RP3beta") else {}
    model, _ = trained(name, dataset, tmp_path, batch_size=3, **more)
    scores = scores_of(model, rows)
    assert scores.shape == (20, n)
    assert scores.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_factors_give_the_scores(name, tiny, trained_once):
    model, _ = trained_once(name)
    rows = tiny.train.slice(0, 20)
    if type(model).factors is Recommender.factors:
        assert name not in ("MF", "LightGCN", "MultiVAE", "SASRec")
        with pytest.raises(InputError, match="no user and item vectors"):
            model.factors()
        return
    with torch.inference_mode():
        encode, items, biases = model.factors()
        found = encode(rows) @ items.T + biases
    torch.testing.assert_close(found, scores_of(model, rows), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_a_row_do_not_depend_on_its_batch(name, tiny, trained_once):
    """Nor on how often scores were asked for, nor on how far shorter rows are padded."""
    model, _ = trained_once(name)
    rows = tiny.train.slice(0, 12)
    together = scores_of(model, rows)
    alone = torch.cat([scores_of(model, rows.slice(u, u + 1)) for u in range(12)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    order = torch.tensor([11, 4, 7])
    torch.testing.assert_close(
        scores_of(model, rows.rows(order)), together[order], rtol=1e-4, atol=1e-5
    )
    if not model.reads_rows:
        return
    score = model.scorer()
    with torch.inference_mode():
        torch.testing.assert_close(score(rows), score(rows), rtol=0, atol=0)
    if name == "CDAE":  # which adds a vector of the user
        return
    histories = [rows.items[rows.offsets[u] : rows.offsets[u + 1]].tolist() for u in (3, 8)]
    _, values = model.recommend(histories, k=5, exclude_seen=False)
    expected = together[[3, 8]].topk(5).values
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_noise_belongs_to_a_row():
    rows = Interactions.from_histories([[3, 1, 4], [1, 3, 4], [3, 1, 4], []], 5)
    drawn = [torch.randn(2000, generator=generator) for generator in generators(rows)]
    assert torch.equal(drawn[0], drawn[2])
    for other in (drawn[1], drawn[3]):  # the order counts, and no items are a seed too
        assert abs(float(np.corrcoef(drawn[0], other)[0, 1])) < 0.1
    assert float(torch.stack(drawn).std()) == pytest.approx(1, abs=0.05)


def test_no_more_than_400_rows_are_scored_at_a_time(settings):
    """However large the batches of pairs were that it was trained on."""
    rows = Interactions.from_histories([[u % 7, 7] for u in range(1000)], 9)
    rows = dataclasses.replace(rows, users=torch.arange(1000))
    dataset = Dataset("many", REPOSITORY, rows, rows, rows)
    model, sizes = build("LightGCN", dataset).eval(), []
    scorer = model.scorer()

    def score(batch: Interactions) -> torch.Tensor:
        sizes.append(len(batch))
        return scorer(batch)

    model.scorer = lambda: score
    list(model.recommend_batches(rows, None, 3))
    evaluate_model(model, dataset, settings(variant="LightGCN"))
    assert sum(sizes) == 2000
    assert max(sizes) == ROWS == rows_at_once(94_949) == 400
    assert rows_at_once(1_000_000) == 67


def test_parts_of_the_items_are_scored_by_equally_many_rows(tiny, settings, monkeypatch):
    """Though one has an item more: processes that wait for each other must agree."""
    sizes = []
    monkeypatch.setattr(contract, "SCORES", 4 * tiny.n_items)
    monkeypatch.setattr(
        training, "evaluate", lambda model, data, batch_size, **_: sizes.append(batch_size) or {}
    )
    for first, stop in ((0, 3), (3, 7)):
        training.evaluate_model(None, tiny.columns(first, stop), settings())
    assert sizes == [4, 4]


def test_a_user_without_vector_is_said(trained_once):
    model, _ = trained_once("MF")
    with pytest.raises(InputError, match="a vector for each user of its training data"):
        model.recommend([[1, 2]])


def test_what_does_not_fit_is_refused_with_its_size(tiny, monkeypatch):
    monkeypatch.setattr("baselines.recommender.available_memory_mb", lambda: 1024.0)
    model = EASE(5, 100_000)
    with pytest.raises(InputError, match=r"100,000 × 100,000 matrix needs 186\.3 GB.* 1\.0 GB"):
        model.similarities(None)


def test_nothing_to_rank_is_said(tmp_path):
    rows = Interactions.from_histories([[0, 1], []], 2)
    model = LightGCN(2, 2)
    with pytest.raises(InputError, match="nothing to rank"):
        model.epoch_batches(rows, 5)


# Settings


def test_the_papers_ranges_are_settings_of_the_models(settings):
    for name, model in MODELS.items():
        assert set(model.ranges) <= variant_of(name).settings.names(), name
        for setting_, some in model.ranges.items():
            for value in [some.low, some.high] if isinstance(some, Between) else some:
                assert settings(f"--{setting_}", str(value), variant=name).dump()[setting_] == value
    assert MODELS["MultiVAE"].ranges["anneal_steps"] == [0, 200, 500]


def test_presets_set_what_exists_to_values_of_the_ranges(settings):
    for name, model in MODELS.items():
        defaults = variant_of(name).settings()
        for dataset, preset in variant_of(name).known_presets().items():
            found = settings("--preset", dataset, variant=name)
            for flag, value in preset.items():
                assert getattr(found, flag) == value
                if flag in model.ranges:
                    some, default = model.ranges[flag], getattr(defaults, flag)
                    ranged = isinstance(some, Between)
                    inside = some.low <= value <= some.high if ranged else value in some
                    assert inside or value == default, (name, dataset, flag)


def test_no_setting_is_both_the_models_and_its_trainings():
    for name, variant in REGISTRY.items():
        assert not variant.model.Settings.names() & variant.model.Training.names(), name


def test_weight_decay_of_pairwise_models_is_a_term_of_the_loss(tiny, settings):
    for name in ("MF", "LightGCN"):
        model = build(name, tiny, weight_decay=0.5)
        found = settings("--lr", ".01", variant=name).part(model.Training)
        (optimizer,) = model.optimizers(found)
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.01, 0)
        assert type(optimizer).__name__ == "Adam"
        assert model.settings.weight_decay == 0.5


RUNS = [
    (path.name, record)
    for path in sorted((REPOSITORY / "results" / "runs").glob("*.json"))
    if (record := json.loads(path.read_text()))["variant"] in MODELS
]


def test_recorded_runs_have_todays_settings(settings):
    in_tables = {name for name, model in MODELS.items() if model.group in ("paper", "simple")}
    assert {record["variant"] for _, record in RUNS} >= in_tables
    for path, record in RUNS:
        told = {"random_noise", *RecencySettings.names()}
        if record["dataset"] in sequential.DATASETS:  # which say how they are evaluated
            told |= set(EVALUATION)
        told &= set(record["settings"])
        flags = flags_of({name: record["settings"][name] for name in told})  # of the scripts
        names = "|".join(record["settings"])
        for name, value in re.findall(rf"_({names})=(.+?)(?=_(?:{names})=|_seed\d+\.json)", path):
            flags += [f"--{name}", value]
        found = settings("--preset", record["preset"], *flags, variant=record["variant"]).dump()
        recorded = variant_of(record["variant"]).settings.of(record["settings"]).dump()
        assert found == recorded, path  # with today's defaults for what is newer


def test_recorded_runs_have_todays_names():
    """But those of before names held each model's own settings: CDAE's and CODIGEM's began with lr,
    those of simple ones had none."""
    compared = set()
    for path, record in RUNS:
        variant = variant_of(record["variant"])
        words = record["checkpoint"].removeprefix(f"{record['dataset']}_{variant.name}_")
        own = variant.model.Settings.names() - RecencySettings.names()
        if words.startswith("lr") or (words.startswith("log") and own):
            continue
        values = variant.settings.of(record["settings"]).dump()
        about = record["dataset"], values, record["seed"], "log"
        names = (
            variant.name_of_run(*about), variant.name_of_run(*about, record["data"]["sha256"]),
            variant.long_name_of_run(*about, record["preset"]),
        )  # fmt: skip
        assert record["checkpoint"].removesuffix(".safetensors") in names, path
        compared.add(variant.name)
    assert compared >= {"MF", "LightGCN", "MultiDAE", "MultiDAE++", "MultiVAE", "ACVAE"}
    assert compared >= {"EASE", "SLIM", "Popularity"}


def test_a_new_baseline_is_its_module_and_an_entry(tiny, tmp_path, monkeypatch):
    class FavouriteSettings(Settings):
        title = "Favourite"
        item: Positive = setting(3, "the item that everybody gets")

    class Favourite(ClosedForm):
        variant = "Favourite"
        Settings = FavouriteSettings
        fitted = ("weights",)

        def fit(self, train):
            self.weights = torch.arange(self.n_items).eq(self.settings.item).float()

        def scorer(self):
            return lambda batch: self.weights.repeat(len(batch), 1)

    monkeypatch.setitem(MODELS, "Favourite", Favourite)
    monkeypatch.setitem(REGISTRY, "Favourite", None)  # so that it is gone afterwards
    register(baselines.variant_for(Favourite))
    run = train(Favourite.for_dataset(tiny, item=7), tiny, save_path=tmp_path)
    assert run.checkpoint.name.startswith("Favourite_tiny_seed1_")
    assert set(run.record["settings"]) - TrainingSettings.names() == {
        "item", "drop_unknown", "drop_repeated", "random_noise", *RecencySettings.names(),
    }  # fmt: skip
    items, _ = Favourite.load(run.checkpoint).recommend([[1]], k=1)
    assert items.tolist() == [[7]]
    assert REGISTRY["Favourite"].group == "simple"


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


@pytest.fixture(scope="module")
def recall(communities, tmp_path_factory):
    """Recall@10 on test of a model by the command line, each once."""
    folder = tmp_path_factory.mktemp("saved")
    base = ["--data_path", str(communities), "--preset", "none", "--save_path", str(folder)]
    gradient = ["--lr", "1e-2", "--epochs", "20", "--batch_size", "50"]
    small = ["--emb_size", "16", "--layers", "1", "--steps", "4", "--noise_schedule", "cosine"]
    more = {
        "DiffuRec": [*small, "--padding_mask", "keys"],
        "DiffRec-Du": [*small, "--rec_loss", "network", "--loss_reduction", "mean"],
    }

    @functools.cache
    def of(name: str) -> float:
        flags = [] if issubclass(MODELS[name], ClosedForm) else gradient
        return main(["--model", name, *base, *flags, *more.get(name, [])])["test"]["recall@10"]

    return of


@pytest.mark.parametrize("name", [name for name in MODELS if name != "Popularity"])
def test_each_model_beats_popularity(name, recall):
    assert recall(name) > 2 * recall("Popularity") > 0


def test_giffcfs_filter_is_made_by_parts_and_anew_on_another_device(tiny, monkeypatch):
    model = MODELS["GiffCF"].for_dataset(tiny)
    monkeypatch.setattr(sys.modules[type(model).__module__], "ROWS", 7)
    model.prepare_data(tiny)
    model.prepare_filter()
    whole = model.filtered(torch.eye(tiny.n_items))
    assert torch.equal(model.dense_filter, whole)
    moved = model.to(torch.float64)
    assert moved.dense_filter is None


def test_giffcfs_filter_of_one_user_is_scaled_too(tiny):
    one = Interactions.from_histories([[0, 1, 2, 3]], 4)
    data = dataclasses.replace(tiny, train=one, valid=one, test=one)
    model = GiffCF(1, 4, gamma=1.0)  # as published for Amazon-book
    model.prepare_data(data)
    largest = torch.linalg.eigvalsh(model.filtered(torch.eye(4)))[-1]
    assert float(largest) == pytest.approx(1, abs=1e-6)
    model = GiffCF(1, 4, ideal_weight=0.2)
    model.prepare_data(data)
    with pytest.raises(InputError, match="ideal_weight needs at least two users and two items"):
        model.scorer()


@pytest.mark.parametrize("name", ["LightGCN", "GiffCF"])
def test_training_begins_with_the_graph_of_its_data(tiny, tmp_path, name):
    """Not with that of an evaluation, or a training, of before."""
    model = MODELS[name].for_dataset(tiny)
    evaluate(model, tiny)
    of_train = len(model.user_columns)
    train(model, tiny, final=True, epochs=1, save_path=tmp_path)
    assert of_train == len(tiny.train.items)
    assert len(model.user_columns) == len(tiny.everything().train.items)


def test_a_run_resumes_where_it_was(run, tiny_folder, tmp_path):
    base = ["baselines/main.py", "--model", "MultiVAE", "--data_path", tiny_folder]
    base += ["--anneal_steps", "30", "--dims", "[8]", "--batch_size", "40"]
    results = []
    for folder, epochs in (("whole", ["10"]), ("parts", ["5", "10"])):
        for n in epochs:
            result = tmp_path / f"{folder}.json"
            where = ["--save_path", tmp_path / folder, "--result_json", result, "--resume",
                     "--keep_state"]  # fmt: skip
            done = run(*base, "--epochs", n, *where)
            assert done.returncode == 0, done.stderr
        results.append(json.loads(result.read_text()))
    assert "resumed after epoch 5" in done.stdout
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["valid"] == results[1]["valid"]


@pytest.mark.parametrize("name", ["LightGCN", "ItemKNN", "CODIGEM"])
def test_inference_repeats_training(run, tiny_folder, tmp_path, name):
    result = tmp_path / "a.json"
    base = ["--data_path", tiny_folder, "--result_json", result]
    done = run(
        "baselines/main.py", "--model", name, *base, "--epochs", "5", "--save_path", tmp_path
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(result.read_text())
    assert record["command"].startswith(f"python baselines/main.py --model {name} ")
    done = run("baselines/inference.py", "--checkpoint", tmp_path / record["checkpoint"], *base)
    assert done.returncode == 0, done.stderr
    again = json.loads(result.read_text())
    assert again["test"] == pytest.approx(record["test"])
    assert again["variant"] == name


@pytest.mark.parametrize("flags", [["--tst_w_val"], ["--history", "1,2"]])
def test_models_of_user_vectors_refuse_other_rows(run, tiny_folder, trained_once, flags):
    for name in ("MF", "LightGCN"):
        _, checkpoint = trained_once(name)
        done = run(
            "baselines/inference.py", "--checkpoint", checkpoint, "--data_path", tiny_folder, *flags
        )
        assert done.returncode == 2
        assert f"{name} knows its users by vectors of their own" in done.stderr


def test_weights_that_inference_would_ignore_are_refused(run, tiny_folder, trained_once):
    _, checkpoint = trained_once("EASE")
    told = ["--checkpoint", checkpoint, "--data_path", tiny_folder, "--w_min", "0.3"]
    done = run("baselines/inference.py", *told)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "w_min does nothing while w_at is none" in done.stderr
    assert run("baselines/inference.py", *told, "--w_at", "inference").returncode == 0


def test_settings_that_a_closed_form_was_fitted_by_are_as_they_were(run, tiny_folder, trained_once):
    def infer(name, *flags):
        _, checkpoint = trained_once(name)
        where = ["--checkpoint", checkpoint, "--data_path", tiny_folder]
        return run("baselines/inference.py", *where, *flags)

    done = infer("EASE", "--reg", "5")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "reg is of the training, where it was" in done.stderr
    assert infer("GF-CF", "--rank", "2").returncode == 2
    assert infer("GF-CF", "--gamma", "0.7").returncode == 0  # which its scores read
    done = infer("EASE", "--w_at", "both")
    assert "w_at is of the training, where it was none" in done.stderr
    assert infer("iALS", "--alpha", "3").returncode == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "nonsense"], "model must be one of MF, LightGCN"),
        (["--model", "EASE", "--w_min", "0.3"], "w_min does nothing while w_at is none"),
        ([], "name a model with --model"),
        (["--model", "EASE", "--lr", "1"], "unrecognized arguments"),
        (["--model", "MultiDAE", "--dims", "[]"], "dims must hold"),
        (["--model", "MF", "--emb_size", "0"], "emb_size must be greater than or equal to 1"),
        (["--model", "MF", "--dropout", "1"], "dropout must be less than 1"),
        (["--model", "MF", "--preset", "nowhere"], "there is no preset nowhere"),
    ],
)
def test_mistakes_are_one_sentence(run, tiny_folder, tmp_path, flags, words):
    done = run("baselines/main.py", *flags, "--data_path", tiny_folder, "--save_path", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


def test_help_lists_the_models_flags(run):
    for flags, there, elsewhere in (
        ([], "--anneal_cap", "--layers"),
        (["--model", "LightGCN"], "--layers", "--anneal_cap"),
        (["--model", "EASE"], "--reg", "--lr"),
    ):
        done = run("baselines/main.py", *flags, "--help")
        assert done.returncode == 0
        assert there in done.stdout
        assert f"{elsewhere} " not in done.stdout


def test_item_embeddings_are_where_they_are_asked_for(run, tiny_folder, tmp_path):
    base = ["baselines/main.py", "--model", "LightGCN", "--data_path", tiny_folder, "--epochs", "1"]
    base += ["--emb_size", "4", "--save_path", tmp_path / "saved"]
    found = {}
    for which in ("propagated", "layer-0"):
        file = tmp_path / "new" / f"{which}.npy"
        done = run(*base, "--export_item_emb", file, "--item_emb", which)
        assert done.returncode == 0, done.stderr
        found[which] = np.load(file)
    (checkpoint,) = (tmp_path / "saved").glob("*.safetensors")
    best = LightGCN.load(checkpoint)
    for which, array in found.items():
        np.testing.assert_array_equal(array, best.item_embeddings(which))
    assert not np.allclose(found["propagated"], found["layer-0"])
    shutil.rmtree(tmp_path / "saved")
    done = run(*base, "--export_item_emb", file)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert not (tmp_path / "saved").exists()  # it was said before the training


def test_item_embeddings_for_l_diffrec(run, tiny_folder, tmp_path):
    """scripts/make_item_embeddings.sh writes what L-DiffRec reads."""
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    flags = ["--epochs", "5", "--emb_size", "8", "--save_path", str(tmp_path / "saved")]
    environment = {
        **os.environ, "DIFFREC_DATASETS": str(tmp_path), "OMP_NUM_THREADS": "1",
        "VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "scripts/make_item_embeddings.sh", "tiny", *flags],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "tiny" / "item_emb.npy")
    assert found.shape == (load_dataset(data_path=tiny_folder).n_items, 8)
    words = ["--model", "LightGCN", "--data_path", tmp_path / "tiny", "--export_item_emb", *flags]
    done = run("baselines/main.py", *words)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    done = run(
        "L-DiffRec/main.py", "--data_path", tmp_path / "tiny", "--n_cate", "2", "--epochs", "1",
        "--in_dims", "[8]", "--save_path", tmp_path / "saved",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
