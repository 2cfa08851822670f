"""Random numbers that belong to a row: equal in every batch, and for whoever has the same items."""

import itertools
import zlib
from collections.abc import Iterator

import torch

from DiffRec import Interactions


def generators(batch: Interactions) -> Iterator[torch.Generator]:
    """For each row in turn a generator, on the CPU, seeded by the row's items in their order."""
    items = batch.items.cpu().numpy().astype("<i4")
    for start, stop in itertools.pairwise(batch.offsets.tolist()):
        yield torch.Generator().manual_seed(zlib.crc32(items[start:stop].tobytes()))
