"""Algorithm 2 without leaving the network's hidden space: the same scores, far less work.

Let W be the first layer's columns of the items and V, b the last layer, so that x̂₀ = V h_t + b.
Eq. 10 is x_{t-1} = a_t x̂₀ + c_t x_t with the coefficients of Eq. 8. The network sees x_t only as
z_t = W x_t, and multiplying Eq. 10 by W gives

    z_{t-1} = a_t (M h_t + W b) + c_t z_t,     M = W V, of shape (d, d),

in which no vector has the length of the item catalogue. At t = 1, a_1 = 1 and c_1 = 0, so the
scores are x_0 = V h_1 + b. A user costs nnz·d + T·d² + I·d instead of 2·T·I·d operations.

It holds when the network's ends are linear, the reverse step has the form of Eq. 10 and no noise is
sampled on the way. `HiddenSpaceReverse.of` asks the network and the diffusion, and where either
says nothing the plain chain runs.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.layers import LinearEnds, wide_linear


class HiddenSpaceReverse:
    """The reverse chain on z_t, with all that users share made once.

    Args:
        ends: of the trained network.
        a, c: the coefficients a_t and c_t of Eq. 10, t = 1..T.
    """

    @classmethod
    def of(cls, dnn: nn.Module, diffusion: GaussianDiffusion, sampling_noise: bool) -> Self | None:
        """The chain, or None where it would not be exact."""
        ends = getattr(dnn, "linear_ends", lambda: None)()
        coefficients = diffusion.reverse_coefficients()
        if ends is None or coefficients is None or sampling_noise:
            return None
        return cls(ends, *coefficients)

    def __init__(self, ends: LinearEnds, a: list[float], c: list[float]):
        self.ends, self.a, self.c = ends, a, c
        self.W_T = ends.W.T.contiguous()  # (I, d_1), a row per item
        self.M_T = ends.total(ends.V.T @ self.W_T)  # (d_n, d_1)

        # The terms without h_t or z_T are the same for every user and are summed beforehand: with
        # z_t = u_t + k_t, k_T = 0 and k_{t-1} = c_t k_t + a_t W b, only u_t is left to compute.
        W_b = ends.total(ends.b @ self.W_T)  # (d_1,)
        self.shifts = ends.shift(torch.arange(len(a), device=W_b.device))  # (T, d_1), added to u_t
        k = torch.zeros_like(W_b)
        for step in reversed(range(len(a))):
            self.shifts[step] += k
            k = c[step] * k + a[step] * W_b

    def encode(self, x_T: torch.Tensor) -> torch.Tensor:
        """z_T = W x_T: (B, I) → (B, d_1)."""
        return self.ends.total(x_T @ self.W_T)

    def encode_sparse(
        self, items: torch.Tensor, offsets: torch.Tensor, values: torch.Tensor | None
    ) -> torch.Tensor:
        """z_T = W x_0 from the CSR rows of x_0 alone, for T' = 0; returns (B, d_1).

        items: (nnz,) columns; offsets: (B + 1,) row starts; values: (nnz,), or None for ones.
        """
        z = F.embedding_bag(items, self.W_T, offsets[:-1], mode="sum", per_sample_weights=values)
        return self.ends.total(z)

    def hidden(self, z: torch.Tensor) -> torch.Tensor:
        """h_1, (B, d_n), from z_T, (B, d_1): all T reverse steps but the last decoding."""
        u = z
        for step in reversed(range(1, len(self.a))):
            h = self.ends.inner(u + self.shifts[step])
            u = torch.addmm(u, h, self.M_T, beta=self.c[step], alpha=self.a[step])
        return self.ends.inner(u + self.shifts[0])

    def decode(self, h: torch.Tensor) -> torch.Tensor:
        """x̂₀ = V h + b: (B, d_n) → (B, I)."""
        return wide_linear(h, self.ends.V, self.ends.b)
