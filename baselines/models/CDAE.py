"""Collaborative denoising autoencoder (Wu et al. 2016)."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from baselines.recommender import Autoencoder
from DiffRec import Interactions
from DiffRec.engine.settings import DecaySettings, Positive, Settings, Share, setting
from DiffRec.models.layers import ACTIVATIONS, Dropout


class CDAESettings(Settings):
    """CDAE."""

    title = "CDAE"
    hidden_size: Positive = setting(200, "size of the hidden layer and of the user vectors")
    act_func: Literal[tuple(ACTIVATIONS)] = setting("relu", "h, the hidden layer's activation")
    dropout: Share = setting(0.5, "rate of dropout on the interactions", in_training=True)
    loss: Literal["bce", "mse"] = setting(
        "bce",
        "binary cross-entropy or squared error of the predictions, over all items",
        in_training=True,
    )


class CDAETraining(DecaySettings):
    """The learning rate of its source, whose batches of 2048 users would be 3 on ML-1M."""

    defaults: ClassVar = {"lr": 1e-3}


class CDAE(Autoencoder):
    """z = h(W x̃ + V_u + b),  logits = W' z + b'  (Eq. 2 and 3 of the source).

    x̃ is x after dropout, V_u a vector of user u. The loss is the cross-entropy of x under
    σ(logits), summed over all items; or the squared error of σ(logits).
    Source: RecBole's CDAE, whose activations are those that the paper searches, with a hidden size
    of 200 (the paper's "[200, 600]" has no meaning for one hidden layer) and with weight decay in
    the place of its penalty on the unsquared norms of V and W. A user who is not in the training
    data has V_u = 0.
    """

    variant = "CDAE"
    Settings = CDAESettings
    Training = CDAETraining
    group = "paper"
    ranges: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "weight_decay": [0.0, 1e-3, 1e-1],
        "dropout": [0.1, 0.3, 0.5, 0.7],
        "act_func": ["sigmoid", "relu", "tanh"],
    }

    def make(self, settings: CDAESettings) -> None:
        size = settings.hidden_size
        self.user_vectors = nn.Embedding(self.n_users, size)
        self.input = nn.Linear(self.n_items, size)
        self.output = nn.Linear(size, self.n_items)
        for layer in (self.user_vectors, self.input, self.output):
            nn.init.xavier_normal_(layer.weight)
        for layer in (self.input, self.output):
            nn.init.zeros_(layer.bias)
        self.activation = ACTIVATIONS[settings.act_func]()
        self.dropout = Dropout(settings.dropout)

    def hidden_of(self, x: torch.Tensor, users: torch.Tensor | None) -> torch.Tensor:
        """z, (B, D), of x, (B, I), and the rows' users."""
        z = self.input(self.dropout(x))
        if users is not None:
            known = (users < self.n_users).to(z.device)
            users = users.clamp(max=self.n_users - 1).to(z.device)
            z = z + self.user_vectors(users) * known[:, None]
        return self.activation(z)

    def hidden(self, batch: Interactions) -> torch.Tensor:
        return self.hidden_of(batch.dense(), batch.users)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """The mean over users of the loss summed over items."""
        x = batch.dense()
        logits = self.output(self.hidden_of(x, batch.users))
        if self.settings.loss == "mse":
            return F.mse_loss(logits.sigmoid(), x, reduction="sum") / len(x)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
