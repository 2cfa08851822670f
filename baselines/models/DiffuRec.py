"""DiffuRec (Li et al. 2023): diffusion of the next item's vector, given the items before it."""

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
    PositionSettings,
    Prefixes,
    SequenceTraining,
    nothing,
    positions_of,
)
from baselines.transformer import Encoder, key_mask
from DiffRec import Interactions
from DiffRec.engine.settings import (
    Between,
    Count,
    Layers,
    NotNegative,
    Positive,
    Ranges,
    Rate,
    Share,
    setting,
)
from DiffRec.models.DNN import timestep_embedding
from DiffRec.models.layers import Dropout

UNSEEN = -1e9  # what the release adds to the logits of padding


class DiffuRecSettings(DiffusionOfNextSettings, PositionSettings):
    """DiffuRec."""

    title = "DiffuRec"
    # The release means to draw steps by their losses, and draws them uniformly.
    defaults: ClassVar = {"emb_size": 128, "dropout": 0.1, "importance_sampling": False}
    lambda_mean: float = setting(0.001, "the mean of lambda, by which x_t joins the history")
    lambda_std: NotNegative = setting(0.001, "its standard deviation")
    layers: Layers = setting(4, "blocks of the encoder")
    heads: Positive = setting(4, "heads of attention")
    emb_dropout: Share = setting(
        0.3, "rate of dropout on the history's item vectors", in_training=True
    )
    init_std: Rate = setting(
        1.0, "standard deviation of the item vectors' first values", in_training=True
    )
    padding_mask: Literal["released", "keys"] = setting(
        "released",
        "released: padding is seen by all positions, and itself sees all alike, so that all "
        "sequences are L long; keys: nobody sees it",
    )
    trained_on: Literal["histories", "positions"] = setting(
        "histories",
        "each history by itself, as released; or all positions of a user's latest items at once, "
        "where each sees those before it alone and the noised vector of the item behind it, in "
        "batches of users",
    )
    histories_per_epoch: Count = setting(
        0, "train on so many histories an epoch, drawn at random; 0: on all", in_training=True
    )


class DiffuRecTraining(SequenceTraining):
    """The release's training: histories in batches."""

    title = "optimiser"
    defaults: ClassVar = {
        "batch_size": 512, "epochs": 500, "eval_every": 20, "patience": 101, "lr_step": 100,
    }  # fmt: skip


