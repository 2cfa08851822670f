"""The diffusion against the paper's equations, computed independently in NumPy and float64."""

import numpy as np
import pytest
import torch

from DiffRec.models.gaussian_diffusion import NOISE_SCHEDULES, GaussianDiffusion, make_betas

T = 7
PUBLISHED = {"noise_scale": 0.5, "noise_min": 0.001, "noise_max": 0.01, "steps": T}


def numpy_tables(beta):
    alpha = 1 - beta
    alpha_bar = np.cumprod(alpha)
    return alpha, alpha_bar, np.concatenate([[1.0], alpha_bar[:-1]])


def eq4(s, low, high, steps):
    t = np.arange(1, steps + 1)
    return s * (low + (t - 1) / max(steps - 1, 1) * (high - low))


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def toy_network(x, t):
    """A fixed nonlinear denoiser, in torch or NumPy."""
    module = torch if isinstance(x, torch.Tensor) else np
    return module.tanh(0.7 * x) + 0.01 * (t[:, None] + 1) * x**2


def test_linear_var_is_eq_4():
    diffusion = GaussianDiffusion(**PUBLISHED, beta_fixed=False)
    np.testing.assert_allclose(
        1 - diffusion.alpha_bar.numpy(), eq4(0.5, 0.001, 0.01, T), rtol=1e-10
    )


def test_linear_is_linear_in_beta():
    betas = make_betas("linear", 5, 0.1, 0.1, 0.5).numpy()
    np.testing.assert_allclose(betas, [0.01, 0.02, 0.03, 0.04, 0.05])


def test_cosine_follows_the_squared_cosine():
    beta = make_betas("cosine", 10, 1, 0, 1).numpy()
    time = np.arange(11) / 10
    f = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.cumprod(1 - beta)[:-1], (f / f[0])[1:-1], rtol=1e-10)
    assert beta[-1] == 0.999


def test_binomial_by_hand():
    np.testing.assert_allclose(make_betas("binomial", 3, 1, 0, 1).numpy(), [1 / 4, 1 / 3, 1 / 2])


@pytest.mark.parametrize("noise_schedule", NOISE_SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_schedules_are_valid_and_fixed_beta_is_first(noise_schedule, steps):
    settings = {**PUBLISHED, "noise_schedule": noise_schedule, "steps": steps}
    free, fixed = (GaussianDiffusion(**settings, beta_fixed=b) for b in (False, True))
    assert fixed.beta[0] == 1e-5
    assert torch.equal(fixed.beta[1:], free.beta[1:])
    for diffusion in (free, fixed):
        assert ((diffusion.beta > 0) & (diffusion.beta <= 1)).all()
        assert (diffusion.alpha_bar.diff() < 0).all()
        # a_1 = 1 and c_1 = 0: the last reverse step returns x̂₀ itself
        assert diffusion.posterior_x0[0].item() == pytest.approx(1)
        assert diffusion.posterior_x_t[0] == 0
        assert diffusion.posterior_variance[0] == 0


def test_q_sample_is_eq_3():
    diffusion = GaussianDiffusion(**PUBLISHED)
    x0, noise = double(T, 6), double(T, 6)
    _, alpha_bar, _ = numpy_tables(diffusion.beta.numpy())
    expected = np.sqrt(alpha_bar)[:, None] * x0.numpy()
    expected += np.sqrt(1 - alpha_bar)[:, None] * noise.numpy()
    actual = diffusion.q_sample(x0, torch.arange(T), noise)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, x_0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x_0), a product of two Gaussians."""
    diffusion = GaussianDiffusion(**PUBLISHED)
    alpha, _, alpha_bar_prev = numpy_tables(diffusion.beta.numpy())
    x0, x_t = double(T, 4), double(T, 4)
    mean, variance = diffusion.q_posterior(x0, x_t, torch.arange(T))
    for t in range(1, T):
        precision = alpha[t] / (1 - alpha[t]) + 1 / (1 - alpha_bar_prev[t])
        weighted = np.sqrt(alpha[t]) * x_t[t].numpy() / (1 - alpha[t])
        weighted += np.sqrt(alpha_bar_prev[t]) * x0[t].numpy() / (1 - alpha_bar_prev[t])
        np.testing.assert_allclose(mean[t], weighted / precision, rtol=1e-9)
        np.testing.assert_allclose(variance[t], 1 / precision, rtol=1e-9)


def test_paper_loss_is_the_kl_of_eq_9():
    """Eq. 11 from first principles: ‖μ_θ - μ̃‖² / 2σ², and Eq. 12 for t = 1."""
    diffusion = GaussianDiffusion(**PUBLISHED, loss_weight="paper", loss_reduction="sum")
    x0, noise, t = double(T, 5), double(T, 5), torch.arange(T)
    x_t = diffusion.q_sample(x0, t, noise)
    x0_hat = toy_network(x_t, t)
    losses = diffusion.training_losses(toy_network, x0, t, noise)
    mean, variance = diffusion.q_posterior(x0, x_t, t)
    model_mean, _ = diffusion.q_posterior(x0_hat, x_t, t)
    expected = (model_mean - mean).square().sum(1)[1:] / (2 * variance[1:, 0])
    torch.testing.assert_close(losses[1:], expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(losses[0], (x0_hat - x0)[0].square().sum(), rtol=1e-12, atol=0)


def test_paper_losses_of_both_parameterisations_agree():
    """An ε̂ and the x̂₀ it implies have the same loss L_t."""
    x0_form, eps_form = (
        GaussianDiffusion(**PUBLISHED, mean_type=m, loss_weight="paper") for m in ("x0", "eps")
    )
    x0, noise, eps_hat, t = double(T, 5), double(T, 5), double(T, 5), torch.arange(T)
    x_t = x0_form.q_sample(x0, t, noise)
    x0_hat = eps_form.predict_x0(eps_hat, x_t, t)
    torch.testing.assert_close(
        eps_form.losses_of_output(eps_hat, x0, t, noise),
        x0_form.losses_of_output(x0_hat, x0, t, noise),
        rtol=1e-8, atol=0,
    )  # fmt: skip


def test_released_weights():
    """SNR differences without the half for x_0, and the release's own for ε."""
    x0_form, eps_form = (GaussianDiffusion(**PUBLISHED, mean_type=m) for m in ("x0", "eps"))
    alpha, alpha_bar, alpha_bar_prev = numpy_tables(x0_form.beta.numpy())
    snr = alpha_bar / (1 - alpha_bar)
    np.testing.assert_allclose(x0_form.loss_weights[1:], snr[:-1] - snr[1:], rtol=1e-10)
    assert x0_form.loss_weights[0] == 1
    expected = (1 - alpha_bar[1:]) / ((1 - alpha_bar_prev[1:]) ** 2 * alpha[1:])
    np.testing.assert_allclose(eps_form.loss_weights[1:], expected, rtol=1e-10)
    # t = 1 for ε: half the mean squared error of the x̂₀ it implies
    x0, noise, eps_hat, t = double(3, 5), double(3, 5), double(3, 5), torch.zeros(3).long()
    x_1 = eps_form.q_sample(x0, t, noise)
    half = (eps_form.predict_x0(eps_hat, x_1, t) - x0).square().mean(1) / 2
    torch.testing.assert_close(
        eps_form.losses_of_output(eps_hat, x0, t, noise), half, rtol=1e-8, atol=0
    )


