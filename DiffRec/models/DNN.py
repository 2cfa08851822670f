"""The denoising network x̂_θ(x_t, t): an MLP that sees x_t and the embedding of t (Section 3.2)."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from DiffRec.models.layers import (
    ACTIVATIONS,
    Dropout,
    LinearEnds,
    as_it_is,
    inference_activation,
    joined_linear,
    wide_linear,
)


def timestep_embedding(t: torch.Tensor, size: int, max_period: float = 10_000.0) -> torch.Tensor:
    """Sinusoidal embedding of the diffusion step.

    t: (B,) steps counted from 0 (the paper's t - 1); returns (B, size) float32: the cosines of
    the ``size // 2`` frequencies, then their sines, then one zero if ``size`` is odd.
    """
    half = size // 2
    rates = -math.log(max_period) / max(half, 1)
    frequencies = torch.exp(rates * torch.arange(half, dtype=torch.float32, device=t.device))
    angles = t[:, None].float() * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, size % 2))


class DNN(nn.Module):
    """MLP over the concatenation of x_t and a learned map of the timestep embedding.

    Args:
        n_items: I, the width of the vectors that are diffused.
        dims: hidden sizes written from the bottleneck outwards: [200, 600] builds
            I → 600 → 200 → 600 → I, and [1000] builds I → 1000 → I.
        emb_size: size of the timestep embedding (10 in the paper).
        act_func: activation between layers; there is none after the last.
        norm: scale every input row to unit L2 length first.
        dropout: rate applied to the *noised* input while training.

    The names of the parameters are those of the released checkpoints.

    Attributes:
        total, shared: what becomes of W x_t, and of the last hidden h, where this process has the
            weights of some items alone (`DiffRec.engine.shards`).
    """

    total: Callable[[torch.Tensor], torch.Tensor] = staticmethod(as_it_is)
    shared: Callable[[torch.Tensor], torch.Tensor] = staticmethod(as_it_is)

    def __init__(
        self,
        n_items: int,
        dims: Sequence[int],
        emb_size: int = 10,
        act_func: str = "tanh",
        norm: bool = False,
        dropout: float = 0.5,
    ):
        super().__init__()
        if not dims or min(dims) < 1:
            raise ValueError(f"dims must hold at least one positive layer size, got {dims}.")
        if emb_size < 1:
            raise ValueError(f"emb_size must be at least 1, got {emb_size}.")
        if act_func not in ACTIVATIONS:
            raise ValueError(f"act_func must be one of {', '.join(ACTIVATIONS)}, got {act_func}.")
        self.n_items, self.emb_size, self.norm = n_items, emb_size, norm
        inward = [n_items + emb_size, *reversed(dims)]
        outward = [*dims, n_items]
        self.emb_layer = nn.Linear(emb_size, emb_size)
        self.in_layers = nn.ModuleList(map(nn.Linear, inward[:-1], inward[1:]))
        self.out_layers = nn.ModuleList(map(nn.Linear, outward[:-1], outward[1:]))
        self.activation = ACTIVATIONS[act_func]()
        self.dropout = Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights ~ N(0, 2 / (fan_in + fan_out)), biases ~ N(0, 0.001²), as released."""
        for layer in (*self.in_layers, *self.out_layers, self.emb_layer):
            fan_out, fan_in = layer.weight.shape
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / (fan_in + fan_out)))
            nn.init.normal_(layer.bias, 0.0, 0.001)

    def first_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The first layer's weights on the items, W: (d_1, I), and on the embedding."""
        first = cast(nn.Linear, self.in_layers[0])
        return first.weight.split([self.n_items, self.emb_size], dim=1)

    def embed(self, t: torch.Tensor) -> torch.Tensor:
        """The learned embedding of steps t, (B,) counted from 0: (B, emb_size)."""
        return self.emb_layer(timestep_embedding(t, self.emb_size).to(self.emb_layer.weight.dtype))

    def step_term(self, t: torch.Tensor, of_embedding: torch.Tensor) -> torch.Tensor:
        """What step t, (B,) counted from 0, adds to the first pre-activation, bias included."""
        first = cast(nn.Linear, self.in_layers[0])
        return F.linear(self.embed(t), of_embedding, first.bias)

    def after_first_layer(self, a: torch.Tensor, activation=None) -> torch.Tensor:
        """From the first layer's pre-activation a, (B, d_1), to the last hidden h, (B, d_n).

        ``activation`` may be another form of the network's own function.
        """
        activation = activation or self.activation
        h = activation(a)
        for layer in (*self.in_layers[1:], *self.out_layers[:-1]):
            h = activation(layer(h))
        return h

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t: (B, I) float, t: (B,) steps counted from 0; returns (B, I): x̂₀, or ε̂."""
        if self.norm:
            x_t = F.normalize(x_t)
        first, last = cast(nn.Linear, self.in_layers[0]), cast(nn.Linear, self.out_layers[-1])
        x, e = self.dropout(x_t), self.embed(t)
        a = joined_linear(x, e, first.weight, first.bias, self.total)
        return wide_linear(self.shared(self.after_first_layer(a)), last.weight, last.bias)

    def linear_ends(self) -> LinearEnds | None:
        """The ends, if they are linear in x_t and so is nothing before them; else None.

        A subclass with another ``forward`` has none until it overrides this too.
        """
        if self.norm or type(self).forward is not DNN.forward:
            return None
        of_items, of_embedding = self.first_layer()
        last = cast(nn.Linear, self.out_layers[-1])
        activation = inference_activation(self.activation, last.weight.device)
        return LinearEnds(
            W=of_items,
            shift=lambda t: self.step_term(t, of_embedding),
            inner=lambda a: self.after_first_layer(a, activation),
            V=last.weight,
            b=last.bias,
            total=self.total,
        )
