"""A catalogue of items over several processes: each holds the weights of its own items alone.

With the items split over N ranks, rank r has the columns W_r of the first layer and the rows V_r of
the last one, their moments in the optimiser, and its items of every user. For a batch of B users

    a = Σ_r W_r x_r          one sum of (B, d_1) numbers over ranks (`total`),
    x̂_r = V_r h + b_r        at home, from the h that all ranks have (`shared`),
    L = Σ_r L_r              one sum of (B,) numbers,

backwards one sum of (B, d_n), the gradient of h; and a ranking is made of the k best of each rank.
What is as large as the catalogue never travels. Layers that do not touch items are on all ranks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable

from DiffRec.data_utils import Dataset
from DiffRec.engine.checkpoints import PART, Axes, part_path, part_paths, split_of
from DiffRec.engine.errors import InputError
from DiffRec.engine.ranks import Ranks, here

if TYPE_CHECKING:  # whose models know their shards
    from DiffRec.engine.contract import Recommender


class Total(torch.autograd.Function):
    """The sum over ranks; its gradient, which all ranks have, belongs to each part of it."""

    @staticmethod
    def forward(ctx, part: torch.Tensor) -> torch.Tensor:
        whole = part.clone()
        dist.all_reduce(whole)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Shared(torch.autograd.Function):
    """What all ranks have and each uses for its own items; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        whole = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole


def total(part: torch.Tensor) -> torch.Tensor:
    return Total.apply(part)


def shared(x: torch.Tensor) -> torch.Tensor:
    return Shared.apply(x)


def of_no_item(tensor: torch.Tensor, axes: Axes) -> torch.Tensor:
    """What of a tensor belongs to no item, and so is on all ranks: a view."""
    axis, n = split_of(axes)
    return tensor if axis is None else tensor.narrow(axis, n, tensor.shape[axis] - n)


def epoch_of(state: Path) -> int:
    """Of a state file; -1 if it can not be read."""
    try:
        found = torch.load(state, map_location="cpu", weights_only=True, mmap=True)
        return int(found["progress"]["epoch"])
    except Exception:  # a damaged file can raise almost anything
        return -1


def agreed(drawn: torch.Tensor) -> torch.Tensor:
    """What rank 0 has drawn."""
    dist.broadcast(drawn, src=0)
    return drawn


def states_of(path: Path) -> list[Path]:
    """Where a rank's state lies, and where while it is replaced: the new one, the one before."""
    return [path, *(path.with_name(path.name + end) for end in (".new", ".before"))]


