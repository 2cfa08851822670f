"""Which diffusion step each training sample gets: uniform (Eq. 13) or by importance (Eq. 14)."""

from collections.abc import Callable

import torch
from torch import nn

from DiffRec.models.layers import as_it_is


class UniformSampler(nn.Module):
    """t ~ U(1, T), Eq. 13."""

    agreed: Callable[[torch.Tensor], torch.Tensor] = staticmethod(as_it_is)

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def sample(self, batch_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Steps counted from 0, (B,) int64, and p_t · T, (B,), all ones."""
        t = self.agreed(torch.randint(self.steps, (batch_size,), device=device))
        return t, torch.ones(batch_size, device=device)

    def update(self, t: torch.Tensor, losses: torch.Tensor) -> None:
        """Nothing to remember."""


class ImportanceSampler(nn.Module):
    """t ~ p_t with p_t ∝ √E[L_t²] over the last losses of each step, Eq. 14.

    Until every step has ``history_num_per_term`` losses the steps are drawn uniformly.

    Args:
        steps: T.
        history_num_per_term: losses remembered per step (10 in the paper).
        uniform_prob: share of the probability spread evenly over the steps (0.001 in the
            release, 0 in the paper).

    Attributes:
        together: makes of a process's steps and losses, (B,) each, those that are remembered; where
            several train one model it gathers all of theirs, so that all draw from the same p_t.
        agreed: makes of drawn steps those that are used; where processes share users, all take the
            same.
    """

    agreed: Callable[[torch.Tensor], torch.Tensor] = staticmethod(as_it_is)
    history: torch.Tensor
    count: torch.Tensor
    together: Callable[..., tuple[torch.Tensor, ...]] = staticmethod(lambda *columns: columns)

    def __init__(self, steps: int, history_num_per_term: int = 10, uniform_prob: float = 0.001):
        super().__init__()
        if history_num_per_term < 1:
            raise ValueError(f"history_num_per_term must be positive, got {history_num_per_term}.")
        if not 0 <= uniform_prob <= 1:
            raise ValueError(f"uniform_prob must lie in [0, 1], got {uniform_prob}.")
        self.uniform_prob = uniform_prob
        history = torch.zeros(steps, history_num_per_term, dtype=torch.float64)
        self.register_buffer("history", history, persistent=False)  # oldest loss first
        self.register_buffer("count", torch.zeros(steps, dtype=torch.int64), persistent=False)

    def probabilities(self) -> torch.Tensor:
        """p_t, (T,) float64, summing to 1; uniform until the history is full."""
        steps, length = self.history.shape
        uniform = torch.full_like(self.history[:, 0], 1 / steps)
        root_mean_square = self.history.square().mean(dim=1).sqrt()
        p = root_mean_square / root_mean_square.sum()
        p = p * (1 - self.uniform_prob) + self.uniform_prob / steps
        # A tensor condition, so that the device is never waited for. A diverged loss makes p NaN:
        # the training loop reports it at the end of the epoch.
        usable = (self.count == length).all() & p.isfinite().all()
        return torch.where(usable, p, uniform)

    def sample(self, batch_size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Steps counted from 0, (B,) int64, and p_t · T, (B,), by which the loss is divided."""
        p = self.probabilities()
        t = self.agreed(torch.multinomial(p, batch_size, replacement=True))
        return t, p[t] * len(p)

    @torch.no_grad()
    def update(self, t: torch.Tensor, losses: torch.Tensor) -> None:
        """Append each loss to its step's history, as if one after another in batch order.

        t, losses: (B,). A step's row keeps its last entries. Done without a loop: the row moves
        left by as many places as it overflows, and the r-th new loss of a step lands r places
        behind its old ones; what would land left of the row is gone.
        """
        t, losses = self.together(t, losses)
        steps, length = self.history.shape
        of_step = t[:, None] == torch.arange(steps, device=t.device)  # (B, T)
        rank = (of_step.cumsum(dim=0) - 1).gather(1, t[:, None])[:, 0]  # r of each loss
        total = self.count + of_step.sum(dim=0)
        overflow = (total - length).clamp(min=0)

        columns = torch.arange(length, device=t.device) + overflow[:, None]
        moved = self.history.gather(1, columns.clamp(max=length - 1))
        place = self.count[t] + rank - overflow[t]
        place = torch.where(place < 0, length, place)  # an extra column that is cut off again
        table = torch.cat([moved, moved[:, :1]], dim=1)
        table[t, place] = losses.detach().to(table.dtype)
        self.history.copy_(table[:, :length])
        self.count.copy_(total.clamp(max=length))
