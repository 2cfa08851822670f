"""The authors' released checkpoints of L-DiffRec: the network, and the autoencoder beside it."""

from pathlib import Path

import torch

from DiffRec.engine.errors import InputError
from DiffRec.engine.released import (
    AUTOENCODER,
    NUMBER,
    Names,
    Released,
    read,
    read_network,
    settings_in_name,
    understood,
    weights_of,
)
from DiffRec.engine.tensors import no_larger_than

IN_NAME: Names = {
    **{f"lr{n}": (rf"_{NUMBER}lr{n}", float) for n in (1, 2)},
    **{f"wd{n}": (rf"_{NUMBER}wd{n}", float) for n in (1, 2)},
    "lamda": (rf"_lam{NUMBER}", float),
}


def read_autoencoder(path: Path) -> tuple[dict[str, torch.Tensor], dict, int]:
    """The clustered VAE: its weights, the items' clusters among them, its settings, and I."""
    module = read(path, AUTOENCODER, "the autoencoder")
    with understood(path):
        in_dims, out_dims = (
            [int(size) for size in dims] for dims in (module.in_dims, module.out_dims)
        )
        n_items, single = int(module.n_item), int(module.n_cate) == 1
        own = weights_of(module)
        with no_larger_than(own, path):
            clusters = torch.zeros(n_items, dtype=torch.int64)
        if not single:
            groups = module.category_idx
            if (len(groups), sum(map(len, groups))) != (int(module.n_cate), n_items):
                raise InputError(f"{path} does not put each of its {n_items} items into a group.")
            for number, items in enumerate(groups):
                clusters[torch.as_tensor(items)] = number
            order = torch.argsort(clusters, stable=True)
            if not torch.equal(order, torch.as_tensor(module.category_map)):
                raise InputError(f"{path} groups its items in an order that is not the release's.")
        per_cluster = bool(out_dims)
        weights = {"vae.clusters": clusters}
        for name, tensor in own.items():
            group, rest = name.split(".", 1)
            # With a single cluster the release has no list around the layers.
            listed = group == "encoder" or per_cluster
            weights[f"vae.{group}.0.{rest}" if single and listed else f"vae.{name}"] = tensor
        settings = {
            "n_cate": int(module.n_cate),
            "in_dims": in_dims[::-1],
            # With several clusters the release mirrors the encoder, whatever sizes out_dims has.
            "out_dims": out_dims if single else in_dims[-2::-1] if per_cluster else [],
            "cluster_decoders": per_cluster,
            "act_func": str(module.act_func),
            "reparam": bool(module.reparam),
        }
        return weights, settings, n_items


def read_released(path: Path, second: Path | None, names: Names = IN_NAME) -> Released:
    """Two files, the network and the autoencoder; see `DiffRec.engine.released.read`."""
    weights, settings, n_items = read_autoencoder(second)
    more_weights, more_settings, _ = read_network(path, "mlp_dims")
    return Released(
        {**weights, **more_weights}, {**settings, **more_settings},
        settings_in_name(path.name, names), n_items,
    )  # fmt: skip
