"""SASRec (Kang & McAuley 2018): self-attention over a user's latest items."""

from typing import ClassVar

import torch
from torch import nn

from baselines.sequences import CausalModel, CausalSettings
from baselines.transformer import Encoder
from DiffRec.engine.settings import Between, Layers, Positive, Ranges, setting
from DiffRec.models.layers import Dropout


class SASRecSettings(CausalSettings):
    """SASRec."""

    title = "SASRec"
    layers: Layers = setting(2, "blocks of the encoder")
    heads: Positive = setting(2, "heads of attention")
    norm_first: bool = setting(False, "LayerNorm before attention and network, or behind them")


class SASRec(CausalModel):
    """h = Encoder(LN(e_{s_m} + p_m)), each position seeing those up to its own; score h · e_i.

    By default the network, its first weights and the loss are those of RecBole's, cross-entropy
    over all items; ``loss`` bce is the paper's.
    """

    variant = "SASRec"
    Settings = SASRecSettings
    ranges: ClassVar[Ranges] = {
        "lr": Between(3e-4, 3e-3, log=True),
        "emb_size": [64, 128],
        "dropout": Between(0.1, 0.6),
        "layers": [1, 2, 3],
        "heads": [1, 2, 4],
        "max_length": [50, 200],
        "batch_size": [64, 128, 256],
        "weight_decay": [0.0, 1e-4],
    }

    def make(self, settings: SASRecSettings) -> None:
        size = settings.emb_size
        self.embedding = nn.Embedding(self.n_items + 1, size, padding_idx=0)
        self.positions = nn.Embedding(settings.max_length, size)
        self.norm, self.dropout = nn.LayerNorm(size, eps=1e-12), Dropout(settings.dropout)
        self.encoder = Encoder(
            settings.layers, size, settings.heads, 4 * size, settings.dropout,
            norm_first=settings.norm_first,
        )  # fmt: skip
        self.last = nn.LayerNorm(size, eps=1e-12) if settings.norm_first else nn.Identity()
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def hidden(self, sequences: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        places = torch.arange(sequences.shape[1], device=sequences.device)
        x = self.dropout(self.norm(self.embedding(sequences) + self.positions(places)))
        return self.last(self.encoder(x, causal=True, last=last))
