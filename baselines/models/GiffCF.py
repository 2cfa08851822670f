"""GiffCF (Zhu et al., SIGIR 2024): diffusion by smoothing on the graph of items, and sharpening."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import scipy.sparse.linalg
import torch
import torch.nn.functional as F
from torch import nn

from baselines.graph import GRAPH, expected_graph, normalised, set_graph, through_graph
from baselines.recommender import Baseline
from DiffRec import Dataset, InputError, Interactions
from DiffRec.engine.arrays import read_archive
from DiffRec.engine.errors import reason_of
from DiffRec.engine.optimizers import make_optimizer
from DiffRec.engine.released import Released
from DiffRec.engine.settings import (
    Between,
    NotNegative,
    OptimizerSettings,
    Positive,
    Ranges,
    Rate,
    Repeats,
    Settings,
    Share,
    ShareOrAll,
    setting,
)
from DiffRec.engine.tensors import Expected
from DiffRec.evaluate_utils import Scorer
from DiffRec.models.layers import Dropout

STEP_SIZE = 20  # of the step embedding
ROWS = 1024  # of A that are computed at a time
# Items up to which A is a matrix, of 400 MB at most: for more, two sparse products are less work.
MOST_DENSE = 10_000

# The published arrays, by their names and ours; kernels are (in, out) there.
DENSE = {
    "step_1.first": "time_embed.dense", "step_1.second": "time_embed.dense_1",
    "step_2.first": "time_embed_1.dense_2", "step_2.second": "time_embed_1.dense_3",
    "mixer_1.first": "simple_mixer.dense_4", "mixer_1.second": "simple_mixer.dense_5",
    "mixer_2.first": "simple_mixer_1.dense_6", "mixer_2.second": "simple_mixer_1.dense_7",
}  # fmt: skip


def dense(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear layer that begins with Xavier-uniform weights and biases of 0."""
    layer = nn.Linear(fan_in, fan_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class StepScalar(nn.Module):
    """τ: a number for each diffusion step t, (B,) counted from 1 → (B, 1)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = dense(STEP_SIZE, STEP_SIZE), dense(STEP_SIZE, 1)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        k = torch.arange(STEP_SIZE // 2, device=t.device)
        angles = t[:, None].float() * 10_000.0 ** (-2 * k / STEP_SIZE)
        return self.second(F.silu(self.first(torch.cat([angles.sin(), angles.cos()], dim=1))))


class Mixer(nn.Module):
    """n tensors that broadcast ↦ one, entry by entry: a layer of two units, and one of one."""

    def __init__(self, n: int):
        super().__init__()
        self.first, self.second = dense(n, 2), dense(2, 1)

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        units = [
            F.silu(sum(w * part for w, part in zip(weights, parts, strict=True)) + bias)
            for weights, bias in zip(self.first.weight, self.first.bias, strict=True)
        ]
        (weights,) = self.second.weight
        return weights[0] * units[0] + weights[1] * units[1] + self.second.bias


class GiffCFSettings(Settings):
    """GiffCF."""

    title = "GiffCF"
    emb_size: Positive = setting(200, "size of the item embeddings")
    steps: Repeats = setting(3, "T, the number of diffusion steps")
    alpha: NotNegative = setting(1.5, "alpha, how far T steps smooth")
    gamma: ShareOrAll = setting(0.5, "gamma, the share of what was smoothed away that a step keeps")
    noise_scale: NotNegative = setting(
        0.0, "scale of the noise at step T; gamma times less before", in_training=True
    )
    ideal_weight: NotNegative = setting(0.0, "weight of the ideal low-pass filter")
    cutoff: Positive = setting(200, "rank of the ideal low-pass filter")
    dropout: Share = setting(0.5, "rate of dropout on the condition", in_training=True)
    mixers: Literal["random", "positive"] = setting(
        "random",
        "first weights of the mixers: drawn as released; positive: the absolute values of these, "
        "with which no seed that was tried is stuck",
        in_training=True,
    )


class GiffCFTraining(OptimizerSettings):
    """Two optimisers: of the item embeddings, and of the small networks."""

    title = "GiffCF"
    defaults: ClassVar = {
        "optimizer": "Adam", "lr": 1e-3, "batch_size": 100, "eval_every": 10, "patience": 200,
    }  # fmt: skip
    lr_mixers: Rate = setting(1e-3, "learning rate of mixers and step embeddings")


def read_published(path: Path, second: Path | None = None) -> Released:
    """The authors' weights from a .npz file of plain arrays; InputError for any other file."""
    names = [f"{name}.{part}" for name in DENSE.values() for part in ("kernel", "bias")]
    arrays = read_archive(path, ["item_embed", *names], "GiffCF's weights")
    try:
        if any(array.dtype != np.float32 for array in arrays.values()):
            raise ValueError("its arrays are not all of float32")
        weights = {"embedding": torch.from_numpy(arrays["item_embed"])}
        for ours, theirs in DENSE.items():
            kernel, bias = (arrays[f"{theirs}.{part}"] for part in ("kernel", "bias"))
            weights[f"{ours}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.T))
            weights[f"{ours}.bias"] = torch.from_numpy(bias)
        n_items, size = arrays["item_embed"].shape
    except Exception as error:  # shapes can be wrong in every way
        raise InputError(f"{path} does not hold GiffCF's weights ({reason_of(error)}).") from error
    return Released(weights, {"emb_size": size}, {}, n_items)


class GiffCF(Baseline):
    """With R̃ = D_u^-¼ R D_i^-½ and σ the largest eigenvalue of R̃ᵀR̃, rows x, (B, I), are smoothed
    by A = R̃ᵀR̃ / σ, with an ideal filter of weight w mixed in if w > 0:

        smooth(x) = (x A + w x U Uᵀ) / (1 + w),  U: the ``cutoff`` leading eigenvectors of A
        F(x, t)   = x + α t / T (smooth(x) - x)                          forward, and σ_t ε if s > 0
        x̂         = mixer₂(x_e Eᵀ, c, smooth(c), τ₂(t)),  x_e = mixer₁(z_t E / I, c E / ‖c‖₁, τ₁(t))
        z_{t-1}   = F(x̂, t-1) + γ (z_t - F(x̂, t))                        reverse, from z_T = F(x, T)

    c is x, with dropout in training; L = mean over users of ‖x - x̂‖² with t uniform in 1..T. The
    scores are z_0. Source: the authors' facts; their published weights are read from .npz files.
    Weighted rows are scaled to the sum that they have without weights: the network knows it.
    """

    variant = "GiffCF"
    group = "later"
    read_published = staticmethod(read_published)
    Settings = GiffCFSettings
    Training = GiffCFTraining
    ranges: ClassVar[Ranges] = {
        "lr": Between(3e-4, 3e-3, log=True),
        "lr_mixers": Between(3e-4, 3e-3, log=True),
        "alpha": Between(0.5, 2.0),
        "gamma": Between(0.0, 1.0),
        "dropout": Between(0.3, 0.7),
        "emb_size": [100, 200, 400],
        "batch_size": [100, 200],
    }

    def make(self, settings: GiffCFSettings) -> None:
        self.embedding = nn.Parameter(torch.empty(self.n_items, settings.emb_size))
        nn.init.xavier_uniform_(self.embedding)
        self.step_1, self.step_2 = StepScalar(), StepScalar()
        self.mixer_1, self.mixer_2 = Mixer(3), Mixer(4)
        if settings.mixers == "positive":
            for mixer in (self.mixer_1, self.mixer_2):
                for layer in (mixer.first, mixer.second):
                    layer.weight.data.abs_()
        self.dropout = Dropout(settings.dropout)
        set_graph(self)

    @classmethod
    def from_checkpoint(
        cls, header: dict, weights: dict[str, torch.Tensor], path: str | Path = "the checkpoint"
    ) -> Self:
        """Published weights tell no users."""
        data = {"users": 0, **header["data"]}
        return super().from_checkpoint({**header, "data": data}, weights, path)

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        """Published weights come without the graph."""
        graph = expected_graph(self.n_users, self.n_items) if "user_columns" in weights else {}
        own = {k: v for k, v in super().expected(weights).items() if k not in GRAPH}
        return {**own, **graph}

    def optimizers(self, training: GiffCFTraining) -> list[torch.optim.Optimizer]:
        parts = (self.step_1, self.step_2, self.mixer_1, self.mixer_2)
        small = [parameter for part in parts for parameter in part.parameters()]
        return [
            make_optimizer(training.optimizer, [self.embedding], training.lr),
            make_optimizer(training.optimizer, small, training.lr_mixers),
        ]

    # The graph -----------------------------------------------------------------------------------

    def forget_data(self) -> None:
        set_graph(self)

    def prepare_data(self, dataset: Dataset) -> Dataset:
        """Take the graph of the train interactions, unless it has one, as of a checkpoint."""
        dataset = super().prepare_data(dataset)
        if self.user_columns is None:
            scaled = normalised(dataset.train.with_values(None).matrix(), 0.25, 0.5)
            largest = scipy.sparse.linalg.norm(scaled)  # of one row or column
            if min(scaled.shape) > 1:
                start = np.ones(min(scaled.shape))
                (largest,) = scipy.sparse.linalg.svds(
                    scaled.astype(np.float64), 1, v0=start, return_singular_vectors=False
                )
            scaled = (scaled / largest).tocsr()
            set_graph(self, scaled)
        return dataset

    def prepare_filter(self) -> None:
        """A itself where it is small, and U where it has a weight. How much memory is free does not
        decide: products in another order round otherwise."""
        settings, fits = self.settings, self.n_items <= MOST_DENSE
        if self.dense_filter is None and fits:
            dense = torch.empty(self.n_items, self.n_items, device=self.device)
            for start in range(0, self.n_items, ROWS):  # of which the products take more memory
                stop = min(start + ROWS, self.n_items)
                ones = torch.zeros(stop - start, self.n_items, device=self.device)
                ones[:, start:stop] = torch.eye(stop - start, device=self.device)
                dense[start:stop] = self.filtered(ones)
            self.dense_filter = dense
        if self.low_pass is None and settings.ideal_weight:
            offsets = [*self.item_offsets.tolist(), len(self.item_columns)]
            arrays = self.item_weights.cpu().numpy(), self.item_columns.cpu().numpy(), offsets
            rows = scipy.sparse.csr_matrix(arrays, (self.n_items, len(self.user_offsets)))
            rank = min(settings.cutoff, min(rows.shape) - 1)
            if rank < 1:
                raise InputError("ideal_weight needs at least two users and two items.")
            start = np.ones(min(rows.shape))
            vectors, _, _ = scipy.sparse.linalg.svds(rows.astype(np.float64), rank, v0=start)
            self.low_pass = torch.from_numpy(vectors.copy()).float().to(self.device)

    def forget_derived(self) -> None:
        self.dense_filter: torch.Tensor | None = None
        self.low_pass: torch.Tensor | None = None

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """x A, (B, I), by two sparse products."""
        return through_graph(self, x).contiguous()

    def smooth(self, x: torch.Tensor) -> torch.Tensor:
        """(B, I) → (B, I)."""
        found = self.filtered(x) if self.dense_filter is None else x @ self.dense_filter
        return self.with_low_pass(found, lambda matrix: x @ matrix)

    def with_low_pass(
        self, found: torch.Tensor, times: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """x A ↦ smooth(x), both (B, I); ``times``: M ↦ x M."""
        w = self.settings.ideal_weight
        return (found + w * times(self.low_pass) @ self.low_pass.T) / (1 + w) if w else found

    def smooth_rows(self, rows: Interactions) -> torch.Tensor:
        """smooth(x), (B, I), of rows with values: a sum of those rows of A that they name, which
        are few, in the place of a product with all of A."""
        if self.dense_filter is None:
            return self.smooth(rows.dense())

        def times(matrix: torch.Tensor) -> torch.Tensor:
            offsets = rows.offsets.to(rows.device)
            return F.embedding_bag(
                rows.items.long(), matrix, offsets, mode="sum", per_sample_weights=rows.values,
                include_last_offset=True,
            )  # fmt: skip

        return self.with_low_pass(times(self.dense_filter), times)

    def forward_mean(self, x: torch.Tensor, smoothed: torch.Tensor, t: torch.Tensor | int):
        """F(x, t) without noise; t counted from 1, a number or (B, 1)."""
        return x + self.settings.alpha / self.settings.steps * t * (smoothed - x)

    # The network ---------------------------------------------------------------------------------

    def denoise(
        self, z: torch.Tensor, c: torch.Tensor, smoothed_c: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """x̂, (B, I), of z_t and the condition c with its smoothed form; t: (B,) from 1."""
        E = self.embedding
        total = c.abs().sum(dim=1, keepdim=True).clamp(min=1)
        x_e = self.mixer_1((z / self.n_items) @ E, (c / total) @ E, self.step_1(t))
        return self.mixer_2(x_e @ E.T, c, smoothed_c, self.step_2(t))

    def rows(self, batch: Interactions) -> Interactions:
        """The rows with values; those of weighted ones have the sum of unweighted ones."""
        if batch.values is None:
            return batch.with_values(torch.ones(len(batch.items), device=batch.device))
        of_row, lengths = batch.row_index(), batch.lengths.to(batch.device)
        sums = torch.zeros(len(batch), device=batch.device).index_add_(0, of_row, batch.values)
        return batch.with_values(batch.values * (lengths / sums.clamp(min=1e-12))[of_row])

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        settings = self.settings
        self.prepare_filter()
        rows = self.rows(batch)
        x = rows.dense()
        t = torch.randint(1, settings.steps + 1, (len(x),), device=x.device)
        z = self.forward_mean(x, self.smooth_rows(rows), t[:, None])
        if settings.noise_scale:
            scale = settings.noise_scale * settings.gamma ** (settings.steps - t)
            z = z + scale[:, None] * torch.randn_like(x)
        kept = rows.with_values(self.dropout(rows.values))
        x_hat = self.denoise(z, kept.dense(), self.smooth_rows(kept), t)
        return (x - x_hat).square().sum(dim=1).mean()

    def scorer(self) -> Scorer:
        if self.user_columns is None:
            raise InputError("GiffCF's published weights come without a graph: name the data set.")
        self.prepare_filter()
        settings = self.settings

        def score(batch: Interactions) -> torch.Tensor:
            rows = self.rows(batch)
            x, smoothed = rows.dense(), self.smooth_rows(rows)
            z = self.forward_mean(x, smoothed, settings.steps)
            for step in range(settings.steps, 0, -1):
                t = torch.full((len(x),), step, device=x.device)
                x_hat = self.denoise(z, x, smoothed, t)
                moved = self.smooth(x_hat)
                left = z - self.forward_mean(x_hat, moved, step)
                z = self.forward_mean(x_hat, moved, step - 1) + settings.gamma * left
            return z

        return score
