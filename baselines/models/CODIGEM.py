"""CODIGEM (Walker et al. 2022): a diffusion model of which only the first autoencoder predicts."""

from typing import ClassVar

import torch
from torch import nn

from baselines.noise import generators
from baselines.recommender import Autoencoder
from DiffRec import Interactions
from DiffRec.engine.settings import DecaySettings, Positive, Settings, Share, setting


class CODIGEMSettings(Settings):
    """CODIGEM."""

    title = "CODIGEM"
    beta: Share = setting(1e-4, "beta, the variance of the noise of a step")
    hidden_size: Positive = setting(200, "size of each hidden layer")
    test_noise: bool = setting(True, "noise the input at inference too, as released")


class CODIGEMTraining(DecaySettings):
    """As its source's."""

    defaults: ClassVar = {"optimizer": "Adamax", "lr": 1e-3, "batch_size": 200}


class CODIGEM(Autoencoder):
    """x̂ = tanh(AE(z_0)) with z_0 = √(1 - β) x + √β ε, and L = mean over users of ½ ‖x - x̂‖².

    AE is I-200-200-200-200-200-I with PReLU between its layers.

    In the authors' code T - 1 further networks model the reverse steps between z_T and z_0. They
    share no parameters with AE, and z_0 has none: they never touch x̂, so T has no influence on
    the scores, and they are left out here. So are two habits without effect: a KL weight that is
    overwritten by 1, and an initialisation that never fires. What is kept is that the input is
    noised at inference too, here by noise that belongs to a row (`baselines.noise`).
    Scores are the logits: tanh would not change a ranking, but round what is nearly 1 to ties.
    """

    variant = "CODIGEM"
    Settings = CODIGEMSettings
    Training = CODIGEMTraining
    group = "paper"
    ranges: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "beta": [5e-5, 1e-4, 5e-4],  # and T in {2, 5, 10, 40, 50, 100}, see above
    }

    def make(self, settings: CODIGEMSettings) -> None:
        size = settings.hidden_size
        layers: list[nn.Module] = [nn.Linear(self.n_items, size), nn.PReLU()]
        for _ in range(4):
            layers += [nn.Linear(size, size), nn.PReLU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(size, self.n_items)

    def z0(self, x: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_0, (B, I); without noise its mean."""
        beta = self.settings.beta
        z = (1 - beta) ** 0.5 * x
        return z if noise is None else z + beta**0.5 * noise

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        x = batch.dense()
        x_hat = self.output(self.layers(self.z0(x, torch.randn_like(x)))).tanh()
        return 0.5 * (x - x_hat).square().sum(dim=1).mean()

    @property
    def draws_noise(self) -> bool:
        return self.settings.test_noise

    def noise(self, batch: Interactions) -> torch.Tensor:
        """ε of inference, (B, I)."""
        noise = torch.empty(len(batch), self.n_items)
        for row, generator in zip(noise, generators(batch), strict=True):
            row.normal_(generator=generator)
        return noise.to(batch.device)

    def hidden(self, batch: Interactions) -> torch.Tensor:
        noise = self.noise(batch) if self.settings.test_noise else None
        return self.layers(self.z0(batch.dense(), noise))
