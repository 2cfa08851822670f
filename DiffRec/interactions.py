"""Interactions as sparse rows, which become dense one batch at a time, on the device.

The users × items matrix is never built: `Interactions` keeps the item ids of each user one after
another (CSR), in the order of the list they came from, which is the order of time.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from DiffRec.engine.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse


def put(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, value: float) -> None:
    """x[rows, columns] = value, in place, of a matrix. On a GPU torch would send the value there
    first, and wait."""
    if x.device.type == "cpu" or not x.is_contiguous():
        x[rows, columns] = value
    else:
        put_flat(x, rows, columns, value)


def put_flat(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, value: float) -> None:
    x.view(-1).index_fill_(0, rows * x.shape[1] + columns, value)


def refuse_repeated(keys: np.ndarray, pairs: np.ndarray, source: str) -> None:
    """InputError if a pair is there twice, by the pairs' keys, (n,)."""
    ordered = np.sort(keys)
    if np.all(ordered[1:] != ordered[:-1]):
        return
    order = np.argsort(keys, kind="stable")
    repeated = order[1:][ordered[1:] == ordered[:-1]]
    row = repeated.min()
    raise InputError(
        f"{source} row {row} repeats the pair {tuple(pairs[row].tolist())} ({len(repeated)} "
        f"repeated rows in all): keep each pair once, or the last of each with drop_repeated."
    )


