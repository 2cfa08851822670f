"""Sequence models and the next-item protocol, by hand and against torch's and NumPy's own."""

import csv
import dataclasses
import itertools
import json
import shutil
import zipfile

import numpy as np
import pytest
import sequential
import torch
from torch import nn

from baselines import MODELS as BASELINES
from baselines.models.ACVAE import ACVAE
from baselines.models.DiffRecDu import DiffRecDu
from baselines.models.DiffuRec import DiffuRec
from baselines.models.GRU4Rec import GRU4Rec
from baselines.models.SASRec import SASRec
from baselines.noise import generators
from baselines.sampling import sample_negatives
from baselines.sequences import (
    CausalModel,
    Prefixes,
    SequenceModel,
    of_one_length,
)
from baselines.transformer import Block, Encoder, key_mask
from DiffRec import InputError, Interactions, evaluate, load_dataset, train
from DiffRec.engine import checkpoints
from DiffRec.engine.ids import IdMap
from DiffRec.engine.serving import rows_to_serve
from DiffRec.engine.training import Training
from DiffRec.engine.variant import variant_of
from DiffRec.models.gaussian_diffusion import GaussianDiffusion, make_betas
from DiffRec.preparation import protocol, readers, writer

# The encoder


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_is_torchs_own(norm_first, masked):
    torch.manual_seed(0)
    ours = Block(8, 2, 16, 0.0, "gelu", norm_first).double().eval()
    theirs = nn.TransformerEncoderLayer(
        8, 2, 16, 0.0, "gelu", 1e-12, batch_first=True, norm_first=norm_first
    ).double().train()  # whose other path is a fused one  # fmt: skip
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.attention.qkv.weight,
            "self_attn.in_proj_bias": ours.attention.qkv.bias,
            "self_attn.out_proj.weight": ours.attention.output.weight,
            "self_attn.out_proj.bias": ours.attention.output.bias,
            "linear1.weight": ours.first.weight, "linear1.bias": ours.first.bias,
            "linear2.weight": ours.second.weight, "linear2.bias": ours.second.bias,
            "norm1.weight": ours.norms[0].weight, "norm1.bias": ours.norms[0].bias,
            "norm2.weight": ours.norms[1].weight, "norm2.bias": ours.norms[1].bias,
        }
    )  # fmt: skip
    x, lengths = torch.randn(3, 5, 8, dtype=torch.float64), torch.tensor([5, 2, 3])
    mask = key_mask(lengths, 5) if masked else None
    padding = torch.arange(5) >= lengths[:, None] if masked else None
    torch.testing.assert_close(ours(x, mask, False), theirs(x, src_key_padding_mask=padding))


def test_dropout_at_the_end_of_a_block():
    block = Block(4, 1, 8, 0.0, end_dropout=0.5)
    out = block.train()(torch.randn(50, 5, 4), None, False)
    assert 0.4 < float((out == 0).float().mean()) < 0.6


def test_causal_positions_see_none_behind_them():
    torch.manual_seed(0)
    encoder = Encoder(2, 8, 2, 16, 0.0).eval()
    x = torch.randn(2, 6, 8)
    other = x.clone()
    other[:, 4:] = torch.randn(2, 2, 8)
    before, after = encoder(x, causal=True), encoder(other, causal=True)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])


def test_masked_keys_change_nothing():
    torch.manual_seed(0)
    encoder, lengths = Encoder(2, 8, 2, 16, 0.0).eval(), torch.tensor([3, 1, 0])
    x = torch.randn(3, 3, 8)
    longer = torch.cat([x, torch.randn(3, 4, 8)], dim=1)
    short, long = encoder(x, key_mask(lengths, 3)), encoder(longer, key_mask(lengths, 7))
    for row, length in enumerate([3, 1, 1]):
        torch.testing.assert_close(short[row, :length], long[row, :length])
    assert short.isfinite().all()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("masked", ["none", "causal", "keys", "added"])
def test_one_position_alone_is_that_of_the_whole_computation(masked, layers, norm_first):
    torch.manual_seed(0)
    encoder = Encoder(
        layers, 8, 2, 16, 0.0, "gelu_tanh", norm_first, end_dropout=0.0, inner_dropout=0.0
    ).double()
    lengths = torch.tensor([5, 2, 0, 3])
    last = (lengths - 1).clamp(min=0)
    padding, pairs = torch.arange(5) >= lengths[:, None], torch.randn(4, 1, 5, 5).double()
    how = {
        "none": {},
        "causal": {"causal": True},
        "keys": {"mask": key_mask(lengths, 5)},
        # As DiffuRec's release masks, and with weights of its own for every pair of positions.
        "added": {"mask": (padding * -1e9)[:, None, :, None] + pairs},
    }[masked]
    x = torch.randn(4, 5, 8, dtype=torch.float64)
    weights = torch.randn(4, 8, dtype=torch.float64)
    found, gradients = [], []
    for whole in (True, False):
        given = x.clone().requires_grad_()
        h = encoder(given, **how) if whole else encoder(given, **how, last=last)
        h = h[range(4), last] if whole else h
        encoder.zero_grad()
        (weights * h).sum().backward()
        found.append(h.detach())
        gradients.append([given.grad, *(p.grad for p in encoder.parameters())])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


# Noise schedules


