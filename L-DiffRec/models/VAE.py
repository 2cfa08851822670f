"""One variational encoder per item cluster, and the decoder (Section 3.5, Eq. 15)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from DiffRec.models.layers import Dropout
from DiffRec.models.VAE import GaussianEncoder, mlp, reparameterize

LABELS = 2**32  # apart: more than any layer has units


def share_out(lengths: list[int], size: int) -> list[int]:
    """Split ``size`` units over clusters by their share of the items: at least one each, and what
    rounding leaves goes to the last, as released. Where many tiny clusters leave the last none, the
    largest shares give way."""
    if size < len(lengths):
        raise ValueError(f"{len(lengths)} clusters cannot share a layer of size {size}.")
    n_items = sum(lengths)
    shares = [max(int(length / n_items * size), 1) for length in lengths[:-1]]
    while sum(shares) >= size:
        shares[shares.index(max(shares))] -= 1
    return [*shares, size - sum(shares)]


class ClusteredVAE(nn.Module):
    """VAEs over the parts x_0^c of the interaction vector, their latent vectors concatenated.

    Inputs and outputs are in *grouped order*: the items of the first cluster, then those of the
    second, and so on. ``position`` maps item ids to it, so that a caller can group a batch for
    free and bring scores back by ``scores[:, position]``.

    Args:
        clusters: (I,) int64, the cluster of each item; empty clusters vanish.
        in_dims: encoder sizes from the bottleneck outwards; the first is D, the size of z_0. Every
            size is shared out over the clusters by their number of items.
        out_dims: hidden sizes of the decoders, shared out likewise; [] means none.
        act_func: activation of encoders and decoders.
        cluster_decoders: a decoder ψ_c per cluster (the paper), or one linear layer over the whole
            z_0 (as published). Decoders with hidden layers are always per cluster.
        activate_latent: put the activation on μ and log σ² too, as released.
        reparam: sample z in training; otherwise z = μ.
        dropout: rate on the input.
    """

    def __init__(
        self,
        clusters: torch.Tensor,
        in_dims: list[int],
        out_dims: list[int],
        act_func: str = "tanh",
        cluster_decoders: bool = False,
        activate_latent: bool = True,
        reparam: bool = True,
        dropout: float = 0.1,
    ):
        super().__init__()
        if not in_dims:
            raise ValueError("in_dims must hold at least the size of the latent vector.")
        self.reparam = reparam
        self.register_buffer("clusters", clusters)
        # Of the grouped order: which item stands where, and where each item stands.
        self.register_buffer("order", torch.argsort(clusters, stable=True), persistent=False)
        self.register_buffer("position", torch.argsort(self.order), persistent=False)
        self.lengths = [length for length in torch.bincount(clusters).tolist() if length]
        outermost_first = [share_out(self.lengths, size) for size in reversed(in_dims)]
        dims = list(zip(*outermost_first, strict=True))
        self.latent_sizes = [of_cluster[-1] for of_cluster in dims]
        self.latent_size = in_dims[0]
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(
            GaussianEncoder(length, list(of_cluster), act_func, activate_latent)
            for length, of_cluster in zip(self.lengths, dims, strict=True)
        )
        if not out_dims and not cluster_decoders:
            n_items = len(clusters)
            self.decoder = nn.Sequential(*mlp([self.latent_size, n_items], act_func, False))
            return
        hidden = zip(*(share_out(self.lengths, size) for size in out_dims), strict=True)
        hidden = list(hidden) or [()] * len(self.lengths)
        self.decoder = nn.ModuleList(
            nn.Sequential(*mlp([latent, *between, length], act_func, False))
            for latent, between, length in zip(self.latent_sizes, hidden, self.lengths, strict=True)
        )

    def axes(self) -> tuple[dict[str, tuple], torch.Tensor]:
        """What stands along the axes of its tensors (`DiffRec.engine.contract.Recommender.axes`),
        and the labels of z_0, (D,): how large a cluster's layers are depends on its share of the
        items, and its units are told by cluster and place."""
        found, order = {}, self.order.cpu()

        def name(prefix: str, layers: nn.Sequential, inputs, outputs) -> None:
            places = [at for at, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
            for at in places:
                hidden = -1 - torch.arange(layers[at].out_features)
                outputs_here = outputs if at == places[-1] else hidden
                found[f"{prefix}.{at}.weight"] = (outputs_here, inputs)
                found[f"{prefix}.{at}.bias"] = (outputs_here,)
                inputs = hidden

        latent = [
            -1 - (LABELS * cluster + torch.arange(size))
            for cluster, size in enumerate(self.latent_sizes)
        ]
        items = order.split(self.lengths)
        for cluster, of_cluster in enumerate(latent):
            twice = torch.cat([of_cluster, of_cluster - LABELS * len(latent)])  # μ, log σ²
            name(f"encoder.{cluster}", self.encoder[cluster], items[cluster], twice)
            if isinstance(self.decoder, nn.ModuleList):
                name(f"decoder.{cluster}", self.decoder[cluster], of_cluster, items[cluster])
        if isinstance(self.decoder, nn.Sequential):
            name("decoder", self.decoder, torch.cat(latent), order)
        return found, torch.cat(latent)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """μ_φ(x_0) and log σ_φ²(x_0), each (B, D), from x: (B, I) in grouped order."""
        parts = x.split(self.lengths, dim=1)
        encoded = [encode(part) for encode, part in zip(self.encoder, parts, strict=True)]
        mu, log_var = zip(*encoded, strict=True)
        return torch.cat(mu, dim=1), torch.cat(log_var, dim=1)

    def mean_encoder(self) -> Callable[..., torch.Tensor]:
        """μ_φ for inference, from the CSR rows of x_0 alone: a function of items in grouped order,
        (nnz,), row starts, (B + 1,), and values, (nnz,) or None for ones; it returns (B, D).

        Row i of its table holds item i's weights in the columns of its cluster's first layer, and
        zeros elsewhere, so that one sparse product serves all clusters.
        """
        weights, biases, widths = [], [], []
        for encoder, latent in zip(self.encoder, self.latent_sizes, strict=True):
            first = encoder[0]
            # With a single layer the second half of its outputs is log σ², which is not needed.
            width = latent if len(encoder) <= 2 else first.out_features
            weights.append(first.weight[:width].T)
            biases.append(first.bias[:width])
            widths.append(width)
        table, bias = torch.block_diag(*weights), torch.cat(biases)

        def mean(
            items: torch.Tensor, offsets: torch.Tensor, values: torch.Tensor | None
        ) -> torch.Tensor:
            a = F.embedding_bag(items, table, offsets[:-1], mode="sum", per_sample_weights=values)
            means = []
            for part, encoder, latent in zip(
                (a + bias).split(widths, dim=1), self.encoder, self.latent_sizes, strict=True
            ):
                for layer in list(encoder)[1:]:
                    part = layer(part)
                means.append(part[:, :latent])
            return torch.cat(means, dim=1)

        return mean

    def latent(self, mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
        """z_0: (B, D); a sample in training with ``reparam``, else μ."""
        return reparameterize(mu, log_var) if self.training and self.reparam else mu

    def last_hidden(self, z: torch.Tensor) -> torch.Tensor:
        """What the decoders' last layers see: z itself, (B, D), where they have no hidden ones."""
        if isinstance(self.decoder, nn.Sequential):
            return z
        parts = z.split(self.latent_sizes, dim=1)
        hidden = []
        for part, decoder in zip(parts, self.decoder, strict=True):
            for layer in list(decoder)[:-1]:
                part = layer(part)
            hidden.append(part)
        return torch.cat(hidden, dim=1)

    def item_factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The last layers as one: weights (I, width of `last_hidden`) and biases (I,), grouped."""
        if isinstance(self.decoder, nn.Sequential):
            return self.decoder[-1].weight, self.decoder[-1].bias
        last = [decoder[-1] for decoder in self.decoder]
        weights = torch.block_diag(*(layer.weight for layer in last))
        return weights, torch.cat([layer.bias for layer in last])

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of p_ψ(x̂_0 | ẑ_0): (B, D) → (B, I) in grouped order."""
        if isinstance(self.decoder, nn.Sequential):
            return self.decoder(z)
        parts = z.split(self.latent_sizes, dim=1)
        decoded = [decode(part) for decode, part in zip(self.decoder, parts, strict=True)]
        return torch.cat(decoded, dim=1)
