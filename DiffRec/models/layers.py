"""Small parts the networks share."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}


class Dropout(nn.Dropout):
    """`nn.Dropout` that on a CPU takes a third of the time, or with gradients less than half.

    The distribution is the same: each entry is 0 with probability p and scaled by 1 / (1 - p)
    otherwise. PyTorch draws Bernoulli numbers one by one on a CPU, but uniform ones in vectors, and
    those of float32 alone; with the 8 bits of bfloat16 the rate would be another, too.
    With ``inplace`` what it is given is overwritten, which saves memory.
    """

    def __init__(self, p: float, inplace: bool = False):
        if not 0 <= p < 1:
            raise ValueError(f"a rate of dropout must lie in [0, 1), got {p}.")
        super().__init__(p, inplace)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":  # the form that is one kernel there
            return F.dropout(x, self.p)
        drawn = torch.rand_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        factors = drawn.ge_(self.p).mul_(1 / (1 - self.p)).to(x.dtype)
        if self.inplace:
            return x.mul_(factors)
        return x * factors if x.requires_grad else factors.mul_(x)


def states_of(rnn: nn.RNNBase, x: torch.Tensor) -> torch.Tensor:
    """A recurrent layer's states, (B, L, d). On a GPU autocast would run it in float16, whose range
    is too small to train in without scaling: there it stays in float32."""
    if x.device.type != "cuda":
        return rnn(x)[0]
    with torch.autocast("cuda", enabled=False):
        return rnn(x.float())[0]


# Products on a CPU. Their kernels take half as long again where the rows of what they write do not
# begin at multiples of 64 bytes, as those of most numbers of items do not.

ROUND = 16  # numbers that an aligned row is a multiple of
COLUMNS = 2048  # of a gradient that are computed at a time: they stay in the cache


def by_hand(x: torch.Tensor) -> bool:
    """Whether a product with x is computed here: not on other devices, nor in lower precision, nor
    in a graph."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not torch.is_autocast_enabled("cpu")


class WideLinear(torch.autograd.Function):
    """x Wᵀ + b in aligned rows."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
        ctx.save_for_backward(x, weight)
        columns = len(weight)
        stride = -(-columns // ROUND) * ROUND
        out = torch.empty_strided((len(x), columns), (stride, 1), dtype=x.dtype, device=x.device)
        return torch.addmm(bias, x, weight.T, out=out)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ x, gradient.sum(dim=0)


def wide_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`F.linear` to many columns: (B, n), (I, n), (I,) → (B, I), on a CPU in rows with a gap."""
    return WideLinear.apply(x, weight, bias) if by_hand(x) else F.linear(x, weight, bias)


class JoinedLinear(torch.autograd.Function):
    """x Wᵀ + (e Uᵀ + b), where the columns of W and then those of U are one parameter: its gradient
    is written in one piece."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, e: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
        total: Callable[[torch.Tensor], torch.Tensor],
    ):  # fmt: skip
        ctx.save_for_backward(x, e, weight)
        W, U = weight.split([x.shape[1], e.shape[1]], dim=1)
        return total(x @ W.T).add_(torch.addmm(bias, e, U.T))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        x, e, weight = ctx.saved_tensors
        n = x.shape[1]
        of_weight = torch.empty_like(weight)
        some = weight.new_empty(len(weight), COLUMNS)
        for start in range(0, n, COLUMNS):
            columns = slice(start, min(start + COLUMNS, n))
            out = some[:, : columns.stop - start]
            of_weight[:, columns] = torch.mm(gradient.T, x[:, columns], out=out)
        of_weight[:, n:] = gradient.T @ e
        of_x = gradient @ weight[:, :n] if ctx.needs_input_grad[0] else None
        return of_x, gradient @ weight[:, n:], of_weight, gradient.sum(dim=0), None


def as_it_is(x: torch.Tensor) -> torch.Tensor:
    """What the sum over processes is, and all that goes with it, where there is only one."""
    return x


def joined_linear(
    x: torch.Tensor, e: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
    total: Callable[[torch.Tensor], torch.Tensor] = as_it_is,
) -> torch.Tensor:  # fmt: skip
    """`F.linear` on the concatenation of x, (B, n), and e, (B, m), without making it: autograd
    skips the gradient of x if nobody needs it. weight: (d, n + m); total: of the product with x."""
    if by_hand(x):
        return JoinedLinear.apply(x, e, weight, bias, total)
    W, U = weight.split([x.shape[1], e.shape[1]], dim=1)
    return total(F.linear(x, W)) + F.linear(e, U, bias)


def inference_activation(
    activation: nn.Module, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The same function, without gradients: on a CPU NumPy's tanh takes a seventh of the time."""
    if isinstance(activation, nn.Tanh) and device.type == "cpu":
        return lambda x: torch.from_numpy(np.tanh(x.detach().numpy()))
    return activation


@dataclasses.dataclass(frozen=True)
class LinearEnds:
    """A network with linear ends: x̂ = V h + b with h = inner(W x_t + shift(t)).

    Attributes:
        W: (d_1, I), V: (I, d_n), b: (I,).
        shift: steps counted from 0, (B,) → (B, d_1).
        inner: (B, d_1) → (B, d_n), for inference alone.
        total: of a product over items, where a process has but some of them, the sum over all.
    """

    W: torch.Tensor
    shift: Callable[[torch.Tensor], torch.Tensor]
    inner: Callable[[torch.Tensor], torch.Tensor]
    V: torch.Tensor
    b: torch.Tensor
    total: Callable[[torch.Tensor], torch.Tensor] = as_it_is
