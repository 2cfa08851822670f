"""What L-DiffRec is set by besides DiffRec's diffusion and network: the clustered VAE."""

from typing import ClassVar, Literal

from DiffRec.engine.settings import (
    OPTIMIZERS,
    Count,
    Folder,
    InferenceOptions,
    NotNegative,
    Positive,
    Rate,
    RunOptions,
    Settings,
    Share,
    Sizes,
    TrainingSettings,
    setting,
)
from DiffRec.models.layers import ACTIVATIONS
from DiffRec.settings import DiffusionSettings, NetworkSettings

DECODED = ("denoised", "encoded")
TARGETS = ("dropped", "clean")
LAMDA_PLACES = ("released", "diffusion")


class VAESettings(Settings):
    """Item clusters, and the VAE (`L_DiffRec.models.VAE.ClusteredVAE`)."""

    title = "item clusters and VAE"
    n_cate: Positive = setting(3, "C, the number of item clusters", in_training=True)
    in_dims: Sizes = setting((300,), "encoder sizes over all clusters, from z_0 outwards")
    out_dims: Sizes = setting((), "hidden sizes of decoders per cluster; []: none")
    cluster_decoders: bool = setting(False, "a decoder per cluster also without hidden sizes")
    act_func: Literal[tuple(ACTIVATIONS)] = setting(
        "tanh", "activation of encoders and decoders", "ae_act_func"
    )
    activate_latent: bool = setting(True, "put the activation on mean and log-variance of z_0 too")
    reparam: bool = setting(True, "sample z_0 in training", in_training=True)
    vae_dropout: Share = setting(0.1, "rate of dropout on the interactions", in_training=True)


class JointSettings(Settings):
    """The loss of VAE and diffusion together (Section 3.5)."""

    title = "joint loss"
    lamda: NotNegative = setting(
        0.03, "lambda, the weight of the diffusion's loss", in_training=True
    )
    anneal_steps: Count = setting(
        500, "epochs over which lambda falls to 0; 0: it is constant", in_training=True
    )
    anneal_cap: NotNegative = setting(
        0.005, "the value below which lambda does not fall", in_training=True
    )
    vae_anneal_steps: Count = setting(
        200,
        "batches over which the KL weight would rise to 1; 0: it is at its cap",
        in_training=True,
    )
    vae_anneal_cap: NotNegative = setting(
        0.3, "the cap of gamma, the KL weight of Eq. 15", in_training=True
    )
    decode_in_training: Literal[DECODED] = setting(
        "denoised",
        "what the likelihood is of: the denoised latent vector, or z_0 (Eq. 15)",
        in_training=True,
    )
    reconstruction_target: Literal[TARGETS] = setting(
        "dropped",
        "the likelihood's target: interactions after dropout, as released, or before",
        in_training=True,
    )
    lamda_place: Literal[LAMDA_PLACES] = setting(
        "released",
        "where lambda stands if reweight is 0: at the VAE's loss, as released, or the diffusion's",
        in_training=True,
    )


class LDiffRecSettings(JointSettings, VAESettings, DiffusionSettings, NetworkSettings):
    """L-DiffRec."""

    title = "network"
    defaults: ClassVar = {"steps": 5, "beta_fixed": False}
    mlp_dims: Sizes = setting(
        (300,),
        "hidden sizes from the bottleneck outwards: [200,600] is D-600-200-600-D",
        "dims_dnn",
    )


class JointTraining(TrainingSettings):
    """Two optimisers: 1 is the VAE's, 2 the denoising network's."""

    title = "optimisers"
    optimizer1: Literal[OPTIMIZERS] = setting("AdamW", "the VAE's optimiser")
    lr1: Rate = setting(1e-4, "learning rate of the VAE")
    wd1: NotNegative = setting(0.0, "weight decay of the VAE")
    optimizer2: Literal[OPTIMIZERS] = setting("AdamW", "the denoising network's optimiser")
    lr2: Rate = setting(1e-4, "learning rate of the denoising network")
    wd2: NotNegative = setting(0.0, "weight decay of the denoising network")


class EmbeddingOptions(Settings):
    """Where item embeddings are; a checkpoint holds the clusters and needs none."""

    title = "data"
    emb_path: Folder | None = setting(
        None, "item_emb.npy, or its folder; by default it lies beside the data"
    )


class LatentOptions(EmbeddingOptions, RunOptions):
    """Where a training of L-DiffRec happens."""


class LatentInferenceOptions(EmbeddingOptions, InferenceOptions):
    """What a trained L-DiffRec is asked for."""
