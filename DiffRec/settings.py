"""What DiffRec is set by: each setting once, with its bounds, default and other spellings."""

from typing import Literal

from DiffRec.engine.settings import (
    Count,
    Few,
    NotNegative,
    Positive,
    Settings,
    Share,
    ShareOrAll,
    Sizes,
    setting,
)
from DiffRec.models.gaussian_diffusion import (
    LOSS_REDUCTIONS,
    LOSS_WEIGHTS,
    MEAN_TYPES,
    NOISE_SCHEDULES,
)
from DiffRec.models.layers import ACTIVATIONS


class NoiseSettings(Settings):
    """The forward process: how far, and how noisily (`models.gaussian_diffusion.make_betas`)."""

    title = "diffusion"
    steps: Few = setting(100, "T, the number of diffusion steps")
    noise_schedule: Literal[NOISE_SCHEDULES] = setting("linear-var", "how noise grows with t")
    noise_scale: NotNegative = setting(0.1, "s of Eq. 4; 0: no noise")
    noise_min: NotNegative = setting(0.0001, "alpha_min of Eq. 4")
    noise_max: NotNegative = setting(0.02, "alpha_max of Eq. 4")
    beta_fixed: bool = setting(True, "overwrite beta_1 with 1e-5")


class DiffusionSettings(NoiseSettings):
    """Training and inference by diffusion (Sections 3.1 to 3.3)."""

    title = "diffusion"
    mean_type: Literal[MEAN_TYPES] = setting("x0", "what the network predicts: x_0 or the noise")
    sampling_steps: Count = setting(0, "T', the steps by which inference noises its input")
    sampling_noise: bool = setting(False, "add noise in every reverse step")
    reweight: bool = setting(
        True, "weight the losses of the steps as the ELBO does", in_training=True
    )
    loss_weight: Literal[LOSS_WEIGHTS] = setting(
        "released", "those weights as in the authors' code, or as in Eq. 11", in_training=True
    )
    loss_reduction: Literal[LOSS_REDUCTIONS] = setting(
        "mean",
        "of squared errors over the items: mean as released, or sum as in the paper",
        in_training=True,
    )
    importance_sampling: bool = setting(
        True, "draw steps by Eq. 14, or uniformly", in_training=True
    )
    history_num_per_term: Positive = setting(
        10, "losses of each step that Eq. 14 remembers", in_training=True
    )
    uniform_prob: ShareOrAll = setting(
        0.001,
        "share of the probability that Eq. 14 spreads evenly over the steps",
        in_training=True,
    )


class NetworkSettings(Settings):
    """The denoising network but for its hidden sizes (`models.DNN`)."""

    title = "network"
    emb_size: Positive = setting(10, "size of the step embedding", "embedding_size")
    time_type: Literal["cat"] = setting("cat", "how the step embedding joins the input")
    mlp_act_func: Literal[tuple(ACTIVATIONS)] = setting("tanh", "activation between its layers")
    norm: bool = setting(False, "scale each input row to unit length")
    dropout: Share = setting(0.5, "rate of dropout on the noised input", in_training=True)


class DiffRecSettings(DiffusionSettings, NetworkSettings):
    """DiffRec."""

    title = "network"
    dims: Sizes = setting(
        (1000,),
        "hidden sizes from the bottleneck outwards: [200,600] is I-600-200-600-I",
        "dims_dnn",
    )
