"""The moving average of a model's weights while it is trained."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """The exponential moving average w̄ of a model's weights w: the weights after the first update,
    and after a later one, before which n have been,

        w̄ ← d w̄ + (1 - d) w,   d = min(decay, (1 + n) / (10 + n)),

    so that early weights are soon forgotten. Buffers are the model's own. No update waits for a
    device, as torch's own does, which sends the number of the update there.
    """

    def __init__(self, model: nn.Module, decay: float):
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        n = int(self.n_averaged)  # on the CPU
        averages: list[torch.Tensor] = list(self.module.parameters())
        weights: list[torch.Tensor] = list(model.parameters())
        if n == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + n) / (10 + n)))
        for ours, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
        self.n_averaged += 1
