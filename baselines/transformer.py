"""A Transformer encoder of item sequences, which the sequence models share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from DiffRec.models.layers import Dropout

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, Section 3.2), (B, L, d) → (B, L, d).

    Args:
        size: d, a multiple of ``heads``.
        dropout: rate on the attention weights.
    """

    def __init__(self, size: int, heads: int, dropout: float):
        super().__init__()
        if size % heads:
            raise ValueError(f"emb_size {size} must be a multiple of heads {heads}.")
        self.heads, self.rate = heads, dropout
        self.qkv = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
        """mask: True where a position (row) may see another (column), or what is added to the
        logits; it must fit (B, heads, L, L)."""
        B, L, d = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, mask, rate, is_causal=causal)
        return self.output(h.transpose(1, 2).reshape(B, L, d))


class Block(nn.Module):
    """Attention and a network of two layers, each with a residual connection and LayerNorm.

    Args:
        inner: the hidden size of the network.
        norm_first: x + f(LN(x)), or LN(x + f(x)).
        end_dropout: rate on what leaves the block; inner_dropout: on the hidden layer.
    """

    def __init__(
        self, size: int, heads: int, inner: int, dropout: float, activation: str = "gelu",
        norm_first: bool = False, end_dropout: float = 0.0, inner_dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.attention = Attention(size, heads, dropout)
        self.first, self.second = nn.Linear(size, inner), nn.Linear(inner, size)
        self.norms = nn.ModuleList(nn.LayerNorm(size, eps=1e-12) for _ in range(2))
        self.dropout, self.end = Dropout(dropout), Dropout(end_dropout)
        self.inner_dropout = Dropout(inner_dropout)
        self.activation, self.norm_first = ACTIVATIONS[activation], norm_first

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
        def attend(h: torch.Tensor) -> torch.Tensor:
            return self.dropout(self.attention(h, mask, causal))

        def think(h: torch.Tensor) -> torch.Tensor:
            return self.dropout(self.second(self.inner_dropout(self.activation(self.first(h)))))

        for part, norm in zip((attend, think), self.norms, strict=True):
            x = x + part(norm(x)) if self.norm_first else norm(x + part(x))
        return self.end(x)


class Encoder(nn.Module):
    """``layers`` blocks one after another, (B, L, d) → (B, L, d); see `Block`."""

    def __init__(
        self, layers: int, size: int, heads: int, inner: int, dropout: float,
        activation: str = "gelu", norm_first: bool = False, end_dropout: float = 0.0,
        inner_dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(size, heads, inner, dropout, activation, norm_first, end_dropout, inner_dropout)
            for _ in range(layers)
        )

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
    ) -> torch.Tensor:
        """``causal``: a position sees itself and those before it, and ``mask`` must be None."""
        for block in self.blocks:
            x = block(x, mask, causal)
        return x


def key_mask(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """(B, 1, 1, L) bool for sequences of ``lengths``, (B,), that begin at the left: no position
    sees padding. The first place is always seen, so that an empty sequence gives numbers."""
    places = torch.arange(width, device=lengths.device)
    return (places < lengths.clamp(min=1)[:, None])[:, None, None]
