"""Latent diffusion changes nothing here: z_0 takes the place of x_0 in Eq. 2-13 (Section 3.5).

What differs are defaults: β_1 is not overwritten (``beta_fixed`` is off), as released.
"""

from DiffRec.models.gaussian_diffusion import GaussianDiffusion

__all__ = ["GaussianDiffusion"]
