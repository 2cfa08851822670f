"""GRU4Rec (Hidasi et al. 2016): a recurrent network over a user's latest items."""

from typing import ClassVar

import torch
from torch import nn

from baselines.sequences import CausalModel, CausalSettings, at
from DiffRec.engine.settings import Between, Layers, Positive, Ranges, setting
from DiffRec.models.layers import Dropout, states_of


class GRU4RecSettings(CausalSettings):
    """GRU4Rec."""

    title = "GRU4Rec"
    defaults: ClassVar = {"dropout": 0.3}
    hidden_size: Positive = setting(128, "size of the recurrent layers")
    layers: Layers = setting(1, "recurrent layers")


class GRU4Rec(CausalModel):
    """h = W GRU(e_{s_1}, …, e_{s_m}) + b, and the score h · e_i: RecBole's form of it, with the
    losses of `CausalModel` in the place of the paper's ranking losses."""

    variant = "GRU4Rec"
    Settings = GRU4RecSettings
    ranges: ClassVar[Ranges] = {
        "lr": Between(3e-4, 5e-3, log=True),
        "emb_size": [64, 128],
        "hidden_size": [128, 256],
        "dropout": Between(0.0, 0.6),
        "max_length": [50, 200],
        "batch_size": [64, 128, 256],
    }

    def make(self, settings: GRU4RecSettings) -> None:
        self.embedding = nn.Embedding(self.n_items + 1, settings.emb_size, padding_idx=0)
        self.dropout = Dropout(settings.dropout)
        self.gru = nn.GRU(
            settings.emb_size, settings.hidden_size, settings.layers, bias=False, batch_first=True
        )
        self.dense = nn.Linear(settings.hidden_size, settings.emb_size)
        nn.init.xavier_normal_(self.embedding.weight)
        for layer in range(settings.layers):
            for name in (f"weight_ih_l{layer}", f"weight_hh_l{layer}"):
                nn.init.xavier_uniform_(getattr(self.gru, name))

    def hidden(self, sequences: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        h = states_of(self.gru, self.dropout(self.embedding(sequences)))
        return self.dense(h if last is None else at(h, last))
