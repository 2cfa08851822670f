"""What a model must give so that it is trained, evaluated, saved and served like the others."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from DiffRec.data_utils import Dataset, require_dataset
from DiffRec.engine import checkpoints
from DiffRec.engine.checkpoints import Axes, split_of
from DiffRec.engine.errors import InputError, require_path, settings_from_user, whole_number
from DiffRec.engine.filters import NO_FILTERS, Filters
from DiffRec.engine.ids import IdMap
from DiffRec.engine.machine import prepared_device
from DiffRec.engine.optimizers import make_optimizer
from DiffRec.engine.settings import (
    DecaySettings,
    OptimizerSettings,
    Ranges,
    RunOptions,
    Settings,
    TrainingSettings,
    at_home,
)
from DiffRec.engine.shards import Shards
from DiffRec.engine.tensors import (
    Expected,
    digest_of_tensors,
    no_larger_than,
    of_tensor,
    require,
)
from DiffRec.engine.variant import REGISTRY, settings_of, variant_of
from DiffRec.evaluate_utils import Scorer, checked, mask_seen, top_k
from DiffRec.interactions import Interactions, join

ROWS = 400  # scored at a time, as in the release
SCORES = 2**26  # that there are at a time, if rows are long: 256 MB of them


def rows_at_once(n_items: int) -> int:
    """How many rows are scored at a time, whatever the batches of training are."""
    return min(ROWS, max(SCORES // n_items, 1))


class Recommender(nn.Module):
    """A model over rows of interactions. Subclasses give the loss, the scores and the optimisers.

    Attributes:
        variant: the name that results and checkpoints carry.
        Settings: what defines the model.
        Training: what its training is set by.
        ranges: what a search tries for each setting (scripts/search.py).
        sources: what besides the data `for_dataset` may be given, by name.
        splits_items: whether its items can be split over processes, by `split_items`.
        reads_rows: whether scores depend on the rows they are asked for, and not on who a user is.
        closed_form: whether it is computed at once, from the data alone: it has neither epochs nor
            weights to go on from.
        random: whether another seed gives another model.
        n_items: I.
        settings: of the class ``Settings``.
        shards: the processes that hold the other items' weights, of a model that holds some items'
            alone (`split_items`); None for one that is whole.
        item_ids: between items and their raw ids, once the model is trained on data that have them.
        trained_on: the fingerprint of the data it was trained on, then.
        popularity: (I,) how many train interactions each item has, once the model is trained.
        epoch: set by the training loop, from 1, before each epoch.
        begun: what tells its last training apart from one that begins with fresh weights: the end
            of its files' names, and what its header says of it; None before the first.
        seeded: if `for_dataset` made the first weights, the seed, the state of the random numbers
            behind them, where a training with the same seed goes on, and their `digest`.
    """

    variant: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    Training: ClassVar[type[TrainingSettings]] = TrainingSettings
    ranges: ClassVar[Ranges] = {}
    sources: ClassVar[tuple[str, ...]] = ()
    splits_items: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False
    random: ClassVar[bool] = True
    n_items: int
    shards: Shards | None = None
    item_ids: IdMap
    trained_on: Mapping[str, Any] | None = None
    popularity: torch.Tensor | None = None
    epoch: int = 0
    begun: tuple[str, dict[str, Any]] | None = None
    seeded: tuple[int, torch.Tensor, str] | None = None  # in old pickles without the last
    _kept: tuple[tuple, Scorer] | None = None

    def __init__(
        self, n_items: int, settings: Settings | Mapping[str, Any] | None = None, **more: Any
    ):
        super().__init__()
        if isinstance(n_items, Dataset):
            raise InputError(f"{type(self).__name__}.for_dataset builds a model for a data set.")
        self.n_items = whole_number("n_items", n_items, 1)
        self.item_ids = IdMap("item", self.n_items)
        if isinstance(settings, Settings):  # perhaps with those of training beside the model's
            settings = self.Settings.own(dict(settings))
        self.settings = self.Settings.of(settings or {}, more)
        with settings_from_user():
            self.make(self.settings)

    def make(self, settings: Settings) -> None:
        """Build networks, parameters and buffers; a ValueError is about the settings."""

    # Where models come from --------------------------------------------------------------------

    @classmethod
    def for_dataset(
        cls, dataset: Dataset, *, preset: str | None = None, seed: int = 1, item_shards: int = 1,
        **settings: Any,
    ) -> Self:  # fmt: skip
        """A fresh model for a data set.

        preset: settings to start from, such as "ml-1m_clean" for the published ones.
        seed: of the first weights.
        item_shards: split the items over so many processes, all those that torchrun started.
        settings: those of ``Settings``, and what ``sources`` names. InputError for wrong ones.
        """
        require_dataset(dataset)
        seed = RunOptions.of({"seed": seed}).seed
        start = cls.Settings.own(variant_of(cls.variant).preset(preset)) if preset else {}
        sources = {name: settings.pop(name) for name in cls.sources if name in settings}
        if elsewhere := sorted(set(settings) & (cls.Training.names() - cls.Settings.names())):
            raise InputError(f"{elsewhere[0]} is a setting of training: give it to train.")
        chosen = cls.Settings.of(start, settings)
        chosen.require_used(settings)
        shards = None if item_shards == 1 else cls.shards_of(item_shards, dataset.n_items)
        torch.manual_seed(seed)
        own = dataset if shards is None else shards.own(dataset)
        model = cls.build(own, chosen, seed, **sources)
        if shards is not None:
            model.split_items(shards)
            model.first_weights(shards, seed)
        model.seeded = seed, torch.get_rng_state(), "" if cls.closed_form else model.digest()
        return model

    @classmethod
    def build(cls, dataset: Dataset, settings: Settings, seed: int, **sources: Any) -> Self:
        """What `for_dataset` makes of checked settings."""
        return cls(dataset.n_items, settings)

    @classmethod
    def from_checkpoint(
        cls, header: dict, weights: dict[str, torch.Tensor], path: str | Path = "the checkpoint"
    ) -> Self:
        """The model that a checkpoint's header describes; the weights are put into it later.
        ``path`` is for messages."""
        return cls(header["data"]["items"], cls.Settings.own(header["settings"]))

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "cpu", item_shards: int = 1
    ) -> Self:
        """The model of a checkpoint that training wrote, ready to recommend; or, split over as many
        processes as ``item_shards`` says, to be evaluated by all of them. Of this class itself: as
        `any_model`."""
        require_path("a checkpoint is named by its path", path)
        if cls is Recommender:
            return cast(Self, any_model(path, device))
        path, device = checkpoints.whole_path(at_home(Path(path))), prepared_device(device)
        if item_shards == 1:
            header, weights = checkpoints.load(path)
        else:
            header, weights = checkpoints.read_header(path), {}
        checkpoints.require_variant(path, header, cls.variant)
        header = checkpoints.completed(path, header, settings_of(cls))
        if item_shards == 1:
            model = cls.restore(header, weights, path)
        else:
            model = cls.restore_split(header, path, item_shards)
        return model.to(device).eval()

    @classmethod
    def restore(cls, header: dict, weights: dict[str, torch.Tensor], path: str | Path) -> Self:
        """The model of a file's header and weights, which are checked; ``path`` is for messages."""
        with no_larger_than(weights, path):
            model = cls.from_checkpoint(header, weights, path)
        require(path, weights, model.expected(weights))
        checkpoints.put_into(model, weights)
        model.popularity = checkpoints.popularity(path, model.n_items)
        model.item_ids = checkpoints.item_ids(path, model.n_items) or model.item_ids
        model.trained_on = header["data"]
        return model

    @classmethod
    def restore_split(cls, header: dict, path: str | Path, item_shards: int) -> Self:
        """This process's items of the model of a file's header, which has those of all."""
        shards = cls.shards_of(item_shards, header["data"]["items"])
        n_items, items = shards.n_items, (shards.first, shards.stop)
        own = {**header["data"], "items": shards.stop - shards.first}
        whole = Path(path).is_file()
        weights = checkpoints.load(path)[1] if whole else checkpoints.load_items(Path(path), *items)
        with no_larger_than(weights, path):
            model = cls.from_checkpoint({**header, "data": own}, {}, path)
        if whole:
            weights = checkpoints.of_items_alone(weights, model.axes(), *items, n_items)
        require(path, weights, model.expected(weights))
        checkpoints.put_into(model, weights)
        model.split_items(shards)
        return model

    def expected(self, weights: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
        """What a file of this model must hold, by name; ``weights`` are what it has."""
        return {name: of_tensor(tensor) for name, tensor in self.state_dict().items()}

    # Training ------------------------------------------------------------------------------------

    @property
    def is_fresh(self) -> bool:
        """Whether no training has begun with it."""
        return self.trained_on is None and self.begun is None

    def digest(self) -> str:
        """A hash of its weights and buffers, where they are known yet."""
        known = {k: v for k, v in self.state_dict().items() if not nn.parameter.is_lazy(v)}
        return digest_of_tensors(known)

    def forget_data(self) -> None:
        """Let go of what `prepare_data` took from data of before: training begins."""

    def prepare_data(self, dataset: Dataset) -> Dataset:
        """What this model makes of the data before it trains or is evaluated on them; doing it
        twice is doing it once."""
        return dataset

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        """An epoch: the number of its batches, and the batches in turn. By default they are rows of
        users in random order."""
        batches = train.rows(torch.randperm(len(train))).batches(batch_size)
        return len(batches), iter(batches)

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """The loss, a scalar, of a batch of train interactions."""
        raise NotImplementedError(f"{type(self).__name__} needs training_loss.")

    def forward(self, batch: Interactions) -> torch.Tensor:
        """`training_loss`: training calls the module itself, so that torch's wrappers fit."""
        return self.training_loss(batch)

    def loss_terms(self, batch: Any) -> int:
        """How many terms `training_loss` is the mean of; by default the batch's rows. By these the
        parts of a batch that several processes train on are weighed."""
        return len(batch)

    def optimizers(self, training: Any) -> list[torch.optim.Optimizer]:
        """Fresh optimisers of the parameters, by settings of the class ``Training``; all of them
        step after each batch. By default one of all parameters, with weight decay where the
        settings have it. A model that `fit` computes at once has none."""
        if not isinstance(training, OptimizerSettings):
            raise NotImplementedError(
                f"{type(self).__name__} needs optimizers, or OptimizerSettings for its Training."
            )
        decay = training.weight_decay if isinstance(training, DecaySettings) else 0.0
        return [make_optimizer(training.optimizer, self.parameters(), training.lr, decay)]

    def fit(self, train: Interactions) -> None:
        """Compute a model without optimisers from all train interactions."""
        raise NotImplementedError(f"{type(self).__name__} needs fit.")

    def compile(self, *args, **kwargs) -> None:
        """torch.compile what is worth it; the parameters keep their names."""
        raise InputError(f"compile is not for {self.variant}.")

    def training_state(self) -> dict[str, torch.Tensor]:
        """What, besides parameters and optimisers, a resumed training needs; tensors, in place."""
        return {}

    def identity(self) -> dict:
        """What, besides settings and data, a run that goes on with this one's state must share."""
        return {}

    def size(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def draws_noise(self) -> bool:
        """Whether scores hold noise that is another for another row."""
        return False

    @property
    def device(self) -> torch.device:
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @classmethod
    def evaluation_of(cls, told: Mapping[str, Any]) -> dict[str, Any]:
        """What of a data set's own way of evaluation goes for this model: validation as input too
        changes nothing for one that does not read rows."""
        return {k: v for k, v in told.items() if k != "tst_w_val" or cls.reads_rows}

    # Items over several processes (`DiffRec.engine.shards`) --------------------------------------

    @classmethod
    def shards_of(cls, size: int, n_items: int) -> Shards:
        if not cls.splits_items:
            raise InputError(f"item_shards is not for {cls.variant}.")
        return Shards.of(size, n_items)

    def split_items(self, shards: Shards) -> None:
        """Let this model, built for the items of one process, be part of one for those of all."""
        raise NotImplementedError(f"{type(self).__name__} needs split_items.")

    def first_weights(self, shards: Shards, seed: int) -> None:
        """Draw the first weights of a model that was split."""
        raise NotImplementedError(f"{type(self).__name__} needs first_weights.")

    def part_of_items(self) -> dict | None:
        """Of a model that was split, for its checkpoint: ``first`` and ``stop`` of its items, and
        in ``axes`` by the names of tensors the axis along which they stand first, and their
        number. None for a model that is whole."""
        if self.shards is None:
            return None
        axes = {name: split_of(axes) for name, axes in self.axes().items()}
        return {"first": self.shards.first, "stop": self.shards.stop, "axes": axes}

    # A start from older weights (`DiffRec.engine.warm`) ------------------------------------------

    def axes(self) -> dict[str, Axes]:
        """Of the tensors in which something belongs to items, by their names in the state: for each
        axis labels, (n,) int64, on the CPU. An item's label is its number, that of anything else is
        negative, and equal labels of two models mean the same thing; None is an axis on which place
        n means the same in both, as of a hidden layer. Axis 0 is an output and axis 1 an input.
        Empty for a model that has no such tensors."""
        return {}

    def item_groups(self) -> torch.Tensor:
        """(I,) int64 on the CPU: the items among which a new one is alike."""
        return torch.zeros(self.n_items, dtype=torch.int64)

    def newcomer(self, known: torch.Tensor) -> torch.Tensor:
        """A new item's output weights, or its bias, from those of its group's known items, (n, D)
        or (n,): no weights, and the smallest bias, so that it is not ahead of what is known."""
        return torch.zeros_like(known[0]) if known.dim() > 1 else known.min()

    def arrange_as(self, old: Self, number: torch.Tensor) -> None:
        """Take over what the shapes of the weights depend on besides settings. number: (n,) int64,
        this model's item for each of ``old``'s, I and above for those it does not have."""

    # Scores --------------------------------------------------------------------------------------

    def scorer(self) -> Scorer:
        """A function from B rows of interactions to scores (B, I), new ones for each call.

        What the scores of all batches share is computed here, once; it is valid until the
        parameters change.
        """
        raise NotImplementedError(f"{type(self).__name__} needs scorer.")

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        """The scores as products: a function from B rows to user vectors p, (B, D), the items'
        vectors q, (I, D), and their biases b, (I,), such that p · q + b is the score; InputError
        if the model has no such form."""
        raise InputError(f"{self.variant} has no user and item vectors.")

    def weigh(self, history: Interactions) -> Interactions:
        """What this model makes of a raw history before it scores it."""
        return history

    def own_rows(self, name: str, rows: Interactions | list[list[int]]) -> Interactions:
        """Rows of this model's items; InputError for those of other data. A model that was split is
        refused later, with a word on how to join it."""
        if not isinstance(rows, Interactions):
            return Interactions.from_histories(rows, self.n_items)
        if self.shards is None and rows.n_items != self.n_items:
            raise InputError(f"{name} is of {rows.n_items} items, the model of {self.n_items}.")
        return rows

    @classmethod
    def read_in_training(cls) -> set[str]:
        """Names of settings that are read when the model is trained, and never again."""
        return cls.Settings.read_in_training()

    def require_rows(self, why: str) -> None:
        """InputError if the scores do not depend on the rows; ``why`` says what asks for that."""
        if not self.reads_rows:
            raise InputError(
                f"{self.variant} knows its users by vectors of their own, not by their "
                f"interactions: {why}."
            )

    def require_data(self, dataset: Dataset) -> None:
        """InputError for data on which metrics would mean nothing, as far as it is known: those
        whose test the model was trained on, and those whose items have other numbers."""
        known = self.trained_on
        if known is None or "sha256" not in known or known == dataset.fingerprint():
            return
        if dataset.is_wholly(known):
            raise InputError(
                f"the model was trained on validation and test of {dataset.name} too: metrics on "
                f"them would mean nothing."
            )
        if self.n_items == dataset.n_items:
            ids = IdMap.of_folder("item", dataset.path, dataset.n_items)
            self.item_ids.require_same(ids, "the model", dataset.name)

    def require_fitted(self) -> None:
        """InputError for a model that knows nothing before it is trained, and was not."""

    def kept_scorer(self) -> Scorer:
        """`scorer`, kept until the parameters change or training begins. A change by way of
        ``.data`` is not seen: call ``train()`` after it."""
        self.require_fitted()
        if self.shards is not None:
            raise InputError(
                "this model holds some of the items alone: load its checkpoint in one process to "
                "recommend."
            )
        tensors = [*self.parameters(), *self.buffers()]
        state = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self.scorer()
        return self._kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kept": None}  # a scorer can not be pickled

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._kept = None
        return super().train(mode)

    @torch.inference_mode()
    def recommend_batches(
        self,
        history: Interactions,
        seen: Interactions | None,
        k: int,
        batch_size: int | None = None,
        filters: Filters = NO_FILTERS,
        min_history: int = 1,
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """For each batch of rows in turn: the first row's number, and what `recommend` returns for
        the batch; items of ``seen``, a row for each of ``history``, score -inf. batch_size: by
        default `rows_at_once`."""
        score = self.kept_scorer()
        if batch_size is None:
            batch_size = rows_at_once(self.n_items)
        batch_size = whole_number("batch_size", batch_size, 1)
        if min_history > 1 and self.popularity is None:
            raise InputError(
                "the model does not know how popular items are: min_history must be 1."
            )
        for start in range(0, len(history), batch_size):
            stop = min(start + batch_size, len(history))
            batch = history.slice(start, stop)
            scores = checked(score(batch))
            thin = batch.lengths < min_history
            if thin.any() and self.popularity is not None:
                scores[thin.to(scores.device)] = self.popularity.to(scores)
            if seen is not None:
                mask_seen(scores, seen.slice(start, stop))
            filters.apply(scores)
            items = top_k(scores, min(k, self.n_items))
            yield start, items, scores.gather(1, items)

    def recommend(
        self,
        history: Interactions | list[list[int]],
        k: int = 20,
        exclude_seen: bool = True,
        batch_size: int | None = None,
        *,
        disliked: Interactions | list[list[int]] | None = None,
        min_history: int = 1,
        only_items: Sequence[int] | None = None,
        without_items: Sequence[int] | None = None,
        categories: Sequence[Any] | None = None,
        per_category: int | None = None,
        item_dates: Sequence[Any] | None = None,
        newer_than: Any | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items for each row, or all if there are fewer: ids (U, k) int64 and scores
        (U, k), best first.

        Args:
            history: rows of item ids in order of time, of users in the training data or not.
            batch_size: rows that are scored at a time; by default 400, or fewer of many items.
            exclude_seen: leave a row's own items out. What is left out scores -inf, and ends the
                list of a row with fewer than k others.
            disliked: rows of further items that are left out, one for each of ``history``.
            min_history: a row of fewer items gets the most popular ones, whose scores are the
                numbers of train interactions; by default an empty row does, with 0 none. A model
                of a file from before these were kept has scores of its own for an empty row.
            only_items, without_items: ids of the only items to recommend, and of those not to.
            categories: (I,) a word for each item, or None for one that has none and is not counted;
                a list holds at most ``per_category`` of each.
            item_dates: (I,) dates; items that are not later than ``newer_than`` are left out, and
                so are those without a date.
        """
        history = self.own_rows("history", history)
        k, min_history = whole_number("k", k, 1), whole_number("min_history", min_history, 0)
        filters = Filters.of(
            self.n_items,
            only_items,
            without_items,
            categories,
            per_category,
            item_dates,
            newer_than,
        )
        history = self.weigh(history.to(self.device))
        seen = history if exclude_seen else None
        if disliked is not None:
            disliked = self.own_rows("disliked", disliked)
            if len(disliked) != len(history):
                raise InputError(f"disliked must have {len(history)} rows, not {len(disliked)}.")
            disliked = disliked.to(self.device)
            seen = disliked if seen is None else join(seen, disliked)
        was_training = self.training
        self.eval()
        try:
            best = list(self.recommend_batches(history, seen, k, batch_size, filters, min_history))
        finally:
            self.train(was_training)
        if not best:
            k = min(k, self.n_items)
            return torch.empty(0, k, dtype=torch.int64), torch.empty(0, k)
        _, items, scores = zip(*best, strict=True)
        return torch.cat(items), torch.cat(scores)


def any_model(path: str | Path, device: str | torch.device = "cpu") -> Recommender:
    """The model of a checkpoint, whichever registered one it is of."""
    require_path("a checkpoint is named by its path", path)
    path, device = checkpoints.whole_path(at_home(Path(path))), prepared_device(device)
    header, weights = checkpoints.load(path)
    checkpoints.require_variant(path, header, *REGISTRY)
    model = REGISTRY[header["variant"]].model
    header = checkpoints.completed(path, header, settings_of(model))
    return model.restore(header, weights, path).to(device).eval()
