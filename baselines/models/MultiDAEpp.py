"""MultiDAE++, the paper's own baseline (Section 4.1.2): MultiDAE that removes DiffRec's noise."""

import argparse
from typing import ClassVar

import torch

from baselines.models.MultiDAE import AUTOENCODER_GRID, MultiDAE, add_autoencoder_options
from DiffRec import options
from DiffRec.models.gaussian_diffusion import GaussianDiffusion


class MultiDAEpp(MultiDAE):
    """MultiDAE trained on x_t = √ᾱ_t x + √(1 - ᾱ_t) ε (Eq. 3) with t ~ U(1, T) for each user, the
    target being x; one decoding step, and at inference x itself.

    The schedule is DiffRec's own object, by default with DiffRec's published settings of the data
    set, as the paper says. The paper leaves open that t is uniform, that the noise comes before
    normalisation, and that dropout stays.
    """

    variant = "MultiDAE++"
    grid: ClassVar = AUTOENCODER_GRID

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        add_autoencoder_options(group)
        options.add_noise_options(group, beta_fixed=True)

    def make(self, settings: dict) -> None:
        super().make(settings)
        self.diffusion = GaussianDiffusion(**{name: settings[name] for name in options.NOISE})

    def corrupt(self, x: torch.Tensor) -> torch.Tensor:
        t = torch.randint(self.diffusion.steps, (len(x),), device=x.device)
        return self.diffusion.q_sample(x, t, torch.randn_like(x))