@pytest.mark.parametrize("mean_type", ["x0", "eps"])
def test_without_reweighting_the_loss_is_the_plain_error(mean_type):
    diffusion = GaussianDiffusion(**PUBLISHED, reweight=False, mean_type=mean_type)
    x0, noise, output = double(T, 5), double(T, 5), double(T, 5)
    target = x0 if mean_type == "x0" else noise
    losses = diffusion.losses_of_output(output, x0, torch.arange(T), noise)
    torch.testing.assert_close(losses, (output - target).square().mean(1))


@pytest.mark.parametrize("mean_type", ["x0", "eps"])
@pytest.mark.parametrize("sampling_steps", [0, 3, T])
def test_reverse_chain_is_algorithm_2(mean_type, sampling_steps):
    diffusion = GaussianDiffusion(**PUBLISHED, mean_type=mean_type)
    alpha, alpha_bar, alpha_bar_prev = numpy_tables(diffusion.beta.numpy())
    x0 = double(4, 6)
    torch.manual_seed(5)
    actual = diffusion.denoise(toy_network, x0, sampling_steps)
    torch.manual_seed(5)
    x = x0.numpy()
    if sampling_steps:
        noise = torch.randn_like(x0).numpy()
        bar = alpha_bar[sampling_steps - 1]
        x = np.sqrt(bar) * x + np.sqrt(1 - bar) * noise
    for t in reversed(range(T)):
        output = toy_network(x, np.full(4, t))
        x0_hat = output
        if mean_type == "eps":
            x0_hat = (x - np.sqrt(1 - alpha_bar[t]) * output) / np.sqrt(alpha_bar[t])
        x = (  # Eq. 10
            np.sqrt(alpha[t]) * (1 - alpha_bar_prev[t]) / (1 - alpha_bar[t]) * x
            + np.sqrt(alpha_bar_prev[t]) * (1 - alpha[t]) / (1 - alpha_bar[t]) * x0_hat
        )
    np.testing.assert_allclose(actual, x, rtol=1e-6, atol=1e-9)


def test_x0_and_eps_chains_agree_for_equivalent_networks():
    """A denoiser of x_0, rewritten to predict ε, walks the same chain."""
    x0_form, eps_form = (GaussianDiffusion(**PUBLISHED, mean_type=m) for m in ("x0", "eps"))

    def as_eps(x, t):
        signal, noise = x0_form.alpha_bar[t].sqrt(), (1 - x0_form.alpha_bar[t]).sqrt()
        return (x - signal[:, None] * toy_network(x, t)) / noise[:, None]

    x0 = double(4, 6)
    torch.testing.assert_close(
        eps_form.denoise(as_eps, x0), x0_form.denoise(toy_network, x0), rtol=1e-6, atol=1e-9
    )


