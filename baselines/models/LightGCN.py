"""LightGCN (He et al. 2020): embeddings smoothed over the graph of users and items."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from baselines.graph import SparseProduct, expected_graph, normalised, set_graph
from baselines.recommender import Pairwise, PairwiseSettings
from DiffRec import Dataset
from DiffRec.engine.settings import Folder, Settings, Share, setting
from DiffRec.engine.tensors import Expected


class LightGCNSettings(PairwiseSettings):
    """LightGCN."""

    title = "LightGCN"
    layers: Annotated[int, Field(ge=0, le=100)] = setting(3, "K, the number of layers of the graph")
    dropout: Share = setting(
        0.0, "share of edges that are left out in a step of training", in_training=True
    )


class EmbeddingOptions(Settings):
    """L-DiffRec's input, which a LightGCN can make."""

    title = "item embeddings"
    export_item_emb: bool | Folder = setting(
        False,
        "write the best model's item embeddings to this file; 1, or no value, is item_emb.npy "
        "beside the data",
    )
    item_emb: Literal["propagated", "layer-0"] = setting(
        "propagated", "which embeddings are written: after or before propagation"
    )


class LightGCN(Pairwise):
    """With R̂ = D_u^-½ R D_i^-½ of the train interactions R (Eq. 7 and 8 of the source),

        e_u^(k+1) = R̂ e_i^(k),   e_i^(k+1) = R̂ᵀ e_u^(k),   k = 0..K-1
        p, q      = the mean of the layers 0..K of users and of items
        score     = p_u · q_i

    λ weighs the layer-0 embeddings of a triple. Dropout leaves out edges while training, each
    direction on its own, and scales the others by 1 / (1 - rate).
    Source: LightGCN-PyTorch, and its defaults.
    """

    variant = "LightGCN"
    Settings = LightGCNSettings
    Options = EmbeddingOptions
    group = "paper"
    ranges: ClassVar = {
        "lr": [1e-5, 1e-4, 1e-3, 1e-2],
        "weight_decay": [1e-6, 1e-5, 1e-4],
        "dropout": [0.1, 0.2, 0.3, 0.4, 0.5],
        "layers": [1, 2, 3],
    }

    def make(self, settings: LightGCNSettings) -> None:
        super().make(settings)
        set_graph(self)

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        return {**super().expected(weights), **expected_graph(self.n_users, self.n_items)}

    def forget_data(self) -> None:
        set_graph(self)

    def forget_derived(self) -> None:
        self.to_items: torch.Tensor | None = None

    def prepare_data(self, dataset: Dataset) -> Dataset:
        """Take the graph of the train interactions, unless it has one, as of a checkpoint."""
        dataset = super().prepare_data(dataset)
        if self.user_columns is None:
            set_graph(self, normalised(dataset.train.matrix()))
        return dataset

    def dropped(self) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """The weights of R̂ and R̂ᵀ after dropout, and those of their transposes."""
        rate = self.settings.dropout
        of_users, of_items = (
            weights * torch.rand_like(weights).ge_(rate).div_(1 - rate)
            for weights in (self.user_weights, self.item_weights)
        )
        if self.to_items is None:  # where R̂'s nonzeros stand in R̂ᵀ: users ascend within an item
            self.to_items = torch.argsort(self.user_columns, stable=True)
        back = torch.empty_like(of_items)
        back[self.to_items] = of_items
        return (of_users, of_users[self.to_items]), (of_items, back)

    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """[(e_u^(0), e_i^(0)), …, (e_u^(K), e_i^(K))]."""
        users, items = self.users, self.items
        user_rows = self.user_columns, self.user_offsets
        item_rows = self.item_columns, self.item_offsets
        of_users = self.user_weights, self.item_weights
        of_items = self.item_weights, self.user_weights
        if self.training and self.settings.dropout:
            of_users, of_items = self.dropped()
        found = [(users, items)]
        for _ in range(self.settings.layers):
            users, items = (
                SparseProduct.apply(items, (*user_rows, of_users[0]), (*item_rows, of_users[1])),
                SparseProduct.apply(users, (*item_rows, of_items[0]), (*user_rows, of_items[1])),
            )
            found.append((users, items))
        return found

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        users, items = zip(*self.layers(), strict=True)
        return sum(users) / len(users), sum(items) / len(items)

    def item_embeddings(self, which: str) -> torch.Tensor:
        """(I, d): "layer-0", e_i^(0), or "propagated", q."""
        with torch.no_grad():
            return self.items.detach() if which == "layer-0" else self.propagate()[1]
