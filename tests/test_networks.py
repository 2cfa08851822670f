"""The denoising network, its dropout, and the reverse chain in hidden space."""

import numpy as np
import plain
import pytest
import torch

from DiffRec import DiffRec
from DiffRec.engine.errors import InputError
from DiffRec.models import layers
from DiffRec.models.DNN import DNN, timestep_embedding
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.hidden_space import HiddenSpaceReverse
from DiffRec.models.layers import ACTIVATIONS, Dropout, LinearEnds

FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
}


def test_shapes_and_names_are_the_releases():
    dnn = DNN(50, [20, 60], emb_size=10)
    shapes = {name: tuple(tensor.shape) for name, tensor in dnn.state_dict().items()}
    assert shapes == {
        "emb_layer.weight": (10, 10), "emb_layer.bias": (10,),
        "in_layers.0.weight": (60, 60), "in_layers.0.bias": (60,),
        "in_layers.1.weight": (20, 60), "in_layers.1.bias": (20,),
        "out_layers.0.weight": (60, 20), "out_layers.0.bias": (60,),
        "out_layers.1.weight": (50, 60), "out_layers.1.bias": (50,),
    }  # fmt: skip


def test_parameter_counts_of_table_6():
    """DiffRec: 190 M on Amazon-book, 69 M on Yelp, 4 M on ML-1M, without allocating them."""
    with torch.device("meta"):
        for n_items, dims, millions in (
            (94_949, [1000], 190), (34_395, [1000], 69), (2_810, [200, 600], 4),
        ):  # fmt: skip
            count = sum(p.numel() for p in DNN(n_items, dims).parameters())
            assert round(count / 1e6) == millions


@pytest.mark.parametrize("size", [10, 7])
def test_timestep_embedding(size):
    t = torch.tensor([0, 3, 39])
    half = size // 2
    angles = t.numpy()[:, None] * 10_000.0 ** (-np.arange(half) / half)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    expected = np.pad(expected, [(0, 0), (0, size % 2)])
    np.testing.assert_allclose(timestep_embedding(t, size), expected, atol=1e-6)


@pytest.mark.parametrize("act_func", ACTIVATIONS)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("dims", [[8], [6, 9]])
def test_forward_against_numpy(act_func, norm, dims):
    dnn = DNN(12, dims, act_func=act_func, norm=norm).double().eval()
    x, t = torch.randn(5, 12, dtype=torch.float64), torch.arange(5)
    weights = {name: tensor.numpy() for name, tensor in dnn.state_dict().items()}

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    h = x.numpy()
    if norm:
        h = h / np.linalg.norm(h, axis=1, keepdims=True)
    h = np.concatenate([h, linear("emb_layer", timestep_embedding(t, 10).numpy())], axis=1)
    for i in range(len(dims)):
        h = FUNCTIONS[act_func](linear(f"in_layers.{i}", h))
    for i in range(len(dims) - 1):
        h = FUNCTIONS[act_func](linear(f"out_layers.{i}", h))
    expected = linear(f"out_layers.{len(dims) - 1}", h)
    np.testing.assert_allclose(dnn(x, t).detach(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("columns", [5, 2048])
@pytest.mark.parametrize("of_input", [False, True])
def test_gradients_are_those_of_the_plain_form(monkeypatch, columns, of_input):
    """The first layer's is computed some columns at a time."""
    monkeypatch.setattr(layers, "COLUMNS", columns)
    dnn = DNN(12, [6, 9], dropout=0.0).double()
    x, t = torch.randn(5, 12, dtype=torch.float64, requires_grad=of_input), torch.arange(5)
    gradients = []
    for function in (dnn, lambda x, t: plain.forward(dnn, x, t)):
        dnn.zero_grad()
        x.grad = None
        function(x, t).square().sum().backward()
        gradients.append([p.grad.clone() for p in dnn.parameters()] + of_input * [x.grad])
    torch.testing.assert_close(*gradients)


def test_rows_of_scores_are_aligned_on_a_cpu():
    dnn, x, t = DNN(37, [8]), torch.randn(3, 37), torch.arange(3)
    output = dnn(x, t)
    assert output.stride() == (48, 1)
    output.mul_(2)  # a view made by a Function could not be changed
    with torch.autocast("cpu", torch.bfloat16):  # torch's own products
        assert dnn(x, t).dtype == torch.bfloat16


def test_initialisation():
    dnn = DNN(2000, [300])
    weight = dnn.in_layers[0].weight
    assert weight.std().item() == pytest.approx((2 / (2010 + 300)) ** 0.5, rel=0.02)
    assert dnn.out_layers[0].bias.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("inplace", [False, True])
def test_dropout_has_the_distribution_of_torch_dropout(inplace):
    x = torch.full((400, 500), 3.0, requires_grad=True)
    given = x * 1
    dropped = Dropout(0.3, inplace)(given)
    assert (dropped is given) == inplace
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 3 / 0.7))
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.7)
    assert Dropout(0.3, inplace).eval()(x) is x
    torch.manual_seed(0)
    without_gradient = Dropout(0.3)(x.detach())
    torch.manual_seed(0)
    assert torch.equal(without_gradient, Dropout(0.3)(x))
    assert (x == 3).all()


