"""The normalised graph of users and items, R̂ = D_u^-½ R D_i^-½, and products with it."""

from typing import Any

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F

from DiffRec.engine.tensors import Expected

# The rows of R̂ (users) and of R̂ᵀ (items), as `product` takes them.
GRAPH = tuple(
    f"{side}_{what}" for side in ("user", "item") for what in ("columns", "offsets", "weights")
)


def expected_graph(n_users: int, n_items: int) -> dict[str, Expected]:
    """What the tensors named in ``GRAPH`` must be in a file."""
    found = {}
    for side, rows, columns in (("user", n_users, n_items), ("item", n_items, n_users)):
        found[f"{side}_columns"] = Expected(("n",), torch.int32, at_most=columns - 1)
        found[f"{side}_offsets"] = Expected((rows,), torch.int32, at_most="n", ascending=True)
        found[f"{side}_weights"] = Expected(("n",))
    return found


def normalised(
    x: scipy.sparse.csr_matrix, of_users: float = 0.5, of_items: float = 0.5
) -> scipy.sparse.csr_matrix:
    """R̂ = D_u^-a R D_i^-b, (U, I), of the interactions x; by default each weighs
    1/√(|N_u| |N_i|). a and b are ``of_users`` and ``of_items``. A degree below 1, which only those
    of weighted interactions can be, counts as 1."""
    lengths = np.maximum(np.asarray(x.sum(axis=1)).ravel(), 1)
    popularity = np.maximum(np.asarray(x.sum(axis=0)).ravel(), 1)
    scaled = scipy.sparse.diags(lengths**-of_users) @ x @ scipy.sparse.diags(popularity**-of_items)
    return scaled.tocsr().astype(np.float32)


def graph_of(matrix: scipy.sparse.csr_matrix) -> dict[str, torch.Tensor]:
    """The tensors named in ``GRAPH`` of R̂, (U, I): int32 columns (nnz,) and offsets (rows,), and
    weights (nnz,) float32."""
    found = {}
    for side, rows in (("user", matrix), ("item", matrix.T.tocsr())):
        found[f"{side}_columns"] = torch.from_numpy(rows.indices.astype(np.int32))
        found[f"{side}_offsets"] = torch.from_numpy(rows.indptr[:-1].astype(np.int32))
        found[f"{side}_weights"] = torch.from_numpy(rows.data.astype(np.float32))
    return found


def set_graph(model: Any, matrix: scipy.sparse.csr_matrix | None = None) -> None:
    """Give a model the tensors named in ``GRAPH`` of R̂, (U, I), as buffers; None: empty ones."""
    for name in GRAPH:
        model.register_buffer(name, None)
    if matrix is not None:
        for name, tensor in graph_of(matrix).items():
            setattr(model, name, tensor.to(model.device))
    model.forget_derived()


def product(
    columns: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None, x: torch.Tensor
) -> torch.Tensor:
    """A x, (rows, d), of a sparse A in CSR form and x, (columns, d); no weights are ones.

    It is one weighted sum of rows of x for each row of A, an operation PyTorch has for embeddings.
    """
    return F.embedding_bag(columns, x, offsets, mode="sum", per_sample_weights=weights)


def through_graph(model: Any, x: torch.Tensor) -> torch.Tensor:
    """x R̂ᵀ R̂, (B, I), by two sparse products with the tensors named in ``GRAPH``."""
    user_rows = model.user_columns, model.user_offsets, model.user_weights
    item_rows = model.item_columns, model.item_offsets, model.item_weights
    return product(*item_rows, product(*user_rows, x.T.contiguous())).T


class SparseProduct(torch.autograd.Function):
    """`product` with a gradient for x, by the transposed matrix."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, matrix: tuple, transposed: tuple) -> torch.Tensor:
        ctx.transposed = transposed
        return product(*matrix, x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return product(*ctx.transposed, gradient.contiguous()), None, None