class DiffuRec(DiffusionOfNext):
    """With e the vector of the next item and x_t = √ᾱ_t e + √(1 - ᾱ_t) ε,

        z_m = LN(e_{s_m}) + λ_m ⊙ (x_t + step(t)),    λ_m ~ N(δ, δ²) in each dimension,
        x̂_0 = LN(Encoder(z))_n,                       the last position of the history,
        L = -log softmax(E x̂_0)_{next}.

    Inference starts from x_T ~ N(0, I), takes T reverse steps with x̂_0 (Eq. 5 and 8 of DiffRec;
    their variance is β_t), and ranks by the last x̂_0. Its noise and λ belong to a row
    (`baselines.noise`). There is no position embedding; what is padded counts, as released. Written
    from facts on the authors' code.
    """

    variant = "DiffuRec"
    Settings = DiffuRecSettings
    Training = DiffuRecTraining
    ranges: ClassVar[Ranges] = {
        "lr": Between(3e-4, 3e-3, log=True),
        "dropout": Between(0.05, 0.4),
        "emb_dropout": Between(0.1, 0.6),
        "init_std": [0.02, 1.0],
        "layers": [1, 2, 4],
        "lambda_mean": [0.0, 0.001, 0.01, 0.1],
        "noise_schedule": ["trunc_lin", "cosine", "sqrt"],
        "steps": [32, 64],  # so many that noise alone is left of x_0
    }

    def make(self, settings: DiffuRecSettings) -> None:
        size = settings.emb_size
        self.make_diffusion(settings)
        self.embedding = nn.Embedding(self.n_items + 1, size)  # the release's padding learns too
        if settings.init_std != 1:
            nn.init.normal_(self.embedding.weight, std=settings.init_std)
        self.norm = nn.LayerNorm(size, 1e-12)
        self.emb_dropout = Dropout(settings.emb_dropout, inplace=True)
        self.step = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.encoder = Encoder(
            settings.layers, size, settings.heads, 4 * size, settings.dropout, "gelu_tanh",
            norm_first=True, end_dropout=settings.dropout, inner_dropout=settings.dropout,
        )  # fmt: skip
        self.last = nn.LayerNorm(size, 1e-12)
        self.dropout = Dropout(settings.dropout, inplace=True)
        for block in self.encoder.blocks:
            for layer in (block.attention.output, block.first, block.second):
                nn.init.xavier_normal_(layer.weight)

        if settings.trained_on == "positions" and settings.histories_per_epoch:
            raise ValueError("histories_per_epoch goes with trained_on histories.")
        if settings.trained_on == "histories" and settings.stretch != "latest":
            raise ValueError("stretch goes with trained_on positions.")
        if settings.trained_on == "positions" and settings.padding_mask != "released":
            raise ValueError("padding_mask goes with trained_on histories.")
        self.causal = settings.trained_on == "positions"
        self.released_mask = settings.padding_mask == "released" and not self.causal

    @property
    def draws_noise(self) -> bool:
        return self.settings.lambda_mean != 0 or self.settings.lambda_std != 0

    def mask(self, lengths: torch.Tensor, width: int) -> torch.Tensor | None:
        """What attention is told of padding, for sequences of ``lengths``, (B,)."""
        if self.causal:
            return None
        if not self.released_mask:
            return key_mask(lengths, width)
        padding = torch.arange(width, device=lengths.device) >= lengths[:, None]
        return (padding * UNSEEN)[:, None, :, None].expand(-1, 1, width, width)

    def history(self, sequences: torch.Tensor) -> torch.Tensor:
        """LN(e), (B, L, d)."""
        return self.norm(self.emb_dropout(self.embedding(sequences)))

    def hidden(
        self, history: torch.Tensor, lengths: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor,
        lam: torch.Tensor, last: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """LN(Encoder(z)), (B, L, d), or at the positions ``last``, (B,), alone, (B, d). history,
        lam: (B, L, d); lengths, t: (B,); x_t: (B, 1, d), or one for each position."""
        of_step = timestep_embedding(t * (1000 / self.settings.steps), self.settings.emb_size)
        step = self.step(of_step.to(history.dtype))
        z = history + lam * (x_t + step[:, None])
        h = self.encoder(z, self.mask(lengths, z.shape[1]), self.causal, last)
        return self.last(self.dropout(h))

    def lambdas(self, noise: torch.Tensor) -> torch.Tensor:
        """λ of standard normal noise, (B, L, d)."""
        return self.settings.lambda_mean + self.settings.lambda_std * noise

    # Training ------------------------------------------------------------------------------------

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        if self.causal:
            return super().epoch_batches(train, batch_size)
        prefixes = Prefixes(train, self.settings.max_length)
        width = self.settings.max_length if self.released_mask else None
        count = min(self.settings.histories_per_epoch or len(prefixes), len(prefixes))
        batches = prefixes.batches(batch_size, count, by_length=not self.released_mask)
        return -(-count // batch_size), (prefixes.take(some, width) for some in batches)

    def loss_terms(self, batch: Histories | Interactions) -> int:
        return positions_of(batch, self.settings.max_length) if self.causal else len(batch)

    def training_loss(self, batch: Histories | Interactions) -> torch.Tensor:
        """A batch of histories, or of users whose positions are trained on at once."""
        if self.causal:
            sequences, lengths = batch.padded(self.settings.max_length + 1)
            sequences, following = sequences[:, :-1], sequences[:, 1:]
            lengths = (lengths - 1).clamp(min=0)
        else:
            sequences, lengths = batch.sequences, batch.lengths
            following = batch.targets[:, None] + 1
        history, target = self.history(sequences), self.embedding(following)
        t, p = self.sampler.sample(len(target), target.device)
        x_t = self.diffusion.q_sample(target, t, torch.randn_like(target))
        last = None if self.causal else lengths - 1
        h = self.hidden(history, lengths, x_t, t, self.lambdas(torch.randn_like(history)), last)
        if self.causal:
            places = torch.arange(h.shape[1], device=h.device)
            rows, places = (places < lengths[:, None]).nonzero(as_tuple=True)
            if not len(rows):  # users of one item alone
                self.sampler.update(t[:0], h.new_zeros(0))  # others have losses to tell
                return nothing(self)
            x0_hat, wanted = h[rows, places], following[rows, places]
            t, p = t[rows], p[rows]
        else:
            x0_hat, wanted = h, following[:, 0]
        logits = F.linear(x0_hat, self.embedding.weight)
        losses = F.cross_entropy(logits, wanted, reduction="none")
        self.sampler.update(t, losses)
        return (losses / p).mean()

    # Inference -----------------------------------------------------------------------------------

    def draws(self, batch: Interactions, width: int) -> Iterator[torch.Tensor]:
        """(B, L + 1, d) for each reverse step, beginning with the last of the steps, T: ε of x, and
        of λ at each position; 0 where nobody sees the position."""
        lengths = batch.lengths.clamp(max=width).tolist()
        of_rows = list(generators(batch, self.settings.max_length))
        while True:
            noise = torch.zeros(len(batch), width + 1, self.settings.emb_size)
            for row, length, generator in zip(noise, lengths, of_rows, strict=True):
                row[: (width if self.released_mask else length) + 1].normal_(generator=generator)
            yield noise.to(batch.device)

    def encode(self, batch: Interactions) -> torch.Tensor:
        diffusion = self.diffusion
        sequences, lengths = batch.padded(self.settings.max_length)
        if self.released_mask:
            sequences = F.pad(sequences, (0, self.settings.max_length - sequences.shape[1]))
        history, draws = self.history(sequences), self.draws(batch, sequences.shape[1])
        last, noise = (lengths - 1).clamp(min=0), next(draws)
        x = noise[:, 0]
        for step in reversed(range(self.settings.steps)):
            t = torch.full((len(x),), step, device=x.device)
            x0_hat = self.hidden(history, lengths, x[:, None], t, self.lambdas(noise[:, 1:]), last)
            if step == 0 or self.settings.reverse == "direct" or not self.draws_noise:
                break  # without λ x has no part in it
            noise = next(draws)
            mean, _ = diffusion.q_posterior(x0_hat, x, t)
            x = mean + diffusion.beta[step].sqrt().to(x.dtype) * noise[:, 0]
        return x0_hat