def test_schedules_of_the_sequence_models_by_their_formulas():
    T = 32
    low, high = 1e-4 * 1000 / T + 0.01, 0.02 * 1000 / T + 0.01
    expected = np.linspace(low, high, T)
    found = make_betas("trunc_lin", T, 0, 0, 0).numpy()
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found[[0, -1]], [0.013125, 0.635])
    np.testing.assert_allclose(
        np.cumprod(1 - found)[[0, 7, 15, 23]], [0.987, 0.494, 0.052, 8e-4], rtol=0.02
    )
    for steps, end in ((16, 0.0725), (8, 0.135)):  # where the line would pass 1
        assert float(make_betas("trunc_lin", steps, 0, 0, 0)[-1]) == pytest.approx(end)
    u = np.arange(T + 1) / T
    alpha_bar = 1 - np.sqrt(u + 1e-4)
    expected = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    np.testing.assert_allclose(make_betas("sqrt", T, 0, 0, 0).numpy(), expected)


@pytest.mark.parametrize("schedule", ["sqrt", "trunc_lin"])
def test_the_posterior_is_bayes_rule_with_these_schedules(schedule):
    d = GaussianDiffusion(noise_schedule=schedule, steps=32, beta_fixed=False)
    beta = make_betas(schedule, 32, 0, 0, 0).numpy()
    alpha_bar = np.cumprod(1 - beta)
    before = np.r_[1, alpha_bar[:-1]]
    # x_t | x_{t-1} has variance β, x_{t-1} | x_0 has 1 - ᾱ_{t-1}: precisions add.
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (1 - beta) / beta + 1 / (1 - before)
        variance = np.where(before < 1, 1 / precision, 0)
    np.testing.assert_allclose(d.posterior_variance.numpy(), variance, atol=1e-12)
    np.testing.assert_allclose(d.posterior_x0.numpy()[0], 1)
    np.testing.assert_allclose(d.posterior_x_t.numpy()[0], 0, atol=1e-12)


# Histories


@pytest.fixture
def rows() -> Interactions:
    """Users with 4, 1, 0 and 6 items of 9."""
    histories = [[3, 1, 4, 2], [5], [], [8, 0, 1, 2, 3, 4]]
    return Interactions.from_histories(histories, 9)


def test_prefixes_are_every_history_and_what_follows(rows):
    prefixes = Prefixes(rows, longest=3)
    found = prefixes.take(torch.arange(len(prefixes)))
    told = [
        ([i - 1 for i in row[:n]], target)
        for row, n, target in zip(
            found.sequences.tolist(), found.lengths.tolist(), found.targets.tolist(), strict=True
        )
    ]
    assert told == [
        ([3], 1), ([3, 1], 4), ([3, 1, 4], 2),
        ([8], 0), ([8, 0], 1), ([8, 0, 1], 2), ([0, 1, 2], 3), ([1, 2, 3], 4),
    ]  # fmt: skip
    assert found.sequences.shape == (8, 3)
    assert prefixes.take(torch.tensor([0]), width=5).sequences.tolist() == [[4, 0, 0, 0, 0]]
    for by_length in (False, True):
        drawn = torch.cat(list(prefixes.batches(3, 8, by_length)))
        assert sorted(drawn.tolist()) == list(range(8))
    assert len(torch.cat(list(prefixes.batches(3, 5, True)))) == 5


def test_batches_of_one_length_hold_all_and_pad_little():
    torch.manual_seed(0)
    lengths = torch.randint(1, 50, (1000,))
    batches = list(of_one_length(torch.randperm(1000), lengths, 50))
    assert sorted(torch.cat(batches).tolist()) == list(range(1000))
    assert max(int(lengths[b].max() - lengths[b].min()) for b in batches) <= 5
    firsts = [int(lengths[b].min()) for b in batches]
    assert firsts != sorted(firsts)


# Models


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_causal_losses_by_hand(rows, loss):
    torch.manual_seed(0)
    model = SASRec(4, 9, emb_size=8, max_length=4, loss=loss, dropout=0).eval()
    torch.manual_seed(1)
    found = model.training_loss(rows).item()
    expected = []
    torch.manual_seed(1)
    pairs = [([3, 1, 4], [1, 4, 2]), ([0, 1, 2, 3], [1, 2, 3, 4])]
    of = torch.tensor([0, 0, 0, 3, 3, 3, 3])
    others = sample_negatives(of, rows).tolist() if loss == "bce" else []
    items = model.embedding.weight[1:].detach()
    for inputs, targets in pairs:
        h = model.hidden(torch.tensor([inputs]) + 1)[0].detach()
        for m, target in enumerate(targets):
            scores = items @ h[m]
            if loss == "ce":
                expected.append(-scores.log_softmax(0)[target].item())
            else:
                other = others[len(expected)]
                of = torch.nn.functional.logsigmoid
                expected.append(float(-of(scores[target]) - of(-scores[other])))
    assert found == pytest.approx(np.mean(expected), abs=1e-5)


def test_negatives_are_none_of_a_users_items(monkeypatch):
    """Not of the older ones either, which the model does not read; who has all items has none."""
    rows = Interactions.from_histories([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1, 0]], 6)
    model = SASRec(2, 6, emb_size=8, max_length=2, loss="bce")
    drawn = []

    def watched(*args):
        drawn.append(sample_negatives(*args))
        return drawn[-1]

    monkeypatch.setattr("baselines.sequences.sample_negatives", watched)
    assert torch.isfinite(model.training_loss(rows))
    assert drawn[0].tolist() == [5, 5]


