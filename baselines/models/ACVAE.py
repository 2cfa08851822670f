"""ACVAE (Xie et al. 2021): an adversarial and contrastive VAE of item sequences (Table 7)."""

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from baselines.noise import generators
from baselines.recommender import Baseline
from baselines.sequences import at, by_length, of_table, require_next
from DiffRec import Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.optimizers import make_optimizer
from DiffRec.engine.settings import (
    DecaySettings,
    NotNegative,
    Positive,
    Rate,
    Settings,
    Share,
    setting,
)
from DiffRec.evaluate_utils import Scorer
from DiffRec.models.layers import Dropout, states_of

LATENT, GRU_SIZE, CRITIC_SIZE, KERNEL = 64, 100, 128, 5


class ACVAESettings(Settings):
    """ACVAE."""

    title = "ACVAE"
    emb_size: Positive = setting(128, "d, the size of item embeddings")
    max_length: Positive = setting(200, "L, how many of a user's latest items are read")
    dropout: Share = setting(0.5, "rate of dropout in the encoder", in_training=True)
    alpha: NotNegative = setting(0.05, "alpha, the weight of the KL term", in_training=True)
    beta: NotNegative = setting(0.1, "beta, the weight of the contrastive term", in_training=True)


class ACVAETraining(DecaySettings):
    """One optimiser for the model and one for each critic."""

    title = "ACVAE"
    defaults: ClassVar = {"lr": 1e-3, "weight_decay": 0.01, "batch_size": 64, "epochs": 350}
    lr_contrast: Rate = setting(3e-4, "learning rate of the encoder and the contrastive critic")
    lr_ratio: Rate = setting(5e-4, "learning rate of the density ratio's critic")
    wd_critics: NotNegative = setting(0.1, "weight decay of both critics")


