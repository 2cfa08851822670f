"""What the training loop trains and the evaluation ranks with: the contract, and DiffRec itself."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from DiffRec import checkpoints
from DiffRec.data_utils import Dataset, Interactions
from DiffRec.errors import InputError, settings_from_user
from DiffRec.evaluate_utils import Scorer, mask_seen, top_k
from DiffRec.models.DNN import DNN
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.hidden_space import HiddenSpaceReverse
from DiffRec.models.timestep_sampler import ImportanceSampler, UniformSampler

OPTIMIZERS = ("AdamW", "Adam", "Adamax", "SGD", "Adagrad", "Momentum")


def make_optimizer(
    name: str, parameters: Iterator[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimiser by the release's name for it; "Momentum" is SGD with momentum 0.95."""
    shared = {"lr": lr, "weight_decay": weight_decay}
    if name == "AdamW":
        return torch.optim.AdamW(parameters, fused=True, **shared)
    if name == "Adam":
        return torch.optim.Adam(parameters, fused=True, **shared)
    if name == "Adamax":
        return torch.optim.Adamax(parameters, **shared)
    if name == "SGD":
        return torch.optim.SGD(parameters, fused=True, **shared)
    if name == "Momentum":
        return torch.optim.SGD(parameters, momentum=0.95, fused=True, **shared)
    if name == "Adagrad":
        return torch.optim.Adagrad(parameters, initial_accumulator_value=1e-8, **shared)
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name}.")


