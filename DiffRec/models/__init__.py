"""The mathematics of DiffRec: diffusion, step sampling, the network, and the fast reverse chain."""
