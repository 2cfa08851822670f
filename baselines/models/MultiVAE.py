"""Variational autoencoder with multinomial likelihood (Liang et al. 2018)."""

from typing import ClassVar

import torch
import torch.nn.functional as F

from baselines.models.MultiDAE import AUTOENCODER_RANGES, AutoencoderSettings, AutoencoderTraining
from baselines.recommender import Autoencoder
from DiffRec import Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.settings import Count, NotNegative, setting
from DiffRec.models.VAE import VAE, annealed_kl_weight


class MultiVAESettings(AutoencoderSettings):
    """MultiVAE."""

    title = "MultiVAE"
    anneal_cap: NotNegative = setting(
        0.2, "the cap of beta, the weight of the KL term", in_training=True
    )
    anneal_steps: Count = setting(
        200_000, "batches over which beta would rise to 1; 0: it is at its cap", in_training=True
    )


class MultiVAE(Autoencoder):
    """The network and loss of `DiffRec.models.VAE.VAE`. After n batches its KL term weighs

        β = min(``anneal_cap``, n / ``anneal_steps``), or the cap at once for 0 steps.

    Source: vae_cf and its defaults. Its 200,000 steps were meant for a larger data set: on ML-1M
    with 12 batches an epoch β stays near 0. The paper searches caps with 0, 200 or 500 steps.
    """

    variant = "MultiVAE"
    Settings = MultiVAESettings
    Training = AutoencoderTraining
    group = "paper"
    ranges: ClassVar = {
        **AUTOENCODER_RANGES,
        "anneal_cap": [0.0, 0.3, 0.5, 0.7],
        "anneal_steps": [0, 200, 500],
    }

    def make(self, settings: MultiVAESettings) -> None:
        self.vae = VAE(self.n_items, settings.dims, "tanh", settings.dropout)
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64), persistent=False)

    @property
    def output(self) -> torch.nn.Linear:
        return self.vae.decoder[-1]

    def axes(self) -> dict[str, Axes]:
        items, last = torch.arange(self.n_items), f"vae.decoder.{len(self.vae.decoder) - 1}"
        return {
            "vae.encoder.0.weight": (None, items),
            f"{last}.weight": (items, None),
            f"{last}.bias": (items,),
        }

    def hidden(self, batch: Interactions) -> torch.Tensor:
        mu, _ = self.vae.encoder(F.normalize(batch.dense()))
        return self.vae.decoder[:-1](mu)

    def beta(self) -> torch.Tensor:
        """The KL term's weight, a scalar tensor."""
        settings = self.settings
        return annealed_kl_weight(self.n_batches, settings.anneal_cap, settings.anneal_steps)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        loss = self.vae.loss(batch.dense(), self.beta())
        self.n_batches += 1
        return loss

    def training_state(self) -> dict[str, torch.Tensor]:
        return {"n_batches": self.n_batches}
