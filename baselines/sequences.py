"""What models of item sequences share: histories and the items that follow them.

Item i is row i + 1 of an item table; row 0 is padding, which stands behind a sequence.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from baselines.recommender import Baseline
from baselines.sampling import sample_negatives
from DiffRec import InputError, Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.settings import DecaySettings, Positive, Repeats, Settings, Share, setting
from DiffRec.evaluate_utils import Scorer
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.timestep_sampler import ImportanceSampler, UniformSampler

CHUNK = 64  # sequences encoded at a time: those of one length together, so that few are padded
TOGETHER = 32  # batches that are drawn together and then sorted by length


class SequenceSettings(Settings):
    """Sequences and their items."""

    title = "sequences"
    emb_size: Positive = setting(64, "d, the size of item vectors")
    max_length: Positive = setting(50, "L, how many of a user's latest items are read")
    dropout: Share = setting(0.5, "rate of dropout", in_training=True)


class PositionSettings(SequenceSettings):
    """Which positions an epoch trains on, where it trains on all of a sequence at once."""

    title = "sequences"
    stretch: Literal["latest", "random"] = setting(
        "latest",
        "an epoch trains on each user's latest L + 1 items, or on so many that follow each other, "
        "from a random place on",
        in_training=True,
    )


class SequenceTraining(DecaySettings):
    """Adam on users, or on histories of users."""

    title = "optimiser"
    defaults: ClassVar = {"optimizer": "Adam", "lr": 1e-3, "batch_size": 128}


@dataclasses.dataclass(frozen=True)
class Histories:
    """B histories and what comes next.

    Attributes:
        sequences: (B, L) int64, items from 1 to I in order of time, then 0 for padding.
        lengths: (B,) int64, how many items each has.
        targets: (B,) int64, the next item, from 0 to I - 1.
    """

    sequences: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def slice(self, start: int, stop: int) -> "Histories":
        """Histories start..stop-1."""
        parts = (part[start:stop] for part in (self.sequences, self.lengths, self.targets))
        return Histories(*parts)


class Prefixes:
    """Every beginning of every user's sequence, with at least one item, and the item after it.

    Args:
        train: rows in order of time; InputError if none has two items.
        longest: L, how many of the latest items a history keeps.
    """

    def __init__(self, train: Interactions, longest: int):
        self.items, self.longest = train.items.long(), longest
        starts = train.offsets[:-1].to(train.device)[train.row_index()]
        self.before = torch.arange(len(self.items), device=train.device) - starts  # items before it
        self.targets = self.before.nonzero()[:, 0]  # places in ``items``
        require_next(train)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, which: torch.Tensor, width: int | None = None) -> Histories:
        """The prefixes numbered ``which``; padded to the longest of them, or to ``width``."""
        ends = self.targets[which]
        lengths = self.before[ends].clamp(max=self.longest)
        width = int(lengths.max()) if width is None else width
        places = torch.arange(width, device=ends.device)
        from_items = (ends - lengths)[:, None] + places
        inside = places < lengths[:, None]
        taken = self.items[torch.where(inside, from_items, 0)] + 1
        return Histories(torch.where(inside, taken, 0), lengths, self.items[ends])

    def batches(self, size: int, count: int, by_length: bool) -> Iterator[torch.Tensor]:
        """``count`` of the prefixes in random order, ``size`` at a time, or as `of_one_length`."""
        drawn = torch.randperm(len(self), device=self.targets.device)[:count]
        if not by_length:
            return iter(drawn.split(size))
        return of_one_length(drawn, self.before[self.targets].clamp(max=self.longest), size)


def of_table(n_items: int) -> torch.Tensor:
    """Labels of an item table's rows (`Recommender.axes`): -1, the padding, then the items."""
    return torch.arange(-1, n_items)


def require_next(train: Interactions) -> None:
    """InputError if no user has two items."""
    if not (train.lengths > 1).any():
        raise InputError("no user has two items: there is no next item to predict.")


