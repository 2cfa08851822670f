"""What each model is trained on: its loss against one computed by hand, in float64 NumPy.

All rates, weights and scales are large here, and none is a default, so that each term of an
equation counts. The random numbers are those that the model drew.
"""

import contextlib
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.special import erf

from baselines.models import MODELS
from baselines.sequences import Prefixes
from DiffRec import Dataset, DiffRec, Interactions
from L_DiffRec import LDiffRec

HISTORIES = [
    [3, 1, 4, 2], [5, 0], [7, 6, 1], [8, 0, 1, 2, 3], [2],
    [4, 6, 0], [0, 5, 8], [1, 7], [6, 3, 5, 4], [2, 8, 6],
]  # fmt: skip
USERS, ITEMS, T = len(HISTORIES), 9, 4
PAIRS = np.array([(u, i) for u, items in enumerate(HISTORIES) for i in items])
ROWS = Interactions.from_pairs(PAIRS, USERS, ITEMS)
X = ROWS.dense().double().numpy()
DROPOUT = 0.3


def build(name, **settings):
    model = MODELS[name](USERS, ITEMS, settings)
    model.prepare_data(Dataset("rows", None, ROWS, ROWS, ROWS))
    return model


DRAWS = {"steps": "randint multinomial", "normal": "randn randn_like", "uniform": "rand_like"}


def train(model, batch):
    """A model's loss on a batch, its weights, and the numbers that it drew, in order: lists of
    steps, of normal and of uniform arrays."""
    drawn = {kind: [] for kind in DRAWS}

    def recording(draw, found):
        def call(*args, **kwargs):
            numbers = draw(*args, **kwargs)
            exact = numbers.double() if numbers.is_floating_point() else numbers
            found.append(exact.numpy().copy())
            return numbers

        return call

    with contextlib.ExitStack() as stack:
        for kind, names in DRAWS.items():
            for name in names.split():
                call = recording(getattr(torch, name), drawn[kind])
                stack.enter_context(mock.patch.object(torch, name, call))
        loss = model.train().training_loss(batch).item()
    return loss, Weights(model), *drawn.values()


def close_to(expected):
    return pytest.approx(expected, rel=2e-5)


# Functions and layers


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def silu(x):
    return x * sigmoid(x)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def gelu(x):
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def nll(logits, x):
    """-Σ_i x_i log softmax_i(logits) of each row."""
    return -(x * log_softmax(logits)).sum(axis=1)


def kl(mu, log_var):
    return (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=1) / 2


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def kept(uniform, rate=DROPOUT):
    """The factors of dropout: 0 with probability ``rate``, else 1 / (1 - rate)."""
    return (uniform >= rate) / (1 - rate)


