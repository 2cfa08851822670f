"""Gaussian diffusion of interaction vectors: Sections 3.1 to 3.3 of the paper.

The paper counts steps t = 1..T. A tensor of steps here holds t - 1, so it indexes the tables
directly. Symbols: β_t, α_t = 1 - β_t, ᾱ_t = α_1 ··· α_t, with ᾱ_0 = 1.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from DiffRec.models.layers import as_it_is

NOISE_SCHEDULES = ("linear-var", "linear", "cosine", "binomial", "sqrt", "trunc_lin")
MEAN_TYPES = ("x0", "eps")
LOSS_WEIGHTS = ("released", "paper")
LOSS_REDUCTIONS = ("mean", "sum")

# x̂_θ(x_t, t), or ε̂_θ(x_t, t): (B, …), (B,) → (B, …)
Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def betas_from_variances(variances: torch.Tensor) -> torch.Tensor:
    """The β_t whose products ᾱ_t give 1 - ᾱ_t = ``variances``: (T,) → (T,)."""
    return betas_along(torch.cat([torch.ones(1, dtype=variances.dtype), 1 - variances]))


def betas_along(alpha_bar: torch.Tensor) -> torch.Tensor:
    """The β_t = 1 - ᾱ_t / ᾱ_{t-1}, at most 0.999, of ᾱ_0..ᾱ_T: (T + 1,) → (T,)."""
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def make_betas(
    noise_schedule: str, steps: int, noise_scale: float, noise_min: float, noise_max: float
) -> torch.Tensor:
    """β_1..β_T, (T,) float64.

    linear-var: 1 - ᾱ_t rises linearly from s·α_min to s·α_max (Eq. 4).
    linear:     β_t itself rises linearly between the same bounds (Ho et al. 2020).
    cosine:     ᾱ_t / ᾱ_0 follows a squared cosine (Nichol & Dhariwal 2021); ignores s and the
                bounds.
    binomial:   β_t = 1 / (T - t + 2), the release's variant of Sohl-Dickstein et al. 2015, 2.4.1;
                ignores s and the bounds.
    sqrt:       ᾱ_t / ᾱ_0 follows 1 - √(u + 10⁻⁴) at u = t / T (Li et al. 2022); ignores s and
                the bounds.
    trunc_lin:  β_t rises linearly from a + 0.01 to 200 a + 0.01 with a = 0.1 / T, or, where that
                would exceed 1, to 10 a + 0.01 (the release of DiffuRec); ignores s and the bounds.
    """
    if noise_schedule in ("linear-var", "linear"):
        bounds = noise_scale * noise_min, noise_scale * noise_max
        line = torch.linspace(*bounds, steps, dtype=torch.float64)
        return line if noise_schedule == "linear" else betas_from_variances(line)
    if noise_schedule == "cosine":
        time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        return betas_along(torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2)
    if noise_schedule == "sqrt":
        time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        return betas_along(1 - torch.sqrt(time + 1e-4))
    if noise_schedule == "trunc_lin":
        low = 0.1 / steps
        high = 200 * low + 0.01
        high = high if high <= 1 else 10 * low + 0.01
        return torch.linspace(low + 0.01, high, steps, dtype=torch.float64)
    if noise_schedule == "binomial":
        return 1 / torch.arange(steps + 1, 1, -1, dtype=torch.float64)
    raise ValueError(
        f"noise_schedule must be one of {', '.join(NOISE_SCHEDULES)}, got {noise_schedule}."
    )


class GaussianDiffusion(nn.Module):
    """Forward process, posterior, losses and reverse inference.

    What is diffused has the shape (B, …): vectors over items, (B, I), or tensors of any rank, each
    sample with a step of its own.

    Args:
        mean_type: what the network predicts, x̂₀ ("x0", the paper's choice) or ε̂ ("eps").
        noise_schedule, noise_scale, noise_min, noise_max, steps: see `make_betas`; they are the
            paper's s, α_min, α_max and T. ``noise_scale`` 0 means no noise at all.
        beta_fixed: overwrite β_1 with 1e-5, as released for DiffRec and T-DiffRec.
        reweight: weight the squared error of step t as the ELBO does; if false every weight is 1.
        loss_weight: "paper" takes Eq. 11's weights, "released" those of the authors' code.
        loss_reduction: "mean" of the squared error over the items (released) or its "sum" (paper).

    Attributes:
        total, share: where x holds some of the items alone, the sum of a user's errors over all
            processes, and the part of the items that are here (`DiffRec.engine.shards`).

    Raises ValueError, in one sentence, for settings that define no diffusion.
    """

    total: Callable[[torch.Tensor], torch.Tensor] = staticmethod(as_it_is)
    share: float = 1.0
    beta: torch.Tensor
    alpha_bar: torch.Tensor
    alpha_bar_prev: torch.Tensor
    posterior_x_t: torch.Tensor
    posterior_x0: torch.Tensor
    posterior_variance: torch.Tensor
    loss_weights: torch.Tensor

    def __init__(
        self,
        *,
        mean_type: str = "x0",
        noise_schedule: str = "linear-var",
        noise_scale: float = 0.1,
        noise_min: float = 0.0001,
        noise_max: float = 0.02,
        steps: int = 100,
        beta_fixed: bool = True,
        reweight: bool = True,
        loss_weight: str = "released",
        loss_reduction: str = "mean",
    ):
        super().__init__()
        for name, value, known in (
            ("mean_type", mean_type, MEAN_TYPES),
            ("loss_weight", loss_weight, LOSS_WEIGHTS),
            ("loss_reduction", loss_reduction, LOSS_REDUCTIONS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value}.")
        if steps < 1:
            raise ValueError(f"steps (T) must be at least 1, got {steps}.")
        if noise_scale < 0:
            raise ValueError(f"noise_scale (s) must not be negative, got {noise_scale}.")
        if noise_scale == 0 and mean_type == "eps":
            raise ValueError("mean_type eps needs noise to predict: noise_scale must not be 0.")
        if noise_schedule in ("linear-var", "linear") and noise_min >= noise_max:
            raise ValueError(
                f"noise_min must be smaller than noise_max, got {noise_min} and {noise_max}."
            )
        if noise_schedule == "linear-var" and noise_scale * noise_max > 1:
            raise ValueError(
                f"noise_scale * noise_max is the largest variance 1 - alpha_bar of Eq. 4 and must "
                f"not exceed 1, got {noise_scale} * {noise_max}."
            )
        self.mean_type, self.steps, self.noise_scale = mean_type, steps, noise_scale
        self.loss_reduction = loss_reduction

        beta = self.betas(noise_schedule, steps, noise_scale, noise_min, noise_max)
        if noise_scale == 0:
            beta = torch.zeros(steps, dtype=torch.float64)
        elif not ((beta > 0) & (beta <= 1)).all():
            raise ValueError(
                f"every beta must lie in (0, 1], but noise_schedule {noise_schedule} with "
                f"noise_scale {noise_scale}, noise_min {noise_min}, noise_max {noise_max} and "
                f"steps {steps} gives {beta.min():.4g} to {beta.max():.4g}."
            )
        elif beta_fixed:
            beta[0] = 1e-5

        alpha_bar = torch.cumprod(1 - beta, dim=0)
        if mean_type == "eps" and alpha_bar[-1] == 0:
            raise ValueError(
                "mean_type eps cannot recover x_0 from pure noise, and the last beta is 1: lower "
                "noise_scale * noise_max."
            )
        alpha_bar_prev = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])  # ᾱ_{t-1}
        if noise_scale == 0:
            # x_t = x_0 for every t, and the release feeds x̂₀ back in: x_{t-1} = x̂₀.
            posterior_x_t, posterior_x0 = torch.zeros_like(beta), torch.ones_like(beta)
            posterior_variance = torch.zeros_like(beta)
        else:  # Eq. 8
            posterior_x_t = (1 - beta).sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
            posterior_x0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
            posterior_variance = beta * (1 - alpha_bar_prev) / (1 - alpha_bar)

        # (T,) float64 tables, cast to the data's type when used; no checkpoint holds them.
        for name, table in {
            "beta": beta,
            "alpha_bar": alpha_bar,
            "alpha_bar_prev": alpha_bar_prev,
            "posterior_x_t": posterior_x_t,
            "posterior_x0": posterior_x0,
            "posterior_variance": posterior_variance,
        }.items():
            self.register_buffer(name, table, persistent=False)
        unweighted = not reweight or noise_scale == 0
        weights = torch.ones_like(beta) if unweighted else self._elbo_weights(loss_weight)
        self.register_buffer("loss_weights", weights, persistent=False)

    def betas(
        self, noise_schedule: str, steps: int, noise_scale: float, noise_min: float,
        noise_max: float,
    ) -> torch.Tensor:  # fmt: skip
        """β_1..β_T, (T,) float64, by `make_betas`; a schedule of your own overrides this."""
        return make_betas(noise_schedule, steps, noise_scale, noise_min, noise_max)

    def _elbo_weights(self, kind: str) -> torch.Tensor:
        """(T,) weights of ‖target - output‖²; Eq. 12 gives the first, Eq. 11 the others."""
        beta, alpha_bar, alpha_bar_prev = self.beta, self.alpha_bar, self.alpha_bar_prev
        weights = torch.ones_like(beta)
        later = slice(1, None)
        if self.mean_type == "x0":
            snr = alpha_bar / (1 - alpha_bar)
            weights[later] = snr[:-1] - snr[1:]
            if kind == "paper":
                weights[later] /= 2
            return weights
        # In terms of ε, x̂₀ - x₀ = √((1-ᾱ)/ᾱ) (ε - ε̂), which turns Eq. 12 into:
        weights[0] = (1 - alpha_bar[0]) / alpha_bar[0]
        if kind == "paper":
            weights[later] = (beta / (2 * (1 - beta) * (1 - alpha_bar_prev)))[later]
        else:
            weights[0] /= 2
            weights[later] = ((1 - alpha_bar) / ((1 - alpha_bar_prev) ** 2 * (1 - beta)))[later]
        return weights

    @staticmethod
    def at(table: torch.Tensor, t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The table's entries at steps t: (B,) → (B, 1, …), in the type and rank of ``like``."""
        return table[t].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))

    # Forward process -----------------------------------------------------------------------

    def q_sample(self, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Eq. 3: x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε. x0, noise: (B, …); t: (B,); returns (B, …)."""
        signal = self.at(self.alpha_bar.sqrt(), t, x0)
        return (signal * x0).add_(self.at((1 - self.alpha_bar).sqrt(), t, x0) * noise)

    def q_posterior(
        self, x0: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. 7 and 8: mean μ̃(x_t, x_0, t), (B, …), and variance σ²(t), (B, 1, …)."""
        mean = self.at(self.posterior_x_t, t, x_t) * x_t + self.at(self.posterior_x0, t, x0) * x0
        return mean, self.at(self.posterior_variance, t, x_t)

    # Training --------------------------------------------------------------------------------

    def training_losses(
        self, denoiser: Denoiser, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """L_t of each user: Eq. 12 for t = 1, Eq. 11 for t > 1; (B,), not yet divided by p_t."""
        output = denoiser(self.q_sample(x0, t, noise), t)
        return self.losses_of_output(output, x0, t, noise)

    def losses_of_output(
        self, output: torch.Tensor, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """L_t, (B,), of a network output that was computed already; ValueError if it is no x̂₀ or ε̂
        of every entry."""
        if output.shape != x0.shape:  # or one number could stand for all
            raise ValueError(
                f"the network was given x_t of shape {tuple(x0.shape)} and must return that shape, "
                f"but returned {tuple(output.shape)}."
            )
        error = (output - (x0 if self.mean_type == "x0" else noise)).square().flatten(1)
        mean = self.loss_reduction == "mean"
        error = self.total(self.share * error.mean(dim=1) if mean else error.sum(dim=1))
        return self.loss_weights[t].to(error.dtype) * error

    # Reverse inference -----------------------------------------------------------------------

    def predict_x0(self, output: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x̂₀ from the network's output: itself, or Eq. 3 solved for x_0 when it is ε̂."""
        if self.mean_type == "x0":
            return output
        signal = self.at(self.alpha_bar.sqrt(), t, x_t)
        return (x_t - self.at((1 - self.alpha_bar).sqrt(), t, x_t) * output) / signal

    def p_sample(
        self, denoiser: Denoiser, x_t: torch.Tensor, t: torch.Tensor, sampling_noise: bool = False
    ) -> torch.Tensor:
        """One step x_t → x_{t-1} (Eq. 5): the mean μ_θ of Eq. 10, plus σ(t) ε if asked to."""
        x0_hat = self.predict_x0(denoiser(x_t, t), x_t, t)
        mean, variance = self.q_posterior(x0_hat, x_t, t)
        return mean + variance.sqrt() * torch.randn_like(x_t) if sampling_noise else mean

    def corrupt(self, x0: torch.Tensor, sampling_steps: int) -> torch.Tensor:
        """Algorithm 2, lines 1-2: x_{T'}; x_0 itself for T' = 0."""
        if sampling_steps == 0:
            return x0
        t = torch.full((len(x0),), sampling_steps - 1, device=x0.device)
        return self.q_sample(x0, t, torch.randn_like(x0))

    def denoise(
        self,
        denoiser: Denoiser,
        x0: torch.Tensor,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> torch.Tensor:
        """Algorithm 2: corrupt x_0 for T' steps, then denoise for all T steps; (B, …) → (B, …)."""
        x = self.corrupt(x0, sampling_steps)
        for step in reversed(range(self.steps)):
            t = torch.full((x.shape[0],), step, device=x.device)  # len would fix the size in graphs
            x = self.p_sample(denoiser, x, t, sampling_noise)
        return x

    def reverse_coefficients(self) -> tuple[list[float], list[float]] | None:
        """a_t and c_t, t = 1..T, if a reverse step is x_{t-1} = a_t x̂₀ + c_t x_t (Eq. 10), and None
        if it is not. A subclass with another reverse step has none until it says so itself."""
        steps = ("denoise", "p_sample", "predict_x0", "q_posterior")
        own = all(getattr(type(self), name) is getattr(GaussianDiffusion, name) for name in steps)
        if self.mean_type != "x0" or not own:
            return None
        return self.posterior_x0.tolist(), self.posterior_x_t.tolist()
