"""What the baselines share: who they are built for, and the four kinds that the paper's and the
simple ones fall into: autoencoders, pairwise models, models computed at once, item-item models."""

import argparse
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import nn

from baselines.graph import product
from baselines.sampling import sample_triples
from DiffRec import Interactions, Recommender, options
from DiffRec.errors import InputError, settings_from_user
from DiffRec.evaluate_utils import Scorer
from DiffRec.recommender import make_optimizer
from DiffRec.report import available_memory_mb


class Baseline(Recommender):
    """A model built for U users and I items.

    Attributes:
        defaults: flags of the base parser that differ here, from the model's source.
        grid: the values that a search tries for each setting; the paper's where it gives them
            (Section 4.1.3).
    """

    defaults: ClassVar[dict] = {}
    grid: ClassVar[dict[str, list]] = {}

    def __init__(self, n_users: int, n_items: int, settings: dict):
        super().__init__()
        self.n_users, self.n_items, self.settings = n_users, n_items, settings
        with settings_from_user():
            self.make(settings)

    @classmethod
    def from_checkpoint(cls, header: dict, weights: dict[str, torch.Tensor]) -> "Baseline":
        return cls(header["data"]["users"], header["data"]["items"], header["settings"])

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        """The model's own flags."""

    def make(self, settings: dict) -> None:
        """Build parameters and buffers; a ValueError is about the settings."""
        raise NotImplementedError

    def compile(self, *args, **kwargs) -> None:
        raise InputError(f"--compile is not for {self.variant}.")

    def scorer(self) -> Scorer:
        encode, items, biases = self.factors()
        return lambda batch: F.linear(encode(batch), items, biases)

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Buffers that only the data give a shape take that of the loaded ones."""
        for name, buffer in self._buffers.items():
            if name in state_dict and (buffer is None or buffer.shape != state_dict[name].shape):
                self._buffers[name] = torch.empty_like(state_dict[name], device=self.device)
        return super().load_state_dict(state_dict, strict, assign)


class GradientBaseline(Baseline):
    """A baseline with one optimiser, set by the flags every gradient model has."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.settings
        return [
            make_optimizer(
                settings["optimizer"], self.parameters(), settings["lr"], settings["weight_decay"]
            )
        ]


class Autoencoder(GradientBaseline):
    """x ↦ hidden vectors ↦ logits of all items. Subclasses give `hidden` and `output`."""

    output: nn.Linear  # the last layer, D → I

    def hidden(self, batch: Interactions) -> torch.Tensor:
        """The last hidden layer, (B, D), of B rows, as inference has it."""
        raise NotImplementedError

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        return self.hidden, self.output.weight, self.output.bias


class Pairwise(GradientBaseline):
    """Users and items as vectors of size d, trained to rank (Rendle et al. 2009, BPR):

        L = mean over triples of  -ln σ(p_u · q_i - p_u · q_j)
                                  + λ/2 (‖e_u‖² + ‖e_i‖² + ‖e_j‖²)

    Item i is one of user u's, j is not; p and q are what `propagate` makes of the embeddings e;
    λ is ``weight_decay``.
    """

    defaults: ClassVar[dict] = {
        "optimizer": "Adam", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 2048,
        "patience": 100,  # epochs: both learn slowly, and 20 would stop them far from their best
    }  # fmt: skip

    @staticmethod
    def add_options(group: argparse._ArgumentGroup) -> None:
        group.add_argument("--emb_size", type=options.POSITIVE, default=64, help="d")
        group.add_argument(
            "--init_std", type=options.NOT_NEGATIVE, default=0.1, help="of the first embeddings"
        )
        group.add_argument(
            "--positives", choices=("users", "interactions"), default="users",
            help="draw a user, then one of his items; or draw an interaction",
        )  # fmt: skip

    def make(self, settings: dict) -> None:
        self.users = nn.Parameter(torch.empty(self.n_users, settings["emb_size"]))
        self.items = nn.Parameter(torch.empty(self.n_items, settings["emb_size"]))
        for embedding in (self.users, self.items):
            nn.init.normal_(embedding, std=settings["init_std"])

    def optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.settings  # λ is a term of the loss, not the optimiser's
        return [make_optimizer(settings["optimizer"], self.parameters(), settings["lr"], 0.0)]

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        """As many triples as train has interactions, drawn at once on the device."""
        triples = sample_triples(train, self.settings["positives"])
        if not len(triples):
            raise InputError("no user has both items and items left: there is nothing to rank.")
        return -(-len(triples) // batch_size), iter(triples.split(batch_size))

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """p, (U, d), and q, (I, d)."""
        raise NotImplementedError

    def training_loss(self, batch: torch.Tensor) -> torch.Tensor:
        """batch: (B, 3) int64 triples u, i, j; a scalar."""
        u, i, j = batch.T
        p, q = self.propagate()
        p_u = p[u]
        ranking = F.softplus((p_u * (q[j] - q[i])).sum(dim=1)).mean()
        squares = self.users[u].square() + self.items[i].square() + self.items[j].square()
        return ranking + self.settings["weight_decay"] / 2 * squares.sum() / len(batch)

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
    """A model that is computed from all interactions at once; its buffers hold the result."""

    fitted: ClassVar[tuple[str, ...]]  # the names of the buffers

    def make(self, settings: dict) -> None:
        self.register_buffer("place", torch.empty(0), persistent=False)  # tells the device
        for name in self.fitted:
            self.register_buffer(name, None)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return []

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
        raise NotImplementedError

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