TRAINED_THROUGH = {"rec_loss": "network", "loss_reduction": "mean"}
SMALL_DU = {"emb_size": 8, "noise_schedule": "cosine"}
MODELS = {
    "SASRec": lambda: SASRec(4, 9, emb_size=8, max_length=5),
    "GRU4Rec": lambda: GRU4Rec(4, 9, emb_size=8, max_length=5),
    "DiffuRec": lambda: DiffuRec(4, 9, emb_size=8, max_length=5, steps=3, padding_mask="keys"),
    "DiffuRec released": lambda: DiffuRec(4, 9, emb_size=8, max_length=5, steps=3),
    "DiffuRec causal": lambda: DiffuRec(
        4, 9, emb_size=8, max_length=5, steps=3, trained_on="positions"
    ),
    "DiffRec-Du": lambda: DiffRecDu(4, 9, SMALL_DU, max_length=5, steps=3),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_scores_read_the_latest_items_alone_and_their_order(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        model.embedding.weight.normal_()

    def scores(*histories: list[int]) -> torch.Tensor:
        return model.scorer()(Interactions.from_histories(list(histories), 9))

    # Noise belongs to the items that are read, so that rows of others share none: it is off.
    if hasattr(model, "draws"):
        model.draws = lambda batch, width: itertools.repeat(torch.zeros(len(batch), width + 1, 8))
    elif name == "DiffRec-Du":
        torch.manual_seed(0)
        model.settings = model.settings.of(model.settings.dump(), {"beta_0": 0.0})
    long, cut = scores([8, 7, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    other = scores([1, 2, 3, 5, 4])[0]
    torch.testing.assert_close(long, cut)
    assert not torch.allclose(cut, other, atol=1e-4)
    # More padding, by a longer row beside it, changes nothing; nor does an empty row.
    alone = scores([1, 2])[0]
    together = scores([1, 2], [3, 4, 5, 6, 7], [])
    torch.testing.assert_close(together[0], alone)
    assert together.isfinite().all()


def test_released_padding_is_seen_and_sees_all_alike():
    """The release masks rows of queries, not columns of keys."""
    torch.manual_seed(0)
    model = DiffuRec(1, 9, emb_size=8, max_length=4, steps=3, heads=2, layers=1).eval()
    mask = model.mask(torch.tensor([2]), 4)
    block = model.encoder.blocks[0]
    x = torch.randn(1, 4, 8)
    q, k, v = block.attention.qkv(x).view(4, 3, 2, 4).permute(1, 2, 0, 3)
    weights = (q @ k.transpose(1, 2) / 2).softmax(dim=2)
    weights[:, 2:] = 0.25  # padded queries
    expected = block.attention.output((weights @ v).transpose(0, 1).reshape(1, 4, 8))
    torch.testing.assert_close(block.attention(x, mask, False), expected, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", [name for name in MODELS if "DiffuRec" in name])
def test_diffurec_computes_the_last_position_as_among_all(name):
    torch.manual_seed(0)
    model, lengths = MODELS[name]().eval(), torch.tensor([5, 2, 1])
    history, noise = torch.randn(2, 3, 5, 8)
    about = history, lengths, noise[:, :1], torch.tensor([0, 2, 1]), model.lambdas(noise)
    whole, alone = model.hidden(*about), model.hidden(*about, lengths - 1)
    torch.testing.assert_close(alone, whole[range(3), lengths - 1])


CAUSAL = [name for name, model in BASELINES.items() if issubclass(model, CausalModel)]


@torch.inference_mode()
@pytest.mark.parametrize("name", CAUSAL)
def test_no_position_of_a_causal_model_sees_what_follows(name):
    torch.manual_seed(0)
    model = BASELINES[name](3, 9, emb_size=8, max_length=6).double().eval()
    before = torch.randint(1, 10, (3, 6))
    after = torch.cat([before[:, :4], 1 + before[:, 4:] % 9], dim=1)
    h, other = model.hidden(before), model.hidden(after)
    torch.testing.assert_close(h[:, :4], other[:, :4], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(h[:, 4:], other[:, 4:])


@torch.inference_mode()
@pytest.mark.parametrize("name", ["SASRec", "GRU4Rec"])
def test_causal_models_encode_the_last_position_as_among_all(rows, name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    sequences, lengths = rows.padded(5)
    last = (lengths - 1).clamp(min=0)
    whole = model.hidden(sequences)[range(4), last]
    torch.testing.assert_close(model.encode(rows), whole, rtol=1e-9, atol=1e-12)


def test_diffurecs_loss_by_hand(rows):
    model = DiffuRec(4, 9, emb_size=8, max_length=3, steps=4, padding_mask="keys").eval()
    batch = Prefixes(rows, 3).take(torch.tensor([1, 4, 6]))
    torch.manual_seed(3)
    found = model.training_loss(batch).item()
    torch.manual_seed(3)
    table = model.embedding.weight
    t = torch.randint(4, (3,))
    epsilon, for_lambda = torch.randn(3, 8), torch.randn(3, 3, 8)
    expected = []
    for row, n in enumerate(batch.lengths.tolist()):
        e = table[batch.targets[row] + 1]
        alpha_bar = float(model.diffusion.alpha_bar[t[row]])
        x_t = alpha_bar**0.5 * e + (1 - alpha_bar) ** 0.5 * epsilon[row]
        angles = t[row] * 1000 / 4 * 10_000 ** (-torch.arange(4) / 4)
        step = model.step(torch.cat([angles.cos(), angles.sin()]))
        history = model.norm(table[batch.sequences[row, :n]])
        z = history + (0.001 + 0.001 * for_lambda[row, :n]) * (x_t + step)
        x0_hat = model.last(model.encoder(z[None])[0, n - 1])
        expected.append(-(table @ x0_hat).log_softmax(0)[batch.targets[row] + 1].item())
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_diffurecs_reverse_steps_by_hand():
    torch.manual_seed(0)
    model = DiffuRec(1, 9, emb_size=8, max_length=3, steps=4, lambda_mean=0.3).eval()
    row = Interactions.from_histories([[4, 2]], 9)
    noise = list(itertools.islice(model.draws(row, 3), 4))
    d = model.diffusion
    history = model.history(torch.tensor([[5, 3, 0]]))
    x = noise[0][:, 0]
    for step in (3, 2, 1, 0):
        lam = 0.3 + 0.001 * noise[3 - step][:, 1:]
        h = model.hidden(history, torch.tensor([2]), x[:, None], torch.tensor([step]), lam)
        x0_hat = h[:, 1]
        mean = float(d.posterior_x0[step]) * x0_hat + float(d.posterior_x_t[step]) * x
        x = mean + float(d.beta[step]) ** 0.5 * noise[4 - step][:, 0] if step else mean
    with torch.inference_mode():
        torch.testing.assert_close(model.encode(row), x0_hat)
        direct = DiffuRec(
            1, 9, emb_size=8, max_length=3, steps=4, lambda_mean=0.3, reverse="direct"
        )
        direct.load_state_dict(model.state_dict())
        one = next(direct.draws(row, 3))
        h = model.hidden(
            history,
            torch.tensor([2]),
            one[:, :1],
            torch.tensor([3]),
            0.3 + 0.001 * one[:, 1:],
        )
        torch.testing.assert_close(direct.eval().encode(row), h[:, 1])


def test_item_vectors_begin_as_small_as_asked_for():
    some = {"emb_size": 8, "max_length": 3, "steps": 2}
    released, small = DiffuRec(1, 2000, **some), DiffuRec(1, 2000, init_std=0.02, **some)
    assert released.embedding.weight.std().item() == pytest.approx(1, rel=0.05)
    assert small.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_without_lambda_diffusion_changes_nothing():
    torch.manual_seed(0)
    still = {"lambda_mean": 0.0, "lambda_std": 0.0, "emb_size": 8, "steps": 3}
    full, direct = DiffuRec(1, 9, still).eval(), DiffuRec(1, 9, still, reverse="direct").eval()
    direct.load_state_dict(full.state_dict())
    row = Interactions.from_histories([[4, 2, 7]], 9)
    with torch.inference_mode():
        torch.testing.assert_close(full.encode(row), direct.encode(row))


@pytest.mark.parametrize("rec_loss", ["printed", "network"])
def test_du_losses_train_what_they_are_said_to(rows, rec_loss):
    torch.manual_seed(0)
    about = {"max_length": 3, "steps": 4, "beta_0": 0.0, "rec_loss": rec_loss}
    model = DiffRecDu(4, 9, SMALL_DU, **about).eval()
    batch = Prefixes(rows, 3).take(torch.tensor([1, 4, 6]))
    torch.manual_seed(3)
    found = model.training_loss(batch).item()
    torch.manual_seed(3)
    torch.randn(3, 8)  # of Eq. 6, whose variance is 0 here
    n = torch.multinomial(torch.full((4,), 0.25, dtype=torch.float64), 3, replacement=True)
    e = model.embedding(batch.targets + 1)
    h_n = model.diffusion.q_sample(e, n, torch.randn(3, 8))
    history = model.embedding(batch.sequences)
    output = model.network(history, batch.lengths, h_n, n)
    rounded = model.rounding(e if rec_loss == "printed" else output)
    of_item = nn.functional.cross_entropy(rounded, batch.targets)
    expected = ((e - output).square().sum(1).mean() + of_item).item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reverse", ["full", "direct"])
def test_du_inference_by_hand(reverse):
    """By the equations: h_N from an unknown item, the posterior's steps, the mean over samples."""
    torch.manual_seed(0)
    about = {"max_length": 3, "steps": 4, "beta_0": 0.2, "samples": 3, "reverse": reverse}
    model = DiffRecDu(1, 9, SMALL_DU, **about).eval()
    row = Interactions.from_histories([[4, 2]], 9)
    (generator,) = generators(row, 3)
    noise = torch.empty(3, 5, 8).normal_(generator=generator)
    d = model.diffusion
    keep = torch.cumprod(1 - d.beta, 0)  # ᾱ
    history, unknown = model.embedding(torch.tensor([[5, 3]])), model.embedding.weight[:1]
    outputs = []
    for epsilon in noise[:, :, None]:
        h = unknown + 0.2**0.5 * epsilon[4]
        h = float(keep[3]) ** 0.5 * h + float(1 - keep[3]) ** 0.5 * epsilon[0]
        for n in (3, 2, 1, 0):
            output = model.network(history, torch.tensor([2]), h, torch.tensor([n]))
            if reverse == "direct":
                break
            before = float(keep[n - 1]) if n else 1.0
            beta, left = float(d.beta[n]), 1 - float(keep[n])
            mean = before**0.5 * beta / left * output + (1 - beta) ** 0.5 * (1 - before) / left * h
            h = mean + (beta * (1 - before) / left) ** 0.5 * epsilon[n]
        outputs.append(output)
    with torch.inference_mode():
        torch.testing.assert_close(model.encode(row), torch.stack(outputs).mean(0))


def test_learning_rates_fall_in_steps(tiny, tmp_path, monkeypatch):
    seen = []
    plain = Training.train_epoch

    def watch(self):
        loss = plain(self)
        seen.append(self.optimizers[0].param_groups[0]["lr"])
        return loss

    monkeypatch.setattr(Training, "train_epoch", watch)
    settings = {"lr": 0.1, "lr_step": 2, "lr_factor": 0.5, "save_path": tmp_path, "eval_every": 2}
    for epochs in (3, 6):  # and a resumed run has the rates of an unbroken one
        model = SASRec.for_dataset(tiny, emb_size=4)
        train(model, tiny, epochs=epochs, resume=True, keep_state=True, **settings)
    assert seen == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


# The next-item protocol


def test_leave_one_out_by_hand(tmp_path):
    lines = "7 a b c d\n9 x a\n8 b a z\n\n"
    (tmp_path / "seq.txt").write_text(lines, encoding="utf-8-sig")
    ratings = readers.read(tmp_path / "seq.txt", "sequences")
    split = protocol.prepare(ratings, min_rating=0, core=0, protocol="leave_one_out")
    raw = {
        name: [
            (str(split.raw_users[u]), str(split.raw_items[i]))
            for u, i in split.pairs[name].tolist()
        ]
        for name in protocol.SPLITS
    }
    assert raw["train"] == [("7", "a"), ("7", "b"), ("8", "b"), ("9", "x"), ("9", "a")]
    assert raw["valid"] == [("7", "c"), ("8", "a")]
    assert raw["test"] == [("7", "d"), ("8", "z")]
    writer.write(tmp_path / "out", split, {"evaluation": protocol.NEXT_ITEM})
    found = load_dataset(data_path=tmp_path / "out")
    assert found.n_items == 6  # c, d and z are in no train row, and are ranked all the same
    assert found.evaluation["tst_w_val"] is True


def test_sequences_of_text_and_arrays_are_equal(run, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{u} {u + 1} {u + 2} {u + 3} {u}\n" for u in range(9)))
    users = np.repeat(np.arange(9), 4)
    order = np.tile(np.arange(4), 9)
    items = users + np.tile([1, 2, 3, 0], 9)
    mixed = np.random.default_rng(0).permutation(36)
    np.savez(tmp_path / "a.npz", users=users[mixed], items=items[mixed], order=order[mixed])
    flags = ["--format", "sequences", "--protocol", "leave_one_out", "--core", "0"]
    for kind in ("txt", "npz"):
        done = run("scripts/prepare_data.py", tmp_path / f"a.{kind}", *flags, "--out",
                   tmp_path / f"out_{kind}")  # fmt: skip
        assert done.returncode == 0, done.stderr
    a, b = (load_dataset(data_path=tmp_path / f"out_{kind}") for kind in ("txt", "npz"))
    assert a.fingerprint() == b.fingerprint()
    assert json.loads((tmp_path / "out_npz" / "stats.json").read_text())["evaluation"] == (
        protocol.NEXT_ITEM
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"1 2 3\n4\n", "line 2 has a user and no items"),
        ("a.txt", b"", "holds no ratings"),
        ("a.txt", b"1 2 3\n2 5 6\n1 9 8\n", "line 3 has the user 1: a user has a line, or all"),
        ("a.txt", b"1 2\n1 5\n2 9\n2 9 8\n", "line 4 has the user 2: a user has a line, or all"),
        ("a.txt", "1 a b\n2 café b\n".encode("latin-1"), "line 2 is not in UTF-8"),
        ("a.npz", b"PK\x03\x04 no", "does not hold the arrays users, items, order"),
        ("a.npz", {"users": [1], "items": [2]}, "does not hold the arrays users, items, order"),
        ("a.npz", {"users": [1], "items": [2, 3], "order": [1]}, "equally many of each"),
        ("a.npz", {"users": [1.5], "items": [2.0], "order": [1.0]}, "must be integers"),
        *(
            ("a.npz", {"users": content, "items": b"", "order": b""}, words)
            for content, words in (
                (b"no array", "does not hold the arrays"),
                (b"\x93NUMPY\x01\x00\x02\x00{\n", "does not hold the arrays"),
                (b"\x93NUMPY\x03\x00", "users.npy is of version (3, 0)"),
                # A header of half a gigabyte.
                (b"\x93NUMPY\x02\x00\x20\x20\x20\x20" + 2**16 * b" ", "does not hold the arrays"),
            )
        ),
    ],
)
def test_bad_sequences_are_one_sentence(run, tmp_path, name, content, words):
    if not isinstance(content, dict):
        (tmp_path / name).write_bytes(content)
    elif any(isinstance(array, bytes) for array in content.values()):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for array, raw in content.items():
                archive.writestr(f"{array}.npy", raw)
    else:
        np.savez(tmp_path / name, **content)
    done = run("scripts/prepare_data.py", tmp_path / name, "--format", "sequences", "--out",
               tmp_path / "out", "--protocol", "leave_one_out")  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_pairs_in_order_are_sequences_too(run, tmp_path):
    """The form in which sequences are most often published: a line for each item."""
    lines = {"1": ["7", "a", "5"], "x": ["a", "7", "5", "8"], "2": ["8", "5"]}
    whole = "".join(f"{user} {' '.join(items)}\n" for user, items in lines.items())
    pairs = [f"{user} {item}\n" for user, items in lines.items() for item in items]
    mixed = [pairs[n] for n in (0, 3, 7, 1, 4, 5, 8, 2, 6)]  # users in turn, each in its order
    found = []
    for name, text in (("whole", whole), ("pairs", "".join(pairs)), ("mixed", "".join(mixed))):
        (tmp_path / f"{name}.txt").write_text(text)
        done = run("scripts/prepare_data.py", tmp_path / f"{name}.txt", "--format", "sequences",
                   "--protocol", "leave_one_out", "--core", "0",
                   "--out", tmp_path / name)  # fmt: skip
        assert done.returncode == 0, done.stderr
        data = load_dataset(data_path=tmp_path / name)
        raw = IdMap.of_folder("item", data.path, data.n_items).raw
        found.append([[raw[i] for i in part.items.tolist()]
                      for part in (data.train, data.valid, data.test)])  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert found[0][2] == ["5", "8"]  # of 1 and x; 2 has too few


@pytest.mark.parametrize("kind", ["txt", "npz"])
def test_places_are_no_times(run, tmp_path, kind):
    """Which users share: to cut all at one of them would cut by length."""
    path = tmp_path / f"a.{kind}"
    path.write_text("1 2 3 4\n2 2 3 4 5 2\n")
    order = np.array([0, 1, 2, 0, 1, 2, 3, 4])
    if kind == "npz":
        users, items = [1] * 3 + [2] * 5, [2, 3, 4, 2, 3, 4, 5, 2]
        np.savez(path, users=users, items=items, order=order)
    call = ["scripts/prepare_data.py", path, "--format", "sequences", "--core", "0",
            "--protocol", "global", "--out", tmp_path / "out"]  # fmt: skip
    done = run(*call)
    assert (done.returncode, done.stderr.strip().count("\n")) == (2, 0)
    assert "the protocol global needs times" in done.stderr
    if kind == "npz":
        np.savez(path, users=users, items=items, order=order + 1)
        assert "the protocol global needs times" in run(*call).stderr
        for times in (order + 1_000_000_000, order + 2, order * 0, order // 2, order * 2):
            np.savez(path, users=users, items=items, order=times)
            assert "the protocol global needs times" not in run(*call).stderr


def test_without_lambda_nothing_is_drawn():
    some = {"emb_size": 8, "max_length": 3, "steps": 2}
    assert DiffuRec(1, 9, **some).draws_noise
    assert not DiffuRec(1, 9, lambda_mean=0.0, lambda_std=0.0, **some).draws_noise


def test_the_schedule_of_a_thousand_steps_needs_some():
    with pytest.raises(InputError, match="needs steps of at least 20, got 19"):
        DiffuRec(1, 9, emb_size=8, steps=19, noise_schedule="linear")
    DiffuRec(1, 9, emb_size=8, steps=20, noise_schedule="linear")


@pytest.mark.parametrize("model", [DiffuRec, DiffRecDu])
def test_what_a_search_draws_ends_in_noise(model):
    """As inference begins with it."""
    for schedule in model.ranges["noise_schedule"]:
        for steps in model.ranges["steps"]:
            found = model(1, 9, emb_size=8, noise_schedule=schedule, steps=steps)
            assert found.diffusion.alpha_bar[-1] < 1e-3


@pytest.fixture
def next_item(tmp_path):
    """A data set by leave-one-out: cycles that a sequence model learns and others cannot."""
    random = np.random.default_rng(0)
    lines = []
    for user in range(120):
        start, length = random.integers(12), random.integers(4, 9)
        lines.append(" ".join(map(str, [user, *((start + n) % 12 for n in range(length))])))
    (tmp_path / "seq.txt").write_text("\n".join(lines))
    ratings = readers.read(tmp_path / "seq.txt", "sequences")
    split = protocol.prepare(ratings, min_rating=0, core=0, protocol="leave_one_out")
    writer.write(tmp_path / "cycles", split, {"evaluation": protocol.NEXT_ITEM})
    return tmp_path / "cycles"


def test_a_folder_says_how_its_data_are_evaluated(next_item, run, tmp_path):
    """For any model, from Python and by the command line, if nothing else is said."""
    dataset = load_dataset(data_path=next_item)
    scores = np.random.default_rng(1).random((dataset.n_users, dataset.n_items))
    found = evaluate(scores, dataset)
    assert set(found["test"]) == {f"{m}@{k}" for m in ("hr", "ndcg") for k in (5, 10, 20)}
    assert found == evaluate(scores, dataset, [5, 10, 20], tst_w_val=True, metrics="hr,ndcg")
    # One item is left out: HR@K is the share of users whose item is ranked up to K.
    masked = scores.copy()
    for part in (dataset.train, dataset.valid):
        masked[part.row_index(), part.items.long()] = -np.inf
    target = masked[np.arange(dataset.n_users), dataset.test.items.long()]
    rank = (masked > target[:, None]).sum(axis=1)
    assert found["test"]["hr@5"] == pytest.approx((rank < 5).mean())
    ndcg = np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean()
    assert found["test"]["ndcg@10"] == pytest.approx(ndcg)
    for model in ("EASE", "MF"):  # one that reads rows, and one that does not
        done = run("baselines/main.py", "--model", model, "--data_path", next_item, "--epochs", "1",
                   "--save_path", tmp_path / "s", "--result_json", tmp_path / "r.json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / "r.json").read_text())
        assert set(record["test"]) == set(found["test"])
        assert record["settings"]["tst_w_val"] is (model == "EASE")
        assert record["settings"]["select_by"] == "ndcg@10"
    flags = "--epochs 1 --topN 1 --dims [4] --metrics hr --select_by hr@1".split()
    told = run("DiffRec/main.py", "--data_path", next_item, *flags, "--save_path", tmp_path / "s",
               "--result_json", tmp_path / "r.json")  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert set(json.loads((tmp_path / "r.json").read_text())["test"]) == {"hr@1"}


def test_seen_items_are_ranked_if_asked_for(next_item):
    dataset = load_dataset(data_path=next_item)
    scores = np.zeros((dataset.n_users, dataset.n_items))
    seen = dataset.seen()
    scores[seen.row_index(), seen.items.long()] = 1.0
    scores[np.arange(dataset.n_users), dataset.test.items.long()] = 0.5
    masked, ranked = (evaluate(scores, dataset, [1], rank_seen=flag) for flag in (False, True))
    assert masked["test"]["hr@1"] == 1.0
    assert ranked["test"]["hr@1"] == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[1]", "is damaged"),
        ('{"evaluation": {"lr": 3}}', "alone"),
        ('{"evaluation": 3}', "alone"),
        ('{"evaluation": {"rank_seen": false}, "items": "many"}', "cannot be"),
        ('{"evaluation": {"rank_seen": false}, "items": 1000000000}', "cannot be"),
        ('{"evaluation": {"topN": "many"}, "items": 12}', "topN"),
    ],
)
def test_a_damaged_stats_file_is_one_sentence(next_item, run, tmp_path, text, words):
    (next_item / "stats.json").write_text(text)
    done = run("DiffRec/main.py", "--data_path", next_item, "--save_path", tmp_path / "s")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SASRec", {}),
        ("SASRec", {"loss": "bce"}),
        ("GRU4Rec", {"dropout": 0.0}),
        ("DiffuRec", {"steps": 4, "layers": 2, "padding_mask": "keys", "emb_dropout": 0.0}),
        ("DiffuRec", {"steps": 4, "layers": 2, "trained_on": "positions", "emb_dropout": 0.0}),
        ("DiffRec-Du", {"noise_schedule": "cosine", "steps": 4, **TRAINED_THROUGH}),
    ],
)
def test_sequence_models_learn_what_follows_what(next_item, tmp_path, name, settings):
    dataset = load_dataset(data_path=next_item)
    model = variant_of(name).model.for_dataset(
        dataset, emb_size=16, max_length=8, **{"dropout": 0.1, **settings}
    )
    found = train(model, dataset, save_path=tmp_path, epochs=40, eval_every=10, patience=41,
                  lr=0.01, batch_size=32)  # fmt: skip
    assert found.valid["hr@5"] > 0.9  # by chance it is less than half of that
    lines = (next_item / "item_map.csv").read_text().splitlines()[1:]
    number = dict(map(int, line.split(",")) for line in lines)  # of each raw id
    items, _ = model.recommend([[number[i] for i in (3, 4, 5)]], k=1)
    assert int(items[0, 0]) == number[6]


def test_an_epoch_of_some_histories(next_item):
    dataset = load_dataset(data_path=next_item)
    model = DiffuRec.for_dataset(dataset, emb_size=8, steps=2, histories_per_epoch=70)
    n, batches = model.epoch_batches(dataset.train, 32)
    sizes = [len(batch) for batch in batches]
    assert n == len(sizes) == 3
    assert sum(sizes) == 70


def test_an_epoch_of_random_stretches():
    own = [[4, 0, 2, 6, 1, 5], [3, 1], [], [0, 1, 2, 3, 4, 5, 6]]
    rows = dataclasses.replace(Interactions.from_histories(own, 7), users=torch.arange(4))
    model = SASRec(4, 7, emb_size=4, max_length=3, stretch="random")
    seen = [set() for _ in own]
    torch.manual_seed(1)
    for _ in range(80):
        for batch in model.epoch_batches(rows, 3)[1]:
            for row, user in enumerate(batch.users.tolist()):
                seen[user].add(tuple(batch.slice(row, row + 1).items.tolist()))
    for items, stretches in zip(own, seen, strict=True):
        n = min(4, len(items))
        assert stretches == {tuple(items[i : i + n]) for i in range(len(items) - n + 1)}
    latest = SASRec(4, 7, emb_size=4, max_length=3).epoch_batches(rows, 4)[1]
    assert sum(len(batch.items) for batch in latest) == len(rows.items)


def test_a_model_of_sequences_needs_no_stretches():
    """As one of its own with `SequenceSettings` alone."""
    rows = Interactions.from_histories([[0, 1, 2], [2, 0]], 3)
    model = SequenceModel(2, 3, emb_size=4, max_length=1)
    assert sum(len(batch.items) for batch in model.epoch_batches(rows, 2)[1]) == 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"stretch": "random"}, "stretch goes with trained_on positions"),
        ({"trained_on": "positions", "padding_mask": "keys"}, "padding_mask goes with trained_on"),
        ({"trained_on": "positions", "histories_per_epoch": 3}, "goes with trained_on histories"),
    ],
)
def test_what_diffurec_does_not_train_on_is_said(wrong, words):
    with pytest.raises(InputError, match=words):
        DiffuRec(2, 3, emb_size=4, **wrong)


