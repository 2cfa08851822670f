"""Optimisers by the release's names for them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from DiffRec.engine.settings import OPTIMIZERS


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """An optimiser of `OPTIMIZERS`; "Momentum" is SGD with momentum 0.95."""
    shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    if name == "AdamW":
        return torch.optim.AdamW(parameters, fused=True, **shared)
    if name == "Adam":
        return torch.optim.Adam(parameters, fused=True, **shared)
    if name == "Adamax":
        return torch.optim.Adamax(parameters, **shared)
    if name == "SGD":
        return torch.optim.SGD(parameters, fused=True, **shared)
    if name == "Momentum":
        return torch.optim.SGD(parameters, momentum=0.95, fused=True, **shared)
    if name == "Adagrad":
        return torch.optim.Adagrad(parameters, initial_accumulator_value=1e-8, **shared)
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name}.")
