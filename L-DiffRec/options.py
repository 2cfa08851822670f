"""The flags of L-DiffRec: DiffRec's diffusion and network, and the clustered VAE."""

import argparse
from pathlib import Path

from DiffRec import options
from DiffRec.models.layers import ACTIVATIONS
from DiffRec.recommender import OPTIMIZERS


def add_latent_options(parser: argparse.ArgumentParser) -> None:
    """The clusters, the VAE, and how it trains together with the diffusion."""
    group = parser.add_argument_group("item clusters and VAE")
    group.add_argument("--emb_path", type=Path, help="item_emb.npy or its folder; beside the data")
    group.add_argument("--n_cate", type=options.POSITIVE, default=3, help="C, number of clusters")
    group.add_argument(
        "--in_dims", action=options.IntegerList, default=[300],
        help="encoder sizes over all clusters, from z_0 outwards",
    )  # fmt: skip
    group.add_argument(
        "--out_dims", action=options.IntegerList, default=[],
        help="hidden sizes of per-cluster decoders; []: none",
    )  # fmt: skip
    options.add_flag(
        group, "--cluster_decoders", False, "a decoder per cluster also without hidden sizes"
    )
    group.add_argument(
        "--act_func", "--ae_act_func", choices=list(ACTIVATIONS), default="tanh",
        help="of encoders and decoders",
    )  # fmt: skip
    options.add_flag(group, "--activate_latent", True, "put it on mean and log-variance too")
    options.add_flag(group, "--reparam", True, "sample z_0 in training")
    group.add_argument("--vae_dropout", type=float, default=0.1, help="on the interactions")

    group = parser.add_argument_group("joint training")
    for n, what, lr in ((1, "VAE", 1e-4), (2, "denoising network", 1e-4)):
        group.add_argument(f"--optimizer{n}", choices=OPTIMIZERS, default="AdamW", help=what)
        group.add_argument(f"--lr{n}", type=options.RATE, default=lr, help=f"of the {what}")
        group.add_argument(f"--wd{n}", type=options.NOT_NEGATIVE, default=0.0, help="weight decay")
    group.add_argument("--lamda", type=options.NOT_NEGATIVE, default=0.03, help="lambda")
    group.add_argument(
        "--anneal_steps", type=options.COUNT, default=500,
        help="epochs over which lambda falls to 0; 0: it is constant",
    )  # fmt: skip
    group.add_argument(
        "--anneal_cap", type=options.NOT_NEGATIVE, default=0.005, help="lambda's floor"
    )
    group.add_argument(
        "--vae_anneal_steps", type=options.COUNT, default=200,
        help="batches over which the KL weight would rise to 1; 0: it is at its cap",
    )  # fmt: skip
    group.add_argument(
        "--vae_anneal_cap", type=options.NOT_NEGATIVE, default=0.3, help="gamma's cap"
    )
    group.add_argument(
        "--decode_in_training", choices=("denoised", "encoded"), default="denoised",
        help="what the likelihood is of: the denoised latent vector, or z_0 (Eq. 15)",
    )  # fmt: skip
    group.add_argument(
        "--reconstruction_target", choices=("dropped", "clean"), default="dropped",
        help="the interactions after dropout, as released, or before",
    )  # fmt: skip
    group.add_argument(
        "--lamda_place", choices=("released", "diffusion"), default="released",
        help="with --reweight 0 the release puts lambda on the VAE's loss instead",
    )  # fmt: skip


def make_parser(description: str, folder: Path) -> options.Parser:
    """The parser of L-DiffRec."""
    parser = options.base_parser(description, folder)
    options.add_network_options(parser, prefix="mlp_", dims=[300])
    options.add_diffusion_options(parser, beta_fixed=False)
    add_latent_options(parser)
    parser.set_defaults(steps=5)
    return parser


# What stands before each setting in the names of runs; the release puts "lr1" behind its value.
RUN_NAME = {
    "lr1-": "lr1", "lr2-": "lr2", "wd1-": "wd1", "wd2-": "wd2", "bs": "batch_size",
    "cate": "n_cate", "in": "in_dims", "out": "out_dims", "lam": "lamda", "dims": "mlp_dims",
    "emb": "emb_size", "": "mean_type", "steps": "steps", "scale": "noise_scale",
    "min": "noise_min", "max": "noise_max", "sample": "sampling_steps", "reweight": "reweight",
}  # fmt: skip
