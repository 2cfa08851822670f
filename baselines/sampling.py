"""Triples (user, item of the user, other item) for pairwise losses, drawn in bulk on the device."""

import torch

from DiffRec import Interactions


def sample_negatives(users: torch.Tensor, rows: Interactions) -> torch.Tensor:
    """For each of ``users``, (n,) numbers of ``rows``, an item drawn uniformly from those the row
    does not have. A draw that hits one that it has is repeated; every user must have an item left.
    """
    n_items = rows.n_items
    keys = (rows.row_index() * n_items + rows.items).sort().values
    items = torch.empty_like(users)
    open_ = torch.arange(len(users), device=users.device)
    while len(open_):
        drawn = torch.randint(n_items, (len(open_),), device=users.device)
        wanted = users[open_] * n_items + drawn
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        taken = keys[place] == wanted
        items[open_] = drawn  # those that hit are drawn again
        open_ = open_[taken]
    return items


def sample_triples(train: Interactions, positives: str) -> torch.Tensor:
    """(n, 3) int64 triples u, i, j in random order, n being the number of interactions.

    positives: "users" draws u uniformly and then i from u's items; "interactions" takes every
    interaction once. j is uniform over the items u does not have. Users without items, or with all
    of them, give no triples.
    """
    device, n_items = train.device, train.n_items
    lengths = train.lengths.to(device)
    usable = (lengths > 0) & (lengths < n_items)
    rows, items = train.row_index(), train.items.long()
    if positives == "users":
        candidates = usable.nonzero()[:, 0]
        n = len(items) if len(candidates) else 0
        u = candidates[torch.randint(max(len(candidates), 1), (n,), device=device)]
        within = (torch.rand(n, device=device, dtype=torch.float64) * lengths[u]).long()
        i = items[train.offsets[:-1].to(device)[u] + within]
    else:
        order = torch.randperm(len(items), device=device)
        order = order[usable[rows[order]]]
        u, i = rows[order], items[order]
    return torch.stack([u, i, sample_negatives(u, train)], dim=1)