class Recommender(nn.Module):
    """A model over rows of interactions. Subclasses give the loss, the scores and the optimisers.

    Attributes:
        variant: the name results and checkpoints carry.
        n_items: I.
        epoch: set by the training loop, from 1, before each epoch.
    """

    variant: str
    n_items: int
    epoch: int = 0

    @classmethod
    def from_checkpoint(cls, header: dict, weights: dict[str, torch.Tensor]) -> "Recommender":
        """The model a checkpoint's header describes; the weights are put into it afterwards."""
        return cls(header["data"]["items"], header["settings"])

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "Recommender":
        """The model of a checkpoint that training wrote, ready to recommend."""
        header, weights = checkpoints.load(path)
        checkpoints.require_variant(path, header, cls.variant)
        model = cls.from_checkpoint(header, weights)
        checkpoints.fill(model, weights, path, assign=True)
        return model.to(device).eval()

    def prepare_data(self, dataset: Dataset) -> Dataset:
        """What this model makes of the data before it trains or is evaluated on them."""
        return dataset

    def epoch_batches(self, train: Interactions, batch_size: int) -> tuple[int, Iterator]:
        """An epoch: how many batches it has, and they one after the other; by default, of the rows
        of users in random order."""
        shuffled = train.rows(torch.randperm(len(train)))
        starts = range(0, len(train), batch_size)
        return len(starts), (
            shuffled.slice(start, min(start + batch_size, len(train))) for start in starts
        )

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """The loss, a scalar, of a batch of train interactions."""
        raise NotImplementedError

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Fresh optimisers of the parameters; the training loop steps them all after each batch.
        There are none for a model that is computed at once, by `fit`."""
        raise NotImplementedError

    def fit(self, train: Interactions) -> None:
        """Compute a model without optimisers from all train interactions."""
        raise NotImplementedError

    def scorer(self) -> Scorer:
        """A function from B rows of interactions to scores (B, I).

        What the scores of all batches share is computed here, once; it is valid until the
        parameters change.
        """
        raise NotImplementedError

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        """The scores as products: a function from B rows to user vectors p, (B, D), the items'
        vectors q, (I, D), and their biases b, (I,), such that p · q + b is the score; InputError
        if the model has no such form."""
        raise InputError(f"{self.variant} has no user and item vectors.")

    def training_state(self) -> dict[str, torch.Tensor]:
        """What, besides parameters and optimisers, a resumed training needs; tensors, in place."""
        return {}

    def identity(self) -> dict:
        """What, besides settings and data, a run that goes on with this one's state must share."""
        return {}

    def weigh(self, history: Interactions) -> Interactions:
        """What this model makes of a raw history before it scores it."""
        return history

    def size(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @torch.inference_mode()
    def recommend_batches(
        self, history: Interactions, seen: Interactions | None, k: int, batch_size: int
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """For one batch of rows after the other: the first row's number, and what `recommend`
        returns for the batch; items of ``seen``, a row for each of ``history``, score -inf."""
        score = self.scorer()
        for start in range(0, len(history), batch_size):
            stop = min(start + batch_size, len(history))
            scores = score(history.slice(start, stop))
            if seen is not None:
                mask_seen(scores, seen.slice(start, stop))
            items = top_k(scores, min(k, self.n_items))
            yield start, items, scores.gather(1, items)

    def recommend(
        self,
        history: Interactions | list[list[int]],
        k: int = 20,
        exclude_seen: bool = True,
        batch_size: int = 400,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The k best items for each row: ids (U, k) int64 and scores (U, k), best first.

        history: rows of item ids in order of time, of users in the training data or not; an empty
        one is a user nothing is known of. With ``exclude_seen`` a row's own items are left out:
        they score -inf, and end the list of a row with fewer than k others.
        """
        if not isinstance(history, Interactions):
            history = Interactions.from_histories(history, self.n_items)
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}.")
        history = self.weigh(history.to(self.device))
        was_training = self.training
        self.eval()
        seen = history if exclude_seen else None
        best = list(self.recommend_batches(history, seen, k, batch_size))
        self.train(was_training)
        if not best:
            return torch.empty(0, k, dtype=torch.int64), torch.empty(0, k)
        _, items, scores = zip(*best, strict=True)
        return torch.cat(items), torch.cat(scores)


class DiffRec(Recommender):
    """DiffRec (Sections 3.1-3.3): the denoising network, the diffusion and the step sampler.

    Args:
        n_items: I.
        settings: the named options of `DiffRec.options`; those a checkpoint keeps.

    Raises InputError for settings that define no model.
    """

    variant = "DiffRec"

    def __init__(self, n_items: int, settings: dict):
        super().__init__()
        self.n_items, self.settings = n_items, settings
        with settings_from_user():
            self.make_diffusion(settings)
            self.make_networks(settings)

    def make_diffusion(self, settings: dict) -> None:
        """Set ``diffusion`` and ``sampler``, and how far and how noisily inference goes."""
        names = (
            "mean_type noise_schedule noise_scale noise_min noise_max steps beta_fixed reweight "
            "loss_weight loss_reduction"
        )
        self.diffusion = GaussianDiffusion(**{name: settings[name] for name in names.split()})
        steps = self.diffusion.steps
        self.sampler = (
            ImportanceSampler(steps, settings["history_num_per_term"], settings["uniform_prob"])
            if settings["importance_sampling"]
            else UniformSampler(steps)
        )
        self.sampling_steps = settings["sampling_steps"]
        if not 0 <= self.sampling_steps <= steps:
            raise ValueError(
                f"sampling_steps (T') must lie between 0 and steps (T = {steps}), got "
                f"{self.sampling_steps}."
            )
        self.sampling_noise = settings["sampling_noise"]

    def make_networks(self, settings: dict) -> None:
        """Set ``dnn``."""
        self.dnn = DNN(
            self.n_items,
            settings["dims"],
            settings["emb_size"],
            settings["mlp_act_func"],
            settings["norm"],
            settings["dropout"],
        )

    def compile(self, *args, **kwargs) -> None:
        """torch.compile the network; the parameters keep their names."""
        self.dnn.compile(*args, **kwargs)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        settings = self.settings
        with settings_from_user():
            return [
                make_optimizer(
                    settings["optimizer"],
                    self.parameters(),
                    settings["lr"],
                    settings["weight_decay"],
                )
            ]

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """Algorithm 1, lines 4-6: the mean over users of L_t / p_t (Eq. 13 or 14)."""
        x0 = batch.dense()
        t, p = self.sampler.sample(len(x0), x0.device)
        losses = self.diffusion.training_losses(self.dnn, x0, t, torch.randn_like(x0))
        self.sampler.update(t, losses)
        return (losses / p).mean()

    def runs_in_hidden_space(self) -> bool:
        return HiddenSpaceReverse.applies(self.dnn, self.diffusion, self.sampling_noise)

    def user_encoder(self) -> Scorer:
        """A function from B rows to h_1, (B, d): Algorithm 2 in hidden space, before decoding."""
        reverse = HiddenSpaceReverse(self.dnn, self.diffusion)

        def encode(batch: Interactions) -> torch.Tensor:
            if self.sampling_steps == 0:
                offsets = batch.offsets.to(batch.device, batch.items.dtype)
                z = reverse.encode_sparse(batch.items, offsets, batch.values)
            else:
                z = reverse.encode(self.diffusion.corrupt(batch.dense(), self.sampling_steps))
            return reverse.hidden(z)

        return encode

    def scorer(self) -> Scorer:
        """Algorithm 2, in hidden space where that is exact."""
        if not self.runs_in_hidden_space():
            return self.plain_scorer()
        encode, decode = self.user_encoder(), self.dnn.out_layers[-1]
        return lambda batch: decode(encode(batch))

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        if not self.runs_in_hidden_space():
            raise InputError(
                "user and item vectors exist only with mean_type x0, without norm and "
                "sampling_noise."
            )
        last = self.dnn.out_layers[-1]
        return self.user_encoder(), last.weight, last.bias

    def plain_scorer(self) -> Scorer:
        """Algorithm 2 as written, on vectors of all items."""

        def score(batch: Interactions) -> torch.Tensor:
            return self.diffusion.denoise(
                self.dnn, batch.dense(), self.sampling_steps, self.sampling_noise
            )

        return score

    def training_state(self) -> dict[str, torch.Tensor]:
        return dict(self.sampler.named_buffers())
