"""The variational autoencoder with multinomial likelihood (Liang et al. 2018, "MultiVAE").

On its own it is the paper's strongest baseline; L-DiffRec composes its parts per item cluster.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from DiffRec.models.layers import ACTIVATIONS, Dropout


def mlp(sizes: list[int], act_func: str, activate_last: bool) -> list[nn.Module]:
    """Linear layers of the given sizes with activations between, and after the last if asked to.

    Weights are Xavier-normal, biases 0.
    """
    if min(sizes) < 1:
        raise ValueError(f"layer sizes must be positive, got {sizes}.")
    if act_func not in ACTIVATIONS:
        raise ValueError(f"act_func must be one of {', '.join(ACTIVATIONS)}, got {act_func}.")
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, ACTIVATIONS[act_func]()]
    return layers if activate_last else layers[:-1]


class GaussianEncoder(nn.Sequential):
    """x ↦ (μ, log σ²) of q(z | x) = N(μ, σ²): (B, I) → twice (B, D).

    Args:
        n_items: I.
        dims: hidden sizes, then D, the size of z.
        act_func: between layers, and with ``activate_last`` on μ and log σ² too.
    """

    def __init__(self, n_items: int, dims: list[int], act_func: str, activate_last: bool):
        sizes = [n_items, *dims[:-1], 2 * dims[-1]]
        super().__init__(*mlp(sizes, act_func, activate_last))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mu, log_var = super().forward(x).chunk(2, dim=1)
        return mu, log_var


def reparameterize(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """z = μ + σ ε with ε ~ N(0, I); (B, D)."""
    return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)


def kl_to_standard_normal(mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """D_KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² - 1 - log σ²); (B, D) → (B,)."""
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(dim=1)


def annealed_kl_weight(n_batches: torch.Tensor, cap: float, steps: int) -> torch.Tensor:
    """The KL term's weight after n batches, both scalar tensors: n / steps, but at most the cap,
    and the cap from the start for 0 steps."""
    return (n_batches / steps if steps else n_batches + cap).clamp(max=cap)


def multinomial_nll(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """-log p(x) = -Σ_i x_i log softmax_i(logits), up to a constant; (B, I) → (B,)."""
    # Σ_i x_i logsumexp - Σ_i x_i logit_i: the log-softmax itself is never stored.
    return x.sum(dim=1) * logits.logsumexp(dim=1) - (x * logits).sum(dim=1)


class VAE(nn.Module):
    """MultiVAE: I → hidden → D → hidden → I.

    Args:
        n_items: I.
        dims: sizes from the bottleneck outwards: [200, 600] is I-600-200-600-I with D = 200.
        act_func: activation between layers; μ, log σ² and the logits are linear.
        dropout: rate on the input, whose rows are scaled to unit L2 length first.
    """

    def __init__(self, n_items: int, dims: list[int], act_func: str = "tanh", dropout: float = 0.5):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.encoder = GaussianEncoder(n_items, dims[::-1], act_func, activate_last=False)
        self.decoder = nn.Sequential(*mlp([*dims, n_items], act_func, activate_last=False))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x: (B, I) → logits (B, I), μ and log σ² (B, D); z is μ itself in evaluation."""
        mu, log_var = self.encoder(self.dropout(F.normalize(x)))
        z = reparameterize(mu, log_var) if self.training else mu
        return self.decoder(z), mu, log_var

    def loss(self, x: torch.Tensor, beta: float) -> torch.Tensor:
        """Mean over users of -log p(x | z) + β D_KL(q(z | x) ‖ p(z)); a scalar."""
        logits, mu, log_var = self(x)
        return (multinomial_nll(logits, x) + beta * kl_to_standard_normal(mu, log_var)).mean()
