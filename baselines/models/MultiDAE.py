"""Denoising autoencoder with multinomial likelihood (Liang et al. 2018, Section 2.3)."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import nn

from baselines.recommender import Autoencoder
from DiffRec import Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.settings import DecaySettings, Settings, Share, Sizes, setting
from DiffRec.models.layers import Dropout
from DiffRec.models.VAE import mlp, multinomial_nll

# The ranges that the paper gives for all its autoencoders.
AUTOENCODER_RANGES = {
    "lr": [1e-5, 1e-4, 1e-3, 1e-2],
    "weight_decay": [0.0, 1e-3, 1e-1],
    "dropout": [0.1, 0.3, 0.5, 0.7],
}


def not_empty(dims: tuple[int, ...]) -> tuple[int, ...]:
    if not dims:
        raise ValueError("must hold at least one layer size")
    return dims


class AutoencoderSettings(Settings):
    """The network of MultiDAE and of MultiVAE."""

    title = "network"
    dims: Annotated[Sizes, AfterValidator(not_empty)] = setting(
        (200, 600), "hidden sizes from the bottleneck outwards: [200,600] is I-600-200-600-I"
    )
    dropout: Share = setting(0.5, "rate of dropout on the interactions", in_training=True)


class AutoencoderTraining(DecaySettings):
    """As vae_cf's."""

    defaults: ClassVar = {"lr": 1e-3, "batch_size": 500}


class MultiDAE(Autoencoder):
    """logits = MLP(dropout(x / ‖x‖₂)) with tanh between its layers;

        L = mean over users of -Σ_i x_i log softmax_i(logits).

    Source: vae_cf, with the paper's hidden sizes in the place of its one layer of 200, and without
    its 2e-5 times the squared weights in the loss; ``weight_decay`` is AdamW's.
    """

    variant = "MultiDAE"
    Settings = AutoencoderSettings
    Training = AutoencoderTraining
    group = "paper"
    ranges: ClassVar = AUTOENCODER_RANGES

    def make(self, settings: AutoencoderSettings) -> None:
        dims = settings.dims
        sizes = [self.n_items, *dims[::-1], *dims[1:]]
        self.layers = nn.Sequential(*mlp(sizes, "tanh", activate_last=True))
        (self.output,) = mlp([dims[-1], self.n_items], "tanh", activate_last=False)
        self.dropout = Dropout(settings.dropout)

    def axes(self) -> dict[str, Axes]:
        items = torch.arange(self.n_items)
        return {
            "layers.0.weight": (None, items),
            "output.weight": (items, None),
            "output.bias": (items,),
        }

    def hidden_of(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, I) → (B, D)."""
        return self.layers(self.dropout(F.normalize(x)))

    def hidden(self, batch: Interactions) -> torch.Tensor:
        return self.hidden_of(batch.dense())

    def corrupt(self, x: torch.Tensor) -> torch.Tensor:
        """What training feeds in the place of x, (B, I), besides dropout: x itself."""
        return x

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        x = batch.dense()
        return multinomial_nll(self.output(self.hidden_of(self.corrupt(x))), x).mean()
