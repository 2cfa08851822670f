"""What the baselines share: who they are built for, and the four kinds that the paper's and the
simple ones fall into: autoencoders, pairwise models, models computed at once, item-item models."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import nn

from baselines.graph import product
from baselines.sampling import sample_triples
from DiffRec import Dataset, InputError, Interactions, Recommender
from DiffRec.engine.machine import available_memory_mb
from DiffRec.engine.released import Released
from DiffRec.engine.settings import (
    DecaySettings,
    NotNegative,
    OptimizerSettings,
    Positive,
    Settings,
    TrainingSettings,
    joined,
    setting,
)
from DiffRec.engine.tensors import Expected, of_tensor
from DiffRec.evaluate_utils import Scorer
from T_DiffRec.settings import RecencySettings
from T_DiffRec.time_aware import TimeAware


class Baseline(TimeAware, Recommender):
    """A model built for U users and I items.

    Args:
        n_users, n_items: U and I.
        settings: of the class ``Settings``, as a mapping or by name: ``EASE(5, 10, reg=100)``.

    Attributes:
        Options: what its main.py can be told besides the flags that all of them have.
        read_published: reads a file of its authors' weights, if there are such.
        group: "paper" for the methods that the paper compares with, "simple" for others.
        ranges: what a search tries for each setting; the paper's values where it gives them
            (Section 4.1.3).
    """

    Options: ClassVar[type[Settings]] = Settings
    group: ClassVar[str] = "simple"
    read_published: ClassVar[Callable[[Path, Path | None], Released] | None] = None

    def __init_subclass__(cls, **kwargs: Any):
        """Recency is for everyone: its settings are among those of every baseline."""
        super().__init_subclass__(**kwargs)
        if not issubclass(cls.Settings, RecencySettings):
            cls.Settings = joined(cls.Settings.__name__, cls.Settings, RecencySettings)

    def __init__(
        self,
        n_users: int,
        n_items: int,
        settings: Settings | Mapping[str, Any] | None = None,
        **more: Any,
    ):
        self.n_users = n_users
        super().__init__(n_items, settings, **more)

    @classmethod
    def build(cls, dataset: Dataset, settings: Settings, seed: int) -> Self:
        return cls(dataset.n_users, dataset.n_items, settings)

    @classmethod
    def from_checkpoint(
        cls, header: dict, weights: dict[str, torch.Tensor], path: str | Path = "the checkpoint"
    ) -> Self:
        data, settings = header["data"], cls.Settings.own(header["settings"])
        return cls(data["users"], data["items"], settings)

    @classmethod
    def fixed_presets(cls) -> dict[str, dict]:
        """Settings that no search chooses, since the paper fixes them, for each data set."""
        return {}

    def scorer(self) -> Scorer:
        encode, items, biases = self.factors()
        return lambda batch: F.linear(encode(batch), items, biases)

    def forget_derived(self) -> None:
        """Drop what was computed from the buffers: they are others, or elsewhere."""

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """To another device or type."""
        self.forget_derived()
        return super()._apply(*args, **kwargs)

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Buffers that only the data give a shape take that of the loaded ones."""
        self.forget_derived()
        for name, buffer in self._buffers.items():
            if name in state_dict and (buffer is None or buffer.shape != state_dict[name].shape):
                self._buffers[name] = torch.empty_like(state_dict[name], device=self.device)
        return super().load_state_dict(state_dict, strict, assign)


class Autoencoder(Baseline):
    """x ↦ hidden vectors ↦ logits of all items. Subclasses give `hidden` and `output`."""

    Training = DecaySettings
    output: nn.Linear  # the last layer, D → I

    def hidden(self, batch: Interactions) -> torch.Tensor:
        """The last hidden layer, (B, D), of B rows, as inference has it."""
        raise NotImplementedError(f"{type(self).__name__} needs hidden.")

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        return self.hidden, self.output.weight, self.output.bias


Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class PairwiseSettings(Settings):
    """User and item vectors, and the loss that ranks them."""

    title = "vectors"
    emb_size: Positive = setting(64, "d, the size of user and item vectors")
    init_std: NotNegative = setting(
        0.1, "standard deviation of the first embeddings", in_training=True
    )
    positives: Literal["users", "interactions"] = setting(
        "users",
        "draw a user, then one of the user's items; or draw an interaction",
        in_training=True,
    )
    weight_decay: NotNegative = setting(
        1e-4, "lambda, the weight of the squared embeddings in the loss", in_training=True
    )