def test_sampling_noise_has_the_posterior_variance_and_none_at_the_end():
    diffusion = GaussianDiffusion(**PUBLISHED)
    x_t = torch.zeros(20_000, 1, dtype=torch.float64)
    for step in (0, 3):
        t = torch.full((len(x_t),), step)
        noisy = diffusion.p_sample(toy_network, x_t, t, sampling_noise=True)
        quiet = diffusion.p_sample(toy_network, x_t, t)
        expected = diffusion.posterior_variance[step].item()
        assert (noisy - quiet).var().item() == pytest.approx(expected, rel=0.05)


def test_no_noise_at_all():
    """Figure 6's s = 0: x_t = x_0, equal weights, and x̂₀ fed back in T times."""
    diffusion = GaussianDiffusion(noise_scale=0.0, steps=3)
    x0, noise, t = double(4, 5), double(4, 5), torch.tensor([0, 1, 2, 2])
    torch.testing.assert_close(diffusion.q_sample(x0, t, noise), x0)
    assert diffusion.loss_weights.tolist() == [1, 1, 1]
    expected = x0
    for step in (2, 1, 0):
        expected = toy_network(expected, torch.full((4,), step))
    torch.testing.assert_close(diffusion.denoise(toy_network, x0, sampling_steps=2), expected)


def test_one_step():
    diffusion = GaussianDiffusion(**{**PUBLISHED, "steps": 1})
    x0 = double(4, 5)
    torch.testing.assert_close(
        diffusion.denoise(toy_network, x0), toy_network(x0, torch.zeros(4).long())
    )


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"noise_min": 0.01, "noise_max": 0.01}, "noise_min"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"noise_min": 0.0}, "beta"),
        ({"noise_scale": 200.0}, "exceed 1"),
        ({"noise_schedule": "linear", "noise_scale": 200.0}, "beta"),
        ({"noise_schedule": "quadratic"}, "noise_schedule"),
        ({"mean_type": "v"}, "mean_type"),
        ({"mean_type": "eps", "noise_scale": 0.0}, "eps"),
    ],
)
def test_settings_that_define_no_diffusion(wrong, word):
    with pytest.raises(ValueError, match=word):
        GaussianDiffusion(**{**PUBLISHED, **wrong})


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 4, 3), (6, 2, 3, 2)])
@pytest.mark.parametrize("mean_type", ["x0", "eps"])
def test_tensors_of_any_rank_are_diffused_entry_by_entry(shape, mean_type):
    """A step for each sample; the rest is as for the flattened vectors."""
    diffusion = GaussianDiffusion(steps=6, mean_type=mean_type, noise_scale=0.5)
    x0, noise, t = torch.randn(shape), torch.randn(shape), torch.arange(6)

    def denoiser(x, steps):
        return x * 0.5 + (steps + 1.0).reshape(-1, *[1] * (x.ndim - 1))

    flat = [x.reshape(6, -1) for x in (x0, noise)]
    torch.testing.assert_close(
        diffusion.q_sample(x0, t, noise).reshape(6, -1), diffusion.q_sample(flat[0], t, flat[1])
    )
    if x0.ndim > 1:
        torch.testing.assert_close(
            diffusion.training_losses(denoiser, x0, t, noise),
            diffusion.training_losses(denoiser, flat[0], t, flat[1]),
        )
    torch.testing.assert_close(
        diffusion.denoise(denoiser, x0).reshape(6, -1), diffusion.denoise(denoiser, flat[0])
    )
    mean, variance = diffusion.q_posterior(x0, noise, t)
    assert (mean.shape, variance.shape) == (shape, (6, *[1] * (len(shape) - 1)))


def test_pure_noise_can_not_be_predicted_away():
    """A last beta of 1 leaves nothing of x_0: its mean is known, but not from the noise."""
    linear = {"noise_schedule": "linear", "noise_scale": 1.0, "noise_max": 1.0, "steps": 4}
    with pytest.raises(ValueError, match="eps cannot recover x_0 from pure noise"):
        GaussianDiffusion(mean_type="eps", **linear)
    x0 = torch.rand(2, 5)
    found = GaussianDiffusion(mean_type="x0", **linear).denoise(lambda x, t: x0, x0, 4)
    assert found.isfinite().all()


def test_who_changes_the_reverse_step_says_its_coefficients():
    class Own(GaussianDiffusion):
        def p_sample(self, denoiser, x_t, t, sampling_noise=False):
            return denoiser(x_t, t)

    assert Own(steps=3).reverse_coefficients() is None
    assert GaussianDiffusion(steps=3, mean_type="eps").reverse_coefficients() is None
    a, c = GaussianDiffusion(steps=3).reverse_coefficients()
    assert (a[0], c[0]) == pytest.approx((1, 0), abs=1e-9)
