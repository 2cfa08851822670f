"""LT-DiffRec's VAEs are L-DiffRec's; what changes is x_0 itself (T_DiffRec.data_utils, Eq. 16)."""

from L_DiffRec.models.VAE import ClusteredVAE

__all__ = ["ClusteredVAE"]