def step_embedding(t, size):
    angles = t[:, None] * 10_000.0 ** (-np.arange(size // 2) / (size // 2))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


class Weights(dict):
    """A model's parameters by name, and its layers; h: (…, n)."""

    def __init__(self, model):
        super().__init__((n, p.detach().double().numpy()) for n, p in model.named_parameters())

    def linear(self, name, h):
        return h @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def mlp(self, names, h, activation):
        """Linear layers with activations between them."""
        *names, last = names.split()
        for name in names:
            h = activation(self.linear(name, h))
        return self.linear(last, h)

    def norm(self, name, h, eps=1e-12):
        h = h - h.mean(axis=-1, keepdims=True)
        h = h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + eps)
        return h * self[f"{name}.weight"] + self[f"{name}.bias"]

    def gru(self, name, x):
        """States, (B, L, d), of x, (B, L, n)."""
        of_x = x @ self[f"{name}.weight_ih_l0"].T + self[f"{name}.bias_ih_l0"]
        W, b = self[f"{name}.weight_hh_l0"], self[f"{name}.bias_hh_l0"]
        h, states = np.zeros((len(x), W.shape[1])), []
        for of_x_m in of_x.swapaxes(0, 1):
            (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(of_x_m, 3, 1), np.split(h @ W.T + b, 3, 1)
            z = sigmoid(z_x + z_h)
            h = (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h
            states.append(h)
        return np.stack(states, axis=1)

    def transformer(self, h, heads, layers, activation, causal=False):
        """Blocks with LayerNorm first (Vaswani et al. 2017) on one sequence, (L, d)."""
        for name in (f"encoder.blocks.{layer}" for layer in range(layers)):
            qkv = self.linear(f"{name}.attention.qkv", self.norm(f"{name}.norms.0", h))
            q, k, v = qkv.reshape(len(h), 3, heads, h.shape[1] // heads).transpose(1, 2, 0, 3)
            logits = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
            logits -= np.triu(np.full((len(h), len(h)), 1e9), 1) * causal
            found = (np.exp(log_softmax(logits)) @ v).transpose(1, 0, 2).reshape(h.shape)
            h = h + self.linear(f"{name}.attention.output", found)
            inner = self.norm(f"{name}.norms.1", h)
            h = h + self.mlp(f"{name}.first {name}.second", inner, activation)
        return h


# Diffusion


NOISE = {"steps": T, "noise_scale": 0.8, "noise_min": 0.1, "noise_max": 0.9, "beta_fixed": False}
ALPHA_BAR = 1 - np.linspace(0.08, 0.72, T)  # Eq. 4
PAST = np.array([[3.0, 4.0], [1.0, 1.0], [0.0, 2.0], [2.0, 1.0]])  # losses of the T steps


def noised(x, t, epsilon, alpha_bar=ALPHA_BAR):
    """x_t of Eq. 3; each row has a step of its own."""
    alpha_bar = alpha_bar[t].reshape(-1, *[1] * (x.ndim - 1))
    return np.sqrt(alpha_bar) * x + np.sqrt(1 - alpha_bar) * epsilon


def elbo_weights():
    """1 for t = 1 (Eq. 12), else SNR(t-1) - SNR(t), twice the weight of Eq. 11."""
    return np.concatenate([[1.0], -np.diff(ALPHA_BAR / (1 - ALPHA_BAR))])


def remember(model):
    """Fill the sampler's history with ``PAST``, again and again until it is full."""
    for step, losses in enumerate(np.tile(PAST, model.sampler.history.shape[1] // 2)):
        model.sampler.update(torch.full((len(losses),), step), torch.from_numpy(losses))


def p_times_T(t, uniform_prob):
    """T p_t of Eq. 14 with the history ``PAST``."""
    root = np.sqrt((PAST**2).mean(axis=1))
    return T * ((1 - uniform_prob) * root / root.sum() + uniform_prob / T)[t]


def assert_remembered(model, t, losses):
    """Each loss is the last of its step's history."""
    length = model.sampler.history.shape[1]
    expected = np.tile(PAST, length // 2).tolist()
    for step, loss in zip(t, losses, strict=True):
        expected[step].append(loss)
    expected = [row[-length:] for row in expected]
    np.testing.assert_allclose(model.sampler.history, expected, rtol=1e-4)


# DiffRec and L-DiffRec

OF_BOTH = {
    **NOISE, "emb_size": 6, "mlp_act_func": "sigmoid", "dropout": DROPOUT,
    "history_num_per_term": 2, "uniform_prob": 0.1,
}  # fmt: skip


def of_network(w, x_t, t, mask):
    """The network's output for x_t and steps t counted from 0 (Section 3.2)."""
    embedding = w.linear("dnn.emb_layer", step_embedding(t, 6))
    names = "dnn.in_layers.0 dnn.in_layers.1 dnn.out_layers.0 dnn.out_layers.1"
    return w.mlp(names, np.concatenate([x_t * mask, embedding], axis=1), sigmoid)


@pytest.mark.parametrize("kind", ["x0", "paper", "eps"])
def test_diffrec(kind):
    """Algorithm 1: the mean over users of L_t / (T p_t), Eq. 11, 12 and 14."""
    settings = {
        "x0": {},
        "paper": {"loss_weight": "paper", "loss_reduction": "sum", "norm": True},
        "eps": {"mean_type": "eps", "reweight": False},
    }
    model = DiffRec(ITEMS, {**OF_BOTH, **settings[kind]}, dims=[5, 7])
    remember(model)
    loss, w, (t,), (epsilon,), (u,) = train(model, ROWS)

    x_t = noised(X, t, epsilon)
    output = of_network(w, unit(x_t) if kind == "paper" else x_t, t, kept(u))
    losses = {
        "x0": elbo_weights()[t] * ((X - output) ** 2).mean(axis=1),
        "paper": np.where(t, elbo_weights()[t] / 2, 1) * ((X - output) ** 2).sum(axis=1),
        "eps": ((epsilon - output) ** 2).mean(axis=1),
    }[kind]
    assert loss == close_to((losses / p_times_T(t, 0.1)).mean())
    assert_remembered(model, t, losses)


CLUSTERS = torch.tensor([1, 0, 1, 0, 0, 1, 0, 0, 1])
ORDER = [1, 3, 4, 6, 7, 0, 2, 5, 8]  # the items of the first cluster, then of the second


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reweight": False},
        {"reweight": False, "lamda_place": "diffusion", "mean_type": "eps"},
        {"decode_in_training": "encoded", "reconstruction_target": "clean"},
        {"cluster_decoders": True, "activate_latent": False},
    ],
)
def test_l_diffrec(settings):
    """Section 3.5: L_v(x_0, φ, ψ) of Eq. 15 + λ L(z_0, θ), the latter by Eq. 14."""
    model = LDiffRec(
        ITEMS, {**OF_BOTH, **settings}, CLUSTERS, in_dims=[4, 6], mlp_dims=[5, 7],
        vae_dropout=DROPOUT, lamda=0.7, anneal_steps=10, vae_anneal_steps=4, vae_anneal_cap=0.9,
    )  # fmt: skip
    remember(model)
    model.epoch = 3
    model.batches += 2
    lamda, gamma = 0.7 * (1 - 2 / 10), 2 / 4
    loss, w, (t,), (of_z, epsilon), (of_x, of_z_t) = train(model, ROWS)
    plain, eps = "reweight" in settings, "mean_type" in settings

    dropped, means, log_vars = X[:, ORDER] * kept(of_x), [], []
    for c, part in enumerate(np.split(dropped, [5], axis=1)):
        h = w.mlp(f"vae.encoder.{c}.0 vae.encoder.{c}.2", part, np.tanh)
        h = h if "activate_latent" in settings else np.tanh(h)
        for found, half in zip((means, log_vars), np.split(h, 2, axis=1), strict=True):
            found.append(half)
    mu, log_var = np.concatenate(means, axis=1), np.concatenate(log_vars, axis=1)
    z_0 = mu + np.exp(log_var / 2) * of_z

    z_t = noised(z_0, t, epsilon)
    output = of_network(w, z_t, t, kept(of_z_t))
    weights = np.ones(T) if plain else elbo_weights()
    losses = weights[t] * (((epsilon if eps else z_0) - output) ** 2).mean(axis=1)
    diffusion = (losses / p_times_T(t, 0.1)).mean()

    alpha_bar = ALPHA_BAR[t][:, None]
    z_hat = (z_t - np.sqrt(1 - alpha_bar) * output) / np.sqrt(alpha_bar) if eps else output
    z = z_0 if "decode_in_training" in settings else z_hat
    if "cluster_decoders" in settings:
        parts = np.split(z, [means[0].shape[1]], axis=1)
        parts = [w.linear(f"vae.decoder.{c}.0", part) for c, part in enumerate(parts)]
        logits = np.concatenate(parts, axis=1)
    else:
        logits = w.linear("vae.decoder.0", z)
    target = X[:, ORDER] if "reconstruction_target" in settings else dropped
    vae = (nll(logits, target) + gamma * kl(mu, log_var)).mean()
    at_vae = plain and "lamda_place" not in settings
    assert loss == close_to(lamda * vae + diffusion if at_vae else vae + lamda * diffusion)
    assert_remembered(model, t, losses)


# Autoencoders


@pytest.mark.parametrize("name", ["MultiDAE", "MultiDAE++"])
def test_multidae(name):
    """L = mean over users of -Σ_i x_i log softmax_i(MLP(dropout(x / ‖x‖))); ++: of x_t (Eq. 3)."""
    noise = NOISE if name == "MultiDAE++" else {}
    loss, w, t, epsilon, (u,) = train(build(name, dims=[4, 6], dropout=DROPOUT, **noise), ROWS)
    x = noised(X, t[0], epsilon[0]) if noise else X
    logits = w.mlp("layers.0 layers.2 layers.4 output", unit(x) * kept(u), np.tanh)
    assert loss == close_to(nll(logits, X).mean())


def test_multivae():
    """L = mean over users of -log p(x | z) + β D_KL, with β = n / steps after n batches."""
    model = build("MultiVAE", dims=[4, 6], dropout=DROPOUT, anneal_cap=0.9, anneal_steps=4)
    model.n_batches += 2
    loss, w, _, (epsilon,), (u,) = train(model, ROWS)
    encoded = w.mlp("vae.encoder.0 vae.encoder.2", unit(X) * kept(u), np.tanh)
    mu, log_var = np.split(encoded, 2, axis=1)
    z = mu + np.exp(log_var / 2) * epsilon
    logits = w.mlp("vae.decoder.0 vae.decoder.2", z, np.tanh)
    assert loss == close_to((nll(logits, X) + 2 / 4 * kl(mu, log_var)).mean())


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_cdae(kind):
    """Eq. 2 and 3 of Wu et al.: σ(W' h(W x̃ + V_u + b) + b') against x, summed over items."""
    model = build("CDAE", hidden_size=5, act_func="tanh", dropout=DROPOUT, loss=kind)
    loss, w, _, _, (u,) = train(model, ROWS)
    z = np.tanh(w.linear("input", X * kept(u)) + w["user_vectors.weight"])
    p = sigmoid(w.linear("output", z))
    terms = (p - X) ** 2 if kind == "mse" else -(X * np.log(p) + (1 - X) * np.log(1 - p))
    assert loss == close_to(terms.sum() / USERS)


def test_codigem():
    """L = mean over users of ½ ‖x - tanh(AE(z_0))‖² with z_0 = √(1 - β) x + √β ε."""
    loss, w, _, (epsilon,), _ = train(build("CODIGEM", beta=0.3, hidden_size=5), ROWS)
    h = np.sqrt(0.7) * X + np.sqrt(0.3) * epsilon
    for layer in range(0, 10, 2):
        h = w.linear(f"layers.{layer}", h)
        h = np.where(h > 0, h, w[f"layers.{layer + 1}.weight"] * h)  # PReLU
    x_hat = np.tanh(w.linear("output", h))
    assert loss == close_to(((X - x_hat) ** 2).sum() / 2 / USERS)


# Pairs of items


TRIPLES = torch.tensor([[0, 3, 5], [0, 4, 0], [3, 1, 7], [8, 6, 2], [9, 2, 1], [3, 0, 6]])
PAIRWISE = {"emb_size": 5, "init_std": 0.7, "weight_decay": 0.4, "dropout": DROPOUT}


def bpr(vectors, embeddings):
    """The mean of -ln σ(p_u · q_i - p_u · q_j) + λ/2 (‖e_u‖² + ‖e_i‖² + ‖e_j‖²); λ = 0.4."""
    p_u, q_i, q_j = vectors
    ranking = softplus(-(p_u * (q_i - q_j)).sum(axis=1))
    return (ranking + 0.4 / 2 * sum((e**2).sum(axis=1) for e in embeddings)).mean()


def test_mf():
    """BPR with dropout on the vectors in the products, not in the penalty."""
    loss, w, _, _, uniform = train(build("MF", **PAIRWISE), TRIPLES)
    u, i, j = TRIPLES.T.numpy()
    embeddings = w["users"][u], w["items"][i], w["items"][j]
    vectors = [e * kept(numbers) for e, numbers in zip(embeddings, uniform, strict=True)]
    assert loss == close_to(bpr(vectors, embeddings))


def test_lightgcn():
    """BPR of the layers' means, e_u' = R̂ e_i and e_i' = R̂ᵀ e_u, R̂ and R̂ᵀ each with dropout."""
    loss, w, _, _, of_edges = train(build("LightGCN", layers=2, **PAIRWISE), TRIPLES)
    R = X / np.sqrt(np.outer(X.sum(axis=1), X.sum(axis=0)))
    to_users, to_items = R, R.T.copy()
    for matrix, numbers in zip((to_users, to_items), of_edges, strict=True):
        matrix[matrix > 0] *= kept(numbers)
    layers = [(w["users"], w["items"])]
    for _ in range(2):
        users, items = layers[-1]
        layers.append((to_users @ items, to_items @ users))
    p, q = (sum(of_side) / 3 for of_side in zip(*layers, strict=True))
    u, i, j = TRIPLES.T.numpy()
    embeddings = w["users"][u], w["items"][i], w["items"][j]
    assert loss == close_to(bpr((p[u], q[i], q[j]), embeddings))


@pytest.mark.parametrize("name", ["MF", "LightGCN"])
@pytest.mark.parametrize("positives", ["users", "interactions"])
def test_negatives_are_never_a_users_own(name, positives):
    """Each user lacks one item or two: j is one of these."""
    lacking = [{u % ITEMS, u // 3} for u in range(3 * ITEMS)]
    histories = [sorted(set(range(ITEMS)) - items) for items in lacking]
    rows = Interactions.from_histories(histories, ITEMS)
    count, batches = build(name, positives=positives).epoch_batches(rows, 10)
    batches = list(batches)
    triples = torch.cat(batches).tolist()
    assert (len(batches), len(triples)) == (count, len(rows.items))
    assert all(i in histories[u] and j in lacking[u] for u, i, j in triples)


# Diffusion on a graph


@pytest.mark.parametrize("weighted", [False, True])
def test_giffcf(weighted):
    """L = mean over users of ‖x - x̂(z_t, c, t)‖², the noise of z_t scaled by s γ^(T-t)."""
    model = build(
        "GiffCF", steps=T, alpha=1.2, gamma=0.4, noise_scale=0.6, ideal_weight=0.5, cutoff=3,
        emb_size=5, dropout=DROPOUT,
    )  # fmt: skip
    rows, x = ROWS, X
    if weighted:  # scaled to the sums that rows have without weights
        rows = ROWS.with_values(torch.arange(len(PAIRS)) % 3 + 1.0)
        x = rows.dense().double().numpy()
        x = x * (X.sum(axis=1) / x.sum(axis=1))[:, None]
    loss, w, (t,), (epsilon,), (u,) = train(model, rows)
    t = t[:, None]

    R = X / X.sum(axis=1, keepdims=True) ** 0.25 / X.sum(axis=0) ** 0.5
    values, vectors = np.linalg.eigh(R.T @ R)
    leading = vectors[:, -3:]
    smoothing = (R.T @ R / values[-1] + 0.5 * leading @ leading.T) / 1.5

    def small(name, h):
        return w.mlp(f"{name}.first {name}.second", h, silu)[..., 0]

    E = w["embedding"]

    def denoised(z, c, t):
        angles = t * 10_000.0 ** (-np.arange(10) / 10)
        of_step = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

        def mixed(number, *parts):
            tau = small(f"step_{number}", of_step)[:, None]
            return small(f"mixer_{number}", np.stack(np.broadcast_arrays(*parts, tau), axis=-1))

        x_e = mixed(1, z / ITEMS @ E, c / np.maximum(c.sum(axis=1), 1)[:, None] @ E)
        return mixed(2, x_e @ E.T, c, c @ smoothing)

    def smoothed(x, t):
        return x + 1.2 * t / T * (x @ smoothing - x)

    z_t = smoothed(x, t) + 0.6 * 0.4 ** (T - t) * epsilon
    c = x * ROWS.with_values(torch.as_tensor(kept(u)).float()).dense().numpy()
    assert loss == close_to(((x - denoised(z_t, c, t)) ** 2).sum() / USERS)

    z = smoothed(x, T)
    for step in range(T, 0, -1):
        x_hat = denoised(z, x, np.full((USERS, 1), step))
        z = smoothed(x_hat, step - 1) + 0.4 * (z - smoothed(x_hat, step))
    with torch.inference_mode():
        scores = model.eval().scorer()(rows)
    np.testing.assert_allclose(scores, z, rtol=1e-3, atol=1e-4)


# Sequences


def test_acvae():
    """Xie et al.: the likelihood of what follows, α times the KL term T(x, z), β times the
    contrastive one, and the critic T's own loss: it tells drawn z from z ~ N(0, I)."""
    model = build("ACVAE", emb_size=5, max_length=3, dropout=DROPOUT, alpha=0.7, beta=0.9)
    loss, w, _, (epsilon_0, epsilon_1, prior), uniform = train(model, ROWS)
    of_x, of_h, *of_ratio = uniform
    in_kl, of_drawn, of_prior = of_ratio[:2], of_ratio[2:4], of_ratio[4:]

    sequences = np.zeros((USERS, 4), dtype=int)  # the latest items, from 1 on; 0 is padding
    for row, items in zip(sequences, HISTORIES, strict=True):
        row[: len(items[-4:])] = np.array(items[-4:]) + 1
    following = sequences[:, 1:]
    predicts = following > 0
    x = w["embedding.weight"][sequences[:, :3] * predicts]

    of_gru = w.gru("encoder.gru", x * kept(of_x))
    h = of_gru + np.tanh(w.linear("encoder.noise", epsilon_0))
    h = softplus(w.linear("encoder.first", h)) + np.tanh(w.linear("encoder.noise", epsilon_1))
    before, kernel = np.pad(h, [(0, 0), (4, 0), (0, 0)]), w["encoder.causal.weight"]
    h = sum(before[:, k : k + 3] @ kernel[:, :, k].T for k in range(5)) + w["encoder.causal.bias"]
    h = softplus(w.linear("encoder.last", softplus(h))) + of_gru
    z = w.linear("encoder.to_latent", h * kept(of_h))

    def ratio(z, numbers):
        h = w.linear("ratio.input", np.concatenate([x[predicts], z], axis=1))
        h = h * kept(numbers[0], 0.2)
        for name in ("ratio.blocks.0", "ratio.blocks.1"):
            h = elu(h + w.linear(f"{name}.1", w.linear(f"{name}.0", h)))
        return w.linear("ratio.output", h) * kept(numbers[1], 0.2) + z**2 / 2

    def belongs(z):
        h = w.gru("contrast.gru", np.concatenate([x, z], axis=2))
        return w.linear("contrast.output", gelu(h))[predicts]

    logits = w.linear("output", np.tanh(w.linear("decoder.0", z[predicts])))
    likelihood = nll(logits, np.eye(ITEMS)[following[predicts] - 1]).sum()
    of_kl = ratio(z[predicts], in_kl).mean(axis=1).sum()
    contrast = (softplus(-belongs(z)) + softplus(belongs(np.roll(z, 1, axis=0)))).sum()
    telling = softplus(-ratio(z[predicts], of_drawn)) + softplus(ratio(prior, of_prior))
    expected = likelihood + 0.7 * of_kl + 0.9 * contrast + telling.mean(axis=1).sum()
    assert loss == close_to(expected / USERS)


def histories():
    """Every beginning of every row, at most three items of it, and the item that follows."""
    prefixes = Prefixes(ROWS, 3)
    return prefixes.take(torch.arange(len(prefixes)))


@pytest.mark.parametrize("trained_on", ["histories", "positions"])
def test_diffurec(trained_on):
    """L = mean of -log softmax(E x̂_0)_{next} / (T p_t) with x̂_0 the last of
    LN(Encoder(LN(e) + λ (x_t + step(1000 t / T))))."""
    causal = trained_on == "positions"
    model = build(
        "DiffuRec", emb_size=6, max_length=3, dropout=0, steps=T, importance_sampling=True,
        lambda_mean=0.5, lambda_std=0.3, layers=2, heads=3, emb_dropout=DROPOUT, init_std=0.7,
        trained_on=trained_on, padding_mask="released" if causal else "keys",
    )  # fmt: skip
    remember(model)
    batch = ROWS if causal else histories()
    loss, w, (t,), (epsilon, of_lambda), (u,) = train(model, batch)
    if causal:
        sequences, lengths = (part.numpy() for part in ROWS.padded(4))
        sequences, following, lengths = sequences[:, :3], sequences[:, 1:], lengths - 1
    else:
        sequences, lengths = batch.sequences.numpy(), batch.lengths.numpy()
        following = batch.targets.numpy()[:, None] + 1

    E = w["embedding.weight"]
    alpha_bar = np.cumprod(1 - np.linspace(0.1 / T + 0.01, 1 / T + 0.01, T))  # trunc_lin
    x_t = noised(E[following], t, epsilon, alpha_bar)
    step = w.mlp("step.0 step.2", step_embedding(t * 1000 / T, 6), silu)
    history = w.norm("norm", E[sequences] * kept(u))
    z = history + (0.5 + 0.3 * of_lambda) * (x_t + step[:, None])
    of_steps, losses = [], []
    for row, n in enumerate(lengths):
        x0_hat = w.norm("last", w.transformer(z[row, :n], 3, 2, gelu_tanh, causal))
        for m in range(n) if causal else [n - 1]:
            wanted = following[row, m if causal else 0]
            losses.append(-log_softmax(E @ x0_hat[m])[wanted])
            of_steps.append(t[row])
    assert loss == close_to((losses / p_times_T(of_steps, 0.001)).mean())
    assert_remembered(model, of_steps, losses)


@pytest.mark.parametrize("rec_loss", ["printed", "network"])
@pytest.mark.parametrize("loss_reduction", ["sum", "mean"])
def test_diffrec_du(rec_loss, loss_reduction):
    """L = mean of ‖h⁰ - ĥ‖² / (N p_n), for n = 1 of ‖E(v) - ĥ‖², - log softmax(W h⁰ + b)_v."""
    model = build(
        "DiffRec-Du", emb_size=6, max_length=3, dropout=0, steps=T, noise_schedule="cosine",
        beta_0=0.4, layers=1, heads=3, rec_loss=rec_loss, loss_reduction=loss_reduction,
    )  # fmt: skip
    remember(model)
    batch = histories()
    loss, w, (n,), (of_h_0, epsilon, of_history), _ = train(model, batch)

    targets, E = batch.targets.numpy(), w["embedding.weight"]
    mean = E[targets + 1]
    h_0 = mean + np.sqrt(0.4) * of_h_0
    f = np.cos((np.linspace(0, 1, T + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
    h_n = noised(h_0, n, epsilon, np.cumprod(np.maximum(f[1:] / f[:-1], 0.001)))
    history = E[batch.sequences.numpy()] + np.sqrt(0.4) * of_history
    step, output = step_embedding(n, 6), []
    for row, length in enumerate(batch.lengths.tolist()):
        tokens = np.concatenate([history[row, :length], h_n[[row]]])
        tokens = tokens + w["positions.weight"][: length + 1] + step[row]
        h = w.transformer(tokens, 3, 1, gelu)[-1]
        output.append(w.linear("output", w.norm("last", h, eps=1e-5)))

    assert {0} < set(n.tolist())
    errors = (np.where(n[:, None] == 0, mean, h_0) - output) ** 2
    losses = errors.sum(axis=1) if loss_reduction == "sum" else errors.mean(axis=1)
    logits = w.linear("rounding", h_0 if rec_loss == "printed" else np.array(output))
    of_item = nll(logits, np.eye(ITEMS)[targets]).mean()
    assert loss == close_to((losses / p_times_T(n, 0.001)).mean() + of_item)
    assert_remembered(model, n, losses)
