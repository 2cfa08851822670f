"""ACVAE (Xie et al. 2021): an adversarial and contrastive VAE of item sequences (Table 7)."""

import argparse
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from baselines.recommender import Baseline
from DiffRec import Interactions, options
from DiffRec.evaluate_utils import Scorer
from DiffRec.models.layers import Dropout
from DiffRec.recommender import make_optimizer

LATENT, GRU_SIZE, CRITIC_SIZE, KERNEL = 64, 100, 128, 5


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

    def forward(self, x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        def noised(h: torch.Tensor) -> torch.Tensor:
            epsilon = torch.randn(h.shape, generator=generator, device=h.device)
            return h + self.noise(epsilon).tanh()

        of_gru, _ = self.gru(self.dropout(x))
        h = noised(F.softplus(self.first(noised(of_gru))))
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
        h = F.elu(self.input(torch.cat([x, z], dim=1)))
        for block in self.blocks:
            h = F.elu(h + block(h))
        return self.output(self.dropout(h)) + 0.5 * z.square()


class Contrast(nn.Module):
    """A score, (B, L), of how well a sequence of z, (B, L, D), belongs to that of items x."""

    def __init__(self, size: int):
        super().__init__()
        self.gru = nn.GRU(size + LATENT, CRITIC_SIZE, batch_first=True)
        self.output = nn.Linear(CRITIC_SIZE, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        h, _ = self.gru(torch.cat([x, z], dim=2))
        return self.output(F.gelu(h))[..., 0]


class ACVAE(Baseline):
    """From the items s_1..s_n of a user in order of time, position m predicts s_{m+1} by
    softmax(decoder(z_m)), z_m being drawn by `NoisyEncoder` from s_1..s_m. Per user,

        L = Σ_m -log p(s_{m+1} | z_m)  +  α Σ_m mean_D T(x_m, z_m)                          (KL)
            + β Σ_m softplus(-C(x, z)_m) + softplus(C(x, z')_m)                     (contrastive)

    with z' the latent vectors of another user of the batch; T is trained apart, as a classifier.
    AdamW steps everything but the critics, SGD steps the encoder once more together with C, and
    another SGD steps T.

    The authors' code pads all sequences to L and keeps logits and one-hot targets of every
    position: 31 bytes for each of B · L · I numbers, 37.7 GB on Amazon-book. Here only positions
    that predict something reach the decoder, and the loss takes the targets' indices: the same
    sum, a few GB. It also has an output for the padding, which is never a target, and none here.
    The paper's parameter counts fit ``emb_size`` 64; the authors' default is 128. Noise stays on at
    inference, as in their code, here by a fixed seed. Written from facts on their code.
    """

    variant = "ACVAE"
    defaults: ClassVar = {
        "optimizer": "AdamW", "lr": 1e-3, "weight_decay": 0.01, "batch_size": 64, "epochs": 350,
    }  # fmt: skip
    grid: ClassVar = {"lr": [1e-4, 1e-3], "emb_size": [64, 128]}

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        group.add_argument("--emb_size", type=options.POSITIVE, default=128, help="d")
        group.add_argument("--max_length", type=options.POSITIVE, default=200, help="L, the latest")
        group.add_argument("--dropout", type=options.rate_below_1, default=0.5, help="of encoder")
        group.add_argument("--alpha", type=options.NOT_NEGATIVE, default=0.05, help="of the KL")
        group.add_argument("--beta", type=options.NOT_NEGATIVE, default=0.1, help="of the contrast")
        group.add_argument("--lr_contrast", type=options.RATE, default=3e-4)
        group.add_argument("--lr_ratio", type=options.RATE, default=5e-4)
        group.add_argument("--wd_critics", type=options.NOT_NEGATIVE, default=0.1)

    def make(self, settings: dict) -> None:
        size = settings["emb_size"]
        self.embedding = nn.Embedding(self.n_items + 1, size, padding_idx=0)  # item i is row i + 1
        self.encoder = NoisyEncoder(size, settings["dropout"])
        self.decoder = nn.Sequential(nn.Linear(LATENT, size), nn.Tanh())
        self.output = nn.Linear(size, self.n_items)
        self.ratio = DensityRatio(size)
        self.contrast = Contrast(size)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.settings
        model = [*self.embedding.parameters(), *self.encoder.parameters(),
                 *self.decoder.parameters(), *self.output.parameters()]  # fmt: skip
        with_contrast = [*self.encoder.parameters(), *self.contrast.parameters()]
        decay = settings["wd_critics"]
        return [
            make_optimizer(settings["optimizer"], model, settings["lr"], settings["weight_decay"]),
            make_optimizer("SGD", with_contrast, settings["lr_contrast"], decay),
            make_optimizer("SGD", self.ratio.parameters(), settings["lr_ratio"], decay),
        ]

    def padded(self, batch: Interactions, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The latest ``keep`` items of each row, (B, L), as rows of the embedding from the left
        and 0 after them; and how many they are, (B,)."""
        lengths = batch.lengths.to(batch.device)
        rows = batch.row_index()
        starts = batch.offsets[:-1].to(batch.device)
        place = torch.arange(len(batch.items), device=batch.device) - starts[rows]
        place = place - (lengths - keep).clamp(min=0)[rows]
        kept = lengths.clamp(max=keep)
        longest = max(int(batch.lengths.clamp(max=keep).max()), 1)
        sequences = torch.zeros(len(batch), longest, dtype=torch.int64, device=batch.device)
        inside = place >= 0
        sequences[rows[inside], place[inside]] = batch.items[inside].long() + 1
        return sequences, kept

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        settings = self.settings
        sequences, lengths = self.padded(batch, settings["max_length"] + 1)
        inputs = sequences[:, : max(sequences.shape[1] - 1, 1)]
        x = self.embedding(inputs)
        z = self.encoder(x, None)
        steps = torch.arange(inputs.shape[1], device=x.device)
        rows, places = (steps < (lengths - 1)[:, None]).nonzero(as_tuple=True)
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

        total = likelihood + settings["alpha"] * kl + settings["beta"] * contrast + telling
        return total / len(batch)

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        generator = torch.Generator(self.device).manual_seed(0)

        def encode(batch: Interactions) -> torch.Tensor:
            sequences, lengths = self.padded(batch, self.settings["max_length"])
            z = self.encoder(self.embedding(sequences), generator)
            last = (lengths - 1).clamp(min=0)
            return self.decoder(z[torch.arange(len(batch), device=z.device), last])

        return encode, self.output.weight, self.output.bias