class NoisyEncoder(nn.Module):
    """Embedded items (B, L, d) ↦ a sample of z (B, L, D) at each position, which sees only the
    positions up to its own. The posterior is implicit: noise enters by h + tanh(W ε + b)."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.gru = nn.GRU(size, GRU_SIZE, batch_first=True)
        self.noise = nn.Linear(GRU_SIZE, GRU_SIZE)
        self.first = nn.Linear(GRU_SIZE, GRU_SIZE)
        self.causal = nn.Conv1d(GRU_SIZE, 2 * GRU_SIZE, KERNEL)
        self.last = nn.Linear(2 * GRU_SIZE, GRU_SIZE)
        self.to_latent = nn.Linear(GRU_SIZE, LATENT)

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """noise: (2, B, L, GRU_SIZE), ε of the two places where it enters; by default drawn."""

        def noised(h: torch.Tensor, place: int) -> torch.Tensor:
            epsilon = torch.randn(h.shape, device=h.device) if noise is None else noise[place]
            return h + self.noise(epsilon).tanh()

        of_gru = states_of(self.gru, self.dropout(x))
        h = noised(F.softplus(self.first(noised(of_gru, 0))), 1)
        h = F.softplus(self.causal(F.pad(h.transpose(1, 2), (KERNEL - 1, 0)))).transpose(1, 2)
        h = F.softplus(self.last(h)) + of_gru
        return self.to_latent(self.dropout(h))


class DensityRatio(nn.Module):
    """T(x, z) per dimension of z, (n, D): trained to tell z of the encoder from z ~ N(0, I), it
    estimates log q(z | x) - log p(z)."""

    def __init__(self, size: int):
        super().__init__()
        self.input = nn.Linear(size + LATENT, CRITIC_SIZE)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(CRITIC_SIZE, CRITIC_SIZE), nn.Linear(CRITIC_SIZE, CRITIC_SIZE))
            for _ in range(2)
        )
        self.output = nn.Linear(CRITIC_SIZE, LATENT)
        self.dropout = Dropout(0.2)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        h = self.dropout(self.input(torch.cat([x, z], dim=1)))
        for block in self.blocks:
            h = F.elu(h + block(h))
        return self.dropout(self.output(h)) + 0.5 * z.square()


class Contrast(nn.Module):
    """A score, (B, L), of how well a sequence of z, (B, L, D), belongs to that of items x."""

    def __init__(self, size: int):
        super().__init__()
        self.gru = nn.GRU(size + LATENT, CRITIC_SIZE, batch_first=True)
        self.output = nn.Linear(CRITIC_SIZE, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        h = states_of(self.gru, torch.cat([x, z], dim=2))
        return self.output(F.gelu(h))[..., 0]


class ACVAE(Baseline):
    """From the items s_1..s_n of a user in order of time, position m predicts s_{m+1} by
    softmax(decoder(z_m)), z_m being drawn by `NoisyEncoder` from s_1..s_m. Per user,

        L = Σ_m -log p(s_{m+1} | z_m)  +  α Σ_m mean_D T(x_m, z_m)                          (KL)
            + β Σ_m softplus(-C(x, z)_m) + softplus(C(x, z')_m)                     (contrastive)

    with z' the latent vectors of another user of the batch; T is trained apart, as a classifier.
    AdamW steps everything but the critics, SGD steps the encoder behind its GRU once more together
    with C, and another SGD steps T.

    The authors' code pads all sequences to L and keeps logits and one-hot targets of every
    position: 31 bytes for each of B · L · I numbers, 37.7 GB on Amazon-book. Here only positions
    that predict something reach the decoder, and the loss takes the targets' indices: the same
    sum, a few GB. It also has an output for the padding, which is never a target, and none here.
    The paper's parameter counts fit ``emb_size`` 64; the authors' default is 128. Noise stays on at
    inference, as in their code; here it belongs to a row (`baselines.noise`). Written from facts on
    their code.
    """

    variant = "ACVAE"
    reads_weights = False
    Settings = ACVAESettings
    Training = ACVAETraining
    group = "paper"
    ranges: ClassVar = {"lr": [1e-4, 1e-3], "emb_size": [64, 128]}

    def make(self, settings: ACVAESettings) -> None:
        size = settings.emb_size
        self.embedding = nn.Embedding(self.n_items + 1, size, padding_idx=0)  # item i is row i + 1
        self.encoder = NoisyEncoder(size, settings.dropout)
        self.decoder = nn.Sequential(nn.Linear(LATENT, size), nn.Tanh())
        self.output = nn.Linear(size, self.n_items)
        for layer in (self.decoder[0], self.output):
            nn.init.xavier_normal_(layer.weight)
        self.ratio = DensityRatio(size)
        self.contrast = Contrast(size)

    def axes(self) -> dict[str, Axes]:
        items = torch.arange(self.n_items)
        return {
            "embedding.weight": (of_table(self.n_items), None),
            "output.weight": (items, None),
            "output.bias": (items,),
        }

    def optimizers(self, training: ACVAETraining) -> list[torch.optim.Optimizer]:
        model = [*self.embedding.parameters(), *self.encoder.parameters(),
                 *self.decoder.parameters(), *self.output.parameters()]  # fmt: skip
        behind_gru = [p for name, p in self.encoder.named_parameters() if "gru." not in name]
        with_contrast = [*behind_gru, *self.contrast.parameters()]
        decay = training.wd_critics
        return [
            make_optimizer(training.optimizer, model, training.lr, training.weight_decay),
            make_optimizer("SGD", with_contrast, training.lr_contrast, decay),
            make_optimizer("SGD", self.ratio.parameters(), training.lr_ratio, decay),
        ]

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        require_next(train)
        return super().epoch_batches(train, batch_size)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        settings = self.settings
        sequences, lengths = batch.padded(settings.max_length + 1)
        inputs = sequences[:, : max(sequences.shape[1] - 1, 1)]
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        predicts = steps < (lengths - 1)[:, None]  # so that a row's last item is no input
        x = self.embedding(inputs * predicts)
        z = self.encoder(x)
        rows, places = predicts.nonzero(as_tuple=True)
        x_here, z_here = x[rows, places], z[rows, places]

        logits = self.output(self.decoder(z_here))
        likelihood = F.cross_entropy(logits, sequences[rows, places + 1] - 1, reduction="sum")

        frozen = {name: p.detach() for name, p in self.ratio.named_parameters()}
        kl = functional_call(self.ratio, frozen, (x_here, z_here)).mean(dim=1).sum()
        both = torch.cat([z, z.roll(1, dims=0)])  # each user's own, and another's
        own, other = self.contrast(x.repeat(2, 1, 1), both).chunk(2)
        contrast = (F.softplus(-own) + F.softplus(other))[rows, places].sum()
        if len(batch) == 1:  # there is nobody else
            contrast = 0 * contrast

        fixed = x_here.detach()
        drawn, prior = z_here.detach(), torch.randn_like(z_here)
        telling = F.softplus(-self.ratio(fixed, drawn)) + F.softplus(self.ratio(fixed, prior))
        telling = telling.mean(dim=1).sum()

        total = likelihood + settings.alpha * kl + settings.beta * contrast + telling
        return total / len(batch)

    @property
    def draws_noise(self) -> bool:
        return True

    def noise(self, batch: Interactions, width: int) -> torch.Tensor:
        """ε of inference, (2, B, L, GRU_SIZE) for sequences of L = ``width``; 0 behind a row."""
        noise = torch.zeros(2, len(batch), width, GRU_SIZE)
        lengths = batch.lengths.clamp(max=width).tolist()
        of_rows = generators(batch, self.settings.max_length)
        for row, (length, generator) in enumerate(zip(lengths, of_rows, strict=True)):
            noise[:, row, :length] = torch.randn(2, length, GRU_SIZE, generator=generator)
        return noise.to(batch.device)

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        return by_length(self.encode), self.output.weight, self.output.bias

    def encode(self, batch: Interactions) -> torch.Tensor:
        """(B, d) of B rows, as inference has it."""
        sequences, lengths = batch.padded(self.settings.max_length)
        z = self.encoder(self.embedding(sequences), self.noise(batch, sequences.shape[1]))
        return self.decoder(at(z, (lengths - 1).clamp(min=0)))
