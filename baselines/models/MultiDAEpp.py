"""MultiDAE++, the paper's own baseline (Section 4.1.2): MultiDAE that removes DiffRec's noise."""

import torch

from baselines.models.MultiDAE import AutoencoderSettings, MultiDAE
from DiffRec import DiffRec
from DiffRec.engine.variant import variant_of
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.settings import NoiseSettings


class MultiDAEppSettings(NoiseSettings, AutoencoderSettings):
    """MultiDAE++."""

    title = "MultiDAE++"


class MultiDAEpp(MultiDAE):
    """MultiDAE trained on x_t = √ᾱ_t x + √(1 - ᾱ_t) ε (Eq. 3) with t ~ U(1, T) for each user, the
    target being x; one decoding step, and at inference x itself.

    The schedule is DiffRec's own object, by default with DiffRec's published settings of the data
    set, as the paper says. The paper leaves open that t is uniform, that the noise comes before
    normalisation, and that dropout stays.
    """

    variant = "MultiDAE++"
    Settings = MultiDAEppSettings

    @classmethod
    def fixed_presets(cls) -> dict[str, dict]:
        """DiffRec's published noise."""
        published = variant_of(DiffRec.variant).published_presets()
        return {dataset: NoiseSettings.own(preset) for dataset, preset in published.items()}

    @classmethod
    def read_in_training(cls) -> set[str]:
        return super().read_in_training() | NoiseSettings.names()

    def make(self, settings: MultiDAEppSettings) -> None:
        super().make(settings)
        self.diffusion = GaussianDiffusion(**dict(settings.part(NoiseSettings)))

    def corrupt(self, x: torch.Tensor) -> torch.Tensor:
        t = torch.randint(self.diffusion.steps, (len(x),), device=x.device)
        return self.diffusion.q_sample(x, t, torch.randn_like(x))
