"""DiffRec itself: the denoising network, the diffusion and the step sampler as one model."""

import math
from typing import ClassVar, cast

import torch

from DiffRec.engine.contract import Axes, Recommender
from DiffRec.engine.errors import InputError
from DiffRec.engine.ranks import mixed
from DiffRec.engine.settings import Between, DecaySettings, Ranges
from DiffRec.engine.shards import Shards, agreed, shared, total
from DiffRec.evaluate_utils import Scorer
from DiffRec.interactions import Interactions
from DiffRec.models.DNN import DNN
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.hidden_space import HiddenSpaceReverse
from DiffRec.models.timestep_sampler import ImportanceSampler, UniformSampler
from DiffRec.settings import DiffRecSettings

OF_DIFFUSION = (
    *("mean_type", "noise_schedule", "noise_scale", "noise_min", "noise_max", "steps"),
    *("beta_fixed", "reweight", "loss_weight", "loss_reduction"),
)


class DiffRec(Recommender):
    """DiffRec (Sections 3.1-3.3).

    Args:
        n_items: I.
        settings: of `DiffRecSettings`, as a mapping or by name: ``DiffRec(10, dims=[8])``.

    Raises InputError for settings that define no model.
    """

    variant = "DiffRec"
    Settings = DiffRecSettings
    Training = DecaySettings
    splits_items = True
    Diffusion: ClassVar[type[GaussianDiffusion]] = GaussianDiffusion
    ranges: ClassVar[Ranges] = {
        "lr": Between(1e-4, 2e-3, log=True),
        "weight_decay": [0.0, 0.01, 0.1],
        "batch_size": [100, 200, 400],
        "dims": ["[200,600]", "[300]", "[600]", "[1000]"],
        "dropout": Between(0.3, 0.7),
        "steps": [2, 5, 10, 20, 40],
        "noise_scale": Between(1e-3, 1.0, log=True),
        "noise_min": [1e-4, 1e-3, 5e-3],
        "noise_max": [0.01, 0.02],
        "eval_every": [2, 3, 5],
        "ema": [0.0, 0.99],
    }

    def make(self, settings: DiffRecSettings) -> None:
        self.make_diffusion(settings)
        self.make_networks(settings)

    def make_diffusion(self, settings: DiffRecSettings) -> None:
        """Set ``diffusion`` and ``sampler``, and how far and how noisily inference goes."""
        self.diffusion = self.Diffusion(**{name: getattr(settings, name) for name in OF_DIFFUSION})
        steps = self.diffusion.steps
        self.sampler = (
            ImportanceSampler(steps, settings.history_num_per_term, settings.uniform_prob)
            if settings.importance_sampling
            else UniformSampler(steps)
        )
        self.sampling_steps, self.sampling_noise = settings.sampling_steps, settings.sampling_noise
        if self.sampling_steps > steps:
            raise ValueError(
                f"sampling_steps (T') must lie between 0 and steps (T = {steps}), got "
                f"{self.sampling_steps}."
            )

    def make_networks(self, settings: DiffRecSettings) -> None:
        """Set ``dnn``: x̂_θ(x_t, t), or another network of your own, (B, I) and (B,) → (B, I)."""
        self.dnn = DNN(
            self.n_items,
            settings.dims,
            settings.emb_size,
            settings.mlp_act_func,
            settings.norm,
            settings.dropout,
        )

    def compile(self, *args, **kwargs) -> None:
        if self.shards is not None:
            raise InputError("item_shards does not go with compile.")
        self.dnn.compile(*args, **kwargs)

    def axes(self) -> dict[str, Axes]:
        if not isinstance(self.dnn, DNN):
            return {}  # of a network that is not known here
        items, last = torch.arange(self.n_items), f"dnn.out_layers.{len(self.dnn.out_layers) - 1}"
        inputs = torch.cat([items, -1 - torch.arange(self.dnn.emb_size)])
        return {
            "dnn.in_layers.0.weight": (None, inputs),
            f"{last}.weight": (items, None),
            f"{last}.bias": (items,),
        }

    def split_items(self, shards: Shards) -> None:
        """The first layer's columns and the last one's rows are this process's items alone."""
        if self.dnn.norm:
            raise InputError("item_shards does not go with norm.")
        self.shards, self.dnn.total, self.dnn.shared = shards, total, shared
        self.sampler.agreed = agreed
        self.diffusion.total, self.diffusion.share = total, self.n_items / shards.n_items

    def first_weights(self, shards: Shards, seed: int) -> None:
        """As `DNN.reset_parameters` draws them for all items; what belongs to none is rank 0's."""
        torch.manual_seed(mixed(seed, shards.rank))
        self.dnn.reset_parameters()
        elsewhere = shards.n_items - self.n_items
        with torch.no_grad():
            for layer in (self.dnn.in_layers[0], self.dnn.out_layers[-1]):
                weight = cast(torch.Tensor, layer.weight)
                fans = sum(weight.shape)
                weight *= math.sqrt(fans / (fans + elsewhere))
        shards.keep_alike(self)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """Algorithm 1, lines 4-6: the mean over users of L_t / p_t (Eq. 13 or 14)."""
        x0 = batch.dense()
        t, p = self.sampler.sample(len(x0), x0.device)
        losses = self.diffusion.training_losses(self.dnn, x0, t, torch.randn_like(x0))
        self.sampler.update(t, losses)
        return (losses / p).mean()

    def reverse(self) -> HiddenSpaceReverse | None:
        """Algorithm 2 in hidden space, or None where that would not be exact."""
        return HiddenSpaceReverse.of(self.dnn, self.diffusion, self.sampling_noise)

    def encoder(self, reverse: HiddenSpaceReverse) -> Scorer:
        """A function from B rows to h_1, (B, d): Algorithm 2 in hidden space, before decoding."""

        def encode(batch: Interactions) -> torch.Tensor:
            if self.sampling_steps == 0:
                offsets = batch.offsets.to(batch.device, batch.items.dtype)
                z = reverse.encode_sparse(batch.items, offsets, batch.values)
            else:
                z = reverse.encode(self.diffusion.corrupt(batch.dense(), self.sampling_steps))
            return reverse.hidden(z)

        return encode

    def scorer(self) -> Scorer:
        """Algorithm 2, in hidden space where that is exact."""
        reverse = self.reverse()
        if reverse is None:
            return self.plain_scorer()
        encode = self.encoder(reverse)
        return lambda batch: reverse.decode(encode(batch))

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        reverse = self.reverse()
        if reverse is None:
            raise InputError(
                "user and item vectors exist only with mean_type x0, without norm and "
                "sampling_noise, and for a network with linear ends."
            )
        return self.encoder(reverse), reverse.ends.V, reverse.ends.b

    def plain_scorer(self) -> Scorer:
        """Algorithm 2 as written, on vectors of all items."""

        def score(batch: Interactions) -> torch.Tensor:
            return self.diffusion.denoise(
                self.dnn, batch.dense(), self.sampling_steps, self.sampling_noise
            )

        return score

    @property
    def draws_noise(self) -> bool:
        return self.sampling_steps > 0 or self.sampling_noise

    def training_state(self) -> dict[str, torch.Tensor]:
        return dict(self.sampler.named_buffers())
