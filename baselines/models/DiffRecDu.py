"""DiffRec of Du et al. (2023, arXiv 2304.04541): diffusion of a sequence's last item. It is not the
DiffRec of this project's paper, whose name it shares."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from baselines.noise import generators
from baselines.sequences import (
    DiffusionOfNext,
    DiffusionOfNextSettings,
    Histories,
    Prefixes,
    SequenceTraining,
)
from baselines.transformer import Encoder, key_mask
from DiffRec import Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.settings import (
    MOST_STEPS,
    Between,
    Layers,
    NotNegative,
    Positive,
    Ranges,
    Repeats,
    setting,
)
from DiffRec.models.DNN import timestep_embedding
from DiffRec.models.gaussian_diffusion import LOSS_REDUCTIONS


class DiffRecDuSettings(DiffusionOfNextSettings):
    """DiffRec of Du et al."""

    title = "DiffRec-Du"
    defaults: ClassVar = {"emb_size": 128, "dropout": 0.3}
    beta_0: NotNegative = setting(0.001, "the variance with which an item becomes a vector (Eq. 6)")
    layers: Layers = setting(2, "blocks of the encoder")
    heads: Positive = setting(2, "heads of attention")
    rec_loss: Literal["printed", "network"] = setting(
        "printed",
        "what the cross-entropy is of: the target's own noised vector, as the equation is printed, "
        "or the network's output",
        in_training=True,
    )
    loss_reduction: Literal[LOSS_REDUCTIONS] = setting(
        "sum", "of squared errors over the d dimensions: sum as printed, or mean", in_training=True
    )
    samples: Repeats = setting(1, "random seeds whose outputs inference averages")


class DiffRecDuTraining(SequenceTraining):
    """Histories in batches."""

    title = "optimiser"
    defaults: ClassVar = {"batch_size": 256, "epochs": 250, "patience": 50}


class DiffRecDu(DiffusionOfNext):
    """The next item v's vector is noised, the history's are not; the network sees both:

        h⁰ ~ N(E(v), β_0 I),    hⁿ = √ᾱ_n h⁰ + √(1 - ᾱ_n) ε                            (Eq. 6, 7)
        ĥ = W' LN(Encoder(h_m + y_m + z_n)_last), y_m and z_n being place and step      (Eq. 16)
        L = mean over n of ‖h⁰ - ĥ‖², or ‖E(v) - ĥ‖² for n = 1,  -  log softmax(W h⁰ + b)_v

    Inference puts the vector of an unknown item last, which no loss trains, and noises it by all N
    steps, then takes the reverse steps; W ĥ + b ranks. A history's vectors are its items' means at
    inference, and places count from its beginning. The paper's code is not public: what it does not
    say is set as in DiffuRec (N, β_n, d) or the first author's other code (layers, heads, rate of
    dropout, batch), or is ours (β_0, W'), and is searched.
    """

    variant = "DiffRec-Du"
    Settings = DiffRecDuSettings
    Training = DiffRecDuTraining
    ranges: ClassVar[Ranges] = {
        "lr": Between(3e-4, 3e-3, log=True),
        "dropout": Between(0.1, 0.6),
        "layers": [1, 2, 4],
        "beta_0": Between(1e-4, 0.1, log=True),
        "steps": [32, 100],  # so many that noise alone is left of h_0
        "noise_schedule": ["trunc_lin", "cosine", "sqrt"],
        "rec_loss": ["printed", "network"],
    }

    def make(self, settings: DiffRecDuSettings) -> None:
        size = settings.emb_size
        if settings.samples * settings.steps > MOST_STEPS:
            raise ValueError(f"samples times steps must not exceed {MOST_STEPS}.")
        self.make_diffusion(settings)
        self.embedding = nn.Embedding(self.n_items + 1, size)  # row 0 is the unknown item
        self.positions = nn.Embedding(settings.max_length + 1, size)
        self.rounding = nn.Linear(size, self.n_items)
        self.encoder = Encoder(
            settings.layers, size, settings.heads, 4 * size, settings.dropout, norm_first=True
        )
        self.last = nn.LayerNorm(size)
        self.output = nn.Linear(size, size)

    def item_vectors(self) -> torch.Tensor:
        return self.rounding.weight

    def item_biases(self) -> torch.Tensor:
        return self.rounding.bias

    def axes(self) -> dict[str, Axes]:
        items = torch.arange(self.n_items)
        return {
            **super().axes(),
            "rounding.weight": (items, None),
            "rounding.bias": (items,),
        }

    def network(
        self, history: torch.Tensor, lengths: torch.Tensor, h_n: torch.Tensor, n: torch.Tensor
    ) -> torch.Tensor:
        """ĥ, (B, d): h_n, (B, d), stands behind a history of ``lengths``, (B,), of the vectors
        (B, L, d); n: (B,) steps counted from 0."""
        rows = torch.arange(len(history), device=history.device)
        tokens = F.pad(history, (0, 0, 0, 1)).index_put((rows, lengths), h_n)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        step = timestep_embedding(n, tokens.shape[2])
        tokens = tokens + self.positions(places) + step[:, None]
        h = self.encoder(tokens, key_mask(lengths + 1, tokens.shape[1]), last=lengths)
        return self.output(self.last(h))

    # Training ------------------------------------------------------------------------------------

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        prefixes = Prefixes(train, self.settings.max_length)
        batches = prefixes.batches(batch_size, len(prefixes), by_length=True)
        return -(-len(prefixes) // batch_size), map(prefixes.take, batches)

    def as_vector(self, items: torch.Tensor) -> torch.Tensor:
        """h⁰ of item numbers from 1 on (Eq. 6)."""
        mean = self.embedding(items)
        return mean + self.settings.beta_0**0.5 * torch.randn_like(mean)

    def training_loss(self, batch: Histories) -> torch.Tensor:
        h_0 = self.as_vector(batch.targets + 1)
        n, p = self.sampler.sample(len(batch), h_0.device)
        h_n = self.diffusion.q_sample(h_0, n, torch.randn_like(h_0))
        history = self.as_vector(batch.sequences)
        output = self.network(history, batch.lengths, h_n, n)
        wanted = torch.where((n == 0)[:, None], self.embedding(batch.targets + 1), h_0)
        errors = (wanted - output).square()
        losses = errors.sum(dim=1) if self.settings.loss_reduction == "sum" else errors.mean(dim=1)
        self.sampler.update(n, losses)
        rounded = self.rounding(h_0 if self.settings.rec_loss == "printed" else output)
        return (losses / p).mean() + F.cross_entropy(rounded, batch.targets)

    # Inference -----------------------------------------------------------------------------------

    def encode(self, batch: Interactions) -> torch.Tensor:
        settings = self.settings
        N, size = settings.steps, settings.emb_size
        sequences, lengths = batch.padded(settings.max_length)
        history = self.embedding(sequences)
        # ε of h_N, of each reverse step but the last, and of Eq. 6.
        noise = torch.empty(len(batch), settings.samples, N + 1, size)
        for row, generator in zip(noise, generators(batch, settings.max_length), strict=True):
            row.normal_(generator=generator)
        noise = noise.to(batch.device)
        unknown = self.embedding.weight[0].expand(len(history), size)
        total = torch.zeros_like(unknown)
        for sample in noise.unbind(1):
            h_0 = unknown + settings.beta_0**0.5 * sample[:, N]
            n = torch.full((len(h_0),), N - 1, device=h_0.device)
            h = self.diffusion.q_sample(h_0, n, sample[:, 0])
            for step in reversed(range(N)):
                n = torch.full((len(h),), step, device=h.device)
                output = self.network(history, lengths, h, n)
                if settings.reverse == "direct":
                    break
                mean, variance = self.diffusion.q_posterior(output, h, n)
                h = mean + variance.sqrt() * sample[:, step]
            total = total + output
        return total / settings.samples
