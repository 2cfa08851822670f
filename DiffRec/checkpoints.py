"""Checkpoints: one safetensors file with the weights and a JSON header that says what they are.

The header holds ``format``, ``version`` (of the project that wrote it), ``variant``, ``dataset``,
``settings``, ``seed``, ``best_epoch``, ``valid``, ``test`` and ``data`` (`Dataset.fingerprint`).
Nothing in the file can execute.
"""

import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from DiffRec.data_utils import Dataset
from DiffRec.errors import InputError
from DiffRec.files import written_whole

FORMAT = 1


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def save(path: str | Path, model: nn.Module, header: dict) -> None:
    """Write ``path`` whole or not at all; on failure the previous file is still there."""
    text = json.dumps({"format": FORMAT, "version": version("diffrec"), **header})
    weights = {name: tensor.contiguous() for name, tensor in weights_of(model).items()}
    with written_whole(path) as temporary:
        save_file(weights, temporary, metadata={"diffrec": text})


def load(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Header and weights of a checkpoint; InputError if the file is missing or not one."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("diffrec")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}).") from error
    if text is None:
        raise InputError(f"{path} holds weights, but no header of this project.")
    try:
        header = json.loads(text)
        known = {"format": int, "variant": str, "dataset": str, "settings": dict, "seed": int}
        whole = all(isinstance(header[name], kind) for name, kind in known.items())
        whole = whole and isinstance(header["data"]["items"], int)
    except (ValueError, TypeError, LookupError):
        whole = False
    if not whole:
        raise InputError(f"{path} has a header that is not one of this project's.")
    if header["format"] > FORMAT:
        raise InputError(
            f"{path} has checkpoint format {header['format']}, but this version reads up to "
            f"{FORMAT}: update the project."
        )
    return header, weights


def require_variant(path: str | Path, header: dict, *variants: str) -> None:
    if header["variant"] not in variants:
        raise InputError(f"{path} holds {header['variant']}, not {' or '.join(variants)}.")


def require_items(path: str | Path, header: dict, dataset: Dataset) -> None:
    """Refuse to score a data set whose items are not those the model was trained on."""
    trained = header["data"]["items"]
    if trained != dataset.n_items:
        raise InputError(
            f"{path} was trained on {trained} items, but {dataset.name} has {dataset.n_items}."
        )


def fill(
    model: nn.Module, weights: dict[str, torch.Tensor], path: str | Path, assign: bool = False
) -> None:
    """Put ``weights`` into ``model``; InputError if they do not fit it.

    With ``assign`` the model takes the tensors themselves, which saves a copy of them; a model that
    an optimiser holds already must have them copied.
    """
    try:
        model.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InputError(f"the weights in {path} do not fit the model: {first}") from error
