"""The slow, obvious forms of what DiffRec/ does fast: for the tests to agree with and the
benchmark to be measured against.

They do the work the way the authors' release does: a dense users × items matrix, a loss history
updated one sample at a time on a fresh copy of the table, reverse steps over all items, a pass for
validation and another for test, and metrics in Python, user by user.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from DiffRec.data_utils import Dataset
from DiffRec.interactions import Interactions
from DiffRec.models.DNN import DNN, timestep_embedding
from DiffRec.models.timestep_sampler import ImportanceSampler
from DiffRec.recommender import DiffRec


def dense_matrix(interactions: Interactions) -> torch.Tensor:
    """The whole users × items matrix, by way of float64."""
    matrix = np.zeros((len(interactions), interactions.n_items))
    for user, item in interactions.pairs():
        matrix[user, item] = 1.0
    return torch.FloatTensor(matrix)


def forward(dnn: DNN, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The network on the concatenation of input and embedding, layer by layer."""
    embedding = dnn.emb_layer(timestep_embedding(t, dnn.emb_size).to(x_t.dtype))
    if dnn.norm:
        x_t = torch.nn.functional.normalize(x_t)
    x_t = torch.nn.functional.dropout(x_t, dnn.dropout.p, dnn.training)
    h = torch.cat([x_t, embedding], dim=-1)
    for layer in dnn.in_layers:
        h = dnn.activation(layer(h))
    for layer in dnn.out_layers[:-1]:
        h = dnn.activation(layer(h))
    return dnn.out_layers[-1](h)


def update_history(sampler: ImportanceSampler, t: torch.Tensor, losses: torch.Tensor) -> None:
    """Push each loss in turn to the end of its step's history."""
    length = sampler.history.shape[1]
    for step, loss in zip(t, losses.detach(), strict=True):
        if sampler.count[step] == length:
            old = sampler.history.clone()
            sampler.history[step, :-1] = old[step, 1:]
            sampler.history[step, -1] = loss
        else:
            sampler.history[step, sampler.count[step]] = loss
            sampler.count[step] += 1


def training_epoch(
    model: DiffRec, optimizer: torch.optim.Optimizer, matrix: torch.Tensor, batch_size: int
) -> float:
    """One epoch over the rows of a dense matrix; returns the mean loss per batch."""
    model.train()
    loader = DataLoader(TensorDataset(matrix), batch_size, shuffle=True)
    total = 0.0
    for (x0,) in loader:
        t, p = model.sampler.sample(len(x0), x0.device)
        noise = torch.randn_like(x0)
        output = forward(model.dnn, model.diffusion.q_sample(x0, t, noise), t)
        losses = model.diffusion.losses_of_output(output, x0, t, noise)
        update_history(model.sampler, t, losses)
        loss = (losses / p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def user_metrics(
    ranked: Sequence[int], relevant: set[int], topN: Sequence[int]
) -> list[list[float]]:
    """Precision, recall, NDCG and MRR of one user at each cut-off."""
    rows = []
    for k in topN:
        hits = dcg = ideal = first = 0.0
        for rank, item in enumerate(ranked[:k]):
            if item in relevant:
                hits += 1
                dcg += 1 / math.log2(rank + 2)
                first = first or 1 / (rank + 1)
            if rank < len(relevant):
                ideal += 1 / math.log2(rank + 2)
        rows.append([hits / k, hits / len(relevant), dcg / ideal, first] if relevant else [0.0] * 4)
    return np.transpose(rows).tolist()


@torch.no_grad()
def evaluate(
    model: DiffRec,
    matrix: torch.Tensor,
    dataset: Dataset,
    topN: Sequence[int] = (10, 20, 50, 100),
    batch_size: int = 400,
) -> dict[str, np.ndarray]:
    """{"valid": (4, len(topN)), "test": …}: a pass over all items and steps for each split."""
    model.eval()
    masks = {"valid": [dataset.train], "test": [dataset.train, dataset.valid]}
    report = {}
    for split, seen in masks.items():
        ranked = []
        for start in range(0, len(matrix), batch_size):
            x0 = matrix[start : start + batch_size]
            scores = model.diffusion.denoise(lambda x, t: forward(model.dnn, x, t), x0)
            for part in seen:
                rows = part.slice(start, start + len(x0))
                scores[rows.row_index(), rows.items.long()] = -np.inf
            ranked.extend(scores.topk(min(max(topN), matrix.shape[1])).indices.tolist())
        part = getattr(dataset, split)
        relevant = [set(part.slice(u, u + 1).items.tolist()) for u in range(len(matrix))]
        users = [user_metrics(r, s, topN) for r, s in zip(ranked, relevant, strict=True)]
        report[split] = np.mean(users, axis=0)
    return report
