"""L-DiffRec: the clustered VAE and DiffRec's diffusion on its latent vectors, trained together."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from DiffRec import Dataset, DiffRec, Interactions
from DiffRec.engine.contract import Axes
from DiffRec.engine.errors import InputError, require_path, settings_from_user, whole_number
from DiffRec.engine.optimizers import make_optimizer
from DiffRec.engine.settings import Between, Ranges
from DiffRec.engine.tensors import Expected, require
from DiffRec.evaluate_utils import Scorer
from DiffRec.models.VAE import annealed_kl_weight, kl_to_standard_normal, multinomial_nll
from L_DiffRec.data_utils import cluster_items
from L_DiffRec.models.DNN import DNN
from L_DiffRec.models.VAE import LABELS, ClusteredVAE
from L_DiffRec.settings import JointTraining, LDiffRecSettings


def require_clusters(clusters: torch.Tensor, n_items: int) -> None:
    """InputError unless each item has a cluster."""
    fits = torch.is_tensor(clusters) and clusters.dtype == torch.int64
    if not fits or tuple(clusters.shape) != (n_items,) or (clusters < 0).any():
        raise InputError(f"clusters must be a tensor of {n_items} int64 numbers, from 0 on.")


class LDiffRec(DiffRec):
    """L-DiffRec (Section 3.5).

    Args:
        n_items: I.
        settings: of `LDiffRecSettings`, as a mapping or by name.
        clusters: (I,) int64, the cluster of each item (`L_DiffRec.data_utils.cluster_items`); it
            is saved with the weights. By default all items are in one.
    """

    variant = "L-DiffRec"
    Settings = LDiffRecSettings
    Training = JointTraining
    splits_items = False  # a cluster's items are in layers of their own
    sources = ("emb_path",)
    ranges: ClassVar[Ranges] = {
        "lr1": Between(3e-4, 5e-3, log=True),
        "lr2": Between(1e-4, 2e-3, log=True),
        "batch_size": [100, 200, 400],
        "n_cate": [1, 2, 3],
        "in_dims": ["[200]", "[300]", "[600]"],
        "mlp_dims": ["[300]", "[600]", "[1000]"],
        "activate_latent": [False, True],
        "vae_dropout": Between(0.1, 0.7),
        "vae_anneal_cap": Between(0.01, 0.5, log=True),
        "decode_in_training": ["denoised", "encoded"],
        "reconstruction_target": ["dropped", "clean"],
        "lamda": Between(0.01, 1.0, log=True),
        "dropout": Between(0.0, 0.6),
        "steps": [2, 5, 10, 20, 40],
        "noise_scale": Between(1e-3, 1.0, log=True),
        "patience": [20, 60],
        "ema": [0.0, 0.99],
    }

    def __init__(
        self,
        n_items: int,
        settings: Settings | Mapping[str, Any] | None = None,
        clusters: torch.Tensor | None = None,
        **more: Any,
    ):
        if clusters is None:
            n_items = whole_number("n_items", n_items, 1)
            clusters = torch.zeros(n_items, dtype=torch.int64)
        require_clusters(clusters, n_items)
        self.clusters_of_items = clusters  # until the VAE has them
        super().__init__(n_items, settings, **more)
        del self.clusters_of_items
        # Batches so far, which anneal the KL term.
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64), persistent=False)

    @classmethod
    def build(
        cls, dataset: Dataset, settings: Settings, seed: int, emb_path: str | Path | None = None
    ) -> Self:
        """Items are clustered first, by the embeddings in ``emb_path`` or beside the data."""
        if emb_path is not None:
            require_path("emb_path is the path of a file", emb_path)
            emb_path = Path(emb_path)
        clusters = cluster_items(dataset, settings.n_cate, emb_path, seed)
        return cls(dataset.n_items, settings, clusters)

    @classmethod
    def from_checkpoint(
        cls, header: dict, weights: dict[str, torch.Tensor], path: str | Path = "the checkpoint"
    ) -> Self:
        n_items, settings = header["data"]["items"], cls.Settings.own(header["settings"])
        clusters = {name: weights[name] for name in ("vae.clusters",) if name in weights}
        largest = min(settings["n_cate"], n_items) - 1
        of_items = Expected((n_items,), torch.int64, at_most=largest)
        require(path, clusters, {"vae.clusters": of_items})
        return cls(n_items, settings, weights["vae.clusters"])

    def make_networks(self, settings: LDiffRecSettings) -> None:
        """Set ``vae`` and ``dnn``."""
        self.vae = ClusteredVAE(
            self.clusters_of_items,
            settings.in_dims,
            settings.out_dims,
            settings.act_func,
            settings.cluster_decoders,
            settings.activate_latent,
            settings.reparam,
            settings.vae_dropout,
        )
        self.dnn = DNN(
            self.vae.latent_size,
            settings.mlp_dims,
            settings.emb_size,
            settings.mlp_act_func,
            settings.norm,
            settings.dropout,
        )

    def axes(self) -> dict[str, Axes]:
        of_vae, latent = self.vae.axes()
        last = f"dnn.out_layers.{len(self.dnn.out_layers) - 1}"
        of_embedding = -1 - (LABELS * len(self.vae.lengths) + torch.arange(self.dnn.emb_size))
        inputs = torch.cat([latent, of_embedding])
        return {
            **{f"vae.{name}": labels for name, labels in of_vae.items()},
            "dnn.in_layers.0.weight": (None, inputs),
            f"{last}.weight": (latent, None),
            f"{last}.bias": (latent,),
        }

    def item_groups(self) -> torch.Tensor:
        return self.vae.clusters.cpu()

    def newcomer(self, known: torch.Tensor) -> torch.Tensor:
        """The mean of its cluster."""
        return known.mean(dim=0)

    def arrange_as(self, old: Self, number: torch.Tensor) -> None:
        """Known items stay in their clusters. A new one comes to the cluster that most of the known
        items have with which it was clustered today."""
        is_known = number < self.n_items
        theirs, today = old.vae.clusters[is_known], self.vae.clusters.cpu()
        common = torch.zeros(int(today.max()) + 1, int(theirs.max()) + 1, dtype=torch.int64)
        common.index_put_((today[number[is_known]], theirs), torch.tensor(1), accumulate=True)
        clusters = common.argmax(dim=1)[today]
        clusters[number[is_known]] = theirs
        if len(clusters.unique()) < len(old.vae.lengths):
            raise InputError("a cluster of the warm start's model has no item left.")
        self.clusters_of_items = clusters
        with settings_from_user():
            self.make_networks(self.settings)
        del self.clusters_of_items

    def optimizers(self, training: JointTraining) -> list[torch.optim.Optimizer]:
        """One for the VAE, one for the denoising network."""
        return [
            make_optimizer(training.optimizer1, self.vae.parameters(), training.lr1, training.wd1),
            make_optimizer(training.optimizer2, self.dnn.parameters(), training.lr2, training.wd2),
        ]

    def diffusion_weight(self) -> float:
        """λ: annealed over epochs from its full value in the first down to a floor, or constant."""
        settings = self.settings
        steps = settings.anneal_steps
        full = settings.lamda * (1 - (self.epoch - 1) / steps if steps else 1)
        return max(full, settings.anneal_cap)

    def kl_weight(self) -> torch.Tensor:
        """γ of Eq. 15: annealed over batches from 0 up to a cap, or constant. A scalar tensor."""
        settings = self.settings
        return annealed_kl_weight(self.batches, settings.vae_anneal_cap, settings.vae_anneal_steps)

    def grouped(self, batch: Interactions) -> Interactions:
        """The batch with item ids replaced by their places in the grouped order."""
        return dataclasses.replace(batch, items=self.vae.position[batch.items])

    def training_loss(self, batch: Interactions) -> torch.Tensor:
        """L_v(x_0, φ, ψ) + λ L(z_0, θ), the objective of Section 3.5; a scalar."""
        settings = self.settings
        x0 = self.grouped(batch).dense()
        x0_dropped = self.vae.dropout(x0)
        mu, log_var = self.vae.encode(x0_dropped)
        z0 = self.vae.latent(mu, log_var)

        # L(z_0, θ): Eq. 13 or 14 with z_0 in the place of x_0
        t, p = self.sampler.sample(len(z0), z0.device)
        noise = torch.randn_like(z0)
        z_t = self.diffusion.q_sample(z0, t, noise)
        output = self.dnn(z_t, t)
        losses = self.diffusion.losses_of_output(output, z0, t, noise)
        self.sampler.update(t, losses)
        diffusion_loss = (losses / p).mean()

        # L_v(x_0, φ, ψ): Eq. 15
        denoised = settings.decode_in_training == "denoised"
        decoded = self.vae.decode(self.diffusion.predict_x0(output, z_t, t) if denoised else z0)
        target = x0_dropped if settings.reconstruction_target == "dropped" else x0
        kl = kl_to_standard_normal(mu, log_var).mean()
        vae_loss = multinomial_nll(decoded, target).mean() + self.kl_weight() * kl
        self.batches += 1

        weight = self.diffusion_weight()
        if settings.reweight or settings.lamda_place == "diffusion":
            return vae_loss + weight * diffusion_loss
        return weight * vae_loss + diffusion_loss

    def latent_encoder(self) -> Scorer:
        """A function from B rows to ẑ_0, (B, D): z_0 = μ_φ(x_0), and Algorithm 2 on it, in hidden
        space where that is exact."""
        mean, reverse = self.vae.mean_encoder(), self.reverse()

        def encode(batch: Interactions) -> torch.Tensor:
            rows = self.grouped(batch)
            z0 = mean(rows.items, rows.offsets.to(rows.device), rows.values)
            if reverse is None:
                return self.denoise(z0)
            z = reverse.encode(self.diffusion.corrupt(z0, self.sampling_steps))
            return reverse.decode(reverse.hidden(z))

        return encode

    def denoise(self, z0: torch.Tensor) -> torch.Tensor:
        """Algorithm 2 on z_0, step by step."""
        return self.diffusion.denoise(self.dnn, z0, self.sampling_steps, self.sampling_noise)

    def scorer(self) -> Scorer:
        encode = self.latent_encoder()
        return lambda batch: self.in_item_order(self.vae.decode(encode(batch)))

    def factors(self) -> tuple[Scorer, torch.Tensor, torch.Tensor]:
        encode = self.latent_encoder()
        weights, biases = self.vae.item_factors()
        position = self.vae.position
        return lambda b: self.vae.last_hidden(encode(b)), weights[position], biases[position]

    def plain_scorer(self) -> Scorer:
        """The same as written, on dense vectors and step by step."""

        def score(batch: Interactions) -> torch.Tensor:
            z0, _ = self.vae.encode(self.grouped(batch).dense())
            return self.in_item_order(self.vae.decode(self.denoise(z0)))

        return score

    def in_item_order(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, I) in grouped order → in the order of item ids."""
        return scores[:, self.vae.position]

    def identity(self) -> dict:
        return {"clusters": hashlib.sha256(self.vae.clusters.cpu().numpy()).hexdigest()[:16]}

    def training_state(self) -> dict[str, torch.Tensor]:
        return {**super().training_state(), "batches": self.batches}
