"""Several processes that train one model together: torchrun's ranks, and what they tell each other.

Each rank trains on its part of every batch, torch's DistributedDataParallel averages the gradients,
and `Ranks` does the rest: it weighs the parts, gathers the losses of Eq. 14, adds up metrics, and
lets rank 0 write. All ranks see the same files.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from DiffRec.engine.errors import InputError

if TYPE_CHECKING:  # which ask for the ranks themselves
    from DiffRec.data_utils import Dataset
    from DiffRec.engine.contract import Recommender


@dataclasses.dataclass
class Ranks:
    """The processes of a training.

    Attributes:
        rank: this one's number, from 0.
        size: N, how many there are.
        idle: whether this rank has no row of the batch at hand: it trains on another's with weight
            0.
    """

    rank: int = 0
    size: int = 1
    idle: bool = False

    @property
    def writes(self) -> bool:
        """Whether this process writes what is said of the run, and tells how it goes."""
        return self.rank == 0

    @property
    def keeps(self) -> bool:
        """Whether this process writes weights and state."""
        return self.writes

    @property
    def several(self) -> bool:
        return self.size > 1

    def wait(self) -> None:
        """Until every rank is here."""
        if self.several:
            dist.barrier()

    def add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, in place; the same on all of them."""
        if self.several:
            dist.all_reduce(tensor)
        return tensor

    def from_rank_0(self, found: Any) -> Any:
        """What rank 0 has found."""
        if not self.several:
            return found
        box = [found]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def most(self, number: float) -> float:
        """The largest of the ranks' numbers."""
        return max(self.collect(number)) if self.several else number

    def collect(self, found: Any) -> list[Any]:
        """What each rank has found."""
        everyone: list[Any] = [found] * self.size
        if self.several:
            dist.all_gather_object(everyone, found)
        return everyone

    def gather_rows(self, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Columns of n numbers each, (n,), with those of all ranks one after another; n may differ
        from rank to rank."""
        if not self.several:
            return columns
        n = 0 if self.idle else len(columns[0])
        rows = torch.stack([column.detach()[:n].double() for column in columns])
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]  # not on a GPU: it
        dist.all_gather(sizes, torch.tensor([rows.shape[1]]))  # would be waited for
        lengths = torch.cat(sizes).tolist()
        padded = rows.new_zeros(len(columns), max(lengths))
        padded[:, : rows.shape[1]] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        whole = torch.cat([p[:, :n] for p, n in zip(parts, lengths, strict=True)], dim=1)
        return tuple(row.to(column) for row, column in zip(whole, columns, strict=True))

    def range_of(self, n: int) -> tuple[int, int]:
        """This rank's of n things in a row: the first, and the one behind the last."""
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def part(self, batch: Any, terms: Callable[[Any], int]) -> tuple[Any, float]:
        """This rank's rows of a batch, one rank's after another's, and by what their loss is
        multiplied for the mean over ranks to be the loss of the batch; ``terms`` tells how many
        terms a loss is the mean of. A rank for which no row is left takes one of another's, times
        0, since torch waits for every rank."""
        start, stop = self.range_of(len(batch))
        self.idle = start == stop
        if self.idle:
            start, stop = 0, 1
        part = batch[start:stop] if torch.is_tensor(batch) else batch.slice(start, stop)
        share = 0.0 if self.idle else terms(part) / max(terms(batch), 1)
        return part, share * self.size

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: gradients become the mean over ranks, and samplers
        of steps learn of all losses."""
        if not self.several:
            return model
        for module in model.modules():
            if hasattr(module, "together"):
                module.together = self.gather_rows  # type: ignore[assignment]
        return DistributedDataParallel(
            model, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    # What differs where the ranks share the items and not the users (`DiffRec.engine.shards`) -----

    def own(self, dataset: "Dataset") -> "Dataset":
        """What of the data is this rank's."""
        return dataset

    def file(self, checkpoint: Path) -> Path:
        """The file of a checkpoint that this rank writes."""
        return checkpoint

    def keep_alike(self, model: "Recommender") -> None:
        """Let what all ranks have be equal on all. Gradients, and so weights, are; what a network
        counts of its own rows, such as the statistics of a BatchNorm, becomes rank 0's."""
        if not self.several:
            return
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.layout is torch.strided:
                dist.broadcast(buffer, src=0)

    def write_state(self, path: Path, write: Callable[[Path], None]) -> None:
        write(path)

    def has_state(self, path: Path) -> bool:
        """Whether a state is there, be it half replaced."""
        return path.is_file()

    def settle(self, path: Path) -> None:
        """Let the states from which the ranks go on be those of one epoch."""

    def parameters_of(self, model: "Recommender") -> int:
        """How many numbers the whole model has learned."""
        return model.size()

    def mine(self, batches: range) -> range:
        """The batches of users that this rank evaluates."""
        return batches[self.rank :: self.size]

    def over_users(self, sums: torch.Tensor) -> torch.Tensor:
        """Sums over this rank's users → over all users, in place."""
        return self.add_up(sums)

    def over_items(self, sums: torch.Tensor) -> torch.Tensor:
        """Sums over this rank's items → over all items, in place."""
        return sums

    def best(
        self, scores: torch.Tensor, hits: torch.Tensor, places: torch.Tensor, k: int
    ) -> torch.Tensor:
        """The hits among all items' k best, of the hits among this rank's, their scores, and the
        places of their items, by which equal scores are ranked."""
        return hits

    def require_same(self, about: Mapping[str, Any]) -> None:
        """InputError unless all ranks run the same: ``about`` holds what must be equal, by name."""
        everyone = self.collect({name: repr(value) for name, value in about.items()})
        differing = [name for name in about if len({told[name] for told in everyone}) > 1]
        if differing:
            raise InputError(
                f"the processes of this training differ in {', '.join(differing)}: start all of "
                f"them with the same command, code and data."
            )


ALONE = Ranks()


def here() -> Ranks:
    """The ranks that this process is one of: those of torch's process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return ALONE


def of_environment() -> Ranks:
    """The ranks by RANK and WORLD_SIZE, as torchrun sets them; InputError for what is none."""
    rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdigit() and size.isdigit()) or int(rank) >= int(size):
        raise InputError(f"RANK and WORLD_SIZE must be numbers, RANK the smaller: {rank}, {size}.")
    return Ranks(int(rank), int(size))


def started_together() -> Ranks:
    """The ranks of processes that were started to meet, before there is a group of them."""
    return of_environment() if "MASTER_ADDR" in os.environ else ALONE


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within, the processes that torchrun started are one group: over NCCL for what is on GPUs,
    over Gloo for the rest, such as the first weights. Nothing happens to a process that was started
    alone, or is in a group already."""
    if not started_together().several or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def lost(error: Exception) -> bool:
    """Whether an error says that another rank is gone."""
    if not started_together().several or not isinstance(error, RuntimeError):
        return False
    signs = ("closed by peer", "reset by peer", "refused", "gloo", "NCCL", "Timed out")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


class Streams:
    """Random numbers of an epoch by several ranks, on the CPU and ``device``: one stream that all
    share, by which batches are drawn, and one of each rank's own for the noise.

    Both begin anew with each epoch, from the seed, the epoch and the rank alone: whoever resumes
    with as many ranks goes on exactly, with another number of them by other draws.
    """

    def __init__(self, device: torch.device, seed: int, epoch: int, rank: int):
        self.device = device
        torch.manual_seed(mixed(seed, epoch))
        self.other = self._state()
        torch.manual_seed(mixed(seed, epoch, rank))

    def _state(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return states + ([torch.cuda.get_rng_state(self.device)] if self._on_gpu() else [])

    def _on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def _swap(self) -> None:
        other, self.other = self.other, self._state()
        torch.set_rng_state(other[0])
        if self._on_gpu():
            torch.cuda.set_rng_state(other[1], self.device)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Within, what is drawn is the same on all ranks."""
        self._swap()
        try:
            yield
        finally:
            self._swap()


def mixed(*numbers: int) -> int:
    """A seed, from 0 to 2⁶³ - 1, that differs wherever one of the numbers does."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