class PairwiseTraining(OptimizerSettings):
    """Training on pairs of items: batches are large, and both models learn slowly."""

    # 20 epochs of patience would stop them far from their best.
    defaults: ClassVar = {"optimizer": "Adam", "lr": 1e-3, "batch_size": 2048, "patience": 100}


class Pairwise(Baseline):
    """Users and items as vectors of size d, trained to rank (Rendle et al. 2009, BPR):

        L = mean over triples of  -ln σ(p_u · q_i - p_u · q_j)
                                  + λ/2 (‖e_u‖² + ‖e_i‖² + ‖e_j‖²)

    Item i is one of user u's, j is not; p and q are what `propagate` makes of the embeddings e;
    λ is ``weight_decay``.
    """

    Settings = PairwiseSettings
    Training = PairwiseTraining
    reads_rows = reads_weights = False

    def make(self, settings: PairwiseSettings) -> None:
        self.users = nn.Parameter(torch.empty(self.n_users, settings.emb_size))
        self.items = nn.Parameter(torch.empty(self.n_items, settings.emb_size))
        for embedding in (self.users, self.items):
            nn.init.normal_(embedding, std=settings.init_std)

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        """As many triples as train has interactions, drawn at once on the device."""
        triples = sample_triples(train, self.settings.positives)
        if not len(triples):
            raise InputError("no user has both items and items left: there is nothing to rank.")
        return -(-len(triples) // batch_size), iter(triples.split(batch_size))

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """p, (U, d), and q, (I, d)."""
        raise NotImplementedError(f"{type(self).__name__} needs propagate.")

    def vectors_of(
        self, u: torch.Tensor, i: torch.Tensor, j: torch.Tensor
    ) -> tuple[Triple, Triple]:
        """Of B triples in training p_u, q_i, q_j, and e_u, e_i, e_j, each (B, d); u, i, j: (B,)
        int64."""
        p, q = self.propagate()
        return (p[u], q[i], q[j]), (self.users[u], self.items[i], self.items[j])

    def training_loss(self, batch: torch.Tensor) -> torch.Tensor:
        """batch: (B, 3) int64 triples u, i, j; a scalar."""
        u, i, j = batch.T
        (p_u, q_i, q_j), (e_u, e_i, e_j) = self.vectors_of(u, i, j)
        ranking = F.softplus((p_u * (q_j - q_i)).sum(dim=1)).mean()
        squares = e_u.square() + e_i.square() + e_j.square()
        return ranking + self.settings.weight_decay / 2 * squares.sum() / len(batch)

    def rows_of(self, batch: Interactions) -> torch.Tensor:
        """The users of the rows; InputError if they are not users of the training data."""
        if batch.users is None or (len(batch) and int(batch.users.max()) >= self.n_users):
            raise InputError(
                f"{self.variant} has a vector for each user of its training data, and none for "
                f"others: recommend by the number of a user."
            )
        return batch.users.to(self.device)

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        p, q = (vectors.detach() for vectors in self.propagate())
        return lambda batch: p[self.rows_of(batch)], q, torch.zeros(len(q), device=q.device)


class ClosedForm(Baseline):
    """A model that is computed from all interactions at once; its buffers hold the result.

    Attributes:
        fitted: the names of the buffers.
        read_later: settings that its scores depend on once it is fitted, besides recency's.
    """

    closed_form = True
    random = False
    fitted: ClassVar[tuple[str, ...]]
    read_later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def read_in_training(cls) -> set[str]:
        return cls.Settings.names() - RecencySettings.names() - {*cls.read_later}

    def make(self, settings: Settings) -> None:
        self.register_buffer("place", torch.empty(0), persistent=False)  # tells the device
        for name in self.fitted:
            self.register_buffer(name, None)

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        """Of any shape; subclasses say it, so that no wrong file gets as far as a scorer."""
        return {name: of_tensor(weights[name]) for name in self.fitted if name in weights}

    def optimizers(self, training: TrainingSettings) -> list[torch.optim.Optimizer]:
        return []

    def require_fitted(self) -> None:
        if all(getattr(self, name) is None for name in self.fitted):
            raise InputError(f"{self.variant} knows nothing yet: train it first.")

    def size(self) -> int:
        tensors = (getattr(self, name) for name in self.fitted)
        return sum(t.numel() for t in tensors if t is not None and t.is_floating_point())


class ItemItem(ClosedForm):
    """Scores x S with an item × item matrix S, kept whole or as the CSR rows of Sᵀ.

    Subclasses give `similarities`.
    """

    fitted = ("weights", "columns", "offsets")

    def similarities(self, x: scipy.sparse.csr_matrix) -> np.ndarray | scipy.sparse.spmatrix:
        """S, (I, I) float32, of the interactions x, (U, I)."""
        raise NotImplementedError(f"{type(self).__name__} needs similarities.")

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        if "columns" not in weights:
            return {"weights": Expected((self.n_items, self.n_items))}
        return {
            "weights": Expected(("n",)),
            "columns": Expected(("n",), torch.int32, at_most=self.n_items - 1),
            "offsets": Expected((self.n_items,), torch.int32, at_most="n", ascending=True),
        }

    def fit(self, train: Interactions) -> None:
        found = self.similarities(train.matrix())
        arrays = {"weights": found}
        if scipy.sparse.issparse(found):
            rows = found.T.tocsr()
            arrays = {"weights": rows.data, "columns": rows.indices, "offsets": rows.indptr[:-1]}
        for name, array in arrays.items():
            kind = np.float32 if name == "weights" else np.int32
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
            setattr(self, name, tensor.to(self.device))

    def scorer(self) -> Scorer:
        if self.columns is None:  # a sum of rows of S, one for each of a user's items

            def score(batch: Interactions) -> torch.Tensor:
                offsets = batch.offsets[:-1].to(batch.device, batch.items.dtype)
                return product(batch.items, offsets, batch.values, self.weights)

            return score

        transposed = self.columns, self.offsets, self.weights
        return lambda batch: product(*transposed, batch.dense().T.contiguous()).T.contiguous()


def require_memory(megabytes: float, what: str) -> None:
    """InputError if so much memory is not free."""
    free = available_memory_mb()
    if megabytes > free:
        raise InputError(
            f"{what} needs {megabytes / 1024:,.1f} GB of memory, but {free / 1024:,.1f} GB "
            f"are free."
        )


def largest_per_row(block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest entries of each row that are above 0: rows, columns and values, each (n,)."""
    k = min(k, block.shape[1])
    columns = np.argpartition(block, block.shape[1] - k, axis=1)[:, block.shape[1] - k :]
    values = np.take_along_axis(block, columns, axis=1)
    rows, place = np.nonzero(values > 0)
    return rows, columns[rows, place], values[rows, place]


def largest_per_column(weights: scipy.sparse.spmatrix, k: int) -> scipy.sparse.csr_matrix:
    """The k largest entries of each column."""
    coo = weights.tocoo()
    order = np.lexsort((-coo.data, coo.col))
    first = np.searchsorted(coo.col[order], coo.col[order])  # where each entry's column begins
    kept = order[np.arange(len(order)) - first < k]
    arrays = coo.data[kept], (coo.row[kept], coo.col[kept])
    return scipy.sparse.csr_matrix(arrays, shape=weights.shape)


def nearest(n_items: int, block_of, k: int, block_size: int = 512) -> scipy.sparse.csr_matrix:
    """An (I, I) matrix with the k largest positive entries of each row.

    block_of(start, stop) gives rows start..stop-1 as an array, (n, I); only one block of them is
    in memory at a time.
    """
    parts = []
    for start in range(0, n_items, block_size):
        stop = min(start + block_size, n_items)
        rows, columns, values = largest_per_row(block_of(start, stop), k)
        parts.append((rows + start, columns, values))
    rows, columns, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return scipy.sparse.csr_matrix((values, (rows, columns)), shape=(n_items, n_items))
