"""T-DiffRec's diffusion is DiffRec's; what changes is x_0 itself (T_DiffRec.data_utils, Eq. 16)."""

from DiffRec.models.gaussian_diffusion import GaussianDiffusion

__all__ = ["GaussianDiffusion"]
