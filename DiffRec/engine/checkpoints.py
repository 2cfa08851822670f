"""Checkpoints: one safetensors file with the weights and a JSON header that says what they are.

The header holds ``format``, ``version`` (of the project that wrote it), ``variant``, ``dataset``,
``settings``, ``seed``, ``best_epoch``, ``valid``, ``test`` and ``data`` (`Dataset.fingerprint`);
beside it lie the raw ids of the items, where the data have them, and how many train interactions
each item has. Nothing in the file can execute, and no setting in it says where anything is written.

Headers and recorded runs of older formats are carried forward by ``RENAMED`` and ``REMOVED``.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from DiffRec.data_utils import Dataset
from DiffRec.engine.errors import InputError
from DiffRec.engine.files import write_safetensors
from DiffRec.engine.ids import IdMap
from DiffRec.engine.settings import LARGEST, Settings

FORMAT = 2
HEADER = (
    *("format", "version", "variant", "dataset", "settings", "seed", "best_epoch", "valid", "test"),
    "data",
)

KINDS = {"format": int, "variant": str, "dataset": str, "settings": dict, "seed": int}

# What changed from a format to the next one: settings by their old name and their new one, and
# settings that are gone, with the only value of theirs that needs nobody's attention.
RENAMED: dict[int, dict[str, str]] = {}
REMOVED: dict[int, dict[str, Any]] = {1: {"timestamps": None}}  # an option now: it names a file


def migrated(settings: Mapping[str, Any], format: int) -> dict[str, Any]:
    """Settings of an older format under today's names; InputError for a value that has no place
    today, and for a format that there never was."""
    if type(format) is not int or not 1 <= format <= FORMAT:
        raise InputError(f"there is no format {format!r:.40}.")
    found = dict(settings)
    for step in range(format, FORMAT):
        renamed = RENAMED.get(step, {})
        found = {renamed.get(name, name): value for name, value in found.items()}
        for name, harmless in REMOVED.get(step, {}).items():
            if found.pop(name, harmless) != harmless:
                raise InputError(
                    f"it was made with {name} {settings[name]}, which is no setting any more: give "
                    f"it as --{name}."
                )
    return found


def completed(path: str | Path, header: dict, kind: type[Settings]) -> dict:
    """The header with all of today's settings, which are ``kind``: migrated, checked, and with
    defaults for new ones."""
    try:
        settings = kind.of(migrated(header["settings"], header["format"]))
    except InputError as error:
        raise InputError(f"{path} has settings that do not fit: {error}") from error
    return {**header, "settings": settings.dump()}


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def save(
    path: str | Path,
    model: nn.Module,
    header: dict,
    item_ids: np.ndarray | None = None,
    popularity: torch.Tensor | None = None,
) -> None:
    """Write ``path`` whole or not at all; on failure the previous file is still there."""
    about = {**header, "format": FORMAT, "version": version("diffrec")}
    metadata = {"diffrec": json.dumps(about)}
    if item_ids is not None:
        metadata["item_ids"] = json.dumps(item_ids.tolist())
    if popularity is not None:
        metadata["popularity"] = json.dumps(popularity.tolist())
    write_safetensors(path, weights_of(model), metadata)


def load(path: str | Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Header and weights of a checkpoint; InputError if the file is missing or not one."""
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return header, weights


def read_header(path: str | Path) -> dict:
    """The header of a checkpoint; InputError if the file is missing or not one."""
    path = Path(path)
    metadata = read_metadata(path)
    if "diffrec" not in metadata:
        raise InputError(f"{path} holds weights, but no header of this project.")
    try:
        header = json.loads(metadata["diffrec"])
        whole = all(type(header[name]) is kind for name, kind in KINDS.items())
        whole = whole and all(type(header.get(n, {})) is dict for n in ("valid", "test"))
        whole = whole and type(header.get("best_epoch", 0)) is int and header["format"] >= 1
        sizes = header["data"]["items"], header["data"].get("users", 1)
        whole = whole and all(type(size) is int and 0 < size <= LARGEST for size in sizes)
    except (ValueError, TypeError, LookupError, RecursionError):
        whole = False
    if not whole:
        raise InputError(f"{path} has a header that is not one of this project's.")
    if header["format"] > FORMAT:
        raise InputError(
            f"{path} has checkpoint format {header['format']}, but this version reads up to "
            f"{FORMAT}: update the project."
        )
    unknown = sorted(set(header) - {*HEADER, *({"checkpoint"} if header["format"] == 1 else ())})
    if unknown:
        raise InputError(f"{path} has a header with what no checkpoint has: {unknown[0]}.")
    return {name: header[name] for name in HEADER if name in header}


def read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}).") from error


def of_items(path: str | Path, name: str, kinds: str, what: str, n_items: int) -> np.ndarray | None:
    """(I,) what a checkpoint says of each item under a name, of one of NumPy's kinds, or None if it
    says nothing; ``what`` is that in words."""
    path = Path(path)
    text = read_metadata(path).get(name) if path.suffix == ".safetensors" else None
    if text is None:
        return None
    try:
        found = np.array(json.loads(text))
        whole = found.shape == (n_items,) and found.dtype.kind in kinds
    except (ValueError, RecursionError, OverflowError):
        whole = False
    if not whole:
        raise InputError(f"{path} does not hold {what} for each of its {n_items} items.")
    return found


def item_ids(path: str | Path, n_items: int) -> IdMap | None:
    """The raw ids of the items that a checkpoint was trained on, or None if it has none."""
    raw = of_items(path, "item_ids", "iU", "a raw id", n_items)
    return None if raw is None else IdMap("item", n_items, raw)


def popularity(path: str | Path, n_items: int) -> torch.Tensor | None:
    """(I,) int64: how many train interactions each item had, or None if the file does not tell."""
    counts = of_items(path, "popularity", "i", "a count", n_items)
    return None if counts is None else torch.from_numpy(counts)


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


def fill(model: nn.Module, weights: dict[str, torch.Tensor], path: str | Path) -> None:
    """Copy ``weights`` into ``model``; InputError if they do not fit it."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InputError(f"the weights in {path} do not fit the model: {first}") from error
