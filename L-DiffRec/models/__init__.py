"""What latent diffusion (Section 3.5) changes in DiffRec's models."""