def test_no_history_to_learn_from_is_said():
    rows = Interactions.from_pairs(np.array([[0, 1], [1, 0]]), 2, 3)
    for kind in (DiffuRec, DiffRecDu):
        with pytest.raises(InputError, match="no next item"):
            kind(2, 3, emb_size=4, heads=2).epoch_batches(rows, 8)
    for model in (
        SASRec(2, 3, emb_size=4), GRU4Rec(2, 3, emb_size=4), ACVAE(2, 3, emb_size=4),
        DiffuRec(2, 3, emb_size=4, trained_on="positions"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="no next item"):
            model.epoch_batches(rows, 8)
    for settings in ({}, {"loss": "bce"}):  # a part of a batch may have none
        model = SASRec(2, 3, emb_size=4, **settings)
        model.training_loss(rows).backward()
        assert not model.embedding.weight.grad.any()


def test_the_table_of_sequence_models_stands_beside_the_published_figures(
    next_item, run, tmp_path, monkeypatch
):
    shutil.copytree(next_item, tmp_path / "data" / "beauty_next")
    monkeypatch.setenv("DIFFREC_DATASETS", str(tmp_path / "data"))
    call = ["scripts/sequential.py", "--results", tmp_path / "r", "--seeds", "1"]
    done = run(*call, "--methods", "GRU4Rec", "--run_flags", "--epochs 2")
    assert done.returncode == 0, done.stderr
    assert "skipped: toys_next is not here" in done.stdout
    text = (tmp_path / "r" / "sequential.md").read_text()
    assert "published*" not in text  # whose data are others
    records = [json.loads(p.read_text()) for p in (tmp_path / "r" / "runs").glob("GRU4Rec*.json")]
    (row,) = [line for line in text.splitlines() if line.startswith("| GRU4Rec |")]
    assert f"{records[0]['test']['hr@20']:.4f}" in row
    assert records[0]["settings"]["rank_seen"] is True
    users, items, interactions = sequential.PUBLISHED["sizes"]["beauty_next"]
    records[0]["data"] = {
        "users": users,
        "items": items,
        "train": interactions,
        "valid": 0,
        "test": 0,
    }
    text = sequential.page({"beauty_next": {"GRU4Rec": records}})
    assert "| *DiffuRec: published* |  |  | 0.0558 | 0.0791 | 0.1111 |" in text
    refused = run("scripts/sequential.py", "--methods", "Oracle")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.fixture
def next_item_models(next_item, tmp_path):
    """Checkpoints of a model of sequences, and of one that does not read rows."""
    dataset = load_dataset(data_path=next_item)
    found = {}
    for name in ("GRU4Rec", "MF"):
        model = variant_of(name).model.for_dataset(dataset, emb_size=6)
        found[name] = train(model, dataset, save_path=tmp_path / "saved", epochs=1)
    return found


@pytest.mark.parametrize("order", [["GRU4Rec", "MF"], ["MF", "GRU4Rec"]])
def test_models_are_compared_as_each_was_tested(next_item, next_item_models, run, tmp_path, order):
    paths = [next_item_models[name].checkpoint for name in order]
    done = run("scripts/compare.py", *paths, "--data_path", next_item, "--metrics", "hr@10",
               "--out", tmp_path / "c.csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "c.csv").open() as file:
        means = [float(row["mean"]) for row in csv.DictReader(file)]
    expected = [next_item_models[name].test["hr@10"] for name in order]
    assert means == pytest.approx(expected)


def test_runs_are_compared_and_drawn_by_what_they_were_chosen_by(
    next_item, next_item_models, run, tmp_path
):
    """And where conventions differ, those of the first go, said aloud."""
    first, other = list(next_item_models.values())[:2]
    records = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, one in zip(records, (first, other), strict=True):
        path.write_text(json.dumps(one.record))
    done = run("scripts/compare.py", first.checkpoint, other.checkpoint, "--data_path", next_item)
    assert done.returncode == 0, done.stderr
    select_by = first.record["settings"]["select_by"]
    assert select_by == "ndcg@10"
    assert "hr@10" in done.stdout
    assert "ndcg@10" in done.stdout
    assert "@20" not in done.stdout
    assert "evaluated as the first" not in done.stdout
    done = run("scripts/curves.py", *records, "--out", tmp_path / "c.png")
    assert done.returncode == 0, done.stderr
    model = variant_of("EASE").model.for_dataset(load_dataset(data_path=next_item))
    seen = train(model, load_dataset(data_path=next_item), rank_seen=True, save_path=tmp_path)
    for paths, flag in (((first, seen), "False"), ((seen, first), "True")):
        files = [one.checkpoint for one in paths]
        done = run("scripts/compare.py", *files, "--data_path", next_item)
        assert done.returncode == 0, done.stderr
        assert f"as the first was, where they differ: rank_seen {flag}." in done.stdout


def test_what_is_recommended_knows_the_last_known_item(next_item, next_item_models, run, tmp_path):
    path = next_item_models["GRU4Rec"].checkpoint
    done = run("baselines/inference.py", "--checkpoint", path, "--data_path", next_item, "--k", "3",
               "--recommend", tmp_path / "top.csv", "--raw_ids", "0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    dataset = load_dataset(data_path=next_item)
    model = GRU4Rec.load(path)
    rows = rows_to_serve(checkpoints.load(path)[0], dataset, model)
    assert rows.lengths.tolist() == dataset.seen().lengths.tolist()
    items, _ = model.recommend(rows, k=12, exclude_seen=False)
    seen = dataset.seen(with_test=True)
    expected = [
        [i for i in row if i not in had][:3]
        for row, had in zip(
            items.tolist(),
            (seen.slice(u, u + 1).items.tolist() for u in range(len(seen))),
            strict=True,
        )
    ]
    with (tmp_path / "top.csv").open() as file:
        found = [[] for _ in expected]
        for row in csv.DictReader(file):
            found[int(row["user"])].append(int(row["item"]))
    assert found == expected


def test_no_noise_among_items_of_which_one_is_asked_for(next_item, run, tmp_path):
    done = run("DiffRec/main.py", "--data_path", next_item, "--random_noise", "0.2", "--save_path",
               tmp_path / "s")  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "random_noise must be 0" in done.stderr