def of_one_length(drawn: torch.Tensor, lengths: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """``drawn``, a random order of sequences with such ``lengths``, ``size`` at a time: many
    batches together are sorted by length before they are cut, so that little is padded, and come in
    random order again."""
    for many in drawn.split(size * TOGETHER):
        batches = many[lengths[many].argsort()].split(size)
        for number in torch.randperm(len(batches)).tolist():
            yield batches[number]


def random_stretches(train: Interactions, lengths: torch.Tensor) -> Interactions:
    """Of each row so many items that follow each other, (U,) at most what it has, from a place on
    that is drawn uniformly."""
    spare = train.lengths - lengths
    first = (torch.rand(len(train), dtype=torch.float64) * (spare + 1)).long()
    return train.stretches(torch.arange(len(train)), first, lengths)


def by_length(encode: Callable[[Interactions], torch.Tensor]) -> Scorer:
    """``encode``, (B rows) → (B, d), for rows of nearly one length together, so that few are
    padded."""

    def encode_rows(batch: Interactions) -> torch.Tensor:
        order = batch.lengths.argsort()
        parts = [encode(batch.rows(rows)) for rows in order.split(CHUNK)]
        found = torch.cat(parts)
        return found[order.argsort().to(found.device)]

    return encode_rows


class SequenceModel(Baseline):
    """A model that reads a user's latest items in order of time, and gives the vector whose product
    with an item's says how likely it comes next. Subclasses give `encode`.

    Attributes:
        embedding: the item table, (I + 1, d).
    """

    Settings = SequenceSettings
    reads_weights = False
    group = "sequential"
    Training = SequenceTraining
    embedding: nn.Embedding

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        """Rows of users, those of nearly one length together (`of_one_length`), or of each as much
        as `PositionSettings` say."""
        require_next(train)
        settings = self.settings
        lengths = train.lengths.clamp(max=settings.max_length + 1)
        if isinstance(settings, PositionSettings) and settings.stretch == "random":
            train = random_stretches(train, lengths)
        batches = of_one_length(torch.randperm(len(train)), lengths, batch_size)
        return -(-len(train) // batch_size), map(train.rows, batches)

    def encode(self, batch: Interactions) -> torch.Tensor:
        """(B, d) of B rows, as inference has it."""
        raise NotImplementedError(f"{type(self).__name__} needs encode.")

    def axes(self) -> dict[str, Axes]:
        return {"embedding.weight": (of_table(self.n_items), None)}

    def newcomer(self, known: torch.Tensor) -> torch.Tensor:
        """The mean of the known items: nothing puts it ahead of them, or behind."""
        return known.mean(dim=0)

    def item_biases(self) -> torch.Tensor:
        return torch.zeros(self.n_items, device=self.device)

    def item_vectors(self) -> torch.Tensor:
        """(I, d)"""
        return self.embedding.weight[1:]

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        return by_length(self.encode), self.item_vectors(), self.item_biases()


class DiffusionOfNextSettings(SequenceSettings):
    """A diffusion of the next item's vector."""

    title = "diffusion"
    steps: Repeats = setting(32, "T, the number of diffusion steps")
    noise_schedule: Literal["linear", "cosine", "binomial", "sqrt", "trunc_lin"] = setting(
        "trunc_lin", "how noise grows with t"
    )
    importance_sampling: bool = setting(
        True, "draw steps by Eq. 14 of DiffRec, or uniformly", in_training=True
    )
    reverse: Literal["full", "direct"] = setting(
        "full", "inference by all T reverse steps, or by one from pure noise"
    )


class DiffusionOfNext(SequenceModel):
    """A sequence model that diffuses the next item's vector.

    Attributes:
        diffusion: its linear schedule is that of Ho et al. (2020), for T steps in place of 1000.
        sampler: of the steps.
    """

    Settings = DiffusionOfNextSettings

    def make_diffusion(self, settings: DiffusionOfNextSettings) -> None:
        if settings.noise_schedule == "linear" and settings.steps < 20:
            raise ValueError(
                f"noise_schedule linear is that of 1000 steps here, scaled: it needs steps of at "
                f"least 20, got {settings.steps}."
            )
        self.diffusion = GaussianDiffusion(
            noise_schedule=settings.noise_schedule, steps=settings.steps, beta_fixed=False,
            noise_scale=1000 / settings.steps, noise_min=1e-4, noise_max=0.02,
        )  # fmt: skip
        make_sampler = ImportanceSampler if settings.importance_sampling else UniformSampler
        self.sampler = make_sampler(settings.steps)

    @property
    def draws_noise(self) -> bool:
        return True

    def training_state(self) -> dict[str, torch.Tensor]:
        return dict(self.sampler.named_buffers())


class CausalSettings(PositionSettings):
    """A model whose position m sees the items up to m alone."""

    title = "sequences"
    loss: Literal["ce", "bce"] = setting(
        "ce",
        "cross-entropy over all items, or binary with one drawn item that is not among them",
        in_training=True,
    )


class CausalModel(SequenceModel):
    """A sequence model that is trained on all positions of a user's latest items at once: position
    m predicts item m + 1. Subclasses give `hidden`.

        L = mean over positions of  -log softmax(h_m · q)_{s_{m+1}}                          (ce)
        L = mean over positions of  -log σ(h_m · q_{s_{m+1}}) - log σ(-h_m · q_j)           (bce)

    with j uniform over the items that the user does not have (or, with random stretches, that the
    stretch lacks).
    """

    Settings = CausalSettings

    def hidden(self, sequences: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """h, (B, L, d), of sequences, (B, L), behind which stands padding; or at the positions
        ``last``, (B,), alone, (B, d)."""
        raise NotImplementedError(f"{type(self).__name__} needs hidden.")

    def loss_terms(self, batch: Interactions) -> int:
        return positions_of(batch, self.settings.max_length)

    def encode(self, batch: Interactions) -> torch.Tensor:
        sequences, lengths = batch.padded(self.settings.max_length)
        return self.hidden(sequences, (lengths - 1).clamp(min=0))

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        sequences, lengths = batch.padded(self.settings.max_length + 1)
        inputs = sequences[:, : max(sequences.shape[1] - 1, 1)]
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        rows, places = (steps < (lengths - 1)[:, None]).nonzero(as_tuple=True)
        if not len(rows):  # users of one item alone
            return nothing(self)
        h, targets = self.hidden(inputs)[rows, places], sequences[rows, places + 1] - 1
        vectors = self.item_vectors()
        if self.settings.loss == "ce":
            return F.cross_entropy(F.linear(h, vectors), targets)

        lacks = (batch.lengths.to(rows.device) < self.n_items)[rows]  # at least one item
        others = sample_negatives(rows[lacks], batch)
        own = F.softplus(-(h * vectors[targets]).sum(dim=1))
        other = F.softplus((h[lacks] * vectors[others]).sum(dim=1))
        return (own.sum() + other.sum()) / len(rows)


def positions_of(batch: Interactions, longest: int) -> int:
    """How many of the latest ``longest`` + 1 items of the rows have one before them."""
    return int((batch.lengths.clamp(max=longest + 1) - 1).clamp(min=0).sum())


def nothing(model: nn.Module) -> torch.Tensor:
    """A loss of 0 that every parameter has a part in, as other processes wait for all of them."""
    return 0 * sum(parameter.sum() for parameter in model.parameters())


def at(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """One place of each sequence: (B, L, …) and (B,) → (B, …)."""
    return x[torch.arange(len(x), device=x.device), places]