def test_dropout_of_low_precision_has_its_rate():
    """Uniform numbers of eight bits are below .1 in 26 of 256 cases."""
    x = torch.ones(2_000_000, dtype=torch.bfloat16)
    dropped = Dropout(0.1)(x)
    assert dropped.dtype == torch.bfloat16
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize(
    "wrong", [{"dims": []}, {"dims": [3], "dropout": 1.0}, {"dims": [3], "act_func": "gelu"}]
)
def test_wrong_networks(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        DNN(10, **wrong)


@pytest.mark.parametrize("steps", [1, 2, 40])
@pytest.mark.parametrize("dims", ["[30]", "[10,30]"])
@pytest.mark.parametrize("scale", ["0", "0.5"])
@pytest.mark.parametrize("sampling_steps", [0, 1])
def test_hidden_space_gives_the_plain_scores(tiny, settings, steps, dims, scale, sampling_steps):
    model = DiffRec(
        tiny.n_items,
        settings(
            "--dims", dims, "--steps", str(steps), "--noise_scale", scale,
            "--sampling_steps", str(sampling_steps),
        ),
    ).eval()  # fmt: skip
    batch = tiny.train.slice(3, 40)
    with torch.inference_mode():
        torch.manual_seed(1)
        fast = model.scorer()(batch)
        torch.manual_seed(1)
        slow = model.plain_scorer()(batch)
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert torch.equal(fast.topk(10).indices, slow.topk(10).indices)


def test_hidden_space_to_1e_6_in_double_precision(tiny, settings):
    model = DiffRec(tiny.n_items, settings("--dims", "[10,30]", "--steps", "40")).double().eval()
    x = tiny.train.slice(0, 20).dense().double()
    with torch.inference_mode():
        reverse = HiddenSpaceReverse.of(model.dnn, model.diffusion, sampling_noise=False)
        fast = reverse.decode(reverse.hidden(reverse.encode(x)))
        torch.testing.assert_close(fast, model.diffusion.denoise(model.dnn, x), rtol=0, atol=1e-6)


def test_weighted_rows_encode_as_their_dense_form(tiny, settings):
    model = DiffRec(tiny.n_items, settings("--dims", "[30]")).eval()
    rows = tiny.train.slice(0, 9)
    rows = rows.with_values(torch.rand(len(rows.items)))
    with torch.inference_mode():
        torch.testing.assert_close(
            model.scorer()(rows), model.plain_scorer()(rows), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "flags", [["--mean_type", "eps"], ["--norm", "1"], ["--sampling_noise", "1"]]
)
def test_where_hidden_space_does_not_apply_the_plain_chain_runs(tiny, settings, flags):
    model = DiffRec(tiny.n_items, settings("--steps", "3", *flags)).eval()
    batch = tiny.train.slice(0, 8)
    with torch.inference_mode():
        torch.manual_seed(1)
        scores = model.scorer()(batch)
        torch.manual_seed(1)
        expected = model.diffusion.denoise(
            model.dnn, batch.dense(), sampling_noise="--sampling_noise" in flags
        )
    torch.testing.assert_close(scores, expected)


class Doubled(DNN):
    """A network of a user's own, which says nothing of its ends."""

    def forward(self, x_t, t):
        return 2 * super().forward(x_t, t)


class OwnStep(GaussianDiffusion):
    """A diffusion whose reverse step is not that of Eq. 10."""

    def p_sample(self, denoiser, x_t, t, sampling_noise=False):
        return 0.5 * x_t + denoiser(x_t, t)


@pytest.mark.parametrize("own", ["network", "any module", "diffusion"])
def test_what_says_nothing_of_its_form_gets_the_plain_chain(tiny, own):
    class Own(DiffRec):
        def make_networks(self, settings):
            self.dnn = Doubled(self.n_items, settings.dims)
            if own == "any module":
                self.dnn = torch.nn.Bilinear(self.n_items, 1, self.n_items)
                self.dnn.forward = lambda x, t: x * (t[:, None] + 1)
            if own == "diffusion":
                self.dnn = DNN(self.n_items, settings.dims)
                self.diffusion = OwnStep(steps=settings.steps)

    model = Own(tiny.n_items, dims=[8], steps=3).eval()
    batch = tiny.train.slice(0, 8)
    with torch.inference_mode():
        scores = model.scorer()(batch)
        expected = model.diffusion.denoise(model.dnn, batch.dense())
    torch.testing.assert_close(scores, expected)
    assert model.reverse() is None
    with pytest.raises(InputError, match="linear ends"):
        model.factors()


def test_a_network_may_say_what_its_ends_are(tiny):
    class Scaled(DNN):
        def forward(self, x_t, t):
            return super().forward(x_t, t)

        def linear_ends(self):
            of_items, of_embedding = self.first_layer()
            last = self.out_layers[-1]
            return LinearEnds(
                of_items, lambda t: self.step_term(t, of_embedding), self.after_first_layer,
                last.weight, last.bias,
            )  # fmt: skip

    class Own(DiffRec):
        def make_networks(self, settings):
            self.dnn = Scaled(self.n_items, settings.dims)

    model = Own(tiny.n_items, dims=[8], steps=3).eval()
    assert model.reverse() is not None
    batch = tiny.train.slice(0, 8)
    with torch.inference_mode():
        torch.testing.assert_close(
            model.scorer()(batch), model.plain_scorer()(batch), rtol=1e-4, atol=1e-5
        )