@dataclasses.dataclass(frozen=True)
class Interactions:
    """The items of each of U users, as CSR rows.

    Attributes:
        offsets: (U + 1,) int64, always on the CPU: row u is ``items[offsets[u]:offsets[u + 1]]``.
        items: (nnz,) int32 item ids on the device, in order of time within a row.
        values: (nnz,) float32 weights on the device, or None where every weight is 1.
        n_items: I.
        users: (U,) int64 on the CPU, the data set's users whose rows these are, or None where they
            are of nobody in it.
    """

    offsets: torch.Tensor
    items: torch.Tensor
    values: torch.Tensor | None
    n_items: int
    users: torch.Tensor | None = None

    @classmethod
    def from_pairs(
        cls, pairs: np.ndarray, n_users: int, n_items: int, source: str = "the array"
    ) -> "Interactions":
        """pairs: (n, 2) integers (user, item) in any order of users; order within one is kept.
        Row u is that of user u. InputError, about ``source``, for others than 0..U-1 and 0..I-1,
        and for repeated pairs."""
        pairs = np.asarray(pairs)
        pairs = pairs.reshape(-1, 2).astype(np.int64) if pairs.size == 0 else pairs
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise InputError("pairs must be (n, 2) integers, of a user and an item each.")
        users, items = pairs.T
        for name, ids, size in (("user", users, n_users), ("item", items, n_items)):
            if len(ids) and not 0 <= ids.min() <= ids.max() < size:
                wrong = ids.min() if ids.min() < 0 else ids.max()
                raise InputError(f"there is no {name} {wrong}: they run from 0 to {size - 1}.")
        refuse_repeated(users.astype(np.int64) * n_items + items, pairs, source)
        if np.any(users[1:] < users[:-1]):
            order = np.argsort(users, kind="stable")
            users, items = users[order], items[order]
        offsets = np.zeros(n_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=offsets[1:])
        ids = torch.from_numpy(np.ascontiguousarray(items, dtype=np.int32))
        return cls(torch.from_numpy(offsets), ids, None, n_items, torch.arange(n_users))

    @classmethod
    def from_histories(cls, histories: list[list[int]], n_items: int) -> "Interactions":
        """One row per history of item ids, in order of time; an empty history is an empty row, and
        of an item that is repeated only the latest counts."""
        try:
            arrays = [np.asarray(history) for history in histories]
            if any(a.ndim != 1 or (a.size and a.dtype.kind not in "iu") for a in arrays):
                raise ValueError
        except (ValueError, TypeError) as error:
            raise InputError("histories must be a list of lists of item ids, integers.") from error
        histories = [list(dict.fromkeys(a.tolist()[::-1]))[::-1] for a in arrays]
        lengths = [len(history) for history in histories]
        users = np.repeat(np.arange(len(histories)), lengths)
        items = np.array([item for history in histories for item in history], dtype=np.int64)
        if np.any((items < 0) | (items >= n_items)):
            wrong = items[(items < 0) | (items >= n_items)][0]
            raise InputError(
                f"the history holds item {wrong}, but items run from 0 to {n_items - 1}."
            )
        rows = cls.from_pairs(np.stack([users, items], axis=1), len(histories), n_items)
        return dataclasses.replace(rows, users=None)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def device(self) -> torch.device:
        return self.items.device

    @property
    def lengths(self) -> torch.Tensor:
        """(U,) int64 on the CPU: how many items each user has."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> "Interactions":
        values = None if self.values is None else self.values.to(device)
        return dataclasses.replace(self, items=self.items.to(device), values=values)

    def with_values(self, values: torch.Tensor | None) -> "Interactions":
        """The same interactions with other weights, (nnz,) float32."""
        return dataclasses.replace(self, values=values)

    def slice(self, start: int, stop: int) -> "Interactions":
        """Rows start..stop-1 as views of this one's arrays."""
        offsets = self.offsets[start : stop + 1]
        inside = slice(int(offsets[0]), int(offsets[-1]))
        values = None if self.values is None else self.values[inside]
        users = None if self.users is None else self.users[start:stop]
        return Interactions(offsets - offsets[0], self.items[inside], values, self.n_items, users)

    def batches(self, size: int) -> list["Interactions"]:
        """All rows in turn, ``size`` at a time, by `slice`."""
        starts = range(0, len(self), size)
        return [self.slice(start, min(start + size, len(self))) for start in starts]

    def rows(self, which: torch.Tensor) -> "Interactions":
        """The rows numbered ``which``, (B,) integers on the CPU, in that order."""
        which = torch.as_tensor(which, dtype=torch.int64)
        return self.stretches(which, torch.zeros_like(which), self.lengths[which])

    def stretches(
        self, which: torch.Tensor, first: torch.Tensor, lengths: torch.Tensor
    ) -> "Interactions":
        """Of the rows numbered ``which`` so many items, ``lengths``, from place ``first`` on; each
        (B,) int64 on the CPU."""
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        shift = torch.repeat_interleave(self.offsets[which] + first - offsets[:-1], lengths)
        where = (torch.arange(int(offsets[-1])) + shift).to(self.device)
        values = None if self.values is None else self.values[where]
        named = None if self.users is None else self.users[which]
        return Interactions(offsets, self.items[where], values, self.n_items, named)

    def columns(self, first: int, stop: int) -> "Interactions":
        """The items first..stop-1 alone, numbered from 0."""
        kept = (self.items >= first) & (self.items < stop)
        before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0).cpu()])
        values = None if self.values is None else self.values[kept]
        items = self.items[kept] - first
        return Interactions(before[self.offsets], items, values, stop - first, self.users)

    def row_index(self) -> torch.Tensor:
        """(nnz,) int64 on the device: the row of each interaction."""
        rows = torch.arange(len(self), device=self.device)
        lengths = self.lengths.to(self.device, non_blocking=True)
        return torch.repeat_interleave(rows, lengths, output_size=len(self.items))

    def dense(self) -> torch.Tensor:
        """x_0: (U, I) float32 on the device. For a batch; a whole data set may not fit."""
        x = torch.zeros(len(self), self.n_items, device=self.device)
        places = self.row_index(), self.items.long()
        if self.values is None:
            put(x, *places, 1.0)
        else:
            x[places] = self.values
        return x

    def matrix(self) -> "scipy.sparse.csr_matrix":
        """(U, I) float32, a SciPy matrix on the CPU whose columns ascend; a copy."""
        import scipy.sparse  # here, since it takes a tenth of a second

        values = torch.ones(len(self.items)) if self.values is None else self.values.cpu()
        arrays = values.numpy(), self.items.cpu().numpy(), self.offsets.numpy()
        shape = len(self), self.n_items
        matrix = scipy.sparse.csr_matrix(arrays, shape=shape, copy=True)
        matrix.sort_indices()
        return matrix

    def padded(self, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The latest ``longest`` items of each row, (U, L) int64, from the left in order of time,
        as item ids from 1 to I with 0 behind them; and how many they are, (U,). L is the most that
        a row has, at least 1. For a batch; a whole data set may not fit."""
        lengths, rows = self.lengths.to(self.device), self.row_index()
        place = torch.arange(len(self.items), device=self.device)
        place = place - self.offsets[:-1].to(self.device)[rows]
        place = place - (lengths - longest).clamp(min=0)[rows]
        inside = place >= 0
        width = max(int(self.lengths.clamp(max=longest).max()) if len(self) else 0, 1)
        sequences = torch.zeros(len(self), width, dtype=torch.int64, device=self.device)
        sequences[rows[inside], place[inside]] = self.items[inside].long() + 1
        return sequences, lengths.clamp(max=longest)

    def pairs(self) -> np.ndarray:
        """(nnz, 2) int64 (user, item) rows, users ascending."""
        return torch.stack([self.row_index(), self.items.long()], dim=1).cpu().numpy()

    def keys(self) -> np.ndarray:
        """(nnz,) int64: user · I + item of each pair, users ascending."""
        return (self.row_index() * self.n_items + self.items).cpu().numpy()


def join(first: Interactions, second: Interactions) -> Interactions:
    """Each user's items of ``first``, then those of ``second`` that are new; a missing weight
    counts as 1."""
    rows = torch.cat([first.row_index(), second.row_index()])
    items = torch.cat([first.items, second.items])
    values = None
    if first.values is not None or second.values is not None:
        values = torch.cat(
            [
                torch.ones(len(part.items), device=first.device)
                if part.values is None
                else part.values
                for part in (first, second)
            ]
        )
    keys = rows * first.n_items + items
    n = len(first.items)
    fresh = ~torch.isin(keys[n:], keys[:n])
    kept = torch.cat([torch.ones(n, dtype=torch.bool, device=fresh.device), fresh]).nonzero()[:, 0]
    order = kept[torch.argsort(rows[kept], stable=True)]
    offsets = torch.zeros(len(first) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows[kept], minlength=len(first)).cpu(), dim=0, out=offsets[1:])
    values = None if values is None else values[order]
    return Interactions(offsets, items[order], values, first.n_items, first.users)