class Shards(Ranks):
    """The processes of a training whose items are split over them.

    Args:
        n_items: I, the size of the whole catalogue.

    Attributes:
        first, stop: this rank's items.
    """

    def __init__(self, ranks: Ranks, n_items: int):
        super().__init__(ranks.rank, ranks.size)
        if ranks.size > n_items:
            raise InputError(
                f"item_shards {ranks.size} is more than the {n_items} items that there are."
            )
        self.n_items = n_items
        self.first, self.stop = self.range_of(n_items)

    @classmethod
    def of(cls, size: int, n_items: int) -> "Shards":
        """InputError unless so many processes are here."""
        ranks = here()
        if ranks.size != size:
            raise InputError(
                f"item_shards {size} needs as many processes, but there "
                f"{'is' if ranks.size == 1 else 'are'} {ranks.size}: torchrun --nproc_per_node "
                f"{size} starts them."
            )
        return cls(ranks, n_items)

    # Training ------------------------------------------------------------------------------------

    @property
    def keeps(self) -> bool:
        """Every rank writes the weights of its items."""
        return True

    def own(self, dataset: Dataset) -> Dataset:
        """This rank's items of a data set, those of one that are so already being themselves."""
        return dataset if dataset.whole else dataset.columns(self.first, self.stop)

    def part(self, batch: Any, terms: Callable[[Any], int]) -> tuple[Any, float]:
        """All ranks work on the same users."""
        return batch, 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def parameters_of(self, model: "Recommender") -> int:
        axes, own, of_all = model.axes(), 0, 0
        for name, parameter in model.named_parameters():
            fixed = of_no_item(parameter, axes.get(name, ())).numel()
            own, of_all = own + parameter.numel() - fixed, of_all + fixed
        return sum(self.collect(own)) + of_all

    def keep_alike(self, model: "Recommender") -> None:
        """Give what belongs to no item rank 0's values again: each rank steps on its own, and
        rounding may differ from one to another."""
        axes = model.axes()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                part = of_no_item(parameter, axes.get(name, ()))
                part.copy_(agreed(part.clone(memory_format=torch.contiguous_format)))

    # Files ---------------------------------------------------------------------------------------

    def file(self, checkpoint: Path) -> Path:
        """This rank's part. InputError for what another number of ranks has left, from which a run
        of this number can not go on, and which would stand beside its parts."""
        for path in part_paths(checkpoint, suffix=".state"):
            found = PART.fullmatch(path.name.removesuffix(".state"))
            size = int(found["size"]) if found else self.size
            if size != self.size:
                raise InputError(
                    f"{path} is of a training by {size} processes: go on with item_shards {size}, "
                    f"or remove its parts to start anew."
                )
        for path in (checkpoint, *part_paths(checkpoint)):
            found = PART.fullmatch(path.name)
            if path.is_file() and (found is None or int(found["size"]) != self.size):
                raise InputError(
                    f"{path} is of this run with another number of item_shards: move it away first."
                )
        return part_path(checkpoint, self.rank, self.size)

    def write_state(self, path: Path, write: Callable[[Path], None]) -> None:
        """Beside the one before, which is removed once all ranks have theirs: whenever one of them
        dies, all have a state of one epoch."""
        _, new, before = states_of(path)
        write(new)
        self.wait()
        if path.is_file():
            path.replace(before)
        new.replace(path)
        self.wait()
        before.unlink(missing_ok=True)

    def has_state(self, path: Path) -> bool:
        return any(file.is_file() for file in states_of(path))

    def settle(self, path: Path) -> None:
        """A state that one rank had begun to replace when it was stopped is there under another
        name; of the epochs that all have, the one that most have by its own name goes on."""
        files = states_of(path)
        mine = {epoch: f for f in files[::-1] if f.is_file() and (epoch := epoch_of(f)) >= 0}
        everyone = self.collect({epoch: file == path for epoch, file in mine.items()})
        common = set.intersection(*map(set, everyone))
        if not common and any(any(found.values()) for found in everyone):
            raise InputError(
                f"the states of this run's {self.size} processes, {path.name} here, are of "
                f"different epochs: remove them to start anew."
            )
        self.wait()
        if common:
            best = max(common, key=lambda epoch: (sum(found[epoch] for found in everyone), epoch))
            if mine[best] != path:
                mine[best].replace(path)
        for file in files[1:]:  # a first state that not all have written, or an older one
            file.unlink(missing_ok=True)

    # Evaluation ----------------------------------------------------------------------------------

    def mine(self, starts: range) -> range:
        return starts

    def over_users(self, sums: torch.Tensor) -> torch.Tensor:
        return sums

    def over_items(self, sums: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(sums)
        return sums

    def best(
        self, scores: torch.Tensor, hits: torch.Tensor, places: torch.Tensor, k: int
    ) -> torch.Tensor:
        """Of each rank's k best items, their scores, whether they are hits, and their places among
        equal scores, (B, at most k), the hits, (B, k), of the k best of all."""
        mine = scores.new_full((3, len(scores), k), -torch.inf)
        for kept, given in zip(mine, (scores, hits, places), strict=True):
            kept[:, : scores.shape[1]] = given
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        found, are_hits, at = torch.cat(parts, dim=2)
        early = at.argsort(dim=1)
        order = found.gather(1, early).argsort(dim=1, descending=True, stable=True)[:, :k]
        return are_hits.gather(1, early.gather(1, order)) > 0
