"""CODIGEM (Walker et al. 2022): a diffusion model of which only the first autoencoder predicts."""

import argparse
from typing import ClassVar

import torch
from torch import nn

from baselines.recommender import Autoencoder
from DiffRec import Interactions, options
from DiffRec.evaluate_utils import Scorer


class CODIGEM(Autoencoder):
    """x̂ = tanh(AE(z_0)) with z_0 = √(1 - β) x + √β ε, and L = mean over users of ½ ‖x - x̂‖².

    AE is I-200-200-200-200-200-I with PReLU between its layers.

    In the authors' code T - 1 further networks model the reverse steps between z_T and z_0. They
    share no parameters with AE, and z_0 has none: they never touch x̂, so T has no influence on
    the scores, and they are left out here. So are two habits without effect: a KL weight that is
    overwritten by 1, and an initialisation that never fires. What is kept is that the input is
    noised at inference too, here by a fixed seed.
    """

    variant = "CODIGEM"
    defaults: ClassVar = {"optimizer": "Adamax", "lr": 1e-3, "batch_size": 200}
    grid: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "beta": [5e-5, 1e-4, 5e-4],  # and T in {2, 5, 10, 40, 50, 100}, see above
    }

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        group.add_argument("--beta", type=options.rate_below_1, default=1e-4, help="noise per step")
        group.add_argument("--hidden_size", type=options.POSITIVE, default=200)
        options.add_flag(group, "--test_noise", True, "noise the input at inference, as released")

    def make(self, settings: dict) -> None:
        size = settings["hidden_size"]
        layers: list[nn.Module] = [nn.Linear(self.n_items, size), nn.PReLU()]
        for _ in range(4):
            layers += [nn.Linear(size, size), nn.PReLU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(size, self.n_items)

    def z0(self, x: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """z_0, (B, I); without noise its mean."""
        beta = self.settings["beta"]
        z = (1 - beta) ** 0.5 * x
        return z if noise is None else z + beta**0.5 * noise

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        x = batch.dense()
        x_hat = self.output(self.layers(self.z0(x, torch.randn_like(x)))).tanh()
        return 0.5 * (x - x_hat).square().sum(dim=1).mean()

    def hidden(self, batch: Interactions) -> torch.Tensor:
        """Without noise, also for vectors that are exported."""
        return self.layers(self.z0(batch.dense(), None))

    def scorer(self) -> Scorer:
        """The logits: tanh would not change a ranking, but round what is nearly 1 to ties."""
        if not self.settings["test_noise"]:
            return super().scorer()
        device = self.device
        generator = torch.Generator(device).manual_seed(0)

        def score(batch: Interactions) -> torch.Tensor:
            x = batch.dense()
            noise = torch.randn(x.shape, generator=generator, device=device)
            return self.output(self.layers(self.z0(x, noise)))

        return score
