"""A Transformer encoder of item sequences, which the sequence models share."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from baselines.sequences import at
from DiffRec.models.layers import Dropout

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
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

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool,
        last: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """mask: True where a position (row) may see another (column), or what is added to the
        logits; it must fit (B, heads, L, L). last, (B,): give these positions alone, (B, d)."""
        B, L, d = x.shape
        rate = self.rate if self.training else 0.0
        if last is None:
            q, k, v = self.qkv(x).view(B, L, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
            h = F.scaled_dot_product_attention(q, k, v, mask, rate, is_causal=causal)
            return self.output(h.transpose(1, 2).reshape(B, L, d))
        (of_q, of_kv), (b_q, b_kv) = (p.split([d, 2 * d]) for p in self.qkv.parameters())
        q = F.linear(at(x, last), of_q, b_q).view(B, self.heads, 1, d // self.heads)
        k, v = F.linear(x, of_kv, b_kv).view(B, L, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if causal:
            mask = key_mask(last + 1, L)
        elif mask is not None and mask.shape[2] > 1:
            mask = at(mask.transpose(1, 2), last)[:, :, None]
        h = F.scaled_dot_product_attention(q, k, v, mask, rate)
        return self.output(h.reshape(B, d))


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
        # No layer before them needs what it gave again, to compute gradients.
        self.dropout, self.end = Dropout(dropout, inplace=True), Dropout(end_dropout, inplace=True)
        self.inner_dropout = Dropout(inner_dropout, inplace=True)
        self.activation, self.norm_first = ACTIVATIONS[activation], norm_first

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool,
        last: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """(B, L, d), or (B, d) of the positions ``last``, (B,), alone."""
        of_attention, of_network = self.norms
        h = self.attention(of_attention(x) if self.norm_first else x, mask, causal, last)
        x = (x if last is None else at(x, last)) + self.dropout(h)
        x = x if self.norm_first else of_attention(x)
        h = self.activation(self.first(of_network(x) if self.norm_first else x))
        x = x + self.dropout(self.second(self.inner_dropout(h)))
        return self.end(x if self.norm_first else of_network(x))


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
        self, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False,
        last: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """``causal``: a position sees itself and those before it, and ``mask`` must be None.
        ``last``, (B,): give one position of each sequence alone, (B, d), for which the last block
        computes no other."""
        *blocks, end = self.blocks
        for block in blocks:
            x = block(x, mask, causal)
        return end(x, mask, causal, last)


def key_mask(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """(B, 1, 1, L) bool for sequences of ``lengths``, (B,), that begin at the left: no position
    sees padding. The first place is always seen, so that an empty sequence gives numbers."""
    places = torch.arange(width, device=lengths.device)
    return (places < lengths.clamp(min=1)[:, None])[:, None, None]
