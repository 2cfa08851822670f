"""Random numbers that belong to a row: equal in every batch, and for whoever has the same items."""

import itertools
import zlib
from collections.abc import Iterator

import torch

from DiffRec import Interactions


def generators(batch: Interactions, latest: int | None = None) -> Iterator[torch.Generator]:
    """For each row in turn a generator, on the CPU, seeded by the row's items in their order, or by
    its ``latest`` ones, where a model reads no others."""
    items = batch.items.cpu().numpy().astype("<i4")
    for first, stop in itertools.pairwise(batch.offsets.tolist()):
        start = first if latest is None else max(first, stop - latest)
        yield torch.Generator().manual_seed(zlib.crc32(items[start:stop].tobytes()))
