"""L-DiffRec: diffusion in the latent space of a VAE per item cluster (Section 3.5)."""

from L_DiffRec.recommender import LDiffRec

__all__ = ["LDiffRec"]
